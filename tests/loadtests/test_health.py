"""Laws of the generator's health: a generator that was the bottleneck says so."""

from loadtests.engine import Health
from loadtests.health import Watch, waited_s, warnings
from loadtests.metrics import Record


def sample(cpu=0.1, dropped=0, process="worker-0", lag_ms=0.0, waited=0.0):
    return Health(process, 0.0, cpu, lag_ms, 0, dropped, waited)


def record(late_ms):
    return Record("b", "s", "t", 0.0, late_ms, "ok")


def test_a_sample_is_cpu_and_lateness_since_the_one_before():
    """Half a core used, a timer 100 ms late."""
    times, used = iter([0.0, 0.6, 1.6]), iter([0.0, 0.3, 0.3])
    waited = iter([1.0, 1.15, 1.15])
    watch = Watch(
        "w",
        clock=lambda: next(times),
        cpu=lambda: next(used),
        waited=lambda: next(waited),
        wall_ns=lambda: 5_000_000_000,
    )
    first = watch.sample(7, 2, slept_s=0.5)
    assert (first.cpu, first.lag_ms, first.open_calls, first.dropped) == (0.5, 100, 7, 2)
    assert (first.process, first.at_s, first.waited) == ("w", 5, 0.25)
    assert watch.sample(0, 0, slept_s=1.0).cpu == 0


def test_nothing_is_said_of_a_healthy_generator():
    """A peak or a hiccup is no bottleneck."""
    samples = [sample()] * 9 + [sample(0.99)]
    assert warnings(samples, [record(1)] * 200 + [record(500)]) == []
    assert warnings([], [record(500)] + [record(1)] * 99) == [], "one of a hundred lies beyond p99"
    assert warnings([], []) == []


def test_a_busy_generator_a_late_one_and_a_full_one_are_told():
    """Each by its name, with what to do."""
    told = "\n".join(
        warnings(
            [sample(0.95)] * 5 + [sample(0.2, 3, "worker-1")] * 5,
            [record(1)] * 90 + [record(80)] * 10,
        )
    )
    assert "worker-0 wanted more than 90% of a core in 100% of the run and got 95%" in told
    assert "--processes" in told
    assert "worker-1 had too many calls open and left 3 arrivals out" in told
    assert "p99 by 80 ms" in told


def test_a_generator_that_waited_for_a_core_wanted_it():
    """Half a core is all it got, and it would have used the other half."""
    (told,) = warnings([sample(0.5, waited=0.45)] * 5, [])
    assert "wanted more than 90% of a core in 100% of the run and got 50%" in told
    assert warnings([sample(0.5, waited=0.3)] * 5, []) == []


def test_the_kernel_tells_how_long_a_process_waited(tmp_path):
    """Its second number, in nanoseconds; elsewhere nobody tells."""
    (tmp_path / "schedstat").write_text("89 2500000000 3\n")
    assert waited_s(tmp_path / "schedstat") == 2.5
    (tmp_path / "schedstat").write_text("none")
    assert waited_s(tmp_path / "schedstat") == 0
    assert waited_s(tmp_path / "missing") == 0


def test_a_generator_that_others_keep_from_its_core_is_told():
    """It used little CPU, because it got little: its timers show it, in a closed loop, too."""
    assert warnings([sample(0.3, lag_ms=50.0)] + [sample(0.3)] * 9, []) == []
    (told,) = warnings([sample(0.3, lag_ms=50.0)] * 3 + [sample(0.3)] * 7, [])
    assert "timers of the generator worker-0 ran more than 20 ms late in 30%" in told
