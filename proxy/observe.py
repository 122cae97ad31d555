"""
What is seen from outside: metrics and the access line.

A worker counts in plain objects, made once per label set and kept by whoever counts: a count is an addition, an observation a bisection.
The control role asks each worker for its snapshot, sums them, and speaks Prometheus; no exporter runs here.

Labels take their values from the configuration or from a fixed list of words, never from a request: an unknown model is `unknown`.
"""

import asyncio
import os
import select
import stat
import sys
from bisect import bisect_left
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

SEPARATOR = "\x1f"

_encode_lines = msgspec.json.Encoder().encode_lines

# How often a writer that waits for its reader looks whether it is still wanted.
POLL_MS = 50

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120, 300, 600)
_SHORT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
_BATCH = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table below; `labels` are bounded, `buckets` are upper bounds."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


METRICS = (
    Metric(
        "penstock_requests_total",
        "counter",
        "Exchanges that ended, by the status the caller saw (499: the caller left).",
        ("protocol", "model", "status"),
    ),
    Metric(
        "penstock_shadow_copies_total",
        "counter",
        "Calls copied for experiments, by what became of them: answered, failed, refused, dropped.",
        ("outcome",),
    ),
    Metric(
        "penstock_attempts_total",
        "counter",
        "Attempts that ended, by deployment and the ledger's outcome word.",
        ("model", "deployment", "outcome"),
    ),
    Metric(
        "penstock_tokens_total",
        "counter",
        "Tokens charged; kind is input, cached, output or reasoning, and cached is part of input.",
        ("model", "kind"),
    ),
    Metric(
        "penstock_cost_nusd_total", "counter", "Cost charged, in nano-USD.", ("model", "deployment")
    ),
    Metric(
        "penstock_refusals_total",
        "counter",
        "Requests that got an error of the gateway's own, by the error's word.",
        ("reason",),
    ),
    Metric(
        "penstock_ttft_seconds",
        "histogram",
        "From sending the upstream request to the first byte of its answer's body.",
        ("model",),
        _SECONDS,
    ),
    Metric(
        "penstock_duration_seconds",
        "histogram",
        "From reading the request to the last byte of the answer.",
        ("model",),
        _SECONDS,
    ),
    Metric(
        "penstock_time_between_chunks_seconds",
        "histogram",
        "Mean time between two reads of a stream, one observation per stream.",
        ("model",),
        (*_SHORT, 2.5, 10),
    ),
    Metric(
        "penstock_added_seconds",
        "histogram",
        "What the gateway added: from the request being read to the upstream request being written.",
        (),
        _SHORT,
    ),
    Metric("penstock_admit_seconds", "histogram", "Answer time of an admit batch.", (), _SHORT),
    Metric("penstock_settle_seconds", "histogram", "Answer time of a settle batch.", (), _SHORT),
    Metric("penstock_admit_batch_size", "histogram", "Asks per admit call.", (), _BATCH),
    Metric("penstock_settle_batch_size", "histogram", "Settlements per settle call.", (), _BATCH),
    Metric(
        "penstock_loop_lag_seconds",
        "histogram",
        "How late the event loop ran a timer, four times a second.",
        (),
        _SHORT,
    ),
    Metric(
        "penstock_wait_seconds",
        "histogram",
        "How long calls waited for a place at a full deployment; outcome is granted, refused or left.",
        ("outcome",),
        _SHORT,
    ),
    Metric(
        "penstock_retries_total",
        "counter",
        "Second tries, by whether the retry budget let them be made; outcome is made or refused.",
        ("outcome",),
    ),
    Metric(
        "penstock_feedback_total",
        "counter",
        "Callers' words on answers; outcome is counted, repeated or unknown.",
        ("outcome",),
    ),
    Metric(
        "penstock_hedges_total",
        "counter",
        "Second attempts beside a late first one, by whether their budget let them be made; outcome is made or refused.",
        ("outcome",),
    ),
    Metric("penstock_waiting", "gauge", "Calls that wait for a place at a full deployment."),
    Metric("penstock_in_flight", "gauge", "Exchanges under way."),
    Metric(
        "penstock_edge_chore_failures_total",
        "counter",
        "What a worker does beside serving, begun anew after a failure: tokens, configuration, prices, learning.",
        ("chore",),
    ),
    Metric("penstock_tasks", "gauge", "Tasks of the event loops, ours and the libraries'."),
    Metric("penstock_client_connections", "gauge", "Open connections of callers."),
    Metric("penstock_upstream_connections", "gauge", "Connections to providers.", ("state",)),
    Metric("penstock_upstream_opened_total", "counter", "Connections opened to providers."),
    Metric("penstock_upstream_reused_total", "counter", "Requests sent on a pooled connection."),
    Metric("penstock_unsettled", "gauge", "Settlements that the store has not confirmed."),
    Metric(
        "penstock_recalled_total",
        "counter",
        "Settlements sent again because the store had forgotten them.",
    ),
    Metric(
        "penstock_degraded",
        "gauge",
        "Edges that judge admissions themselves, because the store does not answer.",
    ),
    Metric(
        "penstock_learning",
        "gauge",
        "Edges whose store does not know what was spent, so that strict budgets are closed.",
    ),
    Metric(
        "penstock_asserted_total", "counter", "Leases that the store had forgotten and was told of."
    ),
    Metric(
        "penstock_degraded_admissions_total",
        "counter",
        "Admissions judged without the store; answer is granted, denied or closed.",
        ("answer",),
    ),
    Metric("penstock_journalled_total", "counter", "Settlements that went through the journal."),
    Metric("penstock_store_errors_total", "counter", "Calls to the store that failed."),
    Metric("penstock_reseeded_total", "counter", "Scopes whose limits the store had lost."),
    Metric("penstock_config_version", "gauge", "Version of the configuration that runs."),
    Metric(
        "penstock_access_lines_dropped_total",
        "counter",
        "Access lines lost because their reader did not keep up.",
    ),
)


