"""
The choice among models by quality, cost and latency: filter, predict, choose.

Pure: the same field, facts and call give the same choice on every replica.

1. **Filter.** What a caller wishes (tags, price ceiling, regions, pin) leaves the same models out of every call, so it is found once per
   wish (`Field.fit`); what depends on the call (context, modalities, deadline, quality floor) is looked at each time.
2. **Predict.** Quality of a model for a task is what the catalogue or the configuration says, corrected by what was learned
   (`Lesson.corrected`); the odds of a bad answer grow with the complexity of the call.
   Cost is the price times the input, and the output that such calls had at this model.
   Latency is the first byte plus the time per token times that output.
3. **Choose.** The cheapest model whose quality is within δ of the best, and not below the floor; then latency.
   δ comes from the business level and the cost preference, and widens smoothly with the pressure on the caller's budgets.

The others follow as fallbacks: first those that are good enough, by cost, then the rest, the better the earlier.
The ranks become tiers of the ask; health, limits and load are judged on exact shared state by `admit`, which takes the lowest tier
that can serve. Models of the same cost share a tier, where the shorter expected wait wins.

Sources: cost at a given quality as the one knob, RouteLLM (arXiv 2406.18665) and FrugalGPT (arXiv 2305.05176); the pressure of a budget as
the dual variable of its pacing, PILOT (arXiv 2508.21141) and ParetoBandit (arXiv 2604.00136).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from config.wishes import Wishes
from routing.decision import Scored
from routing.kinds import task_of

__all__ = [
    "DELTAS",
    "LEFT_OUT",
    "NO_FACTS",
    "NO_LESSON",
    "UNKNOWN_QUALITY",
    "AtLevel",
    "Call",
    "Choice",
    "Contender",
    "Facts",
    "Field",
    "Fit",
    "Lesson",
    "NoneFits",
    "Policy",
    "blended_nusd",
    "chosen",
    "delta_of",
]

LEFT_OUT = 255
LAST = 254
PREMIUM, NORMAL, ECONOMY = 1, 2, 3
DELTAS: Mapping[int, tuple[float, float]] = MappingProxyType(
    {PREMIUM: (0.03, 0.01), NORMAL: (0.10, 0.05), ECONOMY: (0.25, 0.12)}
)
"""By level: how much quality is given up with a preference for low cost, and for high."""

GAIN = 4.0
"""How many times its δ a call gives up more when its budget is spent."""
PREMIUM_FROM = 0.95
"""Premium calls feel no pressure below this."""
UNKNOWN_QUALITY = 0.5
EASY, HARD = 0.4, 1.6
"""By how much the odds of a bad answer are multiplied, for the simplest call and the most complex one."""
FULL = 0.98
"""Of a context so much is used: what is estimated may be more."""
PRIOR_VOTES = 20.0
"""The catalogue's word weighs as much as so many votes of callers."""
PRIOR_CALLS = 50.0
"""And so many calls without a defect."""
TASK_WEIGHT = 50.0
"""What was learned of a task weighs as much as so many votes, calls or answers of the call's own kind."""
MOST_WISHES = 512
EASY_ENOUGH = 0.6
"""Up to this complexity a policy may have a model think less."""


