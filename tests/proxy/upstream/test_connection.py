"""The laws of one connection: framing, the order of calls, who may be served again, how it ends."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.connection import JOIN_BELOW_BYTES, MAX_HEAD_BYTES, MAX_HEADERS
from proxy.upstream.deadlines import Timeouts
from proxy.upstream.errors import BadAnswer, UpstreamError, UpstreamLost
from proxy.upstream.pool import Pool
from tests.proxy.upstream.peers import (
    BODY,
    PATIENT,
    REQUEST,
    Bench,
    Heard,
    Peer,
    answer,
    eventually,
    read_request,
    says,
)

MakePeer = Callable[..., Awaitable[Peer]]


class Case(NamedTuple):
    """
    An answer as bytes and what has to be heard.

    `ends` is "reuse" (complete, back to the pool), "close" (complete, not to be used again),
    "eof" (complete when the peer closes, lost when the connection breaks) or "cut" (not complete).
    """

    raw: bytes
    body: bytes
    ends: str
    status: int = 200


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

GOOD = {
    "length": Case(OK + b"Content-Length: 4\r\n\r\npong", b"pong", "reuse"),
    "length zero": Case(OK + b"Content-Length: 0\r\n\r\n", b"", "reuse"),
    "no reason": Case(b"HTTP/1.1 200\r\nContent-Length: 4\r\n\r\npong", b"pong", "reuse"),
    "chunked": Case(CHUNKED + b"2\r\npo\r\n2\r\nng\r\n0\r\n\r\n", b"pong", "reuse"),
    "chunked, empty": Case(CHUNKED + b"0\r\n\r\n", b"", "reuse"),
    "chunk extension": Case(CHUNKED + b'4;a="b"\r\npong\r\n0;x\r\n\r\n', b"pong", "reuse"),
    "trailers": Case(CHUNKED + b"4\r\npong\r\n0\r\nx-sum: 1\r\ny: z\r\n\r\n", b"pong", "reuse"),
    "coding before chunked": Case(
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n4\r\npong\r\n0\r\n\r\n", b"pong", "reuse"
    ),
    "204": Case(b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", b"", "reuse", 204),
    "304": Case(b"HTTP/1.1 304 Not Modified\r\nETag: a\r\n\r\n", b"", "reuse", 304),
    "304 with a length": Case(b"HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n", b"", "reuse", 304),
    "100 before": Case(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(), b"pong", "reuse"),
    "103 with fields": Case(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + answer(), b"pong", "reuse"
    ),
    "empty value": Case(OK + b"X-Empty:\r\nContent-Length: 4\r\n\r\npong", b"pong", "reuse"),
    "error with a body": Case(answer(b"slow", status=b"429 X"), b"slow", "reuse", 429),
    "odd status": Case(answer(status=b"999 Odd"), b"pong", "reuse", 999),
    "connection close": Case(answer(b"pong", b"Connection: close"), b"pong", "close"),
    "close, chunked": Case(
        OK + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npong\r\n0\r\n\r\n",
        b"pong",
        "close",
    ),
    "1.0": Case(b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\npong", b"pong", "close"),
    "1.0 that stays": Case(
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\npong",
        b"pong",
        "reuse",
    ),
    "until close": Case(OK + b"X: y\r\n\r\npong", b"pong", "eof"),
    "until close, empty": Case(OK + b"\r\n", b"", "eof"),
    "1.0 until close": Case(b"HTTP/1.0 200 OK\r\n\r\npong", b"pong", "eof"),
    "until close by coding": Case(OK + b"Transfer-Encoding: gzip\r\n\r\npong", b"pong", "eof"),
    "error until close": Case(b"HTTP/1.1 500 X\r\n\r\npong", b"pong", "eof", 500),
    "cut in the body": Case(OK + b"Content-Length: 9\r\n\r\npong", b"pong", "cut"),
    "cut between chunks": Case(CHUNKED + b"4\r\npong\r\n", b"pong", "cut"),
    "cut in a chunk": Case(CHUNKED + b"9\r\npong", b"pong", "cut"),
    "cut before the last line": Case(CHUNKED + b"4\r\npong\r\n0\r\n", b"pong", "cut"),
    "cut after the head": Case(OK + b"Content-Length: 9\r\n\r\n", b"", "cut"),
}

NO_HEAD = {
    "nothing": b"",
    "a piece of a line": b"HTTP/1.1 20",
    "a piece of a head": OK + b"Content-Length: 4\r\n",
    "only 1xx": b"HTTP/1.1 100 Continue\r\n\r\n",
}

REFUSED = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "TLS alert": b"\x15\x03\x03\x00\x02\x02\x50",
    "HTML": b"<html><body>no</body></html>",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nxx",
    "101 without fields": b"HTTP/1.1 101 Switching\r\n\r\n",
    "status 099": b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
    "status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "length of letters": OK + b"Content-Length: four\r\n\r\npong",
    "negative length": OK + b"Content-Length: -4\r\n\r\npong",
    "length beyond 64 bits": OK + b"Content-Length: 99999999999999999999999\r\n\r\npong",
    "two lengths": OK + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\npong",
    "length and chunked": OK
    + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npong\r\n0\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 4\n\npong",
    "folded field": OK + b"X: a\r\n b\r\nContent-Length: 4\r\n\r\npong",
    "NUL in a value": OK + b"X: a\x00b\r\nContent-Length: 4\r\n\r\npong",
    "space before the colon": OK + b"Content-Length : 4\r\n\r\npong",
    "huge field": OK + b"X: " + b"a" * (2 * MAX_HEAD_BYTES) + b"\r\nContent-Length: 4\r\n\r\npong",
    "huge field, not ended": OK + b"X: " + b"a" * (2 * MAX_HEAD_BYTES),
    "too many fields": OK + b"x: y\r\n" * (MAX_HEADERS + 1) + b"Content-Length: 4\r\n\r\npong",
    "endless 1xx": b"HTTP/1.1 100 Continue\r\n\r\n" * 4000,
}

BROKEN = {
    "chunk size of letters": CHUNKED + b"4\r\npong\r\nzz\r\n",
    "chunk longer than it says": CHUNKED + b"4\r\npongping\r\n0\r\n\r\n",
    "huge chunk size": CHUNKED + b"4\r\npong\r\n" + b"f" * 40 + b"\r\n",
    "endless chunk extension": CHUNKED + b"4\r\npong\r\n4;" + b"a" * (2 * MAX_HEAD_BYTES),
    "endless trailer": CHUNKED + b"4\r\npong\r\n0\r\nX: " + b"a" * (2 * MAX_HEAD_BYTES),
    "too many trailers": CHUNKED + b"4\r\npong\r\n0\r\n" + b"x: y\r\n" * (MAX_HEADERS + 1),
}


def cuts(raw: bytes) -> dict[str, list[bytes]]:
    """Cut an answer in the ways that tell parsers apart: whole, byte by byte, in two at each place."""
    step = max(1, len(raw) // 40)
    return {
        "whole": [raw],
        "bytes": [raw[i : i + 1] for i in range(len(raw))],
        **{f"at {i}": [raw[:i], raw[i:]] for i in range(1, len(raw), step)},
    }


def said(heard: Heard) -> tuple[object, ...]:
    """Say what was heard, however it was cut: head, the body as a whole, and the ending."""
    return (heard.calls.count("head"), heard.status, tuple(heard.headers), heard.data)


@pytest.mark.parametrize("case", GOOD.values(), ids=GOOD.keys())
def test_the_same_is_heard_however_the_bytes_are_cut(case: Case) -> None:
    """Whole, byte by byte or in two: one head, the same body, one ending, reuse only by the rules."""
    wholes = set()
    for how, pieces in cuts(case.raw).items():
        bench = Bench()
        heard = bench.ask(Heard())
        bench.feed(*pieces)
        if case.ends in {"eof", "cut"}:
            assert heard.over == 0, how
            bench.eof()
        assert heard.status == case.status
        assert heard.data == case.body
        assert heard.calls[0] == "head"
        assert heard.over == 1
        if case.ends == "cut":
            assert isinstance(heard.error, UpstreamLost)
            assert heard.error.phase == ("body" if case.body else "first_byte")
            assert not heard.error.stale
        else:
            assert heard.reusable is (case.ends == "reuse"), how
        assert bench.wood.closed is (case.ends != "reuse"), how
        assert (bench.connection in bench.shelf) is (case.ends == "reuse")
        assert not bench.wheel.in_flight
        wholes.add(said(heard))
    assert len(wholes) == 1


@pytest.mark.parametrize("case", GOOD.values(), ids=GOOD.keys())
def test_one_read_costs_at_most_one_call_of_each_kind(case: Case) -> None:
    """However many chunks a read holds, the listener hears one head, one body and one end of it."""
    bench = Bench()
    heard = bench.ask(Heard())
    bench.feed(case.raw)
    expected = ["head"] + ["body"] * bool(case.body)
    assert heard.calls == expected + ["end"] * (case.ends in {"reuse", "close"})


@pytest.mark.parametrize("case", [c for c in GOOD.values() if c.ends == "reuse"])
def test_a_connection_that_came_back_serves_the_next_answer_alike(case: Case) -> None:
    """Nothing of one conversation is left in the next, over any number of them."""
    bench = Bench()
    for how, pieces in itertools.chain(cuts(case.raw).items(), cuts(answer(b"other")).items()):
        heard = bench.ask(Heard())
        bench.feed(*pieces)
        assert heard.reusable is True, how
        assert heard.calls.count("head") == 1
        assert heard.data in {case.body, b"other"}


@pytest.mark.parametrize("tail", [b"x", b"HTTP/1.1 ", answer(b"evil"), b"\x00", b"0\r\n\r\n"])
@pytest.mark.parametrize(
    "case", [c for c in GOOD.values() if c.ends in {"reuse", "close"}], ids=lambda c: str(c.status)
)
def test_bytes_beyond_the_answer_close_the_connection(case: Case, tail: bytes) -> None:
    """A tail never becomes a part of this answer or the start of the next one."""
    for how, pieces in cuts(case.raw + tail).items():
        bench = Bench()
        heard = bench.ask(Heard())
        bench.feed(*pieces)
        assert heard.data == case.body, how
        assert heard.over == 1
        assert heard.error is None
        assert bench.wood.closed, how
        assert bench.connection not in bench.shelf


@pytest.mark.parametrize("raw", NO_HEAD.values(), ids=NO_HEAD.keys())
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "reused"])
def test_a_close_before_the_head_is_a_loss_and_stale_only_without_a_byte(
    raw: bytes, used: bool
) -> None:
    """`stale` needs a connection that has served and an answer of which no byte came."""
    for pieces in cuts(raw).values() if raw else [[]]:
        bench = Bench()
        if used:
            bench.ask(Heard())
            bench.feed(answer())
        heard = bench.ask(Heard())
        bench.feed(*pieces)
        bench.eof()
        assert heard.calls == ["lost"]
        assert isinstance(heard.error, UpstreamLost)
        assert heard.error.phase == "first_byte"
        assert heard.error.stale is (used and not raw)


@pytest.mark.parametrize(("after_s", "stale"), [(0.0, True), (2.9, True), (3.1, False)])
def test_a_loss_long_after_the_request_is_not_stale(after_s: float, stale: bool) -> None:
    """Whoever was silent for seconds may have worked on the request: no retry without asking."""
    bench = Bench()
    bench.ask(Heard())
    bench.feed(answer())
    heard = bench.ask(Heard())
    bench.loop.now += after_s
    bench.eof()
    assert heard.error is not None
    assert heard.error.stale is stale


@pytest.mark.parametrize("raw", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_answer_is_refused_before_a_head_is_heard(raw: bytes) -> None:
    """Garbage, a switch of protocols, ambiguous framing and floods: BadAnswer, and closed."""
    for how, pieces in cuts(raw).items():
        bench = Bench()
        heard = bench.ask(Heard())
        bench.feed(*pieces)
        assert heard.calls == ["lost"], how
        assert isinstance(heard.error, BadAnswer)
        assert heard.error.phase == "first_byte"
        assert not heard.error.stale
        assert bench.wood.closed


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN.keys())
def test_broken_framing_gives_what_was_good_and_then_a_loss(raw: bytes) -> None:
    """Body bytes before the fault are heard; the end is `lost(BadAnswer)`, never `end`."""
    for how, pieces in cuts(raw).items():
        bench = Bench()
        heard = bench.ask(Heard())
        # What is endless goes on; what is broken is closed by then, and not read any more.
        bench.feed(*pieces, b"a" * (MAX_HEAD_BYTES + 1))
        assert heard.calls[0] == "head", how
        assert heard.calls[-1] == "lost", how
        assert heard.data.startswith(b"pong")
        assert isinstance(heard.error, BadAnswer)
        assert heard.error.phase == "body"
        assert bench.wood.closed


def test_the_headers_are_those_of_the_final_head_as_sent() -> None:
    """Names as sent, in order, repeated ones kept; nothing of interim heads or of trailers."""
    raw = (
        b"HTTP/1.1 200 OK\r\nX-One: 1\r\nSet-Cookie: a\r\nx-one:  2 \r\nX-None:\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n4\r\npong\r\n0\r\nX-Trailer: 1\r\n\r\n"
    )
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"
    for pieces in (*cuts(raw).values(), *cuts(interim + raw).values()):
        bench = Bench()
        for _ in range(2):
            heard = bench.ask(Heard())
            bench.feed(*pieces)
            assert heard.headers == [
                (b"X-One", b"1"),
                (b"Set-Cookie", b"a"),
                (b"x-one", b"2"),
                (b"X-None", b""),
                (b"Transfer-Encoding", b"chunked"),
            ]


def test_a_large_body_behind_a_small_head_in_one_read_is_no_large_head() -> None:
    """The limit of heads measures heads, also when a read holds much more than one."""
    bench = Bench()
    heard = bench.ask(Heard())
    bench.feed(answer(b"a" * (4 * MAX_HEAD_BYTES)))
    assert heard.reusable is True
    assert len(heard.data) == 4 * MAX_HEAD_BYTES


def test_framing_between_bodies_may_be_long_in_sum() -> None:
    """The limit is on a stretch without body bytes: a long stream cut anywhere passes."""
    bench = Bench()
    heard = bench.ask(Heard())
    bench.feed(CHUNKED)
    for _ in range(MAX_HEAD_BYTES // 500):
        bench.feed(b"1;" + b"x" * 999 + b"\r\n", b"a", b"\r\n")
    bench.feed(b"0\r\n\r\n")
    assert heard.reusable is True


@pytest.mark.parametrize("status", [b"204 No", b"304 No"])
def test_a_body_where_none_may_be_is_not_heard(status: bytes) -> None:
    """A 204 or 304 ends with its head; a body that follows anyhow closes the connection."""
    for pieces in cuts(answer(b"oops", status=status)).values():
        bench = Bench()
        heard = bench.ask(Heard())
        bench.feed(*pieces)
        assert heard.calls == ["head", "end"]
        assert bench.wood.closed


def test_unasked_bytes_and_a_close_while_idle_take_it_off_the_shelf() -> None:
    """An idle connection that says anything is not to be trusted with the next request."""
    for event in (lambda b: b.feed(answer()), lambda b: b.eof(), lambda b: b.lose(None)):
        bench = Bench()
        bench.ask(Heard())
        bench.feed(answer())
        assert bench.connection in bench.shelf
        event(bench)
        assert not bench.shelf
        assert not bench.connection.usable()


def test_an_answer_before_the_request_is_sent_is_heard_and_the_connection_closed() -> None:
    """A 413 while our body still waits: delivered, and the rest of the body is in nobody's way."""
    bench = Bench()
    heard = bench.ask(Heard())
    bench.wood.buffered = 1000
    bench.feed(answer(b"too big", status=b"413 X"))
    assert heard.status == 413
    assert heard.reusable is False
    assert bench.wood.closed


