"""
Which models are dear and underperform, which are cheap and good, and what choosing among them has saved.

Models are compared at the same call: the mean call of a task, billed at each model's own price.
So a model is not dear because it was given the long prompts.
What a model is worth is its quality times the share of its tries that were answered: an answer that does not come is worth nothing.
That share is drawn towards the fleet's until there are enough tries to tell (`SHRINK`), so that one failure of three condemns nobody.

A model is

- `best` when none is worth more;
- `dear` when another one that was in use is worth at least as much and costs less (it is dominated);
- `bargain` when it is worth nearly as much as the best (`NEARLY`) at no more than half its price (`CHEAP`);
- `fair` otherwise, and `unrated` while its quality or its price is not known.

The best single model is the one that is worth most over all tasks together, weighed by calls.
What routing has saved is what all that was served would have cost there, less what everything did cost, tries in vain included.
It is an estimate: another model would have written other answers.

Sans-io and pure.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from routing.rates import Rates, Tokens, cost_nusd

__all__ = ["Best", "Known", "Report", "Row", "Use", "report"]

SHRINK = 20
"""How many tries the fleet's share of answers counts for beside a model's own."""

NEARLY = 0.05
"""How much less a bargain may be worth than the best."""

CHEAP = 0.5
"""How much of the best one's price a bargain costs at most."""

CALLS = 1000
"""Prices are told for so many calls."""


class Use(Protocol):
    """What one model was used for in one task, as the ledger sums it (`governance.insight.ModelUse`)."""

    @property
    def task(self) -> str:
        """The task, empty where it is not known."""

    @property
    def model(self) -> str:
        """The model."""

    @property
    def requests(self) -> int:
        """Exchanges."""

    @property
    def attempts(self) -> int:
        """Tries."""

    @property
    def errors(self) -> int:
        """Tries that failed."""

    @property
    def served(self) -> int:
        """Answers that came to their end."""

    @property
    def input_tokens(self) -> int:
        """All input."""

    @property
    def cached_tokens(self) -> int:
        """Input read from a vendor's cache."""

    @property
    def cache_write_tokens(self) -> int:
        """Input written to a vendor's cache."""

    @property
    def output_tokens(self) -> int:
        """All output."""

    @property
    def reasoning_tokens(self) -> int:
        """Output spent on reasoning."""

    @property
    def cost_nusd(self) -> int:
        """What it cost."""

    @property
    def ttft_us(self) -> int:
        """Mean first-byte time."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a model for a task: its quality from 0 to 1 and its price; None where nobody says."""

    quality: float | None
    rates: Rates | None


@dataclass(frozen=True, slots=True)
class Row:
    """
    One model in one task; money in nano-USD, shares and qualities from 0 to 1.

    `price_nusd` is for a thousand mean calls of the task; `worth` is quality times the share of tries answered;
    `instead` names the model that dominates it, and `could_save_nusd` what its calls would have cost less there.
    """

    task: str
    model: str
    verdict: str
    requests: int
    attempts: int
    errors: int
    cost_nusd: int
    ttft_us: int
    quality: float | None
    worth: float | None
    price_nusd: int | None
    instead: str
    could_save_nusd: int


@dataclass(frozen=True, slots=True)
class Best:
    """The best single model: what it is worth over all tasks, and what all that was served would have cost there."""

    model: str
    worth: float
    cost_nusd: int


@dataclass(frozen=True, slots=True)
class Report:
    """
    The judgement: rows task by task, dearest model first.

    `saved_nusd` is negative when routing cost more than the best single model would have;
    `worth` is what was served was worth, weighed by calls; None where no rated model was used.
    """

    rows: tuple[Row, ...]
    cost_nusd: int
    best: Best | None
    saved_nusd: int | None
    worth: float | None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Judged:
    use: Use
    known: Known
    worth: float | None
    price_nusd: int | None

    @property
    def rated(self) -> bool:
        return self.worth is not None and self.price_nusd is not None


def report(uses: Sequence[Use], known: Callable[[str, str], Known]) -> Report:
    """Judge what was used; `known` tells what is known of a model (first) for a task (second)."""
    attempts = sum(use.attempts for use in uses)
    errors = sum(use.errors for use in uses)
    usual = 1 - errors / attempts if attempts else 1.0
    rows: list[Row] = []
    for task in dict.fromkeys(use.task for use in uses):
        rows += _judge_task([use for use in uses if use.task == task], usual, known)
    cost = sum(use.cost_nusd for use in uses)
    best = _best_single(uses, rows, known)
    rated = [(row.worth, row.requests) for row in rows if row.worth is not None]
    calls = sum(weight for _, weight in rated)
    return Report(
        rows=tuple(rows),
        cost_nusd=cost,
        best=best,
        saved_nusd=None if best is None else best.cost_nusd - cost,
        worth=sum(worth * weight for worth, weight in rated) / calls if calls else None,
    )


