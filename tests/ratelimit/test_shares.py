"""The arithmetic of shares: they never add up to more than what is divided, and go where they are used."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from config.quotas import Burst, Limits
from ratelimit import limits, shares
from ratelimit.shares import (
    Part,
    amounts,
    divided,
    first,
    floor_of,
    floors,
    limits_of,
    then,
    wanted,
)

USED = st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0, 3.0])


@st.composite
def divisions(draw: st.DrawFn) -> tuple[int, list[int], list[float]]:
    """Draw a quota, shares of it that were right once, perhaps for another quota, and their use."""
    cells = draw(st.integers(2, 6))
    quota = draw(st.integers(cells, 1000))
    shares = draw(st.lists(st.integers(0, 1200), min_size=cells, max_size=cells))
    return quota, shares, draw(st.lists(USED, min_size=cells, max_size=cells))


@given(divisions())
def test_all_of_it_is_divided_and_nobody_has_less_than_the_floor(
    case: tuple[int, list[int], list[float]],
) -> None:
    """Whatever the shares were before: the quota is given away, to the last, and not beyond."""
    quota, had, used = case
    found = divided(quota, had, used)
    assert sum(found) == quota
    assert min(found) >= floor_of(quota, len(had))


@given(divisions())
def test_who_presses_alone_gets_more_until_nobody_else_can_give(
    case: tuple[int, list[int], list[float]],
) -> None:
    """A cell that uses all of its share, while others use nothing, ends with all that is above the floors."""
    quota, had, _ = case
    count = len(had)
    alone = [1.0, *[0.0] * (count - 1)]
    found = divided(quota, had, alone)
    for _ in range(60):
        later = divided(quota, found, alone)
        assert later[0] >= found[0]
        found = later
    floor = floor_of(quota, count)
    assert found == [quota - floor * (count - 1), *[floor] * (count - 1)]


def test_every_rate_is_divided() -> None:
    """A rate that limits know and shares do not would be granted once per cell."""
    assert shares.RATES == limits.RATES


@given(divisions(), st.sampled_from([0.0, 1.0]))
def test_where_all_use_the_same_shares_become_even(
    case: tuple[int, list[int], list[float]], use: float
) -> None:
    """Be it nothing or everything: what history has left does not stay for ever."""
    quota, had, _ = case
    found = had
    for _ in range(120):
        found = divided(quota, found, [use] * len(had))
    assert max(found) - min(found) <= 1


def test_who_uses_a_part_keeps_what_it_has() -> None:
    """Between little and much nobody gives or gets."""
    assert divided(100, [30, 40, 30], [0.3, 0.4, 1.0]) == [30, 40, 30]


def test_shares_move_by_a_part_at_a_time() -> None:
    """A quarter of what lies above the floor: one quiet second takes no cell's breath."""
    assert divided(800, [400, 400], [1.0, 0.0]) == [475, 325]
    assert divided(800, [475, 325], [1.0, 0.0]) == [532, 268]


@given(divisions(), st.integers(1, 5000))
def test_bursts_are_divided_with_their_limits(
    case: tuple[int, list[int], list[float]], burst: int
) -> None:
    """The buckets together hold no more than the whole one, and none is without a place for a request."""
    quota, had, used = case
    count = len(had)
    whole = Limits(rpm=quota, concurrency=quota, burst=Burst(rpm=max(burst, count)))
    mine = [
        limits_of(whole, {"rpm": share, "concurrency": share}, count)
        for share in divided(quota, had, used)
    ]
    assert sum(one.rpm or 0 for one in mine) == quota
    assert sum(one.burst.rpm or 0 for one in mine) <= max(burst, count)
    assert all((one.burst.rpm or 0) >= 1 for one in mine)
    least = floors(whole, count)
    for one in mine:
        assert (one.rpm or 0) >= (least.rpm or 0)
        assert (one.burst.rpm or 0) >= (least.burst.rpm or 0)


def test_a_limit_without_a_burst_of_its_own_has_its_share_as_its_burst() -> None:
    """Within one: a bucket that holds the amount of its window holds the share of it."""
    found = limits_of(Limits(tpm=1000, otpd=70), {"tpm": 250, "otpd": 35}, 2)
    assert (found.tpm, found.burst.tpm) == (250, 250)
    assert (found.otpd, found.burst.otpd) == (35, 35)
    assert amounts(found) == {"tpm": 250, "otpd": 35}


@st.composite
def parts(draw: st.DrawFn) -> tuple[int, list[Part | None]]:
    """Draw what cells say of places: right shares, and more in flight than that after they became smaller."""
    cells = draw(st.integers(2, 5))
    quota = draw(st.integers(cells, 60))
    shares = divided(
        quota, draw(st.lists(st.integers(1, 60), min_size=cells, max_size=cells)), [0.0] * cells
    )
    found: list[Part | None] = []
    left = quota
    for share in shares:
        busy = draw(st.integers(0, left))
        left -= busy
        said = Part({"concurrency": share}, {"concurrency": busy / share}, busy, 1)
        kind = draw(st.sampled_from(["said", "said", "said", "nothing there", "silent"]))
        found.append({"said": said, "nothing there": Part({}, {}, 0), "silent": None}[kind])
    return quota, found


@given(parts())
def test_nothing_grows_before_it_is_confirmed_and_never_beyond_what_runs(
    case: tuple[int, list[Part | None]],
) -> None:
    """With one cell silent nothing grows at all; places in use elsewhere count as given."""
    quota, said = case
    whole = {"concurrency": quota}
    floor = floor_of(quota, len(said))
    targets = wanted(whole, said)
    known = [one for one in said if one is not None]
    for target, part in zip(targets, said, strict=True):
        if part is not None and part.shares:
            less = first(target, part)["concurrency"]
            assert less <= part.shares["concurrency"]
            if None in said:
                assert target["concurrency"] <= part.shares["concurrency"]
    if len(known) < len(said):
        return
    confirmed = [
        Part(first(target, part), part.used, part.in_flight, part.version) if part.shares else part
        for target, part in zip(targets, known, strict=True)
    ]
    found = [one["concurrency"] for one in then(whole, targets, confirmed)]
    before = [part.shares.get("concurrency", floor) for part in confirmed]
    held = [max(share, part.in_flight) for share, part in zip(found, confirmed, strict=True)]
    assert sum(held) <= max(
        quota, sum(max(b, part.in_flight) for b, part in zip(before, confirmed, strict=True))
    )
    assert all(b <= share for b, share in zip(before, found, strict=True))
    assert sum(found) <= quota


def test_what_runs_beyond_a_share_is_given_when_it_ends() -> None:
    """Ten places, of which the first cell had eight in use: the second gets what is free, then the rest."""
    whole = {"concurrency": 10}
    targets = [{"concurrency": 5}, {"concurrency": 5}]
    seen = []
    for busy in (8, 7, 5):
        now = [Part({"concurrency": 5}, {}, busy, 1), Part({"concurrency": 1}, {}, 1, 1)]
        seen.append(then(whole, targets, now)[1]["concurrency"])
    assert seen == [2, 3, 5]
    assert all(a < b for a, b in pairwise(seen))