def test_a_loss_while_the_request_is_written_is_of_phase_send() -> None:
    """The phase follows what the kernel has taken: `send` until it has all, then `first_byte`."""
    for step, phase in (("", "send"), ("drained", "first_byte"), ("head", "first_byte")):
        bench = Bench()
        heard = bench.ask(Heard())
        bench.connection.pause_writing()
        if step == "drained":
            bench.connection.resume_writing()
        elif step == "head":
            bench.feed(CHUNKED)
        bench.lose(ConnectionResetError(104, "Connection reset by peer"))
        assert heard.error is not None
        assert heard.error.phase == phase
        assert "reset" in str(heard.error)


def test_a_reset_in_an_answer_that_runs_until_the_close_is_a_loss() -> None:
    """Only an orderly close ends such an answer; a broken connection may have cut it."""
    for error in (ConnectionResetError(), None):
        bench = Bench()
        heard = bench.ask(Heard())
        bench.feed(OK + b"\r\npong")
        bench.lose(error)
        assert heard.calls == ["head", "body", "lost"]


@pytest.mark.parametrize("size", [0, 10, JOIN_BELOW_BYTES - 1, JOIN_BELOW_BYTES, 1 << 20])
def test_the_request_is_written_as_given(size: int) -> None:
    """Joined or apart, head and body go out unchanged and in order."""
    bench = Bench()
    bench.ask(Heard(), b"b" * size)
    assert b"".join(bench.wood.sent) == REQUEST + b"b" * size
    assert len(bench.wood.sent) == (1 if size < JOIN_BELOW_BYTES else 2)


