"""
What another policy would have chosen: the scorer of the hot path, run on described calls and live facts.

A call is described by somebody, or taken from the ledger with what its decision was made from.
The policy is that of a configuration, live or changed; the facts are the board's, and deployments that cannot serve
right now are passed over as `admit` would.

Where the ledger knows what a call took, its cost elsewhere is told for the same tokens; another model would have
written others. Qualities are the scorer's, for what was chosen and for what would be, by the same facts.
What is left out: load, limits and budgets of the moment, experiments, and trying out.

Sans-io and pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import msgspec

from config.models import Config
from config.routes import Route
from config.wishes import NO_WISHES, Wishes
from routing.alike import Choices, rounded_complexity, rounded_tokens
from routing.contenders import field_of, policy_of
from routing.decision import Scored
from routing.eligibility import Option, Pool, UnknownModel
from routing.kinds import kind_of
from routing.rates import Rates, Tokens, cost_nusd
from routing.scoring import LEFT_OUT, NORMAL, Call, Choice, Facts, Field, NoneFits, Policy

__all__ = ["Described", "Outcome", "Simulator", "Sums", "Was", "summed"]


@dataclass(frozen=True, slots=True)
class Described:
    """
    A call; tokens as the ledger counts them, `output_tokens` None where nobody knows them yet.

    `cap` is output tokens, 0 for none; `level` is 1 premium, 2 normal, 3 economy; `complexity` and `pressure` are from 0 to 1.
    """

    asked: str
    input_tokens: int
    output_tokens: int | None = None
    cap: int = 0
    level: int = NORMAL
    wishes: Wishes = NO_WISHES
    task: str = "chat"
    complexity: float = 0.5
    needs: frozenset[str] = frozenset()
    pressure: float = 0.0


@dataclass(frozen=True, slots=True)
class Was:
    """What a call was: where it went, and what that cost in nano-USD."""

    request_id: str
    model: str
    deployment: str
    cost_nusd: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What would be chosen; `refused` says why nothing would.

    `quality` is from 0 to 1, None when nobody knows it; `cost_nusd` None without a price; `latency_us` 0 when nothing is known;
    `candidates` are every model with its scores and why it lost.
    """

    policy: str
    model: str = ""
    deployment: str = ""
    quality: float | None = None
    cost_nusd: int | None = None
    latency_us: int = 0
    delta: float = 0.0
    board: int = 0
    candidates: tuple[Scored, ...] = ()
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Sums:
    """
    Calls together: how many, of how many the model or the deployment would change, how many would be refused.

    Costs in nano-USD and mean qualities are over those calls only that have both sides (`compared`).
    """

    calls: int
    changed: int
    refused: int
    compared: int
    was_cost_nusd: int
    would_cost_nusd: int
    was_quality: float | None
    would_quality: float | None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Asked:
    options: list[Option]
    choices: Choices
    scoring: Field
    """The same contenders under a policy that scores, to tell what is to be expected of each."""


