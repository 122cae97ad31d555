"""
The breaker, `routing/lua/breaker.lua`, through whole admissions and settlements: when it opens, who tries, how it comes back.

Every replica sees the same: two drives at one cell are two replicas.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from ratelimit.limits import deployment_key
from tests.ratelimit import oracle
from tests.ratelimit.cell import Cell
from tests.ratelimit.drive import NOW, Drive, candidate, plan_of
from tests.ratelimit.oracle import HOUR, MINUTE, SECOND

FINE, FAILED, THROTTLED, ABSENT = 1, 2, 3, 4
WHOLE, STREAM, TOOLS = 1, 2, 3
PREMIUM = 1
PROBE = 5


@pytest.fixture
def drive(cell: Cell) -> Drive:
    """Return a replica at three equal deployments."""
    return Drive(cell, plan_of(*(candidate(f"d{n}") for n in (1, 2, 3))))


@pytest.fixture
def cell(redis_url: str) -> Iterator[Cell]:
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        yield Cell(client)


def teach(
    drive: Drive, served: int, health: int, *, times: int = 1, now: int = NOW, **told: Any
) -> None:
    """Settle attempts at a deployment that the choice had no part in."""
    for _ in range(times):
        drive.settle(drive.truth(drive.ask(), served, health=health, **told), now=now)


def open_it(drive: Drive, served: int = 2, **told: Any) -> int:
    """Let a deployment fail until it is left alone. Returns when that ends."""
    teach(drive, served, FAILED, times=3, **told)
    return NOW + SECOND


def send(drive: Drive, count: int, now: int, **wish: Any) -> list[tuple[oracle.Ask, list[Any]]]:
    asks = [drive.ask(tie=n, **wish) for n in range(count)]
    return list(zip(asks, drive.send(*asks, now=now), strict=True))


def tried(rows: list[tuple[oracle.Ask, list[Any]]]) -> list[oracle.Ask]:
    return [ask for ask, row in rows if row[0] == 1 and row[5] == PROBE]


def words(drive: Drive, now: int, **wish: Any) -> str:
    """Return why each candidate loses, for an ask that is given back at once."""
    ask = drive.ask(level=PREMIUM, **wish)
    [row] = drive.send(ask, now=now)
    drive.settle(drive.void(ask), now=now)
    return str(row[6])


# When it opens...


def test_it_opens_when_half_of_ten_calls_failed(drive: Drive) -> None:
    """Not three in a row, but too many of them; below ten calls nothing is concluded from a share."""
    for _ in range(4):
        teach(drive, 2, FAILED)
        teach(drive, 2, FINE)
    assert words(drive, NOW) == "000"
    teach(drive, 2, FAILED)
    assert words(drive, NOW) == "000"
    teach(drive, 2, FAILED)
    assert words(drive, NOW) == "020"


def test_a_few_failures_among_many_open_nothing(drive: Drive) -> None:
    """Three in a row of a hundred are bad luck, not an outage."""
    teach(drive, 2, FAILED)
    teach(drive, 2, FINE, times=50)
    teach(drive, 2, FAILED, times=3)
    assert words(drive, NOW) == "000"


def test_failures_that_lie_apart_are_forgotten(drive: Drive) -> None:
    """One every minute never adds up."""
    for n in range(9):
        teach(drive, 2, FAILED, now=NOW + n * MINUTE)
    assert words(drive, NOW + 9 * MINUTE) == "000"


def test_streaming_broken_is_not_all_broken(drive: Drive) -> None:
    """Each kind of call is judged on its own."""
    open_it(drive, kind=STREAM)
    assert words(drive, NOW, kind=STREAM) == "020"
    assert words(drive, NOW, kind=WHOLE) == words(drive, NOW, kind=TOOLS) == "000"


def test_nobody_there_is_nobody_there_for_any_kind(drive: Drive) -> None:
    """What cannot be connected to needs no three failures of each kind."""
    teach(drive, 2, ABSENT, times=3, kind=STREAM)
    assert [words(drive, NOW, kind=kind) for kind in (WHOLE, STREAM, TOOLS)] == ["020"] * 3


def test_a_deployment_that_fails_now_and_then_gets_less(drive: Drive) -> None:
    """Before it opens a failure already makes it slower in the eyes of the choice."""
    for number in (1, 2, 3):
        teach(drive, number, FINE, ttft=100_000)
    teach(drive, 2, FAILED)
    shares = Counter(row[1] for _, row in send(drive, 60, NOW))
    assert shares[2] < 4
    assert shares[1] == shares[3]


# Who tries...


def test_exactly_one_ask_of_all_replicas_tries_it(drive: Drive) -> None:
    """Eight replicas, two hundred asks each, batches of fifty: one is sent there, and none while it is away."""
    now = open_it(drive)
    fleet = [Drive(drive.cell, drive.plan, boot=f"r/{n}.1") for n in range(8)]
    rows = []
    for _ in range(4):
        for n, replica in enumerate(fleet):
            asks = [replica.ask(attempt_id=f"r{n}-{replica.made}.1", tie=k) for k in range(50)]
            rows += list(zip(asks, replica.send(*asks, now=now), strict=True))
    assert len(rows) == 1600
    assert len(tried(rows)) == 1
    assert Counter(row[1] for _, row in rows)[2] == 1
    assert {row[6] for _, row in rows if row[5] != PROBE} == {"0e0"}


def test_premium_and_retries_are_spared_where_somebody_else_serves(drive: Drive) -> None:
    """A trial is for whom a failure costs least."""
    now = open_it(drive)
    assert not tried(send(drive, 9, now, level=PREMIUM))
    assert not tried(send(drive, 9, now, first=False))
    assert len(tried(send(drive, 9, now))) == 1


def test_a_trial_that_nobody_else_makes_is_made_by_premium(drive: Drive) -> None:
    """There may be none but premium calls: ten seconds are long enough to be spared."""
    now = open_it(drive)
    assert not tried(send(drive, 9, now + 10 * SECOND - 1, level=PREMIUM))
    assert len(tried(send(drive, 9, now + 10 * SECOND, level=PREMIUM))) == 1


def test_a_second_try_goes_to_nobody_who_is_known_to_fail(drive: Drive) -> None:
    """Not even to the least bad: all of an outage would be answered with more load."""
    for number in (1, 2, 3):
        open_it(drive, number)
    assert drive.admit(now=NOW + 1)[5] == 4
    row = drive.admit(now=NOW + 1, first=False)
    assert (row[0], row[2]) == (3, "222")


def test_where_nobody_else_is_left_anybody_tries(drive: Drive) -> None:
    """Premium too: else nobody would serve it."""
    now = open_it(drive)
    assert len(tried(send(drive, 2, now, level=PREMIUM, excluded=(1, 3)))) == 1


def test_what_comes_after_the_best_is_not_tried_for_its_own_sake(cell: Cell) -> None:
    """A candidate of a later tier is tried when it is needed."""
    drive = Drive(cell, plan_of(candidate("d1"), candidate("d2", tier=1)))
    now = open_it(drive)
    assert not tried(send(drive, 9, now))
    assert len(tried(send(drive, 9, now, excluded=(1,)))) == 1


@pytest.mark.parametrize("end", ["void", "client left", "throttled", "reaped"])
def test_a_trial_that_says_nothing_frees_its_place(drive: Drive, end: str) -> None:
    """Whoever tried it out and left, or died: the next one tries, and the pause is no longer."""
    now = open_it(drive)
    other = Drive(drive.cell, drive.plan, boot="r/1.1")
    ask = other.ask(attempt_id="o.1")
    [row] = other.send(ask, now=now)
    assert (row[1], row[5]) == (2, PROBE)
    if end == "void":
        other.settle(other.void(ask), now=now)
    elif end == "reaped":
        other.die(now)
    else:
        health = THROTTLED if end == "throttled" else 0
        other.settle(other.truth(ask, 2, health=health), now=now)
    later = now + (SECOND if end == "throttled" else 0)
    assert len(tried(send(drive, 9, later))) == 1


def test_a_trial_that_streams_for_a_minute_does_not_keep_others_out(drive: Drive) -> None:
    """After a minute another one may try."""
    now = open_it(drive)
    assert len(tried(send(drive, 9, now))) == 1
    assert not tried(send(drive, 9, now + MINUTE - 1))
    assert len(tried(send(drive, 9, now + MINUTE))) == 1


def test_a_failed_trial_doubles_the_pause(drive: Drive) -> None:
    """And one trial more is made after it."""
    now = open_it(drive)
    [ask] = tried(send(drive, 9, now))
    drive.settle(drive.truth(ask, 2, health=FAILED), now=now)
    assert words(drive, now + 2 * SECOND - 1) == "020"
    assert len(tried(send(drive, 9, now + 2 * SECOND))) == 1


# How it comes back...


def test_its_share_grows_back_from_a_tenth(drive: Drive) -> None:
    """A deployment that has just come to itself is not flooded."""
    for number in (1, 2, 3):
        teach(drive, number, FINE, ttft=100_000)
    now = open_it(drive)
    [ask] = tried(send(drive, 1, now))
    drive.settle(drive.truth(ask, 2, health=FINE, ttft=100_000), now=now)
    shares = []
    for later in (now, now + 15 * SECOND, now + 30 * SECOND):
        for number in (1, 2, 3):
            teach(drive, number, FINE, ttft=100_000, now=later)
        rows = send(drive, 210, later)
        shares.append(Counter(row[1] for _, row in rows)[2])
        drive.settle(*(drive.void(ask) for ask, _ in rows), now=later)
    assert shares[0] <= 12
    assert shares[0] < shares[1] < shares[2] == 70


def test_what_was_under_way_before_it_opened_does_not_close_it(drive: Drive) -> None:
    """An answer that began in better times says nothing of now."""
    ask = drive.ask(excluded=(1, 3))
    drive.send(ask, now=NOW - SECOND)
    open_it(drive)
    drive.settle(drive.truth(ask, 2, health=FINE), now=NOW)
    assert words(drive, NOW) == "020"


def test_an_answer_of_the_least_bad_closes_it(cell: Cell) -> None:
    """A lone deployment is asked all the same, and its answer is proof enough."""
    drive = Drive(cell, plan_of(candidate("d1")))
    open_it(drive, 1)
    ask = drive.ask()
    assert drive.send(ask, now=NOW + 1)[0][5] == 4
    drive.settle(drive.truth(ask, health=FINE), now=NOW + 2)
    assert drive.admit(now=NOW + 3)[5] == 1


def test_a_failure_after_the_return_pauses_it_for_longer(drive: Drive) -> None:
    """Until its share is whole again, it is remembered how often it opened."""
    now = open_it(drive)
    [ask] = tried(send(drive, 1, now))
    drive.settle(drive.truth(ask, 2, health=FINE), now=now)
    teach(drive, 2, FAILED, times=3, now=now + SECOND)
    assert words(drive, now + 3 * SECOND - 1) == "020"
    assert words(drive, now + 3 * SECOND) == "0e0"


def test_health_that_has_nothing_to_tell_is_deleted(drive: Drive) -> None:
    """A deployment that is well costs the choice nothing."""
    key = deployment_key("d2")
    teach(drive, 2, FAILED)
    assert drive.cell.client.hexists(key, "h")
    teach(drive, 2, FINE, now=NOW + MINUTE)
    assert not drive.cell.client.hexists(key, "h")


# What the vendor said is left...


def test_a_vendor_that_lets_nothing_pass_is_not_asked_before_it_does(drive: Drive) -> None:
    """Nothing left until then: a fact of all replicas, from an answer that was fine."""
    teach(drive, 2, FINE, left=(0, 20 * SECOND, -1, 0))
    other = Drive(drive.cell, drive.plan, boot="r/1.1")
    assert words(other, NOW) == "090"
    assert words(other, NOW + 20 * SECOND) == "000"
    row = drive.admit(excluded=(1, 3))
    assert row[:3] == [3, 20 * SECOND, "898"]


def test_what_a_vendor_says_is_true_however_the_call_ended(drive: Drive) -> None:
    """Also when its caller left, or had asked what cannot be answered."""
    teach(drive, 2, 0, left=(0, 20 * SECOND, -1, 0))
    assert words(drive, NOW) == "090"


def test_what_is_left_is_counted_down_by_every_grant(drive: Drive) -> None:
    """Two requests left are two requests, however many ask at once."""
    teach(drive, 2, FINE, left=(2, 20 * SECOND, -1, 0))
    rows = send(drive, 5, NOW, excluded=(1, 3))
    assert [row[0] for _, row in rows] == [1, 1, 3, 3, 3]


def test_tokens_that_are_left_suffice_or_do_not(drive: Drive) -> None:
    """A call that may use more than is left goes elsewhere; a smaller one may pass."""
    teach(drive, 2, FINE, left=(-1, 0, 50, 20 * SECOND))
    assert words(drive, NOW) == "090"
    assert words(drive, NOW, assumed=30) == "000"


def test_in_one_window_the_least_that_was_said_counts(drive: Drive) -> None:
    """Answers overtake each other."""
    teach(drive, 2, FINE, left=(1, 20 * SECOND, -1, 0))
    teach(drive, 2, FINE, left=(9, 20 * SECOND, -1, 0))
    assert [row[0] for _, row in send(drive, 2, NOW, excluded=(1, 3))] == [1, 3]


def test_a_clock_that_steps_back_forgets_what_cannot_be(drive: Drive) -> None:
    """What was written in a future that was none keeps nobody out."""
    far = NOW + 24 * HOUR
    teach(drive, 2, FINE, left=(0, 20 * SECOND, 0, HOUR), now=far)
    teach(drive, 3, FAILED, times=3, now=far)
    assert len(tried(send(drive, 9, NOW))) == 1
    assert words(drive, NOW) == "00e"