@pytest.mark.parametrize("when", ["head", "body"])
def test_abort_inside_a_call_is_the_last_that_is_heard(when: str) -> None:
    """From `abort()` on the listener is left alone, even within the read that called it."""
    bench = Bench()
    heard = bench.ask(Heard(**{when: bench.connection.abort}))
    bench.feed(CHUNKED + b"4\r\npong\r\n0\r\n\r\n")
    bench.lose(None)
    assert heard.calls == ["head", "body"][: 1 + (when == "body")]
    assert bench.wood.closed
    assert not bench.shelf
    assert not bench.wheel.in_flight


def test_the_end_may_send_the_next_request_at_once() -> None:
    """`end` is called when the connection is free: a listener may take it and ask again."""
    bench = Bench()
    second = Heard()
    first = bench.ask(Heard(end=lambda: bench.ask(second)))
    bench.feed(answer(b"one"))
    bench.feed(answer(b"two"))
    assert (first.data, second.data) == (b"one", b"two")


def test_pauses_are_idempotent_and_safe_at_any_time() -> None:
    """Before, between and after conversations and after the close, a pause or resume does no harm."""
    bench = Bench()
    connection = bench.connection
    connection.resume_reading()
    connection.pause_reading()
    assert bench.wood.reading, "an idle connection must hear its peer's close"
    heard = bench.ask(Heard(body=connection.pause_reading))
    connection.pause_reading()
    connection.pause_reading()
    assert not bench.wood.reading
    connection.resume_reading()
    connection.resume_reading()
    assert bench.wood.reading
    bench.feed(answer())
    assert heard.reusable is True
    assert bench.wood.reading, "a connection goes back to the pool reading"
    assert not connection.paused
    bench.lose(None)
    connection.pause_reading()
    connection.resume_reading()
    connection.abort()


