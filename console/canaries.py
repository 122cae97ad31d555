"""
The chore that watches canaries: it raises them step by step, and takes back those that do harm.

Every two seconds it looks at what the arms of each running canary did since its step began, and judges it (`routing.canary`).
What it does about it is a change of the live configuration like everybody's, with who and why in the history:
a step is raised, or `stopped` says why, and the next call on every replica obeys.
It never begins a canary again that was stopped; that is an operator's to say.

Failure stance: while the ledger or the store cannot be read, shares stay as they are.
Led: one control does it at a time, and two would only repeat each other, as changes are compare-and-set.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from redis.asyncio import Redis

from config import live
from config.changes import Draft, Edit, checked, set_value
from config.models import Config
from config.problems import ConfigError
from config.scalars import moment_of
from config.trials import Canary
from governance.arms import ArmSums, Look, look
from routing.canary import Begin, Judgement, Move, Raise, Stop, judge, next_move
from routing.experiments import CANARY, CONTROL
from store import clock
from store.sql import LedgerUnreachable

__all__ = ["Canaries", "judged", "since_us"]

LOOK_EVERY_S = 2.0

_log = logging.getLogger("penstock.canaries")
_NOTHING = ArmSums()
_WORDS = {Begin: "begin", Raise: "raise", Stop: "rollback"}


class Canaries:
    """
    The watch over the canaries of the configuration that runs.

    `running` gives it with its number, None while there is none; `environ` resolves its references; `by` is who makes the changes;
    `now` is the store's clock unless another is given: entries bear its time.
    """

    def __init__(
        self,
        store: Redis,
        ledger: Path,
        running: Callable[[], tuple[Config, int] | None],
        environ: Mapping[str, str],
        *,
        by: str,
        every_s: float = LOOK_EVERY_S,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._running = running
        self._environ = environ
        self._by = by
        self._every_s = every_s
        self._now = now
        self._looks: dict[str, Look] = {}
        # What this watch has done, by the canary and the word for it.
        self._moves: Counter[tuple[str, str]] = Counter()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self.look()
            except LedgerUnreachable as error:
                _log.warning("canaries are not judged: %s", error)
            await asyncio.sleep(self._every_s)

    def counts(self) -> Mapping[tuple[str, str], int]:
        """
        Return how often each canary was begun, raised and taken back here, by its name and the word for it.

        What was not done yet is 0 and not absent: of a count that begins with 1 nobody sees it grow.
        """
        running = self._running()
        canaries = (
            [name for name, each in running[0].experiments.items() if each.canary is not None]
            if running is not None
            else []
        )
        none = {(name, word): 0 for name in canaries for word in _WORDS.values()}
        return none | self._moves

    async def look(self) -> None:
        """Look at every running canary once, and do what is to be done."""
        running = self._running()
        if running is None:
            return
        config, number = running
        canaries = {
            name: each.canary
            for name, each in config.experiments.items()
            if each.canary is not None and each.stopped is None
        }
        self._looks = {name: seen for name, seen in self._looks.items() if name in canaries}
        if not canaries:
            return
        at = await self._clock()
        moves = [(name, *await self._move(name, canary, at)) for name, canary in canaries.items()]
        # What does harm goes first.
        for name, move, why in sorted(moves, key=lambda each: not isinstance(each[1], Stop)):
            try:
                if why and await self._change(number, name, move, why, at):
                    # Another version runs by now, and the next look is at that one.
                    return
            except ConfigError as error:
                _log.error("%s, but that cannot be published: %s", why, error)

    async def _clock(self) -> datetime:
        if self._now is not None:
            return self._now()
        return await clock.now(self._store)

    async def _move(self, name: str, canary: Canary, at: datetime) -> tuple[Move, str]:
        """Return what is to be done with a canary, and what the history is told of it; nothing when it is to wait."""
        begun_us = since_us(canary)
        if begun_us is None:
            return (
                Begin(),
                f"canary {name} begins with {canary.steps[canary.step]:g} % of the calls",
            )
        seen = await asyncio.to_thread(look, self._ledger, name, begun_us, self._looks.get(name))
        self._looks[name] = seen
        in_step_us = int(at.timestamp() * 1_000_000) - begun_us
        move = next_move(canary, judged(name, canary, seen), in_step_us)
        if isinstance(move, Raise):
            before, after = canary.steps[canary.step], canary.steps[move.step]
            return move, f"canary {name} goes from {before:g} % to {after:g} %: it did no harm"
        return move, f"canary {name} is taken back: {move.why}" if isinstance(move, Stop) else ""

    async def _change(self, number: int, name: str, move: Move, why: str, at: datetime) -> bool:
        """
        Publish what is to be done, unless somebody was faster: then it is judged anew.

        Returns whether another version is live than the one that was judged. Raises `ConfigError`.
        """
        version = await live.current(self._store)
        if version is None or version.number != number:
            return True
        loaded = await asyncio.to_thread(
            checked, version.document, _edit(name, move, at), self._environ
        )
        word = _WORDS[type(move)]
        try:
            await live.publish(
                self._store,
                loaded.document,
                by=self._by,
                why=why,
                expected=number,
                kind=f"experiment.{word}",
                key_id=loaded.key_id,
            )
        except live.VersionConflict:
            return True
        self._moves[name, word] += 1
        _log.log(logging.WARNING if isinstance(move, Stop) else logging.INFO, "%s", why)
        return True


def _edit(name: str, move: Move, at: datetime) -> Edit:
    """Return a move as a change of the configuration, whose moments have no fractions: the next whole second."""
    since = (at + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def edit(draft: Draft) -> None:
        if isinstance(move, Stop):
            set_value(("experiments", name, "stopped"), move.why)(draft)
            return
        if isinstance(move, Raise):
            set_value(("experiments", name, "canary", "step"), move.step)(draft)
        set_value(("experiments", name, "canary", "since"), since)(draft)

    return edit


def judged(name: str, canary: Canary, seen: Look) -> Judgement:
    """Return the judgement about a canary by what its arms did."""
    ours = seen.arms.get(f"{name}/{CANARY}", _NOTHING)
    theirs = seen.arms.get(f"{name}/{CONTROL}", _NOTHING)
    return judge(ours, theirs, canary)


def since_us(canary: Canary) -> int | None:
    """Return when its step began, in unix us; None where nobody has noted it."""
    if canary.since is None:
        return None
    return int(moment_of(canary.since, "UTC").timestamp() * 1_000_000)
