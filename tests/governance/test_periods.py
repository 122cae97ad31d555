"""A period begins and ends by the calendar of its zone: also where a day has 23 hours, or no midnight."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.periods import NEVER_US, period_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def us(text: str) -> int:
    return (at(text) - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("kind", "zone", "moment", "begin", "end"),
    [
        ("day", "UTC", "2026-11-22T23:59:59Z", "2026-11-22T00:00Z", "2026-11-23T00:00Z"),
        ("week", "UTC", "2026-11-22T12:00Z", "2026-11-16T00:00Z", "2026-11-23T00:00Z"),
        ("month", "UTC", "2026-12-31T12:00Z", "2026-12-01T00:00Z", "2027-01-01T00:00Z"),
        ("quarter", "UTC", "2026-12-31T12:00Z", "2026-10-01T00:00Z", "2027-01-01T00:00Z"),
        ("quarter", "UTC", "2026-02-01T12:00Z", "2026-01-01T00:00Z", "2026-04-01T00:00Z"),
        (
            *("day", "Europe/Berlin", "2026-03-29T12:00Z"),
            *("2026-03-29T00:00+01:00", "2026-03-30T00:00+02:00"),
        ),
        (
            *("month", "America/New_York", "2026-12-01T04:00Z"),
            *("2026-11-01T00:00-04:00", "2026-12-01T00:00-05:00"),
        ),
        # Clocks go from midnight to one: the day begins where it begins.
        (
            *("day", "America/Santiago", "2026-09-06T12:00Z"),
            *("2026-09-06T04:00Z", "2026-09-07T03:00Z"),
        ),
    ],
)
def test_a_period_is_the_calendars(kind: str, zone: str, moment: str, begin: str, end: str) -> None:
    """Its first moment belongs to it, its last one to the next."""
    assert period_of(kind, zone, at(moment)) == (us(begin), us(end))
    assert period_of(kind, zone, at(begin)) == (us(begin), us(end))
    assert period_of(kind, zone, at(end))[0] == us(end)


@given(
    kind=st.sampled_from(["day", "week", "month", "quarter"]),
    zone=st.sampled_from(["UTC", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia"]),
    moment=st.integers(us("2024-01-02T00:00Z"), us("2044-01-01T00:00Z")),
)
def test_every_moment_is_in_one_period(kind: str, zone: str, moment: int) -> None:
    """It lies within its period, and the periods follow one another without a gap."""
    begin, end = period_of(kind, zone, EPOCH + timedelta(microseconds=moment))
    assert begin <= moment < end
    assert period_of(kind, zone, EPOCH + timedelta(microseconds=end))[0] == end


def test_the_total_never_ends() -> None:
    """One period for ever."""
    assert period_of("total", "UTC", at("2026-11-22T12:00Z")) == (0, NEVER_US)
    with pytest.raises(ValueError, match="year"):
        period_of("year", "UTC", at("2026-11-22T12:00Z"))
