"""
`python -m tests.drills.breaker`: how many asks try a half-open deployment, and how much traffic one draws that fails fast.

The scripts run on a real server; the clock is the drill's own, so that the figures say what the rule is worth, and not how fast a machine is.

    trials    replicas ask at once when a pause is over, again and again: exactly one ask of them all is sent there
    return    the deployment answers again: its share of the traffic, second by second
    sinkhole  one of three deployments fails within a millisecond, the others take as long as models do: its share, second by second
    newcomer  a deployment joins three that are busy: the most that it has under way, beside what each of the others has
"""

import argparse
import heapq
import itertools
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import redis

from loadtests.drills import report
from loadtests.tables import lined_up
from ratelimit.commands import BATCH
from tests.drills.server import scripts_of, server
from tests.ratelimit import oracle
from tests.ratelimit.cell import Cell, entry_of
from tests.ratelimit.oracle import SECOND, Limits, moment

BEGIN = moment(2026, 6, 17, 12)
LEAST_BAD, PROBE = 4, 5
FINE, FAILED = 1, 2
FAILS_IN_US = 1_000
# The laws.
SINK_SHARE = 0.01
SINK_AFTER_S = 2


@dataclass(slots=True)
class Found:
    """What was found; shares are of the traffic of a second, by its number. `broken` are the laws that do not hold."""

    trials: list[int] = field(default_factory=list)
    trial_pauses_s: list[float] = field(default_factory=list)
    asks_per_period: int = 0
    returning: list[float] = field(default_factory=list)
    sinkhole: list[float] = field(default_factory=list)
    sinkhole_calls: int = 0
    newcomer_most: int = 0
    newcomer_others: float = 0.0
    broken: list[str] = field(default_factory=list)


class Fleet:
    """Replicas at one cell, with one plan; `places` are the deployments."""

    def __init__(
        self, client: "redis.Redis[bytes]", replicas: int, places: tuple[str, ...]
    ) -> None:
        client.flushall()
        self.cell = Cell(client)
        self.replicas = [f"edge/{n}.1" for n in range(replicas)]
        self._numbers = itertools.count(1)
        self.cell.seed("model:m", Limits())
        self.cell.seed("team:o/t", Limits())
        for name in places:
            self.cell.seed(f"deployment:{name}", Limits())
        self.plan = self.plan_of(places)
        for name in self.replicas:
            self.cell.beat(name, BEGIN, fresh=True)

    def plan_of(self, places: tuple[str, ...]) -> oracle.Plan:
        """Return a plan over these deployments."""
        return oracle.Plan(
            ("team:o/t",),
            tuple(oracle.Candidate(one, "m", 0, 1000, 2000, 1000, 4096, "p", 0) for one in places),
            entry_of("", outcome="reaped"),
        )

    def ask(self, plan: oracle.Plan | None = None) -> oracle.Ask:
        """Return a new ask of level normal."""
        number = next(self._numbers)
        return oracle.Ask(
            plan=plan or self.plan,
            attempt_id=f"req_{number:012x}.1",
            input=100,
            bound=200,
            cap=256,
            assumed=256,
            n=1,
            first=True,
            excluded=(),
            tie=number,
            user="",
        )

    def admit(self, replica: str, asks: list[oracle.Ask], now: int) -> list[list[Any]]:
        """Send asks as a replica does, in batches."""
        rows: list[list[Any]] = []
        for start in range(0, len(asks), BATCH):
            answer = self.cell.admit(
                replica, asks[start : start + BATCH], next(self._numbers), now, again=False
            )
            if isinstance(answer, str):
                raise TypeError(f"{replica} was told {answer}")
            rows += answer
        return rows

    def settle(
        self, replica: str, ask: oracle.Ask, row: list[Any], *, health: int, ttft: int, now: int
    ) -> None:
        """Settle a grant."""
        truth = oracle.Settlement(
            plan=ask.plan,
            attempt_id=ask.attempt_id,
            candidate=row[1],
            input=100,
            output=200 if health == FINE else 0,
            cost=500 if health == FINE else 0,
            health=health,
            ttft=ttft,
            cool=0,
            entry=entry_of(ask.attempt_id, input=100, output=200, cost=500),
        )
        self.cell.settle(replica, next(self._numbers), [truth], 0, now)

    def wait_of(self, place: str) -> float:
        """Return until when a deployment is left alone, in us."""
        health = self.cell.decoded()[f"deployment:{place}"][1].health
        return 0 if health is None else health.kinds[1].open_until