class Lesson(NamedTuple):
    """
    What was learned of a model at a task, or at a kind of its calls.

    Decayed counts of calls, defects, votes, and the sum of votes (each 0 to 1); mean output tokens, and of how many answers they are known.
    """

    calls: float = 0.0
    defects: float = 0.0
    votes: float = 0.0
    score: float = 0.0
    output: float = 0.0
    answers: float = 0.0

    def corrected(self, prior: float, like: "Lesson | None" = None) -> float:
        """
        Return a quality that was expected, as it is seen now: the mean of a Beta posterior over votes, less the share of defects.

        `like` is what was learned of calls of the same kind, for which this lesson, of the whole task, is what was expected.
        More defects never raise it, a better vote never lowers it.
        """
        voted = (prior * PRIOR_VOTES + self.score) / (PRIOR_VOTES + self.votes)
        spoilt = self.defects / (PRIOR_CALLS + self.calls)
        if like is not None:
            voted = (voted * TASK_WEIGHT + like.score) / (TASK_WEIGHT + like.votes)
            spoilt = (spoilt * TASK_WEIGHT + like.defects) / (TASK_WEIGHT + like.calls)
        # An answer may have a defect of its own and be asked for again: then it counts for more than one.
        return voted * max(1.0 - spoilt, 0.0)

    def expected_output(self, like: "Lesson | None") -> float:
        """Return how many output tokens are to be expected, 0 where nothing is known; `like` as in `corrected`."""
        if like is None or not like.output:
            return self.output
        if not self.output:
            return like.output
        known = like.answers
        return (self.output * TASK_WEIGHT + like.output * known) / (TASK_WEIGHT + known)


NO_LESSON = Lesson()


@dataclass(frozen=True, slots=True)
class Facts:
    """
    What is known of models right now, the same on every replica that has read the same version.

    `lessons` are by model, and then by task or kind, with task '' for all of a model's calls; `ttft_us` and `tpot_us` by model;
    `pressures` by scope, from 0 (in step with the period, or less) to 1 (spent), where they are not 0.
    """

    version: int = 0
    lessons: Mapping[str, Mapping[str, Lesson]] = field(default_factory=dict)
    ttft_us: Mapping[str, float] = field(default_factory=dict)
    tpot_us: Mapping[str, float] = field(default_factory=dict)
    pressures: Mapping[str, float] = field(default_factory=dict)


NO_FACTS = Facts()


@dataclass(frozen=True, slots=True)
class Contender:
    """
    A model as the scorer sees it.

    Prices are nano-USD per thousand tokens and per request; `price_nusd` is the blended price per million tokens, None when unknown;
    `quality` is by task, '' for all others; `places` are the numbers of its deployments in the plan, `regions` and `ids` theirs.
    `lacks` are the tags of what it is known not to take (`vision`, `audio`, `video`, `pdf`).
    """

    model: str
    tags: frozenset[str]
    lacks: frozenset[str]
    quality: Mapping[str, float]
    input: int
    output: int
    request: int
    price_nusd: int | None
    context: int
    max_output: int
    places: tuple[int, ...]
    ids: tuple[str, ...]
    regions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AtLevel:
    """What a policy does for one business level: δ for low and for high, the floor, the ceiling, the caps (0: none)."""

    low: float
    high: float
    min_quality: float = 0.0
    max_price_nusd: int = 0
    max_output: int = 0
    effort: str = ""

    def delta(self, prefer: str) -> float:
        """Return δ for a preference, the middle for none."""
        if prefer == "low":
            return self.low
        return self.high if prefer == "high" else (self.low + self.high) / 2


@dataclass(frozen=True, slots=True)
class Policy:
    """How a route chooses; `assumed_output` in tokens, before anything was learned."""

    name: str = "declared"
    levels: Mapping[int, AtLevel] = field(
        default_factory=lambda: {level: AtLevel(*both) for level, both in DELTAS.items()}
    )
    tags: frozenset[str] = frozenset()
    task: str = ""
    explore: float = 0.0
    assumed_output: int = 1024

    @property
    def scores(self) -> bool:
        """Whether it looks at quality and cost at all."""
        return self.name != "declared"

    @property
    def sets_effort(self) -> bool:
        """Whether it says how much models think."""
        return any(at.effort for at in self.levels.values())


