"""What an edge is told on its command line; everything else it reads from the live configuration."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class EdgeOptions:
    """
    The command line of one edge.

    `redis` is the store's URL, `listen` the shared data port, `run_dir` where `edge-<worker>.sock` goes, and `metrics`
    an address for its own metrics where no control collects them. `alone` says that no supervisor started it.
    """

    redis: str = field(repr=False)
    listen: str
    run_dir: Path
    worker: int = 0
    metrics: str | None = None
    alone: bool = False
