"""
How one attempt's bytes go from caller to provider and back: as they are, or in another protocol.

`Passing` is for both sides speaking the same: a body is changed where it must be, answers pass.
`Translating` is for two protocols: everything goes through `wire.translate`, event by event, in the same places and under the same backpressure, deadlines and ends, because the attempt does not know which of the two it has.
Both meter what the provider sent, so that usage is counted once and means the same in either.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from proxy.wire import translate
from proxy.wire.forms import Spliced
from proxy.wire.meter import StreamMeter, Usage, VendorError
from proxy.wire.translate import Failed, Target, Written
from proxy.wire.translate.events import Alive, Ended, Event, Started, UsageSeen
from proxy.wire.translate.frames import SseFrames

if TYPE_CHECKING:
    from proxy.exchange import Exchange
    from proxy.relay import Attempt

# A whole answer is held up to here, so that a cut before its end can still be tried elsewhere.
HOLD_BYTES: Final = 1024 * 1024
# What can be translated only as a whole is held up to here.
TRANSLATED_BYTES: Final = 32 * 1024 * 1024

# What is not worth committing an answer for: after these another provider can still give all of it.
_PRELUDE: Final = (Started, Alive, UsageSeen)


class StreamRefused(Exception):
    """
    A provider's stream has failed within itself: an error of its own, or nothing that can be understood.

    `out` is what the caller still gets, empty when nothing has gone out yet; `by_vendor` says whose words it is, and
    `status` what the vendor would have said them with.
    """

    def __init__(self, failure: translate.Failure, out: bytes) -> None:
        super().__init__(failure.message)
        self.out = out
        self.status = failure.status
        self.by_vendor = failure.code != "bad_answer"


@dataclass(frozen=True, slots=True)
class Translation:
    """From a caller's protocol to a deployment's: the two, and the facts of the deployment."""

    caller: translate.Protocol
    vendor: translate.Vendor
    target: Target

    def write(self, conversation: Any, cap: int) -> Written:
        """Write the request; `cap` is the output cap to keep, 0 for none. Raises `CannotExpress`."""
        target = self.target
        if cap:
            target = Target(
                model=target.model,
                max_output=target.max_output,
                output_cap=cap,
                dialect=target.dialect,
            )
        return self.vendor.write_request(conversation, target)


class Passing:
    """Both sides speak the same: bytes pass."""

    __slots__ = ()

    most_held = HOLD_BYTES
    in_pieces = True
    """Whether an answer that is longer than what is held can go out in pieces."""

    def request(self, attempt: "Attempt") -> tuple[bytes | Spliced, bytes]:
        """Give the body that goes upstream, and the caller's headers that go with it."""
        exchange = attempt.exchange
        place = attempt.place
        way = attempt.way
        body = way.endpoint.rewrite(
            exchange.body,
            exchange.seen,
            upstream_model=place.upstream_name,
            include_usage=place.stream_usage,
            output_cap=attempt.cap or None,
            cap_field=way.cap_field,
        )
        if attempt.effort:
            told = body
            if isinstance(body, bytes) and way.endpoint.translation is not None:
                protocol = way.endpoint.translation.name
                told = translate.with_effort(protocol, body, attempt.effort, way.target)
            if told is body:
                attempt.effort = ""
            body = told
        return body, exchange.passed

    def stream(self, attempt: "Attempt", meter: StreamMeter) -> StreamMeter:
        """Give what looks at each read of a stream."""
        return meter

    def answer(self, attempt: "Attempt", body: bytes) -> bytes:
        """Give the body of a whole answer as the caller gets it."""
        return body

    def read(self, attempt: "Attempt", body: bytes) -> Any:
        """Give a whole answer in words of no protocol, None where there are none for it. Raises `translate.BadAnswer`."""
        spoken = attempt.way.endpoint.translation
        return None if spoken is None else spoken.read_answer(body, None)

    def read_stream(self, attempt: "Attempt", events: bytes) -> Any:
        """Give the answer that a whole stream told, as `read` does; `events` are as they were metered."""
        spoken = attempt.way.endpoint.translation
        return None if spoken is None else translate.collected(spoken.reader(None), events)

    def refusal(self, attempt: "Attempt") -> tuple[int, bytes, bytes]:
        """Give the provider's own words about the request: status, header lines, body."""
        return attempt.status, self.lines(attempt), attempt.refusal

    def lines(self, attempt: "Attempt") -> bytes:
        """Give the header lines that an answer has from the provider."""
        return attempt.lines


PASSING: Final = Passing()


class PassingArray(Passing):
    """Both sides speak the same, but the caller reads a stream as one array: its elements pass."""

    __slots__ = ()

    most_held = TRANSLATED_BYTES
    in_pieces = False

    def stream(self, attempt: "Attempt", meter: StreamMeter) -> "ArrayStream":  # type: ignore[override]
        """Give what looks at each read of a stream, and gives its elements."""
        return ArrayStream(meter)

    def answer(self, attempt: "Attempt", body: bytes) -> bytes:
        """Give the one element of an answer that came as a whole."""
        return b"[%b]" % body

    def lines(self, attempt: "Attempt") -> bytes:
        """Give the header lines that an answer has from the provider, but for its type."""
        headers = [pair for pair in attempt.headers if pair[0].lower() != b"content-type"]
        block = attempt.exchange.edge.answer_headers.block(headers)
        return b"content-type: application/json\r\n" + block


