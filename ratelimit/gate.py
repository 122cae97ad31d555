"""
The gate: admission and settlement, batched over the lane.

While one call is in flight, the asks that arrive form the next (at most 64): an idle gateway waits for nobody, a busy one amortizes.
Admit and settle have a connection each, so that settlements never delay an answer to a caller.

Failure stance: fail closed, and lose nothing.
An ask that the store does not answer in time is refused with `StoreUnavailable`; if it was granted after all, the lease is given back.
A settlement is repeated until the store confirms it, from the journal if need be; the script applies it once.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import hiredis
import msgpack
from redis.asyncio import Redis
from redis.exceptions import RedisError

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
    settle_command,
)
from ratelimit.journal import Command, Journal, orphans
from ratelimit.upkeep import run
from store import scripts
from store.lane import Lane, LaneLost

BATCH = 64
BEAT_S = 2.0
LIFE_US = 10_000_000

_unpack = msgpack.unpackb


class StoreUnavailable(Exception):
    """The store did not answer in time, or cannot write; nothing may be spent."""


class _Admission:
    """A batch of asks under way."""

    __slots__ = ("asks", "boot", "sent_at")

    def __init__(self, asks: list[Ask], boot: Boot, sent_at: float) -> None:
        self.asks = asks
        self.boot = boot
        self.sent_at = sent_at


class _SettleBatch:
    """A numbered batch of settlements that the store has not confirmed."""

    __slots__ = ("command", "journalled", "sent_at", "size")

    def __init__(self, command: Command, size: int) -> None:
        self.command = command
        self.size = size
        self.journalled = False
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

        self._settlements: deque[Settlement] = deque()
        self._batches: deque[_SettleBatch] = deque()
        self._settle_scheduled = False
        self._settle_flying = False
        self._numbers: dict[str, int] = {}
        self._drained = asyncio.Event()
        self._drained.set()

        self._boot = self._new_boot()
        self._journal = Journal(journal_dir, self._boot.member.replace("/", "_"))
        self._chores: set[asyncio.Task[None]] = set()
        self._tick: asyncio.TimerHandle | None = None
        self._closing = False
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
        """Load the scripts, register this boot, replay what dead processes left. Raises `StoreUnavailable`."""
        try:
            await self._load_scripts()
            await self._beat(fresh=True)
            await self._replay_orphans()
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"cannot reach the store: {error}") from error
        self._spawn(self._beating())
        self._tick = self._loop.call_later(0.05, self._watch)

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
        """Stop beating and give up this boot at once, so that nothing waits for its expiry."""
        self._closing = True
        if self._tick is not None:
            self._tick.cancel()
        for chore in list(self._chores):
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        if self.unsettled:
            self._keep_in_journal()
        self._journal.close()
        try:
            async with asyncio.timeout(1.0):
                # An end in the past: the reaper takes over whatever is still held.
                await self._client.zadd(BEATS, {self._boot.member: 0}, xx=True)
        except (RedisError, OSError, TimeoutError):
            pass

    def _spawn(self, chore: Any) -> None:
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
                    await self._beat(fresh=False)
                    await self._report_progress()
            except (RedisError, OSError, TimeoutError):
                self.stats.store_errors += 1

    async def _beat(self, *, fresh: bool) -> None:
        answer = await run(
            self._client,
            "beat",
            [BEATS],
            ["", self._boot.member, LIFE_US, 1 if fresh else 0],
        )
        if answer == b"FENCED":
            await self._reboot(self._boot)

    async def _reboot(self, fenced: Boot) -> None:
        """Come back under a new boot id, unless somebody did already."""
        if self._boot is fenced:
            self._boot = self._new_boot()
            self.stats.boots += 1
        await run(self._client, "beat", [BEATS], ["", self._boot.member, LIFE_US, 1])

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
            try:
                for command in orphan.commands():
                    # Another version of the script may have made it; its arguments are the same.
                    await self._client.evalsha(self._settle_sha, int(command[2]), *command[3:])
                    self.stats.replayed += 1
            except BaseException:
                orphan.leave()
                raise
            orphan.remove()

    def _watch(self) -> None:
        """Look for calls that the store does not answer."""
        now = monotonic()
        admission = self._admission
        if self._asks and self._asks[0].deadline < now:
            self._expire(now)
        if admission is not None and now - admission.sent_at > self._timeout_s:
            # Nothing after it would be answered either: a new connection is the quickest way out.
            self._admit_lane.drop()
        if (
            self._settle_flying
            and self._batches
            and now - self._batches[0].sent_at > 2 * self._timeout_s
        ):
            self._settle_lane.drop()
        self._tick = self._loop.call_later(0.05, self._watch)

    # Admission.

    def admit(self, ask: Ask) -> "asyncio.Future[Grant | Denied | Nobody]":
        """Ask for a lease; the future raises `StoreUnavailable` when the store does not answer in time."""
        ask.answer = self._loop.create_future()
        ask.deadline = monotonic() + self._timeout_s
        self._asks.append(ask)
        if self._admission is None and not self._admit_scheduled:
            self._admit_scheduled = True
            self._loop.call_soon(self._send_asks)
        return ask.answer

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
            self._send_admission(_Admission(asks, self._boot, monotonic()), again=False)

    def _send_admission(self, admission: _Admission, *, again: bool) -> None:
        self._admission = admission
        admission.sent_at = monotonic()
        command = admit_command(self._admit_sha, admission.boot, admission.asks, again=again)

        def answered(answer: Any) -> None:
            self._admitted(admission, answer)

        try:
            self._admit_lane.call(answered, *command)
        except LaneLost:
            self._spawn(self._retry_admission(admission, sent=again))

    def _admitted(self, admission: _Admission, answer: Any) -> None:
        if answer.__class__ is not list:
            self._spawn(self._recover_admission(admission, answer))
            return
        self._admission = None
        unknown: list[tuple[Ask, list[str]]] = []
        boot = admission.boot
        for ask, packed in zip(admission.asks, answer, strict=True):
            row = _unpack(packed)
            kind = row[0]
            if kind == UNKNOWN:
                unknown.append((ask, row[1:]))
                continue
            future = ask.answer
            if future.done():
                # The caller left, or was refused, while the store was granting.
                if kind == GRANTED:
                    self._void(ask, boot)
                continue
            if kind == GRANTED:
                future.set_result(Grant(row, boot))
            elif kind == NOBODY:
                future.set_result(
                    Nobody(row[1], tuple(LOST_WORDS[word] for word in row[2]), row[3], row[4])
                )
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
            self._spawn(self._seed_and_ask(unknown))
        if self._asks:
            self._send_asks()

    async def _recover_admission(self, admission: _Admission, answer: Any) -> None:
        """Do what the store's refusal of a whole batch calls for, then ask again."""
        try:
            if answer == b"FENCED":
                await self._reboot(admission.boot)
                admission.boot = self._boot
                self._send_admission(admission, again=False)
            elif isinstance(answer, LaneLost):
                await self._retry_admission(admission, sent=True)
            elif isinstance(answer, hiredis.ReplyError) and str(answer).startswith("NOSCRIPT"):
                await self._load_scripts()
                self._send_admission(admission, again=False)
            else:
                self.stats.store_errors += 1
                await asyncio.sleep(0.02)
                self._refuse_expired(admission.asks)
                if str(answer).startswith(("LOADING", "BUSY", "TRYAGAIN")) and any(
                    not ask.answer.done() for ask in admission.asks
                ):
                    self._send_admission(admission, again=False)
                else:
                    self._give_up(admission, f"the store refuses: {answer}")
        except (RedisError, OSError) as error:
            self._give_up(admission, f"cannot reach the store: {error}")

    async def _retry_admission(self, admission: _Admission, *, sent: bool) -> None:
        """Wait for the lane within the asks' time; ask again with the same ids, which is idempotent."""
        self.stats.store_errors += 1
        while not self._admit_lane.connected:
            await asyncio.sleep(0.01)
            self._refuse_expired(admission.asks)
            self._expire(monotonic())
            if all(ask.answer.done() for ask in admission.asks):
                break
        if sent:
            # It may have been carried out: whoever is not waiting any more gives the lease back.
            for ask in admission.asks:
                if ask.answer.done():
                    self._void(ask, admission.boot)
        waiting = [ask for ask in admission.asks if not ask.answer.done()]
        if waiting and self._admit_lane.connected:
            admission.asks = waiting
            self._send_admission(admission, again=sent)
        else:
            self._admission = None
            self._send_asks()

    async def _seed_and_ask(self, unknown: list[tuple[Ask, list[str]]]) -> None:
        """Write the limits that the store has lost, then ask again: a flush never opens the gate."""
        keys = list(dict.fromkeys(key for _, names in unknown for key in names))
        asks = [ask for ask, _ in unknown]
        try:
            await self._seed(keys)
            self.stats.reseeded += len(keys)
        except (RedisError, OSError, StoreUnavailable) as error:
            for ask in asks:
                self._refuse(ask, f"the store has lost its limits: {error}")
            return
        now = monotonic()
        for ask in asks:
            if ask.deadline < now:
                self._refuse(ask, "the store has lost its limits")
            elif not ask.answer.done():
                self._asks.append(ask)
        if self._admission is None:
            self._send_asks()

    def _give_up(self, admission: _Admission, words: str) -> None:
        for ask in admission.asks:
            self._refuse(ask, words)
            self._void(ask, admission.boot)
        self._admission = None
        self._send_asks()

    def _refuse(self, ask: Ask, words: str) -> None:
        if not ask.answer.done():
            self.stats.unavailable += 1
            ask.answer.set_exception(StoreUnavailable(words))

    def _refuse_expired(self, asks: list[Ask]) -> None:
        now = monotonic()
        for ask in asks:
            if ask.deadline < now:
                self._refuse(ask, "the store did not answer in time")

    def _expire(self, now: float) -> None:
        while self._asks and self._asks[0].deadline < now:
            self._refuse(self._asks.popleft(), "the store did not answer in time")

    def _void(self, ask: Ask, boot: Boot) -> None:
        self.settle(
            Settlement(
                ask.plan,
                boot,
                ask.attempt_id,
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
            )
        )

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
        if self._settle_flying:
            return
        if not self._batches and self._settlements:
            self._batches.append(self._next_batch())
        if not self._batches:
            if not self._settlements:
                self._drained.set()
                self._journal.clear()
            return
        batch = self._batches[0]
        batch.sent_at = monotonic()

        def answered(answer: Any) -> None:
            self._settled(batch, answer)

        self._settle_flying = True
        try:
            self._settle_lane.call(answered, *batch.command)
        except LaneLost as lost:
            self._settled(batch, lost)

    def _next_batch(self) -> _SettleBatch:
        queue = self._settlements
        first = queue.popleft()
        boot = first.boot
        settlements = [first]
        while queue and len(settlements) < BATCH and queue[0].boot is boot:
            settlements.append(queue.popleft())
        number = self._numbers[boot.member] + 1
        self._numbers[boot.member] = number
        return _SettleBatch(
            settle_command(self._settle_sha, boot, number, settlements), len(settlements)
        )

    def _settled(self, batch: _SettleBatch, answer: Any) -> None:
        if answer.__class__ is int or answer == b"SEEN":
            self._settle_flying = False
            self._batches.popleft()
            stats = self.stats
            stats.settle_batches += 1
            stats.settlements += batch.size
            seconds = monotonic() - batch.sent_at
            stats.settle_seconds += seconds
            if self._observe is not None:
                self._observe("settle", batch.size, seconds)
            self._send_settlements()
            return
        self._spawn(self._resettle(answer))

    async def _resettle(self, answer: Any) -> None:
        """Keep what is unconfirmed on disk, and send the same batch again once the store is back."""
        self.stats.store_errors += 1
        self._keep_in_journal()
        if isinstance(answer, hiredis.ReplyError) and str(answer).startswith("NOSCRIPT"):
            try:
                await self._load_scripts()
            except (RedisError, OSError):
                await asyncio.sleep(0.05)
        else:
            await asyncio.sleep(0.02)
        while not self._settle_lane.connected:
            self._keep_in_journal()
            await asyncio.sleep(0.02)
        self._settle_flying = False
        self._send_settlements()

    def _keep_in_journal(self) -> None:
        while self._settlements:
            self._batches.append(self._next_batch())
        for batch in self._batches:
            if not batch.journalled:
                self._journal.append(batch.command)
                batch.journalled = True
                self.stats.journalled += batch.size
