"""
Streams of Ollama, read and written.

Each line is an answer that holds what is new; the last one says that it is done, and what was used.
Calls come whole, so the writer holds a call's arguments until it has ended.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from proxy.wire.translate import failures
from proxy.wire.translate.core import BadAnswer, Failure, Reply
from proxy.wire.translate.events import (
    MAX_HELD,
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
from proxy.wire.translate.fields import encode
from proxy.wire.translate.frames import LineFrames
from proxy.wire.translate.ollama.answers import (
    done_of,
    failure_in,
    head_of,
    message_of,
    stop_of,
    usage_of,
    write_call,
    write_usage,
)
from proxy.wire.translate.reading import MOST_CALLS, DocumentReader
from proxy.wire.translate.writing import EventWriter

__all__ = ["GenerateWriter", "OllamaReader", "OllamaWriter"]


class _Function(Struct, gc=False):
    name: str = ""
    arguments: Any = None


class _Call(Struct, gc=False):
    id: str | None = None
    function: _Function | None = None


class _Message(Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Line(Struct, gc=False):
    model: str | None = None
    message: _Message | None = None
    done: bool | None = None
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: Any = None


_LINE = msgspec.json.Decoder(_Line)


class OllamaReader(DocumentReader):
    """Reads a streamed /api/chat answer."""

    def __init__(self, renamed: Mapping[str, str] | None = None) -> None:
        super().__init__(renamed)
        self._frames = LineFrames()
        self._started = False
        self._calls = 0

    def read(self, document: bytes, out: list[Event]) -> None:
        """Say what one line means."""
        line = _LINE.decode(document)
        if line.error is not None:
            self.fail(failure_in(line.error), out)
            return
        if not self._started:
            self._started = True
            out.append(Started("", line.model or ""))
        message = line.message
        if message is not None:
            if message.thinking:
                out.append(ReasoningDelta(message.thinking))
            if message.content:
                out.append(TextDelta(message.content))
            for call in message.tool_calls or ():
                if self._calls >= MOST_CALLS:
                    self.fail(failures.too_long(), out)
                    return
                function = call.function or _Function()
                name = self._renamed.get(function.name, function.name)
                out += (
                    ToolCallStarted(self._calls, call.id or "", name),
                    ToolCallDelta(self._calls, encode(function.arguments or {}).decode()),
                    ToolCallEnded(self._calls),
                )
                self._calls += 1
        if line.done:
            self._over = True
            usage = usage_of(line.prompt_eval_count, line.eval_count)
            if usage is not None:
                out.append(UsageSeen(usage))
            stop = stop_of(line.done_reason or "stop", called=self._calls > 0)
            out += (Stopped(stop), Ended())


class _Gathered(Struct):
    """A call that is not complete."""

    id: str
    name: str
    pieces: list[str]


class OllamaWriter(EventWriter):
    """Writes a streamed /api/chat answer. See `events.StreamWriter`."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        # What every line begins with, up to the message.
        self._begin = b""
        self._calls: dict[int, _Gathered] = {}
        self._held = 0
        self._stop = Stopped("end")

    def tell(self, event: Event, out: list[bytes]) -> None:
        """Say one event."""
        match event:
            case TextDelta() | RefusalDelta():
                out.append(self._line(encode(event.text)))
            case ReasoningDelta():
                out.append(self._line(b'""', thinking=encode(event.text)))
            case ToolCallStarted():
                self._calls[event.call] = _Gathered(event.id, event.name, [])
            case ToolCallDelta():
                self._held += len(event.arguments)
                if self._held > MAX_HELD:
                    self._fail(failures.too_long(), out)
                elif event.call in self._calls:
                    self._calls[event.call].pieces.append(event.arguments)
            case ToolCallEnded():
                self._call(event.call, out)
            case Started():
                head = head_of(self._reply, event.model)
                self._begin = encode(head)[:-1]
            case ReasoningSigned() | ReasoningRedacted():
                self.drop("thinking.signature")
            case UsageSeen():
                self._usage = event.usage
            case Stopped():
                self._stop = event
            case Ended():
                for call in list(self._calls):
                    self._call(call, out)
                if not self._over:
                    self._over = True
                    done = {"done_reason": done_of(self._stop.reason)} | write_usage(self._usage)
                    out.append(self._line(b'""', done=encode(done)))
            case Failed():
                self._fail(event.failure, out)
            case _:
                # Ollama's client takes nothing for a sign of life.
                pass

    def _line(
        self, text: bytes, thinking: bytes = b"", calls: bytes = b"", done: bytes = b""
    ) -> bytes:
        line = self._begin + b',"message":{"role":"assistant","content":' + text
        if thinking:
            line += b',"thinking":' + thinking
        if calls:
            line += b',"tool_calls":' + calls
        if done:
            return line + b'},"done":true,' + done[1:] + b"\n"
        return line + b'},"done":false}\n'

    def _call(self, number: int, out: list[bytes]) -> None:
        gathered = self._calls.pop(number, None)
        if gathered is None:
            return
        try:
            call = write_call(gathered.id, gathered.name, "".join(gathered.pieces))
        except BadAnswer as fault:
            self._fail(failures.bad_chunk(str(fault)), out)
            return
        out.append(self._line(b'""', calls=encode([call])))

    def _fail(self, failure: Failure, out: list[bytes]) -> None:
        self._over = True
        out.append(encode({"error": message_of(failure)}) + b"\n")


class GenerateWriter(OllamaWriter):
    """Writes a streamed /api/generate answer. See `events.StreamWriter`."""

    def _line(
        self, text: bytes, thinking: bytes = b"", calls: bytes = b"", done: bytes = b""
    ) -> bytes:
        line = self._begin + b',"response":' + text
        if thinking:
            line += b',"thinking":' + thinking
        if done:
            return line + b',"done":true,' + done[1:] + b"\n"
        return line + b',"done":false}\n'
