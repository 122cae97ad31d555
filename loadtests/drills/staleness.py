"""
`python -m loadtests.drills.staleness`: change a quota again and again under load, and look for replicas that judge by an old one.

Every answer says in `x-ratelimit-limit-requests` which quota it was judged by, and each change sets another number.
The laws: a call that began after a change was acknowledged is judged by that quota or a newer one, at every edge; a key that was
rotated is refused by every edge 200 ms after the answer, and by all of them when the answer says `everywhere`.
"""

import argparse
import asyncio
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import aiohttp

from loadtests.drills import report
from loadtests.drills.site import KEY, Site, configuration, key_of

SCOPE = "key:drill/one/main"
ROTATED = "drill/one/rotated"
FIRST_RPM = 100_000
WITHIN_S = 0.2
MOST_CONNECTIONS = 400
# What tells the edges apart in `x-request-id`: the rest of it counts.
EDGE_LETTERS = 14


@dataclass(slots=True)
class Findings:
    """What was found; `broken` are the laws that do not hold, in words; times in seconds."""

    changes: int = 0
    judged: int = 0
    by_edge: dict[str, int] = field(default_factory=dict)
    old: int = 0
    ahead: int = 0
    other: dict[str, int] = field(default_factory=dict)
    change_s: list[float] = field(default_factory=list)
    rotations: int = 0
    refused_after_s: list[float] = field(default_factory=list)
    everywhere_s: list[float] = field(default_factory=list)
    accepted_after_everywhere: int = 0
    took_s: float = 0.0
    broken: list[str] = field(default_factory=list)


class Line:
    """One kept connection of a caller; `edge` is who answers on it, empty before the first answer."""

    def __init__(self, url: str) -> None:
        self.edge = ""
        self._url = url
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=300),
            timeout=aiohttp.ClientTimeout(total=30),
        )

    async def call(self) -> tuple[int, int]:
        """Ask for a completion; gives the status, and the quota that judged it (0: none was said)."""
        body = {"model": "quick", "messages": [{"role": "user", "content": "How high is it?"}]}
        async with self._session.post(
            f"{self._url}/v1/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {KEY}"},
        ) as answer:
            await answer.read()
            self.edge = answer.headers.get("x-request-id", "")[:EDGE_LETTERS]
            return answer.status, int(answer.headers.get("x-ratelimit-limit-requests", 0))

    async def knows(self, key: str) -> bool:
        """Tell whether the edge at the other end knows a key."""
        async with self._session.get(
            f"{self._url}/v1/models", headers={"authorization": f"Bearer {key}"}
        ) as answer:
            await answer.read()
            return answer.status == 200

    async def close(self) -> None:
        """Hang up."""
        await self._session.close()


class Judge:
    """
    Counts by which quota calls were judged.

    `acknowledged` is the quota of the last change that was answered, `asked` of the last that was sent.
    """

    def __init__(self, found: Findings) -> None:
        self.acknowledged = self.asked = FIRST_RPM
        self._found = found

    async def call(self, line: Line) -> None:
        """Make a call and judge its answer."""
        floor = self.acknowledged
        status, quota = await line.call()
        self.note(line.edge, status, quota, floor)

    def note(self, edge: str, status: int, quota: int, floor: int) -> None:
        """Count an answer; `floor` is what was acknowledged when its call began."""
        found = self._found
        if status != 200 or not quota:
            found.other[str(status)] = found.other.get(str(status), 0) + 1
            return
        found.judged += 1
        found.by_edge[edge] = found.by_edge.get(edge, 0) + 1
        found.old += quota < floor
        found.ahead += quota > self.asked


async def lines_to_each(url: str, edges: int) -> list[Line]:
    """Open connections until each edge has one; the kernel chooses who gets which."""
    found: dict[str, Line] = {}
    for _ in range(MOST_CONNECTIONS):
        line = Line(url)
        await line.call()
        if line.edge in found:
            await line.close()
            continue
        found[line.edge] = line
        if len(found) == edges:
            return list(found.values())
    raise OSError(f"{MOST_CONNECTIONS} connections reached {len(found)} of {edges} edges")


async def drill(
    site: Site, *, edges: int, changes: int, rotations: int, rate: float, seed: int
) -> Findings:
    """Change and rotate on a site whose gateway is up, under load, and judge every answer."""
    found = Findings()
    judge = Judge(found)
    rng = random.Random(seed)
    begun = time.monotonic()
    async with aiohttp.ClientSession() as admin:
        await _set(admin, site, FIRST_RPM)
        probes = await lines_to_each(site.data_url, edges)
        loaded = await lines_to_each(site.data_url, edges)
        loads = [
            asyncio.ensure_future(_load(judge, line, rate / edges, random.Random(rng.random())))
            for line in loaded
        ]
        try:
            for number in range(1, changes + 1):
                judge.asked = FIRST_RPM + number
                sent = time.monotonic()
                await _set(admin, site, judge.asked)
                found.change_s.append(time.monotonic() - sent)
                judge.acknowledged = judge.asked
                found.changes += 1
                # Every edge is asked at once, besides the load.
                await asyncio.gather(*(judge.call(line) for line in probes))
            await _rotate(admin, site, probes, rotations, found)
        finally:
            for load in loads:
                load.cancel()
            ended = await asyncio.gather(*loads, return_exceptions=True)
            for line in (*probes, *loaded):
                await line.close()
    found.broken += [
        f"the load failed: {one!r}"
        for one in ended
        if isinstance(one, Exception) and not isinstance(one, asyncio.CancelledError)
    ]
    found.took_s = round(time.monotonic() - begun, 1)
    judge_all(found, edges)
    return found


