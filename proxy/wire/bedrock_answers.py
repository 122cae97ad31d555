"""
What Bedrock's answers say of themselves: usage, content, and where a stream ends.

A stream's frames have been made events (`translate.eventstream.EventStreamSplitter`):
``{"type": "contentBlockDelta", "payload": {…}}``.

**Usage.** Input tokens exclude what was read from the cache or put there; the gateway's include it.

**The end.** ``messageStop`` says why, and ``metadata`` after it what was used; nothing follows that.

Protocol: Amazon's API reference for Converse and ConverseStream.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from proxy.wire.framing import events_by, payload_around
from proxy.wire.meter import Grammar, Usage, texts_in
from proxy.wire.translate.converse.answers import RawUsage, usage_of
from proxy.wire.translate.eventstream import EventStreamSplitter

__all__ = ["FRAMES", "meter_answer", "tokens_in"]

_ODD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _HasUsage(Struct, gc=False):
    usage: RawUsage | None = None


class _Event(Struct, gc=False):
    type: str = ""
    payload: _HasUsage | None = None


_HAS_USAGE = msgspec.json.Decoder(_HasUsage)
_EVENT = msgspec.json.Decoder(_Event)


def meter_answer(body: bytes) -> Usage | None:
    """Read the usage of a whole answer; None when there is none."""
    try:
        found = _HAS_USAGE.decode(body).usage
    except _ODD:
        return None
    return None if found is None else usage_of(found)


def tokens_in(document: Any) -> int:
    """Estimate the output of a whole answer: a quarter of the UTF-8 bytes of what it says, one at least."""
    output = document.get("output") if isinstance(document, dict) else None
    message = output.get("message") if isinstance(output, dict) else None
    if not isinstance(message, dict):
        return 0
    said = texts_in(message.get("content"))
    return max(-(-sum(len(text.encode("utf-8", "surrogatepass")) for text in said) // 4), 1)


def _read_usage(data: bytes, before: Usage | None, keep: bool) -> tuple[Usage | None, bool, bytes]:
    at = data.rfind(b'"usage"')
    payload, _ = payload_around(data, at)
    try:
        event = _EVENT.decode(payload)
    except _ODD:
        return before, before is not None, data
    if event.type != "metadata" or event.payload is None or event.payload.usage is None:
        # What a model says may hold the word.
        return before, before is not None, data
    return usage_of(event.payload.usage), True, data


def _said(document: Any) -> Iterator[str]:
    """Yield what an event says: text, reasoning, arguments of tools."""
    payload = document.get("payload") if isinstance(document, dict) else None
    if isinstance(payload, dict):
        yield from texts_in(payload.get("delta"))


def _is_finished(text: bytes) -> bool:
    return b'"type":"messageStop"' in text


def _never_done(reads: list[bytes]) -> bool:
    """Say that no event but the usage ends a stream."""
    return False


FRAMES = Grammar(
    usage_key=b'"usage"',
    read_usage=_read_usage,
    said=_said,
    is_finished=_is_finished,
    is_done=_never_done,
    usage_ends=True,
    stream_type=b"application/vnd.amazon.eventstream",
    framing=events_by(EventStreamSplitter),
)
