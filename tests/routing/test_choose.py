"""
Health and choice among deployments, `routing/lua/choose.lua`: through its own functions, and through whole admissions.

What it learns from one settlement is what the next ask of any replica sees.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from store import scripts
from tests.ratelimit.cell import Cell
from tests.ratelimit.drive import NOW, Drive, candidate, plan_of
from tests.ratelimit.oracle import HOUR, MINUTE, SECOND, Limits

FINE, FAILED, THROTTLED = 1, 2, 3
# A failure of the one ask that was to try it out.
TRIAL = 5

# Runs a list of lessons {now, health, ttft, cool} at one deployment; answers what is then known of it.
DRIVER = (
    scripts.bundle("routing", "choose")
    + """
local d, at = { s = {} }, tonumber(ARGV[2])
for i = 1, 7 do d.s[i] = 0 end
for _, lesson in ipairs(cjson.decode(ARGV[1])) do
  d.lat = nil
  if lesson[2] == 5 then
    claim(d, 'q.1', 1, lesson[1])
    lesson[2] = 2
  end
  learn(d, lesson[1], lesson[2], lesson[3], lesson[4], 1, 'q.1', lesson[1])
end
d.lat = nil
local word, wait = standing(d, 1, at)
return cjson.encode({ latency(d, at), wait, throttled(d, at), d.s[5], burden(d, 1, at) })
"""
)


@pytest.fixture
def client(redis_url: str) -> Iterator["redis.Redis[bytes]"]:
    with redis.Redis.from_url(redis_url) as ours:
        ours.flushall()
        yield ours


@pytest.fixture
def cell(client: "redis.Redis[bytes]") -> Cell:
    return Cell(client)


class Known:
    """What a deployment's state says after some lessons."""

    def __init__(self, client: "redis.Redis[bytes]", lessons: list[Any], at: int = NOW) -> None:
        told = json.loads(client.eval(DRIVER, 0, json.dumps(lessons), at))
        self.latency, self.cooling, self.throttled, self.failures, self.penalty, _ = told


def fine(ttft: int, at: int = NOW) -> list[int]:
    return [at, FINE, ttft, 0]


def failed(at: int = NOW) -> list[int]:
    return [at, FAILED, 0, 0]


# Latency...


def test_a_worse_first_byte_counts_at_once_and_a_better_one_slowly(client: Any) -> None:
    """Peak EWMA: what got slow is avoided now, what got fast again has to prove it."""
    assert Known(client, [fine(1000), fine(90_000)]).latency == 90_000
    assert Known(client, [fine(90_000), fine(1000)]).latency == pytest.approx(85_550)
    many = [fine(90_000), *[fine(1000)] * 200]
    assert Known(client, many).latency == pytest.approx(1000, rel=0.01)
    after = Known(client, [fine(90_000), fine(1000, NOW + 10 * SECOND)], NOW + 10 * SECOND).latency
    assert 1000 < after < 90_000 / 7


def test_an_idle_latency_fades_to_a_third_and_is_then_forgotten(client: Any) -> None:
    """It is tried again, but a long pause makes nobody a hundred times more attractive."""
    faded = [Known(client, [fine(90_000)], NOW + s * SECOND).latency for s in (0, 5, 10, 20, 30)]
    assert faded[0] == 90_000
    assert faded == sorted(faded, reverse=True)
    assert faded[2] == faded[3] == faded[4] == pytest.approx(90_000 / 2.71828, rel=0.001)
    assert Known(client, [fine(90_000)], NOW + 30 * SECOND + 1).latency == 0


def test_a_clock_that_steps_back_leaves_latencies_as_they_are(client: Any) -> None:
    """There is no negative age."""
    assert Known(client, [fine(90_000)], NOW - HOUR).latency == 90_000
    assert Known(
        client, [fine(90_000), fine(1000, NOW - HOUR)], NOW - HOUR
    ).latency == pytest.approx(85_550)


