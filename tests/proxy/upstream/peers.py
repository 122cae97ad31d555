"""Scripted partners of the transport: a raw server, a listener that writes down, a transport of wood."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from proxy.upstream.connection import Connection
from proxy.upstream.deadlines import Timeouts, Wheel
from proxy.upstream.errors import UpstreamError
from proxy.upstream.tls import Origin

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

REQUEST = b"POST /v1/x HTTP/1.1\r\nhost: peer\r\ncontent-length: 4\r\n\r\n"
BODY = b"ping"
PATIENT = Timeouts(first_byte_s=60, idle_s=60, total_s=600)


class Peer:
    """A server that runs one script per connection, on a port of its own."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.accepted = 0
        self.failures: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0, **options: Any) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, **options)
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def origin(self) -> Origin:
        return Origin("http", "127.0.0.1", self.port)

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert not self.failures, self.failures

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass
        except Exception as error:
            self.failures.append(error)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Read a head and the body that its content-length announces."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


async def eventually(true: Callable[[], object]) -> None:
    """Give the loop turns until `true()`, for what only the loop can bring about."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - what is waited for has no event to wait on
            await asyncio.sleep(0.001)


def says(*answers: bytes) -> Script:
    """Make a script that gives the answers in turn, one per request, and then waits for the close."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await read_request(reader)
            writer.write(answer)
        await reader.read()

    return script


def answer(body: bytes = b"pong", *fields: bytes, status: bytes = b"200 OK") -> bytes:
    """Make an answer with a content-length."""
    lines = [b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class Heard:
    """A listener that writes down what it hears, and may act on it (`on`: event name -> action)."""

    def __init__(self, **on: Callable[[], object]) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.bodies: list[bytes] = []
        self.reusable: bool | None = None
        self.error: UpstreamError | None = None
        self.calls: list[str] = []
        self._on = on
        self._waiters: dict[str, asyncio.Event] = {}

    def head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status, self.headers = status, headers
        self._note("head")

    def body(self, data: bytes) -> None:
        assert data, "an empty body call costs for nothing"
        self.bodies.append(data)
        self._note("body")

    def end(self, reusable: bool) -> None:
        self.reusable = reusable
        self._note("end")

    def lost(self, error: UpstreamError) -> None:
        self.error = error
        self._note("lost")

    def _note(self, what: str) -> None:
        self.calls.append(what)
        over = {"end", "lost"}
        assert not over & set(self.calls[:-1]), f"{what} after the end: {self.calls}"
        for name in (what, "over") if what in over else (what,):
            if name in self._waiters:
                self._waiters[name].set()
        if what in self._on:
            self._on[what]()

    async def until(self, what: str) -> None:
        """Wait for the first `head`, `body`, `end`, `lost` or `over` (either of the last two)."""
        names = {"end", "lost"} if what == "over" else {what}
        if not names & set(self.calls):
            async with asyncio.timeout(10):
                await self._waiters.setdefault(what, asyncio.Event()).wait()

    @property
    def data(self) -> bytes:
        return b"".join(self.bodies)

    @property
    def over(self) -> int:
        return self.calls.count("end") + self.calls.count("lost")


class Wood(asyncio.Transport):
    """A transport that goes nowhere: what is written is kept, what is asked is remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.buffered = 0
        self.closed = False
        self.reading = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: Any) -> None:
        assert not self.closed
        self.sent.append(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        assert not self.closed
        self.sent.extend(map(bytes, list_of_data))

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class NoLoop:
    """A loop that only keeps what it is asked to call, for tests that turn it by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.soon: list[Callable[[], object]] = []
        self.later: list[Callable[[], object]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, call: Callable[..., object], *args: object) -> None:
        self.soon.append(lambda: call(*args))

    def call_later(self, delay: float, call: Callable[..., object], *args: object) -> "NoLoop":
        self.later.append(lambda: call(*args))
        return self

    def cancel(self) -> None:
        self.later.clear()


class Bench:
    """
    One connection over a transport of wood, with a keeper that writes down.

    `shelf` is where a connection that came back lies, as in the pool.
    """

    def __init__(self) -> None:
        self.loop = NoLoop()
        self.wheel = Wheel(self.loop)  # type: ignore[arg-type]
        self.shelf: dict[Connection, None] = {}
        self.gone_calls = 0
        self.connection = Connection(self.loop, self, self.wheel, self.shelf)  # type: ignore[arg-type]
        self.wood = Wood()
        self.connection.connection_made(self.wood)
        self._lost = False

    def release(self, connection: Connection) -> bool:
        self.shelf[connection] = None
        return True

    def gone(self, connection: Connection) -> None:
        self.gone_calls += 1

    def ask(self, heard: Heard, body: bytes = BODY, timeouts: Timeouts = PATIENT) -> Heard:
        """Take the connection and send a request on it."""
        self.shelf.pop(self.connection, None)
        self.connection.send(heard, REQUEST, body, timeouts, self.loop.now)
        return heard

    def feed(self, *pieces: bytes) -> None:
        """Give reads, as long as the transport would still read."""
        for piece in pieces:
            if not self.wood.closed and piece:
                self.connection.data_received(piece)

    def eof(self) -> None:
        """Close from the peer's side, in order."""
        if not self.wood.closed:
            self.connection.eof_received()
            self.wood.closed = True
        self.lose(None)

    def lose(self, error: Exception | None) -> None:
        """Let the loop report that the transport is gone."""
        self.wood.closed = True
        if not self._lost:
            self._lost = True
            self.connection.connection_lost(error)
