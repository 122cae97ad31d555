"""
What Ollama's answers say of themselves: usage, content, and where a stream ends.

**The end.** A stream is lines of JSON. The last one says ``"done":true``, why, and what was used; an ``error`` may take the place of the rest.

Protocol: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from proxy.wire.framing import lines_of
from proxy.wire.meter import Grammar, Usage, never_finished, texts_in
from proxy.wire.translate.ollama.answers import usage_of

__all__ = ["LINES", "meter_answer", "tokens_in"]

# A line may carry a whole answer.
MOST_LINE = 8 << 20
_ODD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Line(Struct, gc=False):
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    done: bool = False


_LINE = msgspec.json.Decoder(_Line)


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
    line = _last_line(data)
    found = None if line is None else usage_of(line.prompt_eval_count, line.eval_count)
    return found or before, found is not None and line is not None and line.done, data


def _is_done(reads: list[bytes]) -> bool:
    line = _last_line(reads[-1]) if reads else None
    return line is not None and line.done


def _last_line(data: bytes) -> _Line | None:
    """Read the last line that is not blank; None where it cannot be read."""
    text = data.rstrip()
    try:
        return _LINE.decode(text[text.rfind(b"\n") + 1 :])
    except _ODD:
        return None


LINES = Grammar(
    usage_key=b'"eval_count"',
    read_usage=_read_usage,
    said=_said,
    is_finished=never_finished,
    is_done=_is_done,
    usage_ends=True,
    stream_type=b"application/x-ndjson",
    framing=lines_of(MOST_LINE),
)
