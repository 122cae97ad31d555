"""
`python -m loadtests.drills.chaos`: what Redis may do to us, under load, and what becomes of callers and books.

For each fault: three seconds of peace, the fault, and seconds of recovery; then everything must come to rest.
The laws: never a 500, never a caller who waits longer than the admission may take, nothing held afterwards, books equal to the vendor's
but for what the fault itself has lost, and a limit that stays a limit.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from redis.asyncio import Redis

from loadtests.drills import report
from loadtests.drills.books import Comparison, compare, ledger_rows
from loadtests.drills.faults import FAULTS, Harm, Store
from loadtests.drills.holds import Holds
from loadtests.drills.kill9 import FREE_WITHIN_S, lies, until_quiet, verify
from loadtests.drills.load import Call, Kind, Load
from loadtests.drills.site import KEY, Site, configuration, key_of, tariffs
from loadtests.tables import lined_up

MIX = (
    Kind("whole", "quick", stream=False, tokens=20, weight=50),
    Kind("burst", "quick", stream=True, tokens=20, weight=20),
    Kind("paced", "paced", stream=True, tokens=60, weight=20),
    Kind("leaves", "paced", stream=True, tokens=60, weight=10, leave_after=17),
)
TIGHT_MIX = (Kind("tight", "quick", stream=False, tokens=20, weight=1),)
TIGHT_RPM = 60
TIGHT_RATE = 12.0
STRICT_MIX = (Kind("strict", "quick", stream=False, tokens=20, weight=1),)
STRICT_RATE = 10.0
OPEN = "open"
OPEN_RPM = 600_000
# As store.admit_timeout_ms has it.
ADMIT_TIMEOUT_S = 1.0
# The rest is for a machine on which everything shares two cores.
REFUSED_WITHIN_S = ADMIT_TIMEOUT_S + 0.75
PEACE_S = 3.0
# Of the calls that begin in an outage under a strict budget, some are admitted before it has begun, or wait until it is over.
STRICT_SLACK = 0.5
# What began so shortly before a fault may be met by it.
BORDER_S = 0.1


@dataclass(slots=True)
class Phase:
    """Of the calls that began in a span of time: the share that was served, refused by 503, refused otherwise, broken."""

    calls: int = 0
    served: float = 0.0
    unavailable: float = 0.0
    refused: float = 0.0
    broken: float = 0.0


@dataclass(slots=True)
class Found:
    """What a fault has shown."""

    fault: str
    before: Phase
    during: Phase
    after: Phase
    longest_refusal_s: float
    recovered_after_s: float | None
    quiet_after_s: float | None
    tight_served: int
    tight_most: int
    tight_refused: int
    compared: Comparison
    verdict: dict[str, Any]
    holds: Holds
    harm: Harm
    span_s: tuple[float, float]
    strict_during: Phase
    strict_after: Phase
    strict_recovered_after_s: float | None
    seconds: list[dict[str, int]]
    broken: list[str] = field(default_factory=list)


def phase(calls: Sequence[Call], begin_s: float, end_s: float) -> Phase:
    """Return what became of the calls that began in a span."""
    those = [call for call in calls if begin_s <= call.at_s < end_s]
    if not those:
        return Phase()

    def share(count: int) -> float:
        return round(count / len(those), 4)

    served = sum(call.ended in {"whole", "left"} for call in those)
    unavailable = sum(call.status == 503 for call in those)
    refused = sum(call.ended == "refused" and call.status != 503 for call in those)
    return Phase(
        len(those),
        share(served),
        share(unavailable),
        share(refused),
        share(len(those) - served - unavailable - refused),
    )


def recovered_after(calls: Sequence[Call], since_s: float) -> float | None:
    """Return when the last call that was not served began after a moment, in seconds; None when nothing was served after it."""
    late = [call for call in calls if call.at_s >= since_s]
    bad = [call.at_s for call in late if call.ended not in {"whole", "left"}]
    last = max(bad, default=since_s)
    if not any(call.at_s > last for call in late):
        return None
    return round(last - since_s, 2)


def by_second(calls: Sequence[Call]) -> list[dict[str, int]]:
    """Count by the second in which calls began, and by what became of them."""
    seconds: list[dict[str, int]] = []
    for call in calls:
        while len(seconds) <= int(call.at_s):
            seconds.append({})
        word = str(call.status) if call.ended == "refused" else call.ended
        at = seconds[int(call.at_s)]
        at[word] = at.get(word, 0) + 1
    return seconds


class Reached(Protocol):
    """A store that can be asked."""

    @property
    def url(self) -> str:
        """As the gateway takes it."""

    def client(self) -> Redis:
        """Return a client of whoever holds the keys now; the caller closes it."""


async def strike(
    site: Site,
    store: Reached,
    name: str,
    fault: Callable[[], Awaitable[Harm]],
    *,
    rate: float,
    after_s: float,
    seed: int,
) -> Found:
    """Run one fault under load and compare."""
    begun = time.monotonic()
    mark = f"{name}-"
    load = Load(
        *(site.data_url, key_of(OPEN), MIX, rate, random.Random(seed)),
        marks=f"{mark}m",
        begun=begun,
    )
    strict = Load(
        *(site.data_url, KEY, STRICT_MIX, STRICT_RATE, random.Random(seed + 2)),
        marks=f"{mark}s",
        begun=begun,
    )
    tight = Load(
        site.data_url,
        key_of(name.replace("_", "-")),
        TIGHT_MIX,
        TIGHT_RATE,
        random.Random(seed + 1),
        marks=f"{mark}t",
        begun=begun,
    )
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one.run()) for one in (load, tight, strict)]
        await asyncio.sleep(PEACE_S)
        from_s = load.now()
        harm = await fault()
        to_s = load.now()
        await asyncio.sleep(after_s + harm.learning_s)
        for one in (load, tight, strict):
            one.stop()
        span_s = load.now()
        await asyncio.wait(running)
    stopped = time.monotonic()
    client = store.client()
    try:
        quiet_after_s, holds = await until_quiet(client, stopped, FREE_WITHIN_S)
    finally:
        await client.aclose()
    everybody = [*load.calls, *tight.calls, *strict.calls]
    verdict = await asyncio.to_thread(verify, store.url, site.ledger)
    compared = compare(
        ledger_rows(site.ledger),
        site.served(),
        tariffs(),
        prefix=mark,
        excused=harm.lost,
        reaped_stream_s=2.0 + harm.mute_s,
    )
    calls = load.calls
    # Those that passed in the second that was lost; what had begun just before may have been granted in it.
    forgotten = sum(
        call.status == 200 and from_s - BORDER_S <= call.at_s < to_s for call in tight.calls
    )
    refusals = [call.head_s for call in everybody if call.status == 503]
    found = Found(
        name,
        phase(calls, 0, from_s - BORDER_S),
        phase(calls, from_s - BORDER_S, to_s),
        phase(calls, to_s, span_s),
        max(refusals, default=0.0),
        recovered_after(calls, to_s),
        quiet_after_s,
        sum(call.status == 200 for call in tight.calls),
        most_of_tight(span_s, harm, forgotten),
        sum(call.status == 429 for call in tight.calls),
        compared,
        verdict,
        holds,
        harm,
        (round(from_s, 2), round(to_s, 2)),
        phase(strict.calls, from_s, to_s),
        phase(strict.calls, to_s, span_s),
        recovered_after(strict.calls, to_s),
        by_second(calls),
        [*compared.broken, *lies(everybody)],
    )
    judge(found)
    return found


def most_of_tight(span_s: float, harm: Harm, forgotten: int = 0) -> int:
    """
    Return how many calls the tight limit allows: a full bucket, what it regains, and what the fault itself gives back.

    `forgotten` is how many passed in the time that a store may have lost.
    """
    most = TIGHT_RPM * (1 + span_s / 60) + 1
    if harm.new_book:
        most += TIGHT_RPM  # limits are seeded again, with a full bucket
    if harm.lost_tail:
        most += forgotten
    # What passed without the store was not taken from its bucket; and what a clock skips, a bucket regains.
    most += TIGHT_RPM * (harm.outage_s + harm.stepped_s) / 60
    return int(most)


def judge(found: Found) -> None:
    """Add what else is broken."""
    if found.longest_refusal_s > REFUSED_WITHIN_S:
        found.broken.append(f"a caller waited {found.longest_refusal_s:.2f} s for a refusal")
    if found.before.served < 1:
        found.broken.append(f"in peace, only {found.before.served:.1%} were served")
    if found.recovered_after_s is None or found.strict_recovered_after_s is None:
        found.broken.append("it did not recover")
    begin_s, end_s = found.span_s
    # What is over before a call would have given up waiting is no outage to it.
    was_away = end_s - begin_s > ADMIT_TIMEOUT_S and found.harm.outage_s > 0.9 * (end_s - begin_s)
    if was_away and found.strict_during.served > STRICT_SLACK:
        found.broken.append(f"strict budgets stood open: {found.strict_during.served:.1%} served")
    if not found.holds.is_empty():
        found.broken.append(f"still held: {found.holds.as_json()}")
    if found.tight_served > found.tight_most:
        found.broken.append(
            f"{found.tight_served} calls passed a limit that allows {found.tight_most}"
        )
    if not found.verdict.get("equal") or found.verdict.get("rejected"):
        found.broken.append(f"the books do not agree: {json.dumps(found.verdict)}")


def tell(all_found: Sequence[Found]) -> str:
    """Render findings."""
    rows: list[tuple[object, ...]] = [
        (
            *("fault", "s", "served during", "503", "strict served", "after", "longest refusal s"),
            *(
                "recovered s",
                "strict s",
                "at rest s",
                "exact",
                "est.",
                "reaped",
                "lost",
                "limit",
                "verify",
            ),
        )
    ]
    lines = []
    for one in all_found:
        rows.append(
            (
                one.fault,
                f"{one.span_s[1] - one.span_s[0]:.1f}",
                f"{one.during.served:.1%}",
                f"{one.during.unavailable:.1%}",
                f"{one.strict_during.served:.1%}",
                f"{one.after.served:.1%}",
                f"{one.longest_refusal_s:.2f}",
                "-" if one.recovered_after_s is None else f"{one.recovered_after_s:.2f}",
                *(
                    ["-"]
                    if one.strict_recovered_after_s is None
                    else [f"{one.strict_recovered_after_s:.2f}"]
                ),
                "-" if one.quiet_after_s is None else f"{one.quiet_after_s:.1f}",
                one.compared.exact,
                len(one.compared.estimated),
                len(one.compared.reaped),
                f"{one.compared.excused}",
                f"{one.tight_served} of {one.tight_most}",
                "equal" if one.verdict.get("equal") else "differs",
            )
        )
        lines += [f"- {one.fault}: {words}" for words in one.broken[:12]]
    return "\n".join([lined_up(rows), *(["", "Broken:", *lines] if lines else [])])


def _faults(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in FAULTS:
            raise argparse.ArgumentTypeError(f"no fault {name!r}; one of {', '.join(FAULTS)}")
    return names


def main(arguments: list[str] | None = None) -> int:
    """Run the drill; gives 0, or 1 when a law is broken."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.drills.chaos", description=__doc__)
    parser.add_argument("--only", type=_faults, default=list(FAULTS), help=", ".join(FAULTS))
    parser.add_argument("--rate", type=float, default=80.0, help="calls per second (80)")
    parser.add_argument("--edges", type=int, default=2, help="edges (2)")
    parser.add_argument("--fault", type=float, default=3.0, metavar="S", help="how long (3)")
    parser.add_argument("--after", type=float, default=4.0, metavar="S", help="then how long (4)")
    parser.add_argument("--server", metavar="PATH", help="which server (the embedded store's own)")
    parser.add_argument("--seed", type=int, default=1, help="of the load (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write raw results and machine")
    given = parser.parse_args(arguments)
    all_found = []
    with Site() as site:
        store = Store(site, given.server)
        store.start()
        keys = {name.replace("_", "-"): TIGHT_RPM for name in FAULTS} | {OPEN: OPEN_RPM}
        site.start_gateway(
            configuration(
                site.mock_url, edges=given.edges, store=store.url, keys=keys, lenient=True
            )
        )
        for name in given.only:
            if name == "clock_stepped" and not store.clock.can_be_stepped:
                print(f"{name}: left out; it takes a C compiler (cc on PATH)", flush=True)
                continue
            one = asyncio.run(
                strike(
                    site,
                    store,
                    name,
                    partial(FAULTS[name], store, given.fault, site),
                    rate=given.rate,
                    after_s=given.after,
                    seed=given.seed,
                )
            )
            print(f"{name}: {'broken' if one.broken else 'held'}", flush=True)
            all_found.append(one)
        version = store.version
        wrong = site.stop_gateway()
    print("\n".join([tell(all_found), *wrong]), flush=True)
    if given.json is not None:
        report.write(
            given.json,
            {
                "drill": "chaos",
                "seed": given.seed,
                "edges": given.edges,
                "rate": given.rate,
                "machine": report.machine(version),
                "faults": [plain(one) for one in all_found],
            },
        )
    return 1 if wrong or any(one.broken for one in all_found) else 0


def plain(one: Found) -> dict[str, Any]:
    """Return a finding as plain data."""
    told = asdict(one)
    told["harm"]["lost"] = sorted(one.harm.lost)
    told["compared"] = one.compared.as_json()
    return told


if __name__ == "__main__":
    sys.exit(main())
