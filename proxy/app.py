"""
One edge worker, put together: the data plane's composition, its chores and its end.

Everything has one owner here and is closed in the reverse order of its making.
Nothing slow or blocking runs on this loop: compiling a configuration is the heaviest thing it does, and that only when the configuration changes.
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from time import monotonic, time_ns
from typing import Any

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from redis.asyncio import Redis
from redis.exceptions import RedisError

from config.cells import cells_of
from config.keys import BadKeySecret, KeySecrets, with_key_secret
from config.live import Version, acknowledge, watch, withdraw
from config.loader import ConfigError, load_published
from config.models import Config
from config.scalars import split_listen
from proxy.doors import Doors
from proxy.errors import ShuttingDown
from proxy.exchange import Exchange
from proxy.feedback import Pace
from proxy.learning import Learner
from proxy.live import Live
from proxy.observe import AccessLog, Metrics
from proxy.options import EdgeOptions
from proxy.own_door import own_door
from proxy.place import USER_AGENT
from proxy.relay import Attempt
from proxy.retries import LEAST_HEDGES, RetryBudget
from proxy.server import EdgeServer
from proxy.shadow import Shadows
from proxy.tokens import Tokens
from proxy.upstream.deadlines import Wheel
from proxy.upstream.errors import UpstreamError
from proxy.upstream.pool import Pool
from proxy.wire.endpoints import PROTOCOLS
from proxy.wire.headers import AnswerHeaders, RequestHeaders
from ratelimit.asks import Boot, replica_name
from ratelimit.cells import Gates
from ratelimit.degraded import Rule
from ratelimit.gate import Gate
from ratelimit.journal import journal_of
from ratelimit.troubles import StoreUnavailable
from ratelimit.upkeep import seed
from routing.lessons import vote
from store.cells import FIRST, Cell
from store.chores import Chore, Chores
from store.lane import Lane, LaneLost
from store.places import places
from store.topology import client as store_client
from store.topology import target

log = logging.getLogger("penstock.edge")

TICK_S = 0.25
# A stream that is younger is not worth a report; with the gate's beat it bounds what a crash forgets.
PROGRESS_S = 0.25
PRICES_S = 1.0
BACKLOG = 4096


class Drained(UpstreamError):
    """The gateway goes down before the answer is complete."""

    metric = "drained"
    status = 503


class Edge:
    """The running worker, as its exchanges see it. Raises `BadKeySecret` when there is no fit key secret."""

    def __init__(self, options: EdgeOptions) -> None:
        self.loop = asyncio.get_running_loop()
        self.options = options
        self.replica = replica_name(options.worker)
        self.metrics = Metrics()
        self.added = self.metrics.histogram("penstock_added_seconds")
        self.retries = RetryBudget()
        self.hedges = RetryBudget(LEAST_HEDGES)
        self.waits = {
            outcome: self.metrics.histogram("penstock_wait_seconds", outcome)
            for outcome in ("granted", "refused", "left")
        }
        # The loop's own clock has a grain of a millisecond; this one is the same clock, finer.
        self.pool = Pool(self.loop, Wheel(self.loop, clock=monotonic))
        self.answer_headers = AnswerHeaders()
        self.request_headers = {
            spoken: RequestHeaders(spoken.passed, spoken.defaults) for spoken in PROTOCOLS
        }
        # For what is not of the hot path.
        self.outside: ClientSession
        self.exchanges: set[Exchange] = set()
        self.shadows = Shadows(self)
        self.streams: set[Attempt] = set()
        self.draining = False
        # Set when the last exchange of a draining worker has ended.
        self.quiet = asyncio.Event()
        self.serving = False
        self.total_timeout_s = 3600.0
        self.assumed_output_tokens = 1024
        self.live: Live
        self.gate: Gate | Gates
        # How many cells this worker has gates to; 0 before it has any.
        self.cells = 0
        self.server: EdgeServer
        self.access: AccessLog
        self.learner = Learner()
        self.pace = Pace()
        self.feedback = {
            word: self.metrics.counter("penstock_feedback_total", word)
            for word in ("unknown", "counted", "repeated")
        }
        self.stopping = asyncio.Event()
        self.hurrying = asyncio.Event()
        # Where the data port really is, once it serves: a port of 0 takes a free one.
        self.address: tuple[str, int] = ("", 0)
        self.configured = asyncio.Event()
        self.version: Version | None = None
        self._ids = count(1)
        self._ties = count()
        self._id_prefix = f"req_{os.urandom(5).hex()}"
        self._trust: dict[str, ssl.SSLContext] = {}
        # The edge makes none of its own: it could only be another than the control's.
        self._environ = with_key_secret(os.environ, places(os.environ).key_secret, make=False)
        secrets = KeySecrets.said(self._environ)
        assert secrets is not None
        self._secrets = secrets
        self.tokens = Tokens(os.environ, clock=self.unix_time)
        # Why it cannot run at all, once that is known.
        self.refusal: str | None = None
        self._chores = Chores(
            (
                Chore("tokens", self.tokens.run),
                Chore("configuration", self._follow_configuration),
                Chore("prices", self._follow_prices),
                Chore("learning", lambda: self.learner.run(self._client)),
            ),
            foreseen=(OSError, RedisError),
        )
        self._lag = self.metrics.histogram("penstock_loop_lag_seconds")
        self._tick: asyncio.TimerHandle | None = None
        self._tick_due = 0.0
        self.metrics.read(self._gauges)

    @property
    def store(self) -> Redis:
        """The store, for what is not of the hot path."""
        return self._client

    def store_of(self, cell: Cell) -> Redis:
        """Return the store of a cell, for the same."""
        return self._clients[cell]

    def next_request_id(self) -> str:
        """Return an id that no other request of any worker has."""
        return f"{self._id_prefix}{next(self._ids):06x}"

    def next_tie(self) -> int:
        """Return what breaks ties between equal candidates: they take turns."""
        return next(self._ties)

    def unix_us(self) -> int:
        """Return the wall clock in unix microseconds, for log lines only."""
        return time_ns() // 1000

    def unix_time(self) -> float:
        """Return the wall clock in seconds, to read dates of vendors."""
        return time_ns() / 1e9

    # Configuration.

    async def take(self, version: Version) -> None:
        """
        Run another version from now on. Raises `ConfigError`, `OSError` or `ValueError`; then nothing changes.

        `BadKeySecret`, which is a ValueError: its keys were hashed with a secret that is not here.
        """
        # Ten thousand keys take seconds to read and to compile: streams go on meanwhile.
        live = await asyncio.to_thread(self._read, version)
        await self.tokens.had()
        self.tokens.keep(live.tokens)
        self.version = version
        self.live = live
        edge = live.config.edge
        self.total_timeout_s = edge.total_timeout_s
        self.assumed_output_tokens = edge.assumed_output_tokens
        if self.serving:
            self._reconfigure()
        self.configured.set()

    def _read(self, version: Version) -> Live:
        self._secrets.require(version.key_id)
        config = load_published(version.document, self._environ)
        if self.cells not in {0, config.store.cells}:
            raise ValueError(
                f"store.cells is {config.store.cells} there and {self.cells} here; start this edge anew"
            )
        return self._compile(config, version.number)

    def _reconfigure(self) -> None:
        edge = self.live.config.edge
        self.server.reconfigure(
            head_timeout_s=edge.head_timeout_s,
            body_timeout_s=edge.body_timeout_s,
            idle_timeout_s=edge.idle_timeout_s,
            max_body=edge.max_body_mb * 1024 * 1024,
        )

    def _compile(self, config: Config, number: int) -> Live:
        return Live(
            config,
            number,
            self.metrics,
            at=datetime.now(UTC),
            replica=self.replica,
            trust=self._trust,
            secrets=self._secrets,
            token=self.tokens.of,
        )

    async def vote(self, request_id: str, key: str, score: float) -> int:
        """Take a caller's word on an answer (`routing.lessons.vote`). Raises what redis-py raises."""
        return await vote(self._client, request_id, key, score, self.unix_time())

    async def reseed(self, keys: list[str], cell: Cell = FIRST) -> None:
        """Write limits that a cell of the store has lost."""
        live = self.live
        await seed(self._clients[cell], live.records_for(keys, cell), live.version)

    def rule(self, scope: str) -> Rule | None:
        """Return what a scope declares for when the store is away."""
        return self.live.rules.get(scope)

    # What the worker does beside serving.

    def reports(self) -> Iterator[tuple[Boot, str, int]]:
        """Yield what the open streams have given so far, but for those that have just begun."""
        old = monotonic() - PROGRESS_S
        for attempt in list(self.streams):
            if attempt.sent_at < old and attempt.meter is not None:
                attempt.reported = True
                yield attempt.grant.boot, attempt.attempt_id, attempt.meter.progress()

    def observe_batch(self, kind: str, size: int, seconds: float) -> None:
        """Note an answered call of the gate."""
        self.metrics.histogram(f"penstock_{kind}_seconds").observe(seconds)
        self.metrics.histogram(f"penstock_{kind}_batch_size").observe(size)

    def start_ticking(self) -> None:
        """Begin the quarter-second chores."""
        self._tick_due = self.loop.time() + TICK_S
        self._tick = self.loop.call_at(self._tick_due, self._on_tick)

    def _on_tick(self) -> None:
        now = self.loop.time()
        self._lag.observe(max(0.0, now - self._tick_due))
        self._tick_due = now + TICK_S
        self._tick = self.loop.call_at(self._tick_due, self._on_tick)
        self.access.flush()

    def stop_ticking(self) -> None:
        """End the quarter-second chores."""
        if self._tick is not None:
            self._tick.cancel()

    def _gauges(self) -> dict[tuple[str, ...], float]:
        stats = self.gate.stats
        pool = self.pool
        failures = self._chores.failures()
        return {
            **{("penstock_edge_chore_failures_total", name): failures[name] for name in failures},
            ("penstock_in_flight",): len(self.exchanges),
            ("penstock_waiting",): self.gate.waiting,
            ("penstock_retries_total", "made"): self.retries.made,
            ("penstock_retries_total", "refused"): self.retries.refused,
            ("penstock_hedges_total", "made"): self.hedges.made,
            ("penstock_hedges_total", "refused"): self.hedges.refused,
            ("penstock_tasks",): len(asyncio.all_tasks()),
            ("penstock_client_connections",): len(self.server.connections),
            ("penstock_upstream_connections", "idle"): pool.idle,
            ("penstock_upstream_connections", "busy"): pool.open - pool.idle,
            ("penstock_upstream_opened_total",): pool.opened_total,
            ("penstock_upstream_reused_total",): pool.reused_total,
            ("penstock_unsettled",): self.gate.unsettled,
            ("penstock_journalled_total",): stats.journalled,
            ("penstock_recalled_total",): stats.recalled,
            ("penstock_degraded",): int(self.gate.degraded),
            ("penstock_learning",): int(self.gate.learning),
            ("penstock_asserted_total",): stats.asserted,
            ("penstock_degraded_admissions_total", "granted"): stats.degraded_granted,
            ("penstock_degraded_admissions_total", "denied"): stats.degraded_denied,
            ("penstock_degraded_admissions_total", "closed"): stats.degraded_closed,
            ("penstock_store_errors_total",): stats.store_errors,
            ("penstock_reseeded_total",): stats.reseeded,
            ("penstock_config_version",): self.live.version,
        }

    # Life.

    async def run(self, *, on_serving: Callable[[], None] | None = None) -> int:
        """
        Serve until `stop`. Returns the exit code.

        `on_serving` is called once, when the start is behind us and requests are taken.
        """
        async with contextlib.AsyncExitStack() as ours:
            # What is closed last stands first.
            await ours.enter_async_context(own_door(self))
            where = target(self.options.redis)
            self._client = store_client(self.options.redis)
            self._clients = {FIRST: self._client}
            ours.push_async_callback(self._client.aclose)
            admit_lane, settle_lane = Lane(where), Lane(where)
            ours.push_async_callback(admit_lane.close)
            ours.push_async_callback(settle_lane.close)
            ours.push_async_callback(self.pool.close)
            self.outside = await ours.enter_async_context(_outside())
            if not await self._may_go_on(_connected(admit_lane)):
                return 0
            if not await self._may_go_on(_connected(settle_lane)):
                return 0
            ours.push_async_callback(self._withdraw)
            chores = self.loop.create_task(self._chores.run())
            ours.push_async_callback(_ended, chores)
            if not await self._may_go_on(self.configured.wait()):
                return 0 if self.refusal is None else 2
            settings = self.live.config
            self.access = AccessLog(
                _access_path(settings.edge.access_log),
                self.metrics.counter("penstock_access_lines_dropped_total"),
            )
            ours.push_async_callback(self.access.close)
            gates = [self._gate(FIRST, admit_lane, settle_lane)]
            for cell in cells_of(settings)[1:]:
                where = target(self.options.redis, cell)
                self._clients[cell] = store_client(self.options.redis, cell=cell)
                ours.push_async_callback(self._clients[cell].aclose)
                lanes = Lane(where), Lane(where)
                for lane in lanes:
                    ours.push_async_callback(lane.close)
                    if not await self._may_go_on(_connected(lane)):
                        return 0
                gates.append(self._gate(cell, *lanes))
            self.cells = len(gates)
            self.gate = gates[0] if len(gates) == 1 else Gates(gates)
            ours.push_async_callback(self.gate.close)
            if not await self._may_go_on(_started(self.gate)):
                return 0
            await self._serve(ours, on_serving)
        return 0

    def _gate(self, cell: Cell, admit_lane: Lane, settle_lane: Lane) -> Gate:
        """Make the gate of one cell; what it cannot settle lies in a folder of its own."""
        settings = self.live.config.store

        def streams() -> Iterator[tuple[Boot, str, int]]:
            return (report for report in self.reports() if report[0].cell is cell)

        return Gate(
            admit_lane,
            settle_lane,
            self._clients[cell],
            replica=self.replica,
            journal_dir=journal_of(places(os.environ).journal, cell),
            seed=lambda keys: self.reseed(keys, cell),
            timeout_s=settings.admit_timeout_ms / 1000,
            observe=self.observe_batch,
            streams=self.reports if settings.cells == 1 else streams,
            rule=self.rule,
            cell=cell,
            where=str(cell) if settings.cells > 1 else "",
        )

    async def _serve(
        self, ours: contextlib.AsyncExitStack, on_serving: Callable[[], None] | None
    ) -> None:
        settings = self.live.config.edge
        self.server = EdgeServer(
            Doors(self).answer,
            head_timeout_s=settings.head_timeout_s,
            body_timeout_s=settings.body_timeout_s,
            idle_timeout_s=settings.idle_timeout_s,
            max_body=settings.max_body_mb * 1024 * 1024,
            next_request_id=self.next_request_id,
        )
        ours.callback(self.server.close)
        sock = _listen(self.options.listen)
        self.address = sock.getsockname()[:2]
        listener = await self.loop.create_server(self.server, sock=sock, backlog=BACKLOG)
        ours.callback(listener.close)
        self.start_ticking()
        ours.callback(self.stop_ticking)
        self.serving = True
        # A version that came since the server was made has not reached it.
        self._reconfigure()
        if on_serving is not None:
            on_serving()
        await self.stopping.wait()
        await self._drain(listener)

    def stop(self) -> None:
        """Drain and end."""
        self.stopping.set()

    def hurry(self) -> None:
        """End within a second: cut what is open, and settle it with what was metered."""
        self.stopping.set()
        self.hurrying.set()

    async def _may_go_on(self, step: Awaitable[object]) -> bool:
        """Await a step of the start, or the word to stop. Returns whether the start goes on."""
        work = asyncio.ensure_future(step)
        stop = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            await _ended(work)
            await _ended(stop)
        return not self.stopping.is_set()

    async def _withdraw(self) -> None:
        await _quietly(withdraw(self._client, self.replica))

    async def _drain(self, listener: asyncio.Server) -> None:
        """Let exchanges finish, within bounds; then end them with an error they can read."""
        self.draining = True
        listener.close()
        for exchange in self.exchanges:
            # Said in the head of its answer, if that has not gone out.
            exchange.close = True
        await self.shadows.close()
        self.server.close_idle()
        bound = self.live.config.edge.drain_timeout_s
        log.info("draining: %d exchanges, at most %g s", len(self.exchanges), bound)
        if not await self._quiet_within(bound, self.hurrying):
            for exchange in list(self.exchanges):
                exchange.cut(Drained("the gateway is shutting down", phase="body"))
            await self._quiet_within(0.2 if self.hurrying.is_set() else 2.0)
            for exchange in list(self.exchanges):
                # Still without an upstream: its body was coming, or a connection was being made.
                exchange.refuse(
                    ShuttingDown("This gateway worker is shutting down.", retry_after_us=0)
                )
                # Nor may it get one now: its caller was told to come back, and will.
                exchange.client.force_close()
        self.server.close()
        hurrying = self.hurrying.is_set()
        await self.server.shutdown(0.1 if hurrying else 1.0)
        if not await self.gate.drain(0.3 if hurrying else 5.0):
            log.warning("%d settlements stay in the journal", self.gate.unsettled)

    async def _quiet_within(self, seconds: float, unless: asyncio.Event | None = None) -> bool:
        """Wait until no exchange is open, or the time is up, or the event comes. Returns whether none is open."""
        if self.exchanges:
            waits = [asyncio.ensure_future(self.quiet.wait())]
            if unless is not None:
                waits.append(asyncio.ensure_future(unless.wait()))
            try:
                await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    await _ended(wait)
        return not self.exchanges

    async def _follow_configuration(self) -> None:
        async with contextlib.aclosing(watch(self._client)) as versions:
            async for version in versions:
                error = None
                try:
                    await self.take(version)
                    log.info("runs configuration %d", version.number)
                except (ConfigError, OSError, ValueError) as problem:
                    error = str(problem)
                    if isinstance(problem, BadKeySecret) and not self.configured.is_set():
                        # To wait would be to refuse every caller; who starts us can mend it.
                        self.refusal = error
                        self.stop()
                    log.error("cannot run configuration %d: %s", version.number, error)
                except Exception:
                    # A fault of ours must not keep the next version from this worker.
                    error = "the worker failed over it; its log knows more"
                    log.exception("cannot run configuration %d", version.number)
                await _quietly(acknowledge(self._client, self.replica, version.number, error))

    async def _follow_prices(self) -> None:
        """Compile the configuration again when one of its price lists has ended."""
        await self.configured.wait()
        while True:
            await asyncio.sleep(PRICES_S)
            live = self.live
            if not live.until_us or self.unix_us() < live.until_us:
                continue
            try:
                fresh = await asyncio.to_thread(self._compile, live.config, live.version)
            except (OSError, ValueError) as error:
                # A file that it names is gone. What runs goes on, at the prices that it has.
                log.error("cannot take the new prices: %s", error)
                live.until_us = 0
                continue
            if self.live is live:
                self.live = fresh

    @property
    def ready(self) -> str:
        """Why this worker takes no requests; empty when it does."""
        if self.draining:
            return "draining"
        if not self.configured.is_set():
            return "no configuration yet"
        return "" if self.serving else "starting"


