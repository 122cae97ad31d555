"""`penstock usage`: who used how much of what, from the ledger."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from console.tables import count, money, style, table
from console.whereabouts import Nowhere, add_ledger_option, ledger_file
from governance.usage import DIMENSIONS, BadQuestion, Sums, Usage, moment_us, usage
from store.sql import BadLedgerUrl, LedgerUnreachable

__all__ = ["run"]

_HEADS = ("requests", "attempts", "input", "cached", "output", "errors", "cost USD")


def run(argv: Sequence[str]) -> int:
    """Run the command: 0 answered, 2 misuse, 3 the ledger is out of reach."""
    options = _parser().parse_args(argv)
    now = datetime.now(UTC)
    try:
        path = ledger_file(options.ledger, options.config, os.environ, Path.cwd())
        answer = usage(
            path,
            options.by,
            since_us=moment_us(options.since, now),
            until_us=None if options.until is None else moment_us(options.until, now),
        )
    except (BadQuestion, BadLedgerUrl, Nowhere) as error:
        print(f"penstock usage: {error}", file=sys.stderr)
        return 2
    except LedgerUnreachable as error:
        print(f"penstock usage: {error}", file=sys.stderr)
        return 3
    if options.json:
        print(json.dumps(answer.as_json(), indent=2, ensure_ascii=False))
    else:
        _print(answer)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="penstock usage",
        allow_abbrev=False,
        description="Sums requests, tokens and cost over the ledger. Times are UTC.",
        epilog=f"dimensions: {', '.join(DIMENSIONS)}",
    )
    parser.add_argument(
        "--by", default="model", metavar="A,B", help="dimensions to group by (default: model)"
    )
    parser.add_argument(
        "--since",
        default="24h",
        metavar="TIME",
        help="30m, 24h, 7d, or a moment such as 2026-11-01 or 2026-11-01T08:30 (default: 24h)",
    )
    parser.add_argument(
        "--until", metavar="TIME", help="the end, not included (default: everything since)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_ledger_option(parser)
    return parser


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
    rows = [
        [*(value or "-" for value in group), *_cells(sums), cost]
        for group, sums, cost in zip(groups, every, costs, strict=True)
    ]
    rows[-1][: len(answer.by)] = groups[-1]
    head, *lines, total = table((*answer.by, *_HEADS), rows, left=len(answer.by))
    print(style(head, "bold", sys.stdout, os.environ))
    print("\n".join(lines))
    print(style(total, "bold", sys.stdout, os.environ))


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
