"""
`python -m tests.drills.timelines`: many generated timelines, told to the scripts and to the reference, and compared at every step.

It is the test of `tests/ratelimit/test_timelines.py` at length: the same worlds and happenings, drawn by the same strategies into pools, from which
timelines are put together by a seeded generator (drawing each anew would take most of the time). Each answer is compared as it comes, and
everything that the server holds after every fourth step and at the end; several processes have a server each.
"""

import argparse
import concurrent.futures
import random
import sys
import time
import traceback
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import strategies as st

from loadtests.drills import report
from tests.drills.server import scripts_of, server
from tests.ratelimit import cell as cell_of_tests
from tests.ratelimit import oracle, test_timelines
from tests.ratelimit.cell import Cell
from tests.ratelimit.test_timelines import Timeline

SHORTEST, LONGEST = 10, 20
DRAWN = 40
LOOK_EVERY = 4
LONGEST_STORY = 40_000


@dataclass
class Findings:
    """What was compared; `broken` are timelines that differ, by their number, with the words of the difference."""

    timelines: int = 0
    steps: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    stories: list[str] = field(default_factory=list)

    def add(self, other: "Findings") -> None:
        """Take another's counts."""
        self.timelines += other.timelines
        self.steps += other.steps
        self.happened += other.happened
        self.broken += other.broken
        self.stories += other.stories


@dataclass
class Pools:
    """What timelines are put together from."""

    plans: list[Any] = field(default_factory=list)
    limits: dict[str, list[oracle.Limits]] = field(default_factory=dict)
    happenings: list[tuple[Any, ...]] = field(default_factory=list)


def pools_of(seed: int, draws: int) -> Pools:
    """Draw worlds and happenings by the strategies of the test."""
    scopes = test_timelines.SCOPES
    found = Pools(limits={scope: [] for scope in scopes})

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=draws,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(
        plans=test_timelines.plans(),
        limits=st.fixed_dictionaries({one: test_timelines.configured(one) for one in scopes}),
        happenings=st.lists(test_timelines.happenings, min_size=DRAWN, max_size=DRAWN),
    )
    def draw(plans: Any, limits: dict[str, oracle.Limits], happenings: list[Any]) -> None:
        found.plans.append(plans)
        for scope, one in limits.items():
            found.limits[scope].append(one)
        found.happenings += happenings

    draw()
    return found


