"""
A run as one document: figures by scenario and tenant, curves over time, distributions, and the generator's health.

Pure: records and samples go in, a document of plain JSON comes out, which the report draws and the guard judges.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec

from loadtests import health
from loadtests.engine import Health
from loadtests.metrics import NAMES, Record, meets, percentile

KIND = "penstock-load"
VERSION = 1
_MOST_POINTS = 300
_CDF_SHARES = (
    *(share / 100 for share in range(100)),
    *(0.991, 0.992, 0.993, 0.994, 0.995, 0.996, 0.997, 0.998, 0.999, 1.0),
)
_WIDTHS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)


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


@dataclass(frozen=True, slots=True)
class Span:
    """One stretch of load, in seconds of the records' clock: its first call's start, its last call's start, its last answer's end."""

    begin_s: float
    last_s: float
    end_s: float


def span_of(records: Iterable[Record]) -> Span | None:
    """Give the stretch of load that records are of, `None` without any."""
    begin = last = end = None
    for record in records:
        if begin is None or last is None or end is None:
            begin = last = end = record.at_s
        begin, last = min(begin, record.at_s), max(last, record.at_s)
        if record.counts:
            end = max(end, record.at_s + record.took_ms / 1000)
    if begin is None or last is None or end is None:
        return None
    return Span(begin, last, end)


@dataclass(frozen=True, slots=True)
class Times:
    """
    What rates are over: seconds in which calls began, and seconds until the last of them had its answer.

    The first is what a load is said in; the second is AIPerf's benchmark duration, which throughput and goodput are over.
    """

    begun_s: float = 1.0
    whole_s: float = 1.0


def times_of(records: Sequence[Record], spans: Iterable[Span]) -> Times:
    """Give the times of those stretches that these records are in; each counts as a second at least."""
    starts = sorted(record.at_s for record in records)
    own = [
        span
        for span in spans
        if (at := bisect_left(starts, span.begin_s)) < len(starts) and starts[at] <= span.last_s
    ]
    if not own:
        return Times()
    return Times(
        sum(max(span.last_s - span.begin_s, 1.0) for span in own),
        sum(max(span.end_s - span.begin_s, 1.0) for span in own),
    )


def figures_of(
    records: Sequence[Record], objectives: dict[str, float], times: Times
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
        "rate": round(len(counting) / times.begun_s, 3),
        "throughput": round((len(counting) - failed.total()) / times.whole_s, 3),
        "goodput": round(good / times.whole_s, 3),
        "good_share": good / len(counting) if counting else 0.0,
        "tokens": tokens,
        "tokens_s": round(tokens / times.whole_s, 2),
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
    spans: Sequence[Span] = (),
    parts: bool = False,
) -> dict[str, Any]:
    """
    Make the document of a run; `about` (title, configuration, machine) is kept as it is.

    Several runs in one document are told apart by their `spans`; with `parts` the curves are of their scenarios one by one, because they share no axis.
    """
    counting = [record for record in records if record.counts]
    whole = span_of(records) or Span(0.0, 0.0, 1.0)
    spans = spans or (whole,)
    document = {
        "kind": KIND,
        "version": VERSION,
        **about,
        "begin_s": whole.begin_s,
        "seconds": round(max(whole.end_s - whole.begin_s, 1.0), 3),
        "objectives": objectives,
        "total": figures_of(records, objectives, times_of(records, spans)),
        "by_base": _figures(_groups(records, lambda record: record.base), objectives, spans),
        "by_scenario": _figures(
            _groups(records, lambda record: f"{record.base} · {record.scenario}"), objectives, spans
        ),
        "by_tenant": _figures(
            _groups(records, lambda record: f"{record.base} · {record.tenant}"), objectives, spans
        ),
        "fairness": fairness(records, objectives),
        "health": _health_over_time(samples, whole.begin_s),
        "warnings": health.warnings(samples, counting),
    }
    if parts:
        scenarios = _groups(counting, lambda record: record.scenario)
        document["parts"] = [
            {"name": name, **_curves(group, whole, objectives)} for name, group in scenarios.items()
        ]
    else:
        document |= _curves(counting, whole, objectives)
    return document


def by_scenario(records: Sequence[Record], objectives: dict[str, float]) -> dict[str, Any]:
    """Give the figures by base and scenario only, which is what a page that is looked at meanwhile wants."""
    groups = _groups(records, lambda record: f"{record.base} · {record.scenario}")
    span = span_of(records)
    return _figures(groups, objectives, (span,) if span else ())


def _groups(records: Iterable[Record], name_of: Callable[[Record], str]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[name_of(record)].append(record)
    return dict(sorted(groups.items()))


def _figures(
    groups: dict[str, list[Record]], objectives: dict[str, float], spans: Sequence[Span]
) -> dict[str, Any]:
    return {
        name: figures_of(group, objectives, times_of(group, spans))
        for name, group in groups.items()
    }


def _curves(records: Sequence[Record], span: Span, objectives: dict[str, float]) -> dict[str, Any]:
    seconds = max(span.end_s - span.begin_s, 1.0)
    return {
        "over_time": _over_time(records, span.begin_s, seconds, objectives),
        "cdf": _cdfs(records),
    }


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
            for at in range(min(bins), max(bins) + 1)
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
