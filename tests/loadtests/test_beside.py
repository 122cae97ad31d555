"""Laws of what is looked at meanwhile: at the beginning, again and again, at the end, and no more after it."""

import threading

from loadtests.beside import Beside


def test_it_looks_before_while_and_after():
    """The thread ends with the block."""
    looks = []
    often = threading.Event()

    def look():
        looks.append(threading.current_thread())
        if len(looks) == 4:
            often.set()

    with Beside(look, 0.001):
        assert looks[0] is threading.current_thread()
        assert often.wait(30)
    seen = len(looks)
    assert looks[-1] is threading.current_thread()
    assert not looks[1].is_alive()
    assert len(looks) == seen


def test_a_block_that_ends_at_once_has_two_looks():
    """However long the pause between them was meant to be."""
    looks = []
    with Beside(lambda: looks.append(1), 3600.0):
        assert looks == [1]
    assert looks == [1, 1]
