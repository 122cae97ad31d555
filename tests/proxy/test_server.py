"""The side that callers connect to: deadlines, backpressure, ends of connections, and words that repeat nothing."""

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp.http_exceptions import (
    BadHttpMessage,
    BadHttpMethod,
    BadStatusLine,
    ContentEncodingError,
    InvalidHeader,
    InvalidURLError,
    LineTooLong,
)

from proxy.server import (
    FLUSH_S,
    ClientConnection,
    EdgeServer,
    Request,
    Written,
    read_body,
    reason,
    refusal_of,
)
from tests.patience import within
from tests.proxy.edge_rig import eventually
from tests.proxy.partners import PATIENCE_S, Caller, piece, request, whole

Handler = Callable[[Request], Awaitable[Written]]
SECRET = "sk-canary-in-the-head"


class Desk:
    """A server with a handler of the test's own, and callers of it."""

    def __init__(self, server: EdgeServer, port: int) -> None:
        self.server = server
        self.port = port
        self.callers: list[Caller] = []

    async def caller(self) -> Caller:
        """Connect."""
        self.callers.append(Caller(*await asyncio.open_connection("127.0.0.1", self.port), []))
        return self.callers[-1]

    @property
    def client(self) -> ClientConnection:
        """The server's end of the one connection."""
        (found,) = self.server.connections
        assert isinstance(found, ClientConnection)
        return found


@contextlib.asynccontextmanager
async def desk(answer: Handler, **limits: float) -> AsyncIterator[Desk]:
    """Serve with a handler until the block ends."""
    settings = {"head_timeout_s": 10, "body_timeout_s": 10, "idle_timeout_s": 10} | limits
    server = EdgeServer(answer, max_body=1 << 20, next_request_id=lambda: "req_1", **settings)  # type: ignore[arg-type]
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    made = Desk(server, listener.sockets[0].getsockname()[1])
    try:
        yield made
    finally:
        for caller in made.callers:
            await caller.leave()
        listener.close()
        server.close()
        await server.shutdown(0.1)
        await listener.wait_closed()


def says(body: bytes = b"{}") -> Handler:
    """Make a handler that reads the body and answers."""

    async def answer(asked: Request) -> Written:
        server: EdgeServer = asked.client._edge
        found = await read_body(asked, server.max_body, server.body_timeout_s)
        assert found is not None
        assert asked.transport is not None
        asked.transport.write(server.answer(200, body, b"x-length: %d\r\n" % len(found)))
        return server.kept

    return answer


# What is written...


def test_an_answer_is_whole() -> None:
    """Status line, date, type, length, and the close where there will be one."""

    async def look() -> None:
        server = EdgeServer(
            says(),
            head_timeout_s=1,
            body_timeout_s=1,
            idle_timeout_s=1,
            max_body=1,
            next_request_id=lambda: "req_1",
        )
        text = server.answer(429, b"{}", b"x-a: 1\r\n")
        lines = text.split(b"\r\n")
        assert lines[0] == b"HTTP/1.1 429 Too Many Requests"
        assert lines[1].startswith(b"date: ")
        assert lines[2:] == [
            b"content-type: application/json",
            b"x-a: 1",
            b"content-length: 2",
            b"",
            b"{}",
        ]
        assert b"\r\nconnection: close\r\n\r\n{}" in server.answer(200, b"{}", close=True)
        server.close()

    asyncio.run(look())


@pytest.mark.parametrize(
    ("status", "phrase"), [(200, b"OK"), (404, b"Not Found"), (529, b"Unknown"), (599, b"Unknown")]
)
def test_a_status_has_its_phrase(status: int, phrase: bytes) -> None:
    """As HTTP registers it; vendors invent others."""
    assert reason(status) == phrase


