"""
Streams of Messages, read and written.

Anthropic's blocks do not overlap, so the writer has one open block at most. Calls of other vendors
may: what comes for a call while another's block is open waits, unless the open one's arguments are
whole already. Usage is cumulative, and stands at the beginning and at the end: the input's tokens of
a vendor that tells them last only are told last.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from proxy.wire.translate import failures
from proxy.wire.translate.core import Reasoning, Reply, Usage
from proxy.wire.translate.events import (
    MAX_HELD,
    Alive,
    Ended,
    Event,
    Failed,
    ReasoningDelta,
    ReasoningRedacted,
    ReasoningSigned,
    RefusalDelta,
    Started,
    Stopped,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    UsageSeen,
)
from proxy.wire.translate.fields import encode, is_object
from proxy.wire.translate.messages import blocks
from proxy.wire.translate.messages.answers import (
    RawUsage,
    answer_id,
    call_id,
    error_object,
    error_of,
    stop_fields,
    stop_of,
    usage_of,
    write_call,
    write_usage,
)
from proxy.wire.translate.reading import MOST_CALLS, DocumentReader
from proxy.wire.translate.writing import EventWriter

__all__ = ["MessagesReader", "MessagesWriter"]


class _Message(Struct, gc=False):
    id: str | None = None
    model: str | None = None
    usage: RawUsage | None = None


class _Block(Struct, gc=False):
    type: str = ""
    id: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    input: Any = None


class _Delta(Struct, gc=False):
    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: Any = None


class _Told(Struct, gc=False):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: _Message | None = None
    usage: RawUsage | None = None
    error: Any = None


_TOLD = msgspec.json.Decoder(_Told)


class MessagesReader(DocumentReader):
    """Reads a streamed message."""

    def __init__(self, renamed: Mapping[str, str] | None = None) -> None:
        super().__init__(renamed)
        self._started = False
        # The call that each open block is, by the block's index.
        self._open: dict[int, int] = {}
        self._calls = 0
        self._usage = RawUsage()
        self._stop: Stopped | None = None

    def finish(self, out: list[Event]) -> bool:
        """Say the end, if all was said but for "message_stop"."""
        if self._stop is None:
            return False
        out += (self._stop, Ended())
        return True

    def read(self, document: bytes, out: list[Event]) -> None:
        """Say what one event means."""
        if not document:
            out.append(Alive())
            return
        told = _TOLD.decode(document)
        delta = told.delta
        match told.type:
            case "content_block_delta" if delta is not None:
                self._read_delta(delta, told.index, out)
            case "content_block_start" if told.content_block is not None:
                self._read_block(told.content_block, told.index, out)
            case "content_block_stop":
                call = self._open.pop(told.index, None)
                if call is not None:
                    out.append(ToolCallEnded(call))
            case "message_start":
                message = told.message or _Message()
                self._started = True
                out.append(Started(message.id or "", message.model or ""))
                if message.usage is not None:
                    self._count(message.usage, out)
            case "message_delta":
                if delta is not None and delta.stop_reason:
                    reason = stop_of(delta.stop_reason)
                    detail = delta.stop_sequence
                    if reason == "refusal" and isinstance(delta.stop_details, dict):
                        explanation = delta.stop_details.get("explanation")
                        detail = explanation if isinstance(explanation, str) else None
                    self._stop = Stopped(reason, detail)
                if told.usage is not None:
                    self._count(told.usage, out)
            case "message_stop":
                self._over = True
                if not self._started:
                    out.append(Failed(failures.bad_chunk("it ended before it began")))
                    return
                out += [ToolCallEnded(call) for call in self._open.values()]
                out += (self._stop or Stopped("end"), Ended())
            case "ping":
                out.append(Alive())
            case "error":
                self.fail(error_of(told.error), out)
            case "" if told.error is not None:
                self.fail(error_of(told.error), out)
            case _:
                # A type that is newer than this: the protocol says to pass over it.
                pass

    def _read_delta(self, delta: _Delta, index: int, out: list[Event]) -> None:
        match delta.type:
            case "text_delta":
                if delta.text:
                    out.append(TextDelta(delta.text))
            case "input_json_delta":
                call = self._open.get(index)
                if delta.partial_json and call is not None:
                    out.append(ToolCallDelta(call, delta.partial_json))
            case "thinking_delta":
                if delta.thinking:
                    out.append(ReasoningDelta(delta.thinking))
            case "signature_delta":
                if delta.signature:
                    self._sign(delta.signature, out)
            case kind:
                self.drop("citations" if kind == "citations_delta" else kind)

    def _read_block(self, block: _Block, index: int, out: list[Event]) -> None:
        match block.type:
            case "text":
                if block.text:
                    out.append(TextDelta(block.text))
            case "thinking":
                if block.thinking:
                    out.append(ReasoningDelta(block.thinking))
                if block.signature:
                    self._sign(block.signature, out)
            case "redacted_thinking":
                part = blocks.read_redacted(block.data or "")
                if part.redacted is not None:
                    out.append(ReasoningRedacted(part.redacted, part.maker))
                elif part.signature is not None:
                    out.append(ReasoningSigned(part.signature, part.maker))
            case "tool_use":
                if self._calls >= MOST_CALLS:
                    self.fail(failures.too_long(), out)
                    return
                call = self._open[index] = self._calls
                self._calls += 1
                name = block.name or ""
                out.append(ToolCallStarted(call, block.id or "", self._renamed.get(name, name)))
                if block.input:
                    out.append(ToolCallDelta(call, encode(block.input).decode()))
            case kind:
                self.drop(kind)

    def _sign(self, signature: str, out: list[Event]) -> None:
        part = blocks.read_signed("", signature)
        if part.redacted is not None:
            out.append(ReasoningRedacted(part.redacted, part.maker))
        else:
            out.append(ReasoningSigned(part.signature or "", part.maker))

    def _count(self, usage: RawUsage, out: list[Event]) -> None:
        """Take cumulative counts: each that is given replaces the one before."""
        known = self._usage
        for name in known.__struct_fields__:
            value = getattr(usage, name)
            if value is not None:
                setattr(known, name, value)
        out.append(UsageSeen(usage_of(known)))


class _Waiting(Struct):
    """A call whose block is not open: what came for it."""

    id: str
    name: str
    pieces: list[str]
    ended: bool = False


class MessagesWriter(EventWriter):
    """Writes a streamed message. See `events.StreamWriter`."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self._index = -1
        # What the open block is: "text", "thinking", "call", or none.
        self._kind = ""
        self._text = b""
        self._thought = b""
        # The call whose block is open, and its arguments so far.
        self._call = -1
        self._pieces: list[str] = []
        self._waiting: dict[int, _Waiting] = {}
        self._held = 0
        self._called = False
        self._stop: Stopped | None = None

    def write(self, events: Sequence[Event]) -> bytes:
        """Take what happened; give the bytes to send."""
        out: list[bytes] = []
        for event in events:
            if self._over:
                break
            if type(event) is TextDelta and self._kind == "text":
                out.append(self._text + encode(event.text) + b"}}\n\n")
            else:
                self.tell(event, out)
        return out[0] if len(out) == 1 else b"".join(out)

    def tell(self, event: Event, out: list[bytes]) -> None:
        """Say one event."""
        match event:
            case TextDelta() | RefusalDelta():
                if self._kind != "text":
                    self._open("text", {"type": "text", "text": ""}, out)
                out.append(self._text + encode(event.text) + b"}}\n\n")
            case ReasoningDelta():
                self._think(out)
                out.append(self._thought + encode(event.text) + b"}}\n\n")
            case ToolCallDelta():
                self._argue(event, out)
            case ReasoningSigned():
                self._think(out)
                self._sign(Reasoning("", event.signature, maker=event.maker), out)
            case ReasoningRedacted():
                part = Reasoning(redacted=event.data, maker=event.maker)
                if self._kind == "thinking" and event.maker != "anthropic":
                    # What was shown of it stands in the block that is open.
                    self._sign(part, out)
                else:
                    self._open("redacted", blocks.write_thinking(part), out)
                    self._close(out)
            case ToolCallStarted():
                self._start_call(event, out)
            case ToolCallEnded():
                self._end_call(event.call, out)
            case Started():
                self._start(event, out)
            case UsageSeen():
                self._usage = event.usage
            case Alive():
                out.append(b'event: ping\ndata: {"type":"ping"}\n\n')
            case Stopped():
                self._stop = event
            case Ended():
                self._end(out)
            case Failed():
                self._over = True
                error = error_object(event.failure, None, self._reply.id)
                out.append(b"event: error\ndata: " + encode(error) + b"\n\n")

    def _start(self, event: Started, out: list[bytes]) -> None:
        message: dict[str, Any] = {
            "id": answer_id(self._reply),
            "type": "message",
            "role": "assistant",
            "model": event.model or self._reply.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "stop_details": None,
            "container": None,
            "usage": write_usage(self._usage or Usage()),
        }
        told = {"type": "message_start", "message": message}
        out.append(b"event: message_start\ndata: " + encode(told) + b"\n\n")

    def _event(self, name: str, members: dict[str, Any]) -> bytes:
        body = {"type": name, "index": self._index, **members}
        return b"event: %b\ndata: %b\n\n" % (name.encode(), encode(body))

    def _open(self, kind: str, block: dict[str, Any], out: list[bytes]) -> None:
        self._close(out)
        self._index += 1
        self._kind = kind
        out.append(self._event("content_block_start", {"content_block": block}))
        begin = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":'
            % self._index
        )
        self._text = begin + b'{"type":"text_delta","text":'
        self._thought = begin + b'{"type":"thinking_delta","thinking":'

    def _close(self, out: list[bytes]) -> None:
        """Close the open block, and write the calls that waited for it and are complete."""
        if self._kind:
            self._kind = ""
            self._call = -1
            self._pieces = []
            out.append(self._event("content_block_stop", {}))

    def _think(self, out: list[bytes]) -> None:
        if self._kind != "thinking":
            self._open("thinking", {"type": "thinking", "thinking": "", "signature": ""}, out)

    def _sign(self, part: Reasoning, out: list[bytes]) -> None:
        delta = {"type": "signature_delta", "signature": blocks.signature_of(part)}
        out.append(self._event("content_block_delta", {"delta": delta}))
        self._close(out)

    # Calls...

    def _start_call(self, event: ToolCallStarted, out: list[bytes]) -> None:
        self._called = True
        given = call_id(event.id, self._reply, event.call)
        if self._call >= 0 and not is_object("".join(self._pieces)):
            self._waiting[event.call] = _Waiting(given, event.name, [])
            return
        self._open_call(event.call, given, event.name, out)

    def _open_call(self, call: int, given: str, name: str, out: list[bytes]) -> None:
        self._open("call", write_call(given, name, {}), out)
        self._call = call

    def _argue(self, event: ToolCallDelta, out: list[bytes]) -> None:
        self._held += len(event.arguments)
        if self._held > MAX_HELD:
            self.tell(Failed(failures.too_long()), out)
        elif event.call == self._call:
            self._pieces.append(event.arguments)
            delta = {"type": "input_json_delta", "partial_json": event.arguments}
            out.append(self._event("content_block_delta", {"delta": delta}))
        elif event.call in self._waiting:
            self._waiting[event.call].pieces.append(event.arguments)

    def _end_call(self, call: int, out: list[bytes]) -> None:
        waiting = self._waiting.get(call)
        if waiting is not None:
            waiting.ended = True
        elif call == self._call:
            self._close(out)
        if self._call < 0:
            self._write_waiting(out)

    def _write_waiting(self, out: list[bytes]) -> None:
        """Open the calls that waited, in order; the first that has not ended stays open."""
        for call, waiting in list(self._waiting.items()):
            del self._waiting[call]
            self._open_call(call, waiting.id, waiting.name, out)
            arguments = "".join(waiting.pieces)
            if arguments:
                self._pieces.append(arguments)
                delta = {"type": "input_json_delta", "partial_json": arguments}
                out.append(self._event("content_block_delta", {"delta": delta}))
            if not waiting.ended:
                return
            self._close(out)

    def _end(self, out: list[bytes]) -> None:
        self._over = True
        self._close(out)
        while self._waiting:
            self._write_waiting(out)
            self._close(out)
        stop = self._stop or Stopped("end")
        told = {
            "type": "message_delta",
            "delta": stop_fields(stop.reason, stop.detail, called=self._called),
            "usage": write_usage(self._usage or Usage()),
        }
        out.append(b"event: message_delta\ndata: " + encode(told) + b"\n\n")
        out.append(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