class Counter:
    """A number that grows; add to `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: int = 0


class Histogram:
    """Counts per bucket, and the sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Metrics:
    """All metrics of one worker."""

    def __init__(self) -> None:
        self._rows = {row.name: row for row in METRICS}
        self._counters: dict[tuple[str, ...], Counter] = {}
        self._histograms: dict[tuple[str, ...], Histogram] = {}
        self._gauges: list[Callable[[], dict[tuple[str, ...], float]]] = []

    def counter(self, name: str, *labels: str) -> Counter:
        """Return the counter of this label set, made at first use."""
        found = self._counters.get((name, *labels))
        if found is None:
            self._check(name, "counter", labels)
            # A configuration is compiled by a thread: whoever comes first makes the one that all count on.
            found = self._counters.setdefault((name, *labels), Counter())
        return found

    def histogram(self, name: str, *labels: str) -> Histogram:
        """Return the histogram of this label set, made at first use."""
        found = self._histograms.get((name, *labels))
        if found is None:
            row = self._check(name, "histogram", labels)
            found = self._histograms.setdefault((name, *labels), Histogram(row.buckets))
        return found

    def read(self, source: Callable[[], dict[tuple[str, ...], float]]) -> None:
        """Ask `source` at each snapshot for values kept elsewhere: {(name, *labels): value}."""
        self._gauges.append(source)

    def snapshot(self, boot: str) -> dict[str, Any]:
        """Return everything, with the table that explains it, as plain JSON."""
        counters: dict[str, dict[str, float]] = {}
        gauges: dict[str, dict[str, float]] = {}
        histograms: dict[str, dict[str, Any]] = {}
        for (name, *labels), counter in list(self._counters.items()):
            counters.setdefault(name, {})[SEPARATOR.join(labels)] = counter.value
        for (name, *labels), histogram in list(self._histograms.items()):
            histograms.setdefault(name, {})[SEPARATOR.join(labels)] = [
                histogram.counts,
                histogram.sum,
                sum(histogram.counts),
            ]
        for source in self._gauges:
            for (name, *labels), value in source().items():
                kind = counters if self._rows[name].kind == "counter" else gauges
                kind.setdefault(name, {})[SEPARATOR.join(labels)] = value
        return {
            "boot": boot,
            "schema": [
                {
                    "name": row.name,
                    "kind": row.kind,
                    "help": row.help,
                    "labels": row.labels,
                    "buckets": row.buckets,
                }
                for row in METRICS
            ],
            "counters": counters,
            "gauges": gauges,
            "histograms": histograms,
        }

    def _check(self, name: str, kind: str, labels: tuple[str, ...]) -> Metric:
        row = self._rows[name]
        if row.kind != kind or len(row.labels) != len(labels):
            raise ValueError(f"{name} is a {row.kind} with labels {row.labels}")
        return row


