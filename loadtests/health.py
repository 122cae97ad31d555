"""
The generator's own health: a load test whose generator is the bottleneck measures the generator.

Each process says twice a second how much of a core it used, how long it waited for one, and how late a timer of its own ran; records say how
late their calls began.
What it waited counts as what it used: on a machine that others use, too, a generator may be the bottleneck at half a core.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from loadtests.engine import Health
from loadtests.metrics import Record, percentile

EVERY_S = 0.5
# Above this share of a core, what waits in the generator's own queue is measured as the server's latency.
BUSY_CPU = 0.9
LATE_MS = 20.0
_TOO_OFTEN = 0.2


def waited_s(path: Path = Path("/proc/self/schedstat")) -> float:
    """Give the seconds that this process was ready to run and had no core, 0 where the kernel does not tell."""
    try:
        return int(path.read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


class Watch:
    """Takes samples of the process it lives in."""

    def __init__(
        self,
        process: str,
        *,
        clock: Callable[[], float] = time.perf_counter,
        cpu: Callable[[], float] = time.process_time,
        waited: Callable[[], float] = waited_s,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._process = process
        self._clock = clock
        self._cpu = cpu
        self._waited = waited
        self._wall_ns = wall_ns
        self._before = (clock(), cpu(), waited())

    def sample(self, open_calls: int, dropped: int, *, slept_s: float = EVERY_S) -> Health:
        """Give what happened since the sample before; `slept_s` is what was asked of the timer in between."""
        now, used, waited = self._clock(), self._cpu(), self._waited()
        took = max(now - self._before[0], 1e-9)
        cpu = (used - self._before[1]) / took
        without = (waited - self._before[2]) / took
        self._before = (now, used, waited)
        return Health(
            process=self._process,
            at_s=round(self._wall_ns() / 1e9, 3),
            cpu=round(cpu, 3),
            lag_ms=round(max(0.0, took - slept_s) * 1e3, 2),
            open_calls=open_calls,
            dropped=dropped,
            waited=round(without, 3),
        )


def warnings(samples: Sequence[Health], records: Sequence[Record]) -> list[str]:
    """Say in words where the generator was the bottleneck; nothing when it was not."""
    said = []
    for process in sorted({sample.process for sample in samples}):
        own = [sample for sample in samples if sample.process == process]
        busy = sum(sample.cpu + sample.waited > BUSY_CPU for sample in own) / len(own)
        if busy > _TOO_OFTEN:
            said.append(
                f"the generator {process} wanted more than {BUSY_CPU:.0%} of a core in {busy:.0%} of the run"
                f" and got {fmean(sample.cpu for sample in own):.0%}: it was the bottleneck; give it --processes, or machines"
            )
        delayed = sum(sample.lag_ms > LATE_MS for sample in own) / len(own)
        if delayed > _TOO_OFTEN:
            said.append(
                f"timers of the generator {process} ran more than {LATE_MS:.0f} ms late in {delayed:.0%} of the run:"
                " it had no core to run on when it wanted one, and what it measured holds that wait"
            )
        if dropped := max(sample.dropped for sample in own):
            said.append(
                f"the generator {process} had too many calls open and left {dropped} arrivals out"
            )
    late = sorted(record.late_ms for record in records if record.counts)
    if late and (worst := percentile(late, 0.99)) > LATE_MS:
        said.append(
            f"calls began late, p99 by {worst:.0f} ms: the generator did not keep up with its own schedule"
        )
    return said
