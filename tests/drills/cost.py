"""
`python -m tests.drills.cost`: what a request costs the server, by the size of batches and by the number of scopes and candidates.

Measured is the CPU time of the server's main thread (user and system, `INFO cpu`), so that neither the client nor what else runs on the machine counts;
of admissions and settlements apart, each in a run of its own. Every scope has a limit of requests, of tokens and of concurrency, and a strict budget; every candidate is
a deployment with limits. From it follows how many requests one core sustains: a second, divided by what one costs.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import msgpack
import redis

from config.quotas import Budget, Limits
from loadtests.drills import report
from loadtests.tables import lined_up
from ratelimit import asks, commands, limits
from store import scripts
from store.cells import FIRST
from tests.drills.server import scripts_of, server
from tests.ratelimit.cell import ask_of, entry_of, truth_of

BATCHES = (1, 4, 16, 64)
SCOPES = tuple(range(1, 9))
CANDIDATES = (1, 2, 4, 8, 16)
USUAL_SCOPES, USUAL_CANDIDATES = 3, 2
WARM_UP = 128


@dataclass(frozen=True)
class Setting:
    """How many asks in a batch, scopes above the caller, and candidates behind the name."""

    batch: int
    scopes: int
    candidates: int


@dataclass(frozen=True)
class Cost:
    """CPU of the server per request, in us, the median of some runs; `per_core` is requests per second, both together."""

    setting: Setting
    admit_us: float
    settle_us: float
    per_core: int


def settings() -> Iterator[Setting]:
    """Yield what is measured: batches as they are usual, then scopes and candidates, alone and in full batches."""
    seen = set()
    rows = itertools.chain(
        (Setting(batch, USUAL_SCOPES, USUAL_CANDIDATES) for batch in BATCHES),
        (Setting(batch, count, USUAL_CANDIDATES) for batch in (1, 64) for count in SCOPES),
        (Setting(batch, USUAL_SCOPES, count) for batch in (1, 64) for count in CANDIDATES),
    )
    for one in rows:
        if one not in seen:
            seen.add(one)
            yield one


class Bench:
    """One client of a server, which measures what the server spends on it."""

    def __init__(self, client: "redis.Redis[bytes]") -> None:
        self._client = client
        self._shas = {
            name: client.script_load(scripts.load("ratelimit", name).text)
            for name in ("admit", "settle", "beat", "seed")
        }
        self._numbers = itertools.count(1)

    def measure(self, setting: Setting, requests: int, runs: int) -> Cost:
        """Measure a setting."""
        found = [self._run(setting, requests) for _ in range(runs)]
        admit_us, settle_us = (median(one) for one in zip(*found, strict=True))
        return Cost(
            setting,
            round(admit_us, 2),
            round(settle_us, 2),
            round(1e6 / (admit_us + settle_us)),
        )

    def _run(self, setting: Setting, requests: int) -> tuple[float, float]:
        plan = self._seeded(setting)
        boot = asks.boot_of("bench/0.1")
        self._client.evalsha(self._shas["beat"], 1, FIRST.beats, "", boot.member, 60_000_000, 1)
        admits, settles = [], []
        for _ in range(-(-(requests + WARM_UP) // setting.batch)):
            wishes = [self._wish(plan) for _ in range(setting.batch)]
            admits.append(
                commands.admit_command(
                    self._shas["admit"], boot, wishes, number=next(self._numbers)
                )
            )
            truths = [self._truth(plan, boot, one.attempt_id) for one in wishes]
            settles.append(
                commands.settle_command(self._shas["settle"], boot, next(self._numbers), truths)
            )
        warm = -(-WARM_UP // setting.batch)
        self._send(admits[:warm])
        self._send(settles[:warm])
        count = (len(admits) - warm) * setting.batch
        return self._spent(admits[warm:]) / count, self._spent(settles[warm:]) / count

    def _send(self, commands: list[Any]) -> None:
        for command in commands:
            self._client.execute_command(*command)

    def _spent(self, commands: list[Any]) -> float:
        """Return what the server spends on these, one after the other, in us."""
        before = self._cpu_us()
        self._send(commands)
        return self._cpu_us() - before

    def _cpu_us(self) -> float:
        found = self._client.info("cpu")
        return 1e6 * (found["used_cpu_user_main_thread"] + found["used_cpu_sys_main_thread"])

    def _seeded(self, setting: Setting) -> limits.Plan:
        """Write the limits of a setting on an empty server; returns the plan."""
        self._client.flushall()
        strict = Budget.model_validate({"usd": 100_000, "per": "month", "mode": "strict"})
        many = Limits(rpm=1_000_000, tpm=1_000_000_000, concurrency=100_000)
        scopes = tuple(f"team:o/{number}" for number in range(setting.scopes))
        rows = [(limits.scope_key(one), limits.pack_limits(1, many, (strict,))) for one in scopes]
        rows.append((limits.scope_key("model:m"), limits.pack_limits(1, many)))
        names = [f"d{number}" for number in range(setting.candidates)]
        rows += [
            (limits.deployment_key(one), limits.pack_limits(1, many, weight=1)) for one in names
        ]
        for key, packed in rows:
            self._client.evalsha(self._shas["seed"], 1, key, 1, packed)
        return limits.Plan(
            scopes,
            tuple(limits.Candidate(one, "m", 0, 1000, 2000, 1000, 4096, "p") for one in names),
            msgpack.packb(entry_of("", outcome="reaped"), use_bin_type=False),
        )

    def _wish(self, plan: limits.Plan) -> asks.Ask:
        number = next(self._numbers)
        attempt_id = f"req_0123456789{number:06x}.1"
        return ask_of(plan, attempt_id, 100, bound=200, cap=256, assumed=256, n=1, tie=number)

    @staticmethod
    def _truth(plan: limits.Plan, boot: asks.Boot, attempt: str) -> asks.Settlement:
        return truth_of(
            plan,
            boot,
            attempt,
            input_tokens=100,
            output_tokens=200,
            cost_nusd=500,
            ttft_us=200_000,
        )


def tell(costs: list[Cost]) -> str:
    """Render the costs."""
    head = ("batch", "scopes", "candidates", "admit us", "settle us", "requests/s per core")
    rows = [
        (
            one.setting.batch,
            one.setting.scopes,
            one.setting.candidates,
            f"{one.admit_us:.1f}",
            f"{one.settle_us:.1f}",
            f"{one.per_core:,}",
        )
        for one in costs
    ]
    return lined_up([head, *rows])


def main(arguments: list[str] | None = None) -> int:
    """Run the drill; gives 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills.cost", description=__doc__)
    parser.add_argument("--requests", type=int, default=4000, help="per run (4000)")
    parser.add_argument("--runs", type=int, default=3, help="of which the median counts (3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write raw results and machine")
    given = parser.parse_args(arguments)
    begun = time.monotonic()
    with server() as (client, version):
        bench = Bench(client)
        costs = [bench.measure(one, given.requests, given.runs) for one in settings()]
    print(tell(costs), flush=True)  # noqa: T201
    if given.json is not None:
        report.write(
            given.json,
            {
                "drill": "cost",
                "requests": given.requests,
                "runs": given.runs,
                "took_s": round(time.monotonic() - begun, 1),
                "scripts": scripts_of(),
                "machine": report.machine(version),
                "costs": [asdict(one) for one in costs],
            },
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
