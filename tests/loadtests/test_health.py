"""Laws of the generator's health: a generator that was the bottleneck says so."""

from loadtests.engine import Health
from loadtests.health import Watch, warnings
from loadtests.metrics import Record


def sample(cpu=0.1, dropped=0, process="worker-0", lag_ms=0.0):
    return Health(process, 0.0, cpu, lag_ms, 0, dropped)


def record(late_ms):
    return Record("b", "s", "t", 0.0, late_ms, "ok")


def test_a_sample_is_cpu_and_lateness_since_the_one_before():
    """Half a core used, a timer 100 ms late."""
    times, used = iter([0.0, 0.6, 1.6]), iter([0.0, 0.3, 0.3])
    watch = Watch(
        "w", clock=lambda: next(times), cpu=lambda: next(used), wall_ns=lambda: 5_000_000_000
    )
    first = watch.sample(7, 2, slept_s=0.5)
    assert (first.cpu, first.lag_ms, first.open_calls, first.dropped) == (0.5, 100, 7, 2)
    assert (first.process, first.at_s) == ("w", 5)
    assert watch.sample(0, 0, slept_s=1.0).cpu == 0


def test_nothing_is_said_of_a_healthy_generator():
    """A peak or a hiccup is no bottleneck."""
    samples = [sample()] * 9 + [sample(0.99)]
    assert warnings(samples, [record(1)] * 200 + [record(500)]) == []
    assert warnings([], []) == []


def test_a_busy_generator_a_late_one_and_a_full_one_are_told():
    """Each by its name, with what to do."""
    told = "\n".join(
        warnings(
            [sample(0.95)] * 5 + [sample(0.2, 3, "worker-1")] * 5,
            [record(1)] * 90 + [record(80)] * 10,
        )
    )
    assert "worker-0 used more than 90%" in told
    assert "--processes" in told
    assert "worker-1 had too many calls open and left 3 arrivals out" in told
    assert "p99 by 80 ms" in told


def test_a_generator_that_others_keep_from_its_core_is_told():
    """It used little CPU, because it got little: its timers show it, in a closed loop, too."""
    assert warnings([sample(0.3, lag_ms=50.0)] + [sample(0.3)] * 9, []) == []
    (told,) = warnings([sample(0.3, lag_ms=50.0)] * 3 + [sample(0.3)] * 7, [])
    assert "timers of the generator worker-0 ran more than 20 ms late in 30%" in told
