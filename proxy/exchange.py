"""
The whole story of one request, from the first look to settlement.

    look      the few fields that matter; the bytes are kept as they are
    who       the key, in memory
    offer     the candidates behind the name, compiled once per caller and name
    admit     every limit, every budget, and the choice among the candidates
    open      a pooled connection, the request with what must change
    commit    the first bytes of the answer go out: no retry after this
    relay     per read: one look, one write
    settle    what was really used, off the caller's path

`serve` tells it in order. An `Attempt` is one try at one deployment: it hears the upstream, relays, and settles itself exactly once, whatever ends it.

A stream is relayed in whole events, so that it can end well-formed at any point.
When it is cut after its first byte, the caller gets an error event in place of the rest, and no [DONE]: a cut never looks like an end.
"""

import asyncio
import json
import logging
import socket
import struct
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import msgpack
import orjson
from aiohttp.http import HttpVersion11
from aiohttp.web_protocol import RequestPayloadError

from proxy.attempts import Attempts, Ended, health_of, outcome_of
from proxy.errors import (
    BadRequest,
    BudgetExhausted,
    GatewayError,
    Internal,
    NoDeployment,
    QuotaExceeded,
    QuotaTooSmall,
    ShuttingDown,
    StoreGone,
    Unauthorized,
    UpstreamFailed,
)
from proxy.live import Offer, Place
from proxy.server import Request, Written, read_body, reason
from proxy.upstream.connection import Connection, Headers
from proxy.upstream.errors import BadAnswer, ConnectFailed, UpstreamError
from proxy.wire.headers import cooldown_us
from proxy.wire.meter import (
    StreamMeter,
    Usage,
    error_body,
    error_event,
    error_in,
    meter_json,
)
from proxy.wire.openai import MAX_USER, BadField, Kind, Look, look, rewrite
from proxy.wire.sse import EventSplitter, EventTooLong, decode
from ratelimit.asks import Ask, Denied, Grant, Nobody, Settlement
from ratelimit.gate import StoreUnavailable
from routing.catalogue import cost_nusd

if TYPE_CHECKING:
    from proxy.app import Edge

log = logging.getLogger("penstock.edge")

# A whole answer is held up to here, so that a cut before its end can still be tried elsewhere.
HOLD_BYTES: Final = 1024 * 1024
# Most of an error's body that is passed on.
ERROR_BYTES: Final = 64 * 1024
MOST_NUSD: Final = 1 << 52
# Most of a provider's own words that an error of ours repeats.
FAILURE_CHARS: Final = 500
# Where the usage of an answer is found, counted from its end.
TAIL_BYTES: Final = 4096
# Processing tiers that vendors bill above their list price.
DEARER_TIERS: Final = frozenset({"priority", "fast", "scale"})
EPOCH_US: Final = 1_704_067_200_000_000

_pack = msgpack.Packer(use_bin_type=False).pack

_REQUEST_LIMITS: Final = (
    b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\n"
    b"x-ratelimit-reset-requests: %d.%03ds\r\n"
)
_TOKEN_LIMITS: Final = (
    b"x-ratelimit-limit-tokens: %d\r\nx-ratelimit-remaining-tokens: %d\r\n"
    b"x-ratelimit-reset-tokens: %d.%03ds\r\n"
)
_BOTH_LIMITS: Final = _REQUEST_LIMITS + _TOKEN_LIMITS

# What an answer is, in the order in which an attempt learns it.
_WAITING, _REFUSED, _WHOLE, _STREAM, _OPAQUE = range(5)


