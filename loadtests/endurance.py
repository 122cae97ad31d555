"""
Long and hard runs: a soak that shows what grows, an overload that shows what is shed and how it recovers.

While load runs, a thread of this process looks at the gateway from outside: memory and descriptors of its processes, and the gauges of its
admin port (exchanges in flight, settlements waiting, connections, tasks).
An open lease is an exchange in flight or one whose settlement the store has not confirmed, so their sum is the leases that are open.
Descriptors, tasks and leases come and go with connections, by more than a leak of ten minutes; so those that belong to none are judged where
the gauges tell them apart ("other descriptors", "other tasks", "other leases"), and the connections themselves: those to providers, and those of
callers beyond the calls that were open ("other client connections").
"""

import http.client
import re
import subprocess
import time
import urllib.request
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, sqrt
from pathlib import Path
from statistics import fmean, median
from typing import Any

from loadtests.bench import usage
from loadtests.beside import Beside
from loadtests.metrics import Record, meets, percentile

_GAUGE = re.compile(r"^(penstock_\w+)(\{[^}]*\})? ([0-9.e+-]+)$", re.MULTILINE)
_WATCHED = {
    "penstock_in_flight": "in flight",
    "penstock_unsettled": "unsettled",
    "penstock_client_connections": "client connections",
    "penstock_upstream_connections": "upstream connections",
    "penstock_tasks": "tasks",
}
# What may grow per hour before it is called a leak.
TOLERATED = {
    "memory MB": 12.0,
    "descriptors": 20.0,
    "leases": 20.0,
    "tasks": 20.0,
    "client connections": 20.0,
    "upstream connections": 20.0,
    "other descriptors": 20.0,
    "other tasks": 20.0,
    "other leases": 20.0,
    "other client connections": 20.0,
}
# What is made of what, without which parts.
_OTHER = {
    "other descriptors": ("descriptors", ("client connections", "upstream connections")),
    "other tasks": ("tasks", ("client connections",)),
    "other leases": ("leases", ("busy upstream connections",)),
    "other client connections": ("client connections", ("open calls",)),
}
STEADY, GROWS, NOISY = "steady", "grows", "too noisy"
JUDGED_FROM_S = 240.0
# Of a run: it fills caches and pools.
_WARM = 0.25
# What is left is cut into so many, and the middle of each counts: looks a second apart say nearly the same, and an interval of them little.
_BLOCKS = 24
# Of a normal distribution, between whose negative and which 95 % lie.
_NINETEEN_IN_TWENTY = 1.96
Series = dict[str, list[tuple[float, float]]]


def read_gauges(text: str) -> dict[str, float]:
    """Read the gauges that are watched from Prometheus text, summed over labels, and the open leases."""
    found: dict[str, float] = {}
    for name, labels, value in _GAUGE.findall(text):
        if shown := _WATCHED.get(name):
            found[shown] = found.get(shown, 0.0) + float(value)
            if 'state="busy"' in labels:
                found[f"busy {shown}"] = found.get(f"busy {shown}", 0.0) + float(value)
    if "in flight" in found and "unsettled" in found:
        found["leases"] = found["in flight"] + found["unsettled"]
    return found


