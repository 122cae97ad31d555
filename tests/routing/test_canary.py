"""Laws of canaries: what does harm is taken back, what does none survives however often it is looked at."""

import math
import random
from dataclasses import dataclass

import pytest

from config.trials import Canary, Guards
from routing.canary import Begin, Raise, Stop, Wait, judge, next_move

DAY_US = 86_400_000_000


@dataclass
class Seen:
    tries: int = 0
    errors: int = 0
    ttft_count: int = 0
    ttft_sum: float = 0.0
    ttft_squares: float = 0.0
    cost_count: int = 0
    cost_sum: float = 0.0
    cost_squares: float = 0.0
    defect_sum: float = 0.0

    def try_one(
        self, drawn: random.Random, *, errors: float, ttft_us: float, cost: float, spoilt: float
    ) -> None:
        """Draw one try: failures as likely as said, times and costs that scatter widely around a median."""
        self.tries += 1
        if drawn.random() < errors:
            self.errors += 1
            return
        log = math.log(ttft_us) + drawn.gauss(0, 0.6)
        self.ttft_count += 1
        self.ttft_sum += log
        self.ttft_squares += log * log
        nusd = cost * math.exp(drawn.gauss(0, 0.8))
        self.cost_count += 1
        self.cost_sum += nusd
        self.cost_squares += nusd * nusd
        self.defect_sum += drawn.random() < spoilt


SOUND = {"errors": 0.02, "ttft_us": 400_000.0, "cost": 1_000_000.0, "spoilt": 0.03}


def canary(**said: object) -> Canary:
    return Canary.model_validate({"model": "b", "steps": (5.0, 50.0)} | said)


def run(seed: int, worse: dict[str, float], tries: int, said: Canary) -> int | None:
    """Let a canary and its control serve; give at which try it was found to do harm, None if it was not."""
    drawn = random.Random(seed)
    ours, theirs = Seen(), Seen()
    for number in range(1, tries + 1):
        ours.try_one(drawn, **(SOUND | worse))
        for _ in range(3):
            theirs.try_one(drawn, **SOUND)
        if number % 20 == 0 and judge(ours, theirs, said).harm is not None:
            return number
    return None


@pytest.mark.parametrize(
    ("worse", "guard"),
    [
        ({"errors": 0.4}, "error_rate"),
        ({"ttft_us": 1_200_000.0}, "ttft"),
        ({"cost": 3_000_000.0}, "cost"),
        ({"spoilt": 0.4}, "quality"),
    ],
)
def test_harm_is_found_soon(worse: dict[str, float], guard: str) -> None:
    """Within a few hundred tries of the canary, by the guard that it breaks."""
    said = canary(guards=Guards(cost=0.5))
    for seed in range(5):
        assert run(seed, worse, 400, said) is not None
    drawn = random.Random(1)
    ours, theirs = Seen(), Seen()
    for _ in range(400):
        ours.try_one(drawn, **(SOUND | worse))
        theirs.try_one(drawn, **SOUND)
    harm = judge(ours, theirs, said).harm
    assert harm is not None
    assert harm.guard == guard


def test_a_harmless_canary_survives_being_looked_at_all_the_time() -> None:
    """
    Of 60 that are as good as their control and judged without any allowance, at most the error's share is taken back.

    A test with a fixed horizon that is looked at as often takes back a sixth of them; more than half, if it does not
    divide its error among the guards.
    """
    said = canary(guards=Guards(error_rate=0.0, ttft=0.0, cost=0.0, quality=0.0), min_samples=50)
    stopped = sum(run(seed, {}, 800, said) is not None for seed in range(60))
    assert stopped <= 3


def test_what_is_allowed_is_no_harm() -> None:
    """A canary that is dearer within its guard goes on, however sure it is."""
    said = canary(guards=Guards(cost=1.0))
    assert run(7, {"cost": 1_500_000.0}, 1500, said) is None


def test_too_few_samples_say_nothing() -> None:
    """Not even when all of them failed."""
    ours, theirs = Seen(tries=99, errors=99), Seen(tries=5000)
    found = judge(ours, theirs, canary())
    assert not found.enough
    assert found.harm is None
    assert isinstance(next_move(canary(), found, DAY_US), Wait)
    assert judge(Seen(tries=100, errors=100), theirs, canary()).harm is not None


def test_what_a_guard_allows_without_end_is_never_harm() -> None:
    """A share of failures may be 1 higher; costs are judged only where that is said."""
    said = canary(guards=Guards(error_rate=1))
    found = judge(Seen(tries=500, errors=500), Seen(tries=500), said)
    assert found.enough
    assert [each.guard for each in found.findings] == ["error_rate"]
    assert found.harm is None


def test_each_move() -> None:
    """Begin, wait for its time, rise, wait at the end; stop as soon as it does harm; wait while it seems to."""
    same = Seen(tries=500, errors=5)
    fine = judge(same, same, canary())
    assert next_move(canary(), fine, None) == Begin()
    assert next_move(canary(), fine, 599_000_000) == Wait("the step lasts for 1 s more")
    assert next_move(canary(), fine, 600_000_000) == Raise(1)
    last = next_move(canary(step=1), fine, DAY_US)
    assert last == Wait("its last step is over and it did no harm")
    whole = next_move(canary(steps=(100.0,)), fine, DAY_US)
    assert isinstance(whole, Wait)
    bad = judge(Seen(tries=500, errors=100), same, canary())
    assert next_move(canary(), bad, 0) == Stop(
        "failures 20.0% against 1.0%, where 2 points more is allowed; 500 and 500 tries"
    )
    doubtful = judge(Seen(tries=500, errors=18), same, canary())
    assert doubtful.harm is None
    move = next_move(canary(), doubtful, DAY_US)
    assert isinstance(move, Wait)
    assert "seems worse" in move.why