def trials(
    client: "redis.Redis[bytes]",
    found: Found,
    *,
    replicas: int,
    concurrent: int,
    periods: int,
    rng: random.Random,
) -> None:
    """Let everybody ask at once in each half-open period, in any order, while the trial is away."""
    fleet = Fleet(client, replicas, ("good", "bad"))
    found.asks_per_period = replicas * concurrent
    now = BEGIN
    for _ in range(3):
        ask = fleet.ask(fleet.plan_of(("bad",)))
        [row] = fleet.admit(fleet.replicas[0], [ask], now)
        fleet.settle(fleet.replicas[0], ask, row, health=FAILED, ttft=0, now=now)
    for _ in range(periods):
        until = int(fleet.wait_of("bad"))
        found.trial_pauses_s.append(round((until - now) / SECOND, 3))
        now = until
        groups = [
            (replica, [fleet.ask() for _ in range(size)])
            for replica in fleet.replicas
            for size in _parts(concurrent, rng)
        ]
        rng.shuffle(groups)
        sent = []
        for replica, asks in groups:
            sent += [
                (replica, ask, row)
                for ask, row in zip(asks, fleet.admit(replica, asks, now), strict=True)
            ]
            now += rng.randrange(2000)
        bad = [one for one in sent if one[2][1] == 2]
        found.trials.append(len(bad))
        for replica, ask, row in sent:
            is_bad = row[1] == 2
            health, ttft = (FAILED, 0) if is_bad else (FINE, 200_000)
            fleet.settle(replica, ask, row, health=health, ttft=ttft, now=now)
    if any(count != 1 for count in found.trials):
        found.broken.append(f"trials per half-open period: {found.trials}")


def _parts(count: int, rng: random.Random) -> list[int]:
    """Divide a count into batches of any size."""
    parts = []
    while count:
        parts.append(min(count, rng.randint(1, BATCH)))
        count -= parts[-1]
    return parts


class Traffic:
    """
    Calls at random moments through all replicas, settled when they have taken their time, on a clock of its own.

    `answers` says, of a place and a moment, how long a call takes there (us) and how it ends.
    """

    def __init__(
        self, fleet: Fleet, rng: random.Random, answers: Callable[[int, int], tuple[int, int]]
    ) -> None:
        self.fleet = fleet
        self.now = BEGIN
        self.sent: list[tuple[int, int]] = []
        self.flying: Counter[int] = Counter()
        self.most: Counter[int] = Counter()
        self._rng = rng
        self._answers = answers
        self._due: list[tuple[int, int, str, oracle.Ask, list[Any], int, int]] = []
        self._order = itertools.count()

    def run(self, seconds: float, rate: float, plan: oracle.Plan | None = None) -> None:
        """Let calls come for so long."""
        ends = self.now + int(seconds * SECOND)
        arrival = float(self.now)
        while True:
            arrival += self._rng.expovariate(rate) * SECOND
            if arrival >= ends:
                break
            self._settle_until(int(arrival))
            self.now = int(arrival)
            replica = self._rng.choice(self.fleet.replicas)
            ask = self.fleet.ask(plan)
            [row] = self.fleet.admit(replica, [ask], self.now)
            if row[0] != 1:
                continue
            place = row[1]
            self.sent.append((self.now, place))
            self.flying[place] += 1
            self.most[place] = max(self.most[place], self.flying[place])
            took, health = self._answers(place, self.now)
            heapq.heappush(
                self._due, (self.now + took, next(self._order), replica, ask, row, health, took)
            )
        self._settle_until(ends)
        self.now = ends

    def shares(self, place: int, since: int, seconds: int) -> list[float]:
        """Return the share of a place in each second."""
        found = []
        for second in range(seconds):
            begun = since + second * SECOND
            here = [one for at, one in self.sent if begun <= at < begun + SECOND]
            found.append(round(here.count(place) / len(here), 4) if here else 0.0)
        return found

    def _settle_until(self, moment_us: int) -> None:
        while self._due and self._due[0][0] <= moment_us:
            at, _, replica, ask, row, health, took = heapq.heappop(self._due)
            self.flying[row[1]] -= 1
            ttft = took if health == FINE else 0
            self.fleet.settle(replica, ask, row, health=health, ttft=ttft, now=at)


def _model_us(rng: random.Random) -> int:
    """Return how long a call takes where all is well."""
    return int(rng.lognormvariate(0, 0.3) * 400_000)