def test_send_on_a_connection_that_died_since_it_was_taken_is_a_stale_loss() -> None:
    """The loss comes from the loop, once; not from within `send`."""
    for gone in (False, True):
        bench = Bench()
        bench.ask(Heard())
        bench.feed(answer())
        bench.wood.closed = True
        heard = bench.ask(Heard())
        assert heard.calls == []
        if gone:
            bench.lose(None)
        for call in bench.loop.soon:
            call()
        assert heard.calls == ["lost"]
        assert heard.error is not None
        assert heard.error.stale
        assert not bench.wheel.in_flight


def test_abort_after_such_a_send_silences_it_too() -> None:
    """No call after `abort()`, also when the loss was already on its way."""
    bench = Bench()
    bench.wood.closed = True
    heard = bench.ask(Heard())
    bench.connection.abort()
    for call in bench.loop.soon:
        call()
    assert heard.calls == []


def test_the_reads_and_the_status_are_open_to_see() -> None:
    """`status` and `keep_alive` hold from `head` on; `reads` counts reads with body bytes."""
    bench = Bench()
    seen: list[tuple[int, bool]] = []
    connection = bench.connection
    heard = Heard(head=lambda: seen.append((connection.status, connection.keep_alive)))
    bench.ask(heard)
    bench.feed(CHUNKED, b"2\r\n", b"po\r\n2", b"\r\nng\r\n0\r\n")
    assert seen == [(200, True)]
    assert connection.reads == 2
    bench.feed(b"\r\n")
    assert heard.reusable is True


