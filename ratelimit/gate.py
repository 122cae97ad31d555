"""
The gate: one replica's life in the eyes of the store, with its admission and its settlement.

Both are batched over a connection each, so that settlements never delay an answer to a caller.
A replica lives as long as it beats, and what it holds hangs on its life.
One that was taken for dead comes back under a new boot id; attempts of the old one still settle under the old one.

Failure stance: each limit does what it declares, and nothing is lost; see `ratelimit.outage` and `ratelimit.settling`.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from time import monotonic
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from ratelimit.admission import Admission
from ratelimit.asks import Ask, Boot, Denied, Grant, Nobody, Settlement, boot_of, calls_of
from ratelimit.commands import BATCH
from ratelimit.degraded import Replicas, Rule
from ratelimit.inheritance import inherit
from ratelimit.lives import DEAD, Life
from ratelimit.outage import PROBE_S, Outage
from ratelimit.settling import Settling
from ratelimit.troubles import GateStats, Observe, StoreUnavailable, Troubles
from ratelimit.upkeep import living, run
from ratelimit.waiting import WaitingRoom
from store.cells import FIRST, Cell
from store.chores import Chore, Chores
from store.lane import Lane

# Progress goes with the beat: a crash may forget two seconds of a stream, of which half a one is for lags.
BEAT_S = 1.5
# For how long the store may take to hear of it.
BEATEN_WITHIN_S = 1.5
LIFE_US = 10_000_000
# For how long a grant of a life that has ended may still be on its way.
LINGERS_S = 10.0
WATCH_S = 0.05
# How long the birth of a boot waits for a replica of the store.
REPLICA_WITHIN_MS = 200

log = logging.getLogger("penstock.gate")


class Gate:
    """
    Admits and settles for one replica in one cell.

    `seed` is awaited with scope keys that the store does not know; it writes their limits.
    `observe(kind, size, seconds)` is told of every answered batch, `kind` being `admit` or `settle`.
    `streams` gives what open streams have given so far; `rule` finds what a scope declares for when the store is away.
    `where` names the cell in the log, if there are more.
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
        observe: Observe | None = None,
        streams: Callable[[], Iterable[tuple[Boot, str, int]]] | None = None,
        rule: Callable[[str], Rule | None] = lambda _: None,
        cell: Cell = FIRST,
        where: str = "",
    ) -> None:
        self._cell = cell
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._replica = replica
        self._streams = streams
        self._boot = self._new_boot()
        self._journal_dir = journal_dir
        self._life = Life(journal_dir, self._boot.member.replace("/", "_"))
        # Former boots that may have something to settle yet, each with when its life had ended.
        self._former: dict[Boot, float] = {}
        self._chores: set[asyncio.Task[None]] = set()
        self._tick: asyncio.TimerHandle | None = None
        self._troubles = Troubles()
        self.stats = GateStats()
        self._outage = Outage(
            rule,
            boot=lambda: self._boot,
            timeout_s=timeout_s,
            stats=self.stats,
            where=where,
            granted=self._granted_here,
        )
        self._settling = Settling(
            settle_lane,
            boot=self._boot,
            journal_dir=journal_dir,
            timeout_s=timeout_s,
            stats=self.stats,
            troubles=self._troubles,
            spawn=self._spawn,
            observe=observe,
            is_ill=lambda: self._outage.active,
        )
        self._admission = Admission(
            admit_lane,
            life=self,
            seed=seed,
            settle=self.settle,
            timeout_s=timeout_s,
            stats=self.stats,
            troubles=self._troubles,
            spawn=self._spawn,
            observe=observe,
            outage=self._outage,
            caught_up=lambda: self._settling.caught_up,
            asserted=self._settling.asserted,
        )
        self._room = WaitingRoom(self.admit)

    @property
    def boot(self) -> Boot:
        """The life under which asks are admitted now."""
        return self._boot

    @property
    def idle(self) -> bool:
        """Whether no ask is under way and nothing waits to be settled."""
        return self._admission.idle and not self._settling.unsettled

    @property
    def waiting(self) -> int:
        """Return how many asks wait for a place."""
        return len(self._room)

    @property
    def degraded(self) -> bool:
        """Whether asks are judged here, because the store does not answer."""
        return self._outage.active

    @property
    def learning(self) -> bool:
        """Whether the store does not know what was spent, so that strict budgets are closed."""
        return self._admission.learning

    @property
    def unsettled(self) -> int:
        """Return how many settlements the store has not confirmed."""
        return self._settling.unsettled

    # What callers want.

    def admit(self, ask: Ask) -> "asyncio.Future[Grant | Denied | Nobody]":
        """
        Ask for a lease; when the store does not answer in time, each limit does what it declares.

        The future raises `StoreUnavailable` for what is closed then. A grant must be settled. Whoever stops waiting says so with `abandon`.
        """
        return self._admission.admit(ask)

    async def wait(self, ask: Ask, answer: Nobody, until: float) -> Grant | Denied | Nobody:
        """Wait for a place, with the ticket that `answer` has given, until a moment of `time.monotonic`; as `admit`."""
        return await self._room.wait(ask, answer, until)

    def abandon(self, ask: Ask) -> None:
        """Give up an ask whose caller has stopped waiting; a lease that it got, or still gets, is given back."""
        self._admission.abandon(ask)

    def settle(self, settlement: Settlement) -> None:
        """Hand over the truth about an attempt; it reaches the store exactly once, sooner or later."""
        self._outage.settled(settlement)
        self._settling.settle(settlement)

    # Life.

    async def start(self) -> None:
        """
        Load the scripts, register this boot, replay what dead processes left.

        Raises `StoreUnavailable`; it may then be called again.
        """
        try:
            async with asyncio.timeout(5.0):
                await self._admission.load()
                await self._settling.load()
                await self._be_born()
                await self._look_around(monotonic())
            self.stats.replayed += await inherit(self._client, self._journal_dir, self._cell)
        except (RedisError, OSError, hiredis.HiredisError) as error:
            raise StoreUnavailable(f"cannot reach the store: {error}") from error
        calls = calls_of(self._replica, self._cell)
        chores = Chores(
            (
                Chore("beats", self._beating),
                Chore("calls", lambda: self._room.listen(self._client, calls)),
            )
        )
        self._spawn(chores.run())
        self._tick = self._loop.call_later(WATCH_S, self._watch)

    async def drain(self, timeout_s: float) -> bool:
        """Wait until every settlement is confirmed; what is not is left in the journal. Returns whether it was."""
        return await self._settling.drain(timeout_s)

    async def confirmed(self, _: Cell, within_s: float) -> None:
        """Wait until the store has confirmed what was settled so far, or the time is up; what comes after is not waited for."""
        await self._settling.confirmed(within_s)

    async def close(self) -> None:
        """
        Stop beating and give up this boot at once, so that nothing waits for its expiry.

        Asks that wait are refused, settlements that are not confirmed stay in the journal for the next process.
        """
        self._admission.close()
        self._settling.close()
        if self._tick is not None:
            self._tick.cancel()
        for chore in list(self._chores):
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        self._admission.refuse_all()
        self._settling.hand_over()
        # The reaper takes over whatever is still held; what lies in the journal is settled late.
        life = self._life
        is_over = self._settling.is_over
        ends = dict.fromkeys(life.members, DEAD) if is_over else {self._boot.member: 0}
        try:
            async with asyncio.timeout(1.0):
                if ends:
                    await self._client.zadd(self._cell.beats, ends, xx=True)
        except (RedisError, OSError):
            is_over = False
        if is_over:
            life.end()
        else:
            life.leave()

    def _granted_here(self, ask: Ask, grant: Grant) -> None:
        self._settling.granted(ask, grant)

    def _spawn(self, chore: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(chore)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    def _new_boot(self) -> Boot:
        return boot_of(f"{self._replica}.{secrets.token_hex(4)}", self._cell)

    async def _be_born(self) -> None:
        """
        Begin the life of this boot in the eyes of the store; its settlements are counted from there.

        Where the store has replicas, one of them has to know: a primary that begins after a failover without ever having
        heard of this boot would be taken for another store, and not be told what was lost.
        """
        boot = self._boot
        try:
            self._life.begin(boot.member)
        except OSError as error:
            # Should it fall silent, nobody will know for certain that it is dead.
            self._troubles.note("the journal", error)
        # On one connection, because WAIT speaks of what was written on its own.
        async with self._client.client() as one:
            # Before it can settle: what a settlement writes where there is no number fades.
            await one.set(boot.seen, 0, nx=True)
            await run(one, "beat", [boot.cell.beats], ["", boot.member, LIFE_US, 1])
            # Where nobody may ask, as with some managed stores, they answer for their failovers themselves.
            with contextlib.suppress(ResponseError):
                replicas = (await one.info("replication")).get("connected_slaves", 0)
                if replicas and not await one.wait(1, REPLICA_WITHIN_MS):
                    log.warning("no replica of the store has heard of %s yet", boot.member)

    async def reboot(self, fenced: Boot) -> Boot:
        """Come back under a new boot id, unless somebody did already. Returns the boot that is known now."""
        if self._boot is fenced:
            self._former[fenced] = monotonic()
            self._boot = self._new_boot()
            self._settling.begin(self._boot)
            self.stats.boots += 1
            log.warning("%s was taken for dead; going on as %s", fenced.member, self._boot.member)
        await self._be_born()
        await self._carry_over(fenced)
        return self._boot

    async def _carry_over(self, fenced: Boot) -> None:
        """
        Let attempts live on that a boot held when the store forgot it.

        Those that were reaped stay where they are: their settlement corrects what was charged.
        Nobody adds leases to a boot that has ended, so that what is not there now will not be.
        """
        held = [ask.attempt_id for ask, _ in self._outage.held_under(fenced)]
        for start in range(0, len(held), BATCH):
            ids = held[start : start + BATCH]
            together: Any = self._client.pipeline(transaction=True)
            async with together:
                together.hmget(fenced.leases, ids)
                together.hmget(fenced.graves, ids)
                leases, graves = await together.execute()
            self._outage.move(
                (
                    attempt_id
                    for attempt_id, lease, grave in zip(ids, leases, graves, strict=True)
                    if lease is None and grave is None
                ),
                self._boot,
            )

    async def _beating(self) -> None:
        note_at = 0.0
        while True:
            await self._pause()
            try:
                async with asyncio.timeout(BEATEN_WITHIN_S):
                    await self._beat()
                    await self._report_progress()
                self._troubles.over("beat")
            except Exception as error:  # noqa: BLE001 - a replica that stops beating is taken for dead
                now = monotonic()
                if self._streams is not None and self._outage.active and now >= note_at:
                    # Not as often as the store is tried: an outage may last, and the journal with it.
                    note_at = now + BEAT_S
                    self._settling.streamed(self._streams())
                self.stats.store_errors += 1
                self._troubles.note("beat", error)

    async def _pause(self) -> None:
        """Wait for the next beat, which comes sooner while the store is ill."""
        until = monotonic() + BEAT_S
        while True:
            left = until - monotonic()
            if left <= 0:
                return
            await asyncio.sleep(min(left, PROBE_S))
            if self._outage.active:
                return

    async def _beat(self) -> None:
        begun = monotonic()
        boot = self._boot
        answer = await run(self._client, "beat", [boot.cell.beats], ["", boot.member, LIFE_US, 0])
        if answer == b"FENCED":
            await self.reboot(boot)
        await self._bury()
        await self._look_around(begun)

    async def _bury(self) -> None:
        """Tell the store of former boots that have nothing to settle any more: what it remembers of them it may forget."""
        for boot, since in list(self._former.items()):
            if (
                monotonic() - since > LINGERS_S
                and not self._outage.held_under(boot)
                and not self._settling.owes(boot)
            ):
                await self._client.zadd(boot.cell.beats, {boot.member: DEAD}, xx=True)
                del self._former[boot]

    async def _look_around(self, begun: float) -> None:
        """See how many replicas live: each holds its share of every limit when the store is away."""
        members = await living(self._client, self._cell)
        ours = self._boot.member
        replicas = Replicas(max(len(members), 1), sum(member < ours for member in members))
        self._outage.beaten(replicas, monotonic() - begun)

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

    def _watch(self) -> None:
        """Look for calls that the store does not answer."""
        now = monotonic()
        self._admission.watch(now)
        self._settling.watch(now)
        self._tick = self._loop.call_later(WATCH_S, self._watch)
