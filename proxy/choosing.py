"""
The choice of a call: what the scorer must know of it, and what is said of its decision.

Only where a policy scores, or where something is wished of the model; other calls take the declared order and pay nothing.
"""

import re
from typing import TYPE_CHECKING, Final
from zlib import crc32

import msgspec

from config.wishes import Wishes
from proxy.errors import BadRequest
from proxy.live import Offer
from proxy.place import Place
from ratelimit.asks import Grant
from routing.classify import classify
from routing.decision import Decision, declared
from routing.scoring import Call, Choice, NoneFits, chosen

if TYPE_CHECKING:
    from proxy.exchange import Exchange

__all__ = ["choose", "decided", "effort_at", "told", "why_of"]

LEVEL_WORDS: Final = ("", "premium", "normal", "economy")
MOST_NAMED: Final = 50
# What stands in a request of any protocol where it holds something else than text. In JSON an unescaped quote is
# never part of a string, so a caller's words are not mistaken for it; and quotes are few, so one look is cheap.
_MEDIA: Final = re.compile(
    rb'"(?:(?P<vision>image_url"|input_image"|images?"|image/)|(?P<audio>input_audio"|audio/)'
    rb'|(?P<video>video_url"|video/)|(?P<pdf>input_file"|file_data"|application/pdf))'
)
# Where a caller says itself how much is to be thought.
_EFFORTS: Final = (
    *(b'"reasoning_effort"', b'"reasoning"', b'"thinking"', b'"enable_thinking"', b'"think"'),
    *(b'"thinkingConfig"', b'"thinking_config"', b'"effort"', b'"chat_template_kwargs"'),
    b'"thinking_budget"',
)
_encode = msgspec.json.Encoder().encode


def choose(exchange: "Exchange", offer: Offer, wishes: Wishes) -> Choice:
    """Rank an offer's candidates for a call. Raises `BadRequest` that lists each, with why it fell out."""
    field = offer.field
    seen = exchange.seen
    facts = exchange.edge.learner.facts
    policy = field.policy
    task, complexity = policy.task or "chat", 0.5
    needs: frozenset[str] = frozenset()
    if policy.scores:
        needs = _needs(exchange)
        exchange.fingerprint = hash(exchange.body)
        if exchange.endpoint.generates:
            found, complexity = classify(
                exchange.body,
                seen.cuts,
                seen.frame,
                tokens=seen.input_estimate,
                messages=seen.messages,
            )
            task = policy.task or found
    pressures = facts.pressures
    call = Call(
        input_tokens=seen.input_estimate,
        cap=seen.output_cap or 0,
        n=seen.n if exchange.endpoint.generates else 0,
        level=exchange.level,
        wishes=wishes,
        task=task,
        complexity=complexity,
        needs=needs,
        pressure=max(
            pressures.get(scope, 0.0)
            for scope in (*offer.plan.scopes, *offer.plan.user_scopes(exchange.user))
        )
        if pressures
        else 0.0,
        draw=crc32(exchange.request_id.encode()) / 2**32,
    )
    try:
        choice = chosen(field, offer.resort, call, facts)
        if choice.effort and _says_effort(seen.frame):
            choice.effort = ""
        return choice
    except NoneFits as none:
        raise BadRequest(
            f"No model of '{offer.asked}' can serve this request as declared: {_listed(none)}.",
            code="none_eligible",
            param="model",
        ) from None


def _says_effort(frame: bytes) -> bool:
    return any(mark in frame for mark in _EFFORTS)


def effort_at(exchange: "Exchange", place: Place, candidate: int) -> str:
    """Return how much the model of a place is to think: as it is offered, else as the policy has it; empty where the call says it itself."""
    if place.effort:
        return "" if _says_effort(exchange.seen.frame) else place.effort
    choice = exchange.choice
    return "" if choice is None else choice.effort_at(candidate)


def _listed(none: NoneFits) -> str:
    words = [f"{model}: {why}" for model, why in none.reasons.items()]
    more = f"; and {len(words) - MOST_NAMED} more" if len(words) > MOST_NAMED else ""
    return "; ".join(words[:MOST_NAMED]) + more


def _needs(exchange: "Exchange") -> frozenset[str]:
    """Return the tags of what a request holds beside text."""
    return frozenset(
        [found.lastgroup for found in _MEDIA.finditer(exchange.body) if found.lastgroup]
    )


# What is said of it...


def why_of(choice: Choice | None, grant: Grant) -> str:
    """Return why a deployment serves a call: by health and load alone, or by its score."""
    if choice is None or not choice.costs or grant.why not in {"order", "load", "only"}:
        return grant.why
    if choice.tiers[grant.candidate]:
        return "next_best"
    return "explored" if choice.explored else "score"


def told(choice: Choice, effort: str) -> bytes:
    """Return what the header `x-penstock-route` says of a choice; `effort` is what was set for the model that serves."""
    policy = choice.field.policy.name
    if not choice.costs:
        return b"; policy=%b" % (b"declared" if policy == "declared" else b"declared (asked)")
    call = choice.call
    return (
        f"; policy={policy}; level={LEVEL_WORDS[call.level]}; task={call.task};"
        f" delta={choice.delta:.3f}; board={choice.version}"
        + (f"; effort={effort}" if effort else "")
        + (f"; cap={choice.cap}" if choice.cap else "")
    ).encode("ascii", "replace")


def decided(exchange: "Exchange", grant: Grant, effort: str) -> str:
    """Return the record of an attempt's decision for the ledger, empty where there was nothing to decide; `effort` as in `told`."""
    offer, choice = exchange.offer, exchange.choice
    if choice is None:
        return declared(offer.decided, grant.candidate, grant.lost) if offer.decided else ""
    call = choice.call
    wishes = call.wishes
    scored = bool(choice.costs)
    return _encode(
        Decision(
            policy=choice.field.policy.name if scored else "declared",
            asked=offer.asked,
            places=tuple(place.id for place in offer.places),
            chosen=grant.candidate,
            lost=grant.lost,
            tiers=tuple(choice.tiers),
            models=choice.scored(),
            level=LEVEL_WORDS[call.level],
            prefer=wishes.prefer,
            task=call.task if scored else "",
            complexity=round(call.complexity * 1000) if scored else 0,
            pressure=round(call.pressure * 1000),
            delta=round(choice.delta * 1000),
            board=choice.version,
            explored=choice.explored,
            effort=effort,
            cap=choice.cap,
        )
    ).decode()
