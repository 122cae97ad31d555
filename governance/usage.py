"""
Who used how much of what: sums over the ledger, by any dimensions, over any span of time.

Only the database is read, on a read-only connection; what is still in the stream (a second or less,
while the control process runs) is not in the sums yet.
Times are UTC; a span includes its beginning and not its end, so that spans add up.
"""

import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from store.sql import open_reader, statement

__all__ = [
    "DIMENSIONS",
    "BadQuestion",
    "Sums",
    "Usage",
    "UsageRow",
    "moment_us",
    "restriction",
    "usage",
    "usd",
]

DIMENSIONS: Mapping[str, str] = MappingProxyType(
    {
        # A team's name is unique within its organization only.
        "team": "organization || '/' || team",
        "model": "model",
        "model_asked": "model_asked",
        "user": "user",
        "application": "application",
        "business_line": "business_line",
        "organization": "organization",
        "key": "key",
        "deployment": "deployment",
        "provider": "provider",
        "protocol": "protocol",
        "outcome": "outcome",
        "experiment": "experiment",
        "day": "strftime('%Y-%m-%d', at_us / 1000000, 'unixepoch')",
        "hour": "strftime('%Y-%m-%dT%H:00Z', at_us / 1000000, 'unixepoch')",
    }
)
"""What usage may be grouped by, and the SQL that gives it."""

MOST_DIMENSIONS = 6

_TIMES = frozenset({"day", "hour"})
_SPAN = re.compile(r"(\d{1,9})\s*([smhdw])")
_SECONDS = MappingProxyType({"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800})
FOREVER_US = (1 << 62) - 1


class BadQuestion(ValueError):
    """A dimension or a time that is not understood; the message says what is."""


@dataclass(frozen=True, slots=True)
class Sums:
    """
    What a group adds up to.

    `requests` counts exchanges, `attempts` their tries at deployments, `errors` the tries that
    failed; tokens are tokens, `input_tokens` includes the cached ones; `audio_us` is audio sent and made, in
    microseconds; money is nano-USD.
    """

    requests: int
    attempts: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_nusd: int
    errors: int
    images: int
    audio_us: int
    characters: int
    search_units: int


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One group: its values in the order that was asked for, and its sums."""

    group: tuple[str, ...]
    sums: Sums


@dataclass(frozen=True, slots=True)
class Usage:
    """The answer: the groups, dearest first (in order of time where that was asked for), and all of it."""

    by: tuple[str, ...]
    since_us: int
    until_us: int | None
    rows: tuple[UsageRow, ...]
    total: Sums

    def as_json(self) -> dict[str, Any]:
        """Return the answer as plain data; money both in nano-USD and as an exact decimal in USD."""

        def said(sums: Sums) -> dict[str, Any]:
            return asdict(sums) | {"cost_usd": usd(sums.cost_nusd)}

        return {
            "by": list(self.by),
            "since": _iso(self.since_us),
            "until": None if self.until_us is None else _iso(self.until_us),
            "rows": [
                dict(zip(self.by, row.group, strict=True)) | said(row.sums) for row in self.rows
            ],
            "total": said(self.total),
        }


def dimensions(by: str | Sequence[str]) -> tuple[str, ...]:
    """Return the dimensions of `team,model` or of a sequence. Raises `BadQuestion`."""
    names = by.split(",") if isinstance(by, str) else by
    wanted = tuple(dict.fromkeys(name.strip().lower().replace("-", "_") for name in names))
    for name in wanted:
        if name not in DIMENSIONS:
            raise BadQuestion(f"{name!r} is no dimension; there are {', '.join(DIMENSIONS)}")
    if len(wanted) > MOST_DIMENSIONS:
        raise BadQuestion(f"at most {MOST_DIMENSIONS} dimensions at once")
    return wanted


def restriction(where: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the SQL that keeps entries whose dimensions are what `where` says, and its values. Raises `BadQuestion`."""
    wanted = {dimensions([name])[0]: value for name, value in where.items()}
    kept = "".join(f" AND {DIMENSIONS[name]} = :is_{place}" for place, name in enumerate(wanted))
    return kept, {f"is_{place}": value for place, value in enumerate(wanted.values())}


def moment_us(said: str, now: datetime) -> int:
    """
    Return an instant as unix microseconds: `24h`, `7d` (before `now`), `2026-11-01`, `2026-11-01T08:30+01:00`.

    Without an offset a time is UTC; nothing is earlier than 1970. Raises `BadQuestion`.
    """
    text = said.strip()
    span = _SPAN.fullmatch(text.lower())
    now_us = int(now.timestamp() * 1_000_000)
    if span:
        return max(0, now_us - int(span[1]) * _SECONDS[span[2]] * 1_000_000)
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        at_us = max(0, int(moment.timestamp() * 1_000_000))
        _iso(at_us)  # an offset may lead beyond the last year
        return at_us
    except (ValueError, OverflowError):
        raise BadQuestion(
            f"{said!r} is no time; write a span as 30m, 24h, 7d, 4w,"
            " or a moment as 2026-11-01 or 2026-11-01T08:30 (UTC)"
        ) from None


def usage(
    path: Path,
    by: str | Sequence[str],
    *,
    since_us: int,
    until_us: int | None = None,
    where: Mapping[str, str] = MappingProxyType({}),
) -> Usage:
    """
    Sum the ledger from `since_us` to before `until_us` (unix microseconds; None: everything after).

    `where` keeps what has these values in these dimensions. It reads for as long as the database takes: call it in a thread.
    Raises `BadQuestion`, and `LedgerUnreachable` when the database cannot be read.
    """
    wanted = dimensions(by)
    kept, values = restriction(where)
    span = {"since": since_us, "until": FOREVER_US if until_us is None else until_us} | values
    text = statement("governance", "usage").replace("{where}", kept)
    columns = "".join(f"{DIMENSIONS[name]} AS by_{name},\n  " for name in wanted)
    grouped = text.replace("{dimensions}", columns).replace(
        "{group}", f"GROUP BY {', '.join(f'by_{name}' for name in wanted)}"
    )
    summed = text.replace("{dimensions}", "").replace("{group}", "")
    with open_reader(path) as connection:
        total = _sums(connection.execute(summed, span).fetchone())
        rows = [
            UsageRow(tuple(row[: len(wanted)]), _sums(row))
            for row in connection.execute(grouped, span)
        ]
    when = [place for place, name in enumerate(wanted) if name in _TIMES]
    rows.sort(
        key=lambda row: (
            [row.group[place] for place in when],
            -row.sums.cost_nusd,
            -row.sums.requests,
            row.group,
        )
    )
    return Usage(wanted, since_us, until_us, tuple(rows), total)


def usd(nusd: int) -> str:
    """Return nano-USD as a decimal of USD, exact."""
    sign = "-" if nusd < 0 else ""
    whole, part = divmod(abs(nusd), 10**9)
    return f"{sign}{whole}.{part:09d}"


def _sums(row: sqlite3.Row) -> Sums:
    """Return the sums of a row, which are its last columns."""
    return Sums(*row[-len(fields(Sums)) :])


def _iso(at_us: int) -> str:
    """Return unix microseconds as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
