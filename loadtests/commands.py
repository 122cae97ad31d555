"""The verbs of `./penstock load` that judge: guard, compare, capacity, soak, overload."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtests import budget, capacity, compare, document, endurance, guard, rig, runner
from loadtests.bench import gateway
from loadtests.bench.wrk import BenchFailed
from loadtests.client import BadUrl, read_url
from loadtests.metrics import Record, read_objectives
from loadtests.rig import OURS
from loadtests.scenarios import SCENARIOS
from loadtests.shapes import BadShape, read_duration_s

OVERLOAD = Path(__file__).with_name("overload.yaml")
# What the vendor of overload.yaml can serve: 16 at a time, 100 ms each.
_NARROW_RATE = 160.0
_FAILURES = (runner.RunFailed, BenchFailed, document.NoRun)


def host(text: str) -> str:
    """Read a URL from the command line, without its `/v1`."""
    try:
        read_url(text)
    except BadUrl as mistake:
        raise argparse.ArgumentTypeError(str(mistake)) from None
    return text.rstrip("/").removesuffix("/v1")


def _guard(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="penstock load guard",
        description="Hold a gateway to loadtests/budget.yaml: 0 kept, 1 broken, 2 misuse; with --strict 3 when too noisy to judge.",
    )
    parser.add_argument("--quick", action="store_true", help="one short run each: for plumbing")
    parser.add_argument("--budget", type=Path, default=budget.FILE, metavar="FILE")
    parser.add_argument("--only", metavar="NAME[,NAME]", help="these scenarios of the budget")
    parser.add_argument("--repeats", type=int, choices=range(1, 21), metavar="N", help="(3)")
    parser.add_argument("--seconds", type=int, choices=range(1, 601), metavar="N", help="a run (8)")
    parser.add_argument("--strict", action="store_true", help="too noisy to judge fails, too")
    parser.add_argument("--out", type=Path, metavar="DIR")
    theirs = parser.add_argument_group("a gateway that runs already, instead of a rig of its own")
    theirs.add_argument("--host", type=host, metavar="URL")
    theirs.add_argument("--key", default=os.environ.get("LOAD_KEY", ""), help="(or LOAD_KEY)")
    theirs.add_argument("--model", help="its name for the model")
    theirs.add_argument("--direct", type=host, metavar="URL", help="the vendor behind it")
    theirs.add_argument("--direct-model", help="the vendor's name for the model")
    theirs.add_argument("--direct-key", default="")
    given = parser.parse_args(arguments)
    try:
        scenarios = budget.load(given.budget)
    except budget.BadBudget as mistake:
        parser.error(f"{given.budget} cannot be used:\n{mistake}")
    if given.only:
        wanted = [name.strip() for name in given.only.split(",")]
        known = [scenario.name for scenario in scenarios]
        if unknown := [name for name in wanted if name not in known]:
            parser.error(f"the budget has no {', '.join(unknown)}; it has {', '.join(known)}")
        scenarios = tuple(one for one in scenarios if one.name in wanted)
    foreign = None
    if given.host or given.direct:
        if not (given.host and given.direct and given.model and given.direct_model):
            parser.error("--host, --model, --direct and --direct-model belong together")
        foreign = guard.Foreign(
            given.host,
            given.key,
            given.model,
            given.direct,
            given.direct_model,
            given.direct_key,
        )
    effort = guard.QUICK if given.quick else guard.Effort()
    effort = dataclasses.replace(
        effort,
        **{
            name: value
            for name, value in (("repeats", given.repeats), ("seconds", given.seconds))
            if value is not None
        },
    )
    folder = given.out or runner.folder_for("guard", datetime.now(UTC))
    return _hold(
        guard.Guard(scenarios, effort, folder, _say), foreign, effort, folder, given.strict
    )


def _hold(
    ours: guard.Guard,
    foreign: guard.Foreign | None,
    effort: guard.Effort,
    folder: Path,
    strict: bool,
) -> int:
    interrupted = False
    try:
        with guard.standing(foreign) as standing:
            _say(
                f"{effort.repeats} repeats of {effort.seconds} s for each of {len(ours.found)} scenarios"
            )
            ours.run(standing, foreign)
    except (runner.RunFailed, BenchFailed, document.NoRun) as mistake:
        print(f"the guard could not measure: {mistake}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        interrupted = True
    verdicts = ours.verdicts()
    config = {
        **dataclasses.asdict(effort),
        "against": foreign.url if foreign else "a rig of its own",
    }
    document.write(folder, ours.document(config), ours.records)
    print(f"\n{guard.table(verdicts)}\nreport: {folder / document.REPORT}")
    if interrupted:
        print("interrupted: judged by what was seen until then")
        return 130
    if any(verdict.word == budget.BROKEN for verdict in verdicts):
        return 1
    return 3 if strict and any(verdict.word == budget.NOISY for verdict in verdicts) else 0


def _say(words: str) -> None:
    print(words, flush=True)


def _compare(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="penstock load compare",
        description="One scenario in turn against the bases of a YAML file; loadtests/README.md shows one.",
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, metavar="DIR")
    given = parser.parse_args(arguments)
    try:
        wanted = compare.load(given.file)
    except compare.BadComparison as mistake:
        parser.error(f"{given.file} cannot be used:\n{mistake}")
    if mistakes := compare.look(wanted):
        for words in mistakes:
            print(f"cannot start: {words}", file=sys.stderr)
        return 2
    folder = given.out or runner.folder_for("compare", datetime.now(UTC))
    records: list[Record] = []
    code = 0
    try:
        compare.run(wanted, folder, _say, records)
    except _FAILURES as mistake:
        print(f"cannot compare: {mistake}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        code = 130
    document.write(folder, compare.summarize(wanted, records), records)
    print(f"\n{document.table(compare.COLUMNS, compare.rows(wanted, records))}\n")
    print(f"report: {folder / document.REPORT}")
    return code


def _capacity(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="penstock load capacity",
        description="The highest rate at which a rig's gateway keeps errors and p99 within bounds.",
    )
    parser.add_argument("--workers", default="1,2", metavar="N[,N]", help="(1,2)")
    parser.add_argument("--scenario", choices=SCENARIOS, default="chat")
    parser.add_argument("--start", type=float, default=100.0, help="first rate (100)")
    parser.add_argument("--most", type=float, default=3200.0, help="highest rate tried (3200)")
    parser.add_argument("--seconds", type=int, default=5, help="of a probe (5)")
    parser.add_argument("--halvings", type=int, default=3, help="of the last gap (3)")
    parser.add_argument("--added-p99", type=float, default=25.0, metavar="MS", help="(25)")
    parser.add_argument("--processes", type=int, default=1, help="of the generator (1)")
    parser.add_argument("--out", type=Path, metavar="DIR")
    given = parser.parse_args(arguments)
    words = given.workers.split(",")
    if not all(word.isdigit() and 1 <= int(word) <= 64 for word in words):
        parser.error(f"--workers {given.workers!r}: numbers from 1 to 64, as in 1,2")
    if not 0 < given.start <= given.most or given.seconds < 1 or not 0 <= given.halvings <= 10:
        parser.error(
            "--start is above 0 and at most --most, --seconds 1 or more, --halvings 0 to 10"
        )
    folder = given.out or runner.folder_for("capacity", datetime.now(UTC))
    found: list[capacity.Capacity] = []
    code = 0
    try:
        for workers in map(int, words):
            _say(
                f"{workers} worker{'s' if workers > 1 else ''}, every process free to use every core"
            )
            with rig.rig(workers=workers, with_nginx=False, pinned=False) as ours:
                found.append(
                    capacity.find(
                        ours,
                        folder,
                        _say,
                        workers=workers,
                        scenario=given.scenario,
                        limits=capacity.Limits(added_p99_ms=given.added_p99),
                        seconds=given.seconds,
                        start=given.start,
                        most=given.most,
                        halvings=given.halvings,
                        processes=given.processes,
                    )
                )
    except _FAILURES as mistake:
        print(f"no capacity was found: {mistake}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        code = 130
    print()
    for one in found:
        print(one.words())
    if told := capacity.scaling(found):
        print(told)
    told_as = {
        "machine": document.machine(),
        "capacities": [dataclasses.asdict(one) for one in found],
    }
    document.write_json(folder / "capacity.json", told_as)
    print(f"raw: {folder / 'capacity.json'}")
    return code


def _target(parser: argparse.ArgumentParser) -> None:
    theirs = parser.add_argument_group("a gateway that runs already, instead of a rig of its own")
    theirs.add_argument("--host", type=host, metavar="URL")
    theirs.add_argument("--key", default=os.environ.get("LOAD_KEY", ""), help="(or LOAD_KEY)")
    theirs.add_argument("--model", default="", help="(the first of GET /v1/models)")
    theirs.add_argument("--pid", type=int, action="append", help="process to watch; repeatable")
    theirs.add_argument("--admin", default="", metavar="URL", help="admin port, for its gauges")
    theirs.add_argument("--admin-token", default="")


def _seconds(text: str) -> float:
    try:
        return read_duration_s(text)
    except BadShape as mistake:
        raise argparse.ArgumentTypeError(str(mistake)) from None


def _soak(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="penstock load soak",
        description="Steady load, and what grows meanwhile: 1 when memory, descriptors, tasks or leases do.",
    )
    parser.add_argument("--duration", type=_seconds, default=600.0, help="(10m)")
    parser.add_argument("--load", default="20", help="calls per second, or a shape (20)")
    parser.add_argument("--scenario", choices=SCENARIOS, default="unruly")
    parser.add_argument("--out", type=Path, metavar="DIR")
    _target(parser)
    given = parser.parse_args(arguments)
    folder = given.out or runner.folder_for("soak", datetime.now(UTC))
    run = _watched(given, folder, "bench-paced", gateway.CONFIG, "ttft:1000 itl:100")
    if isinstance(run, int):
        return run
    found, watcher, records, code = run
    slopes = endurance.slopes(watcher.series)
    told = {
        **found,
        "title": f"soak: {given.scenario}, {given.duration:g} s",
        "watched": watcher.series,
        "slopes": [slope.row() for slope in slopes],
    }
    document.write(folder, told, records)
    print(f"\n{document.table(document.COLUMNS, document.rows(told))}\n")
    print(document.table(endurance.SLOPE_COLUMNS, [slope.row() for slope in slopes]))
    for words in told["warnings"]:
        print(f"warning: {words}")
    print(f"report: {folder / document.REPORT}")
    growing = [slope.what for slope in slopes if slope.word == "grows"]
    if growing:
        print(f"grows: {', '.join(growing)}")
    return code or int(bool(growing))


def _overload(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="penstock load overload",
        description="Half the capacity, five times it, and half again: goodput, what is shed and how fast, recovery.",
    )
    parser.add_argument("--duration", type=_seconds, default=30.0, help="of all of it (30s)")
    parser.add_argument("--capacity", type=float, help=f"calls per second ({_NARROW_RATE:g})")
    parser.add_argument("--scenario", choices=SCENARIOS, default="chat")
    parser.add_argument("--slo", default="e2e:1000", help="(e2e:1000)")
    parser.add_argument("--out", type=Path, metavar="DIR")
    _target(parser)
    given = parser.parse_args(arguments)
    if given.host and not given.capacity:
        parser.error("of a gateway that runs elsewhere, --capacity has to be said")
    rate = given.capacity or _NARROW_RATE
    if not 0 < rate <= 10_000:
        parser.error(f"--capacity {rate:g} is no number of calls per second")
    try:
        objectives = read_objectives(given.slo)
    except ValueError as mistake:
        parser.error(str(mistake))
    folder = given.out or runner.folder_for("overload", datetime.now(UTC))
    given.load = endurance.load_of(rate)
    run = _watched(given, folder, "bench", OVERLOAD, given.slo)
    if isinstance(run, int):
        return run
    found, watcher, records, code = run
    rows = endurance.phase_rows(records, given.duration, objectives)
    recovery = endurance.recovery_s(records, given.duration, objectives)
    told = {
        **found,
        "title": f"overload: five times {rate:g}/s",
        "watched": watcher.series,
        "phases": rows,
        "recovery_s": recovery,
    }
    document.write(folder, told, records)
    print(f"\n{document.table(endurance.PHASE_COLUMNS, rows)}\n")
    if recovery is not None:
        print(
            f"recovery: the last call that was not good began {recovery:.2f} s after the overload ended"
        )
    for words in told["warnings"]:
        print(f"warning: {words}")
    print(f"report: {folder / document.REPORT}")
    return code


Watched = tuple[dict[str, Any], endurance.Watcher, list[Record], int]


def _watched(
    given: argparse.Namespace, folder: Path, model: str, config: Path, slo: str
) -> Watched | int:
    """Put the load on while the gateway is watched; gives an exit code when that could not be done."""
    options = {
        "load": given.load,
        "duration": f"{given.duration:g}s",
        "arrivals": "constant",
        "slo": slo,
    }
    watcher = endurance.Watcher(())
    try:
        if given.host:
            watcher = endurance.Watcher(given.pid or (), given.admin, token=given.admin_token)
            with watcher:
                base = {"host": given.host, "model": given.model, **options}
                code = runner.run([given.scenario], base, folder, key=given.key)
            if code not in {0, 130}:
                return code
        else:
            with rig.rig(with_nginx=False, config=config) as ours:
                watcher = endurance.Watcher(ours.pids[OURS], ours.gateway.admin_url)
                (_, base) = ours.bases(model)
                with watcher:
                    code = _measured(given.scenario, base, folder, options)
    except _FAILURES as mistake:
        print(f"cannot run: {mistake}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        code = 130
    made = runner.Run(folder)
    try:
        return made.document(), watcher, made.records(), code
    except document.NoRun as mistake:
        print(f"the run left no report: {mistake}", file=sys.stderr)
        return code or 1


def _measured(scenario: str, base: dict[str, str], folder: Path, options: dict[str, Any]) -> int:
    try:
        runner.measure(scenario, [base], folder, quiet=False, **options)
    except KeyboardInterrupt:
        # What was seen until then is in the folder, and the watcher's series end here.
        return 130
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "guard": _guard,
    "compare": _compare,
    "capacity": _capacity,
    "soak": _soak,
    "overload": _overload,
}
