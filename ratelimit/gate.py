"""
The gate: admission and settlement, batched over the lane.

While one call is in flight, the asks that arrive form the next (at most 64): an idle gateway waits for nobody, a busy one amortizes.
Admit and settle have a connection each, so that settlements never delay an answer to a caller.

Failure stance: fail closed, and lose nothing.
An ask that the store does not answer in time is refused with `StoreUnavailable`; if it was granted after all, the lease is given back.
A call whose connection is gone may still be lying in the server's socket: sendings of `admit` are numbered, and giving one up raises a bar against it.
A settlement is repeated until the store confirms it, from the journal if need be; the script applies it once.
A store that comes back may have forgotten what it confirmed last (`appendfsync everysec`, a failover): after a reconnect
it is asked for the last number that it knows, and what it has forgotten is sent again.
"""

import asyncio
import logging
import re
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import hiredis
import msgpack
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from ratelimit.asks import (
    BEATS,
    GRANTED,
    LOST_WORDS,
    NOBODY,
    UNKNOWN,
    Ask,
    Boot,
    Denied,
    Grant,
    Nobody,
    Settlement,
    admit_command,
    boot_of,
    denied,
    numbered,
    settle_command,
)
from ratelimit.journal import Command, Journal, Orphan, orphans
from ratelimit.limits import Plan
from ratelimit.upkeep import run
from store import scripts
from store.lane import Lane, LaneLost

BATCH = 64
# Progress goes with the beat: a crash may forget two seconds of a stream, of which half a one is for lags.
BEAT_S = 1.5
LIFE_US = 10_000_000
# As the scripts remember (`REMEMBER` in `lua/gcra.lua`).
REMEMBER_S = 604_800
WATCH_S = 0.05
# How often an ask may find limits missing: a flush may strike twice, a scope that nobody knows stays unknown.
RESEEDS = 3
# For how long what was confirmed is kept: a write of the append-only file may be two seconds late.
KEEP_S = 3.0
# Pauses between two tries of a batch that the store refuses.
PAUSE_S = 0.02
LONGEST_PAUSE_S = 2.0

# Refusals that pass by themselves while an ask waits.
_PASSING = frozenset({"LOADING", "BUSY", "TRYAGAIN"})
_UNPACKABLE = (OverflowError, TypeError, ValueError)
_PLACE = re.compile(r"user_script:\d+")

log = logging.getLogger("penstock.gate")
_unpack = msgpack.unpackb


class StoreUnavailable(Exception):
    """The store did not answer in time, or cannot write; nothing may be spent."""


class _Admission:
    """A batch of asks under way; `again` once it may have been carried out without an answer."""

    __slots__ = ("again", "asks", "boot", "flying", "number", "sent_at")

    def __init__(self, asks: list[Ask], boot: Boot) -> None:
        self.asks = asks
        self.boot = boot
        self.number = 0
        self.again = False
        self.flying = False
        self.sent_at = 0.0


class _SettleBatch:
    """A numbered batch of settlements that the store has not confirmed, or the question for its numbers (`kept`)."""

    __slots__ = ("command", "journalled", "kept", "sent_at", "size")

    def __init__(
        self, command: Command, size: int, kept: "list[_SettleBatch] | None" = None
    ) -> None:
        self.command = command
        self.size = size
        self.kept = kept
        self.journalled = kept is not None
        self.sent_at = 0.0


@dataclass(slots=True)
class GateStats:
    """Counters of one gate, for metrics; times in seconds."""

    admit_batches: int = 0
    admit_asks: int = 0
    admit_seconds: float = 0.0
    settle_batches: int = 0
    settlements: int = 0
    settle_seconds: float = 0.0
    store_errors: int = 0
    unavailable: int = 0
    journalled: int = 0
    replayed: int = 0
    reseeded: int = 0
    recalled: int = 0
    boots: int = 0