ANSWERS = [*(case.raw for case in GOOD.values()), *NO_HEAD.values(), *BROKEN.values()]
ANSWERS = [raw for raw in [*ANSWERS, *REFUSED.values()] if len(raw) < 1000]


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Draw one to three answers in a row, whole or with a few bytes damaged somewhere."""
    raw = b"".join(draw(st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=3)))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(st.binary(max_size=3)) + raw[at + draw(st.integers(0, 3)) :]
    return raw


@given(answers(), st.lists(st.integers(0, 1000), max_size=6))
def test_cutting_never_matters_also_for_damaged_answers(raw: bytes, places: list[int]) -> None:
    """What is heard of any bytes at all depends on the bytes, not on how the network cut them."""
    heard: list[tuple[object, ...]] = []
    for pieces in ([raw], cut_at(raw, places), cut_at(raw, range(len(raw)))):
        bench = Bench()
        one = bench.ask(Heard())
        bench.feed(*pieces)
        bench.eof()
        assert one.over == 1
        ending = (type(one.error), one.error.phase, str(one.error)) if one.error else ()
        heard.append((*said(one), ending))
    assert heard[0] == heard[1] == heard[2]


def cut_at(raw: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut bytes at the places that lie within them."""
    edges = [0, *sorted(place for place in places if place <= len(raw)), len(raw)]
    return [raw[a:b] for a, b in itertools.pairwise(edges)]


