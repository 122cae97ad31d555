"""
The periods of budgets, by the calendar of a time zone: when the one that holds a moment began, and when it ends.

The scripts reckon the same in `lua/budget.lua`; here it is asked for what the ledger holds of a period.
"""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)
# The end of a period that never ends: far beyond, and still exact as a double.
NEVER_US = 1 << 52


def period_of(kind: str, zone: str, at: datetime) -> tuple[int, int]:
    """
    Return when the period that holds a moment began, and when it ends, in unix us.

    `kind` is day, week, month, quarter or total; `zone` an IANA name. Raises `ValueError` for another kind.
    """
    day = at.astimezone(ZoneInfo(zone)).date()
    if kind == "total":
        return 0, NEVER_US
    if kind == "day":
        first, after = day, day + timedelta(days=1)
    elif kind == "week":
        first = day - timedelta(days=day.weekday())
        after = first + timedelta(days=7)
    elif kind in {"month", "quarter"}:
        months = 1 if kind == "month" else 3
        first = day.replace(month=(day.month - 1) // months * months + 1, day=1)
        later = first.month - 1 + months
        after = first.replace(year=first.year + later // 12, month=later % 12 + 1)
    else:
        raise ValueError(f"no kind of period is called {kind!r}")
    return _midnight_us(first, zone), _midnight_us(after, zone)


def _midnight_us(day: date, zone: str) -> int:
    """Return when a day begins in a time zone, in unix us."""
    begins = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone))
    return (begins.astimezone(UTC) - _EPOCH) // _US
