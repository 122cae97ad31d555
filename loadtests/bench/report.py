"""Telling what was measured: a table for people, JSON for the record, and the machine it was measured on."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from loadtests.bench.figures import Figure, plain, spread
from loadtests.bench.ground import ROOT
from loadtests.bench.tools import Tools, version

_PACKAGES = ("aiohttp", "hiredis", "httptools", "msgpack", "msgspec", "orjson", "redis", "uvloop")
_HEAD = ("what", "nginx", "penstock", "ratio", "target", "stretch", "verdict")


def table(figures: Sequence[Figure]) -> str:
    """Render the rows that have runs; the range of the runs stands in brackets."""
    rows = [_HEAD, *(_cells(figure) for figure in figures if figure.penstock)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
    lines = [
        "  ".join(
            cell.ljust(width) if at in {0, 6} else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _cells(figure: Figure) -> tuple[str, ...]:
    row = figure.row
    ratios = figure.ratios()
    bound = "≥" if row.higher_is_better else "≤"
    unit = "x" if row.ratio else row.unit
    return (
        row.what,
        f"{plain(median(figure.nginx))} {row.unit}" if figure.nginx else "-",
        f"{plain(median(figure.penstock))} {row.unit}{_brackets(figure.penstock)}",
        f"{plain(median(ratios))} x{_brackets(ratios)}" if ratios and row.ratio else "-",
        f"{bound} {plain(row.target)} {unit}",
        f"{bound} {plain(row.stretch)} {unit}",
        figure.verdict(),
    )


def _brackets(values: Sequence[float]) -> str:
    between = spread(values)
    return f" ({between})" if between else ""


def document(
    figures: Sequence[Figure],
    raw: Sequence[dict[str, Any]],
    method: dict[str, Any],
    about: dict[str, Any],
) -> dict[str, Any]:
    """Give everything that another person needs to judge or repeat the bench."""
    return {
        "machine": about,
        "method": method,
        "rows": [
            {
                "name": figure.row.name,
                "what": figure.row.what,
                "unit": figure.row.unit,
                "ratio_to_nginx": figure.row.ratio,
                "target": figure.row.target,
                "stretch": figure.row.stretch,
                "nginx": [round(value, 4) for value in figure.nginx],
                "penstock": [round(value, 4) for value in figure.penstock],
                "judged": round(figure.judged(), 4),
                "verdict": figure.verdict(),
            }
            for figure in figures
            if figure.penstock
        ],
        "runs": list(raw),
    }


def machine(tools: Tools, store_version: str) -> dict[str, Any]:
    """Describe what it ran on; names no person, host or path."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "nginx": version(tools.nginx),
        "wrk": version(tools.wrk).split(" Copyright")[0],
        "store": store_version,
        "commit": _git("rev-parse", "HEAD"),
        "changed_since": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(*arguments: str) -> str:
    told = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return told.stdout.strip()
