"""The drill of levels: its laws hold over real models, and it would notice if they did not."""

from dataclasses import replace

from routing.kinds import task_of
from routing.scoring import NO_FACTS, Call
from tests.drills import levels
from tests.drills.levels import CEILING_USD, broken, matrix, pool, stuffed, timed, traffic


def test_cost_and_quality_fall_together() -> None:
    """From premium to economy, from high to low, from no pressure to full; eighteen cells."""
    found = matrix(pool(), traffic(1, 100))
    assert len(found) == 18
    assert broken(found) == []
    assert found[0].usd_per_thousand > 10 * found[-1].usd_per_thousand
    assert found[0].quality > found[-1].quality
    dearer = [*found[:-1], replace(found[-1], usd_per_thousand=99.0)]
    assert any("usd_per_thousand rises" in words for words in broken(dearer))
    assert "premium" in levels.tell(found)


def test_models_are_judged_by_the_task_of_each_call() -> None:
    """Not by what they are good for on the whole, which is another choice."""
    field, calls = pool(), traffic(1, 50)

    def chosen(calls: list[Call]) -> list[int]:
        return [field.choose(call, NO_FACTS).first for call in calls]

    assert {task_of(call.kind) for call in calls} == {call.task for call in calls}
    assert chosen(calls) != chosen([call._replace(kind="") for call in calls])


def test_words_that_sound_difficult_lift_no_ceiling() -> None:
    """An economy key that is stuffed with them spends no more than its ceiling allows."""
    _, _, dearest = stuffed(pool(), 1, 20)
    assert dearest <= CEILING_USD


def test_a_decision_is_timed() -> None:
    """For any number of models; the median is not above the 99th percentile."""
    low, high = timed(8, 1, 50)
    assert 0 < low <= high
