"""
What the control role does on its own: the chores that keep the books and the leases in order.

| chore | does | led |
|---|---|---|
| config | publishes the file if it changed, seeds the limits of every version, acknowledges it | no |
| keeper | publishes what runs again when the store has lost it | no |
| ledger | moves entries from the stream to the database | yes |
| reaper | settles what dead replicas held | yes |
| lives | says which edges of this machine are dead | no |
| settings | says what is wrong with the settings of the store's servers | no |
| reckoner | tells a store that has forgotten what was spent | no |
| board | puts up what is known of models and budgets, for edges to choose by | yes |
| alerts | tells of budgets' thresholds that were reached | yes |
| canaries | raises canaries step by step, and takes back those that do harm | yes |
| limits | writes limits into cells that were away, where there are several | no |
| shares | divides the limits that cells share, where there are several | yes |
| probes | asks providers whether they are there | yes |
| batches | bills batches whose output is known | yes |
| metrics | asks the workers for their counts | no |

*Led* chores are done by one of several controls at a time; each of them bears a second leader.
What is done in a cell, from the ledger to the alerts, is done in each, under a name of its own (`reaper.c1`), and led there.
Ready means: the configuration is published and the store answers.
"""

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import time_ns
from typing import Any

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from config import live
from config.cells import division_in, division_of
from config.keys import BadKeySecret, KeySecrets
from config.loader import ConfigError, Loaded, load_published, rekeyed
from config.models import Config
from console.batches import Biller
from console.board import Keeper
from console.canaries import Canaries
from console.metrics import Fleet, control_snapshot
from console.probes import Prober, worst_standings
from console.reckoner import Reckoner
from console.stores import CannotMove, in_each, move, put_limits
from governance.alerts import untold
from governance.drain import LedgerWriter
from governance.exchanges import find_exchange
from governance.usage import usd
from ratelimit.journal import journal_of
from ratelimit.lives import tell_of_the_dead
from ratelimit.rebalancing import Overtaken, divide, divided_in
from ratelimit.reports import STATES, Standing
from ratelimit.silence import Silent, silent
from ratelimit.upkeep import living, reap
from routing.experiments import Trial, compiled
from store import clock
from store.cells import FIRST, Cell
from store.chores import Chore, Chores
from store.election import Lease, lead
from store.settings import misgivings_about
from store.sql import LedgerUnreachable

__all__ = ["Control"]

REAP_EVERY_S = 2.0
TELL_EVERY_S = 1.0
DIVIDE_EVERY_S = 1.0
ASK_EVERY_S = 5.0
KEEP_EVERY_S = 5.0
LOOK_EVERY_S = 60.0
LISTEN_EVERY_S = 15.0
# A replica that is silent for so long has not come back by itself, and is spoken of again every hour.
SILENT_FOR_US = 60_000_000
SAID_EVERY_US = 3_600_000_000
# A control that was killed is followed by the next one so soon that what a dead edge held is still free in time.
LEAD_MS = 3_000
LAST_DRAIN_S = 5.0
_STORE_WITHIN_S = 2.0

_log = logging.getLogger("penstock.control")


