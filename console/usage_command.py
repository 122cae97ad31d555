"""
`penstock usage`: who used how much of what, from the ledger.

`--report models` judges the models by it; that takes prices and qualities, so the running gateway is asked.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from console.gateway import Gateway, add_options
from console.operating import operate, path_to, print_json, print_table
from console.parser import Parser
from console.spreadsheet import write
from console.tables import count, money, style, table
from console.whereabouts import Nowhere, add_ledger_option, add_where_option, ledger_file
from governance.usage import DIMENSIONS, BadQuestion, Sums, Usage, moment_us, usage
from store.sql import BadLedgerUrl, LedgerUnreachable

__all__ = ["run"]

LEAST_NUSD = 50_000
"""A saving that is told: what is less is none, to a hundredth of a cent."""
_HEADS = ("requests", "attempts", "input", "cached", "output", "errors")
# What is not sold by the token is shown where something of it was used.
_UNITS: Mapping[str, Callable[[Sums], str]] = MappingProxyType(
    {
        "images": lambda sums: count(sums.images),
        "audio s": lambda sums: f"{sums.audio_us / 1e6:,.1f}",
        "characters": lambda sums: count(sums.characters),
        "search units": lambda sums: count(sums.search_units),
    }
)


def run(argv: Sequence[str]) -> int:
    """Run the command: 0 answered, 2 misuse, 3 the ledger is out of reach."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.report is not None:
        if options.by or options.ledger or options.csv or options.where:
            parser.error(
                "--report asks the running gateway: leave --by, --where, --ledger and --csv out"
            )
        return operate("penstock usage", options, _report)
    now = datetime.now(UTC)
    try:
        path = ledger_file(options.ledger, options.config, os.environ, Path.cwd())
        answer = usage(
            path,
            options.by or "model",
            since_us=moment_us(options.since or "24h", now),
            until_us=None if options.until is None else moment_us(options.until, now),
            where=dict(options.where),
        )
    except (BadQuestion, BadLedgerUrl, Nowhere) as error:
        print(f"penstock usage: {error}", file=sys.stderr)
        return 2
    except LedgerUnreachable as error:
        print(f"penstock usage: {error}", file=sys.stderr)
        return 3
    if options.json:
        print(json.dumps(answer.as_json(), indent=2, ensure_ascii=False))
    elif options.csv:
        heads = (*answer.by, *(field.name for field in fields(Sums)), "cost_usd")
        rows = answer.as_json()["rows"]
        write(heads, ([row[name] for name in heads] for row in rows), sys.stdout)
    else:
        _print(answer)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="penstock usage",
        description="Sums requests, tokens and cost over the ledger. Times are UTC.",
        epilog=f"dimensions: {', '.join(DIMENSIONS)}",
    )
    parser.add_argument("--by", metavar="A,B", help="dimensions to group by (default: model)")
    parser.add_argument(
        "--report",
        choices=("models",),
        help="judge instead: which models are dear and underperform, which are cheap and good, what"
        " routing saved (asks the running gateway)",
    )
    parser.add_argument(
        "--since",
        metavar="TIME",
        help="30m, 24h, 7d, or a moment such as 2026-11-01 or 2026-11-01T08:30 (default: 24h; 7d"
        " for a report)",
    )
    parser.add_argument(
        "--until", metavar="TIME", help="the end, not included (default: everything since)"
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON")
    shape.add_argument(
        "--csv", action="store_true", help="print CSV: the rows with every sum, without the total"
    )
    add_where_option(parser)
    add_ledger_option(parser)
    add_options(parser, config=False)
    return parser


def _report(gateway: Gateway, options: argparse.Namespace) -> int:
    """Ask for the judgement about models, and print it."""
    said = [("since", options.since), ("until", options.until)]
    query = [(name, text) for name, text in said if text is not None]
    answer = gateway.ask("GET", path_to("usage", "models", query=query))
    if options.json:
        print_json(answer)
    elif answer["rows"]:
        _print_models(answer)
    else:
        print("Nothing was used in that time.")
    return 0


def _print_models(answer: Any) -> None:
    """Print each model with its verdict, and what routing saved."""
    tasks = any(row["task"] for row in answer["rows"])
    rows = [
        [
            *([row["task"] or "-"] if tasks else []),
            row["model"],
            _verdict(row),
            count(row["requests"]),
            _share(row["attempts"] - row["errors"], row["attempts"]),
            count(row["ttft_us"] // 1000),
            "-" if row["quality"] is None else f"{row['quality']:.2f}",
            "-" if row["worth"] is None else f"{row['worth']:.2f}",
            "-" if row["price_nusd"] is None else _short(row["price_nusd"]),
            _short(row["cost_nusd"]),
        ]
        for row in answer["rows"]
    ]
    heads = ["task"] if tasks else []
    heads += ["model", "verdict", "requests", "answered", "TTFT ms", "quality", "worth"]
    print_table([*heads, "USD/1k calls", "cost USD"], rows, left=3 if tasks else 2)
    best = answer["best"]
    if best is None:
        print(
            "No model that was used has a quality and a price (models.<name>.quality): no verdict."
        )
        return
    saved, whole = answer["saved_nusd"], best["cost_nusd"]
    word = "saved" if saved >= 0 else "cost"
    print(
        f"The best single model is {best['model']} (worth {best['worth']:.2f}): everything there"
        f" would have cost {_short(whole)} USD.\n"
        f"It did cost {_short(answer['cost_nusd'])} USD at a worth of {answer['worth']:.2f}: routing"
        f" {word} {_short(abs(saved))} USD{' more' if saved < 0 else ''}"
        f" ({_share(abs(saved), whole)})."
    )


def _verdict(row: Mapping[str, Any]) -> str:
    """Return the word for a model, and which other one would have been better."""
    if not row["instead"]:
        return str(row["verdict"])
    saved = row["could_save_nusd"]
    # Where calls were few, or in vain, there was nothing to be saved.
    better = f"saves {_short(saved)} USD" if saved >= LEAST_NUSD else "costs less"
    return f"{row['verdict']}: {row['instead']} {better}"


def _short(nusd: int) -> str:
    """Return an amount to a hundredth of a cent, for judgement and not for bills."""
    return f"{nusd / 1e9:,.4f}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _print(answer: Usage) -> None:
    """Print the groups, and their sum below."""
    if not answer.rows:
        since = answer.as_json()["since"]
        print(
            f"Nothing was used from {since} on."
            if answer.until_us is None
            else f"Nothing was used from {since} to before {answer.as_json()['until']}."
        )
        return
    every = [*(row.sums for row in answer.rows), answer.total]
    costs = money([sums.cost_nusd for sums in every])
    groups = [*(row.group for row in answer.rows), ("total", *[""] * (len(answer.by) - 1))]
    total = answer.total
    used = (total.images, total.audio_us, total.characters, total.search_units)
    units = [name for name, some in zip(_UNITS, used, strict=True) if some]
    rows = [
        [
            *(value or "-" for value in group),
            *_cells(sums),
            *(_UNITS[name](sums) for name in units),
            cost,
        ]
        for group, sums, cost in zip(groups, every, costs, strict=True)
    ]
    rows[-1][: len(answer.by)] = groups[-1]
    heads = (*answer.by, *_HEADS, *units, "cost USD")
    head, *lines, last = table(heads, rows, left=len(answer.by))
    print(style(head, "bold", sys.stdout, os.environ))
    print("\n".join(lines))
    print(style(last, "bold", sys.stdout, os.environ))


def _cells(sums: Sums) -> list[str]:
    """Return the counts of a row in the order of the heads."""
    return [
        count(sums.requests),
        count(sums.attempts),
        count(sums.input_tokens),
        count(sums.cached_tokens),
        count(sums.output_tokens),
        count(sums.errors),
    ]
