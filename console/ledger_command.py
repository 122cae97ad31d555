"""`penstock ledger`: `verify` proves the books, `show` tells what became of one exchange, `export` gives all of it away."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from config import live
from console.parser import Parser
from console.spreadsheet import write
from console.tables import count, money, style, table
from console.whereabouts import (
    Nowhere,
    add_ledger_option,
    add_redis_option,
    add_where_option,
    ledger_file,
    redis_url,
)
from governance.exchanges import find_exchange, in_database
from governance.exports import FIELDS, entries
from governance.ledger import OUTCOMES
from governance.reconcile import Balance, Verdict, verify
from governance.usage import BadQuestion, moment_us, usd
from store.cells import FIRST, Cell
from store.sql import BadLedgerUrl, LedgerUnreachable
from store.topology import BadStoreUrl, client, target

__all__ = ["run"]

_WORDS = {
    "entries": "entries",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "cost_nusd": "cost",
}


def run(argv: Sequence[str]) -> int:
    """Run the command: 0 it is so, 1 it is not, 2 misuse, 3 the store or the ledger is out of reach."""
    options = _parser().parse_args(argv)
    if options.verb == "export":
        return _export(options)
    try:
        url = redis_url(options.redis, options.config, os.environ, Path.cwd())
        where = str(target(url))
        path = ledger_file(options.ledger, options.config, os.environ, Path.cwd())
    except (BadLedgerUrl, BadStoreUrl, Nowhere) as error:
        print(f"penstock ledger: {error}", file=sys.stderr)
        return 2
    try:
        if options.verb == "verify":
            return asyncio.run(_verify(url, path, as_json=options.json))
        return asyncio.run(_show(url, path, options.request_id, as_json=options.json))
    except LedgerUnreachable as error:
        print(f"penstock ledger: {error}", file=sys.stderr)
    except (RedisError, OSError) as error:
        print(
            f"penstock ledger: the store at {where} does not answer: {error}\n"
            "                 is the gateway running? (./penstock up)",
            file=sys.stderr,
        )
    return 3


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="penstock ledger",
        description="The record of every attempt, and the proof of its sums.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verify | show | export")
    proof = verbs.add_parser(
        "verify",
        help="prove that the counters are what stream and database hold",
        description="Compares the store's counters with the ledger, to the token and the nano-USD, also while"
        " calls run. Exit code 0: equal; 1: different, and every difference is printed;"
        " 3: the store or the ledger is out of reach.",
    )
    show = verbs.add_parser(
        "show",
        help="tell what became of one exchange",
        description="Prints every entry of an exchange. Exit code 1: there is none.",
    )
    show.add_argument("request_id", metavar="REQUEST_ID", help="as x-request-id says")
    for each in (proof, show):
        each.add_argument("--json", action="store_true", help="print JSON")
        add_redis_option(each)
        add_ledger_option(each)
    export = verbs.add_parser(
        "export",
        help="print every entry of a span of time, as CSV or JSON",
        description="Prints the entries of the ledger in the order of time, for a spreadsheet, a warehouse or"
        " a bill: one line each, corrections as lines of their own, so that costs add up. Only the database is"
        " read. Exit code 3: it is out of reach.",
        epilog="example: ./penstock ledger export --since 2026-11-01 --until 2026-12-01 > november.csv",
    )
    export.add_argument(
        "--since", metavar="TIME", default="24h", help="as for `penstock usage` (default: 24h)"
    )
    export.add_argument(
        "--until", metavar="TIME", help="the end, not included (default: everything since)"
    )
    export.add_argument(
        "--format",
        choices=["csv", "jsonl"],
        default="csv",
        help="csv with a head, or one JSON object per line (default: csv)",
    )
    add_where_option(export)
    add_ledger_option(export)
    return parser


@asynccontextmanager
async def _stores(url: str) -> AsyncIterator[dict[Cell, Redis]]:
    """Give a client to each cell of a store."""
    async with AsyncExitStack() as ours:

        def connected(cell: Cell) -> Redis:
            store = client(url, cell=cell, connections=1)
            ours.push_async_callback(store.aclose)
            return store

        home = connected(FIRST)
        others = (await live.noted_cells(home))[1:]
        yield {FIRST: home} | {cell: connected(cell) for cell in others}


# export...


def _export(options: argparse.Namespace) -> int:
    """Print every entry of a span."""
    now = datetime.now(UTC)
    try:
        found: Iterator[dict[str, str | int]] = entries(
            ledger_file(options.ledger, options.config, os.environ, Path.cwd()),
            since_us=moment_us(options.since, now),
            until_us=None if options.until is None else moment_us(options.until, now),
            where=dict(options.where),
        )
        # Before anything is printed: a ledger that cannot be read gives no file that looks like an empty one
        found = chain(list(islice(found, 1)), found)
        if options.format == "csv":
            write(FIELDS, (list(entry.values()) for entry in found), sys.stdout)
        else:
            for entry in found:
                print(json.dumps(entry, ensure_ascii=False))
    except (BadQuestion, BadLedgerUrl, Nowhere) as error:
        print(f"penstock ledger: {error}", file=sys.stderr)
        return 2
    except LedgerUnreachable as error:
        print(f"penstock ledger: {error}", file=sys.stderr)
        return 3
    return 0


# verify...


async def _verify(url: str, path: Path, *, as_json: bool) -> int:
    """Compare, and say what came of it."""
    async with _stores(url) as stores:
        verdict = await verify(stores, path)
    if as_json:
        print(json.dumps(verdict.as_json(), indent=2))
    else:
        print("\n".join(_said(verdict)))
    return 0 if verdict.is_equal() else 1


def _said(verdict: Verdict) -> list[str]:
    """Return the verdict in words."""
    counters, difference = verdict.counters, verdict.difference
    out, environ = sys.stdout, os.environ
    if verdict.is_equal():
        lines = [
            style("The books agree", "green", out, environ)
            + f": the counters are what stream and database hold, {_entries(counters.entries)},"
            f" {count(counters.input_tokens)} input and {count(counters.output_tokens)} output tokens,"
            f" {usd(counters.cost_nusd)} USD."
        ]
    else:
        lines = [style("The books do not agree with the counters:", "red", out, environ)]
        for name, word in _WORDS.items():
            off = getattr(difference, name)
            if off:
                which = f"{count(abs(off))} {word}"
                if name == "cost_nusd":
                    which = f"{usd(abs(off))} USD of cost"
                elif name == "entries":
                    which = _entries(abs(off))
                lines.append(f"  {which} {'missing in' if off > 0 else 'too many in'} the books")
        if len(verdict.unequal) > 1:
            lines.append(f"  in each of the cells {', '.join(verdict.unequal)}")
    lines += ["", *_balances(verdict)]
    if verdict.rejected:
        lines += ["", f"Rejected: {count(verdict.rejected)}; no entry, or an attempt's second one."]
    earlier = verdict.earlier
    if earlier.entries:
        cost = usd(earlier.cost_nusd)
        lines += [
            "",
            f"Not compared: {_entries(earlier.entries)}, {cost} USD, of earlier stores.",
        ]
    return lines


def _entries(number: int) -> str:
    return f"{count(number)} {'entry' if number == 1 else 'entries'}"


def _balances(verdict: Verdict) -> list[str]:
    """Return the sums side by side."""
    named = {
        "counters": verdict.counters,
        "database": verdict.database,
        "stream": verdict.stream,
        "difference": verdict.difference,
    }
    costs = money([balance.cost_nusd for balance in named.values()])
    rows = [
        [name, *_counts(balance), cost]
        for (name, balance), cost in zip(named.items(), costs, strict=True)
    ]
    return table(("", "entries", "input tokens", "output tokens", "cost USD"), rows, left=1)


def _counts(balance: Balance) -> list[str]:
    """Return the counts of a balance."""
    return [count(balance.entries), count(balance.input_tokens), count(balance.output_tokens)]


# show...


async def _show(url: str, path: Path, request_id: str, *, as_json: bool) -> int:
    """Look in the stream and in the database; without a store in the database alone."""
    try:
        async with _stores(url) as stores:
            entries = await find_exchange(stores, path, request_id)
    except (RedisError, OSError) as error:
        entries = await asyncio.to_thread(in_database, path, request_id)
        if not entries:
            raise
        print(
            f"penstock ledger: the store does not answer ({error});"
            " what is not in the database yet is not shown",
            file=sys.stderr,
        )
    if as_json:
        print(json.dumps({"entries": entries}, indent=2, ensure_ascii=False))
    elif entries:
        print("\n\n".join("\n".join(_told(entry)) for entry in entries))
    else:
        print(f"There is no entry of {request_id!r}.", file=sys.stderr)
    return 0 if entries else 1


def _told(entry: dict[str, Any]) -> list[str]:
    """Return an entry for people: the story first, then the rest."""
    at = datetime.fromtimestamp(entry["at_us"] // 1_000_000, UTC)
    head = style(f"attempt {entry['attempt_id']}", "bold", sys.stdout, os.environ)
    rows = {
        "admitted": f"{at:%Y-%m-%d %H:%M:%S}.{entry['at_us'] % 1_000_000 // 1000:03d} UTC by {entry['replica'] or '-'}",
        "caller": f"key {entry['key']}, user {entry['user'] or '-'}, application"
        f" {entry['application'] or '-'}, business line {entry['business_line'] or '-'}",
        "asked": f"{entry['model_asked']} ({entry['protocol']}{', streamed' if entry['stream'] else ''})",
        "served": f"{entry['model']} at {entry['deployment']} ({entry['provider']}), because: {entry['reason']}",
        "outcome": f"{entry['outcome']}: {OUTCOMES.get(entry['outcome'], '?')}"
        + (f" (HTTP {entry['status']})" if entry["status"] else ""),
        "input": f"{count(entry['input_tokens'])} tokens, {count(entry['cached_tokens'])} of them cached,"
        f" {count(entry['cache_write_tokens'])} written to the cache, {count(entry['audio_input_tokens'])} audio",
        "output": f"{count(entry['output_tokens'])} tokens, {count(entry['reasoning_tokens'])} of them reasoning,"
        f" {count(entry['audio_output_tokens'])} audio (counted by: {entry['token_source']})",
        **_units(entry),
        "cost": f"{usd(entry['cost_nusd'])} USD at {entry['price_version'] or 'no price'}",
        "time": f"first byte {entry['ttft_us'] / 1000:.1f} ms, all {entry['duration_us'] / 1000:.1f} ms,"
        f" added by the gateway {entry['added_us'] / 1000:.2f} ms",
    }
    return [head, *(f"  {name:<9}{value}" for name, value in rows.items())]


def _units(entry: dict[str, Any]) -> dict[str, str]:
    """Return the line of what is not sold by the token; none where nothing of it was used."""
    said = {
        "images": "images",
        "characters": "characters",
        "search_units": "search units",
    }
    parts = [f"{count(entry[name])} {words}" for name, words in said.items() if entry[name]]
    parts += [
        f"{entry[f'audio_{way}_us'] / 1e6:,.1f} s of audio {words}"
        for way, words in (("input", "sent"), ("output", "made"))
        if entry[f"audio_{way}_us"]
    ]
    return {"beside": ", ".join(parts)} if parts else {}
