"""
Streams of Chat Completions, read and written.

The reader holds the finish reason back until the stream's end, because usage comes after it, and a
server may still say more. Tool calls are told apart by index; a server that gives none, or always 0,
begins a new call with a new id.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from proxy.wire.meter import error_in
from proxy.wire.openai_answers import meter_json
from proxy.wire.translate import failures
from proxy.wire.translate.chat.answers import (
    FAULTS,
    answer_id,
    failure_of_vendor,
    finish_of,
    stop_of,
    usage_of,
    write_failure,
)
from proxy.wire.translate.chat.parts import detail_of, read_details
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
from proxy.wire.translate.fields import encode
from proxy.wire.translate.reading import MOST_CALLS, MOST_CHOICES, UNREADABLE, DocumentReader
from proxy.wire.translate.writing import EventWriter

__all__ = ["ChatReader", "ChatWriter"]


class _Function(Struct, gc=False):
    name: str | None = None
    arguments: Any = None
    input: Any = None


class _Call(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    custom: _Function | None = None
    extra_content: Any = None


class _Delta(Struct, gc=False):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(Struct, gc=False):
    index: int | None = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(Struct, gc=False):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    error: Any = None
    base_resp: Any = None


_CHUNK = msgspec.json.Decoder(_Chunk)
# Half of a surrogate pair, which some servers cut between two tokens.
_LONE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


class _Told(Struct):
    """What a choice has told so far."""

    # Our number of each call, by the vendor's index; and the ids, by our number.
    calls: dict[int, int]
    ids: list[str]
    finish: str | None = None
    refused: bool = False


class ChatReader(DocumentReader):
    """Reads a streamed chat completion."""

    def __init__(self, renamed: Mapping[str, str] | None = None) -> None:
        super().__init__(renamed)
        self._started = False
        self._told: dict[int, _Told] = {}

    def read(self, document: bytes, out: list[Event]) -> None:
        """Say what one chunk means."""
        if not document:
            out.append(Alive())
            return
        if document.startswith(b"[DONE]"):
            self._done(out)
            return
        try:
            chunk = _CHUNK.decode(document)
        except UNREADABLE:
            chunk = _CHUNK.decode(_LONE.sub(rb"\\ufffd", document))
        if (chunk.error or chunk.base_resp) and not chunk.choices:
            error = error_in(document)
            if error is not None:
                self.fail(failure_of_vendor(error), out)
                return
        if not self._started:
            self._started = True
            out.append(Started(chunk.id or "", chunk.model or ""))
        for choice in chunk.choices or ():
            self._read_choice(choice, out)
            if self._over:
                return
        at = document.rfind(b'"usage"')
        if at >= 0 and not document.startswith(b":null", at + 7):
            usage = meter_json(document)
            if usage is not None:
                out.append(UsageSeen(usage))

    def _read_choice(self, choice: _Choice, out: list[Event]) -> None:
        number = choice.index or 0
        told = self._told.get(number)
        if told is None:
            if not 0 <= number < MOST_CHOICES:
                self.fail(failures.bad_chunk("a choice has no number"), out)
                return
            told = self._told[number] = _Told({}, [])
        delta = choice.delta
        if delta is not None:
            if delta.content:
                if type(delta.content) is str:
                    out.append(TextDelta(delta.content, number))
                else:
                    _read_content(delta.content, number, out)
            thought = delta.reasoning_content or delta.reasoning
            if delta.reasoning_details:
                _read_details(delta.reasoning_details, thought, number, out)
            elif thought and type(thought) is str:
                out.append(ReasoningDelta(thought, number))
            if delta.refusal:
                told.refused = True
                out.append(RefusalDelta(delta.refusal, number))
            for call in delta.tool_calls or ():
                self._read_call(call, told, number, out)
        if choice.finish_reason and told.finish is None:
            told.finish = choice.finish_reason

    def _read_call(self, call: _Call, told: _Told, number: int, out: list[Event]) -> None:
        function = call.function or call.custom
        index = call.index
        if index is None:
            # Without an index, an id or a name begins a call, and the rest belongs to the last.
            begins = bool(call.id or (function is not None and function.name))
            index = len(told.ids) if begins or not told.ids else len(told.ids) - 1
            while begins and index in told.calls:
                index += 1
        ours = told.calls.get(index)
        if ours is not None and call.id and told.ids[ours] and call.id != told.ids[ours]:
            # Always the same index, but another call.
            ours = None
        if ours is None:
            if len(told.ids) >= MOST_CALLS:
                self.fail(failures.too_long(), out)
                return
            ours = told.calls[index] = len(told.ids)
            told.ids.append(call.id or "")
            signature = _google_signature(call.extra_content)
            if signature:
                out.append(ReasoningSigned(signature, "google", number))
            name = (function.name if function is not None else None) or ""
            out.append(
                ToolCallStarted(
                    ours,
                    call.id or "",
                    self._renamed.get(name, name),
                    call.custom is not None,
                    number,
                )
            )
        if function is None:
            return
        arguments = function.arguments if call.custom is None else function.input
        if not arguments:
            return
        if type(arguments) is not str:
            arguments = encode(arguments).decode()
        out.append(ToolCallDelta(ours, arguments, number))

    def finish(self, out: list[Event]) -> bool:
        """Say the end, if every choice had its finish reason."""
        if not self._told or any(told.finish is None for told in self._told.values()):
            return False
        self._end(out)
        return True

    def _done(self, out: list[Event]) -> None:
        if self._told:
            # Servers that end with [DONE] and gave no reason have said all they had.
            self._end(out)
        else:
            self.fail(failures.bad_chunk("it ended before it began"), out)

    def _end(self, out: list[Event]) -> None:
        self._over = True
        stops: list[Event] = []
        for number, told in sorted(self._told.items()):
            finish = told.finish or "stop"
            if finish in FAULTS:
                out.append(Failed(failures.bad_chunk(f"it ended with {finish}")))
                return
            out += [ToolCallEnded(ours, number) for ours in range(len(told.ids))]
            reason = stop_of(finish, called=bool(told.ids), refused=told.refused)
            stops.append(Stopped(reason, None, number))
        out += stops
        out.append(Ended())


class ChatWriter(EventWriter):
    """Writes a streamed chat completion. See `events.StreamWriter`."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self._begin = b""
        self._end = b""
        self._text = b""
        self._thought = b""
        self._begun: set[int] = set()
        self._refused: set[int] = set()
        # Per choice: what was thought and not yet signed, and the entries written of it.
        self._thoughts: dict[int, list[str]] = {}
        self._details: dict[int, int] = {}
        self._signatures: dict[int, Reasoning] = {}
        self._held = 0

    def write(self, events: Sequence[Event]) -> bytes:
        """Take what happened; give the bytes to send."""
        out: list[bytes] = []
        for event in events:
            if self._over:
                break
            if type(event) is TextDelta and event.choice == 0 and 0 in self._begun:
                out.append(self._text + encode(event.text) + self._end)
            else:
                self.tell(event, out)
        return out[0] if len(out) == 1 else b"".join(out)

    def tell(self, event: Event, out: list[bytes]) -> None:
        """Say one event."""
        match event:
            case TextDelta():
                self._delta(event.choice, b'"content":' + encode(event.text), out)
            case ReasoningDelta():
                self._think(event, out)
            case ToolCallDelta():
                arguments = encode(event.arguments)
                self._delta(
                    event.choice,
                    b'"tool_calls":[{"index":%d,"function":{"arguments":%b}}]'
                    % (event.call, arguments),
                    out,
                )
            case ToolCallStarted():
                self._call(event, out)
            case RefusalDelta():
                self._refused.add(event.choice)
                self._delta(event.choice, b'"refusal":' + encode(event.text), out)
            case ReasoningSigned():
                self._sign(event, out)
            case ReasoningRedacted():
                part = Reasoning(redacted=event.data, maker=event.maker)
                self._detail(part, event.choice, out)
            case Started():
                self._start(event, out)
            case UsageSeen():
                self._usage = event.usage
            case Alive():
                out.append(b": alive\n\n")
            case Stopped():
                self._stop(event, out)
            case Ended():
                self._over = True
                if self._usage is not None and self._reply.include_usage:
                    out.append(
                        self._begin + b'],"usage":' + encode(usage_of(self._usage)) + b"}\n\n"
                    )
                out.append(b"data: [DONE]\n\n")
            case Failed():
                self._over = True
                out.append(write_failure(event.failure, self._reply.id))
            case _:
                pass

    def _start(self, event: Started, out: list[bytes]) -> None:
        head = {
            "id": answer_id(self._reply),
            "object": "chat.completion.chunk",
            "created": self._reply.created_s,
            "model": event.model or self._reply.model,
        }
        usage = b',"usage":null' if self._reply.include_usage else b""
        self._begin = b"data: " + encode(head)[:-1] + b',"choices":['
        self._text = self._begin + b'{"index":0,"delta":{"content":'
        self._thought = self._begin + b'{"index":0,"delta":{"reasoning_content":'
        self._end = b'},"logprobs":null,"finish_reason":null}]' + usage + b"}\n\n"
        self._greet(0, out)

    def _greet(self, choice: int, out: list[bytes]) -> None:
        self._begun.add(choice)
        self._delta(choice, b'"role":"assistant","content":"","refusal":null', out)

    def _delta(self, choice: int, delta: bytes, out: list[bytes]) -> None:
        if choice not in self._begun:
            self._greet(choice, out)
        out.append(self._begin + b'{"index":%d,"delta":{' % choice + delta + self._end)

    def _think(self, event: ReasoningDelta, out: list[bytes]) -> None:
        self._held += len(event.text)
        if self._held <= MAX_HELD:
            self._thoughts.setdefault(event.choice, []).append(event.text)
        if event.choice == 0 and 0 in self._begun:
            out.append(self._thought + encode(event.text) + self._end)
        else:
            self._delta(event.choice, b'"reasoning_content":' + encode(event.text), out)

    def _sign(self, event: ReasoningSigned, out: list[bytes]) -> None:
        text = "".join(self._thoughts.pop(event.choice, ()))
        part = Reasoning(text, event.signature, maker=event.maker)
        if event.maker == "google" and not text:
            # It belongs to the call that follows, where Google's clients look for it.
            self._flush(event.choice, out)
            self._signatures[event.choice] = part
        else:
            self._detail(part, event.choice, out)

    def _detail(self, part: Reasoning, choice: int, out: list[bytes]) -> None:
        number = self._details.get(choice, 0)
        self._details[choice] = number + 1
        self._delta(choice, b'"reasoning_details":[%b]' % encode(detail_of(part, number)), out)

    def _flush(self, choice: int, out: list[bytes]) -> None:
        pending = self._signatures.pop(choice, None)
        if pending is not None:
            self._detail(pending, choice, out)

    def _call(self, event: ToolCallStarted, out: list[bytes]) -> None:
        body = {"name": event.name, "input" if event.custom else "arguments": ""}
        kind = "custom" if event.custom else "function"
        call: dict[str, Any] = {
            "index": event.call,
            "id": event.id or f"call_{self._reply.id}_{event.choice}_{event.call}",
            "type": kind,
            kind: body,
        }
        pending = self._signatures.pop(event.choice, None)
        if pending is not None:
            call["extra_content"] = {"google": {"thought_signature": pending.signature}}
        self._delta(event.choice, b'"tool_calls":[%b]' % encode(call), out)

    def _stop(self, event: Stopped, out: list[bytes]) -> None:
        self._flush(event.choice, out)
        refused = event.choice in self._refused
        if event.reason == "refusal" and event.detail and not refused:
            refused = True
            self._delta(event.choice, b'"refusal":' + encode(event.detail), out)
        if event.choice not in self._begun:
            self._greet(event.choice, out)
        usage = b',"usage":null' if self._reply.include_usage else b""
        out.append(
            self._begin
            + b'{"index":%d,"delta":{},"logprobs":null,"finish_reason":"%b"}]'
            % (event.choice, finish_of(event.reason, refused=refused).encode())
            + usage
            + b"}\n\n"
        )


