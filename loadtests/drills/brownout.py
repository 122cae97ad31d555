"""
`python -m loadtests.drills.brownout`: one of three vendors slows down to ten times its first token; later all of them hang up.

A whole installation is under load. Each vendor stands behind a door of the drill's, which passes bytes on as they come, holds
answers up, or hangs up on everybody.

    before     all is well
    brown-out  one of three answers ten times as late: how long until nine tenths of its traffic have gone elsewhere
    after      it is itself again
    outage     all three hang up: how many attempts are made for each call

The laws: nine tenths have moved within five seconds; what callers wait at the 99th percentile, once they have, is no more than twice what
they waited before; in the outage no more than 1.2 attempts are made for each call, and every call is told so at once.
"""

import argparse
import asyncio
import contextlib
import random
import re
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from loadtests.drills import report
from loadtests.drills.delay import relay
from loadtests.drills.site import KEY, Site
from loadtests.tables import lined_up

TTFT_MS = 50
TIMES = 10
MOVED = 0.9
MOVED_WITHIN_S = 5.0
WAIT_TIMES = 2.0
AMPLIFICATION = 1.2
# So many second tries each edge makes in ten seconds, however few calls there are.
FREE_RETRIES = 10
# Calls that begin so shortly before the vendors hang up are of no phase.
CLOSING_S = 1.0
ATTEMPTS = re.compile(r"^penstock_attempts_total\{[^}]*\} (\S+)$", re.MULTILINE)
PHASES = ("before", "brown-out", "after", "outage")


@dataclass(slots=True)
class Call:
    """One call: when it began (s since the load did), its phase, who served it, its status, and what its first byte took."""

    at_s: float
    phase: str
    place: str = ""
    status: int = 0
    first_s: float = 0.0


@dataclass(slots=True)
class Phase:
    """What callers saw in a phase: percentiles of the first byte in ms, who served them, and what failed."""

    calls: int
    failed: int
    p50_ms: float
    p99_ms: float
    places: dict[str, int]


@dataclass(slots=True)
class Found:
    """What was found; `broken` are the laws that do not hold."""

    phases: dict[str, Phase] = field(default_factory=dict)
    moved_after_s: float = -1.0
    settled_p99_ms: float = 0.0
    slow_share: list[float] = field(default_factory=list)
    outage_calls: int = 0
    outage_attempts: int = 0
    amplification: float = 0.0
    broken: list[str] = field(default_factory=list)


class Door:
    """A way to a vendor: it passes bytes on, holds answers up for `hold_s`, or is `shut` and hangs up."""

    def __init__(self, vendor_url: str) -> None:
        parts = urlsplit(vendor_url)
        self._to = (str(parts.hostname), int(parts.port or 80))
        self.hold_s = 0.0
        self._is_shut = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server
        self.url = ""

    async def open(self) -> None:
        """Listen on a port of the kernel's choice."""
        self._server = await asyncio.start_server(self._met, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}"

    def shut(self) -> None:
        """Hang up on everybody, now and from now on."""
        self._is_shut = True
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        """Listen no more."""
        self.shut()
        self._server.close()
        await self._server.wait_closed()

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_shut:
            writer.transport.abort()
            return
        theirs = await asyncio.open_connection(*self._to)
        self._writers |= {writer, theirs[1]}
        try:
            await relay((reader, writer), theirs, self._hold)
        finally:
            self._writers -= {writer, theirs[1]}

    async def _hold(self) -> None:
        await asyncio.sleep(self.hold_s)


def configuration(doors: list[str], *, edges: int) -> str:
    """Return the configuration of the drill: one model at three vendors."""
    limits = {"rpm": 600_000, "tpm": 100_000_000, "concurrency": 2000}
    document = {
        "edge": {"listen": "127.0.0.1:0", "workers": edges, "access_log": "off"},
        "admin": {"listen": "127.0.0.1:0"},
        "providers": {
            f"v{n}": {"protocol": "openai", "base_url": f"{url}/v1", "health": {"probe": "off"}}
            for n, url in enumerate(doors)
        },
        "models": {
            "m": {
                "price": {"input": 1, "output": 2},
                "limits": limits,
                "deployments": [
                    {"provider": f"v{n}", "name": f"sim;ttft_ms={TTFT_MS};tokens=8"}
                    for n in range(len(doors))
                ],
            }
        },
        "organizations": {
            "drill": {"teams": {"one": {"keys": {"main": {"key": KEY, "limits": limits}}}}}
        },
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1).decode()


