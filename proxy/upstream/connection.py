"""
One HTTP/1.1 connection to a provider, and the conversations it carries one after another.

Framing is llhttp's (through httptools), RFC 9112; everything around it is here: what is told to
the listener and how often, when a connection may serve again, and what is refused.

The cost that shapes this file is paid per read.
The parser appends body pieces straight to a list (a C call, no Python frame per HTTP chunk), and
a read then makes at most one call of each kind into the listener.

What a paused connection holds is bounded: nothing over plain TCP (the kernel holds up the peer), at
most `TLS_AHEAD_BYTES` and one read of 256 KiB over TLS.

Order of calls for one conversation: `head` at most once, `body` any number of times, then `end`
or `lost`, exactly one of them and exactly once.
After `abort()` nothing is called any more.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from proxy.upstream.deadlines import FOREVER, Timeouts, Wheel
from proxy.upstream.errors import BadAnswer, Phase, UpstreamError, UpstreamLost
from proxy.wire.forms import Spliced

Headers = list[tuple[bytes, bytes]]

MAX_HEAD_BYTES = 64 * 1024
"""Most bytes of a head, of everything before it (1xx), or of any stretch without body bytes."""

RECEIVE_BYTES = 128 * 1024
"""What the kernel may hold of an answer that we do not read; it allows itself twice that."""

MAX_HEADERS = 256
"""Most header fields of a head, and most fields of a trailer."""

JOIN_BELOW_BYTES = 64 * 1024
"""Request bodies below this are joined to their head; larger ones are not worth the copy."""

TLS_AHEAD_BYTES = 64 * 1024
"""Most undecrypted bytes that a paused TLS connection gathers, give or take one read."""

STALE_WITHIN_S = 3.0
"""
How soon after the request a lost connection may count as stale.

