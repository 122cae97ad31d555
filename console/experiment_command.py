"""
`penstock experiment`: what is tried out behind which name, what it has shown, and its end.

To stop and to resume are changes of the live configuration; exit codes are `console.operating`'s.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from console.gateway import Gateway
from console.operating import (
    add_change_options,
    add_common,
    change,
    operate,
    path_to,
    print_json,
    print_table,
    tell_change,
)
from console.parser import Parser
from console.tables import count

__all__ = ["run"]


def run(argv: Sequence[str]) -> int:
    """Run the command and return the exit code."""
    options = _parser().parse_args(argv)
    options.typed = " ".join(["experiment", *argv])
    return operate("penstock experiment", options, _VERBS[options.verb])


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="penstock experiment",
        description="A/B tests, canaries, migrations and shadow traffic of a running gateway."
        " `penstock config put experiment NAME FILE` makes one.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="list | show | stop | resume")
    listed = verbs.add_parser("list", help="all of them")
    show = verbs.add_parser("show", help="what one has shown: its arms, and what it waits for")
    stop = verbs.add_parser("stop", help="lead every call as if it were not there (--why says why)")
    resume = verbs.add_parser("resume", help="go on; a canary begins with its first step again")
    for one in (show, stop, resume):
        one.add_argument("name", metavar="NAME", help="which one")
    for one in (listed, show, stop, resume):
        add_common(one)
    for one in (stop, resume):
        add_change_options(one)
    return parser


def _list(gateway: Gateway, options: argparse.Namespace) -> int:
    answer = gateway.ask("GET", "/v1/experiments")
    if options.json:
        print_json(answer)
        return 0
    if not answer["sections"]:
        print("Nothing is tried out.")
        return 0
    rows = []
    for name, each in answer["sections"].items():
        kind = next(one for one in ("arms", "canary", "migration", "shadow") if each.get(one))
        rows.append([name, kind, each["asked"], each.get("stopped") or "running"])
    print_table(["experiment", "kind", "asked", "state"], rows, left=4)
    return 0


def _show(gateway: Gateway, options: argparse.Namespace) -> int:
    answer = gateway.ask("GET", path_to("experiments", options.name, "results"))
    if options.json:
        print_json(answer)
        return 0
    print(f"{answer['name']}: {answer['kind']} behind {answer['asked']}; {answer['state']}")
    rows = [
        [
            each["arm"],
            "-" if each["share"] is None else f"{100 * each['share']:.4g} %",
            count(each["tries"]),
            f"{100 * each['errors'] / each['tries']:.1f} %" if each["tries"] else "-",
            "-" if each["ttft_us"] is None else f"{each['ttft_us'] / 1000:.0f}",
            "-" if each["cost_nusd"] is None else f"{each['cost_nusd'] / 1e9:.6f}",
            "-" if each["faults"] is None else f"{100 * each['faults']:.1f} %",
        ]
        for each in answer["arms"]
    ]
    heads = ["arm", "share", "tries", "failures", "TTFT ms", "USD/call", "faults"]
    print_table(heads, rows, left=1)
    for each in answer["findings"]:
        print(_said(each))
    return 0


def _said(finding: dict[str, Any]) -> str:
    """Return what a guard says in a line."""
    word = "harm" if finding["at_least"] > 0 else "doubt" if finding["excess"] > 0 else "fine"
    return (
        f"guard {finding['guard']}: {word}; {finding['canary']:.6g} against"
        f" {finding['control']:.6g}, {finding['allowed']:g} allowed"
    )


def _change(gateway: Gateway, options: argparse.Namespace) -> int:
    where = path_to("experiments", options.name, options.verb)
    answer, code = change(gateway, options, "POST", where)
    return tell_change(answer, code, options)


_VERBS = {"list": _list, "show": _show, "stop": _change, "resume": _change}
