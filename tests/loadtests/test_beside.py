"""Laws of what is looked at meanwhile: at the beginning, again and again, at the end, and no more after it."""

import threading

from loadtests.beside import Beside


def test_it_looks_before_while_and_after():
    """First and last look are of whoever enters and leaves, those between of one thread, which has ended."""
    looks = []
    often = threading.Event()

    def look():
        looks.append(threading.current_thread())
        if len(looks) == 4:
            often.set()

    with Beside(look, 0.001):
        assert looks[0] is threading.current_thread()
        assert often.wait(30)
    first, *meanwhile, last = looks
    assert first is last is threading.current_thread()
    (other,) = set(meanwhile)
    assert other is not first
    assert not other.is_alive(), "it looks no more"


def test_a_look_that_is_under_way_as_the_block_ends_is_waited_for():
    """None is later than the last."""
    told, ours = [], threading.current_thread()
    begun, go_on = threading.Event(), threading.Event()

    def look():
        if threading.current_thread() is not ours:
            begun.set()
            assert go_on.wait(30)
        told.append(threading.current_thread())

    with Beside(look, 0.001):
        assert begun.wait(30)
        threading.Timer(0.05, go_on.set).start()
    assert told[-1] is ours
    assert len(told) >= 3


def test_a_block_that_ends_at_once_has_two_looks():
    """However long the pause between them was meant to be."""
    looks = []
    with Beside(lambda: looks.append(1), 3600.0):
        assert looks == [1]
    assert looks == [1, 1]
