"""Laws of the capacity search: it is bounded, finds the rate that holds, and never takes the generator's limit for the gateway's."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from loadtests import capacity, runner
from loadtests.capacity import (
    BROKE,
    GENERATOR,
    HELD,
    MACHINE,
    Capacity,
    Limits,
    Probe,
    blame,
    cores_of,
    judge,
    scaling,
    search,
)
from loadtests.engine import Health
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


def test_what_a_generator_could_not_do_bounds_nothing():
    """What held is a lower bound, unless the gateway broke by itself below that."""
    probe, tried = up_to(500, GENERATOR)
    found = find(probe)
    assert (found.rate, found.bounded, tried) == (500, False, [100, 200, 400, 800, 600, 500, 550])

    def both(rate):
        return Probe(rate, HELD if rate <= 450 else BROKE if rate <= 700 else GENERATOR, "slow")

    found = find(both)
    assert (found.rate, found.bounded, found.limit) == (450, True, "slow at 500/s")


def test_a_gateway_that_breaks_at_once_has_no_capacity():
    """Nothing is halved where nothing held."""
    probe, tried = up_to(10)
    assert find(probe).rate == 0
    assert tried == [100]


def test_an_interrupted_search_tells_what_held_until_then():
    """Ctrl-C may come in any probe."""

    def probe(rate):
        if rate > 200:
            raise KeyboardInterrupt
        return Probe(rate, HELD)

    found = find(probe)
    assert (found.rate, found.bounded, len(found.probes)) == (200, False, 2)
    assert found.words() == "1 worker: at least 200 calls/s (interrupted)"


def test_without_a_direct_call_nothing_is_searched(monkeypatch, tmp_path):
    """There would be nothing that a p99 is set against, and the gateway would be blamed for its vendor."""
    bases = [{"name": "direct"}, {"name": "penstock"}]
    ours = SimpleNamespace(bases=lambda *_, **__: bases)
    monkeypatch.setattr(runner, "measure", lambda *_, **__: SimpleNamespace(records=list))
    how = {"workers": 1, "limits": Limits(), "seconds": 1, "start": 10, "most": 10}
    with pytest.raises(runner.RunFailed, match="no direct call was answered"):
        capacity.find(ours, tmp_path, print, **how)


def records(count=100, e2e=10.0, outcome="ok", late=0.0):
    return [
        Record("penstock", "chat", "t", at / 10, late, outcome, e2e_ms=e2e) for at in range(count)
    ]


def generator(cpu):
    return [Health("g", at / 2, cpu, 0.0, 1, 0) for at in range(10)]


def judged(found, samples=()):
    return judge(100, found, samples, direct_p99_ms=8.0, limits=Limits(5.0, 0.01))


def test_a_rate_holds_while_errors_and_added_latency_are_within():
    """One percent and five milliseconds here."""
    assert judged(records()).word == HELD
    assert judged(records(99) + records(1, None, "http_503")).word == HELD
    errors = judged(records(90) + records(10, None, "http_503"))
    assert (errors.word, "10.0% errors (http_503)" in errors.why) == (BROKE, True)
    slow = judged(records(e2e=20.0))
    assert (slow.word, slow.why) == (BROKE, "p99 12 ms above direct calls")
    assert judged([]).word == BROKE


def test_calls_that_do_not_end_break_a_rate():
    """However fast the others were; what the generator could not begin in time is its own."""
    hung = records(90) + records(10, None, "unfinished")
    assert (judged(hung).word, judged(hung).why) == (BROKE, "10.0% of the calls did not end")
    assert judged(hung, generator(1.0)).word == GENERATOR
    late = records(90, late=30.0, e2e=40.0) + records(10, None, "unfinished")
    assert judged(late).word == GENERATOR


def test_latency_of_a_generator_that_had_no_time_is_its_own():
    """Errors are not."""
    assert judged(records(e2e=20.0), generator(1.0)).word == GENERATOR
    assert judged(records(e2e=20.0), generator(0.5)).word == BROKE
    assert judged(records(outcome="lost"), generator(1.0)).word == BROKE


def test_a_late_start_excuses_what_it_explains_and_no_more():
    """Thousands of calls that wait for the gateway make a generator a little late, too."""
    assert judged(records(e2e=40.0, late=30.0)).word == GENERATOR
    slow = judged(records(e2e=4000.0, late=30.0))
    assert (slow.word, slow.why) == (BROKE, "p99 3992 ms above direct calls")


def test_a_machine_that_was_full_takes_the_blame():
    """Unless a worker was: then it is the gateway that could not do more."""
    slow = Probe(100, BROKE, "p99", cores={"worker 1": 0.4, "generator": 0.9, "store": 0.2})
    assert blame(slow, 2).word == BROKE, "half a core was left"
    full = replace(slow, cores={**slow.cores, "vendor": 0.4})
    assert blame(full, 2).word == MACHINE
    assert "generator 0.90, worker 1 0.40, vendor 0.40, store 0.20" in blame(full, 2).why
    assert blame(replace(slow, others_cores=0.3), 8).word == MACHINE
    assert blame(replace(full, cores={**full.cores, "worker 1": 0.9}), 2).word == BROKE
    assert blame(replace(full, word=HELD), 2).word == HELD
    probe, _ = up_to(500, MACHINE)
    assert not find(probe).bounded


def test_cores_are_told_by_what_runs_on_them():
    """Seconds of CPU over seconds of load; the generator tells its own."""
    used = {"mock": 1.0, "store": 0.5, "edge": 2.0, "edge1": 1.5, "control": 0.0}
    health = {"worker-0": [{"cpu": 0.2}, {"cpu": 0.4}], "worker-1": [{"cpu": 0.1}]}
    assert cores_of(used, health, 5.0) == {
        "vendor": 0.2,
        "store": 0.1,
        "worker 1": 0.4,
        "worker 2": 0.3,
        "control": 0.0,
        "generator": 0.4,
    }


def test_scaling_is_said_with_its_doubt():
    """By rates where the gateway bounded both; by the CPU of a call where workers were equally busy in any case."""
    halves = {"worker 1": 0.3, "worker 2": 0.3}
    few = Capacity(1, 1000, True, (Probe(1000, HELD, cpu_us=200), Probe(2000, BROKE)), "x")
    probes = (Probe(1000, HELD, cpu_us=400), Probe(2000, HELD, "", 0, 0, 250, 20, halves))
    many = Capacity(2, 2000, True, probes, "x")
    told = scaling([few, many])
    assert told[0] == "2 workers make 2.00 times the rate of 1"
    assert "200 µs of CPU with 1 at 1,000/s and 250 µs with 2 at 2,000/s" in told[1], "as busy each"
    assert "share it 50% and 50%: on cores of their own they make 1.60 times the rate" in told[1]
    assert "20 µs on a call at 2,000/s: one core of it serves 50,000/s" in told[2]
    assert "cannot be seen on this machine" in scaling([few, replace(many, bounded=False)])[0]
    crowded = replace(few, probes=(replace(few.probes[0], others_cores=0.7), few.probes[1]))
    assert scaling([crowded, many])[0].endswith(
        "cannot be seen: other processes kept 0.35 cores busy"
    )
    assert scaling([few]) == []
    assert len(scaling([few, replace(many, probes=())])) == 1
    busy = Capacity(1, 100, True, (Probe(100, HELD, others_cores=0.7),), "x")
    assert "other processes kept 0.70 cores busy" in busy.words()
    assert "other processes" not in few.words()
    assert "one core could serve 5,000/s" in few.words()
