"""
`penstock deployment` and `penstock providers`: where models are served, and how load is led there.

Drain and weight are obeyed by the next admission; attempts that are under way go on.
Exit codes are `console.operating`'s.
"""

import argparse
from collections import Counter
from collections.abc import Sequence

from console.gateway import Gateway
from console.operating import (
    add_change_options,
    add_common,
    change,
    limits_in,
    operate,
    path_to,
    print_json,
    print_table,
    tell_change,
)
from console.parser import Parser

__all__ = ["providers", "run"]


def run(argv: Sequence[str]) -> int:
    """Run `penstock deployment` and return the exit code."""
    options = _parser().parse_args(argv)
    options.typed = " ".join(["deployment", *argv])
    do = _list if options.verb == "list" else _set
    return operate("penstock deployment", options, do)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="penstock deployment",
        description="Deployments of a running gateway.",
    )
    verbs = parser.add_subparsers(
        dest="verb", required=True, metavar="list | drain | undrain | weight"
    )
    listed = verbs.add_parser("list", help="every deployment, and what is under way there")
    drain = verbs.add_parser("drain", help="give it no new attempts; those under way go on")
    undrain = verbs.add_parser("undrain", help="give it attempts again")
    weight = verbs.add_parser("weight", help="its share of the load")
    for one in (drain, undrain, weight):
        one.add_argument("id", metavar="ID", help="as `list` says it, e.g. gpt-5-mini/openai")
    weight.add_argument("weight", metavar="N", type=_weight, help="relative to the model's others")
    for one in (listed, drain, undrain, weight):
        add_common(one)
    for one in (drain, undrain, weight):
        add_change_options(one)
    return parser


def _weight(text: str) -> int:
    if not text.removeprefix("-").isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _list(gateway: Gateway, options: argparse.Namespace) -> int:
    answer = gateway.ask("GET", "/v1/deployments")
    if options.json:
        print_json(answer)
        return 0
    rows = []
    for each in answer["deployments"]:
        words = [word for word in ("drained", "cooling", "throttled") if each[word]]
        rows.append(
            [
                each["id"],
                each["settings"].get("provider", ""),
                ", ".join(words) or "serving",
                limits_in(each["settings"]),
                str(each["weight"]),
                str(each["in_flight"]),
                str(each["failures"]),
            ]
        )
    heads = ["deployment", "provider", "state", "limits", "weight", "in flight", "failures"]
    print_table(heads, rows, left=4)
    return 0


def _set(gateway: Gateway, options: argparse.Namespace) -> int:
    where = path_to("deployments", options.id)
    if options.verb == "weight":
        answer, code = change(gateway, options, "PATCH", where, weight=options.weight)
    else:
        drained = options.verb == "drain"
        answer, code = change(gateway, options, "PATCH", where, drained=drained)
    return tell_change(answer, code, options)


def providers(argv: Sequence[str]) -> int:
    """Run `penstock providers` and return the exit code."""
    parser = Parser(
        prog="penstock providers",
        description="Lists the providers of a running gateway, secrets masked.",
    )
    add_common(parser)
    return operate("penstock providers", parser.parse_args(argv), _providers)


def _providers(gateway: Gateway, options: argparse.Namespace) -> int:
    answer = gateway.ask("GET", "/v1/providers")
    if options.json:
        print_json(answer)
        return 0
    placed = gateway.ask("GET", "/v1/deployments")["deployments"]
    count = Counter(each["settings"].get("provider") for each in placed)
    rows = [
        [
            name,
            each.get("protocol", ""),
            each.get("base_url", ""),
            each.get("api_key", ""),
            str(count[name]),
        ]
        for name, each in answer["sections"].items()
    ]
    print_table(["provider", "protocol", "base_url", "api_key", "deployments"], rows, left=4)
    return 0
