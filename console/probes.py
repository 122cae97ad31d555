"""
Active probes: whether those who serve models are there, asked once for the whole fleet by the control that leads.

| `health.probe` | asks | costs |
|---|---|---|
| `models` | for the list of models | nothing |
| `connect` | for a connection, TLS included | nothing |
| `call` | each deployment for a few tokens of output | a tiny call, which the ledger keeps under the key `probe` |
| `off` | nobody | nothing |

Who cannot be asked is connected to (`config.vendors.why_unprobed`).
What is asked and how an answer is judged stands in `console.probe_requests`; silence and a broken connection fail.

Failure stance: what cannot be told to the store is told by the next probe; a vendor that is slow keeps nobody else waiting.
"""

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic, time_ns
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from redis.asyncio import Redis
from redis.exceptions import RedisError

from config.models import Config, PlacedDeployment
from config.providers import Provider
from console.probe_requests import Asked, call_of, judged, list_of, probe_of, used
from console.stores import Stores, in_each
from console.trust import Trust
from governance.ledger import encode, entry_of
from ratelimit.reports import OFFLINE_AFTER, STATES, Finding, Standing, read_standings, report
from routing.eligibility import rates_of
from routing.rates import Rates, cost_nusd
from store.cells import FIRST, Cell

__all__ = ["Prober", "worst_standings"]

ROUND_S: Final = 1.0
AT_ONCE: Final = 16
ANSWER_BYTES: Final = 64 * 1024
_log = logging.getLogger("penstock.probes")


