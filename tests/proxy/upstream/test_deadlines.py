"""The laws of the wheel: each deadline fires once, in its own name, never early, never for a pause."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from proxy.upstream.connection import Connection
from proxy.upstream.deadlines import Timeouts, Wheel
from proxy.upstream.errors import FirstByteTimedOut, IdleTimedOut, TotalTimedOut
from proxy.upstream.pool import Pool
from tests.proxy.upstream.peers import (
    BODY,
    REQUEST,
    Bench,
    Heard,
    Peer,
    answer,
    eventually,
    read_request,
)

MakePeer = Callable[..., Awaitable[Peer]]

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"4\r\npong\r\n"
SHORT = Timeouts(first_byte_s=10, idle_s=5, total_s=30)


def turn(bench: Bench, seconds: float) -> None:
    """Let time pass, tick by tick as the wheel would see it."""
    for _ in range(round(seconds * 10)):
        bench.loop.now = round(bench.loop.now + 0.1, 6)
        bench.wheel.tick()


@pytest.mark.parametrize("pieces", [[], [b"HTTP/1.1 100 C\r\n\r\n"], [CHUNKED], [CHUNKED, b"4\r"]])
def test_no_body_byte_within_the_first_byte_deadline(pieces: list[bytes]) -> None:
    """Interim answers, a head alone or a chunk's size are no first byte."""
    bench = Bench()
    heard = bench.ask(Heard(), timeouts=SHORT)
    turn(bench, 5)
    bench.feed(*pieces)
    turn(bench, 4.9)
    assert heard.over == 0
    turn(bench, 0.2)
    assert isinstance(heard.error, FirstByteTimedOut)
    assert (heard.error.status, heard.error.phase) == (504, "first_byte")
    assert heard.error.metric == "first_byte_timed_out"
    assert bench.wood.closed
    assert not bench.wheel.in_flight


def test_a_first_byte_deadline_while_sending_says_so() -> None:
    """A provider that does not take the request is told from one that does not answer it."""
    bench = Bench()
    heard = bench.ask(Heard(), timeouts=SHORT)
    bench.connection.pause_writing()
    turn(bench, 11)
    assert isinstance(heard.error, FirstByteTimedOut)
    assert heard.error.phase == "send"


def test_silence_in_the_body() -> None:
    """The idle deadline counts from the last read with body bytes."""
    bench = Bench()
    heard = bench.ask(Heard(), timeouts=SHORT)
    bench.feed(CHUNKED)
    for _ in range(4):
        bench.feed(CHUNK)
        turn(bench, 4.8)
    assert heard.over == 0
    turn(bench, 0.4)
    assert isinstance(heard.error, IdleTimedOut)
    assert (heard.error.status, heard.error.phase) == (504, "body")


def test_the_whole_takes_too_long() -> None:
    """The total deadline fires in the middle of a lively stream."""
    bench = Bench()
    heard = bench.ask(Heard(), timeouts=SHORT)
    bench.feed(CHUNKED)
    for _ in range(60):
        assert heard.over == 0
        bench.feed(CHUNK)
        turn(bench, 0.5)
    assert isinstance(heard.error, TotalTimedOut)


def test_an_end_given_by_the_caller_comes_first() -> None:
    """`until` bounds one conversation more tightly than its provider's total does."""
    bench = Bench()
    heard = Heard()
    bench.connection.send(heard, REQUEST, BODY, SHORT, bench.loop.now, until=bench.loop.now + 3)
    turn(bench, 2.9)
    assert heard.over == 0
    turn(bench, 0.2)
    assert isinstance(heard.error, TotalTimedOut)


def test_our_own_pause_is_nobodys_silence() -> None:
    """A paused connection is not idle; after the resume the silence counts from then; total holds."""
    bench = Bench()
    heard = bench.ask(Heard(), timeouts=SHORT)
    bench.feed(CHUNKED, CHUNK)
    turn(bench, 1)
    bench.connection.pause_reading()
    turn(bench, 20)
    bench.connection.resume_reading()
    turn(bench, 4.8)
    assert heard.over == 0
    turn(bench, 0.4)
    assert isinstance(heard.error, IdleTimedOut)

    bench = Bench()
    heard = bench.ask(Heard(), timeouts=SHORT)
    bench.connection.pause_reading()
    turn(bench, 29.8)
    assert heard.over == 0
    turn(bench, 0.4)
    assert isinstance(heard.error, TotalTimedOut)


