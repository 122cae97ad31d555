"""
The input of a batch: a file of calls, one JSON object per line, looked at and renamed before the vendor gets it.

Every line is looked at as the call that it is, by the same functions, so that a batch means what its calls would mean one by one:
the model that it names, how much it may read and write, and what cannot be understood is refused with the line's number.
All lines name one model, as at OpenAI, and are asked at one endpoint.

Protocol: OpenAI's API reference for batches (request input object).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec
from msgspec import Raw, Struct

from proxy.wire.look import BadField, Look

__all__ = ["Input", "look", "renamed"]

# As OpenAI has it.
MOST_LINES: Final = 50_000


class Input(Struct, frozen=True):
    """
    What a batch may cost, from its calls; tokens are sums over all lines.

    `longest` is the input bound of the longest line; `output` is what caps allow, `uncapped` the answers that have none.
    """

    model: str
    url: str
    lines: int
    input_estimate: int
    input_bound: int
    longest: int
    output: int
    uncapped: int


class _Line(Struct):
    url: str
    body: Raw
    method: str = "POST"
    custom_id: str | None = None


_LINE = msgspec.json.Decoder(_Line)
_Looks = Mapping[str, Callable[[bytes], Look]]


def look(data: "bytes | memoryview[int]", looks: _Looks) -> Input:
    """Look at all lines; `looks` are the endpoints that a batch may ask. Raises `BadField` that names the line."""
    model = url = ""
    lines = estimate = bound = longest = output = uncapped = 0
    for number, line, body in _lines(data):
        found = looks.get(line.url)
        if found is None or line.method != "POST":
            known = ", ".join(sorted(looks))
            raise _wrong(number, f"url must be one of {known}, and method POST")
        try:
            seen = found(body)
        except BadField as error:
            raise _wrong(number, f"body: {error.message}", error.code) from None
        if seen.stream:
            raise _wrong(number, "body: a call of a batch cannot be streamed; leave stream out")
        if lines and (seen.model, line.url) != (model, url):
            raise _wrong(number, "all lines must name one model and one url")
        model, url = seen.model, line.url
        lines += 1
        if lines > MOST_LINES:
            raise _wrong(number, f"a batch may have {MOST_LINES} lines")
        estimate += seen.input_estimate
        bound += seen.input_bound
        longest = max(longest, seen.input_bound)
        if seen.output_cap is None:
            uncapped += seen.n
        else:
            output += seen.output_cap * seen.n
    if not lines:
        raise BadField("file", "file holds no line; write one call per line")
    return Input(model, url, lines, estimate, bound, longest, output, uncapped)


def renamed(
    data: "bytes | memoryview[int]", looks: _Looks, rename: Callable[[bytes, Look], bytes]
) -> bytes:
    """Give the same lines with another model's name; `rename` changes a body. They were looked at before."""
    out = []
    for _, line, body in _lines(data):
        members = {"custom_id": line.custom_id} if line.custom_id is not None else {}
        changed = rename(body, looks[line.url](body))
        out.append(
            msgspec.json.encode(
                members | {"method": line.method, "url": line.url, "body": Raw(changed)}
            )
        )
    return b"\n".join(out) + b"\n"


def _lines(data: "bytes | memoryview[int]") -> Iterator[tuple[int, _Line, bytes]]:
    for number, text in enumerate(bytes(data).split(b"\n"), 1):
        if not text.strip():
            continue
        try:
            line = _LINE.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _wrong(number, str(error), "invalid_json") from None
        yield number, line, bytes(line.body)


def _wrong(number: int, why: str, code: str = "invalid_value") -> BadField:
    return BadField("file", f"line {number} of the file: {why}", code)
