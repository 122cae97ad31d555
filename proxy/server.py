"""
The side that callers connect to: aiohttp's low-level server, with deadlines and our own answers.

aiohttp owns the connection: its parser (llhttp), the bodies, pipelining and limits.
Ours are the loop that answers one request after the other, an absolute deadline for a request's head, one for its body, backpressure towards the upstream, and errors in the caller's protocol where aiohttp would answer in HTML.
An answer is written straight onto the transport by whoever makes it; the object that a handler returns only tells whether the connection may serve again.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol, cast

from aiohttp import web
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import (
    BadHttpMethod,
    BadStatusLine,
    ContentEncodingError,
    InvalidHeader,
    InvalidURLError,
    LineTooLong,
)
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from proxy.wire.envelopes import openai_error

TICK_S = 0.25
# A stalled client's share of our memory: this much in our buffer, one read on top, then the upstream is paused.
WRITE_HIGH = 64 * 1024
WRITE_LOW = 16 * 1024
# The kernel's share: what it holds beyond what the client's window lets out.
UNSENT = 128 * 1024
LINE_LIMIT = 8190
HEADERS_LIMIT = 128
# How long a connection that waits for its client, to close or to go on, may go without its reading what is left for it.
FLUSH_S = 10.0


class Pausable(Protocol):
    """An upstream conversation whose bytes go to this client."""

    def pause_reading(self) -> None:
        """Stop reading: the client is slow."""

    def resume_reading(self) -> None:
        """Go on: the client has caught up."""


class Request:
    """
    One request as the handlers see it, as light as it can be.

    It stands in for aiohttp's `BaseRequest`, of which the connection needs `_cancel` and `_finish`.
    """

    __slots__ = ("client", "content", "message", "transport")

    def __init__(
        self, message: RawRequestMessage, content: StreamReader, client: "ClientConnection"
    ) -> None:
        self.message = message
        self.content = content
        self.client = client
        self.transport = client.transport

    def _cancel(self, exc: BaseException) -> None:
        self.content.set_exception(exc)

    def _finish(self) -> None:
        """Nothing to release."""


Handler = Callable[[Request], Awaitable["Written"]]


class Written(web.StreamResponse):
    """What a handler returns when the answer is on the transport already."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._keep_alive = keep_alive
        self._eof_sent = True

    async def prepare(self, request: Any) -> None:
        """Nothing is left to prepare."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""


class ClientConnection(RequestHandler):
    """A caller's connection: aiohttp's, with a head deadline and a hand on the upstream."""

    __slots__ = (
        "_begun",
        "_edge",
        "_left",
        "_stuck_at",
        "_unsent",
        "behind",
        "body_deadline",
        "deadline",
        "feeding",
    )

    def __init__(self, server: "EdgeServer", **options: Any) -> None:
        super().__init__(server, **options)
        self._edge = server
        self._begun = False
        self._left: StreamReader | None = None
        self._unsent = -1
        self._stuck_at = 0.0
        self.behind = False
        self.deadline = 0.0
        self.body_deadline = 0.0
        self.feeding: Pausable | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock of the first head."""
        cast("asyncio.Transport", transport).set_write_buffer_limits(WRITE_HIGH, WRITE_LOW)
        theirs = transport.get_extra_info("socket")
        if theirs is not None and theirs.family != socket.AF_UNIX:
            # Else the kernel takes megabytes for a client that does not read, before it tells us.
            theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        self.deadline = self._loop.time() + self._edge.head_timeout_s
        super().connection_made(transport)

    async def start(self) -> None:
        """
        Answer one request after the other, until the connection ends.

        It stands in for aiohttp's own loop, which makes a task, a writer and three coroutines for each request.
        """
        loop = self._loop
        messages = self._messages
        while not self._ends():
            if not messages:
                self._waiter = loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            message, content = messages.popleft()
            try:
                if self._parser is not None:
                    self._parser.message_consumed()
                if self._buffer_paused and len(messages) <= self._msg_queue_resume_size:
                    self._resume_reading_if_drained()
                if isinstance(message, RawRequestMessage):
                    written = await self._answer(Request(message, content, self))
                else:
                    written = await self._refuse_head(message.exc, message.message or "")
                if not content.is_eof():
                    await self._linger(content)
                # Else they would stay for as long as nothing comes.
                del message, content
            except Exception:
                # Nobody else would end it.
                self.logger.exception("a connection failed")
                self.force_close()
                return
            except BaseException:
                self.force_close()
                raise
            if self._close or self._force_close or not written.keep_alive:
                break
            self._next_keepalive_close_time = close_at = loop.time() + self._keepalive_timeout
            if self._keepalive_handle is None:
                self._keepalive_handle = loop.call_at(close_at, self._process_keepalive)
            if messages:
                # Whoever sends many at once has them answered in turn with everybody else's.
                await asyncio.sleep(0)
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    def _ends(self) -> bool:
        return self._close or self._force_close

    async def _answer(self, request: Request) -> "Written":
        theirs = cast("Any", request)
        self._current_request = theirs
        self._request_in_progress = True
        self._edge.requests_count += 1
        try:
            written = await self._edge.answering(request)
            if self._upgraded:
                # An upgrade that was declined: what came behind it are requests again.
                await self.finish_response(theirs, written, None)
        except Exception as error:  # noqa: BLE001 - whatever it is, its caller gets an answer and the connection ends
            return self._fail(error)
        else:
            return written
        finally:
            self._current_request = None
            self._request_in_progress = False
            if self._handler_waiter is not None:
                # Of `shutdown`, which waits for this request.
                self._handler_waiter.set_result(None)

    async def _linger(self, content: StreamReader) -> None:
        """Read on for a while what nobody read of a body: a close before it has come would be a reset (RFC 9112, 9.6)."""
        self._left = content
        with contextlib.suppress(TimeoutError, RequestPayloadError, ConnectionError):
            async with asyncio.timeout(self._lingering_time):
                while not self._force_close and not content.is_eof():
                    await content.readany()
        self._left = None
        if not content.is_eof():
            self.close()

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request: none was begun on it, or all that came are answered."""
        waiter = self._waiter
        return not self._request_count or (waiter is not None and not waiter.done())

    def data_received(self, data: bytes) -> None:
        """Parse; a head that has begun and not ended keeps its deadline."""
        super().data_received(data)
        # Not by the request under way: between a head and the first step of its handler there is none.
        if self.is_idle:
            self._begun = True
            if not self.deadline:
                self.deadline = self._loop.time() + self._edge.head_timeout_s
            return
        self.deadline = 0.0
        self._begun = False
        messages = self._messages
        if messages and messages[-1][0].__class__ is not RawRequestMessage:
            # The parser gave up. If that was within a body, whoever waits for it must hear of it.
            if len(messages) > 1:
                messages[-2][1].set_exception(RequestPayloadError("broken framing"))
            else:
                # Behind the first step of a handler that is about to run.
                self._loop.call_soon(self._spoil)

    def _spoil(self) -> None:
        request = self._current_request
        content = self._left if request is None else request.content
        if content is not None and not content.is_eof():
            content.set_exception(RequestPayloadError("broken framing"))

    def pause_writing(self) -> None:
        """Stop the upstream: this client does not read."""
        super().pause_writing()
        if self.feeding is not None:
            self.feeding.pause_reading()

    def resume_writing(self) -> None:
        """Let the upstream go on."""
        super().resume_writing()
        if self.feeding is not None:
            self.feeding.resume_reading()

    async def caught_up(self) -> None:
        """Wait until the client has read what it was answered; one that no longer reads is given up."""
        self.behind = True
        self._unsent = -1
        try:
            await self.drained()
        finally:
            self.behind = False

    async def drained(self) -> None:
        """Wait until the client has read nearly all that is here for it. Raises `ConnectionError` when it has gone."""
        await self._drain_helper()

    def overdue(self, now: float) -> None:
        """End what takes too long: a head with 408 and a close, a body with an error that its reader sees."""
        if self.deadline and now > self.deadline:
            self.deadline = 0.0
            transport = self.transport
            if transport is not None and self._current_request is None:
                if self._begun:
                    transport.write(
                        self._edge.refusal(
                            408,
                            openai_error(
                                408,
                                "The head of the request did not arrive in time.",
                                "invalid_request_error",
                                "head_timeout",
                            ),
                        )
                    )
                self.force_close()
        if self.body_deadline and now > self.body_deadline:
            self.body_deadline = 0.0
            request = self._current_request
            if request is not None:
                request._cancel(TimeoutError("body"))  # noqa: SLF001 - aiohttp's own way in

    async def _refuse_head(self, error: BaseException, message: str) -> "Written":
        """Answer what the parser refused, in the caller's protocol; the connection ends."""
        status, words = refusal_of(error, message)
        body = openai_error(
            status, f"Malformed HTTP request: {words}.", "invalid_request_error", "bad_http"
        )
        # A close while more is on its way would be a reset, which takes the answer away (RFC 9112, 9.6).
        self._close = True
        if self.transport is not None:
            self.transport.write(self._edge.refusal(status, body))
            self.transport.write_eof()
            await asyncio.sleep(self._lingering_time)
        return self._edge.closing

    def _fail(self, error: Exception) -> "Written":
        """Answer a request whose handler let something escape."""
        self.logger.error("a handler failed", exc_info=error)
        body = openai_error(500, "The gateway failed; see its log.", "api_error", "internal")
        if self.transport is not None:
            self.transport.write(self._edge.refusal(500, body))
        return self._edge.closing

    def flush_overdue(self, now: float, transport: asyncio.Transport) -> None:
        """Give up a connection whose client no longer reads, where we would wait for it for ever: to close, or to go on."""
        unsent = transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent = unsent
            self._stuck_at = now
        elif now - self._stuck_at > self._edge.flush_timeout_s:
            transport.abort()


