"""
Settlement: what every attempt really used reaches the store, exactly once, sooner or later.

Settlements that arrive while one call is in flight form the next batch.
Batches are numbered and sent one at a time, so that the script applies each once however often it comes.

Failure stance: nothing is dropped.
A batch is repeated until the store confirms it, from the journal if need be.
A store that comes back may have forgotten what it confirmed last (`appendfsync everysec`, a failover): after a reconnect
it is asked for the last number that it knows, and what it has forgotten is sent again.
What was granted while the store was away is in the journal until it has settled or the store knows of it: nobody else does.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from time import monotonic
from typing import Any

from ratelimit.asks import Ask, Boot, Grant, Settlement, boot_of, voided
from ratelimit.commands import BATCH, UNPACKABLE, assert_command, numbered, settle_command
from ratelimit.journal import GRANTED, KNOWN, STREAMED, Command, Journal
from ratelimit.troubles import GateStats, Observe, Troubles
from store import scripts
from store.lane import Lane, LaneLost

# For how long what was confirmed is kept: a write of the append-only file may be two seconds late, and a primary that is
# cut off from its replicas takes writes for four (`min-replicas-max-lag 2`).
KEEP_S = 5.0
# Pauses between two tries of a batch that the store refuses.
PAUSE_S = 0.02
LONGEST_PAUSE_S = 2.0

log = logging.getLogger("penstock.gate")


class _Batch:
    """A numbered batch of settlements that the store has not confirmed, or the question for its numbers (`kept`)."""

    __slots__ = ("command", "journalled", "kept", "sent_at", "size")

    def __init__(self, command: Command, size: int, kept: "list[_Batch] | None" = None) -> None:
        self.command = command
        self.size = size
        self.kept = kept
        self.journalled = False
        self.sent_at = 0.0


class Settling:
    """
    The settlements of one replica on their way to the store.

    `spawn` runs a coroutine that somebody awaits at the end; while the store `is_ill`, settlements go to the journal at once.
    """

    def __init__(
        self,
        lane: Lane,
        *,
        boot: Boot,
        journal_dir: Path,
        timeout_s: float,
        stats: GateStats,
        troubles: Troubles,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        observe: Observe | None,
        is_ill: Callable[[], bool] = lambda: False,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._lane = lane
        self._timeout_s = timeout_s
        self._stats = stats
        self._troubles = troubles
        self._spawn = spawn
        self._observe = observe
        self._is_ill = is_ill
        self._script = scripts.load("ratelimit", "settle")
        self._assert = scripts.load("ratelimit", "assert")
        self._journal = Journal(journal_dir, boot.member.replace("/", "_"))
        # Under which what was granted without the store is booked when this process dies: known to nobody before.
        self._heir = boot_of(f"{boot.member}~", boot.cell)
        # What was granted without the store and has not settled: not yet in the journal, and there.
        self._granted: dict[str, tuple[Ask, Grant]] = {}
        self._noted: set[str] = set()
        # Whether something waits to be sent that must not be confirmed before it is in the journal.
        self._pressing = False
        # How many settlements the store has not confirmed.
        self.unsettled = 0
        self._queue: deque[Settlement] = deque()
        self._batches: deque[_Batch] = deque()
        # Those of them that are not in the journal, in the same order.
        self._unwritten: deque[_Batch] = deque()
        # What was confirmed of late, and the number of the connection that it went by.
        self._kept: deque[_Batch] = deque()
        self._lane_life = lane.lives
        self._scheduled = False
        self._noting = False
        self._flying = False
        self._dropped = False
        self._pause_s = 0.0
        self._numbers = {boot.member: 0}
        # What has to be confirmed until the store knows as much as before the last reconnect.
        self._owed: set[_Batch] = set()
        self._drained = asyncio.Event()
        self._drained.set()
        self._closing = False

    @property
    def is_over(self) -> bool:
        """Whether nothing is left for others to tell the store."""
        return not self.unsettled and self._journal.path is None

    @property
    def caught_up(self) -> bool:
        """Whether all that the store has forgotten was sent to it again."""
        lane = self._lane
        return lane.connected and self._lane_life == lane.lives and not self._owed

    # Life.

    async def load(self) -> None:
        """Load the script."""
        await self._lane.ask("SCRIPT", "LOAD", self._script.text)

    def begin(self, boot: Boot) -> None:
        """Begin to number the settlements of another boot from one."""
        self._numbers[boot.member] = 0

    def owes(self, boot: Boot) -> bool:
        """Whether a settlement under a boot is not confirmed, or may yet be sent again: the store may forget it, and a journal be replayed."""
        return (
            self._journal.path is not None
            or any(one.boot is boot for one in self._queue)
            or any(
                batch.kept is None and numbered(batch.command)[0] == boot.seen
                for batch in (*self._batches, *self._kept)
            )
        )

    async def drain(self, timeout_s: float) -> bool:
        """Wait until every settlement is confirmed; what is not is left in the journal. Returns whether it was."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._drained.wait()
        except TimeoutError:
            self._keep_in_journal()
            return False
        return True

    async def confirmed(self, within_s: float) -> None:
        """Wait until the store has confirmed what was handed over so far, or the time is up; what comes after is not waited for."""
        stats = self._stats
        # What the store has forgotten is unsettled again, and counted once more when it is confirmed.
        due = stats.settlements - stats.recalled + self.unsettled
        give_up = monotonic() + within_s
        while stats.settlements - stats.recalled < due and monotonic() < give_up:  # noqa: ASYNC110 - it is not worth an event per settlement
            await asyncio.sleep(0.002)

    def close(self) -> None:
        """Send nothing any more."""
        self._closing = True

    def hand_over(self) -> None:
        """Leave what is not confirmed to the next process."""
        if self.unsettled:
            self._keep_in_journal()
        self._journal.close()

    def watch(self, now: float) -> None:
        """Look for a call that the store does not answer, and for a connection of which nothing is known yet."""
        if (
            self._flying
            and not self._dropped
            and now - self._batches[0].sent_at > 2 * self._timeout_s
        ):
            self._dropped = True
            self._lane.drop()
        if self._lane_life != self._lane.lives and not self._flying:
            self._send()

    # Sending.

    def settle(self, settlement: Settlement) -> None:
        """Hand over the truth about an attempt; it reaches the store exactly once, sooner or later."""
        self._queue.append(settlement)
        self.unsettled += 1
        self._drained.clear()
        if self._is_ill() and not self._noting:
            # Nobody else knows of it: it must outlive this process, with those that come in this moment.
            self._noting = True
            self._loop.call_later(PAUSE_S, self._note)
        if self._granted or self._noted:
            self._granted.pop(settlement.attempt_id, None)
            if settlement.attempt_id in self._noted:
                self._noted.discard(settlement.attempt_id)
                self._pressing = True
        if not self._flying and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._send)

    def granted(self, ask: Ask, grant: Grant) -> None:
        """Note what was granted without the store, before its caller goes on to a vendor."""
        if not self._granted:
            self._loop.call_soon(self._note_grants)
        self._granted[ask.attempt_id] = ask, grant

    def asserted(self, attempt_ids: list[str]) -> None:
        """Take what the store knows of: it is no longer ours alone to remember."""
        known = self._noted.intersection(attempt_ids)
        for attempt_id in attempt_ids:
            self._granted.pop(attempt_id, None)
        if known:
            self._noted -= known
            self._append((KNOWN, *known))
        if self._journal.path is not None:
            self._forget()

    def streamed(self, reports: Iterable[tuple[Boot, str, int]]) -> None:
        """Note what streams have given, while the store cannot be told."""
        told: list[str | int] = []
        for _, attempt_id, tokens in reports:
            told += (attempt_id, tokens)
        if told:
            self._append((STREAMED, *told))

    def _append(self, record: Command) -> None:
        """Write a record; when that fails memory still has it, and it is lost only if this process dies as well."""
        try:
            self._journal.append(record)
        except OSError as error:
            self._troubles.note("the journal", error)

    def _forget(self) -> None:
        """Clear the journal, unless there is something in it that the store does not know."""
        if not self._noted and not any(batch.journalled for batch in self._batches):
            self._journal.clear()

    def _note(self) -> None:
        self._noting = False
        if not self._closing:
            self._keep_in_journal()

    def _send(self) -> None:
        self._scheduled = False
        if self._closing:
            self.hand_over()
            return
        if self._flying:
            return
        if self._pressing:
            # Whoever reads the journal would take it for open.
            self._keep_in_journal()
        if self._lane_life != self._lane.lives:
            self._lane_life = self._lane.lives
            self._ask_for_numbers()
        if not self._batches and self._queue:
            self._make_batch()
        if not self._batches:
            self._drained.set()
            return
        batch = self._batches[0]
        batch.sent_at = monotonic()

        def answered(answer: Any) -> None:
            self._settled(batch, answer)

        self._flying = True
        self._dropped = False
        try:
            self._lane.call(answered, *batch.command)
        except LaneLost as lost:
            self._settled(batch, lost)

    def _ask_for_numbers(self) -> None:
        """Put the question what the store still knows before everything else that is sent."""
        if self._batches and self._batches[0].kept is not None:
            self._owed.discard(self._batches.popleft())
        if self._kept:
            places = dict.fromkeys(numbered(batch.command)[0] for batch in self._kept)
            question = _Batch(("MGET", *places), 0, list(self._kept))
            self._batches.appendleft(question)
            self._owed.add(question)

    def _keep(self, batch: _Batch) -> None:
        """Keep what was confirmed until it is surely on the store's disk; while the store is gone nothing grows old."""
        kept, old = self._kept, monotonic() - KEEP_S
        while kept and kept[0].sent_at < old:
            kept.popleft()
        kept.append(batch)

    def _recall(self, kept: list[_Batch], places: tuple[Any, ...], known: list[Any]) -> None:
        """Send again what a store has forgotten; one that knows no number at all is another one, and begins anew."""
        numbers = {
            place: int(number)
            for place, number in zip(places, known, strict=True)
            if number is not None
        }
        lost: list[_Batch] = []
        known_still: deque[_Batch] = deque()
        for batch in kept:
            place, number = numbered(batch.command)
            forgotten = number > numbers.get(place, number)
            (lost if forgotten else known_still).append(batch)
            batch.journalled = False
        if lost:
            log.warning("the store has forgotten %d batches of settlements", len(lost))
            number = sum(batch.size for batch in lost)
            self._stats.recalled += number
            self.unsettled += number
            self._kept = known_still
            self._batches.extendleft(reversed(lost))
            self._unwritten.extendleft(reversed(lost))
            self._owed.update(lost)

    def _make_batch(self) -> None:
        """Make the next batch of what waits."""
        queue = self._queue
        first = queue.popleft()
        boot = first.boot
        settlements = [first]
        while queue and len(settlements) < BATCH and queue[0].boot is boot:
            settlements.append(queue.popleft())
        number = self._numbers[boot.member] + 1
        self._numbers[boot.member] = number
        try:
            command = settle_command(self._script.sha, boot, number, settlements)
        except UNPACKABLE:
            settlements = [self._sendable(one) for one in settlements]
            command = settle_command(self._script.sha, boot, number, settlements)
        batch = _Batch(command, len(settlements))
        self._batches.append(batch)
        self._unwritten.append(batch)

    def _sendable(self, settlement: Settlement) -> Settlement:
        """Return it, or what at least frees its lease when it cannot be packed (a number beyond 64 bits)."""
        try:
            settle_command(self._script.sha, settlement.boot, 0, [settlement])
            return settlement
        except UNPACKABLE as error:
            log.error(
                "attempt %s cannot be booked (%s); its lease is given back",
                settlement.attempt_id,
                error.__class__.__name__,
            )
            return voided(settlement.plan, settlement.boot, settlement.attempt_id, settlement.user)

    def _settled(self, batch: _Batch, answer: Any) -> None:
        if self._closing:
            # It is in the journal, and whoever replays it finds out whether it was applied.
            return
        if batch.kept is not None and answer.__class__ is list:
            self._flying = False
            self._owed.discard(self._batches.popleft())
            self._recall(batch.kept, batch.command[1:], answer)
            self._send()
            return
        if answer.__class__ is int or answer == b"SEEN":
            self._flying = False
            self._pause_s = 0.0
            self._owed.discard(batch)
            self._keep(self._batches.popleft())
            self.unsettled -= batch.size
            if batch.journalled:
                self._forget()
            else:
                self._unwritten.popleft()
            self._troubles.over("settlement")
            stats = self._stats
            stats.settlements += batch.size
            if self._observe is not None:
                self._observe("settle", batch.size, monotonic() - batch.sent_at)
            self._send()
            return
        self._dropped = True
        self._spawn(self._resettle(answer))

    async def _resettle(self, answer: Any) -> None:
        """Keep what is unconfirmed on disk, and send the same batch again once the store is back."""
        self._stats.store_errors += 1
        self._keep_in_journal()
        if isinstance(answer, LaneLost):
            self._troubles.note("settlement", answer)
            await asyncio.sleep(PAUSE_S)
        else:
            await self._bear(str(answer).partition(" ")[0], answer)
        while not self._lane.connected:
            self._keep_in_journal()
            await asyncio.sleep(PAUSE_S)
        self._flying = False
        self._send()

    async def _bear(self, code: str, answer: Any) -> None:
        """Wait out a refusal, longer each time: nothing may be dropped, and nothing may spin."""
        pause = self._pause_s
        self._pause_s = min(max(2 * pause, PAUSE_S), LONGEST_PAUSE_S)
        if code == "NOSCRIPT":
            try:
                async with asyncio.timeout(2 * self._timeout_s):
                    await self.load()
            except Exception as error:  # noqa: BLE001 - the next try loads them
                self._troubles.note("settlement", error)
        if code != "NOSCRIPT" or pause > 0:
            self._troubles.note("settlement", answer)
            await asyncio.sleep(self._pause_s)
        if code == "READONLY":
            self._lane.drop()

    def _keep_in_journal(self) -> None:
        self._pressing = False
        while self._queue:
            self._make_batch()
        try:
            while self._unwritten:
                batch = self._unwritten[0]
                self._journal.append(batch.command)
                batch.journalled = True
                self._unwritten.popleft()
                self._stats.journalled += batch.size
        except OSError as error:
            # Memory still has them; they are lost only if this process dies as well.
            self._troubles.note("the journal", error)

    def _note_grants(self) -> None:
        """Write down what was granted without the store, as the command by which an heir asserts it."""
        held, self._granted = list(self._granted.values()), {}
        try:
            for start in range(0, len(held), BATCH):
                batch = held[start : start + BATCH]
                self._journal.append((GRANTED, *self._asserting(batch)))
                self._noted.update(ask.attempt_id for ask, _ in batch)
        except (OSError, *UNPACKABLE) as error:
            # Memory still has them; they are lost only if this process dies as well.
            self._troubles.note("the journal", error)

    def _asserting(self, held: list[tuple[Ask, Grant]]) -> Command:
        return assert_command(self._assert.sha, self._heir, held, number=0, last=False, partly=True)
