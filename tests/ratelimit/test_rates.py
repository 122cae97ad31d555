"""Rates, one promise after the other: what a window admits, what a refusal says, what a clock that steps does."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ratelimit import oracle
from tests.ratelimit.cell import Cell
from tests.ratelimit.drive import DAY, KEY, MONTH, NOW, TEAM, Drive, soft, strict
from tests.ratelimit.oracle import (
    BUDGET,
    HOUR,
    MINUTE,
    REQUESTS,
    SECOND,
    TOKENS,
    TOO_LARGE,
    Limits,
    moment,
)

# Rates...


@given(
    rpm=st.sampled_from([1, 7, 13, 60, 601, 7777, 10**7]),
    tpm=st.sampled_from([0, 90, 1001, 99_991, 10**10]),
    gaps=st.lists(
        st.tuples(
            st.integers(0, 20_000_000) | st.integers(0, 50) | st.just(MINUTE), st.integers(1, 300)
        ),
        min_size=5,
        max_size=40,
    ),
)
def test_no_window_admits_more_than_the_burst_and_the_rate(
    cell: Cell, rpm: int, tpm: int, gaps: list[tuple[int, int]]
) -> None:
    """Between any two moments: at most the limit plus the limit times the minutes between them, in requests and in tokens."""
    cell.client.flushall()
    drive = Drive(cell, key=Limits(rpm=rpm, tpm=tpm))
    now, granted = NOW, []
    for gap, tokens in gaps:
        now += gap
        rows = drive.send(*(drive.ask(input=0, cap=tokens) for _ in range(3)), now=now)
        granted += [(now, min(tokens, tpm or tokens)) for row in rows if row[0] == 1]
    # A microsecond of rounding per window.
    for i, (begin, _) in enumerate(granted):
        taken = 0
        for count, (end, tokens) in enumerate(granted[i:], 1):
            taken += tokens
            minutes = Fraction(end - begin + 1, MINUTE)
            assert count <= rpm + rpm * minutes
            assert not tpm or taken <= tpm + tpm * minutes


def test_a_full_bucket_is_used_to_its_last_token(cell: Cell) -> None:
    """Rounding takes away one request at most: a limit that divides no minute still grants all of its burst."""
    drive = Drive(cell, key=Limits(rpm=7777))
    granted = 0
    for _ in range(0, 8000, 500):
        granted += sum(row[0] == 1 for row in drive.send(*(drive.ask() for _ in range(500))))
    assert granted in {7776, 7777}


def test_a_clock_that_steps_back_grants_nothing_extra_and_heals(cell: Cell) -> None:
    """A used bucket does not begin anew, and fills again: after the step has passed, at most an hour and two minutes."""
    for step in (1, SECOND, 5 * MINUTE, 3 * HOUR, 400 * 24 * HOUR):
        cell.client.flushall()
        drive = Drive(cell, key=Limits(rpm=5))
        assert [row[0] for row in drive.send(*(drive.ask() for _ in range(6)))] == [1] * 5 + [0]
        back = NOW - step
        for tick in range(0, 10 * SECOND, SECOND):
            assert drive.admit(now=back + tick)[:2] == [0, REQUESTS]
        healed = back + min(step, HOUR + 2 * MINUTE) + MINUTE
        rows = drive.send(*(drive.ask() for _ in range(6)), now=healed)
        assert [row[0] for row in rows] == [1] * 5 + [0]


def test_a_clock_that_steps_forward_gives_one_bucket_and_the_next_period(cell: Cell) -> None:
    """However far: no more than a full bucket, and what runs is settled in the period in which it began."""
    for step in (MINUTE, 3 * HOUR, 400 * 24 * HOUR):
        cell.client.flushall()
        drive = Drive(cell, key=Limits(rpm=5), team=strict(1000))
        asks = [drive.ask(cap=90) for _ in range(5)]
        assert [row[0] for row in drive.send(*asks)] == [1] * 5
        drive.cell.beat(drive.boot, NOW + step, fresh=True)
        rows = drive.send(*(drive.ask(cap=90) for _ in range(6)), now=NOW + step)
        assert [row[0] for row in rows] == [1] * 5 + [0]
        drive.settle(*(drive.truth(ask) for ask in asks), now=NOW + step)
        spent, held = drive.money(TEAM, DAY)
        same_day = (NOW + step) // (24 * HOUR) == NOW // (24 * HOUR)
        assert (spent, held) == (75 if same_day else 0, 500)


def test_a_clock_that_steps_back_over_midnight_brings_no_second_budget(cell: Cell) -> None:
    """Back and forth over the end of a day: the new day's budget is spent once, and the old day's is not begun anew."""
    midnight = moment(2026, 6, 18)
    drive = Drive(cell, key=soft(100))
    assert drive.admit(now=midnight - SECOND)[0] == 1
    assert drive.admit(now=midnight + SECOND)[0] == 1
    for now in (midnight - SECOND, midnight + 2 * SECOND, midnight - 1, midnight):
        assert drive.admit(now=now)[:2] == [0, BUDGET]
    assert drive.admit(now=midnight + 24 * HOUR)[0] == 1


def test_what_was_held_while_the_clock_was_behind_is_given_back(cell: Cell) -> None:
    """A lease remembers the period that it was written into, whatever the clock said."""
    midnight = moment(2026, 6, 18)
    drive = Drive(cell, key=strict(20_000))
    drive.admit(now=midnight + SECOND, cap=100)
    ask = drive.ask(cap=500)
    drive.send(ask, now=midnight - SECOND)
    assert drive.money(KEY, DAY) == (0, 110 + 510)
    drive.settle(drive.truth(ask, cost=400), now=midnight + 3 * SECOND)
    assert drive.money(KEY, DAY) == (400, 110)


def test_a_clock_that_was_far_ahead_does_not_stop_the_calendar(cell: Cell) -> None:
    """What was spent in a future that was none counts in the present period, which then ends as usual."""
    drive = Drive(cell, key=soft(1000, MONTH))
    year = 365 * 24 * HOUR
    ask = drive.ask()
    drive.send(ask, now=NOW + year)
    drive.settle(drive.truth(ask, cost=999), now=NOW + year)
    assert drive.admit()[0] == 1
    assert drive.money(KEY, MONTH) == (999, 100)
    assert drive.admit()[:2] == [0, BUDGET]
    assert drive.admit(now=moment(2026, 7, 1))[0] == 1
    assert drive.money(KEY, MONTH) == (0, 100)


# Every window, every scope...

PER_WINDOW = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from([1, 3, 7, 60, 7777] if name[0] == "r" else [90, 777, 1001, 60_000])
        for name in oracle.RATES
    },
)
BURSTS = st.sampled_from([(), (("rpm", 2),), (("tpm", 150), ("rps", 9))])
# A millisecond less than it was told is too early, unless that is less than a millisecond.
EARLY = 1000


@given(
    scopes=st.dictionaries(
        st.sampled_from(["key", "team", "org", "d1", "model"]),
        st.builds(lambda rates, burst: Limits(burst=burst, **rates), PER_WINDOW, BURSTS),
        max_size=3,
    ),
    story=st.lists(
        st.tuples(st.integers(0, 5_000_000), st.integers(0, 200), st.integers(0, 300)),
        min_size=3,
        max_size=15,
    ),
)
def test_waiting_as_long_as_it_says_is_enough_and_less_is_not(
    cell: Cell, scopes: dict[str, Limits], story: list[tuple[int, int, int]]
) -> None:
    """Whichever limit of whichever scope and window refuses: the same ask succeeds then, and a millisecond before it does not."""
    cell.client.flushall()
    drive = Drive(cell, **scopes)
    now = NOW
    for gap, tokens, cap in story:
        now += gap
        wish = {"input": tokens, "cap": cap, "assumed": 0}
        row = drive.admit(now=now, **wish)
        if row[0] == 1:
            continue
        wait = row[4] if row[0] == 0 else row[1]
        if row[0] == 0 and row[1] == TOO_LARGE:
            assert wait == 0
            continue
        assert wait > 0
        early = drive.admit(now=now + max(wait - EARLY, 0), **wish)
        assert early[0] != 1
        assert drive.admit(now=now + wait, **wish)[0] == 1
        now += wait


@pytest.mark.parametrize("rate", oracle.RATES)
def test_every_rate_counts_what_it_says(cell: Cell, rate: str) -> None:
    """Requests, tokens, input or output; the answer names the limit, and so does the refusal by a bucket that is smaller."""
    amount = 1 if rate[0] == "r" else 100
    limits = Limits(**{rate: 10 * amount}, burst=((rate, 2 * amount),))
    drive = Drive(cell, org=limits)
    wish = {"input": 0 if rate[0] == "o" else 100, "cap": 100 if rate[0] == "o" else 0}
    wish["assumed"] = 0
    rows = [drive.admit(**wish) for _ in range(3)]
    assert [row[0] for row in rows] == [1, 1, 0]
    code = oracle.RATES.index(rate) + 1
    window = oracle.WINDOWS[rate[-1]]
    what = REQUESTS if rate[0] == "r" else TOKENS
    assert rows[2][1:5] == [what, 3, 10 * amount, window // 10]
    assert rows[2][7] == code
    if rate[0] in "ti":
        too_large = drive.admit(**wish | {"input": 201})
        assert (too_large[1], too_large[3], too_large[7]) == (TOO_LARGE, 200, code)


def test_what_wants_nothing_of_a_limit_is_not_held_up_by_it(cell: Cell) -> None:
    """An embedding has no output, a retry is no second request; a bucket in debt refuses only what draws on it."""
    drive = Drive(cell, key=Limits(otpm=100, rpm=1))
    ask = drive.ask(cap=100)
    drive.send(ask)
    drive.settle(drive.truth(ask, output=5000))
    assert drive.admit()[:2] == [0, TOKENS]
    assert drive.admit(n=0, assumed=0, first=False)[0] == 1
    assert drive.admit(n=0, assumed=0)[:2] == [0, REQUESTS]


def test_input_and_output_are_corrected_each_by_its_own_truth(cell: Cell) -> None:
    """More input than estimated is a debt there, less output is given back; refunds never fill a bucket beyond its burst."""
    drive = Drive(cell, key=Limits(itpm=6000, otpm=6000, tpm=6000))
    ask = drive.ask(input=10, cap=90)
    drive.send(ask)
    drive.settle(drive.truth(ask, input=25, output=40))
    us = MINUTE // 6000
    assert drive.bucket(KEY, "itpm") == 25 * us
    assert drive.bucket(KEY, "otpm") == 40 * us
    assert drive.bucket(KEY, "tpm") == 65 * us
    late = drive.ask(input=10, cap=90)
    drive.send(late)
    drive.settle(drive.truth(late, input=0, output=0), now=NOW + HOUR)
    assert drive.state(KEY).empty_at["otpm"] == NOW + HOUR
