"""
The end of an attempt: what it used, what that costs, and the one entry of the ledger.

`finish` is called from wherever an attempt ends, and does its work once.
It settles off the caller's path: the gate takes the settlement, and nobody waits for the store.
"""

from time import monotonic
from typing import TYPE_CHECKING, Final

import msgspec

from proxy.attempts import Ended, health_of
from proxy.choosing import decided
from proxy.learning import defect_seen
from proxy.wire.meter import Usage
from proxy.wire.units import used
from proxy.wire.vendor_limits import Left
from ratelimit.asks import Settlement
from routing.rates import cost_nusd
from store.clock import EPOCH_US

if TYPE_CHECKING:
    from proxy.relay import Attempt

__all__ = ["OPAQUE", "REFUSED", "STREAM", "WAITING", "WHOLE", "finish"]

MOST_NUSD: Final = 1 << 52

# What the ledger says of an attempt that used nothing but tokens.
NO_UNITS: Final = (0,) * 7

# What an answer is, in the order in which an attempt learns it.
WAITING, REFUSED, WHOLE, STREAM, OPAQUE = range(5)

_ENTRY: Final = msgspec.msgpack.Encoder()


def finish(attempt: "Attempt", ended: Ended, usage: Usage | None = None) -> None:
    """Settle, count, and say so: the one end of an attempt."""
    if attempt.ended is not None:
        return
    exchange = attempt.exchange
    edge = exchange.edge
    offer = exchange.offer
    place = attempt.place
    grant = attempt.grant
    now = monotonic()
    outcome = ended.outcome
    meter = attempt.meter
    source = "provider"
    if meter is not None:
        edge.streams.discard(attempt)
        usage = meter.usage
    if usage is None or (outcome != "ok" and meter is not None):
        usage, source = _estimate(attempt, ended, usage)
    sold = exchange.seen.sold
    if sold is not None and source != "none":
        size = attempt.held_bytes if attempt.mode == OPAQUE else 0
        if used(
            sold,
            usage,
            complete=outcome == "ok",
            size=size,
            by_token=place.rates.sells_tokens,
        ):
            source = "estimated"
    # Beyond this a number of the store's is no longer exact, and no vendor's count is true.
    cost = min(cost_nusd(place.rates, usage), MOST_NUSD)
    sent_at = attempt.sent_at
    ttft_us = int((attempt.first_at - sent_at) * 1_000_000) if attempt.first_at else 0
    duration_us = int((now - exchange.started_at) * 1_000_000)
    request_id = exchange.request_id
    attempt_id = f"{request_id}.{attempt.number}"
    caller = offer.caller
    label = offer.experiments[grant.candidate]
    defect: float | None = 0.0
    if label and outcome == "ok":
        defect = None if attempt.kept and edge.learner.has_read_enough else defect_seen(attempt)
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
            cool_us=attempt.cool_us,
            streamed=attempt.reported,
            user=exchange.user,
            kind=exchange.kind,
            left=None
            if attempt.left is None
            else _left_now(attempt.left, int((now - attempt.left_at) * 1_000_000)),
            # The order is the ledger's.
            entry=_ENTRY.encode(
                (
                    attempt_id,
                    request_id,
                    attempt.number,
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
                    attempt.status,
                    source,
                    attempt.why,
                    1 if exchange.seen.stream else 0,
                    exchange.endpoint.word,
                    edge.replica,
                    attempt.added_us,
                    decided(exchange, grant, attempt.effort),
                    *(units_of(usage) if usage.units is not None else NO_UNITS),
                    label,
                    round(1000 * (defect or 0.0)),
                )
            ),
        )
    )
    # Not before: what a fault of ours keeps from the books is settled by whoever hears of it, as "internal".
    attempt.ended = ended
    if attempt.kept:
        edge.learner.let_go(attempt, outcome)
    exchange.cost_nusd += cost
    exchange.usage = usage
    if exchange.choice is not None and edge.learner.wants(exchange):
        if outcome == "ok" and not label:
            defect = defect_seen(attempt)
        edge.learner.note(attempt, ended, usage, defect, now)
    tally = place.tally
    if outcome == "ok":
        tally.ok.value += 1
    else:
        edge.metrics.counter("penstock_attempts_total", place.model, place.id, outcome).value += 1
    tally.cost.value += cost
    tally.input.value += usage.input_tokens
    tally.output.value += usage.output_tokens
    if usage.cached_tokens:
        tally.cached.value += usage.cached_tokens
    if usage.reasoning_tokens:
        tally.reasoning.value += usage.reasoning_tokens
    if attempt.first_at and attempt.mode != REFUSED:
        tally.ttft.observe(attempt.first_at - sent_at)
        if attempt.mode == STREAM and attempt.reads > 1:
            tally.between.observe((now - attempt.first_at) / (attempt.reads - 1))
    if not attempt.done.done():
        attempt.done.set_result(ended)


def _estimate(attempt: "Attempt", ended: Ended, reported: Usage | None) -> tuple[Usage, str]:
    """
    Return what is charged when the provider did not say, or did not come to the end.

    A request that a vendor may have worked on is charged its input and what came back of the output.
    One that was refused, or never arrived, costs nothing.
    """
    if (
        ended.outcome in {"connect_failed", "void"}
        or not attempt.sent_at
        or (attempt.mode == REFUSED)
    ):
        return Usage(), "none"
    output = 0
    if attempt.meter is not None:
        output = attempt.meter.output_tokens
    elif attempt.said >= 0:
        output = attempt.said
    elif attempt.committed and attempt.way.endpoint.generates:
        output = -(-attempt.exchange.bytes_out // 4)
    if reported is not None:
        # A vendor that reports as it goes: its last word, and never less than was seen.
        source = "provider" if reported.output_tokens >= output else "estimated"
        reported.output_tokens = max(reported.output_tokens, output)
        return reported, source
    return Usage(
        input_tokens=attempt.exchange.seen.input_estimate, output_tokens=output
    ), "estimated"


def _left_now(left: Left, past_us: int) -> Left:
    """Return what the vendor still lets pass as it is now; `left` is what it said `past_us` ago."""
    requests, lasts_us, tokens, tokens_last_us = left
    return requests, max(lasts_us - past_us, 0), tokens, max(tokens_last_us - past_us, 0)


def units_of(usage: Usage) -> tuple[int, ...]:
    """Return what was used that is not sold by the token, in the ledger's order."""
    units = usage.units
    if units is None:
        return NO_UNITS
    return (
        units.images,
        usage.image_input_tokens,
        usage.image_output_tokens,
        units.audio_input_us,
        units.audio_output_us,
        units.characters,
        units.search_units,
    )