@st.composite
def timelines(draw: st.DrawFn) -> list[tuple[str, bytes]]:
    """Draw what may happen to a connection: reads cut anywhere, damage, closes, pauses, aborts."""
    raw = draw(answers())
    pieces = cut_at(raw, draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    events = [("feed", piece) for piece in pieces]
    for _ in range(draw(st.integers(0, 3))):
        other = draw(st.sampled_from(["eof", "reset", "abort", "pause", "resume", "ask", "tick"]))
        events.insert(draw(st.integers(0, len(events))), (other, b""))
    return events


@given(timelines(), st.sampled_from([None, "head", "body", "end", "lost"]))
def test_every_conversation_ends_exactly_once(
    events: list[tuple[str, bytes]], abort_in: str | None
) -> None:
    """Whatever comes in whatever order: one ending per conversation, or silence after an abort."""
    bench = Bench()
    connection = bench.connection
    asked: list[Heard] = []
    aborted: set[int] = set()

    def abort() -> None:
        aborted.add(len(asked) - 1)
        connection.abort()

    def ask() -> None:
        on = {} if abort_in is None else {abort_in: abort}
        asked.append(Heard(**on))
        bench.ask(asked[-1], timeouts=Timeouts(first_byte_s=5, idle_s=5, total_s=8))

    ask()
    for name, data in events:
        busy = bool(bench.wheel.in_flight)
        if name == "feed":
            bench.feed(data)
        elif name == "eof":
            bench.eof()
        elif name == "reset":
            bench.lose(ConnectionResetError())
        elif name == "abort" and busy:
            abort()
        elif name == "pause":
            connection.pause_reading()
        elif name == "resume":
            connection.resume_reading()
        elif name == "ask" and connection in bench.shelf:
            ask()
        elif name == "tick":
            bench.loop.now += 6
            bench.wheel.tick()
    bench.lose(None)
    for call in bench.loop.soon:
        call()
    for number, heard in enumerate(asked):
        endings = heard.over
        assert endings == 1 or (number in aborted and endings == 0), heard.calls
        assert heard.calls.count("head") <= 1
        if heard.bodies:
            assert heard.calls[0] == "head"
    assert not bench.wheel.in_flight
    assert not bench.shelf
    assert bench.gone_calls == 1


# ---- over real sockets, on both loops


async def ask(pool: Pool, peer: Peer, heard: Heard, body: bytes = BODY) -> Heard:
    """Send one request on an idle or new connection, and wait for its end."""
    connection = pool.take(peer.origin) or await pool.connect(peer.origin, 5)
    connection.send(heard, REQUEST, body, PATIENT, asyncio.get_running_loop().time())
    await heard.until("over")
    return heard


async def test_answers_over_a_socket(peer: MakePeer, pool: Pool) -> None:
    """Each good answer is heard alike over a real connection, and reused by the same rules."""
    for case in GOOD.values():

        async def script(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, case: Case = case
        ) -> None:
            while True:
                await read_request(reader)
                writer.write(case.raw)
                if case.ends in {"eof", "cut"}:
                    writer.close()
                    return

        one = await peer(script)
        for _ in range(2):
            heard = await ask(pool, one, Heard())
            assert (heard.status, heard.data) == (case.status, case.body)
            if case.ends == "cut":
                assert isinstance(heard.error, UpstreamLost)
            else:
                assert heard.reusable is (case.ends == "reuse")
        assert one.accepted == (1 if case.ends == "reuse" else 2)


async def test_a_large_request_arrives_whole(peer: MakePeer, pool: Pool) -> None:
    """A body far beyond the kernel's buffers goes out complete, and the connection is reused."""
    got: list[int] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            got.append(len(await reader.readexactly(8 << 20)))
            writer.write(answer())

    one = await peer(script)
    for _ in range(2):
        heard = await ask(pool, one, Heard(), b"b" * (8 << 20))
        assert heard.reusable is True
    assert got == [8 << 20] * 2
    assert one.accepted == 1


async def test_an_early_refusal_of_a_large_request_is_heard(peer: MakePeer, pool: Pool) -> None:
    """A 413 that comes while most of the body is still ours to send is delivered, then closed."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(b"too big", status=b"413 Content Too Large"))
        await asyncio.Event().wait()

    one = await peer(script, limit=1024)
    heard = await ask(pool, one, Heard(), b"b" * (32 << 20))
    assert (heard.status, heard.data, heard.reusable) == (413, b"too big", False)
    assert pool.idle == 0


async def test_a_reset_while_sending_is_a_loss_of_phase_send(peer: MakePeer, pool: Pool) -> None:
    """The peer takes a little of a large body and resets: lost, in the phase of sending."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    one = await peer(script, limit=1024)
    heard = await ask(pool, one, Heard(), b"b" * (32 << 20))
    assert isinstance(heard.error, UpstreamLost)
    assert heard.error.phase == "send"
    assert not heard.error.stale


async def test_a_connection_closed_while_idle_is_a_stale_loss_at_worst(
    peer: MakePeer, pool: Pool
) -> None:
    """The peer closes after its answer: the next request finds no connection, or a stale one."""
    closed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer())
        await read_request(reader)
        writer.transport.abort()
        closed.set()

    one = await peer(script)
    await ask(pool, one, Heard())
    heard = await ask(pool, one, Heard())
    await closed.wait()
    assert heard.calls == ["lost"]
    assert heard.error is not None
    assert heard.error.stale
    assert pool.take(one.origin) is None


