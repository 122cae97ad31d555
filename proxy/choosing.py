"""
The choice of a call: what the scorer must know of it, and what is said of its decision.

Only where a policy scores, or where something is wished of the model; other calls take the declared order and pay nothing.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from zlib import crc32

from config.wishes import Wishes
from proxy.errors import BadRequest
from proxy.live import Offer
from proxy.place import Place
from ratelimit.asks import Grant
from routing.alike import rounded_complexity, rounded_tokens
from routing.classify import classify
from routing.decision import DECLARED, Reasons, record
from routing.kinds import kind_of
from routing.scoring import Call, Choice, NoneFits

if TYPE_CHECKING:
    from proxy.exchange import Exchange

__all__ = ["choose", "decided", "effort_at", "fingerprint_of", "told", "why_of"]

LEVEL_WORDS: Final = ("", "premium", "normal", "economy")
MOST_NAMED: Final = 50
# What stands in a request of any protocol where it holds something else than text. In JSON an unescaped quote is
# never part of a string, so a caller's words are not mistaken for it; and quotes are few, so one look is cheap.
_MEDIA: Final = re.compile(
    rb'"(?:(?P<vision>image_url"|input_image"|images?"|image/)|(?P<audio>input_audio"|audio/)'
    rb'|(?P<video>video_url"|video/)|(?P<pdf>input_file"|file_data"|application/pdf))'
)
# One of these is in each of them.
_MEDIA_CUES: Final = (
    b'"image',
    b'"input_',
    b'"audio',
    b'"video',
    b'"file_data"',
    b'"application/pdf',
)
NOTHING: Final[frozenset[str]] = frozenset()
TOLD_BY: Final = 1 << 15
"""So many bytes at either end of a body tell it from others: a body of megabytes would hold up the loop."""
LONG: Final = 2 * TOLD_BY
# Where a caller says itself how much is to be thought.
_EFFORTS: Final = (
    *(b'"reasoning_effort"', b'"reasoning"', b'"thinking"', b'"enable_thinking"', b'"think"'),
    *(b'"thinkingConfig"', b'"thinking_config"', b'"effort"', b'"chat_template_kwargs"'),
    b'"thinking_budget"',
)


def choose(exchange: "Exchange", offer: Offer, wishes: Wishes) -> Choice:
    """Rank an offer's candidates for a call. Raises `BadRequest` that lists each, with why it fell out."""
    seen = exchange.seen
    body, frame, tokens = exchange.body, seen.frame, seen.input_estimate
    choices = offer.choices
    policy = choices.field.policy
    exchange.tie = tie = crc32(exchange.request_id.encode())
    task, complexity, needs = policy.task or "chat", 0.5, NOTHING
    if policy.scores:
        if not seen.only_words:
            needs = _needs(body)
        exchange.fingerprint = hash(body) if len(body) <= LONG else fingerprint_of(body)
        if exchange.endpoint.generates:
            found, complexity = classify(
                body,
                seen.cuts,
                frame,
                tokens=tokens,
                messages=seen.messages,
                only_words=seen.only_words,
            )
            task = policy.task or found
    facts = exchange.edge.learner.facts
    complexity = rounded_complexity(complexity)
    call = Call(
        rounded_tokens(tokens),
        seen.output_cap or 0,
        seen.n if exchange.endpoint.generates else 0,
        exchange.level,
        wishes,
        task,
        complexity,
        needs,
        _pressure(exchange, offer, facts.pressures) if facts.pressures else 0.0,
        tie < choices.explores_below,
        choices.sets_effort and _says_effort(frame),
        kind_of(task, tokens, complexity) if policy.scores else "",
    )
    try:
        return choices.choose(call, facts, tokens)
    except NoneFits as none:
        raise BadRequest(
            f"No model of '{offer.asked}' can serve this request as declared: {_listed(none)}.",
            code="none_eligible",
            param="model",
        ) from None


def fingerprint_of(body: bytes) -> int:
    """
    Return a hash of a long body, made of its length and its ends.

    Neither end would do: what is asked stands before a long list of tools, and behind a picture.
    """
    return hash((len(body), body[:TOLD_BY], body[-TOLD_BY:]))


def _says_effort(frame: bytes) -> bool:
    return any(mark in frame for mark in _EFFORTS)


def _pressure(exchange: "Exchange", offer: Offer, pressures: Mapping[str, float]) -> float:
    """Return the highest pressure on the budgets of a caller."""
    scopes = (*offer.plan.scopes, *offer.plan.user_scopes(exchange.user))
    return max([pressures.get(scope, 0.0) for scope in scopes])


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


def _needs(body: bytes) -> frozenset[str]:
    """Return the tags of what a request holds beside text."""
    for cue in _MEDIA_CUES:
        if cue in body:
            return frozenset([each.lastgroup for each in _MEDIA.finditer(body) if each.lastgroup])
    return NOTHING


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
    words = choice.told
    if not words:
        words = choice.told = _told(choice).encode("ascii", "replace")
    if effort:
        words += b"; effort=%b" % effort.encode()
    return words + b"; cap=%d" % choice.cap if choice.cap else words


def _told(choice: Choice) -> str:
    policy, call = choice.field.policy.name, choice.call
    if not choice.costs:
        return "; policy=declared" + ("" if policy == "declared" else " (asked)")
    return (
        f"; policy={policy}; level={LEVEL_WORDS[call.level]}; task={call.task};"
        f" delta={choice.delta:.3f}; board={choice.version}"
    )


def decided(exchange: "Exchange", grant: Grant, effort: str) -> str:
    """Return the record of an attempt's decision for the ledger, empty where there was nothing to decide; `effort` as in `told`."""
    offer, choice = exchange.offer, exchange.choice
    if choice is None:
        if len(offer.places) == 1:
            return ""
        return record(offer.decided, grant.candidate, grant.lost, DECLARED)
    ending = choice.recorded
    if not ending:
        ending = choice.recorded = _reasons(choice).ending()
    return record(offer.decided, grant.candidate, grant.lost, ending, effort)


def _reasons(choice: Choice) -> Reasons:
    call = choice.call
    scored = bool(choice.costs)
    return Reasons(
        policy=choice.field.policy.name if scored else "declared",
        tiers=tuple(choice.tiers),
        models=choice.scored(),
        level=LEVEL_WORDS[call.level],
        prefer=call.wishes.prefer,
        task=call.task if scored else "",
        complexity=round(call.complexity * 1000) if scored else 0,
        pressure=round(call.pressure * 1000),
        delta=round(choice.delta * 1000),
        board=choice.version,
        explored=choice.explored,
        cap=choice.cap,
    )
