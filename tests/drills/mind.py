"""
`python -m tests.drills.mind`: whether eight replicas decide as one.

One trace of calls (arrivals, tasks, complexities, levels) goes through one replica, and then through eight in turns, in simulated time and with the
scripts and the scorer as they run. Each replica compiles the configuration for itself, and reads the board when it is its turn to, at another moment
than the others; what is exact (in flight, limits, latencies) they share in the store.

Told are the share of calls that got the same deployment, how far the load of any deployment is from what one replica gave it, and how often a vendor
was asked for more than it grants, by a count of the drill's own: this must not happen at all.
"""

import argparse
import heapq
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import msgpack
import redis

from config.keys import KeySecrets
from config.loader import load_text
from config.models import Config
from config.wishes import Wishes
from console.board import PUBLISH_EVERY_S
from loadtests.drills import report
from loadtests.tables import lined_up
from proxy.learning import READ_EVERY_S
from proxy.live import Live, Offer
from proxy.observe import Metrics
from proxy.wire.endpoints import ENDPOINTS
from ratelimit import asks, commands, limits
from routing import board
from routing.alike import rounded_complexity, rounded_tokens
from routing.kinds import kind_of
from routing.lessons import ALL, Sums
from routing.listing import TASKS
from routing.scoring import NO_FACTS, Call, Facts
from store import scripts
from store.cells import FIRST
from tests.drills.server import scripts_of, server
from tests.ratelimit.cell import ask_of, truth_of

REPLICAS = (1, 8)
BEGIN_US = 90_000_000_000_000
SECOND_US = 1_000_000
PUBLISH_US, READ_US = (int(every_s * SECOND_US) for every_s in (PUBLISH_EVERY_S, READ_EVERY_S))
LIFE_US = 3_600 * SECOND_US
CHAT = next(one for one in ENDPOINTS if one.word == "openai.chat")
KEY = "sk-drill-mind-0123456789"
SECRETS = KeySecrets(["the-key-secret-of-the-drill-0123456789"])
RPM, BURST, CONCURRENCY = 240, 30, 6
MODELS = {"small": (0.70, 0.1, 0.4), "medium": (0.78, 0.5, 2.0), "large": (0.86, 3.0, 15.0)}
PER_SECOND = 30.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A call of the trace: when it comes, what it is, and how long each model would take for it."""

    at_us: int
    call: Call
    ttft_us: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a trace: the deployment of each call ('' for none), the most in flight at one, and what vendors would have refused."""

    chosen: tuple[str, ...]
    most_in_flight: int
    refused_by_vendors: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """The outcome of several replicas beside that of one; `worst_load` is the largest difference of a deployment's share of the calls."""

    calls: int
    same: float
    worst_load: float
    most_in_flight: tuple[int, int]
    refused_by_vendors: int
    served: tuple[int, int]


def configuration() -> Config:
    """Return three models with three deployments each, limited by their vendors, and a route over them."""
    limited = {"rpm": RPM, "burst": {"rpm": BURST}, "concurrency": CONCURRENCY}
    said: dict[str, Any] = {
        "providers": {"p": {"protocol": "openai", "base_url": "http://127.0.0.1:1"}},
        "models": {
            model: {
                "quality": quality,
                "price": {"input": dear_in, "output": dear_out},
                "context": 128_000,
                "max_output": 4096,
                "deployments": [
                    {"provider": "p", "id": f"{model}{n}", "limits": limited} for n in range(3)
                ],
            }
            for model, (quality, dear_in, dear_out) in MODELS.items()
        },
        "routes": {"r": {"models": list(MODELS), "policy": "cost_quality"}},
        "organizations": {"o": {"teams": {"t": {"keys": {"k": {"key": KEY}}}}}},
    }
    return load_text(json.dumps(said), source="drill", environ={}).config


def trace(seed: int, count: int) -> list[Arrival]:
    """Return calls as they come: at random, of all tasks, levels and complexities."""
    random = Random(seed)
    at, found = float(BEGIN_US), []
    for _ in range(count):
        at += random.expovariate(PER_SECOND) * SECOND_US
        call = Call(
            input_tokens=int(random.lognormvariate(5, 1)),
            cap=0,
            n=1,
            level=random.choice([1, 2, 2, 2, 3, 3]),
            wishes=Wishes(prefer=random.choice(["", "low", "high"])),
            task=random.choice(TASKS),
            complexity=random.betavariate(2, 2),
        )
        ttft_us = int(random.lognormvariate(12.2, 0.4))
        found.append(Arrival(int(at), call, ttft_us, random.randint(20, 400)))
    return found


