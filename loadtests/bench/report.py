"""Telling what was measured: a table for people, JSON for the record, and the machine it was measured on."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from loadtests import tables
from loadtests.bench.figures import Figure, plain, spread
from loadtests.bench.tools import Tools, version
from loadtests.machine import described

_PACKAGES = ("aiohttp", "hiredis", "httptools", "msgpack", "msgspec", "orjson", "redis", "uvloop")
_HEAD = ("what", "nginx", "penstock", "ratio", "target", "stretch", "verdict")


def table(figures: Sequence[Figure]) -> str:
    """Render the rows that have runs; the range of the runs stands in brackets."""
    rows = [_HEAD, *(_cells(figure) for figure in figures if figure.penstock)]
    return tables.lined_up(rows, {0, len(_HEAD) - 1})


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
        **described(*_PACKAGES),
        "nginx": version(tools.nginx),
        "wrk": version(tools.wrk).split(" Copyright")[0],
        "store": store_version,
    }