class Prober:
    """
    Probes every provider in its own time. `running` gives the configuration that runs and its version, None before there is one.

    `counts` says how many probes of each provider were fine, or failed.
    """

    def __init__(
        self,
        stores: Stores,
        running: Callable[[], tuple[Config, int] | None],
        *,
        replica: str,
    ) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._stores = stores
        self._running = running
        self._replica = replica
        self._due: dict[str, float] = {}
        self._trust = Trust()
        self._slots = asyncio.Semaphore(AT_ONCE)
        # Whose last probes have not ended yet: a vendor that is slow keeps nobody else waiting.
        self._busy: set[str] = set()
        self._offline: set[str] = set()

    async def run(self) -> None:
        """Probe until cancelled."""
        async with (
            aiohttp.ClientSession(trust_env=False) as session,
            asyncio.TaskGroup() as tasks,
        ):
            while True:
                self.round(session, tasks, monotonic())
                await asyncio.sleep(ROUND_S)

    def round(self, session: aiohttp.ClientSession, tasks: asyncio.TaskGroup, now: float) -> None:
        """Begin to probe those whose time has come; `now` is a monotonic clock's, in seconds."""
        running = self._running()
        if running is None:
            return
        config = running[0]
        for name, provider in config.providers.items():
            if name not in self._busy and self._due.get(name, 0.0) <= now:
                self._due[name] = now + provider.health.interval_s
                self._busy.add(name)
                tasks.create_task(self._probe(session, config, name))

    async def _probe(self, session: aiohttp.ClientSession, config: Config, name: str) -> None:
        try:
            async with self._slots:
                await self._probe_one(session, config, name)
        finally:
            self._busy.discard(name)

    async def _probe_one(self, session: aiohttp.ClientSession, config: Config, name: str) -> None:
        provider = config.providers[name]
        placed = [one for one in config.deployments.values() if one.deployment.provider == name]
        how = probe_of(provider)
        if how == "off" or not placed:
            return
        if how == "call":
            for one in placed:
                rates = rates_of(config, one, datetime.now(UTC))
                only = one.deployment.responses_only
                asked = call_of(provider, one.upstream_name, responses_only=only)
                found = await self._called(session, provider, one, asked, rates)
                await self._tell(name, [one], found)
            return
        if how == "models":
            asked = list_of(provider)
            finding, _ = await self._ask(session, provider, asked, listed=True)
        else:
            finding = await self._connected(provider)
        await self._tell(name, placed, finding)

    async def _tell(self, name: str, placed: list[PlacedDeployment], finding: Finding) -> None:
        self.counts[name, "fine" if finding.fine else "failed"] += 1
        interval_s = self._interval(name)
        # What it cost is booked once.
        elsewhere = replace(finding, entry=b"")

        async def tell(cell: Cell, store: Redis) -> None:
            told = finding if cell is FIRST else elsewhere
            for one in placed:
                failures = await report(store, one.id, told, interval_s=interval_s, cell=cell)
                if cell is FIRST:
                    self._log(one.id, finding, failures)

        try:
            await in_each(self._stores, tell)
        except (RedisError, OSError) as error:
            # The next probe tells it.
            _log.warning("what a probe found cannot be told: %s", error)

    def _log(self, deployment: str, finding: Finding, failures: int) -> None:
        if failures >= OFFLINE_AFTER and deployment not in self._offline:
            self._offline.add(deployment)
            _log.warning("the deployment %s is offline: %s", deployment, finding.why)
        elif finding.fine and deployment in self._offline:
            self._offline.discard(deployment)
            _log.info("the deployment %s is back", deployment)

    def _interval(self, name: str) -> float:
        running = self._running()
        provider = running and running[0].providers.get(name)
        return provider.health.interval_s if provider else 30.0

    async def _called(
        self,
        session: aiohttp.ClientSession,
        provider: Provider,
        one: PlacedDeployment,
        asked: Asked,
        rates: Rates | None,
    ) -> Finding:
        begun_us = time_ns() // 1000
        finding, body = await self._ask(session, provider, asked, listed=False)
        if not finding.fine:
            return finding
        tokens = used(body)
        cost = 0 if rates is None else cost_nusd(rates, tokens)
        request_id = f"probe-{secrets.token_hex(8)}"
        entry = entry_of(
            attempt_id=f"{request_id}.1",
            request_id=request_id,
            attempt=1,
            at_us=begun_us,
            key="probe",
            model_asked=one.model,
            model=one.model,
            deployment=one.id,
            provider=one.deployment.provider,
            input_tokens=tokens.input_tokens,
            output_tokens=tokens.output_tokens,
            cost_nusd=cost,
            price_version="" if rates is None else rates.version,
            ttft_us=finding.took_us,
            duration_us=finding.took_us,
            outcome="ok",
            status=200,
            token_source="provider" if tokens.input_tokens else "none",
            reason="probe",
            protocol=provider.protocol,
            replica=self._replica,
        )
        return Finding(
            fine=True,
            why=finding.why,
            took_us=finding.took_us,
            called=True,
            entry=encode(entry),
            input_tokens=tokens.input_tokens,
            output_tokens=tokens.output_tokens,
            cost_nusd=cost,
        )

    async def _ask(
        self, session: aiohttp.ClientSession, provider: Provider, asked: Asked, *, listed: bool
    ) -> tuple[Finding, bytes]:
        begun = monotonic()
        status, body = 0, b""
        try:
            async with (
                asyncio.timeout(provider.health.timeout_s),
                session.request(
                    "GET" if asked.body is None else "POST",
                    asked.url,
                    headers=asked.headers,
                    data=asked.body,
                    allow_redirects=False,
                    ssl=await self._trust.of(provider),
                ) as answer,
            ):
                status = answer.status
                if not listed:
                    # Not `read(ANSWER_BYTES)`, which gives what has arrived so far.
                    async for piece in answer.content.iter_chunked(ANSWER_BYTES):
                        body += piece
                        if len(body) > ANSWER_BYTES:
                            break
        except TimeoutError:
            return Finding(fine=False, why="timed_out", took_us=_since(begun)), b""
        except (aiohttp.ClientError, OSError, ValueError):
            return Finding(fine=False, why="no_connection", took_us=_since(begun)), b""
        fine, why = judged(status, listed=listed)
        return Finding(fine=fine, why=why, took_us=_since(begun)), body

    async def _connected(self, provider: Provider) -> Finding:
        begun = monotonic()
        where = urlsplit(provider.base_url)
        secure = where.scheme == "https"
        try:
            async with asyncio.timeout(provider.health.timeout_s):
                _, writer = await asyncio.open_connection(
                    where.hostname,
                    where.port or (443 if secure else 80),
                    ssl=await self._trust.of(provider) if secure else None,
                )
                writer.transport.abort()
        except TimeoutError:
            return Finding(fine=False, why="timed_out", took_us=_since(begun))
        except OSError:
            return Finding(fine=False, why="no_connection", took_us=_since(begun))
        return Finding(fine=True, why="connected", took_us=_since(begun))


def _since(begun: float) -> int:
    return int((monotonic() - begun) * 1_000_000)


async def worst_standings(stores: Stores, deployments: Iterable[str]) -> dict[str, Standing]:
    """Return what is known of the health of deployments: of several cells, that where a deployment does worst."""
    names = list(deployments)

    async def here(cell: Cell, store: Redis) -> dict[str, Standing]:
        return await read_standings(store, names, cell)

    found = await in_each(stores, here)
    return {name: max((each[name] for each in found), key=_badness) for name in names}


def _badness(standing: Standing) -> tuple[int, int]:
    return STATES.index(standing.state), len(standing.health.kinds)
