"""
`penstock key`: callers' keys are made, listed, replaced and revoked.

A new key is the one line on standard output, and shown this once: `KEY=$(./penstock key create …)`.
Exit codes are `console.operating`'s; 1 as well when a live replica does not run the change yet.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from console.gateway import Gateway, Misuse
from console.operating import (
    add_change_options,
    add_common,
    budget_of,
    change,
    limit_of,
    limits_in,
    operate,
    path_to,
    print_changes,
    print_json,
    print_table,
    spelled,
    tell_change,
)
from console.parser import Parser
from ratelimit.limits import RATES

__all__ = ["run"]


def run(argv: Sequence[str]) -> int:
    """Run the command and return the exit code."""
    options = _parser().parse_args(argv)
    options.typed = " ".join(["key", *argv])
    return operate("penstock key", options, _VERBS[options.verb])


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="penstock key", allow_abbrev=False, description="Callers' keys of a running gateway."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar=" | ".join(_VERBS))
    create = verbs.add_parser(
        "create",
        help="make a key and show it once",
        description="Makes a key of a team that is there. The key is printed once, to standard"
        " output, and kept as its hash.",
    )
    listed = verbs.add_parser("list", help="list keys, without the keys")
    listed.add_argument("within", metavar="ORG[/TEAM]", nargs="?", help="only those of these")
    show = verbs.add_parser("show", help="show what a key may, without the key")
    rotate = verbs.add_parser(
        "rotate",
        help="put another key in its place",
        description="Makes another key, which is printed once; the old one is refused from then on.",
    )
    revoke = verbs.add_parser("revoke", help="take a key away; it is refused from then on")
    for one in (create, show, rotate, revoke):
        one.add_argument("key", metavar="ORG/TEAM/NAME", help="which key")
    for option, says in (
        ("--application", "the application that calls"),
        ("--business-line", "the business line that pays"),
        ("--user", "the user on whose behalf it calls"),
        ("--biz-level", "premium, normal or economy"),
        ("--prefer-cost", "low or high"),
        ("--pin", "the model or deployment that serves its calls"),
        ("--routing", "full, steady or declared"),
    ):
        create.add_argument(option, metavar="TEXT", help=says)
    for option, says in (
        ("--models", "models and routes that it may ask for"),
        ("--capabilities", "tags that a model must have"),
        ("--regions", "where its data may go"),
    ):
        create.add_argument(option, metavar="A,B", help=says)
    for option, says in (
        ("--max-price", "USD per million tokens that a model may cost"),
        ("--min-quality", "quality that a model must have, from 0 to 1"),
        ("--deadline-ms", "milliseconds within which answers should begin"),
    ):
        create.add_argument(option, metavar="N", help=says)
    for limit in (*RATES, "concurrency"):
        create.add_argument(f"--{limit}", metavar="N", help="a limit of this key")
    create.add_argument(
        "--budget",
        action="append",
        default=[],
        metavar="USD/PERIOD/MODE",
        help="as in 300/month/strict; may be said several times",
    )
    for one in (create, listed, show, rotate, revoke):
        add_common(one)
    for one in (create, rotate, revoke):
        add_change_options(one)
    return parser


def _create(gateway: Gateway, options: argparse.Namespace) -> int:
    organization, team, name = _parts(options.key)
    said: dict[str, Any] = {"organization": organization, "team": team, "name": name}
    for setting in (
        "application",
        "business_line",
        "user",
        "biz_level",
        "prefer_cost",
        "pin",
        "routing",
    ):
        if getattr(options, setting) is not None:
            said[setting] = getattr(options, setting)
    for setting in ("models", "capabilities", "regions"):
        if getattr(options, setting) is not None:
            said[setting] = getattr(options, setting).split(",")
    for setting in ("max_price", "min_quality", "deadline_ms"):
        if getattr(options, setting) is not None:
            said[setting] = _number(setting, getattr(options, setting))
    limits = {
        limit: limit_of(limit, getattr(options, limit))
        for limit in (*RATES, "concurrency")
        if getattr(options, limit) is not None
    }
    if limits:
        said["limits"] = limits
    if options.budget:
        said["budgets"] = [budget_of(each) for each in options.budget]
    answer, code = change(gateway, options, "POST", "/v1/keys", **said)
    return _tell_key(answer, code, options)


def _rotate(gateway: Gateway, options: argparse.Namespace) -> int:
    where = path_to("keys", *_parts(options.key), "rotate")
    answer, code = change(gateway, options, "POST", where)
    return _tell_key(answer, code, options)


def _tell_key(answer: Any, code: int, options: argparse.Namespace) -> int:
    if options.json:
        print_json(answer)
    else:
        print_changes(answer, quiet=True)
        print(answer["key"])
    return code


def _revoke(gateway: Gateway, options: argparse.Namespace) -> int:
    answer, code = change(gateway, options, "DELETE", path_to("keys", *_parts(options.key)))
    return tell_change(answer, code, options)


def _list(gateway: Gateway, options: argparse.Namespace) -> int:
    names: list[tuple[str, str]] = []
    if options.within is not None:
        parts = options.within.split("/")
        if len(parts) > 2 or not all(parts):
            raise Misuse(f"{options.within!r}: expected ORG or ORG/TEAM")
        names = list(zip(("organization", "team"), parts, strict=False))
    answer = gateway.ask("GET", path_to("keys", query=names))
    if options.json:
        print_json(answer)
        return 0
    if not answer["keys"]:
        print("There are no keys.")
        return 0
    rows = [
        [
            each["id"],
            each["fingerprint"],
            each["settings"].get("application", ""),
            ", ".join(each["settings"].get("models", [])) or "all",
            limits_in(each["settings"]),
        ]
        for each in answer["keys"]
    ]
    print_table(["key", "hash", "application", "models", "limits"], rows, left=5)
    return 0


def _show(gateway: Gateway, options: argparse.Namespace) -> int:
    answer = gateway.ask("GET", path_to("keys", *_parts(options.key)))
    if options.json:
        print_json(answer)
        return 0
    rows = [["key", answer["id"]], ["hash", answer["fingerprint"]]]
    rows += [[name, spelled(value)] for name, value in answer["settings"].items()]
    print_table(["setting", "value"], rows, left=2)
    return 0


def _number(name: str, text: str) -> float:
    try:
        return int(text) if name == "deadline_ms" else float(text)
    except ValueError:
        raise Misuse(f"{name}={text}: expected a number such as 2") from None


def _parts(key: str) -> list[str]:
    parts = key.rsplit("/", 2)
    if len(parts) != 3 or not all(key.split("/")):
        raise Misuse(f"{key!r}: expected ORG/TEAM/NAME")
    return parts


_VERBS = {
    "create": _create,
    "list": _list,
    "show": _show,
    "rotate": _rotate,
    "revoke": _revoke,
}