class EdgeServer(web.Server):
    """Makes client connections, watches their deadlines, and renders whole answers."""

    def __init__(
        self,
        handler: Handler,
        *,
        head_timeout_s: float,
        body_timeout_s: float,
        idle_timeout_s: float,
        max_body: int,
        next_request_id: Callable[[], str],
    ) -> None:
        super().__init__(
            cast("Any", handler),
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=idle_timeout_s,
            max_line_size=LINE_LIMIT,
            max_field_size=LINE_LIMIT,
            max_headers=HEADERS_LIMIT,
            lingering_time=2.0,
            read_bufsize=256 * 1024,
        )
        self.answering: Handler = handler
        self.head_timeout_s = head_timeout_s
        self.body_timeout_s = body_timeout_s
        self.max_body = max_body
        self.flush_timeout_s = FLUSH_S
        self._next_request_id = next_request_id
        self.kept = Written(keep_alive=True)
        self.closing = Written(keep_alive=False)
        self.date = b""
        self._ticking: asyncio.TimerHandle | None = None
        self._tick()

    def __call__(self) -> RequestHandler:
        """Make the protocol of a new connection."""
        return ClientConnection(self, loop=self._loop, **self._kwargs)

    def reconfigure(
        self, *, head_timeout_s: float, body_timeout_s: float, idle_timeout_s: float, max_body: int
    ) -> None:
        """Take new limits; connections that are open keep their keep-alive."""
        self.head_timeout_s = head_timeout_s
        self.body_timeout_s = body_timeout_s
        self.max_body = max_body
        self._kwargs["keepalive_timeout"] = idle_timeout_s

    def answer(
        self, status: int, body: bytes, headers: bytes = b"", *, close: bool = False
    ) -> bytes:
        """Return a whole JSON answer; `headers` are lines that end in CR LF."""
        return b"%bcontent-type: application/json\r\n%bcontent-length: %d\r\n%b\r\n%b" % (
            self.status_line(status),
            headers,
            len(body),
            b"connection: close\r\n" if close else b"",
            body,
        )

    def refusal(self, status: int, body: bytes) -> bytes:
        """Return the answer to what is no request yet, and end the connection with it."""
        return self.answer(
            status,
            body,
            b"x-request-id: %b\r\nx-should-retry: %b\r\n"
            % (self._next_request_id().encode(), b"false" if status < 500 else b"true"),
            close=True,
        )

    def status_line(self, status: int) -> bytes:
        """Return the status line and the date."""
        return b"HTTP/1.1 %d %b\r\n%b" % (status, reason(status), self.date)

    def close(self) -> None:
        """Stop watching; `shutdown` ends the connections."""
        if self._ticking is not None:
            self._ticking.cancel()

    def close_idle(self) -> None:
        """Close connections that wait for a request; the others finish theirs, bodies that still come included."""
        for connection in self._connections:
            if cast("ClientConnection", connection).is_idle:
                # Its `close` would only stop listening to the caller, who would wait for an answer in vain.
                connection.force_close()

    def _tick(self) -> None:
        loop = self._loop
        # First, so that whatever fails below fails but once.
        self._ticking = loop.call_later(TICK_S, self._tick)
        now = loop.time()
        self.date = b"date: %b\r\n" % formatdate(usegmt=True).encode()
        for connection, transport in self._connections.items():
            client = cast("ClientConnection", connection)
            if client.deadline or client.body_deadline:
                client.overdue(now)
            if client.behind or transport.is_closing():
                client.flush_overdue(now, transport)


