"""Time zones as bytes: every change of every zone's offset, to the second, until 2045."""

import struct
from datetime import timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit.zones import FIRST, LAST, packed_zone

ZONES = sorted(available_timezones())


def stretches(zone: str) -> list[tuple[int, int]]:
    return list(struct.iter_unpack(">Ii", packed_zone(zone)))


@given(zone=st.sampled_from(ZONES), seconds=st.integers(0, (LAST - FIRST) // timedelta(seconds=1)))
def test_at_any_moment_the_offset_is_that_of_the_zone(zone: str, seconds: int) -> None:
    """The last stretch that has begun says it; what is empty is UTC."""
    offset = ([of for since, of in stretches(zone) if since <= seconds] or [0])[-1]
    there = (FIRST + timedelta(seconds=seconds)).astimezone(ZoneInfo(zone))
    assert there.utcoffset() == timedelta(seconds=offset)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Africa/Casablanca"])
def test_each_stretch_begins_at_the_second_at_which_clocks_are_set(zone: str) -> None:
    """One second before, the offset was another one."""
    found = stretches(zone)
    assert len(found) > 40
    for (_, before), (since, offset) in pairwise(found):
        at = FIRST + timedelta(seconds=since)
        assert at.astimezone(ZoneInfo(zone)).utcoffset() == timedelta(seconds=offset)
        at -= timedelta(seconds=1)
        assert at.astimezone(ZoneInfo(zone)).utcoffset() == timedelta(seconds=before)


def test_a_zone_takes_as_little_as_it_needs() -> None:
    """UTC under any name takes nothing, a zone without summer time one stretch; all go into a record easily."""
    assert packed_zone("UTC") == packed_zone("Etc/GMT") == b""
    assert stretches("Asia/Kathmandu") == [(0, 20_700)]
    assert stretches("Europe/Berlin")[:2] == [(0, 3600), (90 * 86_400 + 3600, 7200)]
    assert max(len(packed_zone(zone)) for zone in ZONES) < 500