def test_failing_fast_attracts_nobody(client: Any) -> None:
    """A failure weighs like an answer of five seconds: one among a few little, one after the other in full."""
    one = Known(client, [fine(1000), failed()])
    assert (one.latency, one.penalty) == (1000, SECOND)
    two = Known(client, [fine(1000), failed(), failed()])
    assert two.penalty == pytest.approx(5 / 3 * SECOND)
    fading = Known(client, [failed()], NOW + 10 * SECOND)
    assert 0 < fading.penalty < SECOND / 2


def test_what_says_nothing_teaches_nothing(client: Any) -> None:
    """A caller who left is no sign of health or of illness."""
    known = Known(client, [[NOW, 0, 9_000_000, 0]])
    assert (known.latency, known.cooling, known.throttled, known.failures) == (0, 0, 0, 0)


# Cooling...


def test_three_failures_in_a_row_cool_a_deployment(client: Any) -> None:
    """Two do not, and a success in between begins the count anew."""
    assert Known(client, [failed()] * 2).cooling == 0
    assert Known(client, [failed()] * 3).cooling == SECOND
    assert Known(client, [failed(), failed(), fine(1000), failed(), failed()]).cooling == 0


def test_each_failed_trial_after_a_pause_doubles_the_next_one(client: Any) -> None:
    """One second, two, four … at most thirty."""
    lessons, now, pauses = [failed(), failed()], NOW, []
    lessons.append(failed())
    for _ in range(8):
        pauses.append(Known(client, lessons, now).cooling // SECOND)
        now += pauses[-1] * SECOND
        lessons.append([now, TRIAL, 0, 0])
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_what_was_under_way_when_it_was_cooled_does_not_lengthen_the_pause(client: Any) -> None:
    """A hiccup that hits fifty calls at once costs a second, not half a minute."""
    known = Known(client, [failed()] * 50)
    assert (known.cooling, known.failures) == (SECOND, 50)


def test_throttling_is_the_vendors_word_and_no_failure(client: Any) -> None:
    """429 with Retry-After is believed, at least a second, at most an hour; a longer word is kept."""
    assert Known(client, [[NOW, THROTTLED, 0, 0]]).throttled == SECOND
    assert Known(client, [[NOW, THROTTLED, 0, 20 * SECOND]]).throttled == 20 * SECOND
    assert Known(client, [[NOW, THROTTLED, 0, 99 * HOUR]]).throttled == HOUR
    both = Known(client, [[NOW, THROTTLED, 0, 20 * SECOND], [NOW, THROTTLED, 0, SECOND]])
    assert (both.throttled, both.failures, both.cooling) == (20 * SECOND, 0, 0)
    assert Known(client, [[NOW, FAILED, 0, 7 * SECOND]]).throttled == 7 * SECOND


def test_a_clock_that_steps_back_leaves_nobody_out_for_long(client: Any) -> None:
    """A pause that ends later than any pause can was written in a future that was none; the next one counts."""
    far = NOW + 24 * HOUR
    lessons = [*[failed(far)] * 3, [far, THROTTLED, 0, MINUTE]]
    known = Known(client, lessons, NOW)
    assert (known.cooling, known.throttled) == (0, 0)
    known = Known(client, [*lessons, [NOW, TRIAL, 0, 0], [NOW, THROTTLED, 0, 0]], NOW)
    assert (known.cooling, known.throttled) == (2 * SECOND, SECOND)
    assert Known(client, [*lessons, fine(1000)], NOW).cooling == 0


# Whole admissions...


def three(**changes: Any) -> Any:
    return plan_of(*(candidate(f"d{n}", **changes) for n in (1, 2, 3)))


def teach(
    drive: Drive,
    served: int,
    health: int,
    ttft: int = 0,
    *,
    times: int = 1,
    now: int = NOW,
    cool: int = 0,
) -> None:
    for _ in range(times):
        ask = drive.ask()
        drive.settle(drive.truth(ask, served, health=health, ttft=ttft, cool=cool), now=now)


def served(drive: Drive, count: int, now: int = NOW) -> Counter[int]:
    rows = drive.send(*(drive.ask(tie=n) for n in range(count)), now=now)
    return Counter(row[1] for row in rows if row[0] == 1)


def test_a_batch_spreads_over_equals(cell: Cell) -> None:
    """Each ask of a batch sees what the ones before it put in flight: no herd."""
    assert served(Drive(cell, three()), 60) == {1: 20, 2: 20, 3: 20}


def test_weights_share_the_load(cell: Cell) -> None:
    """A deployment of weight 3 carries three times as much."""
    drive = Drive(cell, three(), d2=Limits(weight=3))
    assert served(drive, 50) == {1: 10, 2: 30, 3: 10}


def test_the_slower_deployment_gets_less_in_proportion(cell: Cell) -> None:
    """Expected wait is first-byte time times work in flight: twice as slow, half as many."""
    drive = Drive(cell, three())
    for number, ttft in ((1, 100_000), (2, 200_000), (3, 400_000)):
        teach(drive, number, FINE, ttft)
    shares = served(drive, 70)
    assert shares == {1: 40, 2: 20, 3: 10}


def test_a_newcomer_counts_as_its_peers_do(cell: Cell) -> None:
    """Unknown latency is the average of the known ones: it is tried, and drawn into no herd."""
    drive = Drive(cell, three())
    teach(drive, 1, FINE, 100_000)
    teach(drive, 2, FINE, 300_000)
    shares = served(drive, 55)
    assert shares == {1: 30, 2: 10, 3: 15}


def test_a_deployment_that_comes_back_after_a_pause_draws_no_herd(cell: Cell) -> None:
    """However long it was idle, in its first batch it gets what an average one gets."""
    for pause in (20 * SECOND, 40 * SECOND, HOUR):
        cell.client.flushall()
        drive = Drive(Cell(cell.client), three())
        teach(drive, 3, FINE, 100_000)
        for number in (1, 2):
            teach(drive, number, FINE, 100_000, now=NOW + pause)
        assert served(drive, 60, NOW + pause)[3] <= 36


def test_ties_are_broken_by_the_ask(cell: Cell) -> None:
    """So that replicas that start together do not all begin with the first deployment."""
    drive = Drive(cell, three())
    first = []
    for tie in (-2, -1, 0, 1, 2, 5, 2**40):
        ask = drive.ask(tie=tie)
        [row] = drive.send(ask)
        first.append(row[1])
        drive.settle(drive.void(ask))
    assert first == [2, 3, 1, 2, 3, 3, 2]


def test_tiers_are_respected(cell: Cell) -> None:
    """The next tier is used only for what the ones before cannot take, however much faster it is."""
    plan = plan_of(candidate("d1"), candidate("d2", tier=1), candidate("d3", tier=1))
    drive = Drive(cell, plan, d1=Limits(concurrency=5))
    teach(drive, 1, FINE, 900_000)
    teach(drive, 2, FINE, 1000)
    teach(drive, 3, FINE, 1000)
    assert served(drive, 25) == {1: 5, 2: 10, 3: 10}


@pytest.mark.parametrize(
    ("word", "limits", "wish"),
    [
        ("1", {"d1": Limits(drained=1)}, {}),
        ("3", {"d1": Limits(concurrency=1)}, {}),
        ("4", {"d1": Limits(rpm=1)}, {}),
        ("5", {"d1": Limits(tpm=150)}, {}),
        ("6", {"model": Limits(concurrency=1)}, {}),
        ("6", {"model": Limits(rpm=1)}, {}),
        ("7", {"key": Limits(budgets=((1, 4300, 1),))}, {}),
        ("8", {}, {"excluded": (1,)}),
    ],
)
def test_the_answer_says_why_a_candidate_lost(
    cell: Cell, word: str, limits: dict[str, Limits], wish: dict[str, Any]
) -> None:
    """One digit per candidate: the decision can be read back."""
    plan = plan_of(candidate("d1"), candidate("d2", model="m2", output=1, most=9))
    drive = Drive(cell, plan, **limits)
    if word != "1":
        drive.admit(excluded=(2,))
    row = drive.admit(**wish)
    assert (row[0], row[1], row[5], row[6]) == (1, 2, 2, word + "0")


def test_a_failing_deployment_is_cooled_for_every_replica(cell: Cell) -> None:
    """After three failures in a row the others serve; when its pause is over, it is tried again."""
    drive = Drive(cell, three())
    teach(drive, 2, FAILED, times=3)
    [row] = drive.send(drive.ask(tie=1))
    assert row[6] == "020"
    assert 2 not in served(drive, 20)
    assert 2 in served(drive, 60, NOW + 31 * SECOND)


def test_the_least_bad_serves_when_all_fail(cell: Cell) -> None:
    """Nobody is refused because everybody fails: the one whose pause ends first is used, and said so."""
    drive = Drive(cell, three())
    for number, times in ((1, 3), (2, 3), (3, 3)):
        teach(drive, number, FAILED, times=times, now=NOW + number)
    teach(drive, 2, FAILED, now=NOW + 2 * SECOND)
    row = drive.admit(now=NOW + 2 * SECOND + 1)
    assert row[1] in {1, 3}
    lone = Drive(cell, plan_of(candidate("d9")), boot="r/1.1")
    teach(lone, 1, FAILED, times=9)
    row = lone.admit()
    assert (row[0], row[1], row[5], row[6]) == (1, 1, 4, "0")


def test_of_several_that_fail_the_one_that_returns_first_is_the_least_bad(cell: Cell) -> None:
    """Its pause was the shortest, or the longest ago."""
    drive = Drive(cell, three())
    for number, at in ((1, 300_000), (2, 100_000), (3, 200_000)):
        teach(drive, number, FAILED, times=3, now=NOW + at)
    row = drive.admit(now=NOW + 400_000)
    assert (row[1], row[5], row[6]) == (2, 4, "202")


def test_the_vendors_word_is_never_overridden(cell: Cell) -> None:
    """A throttled deployment is not used, not even as the last one; the answer says when it is free."""
    drive = Drive(cell, three())
    teach(drive, 1, THROTTLED, cool=20 * SECOND)
    teach(drive, 2, THROTTLED, cool=9 * SECOND)
    teach(drive, 3, FAILED, times=3)
    row = drive.admit()
    assert (row[0], row[1], row[5]) == (1, 3, 4)
    row = drive.admit(excluded=(3,))
    assert row[:3] == [3, 9 * SECOND, "998"]
    assert drive.admit(now=NOW + 9 * SECOND, excluded=(3,))[:2] == [1, 2]


# What is favoured...


def favouring(drive: Drive, count: int, favoured: int = 2) -> Counter[int]:
    rows = drive.send(*(drive.ask(tie=n, favoured=favoured) for n in range(count)))
    return Counter(row[1] for row in rows)


def test_what_is_favoured_is_used_as_long_as_load_allows(cell: Cell) -> None:
    """A few calls more than its share go there, and no herd."""
    drive = Drive(cell, three())
    assert favouring(drive, 5) == {2: 5}
    assert drive.admit(favoured=2)[5] == 6
    shares = favouring(drive, 294)
    assert 100 < shares[2] + 6 <= 1.25 * 100 + 4


def test_what_is_favoured_and_slow_is_not_used(cell: Cell) -> None:
    """A warm cache is worth a latency of twice the other's, and no more."""
    drive = Drive(cell, three())
    for number, ttft in ((1, 100_000), (2, 190_000), (3, 100_000)):
        teach(drive, number, FINE, ttft)
    assert drive.admit(favoured=2)[1] == 2
    teach(drive, 2, FINE, 210_000)
    assert drive.admit(favoured=2)[1] != 2


@pytest.mark.parametrize("wish", [{"excluded": (2,)}, {"tiers": (0, 1, 0)}])
def test_what_cannot_serve_is_not_favoured(cell: Cell, wish: dict[str, Any]) -> None:
    """Nor what comes after the best."""
    drive = Drive(cell, three())
    assert drive.admit(favoured=2, **wish)[1] != 2
