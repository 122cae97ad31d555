"""
CPU of processes over time.

A run takes a second to begin and another to end, in which a gateway beats and reports as it does all day; what a call costs is what was used
between the first call's start and the last one's end, whenever the generator got round to it.
"""

import contextlib
import subprocess
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping

from loadtests.beside import Beside

EVERY_S = 0.05
# For what the last calls leave to do: they are settled and booked after their answers.
AFTERWARDS_S = 0.25


class Meter(Beside):
    """A context that notes every `EVERY_S` what `read` says, seconds of CPU by name; `wall_ns` is the clock of records."""

    def __init__(
        self, read: Callable[[], Mapping[str, float]], *, wall_ns: Callable[[], int] = time.time_ns
    ) -> None:
        super().__init__(self.note, EVERY_S)
        self._read = read
        self._wall_ns = wall_ns
        self._noted: list[tuple[float, Mapping[str, float]]] = []

    def note(self) -> None:
        """Note once; a process that is gone is told of by whoever waits for it."""
        with contextlib.suppress(OSError, ValueError, subprocess.CalledProcessError):
            self._noted.append((self._wall_ns() / 1e9, self._read()))

    def used(self, begin_s: float, end_s: float) -> dict[str, float]:
        """Give the seconds that each used from the last look before `begin_s` to the first `AFTERWARDS_S` after `end_s`."""
        if not self._noted:
            return {}
        moments = [at for at, _ in self._noted]
        first = self._noted[max(0, bisect_right(moments, begin_s) - 1)][1]
        after = bisect_left(moments, end_s + AFTERWARDS_S)
        last = self._noted[min(after, len(moments) - 1)][1]
        return {name: last[name] - first[name] for name in first}
