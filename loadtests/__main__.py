"""`python -m loadtests`, which is `./penstock load`: put load on a gateway, and tell what came of it."""

import argparse
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtests import budget, document, guard, runner
from loadtests.bench.wrk import BenchFailed
from loadtests.client import BadUrl, read_url
from loadtests.engine import CLOSED
from loadtests.options import ARRIVALS, PARTS
from loadtests.scenarios import SCENARIOS
from loadtests.shapes import read_duration_s, read_shape

_WORDS = """\
  ./penstock load --host URL --key KEY      put load on anything that speaks OpenAI's or Anthropic's API
  ./penstock load guard [--quick]           hold the latency budget: exit code 1 names what broke it
  ./penstock load report RUN [RUN]          the page of a run again, or of two side by side
"""


def _scenarios(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in SCENARIOS:
            raise argparse.ArgumentTypeError(f"no scenario {name!r}; one of {', '.join(SCENARIOS)}")
    return names


def _host(text: str) -> str:
    try:
        read_url(text)
    except BadUrl as mistake:
        raise argparse.ArgumentTypeError(str(mistake)) from None
    return text.rstrip("/").removesuffix("/v1")


def folder_for(name: str, now: datetime) -> Path:
    """Give the folder of a run that begins now."""
    var = Path(os.environ.get("PENSTOCK_VAR") or runner.ROOT / "var")
    return var / "load" / f"{now:%Y%m%d-%H%M%S}-{name}"


def load_parser() -> argparse.ArgumentParser:
    """Make the parser of a plain run; its options are those of `options.PARTS`."""
    parser = argparse.ArgumentParser(
        prog="penstock load",
        description=f"Load tests for gateways of language models; see loadtests/README.md.\n\n{_WORDS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", type=_host, required=True, metavar="URL", help="what to load")
    parser.add_argument(
        "--scenario",
        type=_scenarios,
        default=["mixed"],
        metavar="NAME[,NAME]",
        help=f"of {', '.join(SCENARIOS)} (mixed)",
    )
    parser.add_argument("--web", action="store_true", help="with Locust's page, on 127.0.0.1:8089")
    parser.add_argument("--processes", type=int, default=0, metavar="N", help="generator processes")
    for part in PARTS:
        shown = f" ({part.default})" if part.default not in {"", 0.0} else ""
        parser.add_argument(
            f"--{part.name}", type=part.type, default=part.default, help=part.help + shown
        )
    parser.set_defaults(load="5")
    return parser


def _load(arguments: Sequence[str]) -> int:
    parser = load_parser()
    given = parser.parse_args(arguments)
    # Both are asked again by the run itself; here a mistake costs no start.
    try:
        read_shape(given.load, read_duration_s(given.duration))
    except ValueError as mistake:
        parser.error(str(mistake))
    if given.arrivals not in ARRIVALS:
        parser.error(f"--arrivals {given.arrivals!r}: one of {', '.join(ARRIVALS)}")
    if given.bases:
        parser.error("several bases are for `penstock load compare FILE`")
    chosen = {part.name: getattr(given, part.name.replace("-", "_")) for part in PARTS}
    key = chosen.pop("key")
    folder = Path(chosen.pop("out") or folder_for("-".join(given.scenario), datetime.now(UTC)))
    unit = "callers" if given.arrivals == CLOSED else f"calls/s, {given.arrivals} arrivals"
    print(f"{', '.join(given.scenario)} on {given.host}: {given.load} {unit}, {given.duration}")
    interrupted = False
    try:
        code = runner.run(
            given.scenario,
            {"host": given.host, **chosen},
            folder,
            key=key,
            web=given.web,
            processes=given.processes,
        )
    except KeyboardInterrupt:
        interrupted, code = True, 130
    if code not in {0, 130}:
        return code
    try:
        run = document.read(folder)
    except document.NoRun as mistake:
        print(f"the run left no report: {mistake}", file=sys.stderr)
        return code or 1
    tell(run, folder)
    if interrupted:
        print("interrupted: the report holds what was seen until then")
    return code


def tell(run: dict[str, Any], folder: Path) -> None:
    """Print the table of a run, its warnings, and where its page lies."""
    print(f"\n{document.table(document.COLUMNS, document.rows(run))}\n")
    for base, figures in run["by_base"].items():
        for kind, count in figures["errors"].items():
            print(f"{base}: {count} x {kind}: {figures['details'].get(kind, '')}")
    for words in run["warnings"]:
        print(f"warning: {words}")
    print(f"report: {folder / document.REPORT}")


def _report(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="penstock load report")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder or run.json")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the page goes")
    given = parser.parse_args(arguments)
    if len(given.runs) > 2:
        parser.error("one run, or two to compare")
    try:
        runs = [document.read(path) for path in given.runs]
    except document.NoRun as mistake:
        parser.error(str(mistake))
    last = given.runs[-1]
    folder = last if last.is_dir() else last.parent
    default = document.REPORT if len(runs) == 1 else "comparison.html"
    out = given.out or folder / default
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(document.page(runs), encoding="utf-8")
    print(f"wrote {out}")
    return 0


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
    theirs.add_argument("--host", type=_host, metavar="URL")
    theirs.add_argument("--key", default=os.environ.get("LOAD_KEY", ""), help="(or LOAD_KEY)")
    theirs.add_argument("--model", help="its name for the model")
    theirs.add_argument("--direct", type=_host, metavar="URL", help="the vendor behind it")
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
    folder = given.out or folder_for("guard", datetime.now(UTC))
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


VERBS: dict[str, Callable[[Sequence[str]], int]] = {"guard": _guard, "report": _report}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb, or plain load without one; gives 0, 1 for a broken budget, 2 for misuse, 130 for Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and not words[0].startswith("-") and words[0] not in VERBS:
        print(f"penstock load: no {words[0]!r}; there is\n{_WORDS}", file=sys.stderr)
        return 2
    verb = VERBS.get(words[0]) if words else None
    # Told to end, it ends what it started, as on Ctrl-C.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _load(words) if verb is None else verb(words[1:])
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