def refusal_of(exc: BaseException | None, message: str) -> tuple[int, str]:
    """
    Return the status and the words for a request that the parser refused.

    Its own message may hold what the caller sent, keys included, so that only what is known to be fixed text is repeated.
    """
    if isinstance(exc, LineTooLong):
        return 431, f"a line of the head is longer than {LINE_LIMIT} bytes"
    if message == "Too many headers received":
        return 431, f"the head has more than {HEADERS_LIMIT} header fields"
    if isinstance(exc, ContentEncodingError):
        if "install" in message:
            return 415, "the content-encoding of the body cannot be read here; send it without"
        return 400, "the body is not what its content-encoding says"
    if isinstance(exc, BadHttpMethod):
        if "HTTPS" in message:
            return 400, "this port speaks plain HTTP, and TLS was spoken to it"
        return 400, "it does not begin with a method"
    if isinstance(exc, InvalidURLError):
        return 400, "the request target cannot be read"
    if isinstance(exc, BadStatusLine):
        return 400, "the request line cannot be read"
    if isinstance(exc, InvalidHeader):
        return 400, "a header field cannot be read"
    if message.startswith(("Duplicate '", "Missing 'Host'")):
        return 400, message.rstrip(".")
    if message.startswith("Pause on PRI"):
        return 400, "this port speaks HTTP/1.1, and HTTP/2 was spoken to it"
    # llhttp's reason is fixed text; what it is about stands on the lines behind.
    reason, _, about = message.partition(":\n")
    return 400, reason if about and reason.isprintable() else "it is not valid HTTP"


