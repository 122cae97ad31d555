"""
A realtime session: a WebSocket of the caller's and one of the provider's, joined, metered and governed.

    who       the key: a header, or the subprotocol that browsers have to use
    admit     as any call; the lease lasts as long as the session
    open      the provider's WebSocket first, so that whoever cannot be reached is passed over, then the caller's
    relay     frame by frame, untouched; a slow reader on either side stops the other's writer
    turn      each response is settled when it is done, and the next one is admitted before anything more is served
    end       an event that says why, a close on both sides, and what was metered settled

So every response is an entry of the ledger, a budget that is spent ends the session with a clear event, and a crash forgets what
one turn has not reported yet: progress is reported every two seconds as for streams.

A turn cannot be capped (the caller may ask for as much as it likes), so that a strict budget holds the most that one can cost.
What is sent while no response is under way is part of the next one, which the vendor reports.
aiohttp's WebSockets are used on both sides: a session is far from the hot path.
"""

import asyncio
import contextlib
from time import monotonic
from typing import Any, Final, cast

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web
from aiohttp.http import StreamWriter

from proxy.attempts import Attempts, Ended, outcome_of
from proxy.choosing import choose, why_of
from proxy.declared import level_of, models_of, patience_s, wishes_of
from proxy.errors import BadRequest, GatewayError
from proxy.exchange import Exchange
from proxy.reading import caller_of
from proxy.refusals import failed_error, refused_error
from proxy.relay import Attempt
from proxy.settlement import finish
from proxy.upstream.errors import UpstreamError
from proxy.wire.look import BadField, Look, check_model, uncapped
from proxy.wire.meter import StreamMeter, Units
from proxy.wire.realtime import TurnMeter, error_event, presented
from proxy.wire.units import Sold
from ratelimit.asks import Denied, Grant, voided

# Most of a frame: OpenAI takes 15 MiB of audio at once.
MOST_FRAME: Final = 16 << 20
# The most that a response can hold: the context of OpenAI's realtime models, and their output (API reference).
CONTEXT_TOKENS: Final = 128_000
OUTPUT_TOKENS: Final = 4_096
# For how long the next turn may wait for the last one to be booked, and for a limit that frees by itself; and how often a
# budget is asked again that other calls hold a part of.
BOOKED_WITHIN_S: Final = 1.0
WAIT_S: Final = 10.0
BUDGET_ASKS: Final = 3
PAUSE_S: Final = 0.05
CLOSE_S: Final = 2.0
# Close codes that a peer may send (RFC 6455, 7.4).
_ORDERLY: Final = frozenset({1000, 1001})
_UNSENDABLE: Final = frozenset({1005, 1006, 1015})


class Turn(Attempt):
    """One response of a session, from its admission to its settlement."""

    __slots__ = ("turn",)

    def __init__(self, session: "Session", grant: Grant, candidate: int, why: str) -> None:
        offer = session.offer
        super().__init__(session, grant, offer.places[candidate], offer.ways[candidate], why)
        self.turn = TurnMeter()
        self.sent_at = monotonic()

    def begin(self) -> None:
        """Meter it from now on, and report how far it is."""
        self.status = 101
        # To whoever settles and reports it looks the same.
        self.meter = cast("StreamMeter", self.turn)
        self.exchange.edge.streams.add(self)

    def conclude(self, ended: Ended) -> None:
        """Settle it, once; a later turn in which nothing happened is given back as if it had never been."""
        if self.ended is not None:
            return
        turn = self.turn
        self.exchange.seen.input_estimate += int(turn.heard)
        if self.number > 1 and not (turn.active or turn.done):
            self.ended = ended
            edge = self.exchange.edge
            edge.streams.discard(self)
            user = self.exchange.user
            plan = self.exchange.offer.plan
            boot, attempt = self.grant.boot, self.attempt_id
            edge.gate.settle(voided(plan, boot, attempt, user, streamed=self.reported))
            return
        finish(self, ended)
        if turn.reported is not None:
            # The next response reads all of it again.
            self.exchange.seen.input_estimate = (
                turn.reported.input_tokens + turn.reported.output_tokens
            )


