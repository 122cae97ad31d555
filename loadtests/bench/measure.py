"""
Taking the measurements.

Three contestants stand before the same mock vendor: `direct` (no proxy), `nginx`, and the gateway (`penstock`).
Runs alternate between them, so that each pair of runs sees the same machine.
CPU is user plus system time of the one process that proxies, over the run and what it leaves to do.
"""

import functools
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from loadtests.bench import usage, wrk
from loadtests.bench.figures import ROWS, Figure, Row
from loadtests.bench.ground import Ground, fetch
from loadtests.bench.held import HeldStreams, request
from loadtests.bench.prompts import prompts
from loadtests.bench.wrk import Counted

_PATH = "/v1/chat/completions"
_PAYLOAD_WORDS = "Tell me, in a few plain sentences, how the gate above the turbine is kept."
# What the gateway calls a model, and what that model does (see penstock.yaml).
MODELS = {
    "bench": "sim;tokens=32",
    # A route that chooses by quality and cost among four models, each of which does this.
    "bench-scored": "sim;tokens=32",
    "bench-paced": "sim;tokens=100;ttft_ms=20;interval_ms=20",
    "bench-messages": "sim;tokens=100;ttft_ms=20;interval_ms=20",
    # No two answers of a vendor take equally long; if they did, calls would march in step and queue for one another.
    "bench-slow": "sim;tokens=32;ttft_ms=5;jitter_ms=10",
    "bench-held": "sim;tokens=600;interval_ms=1000",
}
PACED_CHUNKS = 100
VARIED = 10_000
"""Calls of the load on the route, no two alike; a run that makes more begins again."""
SLOW_S = 0.010


@dataclass(frozen=True, slots=True)
class Contestant:
    """Something that answers at a URL; `pid` is the process that is measured, `own_names` that it maps model names."""

    name: str
    url: str
    key: str = "sk-none"
    pid: int | None = None
    own_names: bool = False


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: seconds of a run, runs per contestant, streams held open."""

    seconds: float = 4.0
    paced_s: float = 10.0
    runs: int = 3
    held: int = 1000


QUICK = Effort(seconds=1.0, paced_s=5.0, runs=1, held=300)


def body_of(
    model: str,
    contestant: Contestant,
    *,
    stream: bool,
    prompt: str = _PAYLOAD_WORDS,
) -> bytes:
    """Write the request body that a contestant gets for one of `MODELS`."""
    document: dict[str, Any] = {
        "model": model if contestant.own_names else MODELS[model],
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0.2,
    }
    if stream:
        document["stream"] = True
    return msgspec.json.encode(document)


class Watch:
    """Who worked since it was made."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._began = time.monotonic()
        self._machine_s = usage.machine_s()
        self._own_s = usage.own_s()
        self._by_process = ground.cpu_by_process()

    def told(self) -> tuple[dict[str, float], float]:
        """Give the seconds of each of our processes, and how many cores others kept busy."""
        after = self._ground.cpu_by_process()
        ours = {name: round(after[name] - self._by_process[name], 3) for name in after}
        machine_s = usage.machine_s() - self._machine_s
        others_s = machine_s - sum(ours.values()) - (usage.own_s() - self._own_s)
        return ours, max(0.0, others_s / (time.monotonic() - self._began))