class Snapshot:
    """A database as it was read in one call, which answers like a client."""

    def __init__(self, found: list[Any]) -> None:
        self._kinds = {found[at]: found[at + 1] for at in range(0, len(found), 3)}
        self._contents = {found[at]: found[at + 2] for at in range(0, len(found), 3)}

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the snapshot does not answer {name}")

    def keys(self, pattern: str = "*") -> list[bytes]:
        """Return all keys."""
        assert pattern == "*"
        return list(self._contents)

    def _of(self, key: Any) -> Any:
        return self._contents.get(key if isinstance(key, bytes) else key.encode())

    def get(self, key: Any) -> bytes | None:
        """Return a string."""
        return self._of(key)

    def hgetall(self, key: Any) -> dict[bytes, bytes]:
        """Return a hash."""
        flat = self._of(key) or []
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def hmget(self, key: Any, *names: Any) -> list[bytes | None]:
        """Return fields of a hash."""
        fields = self.hgetall(key)
        return [fields.get(name if isinstance(name, bytes) else name.encode()) for name in names]

    def zrange(self, key: Any, *_: Any, **__: Any) -> list[tuple[bytes, float]]:
        """Return a sorted set with its scores."""
        flat = self._of(key) or []
        return [(member, float(score)) for member, score in zip(flat[::2], flat[1::2], strict=True)]

    def xrange(self, key: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Return a stream."""
        return [
            (number, dict(zip(flat[::2], flat[1::2], strict=True)))
            for number, flat in self._of(key) or []
        ]


class QuickCell(Cell):
    """The cell of the tests, which reads everything in one call."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        look = (Path(__file__).parent / "lua" / "look.lua").read_text()
        self._look = client.script_load(look)

    def decoded(self) -> dict[str, Any]:
        """Return everything that is there, in plain values."""
        reader = Cell.__new__(Cell)
        reader.client = Snapshot(self.client.evalsha(self._look, 0))  # type: ignore[assignment]
        return reader.decoded()


class Story(Timeline):
    """A timeline that is configured from a pool."""

    def __init__(self, *args: Any, rng: random.Random, pools: Pools) -> None:
        self._rng = rng
        self._pools = pools
        self._steps = 0
        super().__init__(*args)

    def happen(self, what: str, *args: Any) -> None:
        """Let one thing happen to both, and look at everything now and then."""
        getattr(self, "do_" + what.replace(" ", "_"))(*args)
        self._steps += 1
        if self._steps % LOOK_EVERY == 0:
            self.check()

    def do_configure(self, scope: str, _: Any) -> None:
        """Change the limits of a scope."""
        self.version += 1
        self.limits[scope] = replace(
            self._rng.choice(self._pools.limits[scope]), version=self.version
        )
        self.seed(scope)


def tell_one(cell: Cell, pools: Pools, seed: int, number: int, found: Findings) -> None:
    """Tell timeline `number` to both; a difference is noted with the whole story."""
    rng = random.Random(f"{seed}/{number}")
    limits = {scope: rng.choice(some) for scope, some in pools.limits.items()}
    story = rng.choices(pools.happenings, k=rng.randint(SHORTEST, LONGEST))
    step = 0
    try:
        timeline = Story(
            cell,
            rng.choice(pools.plans),
            limits,
            rng.choice(test_timelines.BEGINNINGS),
            rng=rng,
            pools=pools,
        )
        timeline.check()
        for what, *args in story:
            step += 1
            timeline.happen(what, *args)
        timeline.check()
    except Exception as error:
        words = "".join(traceback.format_exception_only(error)).strip()
        found.broken.append(f"timeline {number} of seed {seed}, step {step}: {words[:2000]}")
        found.stories.append(repr({"limits": limits, "story": story})[:LONGEST_STORY])
    found.timelines += 1
    found.steps += step


def tell_some(seed: int, draws: int, first: int, count: int, within_s: float) -> Findings:
    """Tell so many timelines to a server of one's own, or as many as the time allows."""
    found = Findings()
    until = time.monotonic() + within_s
    pools = pools_of(seed, draws)

    def event(words: str) -> None:
        found.happened[words] += 1

    before = test_timelines.event, cell_of_tests.packed
    test_timelines.event = event
    # The same limits are packed again and again, for the comparison above all.
    cell_of_tests.packed = cache(before[1])
    try:
        with server() as (client, _):
            cell = QuickCell(client)
            for number in range(first, first + count):
                tell_one(cell, pools, seed, number, found)
                if len(found.broken) >= 10 or time.monotonic() > until:
                    break
    finally:
        test_timelines.event, cell_of_tests.packed = before
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the drill; gives 0, or 1 when a timeline differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills.timelines", description=__doc__)
    parser.add_argument("--timelines", type=int, default=100_000, help="how many (100000)")
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first: to repeat one that differed (0)"
    )
    parser.add_argument("--draws", type=int, default=1500, help="worlds in the pools (1500)")
    parser.add_argument("--processes", type=int, default=1, help="processes, a server each (1)")
    parser.add_argument(
        "--within", type=float, default=6 * 3600.0, metavar="S", help="end after so long (6 h)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write raw results and machine")
    given = parser.parse_args(arguments)
    begun = time.monotonic()
    found = Findings()
    with server() as (_, version):
        pass
    share = -(-given.timelines // given.processes)
    with concurrent.futures.ProcessPoolExecutor(given.processes) as pool:
        parts = [
            pool.submit(
                tell_some,
                given.seed,
                given.draws,
                first,
                min(share, given.first + given.timelines - first),
                given.within,
            )
            for first in range(given.first, given.first + given.timelines, share)
        ]
        for part in parts:
            found.add(part.result())
    took_s = round(time.monotonic() - begun, 1)
    print(  # noqa: T201
        f"{found.timelines:,} timelines, {found.steps:,} steps in {took_s} s: {len(found.broken)} differ",
        flush=True,
    )
    for words in found.broken:
        print(f"- {words}")  # noqa: T201
    if given.json is not None:
        report.write(
            given.json,
            {
                "drill": "timelines",
                "seed": given.seed,
                "first": given.first,
                "took_s": took_s,
                "draws": given.draws,
                "scripts": scripts_of(),
                "machine": report.machine(version),
                "found": asdict(found) | {"happened": dict(sorted(found.happened.items()))},
            },
        )
    return 1 if found.broken else 0


if __name__ == "__main__":
    sys.exit(main())
