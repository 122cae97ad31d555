"""
`python -m loadtests.drills.kill9`: kill edges and the control at random, under load, and look at the books.

The laws, each with a figure: what was settled equals the vendor's books, to the token and the nano-USD; what was reaped is charged
all but the last two seconds of its stream; nothing is charged twice; 15 seconds after a death nothing is held by the dead.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from loadtests.bench.ground import ROOT
from loadtests.drills import report
from loadtests.drills.books import Comparison, compare, ledger_rows
from loadtests.drills.holds import Holds, ask, lease_keys, read_holds
from loadtests.drills.load import Call, Kind, Load
from loadtests.drills.site import KEY, Site, configuration, kill, tariffs

FREE_WITHIN_S = 15.0
MIX = (
    Kind("whole", "quick", stream=False, tokens=20, weight=30),
    Kind("burst", "quick", stream=True, tokens=20, weight=15),
    Kind("slow", "slow", stream=False, tokens=30, weight=20),
    Kind("paced", "paced", stream=True, tokens=60, weight=12),
    Kind("long", "long", stream=True, tokens=250, weight=8),
    Kind("leaves", "paced", stream=True, tokens=60, weight=6, leave_after=17),
    Kind("leaves late", "long", stream=True, tokens=250, weight=3, leave_after=130),
    Kind("flaky", "flaky", stream=False, tokens=8, weight=6),
)


@dataclass(slots=True)
class Death:
    """One kill: who, when (seconds of the load's clock), what it left behind and until when that was held."""

    who: str
    at_s: float
    leases: dict[str, int] = field(default_factory=dict)
    freed_after_s: float | None = None


@dataclass(slots=True)
class Findings:
    """Everything that a drill found; `broken` are the laws that do not hold, in words."""

    deaths: list[Death]
    calls: list[Call]
    compared: Comparison
    verdict: dict[str, Any]
    holds: Holds
    quiet_after_s: float | None
    broken: list[str] = field(default_factory=list)


class Reaper:
    """Kills at random, and watches until what the dead held is free."""

    def __init__(self, site: Site, store: Redis, load: Load, rng: random.Random) -> None:
        self.deaths: list[Death] = []
        self._site = site
        self._store = store
        self._load = load
        self._rng = rng
        self._frozen: int | None = None

    async def freeze(self, seconds: float) -> None:
        """Suspend an edge until it is taken for dead, and let it go on: what it then settles comes late."""
        self._frozen = 0  # from now on it is not killed
        await asyncio.sleep(4.0)
        pid = self._site.pid_of("proxy edge --worker 0 ")
        if pid is None:
            self._frozen = None
            return
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        os.kill(pid, signal.SIGCONT)
        # What it holds it settles now, and late.
        await asyncio.sleep(6.0)
        self._frozen = None

    async def kill(self, count: int, pause_s: float, *, edges: int, control_share: float) -> None:
        """Kill so many processes, a random one each time, at random moments."""
        while len(self.deaths) < count:
            await asyncio.sleep(self._rng.uniform(0.2, 2 * pause_s - 0.2))
            if self._rng.random() < control_share:
                await self._strike("control", "console serve")
            else:
                number = self._rng.randrange(edges)
                if number == self._frozen:
                    continue
                await self._strike(f"edge-{number}", f"proxy edge --worker {number} ", number)

    async def _strike(self, who: str, words: str, number: int | None = None) -> None:
        pid = self._site.pid_of(words)
        if pid is None or not kill(pid):
            return  # it is dead already, and comes back soon
        death = Death(who, round(self._load.now(), 3))
        self.deaths.append(death)
        if number is None:
            return
        # What its former lives held is counted already, whether it is free or not.
        known = {name for earlier in self.deaths for name in earlier.leases}
        for name in set(await lease_keys(self._store, f"/{number}.")) - known:
            death.leases[name] = int(await ask(self._store, "HLEN", name))

    async def watch(self) -> None:
        """Note when the leases of the dead are gone, until cancelled."""
        while True:
            await asyncio.sleep(0.25)
            for death in self.deaths:
                if death.freed_after_s is None and death.leases:
                    left = sum([await self._store.hlen(name) for name in death.leases])
                    if not left:
                        death.freed_after_s = round(self._load.now() - death.at_s, 2)


async def drill(
    site: Site,
    *,
    kills: int,
    pause_s: float,
    rate: float,
    edges: int,
    seed: int,
    freeze_s: float = 0.0,
) -> Findings:
    """Run load and kills on a site whose gateway is up, wait for peace, and compare."""
    rng = random.Random(seed)
    # Read apart from the gateway: its own client would hide what the store says.
    store = Redis.from_url(site.embedded_store())
    load = Load(site.data_url, KEY, MIX, rate, random.Random(seed + 1), marks="k-")
    reaper = Reaper(site, store, load, rng)
    try:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(reaper.watch())
            calling = tasks.create_task(load.run())
            await asyncio.sleep(1.0)
            freezing = tasks.create_task(reaper.freeze(freeze_s)) if freeze_s else None
            await reaper.kill(kills, pause_s, edges=edges, control_share=0.15)
            if freezing is not None:
                await freezing
            last_at = time.monotonic()
            # Calls go on for a moment, so that the last dead are missed by somebody.
            await asyncio.sleep(1.0)
            load.stop()
            await calling
            quiet_after_s, holds = await until_quiet(store, last_at, FREE_WITHIN_S)
            # Let the watch see it as well.
            await asyncio.sleep(0.6)
            watching.cancel()
        url = site.embedded_store()
        verdict = await asyncio.to_thread(verify, url, site.ledger)
    finally:
        await store.aclose()
    compared = compare(ledger_rows(site.ledger), site.served(), tariffs(), prefix="k-")
    found = Findings(
        reaper.deaths, load.calls, compared, verdict, holds, quiet_after_s, list(compared.broken)
    )
    judge(found)
    return found


async def drill_all(site: Site, text: str, *, rate: float, seed: int) -> Findings:
    """Kill every process at once, the store and the supervisor too, and start the installation again."""
    load = Load(site.data_url, KEY, MIX, rate, random.Random(seed), marks="a-")
    async with asyncio.TaskGroup() as tasks:
        calling = tasks.create_task(load.run())
        await asyncio.sleep(4.0)
        death = Death("everything", round(load.now(), 3))
        site.kill_gateway()
        load.stop()
        await calling
    begun = time.monotonic()
    await asyncio.to_thread(site.start_gateway, text)
    store = Redis.from_url(site.embedded_store())
    try:
        before = await read_holds(store)
        death.leases = before.leases
        quiet_after_s, holds = await until_quiet(store, begun, FREE_WITHIN_S)
        death.freed_after_s = quiet_after_s
    finally:
        await store.aclose()
    verdict = await asyncio.to_thread(verify, site.embedded_store(), site.ledger)
    compared = compare(ledger_rows(site.ledger), site.served(), tariffs(), prefix="a-")
    found = Findings(
        [death], load.calls, compared, verdict, holds, quiet_after_s, list(compared.broken)
    )
    judge(found)
    return found


def judge(found: Findings) -> None:
    """Add what else is broken: late reaping, leaks, books that differ, answers that lie."""
    if not found.holds.is_empty():
        found.broken.append(f"still held: {found.holds.as_json()}")
    for death in found.deaths:
        if death.leases and (death.freed_after_s is None or death.freed_after_s > FREE_WITHIN_S):
            found.broken.append(
                f"what {death.who} held when it died at {death.at_s} s was held for {death.freed_after_s} s"
            )
    if not found.verdict.get("equal") or found.verdict.get("rejected"):
        found.broken.append(f"the books do not agree: {json.dumps(found.verdict)}")
    found.broken += lies(found.calls)


def lies(calls: list[Call]) -> list[str]:
    """Return what no caller may ever see: a 500, a hang, an answer that seems whole and is not."""
    return [
        f"{call.mark} ({call.kind}): {call.ended}, status {call.status} {call.code}"
        for call in calls
        if call.ended in {"short", "hung"} or call.status == 500
    ]


async def until_quiet(store: Redis, since: float, within_s: float) -> tuple[float | None, Holds]:
    """Wait until nothing is held; returns how long after `since` (monotonic) that was, None when it was not."""
    holds = Holds(waiting=-1)
    while time.monotonic() - since < within_s + 1:
        try:
            async with asyncio.timeout(2):
                holds = await read_holds(store)
        except (RedisError, OSError):
            holds = Holds(waiting=-1)
        if holds.is_empty():
            return round(time.monotonic() - since, 2), holds
        await asyncio.sleep(0.1)
    return None, holds


def verify(store: str, ledger: Path) -> dict[str, Any]:
    """Run the gateway's own proof."""
    told = subprocess.run(
        [
            *(sys.executable, "-m", "console", "ledger", "verify", "--json"),
            *("--redis", store, "--ledger", f"sqlite:{ledger}"),
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "REDIS_URL"},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        verdict: dict[str, Any] = json.loads(told.stdout)
    except ValueError:
        return {"equal": False, "failed": told.stderr or told.stdout}
    return verdict


def tell(found: Findings) -> str:
    """Render findings."""
    who: dict[str, int] = {}
    for death in found.deaths:
        who[death.who] = who.get(death.who, 0) + 1
    freed = [death.freed_after_s for death in found.deaths if death.freed_after_s is not None]
    held = sum(sum(death.leases.values()) for death in found.deaths)
    statuses = ", ".join(f"{count} {name}" for name, count in report.counts(found.calls).items())
    lines = [
        f"{len(found.deaths)} kills ({', '.join(f'{name} {n}' for name, n in sorted(who.items()))})",
        f"{len(found.calls)} calls: {statuses}",
        f"leases held at the moments of death: {held}",
        f"free after (median / most): {report.spread(freed)} s",
        f"nothing held and nothing waiting {found.quiet_after_s} s after the last death",
        f"./penstock ledger verify: {'equal' if found.verdict.get('equal') else 'DIFFERENT'}",
        "",
        report.books_table(found.compared),
    ]
    if found.broken:
        lines += ["", "Broken:", *(f"- {words}" for words in found.broken[:40])]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the drill; gives 0, or 1 when a law is broken."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.drills.kill9", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how many (20)")
    parser.add_argument("--pause", type=float, default=2.0, help="mean seconds between two (2)")
    parser.add_argument("--rate", type=float, default=60.0, help="calls per second (60)")
    parser.add_argument("--edges", type=int, default=4, help="edges (4)")
    parser.add_argument(
        "--freeze",
        type=float,
        default=13.0,
        metavar="S",
        help="suspend one edge for so long, so that it settles late (13; 0: do not)",
    )
    parser.add_argument(
        "--everything",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="at the end kill every process at once, and start again",
    )
    parser.add_argument("--seed", type=int, default=1, help="of kills and load (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write raw results and machine")
    given = parser.parse_args(arguments)
    begun = time.monotonic()
    with Site() as site:
        text = configuration(site.mock_url, edges=given.edges)
        site.start_gateway(text)
        found = asyncio.run(
            drill(
                site,
                kills=given.kills,
                pause_s=given.pause,
                rate=given.rate,
                edges=given.edges,
                seed=given.seed,
                freeze_s=given.freeze,
            )
        )
        print(tell(found), flush=True)
        everything = None
        if given.everything:
            everything = asyncio.run(drill_all(site, text, rate=given.rate, seed=given.seed))
            print(f"\nEvery process at once\n\n{tell(everything)}", flush=True)
        wrong = site.stop_gateway()
        found.broken += wrong
        for words in wrong:
            print(words)
    both = [one for one in (found, everything) if one is not None]
    if given.json is not None:
        report.write(
            given.json,
            {
                "drill": "kill9",
                "seed": given.seed,
                "edges": given.edges,
                "rate": given.rate,
                "pause_s": given.pause,
                "freeze_s": given.freeze,
                "took_s": round(time.monotonic() - begun, 1),
                "machine": report.machine("embedded"),
                "parts": [plain(one) for one in both],
            },
        )
    return 1 if any(one.broken for one in both) else 0


def plain(found: Findings) -> dict[str, Any]:
    """Return findings as plain data; of the calls their counts."""
    return {
        "broken": found.broken,
        "verdict": found.verdict,
        "quiet_after_s": found.quiet_after_s,
        "calls": report.counts(found.calls),
        # Without the name of the host, which stands before the worker's number.
        "deaths": [
            asdict(death)
            | {"leases": {name.rpartition("/")[2]: n for name, n in death.leases.items()}}
            for death in found.deaths
        ],
        "books": found.compared.as_json(),
    }


if __name__ == "__main__":
    sys.exit(main())