class Attempt:
    """
    One try at one deployment: the listener of its upstream conversation.

    It ends exactly once, in `_finish`: settled, counted, and `done` resolved.
    """

    __slots__ = (
        "_held",
        "_held_bytes",
        "_last",
        "_said",
        "_tail",
        "added_us",
        "committed",
        "connection",
        "cool_us",
        "done",
        "ended",
        "exchange",
        "first_at",
        "grant",
        "headers",
        "meter",
        "mode",
        "number",
        "place",
        "reads",
        "refusal",
        "reported",
        "sent_at",
        "splitter",
        "status",
        "why",
    )

    def __init__(self, exchange: "Exchange", grant: Grant, place: Place, why: str) -> None:
        self.exchange = exchange
        self.grant = grant
        self.place = place
        self.why = why
        self.number = exchange.attempts.made
        self.connection: Connection | None = None
        self.done: asyncio.Future[Ended] = exchange.edge.loop.create_future()
        self.ended: Ended | None = None
        self.mode = _WAITING
        self.committed = False
        self.status = 0
        self.headers: Headers = []
        self.refusal = b""
        self.cool_us = 0
        self.sent_at = 0.0
        self.first_at = 0.0
        self.reads = 0
        self.added_us = 0
        self.reported = False
        self.meter: StreamMeter | None = None
        self.splitter: EventSplitter | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._tail = b""
        self._last = b""
        # Output tokens of a whole answer that does not say how many they are; -1: not counted.
        self._said = -1

    @property
    def attempt_id(self) -> str:
        """The id under which it is admitted, settled and booked."""
        return f"{self.exchange.request_id}.{self.number}"

    async def run(self) -> Ended:
        """Ask the deployment and relay its answer. Settled when it returns, or raises `CancelledError`."""
        try:
            ended = await self._converse(fresh=False)
            if ended.stale and self.ended is None:
                # The pooled connection had died idle: the request never arrived anywhere.
                ended = await self._converse(fresh=True)
            if self.ended is None:
                self._finish(ended)
            return ended
        except asyncio.CancelledError:
            self._let_go()
            if self.ended is None:
                self._finish(Ended("client_left", self.status, committed=self.committed))
            raise
        except BaseException:
            self._let_go()
            if self.ended is None:
                self._finish(Ended("internal", self.status, committed=self.committed))
            raise

    async def _converse(self, *, fresh: bool) -> Ended:
        exchange = self.exchange
        edge = exchange.edge
        place = self.place
        seen = exchange.seen
        kind = exchange.kind
        cap = self.grant.cap
        body = rewrite(
            exchange.body,
            seen,
            upstream_model=place.upstream_name,
            include_usage=place.stream_usage,
            output_cap=cap or None,
            cap_field=place.cap_field if kind == "chat" else "max_tokens",
        )
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
        self.sent_at = now = monotonic()
        self.added_us = int((now - exchange.read_at) * 1_000_000)
        connection.send(
            self,
            place.heads[kind].write(len(body), exchange.passed),
            body,
            place.timeouts,
            now,
            until=exchange.started_at + edge.total_timeout_s,
        )
        if exchange.client.writing_paused:
            connection.pause_reading()
        return await self.done

    # What the upstream says...

    def head(self, status: int, headers: Headers) -> None:
        """Take the answer's head, and see what kind of answer it begins."""
        self.status = status
        self.headers = headers
        if not 200 <= status < 300:
            self.mode = _REFUSED
            return
        content_type = b""
        encoded = False
        for name, value in headers:
            size = len(name)
            if size == 12 and name.lower() == b"content-type":
                content_type = value
            elif size == 16 and name.lower() == b"content-encoding":
                encoded = value.strip().lower() != b"identity"
        if encoded:
            # It was told not to; it cannot be metered, and must not be touched.
            self.mode = _OPAQUE
        elif self.exchange.seen.stream and content_type[:17].lower() == b"text/event-stream":
            self.mode = _STREAM
            self.splitter = EventSplitter()
            self.meter = StreamMeter(keep_usage=self.exchange.seen.asked_usage)
        else:
            self.mode = _WHOLE

    def body(self, data: bytes) -> None:
        """Take one read of the answer's body and pass it on: per read one look, one write."""
        if self.mode == _STREAM:
            meter = self.meter
            assert meter is not None
            assert self.splitter is not None
            assert self.connection is not None
            try:
                whole = self.splitter.feed(data)
            except EventTooLong as too_long:
                self._break(BadAnswer(str(too_long), phase="body"))
                return
            if not self.first_at and whole:
                error = meter.first(whole)
                if error is not None:
                    # A refusal, whatever its status says: nothing was generated, nothing is charged.
                    self.mode = _REFUSED
                    self._break(
                        BadAnswer(f"the stream began with an error: {error.message}", phase="body")
                    )
                    return
                self.first_at = monotonic()
            out = meter.look(whole) if whole else whole
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
            self._tail = (self._tail + data)[-TAIL_BYTES:]
            self.exchange.chunk(data)
            return
        self._held.append(data)
        self._held_bytes += len(data)
        if self.mode == _REFUSED:
            if self._held_bytes > ERROR_BYTES:
                self._held = [b"".join(self._held)[:ERROR_BYTES]]
        elif self._held_bytes > HOLD_BYTES:
            held = b"".join(self._held)
            self._held.clear()
            self._tail = held[-TAIL_BYTES:]
            self._commit_chunked(held)

    def end(self, reusable: bool) -> None:
        """Take the end of the answer, and see whether it is a whole one."""
        if self.connection is not None:
            self.reads = self.connection.reads
        self._release()
        try:
            if self.mode == _STREAM:
                self._end_stream()
            elif self.mode == _REFUSED:
                # Some servers repeat the headers of a request that they refuse.
                self.refusal = self.place.without_secrets(b"".join(self._held))
                self.cool_us = cooldown_us(self.headers, self.exchange.edge.unix_time()) or 0
                self._finish(Ended(outcome_of(self.status), self.status))
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
                self._finish(Ended("ok", self.status, committed=True))
                return
            if self.committed:
                self._cut_off(str(error), error.metric)
            self._finish(Ended(error.metric, committed=self.committed))
        except Exception as fault:  # noqa: BLE001 - as in `end`
            self._fault(fault)

    def _fault(self, fault: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(fault)

    def _said_all(self) -> bool:
        """Whether a stream has come to its [DONE], and nothing has begun after it."""
        return (
            self.mode == _STREAM
            and self.meter is not None
            and self.splitter is not None
            and self.meter.done
            and not self.splitter.tail()
        )

    def _end_stream(self) -> None:
        assert self.splitter is not None
        assert self.meter is not None
        exchange = self.exchange
        meter = self.meter
        last = self._last
        tail = self.splitter.tail()
        if tail and _is_event(tail):
            # Only the blank line behind it is missing; without one no client would see it.
            last += meter.look(tail.rstrip(b"\r\n") + b"\n\n")
        if meter.finished and (meter.usage is not None or meter.error is None):
            if self.committed:
                exchange.end_chunks(last)
            else:
                self._commit_chunked(last, last=True)
            self._finish(Ended("ok", self.status, committed=True))
            return
        error = meter.error
        if not self.committed:
            # Nothing has gone out: another deployment can still give the whole of it.
            if error is None:
                exchange.failure = "the stream ended before it was complete"
                self._finish(Ended("upstream_lost", self.status))
            else:
                exchange.failure = f"the stream ended with an error: {error.message}"
                self._finish(Ended("upstream_refused", self.status))
        elif error is not None:
            # The vendor has said it itself, in the stream.
            exchange.end_chunks(last)
            self._finish(Ended("upstream_refused", self.status, committed=True))
        else:
            exchange.failure = "the provider ended the stream before it was complete"
            if last:
                exchange.chunk(last)
            self._cut_off(exchange.failure, "upstream_lost")
            self._finish(Ended("upstream_lost", self.status, committed=True))

    def _end_whole(self) -> None:
        exchange = self.exchange
        if self.committed:
            # Usage stands at the end of an answer, so the end of a long one is enough to find it.
            usage = meter_json(self._tail) if self.mode == _WHOLE else None
            if usage is None and self.mode == _WHOLE and not self._tail.rstrip().endswith(b"}"):
                # It ran until the close of its connection, and that came too early.
                exchange.failure = "the provider ended the answer before it was complete"
                self._cut_off(exchange.failure, "upstream_lost")
                self._finish(Ended("upstream_lost", self.status, committed=True))
                return
            exchange.end_chunks(b"")
            self._finish(Ended("ok", self.status, committed=True), usage)
            return
        held = self._held
        body = held[0] if len(held) == 1 else b"".join(held)
        usage = None
        if self.mode == _WHOLE:
            usage = meter_json(body)
            if usage is None and not self._is_answer(body):
                self._finish(Ended("bad_answer", self.status))
                return
        exchange.usage = usage
        answer = b"%bcontent-length: %d\r\n\r\n%b" % (self._answer_head(), len(body), body)
        self.committed = True
        exchange.status = self.status
        exchange.write(answer)
        self._finish(Ended("ok", self.status, committed=True), usage)

    def _is_answer(self, body: bytes) -> bool:
        """Whether a 200 that carries no usage is an answer at all; `exchange.failure` says why not."""
        error = error_in(body)
        if error is not None:
            self.mode = _REFUSED
            self.exchange.failure = f"the provider answered 200 with an error: {error.message}"
            return False
        try:
            # Not orjson: a lone surrogate in what a model says is the caller's to judge.
            document = json.loads(body)
        except (ValueError, RecursionError):
            self.exchange.failure = "the provider's answer is not JSON"
            return False
        self._said = _tokens_in(document)
        return True

    # What the caller gets...

    def _answer_head(self) -> bytes:
        exchange = self.exchange
        edge = exchange.edge
        status = self.status
        return b"%b%bx-request-id: %b\r\n%b%b; attempt=%d; candidates=%d\r\n%b%b%b" % (
            b"HTTP/1.1 200 OK\r\n"
            if status == 200
            else b"HTTP/1.1 %d %b\r\n" % (status, reason(status)),
            edge.server.date,
            exchange.request_id.encode(),
            self.place.about,
            self.why.encode(),
            self.number,
            len(exchange.offer.places),
            limit_headers(self.grant.limits),
            edge.answer_headers.block(self.headers),
            b"connection: close\r\n" if exchange.close else b"",
        )

    def _commit_chunked(self, first: bytes, *, last: bool = False) -> None:
        """Send the head and the first bytes; from here on there is no other answer."""
        exchange = self.exchange
        head = self._answer_head()
        self.committed = True
        # Nobody will be asked again: a large request need not stay for as long as its answer takes.
        exchange.body = b""
        exchange.status = self.status
        exchange.begin_chunks(head, first, last=last)
        if not last and self.mode == _STREAM:
            exchange.edge.streams.add(self)

    def _cut_off(self, words: str, code: str) -> None:
        """End a committed answer so that nobody takes it for a whole one."""
        exchange = self.exchange
        exchange.close = True
        if self.mode == _STREAM:
            event = error_event(
                f"The answer was cut off: {words}.", "upstream_error", code, exchange.request_id
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
        self.connection = None
        self.exchange.client.feeding = None

    # What it cost...

    def _finish(self, ended: Ended, usage: Usage | None = None) -> None:
        """Settle, count, and say so: the one end of an attempt."""
        if self.ended is not None:
            return
        self.ended = ended
        exchange = self.exchange
        edge = exchange.edge
        offer = exchange.offer
        place = self.place
        grant = self.grant
        now = monotonic()
        outcome = ended.outcome
        meter = self.meter
        source = "provider"
        if meter is not None:
            edge.streams.discard(self)
            usage = meter.usage
        if usage is None or (outcome != "ok" and meter is not None):
            usage, source = self._estimate(ended, usage)
        # Beyond this a number of the store's is no longer exact, and no vendor's count is true.
        cost = min(cost_nusd(place.rates, usage), MOST_NUSD)
        sent_at = self.sent_at
        ttft_us = int((self.first_at - sent_at) * 1_000_000) if self.first_at else 0
        duration_us = int((now - exchange.started_at) * 1_000_000)
        request_id = exchange.request_id
        attempt_id = f"{request_id}.{self.number}"
        caller = offer.caller
        edge.gate.settle(
            Settlement(
                offer.plan,
                grant.boot,
                attempt_id,
                candidate=grant.candidate,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cost_nusd=cost,
                health=health_of(ended),
                ttft_us=ttft_us,
                cool_us=self.cool_us,
                streamed=self.reported,
                # The order is the ledger's.
                entry=_pack(
                    (
                        attempt_id,
                        request_id,
                        self.number,
                        grant.at_us + EPOCH_US,
                        caller.organization,
                        caller.team,
                        caller.key,
                        exchange.user,
                        caller.application,
                        caller.business_line,
                        offer.asked,
                        place.model,
                        place.id,
                        place.provider,
                        usage.input_tokens,
                        usage.cached_tokens,
                        usage.cache_write_tokens,
                        usage.output_tokens,
                        usage.reasoning_tokens,
                        usage.audio_input_tokens,
                        usage.audio_output_tokens,
                        cost,
                        place.rates.version,
                        ttft_us,
                        duration_us,
                        outcome,
                        self.status,
                        source,
                        self.why,
                        1 if exchange.seen.stream else 0,
                        exchange.protocol,
                        edge.replica,
                        self.added_us,
                    )
                ),
            )
        )
        exchange.cost_nusd += cost
        exchange.usage = usage
        tally = place.tally
        if outcome == "ok":
            tally.ok.value += 1
        else:
            edge.metrics.counter(
                "penstock_attempts_total", place.model, place.id, outcome
            ).value += 1
        tally.cost.value += cost
        tally.input.value += usage.input_tokens
        tally.output.value += usage.output_tokens
        if usage.cached_tokens:
            tally.cached.value += usage.cached_tokens
        if usage.reasoning_tokens:
            tally.reasoning.value += usage.reasoning_tokens
        if self.first_at and self.mode != _REFUSED:
            tally.ttft.observe(self.first_at - sent_at)
            if self.mode == _STREAM and self.reads > 1:
                tally.between.observe((now - self.first_at) / (self.reads - 1))
        if not self.done.done():
            self.done.set_result(ended)

    def _estimate(self, ended: Ended, reported: Usage | None) -> tuple[Usage, str]:
        """
        Return what is charged when the provider did not say, or did not come to the end.

        A request that a vendor may have worked on is charged its input and what came back of the output.
        One that was refused, or never arrived, costs nothing.
        """
        if (
            ended.outcome in {"connect_failed", "void"}
            or not self.sent_at
            or (self.mode == _REFUSED)
        ):
            return Usage(), "none"
        output = 0
        if self.meter is not None:
            output = self.meter.output_tokens
        elif self._said >= 0:
            output = self._said
        elif self.committed and self.exchange.kind != "embeddings":
            output = -(-self.exchange.bytes_out // 4)
        if reported is not None:
            # A vendor that reports as it goes: its last word, and never less than was seen.
            reported.output_tokens = max(reported.output_tokens, output)
            return reported, "provider"
        return Usage(
            input_tokens=self.exchange.seen.input_estimate, output_tokens=output
        ), "estimated"


def _tokens_in(document: Any) -> int:
    """Estimate the output of a whole answer: a quarter of the UTF-8 bytes of what its choices say, one each at least."""
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(choices, list):
        return 0
    tokens = 0
    for choice in choices:
        if isinstance(choice, dict):
            message = choice.get("message")
            said = message | {"role": ""} if isinstance(message, dict) else choice.get("text")
            tokens += max(-(-_text_bytes(said) // 4), 1)
    return tokens


def _text_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, dict | list):
        return sum(map(_text_bytes, value.values() if isinstance(value, dict) else value))
    return 0


def _is_event(tail: bytes) -> bool:
    """Whether the end of a stream is an event that lacks nothing but the blank line behind it."""
    found = decode(tail + b"\n\n")
    if not found:
        return False
    text = found[-1][1]
    if text == "[DONE]":
        return True
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


class Exchange:
    """One client request, from admission to settlement."""

    __slots__ = (
        "attempts",
        "body",
        "bytes_out",
        "chunked",
        "client",
        "close",
        "cost_nusd",
        "current",
        "edge",
        "failure",
        "kind",
        "offer",
        "passed",
        "protocol",
        "read_at",
        "refusal",
        "request",
        "request_id",
        "seen",
        "started_at",
        "status",
        "usage",
        "user",
    )

    def __init__(self, edge: "Edge", request: Request, kind: Kind) -> None:
        self.edge = edge
        self.request = request
        self.client = request.client
        self.kind: Kind = kind
        self.protocol = f"openai.{kind}"
        self.request_id = edge.next_request_id()
        self.started_at = monotonic()
        self.read_at = self.started_at
        self.chunked = request.message.version >= HttpVersion11
        self.close = request.message.should_close or not self.chunked or edge.draining
        self.status = 0
        self.bytes_out = 0
        self.failure = ""
        # The word for an exchange without an attempt, in the access line.
        self.refusal = "client_left"
        self.body = b""
        self.passed = b""
        self.user = ""
        self.cost_nusd = 0
        self.usage: Usage | None = None
        self.current: Attempt | None = None
        self.seen: Look
        self.offer: Offer
        self.attempts: Attempts

    def write(self, data: bytes) -> None:
        """Write to the caller, if it is still there."""
        transport = self.client.transport
        if transport is not None:
            self.bytes_out += len(data)
            transport.write(data)

    def begin_chunks(self, head: bytes, first: bytes, *, last: bool) -> None:
        """Send a head and the first piece of a body whose length nobody knows yet; `last`: and the end."""
        if not self.chunked:
            # HTTP/1.0 knows no chunks: it reads to the close.
            self.write(b"%b\r\n%b" % (head, first))
            return
        self.write(
            b"%btransfer-encoding: chunked\r\n\r\n%b%b"
            % (
                head,
                b"%x\r\n%b\r\n" % (len(first), first) if first else b"",
                b"0\r\n\r\n" if last else b"",
            )
        )

    def chunk(self, data: bytes) -> None:
        """Send one more piece."""
        transport = self.client.transport
        if transport is not None:
            self.bytes_out += len(data)
            transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def end_chunks(self, last: bytes) -> None:
        """Send the last piece, which may be empty, and say that it was the last one."""
        if self.chunked:
            self.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last) if last else b"0\r\n\r\n")
        elif last:
            self.write(last)

    async def run(self) -> None:
        """Tell the story up to the end of the answer. Raises `GatewayError` before the first byte."""
        edge = self.edge
        request = self.request
        caller = edge.live.callers.find(credential(request))
        if caller is None:
            raise Unauthorized(
                "The API key is not known. Send it as 'Authorization: Bearer KEY', 'x-api-key' or 'api-key'.",
                code="invalid_api_key",
            )
        body = await self._read()
        self.read_at = monotonic()
        try:
            self.seen = seen = look(self.kind, body)
        except BadField as error:
            raise self._unreadable(error) from None
        self.body = body
        self.user = seen.user or caller.user
        if len(self.user) > MAX_USER:
            raise BadRequest(
                f"user is longer than {MAX_USER} characters", code="invalid_value", param="user"
            )
        self.passed = edge.request_headers.block(request.message.raw_headers)
        live = edge.live
        self.offer = offer = live.offer(
            caller, seen.model, self.kind, stream=seen.stream, input_bound=seen.input_bound
        )
        if offer.strict and seen.service_tier in DEARER_TIERS:
            raise BadRequest(
                f"The service tier '{seen.service_tier}' costs more than its price list says,"
                " and a strict budget stands over this key. Leave service_tier out.",
                code="service_tier_unpriced",
                param="service_tier",
            )
        self.attempts = attempts = Attempts(len(offer.places), live.config.edge.max_attempts)
        last: Attempt | None = None
        why = ""
        while True:
            answer = await self._admit()
            if not isinstance(answer, Grant):
                if last is not None:
                    break
                if isinstance(answer, Denied):
                    raise denied_error(answer)
                raise nobody_error(offer, answer)
            attempts.begin(answer.candidate)
            self.current = last = Attempt(
                self, answer, offer.places[answer.candidate], why or answer.why
            )
            ended = await last.run()
            decision = attempts.decide(ended)
            if decision == "done":
                return
            if decision == "next" and monotonic() < self.started_at + edge.total_timeout_s:
                why = f"retry:{ended.outcome}"
                continue
            if ended.committed:
                return
            if decision == "pass_on":
                self._pass_on(last)
                return
            break
        raise failed_error(last, self.failure)

    async def _read(self) -> bytes:
        edge = self.edge
        try:
            body = await read_body(self.request, edge.server.max_body, edge.server.body_timeout_s)
        except TimeoutError:
            self.close = True
            raise BadRequest(
                "The body of the request did not arrive in time.", code="body_timeout", status=408
            ) from None
        except RequestPayloadError:
            self.close = True
            raise BadRequest(
                "The body of the request is framed or compressed wrongly.", code="bad_body"
            ) from None
        if body is None:
            self.close = True
            raise BadRequest(
                f"The body is larger than {edge.server.max_body} bytes (edge.max_body_mb).",
                code="body_too_large",
                status=413,
            )
        return body

    def _unreadable(self, error: BadField) -> BadRequest:
        """Return what to say of a body that was looked at in vain."""
        message = self.request.message
        encoding = message.headers.get("Content-Encoding", "identity").lower()
        if encoding != "identity" and message.compression is None:
            return BadRequest(
                "The content-encoding of the body cannot be read here; send it without.",
                code="unsupported_encoding",
                status=415,
            )
        return BadRequest(error.message, code=error.code, param=error.param)

    async def _admit(self) -> Grant | Denied | Nobody:
        attempts = self.attempts
        seen = self.seen
        edge = self.edge
        embeddings = self.kind == "embeddings"
        ask = Ask(
            self.offer.plan,
            f"{self.request_id}.{attempts.made + 1}",
            input=seen.input_estimate,
            bound=min(seen.input_bound, self.offer.most_input),
            cap=seen.output_cap or 0,
            assumed=0 if embeddings else edge.assumed_output_tokens,
            n=0 if embeddings else seen.n,
            first=attempts.made == 0,
            excluded=tuple(candidate + 1 for candidate in attempts.tried),
            tie=edge.next_tie(),
            user=self.user,
        )
        try:
            return await edge.gate.admit(ask)
        except asyncio.CancelledError:
            # It may have been granted in the very moment in which the caller left.
            edge.gate.abandon(ask)
            raise
        except StoreUnavailable as error:
            raise StoreGone(
                f"Admission is not possible right now: {error}.", retry_after_us=1_000_000
            ) from None

    def _pass_on(self, attempt: Attempt) -> None:
        """Give the caller the upstream's own words about its request."""
        self.status = attempt.status
        body = attempt.refusal
        self.write(
            b"%bcontent-length: %d\r\n\r\n%b" % (attempt._answer_head(), len(body), body)  # noqa: SLF001 - the same file's story
        )

    def refuse(self, error: GatewayError) -> None:
        """Answer with an error, unless an answer has begun."""
        edge = self.edge
        if self.status:
            return
        self.status = error.http_status
        self.refusal = error.metric
        if not self.request.content.is_eof():
            # A body that nobody has read would be taken for the next request's head.
            self.close = True
        edge.metrics.counter("penstock_refusals_total", error.metric).value += 1
        headers = b"x-request-id: %b\r\n" % self.request_id.encode()
        if error.should_retry is not None:
            headers += b"x-should-retry: %b\r\n" % (b"true" if error.should_retry else b"false")
        if error.retry_after_us is not None and error.should_retry is not False:
            us = max(error.retry_after_us, 1000)
            headers += b"retry-after: %d\r\nretry-after-ms: %d\r\n" % (
                -(-us // 1_000_000),
                -(-us // 1000),
            )
        if error.limits:
            headers += limit_headers(error.limits)
        body = error_body(error.message, error.type, error.code, error.param)
        transport = self.client.transport
        if transport is not None:
            transport.write(edge.server.answer(self.status, body, headers, close=self.close))

    def finish(self) -> None:
        """Count the exchange and write its access line."""
        edge = self.edge
        duration = monotonic() - self.started_at
        last = self.current
        status = self.status or 499
        if last is not None and last.ended is not None and last.ended.outcome == "client_left":
            status = 499
        offer: Offer | None = getattr(self, "offer", None)
        if last is not None and offer is not None and status == 200:
            offer.ok.value += 1
            offer.duration.observe(duration)
            edge.added.observe(last.added_us / 1_000_000)
        else:
            edge.metrics.counter(
                "penstock_requests_total",
                self.protocol,
                "unknown" if offer is None else offer.asked,
                str(status),
            ).value += 1
        if edge.access.wanted:
            usage = self.usage
            line: dict[str, Any] = {
                "at_us": edge.unix_us(),
                "request_id": self.request_id,
                "protocol": self.protocol,
                "status": status,
                "outcome": self.refusal,
                "duration_us": int(duration * 1_000_000),
            }
            if offer is not None:
                caller = offer.caller
                line |= {
                    "organization": caller.organization,
                    "team": caller.team,
                    "key": caller.key,
                    "application": caller.application,
                    "model_asked": offer.asked,
                    "stream": self.seen.stream,
                    "attempts": self.attempts.made,
                }
            if last is not None:
                ended = last.ended
                line |= {
                    "outcome": "internal" if ended is None else ended.outcome,
                    "model": last.place.model,
                    "deployment": last.place.id,
                    "reason": last.why,
                    "input_tokens": 0 if usage is None else usage.input_tokens,
                    "output_tokens": 0 if usage is None else usage.output_tokens,
                    "cost_nusd": self.cost_nusd,
                    "ttft_us": int((last.first_at - last.sent_at) * 1e6) if last.first_at else 0,
                    "added_us": last.added_us,
                    "bytes": self.bytes_out,
                }
            edge.access.add(line)

    def cut(self, error: UpstreamError) -> None:
        """End it now: the gateway is going down."""
        if self.current is not None and self.current.connection is not None:
            self.current.connection.fail(error)


async def serve(edge: "Edge", request: Request, kind: Kind) -> Written:
    """Serve one request that may spend money; every way out of here is settled and answered."""
    exchange = Exchange(edge, request, kind)
    edge.exchanges.add(exchange)
    try:
        if edge.draining:
            exchange.refuse(ShuttingDown("This gateway worker is shutting down.", retry_after_us=0))
        else:
            await exchange.run()
    except GatewayError as error:
        exchange.refuse(error)
    except asyncio.CancelledError:
        raise
    except ConnectionError:
        # The caller left while it was still sending.
        exchange.close = True
    except Exception:
        log.exception("exchange %s failed", exchange.request_id)
        exchange.close = True
        exchange.refuse(
            Internal(f"The gateway failed; its log knows more under {exchange.request_id}.")
        )
    finally:
        edge.exchanges.discard(exchange)
        if edge.draining and not edge.exchanges:
            edge.quiet.set()
        exchange.finish()
        # An attempt knows its exchange; without this each request would be a cycle for the collector.
        exchange.current = None
    return edge.server.closing if exchange.close or edge.draining else edge.server.kept


def credential(request: Request) -> str:
    """
    Return the key that the caller presents.

    `Authorization: Bearer`, then `x-api-key`, then `api-key`. Raises `Unauthorized`, and `BadRequest` for more than one of a kind.
    """
    headers = request.message.headers
    for name in ("Authorization", "x-api-key", "api-key"):
        value = headers.get(name)
        if value is None:
            continue
        if len(headers.getall(name)) > 1:
            raise BadRequest(
                f"The header {name} stands twice; send it once.", code="duplicate_header"
            )
        if name == "Authorization":
            scheme, _, value = value.partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthorized(
                    "Send the key as 'Authorization: Bearer KEY'.", code="invalid_api_key"
                )
        return str(value.strip())
    raise Unauthorized(
        "No API key. Send it as 'Authorization: Bearer KEY', 'x-api-key' or 'api-key'.",
        code="missing_api_key",
    )


def limit_headers(limits: tuple[int, ...] | list[int]) -> bytes:
    """Return the `x-ratelimit-*` lines of the tightest limits, none where there is no limit."""
    requests, requests_left, requests_us, tokens, tokens_left, tokens_us = limits
    if requests and tokens:
        return _BOTH_LIMITS % (
            *(requests, requests_left, requests_us // 1_000_000, requests_us % 1_000_000 // 1000),
            *(tokens, tokens_left, tokens_us // 1_000_000, tokens_us % 1_000_000 // 1000),
        )
    if requests:
        return _REQUEST_LIMITS % (
            *(requests, requests_left, requests_us // 1_000_000, requests_us % 1_000_000 // 1000),
        )
    if tokens:
        return _TOKEN_LIMITS % (
            *(tokens, tokens_left, tokens_us // 1_000_000, tokens_us % 1_000_000 // 1000),
        )
    return b""


def denied_error(denied: Denied) -> GatewayError:
    """Return the error for a limit of the caller's."""
    scope = denied.scope.replace(":", " ", 1)
    if denied.what == "budget":
        return BudgetExhausted(
            f"The budget of {scope} for this {denied.period}"
            f" ({denied.limit / 1e9:.2f} USD) is spent or reserved.",
            limits=denied.limits,
        )
    if denied.what == "too_large":
        return QuotaTooSmall(
            f"The request's input is larger than the limit of {scope}:"
            f" {denied.limit} tokens per minute. Send less.",
            code="request_too_large",
            limits=denied.limits,
        )
    unit = {"requests": "requests per minute", "tokens": "tokens per minute"}.get(
        denied.what, "concurrent requests"
    )
    return QuotaExceeded(
        f"The limit of {scope} is reached: {denied.limit} {unit}.",
        code=f"{denied.what}_limit",
        retry_after_us=denied.retry_us or 1_000_000,
        limits=denied.limits,
    )


def nobody_error(offer: Offer, nobody: Nobody) -> GatewayError:
    """Return the error when no candidate can take the call now, with the reason for each."""
    words = "; ".join(
        f"{place.id}: {word}" for place, word in zip(offer.places, nobody.lost, strict=True)
    )
    full = {"requests", "tokens", "model_limit", "throttled", "concurrency"}
    return NoDeployment(
        f"No deployment of '{offer.asked}' can take the request now ({words}).",
        status=429 if set(nobody.lost) <= full else 503,
        retry_after_us=nobody.retry_us or 1_000_000,
        limits=nobody.limits,
    )


def failed_error(last: Attempt | None, failure: str) -> GatewayError:
    """Return the error when every attempt has failed before its first byte."""
    assert last is not None
    assert last.ended is not None
    ended = last.ended
    outcome = ended.outcome
    made = f"{last.number} attempt{'s' if last.number > 1 else ''}"
    if outcome in {"rate_limited", "overloaded"}:
        return UpstreamFailed(
            f"The provider of '{last.place.model}' is at its limit ({made}).",
            code="upstream_rate_limited",
            status=429 if outcome == "rate_limited" else 503,
            retry_after_us=last.cool_us or 1_000_000,
        )
    if outcome == "upstream_refused" and ended.status >= 300:
        passed = ended.status if ended.status in {500, 502, 503, 504} else 502
        return UpstreamFailed(
            f"The provider of '{last.place.model}' answered {ended.status} ({made}).",
            code="upstream_refused",
            status=passed,
            retry_after_us=last.cool_us or None,
        )
    failure = last.place.without_secrets(failure[:FAILURE_CHARS].encode()).decode()
    timed_out = outcome in {"first_byte_timed_out", "idle_timed_out", "total_timed_out"}
    return UpstreamFailed(
        f"The provider of '{last.place.model}' gave no answer ({made}): {failure}.",
        code=outcome,
        status=503 if outcome == "drained" else 504 if timed_out else 502,
    )
