"""
What each model was asked and gave, task by task: the sums that judgements about models are made from.

Only the database is read, on a read-only connection.
Who is dear and who is good is not said here: that takes prices and qualities (`routing.insight`).
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from governance.usage import FOREVER_US
from store.sql import open_reader, statement

__all__ = ["ModelUse", "models_used"]

# Where an entry says what the call was about: a decision that was scored does (`routing.decision`).
_TASK = (
    "CASE WHEN json_valid(decision) THEN coalesce(json_extract(decision, '$.task'), '') ELSE '' END"
)


@dataclass(frozen=True, slots=True)
class ModelUse:
    """
    What one model was used for in one task (empty: not known).

    `requests` counts exchanges, `attempts` tries, `errors` tries that failed, `served` answers that came to their end;
    tokens and `cost_nusd` are those of all tries, `ttft_us` is the mean first-byte time of what was served, 0 where there is none.
    """

    task: str
    model: str
    requests: int
    attempts: int
    errors: int
    served: int
    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_nusd: int
    ttft_us: int


def models_used(path: Path, *, since_us: int, until_us: int | None = None) -> list[ModelUse]:
    """
    Sum the ledger by task and model, from `since_us` to before `until_us` (unix microseconds; None: everything after).

    It reads for as long as the database takes: call it in a thread. Raises `LedgerUnreachable`.
    """
    text = statement("governance", "models_used").replace("{task}", _TASK)
    span = {"since": since_us, "until": FOREVER_US if until_us is None else until_us}
    with open_reader(path) as connection:
        return [_use(row) for row in connection.execute(text, span)]


def _use(row: sqlite3.Row) -> ModelUse:
    """Return a row of the sums; the mean takes the place of sum and number."""
    said = {name: row[name] for name in row.keys() if not name.startswith("ttft_")}  # noqa: SIM118 - it gives values
    return ModelUse(**said, ttft_us=row["ttft_sum_us"] // max(row["ttft_count"], 1))