class Call(NamedTuple):
    """
    What is known of a call; `needs` are the tags of what it holds beside text.

    `kind` is as `routing.kinds` says, empty where no policy scores; `cap` is output tokens per choice, 0 when not said; `pressure` is the highest of its caller's.
    `explores`: its turn has come to be led to a model that was seen little; `thinks`: it says itself how much is to be thought.
    """

    input_tokens: int
    cap: int
    n: int
    level: int
    wishes: Wishes
    task: str = "chat"
    complexity: float = 0.5
    needs: frozenset[str] = frozenset()
    pressure: float = 0.0
    explores: bool = False
    thinks: bool = False
    kind: str = ""


class Fit(NamedTuple):
    """What wishes leave: the contenders that are in, the tier of each place by the declared order, and why each other model is out."""

    models: tuple[int, ...]
    tiers: bytes
    reasons: Mapping[int, str]


class NoneFits(Exception):
    """Every contender falls out; `reasons` are words by model, in the field's order."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {why}" for name, why in reasons.items()))
        self.reasons = reasons


class Choice:
    """
    The outcome for a call: the tier of each place, and what it was made from.

    `overflows`: the context of a contender is too small for the call. `told` and `recorded` are for whoever says it again and again.
    """

    __slots__ = (
        *("best", "call", "cap", "costs", "delta", "effort", "explored", "field", "first"),
        *("latencies", "lost", "overflows", "qualities", "recorded", "tiers", "told", "version"),
    )

    def __init__(self, field: "Field", call: Call, tiers: bytes) -> None:
        self.field = field
        self.call = call
        self.tiers = tiers
        self.delta = 0.0
        self.version = 0
        # What the policy sets of the request: an output cap, 0 for none, and how much models that reason think.
        self.cap = 0
        self.effort = ""
        self.first = -1
        self.explored = False
        self.overflows = False
        self.told = b""
        self.recorded = ""
        self.best = 0.0
        self.qualities: Sequence[float] = ()
        self.costs: Sequence[int] = ()
        self.latencies: Sequence[float] = ()
        self.lost: Mapping[int, str] = {}

    def effort_at(self, place: int) -> str:
        """Return how much the model of a place is to think, empty to leave it alone."""
        if self.effort:
            for contender in self.field.contenders:
                if place in contender.places:
                    return self.effort if "reasoning" in contender.tags else ""
        return ""

    def scored(self) -> tuple[Scored, ...]:
        """Return every contender with what was expected of it and why it was not the first."""
        found = []
        for j, contender in enumerate(self.field.contenders):
            lost = self.lost.get(j, "")
            if not self.costs:
                found.append(Scored(contender.model, lost=lost))
                continue
            if not lost and j != self.first:
                line = self.best - self.delta
                lost = "quality" if self.qualities[j] < line else "cost"
                if self.explored and lost == "cost":
                    lost = "explored_another"
            found.append(
                Scored(
                    contender.model,
                    round(self.qualities[j] * 1000),
                    int(self.costs[j]),
                    int(self.latencies[j]),
                    lost,
                )
            )
        return tuple(found)


class _View(NamedTuple):
    """A field at one version of the facts, for one kind of calls: lists by contender."""

    bad: list[float]
    base: list[float]
    outputs: list[float]
    ttft: list[float]
    latency: list[float]
    seen: list[float]


class Field:
    """The contenders behind a name, prepared once per configuration; what follows from wishes and facts is kept as long as they last."""

    __slots__ = (
        *("_facts", "_fits", "_places", "_rows", "_views"),
        *("contenders", "declared", "policy"),
    )

    def __init__(
        self, contenders: Sequence[Contender], policy: Policy, declared: Sequence[int]
    ) -> None:
        """Prepare them; `declared` is the tier of each place in the declared order."""
        self.contenders = tuple(contenders)
        self.policy = policy
        self.declared = bytes(min(tier, LAST) for tier in declared)
        self._rows = [
            (c.input, c.output, c.request, c.context * FULL, c.max_output) for c in self.contenders
        ]
        self._places = [c.places for c in self.contenders]
        self._fits: dict[tuple[Wishes, frozenset[str], int], Fit] = {}
        self._views: dict[str, _View] = {}
        self._facts: Facts | None = None

    # What wishes leave.

    def fit(self, wishes: Wishes, needs: frozenset[str] = frozenset(), level: int = 0) -> Fit:
        """Return what wishes, a call's content, and the policy's ceiling for a level leave. Raises `NoneFits`."""
        key = (wishes, needs, level)
        found = self._fits.get(key)
        if found is None:
            found = self._fitting(wishes, needs, level)
            if len(self._fits) >= MOST_WISHES:
                self._fits.clear()
            self._fits[key] = found
        if not found.models:
            raise NoneFits(self._named(found.reasons))
        return found

    def _named(self, reasons: Mapping[int, str]) -> dict[str, str]:
        return {self.contenders[j].model: why for j, why in sorted(reasons.items())}

    def _fitting(self, wishes: Wishes, needs: frozenset[str], level: int) -> Fit:
        at = self.policy.levels.get(level) if self.policy.scores else None
        ceiling = wishes.under(at.max_price_nusd if at is not None else 0)
        tiers = bytearray(self.declared)
        models, reasons = [], {}
        for j, contender in enumerate(self.contenders):
            places, why = _suitable(contender, wishes, self.policy.tags, needs, ceiling)
            for place in contender.places:
                if place not in places:
                    tiers[place] = LEFT_OUT
            if why:
                reasons[j] = why
            else:
                models.append(j)
        return Fit(tuple(models), bytes(tiers), reasons)

    # What is expected.

    def _view(self, facts: Facts, kind: str) -> _View:
        if facts is not self._facts:
            self._views.clear()
            self._facts = facts
        found = self._views.get(kind)
        if found is None:
            found = self._views[kind] = self._looked(facts, kind)
        return found

    def _looked(self, facts: Facts, kind: str) -> _View:
        base, outputs, seen = [], [], []
        task = task_of(kind)
        for c in self.contenders:
            lessons = facts.lessons.get(c.model, {})
            own = lessons.get(task, NO_LESSON)
            like = lessons.get(kind) if kind != task else None
            overall = lessons.get("", NO_LESSON)
            prior = c.quality.get(task, c.quality.get("", UNKNOWN_QUALITY))
            base.append(own.corrected(prior, like))
            output = (
                own.expected_output(like) or overall.output or float(self.policy.assumed_output)
            )
            outputs.append(min(output, c.max_output))
            seen.append(own.calls)
        return _View(
            [1.0 - quality for quality in base],
            base,
            outputs,
            [facts.ttft_us.get(c.model, 0.0) for c in self.contenders],
            [
                facts.ttft_us.get(c.model, 0.0) + facts.tpot_us.get(c.model, 0.0) * output
                for c, output in zip(self.contenders, outputs, strict=True)
            ],
            seen,
        )

    # The choice.

    def choose(self, call: Call, facts: Facts) -> Choice:
        """Rank the contenders for a call. Raises `NoneFits`."""
        fit = self.fit(call.wishes, call.needs, call.level)
        if not self.policy.scores or call.wishes.routing == "declared":
            plain = Choice(self, call, fit.tiers)
            plain.lost = fit.reasons
            return plain
        at = self.policy.levels[call.level]
        view = self._view(facts, call.kind)
        harder = EASY + (HARD - EASY) * call.complexity
        tokens, cap, n = call.input_tokens, call.cap or at.max_output, call.n
        floor = max(at.min_quality, call.wishes.min_quality)
        bad, base, outputs = view.bad, view.base, view.outputs
        count = len(self.contenders)
        qualities, costs = [0.0] * count, [0] * count
        lost: dict[int, str] | None = None
        eligible = []
        overflows = False
        best = 0.0
        for j in fit.models:
            price_in, price_out, request, context, most = self._rows[j]
            output = outputs[j]
            if cap and output > cap:
                output = cap
            quality = 1.0 - bad[j] * harder
            qualities[j] = max(0.0, quality)
            costs[j] = int((tokens * price_in + output * n * price_out) / 1000) + request
            if tokens + (min(cap, most) if cap else output) > context:
                if lost is None:
                    lost = {}
                lost[j] = f"its context holds {int(context / FULL)} tokens"
                overflows = True
            elif base[j] < floor:
                if lost is None:
                    lost = {}
                lost[j] = f"its quality is {base[j]:.2f}, and at least {floor:.2f} is asked for"
            else:
                eligible.append(j)
                best = max(best, quality)
        if not eligible:
            raise NoneFits(self._named({**fit.reasons, **(lost or {})}))
        choice = Choice(self, call, b"")
        latencies = view.latency
        if call.wishes.deadline_ms:
            eligible, best, lost = self._in_time(call, view, eligible, qualities, lost)
        delta = delta_of(at, call.level, call.wishes.prefer, call.pressure)
        line = best - delta - 1e-12
        good = sorted(
            [(costs[j], latencies[j], j) for j in eligible if qualities[j] >= line],
        )
        explored = (
            call.explores
            and call.level != PREMIUM
            and call.wishes.routing == "full"
            and len(good) > 1
        )
        first = good[0][2]
        if explored:
            # The one that was seen least, by now; the cheaper one of equals.
            first = min(good, key=lambda one: view.seen[one[2]])[2]
        rest = (
            sorted([(-qualities[j], costs[j], j) for j in eligible if qualities[j] < line])
            if len(good) < len(eligible)
            else []
        )
        choice.tiers = self._tiers(fit, first, good, rest)
        if at.max_output and not call.cap and call.n:
            choice.cap = at.max_output
        if at.effort and not call.thinks and call.complexity <= EASY_ENOUGH:
            choice.effort = at.effort
        choice.first, choice.explored, choice.overflows = first, explored, overflows
        choice.best, choice.delta, choice.version = best, delta, facts.version
        choice.qualities, choice.costs, choice.latencies = qualities, costs, latencies
        choice.lost = {**fit.reasons, **lost} if lost else fit.reasons
        return choice

    def _in_time(
        self,
        call: Call,
        view: _View,
        eligible: list[int],
        qualities: list[float],
        lost: dict[int, str] | None,
    ) -> tuple[list[int], float, dict[int, str]]:
        """Leave those out that begin too late, unless all of them do."""
        deadline = call.wishes.deadline_ms * 1000
        quick = [j for j in eligible if view.ttft[j] <= deadline]
        found = dict(lost or {})
        if quick and len(quick) < len(eligible):
            for j in set(eligible).difference(quick):
                found[j] = f"it begins after {view.ttft[j] / 1000:.0f} ms"
            eligible = quick
        return eligible, max(qualities[j] for j in eligible), found

    def _tiers(
        self,
        fit: Fit,
        first: int,
        good: list[tuple[int, float, int]],
        rest: list[tuple[float, int, int]],
    ) -> bytes:
        """Return the tier of each place: the first, then those that are good enough by cost, then the rest by quality."""
        tiers = bytearray(b"\xff" * len(self.declared))
        allowed = fit.tiers
        places = self._places
        rank = 0
        for place in places[first]:
            if allowed[place] != LEFT_OUT:
                tiers[place] = 0
        before = next(cost for cost, _, j in good if j == first)
        for cost, _, j in good:
            if j == first:
                continue
            if cost != before:
                before = cost
                if rank < LAST:
                    rank += 1
            for place in places[j]:
                if allowed[place] != LEFT_OUT:
                    tiers[place] = rank
        for _, _, j in rest:
            if rank < LAST:
                rank += 1
            for place in places[j]:
                if allowed[place] != LEFT_OUT:
                    tiers[place] = rank
        return bytes(tiers)


def chosen(field: Field, resort: Field | None, call: Call, facts: Facts) -> Choice:
    """Rank the contenders for a call, and behind them those that serve only when none of them can. Raises `NoneFits`."""
    if resort is None:
        return field.choose(call, facts)
    behind = _behind(resort, call, field.policy)
    try:
        choice = field.choose(call, facts)
    except NoneFits:
        if all(tier == LEFT_OUT for tier in behind):
            raise
        return Choice(field, call, bytes([LEFT_OUT]) * len(field.declared) + behind)
    choice.tiers += behind
    return choice


def _behind(resort: Field, call: Call, policy: Policy) -> bytes:
    """Return the tiers of a last resort: behind all others, but for what the call's wishes or the policy's ceiling leave out."""
    wishes = call.wishes
    ceiling = policy.levels[call.level].max_price_nusd if policy.scores else 0
    if ceiling:
        wishes = replace(wishes, max_price_nusd=wishes.under(ceiling))
    try:
        tiers = resort.fit(wishes, call.needs, call.level).tiers
    except NoneFits:
        return bytes([LEFT_OUT]) * len(resort.declared)
    return bytes([LEFT_OUT if tier == LEFT_OUT else LAST for tier in tiers])


def _suitable(
    contender: Contender,
    wishes: Wishes,
    tags: frozenset[str],
    needs: frozenset[str],
    ceiling: int,
) -> tuple[tuple[int, ...], str]:
    """Return the places of a contender that wishes leave, and why there is none."""
    missing = (wishes.capabilities | tags) - contender.tags
    if missing:
        return (), f"it has no tag {', '.join(sorted(missing))}"
    lacking = needs & contender.lacks
    if lacking:
        return (), f"the request needs {', '.join(sorted(lacking))}"
    if ceiling:
        if contender.price_nusd is None:
            return (), "its price is unknown, and there is a price ceiling"
        if contender.price_nusd > ceiling:
            return (), (
                f"it costs {_usd(contender.price_nusd)} USD per million tokens,"
                f" and {_usd(ceiling)} is the ceiling"
            )
    prior = contender.quality.get("", UNKNOWN_QUALITY)
    if wishes.min_quality and not contender.quality:
        return (), f"its quality is not known, and at least {wishes.min_quality:.2f} is asked for"
    if wishes.min_quality and max(contender.quality.values(), default=prior) < wishes.min_quality:
        best = max(contender.quality.values())
        return (), f"its quality is {best:.2f}, and at least {wishes.min_quality:.2f} is asked for"
    places = contender.places
    if wishes.pin and wishes.pin != contender.model:
        places = tuple(
            place for place, id_ in zip(places, contender.ids, strict=True) if id_ == wishes.pin
        )
        if not places:
            return (), f"the call is pinned to {wishes.pin!r}"
    if wishes.regions:
        region_of = dict(zip(contender.places, contender.regions, strict=True))
        places = tuple(
            place
            for place in places
            if all(region_of[place] in allowed for allowed in wishes.regions)
        )
        if not places:
            said = sorted({region or "an unknown region" for region in contender.regions})
            return (), f"it runs in {', '.join(said)}, where the data may not go"
    return places, ""


def delta_of(at: AtLevel, level: int, prefer: str, pressure: float) -> float:
    """Return how much quality a call gives up: its level's share, widened by the pressure on its budgets, by premium calls last."""
    felt = pressure
    if level == PREMIUM:
        felt = max(0.0, (pressure - PREMIUM_FROM) / (1.0 - PREMIUM_FROM))
    return min(at.delta(prefer) * (1.0 + GAIN * felt), 1.0)


def blended_nusd(input_nusd_per_ktok: int, output_nusd_per_ktok: int) -> int:
    """Return the price of a million tokens in nano-USD, three of input for one of output, as price comparisons reckon."""
    return (3 * input_nusd_per_ktok + output_nusd_per_ktok) * 1000 // 4


def _usd(nusd: int) -> str:
    return f"{nusd / 1e9:.6f}".rstrip("0").rstrip(".")