REFUSALS = {
    "a long line": (LineTooLong(SECRET.encode(), 8190), 431),
    "too many headers": (BadHttpMessage("Too many headers received"), 431),
    "a broken header": (InvalidHeader(f"Authorization: Bearer {SECRET}\0".encode()), 400),
    "a broken target": (InvalidURLError(f"http://[{SECRET}"), 400),
    "a broken method": (BadHttpMethod(SECRET), 400),
    "TLS": (BadHttpMethod(error="Received HTTPS traffic on an HTTP port"), 400),
    "a broken line": (BadStatusLine(SECRET), 400),
    "a duplicate": (BadHttpMessage("Duplicate 'Host' header found."), 400),
    "no host": (BadHttpMessage("Missing 'Host' header in request."), 400),
    "a coding that is not there": (ContentEncodingError("Please install `Brotli`"), 415),
    "a broken coding": (ContentEncodingError("Can not decode content-encoding: gzip"), 400),
    "HTTP/2": (BadHttpMessage("Pause on PRI/Upgrade:\n\n  b'PRI'\n  ^"), 400),
    "llhttp's reason": (BadHttpMessage(f"Invalid header value char:\n\n  {SECRET!r}\n  ^"), 400),
    "llhttp's reason on a line": (BadHttpMessage(f"Bad:\n  x:\n\n  {SECRET!r}\n  ^"), 400),
    "anything else": (BadHttpMessage(f"something about {SECRET}"), 400),
    "nothing": (None, 400),
}


