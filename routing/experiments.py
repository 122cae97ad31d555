"""
Which arm of an experiment a call is in: A/B tests, canaries, migrations, and what is copied to a shadow.

A call is placed by a hash of what it sticks to (its key, its user, its session) with the experiment's name as the salt,
so that every replica puts it into the same arm without asking anybody, and two experiments share out the same callers
independently of each other (Kohavi, Longbotham, Sommerfield, Henne: "Controlled experiments on the web", 2009, section 4.1.2).
The place is a number from 0 to 1. What is tried out has the lower end of it: as a canary's share grows, whoever was
in it stays in it, and only others come in.

An arm leads to a model, a route or one deployment.
Where the calls always went stays behind it as the last resort, marked as `FALLBACK`: no call is lost to an experiment as long as
it may be tried again.

Sans-io and pure; made once per version of the configuration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from hashlib import blake2b

from config.models import Config
from config.quotas import Budget
from config.scalars import moment_of
from config.trials import Arm as DeclaredArm
from config.trials import Canary, Experiment, Migration, ShadowTest

__all__ = [
    "CANARY",
    "CONTROL",
    "FALLBACK",
    "NEW",
    "OLD",
    "SHADOW",
    "Arm",
    "Copying",
    "Split",
    "Trial",
    "compiled",
    "place_of",
    "share_at",
    "with_fallback",
]

CANARY, CONTROL, NEW, OLD, SHADOW = "canary", "control", "new", "old", "shadow"
FALLBACK = "fallback"

_FRACTION = 1 << 53


@dataclass(frozen=True, slots=True)
class Arm:
    """
    One arm: where its calls are led; `model` and `deployment` are empty where they go as they always did.

    `label` is what the ledger calls it, `experiment/arm`.
    """

    label: str
    model: str = ""
    deployment: str = ""

    @property
    def leads(self) -> bool:
        """Whether it leads anywhere else than its calls went before."""
        return bool(self.model or self.deployment)


@dataclass(frozen=True, slots=True)
class Split:
    """
    How calls are shared out: `arms` with the ends of their shares, rising to 1.

    Of a migration the first end moves: `schedule` holds (unix us, share) in order of time.
    """

    name: str
    sticky: str
    arms: tuple[Arm, ...]
    ends: tuple[float, ...]
    schedule: tuple[tuple[int, float], ...] = ()

    def arm_of(self, unit: str, unix_us: int) -> Arm:
        """Return the arm of a call that sticks to `unit`."""
        place = place_of(self.name, unit)
        if self.schedule:
            return self.arms[0 if place < share_at(self.schedule, unix_us) else 1]
        for arm, end in zip(self.arms, self.ends, strict=True):
            if place < end:
                return arm
        return self.arms[-1]

    def shares(self, unix_us: int) -> dict[str, float]:
        """Return the share of the calls that each arm has, from 0 to 1, by its label."""
        if self.schedule:
            new = share_at(self.schedule, unix_us)
            return {self.arms[0].label: new, self.arms[1].label: 1 - new}
        begins = (0.0, *self.ends[:-1])
        return {
            arm.label: end - begin
            for arm, begin, end in zip(self.arms, begins, self.ends, strict=True)
        }


@dataclass(frozen=True, slots=True)
class Copying:
    """What is copied to another model: a share of the calls, up to a size of their body; `scope` is who pays."""

    name: str
    sticky: str
    arm: Arm
    share: float
    most_body: int
    budgets: tuple[Budget, ...]

    @property
    def scope(self) -> str:
        """The scope whose budget pays for the copies, and whose concurrency bounds them."""
        return f"shadow:{self.name}"

    def takes(self, unit: str, size: int) -> bool:
        """Whether a call that sticks to `unit`, with a body of `size` bytes, is copied."""
        return size <= self.most_body and place_of(self.name, unit) < self.share


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried out behind one name: at most one split, and at most one shadow."""

    split: Split | None = None
    shadow: Copying | None = None

    def shares(self, unix_us: int) -> dict[str, float]:
        """Return the share of each arm by its label, the shadow's among them."""
        found = {} if self.split is None else self.split.shares(unix_us)
        if self.shadow is not None:
            found[self.shadow.arm.label] = self.shadow.share
        return found


def compiled(config: Config) -> Mapping[str, Trial]:
    """Return what is tried out, by the name that callers ask for; names without a running experiment are not in it."""
    found: dict[str, Trial] = {}
    for name, experiment in config.experiments.items():
        if experiment.stopped is not None:
            continue
        known = found.get(experiment.asked, Trial())
        if experiment.shadow is not None:
            found[experiment.asked] = Trial(known.split, _copying(name, experiment))
        else:
            found[experiment.asked] = Trial(_split(name, experiment), known.shadow)
    return found


def place_of(experiment: str, unit: str) -> float:
    """Return where a unit lies in an experiment, from 0 to below 1."""
    digest = blake2b(f"{experiment}\0{unit}".encode("utf-8", "surrogatepass"), digest_size=8)
    return (int.from_bytes(digest.digest(), "big") >> 11) / _FRACTION


def share_at(schedule: Sequence[tuple[int, float]], unix_us: int) -> float:
    """Return the share at a moment: 0 before the first point, even growth between two, the last one's after it."""
    before_us, before = schedule[0]
    if unix_us < before_us:
        return 0.0
    for at_us, share in schedule[1:]:
        if unix_us < at_us:
            return before + (share - before) * (unix_us - before_us) / (at_us - before_us)
        before_us, before = at_us, share
    return before


def with_fallback(label: str, *, own: bool) -> str:
    """Return what the ledger calls an attempt of an arm: at a place of its own, or at its last resort."""
    return label if own else f"{label}/{FALLBACK}"


def _split(name: str, experiment: Experiment) -> Split:
    sticky = experiment.sticky
    if experiment.arms is not None:
        whole = sum(arm.weight for arm in experiment.arms.values())
        sums, so_far = [], 0
        for arm in experiment.arms.values():
            so_far += arm.weight
            sums.append(so_far / whole)
        arms = tuple(_arm(name, each, arm) for each, arm in experiment.arms.items())
        return Split(name, sticky, arms, tuple(sums))
    if experiment.canary is not None:
        canary = experiment.canary
        arms = (_arm(name, CANARY, canary), Arm(f"{name}/{CONTROL}"))
        return Split(name, sticky, arms, (canary.steps[canary.step] / 100, 1.0))
    assert experiment.migration is not None
    migration = experiment.migration
    arms = (_arm(name, NEW, migration), Arm(f"{name}/{OLD}"))
    return Split(name, sticky, arms, (0.0, 1.0), _schedule(migration))


def _schedule(migration: Migration) -> tuple[tuple[int, float], ...]:
    return tuple(
        (
            int(moment_of(point.at, "UTC").astimezone(UTC).timestamp() * 1_000_000),
            point.percent / 100,
        )
        for point in migration.schedule
    )


def _copying(name: str, experiment: Experiment) -> Copying:
    shadow = experiment.shadow
    assert shadow is not None
    return Copying(
        name=name,
        sticky=experiment.sticky,
        arm=_arm(name, SHADOW, shadow),
        share=shadow.percent / 100,
        most_body=shadow.max_body_kb * 1024,
        budgets=shadow.budgets,
    )


def _arm(experiment: str, name: str, said: DeclaredArm | Canary | Migration | ShadowTest) -> Arm:
    return Arm(f"{experiment}/{name}", said.model or "", said.deployment or "")
