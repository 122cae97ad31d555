"""
One page of metrics for all workers: asked for, summed, spoken in Prometheus' words.

Every worker serves its counts as JSON on `edge-<N>.sock`, with the table that explains them; the
control role's own counts have the same form.
Counters and histograms are summed, gauges as well, except that of a version the lowest is told.
A worker that was replaced keeps its last counts in the sums, so that counters never step back; its
gauges end with it.
What it counted after it was last asked is lost with it: a few seconds of metrics, never of the ledger.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp
import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "CONTROL_METRICS", "Fleet", "Row", "control_snapshot"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SEPARATOR = "\x1f"
_ASK_WITHIN_S = 2.0

Kind = Literal["counter", "gauge", "histogram"]
Values = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """One metric: `labels` are bounded, `buckets` are the upper bounds of a histogram."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


CONTROL_METRICS = (
    Row("penstock_workers", "gauge", "Edges of this machine that answer."),
    Row(
        "penstock_config_acknowledged_version",
        "gauge",
        "Latest version of the configuration that a live replica runs, or could not take.",
        ("replica",),
    ),
    Row(
        "penstock_config_refused",
        "gauge",
        "1 where a live replica said that it cannot take the latest configuration.",
        ("replica",),
    ),
    Row(
        "penstock_deployment_health",
        "gauge",
        "1 for the state that a deployment is in: healthy, unknown or offline.",
        ("deployment", "state"),
    ),
    Row(
        "penstock_probes_total",
        "counter",
        "Active probes that this process made; outcome is fine or failed.",
        ("provider", "outcome"),
    ),
    Row(
        "penstock_experiment_share",
        "gauge",
        "Share of the calls that an arm of a running experiment has, from 0 to 1.",
        ("experiment", "arm"),
    ),
    Row(
        "penstock_canary_moves_total",
        "counter",
        "What this process has done with canaries; move is begin, raise or rollback.",
        ("experiment", "move"),
    ),
    Row("penstock_ledger_waiting_entries", "gauge", "Entries in the stream, not yet deleted."),
    Row("penstock_ledger_entries_total", "counter", "Entries that this process entered."),
    Row(
        "penstock_ledger_repeated_total",
        "counter",
        "Entries that were delivered again and found entered.",
    ),
    Row(
        "penstock_ledger_rejected_total",
        "counter",
        "What was appended and is no entry; kept in the table rejected.",
    ),
    Row(
        "penstock_ledger_failures_total",
        "counter",
        "Attempts at a batch that the store or the database refused.",
    ),
    Row("penstock_leases_reaped_total", "counter", "Leases of dead replicas that were settled."),
    Row(
        "penstock_silent_replicas",
        "gauge",
        "Lives that fell silent, are not known to be dead, and for which something stays reserved.",
    ),
    Row(
        "penstock_silent_reserved_nusd",
        "gauge",
        "What their calls may still cost, in nano-USD, which strict budgets reserve.",
    ),
    Row(
        "penstock_budget_events_total",
        "counter",
        "Thresholds of budgets that were reached, by the kind of the scope and the percentage.",
        ("scope", "threshold"),
    ),
    Row("penstock_chore_failures_total", "counter", "Chores begun anew.", ("chore",)),
    Row("penstock_chore_leading", "gauge", "1 where this process leads the chore.", ("chore",)),
)


def control_snapshot(values: Mapping[tuple[str, ...], float]) -> dict[str, Any]:
    """Return the control role's own counts, {(name, *labels): value}, in the form of a worker's."""
    kinds = {row.name: row.kind for row in CONTROL_METRICS}
    found: dict[str, Values] = {"counter": {}, "gauge": {}, "histogram": {}}
    for (name, *labels), value in values.items():
        found[kinds[name]].setdefault(name, {})[_SEPARATOR.join(labels)] = value
    return {
        "boot": "control",
        "schema": [
            {
                "name": row.name,
                "kind": row.kind,
                "help": row.help,
                "labels": list(row.labels),
                "buckets": list(row.buckets),
            }
            for row in CONTROL_METRICS
        ],
        "counters": found["counter"],
        "gauges": found["gauge"],
        "histograms": found["histogram"],
    }


