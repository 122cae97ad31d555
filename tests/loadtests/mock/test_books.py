"""Laws of the mock vendor's books."""

import asyncio

import pytest

from loadtests.mock import Books, Served
from loadtests.mock import books as module


def served(number):
    return Served(
        id=str(number),
        model="sim",
        path="/v1/chat/completions",
        stream=False,
        prompt_tokens=1,
        completion_tokens=2,
        bytes=3,
        outcome="ok",
        started_us=0,
        ended_us=0,
    )


def test_calls_are_what_is_in_flight_and_what_ended():
    """`calls` = `in_flight` + the outcomes, at every moment."""
    books = Books()
    for _ in range(3):
        books.begin()
    books.end(5, 7, 100, "ok")
    books.end(1, 0, 10, "client_left")
    totals = books.as_dict()["totals"]
    assert totals["calls"] == totals["in_flight"] + sum(totals["outcomes"].values()) == 3
    assert (totals["prompt_tokens"], totals["completion_tokens"], totals["bytes"]) == (6, 7, 110)


def test_a_reset_keeps_what_is_still_open():
    """A call that began before a reset ends in the new books, never below zero."""
    books = Books()
    books.begin()
    books.reset()
    books.end(1, 1, 1, "ok")
    totals = books.as_dict()["totals"]
    assert (totals["calls"], totals["in_flight"], totals["outcomes"]) == (1, 0, {"ok": 1})


def test_details_are_bounded_and_say_so(monkeypatch):
    """What falls out of the list of served calls is counted."""
    monkeypatch.setattr(module, "SERVED_KEPT", 2)
    books = Books()
    for number in range(5):
        books.keep(served(number))
    assert [one["id"] for one in books.as_dict()["served"]] == ["3", "4"]
    assert books.totals.served_dropped == 3


async def test_until_wakes_when_the_books_come_to_it():
    """A waiter is woken by the event, and only when its predicate holds."""
    books = Books()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(books.until(lambda now: now.totals.complaints == 2))
        await asyncio.sleep(0)
        books.complain("one")
        await asyncio.sleep(0)
        assert not waiting.done()
        books.complain("two")


async def test_until_tells_the_books_when_it_gives_up():
    """A wait in vain ends with the books as they stand."""
    with pytest.raises(TimeoutError, match="in_flight"):
        await Books().until(lambda now: bool(now.totals.calls), timeout_s=0.01)
