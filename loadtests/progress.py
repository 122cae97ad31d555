"""Progress while a run goes on: one line that is written over on a terminal, one line every few seconds elsewhere."""

from collections.abc import Sequence
from typing import TextIO

from loadtests.engine import Health
from loadtests.metrics import Record, percentile
from loadtests.summary import values_of

_EVERY_S = 5
_LOOK_BACK = 500


def words(
    seconds: float, answered: int, errors: int, records: Sequence[Record], samples: Sequence[Health]
) -> str:
    """Say how it goes: what was answered so far, and the latencies of the last calls, `records`."""
    parts = [f"{seconds:5.0f} s", f"{answered:,} answered", f"{errors:,} errors"]
    for metric in ("ttft", "e2e"):
        ordered = sorted(values_of(records, metric))
        if ordered:
            p50, p95 = percentile(ordered, 0.5), percentile(ordered, 0.95)
            parts.append(f"{metric.upper()} p50 {p50:.1f} p95 {p95:.1f} ms")
    newest = {sample.process: sample for sample in samples}
    if newest:
        parts.append(f"{sum(sample.open_calls for sample in newest.values()):,} open")
        parts.append(f"generator {max(sample.cpu for sample in newest.values()):.0%} of a core")
    return ", ".join(parts)


class Line:
    """Where progress is told; it looks at each record once, for it lives in the generator and must not slow it down."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._told_at = 0.0
        self._seen = 0
        self._errors = 0

    def tell(self, seconds: float, records: Sequence[Record], samples: Sequence[Health]) -> None:
        """Tell it, if it is time to; `records` and `samples` are all there are so far."""
        self._errors += sum(record.counts and not record.fine for record in records[self._seen :])
        self._seen = len(records)
        terminal = self._stream.isatty()
        if not terminal and seconds - self._told_at < _EVERY_S:
            return
        self._told_at = seconds
        told = words(seconds, self._seen, self._errors, records[-_LOOK_BACK:], samples[-64:])
        self._stream.write(f"\r\033[K{told}" if terminal else f"{told}\n")
        self._stream.flush()
