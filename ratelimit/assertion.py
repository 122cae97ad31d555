"""
What a replica tells a store that may have forgotten: the leases that it holds.

A connection that is new may lead to another server, or to the same one without its last second.
So before anything is asked on it, every lease of this replica is asserted there; one that is known is left as it is.
After an outage, too: the store knows nothing of what was granted here meanwhile.
The store says in return whether it knows what was spent (`lua/epoch.lua`).
Until it does, strict budgets are closed: asks wait for that, as long as they wait for a store that does not answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from time import monotonic
from typing import Any, Final

from ratelimit.asks import Ask, Boot, Grant
from ratelimit.commands import BATCH, assert_command
from ratelimit.outage import Outage
from ratelimit.troubles import GateStats
from store import scripts
from store.lane import Lane, LaneLost

# Between two questions whether a store knows by now what was spent.
AGAIN_S: Final = 0.2
KNOWN: Final = 2


class Assertion:
    """
    Whether this replica's leases are known where its lane leads.

    `caught_up` says whether what the store has forgotten of settlements was sent again;
    `number` gives the next number of a sending; `seed` writes the limits of scopes by their keys;
    `asserted` is told which attempts the store knows of.
    """

    def __init__(
        self,
        lane: Lane,
        outage: Outage,
        *,
        caught_up: Callable[[], bool],
        number: Callable[[], int],
        seed: Callable[[list[str]], Awaitable[None]],
        asserted: Callable[[list[str]], None],
        stats: GateStats,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._lane = lane
        self._outage = outage
        self._caught_up = caught_up
        self._number = number
        self._seed = seed
        self._asserted = asserted
        self._stats = stats
        self._made: tuple[int, Boot, int] | None = None
        self._again_at = 0.0
        self.script = scripts.load("ratelimit", "assert")
        self.known = False

    def is_due(self, boot: Boot) -> bool:
        """Whether something is to be said before anything else is asked."""
        if self._made != (self._lane.lives, boot, self._outage.ended):
            return True
        return not self.known and monotonic() >= self._again_at

    async def make(self, boot: Boot) -> Any:
        """
        Assert what is held under a boot, and learn what the store knows.

        Returns None, or the answer that stood in the way: a word of the script's, a `ReplyError`, a `LaneLost`.
        """
        life, ended = self._lane.lives, self._outage.ended
        answer: Any = None
        is_made = self._made == (life, boot, ended)
        held = [] if is_made else list(self._outage.held_under(boot))
        for batch, is_last in _batches(held):
            last = is_last and self._caught_up()
            answer = await self._tell(boot, batch, last=last, partly=False)
            if answer.__class__ is list and answer[0].startswith(b"{"):
                # Limits that were lost with the rest come first: what is not limited cannot be held.
                await self._seed([key.decode() for key in answer])
                answer = await self._tell(boot, batch, last=last, partly=True)
            if answer.__class__ is not list:
                return answer
            self._stats.asserted += answer[2]
        if self._lane.lives != life:
            return LaneLost("the store closed the connection")
        self._made = life, boot, ended
        self._asserted([ask.attempt_id for ask, _ in held])
        self.known = answer[1] == KNOWN
        self._again_at = monotonic() + AGAIN_S
        return None

    async def _tell(
        self, boot: Boot, batch: list[tuple[Ask, Grant]], *, last: bool, partly: bool
    ) -> Any:
        number = self._number()
        for ask, _ in batch:
            # Whatever settles it gives up this sending too, should it come late.
            ask.void_to = number + 1
        return await self._call(
            *assert_command(self.script.sha, boot, batch, number=number, last=last, partly=partly)
        )

    async def _call(self, *command: Any) -> Any:
        """Send one command on the lane, and wait for its answer."""
        done: asyncio.Future[Any] = self._loop.create_future()

        def answered(answer: Any) -> None:
            if not done.done():
                done.set_result(answer)

        try:
            self._lane.call(answered, *command)
        except LaneLost as lost:
            return lost
        return await done


def _batches(
    held: list[tuple[Ask, Grant]],
) -> Iterator[tuple[list[tuple[Ask, Grant]], bool]]:
    """Yield what is held in parts, and with each whether it is the last; one that is empty if there is nothing."""
    for start in range(0, max(len(held), 1), BATCH):
        yield held[start : start + BATCH], start + BATCH >= len(held)
