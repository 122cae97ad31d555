"""
A run as one document: figures by scenario and tenant, curves over time, distributions, and the generator's health.

Pure: records and samples go in, a document of plain JSON comes out, which the report draws and the guard judges.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from loadtests import health
from loadtests.engine import Health
from loadtests.metrics import NAMES, Record, meets

KIND = "penstock-load"
VERSION = 1
_MOST_POINTS = 300
_CDF_SHARES = (
    *(share / 100 for share in range(100)),
    *(0.991, 0.992, 0.993, 0.994, 0.995, 0.996, 0.997, 0.998, 0.999, 1.0),
)
_WIDTHS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Give the smallest value that at least this share of sorted values does not exceed (nearest rank)."""
    if not ordered:
        raise ValueError("no values, no percentile")
    rank = -(-len(ordered) * share // 1)
    return ordered[max(0, min(len(ordered), int(rank)) - 1)]


def spread_of(values: Iterable[float]) -> dict[str, float] | None:
    """Give count, mean and percentiles, `None` of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    return {
        "count": len(ordered),
        "mean": round(sum(ordered) / len(ordered), 4),
        **{
            f"p{name}": round(percentile(ordered, share), 4)
            for name, share in (
                ("50", 0.5),
                ("90", 0.9),
                ("95", 0.95),
                ("99", 0.99),
                ("999", 0.999),
            )
        },
        "max": round(ordered[-1], 4),
    }


def values_of(records: Iterable[Record], metric: str) -> list[float]:
    """Give the values of a metric in milliseconds, of calls that went as meant; `icl` are all gaps of all streams."""
    fine = (record for record in records if record.fine)
    if metric == "icl":
        return [gap / 1000 for record in fine for gap in record.gaps_us]
    if metric == "tok_s":
        return [1000 / record.itl_ms for record in fine if record.itl_ms]
    found = (getattr(record, f"{metric}_ms") for record in fine)
    return [value for value in found if value is not None]


def figures_of(
    records: Sequence[Record], objectives: dict[str, float], seconds: float
) -> dict[str, Any]:
    """Give the figures of one group of records."""
    counting = [record for record in records if record.counts]
    failed = Counter(record.outcome for record in counting if not record.fine)
    good = sum(meets(record, objectives) for record in counting)
    tokens = sum(record.tokens for record in counting)
    shed = [record.took_ms for record in counting if record.status in {429, 503, 529}]
    document: dict[str, Any] = {
        "calls": len(counting),
        "ok": len(counting) - failed.total(),
        "unfinished": len(records) - len(counting),
        "errors": dict(failed.most_common()),
        "error_share": failed.total() / len(counting) if counting else 0.0,
        "details": _details(counting),
        "rate": round(len(counting) / seconds, 3),
        "goodput": round(good / seconds, 3),
        "good_share": good / len(counting) if counting else 0.0,
        "tokens": tokens,
        "tokens_s": round(tokens / seconds, 2),
        "late_ms": spread_of(record.late_ms for record in counting),
        "shed_ms": spread_of(shed),
    }
    for metric in (*NAMES, "icl", "tok_s"):
        document[metric] = spread_of(values_of(counting, metric))
    return document


def _details(records: Iterable[Record]) -> dict[str, str]:
    """Give one example in words per kind of error."""
    return {record.outcome: record.detail for record in records if not record.fine}


def summarize(
    records: Sequence[Record],
    samples: Sequence[Health],
    *,
    objectives: dict[str, float],
    about: dict[str, Any],
) -> dict[str, Any]:
    """Make the document of a run; `about` (title, configuration, machine) is kept as it is."""
    counting = [record for record in records if record.counts]
    begin = min((record.at_s for record in records), default=0.0)
    end = max((record.at_s + record.took_ms / 1000 for record in counting), default=begin + 1)
    # Rates are of the time in which calls began: the drain at the end is no load.
    last = max((record.at_s for record in records), default=begin)
    seconds = max(last - begin, 1.0)
    return {
        "kind": KIND,
        "version": VERSION,
        **about,
        "begin_s": begin,
        "seconds": round(seconds, 3),
        "objectives": objectives,
        "total": figures_of(records, objectives, seconds),
        "by_base": _group(records, lambda record: record.base, objectives, seconds),
        "by_scenario": _group(
            records, lambda record: f"{record.base} · {record.scenario}", objectives, seconds
        ),
        "by_tenant": _group(
            records, lambda record: f"{record.base} · {record.tenant}", objectives, seconds
        ),
        "fairness": fairness(records, objectives),
        "over_time": _over_time(counting, begin, max(end - begin, 1.0), objectives),
        "cdf": _cdfs(counting),
        "health": _health_over_time(samples, begin),
        "warnings": health.warnings(samples, counting),
    }


def _group(
    records: Sequence[Record],
    name_of: Callable[[Record], str],
    objectives: dict[str, float],
    seconds: float,
) -> dict[str, Any]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[name_of(record)].append(record)
    return {name: figures_of(group, objectives, seconds) for name, group in sorted(groups.items())}


def fairness(records: Sequence[Record], objectives: dict[str, float]) -> float | None:
    """
    Give Jain's index over the tenants' shares of good calls: 1 is equal shares, 1/n is one tenant taking all.

    Source: R. Jain, D. Chiu, W. Hawe, "A Quantitative Measure of Fairness", DEC-TR-301, 1984.
    """
    asked: Counter[str] = Counter()
    got: Counter[str] = Counter()
    for record in records:
        if record.counts:
            asked[record.tenant] += 1
            got[record.tenant] += meets(record, objectives)
    shares = [got[tenant] / asked[tenant] for tenant in asked]
    squares = sum(share * share for share in shares)
    return round(sum(shares) ** 2 / (len(shares) * squares), 4) if squares else None


def width_for(seconds: float) -> int:
    """Give the width of a bin that makes at most a few hundred of a run."""
    return next((width for width in _WIDTHS_S if seconds / width <= _MOST_POINTS), _WIDTHS_S[-1])


def _over_time(
    records: Sequence[Record], begin: float, seconds: float, objectives: dict[str, float]
) -> dict[str, Any]:
    width = width_for(seconds)
    bases: dict[str, Any] = {}
    for base in sorted({record.base for record in records}):
        bins: dict[int, list[Record]] = defaultdict(list)
        for record in records:
            if record.base == base:
                bins[int((record.at_s - begin) / width)].append(record)
        bases[base] = [
            _point(at * width, width, bins.get(at, []), objectives)
            for at in range(max(bins, default=0) + 1)
        ]
    return {"width_s": width, "bases": bases}


def _point(
    at_s: float, width: float, records: Sequence[Record], objectives: dict[str, float]
) -> dict[str, Any]:
    point: dict[str, Any] = {
        "at_s": at_s,
        "rate": round(len(records) / width, 3),
        "errors": round(sum(not record.fine for record in records) / width, 3),
        "goodput": round(sum(meets(record, objectives) for record in records) / width, 3),
        "tokens_s": round(sum(record.tokens for record in records) / width, 1),
    }
    for metric in ("ttft", "e2e"):
        ordered = sorted(values_of(records, metric))
        if ordered:
            point[metric] = {
                "p50": percentile(ordered, 0.5),
                "p95": percentile(ordered, 0.95),
                "p99": percentile(ordered, 0.99),
            }
    return point


def _cdfs(records: Sequence[Record]) -> dict[str, Any]:
    curves: dict[str, Any] = {}
    for base in sorted({record.base for record in records}):
        own = [record for record in records if record.base == base]
        curves[base] = {}
        for metric in ("ttft", "e2e", "itl", "icl"):
            ordered = sorted(values_of(own, metric))
            if ordered:
                points = [(percentile(ordered, share), share) for share in _CDF_SHARES]
                curves[base][metric] = [
                    point for point, after in pairwise(points) if point != after
                ] + [points[-1]]
    return curves


def _health_over_time(samples: Sequence[Health], begin: float) -> dict[str, Any]:
    processes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for sample in samples:
        row = msgspec.to_builtins(sample)
        row["at_s"] = round(sample.at_s - begin, 2)
        processes[row.pop("process")].append(row)
    return {name: _thin(rows) for name, rows in sorted(processes.items())}


def _thin(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep at most a few hundred rows, of each stretch the one with the most CPU: peaks are what one looks for."""
    if len(rows) <= _MOST_POINTS:
        return rows
    step = -(-len(rows) // _MOST_POINTS)
    return [
        max(rows[at : at + step], key=lambda row: row["cpu"]) for at in range(0, len(rows), step)
    ]
