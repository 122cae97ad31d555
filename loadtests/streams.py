"""
Streams of tokens: Server-Sent Events, and what each event says in the dialects of OpenAI and Anthropic.

Sans-io like `answers`: bytes go in, events come out as soon as their last byte is there.
The format is that of the HTML standard (section 9.2, "Server-sent events"); fields other than `event` and `data` are passed over.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, NamedTuple

import msgspec

_END_OF_EVENT = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")


class Event(NamedTuple):
    """One event; `name` is empty when it had none."""

    name: str
    data: bytes


class EventReader:
    """Cuts a body into events, however the bytes arrive."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes of body, give the events that they complete."""
        self._buffer += data
        events = []
        begin = 0
        for end in _END_OF_EVENT.finditer(self._buffer):
            block = self._buffer[begin : end.start()]
            begin = end.end()
            event = _read_event(block)
            if event is not None:
                events.append(event)
        if begin:
            self._buffer = self._buffer[begin:]
        return events


def _read_event(block: bytes) -> Event | None:
    name, data = "", []
    for line in block.splitlines():
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode(errors="replace")
    return Event(name, b"\n".join(data)) if data else None


@dataclass(frozen=True, slots=True)
class Said:
    """
    What an event, or a whole answer, says.

    `content` is that a model said anything, reasoning and tool calls included; `output` that it was no reasoning.
    `tokens` is the completion tokens reported so far, all kinds together, `None` where nothing is reported; `last` that the model has
    finished.
    """

    content: bool = False
    output: bool = False
    tokens: int | None = None
    prompt_tokens: int | None = None
    error: str = ""
    last: bool = False


_NOTHING = Said()
_LAST = Said(last=True)


def _decode(data: bytes) -> dict[str, Any] | None:
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _error_of(document: dict[str, Any]) -> str:
    error = document.get("error")
    if not error:
        return ""
    if isinstance(error, dict):
        words = error.get("message") or error.get("code") or error.get("type") or "error"
        return str(words)[:200]
    return str(error)[:200]


def _count(usage: Any, *names: str) -> int | None:
    if not isinstance(usage, dict):
        return None
    for name in names:
        value = usage.get(name)
        if isinstance(value, int):
            return value
    return None


Reader = Callable[[Event], Said]


def _of_any_shape(read: Reader) -> Reader:
    """Have a reader call an error what is JSON and no answer of its protocol."""

    @wraps(read)
    def instead(event: Event) -> Said:
        try:
            return read(event)
        except (AttributeError, TypeError):
            return Said(error="an event has another shape than the protocol says")

    return instead


@_of_any_shape
def read_openai(event: Event) -> Said:
    """Read an event of chat completions or completions."""
    if event.data == b"[DONE]":
        return _LAST
    document = _decode(event.data)
    if document is None:
        return Said(error="an event is no JSON object")
    if error := _error_of(document):
        return Said(error=error)
    content = output = finished = False
    for choice in document.get("choices") or ():
        delta = choice.get("delta") or {}
        spoken = delta.get("content") or delta.get("tool_calls") or choice.get("text")
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        output = output or bool(spoken)
        content = content or bool(spoken or thought)
        finished = finished or bool(choice.get("finish_reason"))
    usage = document.get("usage")
    if usage is None and not content and not finished:
        return _NOTHING
    return Said(
        content,
        output,
        _count(usage, "completion_tokens"),
        _count(usage, "prompt_tokens"),
        last=finished,
    )


@_of_any_shape
def read_anthropic(event: Event) -> Said:
    """Read an event of messages."""
    document = _decode(event.data)
    if document is None:
        return Said(error="an event is no JSON object")
    kind = document.get("type", event.name)
    if kind == "content_block_delta":
        delta = document.get("delta") or {}
        output = bool(delta.get("text") or delta.get("partial_json"))
        return Said(output or bool(delta.get("thinking")), output)
    if kind == "message_start":
        usage = (document.get("message") or {}).get("usage")
        return Said(prompt_tokens=_count(usage, "input_tokens"))
    if kind == "message_delta":
        return Said(tokens=_count(document.get("usage"), "output_tokens"))
    if kind == "message_stop":
        return _LAST
    if kind == "error":
        return Said(error=_error_of(document) or "error")
    return _NOTHING


def read_whole(body: bytes) -> Said:
    """Read an answer that is no stream, in either dialect."""
    document = _decode(body)
    if document is None:
        return Said(error="the answer is no JSON object")
    if error := _error_of(document):
        return Said(error=error)
    said = bool(document.get("choices") or document.get("content") or document.get("data"))
    if not said:
        return Said(error="the answer holds neither choices, content nor data")
    usage = document.get("usage")
    return Said(
        content=True,
        output=True,
        tokens=_count(usage, "completion_tokens", "output_tokens"),
        prompt_tokens=_count(usage, "prompt_tokens", "input_tokens"),
        last=True,
    )


DIALECTS: dict[str, Reader] = {
    "openai": read_openai,
    "anthropic": read_anthropic,
}
