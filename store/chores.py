"""
Chores: what a role does on its own, each started again when it fails.

The owner waits for all of them; they end only when it is cancelled, and it ends after them.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Chore", "Chores"]

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 30.0
_STEADY_AFTER_S = 60.0

_log = logging.getLogger("penstock.chores")


@dataclass(frozen=True, slots=True)
class Chore:
    """Something that is to be done for as long as the role runs."""

    name: str
    work: Callable[[], Awaitable[None]]


class Chores:
    """
    Runs chores until cancelled; counts how often each failed.

    Errors of the `foreseen` kinds are logged in one line, others with their stack.
    """

    def __init__(
        self,
        chores: Sequence[Chore],
        *,
        foreseen: tuple[type[Exception], ...] = (OSError,),
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._chores = tuple(chores)
        self._foreseen = foreseen
        self._pause = pause
        self._failures = {chore.name: 0 for chore in chores}

    def failures(self) -> Mapping[str, int]:
        """Return how often each chore failed, by name."""
        return dict(self._failures)

    async def run(self) -> None:
        """Keep all chores going; ends by cancellation, after every chore has ended."""
        async with asyncio.TaskGroup() as tasks:
            for chore in self._chores:
                tasks.create_task(self._keep(chore), name=chore.name)

    async def _keep(self, chore: Chore) -> None:
        """Do a chore, and begin it anew whenever it fails: at once, then ever more patiently."""
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while True:
            begun = loop.time()
            try:
                await chore.work()
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, the chore has to go on
                self._failures[chore.name] += 1
                if loop.time() - begun >= _STEADY_AFTER_S:
                    pause_s = _FIRST_PAUSE_S
                _log.warning(
                    "chore %s failed, again in %.1f s: %s",
                    chore.name,
                    pause_s,
                    str(error) or type(error).__name__,
                    # A store that is away needs no stack; anything else is a fault of ours.
                    exc_info=not isinstance(error, self._foreseen),
                )
            await self._pause(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
