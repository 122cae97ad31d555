"""Laws of chores: each goes on whatever happens to it, and all have ended when their owner has."""

import asyncio
from collections.abc import Callable

import pytest

from store.chores import Chore, Chores


class Pauses:
    """A clock that passes at once and remembers for how long it was asked to wait."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await asyncio.sleep(0)


def failing(times: int, error: Callable[[], Exception], then: asyncio.Event) -> Chore:
    """Make a chore that fails so often and then goes on."""
    left = [times]

    async def work() -> None:
        if left[0]:
            left[0] -= 1
            raise error()
        then.set()
        await asyncio.sleep(60)

    return Chore("failing", work)


async def test_a_chore_that_fails_is_begun_anew_ever_more_patiently(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Pauses double up to half a minute; the failures are counted and logged."""
    pauses, done = Pauses(), asyncio.Event()
    chores = Chores([failing(10, lambda: OSError("gone"), done)], pause=pauses)
    running = asyncio.ensure_future(chores.run())
    async with asyncio.timeout(20):
        await done.wait()
    running.cancel()
    await asyncio.wait([running])
    assert pauses.asked == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]
    assert chores.failures() == {"failing": 10}
    assert "failing failed, again in 0.2 s: gone" in caplog.text
    assert "Traceback" not in caplog.text


async def test_an_unforeseen_failure_is_logged_with_its_stack(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A fault of ours shows where it is, and the chore goes on all the same."""
    done = asyncio.Event()
    chores = Chores([failing(1, ZeroDivisionError, done)], pause=Pauses())
    running = asyncio.ensure_future(chores.run())
    async with asyncio.timeout(20):
        await done.wait()
    running.cancel()
    await asyncio.wait([running])
    assert "Traceback" in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_one_that_fails_does_not_hold_up_the_others() -> None:
    """Each chore has a life of its own; one that returns is done."""
    done, other = asyncio.Event(), asyncio.Event()

    async def finish() -> None:
        other.set()

    chores = Chores(
        [failing(10**9, lambda: OSError("x"), done), Chore("other", finish)], pause=Pauses()
    )
    running = asyncio.ensure_future(chores.run())
    async with asyncio.timeout(20):
        await other.wait()
    running.cancel()
    await asyncio.wait([running])
    assert chores.failures()["other"] == 0


async def test_the_owner_ends_after_its_chores() -> None:
    """Cancelling waits for what a chore does last."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            ended.set()

    running = asyncio.ensure_future(Chores([Chore("slow", work)]).run())
    async with asyncio.timeout(20):
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert ended.is_set()
