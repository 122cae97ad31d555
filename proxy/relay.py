"""
One try at one deployment: it hears the upstream, relays to the caller, and settles itself exactly once, whatever ends it.

Before the first byte nothing has been said to the caller, and the exchange may try elsewhere.
From the first byte on (`committed`) there is no other answer: what goes wrong then ends a stream with a typed error event, and breaks the framing of any other body.
A stream is relayed in whole events, so that it can end well-formed at any point, and a cut never looks like an end.
"""

import asyncio
import json
import socket
import struct
from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.attempts import ABSENT, OF_THE_CALLER, THROTTLED, Ended, outcome_of
from proxy.choosing import effort_at, told
from proxy.passage import ArrayStream, Passing, StreamRefused, TranslatedStream, Translating
from proxy.place import Place, Way
from proxy.refusals import degraded_line
from proxy.server import reason
from proxy.settlement import OPAQUE, REFUSED, STREAM, WAITING, WHOLE, finish
from proxy.upstream.connection import Connection, Headers
from proxy.upstream.errors import BadAnswer, ConnectFailed, UpstreamError
from proxy.upstream.first_token import adapted
from proxy.validity import MOST_BYTES
from proxy.wire import translate
from proxy.wire.faults import fault_of
from proxy.wire.meter import StreamMeter, error_in
from proxy.wire.sse import DamagedStream, Splitter
from proxy.wire.vendor_limits import Left, cooldown_us, is_scarce, left_of, should_retry
from ratelimit.asks import Grant

if TYPE_CHECKING:
    from proxy.exchange import Exchange
    from proxy.hedging import Race

# Most of an error's body that is read and passed on.
ERROR_BYTES: Final = 64 * 1024
# Where the usage of an answer is found, counted from its end.
TAIL_BYTES: Final = 4096