class Bench:
    """
    All measurements over one set of processes; `figures` fill as parts are run.

    `others` is how many cores processes that are not ours kept busy, run by run: above a few hundredths, figures are noise.
    """

    def __init__(
        self,
        ground: Ground,
        wrk_program: str,
        effort: Effort,
        *,
        contestants: tuple[Contestant, Contestant, Contestant],
        store_pid: int,
        say: Callable[[str], None],
    ) -> None:
        self.direct, self.nginx, self.penstock = contestants
        self.figures = {row.name: Figure(row) for row in ROWS}
        self.raw: list[dict[str, Any]] = []
        self.others: list[float] = []
        self._ground = ground
        self._wrk = wrk_program
        self._effort = effort
        self._store_pid = store_pid
        self._say = say
        self._fastest = 0.0

    # The parts, by the names of `figures.PARTS`

    def run(self, part: str) -> None:
        """Take one part's measurements."""
        parts: dict[str, Callable[[], None]] = {
            "nonstream": self.nonstream,
            "burst": self.burst,
            "paced": self.paced,
            "latency": self.latency,
            "throughput": self.throughput,
            "scored": self.scored,
            "memory": self.memory,
        }
        parts[part]()

    def nonstream(self) -> None:
        """Measure CPU per whole answer at 64 connections, and the store's CPU meanwhile."""
        for _ in range(self._effort.runs):
            for contestant in (self.nginx, self.penstock):
                store_before = usage.cpu_s(self._store_pid)
                counted, cpu_s = self._load("nonstream", contestant, "bench", 64)
                store_s = usage.cpu_s(self._store_pid) - store_before
                self._note("nonstream", contestant, cpu_s / counted.requests * 1e6)
                if contestant is self.penstock:
                    self._fastest = max(self._fastest, counted.rate)
                    self.figures["store"].penstock.append(store_s / counted.requests * 1e6)

    def burst(self) -> None:
        """Measure CPU per stream whose 32 chunks come at once."""
        for _ in range(self._effort.runs):
            for contestant in (self.nginx, self.penstock):
                counted, cpu_s = self._load("burst", contestant, "bench", 64, stream=True)
                self._note("burst", contestant, cpu_s / counted.requests * 1e6)

    def paced(self) -> None:
        """
        Measure CPU per slow stream, 200 at a time.

        Streams are counted by the chunks that the mock sent, since a run's end cuts the last ones short.
        """
        for _ in range(self._effort.runs):
            for contestant in (self.nginx, self.penstock):
                before = self._mock_tokens()
                _, cpu_s = self._load(
                    "paced",
                    contestant,
                    "bench-paced",
                    200,
                    stream=True,
                    seconds=self._effort.paced_s,
                    spread_ms=2000,
                )
                streams = (self._mock_tokens() - before) / PACED_CHUNKS
                self._note("paced", contestant, cpu_s / streams * 1e3)

    def latency(self) -> None:
        """
        Compare latencies through each proxy with those without one, at half of the gateway's highest rate.

        The answer itself takes 10 ms, give or take 5.
        wrk waits for each answer before it asks again, so the number of connections sets the rate.
        """
        if not self._fastest:
            counted, _ = self._load("latency", self.penstock, "bench", 64)
            self._fastest = counted.rate
        connections = connections_for(self._fastest / 2, SLOW_S)
        for _ in range(self._effort.runs):
            base, _ = self._load("latency", self.direct, "bench-slow", connections)
            for contestant in (self.nginx, self.penstock):
                counted, _ = self._load("latency", contestant, "bench-slow", connections)
                self._note("added_p50", contestant, (counted.p50_us - base.p50_us) / 1e3)
                self._note("added_p99", contestant, (counted.p99_us - base.p99_us) / 1e3)

    def throughput(self) -> None:
        """Count requests per second at concurrency 10, every process free to use every core."""
        pids = [one.pid for one in (self.nginx, self.penstock) if one.pid is not None]
        for _ in range(self._effort.runs):
            for contestant in (self.nginx, self.penstock):
                free = functools.partial(self._ground.unpinned, pids)
                counted, _ = self._load("throughput", contestant, "bench", 10, around=free)
                self._note("throughput", contestant, counted.rate)

    def scored(self) -> None:
        """Measure once more what `nonstream`, `burst` and `throughput` do, with calls that differ, on a route that chooses the model by what is asked."""
        pids = [one.pid for one in (self.nginx, self.penstock) if one.pid is not None]
        free = functools.partial(self._ground.unpinned, pids)
        for _ in range(self._effort.runs):
            for row, stream in (("scored", False), ("scored_burst", True)):
                for contestant in (self.nginx, self.penstock):
                    counted, cpu_s = self._load(
                        "scored", contestant, "bench-scored", 64, stream=stream
                    )
                    self._note(row, contestant, cpu_s / counted.requests * 1e6)
            for contestant in (self.nginx, self.penstock):
                counted, _ = self._load("scored", contestant, "bench-scored", 10, around=free)
                self._note("scored_throughput", contestant, counted.rate)

    def memory(self) -> None:
        """Measure resident memory per stream that is open, beyond the process after as many short calls."""
        for contestant in (self.nginx, self.penstock):
            assert contestant.pid is not None
            self._load("memory", contestant, "bench", 8, seconds=1, stream=True)
            self._ground.settle()
            before = usage.rss_bytes(contestant.pid)
            where = urlsplit(contestant.url)
            assert where.hostname is not None
            assert where.port is not None
            wire = request(
                where.netloc,
                _PATH,
                body_of("bench-held", contestant, stream=True),
                contestant.key,
            )
            with HeldStreams(where.hostname, where.port, wire, self._effort.held):
                held = usage.rss_bytes(contestant.pid)
            self._note("memory", contestant, (held - before) / self._effort.held / 1024)
            self._ground.settle()

    # What they share

    def _load(
        self,
        part: str,
        contestant: Contestant,
        model: str,
        connections: int,
        *,
        stream: bool = False,
        seconds: float | None = None,
        spread_ms: int = 0,
        around: Callable[[], AbstractContextManager[None]] | None = None,
    ) -> tuple[Counted, float]:
        """Run wrk once; gives what it counted, and the CPU seconds of the contestant's process."""
        body = self._body_file(model, contestant, stream=stream)
        arguments = wrk.command(
            self._wrk,
            contestant.url + _PATH,
            body,
            contestant.key,
            connections=connections,
            seconds=self._effort.seconds if seconds is None else seconds,
            spread_ms=spread_ms,
        )
        self._ground.settle()
        before = 0.0 if contestant.pid is None else usage.cpu_s(contestant.pid)
        watch = Watch(self._ground)
        if around is None:
            counted = wrk.run(arguments)
        else:
            with around():
                counted = wrk.run(arguments)
        cpu_by_process, others = watch.told()
        self.others.append(others)
        self._ground.settle()
        cpu_s = 0.0 if contestant.pid is None else usage.cpu_s(contestant.pid) - before
        self.raw.append(
            {
                "part": part,
                "contestant": contestant.name,
                "model": model,
                "stream": stream,
                "connections": connections,
                "cpu_s": round(cpu_s, 3),
                "cpu_by_process_s": cpu_by_process,
                "others_cores": round(others, 3),
                **msgspec.to_builtins(counted),
            }
        )
        self._say(
            f"  {part:<10} {contestant.name:<8} {counted.rate:>9,.0f} req/s"
            f"  p50 {counted.p50_us / 1e3:.2f} ms  p99 {counted.p99_us / 1e3:.2f} ms"
        )
        return counted, cpu_s

    def _body_file(self, model: str, contestant: Contestant, *, stream: bool) -> Path:
        name = f"{model}-{contestant.own_names}-{stream}.json"
        path = self._ground.path / name
        if not path.exists():
            varied = prompts(VARIED) if model == "bench-scored" else [_PAYLOAD_WORDS]
            path.write_bytes(
                b"\n".join(
                    body_of(model, contestant, stream=stream, prompt=prompt) for prompt in varied
                )
            )
        return path

    def _note(self, row: str, contestant: Contestant, value: float) -> None:
        figure = self.figures[row]
        (figure.penstock if contestant is self.penstock else figure.nginx).append(value)

    def _mock_tokens(self) -> int:
        _, books = fetch(f"{self.direct.url}/__mock/books")
        totals = msgspec.convert(books, dict[str, Any])["totals"]
        return int(totals["completion_tokens"])


def connections_for(rate: float, answer_s: float) -> int:
    """Give the connections that make a rate when each asks again as soon as it has its answer (Little's law)."""
    return max(1, round(rate * answer_s))


def in_turn(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Give the parts in the order in which they are measured: memory first, since what a load leaves behind would hide it."""
    return tuple(sorted(parts, key=lambda part: part != "memory"))


def rows_of(parts: tuple[str, ...]) -> tuple[Row, ...]:
    """Give the rows that these parts fill."""
    return tuple(row for row in ROWS if row.part in parts)
