"""
Why a call went where it went: every candidate of each of its attempts, with its scores and the reason it lost.

It is read from the ledger's entries alone (`decision`), so that it can be told of any call that is still in the books,
whatever the configuration says by now.

A candidate of an attempt is

- `chosen`, with the reason that the entry gives;
- out `before` admission: its model fell out of what the call wishes, or of what the call is;
- out `at` admission: limits, health or budgets on the shared state left it out at that moment;
- ranked `behind` the chosen one: it could have served, and another one was better by quality, by cost or by the declared order;
- `beside` the chosen one: as good, and the chosen one had less load.

Sans-io and pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from routing.decision import Decision, MalformedDecision, Scored, read

__all__ = ["Attempt", "Candidate", "Explanation", "explain"]

FEASIBLE = "feasible"
LEFT_OUT = 255

_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "drained": "it is drained",
        "cooling": "it failed and is left alone for a while",
        "half_open": "its breaker lets one trial through at a time, and that is under way",
        "offline": "its probes say that it is offline",
        "concurrency": "as many calls are open there as may be",
        "requests": "its limit of requests is reached",
        "tokens": "its limit of tokens is reached",
        "model_limit": "a limit of its model is reached",
        "provider_limit": "a limit of its provider is reached",
        "budget": "the caller's budget does not cover it",
        "own_budget": "its own budget is spent",
        "tried": "it was tried before, or could not be asked this",
        "throttled": "its vendor asked to be left alone",
        "others_wait": "others waited for it before",
        "unsuitable": "it was left out of this call",
    }
)
_RANKED: Mapping[str, str] = MappingProxyType(
    {
        "quality": "its expected quality is below what the call may give up",
        "cost": "it is good enough, and the chosen one is cheaper",
        "explored_another": "another one was tried out",
    }
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """
    One candidate of an attempt: `fate` is as the module says, `why` in words.

    `tier` is its rank for this call, 0 first, None where it was out; `quality` is from 0 to 1, `cost_nusd` of the whole call,
    `latency_us` to its end; None where nothing was scored.
    """

    deployment: str
    model: str
    fate: str
    why: str
    tier: int | None
    quality: float | None
    cost_nusd: int | None
    latency_us: int | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: what the ledger says of it, what the decision was made from, and its candidates."""

    attempt: int
    deployment: str
    model: str
    reason: str
    outcome: str
    status: int
    cost_nusd: int
    ttft_us: int
    duration_us: int
    experiment: str
    policy: str
    made_from: Mapping[str, Any]
    candidates: tuple[Candidate, ...]
    problem: str = ""
    """Why its decision cannot be read; empty when it can."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A whole call; money in nano-USD."""

    request_id: str
    asked: str
    cost_nusd: int
    attempts: tuple[Attempt, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def explain(
    entries: Iterable[Mapping[str, Any]], words: Mapping[str, str], models: Mapping[str, str]
) -> Explanation | None:
    """
    Explain a call by its entries in their order, None when there are none.

    `words` are those of the signs in `Decision.lost` (`ratelimit.asks.LOST_WORDS`); `models` names the model of a deployment,
    as far as it is known.
    """
    rows = list(entries)
    if not rows:
        return None
    attempts = [row for row in rows if "+" not in row["attempt_id"]]
    return Explanation(
        request_id=rows[0]["request_id"],
        asked=rows[0]["model_asked"],
        cost_nusd=sum(row["cost_nusd"] for row in rows),
        attempts=tuple(_attempt(row, words, models) for row in attempts),
    )


def _attempt(
    row: Mapping[str, Any], words: Mapping[str, str], models: Mapping[str, str]
) -> Attempt:
    problem, found = "", None
    try:
        found = read(row["decision"])
    except MalformedDecision as error:
        problem = str(error)
    known = {**models, row["deployment"]: row["model"]}
    if found is None:
        alone = Candidate(
            row["deployment"], row["model"], "chosen", row["reason"], 0, None, None, None
        )
        policy, made_from, candidates = "declared", {}, [alone]
    else:
        policy, made_from = found.policy, _made_from(found)
        candidates = [
            _candidate(found, place, row["reason"], words, known)
            for place in range(len(found.places))
        ]
    return Attempt(
        attempt=row["attempt"],
        deployment=row["deployment"],
        model=row["model"],
        reason=row["reason"],
        outcome=row["outcome"],
        status=row["status"],
        cost_nusd=row["cost_nusd"],
        ttft_us=row["ttft_us"],
        duration_us=row["duration_us"],
        experiment=row["experiment"],
        policy=policy,
        made_from=made_from,
        candidates=tuple(candidates),
        problem=problem,
    )


def _made_from(found: Decision) -> dict[str, Any]:
    """Return what a scored decision was made from, parts of one as such."""
    if not found.level:
        return {}
    return {
        "level": found.level,
        "prefer_cost": found.prefer,
        "task": found.task,
        "complexity": found.complexity / 1000,
        "budget_pressure": found.pressure / 1000,
        "delta": found.delta / 1000,
        "board": found.board,
        "explored": found.explored,
        "effort": found.effort,
        "cap": found.cap,
    }


def _candidate(
    found: Decision,
    place: int,
    reason: str,
    words: Mapping[str, str],
    models: Mapping[str, str],
) -> Candidate:
    deployment = found.places[place]
    scored = _scored(found, deployment, models)
    tier = found.tiers[place] if place < len(found.tiers) else None
    fate, why = _fate(found, place, reason, words, scored)
    has_score = scored is not None and bool(scored.cost_nusd or scored.quality)
    return Candidate(
        deployment=deployment,
        model=models.get(deployment, scored.model if scored is not None else ""),
        fate=fate,
        why=why,
        tier=None if tier == LEFT_OUT else tier,
        quality=scored.quality / 1000 if scored is not None and has_score else None,
        cost_nusd=scored.cost_nusd if scored is not None and has_score else None,
        latency_us=scored.latency_us if scored is not None and has_score else None,
    )


def _scored(found: Decision, deployment: str, models: Mapping[str, str]) -> Scored | None:
    """Return what was expected of a deployment's model."""
    model = models.get(deployment)
    for each in found.models:
        if each.model == model or (model is None and deployment.startswith(f"{each.model}/")):
            return each
    return None


def _fate(
    found: Decision, place: int, reason: str, words: Mapping[str, str], scored: Scored | None
) -> tuple[str, str]:
    if place == found.chosen:
        return "chosen", reason
    tier = found.tiers[place] if place < len(found.tiers) else None
    said = scored.lost if scored is not None else ""
    if tier == LEFT_OUT:
        return "before", said or _WORDS["unsuitable"]
    word = words.get(found.lost[place], "") if place < len(found.lost) else ""
    if word and word != FEASIBLE:
        return "at", _WORDS.get(word, word)
    best = found.tiers[found.chosen] if found.chosen < len(found.tiers) else None
    if tier is not None and best is not None and tier == best:
        return "beside", "the chosen one is expected to answer sooner at its load"
    if not found.tiers:
        return "behind", "the declared order, or the load, preferred the chosen one"
    return "behind", _RANKED.get(said, said) or "it is ranked behind the chosen one"