def _judge_task(
    uses: Sequence[Use], usual: float, known: Callable[[str, str], Known]
) -> Iterable[Row]:
    call = _mean_call(uses)
    judged = []
    for use in uses:
        told = known(use.model, use.task)
        answered = (use.attempts - use.errors + SHRINK * usual) / (use.attempts + SHRINK)
        judged.append(
            _Judged(
                use,
                told,
                None if told.quality is None else told.quality * answered,
                None if told.rates is None else CALLS * cost_nusd(told.rates, call),
            )
        )
    rated = [each for each in judged if each.rated]
    best = max(rated, key=_merit, default=None)
    rows = []
    for each in judged:
        better = min(
            (other for other in rated if _dominates(other, each)),
            key=lambda other: other.price_nusd or 0,
            default=None,
        )
        use = each.use
        rows.append(
            Row(
                task=use.task,
                model=use.model,
                verdict=_verdict(each, best, better),
                requests=use.requests,
                attempts=use.attempts,
                errors=use.errors,
                cost_nusd=use.cost_nusd,
                ttft_us=use.ttft_us,
                quality=each.known.quality,
                worth=each.worth,
                price_nusd=each.price_nusd,
                instead="" if better is None else better.use.model,
                could_save_nusd=0 if better is None else _difference(use, each, better),
            )
        )
    return sorted(rows, key=lambda row: (-row.cost_nusd, row.model))


def _merit(each: _Judged) -> tuple[float, int]:
    assert each.worth is not None
    assert each.price_nusd is not None
    return each.worth, -each.price_nusd


def _dominates(other: _Judged, each: _Judged) -> bool:
    """Whether the other one is worth at least as much, and costs less."""
    if not each.rated:
        return False
    (worth, price), (theirs, their_price) = _merit(each), _merit(other)
    return theirs >= worth and their_price > price


def _verdict(each: _Judged, best: _Judged | None, better: _Judged | None) -> str:
    if not each.rated or best is None:
        return "unrated"
    if each is best:
        return "best"
    if better is not None:
        return "dear"
    (worth, price), (most, best_price) = _merit(each), _merit(best)
    return "bargain" if worth >= most - NEARLY and -price <= -best_price * CHEAP else "fair"


def _difference(use: Use, each: _Judged, better: _Judged) -> int:
    """Return what the calls of one model would have cost less at another."""
    assert each.known.rates is not None
    assert better.known.rates is not None
    call = _mean_call([use])
    less = cost_nusd(each.known.rates, call) - cost_nusd(better.known.rates, call)
    return use.served * (max(0, less))


def _mean_call(uses: Sequence[Use]) -> Tokens:
    """Return the mean of the calls that were served, in whole tokens."""
    count = max(sum(use.served for use in uses), 1)

    def mean(name: str) -> int:
        return int(sum(getattr(use, name) for use in uses) / count + 0.5)

    return Tokens(
        input_tokens=mean("input_tokens"),
        cached_tokens=mean("cached_tokens"),
        cache_write_tokens=mean("cache_write_tokens"),
        output_tokens=mean("output_tokens"),
        reasoning_tokens=mean("reasoning_tokens"),
    )


def _best_single(
    uses: Sequence[Use], rows: Sequence[Row], known: Callable[[str, str], Known]
) -> Best | None:
    """Return the model that is worth most if it serves everything, None where none is rated."""
    weights: dict[str, int] = {}
    for use in uses:
        weights[use.task] = weights.get(use.task, 0) + use.requests
    total = sum(weights.values())
    answered: dict[str, float] = {}
    for row in rows:
        if row.worth is not None and row.quality and row.price_nusd is not None:
            share = row.worth / row.quality
            answered[row.model] = min(answered.get(row.model, 1.0), share)
    best: Best | None = None
    for model, share in answered.items():
        worth, cost = 0.0, 0
        for task, weight in weights.items():
            told = known(model, task)
            if told.quality is None or told.rates is None:
                break
            worth += told.quality * share * weight / total
            cost += sum(
                cost_nusd(told.rates, _mean_call([use])) * use.served
                for use in uses
                if use.task == task
            )
        else:
            if best is None or (worth, -cost) > (best.worth, -best.cost_nusd):
                best = Best(model, worth, cost)
    return best
