"""`python -m loadtests.bench`: what the gateway costs, beside nginx, on this machine."""

import argparse
import dataclasses
import sys
from pathlib import Path
from statistics import median
from typing import Any

from loadtests.bench import gateway, held, nginx, protocols, report, tools, translations
from loadtests.bench.ending import exit_code_of
from loadtests.bench.figures import PARTS
from loadtests.bench.ground import Ground
from loadtests.bench.measure import QUICK, Bench, Contestant, Effort, body_of, in_turn, rows_of
from loadtests.document import write_json

_QUIET_CORES = 0.05
_METHOD = {
    "proxies": "one worker each, on a core of its own when there are two; never measured at the same time",
    "others": "mock vendor, store, control and wrk share the other cores",
    "governance": "4 scopes with limits, a strict budget, 4 candidates, ledger, metrics, access log to a file",
    "cpu": "user + system seconds of the proxy process / requests completed (paced: / chunks sent * 100)",
    "ratio": "median of the ratios of neighbouring runs",
    "latency": "percentile through the proxy minus percentile direct to the mock, same connections",
}


def _parts(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"no part {name!r}; one of {', '.join(PARTS)}")
    return tuple(part for part in PARTS if part in names)


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 100")
    return int(text)


def _say(words: str) -> None:
    print(words, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the bench; gives 0, 1 when it failed, 2 when a program is missing. A missed target is no failure."""
    said = sys.argv[1:] if arguments is None else arguments
    if said[:1] == ["translations"]:
        return translations.main(said[1:])
    if said[:1] == ["protocols"]:
        return protocols.main(said[1:])
    parser = argparse.ArgumentParser(
        prog="penstock bench",
        description="What a governed request costs, beside nginx; see loadtests/README.md.",
        epilog="penstock bench protocols: what each protocol costs that passes, beside nginx;"
        " penstock bench translations: what a translated stream costs, beside one passed through.",
    )
    parser.add_argument("--quick", action="store_true", help="one short run each: noisy")
    parser.add_argument("--runs", type=_count, help="runs per contestant (3)")
    parser.add_argument("--only", type=_parts, default=PARTS, help=f"of {', '.join(PARTS)}")
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="nothing waits for a time slice (SCHED_FIFO; as root, on Linux): what is left is the gateway's own",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write raw results and machine")
    given = parser.parse_args(said)
    effort = QUICK if given.quick else Effort()
    if given.runs is not None:
        effort = dataclasses.replace(effort, runs=given.runs)
    return exit_code_of(
        lambda programs: _bench(programs, effort, given.only, given.json, realtime=given.realtime)
    )


def _bench(
    programs: tools.Tools,
    effort: Effort,
    parts: tuple[str, ...],
    json: Path | None,
    *,
    realtime: bool,
) -> None:
    held.allow_files(effort.held * 2)
    with Ground(realtime=realtime) as ground:
        _say("starting mock vendor, nginx, store, control and edge")
        command = [sys.executable, "-m", "loadtests.mock", "--listen", "127.0.0.1:0", "--fast"]
        mock_url = ground.start("mock", command).wait_for_line(r"^listening on (\S+)$")[1]
        nginx_url, nginx_pid = nginx.start(ground, programs.nginx, mock_url.removeprefix("http://"))
        ours = gateway.start(ground, mock_url)
        direct = Contestant("direct", mock_url)
        native = Contestant("nginx", nginx_url, pid=nginx_pid)
        penstock = Contestant("penstock", ours.url, ours.key, ours.edge.pid, own_names=True)
        for pid in (nginx_pid, ours.edge.pid):
            ground.measure(pid)
        entry = gateway.prove_governed(ours, body_of("bench", penstock, stream=False))
        _say(f"governance is on: the ledger has the first call at {entry['cost_nusd']} nano-USD")
        chosen = body_of("bench-scored", penstock, stream=False)
        gateway.prove_governed(ours, chosen, policy="cost_quality")
        contestants = (direct, native, penstock)
        bench = Bench(
            ground,
            programs.wrk,
            effort,
            contestants=contestants,
            store_pid=ours.store_pid,
            say=_say,
        )
        for part in in_turn(parts):
            bench.run(part)
        about = report.machine(programs, ours.store_version)
        pinned = ground.pinned
    figures = [bench.figures[row.name] for row in rows_of(parts)]
    _say(f"\n{report.table(figures)}\n")
    _say(f"{about['cpu']}, {about['cores']} cores, {about['kernel']}, Python {about['python']}")
    if median(bench.others) > _QUIET_CORES:
        _say(
            f"other processes kept {median(bench.others):.2f} cores busy meanwhile:"
            " the figures, latencies above all, are worse than the truth"
        )
    if not pinned:
        _say("the proxies had no core of their own here: read the figures with care")
    if json is not None:
        method: dict[str, Any] = {
            **_METHOD,
            **dataclasses.asdict(effort),
            "pinned": pinned,
            "realtime": realtime,
        }
        told = report.document(figures, bench.raw, method, about)
        write_json(json, told)
        _say(f"wrote {json}")


if __name__ == "__main__":
    sys.exit(main())