def sinkhole(
    client: "redis.Redis[bytes]", found: Found, *, replicas: int, rate: float, rng: random.Random
) -> None:
    """Let one of three fail at once, from some moment on."""
    fleet = Fleet(client, replicas, ("a", "b", "sink"))
    broken_from = BEGIN + 5 * SECOND

    def answers(place: int, now: int) -> tuple[int, int]:
        if place == 3 and now >= broken_from:
            return FAILS_IN_US, FAILED
        return _model_us(rng), FINE

    traffic = Traffic(fleet, rng, answers)
    traffic.run(25, rate)
    found.sinkhole = traffic.shares(3, broken_from, 20)
    after = broken_from + SINK_AFTER_S * SECOND
    late = [place for at, place in traffic.sent if at >= after]
    found.sinkhole_calls = len(late)
    share = late.count(3) / len(late)
    if share >= SINK_SHARE:
        found.broken.append(f"the sinkhole drew {share:.2%} after {SINK_AFTER_S} s")


def returning(
    client: "redis.Redis[bytes]", found: Found, *, replicas: int, rate: float, rng: random.Random
) -> None:
    """Let one of three fail for five seconds, and come back."""
    fleet = Fleet(client, replicas, ("a", "b", "back"))
    back = BEGIN + 5 * SECOND

    def answers(place: int, now: int) -> tuple[int, int]:
        if place == 3 and now < back:
            return FAILS_IN_US, FAILED
        return _model_us(rng), FINE

    traffic = Traffic(fleet, rng, answers)
    traffic.run(50, rate)
    found.returning = traffic.shares(3, back, 45)
    rise = found.returning
    if not 0.2 < sum(rise[-5:]) / 5 < 0.47:
        found.broken.append(f"it did not come back to a third: {rise[-5:]}")


def newcomer(
    client: "redis.Redis[bytes]", found: Found, *, replicas: int, rate: float, rng: random.Random
) -> None:
    """Let a fourth deployment join three that are busy."""
    fleet = Fleet(client, replicas, ("a", "b", "c", "new"))
    traffic = Traffic(fleet, rng, lambda _place, _now: (_model_us(rng), FINE))
    traffic.run(5, rate, fleet.plan_of(("a", "b", "c")))
    traffic.most.clear()
    traffic.run(5, rate)
    found.newcomer_most = traffic.most[4]
    found.newcomer_others = round(sum(traffic.most[n] for n in (1, 2, 3)) / 3, 1)
    if found.newcomer_most > 2 * found.newcomer_others:
        found.broken.append(
            f"a newcomer had {found.newcomer_most} under way, the others {found.newcomer_others}"
        )


def tell(found: Found) -> str:
    """Render the findings."""
    rows: list[tuple[object, ...]] = [
        ("asks in each half-open period", found.asks_per_period),
        ("half-open periods", len(found.trials)),
        ("of them sent there, by period", " ".join(map(str, found.trials))),
        ("pauses, s", " ".join(f"{one:g}" for one in found.trial_pauses_s)),
        ("share of a sinkhole, by second", " ".join(f"{one:.2%}" for one in found.sinkhole[:6])),
        (
            "share on the way back, every 5 s",
            " ".join(f"{one:.0%}" for one in found.returning[::5]),
        ),
        (
            "most under way at a newcomer / at the others",
            f"{found.newcomer_most} / {found.newcomer_others}",
        ),
        ("laws broken", len(found.broken)),
    ]
    return "\n".join([lined_up(rows), *(f"- {words}" for words in found.broken)])


def main(arguments: list[str] | None = None) -> int:
    """Run the drill; gives 0, or 1 when a law is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills.breaker", description=__doc__)
    parser.add_argument("--replicas", type=int, default=8, help="that ask (8)")
    parser.add_argument("--concurrent", type=int, default=200, help="asks of each at once (200)")
    parser.add_argument("--periods", type=int, default=10, help="half-open periods (10)")
    parser.add_argument("--rate", type=float, default=200.0, help="calls per second (200)")
    parser.add_argument("--seed", type=int, default=1, help="of the traffic (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write raw results and machine")
    given = parser.parse_args(arguments)
    begun = time.monotonic()
    found = Found()
    rng = random.Random(given.seed)
    with server() as (client, version):
        trials(
            client,
            found,
            replicas=given.replicas,
            concurrent=given.concurrent,
            periods=given.periods,
            rng=rng,
        )
        sinkhole(client, found, replicas=given.replicas, rate=given.rate, rng=rng)
        returning(client, found, replicas=given.replicas, rate=given.rate, rng=rng)
        newcomer(client, found, replicas=given.replicas, rate=given.rate, rng=rng)
    print(tell(found), flush=True)  # noqa: T201
    if given.json is not None:
        report.write(
            given.json,
            {
                "drill": "breaker",
                "seed": given.seed,
                "replicas": given.replicas,
                "concurrent": given.concurrent,
                "rate": given.rate,
                "took_s": round(time.monotonic() - begun, 1),
                "scripts": scripts_of(),
                "machine": report.machine(version),
                "found": asdict(found),
            },
        )
    return 1 if found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
