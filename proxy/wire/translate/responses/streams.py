"""
Streams of Responses, read and written.

Each part of an answer is an item, with events for its beginning, its pieces and its end, numbered
without gaps; the end repeats the item whole, and the last event the whole answer. So the writer holds
what was said, up to `MAX_HELD` characters.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from proxy.wire.translate import failures
from proxy.wire.translate.chat.answers import error_words
from proxy.wire.translate.core import Failure, Reasoning, Reply, ToolCall
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
from proxy.wire.translate.fields import encode
from proxy.wire.translate.reading import MOST_CALLS, DocumentReader
from proxy.wire.translate.responses import items
from proxy.wire.translate.responses.answers import (
    RawUsage,
    call_id,
    failure_in,
    resource,
    status_of,
    stop_of,
    usage_of,
    write_usage,
)
from proxy.wire.translate.writing import EventWriter

__all__ = ["ResponsesReader", "ResponsesWriter"]


class _Item(Struct, gc=False):
    type: str = ""
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    encrypted_content: str | None = None


class _Response(Struct, gc=False):
    id: str | None = None
    model: str | None = None
    status: str | None = None
    error: Any = None
    incomplete_details: Any = None
    usage: RawUsage | None = None


class _Told(Struct, gc=False):
    type: str = ""
    delta: Any = None
    output_index: int = 0
    summary_index: int = 0
    item: _Item | None = None
    response: _Response | None = None
    error: Any = None
    code: Any = None
    message: Any = None


_TOLD = msgspec.json.Decoder(_Told)


class ResponsesReader(DocumentReader):
    """Reads a streamed response."""

    def __init__(self, renamed: Mapping[str, str] | None = None) -> None:
        super().__init__(renamed)
        self._started = False
        # Our number of each call, by the item's, which some servers never say; and which had pieces.
        self._calls: dict[int, int] = {}
        self._begun = 0
        self._pieced: set[int] = set()
        self._open: set[int] = set()
        self._refused = False

    def read(self, document: bytes, out: list[Event]) -> None:
        """Say what one event means."""
        if not document:
            out.append(Alive())
            return
        if document.startswith(b"[DONE]"):
            return
        told = _TOLD.decode(document)
        match told.type:
            case "response.output_text.delta":
                if told.delta:
                    out.append(TextDelta(str(told.delta)))
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                if told.delta:
                    out.append(ReasoningDelta(str(told.delta)))
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                call = self._calls.get(told.output_index)
                if told.delta and call in self._open:
                    self._pieced.add(call)
                    out.append(ToolCallDelta(call, str(told.delta)))
            case "response.refusal.delta":
                if told.delta:
                    self._refused = True
                    out.append(RefusalDelta(str(told.delta)))
            case "response.output_item.added" if told.item is not None:
                self._begin(told.item, told.output_index, out)
            case "response.output_item.done" if told.item is not None:
                self._end(told.item, told.output_index, out)
            case "response.reasoning_summary_part.added":
                if told.summary_index > 0:
                    out.append(ReasoningDelta(items.PARAGRAPH))
            case "response.created" | "response.in_progress" | "response.queued":
                self._start(told.response, out)
            case "response.completed" | "response.incomplete":
                self._finish(told.response or _Response(), told.type, out)
            case "response.failed":
                self.fail(failure_in((told.response or _Response()).error), out)
            case "error":
                error = told.error or {"code": told.code, "message": told.message}
                self.fail(failure_in(error), out)
            case "" if told.error is not None:
                self.fail(failure_in(told.error), out)
            case "response.output_text.annotation.added":
                self.drop("annotations")
            case _:
                # A type that is newer than this, or says what others say as well.
                pass

    def _start(self, response: _Response | None, out: list[Event]) -> None:
        if not self._started:
            self._started = True
            made = response or _Response()
            out.append(Started(made.id or "", made.model or ""))

    def _begin(self, item: _Item, number: int, out: list[Event]) -> None:
        self._start(None, out)
        match item.type:
            case "function_call" | "custom_tool_call":
                if self._begun >= MOST_CALLS:
                    self.fail(failures.too_long(), out)
                    return
                call = self._calls[number] = self._begun
                self._begun += 1
                self._open.add(call)
                name = item.name or ""
                custom = item.type == "custom_tool_call"
                name = self._renamed.get(name, name)
                out.append(ToolCallStarted(call, item.call_id or "", name, custom))
            case "message" | "reasoning":
                pass
            case kind:
                self.drop(kind)

    def _end(self, item: _Item, number: int, out: list[Event]) -> None:
        if item.type == "reasoning" and item.encrypted_content:
            part = items.reasoning_of("", item.encrypted_content)
            if part.redacted is not None:
                out.append(ReasoningRedacted(part.redacted, part.maker))
            else:
                out.append(ReasoningSigned(part.signature or "", part.maker))
            return
        call = self._calls.get(number)
        if call is None or call not in self._open:
            return
        self._open.discard(call)
        whole = item.arguments or item.input
        if whole and call not in self._pieced:
            out.append(ToolCallDelta(call, whole))
        out.append(ToolCallEnded(call))

    def _finish(self, response: _Response, type_: str, out: list[Event]) -> None:
        self._start(response, out)
        self._over = True
        out += [ToolCallEnded(call) for call in sorted(self._open)]
        if response.usage is not None:
            out.append(UsageSeen(usage_of(response.usage)))
        status = response.status or type_.rpartition(".")[2]
        stop = stop_of(
            status,
            response.incomplete_details,
            called=bool(self._calls),
            refused=self._refused,
        )
        out += (Stopped(stop), Ended())


class _Open(Struct):
    """An item that is being written: its number, its id, its pieces."""

    number: int
    id: str
    pieces: list[str]
    call: ToolCall | None = None


class ResponsesWriter(EventWriter):
    """Writes a streamed response. See `events.StreamWriter`."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self._sequence = 0
        self._model = ""
        self._output: list[dict[str, Any] | None] = []
        # The message or reasoning that grows, which of the two, and of a message its parts.
        self._growing: _Open | None = None
        self._kind = ""
        self._content: list[dict[str, Any]] = []
        self._calls: dict[int, _Open] = {}
        self._held = 0
        self._refused = False
        self._stop = Stopped("end")

    def tell(self, event: Event, out: list[bytes]) -> None:
        """Say one event."""
        match event:
            case TextDelta():
                self._say("text", event.text, out)
            case ReasoningDelta():
                self._think(event.text, out)
            case ToolCallDelta():
                self._argue(event, out)
            case RefusalDelta():
                self._say("refusal", event.text, out)
            case ReasoningSigned():
                self._prove(Reasoning("", event.signature, maker=event.maker), out)
            case ReasoningRedacted():
                self._prove(Reasoning(redacted=event.data, maker=event.maker), out)
            case ToolCallStarted():
                self._start_call(event, out)
            case ToolCallEnded():
                self._end_call(event.call, out)
            case Started():
                self._model = event.model
                made = resource(self._reply, event.model, "in_progress")
                self._send("response.created", out, response=made)
                self._send("response.in_progress", out, response=made)
            case UsageSeen():
                self._usage = event.usage
            case Alive():
                out.append(b": alive\n\n")
            case Stopped():
                self._stop = event
            case Ended():
                self._finish(out)
            case Failed():
                self._fail(event.failure, out)

    def _send(self, kind: str, out: list[bytes], **members: Any) -> None:
        body = {"type": kind, "sequence_number": self._sequence, **members}
        self._sequence += 1
        out.append(b"event: " + kind.encode() + b"\ndata: " + encode(body) + b"\n\n")

    def _hold(self, text: str, out: list[bytes]) -> bool:
        self._held += len(text)
        if self._held > MAX_HELD:
            self._fail(failures.too_long(), out)
            return False
        return True

    def _open(self, prefix: str) -> _Open:
        number = len(self._output)
        self._output.append(None)
        return _Open(number, f"{prefix}_{self._reply.id}_{number}", [])

    # What is said...

    def _say(self, kind: str, text: str, out: list[bytes]) -> None:
        if not self._hold(text, out):
            return
        if self._kind != kind:
            self._end_part(out)
            if self._kind == "reasoning" or self._growing is None:
                self._close(out)
                self._growing = self._open("msg")
                item = items.message_item([], self._growing.id, "in_progress")
                self._send(
                    "response.output_item.added",
                    out,
                    output_index=self._growing.number,
                    item=item,
                )
            self._kind = kind
            part = items.text_part("") if kind == "text" else items.refusal_part("")
            self._send("response.content_part.added", out, **self._place(), part=part)
        growing = self._growing
        assert growing is not None
        growing.pieces.append(text)
        if kind == "text":
            out.append(
                b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
                b'"sequence_number":%d,"item_id":"%b","output_index":%d,"content_index":%d,'
                b'"delta":%b,"logprobs":[]}\n\n'
                % (
                    self._sequence,
                    growing.id.encode(),
                    growing.number,
                    len(self._content),
                    encode(text),
                )
            )
            self._sequence += 1
        else:
            self._refused = True
            self._send("response.refusal.delta", out, **self._place(), delta=text)

    def _place(self) -> dict[str, Any]:
        assert self._growing is not None
        return {
            "item_id": self._growing.id,
            "output_index": self._growing.number,
            "content_index": len(self._content),
        }

    def _end_part(self, out: list[bytes]) -> None:
        """End the part of a message that grows."""
        growing = self._growing
        if growing is None or self._kind not in {"text", "refusal"}:
            return
        text = "".join(growing.pieces)
        growing.pieces = []
        if self._kind == "text":
            part = items.text_part(text)
            self._send("response.output_text.done", out, **self._place(), text=text, logprobs=[])
        else:
            part = items.refusal_part(text)
            self._send("response.refusal.done", out, **self._place(), refusal=text)
        self._send("response.content_part.done", out, **self._place(), part=part)
        self._content.append(part)
        self._kind = "message"

    def _think(self, text: str, out: list[bytes]) -> None:
        if not self._hold(text, out):
            return
        if self._kind != "reasoning":
            self._open_reasoning(out)
        growing = self._growing
        assert growing is not None
        place = {"item_id": growing.id, "output_index": growing.number, "summary_index": 0}
        if not growing.pieces:
            part = {"type": "summary_text", "text": ""}
            self._send("response.reasoning_summary_part.added", out, **place, part=part)
        growing.pieces.append(text)
        self._send("response.reasoning_summary_text.delta", out, **place, delta=text)

    def _open_reasoning(self, out: list[bytes]) -> None:
        self._close(out)
        self._growing = self._open("rs")
        self._kind = "reasoning"
        item = items.reasoning_item(Reasoning(), self._growing.id)
        self._send("response.output_item.added", out, output_index=self._growing.number, item=item)

    def _prove(self, proof: Reasoning, out: list[bytes]) -> None:
        if self._kind != "reasoning":
            self._open_reasoning(out)
        self._end_reasoning(proof, out)

    def _end_reasoning(self, proof: Reasoning, out: list[bytes]) -> None:
        growing = self._growing
        assert growing is not None
        text = "".join(growing.pieces)
        if growing.pieces:
            place = {"item_id": growing.id, "output_index": growing.number, "summary_index": 0}
            part = {"type": "summary_text", "text": text}
            self._send("response.reasoning_summary_text.done", out, **place, text=text)
            self._send("response.reasoning_summary_part.done", out, **place, part=part)
        whole = msgspec.structs.replace(proof, text=text)
        self._done(growing, items.reasoning_item(whole, growing.id), out)
        self._growing, self._kind = None, ""

    def _close(self, out: list[bytes]) -> None:
        """End the message or reasoning that grows."""
        if self._growing is None:
            return
        if self._kind == "reasoning":
            self._end_reasoning(Reasoning(), out)
            return
        self._end_part(out)
        item = items.message_item(self._content, self._growing.id, "completed")
        self._done(self._growing, item, out)
        self._growing, self._kind, self._content = None, "", []

    def _done(self, growing: _Open, item: dict[str, Any], out: list[bytes]) -> None:
        self._output[growing.number] = item
        self._send("response.output_item.done", out, output_index=growing.number, item=item)

    # Calls...

    def _start_call(self, event: ToolCallStarted, out: list[bytes]) -> None:
        self._close(out)
        begun = self._open("fc")
        given = call_id(event.id, self._reply, event.call)
        begun.call = ToolCall(given, event.name, "", event.custom)
        self._calls[event.call] = begun
        item = items.call_item(begun.call, begun.id, "in_progress", self._reply.conversation)
        self._send("response.output_item.added", out, output_index=begun.number, item=item)

    def _argue(self, event: ToolCallDelta, out: list[bytes]) -> None:
        begun = self._calls.get(event.call)
        if begun is None or begun.call is None or not self._hold(event.arguments, out):
            return
        begun.pieces.append(event.arguments)
        name = "custom_tool_call_input" if begun.call.custom else "function_call_arguments"
        self._send(
            f"response.{name}.delta",
            out,
            item_id=begun.id,
            output_index=begun.number,
            delta=event.arguments,
        )

    def _end_call(self, number: int, out: list[bytes]) -> None:
        begun = self._calls.pop(number, None)
        if begun is None or begun.call is None:
            return
        arguments = "".join(begun.pieces)
        place = {"item_id": begun.id, "output_index": begun.number}
        if begun.call.custom:
            self._send("response.custom_tool_call_input.done", out, **place, input=arguments)
        else:
            arguments = arguments or "{}"
            self._send(
                "response.function_call_arguments.done",
                out,
                **place,
                name=items.namespace_of(begun.call.name, self._reply.conversation)[0],
                arguments=arguments,
            )
        call = msgspec.structs.replace(begun.call, arguments=arguments)
        item = items.call_item(call, begun.id, "completed", self._reply.conversation)
        self._done(begun, item, out)

    # The end...

    def _finish(self, out: list[bytes]) -> None:
        if self._stop.reason == "refusal" and self._stop.detail and not self._refused:
            self._say("refusal", self._stop.detail, out)
        self._close(out)
        for number in sorted(self._calls):
            self._end_call(number, out)
        self._over = True
        status, details = status_of(self._stop.reason, refused=self._refused)
        made = self._made(status)
        made["incomplete_details"] = details
        if status == "completed":
            made["completed_at"] = self._reply.created_s
        self._send(f"response.{status}", out, response=made)

    def _made(self, status: str) -> dict[str, Any]:
        made = resource(self._reply, self._model, status)
        made["output"] = [item for item in self._output if item is not None]
        if self._usage is not None:
            made["usage"] = write_usage(self._usage)
        return made

    def _fail(self, failure: Failure, out: list[bytes]) -> None:
        """Say it twice: as the state of the response, and as the error that official clients raise."""
        self._over = True
        type_, code = error_words(failure)
        made = self._made("failed")
        made["error"] = {"code": code or "server_error", "message": failure.message}
        self._send("response.failed", out, response=made)
        error = {"type": type_, "code": code, "message": failure.message, "param": failure.param}
        said = {"code": code, "message": failure.message, "param": failure.param}
        self._send("error", out, **said, error=error)
