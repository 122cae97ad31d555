"""
The engine of one generator process: when calls begin, to whom they go, and where their records land.

It knows nothing of Locust: what starts a call in the background is handed in (`gevent.spawn`, or a thread in tests), so are the clocks.

Several bases are asked in rounds.
Every base is asked the same question once per round, in an order drawn anew, so that their figures are paired: what the machine does to one,
it does to the others a moment later.
"""

import time
from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import Any

import msgspec

from loadtests.client import Base, Call, Client
from loadtests.metrics import Record
from loadtests.scenarios import DEFAULT_TENANTS, SCENARIOS, Draw, Tenant, draw_tenant
from loadtests.shapes import Shape, arrivals, endless, phase_of

# A caller whose call failed at once waits so long in a closed loop: what cannot be reached is not asked ten thousand times a second.
_AFTER_FAILURE_S = 0.1
CLOSED = "closed"
# The first arrival is due so long after the first source began: by then all of them have.
_HEAD_START_S = 0.1


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a run does; it travels to workers on other machines as JSON.

    `arrivals` is `constant`, `poisson` or `closed`.
    In an open loop each of `sources` sources has an equal share of `shape`, over all of `workers` processes; without a shape one source
    adds `each` calls a second.
    `most_open` bounds the calls that are open at a time in one process.
    """

    bases: tuple[Base, ...]
    tenants: tuple[Tenant, ...] = DEFAULT_TENANTS
    arrivals: str = "poisson"
    shape: Shape | None = None
    sources: int = 1
    workers: int = 1
    each: float = 1.0
    seed: int = 1
    objectives: dict[str, float] = {}
    timeout_s: float = 60.0
    most_open: int = 10_000


class Health(msgspec.Struct):
    """
    How the generator itself does: one sample of one process.

    `cpu` is the cores it used, `waited` the share of the time in which it was ready to run and no core was free.
    """

    process: str
    at_s: float
    cpu: float
    lag_ms: float
    open_calls: int
    dropped: int
    waited: float = 0.0


class Engine:
    """
    Calls by a plan.

    `started(go)` runs `go` in the background and gives something with `join()`; `note` gets each record.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        start: Callable[[Callable[[], object]], Any],
        note: Callable[[Record], None],
        worker: int = 0,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.plan = plan
        self.dropped = 0
        self.open_calls = 0
        self._clients = [
            Client(base, timeout_s=plan.timeout_s, clock_ns=clock_ns, sleep=sleep)
            for base in plan.bases
        ]
        self._start = start
        self._note = note
        self._clock_ns = clock_ns
        self._sleep = sleep
        self._worker = worker
        self._sources = count()
        self._origin_ns = 0
        self._turns = self._take_turns()

    def close(self) -> None:
        """Close idle connections."""
        for client in self._clients:
            client.close()

    def feed(self, scenario: str) -> None:
        """
        Be one open-loop source of arrivals, until the shape is over, or for ever without one.

        Beyond this process's share of the sources, it takes over from one that was lost with its worker, and makes up for nothing of it.
        """
        index, now = next(self._sources), self._clock_ns()
        takes_over = index * self.plan.workers >= self.plan.sources
        for at, origin_ns in self._moments(index, now):
            intended = origin_ns + int(at * 1e9)
            if takes_over and intended < now:
                continue
            wait_s = (intended - self._clock_ns()) / 1e9
            if wait_s > 0:
                self._sleep(wait_s)
            if self.open_calls >= self.plan.most_open:
                self.dropped += 1
                continue
            self.begin(scenario, intended)

    def _moments(self, index: int, now: int) -> Iterator[tuple[float, int]]:
        plan = self.plan
        random = Random(f"{plan.seed}:{self._worker}:{index}")
        if plan.shape is None:
            found = arrivals(plan.arrivals, endless(plan.each), random, phase=phase_of(index))
            return ((at, now) for at in found)
        if not self._origin_ns:
            self._origin_ns = now + int(_HEAD_START_S * 1e9)
        phase = phase_of(self._worker + plan.workers * index, plan.sources)
        found = arrivals(plan.arrivals, plan.shape, random, share=plan.sources, phase=phase)
        return ((at, self._origin_ns) for at in found)

    def once(self, scenario: str) -> None:
        """Make one call of a closed loop, and return when it has ended."""
        client, call = self._draw(scenario)
        failed: list[bool] = []

        def go() -> None:
            failed.append(not self._run(client, call, None).fine)

        self._start(go).join()
        if failed and failed[0] and not call.retries:
            self._sleep(_AFTER_FAILURE_S)

    def begin(self, scenario: str, intended_ns: int) -> None:
        """Begin one call of an open loop, and do not wait for it."""
        client, call = self._draw(scenario)
        self._start(lambda: self._run(client, call, intended_ns))

    def _run(self, client: Client, call: Call, intended_ns: int | None) -> Record:
        self.open_calls += 1
        try:
            record = client.call(call, intended_ns, self._note)
            for _ in range(call.retries):
                if record.status != 429 and record.status < 500:
                    break
                record = client.call(call, None, self._note)
        finally:
            self.open_calls -= 1
        return record

    def _draw(self, scenario: str) -> tuple[Client, Call]:
        client, number = next(self._turns)
        base = client.base
        # One question per round: the same for every base, but for the names of the models.
        random = Random(f"{self.plan.seed}:{self._worker}:{number}")
        tenant = draw_tenant(random, self.plan.tenants)
        draw = Draw(random, tenant, base.model, base.embedding_model or base.model)
        return client, SCENARIOS[scenario](draw)

    def _take_turns(self) -> Iterator[tuple[Client, int]]:
        random = Random(self.plan.seed)
        for number in count():
            order = list(self._clients)
            random.shuffle(order)
            for client in order:
                yield client, number