class Fleet:
    """The workers of one machine: what each said last, and what those that are gone left behind."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._latest: dict[str, Mapping[str, Any]] = {}
        self._answering: set[str] = set()
        self._gone: tuple[Values, Values] = ({}, {})
        self._asking = asyncio.Lock()

    @property
    def answering(self) -> int:
        """How many workers answered when they were last asked."""
        return len(self._answering)

    async def refresh(self) -> None:
        """Ask every worker that has a socket; one that does not answer is counted by what it said last."""
        async with self._asking:
            sockets = await asyncio.to_thread(lambda: sorted(self._run_dir.glob("edge-*.sock")))
            answers = await asyncio.gather(*(_ask(socket) for socket in sockets))
            said = dict(zip((socket.name for socket in sockets), answers, strict=True))
            for name in {*said, *self._latest}:
                self.hear(name, said.get(name))

    def hear(self, name: str, snapshot: Mapping[str, Any] | None) -> None:
        """Take what the worker at a socket said, None if it did not answer."""
        if snapshot is None:
            self._answering.discard(name)
            return
        before = self._latest.get(name)
        if before is not None and before["boot"] != snapshot["boot"]:
            _add(self._gone, before)
        self._latest[name] = snapshot
        self._answering.add(name)

    def page(self, *others: Mapping[str, Any]) -> bytes:
        """Return the metrics of all workers and of `others` in Prometheus' text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Page(list(self._families(others))))
        return generate_latest(registry)

    def _families(self, others: Sequence[Mapping[str, Any]]) -> Iterator[Family]:
        """Yield every metric that a table names, summed."""
        sums: tuple[Values, Values] = ({}, {})
        _add(sums, {"counters": self._gone[0], "histograms": self._gone[1]})
        everyone = [*self._latest.values(), *others]
        present = [*(self._latest[name] for name in sorted(self._answering)), *others]
        for snapshot in everyone:
            _add(sums, snapshot)
        rows = {row["name"]: row for snapshot in everyone for row in snapshot["schema"]}
        for name, row in rows.items():
            if row["kind"] == "counter":
                yield _counter(row, sums[0].get(name, {}))
            elif row["kind"] == "histogram":
                yield _histogram(row, sums[1].get(name, {}))
            else:
                yield _gauge(row, [snapshot["gauges"].get(name, {}) for snapshot in present])


class _Page(Collector):
    """Families that are made already, as a registry wants them."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        """Return the families."""
        return self._families


async def _ask(socket: Path) -> Mapping[str, Any] | None:
    """Return what the worker at a socket says, None if it says nothing or no snapshot."""
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path=str(socket)),
                timeout=aiohttp.ClientTimeout(total=_ASK_WITHIN_S),
            ) as session,
            session.get("http://worker/snapshot") as answer,
        ):
            if answer.status != 200:
                return None
            snapshot = orjson.loads(await answer.read())
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return None
    return snapshot if isinstance(snapshot, dict) and "boot" in snapshot else None


# Summing...


def _add(sums: tuple[Values, Values], snapshot: Mapping[str, Any]) -> None:
    """Add the counters and histograms of a snapshot to sums, in place."""
    counters, histograms = sums
    for name, by_label in snapshot["counters"].items():
        into = counters.setdefault(name, {})
        for labels, value in by_label.items():
            into[labels] = into.get(labels, 0) + value
    for name, by_label in snapshot["histograms"].items():
        into = histograms.setdefault(name, {})
        for labels, (counts, total, number) in by_label.items():
            before = into.get(labels)
            if before is None or len(before[0]) != len(counts):
                # Other buckets: another version of the worker. The newer ones are told.
                into[labels] = [list(counts), total, number]
            else:
                before[0] = [a + b for a, b in zip(before[0], counts, strict=True)]
                before[1] += total
                before[2] += number


def _labels(key: str, row: Mapping[str, Any]) -> list[str] | None:
    """Return the label values of a key, None where they do not fit the table."""
    values = key.split(_SEPARATOR) if row["labels"] else []
    return values if len(values) == len(row["labels"]) else None


def _counter(row: Mapping[str, Any], by_label: Mapping[str, float]) -> Family:
    family = CounterMetricFamily(
        row["name"].removesuffix("_total"), row["help"], labels=row["labels"]
    )
    for key, value in (by_label or ({} if row["labels"] else {"": 0})).items():
        labels = _labels(key, row)
        if labels is not None:
            family.add_metric(labels, value)
    return family


def _gauge(row: Mapping[str, Any], of_each: Sequence[Mapping[str, float]]) -> Family:
    family = GaugeMetricFamily(row["name"], row["help"], labels=row["labels"])
    together: dict[str, list[float]] = {}
    for by_label in of_each:
        for key, value in by_label.items():
            together.setdefault(key, []).append(value)
    for key, values in together.items():
        labels = _labels(key, row)
        if labels is not None:
            family.add_metric(
                labels, min(values) if row["name"].endswith("_version") else sum(values)
            )
    return family


def _histogram(row: Mapping[str, Any], by_label: Mapping[str, Any]) -> Family:
    family = HistogramMetricFamily(row["name"], row["help"], labels=row["labels"])
    bounds = [*(repr(float(bound)) for bound in row["buckets"]), "+Inf"]
    empty = [[0] * len(bounds), 0, 0]
    for key, (counts, total, _) in (by_label or ({} if row["labels"] else {"": empty})).items():
        labels = _labels(key, row)
        if labels is None or len(counts) != len(bounds):
            continue
        upto, buckets = 0, []
        for bound, count in zip(bounds, counts, strict=True):
            upto += count
            buckets.append((bound, upto))
        family.add_metric(labels, buckets, total)
    return family
