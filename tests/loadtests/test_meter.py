"""Laws of the meter: CPU counts while calls are open, and what comes before and after them is nobody's."""

import itertools

from loadtests.meter import AFTERWARDS_S, Meter


def test_what_is_used_before_and_after_the_calls_does_not_count():
    """From the last look before the first call to the first look after what the last one left."""
    now = itertools.count()
    ours = Meter(lambda: {"a": next(used)}, wall_ns=lambda: next(now) * 10**9)
    used = iter([0.0, 1.0, 3.0, 7.0, 7.5, 20.0])
    for _ in range(6):
        ours.note()
    assert ours.used(1.5, 4.0 - AFTERWARDS_S) == {"a": 7.5 - 1.0}
    assert ours.used(-1.0, 99.0) == {"a": 20.0}, "as far as was looked"
    assert ours.used(2.0, 2.5) == {"a": 7.0 - 3.0}


def test_a_meter_tells_of_its_whole_block():
    """However short that is."""
    looks = itertools.count(1.0)
    with Meter(lambda: {"a": next(looks)}) as ours:
        pass
    assert ours.used(0.0, 1e12)["a"] >= 1.0


def test_a_process_that_is_gone_ends_no_meter():
    """Its run tells of it; the meter ends with its block."""

    def gone():
        raise OSError("no such process")

    with Meter(gone) as ours:
        pass
    assert ours.used(0.0, 1.0) == {}
