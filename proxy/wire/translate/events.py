"""
What happens in a streamed answer, in the order it happens, whatever protocol tells it.

A stream is `Started`, then deltas, then for each choice `Stopped`, then `Ended`; or it breaks off with
`Failed`. A reader gives exactly one of `Ended` and `Failed`, last, and nothing after it.

Readers and writers are machines without I/O. A reader takes bytes as they come and gives the events
that they complete; a writer takes events and gives the bytes for one write. What they hold back is
bounded (`MAX_HELD`).
"""

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from proxy.wire.translate.core import (
    Answer,
    Choice,
    Failure,
    Maker,
    Reasoning,
    Refusal,
    StopReason,
    Text,
    ToolCall,
    Usage,
)

__all__ = [
    "MAX_HELD",
    "Alive",
    "Collector",
    "Ended",
    "Event",
    "Failed",
    "ReasoningDelta",
    "ReasoningRedacted",
    "ReasoningSigned",
    "RefusalDelta",
    "Started",
    "Stopped",
    "StreamReader",
    "StreamWriter",
    "TextDelta",
    "ToolCallDelta",
    "ToolCallEnded",
    "ToolCallStarted",
    "UsageSeen",
    "collected",
    "lost",
    "play",
]

# What a reader or a writer holds of one answer at most: arguments that must be whole, signed reasoning.
MAX_HELD = 8 << 20


class Started(Struct, frozen=True, gc=False):
    """The vendor began to answer; `id` and `model` are its words, maybe empty."""

    id: str = ""
    model: str = ""


class TextDelta(Struct, frozen=True, gc=False):
    """More of the text."""

    text: str
    choice: int = 0


class ReasoningDelta(Struct, frozen=True, gc=False):
    """More of what the model thinks."""

    text: str
    choice: int = 0


class ReasoningSigned(Struct, frozen=True, gc=False):
    """The reasoning so far (maybe none) is complete, and signed by its maker."""

    signature: str
    maker: Maker
    choice: int = 0


class ReasoningRedacted(Struct, frozen=True, gc=False):
    """Reasoning that only its maker can read; what was told before (maybe nothing) is shown of it."""

    data: str
    maker: Maker
    choice: int = 0


class RefusalDelta(Struct, frozen=True, gc=False):
    """More of what the model says instead of an answer."""

    text: str
    choice: int = 0


class ToolCallStarted(Struct, frozen=True, gc=False):
    """The model calls a tool; `call` counts the calls of a choice from 0."""

    call: int
    id: str
    name: str
    custom: bool = False
    choice: int = 0


class ToolCallDelta(Struct, frozen=True, gc=False):
    """More of a call's arguments, as JSON text."""

    call: int
    arguments: str
    choice: int = 0


class ToolCallEnded(Struct, frozen=True, gc=False):
    """A call's arguments are complete."""

    call: int
    choice: int = 0


class UsageSeen(Struct, frozen=True, gc=False):
    """What the answer used so far: cumulative, the last one counts."""

    usage: Usage


class Stopped(Struct, frozen=True, gc=False):
    """A choice is complete; `detail` is the sequence that stopped it, or why it was refused."""

    reason: StopReason
    detail: str | None = None
    choice: int = 0


class Alive(Struct, frozen=True, gc=False):
    """Nothing yet, but the vendor is there."""


class Ended(Struct, frozen=True, gc=False):
    """The answer is complete."""


class Failed(Struct, frozen=True, gc=False):
    """The answer broke off."""

    failure: Failure


Event = (
    Started
    | TextDelta
    | ReasoningDelta
    | ReasoningSigned
    | ReasoningRedacted
    | RefusalDelta
    | ToolCallStarted
    | ToolCallDelta
    | ToolCallEnded
    | UsageSeen
    | Stopped
    | Alive
    | Ended
    | Failed
)


class StreamReader(Protocol):
    """
    Reads one streamed answer. After `Ended` or `Failed` it gives nothing more.

    `dropped` names, so far, what the core has no word for.
    """

    dropped: list[str]

    def feed(self, data: bytes) -> list[Event]:
        """Take what was read; give what it completes, maybe nothing."""

    def eof(self, cause: Failure | None = None) -> list[Event]:
        """
        Take that no more comes.

        Gives `Ended` when the answer is complete without, else `Failed` with `cause`, or with "lost".
        """


class StreamWriter(Protocol):
    """
    Writes one streamed answer. After `Ended` or `Failed` it gives nothing more.

    `dropped` names, so far, what the caller's protocol has no word for.
    """

    dropped: list[str]

    def write(self, events: Sequence[Event]) -> bytes:
        """Take what happened; give the bytes to send, maybe none."""


def lost(message: str = "The provider's answer broke off before its end.") -> Failed:
    """Make the end of a stream that was cut."""
    return Failed(Failure(kind="lost", message=message, status=502, code="upstream_lost"))


class _Gathered(Struct):
    parts: list[Text | Reasoning | Refusal | ToolCall]
    # The pieces of the part that grows, and which it is.
    open: list[str]
    growing: Literal["text", "reasoning", "refusal", ""] = ""
    stop: StopReason = "end"
    detail: str | None = None