class Callers:
    """Calls at random moments; `phase` is what is going on."""

    def __init__(self, url: str, rate: float, rng: random.Random) -> None:
        self.calls: list[Call] = []
        self.phase = PHASES[0]
        self.begun = time.monotonic()
        self._url = f"{url}/v1/chat/completions"
        self._rate = rate
        self._rng = rng

    def now(self) -> float:
        """Return the seconds since the load began."""
        return time.monotonic() - self.begun

    async def run(self, stopped: asyncio.Event) -> None:
        """Call until it is stopped, then wait for what is open."""
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=30)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            asyncio.TaskGroup() as tasks,
        ):
            due = time.monotonic()
            while not stopped.is_set():
                due += self._rng.expovariate(self._rate)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(due - time.monotonic(), 0)):
                        await stopped.wait()
                tasks.create_task(self._call(session))

    async def _call(self, session: aiohttp.ClientSession) -> None:
        call = Call(round(self.now(), 3), self.phase)
        self.calls.append(call)
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Go."}]}
        began = time.monotonic()
        try:
            async with session.post(
                self._url, json=body, headers={"authorization": f"Bearer {KEY}"}
            ) as answer:
                call.first_s = time.monotonic() - began
                call.status = answer.status
                call.place = answer.headers.get("x-penstock-deployment", "")
                await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            call.first_s = time.monotonic() - began


async def drill(
    site: Site, *, edges: int, rate: float, seconds: float, rng: random.Random
) -> Found:
    """Open the doors, start the gateway, and let the phases come one after the other."""
    found = Found()
    doors = [Door(site.mock_url) for _ in range(3)]
    for door in doors:
        await door.open()
    stopped = asyncio.Event()
    try:
        text = configuration([door.url for door in doors], edges=edges)
        await asyncio.to_thread(site.start_gateway, text)
        callers = Callers(site.data_url, rate, rng)
        load = asyncio.ensure_future(callers.run(stopped))
        await asyncio.sleep(seconds)
        callers.phase = "brown-out"
        slow_since = callers.now()
        doors[0].hold_s = TTFT_MS * (TIMES - 1) / 1000
        await asyncio.sleep(2 * seconds)
        callers.phase = "after"
        doors[0].hold_s = 0.0
        await asyncio.sleep(seconds)
        callers.phase = "closing"
        await asyncio.sleep(CLOSING_S)
        before = await attempts(site)
        callers.phase = "outage"
        for door in doors:
            door.shut()
        await asyncio.sleep(seconds)
        stopped.set()
        await load
        found.outage_attempts = round(await attempts(site) - before)
    finally:
        stopped.set()
        for door in doors:
            await door.close()
    judge(found, callers.calls, slow_since, "m/v0", edges=edges)
    return found