def test_an_answer_in_time_is_left_alone() -> None:
    """What is complete has no deadline any more, and the next conversation has its own."""
    bench = Bench()
    first = bench.ask(Heard(), timeouts=SHORT)
    turn(bench, 9)
    bench.feed(answer())
    turn(bench, 100)
    assert bench.connection in bench.shelf
    second = bench.ask(Heard(), timeouts=SHORT)
    turn(bench, 9)
    assert second.over == 0
    bench.feed(answer())
    assert (first.calls, second.calls) == (["head", "body", "end"],) * 2


def test_one_that_is_told_may_end_another_that_is_overdue() -> None:
    """Conversations that fall due together are each told once, or not at all after an abort."""
    one = Bench()
    loop, wheel = one.loop, one.wheel
    others = [Connection(loop, one, wheel, one.shelf) for _ in range(3)]  # type: ignore[arg-type]
    heard: list[Heard] = []
    for connection in others:
        connection.connection_made(Bench().wood)

        def abort_the_rest(mine: Connection = connection) -> None:
            for other in others:
                if other is not mine:
                    other.abort()

        heard.append(Heard(lost=abort_the_rest))
        connection.send(heard[-1], REQUEST, BODY, SHORT, loop.now)
    turn(one, 11)
    assert sorted(len(each.calls) for each in heard) == [0, 0, 1]
    assert not wheel.in_flight


def test_the_clock_of_the_wheel_is_set_when_it_wakes() -> None:
    """After a long sleep `now` is right from the first conversation on, not from the first tick."""
    bench = Bench()
    bench.loop.now += 1000
    bench.ask(Heard())
    assert bench.wheel.now == bench.loop.now


# ---- on real loops


async def test_the_wheel_turns_only_while_something_is_in_flight(
    peer: MakePeer, pool: Pool
) -> None:
    """Asleep when idle, awake with the first conversation, asleep again after the last."""
    go = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            await go.wait()
            writer.write(answer())

    one = await peer(script)
    loop = asyncio.get_running_loop()
    pool.wheel.close()
    pool.wheel = wheel = Wheel(loop, tick_s=0.005)
    for _ in range(2):
        go.clear()
        assert not wheel.awake
        connection = pool.take(one.origin) or await pool.connect(one.origin, 5)
        heard = Heard()
        connection.send(heard, REQUEST, BODY, SHORT, loop.time())
        assert wheel.awake
        seen = wheel.now
        await eventually(lambda seen=seen: wheel.now != seen)
        go.set()
        await heard.until("end")
        await eventually(lambda: not wheel.awake)


async def test_a_deadline_fires_by_itself(peer: MakePeer) -> None:
    """With no hand on the clock: a silent peer is left within the deadline and two ticks."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    one = await peer(script)
    loop = asyncio.get_running_loop()
    pool = Pool(loop, Wheel(loop, tick_s=0.01))
    connection = await pool.connect(one.origin, 5)
    heard = Heard()
    started = loop.time()
    connection.send(heard, REQUEST, BODY, Timeouts(first_byte_s=0.05), started)
    await heard.until("lost")
    assert loop.time() - started >= 0.05
    assert isinstance(heard.error, FirstByteTimedOut)
    await pool.close()


async def test_a_listener_that_fails_does_not_stop_the_wheel(peer: MakePeer) -> None:
    """An exception in `lost` goes to the loop's handler; the other conversations are still kept."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    def fail() -> None:
        raise RuntimeError("a fault in the listener")

    one = await peer(script)
    loop = asyncio.get_running_loop()
    reports: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    pool = Pool(loop, Wheel(loop, tick_s=0.01))
    heard = [Heard(lost=fail), Heard(lost=fail), Heard()]
    for each in heard:
        connection = await pool.connect(one.origin, 5)
        connection.send(each, REQUEST, BODY, Timeouts(first_byte_s=0.03), loop.time())
    for each in heard:
        await each.until("lost")
    assert len(reports) == 2
    await pool.close()