@pytest.mark.parametrize(("error", "status"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_repeats_nothing_that_was_sent(error: BadHttpMessage | None, status: int) -> None:
    """Its words are ours, or known to be fixed."""
    found, words = refusal_of(error, error.message if error is not None else "")
    assert found == status
    assert SECRET not in words
    assert words
    assert words.isprintable()


def test_the_parsers_reason_is_told() -> None:
    """What llhttp says of itself helps whoever writes a client."""
    error = BadHttpMessage("Invalid chunk size:\n\n  b'x'\n  ^")
    _, words = refusal_of(error, error.message)
    assert words == "Invalid chunk size"


# Bodies...


@pytest.mark.parametrize("size", [0, 1, 70_000, 1 << 20])
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_body_is_read_to_its_end(size: int, framing: str) -> None:
    """In one piece or many, up to the limit."""
    body = b"x" * size
    async with desk(says()) as made:
        caller = await made.caller()
        if framing == "length":
            await caller.send(request(body))
        else:
            await caller.send(request(None, "Transfer-Encoding: chunked"))
            for place in range(0, size, 40_000):
                await caller.send(piece(body[place : place + 40_000]))
            await caller.send(piece(b""))
        assert (await caller.answer()).header("x-length") == str(size)


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_body_beyond_the_limit_is_none(framing: str) -> None:
    """By its length before it is read, by its chunks as soon as there are too many."""
    seen: list[bytes | None] = []

    async def answer(asked: Request) -> Written:
        server: EdgeServer = asked.client._edge
        seen.append(await read_body(asked, 10, 1))
        assert asked.transport is not None
        asked.transport.write(server.answer(413, b"", close=True))
        return server.closing

    async with desk(answer) as made:
        caller = await made.caller()
        if framing == "length":
            await caller.send(request(b"x" * 11))
        else:
            await caller.send(request(None, "Transfer-Encoding: chunked") + piece(b"x" * 11))
        assert (await caller.answer()).status == 413
        assert seen == [None]


async def test_a_body_that_breaks_is_told_to_its_reader() -> None:
    """Whoever waits for it hears of it at once, not at the deadline."""
    heard: list[str] = []

    async def answer(asked: Request) -> Written:
        server: EdgeServer = asked.client._edge
        try:
            await read_body(asked, 100, 10)
        except Exception as error:
            heard.append(type(error).__name__)
        assert asked.transport is not None
        asked.transport.write(server.answer(400, b"", close=True))
        return server.closing

    for queued in (False, True):
        async with desk(answer) as made:
            caller = await made.caller()
            head = request(None, "Transfer-Encoding: chunked")
            if queued:  # the head is parsed, its handler has not begun
                await eventually(lambda: made.server.connections)
                made.client.data_received(head)
                made.client.data_received(b"xyz\r\n")
            else:
                await caller.send(head)
                await eventually(lambda: made.client._current_request is not None)
                await caller.send(b"xyz\r\n")
            async with within(1):
                assert (await caller.answer()).status == 400
    assert heard == ["RequestPayloadError", "RequestPayloadError"]


# Deadlines...


async def test_the_clock_of_a_head_does_not_start_within_a_request() -> None:
    """
    A body that comes between its head and the first step of its handler begins no head.

    On Python 3.11 a handler starts a turn of the loop after its request was taken; the connection waited for
    nothing then, and was ended with a 408 when it had long been idle.
    """
    async with desk(says(), head_timeout_s=0.1) as made:
        caller = await made.caller()
        await eventually(lambda: made.server.connections)
        whole_request = request(b"x" * 10)
        for turns in range(6):
            client = made.client
            client.data_received(whole_request[:-10])
            for _ in range(turns):
                await asyncio.sleep(0)
            client.data_received(whole_request[-10:])
            assert client.deadline == 0, f"after {turns} turns"
            assert (await caller.answer()).status == 200


async def test_the_first_byte_of_a_head_starts_its_clock() -> None:
    """And its end stops it."""
    async with desk(says()) as made:
        caller = await made.caller()
        await eventually(lambda: made.server.connections)
        first = made.client.deadline
        assert first > 0
        await caller.send(b"POST / HT")
        await eventually(lambda: made.client._begun)
        assert made.client.deadline == first
        await caller.send(b"TP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
        await eventually(lambda: not made.client._begun)
        assert made.client.deadline == 0
        await caller.send(b"x")
        await caller.answer()
        assert made.client.deadline == 0
        await caller.send(b"G")
        await eventually(lambda: made.client.deadline > first)


async def test_new_limits_hold_for_the_next_request() -> None:
    """Also on connections that are open."""
    async with desk(says()) as made:
        caller = await made.caller()
        await caller.send(request(b"x"))
        await caller.answer()
        made.server.reconfigure(
            head_timeout_s=0.1, body_timeout_s=0.1, idle_timeout_s=5, max_body=9
        )
        await caller.send(b"G")
        assert (await caller.answer()).status == 408


# One after the other...


async def test_who_sends_many_requests_at_once_is_answered_in_turn_with_others() -> None:
    """Between two of them everybody else has a turn, also where no answer has to be waited for."""
    served: list[str] = []

    async def answer(asked: Request) -> Written:
        served.append(asked.message.path)
        assert asked.transport is not None
        asked.transport.write(whole(b"{}"))
        return asked.client._edge.kept

    async with desk(answer) as made:
        callers = [await made.caller(), await made.caller()]
        await eventually(lambda: len(made.server.connections) == len(callers))
        many, one = (client for client in made.server.connections)
        head = b"GET %b HTTP/1.1\r\nhost: a\r\n\r\n"
        many.data_received(b"".join(head % path for path in (b"/1", b"/2", b"/3")))
        one.data_received(head % b"/other")
        await eventually(lambda: len(served) == 4)
        assert served == ["/1", "/other", "/2", "/3"]


async def test_a_fault_between_two_requests_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody else would: its caller would wait for ever."""

    async def answer(asked: Request) -> Written:
        assert asked.transport is not None
        asked.transport.write(whole(b"{}"))
        return asked.client._edge.kept

    async def fail(*_: object) -> None:
        raise LookupError("a fault of ours")

    monkeypatch.setattr(ClientConnection, "_linger", fail)
    async with desk(answer) as made:
        caller = await made.caller()
        await caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nhi")
        assert (await caller.answer()).status == 200
        await caller.closed()
    assert [record.getMessage() for record in caplog.records] == ["a connection failed"]


@pytest.mark.parametrize("arrives", [True, False])
async def test_a_body_that_nobody_read_is_awaited_before_the_next_request(arrives: bool) -> None:
    """The rest of it is read and dropped; where it does not come the connection ends."""
    served: list[str] = []

    async def answer(asked: Request) -> Written:
        served.append(asked.message.path)
        assert asked.transport is not None
        asked.transport.write(whole(b"{}"))
        return asked.client._edge.kept

    async with desk(answer) as made:
        caller = await made.caller()
        await caller.send(b"POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nGE")
        made.client._lingering_time = PATIENCE_S if arrives else 0.01
        await caller.answer()
        if not arrives:
            await caller.closed()
            return
        await caller.send(b"T GET /2 HTTP/1.1\r\nhost: a\r\n\r\n".replace(b"T ", b"T\n", 1))
        await caller.answer()
        assert served == ["/1", "/2"]


async def test_a_body_that_breaks_when_nobody_reads_it_ends_the_connection_at_once() -> None:
    """Nothing of it can come any more, so nothing is waited for."""

    async def answer(asked: Request) -> Written:
        assert asked.transport is not None
        asked.transport.write(whole(b"{}"))
        return asked.client._edge.kept

    async with desk(answer) as made:
        caller = await made.caller()
        await eventually(lambda: made.server.connections)
        made.client._lingering_time = 10 * PATIENCE_S
        await caller.send(request(None, "Transfer-Encoding: chunked"))
        assert (await caller.answer()).status == 200
        await caller.send(b"xyz\r\n")
        await caller.closed()
        await eventually(lambda: not made.server.connections)


async def test_a_head_that_was_answered_is_not_kept_until_the_next_request() -> None:
    """It may be as long as a head may be, and a connection may wait for minutes."""
    taken: list[object] = []

    async def answer(asked: Request) -> Written:
        taken.extend((asked.message, asked.content))
        return await says()(asked)

    async with desk(answer) as made:
        caller = await made.caller()
        await caller.send(request(b"{}"))
        assert (await caller.answer()).status == 200
        await eventually(lambda: made.client.is_idle)
        nobodys = [object()]
        assert sys.getrefcount(taken[0]) == sys.getrefcount(nobodys[0])
        assert sys.getrefcount(taken[1]) == sys.getrefcount(nobodys[0])


async def test_a_body_that_was_read_is_not_kept_until_the_next_request() -> None:
    """An idle connection holds nothing of what came before."""
    taken: list[Request] = []

    async def answer(asked: Request) -> Written:
        taken.append(asked)
        return await says()(asked)

    async with desk(answer) as made:
        caller = await made.caller()
        await caller.send(request(b"x" * 100_000))
        assert (await caller.answer()).header("x-length") == "100000"
        assert not taken[0].content._buffer


async def test_pipelined_bodies_of_very_many_chunks_all_arrive() -> None:
    """A parser that was paused with the last chunk of a body goes on with the request behind it."""
    chunks = b"1\r\nx\r\n" * 16_385 + b"0\r\n\r\n"
    one = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + chunks

    async def answer(asked: Request) -> Written:
        # Not at once: what comes meanwhile piles up until it is held up.
        for _ in range(50):
            await asyncio.sleep(0.001)
        return await says()(asked)

    async with desk(answer, body_timeout_s=1) as made:
        caller = await made.caller()
        await caller.send(one * 2)
        for number in range(3):
            if number == 2:
                await caller.send(one)
            assert (await caller.answer()).header("x-length") == "16385"


# Ends...


async def test_idle_connections_close_and_busy_ones_do_not() -> None:
    """What has not begun is closed at once; what is under way reads on, its body included."""
    async with desk(says()) as made:
        fresh, begun, spent, busy = [await made.caller() for _ in range(4)]
        await begun.send(b"POST / HTT")
        await spent.send(request(b"x"))
        await spent.answer()
        await busy.send(request(b"x" * 10)[:-5])
        await eventually(
            lambda: (
                sum(client._current_request is not None for client in made.server.connections) == 1
            )
        )
        made.server.close_idle()
        for caller in (fresh, begun, spent):
            await caller.closed()
        await busy.send(b"x" * 5)
        assert (await busy.answer()).header("x-length") == "10"


async def test_a_closing_connection_is_not_kept_for_who_does_not_read() -> None:
    """As long as it fetches something it stays; then its time is up."""
    body = b"x" * 30_000_000

    async def answer(asked: Request) -> Written:
        server: EdgeServer = asked.client._edge
        assert asked.transport is not None
        asked.transport.write(whole(body))
        return server.closing

    async with desk(answer) as made:
        # The clock is the test's.
        made.server.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port)
        writer.write(request(None, method="GET"))
        await eventually(lambda: made.server.connections)
        client = made.client
        transport = client.transport
        assert transport is not None
        await eventually(transport.is_closing)
        now = 100.0
        client.flush_overdue(now, transport)
        unsent = transport.get_write_buffer_size()
        await reader.readexactly(len(body) // 2)
        await eventually(lambda: transport.get_write_buffer_size() < unsent)
        # Slow is not gone.
        client.flush_overdue(now + 2 * FLUSH_S, transport)
        assert made.server.connections
        async with asyncio.timeout(PATIENCE_S):
            while made.server.connections:
                now += 2 * FLUSH_S
                client.flush_overdue(now, transport)
                await asyncio.sleep(0.001)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_handler_that_fails_is_a_500_in_our_envelope(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged with its traceback, the caller gets no detail, and the server serves on."""

    async def answer(asked: Request) -> Written:
        raise RuntimeError(SECRET)

    async with desk(answer) as made:
        caller = await made.caller()
        with caplog.at_level(logging.ERROR):
            await caller.send(request(None, method="GET"))
            found = await caller.answer()
        assert (found.status, found.error["code"]) == (500, "internal")
        assert SECRET not in json.dumps(found.json)
        await caller.closed()
        assert "RuntimeError" in caplog.text
        other = await made.caller()
        await other.send(request(None, method="GET"))
        assert (await other.answer()).status == 500


# Backpressure...


class Feeding:
    """An upstream conversation that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause_reading(self) -> None:
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")


async def test_the_client_holds_its_upstream_back() -> None:
    """Beyond the bound of the buffer the upstream is told to stop, below it to go on, each once."""
    feeding = Feeding()
    done = asyncio.Event()

    async def answer(asked: Request) -> Written:
        server: EdgeServer = asked.client._edge
        asked.client.feeding = feeding
        assert asked.transport is not None
        asked.transport.write(whole(b"x" * 30_000_000))
        await done.wait()
        return server.kept

    async with desk(answer) as made:
        caller = await made.caller()
        caller.stop_reading()
        await caller.send(request(None, method="GET"))
        await eventually(lambda: feeding.told)
        assert feeding.told == ["pause"]
        caller.go_on_reading()
        assert len((await caller.answer()).body) == 30_000_000
        assert feeding.told == ["pause", "resume"]
        done.set()


async def test_a_connection_without_upstream_may_pause() -> None:
    """An answer of our own that is large, to a caller that is slow, is nobody's business."""

    async def answer(asked: Request) -> Written:
        server: EdgeServer = asked.client._edge
        assert asked.transport is not None
        asked.transport.write(whole(b"x" * 10_000_000))
        return server.kept

    async with desk(answer) as made:
        caller = await made.caller()
        caller.stop_reading()
        await caller.send(request(None, method="GET"))
        await asyncio.sleep(0.01)
        caller.go_on_reading()
        assert len((await caller.answer()).body) == 10_000_000