async def test_an_idle_close_is_noticed(peer: MakePeer, pool: Pool) -> None:
    """A connection that the peer closes while idle leaves the pool by itself."""
    release = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer())
        await release.wait()

    one = await peer(script)
    await ask(pool, one, Heard())
    assert pool.idle == 1
    release.set()
    await eventually(lambda: not pool.open)
    assert pool.idle == 0
    assert pool.take(one.origin) is None


async def test_abort_reaches_the_peer_at_once(peer: MakePeer, pool: Pool) -> None:
    """When the caller leaves, the provider sees the close without waiting for anything."""
    left = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(CHUNKED + b"4\r\npong\r\n")
        await reader.read()
        left.set()

    one = await peer(script)
    connection = await pool.connect(one.origin, 5)
    heard = Heard(body=connection.abort)
    connection.send(heard, REQUEST, BODY, PATIENT, asyncio.get_running_loop().time())
    async with asyncio.timeout(5):
        await left.wait()
    assert heard.calls == ["head", "body"]
    assert not connection.usable()


async def test_a_pause_stops_the_peer_within_the_kernels_buffers(
    peer: MakePeer, pool: Pool
) -> None:
    """While paused nothing is heard and the peer is held up; after resume all of it arrives."""
    size = 64 << 20
    written = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await read_request(reader)
        writer.write(OK + b"Content-Length: %d\r\n\r\n" % size)
        piece = b"x" * 65536
        while written < size:
            writer.write(piece)
            await writer.drain()
            written += len(piece)
        await reader.read()

    one = await peer(script)
    connection = await pool.connect(one.origin, 5)
    heard = Heard(head=connection.pause_reading)
    connection.send(heard, REQUEST, BODY, PATIENT, asyncio.get_running_loop().time())
    await heard.until("head")
    before, turns = -1, 0
    while turns < 20:
        turns = turns + 1 if written == before else 0
        before = written
        await asyncio.sleep(0.005)
    assert len(heard.data) <= 1 << 20
    assert written < size // 2
    connection.resume_reading()
    await heard.until("over")
    assert len(heard.data) == size
    assert heard.reusable is True


