"""
Admission: asks on their way to the store, and its answers.

Whatever the store may have forgotten is asserted first (`ratelimit.assertion`).
While one call is in flight, the asks that arrive form the next (at most 64): an idle gateway waits for nobody, a busy one amortizes.

Failure stance: every ask is answered in time, and nothing is held that nobody waits for.
An ask that the store does not answer in time is judged without it (`ratelimit.outage`); if it was granted after all, the lease is given back, or is settled with the attempt.
A call whose connection is gone may still be lying in the server's socket: sendings are numbered, and giving one up raises a bar against it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic
from typing import Any, Protocol

import hiredis
import msgpack
from redis.exceptions import RedisError

from ratelimit.asks import (
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
    denied,
    voided,
)
from ratelimit.assertion import AGAIN_S, Assertion
from ratelimit.commands import BATCH, UNPACKABLE, admit_command
from ratelimit.outage import Outage
from ratelimit.troubles import GateStats, Observe, StoreUnavailable, Troubles, words
from store import scripts
from store.lane import Lane, LaneLost

# How often an ask may find limits missing: a flush may strike twice, a scope that nobody knows stays unknown.
RESEEDS = 3
# Pause after a refusal of the store.
PAUSE_S = 0.02

# Refusals that pass by themselves while an ask waits.
_PASSING = frozenset({"LOADING", "BUSY", "TRYAGAIN", "ASK"})

_unpack = msgpack.unpackb


class Life(Protocol):
    """The boot under which asks are admitted, and how to come back when the store has ended it."""

    @property
    def boot(self) -> Boot:
        """The life under which asks are admitted now."""

    async def reboot(self, fenced: Boot) -> Boot:
        """Return the boot that follows one that was taken for dead, known to the store."""


class _Batch:
    """A batch of asks under way; `again` once it may have been carried out without an answer."""

    __slots__ = ("again", "asks", "boot", "flying", "number", "sent_at")

    def __init__(self, asks: list[Ask], boot: Boot) -> None:
        self.asks = asks
        self.boot = boot
        self.number = 0
        self.again = False
        self.flying = False
        self.sent_at = 0.0


class Admission:
    """
    The asks of one replica.

    `seed` is awaited with scope keys that the store does not know; `settle` takes back what nobody waits for;
    `spawn` runs a coroutine that somebody awaits at the end.
    """

    def __init__(
        self,
        lane: Lane,
        *,
        life: Life,
        seed: Callable[[list[str]], Awaitable[None]],
        settle: Callable[[Settlement], None],
        timeout_s: float,
        stats: GateStats,
        troubles: Troubles,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        observe: Observe | None,
        outage: Outage,
        caught_up: Callable[[], bool],
        asserted: Callable[[list[str]], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._lane = lane
        self._life = life
        self._seed = seed
        self._settle = settle
        self._timeout_s = timeout_s
        self._stats = stats
        self._troubles = troubles
        self._spawn = spawn
        self._observe = observe
        self._outage = outage
        self._script = scripts.load("ratelimit", "admit")
        self._asks: deque[Ask] = deque()
        self._under_way: _Batch | None = None
        # Asks under strict budgets, while the store does not know what was spent.
        self._learners: deque[Ask] = deque()
        self._scheduled = False
        self._sendings = 0
        self._closing = False
        # When it is next worth a try to assert, though nobody asks.
        self._assert_at = 0.0
        self._assertion = Assertion(
            lane,
            outage,
            caught_up=caught_up,
            number=self._next_number,
            seed=seed,
            asserted=asserted,
            stats=stats,
        )

    @property
    def idle(self) -> bool:
        """Whether no call is under way."""
        return self._under_way is None

    @property
    def learning(self) -> bool:
        """Whether the store does not know what was spent."""
        return not self._assertion.known

    # Life.

    async def load(self) -> None:
        """Load the scripts."""
        # By the lane: a client may still be at a server that has become a replica.
        for script in (self._script, self._assertion.script):
            await self._lane.ask("SCRIPT", "LOAD", script.text)

    def watch(self, now: float) -> None:
        """Look for a call that the store does not answer."""
        batch = self._under_way
        if (self._asks and self._asks[0].deadline < now) or (
            batch is not None
            and any(ask.deadline < now and not ask.answer.done() for ask in batch.asks)
        ):
            self._do_without("the store did not answer in time", refused=False)
        if batch is not None and batch.flying and now - batch.sent_at > self._timeout_s:
            # Nothing after it would be answered either: a new connection is the quickest way out.
            batch.flying = False
            self._lane.drop()
        while self._learners and self._learners[0].deadline < now:
            self._refuse_learner(self._learners.popleft())
        boot = self._life.boot
        if (
            batch is None
            and now >= self._assert_at
            and self._lane.connected
            and self._assertion.is_due(boot)
        ):
            self._assert_at = now + AGAIN_S
            self._send(_Batch([], boot))

    def close(self) -> None:
        """Take no more asks."""
        self._closing = True

    def refuse_all(self) -> None:
        """Refuse every ask that waits."""
        waiting = [
            *self._asks,
            *self._learners,
            *(self._under_way.asks if self._under_way is not None else ()),
        ]
        self._asks.clear()
        self._learners.clear()
        for ask in waiting:
            self._refuse(ask, "this gateway is shutting down")

    # Asking.

    def admit(self, ask: Ask) -> "asyncio.Future[Grant | Denied | Nobody]":
        """
        Ask for a lease; the future raises `StoreUnavailable` for what is closed when the store does not answer in time.

        A grant must be settled. Whoever stops waiting says so with `abandon`.
        """
        ask.answer = self._loop.create_future()
        ask.deadline = monotonic() + self._timeout_s
        if self._closing:
            self._refuse(ask, "this gateway is shutting down")
            return ask.answer
        if self._outage.active and not self._outage.wants_probe():
            self._outage.answer(ask)
            return ask.answer
        self._asks.append(ask)
        if self._under_way is None and not self._scheduled:
            self._scheduled = True
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
        self._scheduled = False
        if self._under_way is not None or not self._asks:
            return
        queue = self._asks
        asks: list[Ask] = []
        while queue and len(asks) < BATCH:
            ask = queue.popleft()
            if not ask.answer.done():
                asks.append(ask)
            else:
                self._forget(ask)
        if asks:
            batch = _Batch(asks, self._life.boot)
            batch.again = any(ask.again for ask in asks)
            self._send(batch)

    def _next_number(self) -> int:
        self._sendings += 1
        return self._sendings

    def _send(self, batch: _Batch) -> None:
        """Send a batch, under a number of its own; what the store may have forgotten goes first."""
        self._under_way = batch
        if self._assertion.is_due(batch.boot):
            self._spawn(self._assert_first(batch))
            return
        if not self._assertion.known:
            self._hold_learners(batch)
        if not batch.asks:
            self._go_on(batch)
            return
        batch.number = self._next_number()
        try:
            command = admit_command(
                self._script.sha,
                batch.boot,
                batch.asks,
                number=batch.number,
                again=batch.again,
            )
        except UNPACKABLE:
            self._weed(batch)
            return

        def answered(answer: Any) -> None:
            self._admitted(batch, answer)

        batch.sent_at = monotonic()
        try:
            self._lane.call(answered, *command)
            batch.flying = True
        except LaneLost as lost:
            self._spawn(self._recover(batch, lost))

    async def _assert_first(self, batch: _Batch) -> None:
        """Assert what this replica holds, then send the batch."""
        answer: Any
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._assertion.make(batch.boot)
        except TimeoutError:
            self._lane.drop()
            answer = LaneLost("the store did not answer in time")
        except Exception as error:  # noqa: BLE001 - limits that cannot be seeded are the caller's to judge
            answer = error
        if answer is None:
            if self._assertion.known:
                self._release_learners()
            self._outage.heard()
            self._go_on(batch)
        elif answer == b"LATE":
            # Something that was settled meanwhile has given this sending up; the next leaves it out.
            self._go_on(batch)
        else:
            await self._recover(batch, answer)

    def _hold_learners(self, batch: _Batch) -> None:
        """Keep asks under strict budgets back until the store knows what was spent."""
        fit = []
        for ask in batch.asks:
            if self._outage.is_strict(ask):
                ask.again = ask.again or batch.again
                self._learners.append(ask)
            else:
                fit.append(ask)
        batch.asks = fit

    def _release_learners(self) -> None:
        """Let those go on who waited for the store to know; they have waited longer than the others."""
        for ask in self._learners:
            if ask.answer.done():
                self._forget(ask)
        self._asks.extendleft(ask for ask in reversed(self._learners) if not ask.answer.done())
        self._learners.clear()

    def _forget(self, ask: Ask) -> None:
        """Give back what an ask may have got by a sending whose answer was lost."""
        if ask.again:
            self._void(ask, self._life.boot, self._sendings + 1)

    def _refuse_learner(self, ask: Ask) -> None:
        self._forget(ask)
        self._refuse(
            ask,
            "the store has come back, and the strict budget over this call is closed"
            " until it knows again what was spent",
            "learning",
        )

    def _weed(self, batch: _Batch) -> None:
        """Give the asks that cannot be sent (a number beyond 64 bits) their error, and go on with the others."""
        fit = []
        for ask in batch.asks:
            try:
                admit_command(self._script.sha, batch.boot, [ask])
                fit.append(ask)
            except UNPACKABLE as error:
                if not ask.answer.done():
                    ask.answer.set_exception(error)
        batch.asks = fit
        self._go_on(batch)

    def _admitted(self, batch: _Batch, answer: Any) -> None:
        batch.flying = False
        if self._closing:
            # Our boot is given up: the reaper frees what was granted.
            return
        if answer.__class__ is not list:
            if isinstance(answer, LaneLost):
                batch.again = True
            self._spawn(self._recover(batch, answer))
            return
        self._under_way = None
        self._troubles.over("admission")
        outage = self._outage
        outage.over()
        unknown: list[Ask] = []
        missing: dict[str, None] = {}
        boot = batch.boot
        for ask, packed in zip(batch.asks, answer, strict=True):
            row = _unpack(packed)
            kind = row[0]
            future = ask.answer
            if future.done():
                # The caller left, or was refused, while the store was granting.
                # What was granted here meanwhile has its lease now, and is settled as it is.
                if kind == GRANTED and ask.taken is None:
                    self._void(ask, boot)
            elif kind == GRANTED:
                grant = Grant(row, boot)
                outage.granted(ask, grant)
                future.set_result(grant)
            elif kind == NOBODY:
                future.set_result(
                    Nobody(
                        row[1],
                        tuple(LOST_WORDS[word] for word in row[2]),
                        row[3],
                        row[4],
                        queued=row[5] == 1,
                    )
                )
            elif kind == UNKNOWN:
                unknown.append(ask)
                missing.update(dict.fromkeys(row[1:]))
            else:
                refusal = denied(ask, row)
                outage.denied(refusal)
                future.set_result(refusal)
        stats = self._stats
        stats.admit_batches += 1
        stats.admit_asks += len(answer)
        if self._observe is not None:
            self._observe("admit", len(answer), monotonic() - batch.sent_at)
        if unknown:
            self._spawn(self._seed_and_ask(unknown, list(missing)))
        if self._asks:
            self._send_asks()

    async def _recover(self, batch: _Batch, answer: Any) -> None:
        """Do what the store's refusal of a whole batch calls for, then ask again whoever still waits."""
        lane = self._lane
        try:
            if isinstance(answer, LaneLost):
                self._stats.store_errors += 1
                self._troubles.note("admission", answer)
                while any(not ask.answer.done() for ask in batch.asks):
                    if lane.connected:
                        break
                    await asyncio.sleep(0.01)
            else:
                async with asyncio.timeout(self._timeout_s):
                    await self._mend(batch, answer)
        except Exception as error:  # noqa: BLE001 - whatever it was, these asks must be answered
            self._troubles.note("admission", error)
            self._do_without(
                f"the store fails ({words(error)})", refused=not isinstance(error, TimeoutError)
            )
        if batch.again:
            for ask in batch.asks:
                if ask.answer.done() and ask.taken is None:
                    self._void(ask, batch.boot, batch.number + 1)
        batch.asks = [ask for ask in batch.asks if not ask.answer.done()]
        self._go_on(batch)

    async def _mend(self, batch: _Batch, answer: Any) -> None:
        """Act on a refusal that left everything as it was; raises what cannot be mended."""
        code = str(answer).partition(" ")[0]
        if answer == b"FENCED":
            fenced = batch.boot
            if batch.again:
                # An earlier sending may have been granted before the end of that boot.
                for ask in batch.asks:
                    self._void(ask, fenced, batch.number + 1)
                batch.again = False
            batch.boot = await self._life.reboot(fenced)
        elif isinstance(answer, hiredis.ReplyError) and code == "NOSCRIPT":
            await self.load()
        elif isinstance(answer, hiredis.ReplyError) and code in _PASSING:
            self._stats.store_errors += 1
            self._troubles.note("admission", answer)
            await asyncio.sleep(PAUSE_S)
        else:
            self._stats.store_errors += 1
            await asyncio.sleep(PAUSE_S)
            if code == "READONLY":
                # The primary is another one now, perhaps under the same name.
                self._lane.drop()
            raise answer if isinstance(answer, Exception) else RedisError("an odd answer")

    def _go_on(self, batch: _Batch) -> None:
        """Send a batch again if somebody waits for it, or else the next."""
        if self._closing:
            return
        if batch.asks:
            self._send(batch)
        else:
            self._under_way = None
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
            self._stats.reseeded += len(keys)
            self._troubles.over("seeding")
        except BaseException as error:
            for ask in asks:
                self._refuse(ask, "the store has lost its limits")
            if not isinstance(error, Exception):
                raise
            self._troubles.note("seeding", error)
            return
        # They have waited longer than the others.
        self._asks.extendleft(ask for ask in reversed(asks) if not ask.answer.done())
        if self._under_way is None:
            self._send_asks()

    def _refuse(self, ask: Ask, why: str, degraded: str = "") -> None:
        if not ask.answer.done():
            self._stats.unavailable += 1
            ask.answer.set_exception(StoreUnavailable(why, degraded))

    def _do_without(self, why: str, *, refused: bool) -> None:
        """Answer everybody who waits, as the store cannot."""
        outage = self._outage
        batch = self._under_way
        if not outage.active:
            waiting = [*self._asks, *(batch.asks if batch is not None else ())]
            born = [ask.deadline - self._timeout_s for ask in waiting if not ask.answer.done()]
            outage.begin(why, refused=refused, since=min(born, default=monotonic()))
        if batch is not None:
            for ask in batch.asks:
                if not ask.answer.done():
                    ask.void_to = batch.number + 1
                    outage.answer(ask)
        while self._asks:
            ask = self._asks.popleft()
            if ask.again:
                ask.void_to = self._sendings + 1
            outage.answer(ask)
            if ask.taken is None:
                self._forget(ask)

    def _void(self, ask: Ask, boot: Boot, void_to: int = 0) -> None:
        self._settle(voided(ask.plan, boot, ask.attempt_id, ask.user, void_to))