class Fleet:
    """Some replicas over one store."""

    def __init__(self, client: "redis.Redis[bytes]", replicas: int) -> None:
        client.flushall()
        self._client = client
        self._shas = {
            name: client.script_load(scripts.load("ratelimit", name).text)
            for name in ("admit", "settle", "beat", "seed")
        }
        self._publish = client.script_load(scripts.load("routing", "publish").text)
        config = configuration()
        for key, packed in limits.records(config, 1):
            client.evalsha(self._shas["seed"], 1, key, 1, packed)
        self._models = {placed.id: placed.model for placed in config.deployments.values()}
        self._boots = [asks.boot_of(f"mind/{n}.1") for n in range(replicas)]
        for boot in self._boots:
            client.evalsha(self._shas["beat"], 1, FIRST.beats, BEGIN_US, boot.member, LIFE_US, 1)
        self._offers = [_offer(config) for _ in range(replicas)]
        self._facts: list[Facts] = [NO_FACTS] * replicas
        # What each replica has read last, and from when on that holds.
        self._coming: list[tuple[Facts, int]] = [(NO_FACTS, 0)] * replicas
        self._numbers = [[0, 0] for _ in range(replicas)]
        self._lessons: dict[tuple[str, str], Sums] = defaultdict(Sums)
        self._in_flight: Counter[str] = Counter()
        self._asked: dict[str, list[int]] = defaultdict(list)

    def run(self, arrivals: Sequence[Arrival]) -> Outcome:
        """Send every call through the replicas in turns, and settle each when it is over."""
        running: list[tuple[int, int, Any]] = []
        chosen, most, refused = [], 0, 0
        # The control, and each replica at another moment than the others.
        count = len(self._boots)
        turns = [(BEGIN_US, -1), *((BEGIN_US + READ_US * n // count, n) for n in range(count))]
        heapq.heapify(turns)
        for number, one in enumerate(arrivals):
            while running and running[0][0] <= one.at_us:
                self._settle(*heapq.heappop(running)[2])
            while turns[0][0] <= one.at_us:
                at_us, who = turns[0]
                if who < 0:
                    self._put_up(at_us)
                else:
                    self._read(who, at_us)
                heapq.heapreplace(turns, (at_us + (PUBLISH_US if who < 0 else READ_US), who))
            replica = number % count
            self._follow(replica, one.at_us)
            where = self._admit(replica, number, one)
            chosen.append(where)
            if where:
                refused += self._refuses(where, one.at_us)
                self._in_flight[where] += 1
                most = max(most, self._in_flight[where])
                ends = one.at_us + one.ttft_us + one.tokens * 4000
                heapq.heappush(running, (ends, number, (replica, number, one, where, ends)))
        while running:
            self._settle(*heapq.heappop(running)[2])
        return Outcome(tuple(chosen), most, refused)

    def _put_up(self, at_us: int) -> None:
        """Put the board up as the control would do it now."""
        ttft: dict[str, float] = {}
        for deployment, model in self._models.items():
            packed: Any = self._client.hmget(limits.deployment_key(deployment), ["l2", "s2"])
            known = limits.decode_scope(*packed).latency_us
            if known > 0:
                ttft[model] = min(ttft.get(model, known), known)
        content = board.encode(self._lessons, board.Live(ttft, {}))
        said = (at_us, content, LIFE_US // 1000, board.AHEAD_US)
        self._client.evalsha(self._publish, 2, board.BOARD, board.LAST, *said)

    def _read(self, replica: int, at_us: int) -> None:
        """Read it as a replica would; what it read before may hold by now."""
        self._follow(replica, at_us)
        raw: Any = self._client.get(board.BOARD)
        if raw is not None:
            self._coming[replica] = board.decode(raw)

    def _follow(self, replica: int, at_us: int) -> None:
        facts, from_us = self._coming[replica]
        if from_us <= at_us:
            self._facts[replica] = facts

    def _admit(self, replica: int, number: int, one: Arrival) -> str:
        offer = self._offers[replica]
        request_id = f"req_{number:06x}"
        tie = crc32(request_id.encode())
        complexity = rounded_complexity(one.call.complexity)
        call = one.call._replace(
            input_tokens=rounded_tokens(one.call.input_tokens),
            complexity=complexity,
            kind=kind_of(one.call.task, one.call.input_tokens, complexity),
            explores=tie < offer.choices.explores_below,
        )
        choice = offer.choices.choose(call, self._facts[replica], one.call.input_tokens)
        self._numbers[replica][0] += 1
        ask = ask_of(
            offer.plan,
            f"{request_id}.1",
            one.call.input_tokens,
            assumed=500,
            n=1,
            tie=tie,
            level=call.level,
            tiers=choice.tiers,
        )
        command = commands.admit_command(
            self._shas["admit"],
            self._boots[replica],
            [ask],
            number=self._numbers[replica][0],
            now=str(one.at_us),
        )
        (packed,) = self._client.execute_command(*command)
        row = msgpack.unpackb(packed)
        return offer.plan.candidates[row[1] - 1].deployment if row[0] == asks.GRANTED else ""

    def _settle(self, replica: int, number: int, one: Arrival, where: str, ends: int) -> None:
        offer, boot = self._offers[replica], self._boots[replica]
        self._in_flight[where] -= 1
        names = [candidate.deployment for candidate in offer.plan.candidates]
        truth = truth_of(
            offer.plan,
            boot,
            f"req_{number:06x}.1",
            candidate=names.index(where),
            input_tokens=one.call.input_tokens,
            output_tokens=one.tokens,
            cost_nusd=1,
            ttft_us=one.ttft_us,
        )
        self._numbers[replica][1] += 1
        command = commands.settle_command(
            self._shas["settle"], boot, self._numbers[replica][1], [truth], now=str(ends)
        )
        self._client.execute_command(*command)
        for task in (one.call.task, ALL):
            sums = self._lessons[self._models[where], task]
            sums.calls += 1
            sums.tokens += one.tokens
            sums.answers += 1

    def _refuses(self, where: str, at_us: int) -> int:
        """Return 1 where a vendor would have refused: more in flight than it grants, or more in a minute than its rate and burst."""
        if self._in_flight[where] >= CONCURRENCY:
            return 1
        recent = [at for at in self._asked[where] if at > at_us - 60 * SECOND_US]
        self._asked[where] = [*recent, at_us]
        return int(len(recent) + 1 > RPM + BURST)


def _offer(config: Config) -> Offer:
    live = Live(
        config,
        1,
        Metrics(),
        at=datetime(2026, 1, 15, tzinfo=UTC),
        replica="drill",
        trust={},
        secrets=SECRETS,
    )
    caller = live.callers.find(KEY)
    assert caller is not None
    return live.offer(caller, "r", CHAT, stream=False, input_bound=100)


def compared(one: Outcome, many: Outcome) -> Comparison:
    """Compare what several replicas did with what one did."""
    calls = len(one.chosen)
    alone, together = Counter(one.chosen), Counter(many.chosen)
    names = {name for name in alone | together if name}
    return Comparison(
        calls=calls,
        same=sum(a == b for a, b in zip(one.chosen, many.chosen, strict=True)) / calls,
        worst_load=max(abs(alone[name] - together[name]) for name in names) / calls,
        most_in_flight=(one.most_in_flight, many.most_in_flight),
        refused_by_vendors=one.refused_by_vendors + many.refused_by_vendors,
        served=(calls - alone[""], calls - together[""]),
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the drill; gives 1 when a vendor was asked for more than it grants."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills.mind", description=__doc__)
    parser.add_argument("--calls", type=int, default=4000, help="in the trace (4000)")
    parser.add_argument("--seed", type=int, default=1, help="of the trace (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write raw results and machine")
    given = parser.parse_args(arguments)
    arrivals = trace(given.seed, given.calls)
    with server() as (client, version):
        outcomes = [Fleet(client, replicas).run(arrivals) for replicas in REPLICAS]
    found = compared(*outcomes)
    print(tell(found), flush=True)  # noqa: T201
    if given.json is not None:
        report.write(
            given.json,
            {
                "drill": "mind",
                "seed": given.seed,
                "scripts": scripts_of(),
                "machine": report.machine(version),
                **asdict(found),
            },
        )
    return 1 if found.refused_by_vendors else 0


def tell(found: Comparison) -> str:
    """Render a comparison."""
    rows: list[tuple[object, ...]] = [
        ("eight replicas beside one", ""),
        ("calls", found.calls),
        ("served by one / by eight", f"{found.served[0]} / {found.served[1]}"),
        ("the same deployment", f"{found.same:.1%}"),
        ("largest difference of a deployment's share", f"{found.worst_load:.2%}"),
        (
            "most in flight at a deployment",
            f"{found.most_in_flight[0]} / {found.most_in_flight[1]}",
        ),
        ("more than a vendor grants", found.refused_by_vendors),
    ]
    return lined_up(rows)


if __name__ == "__main__":
    sys.exit(main())
