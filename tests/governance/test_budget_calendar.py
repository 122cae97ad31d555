"""
The calendar of budgets in `governance/lua/budget.lua`, against Python's `datetime` and `zoneinfo`.

The script's arithmetic is civil-date arithmetic without a library; it must never be a microsecond off.
"""

import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from ratelimit.zones import packed_zone
from store import scripts

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

DRIVER = (
    scripts.read("governance", "budget")
    + """
local answers = {}
for i = 2, #ARGV do
  -- A call has one now; this one has many.
  calendars = {}
  local at = tonumber(ARGV[i])
  answers[i - 1] = { unpack(period_ids(ARGV[1], at)) }
  for kind = 1, 5 do answers[i - 1][5 + kind] = string.format('%.0f', period_end(ARGV[1], kind, at)) end
end
return answers
"""
)
ZONES = sorted(available_timezones())


def numbers(moment: datetime) -> list[int]:
    """Return the numbers of the periods that hold a moment: days and weeks since 2024-01-01 from 1, months and quarters since year 0."""
    days = (moment.date() - EPOCH.date()).days
    quarter = moment.year * 4 + (moment.month + 2) // 3
    return [days + 1, days // 7 + 1, moment.year * 12 + moment.month, quarter, 1]


async def answers_at(
    client: redis.asyncio.Redis, moments: Iterable[datetime], zone: str = "UTC"
) -> list[tuple[list[int], list[datetime]]]:
    """Ask the script, in portions, for the numbers of the periods and for their ends (but the last one's)."""
    us = [(moment - EPOCH) // MICROSECOND for moment in moments]
    answers: list[list[int]] = []
    for start in range(0, len(us), 1000):
        answers += await client.eval(DRIVER, 0, packed_zone(zone), *us[start : start + 1000])
    return [
        (answer[:5], [EPOCH + int(end) * MICROSECOND for end in answer[5:9]]) for answer in answers
    ]


async def asked(
    client: redis.asyncio.Redis, moments: Iterable[datetime], zone: str = "UTC"
) -> list[list[int]]:
    """Ask the script for the numbers of the periods."""
    return [ids for ids, _ in await answers_at(client, moments, zone)]


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


def turns(zone: str) -> list[datetime]:
    """Return the moments at which a zone's offset changes, to 2045."""
    stretches = struct.iter_unpack(">Ii", packed_zone(zone))
    return [EPOCH + timedelta(seconds=since) for since, _ in stretches][1:]


@given(data=st.data(), zone=st.sampled_from(ZONES))
async def test_any_moment_of_any_zone_is_in_its_periods(
    redis_client: redis.asyncio.Redis, data: st.DataObject, zone: str
) -> None:
    """Also on the days on which an hour is skipped or comes twice: as the clocks there say."""
    last = datetime(2044, 12, 1, tzinfo=UTC)
    anywhere = st.datetimes(EPOCH.replace(tzinfo=None), last.replace(tzinfo=None)).map(
        lambda moment: moment.replace(tzinfo=UTC)
    )
    around = st.builds(
        lambda turn, us: turn + us * MICROSECOND,
        st.sampled_from(turns(zone) or [EPOCH + timedelta(days=9)]),
        st.integers(-90_000_000_000, 90_000_000_000) | st.integers(-2, 2),
    ).filter(lambda moment: EPOCH <= moment < last)
    moments = data.draw(st.lists(anywhere | around, min_size=1, max_size=20))
    there = [moment.astimezone(ZoneInfo(zone)) for moment in moments]
    answers = await answers_at(redis_client, moments, zone)
    assert [ids for ids, _ in answers] == [numbers(moment) for moment in there]
    # Its end is the first moment of the next period: not one microsecond before it.
    ends = [(end, kind) for _, found in answers for kind, end in enumerate(found)]
    at_end = await asked(redis_client, [end for end, _ in ends], zone)
    before = await asked(redis_client, [end - MICROSECOND for end, _ in ends], zone)
    for at, (_, kind) in enumerate(ends):
        number = answers[at // 4][0][kind]
        # A day may be skipped as a whole, where a zone moves over the date line.
        assert at_end[at][kind] > number
        assert before[at][kind] == number


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
