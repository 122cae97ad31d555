"""The last calls of the ledger, as a simulation needs them."""

from dataclasses import dataclass
from pathlib import Path

from store.sql import open_reader, statement

__all__ = ["Served", "last_calls"]


@dataclass(frozen=True, slots=True)
class Served:
    """A call that was served: by whom asked, what for, where it went, what it took; `decision` as `routing.decision` writes it."""

    request_id: str
    key: str
    model_asked: str
    model: str
    deployment: str
    input_tokens: int
    output_tokens: int
    cost_nusd: int
    decision: str


def last_calls(path: Path, count: int) -> list[Served]:
    """Return the last calls that were served, the latest first; call it in a thread. Raises `LedgerUnreachable`."""
    with open_reader(path) as connection:
        rows = connection.execute(statement("governance", "last_calls"), {"count": count})
        return [Served(*tuple(row)) for row in rows]
