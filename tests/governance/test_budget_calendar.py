"""
The calendar of budgets in `governance/lua/budget.lua`, against Python's `datetime`.

The script's arithmetic is civil-date arithmetic without a library; it must never be a microsecond off.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from store import scripts

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

DRIVER = (
    scripts.read("governance", "budget")
    + """
local answers = {}
for i, moment in ipairs(ARGV) do answers[i] = period_ids(tonumber(moment)) end
return answers
"""
)


def numbers(moment: datetime) -> list[int]:
    """Return the numbers of the periods that hold a moment: days and weeks since 2024-01-01 from 1, months since year 0."""
    days = (moment.date() - EPOCH.date()).days
    return [days + 1, days // 7 + 1, moment.year * 12 + moment.month]


async def asked(client: redis.asyncio.Redis, moments: Iterable[datetime]) -> list[list[int]]:
    """Ask the script, in portions."""
    us = [(moment - EPOCH) // MICROSECOND for moment in moments]
    answers: list[list[int]] = []
    for start in range(0, len(us), 1000):
        answers += await client.eval(DRIVER, 0, *us[start : start + 1000])
    return answers


async def test_every_day_of_two_centuries_begins_and_ends_on_time(
    redis_client: redis.asyncio.Redis,
) -> None:
    """At the first and at the last microsecond of each day, from 2024 to 2223, every number is the calendar's."""
    days = [EPOCH + timedelta(days=day) for day in range(73_049)]
    moments = [moment for day in days for moment in (day, day + timedelta(days=1) - MICROSECOND)]
    assert await asked(redis_client, moments) == [numbers(moment) for moment in moments]


@given(
    moments=st.lists(
        st.datetimes(EPOCH.replace(tzinfo=None), EPOCH.replace(year=2300, tzinfo=None)), min_size=1
    )
)
async def test_any_moment_is_in_its_periods(
    redis_client: redis.asyncio.Redis, moments: list[datetime]
) -> None:
    """Between midnights as well; times stay exact in a Lua number for centuries."""
    aware = [moment.replace(tzinfo=UTC) for moment in moments]
    assert await asked(redis_client, aware) == [numbers(moment) for moment in aware]


def test_the_epoch_is_a_monday() -> None:
    """Weeks are counted from it, and a week of a budget begins on Monday."""
    assert EPOCH.isoweekday() == 1


async def test_prices_are_rounded_up_to_whole_nano_usd(redis_client: redis.asyncio.Redis) -> None:
    """No reservation is a fraction too small."""
    driver = (
        scripts.read("governance", "budget") + "return priced(tonumber(ARGV[1]), tonumber(ARGV[2]))"
    )
    for tokens, per_thousand in (
        (0, 999),
        (1, 1),
        (999, 1),
        (1000, 1),
        (1001, 1),
        (131_072, 10**8),
    ):
        expected = -(-tokens * per_thousand // 1000)
        assert await redis_client.eval(driver, 0, tokens, per_thousand) == expected