class Gate:
    """
    Admits and settles for one replica.

    `seed` is awaited with scope keys that the store does not know; it writes their limits.
    `observe(kind, size, seconds)` is told of every answered batch, `kind` being `admit` or `settle`.
    """

    def __init__(
        self,
        admit_lane: Lane,
        settle_lane: Lane,
        client: Redis,
        *,
        replica: str,
        journal_dir: Path,
        seed: Callable[[list[str]], Awaitable[None]],
        timeout_s: float = 1.0,
        observe: Callable[[str, int, float], None] | None = None,
        streams: Callable[[], Iterable[tuple[Boot, str, int]]] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._admit_lane = admit_lane
        self._settle_lane = settle_lane
        self._client = client
        self._replica = replica
        self._journal_dir = journal_dir
        self._seed = seed
        self._timeout_s = timeout_s
        self._observe = observe
        self._streams = streams
        self._admit_script = scripts.load("ratelimit", "admit")
        self._settle_script = scripts.load("ratelimit", "settle")
        self._admit_sha = self._admit_script.sha
        self._settle_sha = self._settle_script.sha

        self._asks: deque[Ask] = deque()
        self._admission: _Admission | None = None
        self._admit_scheduled = False
        self._sendings = 0

        self._settlements: deque[Settlement] = deque()
        self._batches: deque[_SettleBatch] = deque()
        # What was confirmed of late, and the number of the connection that it went by.
        self._kept: deque[_SettleBatch] = deque()
        self._settle_life = settle_lane.lives
        self._settle_scheduled = False
        self._settle_flying = False
        self._settle_dropped = False
        self._settle_pause_s = 0.0
        self._numbers: dict[str, int] = {}
        self._drained = asyncio.Event()
        self._drained.set()

        self._boot = self._new_boot()
        self._journal = Journal(journal_dir, self._boot.member.replace("/", "_"))
        self._chores: set[asyncio.Task[None]] = set()
        self._tick: asyncio.TimerHandle | None = None
        self._closing = False
        self._troubles: dict[str, tuple[set[str], float]] = {}
        self.stats = GateStats()

    @property
    def boot(self) -> Boot:
        """The life under which asks are admitted now."""
        return self._boot

    @property
    def unsettled(self) -> int:
        """Return how many settlements the store has not confirmed."""
        return len(self._settlements) + sum(batch.size for batch in self._batches)

    # Life.

    async def start(self) -> None:
        """
        Load the scripts, register this boot, replay what dead processes left.

        Raises `StoreUnavailable`; it may then be called again.
        """
        try:
            async with asyncio.timeout(5.0):
                await self._load_scripts()
                await self._be_born()
            await self._replay_orphans()
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"cannot reach the store: {error}") from error
        self._spawn(self._beating())
        self._tick = self._loop.call_later(WATCH_S, self._watch)

    async def drain(self, timeout_s: float) -> bool:
        """Wait until every settlement is confirmed; what is not is left in the journal. Returns whether it was."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._drained.wait()
        except TimeoutError:
            self._keep_in_journal()
            return False
        return True

    async def close(self) -> None:
        """
        Stop beating and give up this boot at once, so that nothing waits for its expiry.

        Asks that wait are refused, settlements that are not confirmed stay in the journal for the next process.
        """
        self._closing = True
        if self._tick is not None:
            self._tick.cancel()
        for chore in list(self._chores):
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        waiting = [*self._asks, *(self._admission.asks if self._admission is not None else ())]
        self._asks.clear()
        for ask in waiting:
            self._refuse(ask, "this gateway is shutting down")
        self._hand_over()
        try:
            async with asyncio.timeout(1.0):
                # An end in the past: the reaper takes over whatever is still held.
                await self._client.zadd(BEATS, {self._boot.member: 0}, xx=True)
        except (RedisError, OSError):
            pass

    def _hand_over(self) -> None:
        if self.unsettled:
            self._keep_in_journal()
        self._journal.close()

    def _spawn(self, chore: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    def _new_boot(self) -> Boot:
        boot = boot_of(f"{self._replica}.{secrets.token_hex(4)}")
        self._numbers[boot.member] = 0
        return boot

    async def _load_scripts(self) -> None:
        for script in (self._admit_script, self._settle_script):
            await self._client.script_load(script.text)

    async def _beating(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                async with asyncio.timeout(BEAT_S):
                    await self._beat()
                    await self._report_progress()
                self._well("beat")
            except Exception as error:  # noqa: BLE001 - a replica that stops beating is taken for dead
                self.stats.store_errors += 1
                self._trouble("beat", error)

    async def _be_born(self) -> None:
        """Begin the life of this boot in the eyes of the store; its settlements are counted from there."""
        boot = self._boot
        await run(self._client, "beat", [BEATS], ["", boot.member, LIFE_US, 1])
        await self._client.set(boot.seen, 0, nx=True, ex=REMEMBER_S)

    async def _beat(self) -> None:
        boot = self._boot
        answer = await run(self._client, "beat", [BEATS], ["", boot.member, LIFE_US, 0])
        if answer == b"FENCED":
            await self._reboot(boot)

    async def _reboot(self, fenced: Boot) -> None:
        """Come back under a new boot id, unless somebody did already."""
        if self._boot is fenced:
            self._boot = self._new_boot()
            self.stats.boots += 1
            log.warning("%s was taken for dead; going on as %s", fenced.member, self._boot.member)
        await self._be_born()

    async def _report_progress(self) -> None:
        if self._streams is None:
            return
        reports: dict[Boot, list[str | int]] = {}
        for boot, attempt_id, tokens in self._streams():
            reports.setdefault(boot, []).extend((attempt_id, tokens))
        for boot, args in reports.items():
            for start in range(0, len(args), 512):
                await run(
                    self._client, "progress", [boot.leases, boot.parts], args[start : start + 512]
                )

    async def _replay_orphans(self) -> None:
        for orphan in orphans(self._journal_dir):
            done = False
            try:
                done = await self._replay(orphan)
            finally:
                if done:
                    orphan.remove()
                else:
                    orphan.leave()

    async def _replay(self, orphan: Orphan) -> bool:
        """Send an orphan's commands. Returns whether all were taken; what was not must not keep us from starting."""
        try:
            for command in orphan.commands():
                # Another version of the script may have made it; its arguments are the same.
                async with asyncio.timeout(5.0):
                    await self._client.eval(self._settle_script.text, int(command[2]), *command[3:])
                self.stats.replayed += 1
        except (ResponseError, ValueError) as error:
            log.error("the journal %s cannot be replayed: %s", orphan.path.name, _words(error))
            return False
        return True

    def _watch(self) -> None:
        """Look for calls that the store does not answer."""
        now = monotonic()
        if self._asks and self._asks[0].deadline < now:
            self._expire(now)
        admission = self._admission
        if admission is not None:
            self._refuse_expired(admission.asks, now)
            if admission.flying and now - admission.sent_at > self._timeout_s:
                # Nothing after it would be answered either: a new connection is the quickest way out.
                admission.flying = False
                self._admit_lane.drop()
        if (
            self._settle_flying
            and not self._settle_dropped
            and now - self._batches[0].sent_at > 2 * self._timeout_s
        ):
            self._settle_dropped = True
            self._settle_lane.drop()
        if self._settle_life != self._settle_lane.lives and not self._settle_flying:
            self._send_settlements()
        self._tick = self._loop.call_later(WATCH_S, self._watch)

    def _trouble(self, what: str, error: Any) -> None:
        """Say that something does not work, once for each reason until it works again."""
        words = _words(error)
        said, _ = self._troubles.setdefault(what, (set(), monotonic()))
        if words not in said:
            said.add(words)
            log.warning("the store fails at %s: %s", what, words)

    def _well(self, what: str) -> None:
        """Say that it works again, if it did not."""
        if self._troubles:
            known = self._troubles.pop(what, None)
            if known is not None:
                log.warning("the store is back for %s after %.1f s", what, monotonic() - known[1])

    # Admission.

    def admit(self, ask: Ask) -> "asyncio.Future[Grant | Denied | Nobody]":
        """
        Ask for a lease; the future raises `StoreUnavailable` when the store does not answer in time.

        A grant must be settled. Whoever stops waiting says so with `abandon`.
        """
        ask.answer = self._loop.create_future()
        ask.deadline = monotonic() + self._timeout_s
        if self._closing:
            self._refuse(ask, "this gateway is shutting down")
            return ask.answer
        self._asks.append(ask)
        if self._admission is None and not self._admit_scheduled:
            self._admit_scheduled = True
            self._loop.call_soon(self._send_asks)
        return ask.answer

    def abandon(self, ask: Ask) -> None:
        """
        Give up an ask whose caller has stopped waiting; a lease that it got, or still gets, is given back.

        A task that is cancelled may have its grant already without having seen it, so that nobody else would settle it.
        """
        answer = ask.answer
        if not answer.done():
            answer.cancel()
        elif not answer.cancelled() and answer.exception() is None:
            grant = answer.result()
            if isinstance(grant, Grant):
                self._void(ask, grant.boot)

    def _send_asks(self) -> None:
        self._admit_scheduled = False
        if self._admission is not None or not self._asks:
            return
        queue = self._asks
        asks: list[Ask] = []
        while queue and len(asks) < BATCH:
            ask = queue.popleft()
            if not ask.answer.done():
                asks.append(ask)
        if asks:
            self._send_admission(_Admission(asks, self._boot))

    def _send_admission(self, admission: _Admission) -> None:
        """Send a batch, under a number of its own."""
        self._admission = admission
        self._sendings = admission.number = self._sendings + 1
        try:
            command = admit_command(
                self._admit_sha,
                admission.boot,
                admission.asks,
                number=admission.number,
                again=admission.again,
            )
        except _UNPACKABLE:
            self._weed(admission)
            return

        def answered(answer: Any) -> None:
            self._admitted(admission, answer)

        admission.sent_at = monotonic()
        try:
            self._admit_lane.call(answered, *command)
            admission.flying = True
        except LaneLost as lost:
            self._spawn(self._recover_admission(admission, lost))

    def _weed(self, admission: _Admission) -> None:
        """Give the asks that cannot be sent (a number beyond 64 bits) their error, and go on with the others."""
        fit = []
        for ask in admission.asks:
            try:
                admit_command(self._admit_sha, admission.boot, [ask])
                fit.append(ask)
            except _UNPACKABLE as error:
                if not ask.answer.done():
                    ask.answer.set_exception(error)
        admission.asks = fit
        self._go_on(admission)

    def _admitted(self, admission: _Admission, answer: Any) -> None:
        admission.flying = False
        if self._closing:
            # Our boot is given up: the reaper frees what was granted.
            return
        if answer.__class__ is not list:
            if isinstance(answer, LaneLost):
                admission.again = True
            self._spawn(self._recover_admission(admission, answer))
            return
        self._admission = None
        if self._troubles:
            self._well("admission")
        unknown: list[Ask] = []
        missing: dict[str, None] = {}
        boot = admission.boot
        for ask, packed in zip(admission.asks, answer, strict=True):
            row = _unpack(packed)
            kind = row[0]
            future = ask.answer
            if future.done():
                # The caller left, or was refused, while the store was granting.
                if kind == GRANTED:
                    self._void(ask, boot)
            elif kind == GRANTED:
                future.set_result(Grant(row, boot))
            elif kind == NOBODY:
                future.set_result(
                    Nobody(row[1], tuple(LOST_WORDS[word] for word in row[2]), row[3], row[4])
                )
            elif kind == UNKNOWN:
                unknown.append(ask)
                missing.update(dict.fromkeys(row[1:]))
            else:
                future.set_result(denied(ask, row))
        stats = self.stats
        stats.admit_batches += 1
        stats.admit_asks += len(answer)
        seconds = monotonic() - admission.sent_at
        stats.admit_seconds += seconds
        if self._observe is not None:
            self._observe("admit", len(answer), seconds)
        if unknown:
            self._spawn(self._seed_and_ask(unknown, list(missing)))
        if self._asks:
            self._send_asks()

    async def _recover_admission(self, admission: _Admission, answer: Any) -> None:
        """Do what the store's refusal of a whole batch calls for, then ask again whoever still waits."""
        lane = self._admit_lane
        try:
            if isinstance(answer, LaneLost):
                self.stats.store_errors += 1
                self._trouble("admission", answer)
                while not lane.connected and any(not ask.answer.done() for ask in admission.asks):
                    await asyncio.sleep(0.01)
                    self._refuse_expired(admission.asks, monotonic())
            else:
                async with asyncio.timeout(self._timeout_s):
                    await self._mend(admission, answer)
        except Exception as error:  # noqa: BLE001 - whatever it was, these asks must be answered
            self._trouble("admission", error)
            for ask in admission.asks:
                self._refuse(ask, f"the store fails ({_words(error)})")
        if admission.again:
            for ask in admission.asks:
                if ask.answer.done():
                    self._void(ask, admission.boot, admission.number + 1)
        admission.asks = [ask for ask in admission.asks if not ask.answer.done()]
        self._go_on(admission)

    async def _mend(self, admission: _Admission, answer: Any) -> None:
        """Act on a refusal that left everything as it was; raises what cannot be mended."""
        code = str(answer).partition(" ")[0]
        if answer == b"FENCED":
            fenced = admission.boot
            if admission.again:
                # An earlier sending may have been granted before the end of that boot.
                for ask in admission.asks:
                    self._void(ask, fenced, admission.number + 1)
                admission.again = False
            await self._reboot(fenced)
            admission.boot = self._boot
        elif isinstance(answer, hiredis.ReplyError) and code == "NOSCRIPT":
            await self._load_scripts()
        elif isinstance(answer, hiredis.ReplyError) and code in _PASSING:
            self.stats.store_errors += 1
            self._trouble("admission", answer)
            await asyncio.sleep(PAUSE_S)
        else:
            self.stats.store_errors += 1
            await asyncio.sleep(PAUSE_S)
            if code == "READONLY":
                # The primary is another one now, perhaps under the same name.
                self._admit_lane.drop()
            raise answer if isinstance(answer, Exception) else RedisError("an odd answer")

    def _go_on(self, admission: _Admission) -> None:
        """Send a batch again if somebody waits for it, or else the next."""
        if admission.asks:
            self._send_admission(admission)
        else:
            self._admission = None
            self._send_asks()

    async def _seed_and_ask(self, asks: list[Ask], keys: list[str]) -> None:
        """Write the limits that the store has lost, then ask again: a flush never opens the gate."""
        try:
            for ask in asks:
                ask.reseeds += 1
                if ask.reseeds > RESEEDS:
                    self._refuse(ask, "the store does not keep its limits")
            async with asyncio.timeout(min(ask.deadline for ask in asks) - monotonic()):
                await self._seed(keys)
            self.stats.reseeded += len(keys)
            self._well("seeding")
        except BaseException as error:
            for ask in asks:
                self._refuse(ask, "the store has lost its limits")
            if not isinstance(error, Exception):
                raise
            self._trouble("seeding", error)
            return
        # They have waited longer than the others.
        self._asks.extendleft(ask for ask in reversed(asks) if not ask.answer.done())
        if self._admission is None:
            self._send_asks()

    def _refuse(self, ask: Ask, words: str) -> None:
        if not ask.answer.done():
            self.stats.unavailable += 1
            ask.answer.set_exception(StoreUnavailable(words))

    def _refuse_expired(self, asks: list[Ask], now: float) -> None:
        for ask in asks:
            if ask.deadline < now:
                self._refuse(ask, "the store did not answer in time")

    def _expire(self, now: float) -> None:
        while self._asks and self._asks[0].deadline < now:
            self._refuse(self._asks.popleft(), "the store did not answer in time")

    def _void(self, ask: Ask, boot: Boot, void_to: int = 0) -> None:
        self.settle(_voided(ask.plan, boot, ask.attempt_id, void_to))

    # Settlement.

    def settle(self, settlement: Settlement) -> None:
        """Hand over the truth about an attempt; it reaches the store exactly once, sooner or later."""
        self._settlements.append(settlement)
        self._drained.clear()
        if not self._settle_flying and not self._settle_scheduled:
            self._settle_scheduled = True
            self._loop.call_soon(self._send_settlements)

    def _send_settlements(self) -> None:
        self._settle_scheduled = False
        if self._closing:
            self._hand_over()
            return
        if self._settle_flying:
            return
        if self._settle_life != self._settle_lane.lives:
            self._settle_life = self._settle_lane.lives
            self._ask_for_numbers()
        if not self._batches and self._settlements:
            self._batches.append(self._next_batch())
        if not self._batches:
            self._drained.set()
            return
        batch = self._batches[0]
        batch.sent_at = monotonic()

        def answered(answer: Any) -> None:
            self._settled(batch, answer)

        self._settle_flying = True
        self._settle_dropped = False
        try:
            self._settle_lane.call(answered, *batch.command)
        except LaneLost as lost:
            self._settled(batch, lost)

    def _ask_for_numbers(self) -> None:
        """Put the question what the store still knows before everything else that is sent."""
        if self._batches and self._batches[0].kept is not None:
            self._batches.popleft()
        if self._kept:
            places = dict.fromkeys(numbered(batch.command)[0] for batch in self._kept)
            self._batches.appendleft(_SettleBatch(("MGET", *places), 0, list(self._kept)))

    def _keep(self, batch: _SettleBatch) -> None:
        """Keep what was confirmed until it is surely on the store's disk; while the store is gone nothing grows old."""
        kept, old = self._kept, monotonic() - KEEP_S
        while kept and kept[0].sent_at < old:
            kept.popleft()
        kept.append(batch)

    def _recall(self, kept: list[_SettleBatch], places: tuple[Any, ...], known: list[Any]) -> None:
        """Send again what a store has forgotten; one that knows no number at all is another one, and begins anew."""
        numbers = {
            place: int(number)
            for place, number in zip(places, known, strict=True)
            if number is not None
        }
        lost: list[_SettleBatch] = []
        known_still: deque[_SettleBatch] = deque()
        for batch in kept:
            place, number = numbered(batch.command)
            forgotten = number > numbers.get(place, number)
            (lost if forgotten else known_still).append(batch)
            batch.journalled = False
        if lost:
            log.warning("the store has forgotten %d batches of settlements", len(lost))
            self.stats.recalled += sum(batch.size for batch in lost)
            self._kept = known_still
            self._batches.extendleft(reversed(lost))

    def _next_batch(self) -> _SettleBatch:
        queue = self._settlements
        first = queue.popleft()
        boot = first.boot
        settlements = [first]
        while queue and len(settlements) < BATCH and queue[0].boot is boot:
            settlements.append(queue.popleft())
        number = self._numbers[boot.member] + 1
        self._numbers[boot.member] = number
        try:
            command = settle_command(self._settle_sha, boot, number, settlements)
        except _UNPACKABLE:
            settlements = [self._sendable(one) for one in settlements]
            command = settle_command(self._settle_sha, boot, number, settlements)
        return _SettleBatch(command, len(settlements))

    def _sendable(self, settlement: Settlement) -> Settlement:
        """Return it, or what at least frees its lease when it cannot be packed (a number beyond 64 bits)."""
        try:
            settle_command(self._settle_sha, settlement.boot, 0, [settlement])
            return settlement
        except _UNPACKABLE as error:
            log.error(
                "attempt %s cannot be booked (%s); its lease is given back",
                settlement.attempt_id,
                error.__class__.__name__,
            )
            return _voided(settlement.plan, settlement.boot, settlement.attempt_id)

    def _settled(self, batch: _SettleBatch, answer: Any) -> None:
        if self._closing:
            # It is in the journal, and whoever replays it finds out whether it was applied.
            return
        if batch.kept is not None and answer.__class__ is list:
            self._settle_flying = False
            self._batches.popleft()
            self._recall(batch.kept, batch.command[1:], answer)
            self._send_settlements()
            return
        if answer.__class__ is int or answer == b"SEEN":
            self._settle_flying = False
            self._settle_pause_s = 0.0
            self._keep(self._batches.popleft())
            if batch.journalled and not (self._batches and self._batches[0].journalled):
                self._journal.clear()
            if self._troubles:
                self._well("settlement")
            stats = self.stats
            stats.settle_batches += 1
            stats.settlements += batch.size
            seconds = monotonic() - batch.sent_at
            stats.settle_seconds += seconds
            if self._observe is not None:
                self._observe("settle", batch.size, seconds)
            self._send_settlements()
            return
        self._settle_dropped = True
        self._spawn(self._resettle(answer))

    async def _resettle(self, answer: Any) -> None:
        """Keep what is unconfirmed on disk, and send the same batch again once the store is back."""
        self.stats.store_errors += 1
        self._keep_in_journal()
        if isinstance(answer, LaneLost):
            self._trouble("settlement", answer)
            await asyncio.sleep(PAUSE_S)
        else:
            await self._bear(str(answer).partition(" ")[0], answer)
        while not self._settle_lane.connected:
            self._keep_in_journal()
            await asyncio.sleep(PAUSE_S)
        self._settle_flying = False
        self._send_settlements()

    async def _bear(self, code: str, answer: Any) -> None:
        """Wait out a refusal, longer each time: nothing may be dropped, and nothing may spin."""
        pause = self._settle_pause_s
        self._settle_pause_s = min(max(2 * pause, PAUSE_S), LONGEST_PAUSE_S)
        if code == "NOSCRIPT":
            try:
                async with asyncio.timeout(2 * self._timeout_s):
                    await self._load_scripts()
            except Exception as error:  # noqa: BLE001 - the next try loads them
                self._trouble("settlement", error)
        if code != "NOSCRIPT" or pause > 0:
            self._trouble("settlement", answer)
            await asyncio.sleep(self._settle_pause_s)
        if code == "READONLY":
            self._settle_lane.drop()

    def _keep_in_journal(self) -> None:
        while self._settlements:
            self._batches.append(self._next_batch())
        try:
            for batch in self._batches:
                if not batch.journalled:
                    self._journal.append(batch.command)
                    batch.journalled = True
                    self.stats.journalled += batch.size
        except OSError as error:
            # Memory still has them; they are lost only if this process dies as well.
            self._trouble("the journal", error)


def _voided(plan: Plan, boot: Boot, attempt_id: str, void_to: int = 0) -> Settlement:
    """Return what gives a lease back as if it had never been."""
    return Settlement(
        plan,
        boot,
        attempt_id,
        candidate=0,
        input_tokens=0,
        output_tokens=0,
        cost_nusd=0,
        health=0,
        ttft_us=0,
        cool_us=0,
        streamed=False,
        entry=b"",
        void=True,
        void_to=void_to,
    )


def _words(error: Any) -> str:
    """Return what an error is in words that show neither keys nor contents."""
    if isinstance(error, (hiredis.ReplyError, ResponseError)):
        place = _PLACE.search(str(error))
        code = str(error).partition(" ")[0] if isinstance(error, hiredis.ReplyError) else ""
        return " ".join(
            word for word in (code or error.__class__.__name__, place and f"at {place[0]}") if word
        )
    if isinstance(error, LaneLost):
        return "no connection"
    return str(error.__class__.__name__)
