"""`python -m loadtests`, which is `./penstock load`: put load on a gateway, and tell what came of it; the other verbs are in `commands`."""

import argparse
import os
import socket
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtests import commands, document, runner
from loadtests.bench.ground import ending_in_order
from loadtests.engine import CLOSED
from loadtests.options import KEPT, LOAD, PARTS, TARGET, OptionsWrong, parse_plan, read_file
from loadtests.scenarios import SCENARIOS

_MOST_PROCESSES = 256
_HIGHEST_PORT = 65535
# Locust's own.
_WEB_PORT = 8089
_WORDS = """\
  ./penstock load --host URL --key KEY      put load on anything that speaks OpenAI's or Anthropic's API
  ./penstock load guard [--quick]           hold the latency budget: exit code 1 names what broke it
  ./penstock load compare FILE              one scenario against several bases in turn
  ./penstock load capacity                  the highest rate within the budget, for 1 and 2 workers
  ./penstock load soak                      ten minutes or more, and what grows meanwhile
  ./penstock load overload                  five times the capacity, and back
  ./penstock load report RUN [RUN]          the page of a run again, or of two side by side
"""


def _scenarios(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in SCENARIOS:
            raise argparse.ArgumentTypeError(f"no scenario {name!r}; one of {', '.join(SCENARIOS)}")
    return names


def _port(text: str) -> int:
    """Read a port that is free on this machine."""
    port = int(text) if text.isdigit() else 0
    if not 1 <= port <= _HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as mistake:
        words = f"port {port}: {os.strerror(mistake.errno or 0)}; name another"
        raise argparse.ArgumentTypeError(words) from None
    return port


def load_parser() -> argparse.ArgumentParser:
    """Make the parser of a plain run; its options are those of `options.PARTS`."""
    parser = argparse.ArgumentParser(
        prog="penstock load",
        usage="penstock load --host URL [--key KEY] [option ...]\n       penstock load VERB [option ...]",
        description=f"Load tests for gateways of language models; loadtests/README.md says what the figures mean.\n\n{_WORDS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    groups = {
        name: parser.add_argument_group(name)
        for name in dict.fromkeys(part.group for part in PARTS if part.group)
    }
    groups[TARGET].add_argument(
        "--host", type=commands.host, required=True, metavar="URL", help="where it answers"
    )
    groups[LOAD].add_argument(
        "--scenario",
        type=_scenarios,
        default=["mixed"],
        metavar="NAME[,NAME]",
        help=f"of {', '.join(SCENARIOS)} (mixed)",
    )
    for part in PARTS:
        if part.group:
            default = "5" if part.name == "load" else part.default
            groups[part.group].add_argument(
                f"--{part.name}",
                type=part.type,
                default=part.preset(),
                metavar=part.metavar or None,
                help=part.help + (f" ({default})" if default else ""),
            )
    groups[LOAD].add_argument(
        "--processes", type=int, default=0, metavar="N", help="of the generator (1)"
    )
    groups[KEPT].add_argument(
        "--web",
        type=_port,
        nargs="?",
        const=_WEB_PORT,
        default=0,
        metavar="PORT",
        help=f"with Locust's page on 127.0.0.1, until Ctrl-C ({_WEB_PORT})",
    )
    parser.set_defaults(load="5")
    return parser


def _load(arguments: Sequence[str]) -> int:
    parser = load_parser()
    given = parser.parse_args(arguments)
    # All of it is asked again by the run itself; here a mistake costs no start.
    chosen = {
        part.name: getattr(given, part.name.replace("-", "_")) for part in PARTS if part.group
    }
    try:
        tenants = read_file("tenants", given.tenants)
        presets = {part.name: part.default for part in PARTS if not part.group}
        parse_plan({**presets, **vars(given), "tenants": tenants}, given.host)
    except OptionsWrong as mistake:
        parser.error(str(mistake))
    if not 0 <= given.processes <= _MOST_PROCESSES:
        parser.error(
            f"--processes {given.processes}: a number from 0 to {_MOST_PROCESSES} was expected"
        )
    key = chosen.pop("key")
    folder = Path(
        chosen.pop("out") or runner.folder_for("-".join(given.scenario), datetime.now(UTC))
    )
    unit = "callers" if given.arrivals == CLOSED else f"calls/s, {given.arrivals} arrivals"
    print(f"{', '.join(given.scenario)} on {given.host}: {given.load} {unit}, {given.duration}")
    if given.web:
        page = f"http://127.0.0.1:{given.web}"
        print(f"page: {page}/llm, the report so far: {page}/report; Ctrl-C ends it")
    interrupted = False
    try:
        code = runner.run(
            given.scenario,
            {"host": given.host, **chosen},
            folder,
            key=key,
            web_port=given.web,
            processes=given.processes,
        )
    except runner.RunFailed as mistake:
        print(f"cannot start: {mistake}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        interrupted, code = True, 130
    if code not in {0, 130}:
        return code
    try:
        run = document.read(folder)
    except document.NoRun as mistake:
        said = "interrupted before there was anything to report" if interrupted else mistake
        print(f"the run left no report: {said}", file=sys.stderr)
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
    if not run["total"]["calls"] and not run["total"]["unfinished"]:
        print("no call was due: more --load, or more --duration, has some")
    if cut := run["total"]["unfinished"]:
        print(f"{cut} calls were still open at the end and count neither way; --drain gives time")
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
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(document.page(runs), encoding="utf-8")
    except OSError as mistake:
        parser.error(f"--out {out}: {mistake.strerror or mistake}")
    print(f"wrote {out}")
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {**commands.VERBS, "report": _report}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb, or plain load without one; gives 0, 1 for a broken budget, 2 for misuse, 130 for Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and not words[0].startswith("-") and words[0] not in VERBS:
        print(f"penstock load: no {words[0]!r}; there is\n{_WORDS}", file=sys.stderr)
        return 2
    verb = VERBS.get(words[0]) if words else None
    try:
        with ending_in_order():
            return _load(words) if verb is None else verb(words[1:])
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
