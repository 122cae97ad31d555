"""The verbs of `./penstock load` that judge: guard, compare, capacity, soak, overload."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from math import nan
from pathlib import Path
from typing import Any

from loadtests import budget, capacity, compare, document, endurance, guard, machine, rig, runner
from loadtests.bench import gateway, quota
from loadtests.bench.wrk import BenchFailed
from loadtests.client import BadUrl, Base, read_url
from loadtests.metrics import Record, read_objectives
from loadtests.rig import OURS
from loadtests.scenarios import SCENARIOS
from loadtests.shapes import HIGHEST_RATE, BadShape, read_duration_s, read_shape

OVERLOAD = Path(__file__).with_name("overload.yaml")
# What the vendor of overload.yaml can serve: 16 at a time, 100 ms each.
_NARROW_RATE = 160.0
# The exit code of Ctrl-C, as shells have it.
_INTERRUPTED = 130
_FAILURES = (runner.RunFailed, BenchFailed, document.NoRun)


def host(text: str) -> str:
    """Read a URL from the command line, without its `/v1`."""
    try:
        read_url(text)
    except BadUrl as mistake:
        raise argparse.ArgumentTypeError(str(mistake)) from None
    return text.rstrip("/").removesuffix("/v1")


def _from_to(low: float, high: float, *, whole: bool = False) -> Callable[[str], float]:
    """Give a reader of numbers within bounds, both included."""

    def read(text: str) -> float:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no {'whole ' if whole else ''}number from {low:g} to {high:g}"
            )
        return value

    return read


def _shape(text: str) -> str:
    try:
        read_shape(text, 60.0)
    except BadShape as mistake:
        raise argparse.ArgumentTypeError(str(mistake)) from None
    return text


def _process(text: str) -> int:
    try:
        pid = int(text)
        if pid < 1:
            # To the kernel these are whole groups.
            raise ProcessLookupError
        os.kill(pid, 0)
    except (ValueError, OSError, OverflowError) as mistake:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no process that can be seen here"
        ) from mistake
    return pid


def _scenario(parser: argparse.ArgumentParser, default: str) -> None:
    names = ", ".join(SCENARIOS)
    parser.add_argument(
        *("--scenario",),
        choices=SCENARIOS,
        default=default,
        metavar="NAME",
        help=f"of {names} ({default})",
    )


def _guard(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="penstock load guard",
        description="Hold a gateway to loadtests/budget.yaml: 0 kept, 1 broken, 2 misuse; with --strict 3 when too noisy to judge.",
    )
    parser.add_argument("--quick", action="store_true", help="one short run each: for plumbing")
    parser.add_argument(
        "--budget", type=Path, default=budget.FILE, metavar="FILE", help="(loadtests/budget.yaml)"
    )
    parser.add_argument("--only", metavar="NAME[,NAME]", help="these scenarios of the budget")
    parser.add_argument(
        "--repeats", type=_from_to(1, 20, whole=True), metavar="N", help="of each run (3)"
    )
    parser.add_argument(
        "--seconds", type=_from_to(1, 600, whole=True), metavar="N", help="of a run (8)"
    )
    parser.add_argument("--strict", action="store_true", help="too noisy to judge fails, too")
    _out(parser)
    theirs = parser.add_argument_group("a gateway that runs already, instead of a rig of its own")
    theirs.add_argument("--host", type=host, metavar="URL")
    theirs.add_argument("--key", default=os.environ.get("LOAD_KEY", ""), help="(or LOAD_KEY)")
    theirs.add_argument("--model", metavar="NAME", help="its name for the model")
    theirs.add_argument("--direct", type=host, metavar="URL", help="the vendor behind it")
    theirs.add_argument("--direct-model", metavar="NAME", help="the vendor's name for the model")
    theirs.add_argument(
        "--direct-key",
        default=os.environ.get("LOAD_DIRECT_KEY", ""),
        metavar="KEY",
        help="(or LOAD_DIRECT_KEY)",
    )
    theirs.add_argument("--ca", type=_authorities, default="", metavar="FILE", help=_CA_HELP)
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
            given.ca,
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
    folder = _folder(parser, given, "guard")
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
    except _FAILURES as mistake:
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
        return _INTERRUPTED
    if any(verdict.word == budget.BROKEN for verdict in verdicts):
        return 1
    return 3 if strict and any(verdict.word == budget.NOISY for verdict in verdicts) else 0


def _say(words: str) -> None:
    print(words, flush=True)


def _told(folder: Path, code: int) -> None:
    """Say where the report is, and whether it is of a whole run."""
    print(f"report: {folder / document.REPORT}")
    if code == _INTERRUPTED:
        print("interrupted: it holds what was seen until then")


def _compare(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="penstock load compare",
        description="One scenario in turn against the bases of a YAML file; loadtests/README.md shows one.",
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    _out(parser)
    given = parser.parse_args(arguments)
    try:
        wanted = compare.load(given.file)
    except compare.BadComparison as mistake:
        parser.error(f"{given.file} cannot be used:\n{mistake}")
    if mistakes := compare.look(wanted):
        for words in mistakes:
            print(f"cannot start: {words}", file=sys.stderr)
        return 2
    folder = _folder(parser, given, "compare")
    gathered = runner.Gathered()
    code = 0
    try:
        compare.run(wanted, folder, _say, gathered)
    except _FAILURES as mistake:
        print(f"cannot compare: {mistake}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        code = _INTERRUPTED
    told = compare.summarize(wanted, gathered)
    document.write(folder, told, gathered.records)
    print(f"\n{document.table(compare.COLUMNS, told['side'])}\n")
    _told(folder, code)
    return code


def _capacity(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="penstock load capacity",
        description="The highest rate at which a rig's gateway keeps errors and p99 within bounds.",
    )
    parser.add_argument("--workers", default="1,2", metavar="N[,N]", help="(1,2)")
    _scenario(parser, "chat")
    rates = _from_to(0.1, HIGHEST_RATE)
    for name, read, default, words in (
        ("--start", rates, 100.0, "first rate, in calls per second"),
        ("--most", rates, 3200.0, "highest rate that is tried"),
        ("--seconds", _from_to(1, 600, whole=True), 5, "of a probe"),
        ("--halvings", _from_to(0, 10, whole=True), 3, "of the last gap"),
        (
            "--added-p99",
            _from_to(0, 60_000),
            25.0,
            "most that p99 may lie above direct calls', in ms",
        ),
        ("--processes", _from_to(1, 64, whole=True), 1, "of the generator"),
        (
            "--worker-cores",
            _from_to(quota.LEAST_CORES, 1),
            1.0,
            "of a core that each worker may use (Linux, as root): on a small machine it shows how workers scale",
        ),
    ):
        parser.add_argument(
            name, type=read, default=default, metavar="N", help=f"{words} ({default:g})"
        )
    _out(parser)
    given = parser.parse_args(arguments)
    words = given.workers.split(",")
    if not all(word.isdigit() and 1 <= int(word) <= 64 for word in words):
        parser.error(f"--workers {given.workers!r}: numbers from 1 to 64, as in 1,2")
    if given.start > given.most:
        parser.error(f"--start {given.start:g} is above --most {given.most:g}")
    folder = _folder(parser, given, "capacity")
    found: list[capacity.Capacity] = []
    code = 0
    try:
        for workers in map(int, words):
            held = given.worker_cores < 1
            bound = f"{given.worker_cores:g} of a core for each" if held else "every core for all"
            _say(f"{workers} worker{'s' if workers > 1 else ''}, {bound}")
            with (
                rig.rig(workers=workers, with_nginx=False, pinned=False) as ours,
                quota.held_to(given.worker_cores, ours.pids[OURS]) if held else nullcontext(),
            ):
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
                        worker_cores=given.worker_cores,
                    )
                )
            if found[-1].limit == capacity.INTERRUPTED:
                code = _INTERRUPTED
                break
    except _FAILURES as mistake:
        print(f"no capacity was found: {mistake}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        code = _INTERRUPTED
    print()
    for one in found:
        print(one.words())
    for words in capacity.scaling(found):
        print(words)
    told_as = {
        "machine": machine.described(),
        "worker_cores": given.worker_cores,
        "capacities": [dataclasses.asdict(one) for one in found],
        "scaling": capacity.scaling(found),
    }
    document.write_json(folder / "capacity.json", told_as)
    print(f"raw: {folder / 'capacity.json'}")
    if code == _INTERRUPTED:
        print("interrupted: it holds what was seen until then")
    return code


_CA_HELP = "PEM file with the only authorities to trust for https (the system's)"


def _authorities(text: str) -> str:
    try:
        Base("any", "https://any", ca=text)
    except BadUrl as mistake:
        raise argparse.ArgumentTypeError(str(mistake)) from None
    return text


def _out(parser: argparse.ArgumentParser) -> None:
    words = "folder of the results; earlier ones in it are replaced (one under var/load)"
    parser.add_argument("--out", type=Path, metavar="DIR", help=words)


def _folder(parser: argparse.ArgumentParser, given: argparse.Namespace, name: str) -> Path:
    """Make the folder of the results, before anything is started whose results it is for."""
    folder: Path = given.out or runner.folder_for(name, datetime.now(UTC))
    try:
        runner.make_folder(folder)
    except runner.RunFailed as mistake:
        parser.error(str(mistake))
    return folder


def _target(parser: argparse.ArgumentParser) -> None:
    theirs = parser.add_argument_group("a gateway that runs already, instead of a rig of its own")
    theirs.add_argument("--host", type=host, metavar="URL")
    theirs.add_argument("--key", default=os.environ.get("LOAD_KEY", ""), help="(or LOAD_KEY)")
    theirs.add_argument("--model", default="", metavar="NAME", help="(the first of GET /v1/models)")
    theirs.add_argument("--ca", type=_authorities, default="", metavar="FILE", help=_CA_HELP)
    theirs.add_argument(
        "--pid", type=_process, action="append", metavar="N", help="process to watch; repeatable"
    )
    theirs.add_argument("--admin", type=host, metavar="URL", help="admin port, for its gauges")
    theirs.add_argument(
        "--admin-token",
        default=os.environ.get("LOAD_ADMIN_TOKEN", ""),
        metavar="TOKEN",
        help="(or LOAD_ADMIN_TOKEN)",
    )


def _seconds(text: str) -> float:
    try:
        return read_duration_s(text)
    except BadShape as mistake:
        raise argparse.ArgumentTypeError(str(mistake)) from None


def _soak(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="penstock load soak",
        description="Steady load, and what grows meanwhile: 1 when memory, descriptors, tasks, leases or connections do.",
    )
    parser.add_argument("--duration", type=_seconds, default=600.0, help="30s, 10m, 2h (10m)")
    parser.add_argument(
        "--load", type=_shape, default="20", help="calls per second, or a shape (20)"
    )
    _scenario(parser, "unruly")
    _out(parser)
    _target(parser)
    given = parser.parse_args(arguments)
    folder = _folder(parser, given, "soak")
    run = _watched(given, folder, "bench-paced", gateway.CONFIG, "ttft:1000 itl:100")
    if isinstance(run, int):
        return run
    found, watcher, records, code = run
    watcher.tell_calls(records)
    noisy = bool(found["warnings"])
    slopes = endurance.slopes(watcher.series, load_s=given.duration, noisy=noisy)
    told = {
        **found,
        "title": f"soak: {given.scenario}, {given.duration:g} s",
        "watched": watcher.series,
        "slopes": [slope.row() for slope in slopes],
        "columns": dict(endurance.SLOPE_COLUMNS),
    }
    document.write(folder, told, records)
    print(f"\n{document.table(document.COLUMNS, document.rows(told))}\n")
    print(document.table(endurance.SLOPE_COLUMNS, [slope.row() for slope in slopes]))
    for words in told["warnings"]:
        print(f"warning: {words}")
    _told(folder, code)
    for word, said in ((endurance.GROWS, "grows"), (endurance.NOISY, "too noisy to judge")):
        if named := [slope.what for slope in slopes if slope.word == word]:
            print(f"{said}: {', '.join(named)}")
    return code or int(any(slope.word == endurance.GROWS for slope in slopes))


def _overload(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="penstock load overload",
        description="Half the capacity, five times it, and half again: goodput, what is shed and how fast, recovery.",
    )
    parser.add_argument("--duration", type=_seconds, default=30.0, help="of all of it (30s)")
    parser.add_argument(
        "--capacity",
        type=_from_to(0.1, 10_000),
        metavar="N",
        help=f"calls per second ({_NARROW_RATE:g}, which its own rig's vendor can serve)",
    )
    _scenario(parser, "chat")
    parser.add_argument("--slo", default="e2e:1000", help="objectives, in ms (e2e:1000)")
    _out(parser)
    _target(parser)
    given = parser.parse_args(arguments)
    if given.host and not given.capacity:
        parser.error("of a gateway that runs elsewhere, --capacity has to be said")
    rate = given.capacity or _NARROW_RATE
    try:
        objectives = read_objectives(given.slo)
    except ValueError as mistake:
        parser.error(str(mistake))
    folder = _folder(parser, given, "overload")
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
        "columns": dict(endurance.PHASE_COLUMNS),
        "recovery_s": recovery,
    }
    document.write(folder, told, records)
    print(f"\n{document.table(endurance.PHASE_COLUMNS, rows)}\n")
    if recovery is not None:
        print(
            f"recovery: every call that began later than {recovery:.2f} s after the overload ended was good"
        )
    for words in told["warnings"]:
        print(f"warning: {words}")
    _told(folder, code)
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
            watcher = endurance.Watcher(given.pid or (), given.admin or "", token=given.admin_token)
            with watcher:
                base = {"host": given.host, "model": given.model, "ca": given.ca, **options}
                code = runner.run([given.scenario], base, folder, key=given.key)
            if code not in {0, _INTERRUPTED}:
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
        code = _INTERRUPTED
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
        return _INTERRUPTED
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "guard": _guard,
    "compare": _compare,
    "capacity": _capacity,
    "soak": _soak,
    "overload": _overload,
}