async def attempts(site: Site) -> float:
    """Return how many attempts the edges have counted."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{site.admin_url}/metrics") as answer,
    ):
        page = await answer.text()
    return sum(float(count) for count in ATTEMPTS.findall(page))


def judge(found: Found, calls: list[Call], slow_since: float, slow: str, *, edges: int) -> None:
    """Say what callers saw in each phase, and which laws do not hold."""
    for name in PHASES:
        of_it = [call for call in calls if call.phase == name]
        found.phases[name] = Phase(
            calls=len(of_it),
            failed=sum(call.status != 200 for call in of_it),
            p50_ms=percentile(of_it, 50),
            p99_ms=percentile(of_it, 99),
            places=dict(Counter(call.place for call in of_it)),
        )
    usual = share([call for call in calls if call.phase == "before"], slow)
    brown = [call for call in calls if call.phase == "brown-out"]
    last = max((call.at_s for call in brown), default=slow_since)
    step = 0.5
    steps = int((last - slow_since) / step)
    for number in range(steps):
        begin = slow_since + number * step
        window = [call for call in brown if begin <= call.at_s < begin + step]
        found.slow_share.append(round(share(window, slow), 4))
    for number in range(steps):
        rest = [call for call in brown if call.at_s >= slow_since + number * step]
        if share(rest, slow) <= (1 - MOVED) * usual:
            found.moved_after_s = number * step
            moved = [call for call in brown if call.at_s >= slow_since + number * step]
            found.settled_p99_ms = percentile(moved, 99)
            break
    if not 0 <= found.moved_after_s <= MOVED_WITHIN_S:
        found.broken.append(f"nine tenths had not moved within {MOVED_WITHIN_S:g} s")
    for name in PHASES[:3]:
        if found.phases[name].failed:
            found.broken.append(f"{found.phases[name].failed} calls failed {name}")
    if found.settled_p99_ms > WAIT_TIMES * found.phases["before"].p99_ms:
        found.broken.append(
            f"callers waited {found.settled_p99_ms:.0f} ms once traffic had moved,"
            f" {found.phases['before'].p99_ms:.0f} ms before"
        )
    found.outage_calls = found.phases["outage"].calls
    if found.outage_calls:
        found.amplification = round(found.outage_attempts / found.outage_calls, 3)
    allowed = max(AMPLIFICATION * found.outage_calls, found.outage_calls + FREE_RETRIES * edges)
    if found.outage_attempts > allowed:
        found.broken.append(f"{found.amplification} attempts for each call of the outage")


def share(calls: list[Call], place: str) -> float:
    """Return the share of calls that a place served."""
    return sum(call.place == place for call in calls) / len(calls) if calls else 0.0


def percentile(calls: list[Call], percent: int) -> float:
    """Return a percentile of the time to the first byte, in ms; 0 without calls."""
    if len(calls) < 2:
        return round(calls[0].first_s * 1000, 1) if calls else 0.0
    cuts = quantiles([call.first_s for call in calls], n=100, method="inclusive")
    return round(cuts[percent - 1] * 1000, 1)


def tell(found: Found) -> str:
    """Render the findings."""
    rows: list[tuple[object, ...]] = [
        ("phase", "calls", "failed", "p50 ms", "p99 ms", "at the slow one")
    ]
    for name, phase in found.phases.items():
        slow = phase.places.get("m/v0", 0)
        rows.append((name, phase.calls, phase.failed, phase.p50_ms, phase.p99_ms, slow))
    lines = [
        lined_up(rows),
        "",
        f"nine tenths of its traffic had moved after {found.moved_after_s:g} s, to a p99 of {found.settled_p99_ms:g} ms",
        f"outage: {found.outage_attempts} attempts for {found.outage_calls} calls ({found.amplification:g})",
    ]
    if found.broken:
        lines += ["", "Broken:", *(f"- {words}" for words in found.broken)]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the drill; gives 0, or 1 when a law is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.drills.brownout", description=__doc__
    )
    parser.add_argument("--edges", type=int, default=2, help="edges (2)")
    parser.add_argument("--rate", type=float, default=60.0, help="calls per second (60)")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each phase (12)")
    parser.add_argument("--seed", type=int, default=1, help="of the load (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write raw results and machine")
    given = parser.parse_args(arguments)
    with Site() as site:
        rng = random.Random(given.seed)
        found = asyncio.run(
            drill(site, edges=given.edges, rate=given.rate, seconds=given.seconds, rng=rng)
        )
        found.broken += site.stop_gateway()
    print(tell(found), flush=True)
    if given.json is not None:
        said: dict[str, Any] = {
            "drill": "brownout",
            "seed": given.seed,
            "edges": given.edges,
            "rate": given.rate,
            "seconds": given.seconds,
            "ttft_ms": TTFT_MS,
            "times": TIMES,
            "machine": report.machine("embedded"),
            "found": asdict(found),
        }
        report.write(given.json, said)
    return 1 if found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
