"""Laws of kinds: they tell apart what matters of calls that are alike else, and belong to their task."""

from hypothesis import given
from hypothesis import strategies as st

from routing.kinds import kind_of, task_of
from routing.listing import TASKS


@given(
    st.sampled_from([*TASKS, "code/review", "any thing"]), st.integers(0, 1 << 40), st.floats(0, 1)
)
def test_a_kind_belongs_to_its_task(task: str, tokens: int, complexity: float) -> None:
    """A task is its own, and that of all its kinds."""
    kind = kind_of(task, tokens, complexity)
    assert task_of(kind) == task_of(task) == task
    assert kind != task


def test_sizes_are_told_apart_by_powers_of_two_and_calls_by_whether_they_are_hard() -> None:
    """So a task has eighteen kinds, however long its calls are."""
    sizes = [0, 31, 32, 63, 64, 4095, 4096, 1 << 40]
    kinds = [kind_of("chat", size, 0.2) for size in sizes]
    assert kinds == [f"chat\x1f{bits}e" for bits in (5, 5, 6, 6, 7, 12, 13, 13)]
    assert kind_of("chat", 40, 0.5) == "chat\x1f6h"
    assert kind_of("chat", 40, 0.49) == "chat\x1f6e"
    every = {kind_of("chat", 1 << bits, hard) for bits in range(40) for hard in (0.0, 1.0)}
    assert len(every) == 18