def reason(status: int) -> bytes:
    """Return the phrase of a status, as HTTP/1.1 shows it."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Unknown"


async def read_body(request: Request, limit: int, deadline_s: float) -> bytes | None:
    """
    Return the body, None when it is larger than `limit` bytes.

    Raises `TimeoutError` when it does not arrive in time, `ConnectionError` when the caller leaves, and aiohttp's `RequestPayloadError` when its framing breaks.
    """
    content = request.content
    declared = request.message.headers.get("Content-Length")
    if declared is not None and int(declared) > limit:
        return None
    if content.is_eof():
        if (
            content.total_bytes
            and len(content._buffer) == 1  # noqa: SLF001
            and content.exception() is None
        ):
            # All of it came in one piece, so that nothing was paused and nothing has to be resumed: most of what reading costs.
            body = content._buffer.popleft()  # noqa: SLF001
        else:
            body = content.read_nowait()
        return None if len(body) > limit else body
    client = request.client
    if request.message.headers.get("Expect", "").lower() == "100-continue":
        transport = client.transport
        if transport is not None and request.message.version >= HttpVersion11:
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    client.body_deadline = asyncio.get_running_loop().time() + deadline_s
    try:
        read: list[bytes] = []
        size = 0
        while True:
            piece = await content.readany()
            if not piece:
                return read[0] if len(read) == 1 else b"".join(read)
            size += len(piece)
            if size > limit:
                return None
            read.append(piece)
    finally:
        client.body_deadline = 0.0
