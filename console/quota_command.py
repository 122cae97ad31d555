"""
`penstock quota`: limits and budgets of scopes, what they hold right now, and how they are tuned.

What is set is obeyed by the next admission on every replica. Exit codes are `console.operating`'s.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from config.changes import SCOPES
from console.gateway import Gateway, Misuse
from console.operating import (
    add_change_options,
    add_common,
    budget_of,
    change,
    limit_of,
    money_of,
    operate,
    path_to,
    print_json,
    print_table,
    reason,
    tell_change,
)
from console.parser import Parser
from console.tables import money

__all__ = ["run"]


def run(argv: Sequence[str]) -> int:
    """Run the command and return the exit code."""
    options = _parser().parse_args(argv)
    options.typed = " ".join(["quota", *argv])
    return operate("penstock quota", options, _VERBS[options.verb])


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="penstock quota",
        description="Limits and budgets of a running gateway.",
        epilog=f"A scope is {SCOPES}.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar=" | ".join(_VERBS))
    show = verbs.add_parser("show", help="what a scope may, and what it holds right now")
    show.add_argument("scope", metavar="SCOPE", nargs="?", help=f"{SCOPES} (default: all)")
    setting = verbs.add_parser(
        "set",
        help="set limits and budgets of a scope",
        description="Sets what is named and leaves the rest; `none` takes a limit, or all budgets,"
        " away. Budgets are USD/PERIOD/MODE@TIME_ZONE, and replace those that are there.",
        epilog="example: ./penstock quota set team:acme/support tpm=800_000 budget=300/month/strict",
    )
    setting.add_argument("scope", metavar="SCOPE", help=SCOPES)
    setting.add_argument(
        "settings",
        metavar="NAME=VALUE",
        nargs="+",
        help="rpm=600, tpm=none, burst.rpm=20, concurrency=50, budget=300/month/strict, …",
    )
    raising = verbs.add_parser(
        "raise",
        help="raise a budget of a scope for a time",
        description="Until then the amount takes the place of the budget's own; `none` ends a raise.",
        epilog="example: ./penstock quota raise team:acme/support month 500 --until 2026-12-24",
    )
    raising.add_argument("scope", metavar="SCOPE", help=SCOPES)
    raising.add_argument("per", metavar="PERIOD", help="the budget's: day, week, month, …")
    raising.add_argument("usd", metavar="USD", help="the amount until then, or none")
    raising.add_argument(
        "--until",
        metavar="MOMENT",
        help="2026-12-24, 2026-12-24T18:00 (in the budget's time zone), or with an offset",
    )
    events = verbs.add_parser("events", help="thresholds of budgets that were reached")
    events.add_argument("scope", metavar="SCOPE", nargs="?", help=f"{SCOPES} (default: all)")
    events.add_argument("--count", metavar="N", default="20", help="how many at most (20)")
    silent = verbs.add_parser(
        "silent", help="who fell silent, and what strict budgets reserve until it is back or dead"
    )
    free = verbs.add_parser(
        "free",
        help="say that a silent replica is dead, and free what is reserved for it",
        description="What a replica is still to settle that is not dead may then exceed strict budgets.",
    )
    free.add_argument("replica", metavar="REPLICA", help="as `quota silent` says it")
    free.add_argument("--why", metavar="WORDS", help="a line for the log (default: what was typed)")
    for one in (show, setting, raising, events, silent, free):
        add_common(one)
    for one in (setting, raising):
        add_change_options(one)
    return parser


def _show(gateway: Gateway, options: argparse.Namespace) -> int:
    if options.scope is None:
        answer = gateway.ask("GET", "/v1/quotas")
        quotas = answer["quotas"]
    else:
        answer = gateway.ask("GET", path_to("quotas", options.scope))
        quotas = [answer]
    if options.json:
        print_json(answer)
        return 0
    _print(quotas)
    return 0


def _set(gateway: Gateway, options: argparse.Namespace) -> int:
    said: dict[str, Any] = {}
    limits: dict[str, int | None] = {}
    bursts: dict[str, int | None] = {}
    budgets: list[str] = []
    for setting in options.settings:
        name, equals, text = setting.partition("=")
        if not equals or not name:
            raise Misuse(f"{setting!r}: expected NAME=VALUE, as in rpm=600")
        if name == "budget":
            budgets.append(text)
        elif name in limits or name in bursts:
            raise Misuse(f"{name} is said twice")
        elif name.startswith("burst."):
            bursts[name] = limit_of(name, text)
        else:
            limits[name] = limit_of(name, text)
    if bursts:
        said["limits"] = {"burst": {name[6:]: burst for name, burst in bursts.items()}}
    if limits:
        said["limits"] = {**limits, **said.get("limits", {})}
    if "none" in budgets and len(budgets) > 1:
        raise Misuse("budget=none beside another budget")
    if budgets:
        said["budgets"] = [budget_of(each) for each in budgets if each != "none"]
    answer, code = change(gateway, options, "PUT", path_to("quotas", options.scope), **said)
    return _tell(answer, code, options)


def _raise(gateway: Gateway, options: argparse.Namespace) -> int:
    amount = None if options.usd == "none" else money_of("USD", options.usd)
    if amount is not None and options.until is None:
        raise Misuse("--until is missing: when does the raise end?")
    said = {"per": options.per, "usd": amount, "until": options.until}
    answer, code = change(gateway, options, "PUT", path_to("raises", options.scope), **said)
    return _tell(answer, code, options)


def _tell(answer: Any, code: int, options: argparse.Namespace) -> int:
    tell_change(answer, code, options)
    if not options.json:
        _print([answer["quota"]])
    return code


def _events(gateway: Gateway, options: argparse.Namespace) -> int:
    query = [("count", options.count)]
    if options.scope is not None:
        query.append(("scope", options.scope))
    answer = gateway.ask("GET", path_to("events", query=query))
    if options.json:
        print_json(answer)
        return 0
    if not answer["events"]:
        print("No threshold of a budget was reached.")
        return 0
    rows = [
        [
            each["at"],
            each["scope"],
            f"{each['percent']} %",
            _usd(each["spent_usd"]),
            f"of {_usd(each['amount_usd'])} per {each['per']}, {each['mode']}",
        ]
        for each in answer["events"]
    ]
    print_table(["at", "scope", "reached", "spent", "budget in USD"], rows, left=2)
    return 0


def _silent(gateway: Gateway, options: argparse.Namespace) -> int:
    answer = gateway.ask("GET", "/v1/silent")
    if options.json:
        print_json(answer)
        return 0
    if not answer["silent"]:
        print("Every replica beats, or is known to be dead.")
        return 0
    rows = [
        [
            each["replica"],
            each["since"],
            str(each["attempts"]),
            _usd(each["most_usd"]),
            ", ".join(
                f"{one['scope']} {_usd(one['usd'])} per {one['per']}" for one in each["reserved"]
            ),
        ]
        for each in answer["silent"]
    ]
    heads = ["replica", "silent since", "calls", "may cost USD", "reserved"]
    print_table(heads, rows, left=2)
    return 0


def _free(gateway: Gateway, options: argparse.Namespace) -> int:
    answer = gateway.ask(
        "POST", "/v1/silent/dead", {"replica": options.replica, "why": reason(options)}
    )
    if options.json:
        print_json(answer)
    else:
        print(f"What was reserved for {options.replica} is free within two seconds.")
    return 0


def _print(quotas: Sequence[dict[str, Any]]) -> None:
    """Print a line per limit and per budget."""
    rows: list[list[str]] = []
    for each in quotas:
        for name, limit in each["limits"].items():
            burst = "" if limit["burst"] == limit["limit"] else f", burst {limit['burst']:,}"
            rows.append(
                [
                    each["scope"],
                    name + burst,
                    f"{limit['limit']:,}",
                    "" if limit["remaining"] is None else f"{limit['remaining']:,}",
                    _until(limit["resets_in_ms"]),
                ]
            )
        for budget in each["budgets"]:
            held = f" ({_usd(budget['held_usd'])} held)" if float(budget["held_usd"]) else ""
            rows.append(
                [
                    each["scope"],
                    f"USD per {budget['per']}, {budget['mode']}" + _raised(budget),
                    _amount(budget["usd"]),
                    _usd(budget["remaining_usd"]) + held,
                    f"at {budget['resets_at']}" if budget["resets_at"] else "never",
                ]
            )
        rows += [
            [each["scope"], f"{name} in {share['cell']}", f"{amount:,}", "", ""]
            for share in each["shares"]
            for name, amount in share["limits"].items()
        ]
        if not each["limits"] and not each["budgets"]:
            rows.append([each["scope"], "no limits", "", "", ""])
    print_table(["scope", "limit", "is", "left", "frees"], rows, left=2)


def _raised(budget: dict[str, Any]) -> str:
    if budget["raised_usd"] is None:
        return ""
    return f", {_amount(budget['raised_usd'])} until {budget['raised_until']}"


def _amount(usd: float) -> str:
    """Return an amount that somebody has set, to the last digit of it."""
    return money([round(usd * 10**9)])[0]


def _usd(text: str) -> str:
    """Return an amount without the zeros that say nothing."""
    whole, _, part = text.partition(".")
    return f"{int(whole):,}.{part.rstrip('0').ljust(2, '0')}"


def _until(ms: int | None) -> str:
    return "" if not ms else f"in {ms / 1000:.1f} s"


_VERBS = {
    "show": _show,
    "set": _set,
    "raise": _raise,
    "events": _events,
    "silent": _silent,
    "free": _free,
}