def _access_path(setting: str) -> str:
    return setting if setting in {"stdout", "off"} else str(places(os.environ).path(setting))


def _listen(address: str) -> socket.socket:
    """Return a socket that shares its port with the other workers."""
    host, port = split_listen(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"listening on {address}: {error.strerror}") from error
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


async def _connected(lane: Lane) -> None:
    """Connect a lane, however long the store takes to come up."""
    told = False
    while True:
        try:
            await lane.start(timeout_s=2.0)
            return
        except LaneLost as error:
            if not told:
                log.warning("waiting for the store: %s", error)
                told = True
            await asyncio.sleep(0.1)


async def _started(gate: Gate | Gates) -> None:
    while True:
        try:
            await gate.start()
            return
        except StoreUnavailable as error:
            log.warning("waiting for the store: %s", error)
            await asyncio.sleep(0.2)


def _outside() -> ClientSession:
    """Return what asks providers where no answer is relayed as it comes; its deadlines are each asker's own."""
    return ClientSession(
        connector=TCPConnector(limit=0),
        timeout=ClientTimeout(total=None),
        headers={"user-agent": USER_AGENT, "accept-encoding": "identity"},
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
    )


async def _quietly(chore: Awaitable[object]) -> None:
    """Await a courtesy towards the store that may fail."""
    try:
        async with asyncio.timeout(2.0):
            await chore
    except Exception as error:  # noqa: BLE001 - nothing depends on it, and the next one comes soon
        log.warning("%s", error)


async def _ended(task: asyncio.Future[Any]) -> None:
    """Cancel a task, and wait until it has ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
