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

`serve` tells it in order; open, commit, relay and settle are the work of an `Attempt` (`proxy.relay`), of which an exchange may make several.
"""

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from aiohttp.http import HttpVersion11

from proxy.attempts import Attempts
from proxy.choosing import choose, why_of
from proxy.declared import (
    LEVELS,
    declares,
    level_of,
    listed_models,
    models_of,
    patience_s,
    wishes_of,
    without_hints,
)
from proxy.errors import (
    BadRequest,
    GatewayError,
    Internal,
    ShuttingDown,
    StoreGone,
)
from proxy.favour import LEAST_TOKENS, favoured
from proxy.hedging import Race, hedged
from proxy.live import Offer
from proxy.observe import AccessLine
from proxy.place import Place
from proxy.reading import body_of, caller_of
from proxy.refusals import degraded_line, failed_error, refused_error, retry_lines
from proxy.relay import Attempt
from proxy.server import Request, Written
from proxy.trials import session_of, unit_of
from proxy.upstream.errors import UpstreamError
from proxy.wire import translate
from proxy.wire.endpoints import Endpoint
from proxy.wire.faults import Fault
from proxy.wire.look import MAX_USER, BadField, Look, check_model
from proxy.wire.meter import Usage
from proxy.wire.units import Sold
from ratelimit.asks import STREAM, TOOLS, WHOLE, Ask, Denied, Grant, Nobody
from ratelimit.troubles import StoreUnavailable
from routing.contenders import UNBOUNDED
from routing.experiments import Arm, Trial
from routing.rates import fee_nusd
from routing.scoring import Choice

if TYPE_CHECKING:
    from config.wishes import Wishes
    from governance.identity import Caller
    from proxy.app import Edge
    from proxy.shadow import Copy

log = logging.getLogger("penstock.edge")

NO_LIMITS: Final = (0, 0, 0, 0, 0, 0)
MAX_CONTENT_TYPE: Final = 512


class Exchange:
    """One client request, from admission to settlement."""

    __slots__ = (
        "attempts",
        "body",
        "bytes_out",
        "choice",
        "chunked",
        "client",
        "close",
        "conversation",
        "cost_nusd",
        "current",
        "edge",
        "endpoint",
        "failure",
        "favoured",
        "fingerprint",
        "kind",
        "level",
        "model",
        "models",
        "offer",
        "passed",
        "race",
        "read_at",
        "refusal",
        "request",
        "request_id",
        "seen",
        "shadow",
        "started_at",
        "status",
        "tie",
        "usage",
        "user",
        "wait_until",
    )

    def __init__(self, edge: "Edge", request: Request, endpoint: Endpoint, model: str = "") -> None:
        self.edge = edge
        self.request = request
        self.client = request.client
        self.endpoint = endpoint
        # The model that the URL names, in protocols whose bodies do not.
        self.model = model
        # What else may serve, where the body says it.
        self.models = ""
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
        self.level = 0
        self.kind = WHOLE
        self.favoured = 0
        self.wait_until = 0.0
        self.cost_nusd = 0
        self.usage: Usage | None = None
        # What is asked, in words of no protocol; where something must be said in another one.
        self.conversation: Any = None
        self.current: Attempt | None = None
        # Attempts that run beside each other; where nobody hedges there is none.
        self.race: Race | None = None
        # How the candidates were ranked for this call; None where nothing but the declared order does.
        self.choice: Choice | None = None
        # Of the request, where a policy scores: what decides among equals, and what tells when the same is sent again.
        self.tie = 0
        self.fingerprint = 0
        # What is copied to another model once this is answered; None for nearly all calls.
        self.shadow: Copy | None = None
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
        endpoint = self.endpoint
        protocol = endpoint.protocol
        # One version for the whole of it: who is calling and what that key may do must not come from two.
        live = edge.live
        caller = caller_of(request, protocol, live.callers)
        body = await self._read()
        self.read_at = monotonic()
        try:
            self.seen = seen = (
                endpoint.look(body) if endpoint.look_form is None else self._look_form(body)
            )
            if self.model:
                check_model(self.model)
                seen.model = self.model
        except BadField as error:
            raise self._unreadable(error) from None
        if seen.hints is not None or (
            seen.frame.find(b'"models"') >= 0 and endpoint.look_form is None
        ):
            body, seen = self._without_declared(body)
        self.body = body
        self.user = seen.user or caller.user
        if len(self.user) > MAX_USER:
            raise BadRequest(
                f"user is longer than {MAX_USER} characters", code="invalid_value", param="user"
            )
        headers = request.message.headers
        self.kind = TOOLS if seen.frame.find(b'"tools"') >= 0 else STREAM if seen.stream else WHOLE
        said = seen.hints is not None or declares(headers)
        self.level = level_of(caller, headers, seen.hints) if said else LEVELS[caller.biz_level]
        wishes = wishes_of(caller, headers, seen.hints) if said else caller.wishes
        patience = patience_s(live.config.edge.queue_timeout_ms / 1000, wishes)
        self.wait_until = self.started_at + patience
        self.passed += edge.request_headers[protocol].block(request.message.raw_headers)
        asked = models_of(seen.model, headers, self.models) if said or self.models else seen.model
        trial = live.trials.get(asked) if live.trials else None
        try:
            self.offer = offer = live.offer(
                caller,
                asked,
                endpoint,
                stream=seen.stream,
                input_bound=seen.input_bound,
                arm=None if trial is None else self._arm(trial, caller, wishes),
                # What one provider keeps is no other one's: such a call has no other resort.
                alone=seen.tied is not None,
            )
        except BadRequest as error:
            if endpoint.estimate is None or error.code != "none_eligible":
                raise
            self._answer_estimate(endpoint.estimate, body)
            return
        if trial is not None and trial.shadow is not None:
            self.shadow = edge.shadows.copy_of(self, trial.shadow, live, wishes)
        self.attempts = attempts = Attempts(
            len(offer.places),
            live.config.edge.max_attempts,
            edge.retries,
            live.config.edge.retry_ratio,
        )
        if offer.decides or wishes is not caller.wishes:
            self.choice = choose(self, offer, wishes)
        if offer.affine and seen.input_estimate >= LEAST_TOKENS:
            tiers = b"" if self.choice is None else self.choice.tiers
            self.favoured = favoured(offer, tiers, seen, body)
        if seen.tied is not None and len({place.provider for place in offer.places}) > 1:
            raise BadRequest(
                f"With {seen.tied} the call goes on from what one provider keeps, and several"
                f" providers serve '{offer.asked}'. Name a model that one provider serves, or"
                " send the conversation itself.",
                code="state_not_shared",
                param=seen.tied,
            )
        if offer.strict and seen.dearer is not None:
            param, value = seen.dearer
            raise BadRequest(
                f"With {param} '{value}' the call costs more than its price list says,"
                f" and a strict budget stands over this key. Leave {param} out.",
                code=f"{param}_unpriced",
                param=param,
            )
        if offer.translates:
            self._translate(endpoint)
        if offer.strict and seen.tied is not None and offer.most_input >= UNBOUNDED:
            raise BadRequest(
                f"With {seen.tied} nobody sees how much input the call brings, and a strict budget"
                f" stands over this key. Send the conversation itself, or have '{offer.asked}' told"
                " its context in the configuration.",
                code="state_unbounded",
                param=seen.tied,
            )
        last: Attempt | None = None
        why = ""
        while True:
            answer = await self.admit()
            if not isinstance(answer, Grant):
                if last is not None:
                    break
                raise refused_error(offer, answer)
            if last is None:
                edge.retries.count(self.read_at)
            attempts.begin(answer.candidate)
            self.current = last = Attempt(
                self,
                answer,
                offer.places[answer.candidate],
                offer.ways[answer.candidate],
                why
                or (
                    "degraded"
                    if answer.candidate in offer.degraded
                    else why_of(self.choice, answer)
                ),
            )
            # Pictures and sound would be made twice, and paid for twice.
            if offer.hedge is None or not seen.stream or seen.sold is not None:
                ended = await last.run()
            else:
                ended, last = await hedged(self, last, offer.hedge)
            if ended.fault:
                self._leave_out(last.place, ended.fault)
            decision = attempts.decide(ended, monotonic())
            if decision == "done":
                if self.shadow is not None and ended.outcome == "ok":
                    copy, self.shadow = self.shadow, None
                    edge.shadows.begin(copy)
                return
            if decision == "next" and monotonic() < self.started_at + edge.total_timeout_s:
                why = f"fallback:{ended.fault}" if ended.fault else f"retry:{ended.outcome}"
                continue
            if ended.committed:
                return
            if decision == "pass_on":
                self._pass_on(last)
                return
            break
        raise failed_error(last, self.failure, in_vain=attempts.all_in_vain)

    def _leave_out(self, refused: Place, fault: Fault) -> None:
        """Ask only those who may take what one has refused: a larger context, another vendor."""
        for candidate, place in enumerate(self.offer.places):
            if not (
                place.holds_more(refused)
                if fault == "context"
                else place.provider != refused.provider
            ):
                self.attempts.leave_out(candidate)

    def _arm(self, trial: Trial, caller: "Caller", wishes: "Wishes") -> Arm | None:
        """Return the arm of the experiment that leads the call; None when none does, or the caller wants none of it."""
        split = trial.split
        # A migration is no trial: it goes its way, but for calls that are pinned.
        if split is None or wishes.pin or (wishes.routing != "full" and not split.schedule):
            return None
        by_session = split.sticky == "session"
        session = session_of(self.request.message.headers, self.body) if by_session else ""
        unit = unit_of(split.sticky, caller, self.user, session, self.request_id)
        return split.arm_of(unit, self.edge.unix_us())

    def _without_declared(self, body: bytes) -> tuple[bytes, Look]:
        """Take out of a body what it says to the gateway alone. Returns the body and the look at it. Raises `BadRequest`."""
        hints = self.seen.hints
        try:
            self.models, body = listed_models(body)
            if hints is not None:
                body = without_hints(body)
            self.seen = seen = self.endpoint.look(body)
        except BadField as error:
            raise self._unreadable(error) from None
        seen.hints = hints
        if self.model:
            seen.model = self.model
        return body, seen

    def _translate(self, endpoint: Endpoint) -> None:
        """
        Read the request for those who speak another protocol, and leave out who cannot be asked it.

        Raises `BadRequest` when nobody can, and names what stands in the way: before anything is admitted.
        """
        ways = self.offer.ways
        problem: BadField | translate.CannotExpress | None = None
        conversation = None
        protocol = endpoint.translation
        assert isinstance(protocol, translate.Protocol)
        try:
            conversation = translate.addressed(
                protocol.read_request(self.body), self.seen.model, stream=self.seen.stream
            )
        except (BadField, translate.CannotExpress) as error:
            problem = error
        self.conversation = conversation
        judged: dict[object, bool] = {}
        for candidate, way in enumerate(ways):
            translation = way.translation
            if translation is None:
                continue
            target = translation.target
            key = (translation.vendor.name, target.dialect.name, target.model)
            if key not in judged:
                judged[key] = conversation is not None
                try:
                    if conversation is not None:
                        translation.write(conversation, 0)
                except translate.CannotExpress as error:
                    problem = error
                    judged[key] = False
            if not judged[key]:
                self.attempts.leave_out(candidate)
        if len(self.attempts.tried) < len(ways):
            return
        if isinstance(problem, BadField):
            raise BadRequest(problem.message, code=problem.code, param=problem.param)
        assert problem is not None
        raise BadRequest(
            f"No provider of '{self.offer.asked}' can be asked this: {problem}",
            code="cannot_express",
            param=problem.param,
        )

    def _look_form(self, body: bytes) -> Look:
        """Look at a body that may be a form; what it is goes upstream with it."""
        assert self.endpoint.look_form is not None
        content_type = self.request.message.headers.get("Content-Type", "application/json")
        if len(content_type) > MAX_CONTENT_TYPE or not content_type.isprintable():
            raise BadField(
                None, "the content-type cannot be used; send a plain one", "invalid_form"
            )
        seen = self.endpoint.look_form(body, content_type)
        self.passed = b"content-type: %b\r\n" % content_type.encode("utf-8", "surrogateescape")
        return seen

    def _fees(self, sold: Sold) -> tuple[int, ...]:
        """Return what the call may cost beside the tokens that the scripts reckon, at each place."""
        return tuple(
            fee_nusd(place.rates, sold.most, sold.output_tokens) for place in self.offer.places
        )

    async def _read(self) -> bytes:
        server = self.edge.server
        try:
            return await body_of(
                self.request, server.max_body, server.body_timeout_s, " (edge.max_body_mb)"
            )
        except BadRequest:
            self.close = True
            raise

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

    async def admit(self, *, may_wait: bool = True) -> Grant | Denied | Nobody:
        """Ask for the next attempt: at whichever candidate was not tried. Raises `StoreGone`."""
        attempts = self.attempts
        seen = self.seen
        edge = self.edge
        generates = self.endpoint.generates
        ask = Ask(
            self.offer.plan,
            f"{self.request_id}.{attempts.made + 1}",
            input=seen.input_estimate,
            bound=min(seen.input_bound, self.offer.most_input),
            cap=seen.output_cap or (0 if self.choice is None else self.choice.cap),
            assumed=edge.assumed_output_tokens if generates else 0,
            n=seen.n if generates else 0,
            first=attempts.made == 0,
            excluded=tuple([candidate + 1 for candidate in attempts.tried])
            if attempts.tried
            else (),
            # Equals take turns; where a policy scores, by the request, so that any replica would take the same.
            tie=edge.next_tie() if self.choice is None else self.tie,
            user=self.user,
            level=self.level,
            may_wait=may_wait and self.wait_until > self.read_at,
            kind=self.kind,
            favoured=self.favoured,
            tiers=b"" if self.choice is None else self.choice.tiers,
            fees=() if seen.sold is None else self._fees(seen.sold),
        )
        try:
            answer = await edge.gate.admit(ask)
            if isinstance(answer, Nobody) and answer.queued:
                answer = await self._wait(ask, answer)
            return answer
        except asyncio.CancelledError:
            # It may have been granted in the very moment in which the caller left.
            edge.gate.abandon(ask)
            raise
        except StoreUnavailable as error:
            raise StoreGone(
                f"Admission is not possible right now: {error}.",
                retry_after_us=1_000_000,
                degraded=error.degraded,
            ) from None

    async def _wait(self, ask: Ask, answer: Nobody) -> Grant | Denied | Nobody:
        """Wait for a place at a full deployment; the wait is not counted as what the gateway adds."""
        edge = self.edge
        begun = monotonic()
        outcome = "left"
        try:
            last = await edge.gate.wait(ask, answer, self.wait_until)
            outcome = "granted" if isinstance(last, Grant) else "refused"
            return last
        finally:
            waited = monotonic() - begun
            self.read_at += waited
            edge.waits[outcome].observe(waited)

    def _pass_on(self, attempt: Attempt) -> None:
        """Give the caller the upstream's own words about its request."""
        self.status, lines, body = attempt.passage.refusal(attempt)
        self.write(
            b"%bcontent-length: %d\r\n\r\n%b"
            % (attempt.answer_head(self.status, lines), len(body), body)
        )

    def _answer_estimate(self, estimate: Callable[[bytes], bytes], body: bytes) -> None:
        """Answer by ourselves what no provider of the model's can: nothing is used, and the header says what it is."""
        try:
            answer = estimate(body)
        except (BadField, translate.CannotExpress) as error:
            code = error.code if isinstance(error, BadField) else "cannot_express"
            raise BadRequest(str(error), code=code, param=error.param) from None
        edge = self.edge
        self.status = 200
        self.refusal = "estimated"
        lines = self.endpoint.protocol.lines(NO_LIMITS, self.request_id, edge.unix_us)
        headers = b"x-request-id: %b\r\nx-penstock-estimated: true\r\n%b" % (
            self.request_id.encode(),
            lines,
        )
        self.write(edge.server.answer(200, answer, headers, close=self.close))

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
        if error.degraded:
            headers += degraded_line(error.degraded)
        headers += retry_lines(error)
        protocol = self.endpoint.protocol
        headers += protocol.lines(error.limits or NO_LIMITS, self.request_id, edge.unix_us)
        body = protocol.error(
            self.status,
            error.message,
            error.type,
            error.code,
            param=error.param,
            request_id=self.request_id,
        )
        self.write(edge.server.answer(self.status, body, headers, close=self.close))

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
                self.endpoint.word,
                "unknown" if offer is None else offer.label,
                str(status),
            ).value += 1
        if edge.access.wanted:
            edge.access.add(self._access_line(status, int(duration * 1_000_000), last, offer))

    def _access_line(
        self, status: int, duration_us: int, last: Attempt | None, offer: Offer | None
    ) -> AccessLine:
        at_us, word = self.edge.unix_us(), self.endpoint.word
        if offer is None:
            return AccessLine(
                at_us, self.request_id, word, status, self.refusal, duration_us, self.bytes_out
            )
        caller = offer.caller
        line = AccessLine(
            at_us,
            self.request_id,
            word,
            status,
            self.refusal,
            duration_us,
            self.bytes_out,
            caller.organization,
            caller.team,
            caller.key,
            caller.application,
            offer.asked,
            self.seen.stream,
            self.attempts.made,
        )
        if last is not None:
            usage = self.usage
            line.outcome = "internal" if last.ended is None else last.ended.outcome
            line.model = last.place.model
            line.deployment = last.place.id
            line.reason = last.why
            line.input_tokens = 0 if usage is None else usage.input_tokens
            line.output_tokens = 0 if usage is None else usage.output_tokens
            line.cost_nusd = self.cost_nusd
            line.ttft_us = int((last.first_at - last.sent_at) * 1e6) if last.first_at else 0
            line.added_us = last.added_us
        return line

    def cut(self, error: UpstreamError) -> None:
        """End it now: the gateway is going down."""
        running = (self.current,) if self.race is None else tuple(self.race.attempts)
        for attempt in running:
            if attempt is not None and attempt.connection is not None:
                attempt.connection.fail(error)


async def serve(
    edge: "Edge",
    request: Request,
    endpoint: Endpoint,
    model: str = "",
    *,
    story: type[Exchange] = Exchange,
) -> Written:
    """Serve one request that may spend money; every way out of here is settled and answered."""
    exchange = story(edge, request, endpoint, model)
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
        if exchange.shadow is not None:
            edge.shadows.forget(exchange.shadow)
        exchange.finish()
        # An attempt knows its exchange; without this each request would be a cycle for the collector.
        exchange.current = None
        exchange.race = None
    return edge.server.closing if exchange.close or edge.draining else edge.server.kept
