"""Laws of what is told of a scope: the arithmetic is that of the scripts."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from console.quotas import period_ids, quota
from governance.periods import period_of
from store import scripts
from store.clock import EPOCH

moments = st.datetimes(datetime(2024, 1, 1), datetime(2199, 12, 31)).map(  # noqa: DTZ001
    lambda at: at.replace(tzinfo=UTC)
)


async def test_periods_are_those_of_the_scripts(redis_client: Redis) -> None:
    """Day, week and month of any moment, as Lua counts them."""
    body = scripts.bundle("governance", "budget")
    at = [EPOCH + timedelta(days=37 * n, seconds=7919 * n) for n in range(1500)]
    script = f"""{body}
    local a = {{}}
    for i, m in ipairs(ARGV) do
      calendars = {{}}
      a[i] = period_ids('', tonumber(m))
    end
    return a"""
    found = await redis_client.eval(
        script, 0, *(int((each - EPOCH) / timedelta(microseconds=1)) for each in at)
    )
    assert [list(period_ids(each).values()) for each in at] == found


@given(
    moments,
    st.sampled_from(["day", "week", "month", "quarter"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Beirut", "Africa/Cairo"]),
)
def test_a_period_ends_where_the_next_begins(at: datetime, per: str, zone: str) -> None:
    """At midnight there, or where that is skipped right after it, and not a microsecond earlier."""
    _, ends_us = period_of(per, zone, at)
    end = datetime.fromtimestamp(ends_us // 10**6, UTC)
    assert at < end <= at + timedelta(days=93)
    assert period_ids(end, zone)[per] == period_ids(at, zone)[per] + 1
    assert period_ids(end - timedelta(microseconds=1), zone)[per] == period_ids(at, zone)[per]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_a_raise_is_told_of_as_long_as_it_holds(zone: str) -> None:
    """By the clocks of the budget's zone; afterwards the amount is the old one, and nothing else is said."""
    raised = {"usd": 5, "until": "2026-12-24T18:00"}
    budget = {"usd": 3, "per": "month", "time_zone": zone, "raise": raised}
    until = datetime(2026, 12, 24, 18, tzinfo=ZoneInfo(zone))

    def said(at: datetime) -> tuple[object, ...]:
        (one,) = quota("org:x", {"budget": budget}, None, at.astimezone(UTC))["budgets"]
        return one["raised_usd"], one["raised_until"], one["remaining_usd"]

    stamp = until.astimezone(UTC).isoformat().replace("+00:00", "Z")
    assert said(until - timedelta(microseconds=1)) == (5.0, stamp, "5.000000000")
    assert said(until) == (None, None, "3.000000000")


def test_what_nothing_was_taken_from_is_whole() -> None:
    """A scope that the store does not know."""
    settings = {
        "limits": {"rpm": 6, "concurrency": 2},
        "budget": {"usd": 1, "per": "week"},
    }
    said = quota("org:x", settings, None, EPOCH)
    assert (said["seeded"], said["in_flight"]) == (False, 0)
    assert said["limits"]["rpm"] == {"limit": 6, "burst": 6, "remaining": 6, "resets_in_ms": 0}
    assert said["limits"]["concurrency"]["remaining"] == 2
    assert said["budgets"][0]["resets_at"] == "2024-01-08T00:00:00Z"
    assert quota("org:x", {}, None, EPOCH)["budgets"] == []
    unset = {"limits": {"rpm": "${RPM}"}, "budget": [{"usd": "${USD}", "per": "day"}]}
    said = quota("org:x", unset, None, EPOCH)
    assert (said["limits"], said["budgets"]) == ({}, [])