def _read_content(content: Any, number: int, out: list[Event]) -> None:
    """Read content in parts: Mistral's, whose models think in parts of their own."""
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        text = part.get("text")
        if isinstance(text, str) and text:
            out.append(TextDelta(text, number))
        thinking = part.get("thinking")
        for thought in thinking if isinstance(thinking, list) else ():
            text = thought.get("text") if isinstance(thought, dict) else None
            if isinstance(text, str) and text:
                out.append(ReasoningDelta(text, number))


def _read_details(details: Any, thought: Any, number: int, out: list[Event]) -> None:
    """Read entries of reasoning, whose text may stand beside them as well."""
    found = read_details(details)
    told = isinstance(thought, str) and bool(thought)
    if told:
        out.append(ReasoningDelta(thought, number))
    for part in found:
        # An entry with a signature repeats, in some servers, the text that was told before.
        if part.text and not told and part.signature is None:
            out.append(ReasoningDelta(part.text, number))
        if part.signature is not None:
            out.append(ReasoningSigned(part.signature, part.maker, number))
        if part.redacted is not None:
            out.append(ReasoningRedacted(part.redacted, part.maker, number))


def _google_signature(extra: Any) -> str | None:
    google = extra.get("google") if isinstance(extra, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return signature if isinstance(signature, str) and signature else None
