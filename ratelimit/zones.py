"""
Time zones as the scripts read them: the stretches of time with one offset, as bytes.

The layout stands in `governance/lua/budget.lua`. Rules are those of the machine's zoneinfo, or else of the `tzdata` package; what a government decides later comes with an update of either.
"""

import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
# A stretch's beginning is 32 bits of seconds; beyond this year the last offset goes on.
LAST = datetime(2045, 1, 1, tzinfo=UTC)
# No zone has gone to another offset and back within it.
_STRIDE = timedelta(days=4)
_SECOND = timedelta(seconds=1)


@cache
def packed_zone(name: str) -> bytes:
    """Return a time zone's stretches from 2024 to 2045; UTC, and what never differs from it, is empty."""
    found = list(_stretches(ZoneInfo(name)))
    if found == [(0, 0)]:
        return b""
    return b"".join(struct.pack(">Ii", since, offset) for since, offset in found)


def _stretches(zone: ZoneInfo) -> Iterator[tuple[int, int]]:
    """Yield since when (seconds since 2024) which offset from UTC holds, in seconds."""
    at, offset = FIRST, _offset_s(zone, FIRST)
    yield 0, offset
    while at < LAST:
        after = at + _STRIDE
        if _offset_s(zone, after) != offset:
            low, high = at, after
            while high - low > _SECOND:
                middle = low + (high - low) // 2
                middle -= timedelta(microseconds=middle.microsecond)
                low, high = (middle, high) if _offset_s(zone, middle) == offset else (low, middle)
            offset = _offset_s(zone, high)
            yield (high - FIRST) // _SECOND, offset
            after = high
        at = after


def _offset_s(zone: ZoneInfo, at: datetime) -> int:
    offset = at.astimezone(zone).utcoffset()
    assert offset is not None
    return offset // _SECOND