class Control:
    """
    What is happening in the control role: its chores, and what they know.

    `writers` are those of all cells, the first one's first, with stores that answer in bytes; `environ` resolves the
    references of published configurations and says the key secret; `end` is called when the role cannot do its work at all, and `refusal` says why; `former` reads
    the file as it was published under former key secrets (`config.loader.former_documents`);
    `alone` says that the store is this installation's own; `journal` is where the edges of this machine say that they live.
    `connect` makes a client of any cell.
    """

    def __init__(
        self,
        writers: Sequence[LedgerWriter],
        loaded: Loaded,
        fleet: Fleet,
        environ: Mapping[str, str],
        *,
        end: Callable[[], None] = lambda: None,
        former: Callable[[], Collection[str]] = tuple,
        alone: bool = False,
        journal: Path | None = None,
        connect: Callable[[Cell], Redis] | None = None,
    ) -> None:
        self.refusal: BadKeySecret | CannotMove | None = None
        self._end = end
        self._former = former
        self._secrets = KeySecrets.said(environ)
        self.replica = f"{socket.gethostname()}/control"
        self._writers = writers
        self._stores = {each.cell: each.store for each in writers}
        self._store = store = self._stores[FIRST]
        ledger = writers[0].path
        self._connect = connect
        self._loaded = loaded
        self._fleet = fleet
        self._environ = environ
        self._running: live.Version | None = None
        self._config: tuple[Config, int] | None = None
        self._trials: Collection[Trial] = ()
        keeper = Keeper(self._stores, lambda: self._config)
        self._canaries = Canaries(store, ledger, lambda: self._config, environ, by=self.replica)
        self._prober = Prober(self._stores, lambda: self._config, replica=self.replica)
        self._alone = alone
        self._journal = journal
        self._reaped = 0
        # By cell, who fell silent and has something reserved.
        self._silent: dict[Cell, list[Silent]] = {}
        self._budget_events: Counter[tuple[str, str]] = Counter()
        self._leading: dict[str, bool] = {}
        self._biller = Biller(
            store,
            self._stores,
            lambda: None if self._config is None else self._config[0],
            replica=self.replica,
            entries=partial(find_exchange, self._stores, ledger),
        )
        # The last version whose limits are in all cells.
        self._spread = 0
        self._chores = Chores(
            (
                Chore("config", self._follow),
                Chore("keeper", self._keep),
                *(chore for each in writers for chore in self._chores_of(each)),
                *(self._dividing() if len(writers) > 1 else ()),
                self._led("board", keeper.run),
                self._led("canaries", self._canaries.run),
                self._led("probes", self._prober.run),
                self._led("batches", self._biller.run),
                Chore("metrics", self._ask),
            ),
            foreseen=(RedisError, OSError, LedgerUnreachable),
        )

    def _chores_of(self, writer: LedgerWriter) -> Iterator[Chore]:
        """Yield what is done in one cell, led there: whatever happens to others, it goes on."""
        cell, store = writer.cell, writer.store
        more = "" if cell is FIRST else f".{cell}"
        reckoner = Reckoner(
            store, writer.path, self._fleet, lambda: self._config, alone=self._alone, cell=cell
        )
        for name, work in (
            ("ledger", writer.run),
            ("reaper", lambda: self._reap(cell, store)),
            ("alerts", lambda: self._tell(cell, store)),
        ):
            yield self._led(name + more, work, cell, store)
        yield Chore(f"reckoner{more}", reckoner.run)
        yield Chore(f"silence{more}", partial(self._look_for_silent, cell, store))
        yield Chore(f"settings{more}", partial(self._look_at_settings, store))
        if self._journal is not None:
            folder = journal_of(self._journal, cell)
            yield Chore(f"lives{more}", partial(self._look_for_dead, folder, cell, store))

    def _dividing(self) -> Iterator[Chore]:
        """Yield what is done where cells share limits."""
        yield Chore("limits", self._catch_up)
        yield self._led("shares", self._divide)

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Do the chores for as long as the context lasts."""
        chores = asyncio.ensure_future(self._chores.run())
        try:
            yield
        finally:
            chores.cancel()
            await asyncio.wait([chores])

    async def finish(self) -> None:
        """Drain what the edges settled last, and take our leave; bounded, and silent about a store that is gone."""

        async def finished(writer: LedgerWriter) -> None:
            try:
                async with asyncio.timeout(LAST_DRAIN_S):
                    while await writer.drain():
                        pass
                    if writer.cell is FIRST:
                        await live.withdraw(self._store, self.replica)
            except (RedisError, OSError, LedgerUnreachable) as error:  # OSError: TimeoutError too
                _log.warning("the last entries stay in the stream: %s", str(error) or "out of time")

        await asyncio.gather(*map(finished, self._writers))

    # What others ask...

    async def not_ready(self) -> str | None:
        """Return what is missing to be ready, None when nothing is."""
        if self._running is None:
            return "the configuration is not published yet"
        try:
            async with asyncio.timeout(_STORE_WITHIN_S):
                await self._store.ping()
        except (RedisError, OSError) as error:
            return f"the store does not answer: {str(error) or 'out of time'}"
        return None

    async def page(self) -> bytes:
        """Return the metrics of the workers and of this role."""
        await self._fleet.refresh()
        return self._fleet.page(control_snapshot(await self._counts()))

    async def _counts(self) -> dict[tuple[str, ...], float]:
        """Return this role's own counts; those of the store are left out when it does not answer."""
        done = [writer.done for writer in self._writers]
        counts: dict[tuple[str, ...], float] = {
            ("penstock_workers",): self._fleet.answering,
            ("penstock_ledger_entries_total",): sum(each.written for each in done),
            ("penstock_ledger_repeated_total",): sum(each.repeated for each in done),
            ("penstock_ledger_rejected_total",): sum(each.rejected for each in done),
            ("penstock_ledger_failures_total",): sum(each.failures for each in done),
            ("penstock_leases_reaped_total",): self._reaped,
            ("penstock_silent_replicas",): sum(map(len, self._silent.values())),
            ("penstock_silent_reserved_nusd",): sum(
                one.most_nusd for found in self._silent.values() for one in found
            ),
        }
        for labels, count in self._budget_events.items():
            counts["penstock_budget_events_total", *labels] = count
        for name, failures in self._chores.failures().items():
            counts["penstock_chore_failures_total", name] = failures
        for (provider, outcome), count in self._prober.counts.items():
            counts["penstock_probes_total", provider, outcome] = count
        for (experiment, word), count in self._canaries.counts().items():
            counts["penstock_canary_moves_total", experiment, word] = count
        for name, leading in self._leading.items():
            counts["penstock_chore_leading", name] = int(leading)
        # By our own clock, as each edge goes by its own.
        now_us = time_ns() // 1000
        for trial in self._trials:
            for label, share in trial.shares(now_us).items():
                counts["penstock_experiment_share", *label.split("/", 1)] = share
        try:
            async with asyncio.timeout(_STORE_WITHIN_S):
                alive = {member.rpartition(".")[0] for member in await living(self._store)}
                for replica, ack in (await live.acknowledgements(self._store)).items():
                    # What the dead said last concerns nobody; controls do not beat.
                    if replica in alive or replica.endswith("/control"):
                        counts["penstock_config_acknowledged_version", replica] = ack.number
                        counts["penstock_config_refused", replica] = int(ack.error is not None)
                waiting = sum(await in_each(self._stores, _waiting))
                counts["penstock_ledger_waiting_entries",] = waiting
                for name, standing in (await self._standings()).items():
                    for state in STATES:
                        counts["penstock_deployment_health", name, state] = int(
                            standing.state == state
                        )
        except (RedisError, OSError):
            pass
        return counts

    async def _standings(self) -> dict[str, Standing]:
        """Return the health of every deployment, as all replicas know it."""
        if self._config is None:
            return {}
        return await worst_standings(self._stores, self._config[0].deployments)

    # The chores...

    def _led(self, name: str, work: Any, cell: Cell = FIRST, store: Redis | None = None) -> Chore:
        """Return a chore that is done when we are its leader."""
        self._leading[name] = False

        def changed(leading: bool) -> None:
            self._leading[name] = leading
            _log.info("%s the chore %s", "leading" if leading else "no longer leading", name)

        async def led() -> None:
            lease = Lease(store or self._store, name, ttl_ms=LEAD_MS, cell=cell)
            await lead(lease, work, on_change=changed)

        return Chore(name, led)

    async def _divide(self) -> None:
        """Divide the limits that cells share, by who uses them, every second."""
        told: tuple[Cell, ...] = ()
        while True:
            if self._config is not None:
                config, number = self._config
                with contextlib.suppress(Overtaken):
                    division = await divide(self._stores, divided_in(config), number, tries=2)
                    if division.silent != told:
                        told = division.silent
                        if told:
                            names = ", ".join(map(str, told))
                            _log.warning("no share grows: no answer from %s", names)
                        else:
                            _log.info("all cells answer")
            await asyncio.sleep(DIVIDE_EVERY_S)

    async def _catch_up(self) -> None:
        """Write the limits into cells that did not answer when they were to."""
        while True:
            if self._config is not None and self._config[1] != self._spread:
                config, number = self._config
                with contextlib.suppress(RedisError, OSError):
                    await put_limits(self._stores, config, number)
                    self._spread = number
            await asyncio.sleep(DIVIDE_EVERY_S)

    async def _reap(self, cell: Cell, store: Redis) -> None:
        """Settle what dead replicas held, every two seconds."""
        while True:
            count = await reap(store, cell)
            if count:
                self._reaped += count
                _log.warning("reaped %d leases of replicas that died", count)
            await asyncio.sleep(REAP_EVERY_S)

    async def _look_for_dead(self, folder: Path, cell: Cell, store: Redis) -> None:
        """Tell the store which edges of this machine are dead, every two seconds."""
        while True:
            await tell_of_the_dead(store, folder, cell)
            await asyncio.sleep(REAP_EVERY_S)

    async def _look_for_silent(self, cell: Cell, store: Redis) -> None:
        """Count what is reserved for replicas that fell silent; say of whom it is not known for long what became of it."""
        due_us: dict[str, int] = {}
        free: set[str] = set()
        while True:
            every = await silent(store, cell, free=free)
            # They may be many: pods that went with their node.
            free = {one.replica for one in every if not one.attempts}
            self._silent[cell] = found = [one for one in every if one.attempts]
            now_us = await clock.now_us(store)
            due_us = {
                one.replica: due_us.get(one.replica, one.since_us + SILENT_FOR_US) for one in found
            }
            for one in found:
                if now_us >= due_us[one.replica]:
                    due_us[one.replica] = now_us + SAID_EVERY_US
                    _log.warning(
                        "%s has been silent for %d s; strict budgets reserve %s USD for %d calls of it until it"
                        " settles or is known to be dead; if it is dead: ./penstock quota free %s",
                        one.replica,
                        (now_us - one.since_us) // 10**6,
                        usd(one.most_nusd),
                        one.attempts,
                        one.replica,
                    )
            await asyncio.sleep(LISTEN_EVERY_S)

    async def _look_at_settings(self, store: Redis) -> None:
        """Say what is wrong with the settings of a cell's server, once for as long as it is."""
        said: set[str] = set()
        while True:
            found = set(await misgivings_about(store))
            for words in sorted(found - said):
                _log.warning("the settings of the store: %s", words)
            said = found
            await asyncio.sleep(LOOK_EVERY_S)

    async def _tell(self, cell: Cell, store: Redis) -> None:
        """Tell of thresholds of budgets that were reached: a line in the log, and a count."""
        while True:
            async for event in untold(store, cell):
                self._budget_events[event.kind, str(event.percent)] += 1
                _log.warning("budget threshold reached: %s", orjson.dumps(asdict(event)).decode())
            await asyncio.sleep(TELL_EVERY_S)

    async def _ask(self) -> None:
        """Ask the workers now and then, so that little is lost of one that dies."""
        while True:
            await self._fleet.refresh()
            await asyncio.sleep(ASK_EVERY_S)

    async def _follow(self) -> None:
        """Publish the file unless it was before, then take every version as it comes."""
        try:
            await self._key_hashes()
            await self._move()
        except (BadKeySecret, CannotMove) as error:
            # Every caller would be refused, or spend anew; nothing is published over what is there
            self._refuse(error)
            return
        await live.publish_file(
            self._store,
            self._loaded.document,
            by=self.replica,
            why="start",
            key_id=self._loaded.key_id,
            former=await asyncio.to_thread(self._former),
        )
        async with contextlib.aclosing(live.watch(self._store)) as versions:
            async for version in versions:
                await self._take(version)

    def _refuse(self, why: BadKeySecret | CannotMove) -> None:
        """End the role: it cannot do its work at all."""
        self.refusal = why
        self._end()

    async def _move(self) -> None:
        """Make it safe that the file has tenants lie in other cells than what runs."""
        found = await live.current(self._store)
        if found is None or self._connect is None:
            return
        before = await asyncio.to_thread(division_in, found.document, self._environ)
        await move(before, division_of(self._loaded.config), self._writers[0].path, self._connect)

    async def _key_hashes(self) -> None:
        """Put keyed hashes into what earlier versions of the gateway, or former secrets, have left."""
        found = await live.current(self._store)
        secrets = self._secrets
        if found is None or secrets is None:
            return
        secrets.require(found.key_id)
        changed = await live.rekey(
            self._store, lambda document: rekeyed(document, secrets), secrets.id
        )
        if changed:
            _log.info("keyed the hashes of callers' keys in %d versions", changed)

    async def _take(self, version: live.Version) -> None:
        """Seed the limits of a version, and say that we run it, or why not."""
        try:
            config: Config = await asyncio.to_thread(
                load_published, version.document, self._environ
            )
        except ConfigError as error:
            why = "; ".join(str(problem) for problem in error.problems)
            _log.error("version %d of the configuration is refused: %s", version.number, why)
            await live.acknowledge(self._store, self.replica, version.number, why)
            return
        if config.store.cells != len(self._stores):
            self._refuse(
                CannotMove(
                    f"store.cells is {config.store.cells} in what runs, and {len(self._stores)} in the file:"
                    " write the same"
                )
            )
            return
        await live.note_cells(self._store, len(self._stores))
        written = 0
        try:
            written = await put_limits(self._stores, config, version.number)
            self._spread = version.number
        except (RedisError, OSError) as error:
            if len(self._stores) == 1:
                raise
            # The other cells go on; this one gets them when it is back.
            _log.warning("version %d has not reached every cell: %s", version.number, error)
        await live.acknowledge(self._store, self.replica, version.number, None)
        self._running = version
        self._config = config, version.number
        self._trials = compiled(config).values()
        _log.info("version %d of the configuration runs, %d limits set", version.number, written)

    async def _keep(self) -> None:
        """Publish the version that runs again when the store has lost it (a flush): new edges need one."""
        while True:
            await asyncio.sleep(KEEP_EVERY_S)
            running = self._running
            if running is None or await live.current(self._store) is not None:
                continue
            _log.warning("the store has lost the configuration; it is published again")
            with contextlib.suppress(live.VersionConflict):
                await live.publish(
                    self._store,
                    running.document,
                    by=self.replica,
                    why=f"the store had lost version {running.number}",
                    kind="config.restore",
                    key_id=running.key_id,
                    expected=0,
                    after=running.number,
                )


async def _waiting(cell: Cell, store: Redis) -> int:
    """Return how many entries wait in the stream of a cell."""
    count: int = await store.xlen(cell.ledger)
    return count
