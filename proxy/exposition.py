"""
The counts of one edge in Prometheus' text format, for edges that run where no control collects them.

The control sums the edges of its machine and speaks for all (`console.metrics`); it stands on the same floor,
and a test holds both to the same words.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from proxy.observe import SEPARATOR

__all__ = ["CONTENT_TYPE", "page"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def page(snapshot: Mapping[str, Any]) -> bytes:
    """Return what `Metrics.snapshot` gave as a page to be scraped."""
    return "".join(
        f"{line}\n" for row in snapshot["schema"] for line in _family(row, snapshot)
    ).encode()


def _family(row: Mapping[str, Any], snapshot: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of one metric; one without labels is told before anything was counted."""
    name, kind = row["name"], row["kind"]
    yield f"# HELP {name} {row['help']}"
    yield f"# TYPE {name} {kind}"
    by_labels = snapshot[f"{kind}s"].get(name, {})
    nothing: Any = [[0] * (len(row["buckets"]) + 1), 0, 0] if kind == "histogram" else 0
    if not by_labels and not row["labels"] and kind != "gauge":
        by_labels = {"": nothing}
    for key, value in by_labels.items():
        labels = [
            f'{label}="{text.translate(_ESCAPES)}"'
            for label, text in zip(row["labels"], key.split(SEPARATOR), strict=False)
        ]
        if kind != "histogram":
            yield f"{name}{_within(labels)} {value}"
            continue
        counts, total, number = value
        bounds = [f'le="{float(bound)!r}"' for bound in row["buckets"]] + ['le="+Inf"']
        for bound, upto in zip(bounds, accumulate(counts), strict=True):
            yield f"{name}_bucket{_within([*labels, bound])} {upto}"
        yield f"{name}_count{_within(labels)} {number}"
        yield f"{name}_sum{_within(labels)} {total}"


def _within(labels: list[str]) -> str:
    return f"{{{','.join(labels)}}}" if labels else ""
