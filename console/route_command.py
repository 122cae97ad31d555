"""
`penstock route`: `explain` tells why a call went where it went.

The running gateway is asked; exit codes are `console.operating`'s.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from console.gateway import Gateway
from console.operating import add_common, operate, path_to, print_json, print_table
from console.tables import style

__all__ = ["run"]


def run(argv: Sequence[str]) -> int:
    """Run the command and return the exit code."""
    options = _parser().parse_args(argv)
    return operate("penstock route", options, _VERBS[options.verb])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="penstock route",
        allow_abbrev=False,
        description="Tells how calls are led, and why.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="explain")
    explain = verbs.add_parser(
        "explain",
        help="every candidate of a call, its scores, and why it lost",
        description="Reads a call's decisions from the ledger: every attempt in order, and of each"
        " every candidate with its scores and the reason it lost.",
    )
    explain.add_argument("request_id", metavar="REQUEST_ID", help="as x-request-id says")
    add_common(explain)
    return parser


# explain...


def _explain(gateway: Gateway, options: argparse.Namespace) -> int:
    answer = gateway.ask("GET", path_to("routing", "explain", options.request_id))
    if options.json:
        print_json(answer)
        return 0
    count = len(answer["attempts"])
    print(
        f"{answer['request_id']} asked for {answer['asked']}: {count} attempt{'s' * (count != 1)},"
        f" {answer['cost_usd']} USD"
    )
    for attempt in answer["attempts"]:
        print()
        _print_attempt(attempt)
    return 0


def _print_attempt(attempt: dict[str, Any]) -> None:
    """Print one attempt with its candidates."""
    ended = f"{attempt['outcome']}" + (f" ({attempt['status']})" if attempt["status"] else "")
    print(
        style(f"attempt {attempt['attempt']}", "bold", sys.stdout, os.environ)
        + f": {attempt['deployment']}, {attempt['reason']}; {ended},"
        f" {attempt['cost_usd']} USD, first byte after {attempt['ttft_us'] / 1000:.1f} ms"
    )
    if attempt["experiment"]:
        print(f"led by the experiment {attempt['experiment']}")
    made_from = {name: value for name, value in attempt["made_from"].items() if value}
    words = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in made_from.items())
    print(f"policy {attempt['policy']}" + (f": {words}" if words else ""))
    if attempt["problem"]:
        print(f"the record of the decision cannot be read: {attempt['problem']}")
    rows = [
        [
            each["deployment"],
            each["model"] or "-",
            each["fate"],
            each["why"],
            "-" if each["tier"] is None else str(each["tier"]),
            "-" if each["quality"] is None else f"{each['quality']:.3f}",
            "-" if each["cost_nusd"] is None else f"{each['cost_nusd'] / 1e9:.6f}",
            f"{each['latency_us'] / 1000:.0f}" if each["latency_us"] else "-",
        ]
        for each in attempt["candidates"]
    ]
    heads = ["candidate", "model", "fate", "why", "tier", "quality", "cost USD", "latency ms"]
    print_table(heads, rows, left=4)


_VERBS = {"explain": _explain}