class Attempt:
    """
    One try at one deployment: the listener of its upstream conversation.

    It ends exactly once, in `settlement.finish`: settled, counted, and `done` resolved.
    """

    __slots__ = (
        "_held",
        "_last",
        "added_us",
        "cap",
        "committed",
        "connection",
        "cool_us",
        "done",
        "effort",
        "ended",
        "exchange",
        "first_at",
        "grant",
        "headers",
        "held_bytes",
        "kept",
        "left",
        "left_at",
        "lines",
        "meter",
        "mode",
        "number",
        "passage",
        "place",
        "reads",
        "refusal",
        "reported",
        "said",
        "sent_at",
        "splitter",
        "status",
        "tail",
        "way",
        "why",
    )

    def __init__(
        self, exchange: "Exchange", grant: Grant, place: Place, way: Way, why: str
    ) -> None:
        self.exchange = exchange
        self.grant = grant
        self.place = place
        self.way = way
        self.why = why
        self.number = exchange.attempts.made
        choice = exchange.choice
        # What goes upstream: the cap that was reserved, or else the policy's, and how much is to be thought.
        self.cap = grant.cap or (0 if choice is None else choice.cap)
        self.effort = effort_at(exchange, place, grant.candidate)
        self.passage: Passing | Translating = way.passage
        self.connection: Connection | None = None
        self.done: asyncio.Future[Ended] = exchange.edge.loop.create_future()
        self.ended: Ended | None = None
        self.mode = WAITING
        self.committed = False
        self.status = 0
        self.headers: Headers = []
        # Those of them that the caller may see, as it gets them.
        self.lines = b""
        self.refusal = b""
        self.cool_us = 0
        # What the vendor said that it still lets pass, and when.
        self.left: Left | None = None
        self.left_at = 0.0
        self.sent_at = 0.0
        self.first_at = 0.0
        self.reads = 0
        self.added_us = 0
        self.reported = False
        # Whether a stream is kept, with its request, for its form to be judged; None where nobody is to judge it.
        self.kept: bool | None = None
        self.meter: StreamMeter | TranslatedStream | ArrayStream | None = None
        self.splitter: Splitter | None = None
        self._held: list[bytes] = []
        self.held_bytes = 0
        self.tail = b""
        self._last = b""
        # Output tokens of a whole answer that does not say how many they are; -1: not counted.
        self.said = -1

    @property
    def attempt_id(self) -> str:
        """The id under which it is admitted, settled and booked."""
        return f"{self.exchange.request_id}.{self.number}"

    async def run(self) -> Ended:
        """Ask the deployment and relay its answer. Settled when it returns, or raises `CancelledError`."""
        try:
            if self.way.translation is not None:
                self.passage = translating = Translating(
                    self.exchange, self.way.translation, self.cap, self.effort
                )
                self.effort = translating.effort
            ended = await self._converse(fresh=False)
            if ended.stale and self.ended is None:
                # The pooled connection had died idle: the request never arrived anywhere.
                ended = await self._converse(fresh=True)
            if self.ended is None:
                finish(self, ended)
            return ended
        except asyncio.CancelledError:
            self._let_go()
            if self.ended is None:
                finish(self, Ended("client_left", self.status, committed=self.committed))
            raise
        except BaseException:
            self._let_go()
            if self.ended is None:
                finish(self, Ended("internal", self.status, committed=self.committed))
            raise

    def lose(self) -> None:
        """End it, settled, because another attempt of the same call was quicker."""
        self._let_go()
        if self.ended is None:
            finish(self, Ended("hedged", self.status))

    async def _converse(self, *, fresh: bool) -> Ended:
        exchange = self.exchange
        edge = exchange.edge
        place = self.place
        body, passed = self.passage.request(self)
        try:
            head = self.way.head.write(body, passed)
        except ConnectFailed as error:
            exchange.failure = str(error)
            return Ended(error.metric)
        connection = None if fresh else edge.pool.take(place.origin)
        if connection is None:
            try:
                connection = await edge.pool.connect(place.origin, place.connect_timeout_s)
            except ConnectFailed as error:
                exchange.failure = str(error)
                return Ended(error.metric)
        self.connection = connection
        exchange.client.feeding = connection
        if fresh:
            self.done = edge.loop.create_future()
        timeouts = place.timeouts
        if place.first_token is not None and exchange.seen.stream:
            timeouts = adapted(
                timeouts,
                place.first_token,
                exchange.seen.input_estimate,
                self.grant.latency_us,
            )
        self.sent_at = now = monotonic()
        self.added_us = int((now - exchange.read_at) * 1_000_000)
        connection.send(
            self,
            head,
            body,
            timeouts,
            now,
            until=exchange.started_at + edge.total_timeout_s,
        )
        return await self.done

    # What the upstream says...

    def head(self, status: int, headers: Headers) -> None:
        """Take the answer's head, and see what kind of answer it begins."""
        self.status = status
        self.headers = headers
        self.lines, content_type, encoded, few = self.exchange.edge.answer_headers.read(headers)
        if not 200 <= status < 300:
            self.mode = REFUSED
            self._note_left()
            return
        if few and any(is_scarce(name, value) for name, value in headers):
            self._note_left()
        if (encoded and self.passage.in_pieces) or (
            self.way.endpoint.opaque
            and content_type[:16].lower() != b"application/json"
            and content_type[:17].lower() != b"text/event-stream"
        ):
            # Sound, or text; or compressed though it was told not to, which cannot be metered: it must not be touched.
            self.mode = OPAQUE
        elif (
            self.exchange.seen.stream
            and self.way.endpoint.grammar is not None
            and content_type.lower().startswith(self.way.endpoint.grammar.stream_type)
        ):
            self.mode = STREAM
            self.splitter = self.way.endpoint.grammar.framing.splitter()
            exchange = self.exchange
            if exchange.choice is not None or exchange.offer.experiments[self.grant.candidate]:
                self.kept = exchange.edge.learner.keeps(self)
            self.meter = self.passage.stream(
                self,
                StreamMeter(
                    self.way.endpoint.grammar,
                    keep_usage=exchange.seen.asked_usage or not self.passage.in_pieces,
                    choices=exchange.seen.n,
                    whole=MOST_BYTES if self.kept else 0,
                ),
            )
        else:
            self.mode = WHOLE

    def _note_left(self) -> None:
        self.left = left_of(self.headers, self.exchange.edge.unix_time())
        self.left_at = monotonic()

    def body(self, data: bytes) -> None:
        """Take one read of the answer's body and pass it on: per read one look, one write."""
        if self.mode == STREAM:
            meter = self.meter
            assert meter is not None
            assert self.splitter is not None
            assert self.connection is not None
            try:
                whole = self.splitter.feed(data)
            except DamagedStream as damaged:
                self._break(BadAnswer(str(damaged), phase="body"))
                return
            if not self.first_at and whole:
                error = meter.first(whole)
                if error is not None:
                    # A refusal, whatever its status says: nothing was generated, nothing is charged.
                    self.mode = REFUSED
                    self._break(
                        BadAnswer(f"the stream began with an error: {error.message}", phase="body")
                    )
                    return
                self.first_at = monotonic()
            try:
                out = meter.look(whole) if whole else whole
            except StreamRefused as refused:
                self._end_refused(refused)
                return
            if self.connection.complete:
                # `end` follows at once: what is left goes out with the end, in one write.
                self._last = out
            elif out:
                if self.committed:
                    self.exchange.chunk(out)
                else:
                    self._commit_chunked(out)
            return
        if not self.first_at:
            self.first_at = monotonic()
        if self.committed:
            self.tail = (self.tail + data)[-TAIL_BYTES:]
            self.held_bytes += len(data)
            self.exchange.chunk(data)
            return
        if self.mode == OPAQUE and self.way.endpoint.flows:
            self.held_bytes = len(data)
            self._commit_chunked(data)
            return
        self._held.append(data)
        self.held_bytes += len(data)
        if self.mode == REFUSED:
            if self.held_bytes > ERROR_BYTES:
                # Nobody reads that much of an error, and one without end would hold the caller up.
                self._held = [b"".join(self._held)[:ERROR_BYTES]]
                self._let_go()
                self.end(reusable=False)
        elif self.held_bytes > self.passage.most_held:
            if not self.passage.in_pieces:
                self._break(BadAnswer("the answer is too long to be translated", phase="body"))
                return
            held = b"".join(self._held)
            self._held.clear()
            self.tail = held[-TAIL_BYTES:]
            self._commit_chunked(held)

    def end(self, reusable: bool) -> None:
        """Take the end of the answer, and see whether it is a whole one."""
        if self.connection is not None:
            self.reads = self.connection.reads
        self._release()
        try:
            if self.mode == STREAM:
                self._end_stream()
            elif self.mode == REFUSED:
                # Some servers repeat the headers of a request that they refuse.
                self.refusal = self.place.without_secrets(b"".join(self._held))
                self.cool_us = cooldown_us(self.headers, self.exchange.edge.unix_time()) or 0
                absent = self.status in ABSENT and self.way.endpoint.optional
                if absent:
                    exchange = self.exchange
                    exchange.edge.live.learn_absent(self.place.id, exchange.endpoint)
                finish(
                    self,
                    Ended(
                        outcome_of(self.status),
                        self.status,
                        vain=should_retry(self.headers) is False,
                        absent=absent,
                        fault=fault_of(self.refusal) if self.status in OF_THE_CALLER else "",
                    ),
                )
            else:
                self._end_whole()
        except Exception as fault:  # noqa: BLE001 - ours; `run` is the one to tell, who would wait for ever
            self._fault(fault)

    def lost(self, error: UpstreamError) -> None:
        """Take the loss of the conversation."""
        self._release()
        self.exchange.failure = str(error)
        if error.stale and not self.committed:
            # Not the end of this attempt yet: `run` tries once more on a fresh connection.
            if not self.done.done():
                self.done.set_result(Ended(error.metric, stale=True))
            return
        try:
            if self.committed and self._said_all():
                # What is missing is the framing's end, which only we had to wait for.
                self.exchange.end_chunks(b"")
                finish(self, Ended("ok", self.status, committed=True))
                return
            if self.committed:
                self._cut_off(str(error), error.metric)
            finish(self, Ended(error.metric, committed=self.committed))
        except Exception as fault:  # noqa: BLE001 - as in `end`
            self._fault(fault)

    def _fault(self, fault: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(fault)

    def _said_all(self) -> bool:
        """Whether the event has come that ends a stream, and nothing has begun after it."""
        return (
            self.mode == STREAM
            and self.meter is not None
            and self.splitter is not None
            and self.meter.done
            and not self.splitter.tail()
        )

    def _end_refused(self, refused: StreamRefused) -> None:
        """End a stream that has failed within itself: in the caller's words if it had begun, else for another one to give."""
        self._let_go()
        exchange = self.exchange
        if self.committed or refused.out:
            if self.committed:
                exchange.end_chunks(refused.out)
            else:
                self._commit_chunked(refused.out, last=True)
            outcome = "upstream_refused" if refused.by_vendor else "bad_answer"
            finish(self, Ended(outcome, self.status, committed=True))
            return
        outcome = "bad_answer"
        if refused.by_vendor:
            # A refusal, whatever its status says: nothing was generated, nothing is charged.
            self.mode = REFUSED
            if refused.status in THROTTLED:
                outcome = outcome_of(refused.status)
        exchange.failure = f"the stream failed before it said anything: {refused}"
        finish(self, Ended(outcome, self.status))

    def _end_stream(self) -> None:
        assert self.splitter is not None
        assert self.meter is not None
        exchange = self.exchange
        meter = self.meter
        last = self._last
        tail = self.splitter.tail()
        grammar = self.way.endpoint.grammar
        whole = grammar.framing.mended(tail) if tail and grammar is not None else b""
        if whole:
            # Only its end was missing; without one no client would see it.
            last += meter.look(whole)
        last += meter.close()
        if meter.finished and (meter.usage is not None or meter.error is None):
            if self.committed:
                exchange.end_chunks(last)
            else:
                self._commit_chunked(last, last=True)
            finish(self, Ended("ok", self.status, committed=True))
            return
        error = meter.error
        if not self.committed:
            # Nothing has gone out: another deployment can still give the whole of it.
            if error is None:
                exchange.failure = "the stream ended before it was complete"
                finish(self, Ended("upstream_lost", self.status))
            else:
                exchange.failure = f"the stream ended with an error: {error.message}"
                finish(self, Ended("upstream_refused", self.status))
        elif error is not None:
            # The vendor has said it itself, in the stream.
            exchange.end_chunks(last)
            finish(self, Ended("upstream_refused", self.status, committed=True))
        else:
            exchange.failure = "the provider ended the stream before it was complete"
            if last:
                exchange.chunk(last)
            self._cut_off(exchange.failure, "upstream_lost")
            finish(self, Ended("upstream_lost", self.status, committed=True))

    def _end_whole(self) -> None:
        exchange = self.exchange
        if self.committed:
            # Usage stands at the end of an answer, so the end of a long one is enough to find it.
            usage = self.way.endpoint.meter(self.tail) if self.mode == WHOLE else None
            if usage is None and self.mode == WHOLE and not self.tail.rstrip().endswith(b"}"):
                # It ran until the close of its connection, and that came too early.
                exchange.failure = "the provider ended the answer before it was complete"
                self._cut_off(exchange.failure, "upstream_lost")
                finish(self, Ended("upstream_lost", self.status, committed=True))
                return
            exchange.end_chunks(b"")
            finish(self, Ended("ok", self.status, committed=True), usage)
            return
        held = self._held
        self.tail = body = held[0] if len(held) == 1 else b"".join(held)
        usage = None
        if self.mode == WHOLE or self.way.endpoint.opaque:
            usage = self.way.endpoint.meter(body)
            if usage is None and self.mode == WHOLE and not self._is_answer(body):
                finish(self, Ended("bad_answer", self.status))
                return
        try:
            body = self.passage.answer(self, body)
        except translate.BadAnswer as bad:
            exchange.failure = f"the provider's answer cannot be understood: {bad}"
            finish(self, Ended("bad_answer", self.status), usage)
            return
        if exchange.race is not None:
            self._win(exchange.race)
        exchange.usage = usage
        answer = b"%bcontent-length: %d\r\n\r\n%b" % (
            self.answer_head(self.status),
            len(body),
            body,
        )
        self.committed = True
        exchange.status = self.status
        exchange.write(answer)
        finish(self, Ended("ok", self.status, committed=True), usage)

    def _is_answer(self, body: bytes) -> bool:
        """Whether a 200 that carries no usage is an answer at all; `exchange.failure` says why not."""
        error = error_in(body)
        if error is not None:
            self.mode = REFUSED
            self.exchange.failure = f"the provider answered 200 with an error: {error.message}"
            return False
        try:
            # Not orjson: a lone surrogate in what a model says is the caller's to judge.
            document = json.loads(body)
        except (ValueError, RecursionError):
            self.exchange.failure = "the provider's answer is not JSON"
            return False
        self.said = self.way.endpoint.tokens_in(document)
        return True

    # What the caller gets...

    def answer_head(self, status: int, lines: bytes | None = None) -> bytes:
        """Write the head of an answer up to its framing; `lines` are those of the provider's."""
        exchange = self.exchange
        edge = exchange.edge
        degraded = self.grant.degraded
        return b"%b%bx-request-id: %b\r\n%b%b; attempt=%d; candidates=%d%b%b\r\n%b%b%b%b" % (
            b"HTTP/1.1 200 OK\r\n"
            if status == 200
            else b"HTTP/1.1 %d %b\r\n" % (status, reason(status)),
            edge.server.date,
            exchange.request_id.encode(),
            self.place.about,
            self.why.encode(),
            self.number,
            len(exchange.offer.places),
            exchange.offer.led[self.grant.candidate],
            self._decided(),
            degraded_line(degraded) if degraded else b"",
            exchange.endpoint.protocol.lines(self.grant.limits, exchange.request_id, edge.unix_us),
            self.passage.lines(self) if lines is None else lines,
            b"connection: close\r\n" if exchange.close else b"",
        )

    def _decided(self) -> bytes:
        """Return what the answer says of how its model was chosen, and of how much that thinks."""
        exchange = self.exchange
        if exchange.choice is not None:
            return told(exchange.choice, self.effort)
        policy = exchange.offer.policy
        return b"%b; effort=%b" % (policy, self.effort.encode()) if self.effort else policy

    def _commit_chunked(self, first: bytes, *, last: bool = False) -> None:
        """Send the head and the first bytes; from here on there is no other answer."""
        exchange = self.exchange
        if exchange.race is not None:
            self._win(exchange.race)
        head = self.answer_head(self.status)
        self.committed = True
        # Nobody will be asked again: a large request need not stay for as long as its answer takes.
        if not self.kept:
            exchange.body = b""
        exchange.status = self.status
        exchange.begin_chunks(head, first, last=last)
        if not last and self.mode == STREAM:
            exchange.edge.streams.add(self)

    def _win(self, race: "Race") -> None:
        """Have the call to itself: from here on its connection is the one that the caller may pause."""
        race.won(self)
        self.exchange.current = self
        self.exchange.client.feeding = self.connection

    def _cut_off(self, words: str, code: str) -> None:
        """End a committed answer so that nobody takes it for a whole one."""
        exchange = self.exchange
        exchange.close = True
        if self.mode == STREAM:
            event = exchange.endpoint.event(
                f"The answer was cut off: {words}.", code, exchange.request_id
            )
            exchange.end_chunks(event)
        elif exchange.client.transport is not None:
            # A body of another kind has no place for an error: break its framing.
            if not exchange.chunked:
                # Where the close is the end, only a reset says that it is not.
                theirs = exchange.client.transport.get_extra_info("socket")
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                exchange.client.transport.abort()
            else:
                exchange.client.transport.close()

    def _break(self, error: UpstreamError) -> None:
        """Refuse the rest of an answer that is not what the protocol says."""
        self._let_go()
        self.lost(error)

    def _let_go(self) -> None:
        connection = self.connection
        self._release()
        if connection is not None:
            connection.abort()

    def _release(self) -> None:
        """Forget the connection: from here on it may be another exchange's, which our client must not pause."""
        client = self.exchange.client
        # Another one is that of the winner, whom this attempt has lost against.
        if client.feeding is self.connection:
            client.feeding = None
        self.connection = None