def judge_all(found: Findings, edges: int) -> None:
    """Say in words which laws do not hold."""
    if found.old:
        found.broken.append(
            f"{found.old} calls were judged by a quota that was old when they began"
        )
    if found.ahead:
        found.broken.append(f"{found.ahead} calls were judged by a quota that nobody had set yet")
    if found.other:
        found.broken.append(f"answers of another kind: {found.other}")
    if len(found.by_edge) != edges:
        found.broken.append(f"{len(found.by_edge)} of {edges} edges answered")
    if found.accepted_after_everywhere:
        found.broken.append(
            f"{found.accepted_after_everywhere} times a rotated key was accepted after `everywhere`"
        )
    late = [one for one in found.refused_after_s if one > WITHIN_S]
    if late:
        found.broken.append(f"{len(late)} times a rotated key was known for longer than 200 ms")


async def _set(admin: aiohttp.ClientSession, site: Site, rpm: int) -> None:
    body = {"limits": {"rpm": rpm}, "why": "drill"}
    async with admin.put(f"{site.admin_url}/v1/quotas/{SCOPE}", json=body) as answer:
        answer.raise_for_status()


async def _load(judge: Judge, line: Line, rate: float, rng: random.Random) -> None:
    while True:
        await asyncio.sleep(rng.expovariate(rate))
        await judge.call(line)


async def _rotate(
    admin: aiohttp.ClientSession, site: Site, lines: list[Line], count: int, found: Findings
) -> None:
    """Rotate a key, by turns with and without waiting for everybody, and see who knows the old one."""
    old = key_of("rotated")
    for number in range(count):
        waits = number % 2 == 1
        body = {"why": "drill", "wait_ms": 5000 if waits else 0}
        sent = time.monotonic()
        async with admin.post(f"{site.admin_url}/v1/keys/{ROTATED}/rotate", json=body) as answer:
            answer.raise_for_status()
            said: dict[str, Any] = await answer.json()
        answered = time.monotonic()
        found.rotations += 1
        if waits:
            found.everywhere_s.append(answered - sent)
            known = await asyncio.gather(*(line.knows(old) for line in lines))
            found.accepted_after_everywhere += sum(known) + (said["everywhere"] is not True)
        else:
            found.refused_after_s += await asyncio.gather(
                *(_until_refused(line, old, answered) for line in lines)
            )
        old = said["key"]


async def _until_refused(line: Line, key: str, since: float) -> float:
    """Return how long after `since` the last call with a key began that was still answered."""
    last = since
    while True:
        began = time.monotonic()
        if not await line.knows(key):
            return last - since
        last = began
        await asyncio.sleep(0.002)


def tell(found: Findings) -> str:
    """Render findings."""
    lines = [
        f"{found.changes} quota changes in {found.took_s} s; a change was answered in {_spread(found.change_s)}",
        f"{found.judged} calls judged by {len(found.by_edge)} edges; by an old quota after the change was acknowledged: {found.old}",
        f"{found.rotations} rotations; an edge knew the old key after the answer for {_spread(found.refused_after_s)}",
        f"answered with `everywhere` in {_spread(found.everywhere_s)}; accepted afterwards: {found.accepted_after_everywhere}",
    ]
    if found.broken:
        lines += ["", "Broken:", *(f"- {words}" for words in found.broken)]
    return "\n".join(lines)


def _spread(seconds: list[float]) -> str:
    if len(seconds) < 2:
        return "-"
    cut = quantiles(seconds, n=100, method="inclusive")
    return f"{cut[49] * 1000:.1f} ms (median), {cut[98] * 1000:.1f} ms (99 %), {max(seconds) * 1000:.1f} ms (most)"


def main(arguments: list[str] | None = None) -> int:
    """Run the drill; gives 0, or 1 when a law is broken."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.drills.staleness", description=__doc__
    )
    parser.add_argument("--edges", type=int, default=8, help="edges (8)")
    parser.add_argument("--changes", type=int, default=1000, help="quota changes (1000)")
    parser.add_argument("--rotations", type=int, default=100, help="rotations of a key (100)")
    parser.add_argument("--rate", type=float, default=100.0, help="calls per second besides (100)")
    parser.add_argument("--seed", type=int, default=1, help="of the load (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write raw results and machine")
    given = parser.parse_args(arguments)
    with Site() as site:
        site.start_gateway(
            configuration(site.mock_url, edges=given.edges, keys={"rotated": 100_000})
        )
        found = asyncio.run(
            drill(
                site,
                edges=given.edges,
                changes=given.changes,
                rotations=given.rotations,
                rate=given.rate,
                seed=given.seed,
            )
        )
        found.broken += site.stop_gateway()
    print(tell(found), flush=True)
    if given.json is not None:
        report.write(
            given.json,
            {
                "drill": "staleness",
                "seed": given.seed,
                "edges": given.edges,
                "rate": given.rate,
                "machine": report.machine("embedded"),
                # Edges by number: their names are made of chance.
                "found": asdict(found) | {"by_edge": sorted(found.by_edge.values())},
            },
        )
    return 1 if found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
