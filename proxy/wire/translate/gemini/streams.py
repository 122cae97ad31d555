"""
Streams of Gemini, read and written.

Each event is a whole answer that holds what is new. Calls come whole, so the writer holds a call's
arguments until it has ended. Usage is repeated and cumulative; it is written with the end.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from proxy.wire.translate import failures
from proxy.wire.translate.carried import wrap
from proxy.wire.translate.core import Reasoning, Reply
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
from proxy.wire.translate.fields import decode_object, encode
from proxy.wire.translate.frames import SseFrames
from proxy.wire.translate.gemini.answers import (
    FAULTS,
    RawUsage,
    error_object,
    failure_in,
    finish_of,
    stop_of,
    usage_of,
    write_usage,
)
from proxy.wire.translate.gemini.parts import reasoning_of
from proxy.wire.translate.reading import MOST_CALLS, MOST_CHOICES, DocumentReader
from proxy.wire.translate.writing import EventWriter

__all__ = ["ArrayWriter", "GeminiReader", "GeminiWriter"]

# A part may be an image.
MAX_EVENT = 32 << 20


class _Call(Struct, gc=False):
    name: str = ""
    id: str | None = None
    args: Any = None


class _Part(Struct, gc=False, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _Call | None = None
    inline_data: Any = None
    executable_code: Any = None


class _Content(Struct, gc=False):
    parts: list[_Part] | None = None


class _Candidate(Struct, gc=False, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    index: int | None = 0
    citation_metadata: Any = None
    grounding_metadata: Any = None


class _Feedback(Struct, gc=False, rename="camel"):
    block_reason: str | None = None


class _Chunk(Struct, gc=False, rename="camel"):
    candidates: list[_Candidate] | None = None
    usage_metadata: RawUsage | None = None
    model_version: str | None = None
    response_id: str | None = None
    prompt_feedback: _Feedback | None = None
    error: Any = None


_CHUNK = msgspec.json.Decoder(_Chunk)


class _Told(Struct):
    """What a candidate has told so far."""

    calls: int = 0
    finish: str | None = None


class GeminiReader(DocumentReader):
    """Reads a streamed generateContent answer."""

    def __init__(self, renamed: Mapping[str, str] | None = None) -> None:
        super().__init__(renamed)
        self._frames = SseFrames(MAX_EVENT)
        self._started = False
        self._told: dict[int, _Told] = {}
        # Every chunk tells all of the usage so far: the last one's is said, once.
        self._usage: RawUsage | None = None

    def read(self, document: bytes, out: list[Event]) -> None:
        """Say what one chunk means."""
        if not document:
            out.append(Alive())
            return
        chunk = _CHUNK.decode(document)
        if chunk.error is not None:
            self.fail(failure_in(chunk.error), out)
            return
        if not self._started:
            self._started = True
            out.append(Started(chunk.response_id or "", chunk.model_version or ""))
        for candidate in chunk.candidates or ():
            self._read_candidate(candidate, out)
            if self._over:
                return
        if chunk.usage_metadata is not None:
            self._usage = chunk.usage_metadata
        feedback = chunk.prompt_feedback
        if feedback is not None and feedback.block_reason and not self._told:
            self._told[0] = _Told(finish="SAFETY")

    def _read_candidate(self, candidate: _Candidate, out: list[Event]) -> None:
        number = candidate.index or 0
        if not 0 <= number < MOST_CHOICES:
            self.fail(failures.bad_chunk("a candidate has no number"), out)
            return
        told = self._told.setdefault(number, _Told())
        if candidate.content is not None:
            for part in candidate.content.parts or ():
                self._read_part(part, told, number, out)
                if self._over:
                    return
        if candidate.finish_reason and told.finish is None:
            told.finish = candidate.finish_reason
        if candidate.citation_metadata is not None:
            self.drop("citationMetadata")
        if candidate.grounding_metadata is not None:
            self.drop("groundingMetadata")

    def _read_part(self, part: _Part, told: _Told, number: int, out: list[Event]) -> None:
        signature = part.thought_signature
        if part.thought:
            if part.text:
                out.append(ReasoningDelta(part.text, number))
            if signature:
                _sign(signature, number, out)
            return
        if signature:
            _sign(signature, number, out)
        call = part.function_call
        if call is not None:
            if told.calls >= MOST_CALLS:
                self.fail(failures.too_long(), out)
                return
            ours = told.calls
            told.calls += 1
            name = self._renamed.get(call.name, call.name)
            out.append(ToolCallStarted(ours, call.id or "", name, choice=number))
            out.append(ToolCallDelta(ours, encode(call.args or {}).decode(), number))
            out.append(ToolCallEnded(ours, number))
        elif part.text:
            out.append(TextDelta(part.text, number))
        elif part.inline_data is not None:
            self.drop("inlineData")
        elif part.executable_code is not None:
            self.drop("executableCode")

    def finish(self, out: list[Event]) -> bool:
        """Say the end, if every candidate had its finish reason."""
        if not self._told or any(told.finish is None for told in self._told.values()):
            return False
        if self._usage is not None:
            out.append(UsageSeen(usage_of(self._usage)))
        stops: list[Event] = []
        for number, told in sorted(self._told.items()):
            finish = told.finish or ""
            if finish in FAULTS:
                out.append(Failed(failures.bad_chunk(f"it ended with {finish}")))
                return True
            stops.append(Stopped(stop_of(finish, called=told.calls > 0), None, number))
        out += stops
        out.append(Ended())
        return True


def _sign(signature: str, number: int, out: list[Event]) -> None:
    part = reasoning_of(signature)
    if part.redacted is not None:
        out.append(ReasoningRedacted(part.redacted, part.maker, number))
    else:
        out.append(ReasoningSigned(part.signature or "", part.maker, number))


class _Gathered(Struct):
    """A call that is not complete."""

    id: str
    name: str
    pieces: list[str]


class GeminiWriter(EventWriter):
    """Writes a streamed generateContent answer as server-sent events. See `events.StreamWriter`."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self._end = b"}\n\n"
        self._calls: dict[tuple[int, int], _Gathered] = {}
        # The signature that the next part of a candidate gets.
        self._pending: dict[int, str] = {}
        self._held = 0
        self._stops: list[Stopped] = []

    def write(self, events: Sequence[Event]) -> bytes:
        """Take what happened; give the bytes to send."""
        out: list[bytes] = []
        for event in events:
            if self._over:
                break
            self.tell(event, out)
        return b"".join(map(self._frame, out)) + (self._close() if self._over and out else b"")

    def _frame(self, document: bytes) -> bytes:
        return b"data: " + document + b"\n\n"

    def _close(self) -> bytes:
        return b""

    def tell(self, event: Event, out: list[bytes]) -> None:
        """Say one event."""
        match event:
            case TextDelta() | RefusalDelta():
                if event.choice in self._pending:
                    self._part({"text": event.text}, event.choice, out)
                else:
                    out.append(
                        b'{"candidates":[{"content":{"parts":[{"text":%b}],"role":"model"},"index":%d}]'
                        % (encode(event.text), event.choice)
                        + self._end
                    )
            case ReasoningDelta():
                out.append(
                    b'{"candidates":[{"content":{"parts":[{"text":%b,"thought":true}],'
                    b'"role":"model"},"index":%d}]' % (encode(event.text), event.choice) + self._end
                )
            case ToolCallStarted():
                self._calls[event.choice, event.call] = _Gathered(event.id, event.name, [])
            case ToolCallDelta():
                self._held += len(event.arguments)
                if self._held > MAX_HELD:
                    self._fail(Failed(failures.too_long()), out)
                elif (event.choice, event.call) in self._calls:
                    self._calls[event.choice, event.call].pieces.append(event.arguments)
            case ToolCallEnded():
                self._call(event.choice, event.call, out)
            case ReasoningSigned():
                if event.maker == "google":
                    self._flush(event.choice, out)
                    self._pending[event.choice] = event.signature
                else:
                    part = Reasoning("", event.signature, maker=event.maker)
                    self._thought(part, event.choice, out)
            case ReasoningRedacted():
                part = Reasoning(redacted=event.data, maker=event.maker)
                self._thought(part, event.choice, out)
            case Started():
                model, answer = encode(event.model or self._reply.model), encode(self._reply.id)
                self._end = b',"modelVersion":' + model + b',"responseId":' + answer + b"}"
            case UsageSeen():
                self._usage = event.usage
            case Stopped():
                self._stops.append(event)
            case Ended():
                self._finish(out)
            case Failed():
                self._fail(event, out)
            case _:
                # Google's client takes nothing for a sign of life.
                pass

    def _part(self, part: dict[str, Any], choice: int, out: list[bytes]) -> None:
        signature = self._pending.pop(choice, None)
        if signature is not None:
            part["thoughtSignature"] = signature
        candidate = {"content": {"parts": [part], "role": "model"}, "index": choice}
        out.append(b'{"candidates":[' + encode(candidate) + b"]" + self._end)

    def _thought(self, part: Reasoning, choice: int, out: list[bytes]) -> None:
        self._flush(choice, out)
        self._part({"text": "", "thought": True, "thoughtSignature": wrap(part)}, choice, out)

    def _flush(self, choice: int, out: list[bytes]) -> None:
        if choice in self._pending:
            self._part({"text": ""}, choice, out)

    def _call(self, choice: int, call: int, out: list[bytes]) -> None:
        gathered = self._calls.pop((choice, call), None)
        if gathered is None:
            return
        arguments = decode_object("".join(gathered.pieces))
        if arguments is None:
            what = f"the arguments of {gathered.name} are no JSON object"
            self._fail(Failed(failures.bad_chunk(what)), out)
            return
        written = {"name": gathered.name, "args": arguments}
        if gathered.id:
            written["id"] = gathered.id
        self._part({"functionCall": written}, choice, out)

    def _finish(self, out: list[bytes]) -> None:
        for choice in list(self._pending):
            self._flush(choice, out)
        for choice, call in list(self._calls):
            self._call(choice, call, out)
        if self._over:
            return
        self._over = True
        candidates = [
            {
                "content": {"parts": [{"text": ""}], "role": "model"},
                "finishReason": finish_of(stop.reason),
                "index": stop.choice,
            }
            for stop in self._stops
        ]
        written = b'{"candidates":' + encode(candidates)
        if self._usage is not None:
            written += b',"usageMetadata":' + encode(write_usage(self._usage))
        out.append(written + self._end)

    def _fail(self, event: Failed, out: list[bytes]) -> None:
        self._over = True
        out.append(encode(error_object(event.failure)))


class ArrayWriter(GeminiWriter):
    """Writes a streamed generateContent answer as one JSON array, which Google does without ``alt=sse``."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self._begun = False

    def _frame(self, document: bytes) -> bytes:
        before = b",\r\n" if self._begun else b"["
        self._begun = True
        return before + document

    def _close(self) -> bytes:
        return b"]"