async def test_a_listener_that_fails_ends_its_own_conversation_only(
    peer: MakePeer, pool: Pool
) -> None:
    """An exception in a call is reported to the loop, the connection closed, the loss heard."""
    loop = asyncio.get_running_loop()
    reports: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))

    def fail() -> None:
        raise RuntimeError("a fault in the listener")

    one = await peer(says(answer(), answer()))
    heard = await ask(pool, one, Heard(body=fail))
    assert heard.calls == ["head", "body", "lost"]
    assert isinstance(heard.error, UpstreamError)
    assert len(reports) == 1
    assert (await ask(pool, one, Heard())).data == b"pong"


async def test_many_conversations_at_once_keep_apart(peer: MakePeer, pool: Pool) -> None:
    """Answers of connections that are interleaved never mix."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_request(reader)
            for i in range(4):
                writer.write(CHUNKED * (i == 0) + b"4\r\n" + request[-4:] + b"\r\n")
                await asyncio.sleep(0)
            writer.write(b"0\r\n\r\n")

    one = await peer(script)

    async def caller(number: int) -> None:
        for turn in range(5):
            mark = b"%02d%02d" % (number, turn)
            heard = await ask(pool, one, Heard(), mark)
            assert heard.data == mark * 4

    await asyncio.gather(*(caller(number) for number in range(20)))
    assert one.accepted == 20
    assert pool.opened_total == 20
    assert pool.reused_total == 80
