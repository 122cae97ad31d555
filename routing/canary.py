"""
Whether a canary does harm, and what is to be done with it.

Each guard compares the canary with its control: the share of tries that fail, the first-byte time, the cost of a call,
and what was wrong with the answers.
The difference, less what the guard allows, gets a lower bound; above zero the canary does harm and is taken back.

The bound holds at all times at once, so that looking every two seconds makes no false alarm likelier:
it is the one-sided asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
"Time-uniform central limit theory and asymptotic confidence sequences" (Annals of Statistics 52, 2024; arXiv 2103.06476).
For n samples, the standard error s of the difference and the error probability a:

    width = s * sqrt(n) * sqrt((2 (n r^2 + 1)) / (n^2 r^2) * log(1 + sqrt(n r^2 + 1) / (2 a)))

r says at which n it is narrowest; it is chosen for `min_samples`, where the first judgement falls.
As it is asymptotic, nothing is judged before each arm has `min_samples`.

- Shares of failures, and of what was wrong with answers, are compared as such; their variance is taken for that of a coin
  with half a failure and half a success more, so that a streak without a failure is not taken for certainty.
- First-byte times are compared by their logarithms: what is judged is the ratio of their geometric means.
- Costs are compared by their means, as bills are.

Evidence is counted step by step, because shares change between steps and the day changes with them; the error
probability is divided among the steps and the guards. So a harmless canary survives all of it with `confidence` at least.
Tries of one caller are taken as independent: with few callers, let the canary stick to sessions or requests.

Sans-io and pure.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from config.trials import Canary, Guards

__all__ = [
    "Begin",
    "Finding",
    "Judgement",
    "Move",
    "Raise",
    "Stop",
    "Sums",
    "Wait",
    "judge",
    "next_move",
]


class Sums(Protocol):
    """What an arm did, as the ledger sums it (`governance.arms.ArmSums`)."""

    @property
    def tries(self) -> int:
        """Tries."""

    @property
    def errors(self) -> int:
        """Tries that failed."""

    @property
    def ttft_count(self) -> int:
        """How many first-byte times there are."""

    @property
    def ttft_sum(self) -> float:
        """The sum of their logarithms."""

    @property
    def ttft_squares(self) -> float:
        """The sum of the squares of these."""

    @property
    def cost_count(self) -> int:
        """How many costs there are."""

    @property
    def cost_sum(self) -> float:
        """Their sum in nano-USD."""

    @property
    def cost_squares(self) -> float:
        """The sum of their squares."""

    @property
    def defect_sum(self) -> float:
        """The sum of what was wrong with these answers, each from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What one guard says.

    `canary` and `control` are what was measured (a share, us, nano-USD, the mean defect), `allowed` the guard; `excess` is by how much
    the canary seems worse than that, `at_least` the bound of it: above 0 it does harm.
    """

    guard: str
    canary: float
    control: float
    allowed: float
    excess: float
    at_least: float

    @property
    def harms(self) -> bool:
        """Whether it is worse than allowed, for sure."""
        return self.at_least > 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """What all guards say; `enough` samples were there to judge by."""

    canary: int
    control: int
    enough: bool
    findings: tuple[Finding, ...]

    @property
    def harm(self) -> Finding | None:
        """The first guard that is broken for sure."""
        return next((each for each in self.findings if each.harms), None)

    @property
    def doubt(self) -> Finding | None:
        """The first guard that seems broken, sure or not."""
        return next((each for each in self.findings if each.excess > 0), None)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def judge(canary: Sums, control: Sums, said: Canary) -> Judgement:
    """Compare a canary with its control, as it was declared."""
    counts = canary.tries, control.tries
    if min(counts) < said.min_samples:
        return Judgement(*counts, enough=False, findings=())
    guards = _declared(said.guards)
    alpha = (1 - said.confidence) / max(len(guards) * len(said.steps), 1)
    found = []
    for name, allowed in guards:
        ours, theirs = _mean(name, canary), _mean(name, control)
        if min(ours.count, theirs.count) >= said.min_samples:
            found.append(
                _find(name, allowed, ours, theirs, narrowest=said.min_samples, alpha=alpha)
            )
    return Judgement(*counts, enough=True, findings=tuple(found))


def _declared(guards: Guards) -> list[tuple[str, float]]:
    named = (
        ("error_rate", guards.error_rate),
        ("ttft", guards.ttft),
        ("cost", guards.cost),
        ("quality", guards.quality),
    )
    return [(name, allowed) for name, allowed in named if allowed is not None]


# Guards over numbers from 0 to 1: no variance is more than that of a coin with the same mean.
_SHARES = frozenset({"error_rate", "quality"})


@dataclass(frozen=True, slots=True)
class _Mean:
    count: int
    mean: float
    variance: float

    @property
    def squared_error(self) -> float:
        return self.variance / self.count


def _find(
    guard: str, allowed: float, ours: _Mean, theirs: _Mean, *, narrowest: int, alpha: float
) -> Finding:
    """Return what one guard says."""
    factor = 1 + allowed if guard == "cost" else 1.0
    margin = {"ttft": math.log1p(allowed), "cost": 0.0}.get(guard, allowed)
    excess = ours.mean - factor * theirs.mean - margin
    error = math.sqrt(ours.squared_error + factor**2 * theirs.squared_error)
    width = error * math.sqrt(ours.count) * _width(ours.count, narrowest, alpha)
    shown = math.exp if guard == "ttft" else float
    return Finding(guard, shown(ours.mean), shown(theirs.mean), allowed, excess, excess - width)


def _mean(guard: str, sums: Sums) -> _Mean:
    count, total, squares = {
        "error_rate": (sums.tries, float(sums.errors), 0.0),
        "ttft": (sums.ttft_count, sums.ttft_sum, sums.ttft_squares),
        "cost": (sums.cost_count, sums.cost_sum, sums.cost_squares),
        "quality": (sums.cost_count, sums.defect_sum, 0.0),
    }[guard]
    if not count:
        return _Mean(0, 0.0, 0.0)
    mean = total / count
    if guard in _SHARES:
        careful = (total + 0.5) / (count + 1)
        return _Mean(count, mean, careful * (1 - careful))
    return _Mean(count, mean, max(squares / count - mean * mean, 0.0))


def _width(count: int, narrowest: int, alpha: float) -> float:
    """Return the half width for samples of standard deviation 1; narrowest where there are `narrowest` of them."""
    # The choice of r that the paper gives for two-sided sequences; of one side the error is twice as likely.
    log = -2 * math.log(min(2 * alpha, 0.5))
    r2 = (log + math.log(log + 1)) / narrowest
    spread = count * r2 + 1
    return math.sqrt(2 * spread / (count**2 * r2) * math.log1p(math.sqrt(spread) / (2 * alpha)))


# What is to be done...


@dataclass(frozen=True, slots=True)
class Begin:
    """Note when the step begins: what was served before is not judged."""


@dataclass(frozen=True, slots=True)
class Raise:
    """Go to another step."""

    step: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Take the canary back, and say why."""

    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Leave it as it is, and say why."""

    why: str


Move = Begin | Raise | Stop | Wait


def next_move(said: Canary, judgement: Judgement, in_step_us: int | None) -> Move:
    """Return what is to be done with a canary that is in its step for `in_step_us`; None: nobody has noted since when."""
    if in_step_us is None:
        return Begin()
    harm = judgement.harm
    if harm is not None:
        return Stop(_told(harm, judgement))
    if said.steps[said.step] >= 100:
        return Wait(
            "it has all calls, and nothing to be compared with: make it what the name leads to"
        )
    if not judgement.enough:
        fewest = min(judgement.canary, judgement.control)
        return Wait(f"{fewest} of {said.min_samples} samples in the smaller arm")
    doubt = judgement.doubt
    if doubt is not None:
        return Wait(f"it seems worse than allowed: {_told(doubt, judgement)}")
    left_us = said.step_s * 1_000_000 - in_step_us
    if left_us > 0:
        return Wait(f"the step lasts for {left_us / 1_000_000:.0f} s more")
    if said.step + 1 == len(said.steps):
        return Wait("its last step is over and it did no harm")
    return Raise(said.step + 1)


def _told(found: Finding, judgement: Judgement) -> str:
    return "; ".join(_words(found, judgement))


def _words(found: Finding, judgement: Judgement) -> Iterator[str]:
    names = {"error_rate": "failures", "ttft": "first byte", "quality": "faults of answers"}
    if found.guard in _SHARES:
        ours, theirs = f"{found.canary:.1%}", f"{found.control:.1%}"
        allowed = f"{100 * found.allowed:g} points more"
    elif found.guard == "ttft":
        ours, theirs = f"{found.canary / 1000:.0f} ms", f"{found.control / 1000:.0f} ms"
        allowed = f"{found.allowed:.0%} more"
    else:
        ours, theirs = f"{found.canary / 1e9:.6f} USD", f"{found.control / 1e9:.6f} USD"
        allowed = f"{found.allowed:.0%} more"
    yield f"{names.get(found.guard, found.guard)} {ours} against {theirs}, where {allowed} is allowed"
    yield f"{judgement.canary} and {judgement.control} tries"