class Watcher(Beside):
    """A context in which a gateway is looked at; `series` are (seconds, value) by what is watched, `wall_ns` is the clock of records."""

    def __init__(
        self,
        pids: Sequence[int],
        admin_url: str = "",
        *,
        every_s: float = 1.0,
        token: str = "",
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(self._note, every_s)
        self.series: Series = {}
        self._pids = tuple(pids)
        self._metrics = f"{admin_url}/metrics" if admin_url else ""
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._begun = time.monotonic()
        self._begun_wall_s = wall_ns() / 1e9

    def look(self) -> dict[str, float]:
        """Look once."""
        seen: dict[str, float] = {}
        try:
            if self._pids:
                seen["memory MB"] = sum(usage.rss_bytes(pid) for pid in self._pids) / 1e6
                seen["descriptors"] = sum(
                    len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in self._pids
                )
        except (OSError, ValueError, subprocess.CalledProcessError):
            # Ended, not Linux, or not ours to look into: what is not seen is not drawn.
            pass
        if self._metrics:
            try:
                request = urllib.request.Request(self._metrics, headers=self._headers)  # noqa: S310
                with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                    seen |= read_gauges(answer.read().decode())
            except (OSError, http.client.HTTPException, ValueError):
                # A busy admin port misses a look, not the run, and so does one that breaks off, or speaks of something else.
                pass
        for name, (whole, parts) in _OTHER.items():
            if whole in seen and all(part in seen for part in parts):
                seen[name] = seen[whole] - sum(seen[part] for part in parts)
        return seen

    def tell_calls(self, records: Sequence[Record]) -> None:
        """Add the calls that were open at each look, and the connections of callers beyond them: kept ones, and those that nobody holds any more."""
        begins = sorted(record.at_s + record.late_ms / 1000 for record in records)
        ends = sorted(record.at_s + record.took_ms / 1000 for record in records)
        for at, connections in self.series.get("client connections", ()):
            wall_s = self._begun_wall_s + at
            calls = bisect_right(begins, wall_s) - bisect_right(ends, wall_s)
            self.series.setdefault("open calls", []).append((at, calls))
            self.series.setdefault("other client connections", []).append((at, connections - calls))

    def _note(self) -> None:
        at = round(time.monotonic() - self._begun, 2)
        for name, value in self.look().items():
            self.series.setdefault(name, []).append((at, value))


@dataclass(frozen=True, slots=True)
class Trend:
    """How fast a series grows per hour, and between which bounds that lies in 95 of 100 cases."""

    per_hour: float
    low: float
    high: float


def trend_of(points: Sequence[tuple[float, float]]) -> Trend | None:
    """
    Give the trend of a series of (seconds, value) without its beginning, `None` of too little.

    Theil and Sen's estimator, the median of the slopes of all pairs, which peaks do not sway, with Sen's interval ("Estimates of the
    Regression Coefficient Based on Kendall's Tau", 1968).
    """
    kept = [point for point in points if point[0] >= points[-1][0] * _WARM] if points else []
    if len(kept) < 4:
        return None
    width = ceil(len(kept) / _BLOCKS)
    blocks = [kept[at : at + width] for at in range(0, len(kept), width)]
    middles = [tuple(map(_middle, zip(*block, strict=True))) for block in blocks]
    slopes = sorted(
        (later[1] - earlier[1]) / (later[0] - earlier[0]) * 3600
        for at, earlier in enumerate(middles)
        for later in middles[at + 1 :]
        if later[0] > earlier[0]
    )
    if not slopes:
        return None
    count = len(middles)
    spread = _NINETEEN_IN_TWENTY * sqrt(count * (count - 1) * (2 * count + 5) / 18)
    # Sen counts ranks from one: the lower bound is the M1-th of the slopes, the upper the (M2 + 1)-th; between ranks the wider interval is taken.
    low = max(0, floor((len(slopes) - spread) / 2) - 1)
    high = min(len(slopes) - 1, ceil((len(slopes) + spread) / 2))
    return Trend(median(slopes), slopes[low], slopes[high])


def _middle(values: Sequence[float]) -> float:
    """Give the mean of the middle half."""
    quarter = len(values) // 4
    return fmean(sorted(values)[quarter : len(values) - quarter])


@dataclass(frozen=True, slots=True)
class Slope:
    """How one thing grew; `word` is `steady`, `grows`, `too noisy`, `too short` or empty where nothing is demanded."""

    what: str
    first: float
    last: float
    trend: Trend | None
    word: str

    def row(self) -> dict[str, Any]:
        """Write it for the table."""
        trend = self.trend
        return {
            "what": self.what,
            "first": round(self.first, 1),
            "last": round(self.last, 1),
            "slope": "-" if trend is None else f"{trend.per_hour:+,.1f}",
            "between": "-" if trend is None else f"{trend.low:+,.1f} to {trend.high:+,.1f}",
            "verdict": self.word,
        }


SLOPE_COLUMNS = (
    ("what", "what"),
    ("first", "at the beginning"),
    ("last", "at the end"),
    ("slope", "per hour"),
    ("between", "95 % between"),
    ("verdict", "verdict"),
)


def slopes(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    load_s: float = inf,
    noisy: bool = False,
) -> list[Slope]:
    """
    Judge every series; a run of less than four minutes says too little, and what was seen when its load was over (`load_s`) nothing.

    What grew while the generator could not keep up (`noisy`) may be nothing but calls that took longer.
    """
    told_apart = {whole for name, (whole, _) in _OTHER.items() if name in series}
    found = []
    for what, seen in series.items():
        points = [point for point in seen if point[0] <= load_s] or seen
        trend = trend_of(points)
        word = ""
        if what in TOLERATED and what not in told_apart:
            if trend is None or points[-1][0] < JUDGED_FROM_S:
                word = "too short"
            else:
                word = _word(trend, TOLERATED[what], noisy=noisy)
        edge = max(1, len(points) // 10)
        first = median(value for _, value in points[:edge])
        last = median(value for _, value in points[-edge:])
        found.append(Slope(what, first, last, trend, word))
    return found


def _word(trend: Trend, tolerated: float, *, noisy: bool) -> str:
    """Say what is certain: that it grows by more than is tolerated, or that it does not; `NOISY` where neither is."""
    if trend.high <= tolerated:
        return STEADY
    return GROWS if trend.per_hour > tolerated and trend.low > 0 and not noisy else NOISY


# Overload...


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of an overload, in seconds of the run."""

    name: str
    begin_s: float
    end_s: float


def phases(duration_s: float) -> tuple[Phase, ...]:
    """Give the phases of `steps:half,five,five,half,half`: before, overload, after."""
    fifth = duration_s / 5
    return (
        Phase("before, at half the capacity", 0, fifth),
        Phase("overload, at five times", fifth, 3 * fifth),
        Phase("after, at half again", 3 * fifth, duration_s),
    )


def load_of(capacity: float) -> str:
    """Give the load of an overload as a shape."""
    return f"steps:{capacity / 2:g},{capacity * 5:g},{capacity * 5:g},{capacity / 2:g},{capacity / 2:g}"


PHASE_COLUMNS = (
    ("name", "phase"),
    ("offered", "offered/s"),
    ("goodput", "goodput/s"),
    ("shed", "shed %"),
    ("failed", "other errors %"),
    ("ok50", "good p50 ms"),
    ("ok99", "p99"),
    ("shed50", "shed p50 ms"),
    ("shed99", "p99"),
)


def phase_rows(
    records: Sequence[Record], duration_s: float, objectives: dict[str, float]
) -> list[dict[str, Any]]:
    """Give the table of an overload: what was offered, served and shed in each phase, and how fast; a call without an end is an error."""
    begin = min((record.at_s for record in records), default=0.0)
    rows = []
    for phase in phases(duration_s):
        own = [record for record in records if phase.begin_s <= record.at_s - begin < phase.end_s]
        shed = [record for record in own if is_shed(record)]
        failed = [record for record in own if not record.fine and not is_shed(record)]
        seconds = phase.end_s - phase.begin_s
        row: dict[str, Any] = {
            "name": phase.name,
            "offered": round(len(own) / seconds, 1),
            "goodput": round(sum(meets(record, objectives) for record in own) / seconds, 1),
            "shed": round(100 * len(shed) / len(own), 1) if own else 0.0,
            "failed": round(100 * len(failed) / len(own), 1) if own else 0.0,
        }
        for key, group in (("ok", [one for one in own if one.fine]), ("shed", shed)):
            ordered = sorted(record.took_ms for record in group)
            if ordered:
                row[f"{key}50"] = round(percentile(ordered, 0.5), 1)
                row[f"{key}99"] = round(percentile(ordered, 0.99), 1)
        rows.append(row)
    return rows


def is_shed(record: Record) -> bool:
    """Whether a call was turned away, in words that a caller can act on."""
    return record.status in {429, 503, 529}


def recovery_s(
    records: Sequence[Record], duration_s: float, objectives: dict[str, float]
) -> float | None:
    """Give the seconds from the end of the overload to the last call that began after it and was not good, `None` without calls."""
    begin = min((record.at_s for record in records), default=0.0)
    end = phases(duration_s)[1].end_s
    after = [one for one in records if one.at_s - begin >= end]
    if not after:
        return None
    bad = [one.at_s - begin - end for one in after if not meets(one, objectives)]
    return max(bad, default=0.0)
