"""
What Ollama's answers say of themselves: usage, content, and where a stream ends.

A stream is lines of JSON. Whoever looks at one reads events, so `LineSplitter` gives each line as the data of one;
`as_lines` makes the very lines of them again.

**The end.** The last line says ``"done":true``, why, and what was used; an ``error`` may take the place of the rest.

Protocol: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from proxy.wire.meter import (
    Grammar,
    Usage,
    event_around,
    never_finished,
    payload_of,
    texts_in,
)
from proxy.wire.translate.frames import LineFrames
from proxy.wire.translate.ollama.answers import usage_of

__all__ = ["LINES", "LineSplitter", "as_lines", "meter_answer", "tokens_in"]

# A line may carry a whole answer.
MOST_LINE = 8 << 20
_ODD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Line(Struct, gc=False):
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    done: bool = False


_LINE = msgspec.json.Decoder(_Line)


class LineSplitter:
    """Cuts lines of JSON, and gives each as the data of a server-sent event. See `sse.Splitter`."""

    __slots__ = ("_frames",)

    def __init__(self) -> None:
        self._frames = LineFrames(MOST_LINE)

    def feed(self, data: bytes) -> bytes:
        """Take what was read; give the lines it completes. Raises `EventTooLong`."""
        if data.endswith(b"\n") and data.find(b"\n\n") < 0 and not self._frames.held:
            # A read of whole lines, as nearly all are.
            return b"data: %b\n\n" % data[:-1].replace(b"\n", b"\n\ndata: ")
        return b"".join([b"data: %b\n\n" % line for line in self._frames.feed(data)])

    def tail(self) -> bytes:
        """Give what is held, the begun line that a stream ends with when it was cut, as a begun event."""
        held = self._frames.held
        return b"data: %b" % held if held and not held.isspace() else b""


def as_lines(events: bytes) -> bytes:
    """Give the lines again of which `LineSplitter` made these events."""
    # No line has a line end within it, so that this stands nowhere but between two.
    return events[6:-2].replace(b"\n\ndata: ", b"\n") + b"\n"


def meter_answer(body: bytes) -> Usage | None:
    """Read the usage of a whole answer; None when there is none."""
    try:
        found = _LINE.decode(body)
    except _ODD:
        return None
    return usage_of(found.prompt_eval_count, found.eval_count)


def tokens_in(document: Any) -> int:
    """Estimate the output of a whole answer: a quarter of the UTF-8 bytes of what it says, one at least."""
    if not isinstance(document, dict) or not ("message" in document or "response" in document):
        return 0
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in _said(document))
    return max(-(-size // 4), 1)


def _said(document: Any) -> Iterator[str]:
    """Yield what an answer or a line says: text, thoughts, arguments of tools."""
    if isinstance(document, dict):
        message = document.get("message")
        if isinstance(message, dict):
            yield from texts_in([message.get(name) for name in ("content", "thinking")])
            yield from texts_in(message.get("tool_calls"))
        yield from texts_in([document.get(name) for name in ("response", "thinking")])


def _read_usage(data: bytes, before: Usage | None, keep: bool) -> tuple[Usage | None, bool, bytes]:
    at = data.rfind(b'"eval_count"')
    begin, after = event_around(data, at)
    found = meter_answer(payload_of(data[begin:after]))
    return found or before, found is not None, data


def _is_done(reads: list[bytes]) -> bool:
    if not reads:
        return False
    begin, end = event_around(reads[-1], max(len(reads[-1]) - 3, 0))
    try:
        return _LINE.decode(payload_of(reads[-1][begin:end])).done
    except _ODD:
        return False


LINES = Grammar(
    usage_key=b'"eval_count"',
    read_usage=_read_usage,
    said=_said,
    is_finished=never_finished,
    is_done=_is_done,
    stream_type=b"application/x-ndjson",
    splitter=LineSplitter,
    lines=True,
)