PASSING_ARRAY: Final = PassingArray()


class _Metered:
    """A stream that is written as its caller reads it; to the attempt it looks like the `StreamMeter` of what the provider sends."""

    __slots__ = ("_meter",)

    def __init__(self, meter: StreamMeter) -> None:
        self._meter = meter

    def first(self, data: bytes) -> VendorError | None:
        """Say which error the stream's first event is, if it is one."""
        return self._meter.first(data)

    @property
    def usage(self) -> Usage | None:
        """What the provider reported so far."""
        return self._meter.usage

    @property
    def tail(self) -> bytes:
        """The end of the stream as the provider sent it."""
        return self._meter.tail

    @property
    def whole(self) -> bytes:
        """The stream as the provider sent it, see `StreamMeter`."""
        return self._meter.whole

    @property
    def bytes(self) -> int:
        """Bytes that the provider sent so far."""
        return self._meter.bytes

    @property
    def output_tokens(self) -> int:
        """The output so far, see `StreamMeter`."""
        return self._meter.output_tokens

    def progress(self) -> int:
        """Return the output so far, for a report while the stream goes on."""
        return self._meter.progress()


class ArrayStream(_Metered):
    """A stream of events on its way to a caller who reads one array."""

    __slots__ = ("_begun", "_frames")

    def __init__(self, meter: StreamMeter) -> None:
        super().__init__(meter)
        self._frames = SseFrames(TRANSLATED_BYTES)
        self._begun = False

    def look(self, data: bytes) -> bytes:
        """Look at whole events; give what the caller gets, which may be nothing."""
        self._meter.look(data)
        out = b""
        for document in self._frames.feed(data):
            if document:
                out += (b",\r\n" if self._begun else b"[") + document
                self._begun = True
        return out

    def close(self) -> bytes:
        """Take that nothing more comes; end the array, if the answer came to its end or ended with an error."""
        if not self._begun or not (self.finished or self.error is not None):
            return b""
        return b"]"

    @property
    def done(self) -> bool:
        """Whether nothing is left to be written: never before it is closed."""
        return False

    @property
    def finished(self) -> bool:
        """Whether the answer came to its end."""
        return self._meter.finished

    @property
    def error(self) -> VendorError | None:
        """The error that the stream ended with, if it did."""
        return self._meter.error


class Translating:
    """The two sides speak different protocols; one for each attempt."""

    __slots__ = (
        *("_content_type", "_dropped", "_exchange", "_stream", "_translation", "_written"),
        "effort",
    )

    most_held = TRANSLATED_BYTES
    in_pieces = False

    def __init__(
        self, exchange: "Exchange", translation: Translation, cap: int, effort: str = ""
    ) -> None:
        conversation = exchange.conversation
        assert conversation is not None
        self._exchange = exchange
        self._translation = translation
        self._written = translation.write(conversation, cap)
        # How much a policy has the model think: nothing where it cannot be said, or at the cost of what the caller says.
        self.effort = ""
        if effort:
            told = translation.write(translate.thinking(conversation, effort), cap)
            if told.dropped == self._written.dropped:
                self._written, self.effort = told, effort
        self._dropped = tuple(self._written.dropped)
        self._stream: TranslatedStream | None = None
        self._content_type = b"application/json"

    def request(self, attempt: "Attempt") -> tuple[bytes, bytes]:
        """Give the body that goes upstream, and the caller's headers that go with it."""
        headers = self._exchange.edge.request_headers[attempt.way.endpoint.protocol]
        return self._written.body, headers.block(self._exchange.request.message.raw_headers)

    def stream(self, attempt: "Attempt", meter: StreamMeter) -> "TranslatedStream":
        """Give what looks at each read of a stream, and gives it in the caller's protocol."""
        self._content_type = self._translation.caller.stream_type.encode()
        self._stream = TranslatedStream(
            meter,
            self._translation.vendor.reader(self._written.renamed),
            self._translation.caller.writer(self._reply()),
        )
        return self._stream

    def answer(self, attempt: "Attempt", body: bytes) -> bytes:
        """Give the body of a whole answer as the caller gets it. Raises `translate.BadAnswer`."""
        caller = self._translation.caller
        answer = self.read(attempt, body)
        if isinstance(answer, translate.Failure):
            raise translate.BadAnswer(f"it is an error: {answer.message}")
        self._dropped += answer.dropped
        if not self._exchange.seen.stream:
            return caller.write_answer(answer, self._reply())
        # Some servers answer as a whole what they were asked to stream.
        self._content_type = caller.stream_type.encode()
        return caller.writer(self._reply()).write([*translate.play(answer)])

    def read(self, attempt: "Attempt", body: bytes) -> Any:
        """Give a whole answer in words of no protocol, or the failure that it tells of. Raises `translate.BadAnswer`."""
        return self._translation.vendor.read_answer(body, self._written.renamed)

    def read_stream(self, attempt: "Attempt", events: bytes) -> Any:
        """Give the answer that a whole stream told, or the failure that it ended with; `events` are as they were metered."""
        reader = self._translation.vendor.reader(self._written.renamed)
        return translate.collected(reader, events)

    def refusal(self, attempt: "Attempt") -> tuple[int, bytes, bytes]:
        """Give the provider's words about the request in the caller's envelope: status, header lines, body."""
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in attempt.headers
        }
        failure = self._translation.vendor.read_error(attempt.status, headers, attempt.refusal)
        written = self._translation.caller.write_error(failure, self._exchange.request_id)
        # It is about the request itself, or nobody would have been shown it.
        said = {"x-should-retry": "false"} | dict(written.headers)
        told = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        return written.status, self.lines(attempt) + told.encode("latin-1"), written.body

    def lines(self, attempt: "Attempt") -> bytes:
        """Give the header lines of an answer: of the provider's own only its id of it."""
        lines = b"content-type: %b\r\n" % self._content_type
        theirs = [
            (name, value)
            for name, value in attempt.headers
            if name.lower() in {b"x-request-id", b"request-id"}
        ]
        if theirs:
            lines += attempt.exchange.edge.answer_headers.block(theirs[:1])
        dropped = self._dropped
        if self._stream is not None and self._stream.dropped:
            # What the beginning of a stream has lost; of the rest no header can tell any more.
            dropped = tuple(dict.fromkeys((*dropped, *self._stream.dropped)))
        if dropped:
            lines += b"x-penstock-dropped: %b\r\n" % _listed(dropped)
        return lines

    def _reply(self) -> translate.Reply:
        exchange = self._exchange
        return translate.reply_to(
            exchange.conversation,
            id_=exchange.request_id,
            created_s=exchange.edge.unix_us() // 1_000_000,
        )