class Session(Exchange):
    """One session, from the first look to the last settlement."""

    __slots__ = ("_cut", "_heard_at", "_may_speak", "_turn", "_vendor", "_ws")

    async def run(self) -> None:
        """Tell the story up to the close of the caller's socket. Raises `GatewayError` before it is open."""
        edge = self.edge
        self.close = True
        self._cut: asyncio.Future[UpstreamError] = edge.loop.create_future()
        request = self.request
        headers = request.message.headers
        offered = ",".join(headers.getall("Sec-WebSocket-Protocol", ())).split(",")
        key, protocols, beta = presented(offered)
        live = edge.live
        caller = caller_of(request, self.endpoint.protocol, live.callers, key)
        ws = web.WebSocketResponse(
            protocols=protocols, compress=False, max_msg_size=MOST_FRAME, timeout=CLOSE_S
        )
        theirs = web.BaseRequest(
            request.message,
            request.content,
            request.client,
            StreamWriter(request.client, edge.loop),
            cast("asyncio.Task[None]", asyncio.current_task()),
            edge.loop,
        )
        if not ws.can_prepare(theirs).ok:
            raise BadRequest(
                "This route takes WebSockets only; ask for an upgrade.",
                code="upgrade_required",
                status=426,
            )
        model = request.message.url.query.get("model", "")
        try:
            check_model(model)
        except BadField as error:
            raise BadRequest(error.message, code=error.code, param=error.param) from None
        self.user = caller.user
        self.level = level_of(caller, headers, None)
        wishes = wishes_of(caller, headers, None)
        patience = patience_s(live.config.edge.queue_timeout_ms / 1000, wishes)
        self.wait_until = self.started_at + patience
        self.seen = seen = _look(model)
        self.offer = offer = live.offer(
            caller,
            models_of(model, headers),
            self.endpoint,
            stream=True,
            input_bound=CONTEXT_TOKENS,
        )
        self.attempts = Attempts(len(offer.places), live.config.edge.max_attempts)
        if offer.decides or wishes is not caller.wishes:
            self.choice = choose(self, offer, wishes)
        self.passed = edge.request_headers[self.endpoint.protocol].block(
            request.message.raw_headers
        )
        self._may_speak = asyncio.Event()
        self._may_speak.set()
        self._vendor = await self._open(beta)
        seen.input_estimate = 0
        try:
            await self._serve(ws, theirs)
        finally:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CLOSE_S):
                    await self._vendor.close()

    def refuse(self, error: GatewayError) -> None:
        """Answer with an error, unless the socket is open."""
        if self.status != 101:
            super().refuse(error)

    def cut(self, error: UpstreamError) -> None:
        """End it now: the gateway is going down."""
        if not self._cut.done():
            self._cut.set_result(error)

    # Opening...

    async def _open(self, beta: str) -> aiohttp.ClientWebSocketResponse:
        """Admit the session, and connect to the first candidate that takes it. Raises `GatewayError`."""
        attempts = self.attempts
        last: Turn | None = None
        why = ""
        while True:
            answer = await self.admit()
            if not isinstance(answer, Grant):
                if last is not None:
                    break
                raise refused_error(self.offer, answer)
            attempts.begin(answer.candidate)
            self.current = self._turn = last = Turn(
                self, answer, answer.candidate, why or why_of(self.choice, answer)
            )
            try:
                vendor = await self._dial(last, beta)
            except asyncio.CancelledError:
                last.conclude(Ended("client_left"))
                raise
            except aiohttp.WSServerHandshakeError as error:
                last.status = error.status
                ended = Ended(outcome_of(error.status), error.status)
                self.failure = f"it answered {error.status}"
            except TimeoutError:
                ended = Ended("first_byte_timed_out")
                self.failure = "it did not answer in time"
            except (aiohttp.ClientError, OSError) as error:
                ended = Ended("connect_failed")
                self.failure = str(error)
            except Exception:
                last.sent_at = 0.0
                last.conclude(Ended("internal"))
                raise
            else:
                last.begin()
                return vendor
            # It never came to a session: nothing is charged.
            last.sent_at = 0.0
            last.conclude(ended)
            if attempts.decide(ended, monotonic()) != "next":
                break
            why = f"retry:{ended.outcome}"
        raise failed_error(last, self.failure, in_vain=attempts.all_in_vain)

    async def _dial(self, turn: Turn, beta: str) -> aiohttp.ClientWebSocketResponse:
        place = turn.place
        provider = self.edge.live.config.providers[place.provider]
        headers = self.edge.live.headers_to(place.provider)
        for line in self.passed.decode("latin-1").split("\r\n"):
            name, colon, value = line.partition(": ")
            if colon:
                headers[name] = value
        if beta:
            headers.setdefault("openai-beta", beta)
        query = [
            (name, value)
            for name, value in self.request.message.url.query.items()
            if name not in {"model", "key"}
        ]
        async with asyncio.timeout(place.connect_timeout_s + place.timeouts.first_byte_s):
            return await self.edge.outside.ws_connect(
                provider.base_url.rstrip("/") + self.endpoint.path,
                params=[("model", place.upstream_name), *query],
                headers=headers,
                ssl=place.origin.ssl_context or True,
                max_msg_size=MOST_FRAME,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
            )

    # Relaying...

    async def _serve(self, ws: web.WebSocketResponse, theirs: web.BaseRequest) -> None:
        turn = self._turn
        turn.added_us = int((monotonic() - self.read_at) * 1_000_000)
        self._ws = ws
        # Else aiohttp would say which versions of what run here.
        ws.headers["server"] = "penstock"
        ws.headers["x-request-id"] = self.request_id
        ws.headers["x-penstock-deployment"] = turn.place.id
        ws.headers["x-penstock-model"] = turn.place.model
        ended = Ended("internal", 101, committed=True)
        try:
            await ws.prepare(theirs)
            self.status = 101
            ended = await self._relay()
        except asyncio.CancelledError:
            ended = self._left()
            raise
        except GatewayError as error:
            ended = Ended("ok", 101, committed=True)
            await self._tell(error.message, error.type, error.code, WSCloseCode.POLICY_VIOLATION)
        except ConnectionError:
            ended = self._left()
        finally:
            self._turn.conclude(ended)

    async def _relay(self) -> Ended:
        """Relay until either side has closed, the time is up, or the gateway goes down; say how it ended."""
        edge = self.edge
        idle_s = edge.live.config.edge.realtime_idle_timeout_s
        ends_at = self.started_at + edge.total_timeout_s
        self._heard_at = monotonic()
        from_vendor = edge.loop.create_task(self._from_vendor())
        from_caller = edge.loop.create_task(self._from_caller())
        waits: set[asyncio.Future[Any]] = {from_vendor, from_caller, self._cut}
        try:
            while True:
                now = monotonic()
                due = min(self._heard_at + idle_s, ends_at)
                if now >= due:
                    outcome = "total_timed_out" if now >= ends_at else "idle_timed_out"
                    words = "lasted as long as it may" if now >= ends_at else "was silent too long"
                    ended = self._ended(outcome)
                    await self._tell(f"The session {words}.", "timeout_error", outcome, 1001)
                    return ended
                done, _ = await asyncio.wait(
                    waits, timeout=due - now, return_when=asyncio.FIRST_COMPLETED
                )
                if not done:
                    continue
                if self._cut in done:
                    ended = self._ended("drained")
                    await self._tell(str(self._cut.result()), "api_error", "drained", 1001)
                    return ended
                if from_vendor in done:
                    from_vendor.result()
                    return await self._vendor_closed()
                try:
                    from_caller.result()
                except ConnectionError:
                    # Of the provider's: nobody hears what the caller says.
                    return await self._vendor_closed()
                return self._left()
        finally:
            for task in (from_vendor, from_caller):
                task.cancel()
            await asyncio.gather(from_vendor, from_caller, return_exceptions=True)

    async def _from_vendor(self) -> None:
        """Relay what the vendor says, and settle each response that is done."""
        ws = self._ws
        async for message in self._vendor:
            self._heard_at = monotonic()
            if message.type is WSMsgType.TEXT:
                turn = self._turn
                turn.turn.look(message.data)
                if turn.turn.active and not turn.first_at:
                    turn.first_at = monotonic()
                if turn.turn.done:
                    self._may_speak.clear()
                self.bytes_out += len(message.data)
                await ws.send_str(message.data)
                if turn.turn.done:
                    await self._next_turn()
            elif message.type is WSMsgType.BINARY:
                self.bytes_out += len(message.data)
                await ws.send_bytes(message.data)

    async def _from_caller(self) -> None:
        """Relay what the caller says; while the next turn is not admitted, it waits."""
        vendor = self._vendor
        async for message in self._ws:
            self._heard_at = monotonic()
            await self._may_speak.wait()
            if message.type is WSMsgType.TEXT:
                self._turn.turn.sent(message.data)
                await vendor.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await vendor.send_bytes(message.data)

    async def _next_turn(self) -> None:
        """Settle the response that is done, and admit the next one. Raises `GatewayError` when it may not be."""
        before = self._turn
        failed = before.turn.failed
        before.conclude(Ended("upstream_refused" if failed else "ok", 101, committed=True))
        candidate = before.grant.candidate
        # The vendor keeps the conversation: there is nobody else to go to.
        self.attempts.tried = [each for each in range(len(self.offer.places)) if each != candidate]
        give_up = monotonic() + WAIT_S
        asks = 0
        self.wait_until = 0.0
        # So that a budget which it has spent is seen to be.
        await self.edge.gate.confirmed(self.offer.plan.cell, BOOKED_WITHIN_S)
        while not isinstance(answer := await self.admit(), Grant):
            asks += 1
            for_ever = isinstance(answer, Denied) and answer.what in {"budget", "too_large"}
            if monotonic() > give_up or (for_ever and asks >= BUDGET_ASKS):
                raise refused_error(self.offer, answer)
            # What frees by itself is waited for; between two turns another call may have taken the place.
            wait_s = PAUSE_S if for_ever else answer.retry_us / 1e6
            await asyncio.sleep(min(max(wait_s, PAUSE_S), 1.0))
        self.attempts.made += 1
        self._turn = self.current = turn = Turn(self, answer, candidate, "session")
        turn.begin()
        self._may_speak.set()

    # Ending...

    def _ended(self, outcome: str) -> Ended:
        """Settle the turn, before anybody is told: who is told may be gone the next moment."""
        ended = Ended(outcome, 101, committed=True)
        self._turn.conclude(ended)
        return ended

    def _left(self) -> Ended:
        """Say how a session ended that its caller ended: well, unless a response was under way."""
        active = self._turn.turn.active
        return Ended("client_left" if active else "ok", 101, committed=True)

    async def _vendor_closed(self) -> Ended:
        code = self._vendor.close_code or 1006
        if code in _ORDERLY and not self._turn.turn.active:
            ended = self._ended("ok")
            await self._ws.close(code=code)
            return ended
        ended = self._ended("upstream_lost")
        words = "The provider ended the session before it was complete."
        passed = WSCloseCode.INTERNAL_ERROR if code in _UNSENDABLE | _ORDERLY else code
        await self._tell(words, "upstream_error", "upstream_lost", passed)
        return ended

    async def _tell(self, message: str, type_: str, code: str | None, close: int) -> None:
        """Say why the session ends, and close it; a caller who does not listen is not waited for."""
        with contextlib.suppress(ConnectionError, TimeoutError, RuntimeError):
            async with asyncio.timeout(CLOSE_S):
                await self._ws.send_str(error_event(message, type_, code or type_))
                await self._ws.close(code=close, message=(code or type_).encode())


def _look(model: str) -> Look:
    """Return what is known of a session before it has begun."""
    return uncapped(
        model,
        stream=True,
        input_bound=CONTEXT_TOKENS,
        sold=Sold(most=Units(), likely=Units(), output_tokens=OUTPUT_TOKENS),
    )
