"""
What calls are like: kinds of a task, for which lessons are kept beside those of the whole task.

Which of two models is the better one at a task depends on how large a call is and how hard, and both are known without a further look.
So a kind is a task, the size of the input to the power of two, and whether the call is harder than most. What was learned of a kind corrects
what was learned of its task, the more the more was seen of it (`routing.scoring.Lesson.corrected`); of a kind that was never seen the
task's lesson holds.
"""

from functools import cache

__all__ = ["kind_of", "task_of"]

LEAST, MOST = 5, 13
"""Sizes below 32 tokens are one, and those from 4,096 tokens on."""
HARD = 0.5
"""From this complexity on a call is harder than most."""
SEPARATOR = "\x1f"
"""Between a task and the rest of a kind: no name of the configuration holds it."""
# By the number of bits of a size: nobody sends as many tokens as 64 bits can count.
_SIZES = tuple(min(max(bits, LEAST), MOST) for bits in range(65))


def kind_of(task: str, tokens: int, complexity: float) -> str:
    """Return the kind of a call of so many input tokens: the task, the number of bits of its size, and `e` for easy or `h` for hard."""
    return _kind(task, _SIZES[tokens.bit_length()], complexity >= HARD)


def task_of(kind: str) -> str:
    """Return the task of a kind, or of a task itself."""
    return kind.partition(SEPARATOR)[0]


@cache
def _kind(task: str, bits: int, hard: bool) -> str:
    return f"{task}{SEPARATOR}{bits}{'h' if hard else 'e'}"