class TranslatedStream(_Metered):
    """
    A stream on its way into another protocol: metered as the provider sent it, written as the caller reads it.

    Nothing goes out before the answer has begun to say something, so that
    a provider that fails until then can be left for another one.
    """

    __slots__ = ("_begun", "_ended", "_prelude", "_reader", "_writer")

    def __init__(
        self,
        meter: StreamMeter,
        reader: translate.StreamReader,
        writer: translate.StreamWriter,
    ) -> None:
        super().__init__(meter)
        self._reader = reader
        self._writer = writer
        # What the answer begins with, the last of each kind: a provider may say for minutes that it is there.
        self._prelude: dict[type[Event], Event] = {}
        self._begun = False
        self._ended = False

    def look(self, data: bytes) -> bytes:
        """Look at whole events; give what the caller gets, which may be nothing. Raises `StreamRefused`."""
        self._meter.look(data)
        return self._write(self._reader.feed(data))

    def close(self) -> bytes:
        """Take that nothing more comes; give what is still to be said, if the answer is complete."""
        if self._ended:
            return b""
        events = self._reader.eof()
        if events and type(events[-1]) is Failed:
            # Cut: how it ends is for the attempt to say.
            events.pop()
            if not self._begun and all(type(event) in _PRELUDE for event in events):
                return b""
        return self._write(events)

    @property
    def dropped(self) -> list[str]:
        """Names of what the answer has said so far and the caller's protocol has no word for."""
        return self._reader.dropped + self._writer.dropped

    @property
    def done(self) -> bool:
        """Whether the answer is complete, and all of it written."""
        return self._ended

    @property
    def finished(self) -> bool:
        """Whether the answer came to its end."""
        return self._ended

    @property
    def error(self) -> VendorError | None:
        """None: an error within the stream is raised as it comes."""
        return None

    def _write(self, events: Sequence[Event]) -> bytes:
        if not events:
            return b""
        last = events[-1]
        if type(last) is Failed:
            # Failures stand last; before anything was said they are nobody's but ours.
            said = self._begun or any(type(event) not in _PRELUDE for event in events[:-1])
            out = self._writer.write([*self._prelude.values(), *events]) if said else b""
            raise StreamRefused(last.failure, out)
        if not self._begun:
            if all(type(event) in _PRELUDE for event in events):
                self._prelude |= {type(one): one for one in events if type(one) is not Alive}
                return b""
            self._begun = True
            events = [*self._prelude.values(), *events]
            self._prelude.clear()
        if type(last) is Ended:
            self._ended = True
        return self._writer.write(events)


def _listed(names: Sequence[str]) -> bytes:
    """Write field names as a header's value: they are the caller's own words, so only what can stand there is left."""
    text = ", ".join(names)[:1024]
    return "".join(c if " " <= c <= "~" else "?" for c in text).encode("ascii")