class Simulator:
    """
    A configuration and the facts of a moment.

    `unavailable` says why deployments cannot serve right now; `most_output` is what a model may give when nobody knows its ceiling.
    """

    def __init__(
        self,
        config: Config,
        at: datetime,
        facts: Facts,
        *,
        most_output: int,
        unavailable: Mapping[str, str],
    ) -> None:
        self._config = config
        self._pool = Pool(config, at)
        self._facts = facts
        self._most_output = most_output
        self._unavailable = unavailable
        self._asked: dict[tuple[str, frozenset[str]], _Asked] = {}

    def would(self, call: Described, models: frozenset[str] = frozenset()) -> Outcome:
        """Return what would be chosen for a call of a key that may ask for `models`, for all where there are none."""
        try:
            asked = self._of(call.asked, models)
        except UnknownModel as unknown:
            return Outcome("", refused=f"the model {str(unknown)!r} does not exist")
        policy = asked.choices.field.policy
        # As an edge knows it: calls that are alike are chosen for once.
        roughly = _call(call, policy.task)._replace(
            input_tokens=rounded_tokens(call.input_tokens),
            complexity=rounded_complexity(call.complexity),
        )
        try:
            choice = asked.choices.choose(roughly, self._facts, call.input_tokens)
        except NoneFits as none:
            return Outcome(policy.name, refused=str(none))
        place = self._place(choice, asked.options)
        if place is None:
            words = {
                option.placed.id: self._unavailable.get(option.placed.id)
                for option in asked.options
            }
            said = "; ".join(f"{name}: {why}" for name, why in words.items() if why)
            return Outcome(policy.name, refused=f"nobody can serve it right now ({said})")
        option = asked.options[place]
        expected = self._expected(asked, call)
        mine = next(
            (each for each in expected if each.model == option.placed.model),
            Scored(option.placed.model),
        )
        return Outcome(
            policy=policy.name,
            model=option.placed.model,
            deployment=option.placed.id,
            quality=self._quality(option, mine),
            cost_nusd=_cost(option.rates, call, mine),
            latency_us=mine.latency_us,
            delta=choice.delta,
            board=self._facts.version,
            candidates=_exact(choice, expected)
            if choice.costs
            else _in_order(choice, expected, option),
        )

    def knows(self, words: str, models: frozenset[str] = frozenset()) -> bool:
        """Whether there is what is asked for."""
        try:
            self._of(words, models)
        except UnknownModel:
            return False
        return True

    def quality_of(self, model: str, call: Described) -> float | None:
        """Return what is to be expected of a model for a call, None where nobody knows."""
        if model not in self._config.models:
            return None
        asked = self._of(model, frozenset())
        expected = self._expected(asked, call)
        return self._quality(asked.options[0], expected[0]) if expected else None

    def _of(self, words: str, models: frozenset[str]) -> _Asked:
        """Return who could serve what is asked for. Raises `UnknownModel`."""
        key = (words, models)
        found = self._asked.get(key)
        if found is None:
            options, route, _ = self._pool.asked(
                words, (lambda name: name in models) if models else (lambda _: True)
            )
            assumed = self._config.edge.assumed_output_tokens
            names = tuple(dict.fromkeys(option.placed.model for option in options))
            scores = policy_of(Route(models=names, policy="cost_quality"), assumed)
            policy = policy_of(route, assumed)
            plain = sum(not option.degraded for option in options)
            scored = options[:plain] if policy.scores and plain else options
            behind = options[len(scored) :]
            found = self._asked[key] = _Asked(
                options,
                Choices(
                    field_of(scored, policy, self._most_output),
                    field_of(behind, Policy(), self._most_output) if behind else None,
                ),
                field_of(options, scores, self._most_output),
            )
        return found

    def _place(self, choice: Choice, options: list[Option]) -> int | None:
        """Return the place that would win: of the lowest tier that can serve the first one, as load cannot be told."""
        free = [
            (tier, place)
            for place, tier in enumerate(choice.tiers)
            if tier != LEFT_OUT
            and options[place].placed.id not in self._unavailable
            and not options[place].placed.deployment.drained
        ]
        return min(free)[1] if free else None

    def _expected(self, asked: _Asked, call: Described) -> tuple[Scored, ...]:
        """Return what is to be expected of each model, whatever the policy does with it."""
        plain = Described(
            call.asked,
            call.input_tokens,
            call.output_tokens,
            call.cap,
            task=call.task,
            complexity=call.complexity,
        )
        try:
            return asked.scoring.choose(
                _call(plain, asked.choices.field.policy.task), self._facts
            ).scored()
        except NoneFits:
            return ()

    def _quality(self, option: Option, expected: Scored) -> float | None:
        return expected.quality / 1000 if option.quality else None


def _exact(choice: Choice, expected: tuple[Scored, ...]) -> tuple[Scored, ...]:
    """Return what a choice was made from, with the costs of the call as it is in place of its like's."""
    costs = {each.model: each.cost_nusd for each in expected}
    return tuple(
        msgspec.structs.replace(each, cost_nusd=costs.get(each.model, each.cost_nusd))
        if each.cost_nusd
        else each
        for each in choice.scored()
    )


def _in_order(choice: Choice, expected: tuple[Scored, ...], chosen: Option) -> tuple[Scored, ...]:
    """Return what is to be expected of each model where the declared order decides; `order` is why the others lose."""
    out = {each.model: each.lost for each in choice.scored()}
    return tuple(
        msgspec.structs.replace(
            each,
            lost=out.get(each.model) or ("" if each.model == chosen.placed.model else "order"),
        )
        for each in expected
    )


def _call(call: Described, task: str) -> Call:
    return Call(
        input_tokens=call.input_tokens,
        cap=call.cap,
        n=1,
        level=call.level,
        wishes=call.wishes,
        task=task or call.task,
        kind=kind_of(task or call.task, call.input_tokens, rounded_complexity(call.complexity)),
        complexity=call.complexity,
        needs=call.needs,
        pressure=call.pressure,
    )


def _cost(rates: Rates | None, call: Described, expected: Scored) -> int | None:
    """Return what a call would cost: at the tokens that it took, or at those that are to be expected."""
    if rates is None:
        return None
    if call.output_tokens is None:
        return expected.cost_nusd
    return cost_nusd(rates, Tokens(call.input_tokens, call.output_tokens))


def summed(rows: Iterable[tuple[Was, float | None, Outcome]]) -> Sums:
    """Sum what was (with its expected quality) beside what would be."""
    calls = changed = refused = compared = was_cost = would_cost = rated = 0
    was_quality = would_quality = 0.0
    for was, quality, would in rows:
        calls += 1
        if would.refused:
            refused += 1
            continue
        changed += (was.model, was.deployment) != (would.model, would.deployment)
        if would.cost_nusd is None:
            continue
        compared += 1
        was_cost += was.cost_nusd
        would_cost += would.cost_nusd
        if quality is not None and would.quality is not None:
            rated += 1
            was_quality += quality
            would_quality += would.quality
    return Sums(
        calls,
        changed,
        refused,
        compared,
        was_cost,
        would_cost,
        was_quality / rated if rated else None,
        would_quality / rated if rated else None,
    )
