"""Telling what a drill found: tables for people, JSON with seed and machine for the record."""

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from loadtests.drills.books import Comparison, Error
from loadtests.drills.load import Call
from loadtests.machine import described
from loadtests.tables import lined_up

_PACKAGES = ("aiohttp", "hiredis", "redis", "uvloop")


def spread(values: Sequence[float]) -> str:
    """Render median and maximum."""
    return f"{median(values):.1f} / {max(values):.1f}" if values else "-"


def counts(calls: Sequence[Call]) -> dict[str, int]:
    """Count calls by what became of them; refused ones by their status."""
    found: dict[str, int] = {}
    for call in calls:
        name = f"{call.status} {call.code}" if call.ended == "refused" else call.ended
        found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def books_table(compared: Comparison) -> str:
    """Render a comparison."""
    rows: list[tuple[object, ...]] = [
        ("attempts in the ledger", "count"),
        ("equal to the vendor's books, to the token and nano-USD", compared.exact),
        ("refused or never sent: nothing charged, nothing served", compared.free),
        ("estimated, because the caller left or the stream was cut", len(compared.estimated)),
        ("reaped", len(compared.reaped)),
        ("  of them settled later: the difference was booked", compared.corrected),
        ("all", compared.attempts),
        ("served, and lost by a fault that may lose it", compared.excused),
        ("laws broken", len(compared.broken)),
    ]
    lines = [lined_up(rows)]
    for what, errors in (("estimated", compared.estimated), ("reaped", compared.reaped)):
        if errors:
            lines += ["", f"{what}: charged minus served", lined_up(error_rows(errors))]
    return "\n".join(lines)


def error_rows(errors: Sequence[Error]) -> list[tuple[object, ...]]:
    """Group errors by what kind of attempt it was."""
    rows: list[tuple[object, ...]] = [
        ("kind", "attempts", "input min/max", "output min/max", "stream s med/max", "USD sum")
    ]
    groups = {
        "paced streams": [e for e in errors if e.heard and e.stream and e.stream_s],
        "streams, nothing missing": [e for e in errors if e.heard and e.stream and not e.stream_s],
        "whole answers": [e for e in errors if e.heard and not e.stream],
        "the vendor never heard of": [e for e in errors if not e.heard],
    }
    rows += [
        (
            name,
            len(group),
            f"{min(e.input_error for e in group)} / {max(e.input_error for e in group)}",
            f"{min(e.output_error for e in group)} / {max(e.output_error for e in group)}",
            spread([e.stream_s for e in group]),
            f"{sum(e.cost_error_nusd for e in group) / 1e9:.6f}",
        )
        for name, group in groups.items()
        if group
    ]
    return rows


def machine(store_version: str) -> dict[str, Any]:
    """Describe what it ran on; names no person, host or path."""
    return {
        **described(*_PACKAGES),
        "store": store_version,
        "load_average": [round(one, 2) for one in os.getloadavg()],
    }


def write(path: Path, document: dict[str, Any]) -> None:
    """Write a record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
