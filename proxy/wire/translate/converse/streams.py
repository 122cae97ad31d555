"""Streams of ConverseStream, read: binary frames, of which the last but one says why it ended."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from proxy.wire.translate import failures
from proxy.wire.translate.converse.answers import (
    FAULTS,
    RawUsage,
    failure_named,
    stop_of,
    usage_of,
)
from proxy.wire.translate.events import (
    Ended,
    Event,
    Failed,
    ReasoningDelta,
    ReasoningRedacted,
    ReasoningSigned,
    Started,
    Stopped,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    UsageSeen,
)
from proxy.wire.translate.eventstream import EventStreamFrames
from proxy.wire.translate.reading import MOST_CALLS, DocumentReader

__all__ = ["ConverseReader"]


class _Use(Struct, gc=False, rename="camel"):
    tool_use_id: str | None = None
    name: str | None = None
    input: str | None = None


class _Reasoning(Struct, gc=False, rename="camel"):
    text: str | None = None
    signature: str | None = None
    redacted_content: str | None = None


class _Delta(Struct, gc=False, rename="camel"):
    text: str | None = None
    tool_use: _Use | None = None
    reasoning_content: _Reasoning | None = None
    citation: Any = None


class _Start(Struct, gc=False, rename="camel"):
    tool_use: _Use | None = None


class _Payload(Struct, gc=False, rename="camel"):
    content_block_index: int = 0
    delta: _Delta | None = None
    start: _Start | None = None
    stop_reason: str | None = None
    usage: RawUsage | None = None
    message: Any = None


class _Told(Struct, gc=False):
    type: str = ""
    payload: _Payload | None = None


_TOLD = msgspec.json.Decoder(_Told)


class ConverseReader(DocumentReader):
    """Reads a streamed Converse answer; `framed` is False where its frames were made server-sent events."""

    def __init__(self, renamed: Mapping[str, str] | None = None, *, framed: bool = True) -> None:
        super().__init__(renamed)
        if framed:
            self._frames = EventStreamFrames()
        # The call that each open block is, by the block's index.
        self._open: dict[int, int] = {}
        self._calls = 0
        self._stop: str | None = None

    def read(self, document: bytes, out: list[Event]) -> None:
        """Say what one frame means."""
        told = _TOLD.decode(document)
        payload = told.payload or _Payload()
        match told.type:
            case "contentBlockDelta" if payload.delta is not None:
                self._read_delta(payload.delta, payload.content_block_index, out)
            case "contentBlockStart":
                use = payload.start.tool_use if payload.start is not None else None
                if use is not None and self._calls >= MOST_CALLS:
                    self.fail(failures.too_long(), out)
                elif use is not None:
                    call = self._open[payload.content_block_index] = self._calls
                    self._calls += 1
                    name = use.name or ""
                    name = self._renamed.get(name, name)
                    out.append(ToolCallStarted(call, use.tool_use_id or "", name))
            case "contentBlockStop":
                ended = self._open.pop(payload.content_block_index, None)
                if ended is not None:
                    out.append(ToolCallEnded(ended))
            case "messageStart":
                out.append(Started())
            case "messageStop":
                self._stop = payload.stop_reason or "end_turn"
            case "metadata":
                if payload.usage is not None:
                    out.append(UsageSeen(usage_of(payload.usage)))
            case name if name.lower().endswith(("exception", "error")) or payload.message:
                self.fail(failure_named(name, payload.message), out)
            case _:
                # A type that is newer than this.
                pass

    def _read_delta(self, delta: _Delta, index: int, out: list[Event]) -> None:
        use, reasoning = delta.tool_use, delta.reasoning_content
        if delta.text:
            out.append(TextDelta(delta.text))
        elif use is not None:
            call = self._open.get(index)
            if use.input and call is not None:
                out.append(ToolCallDelta(call, use.input))
        elif reasoning is not None:
            if reasoning.text:
                out.append(ReasoningDelta(reasoning.text))
            if reasoning.signature:
                out.append(ReasoningSigned(reasoning.signature, "anthropic"))
            if reasoning.redacted_content:
                out.append(ReasoningRedacted(reasoning.redacted_content, "anthropic"))
        elif delta.citation is not None:
            self.drop("citations")

    def finish(self, out: list[Event]) -> bool:
        """Say the end, if it was said why: usage comes after that, and nothing after usage."""
        if self._stop is None:
            return False
        if self._stop in FAULTS:
            out.append(Failed(failures.bad_chunk(f"it ended with {self._stop}")))
            return True
        out += [ToolCallEnded(call) for call in self._open.values()]
        out += (Stopped(stop_of(self._stop)), Ended())
        return True
