"""
The rows of the bench: what each figure is called, its unit, what it should be, and the arithmetic over runs.

A row that is a ratio compares pairs of runs, nginx and gateway one right after the other, so that a slow minute of the machine hits both; its figure is the median of the ratios.
The other rows judge the gateway's own median, and show nginx's beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True)
class Row:
    """One row; `target` and `stretch` are ratios to nginx where `ratio`, else in the row's unit."""

    name: str
    part: str
    what: str
    unit: str
    target: float
    stretch: float
    ratio: bool = False
    higher_is_better: bool = False

    def judge(self, value: float) -> str:
        """Say which of its marks a value reaches: `stretch`, `target` or `missed`."""
        sign = -1 if self.higher_is_better else 1
        if sign * value <= sign * self.stretch:
            return "stretch"
        return "target" if sign * value <= sign * self.target else "missed"


ROWS = (
    Row("nonstream", "nonstream", "CPU per non-streamed request", "µs", 5.0, 3.5, ratio=True),
    Row(
        "burst", "burst", "CPU per streamed request, 32 chunks at once", "µs", 3.0, 2.0, ratio=True
    ),
    Row(
        "paced", "paced", "CPU per stream of 100 chunks, 20 ms apart", "ms", 1.35, 1.15, ratio=True
    ),
    Row("added_p50", "latency", "added latency at 50 % load, p50", "ms", 0.6, 0.4),
    Row("added_p99", "latency", "added latency at 50 % load, p99", "ms", 3.0, 1.5),
    Row(
        "throughput",
        "throughput",
        "governed requests per second, concurrency 10",
        "req/s",
        7000,
        10000,
        higher_is_better=True,
    ),
    Row(
        "scored",
        "scored",
        "CPU per non-streamed request, model chosen",
        "µs",
        5.0,
        3.5,
        ratio=True,
    ),
    Row(
        "scored_burst",
        "scored",
        "CPU per 32-chunk burst, model chosen",
        "µs",
        3.0,
        2.0,
        ratio=True,
    ),
    Row(
        "scored_throughput",
        "scored",
        "governed requests per second, model chosen",
        "req/s",
        7000,
        10000,
        higher_is_better=True,
    ),
    Row("memory", "memory", "memory per open stream", "KB", 40, 20),
    Row("store", "nonstream", "store CPU per admitted and settled request", "µs", 40, 20),
)
PARTS = tuple(dict.fromkeys(row.part for row in ROWS))


@dataclass(slots=True)
class Figure:
    """The runs behind one row, in the row's unit; run i of nginx belongs to run i of the gateway."""

    row: Row
    nginx: list[float] = field(default_factory=list)
    penstock: list[float] = field(default_factory=list)

    def ratios(self) -> list[float]:
        """Give the ratio of each pair of runs."""
        return [ours / theirs for theirs, ours in zip(self.nginx, self.penstock, strict=False)]

    def judged(self) -> float:
        """Give the number that is held against the row's marks."""
        return median(self.ratios() if self.row.ratio else self.penstock)

    def verdict(self) -> str:
        """Say which mark was reached."""
        return self.row.judge(self.judged())


def spread(values: Sequence[float]) -> str:
    """Show how far runs lie apart: lowest and highest."""
    return f"{plain(min(values))} to {plain(max(values))}" if len(values) > 1 else ""


def plain(value: float) -> str:
    """Write a number with three digits that mean something."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