A peer that had closed answers with a reset within a round trip and a few retransmissions.
One that takes longer may have been at work on the request.
"""


class Listener(Protocol):
    """
    Who hears the answer.

    All calls are made on the event loop, synchronously, and may call the connection's `abort`,
    `pause_reading` and `resume_reading`.
    From `end` or `lost` on the connection is no longer the listener's: drop the reference.
    """

    def head(self, status: int, headers: Headers) -> None:
        """Take the status and the headers (names as sent) of the final answer."""

    def body(self, data: bytes) -> None:
        """Take all body bytes of one read, never empty, free of any framing."""

    def end(self, reusable: bool) -> None:
        """Take the end of the answer; `reusable`: the connection went back to its pool."""

    def lost(self, error: UpstreamError) -> None:
        """Take the reason why the answer will not be completed."""


class Keeper(Protocol):
    """The pool, as its connections see it."""

    def release(self, connection: "Connection") -> bool:
        """Take back a connection that may serve again; False when it is not wanted."""

    def gone(self, connection: "Connection") -> None:
        """Forget a connection whose transport is closed."""


class _Refused(Exception):
    """Raised inside a parser callback to stop the parser."""


class Connection(asyncio.Protocol):
    """
    A pooled connection; made by `Pool.connect`, used through `send`, `abort` and the two pauses.

    `status` and `keep_alive` describe the answer from `head` on.
    `complete`, read within `body`, says that `end` follows at once.
    The attributes without underscore below them are for the wheel and the pool.
    """

    __slots__ = (
        "_feed",
        "_fields",
        "_headers",
        "_keeper",
        "_listener",
        "_loop",
        "_parser",
        "_pieces",
        "_quiet_bytes",
        "_served",
        "_told",
        "_transport",
        "_unsent",
        "_wheel",
        "complete",
        "idle_since",
        "keep_alive",
        "on_body",
        "paused",
        "reads",
        "seen",
        "shelf",
        "since",
        "status",
        "timeouts",
        "until",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        keeper: Keeper,
        wheel: Wheel,
        shelf: "dict[Connection, None]",
    ) -> None:
        self._loop = loop
        self._keeper = keeper
        self._wheel = wheel
        self.shelf = shelf
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._listener: Listener | None = None
        self._served = 0
        self._unsent = False
        self._pieces: list[bytes] = []
        self._fields: Headers = []
        self._headers: Headers = []
        self._told = False
        self._quiet_bytes = 0
        self.complete = False
        self.status = 0
        self.keep_alive = False
        self.paused = False
        self.reads = 0
        self.seen = 0
        self.since = 0.0
        self.until = FOREVER
        self.timeouts = Timeouts()
        # httptools looks its callbacks up once, when the parser is made.
        self.on_body = self._pieces.append
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._feed: Callable[[bytes], None] = self._parser.feed_data

    # ---- what the exchange calls

    def send(
        self,
        listener: Listener,
        head: bytes,
        body: bytes | Spliced,
        timeouts: Timeouts,
        now: float,
        *,
        until: float = FOREVER,
    ) -> None:
        """
        Write a request and let `listener` hear the answer.

        `head` is the whole request head with its empty line, `body` what it announces.
        `now` is the time by the wheel's clock; `until` an absolute end on it, beside
        `timeouts.total_s`.
        """
        self._listener = listener
        self._told = False
        self._quiet_bytes = 0
        self.complete = False
        self.status = 0
        self.reads = 0
        self.seen = 0
        self.since = now
        self.timeouts = timeouts
        self.until = min(until, now + timeouts.total_s)
        wheel = self._wheel
        wheel.in_flight.add(self)
        if not wheel.awake:
            wheel.wake()
        transport = self._transport
        if transport is None or transport.is_closing():
            # It died since it was taken; told from the loop, as every other loss is.
            self._loop.call_soon(self._lose, "the provider had closed the connection")
        elif isinstance(body, Spliced):
            # Not writelines: before CPython 3.12.9 it joins, or forgets to say that it must wait.
            transport.write(head)
            for piece in body.pieces:
                transport.write(piece)
        elif len(body) < JOIN_BELOW_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)

    def abort(self) -> None:
        """Close at once, whatever is going on; the listener hears nothing more."""
        self._listener = None
        self._wheel.in_flight.discard(self)
        self.shelf.pop(self, None)
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Stop reading from the provider, until `resume_reading`; idempotent, safe after close."""
        if not self.paused and self._transport is not None and self._listener is not None:
            self.paused = True
            self._transport.pause_reading()
            theirs = self._transport.get_extra_info("socket")
            if theirs is not None:
                # Else the kernel takes megabytes from a fast vendor while our caller does not read. Not before: a window
                # that is fixed from the beginning makes large answers wait for delayed acknowledgements.
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)

    def resume_reading(self) -> None:
        """Go on reading; idempotent, safe after close."""
        if self.paused:
            self.paused = False
            if self._transport is not None:
                self._transport.resume_reading()

    # ---- what the pool and the wheel call

    def usable(self) -> bool:
        """Say whether the transport is still up, as far as we know."""
        return self._transport is not None and not self._transport.is_closing()

    def phase(self) -> Phase:
        """Say how far the conversation got."""
        if self.reads:
            return "body"
        if self._unsent and not self._told:
            return "send"
        return "first_byte"

    def fail(self, error: UpstreamError) -> None:
        """Close at once and tell the listener why; nothing when there is no conversation."""
        listener = self._listener
        self.abort()
        if listener is not None:
            listener.lost(error)

    # ---- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)
        # With marks this low, pause_writing means "the kernel did not take it all" and
        # resume_writing "now it has": that is how a reset during sending is told from a later one.
        self._transport.set_write_buffer_limits(high=1, low=0)
        # A TLS transport reads ahead while it is paused, by default up to 512 KiB.
        limit_reading = getattr(transport, "set_read_buffer_limits", None)
        if limit_reading is not None:
            limit_reading(high=TLS_AHEAD_BYTES)

    def pause_writing(self) -> None:
        """Note that a part of the request still waits in our process."""
        self._unsent = True

    def resume_writing(self) -> None:
        """Note that the kernel has taken all of the request."""
        self._unsent = False

    def data_received(self, data: bytes) -> None:
        """Parse one read and tell the listener, once per kind of news."""
        listener = self._listener
        if listener is None:
            # Nobody asked for anything: whatever this is, it is not the next answer.
            self.abort()
            return
        refused: httptools.HttpParserError | None = None
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            refused = error
        if not self._told:
            self._quiet_bytes += len(data)
            status = self.status
            if not status:
                if refused is not None:
                    self._refuse(f"not an HTTP answer: {refused}")
                elif self._quiet_bytes > MAX_HEAD_BYTES or len(self._fields) > MAX_HEADERS:
                    self._refuse("the head of the answer is too large")
                return
            headers = self._headers
            if self._quiet_bytes > MAX_HEAD_BYTES or len(headers) > MAX_HEADERS:
                # One read may hold a small head and much body: now that both are apart, measure.
                size = sum(len(name) + len(value) + 4 for name, value in headers)
                if size > MAX_HEAD_BYTES or len(headers) > MAX_HEADERS:
                    self._refuse("the head of the answer is too large")
                    return
            self._told = True
            self._quiet_bytes = 0
            listener.head(status, headers)
            if self._listener is not listener:
                return
        pieces = self._pieces
        if pieces:
            self.reads += 1
            self._quiet_bytes = 0
            if len(pieces) == 1:
                body = pieces.pop()
            else:
                body = b"".join(pieces)
                pieces.clear()
            listener.body(body)
            if self._listener is not listener:
                return
        elif not self.complete:
            # Chunk extensions and trailers are parsed, dropped, and not endless.
            self._quiet_bytes += len(data)
            if self._quiet_bytes > MAX_HEAD_BYTES or len(self._fields) > MAX_HEADERS:
                self._refuse("too much framing without a body")
                return
        if self.complete:
            self._finish(listener, odd=refused is not None)
        elif refused is not None:
            self._refuse(f"broken framing: {refused}")

    def eof_received(self) -> None:
        """End an answer that runs until the close; any other conversation is lost."""
        listener = self._listener
        if (
            listener is not None
            and self._told
            and _runs_until_close(self._headers)
            and self._closed_in_order()
        ):
            self.abort()
            listener.end(False)
        else:
            self._lose("the provider closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything; a conversation that was still open is lost."""
        if exc is None:
            self._lose("the provider closed the connection")
        else:
            self._lose(
                f"the connection broke: {getattr(exc, 'strerror', None) or type(exc).__name__}"
            )
        self._transport = None
        # The parser holds our methods and we hold its: free both now, not at the next collection.
        self._parser = None
        self._feed = _drop
        self._keeper.gone(self)

    # ---- what the parser calls

    def on_message_begin(self) -> None:
        """Refuse a second answer."""
        if self.complete:
            raise _Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field of the head or of the trailer."""
        # llhttp drops the blanks before a value and keeps those behind it.
        self._fields.append((name, value.rstrip()))

    def on_headers_complete(self) -> None:
        """Keep the final head, drop interim ones, refuse a switch of protocols."""
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        if status >= 200:
            self.status = status
            self.keep_alive = parser.should_keep_alive()
            self._headers = self._fields
            self._fields = []
        elif status == 101 or status < 100:
            raise _Refused
        else:
            self._fields.clear()

    def on_message_complete(self) -> None:
        """Note the end of the answer; an interim one is not the answer."""
        if self.status:
            self.complete = True
            # What gathered since the head are trailers: nobody's, and least of all the next head's.
            self._fields.clear()

    # ---- how a conversation ends

    def _finish(self, listener: Listener, *, odd: bool) -> None:
        self._listener = None
        self._wheel.in_flight.discard(self)
        self._served += 1
        transport = self._transport
        assert transport is not None
        if self.paused:
            self.paused = False
            transport.resume_reading()
        reusable = (
            self.keep_alive
            and not odd
            and not transport.is_closing()
            # An answer that came before the request was sent leaves the rest of it in the way.
            and transport.get_write_buffer_size() == 0
            and self._keeper.release(self)
        )
        if not reusable:
            transport.abort()
        listener.end(reusable)

    def _closed_in_order(self) -> bool:
        """
        Say whether the peer meant the end: over TLS a bare TCP close may be somebody's cut.

        RFC 9112, 9.8: an answer that runs until the close is complete only after close_notify.
        """
        assert self._transport is not None
        tls: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            # Empty after close_notify; when the TLS layer still hopes for more, it raises.
            return not tls.read(1)
        except ssl.SSLError:
            return False

    def _refuse(self, message: str) -> None:
        self.fail(BadAnswer(message, phase=self.phase()))

    def _lose(self, message: str) -> None:
        if self._listener is None:
            self.abort()
            return
        stale = (
            self._served > 0
            and not self.status
            and not self._quiet_bytes
            and self._wheel.clock() - self.since < STALE_WITHIN_S
        )
        self.fail(UpstreamLost(message, phase=self.phase(), stale=stale))


def _runs_until_close(headers: Headers) -> bool:
    """Say whether a head announces a body that ends with the connection (RFC 9112, 6.3)."""
    coding = b""
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"content-length":
            return False
        if lowered == b"transfer-encoding":
            coding = value
    return coding.rpartition(b",")[2].strip().lower() != b"chunked"


def _drop(data: bytes) -> None:
    """Stand in for the parser of a connection that is gone."""