class Collector:
    """
    Makes a whole answer of a stream.

    `add` takes events and gives True when the stream has ended; then `answer` is the answer, and
    `failure` is None unless it broke off. It holds the whole answer, so `size` (characters) is there
    for whoever wants a bound.
    """

    def __init__(self) -> None:
        self._choices: dict[int, _Gathered] = {}
        self._calls: dict[tuple[int, int], tuple[int, list[str]]] = {}
        self._id = ""
        self._model = ""
        self._usage: Usage | None = None
        self._ended = False
        self.failure: Failure | None = None
        self.size = 0

    def add(self, events: Sequence[Event]) -> bool:
        """Take what happened; say whether the stream has ended."""
        for event in events:
            self._add(event)
        return self._ended

    def answer(self) -> Answer:
        """Give what was collected so far."""
        for (number, _), (at, pieces) in self._calls.items():
            parts = self._choices[number].parts
            call = parts[at]
            assert isinstance(call, ToolCall)
            parts[at] = ToolCall(call.id, call.name, "".join(pieces), call.custom)
        choices = []
        for number in sorted(self._choices) or (0,):
            gathered = self._of(number)
            self._close(gathered)
            choices.append(Choice(tuple(gathered.parts), gathered.stop, gathered.detail))
        return Answer(tuple(choices), self._id, self._model, self._usage)

    def _of(self, number: int) -> _Gathered:
        gathered = self._choices.get(number)
        if gathered is None:
            gathered = self._choices[number] = _Gathered([], [])
        return gathered

    def _grow(self, choice: int, what: Literal["text", "reasoning", "refusal"], text: str) -> None:
        gathered = self._of(choice)
        if gathered.growing != what:
            self._close(gathered)
            gathered.growing = what
        gathered.open.append(text)
        self.size += len(text)

    def _thought(self, choice: int) -> tuple[str, _Gathered]:
        """Take the reasoning that grows, to which a proof belongs that comes now."""
        gathered = self._of(choice)
        text = ""
        if gathered.growing == "reasoning":
            text = "".join(gathered.open)
            gathered.open.clear()
            gathered.growing = ""
        self._close(gathered)
        return text, gathered

    @staticmethod
    def _close(gathered: _Gathered) -> None:
        if not gathered.growing:
            return
        text = "".join(gathered.open)
        match gathered.growing:
            case "text":
                gathered.parts.append(Text(text))
            case "reasoning":
                gathered.parts.append(Reasoning(text))
            case _:
                gathered.parts.append(Refusal(text))
        gathered.open.clear()
        gathered.growing = ""

    def _add(self, event: Event) -> None:
        match event:
            case TextDelta():
                self._grow(event.choice, "text", event.text)
            case ReasoningDelta():
                self._grow(event.choice, "reasoning", event.text)
            case RefusalDelta():
                self._grow(event.choice, "refusal", event.text)
            case ReasoningSigned():
                text, gathered = self._thought(event.choice)
                gathered.parts.append(Reasoning(text, event.signature, maker=event.maker))
            case ReasoningRedacted():
                text, gathered = self._thought(event.choice)
                hidden = Reasoning(text, redacted=event.data, maker=event.maker)
                gathered.parts.append(hidden)
            case ToolCallStarted():
                gathered = self._of(event.choice)
                self._close(gathered)
                self._calls[event.choice, event.call] = (len(gathered.parts), [])
                gathered.parts.append(ToolCall(event.id, event.name, "", event.custom))
            case ToolCallDelta():
                self._calls[event.choice, event.call][1].append(event.arguments)
                self.size += len(event.arguments)
            case Stopped():
                gathered = self._of(event.choice)
                gathered.stop, gathered.detail = event.reason, event.detail
            case UsageSeen():
                self._usage = event.usage
            case Started():
                self._id, self._model = event.id, event.model
            case Failed():
                self.failure = event.failure
                self._ended = True
            case Ended():
                self._ended = True
            case _:
                pass


def collected(reader: StreamReader, data: bytes) -> Answer | Failure:
    """Give the answer that a stream told of which all is at hand, or the failure that it ended with."""
    collector = Collector()
    collector.add(reader.feed(data))
    collector.add(reader.eof())
    return collector.answer() if collector.failure is None else collector.failure


def play(answer: Answer) -> Iterator[Event]:
    """Tell a whole answer as a stream."""
    yield Started(answer.id, answer.model)
    for number, choice in enumerate(answer.choices):
        calls = 0
        for part in choice.parts:
            match part:
                case Text():
                    yield TextDelta(part.text, number)
                case Refusal():
                    yield RefusalDelta(part.text, number)
                case Reasoning():
                    if part.text:
                        yield ReasoningDelta(part.text, number)
                    if part.signature is not None:
                        yield ReasoningSigned(part.signature, part.maker, number)
                    if part.redacted is not None:
                        yield ReasoningRedacted(part.redacted, part.maker, number)
                case ToolCall():
                    yield ToolCallStarted(calls, part.id, part.name, part.custom, number)
                    if part.arguments:
                        yield ToolCallDelta(calls, part.arguments, number)
                    yield ToolCallEnded(calls, number)
                    calls += 1
    if answer.usage is not None:
        yield UsageSeen(answer.usage)
    for number, choice in enumerate(answer.choices):
        yield Stopped(choice.stop, choice.detail, number)
    yield Ended()
