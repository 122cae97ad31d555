"""Laws of the capacity search: it is bounded, finds the rate that holds, and never takes the generator's limit for the gateway's."""

import pytest

from loadtests.capacity import (
    BROKE,
    GENERATOR,
    HELD,
    Capacity,
    Limits,
    Probe,
    judge,
    scaling,
    search,
)
from loadtests.metrics import Record


def up_to(limit, word=BROKE):
    tried = []

    def probe(rate):
        tried.append(rate)
        return Probe(rate, HELD if rate <= limit else word, "" if rate <= limit else "too much")

    return probe, tried


def find(probe, **how):
    return search(probe, **{"start": 100, "most": 6400, "halvings": 3, "workers": 1, **how})


@pytest.mark.parametrize("limit", [100, 130, 999, 1000, 5000])
def test_the_highest_rate_that_holds_is_found(limit):
    """Within an eighth of the last doubling, in a bounded number of probes."""
    probe, tried = up_to(limit)
    found = find(probe)
    assert found.rate <= limit
    assert limit - found.rate <= max(tried) / 16 + 1
    assert len(tried) <= 7 + 3
    assert found.bounded


def test_a_gateway_that_always_holds_is_at_least_the_most_that_was_tried():
    """And is said to be so."""
    probe, tried = up_to(10**9)
    found = find(probe, most=1000)
    assert (found.rate, found.bounded) == (1000, False)
    assert tried == [100, 200, 400, 800, 1000]
    assert "at least 1,000 calls/s" in found.words()


def test_a_generator_that_cannot_go_on_ends_the_search():
    """What held before is a lower bound."""
    probe, tried = up_to(500, GENERATOR)
    found = find(probe)
    assert (found.rate, found.bounded, tried) == (400, False, [100, 200, 400, 800])


def test_a_gateway_that_breaks_at_once_has_no_capacity():
    """Nothing is halved where nothing held."""
    probe, tried = up_to(10)
    assert find(probe).rate == 0
    assert tried == [100]


def records(count=100, e2e=10.0, outcome="ok"):
    return [
        Record("penstock", "chat", "t", at / 10, 0.0, outcome, e2e_ms=e2e) for at in range(count)
    ]


def judged(found, warnings=()):
    return judge(100, found, warnings, direct_p99_ms=8.0, limits=Limits(5.0, 0.01))


def test_a_rate_holds_while_errors_and_added_latency_are_within():
    """One percent and five milliseconds here."""
    assert judged(records()).word == HELD
    assert judged(records(99) + records(1, None, "http_503")).word == HELD
    errors = judged(records(90) + records(10, None, "http_503"))
    assert (errors.word, "10.0% errors (http_503)" in errors.why) == (BROKE, True)
    slow = judged(records(e2e=20.0))
    assert (slow.word, slow.why) == (BROKE, "p99 12 ms above direct calls")
    assert judged([]).word == BROKE


def test_latency_of_a_generator_that_was_late_is_its_own():
    """Errors are not."""
    assert judged(records(e2e=20.0), ["late"]).word == GENERATOR
    assert judged(records(outcome="lost"), ["late"]).word == BROKE


def test_scaling_is_said_with_its_doubt():
    """A factor, and whether it says anything about the gateway."""
    one = Capacity(1, 1000, bounded=True, probes=(Probe(1000, HELD, cpu_us=500),), limit="x")
    two = Capacity(2, 1900, bounded=True, probes=(), limit="x")
    vague = Capacity(2, 1900, bounded=False, probes=(), limit="x")
    assert scaling([one, two]) == "2 workers make 1.90 times the rate of 1"
    assert "no statement" in scaling([one, vague])
    assert scaling([one]) == ""
    busy = Capacity(1, 100, True, (Probe(100, HELD, others_cores=0.7),), "x")
    assert "other processes kept 0.70 cores busy" in busy.words()
    assert "other processes" not in one.words()
    assert "one core could serve 2,000/s" in one.words()
