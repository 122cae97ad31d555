"""Telling what a drill found: tables for people, JSON with seed and machine for the record."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from loadtests.bench.ground import ROOT
from loadtests.drills.books import Comparison, Error
from loadtests.drills.load import Call

_PACKAGES = ("aiohttp", "hiredis", "redis", "uvloop")


def table(rows: Sequence[Sequence[object]]) -> str:
    """Render rows, the first being the head; the first column is text, the others stand to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in cells) for at in range(len(cells[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


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
    lines = [table(rows)]
    for what, errors in (("estimated", compared.estimated), ("reaped", compared.reaped)):
        if errors:
            lines += ["", f"{what}: charged minus served", table(error_rows(errors))]
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
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "store": store_version,
        "load_average": [round(one, 2) for one in os.getloadavg()],
        "commit": _git("rev-parse", "HEAD"),
        "changed_since": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def write(path: Path, document: dict[str, Any]) -> None:
    """Write a record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")


def _git(*arguments: str) -> str:
    told = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return told.stdout.strip()