class AccessLine(msgspec.Struct, gc=False):
    """
    One exchange in the access log; what it never came to know is left out.

    A struct, because it is made for every exchange: a dictionary costs three times as much to fill and to write, and one more object to collect.
    """

    at_us: int
    request_id: str
    protocol: str
    status: int
    outcome: str
    duration_us: int
    bytes: int
    organization: str | UnsetType = UNSET
    team: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    application: str | UnsetType = UNSET
    model_asked: str | UnsetType = UNSET
    stream: bool | UnsetType = UNSET
    attempts: int | UnsetType = UNSET
    model: str | UnsetType = UNSET
    deployment: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    input_tokens: int | UnsetType = UNSET
    output_tokens: int | UnsetType = UNSET
    cost_nusd: int | UnsetType = UNSET
    ttft_us: int | UnsetType = UNSET
    added_us: int | UnsetType = UNSET


class AccessLog:
    """
    One JSON line per exchange, written in batches by a thread of its own.

    The loop never waits for the reader of the log, and neither does the end: lines beyond `most`, and those that a
    reader does not take within `patience_s` of `close`, are dropped and counted.
    """

    def __init__(
        self, where: str, dropped: Counter, *, most: int = 20_000, patience_s: float = 1.0
    ) -> None:
        self._lines: list[AccessLine] = []
        self._dropped = dropped
        self._most = most
        self._patience_s = patience_s
        self._writer: ThreadPoolExecutor | None = None
        self._file = -1
        self._owned = False
        self._writing: asyncio.Future[int] | None = None
        self._given_up = False
        if where == "off":
            return
        if where == "stdout":
            self._file = sys.stdout.fileno()
        else:
            os.makedirs(os.path.dirname(where) or ".", exist_ok=True)  # noqa: PTH103, PTH120 - once, at start
            self._file = os.open(where, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o640)
            self._owned = True
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="access-log")

    @property
    def wanted(self) -> bool:
        """Whether lines go anywhere at all."""
        return self._writer is not None

    def add(self, line: AccessLine) -> None:
        """Take one line; it is written with the next flush."""
        if len(self._lines) >= self._most:
            self._dropped.value += 1
        else:
            self._lines.append(line)

    def flush(self) -> None:
        """Hand what has gathered to the writer, unless it is still busy."""
        if not self._lines or self._writer is None:
            return
        if self._writing is not None and not self._writing.done():
            return
        lines, self._lines = self._lines, []
        self._writing = asyncio.get_running_loop().run_in_executor(self._writer, self._write, lines)
        self._writing.add_done_callback(self._count)

    async def close(self) -> None:
        """Write what is left, as far as its reader takes it."""
        if self._writer is None:
            return
        give_up = asyncio.get_running_loop().call_later(self._patience_s, self._give_up)
        while self._lines or (self._writing is not None and not self._writing.done()):
            self.flush()
            assert self._writing is not None
            await self._writing
        give_up.cancel()
        self._writer.shutdown()
        if self._owned:
            os.close(self._file)

    def _give_up(self) -> None:
        self._given_up = True

    def _count(self, written: "asyncio.Future[int]") -> None:
        if not written.cancelled():
            self._dropped.value += written.result()

    def _write(self, lines: list[AccessLine]) -> int:
        """Write lines from the writer's thread. Returns how many were lost."""
        data = _encode_lines(lines)
        at = 0
        try:
            if stat.S_ISREG(os.fstat(self._file).st_mode):
                while at < len(data):
                    at += os.write(self._file, memoryview(data)[at:])
                return 0
            # A pipe takes so much at once, or not at all: whole lines, which no other writer can tear.
            reader = select.poll()
            reader.register(self._file, select.POLLOUT)
            while at < len(data):
                if not reader.poll(POLL_MS):
                    if self._given_up:
                        break
                    continue
                end = data.rfind(b"\n", at, at + select.PIPE_BUF) + 1 or at + select.PIPE_BUF
                at += os.write(self._file, data[at:end])
        except OSError:
            # A reader that went away must not take the gateway with it.
            pass
        return data.count(b"\n", at)
