"""
Pooled keep-alive connections, per origin, last one in first out.

The freshest connection is the likeliest to be alive and the rest may age and be closed, so that
the pool shrinks to what the load needs.
Connections come back by themselves when an answer is complete and nothing was odd about it.
Why a provider cannot be reached goes to the log, once for each reason until it can be again: callers hear only that it cannot.
"""

import asyncio
import ipaddress
import logging
import socket
import ssl
from typing import Any

from aiohappyeyeballs import start_connection

from proxy.upstream.connection import Connection
from proxy.upstream.deadlines import Wheel
from proxy.upstream.errors import ConnectFailed, UpstreamLost
from proxy.upstream.tls import Origin

HAPPY_EYEBALLS_S = 0.25
"""Head start of one address of a name over the next (RFC 8305)."""

TLS_SHUTDOWN_S = 1.0
"""How long a peer may take to answer the end of a TLS session."""

MOST_REASONS = 8
"""Reasons that are told of one origin until it is reached again; they may name ever new addresses."""

log = logging.getLogger("penstock.upstream")


class Pool:
    """
    All connections of one edge towards its providers.

    `opened_total` and `reused_total` count connections made and takes served from idle ones;
    `open` and `idle` are what there is now.
    """

    __slots__ = (
        "_closed",
        "_connections",
        "_gone",
        "_loop",
        "_shelves",
        "_sweeper",
        "_unreachable",
        "max_idle",
        "max_idle_s",
        "opened_total",
        "reused_total",
        "wheel",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wheel: Wheel | None = None,
        *,
        max_idle: int = 256,
        max_idle_s: float = 55.0,
    ) -> None:
        self._loop = loop
        self.wheel = Wheel(loop) if wheel is None else wheel
        self.max_idle = max_idle
        self.max_idle_s = max_idle_s
        self.opened_total = 0
        self.reused_total = 0
        self._connections: set[Connection] = set()
        # By the key of their origin.
        self._shelves: dict[str, dict[Connection, None]] = {}
        # What has been said of an origin, and since when it is out of reach.
        self._unreachable: dict[Origin, tuple[set[str], float]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._gone = asyncio.Event()

    @property
    def open(self) -> int:
        """Connections that are up, idle or not."""
        return len(self._connections)

    @property
    def idle(self) -> int:
        """Connections that wait for a request."""
        return sum(map(len, self._shelves.values()))

    def take(self, origin: Origin) -> Connection | None:
        """Give the freshest idle connection to `origin`, or None; the dead and the old are dropped."""
        shelf = self._shelves.get(origin.key)
        if not shelf:
            return None
        oldest = self.wheel.clock() - self.max_idle_s
        while shelf:
            connection, _ = shelf.popitem()
            if connection.idle_since >= oldest and connection.usable():
                self.reused_total += 1
                return connection
            connection.abort()
        return None

    async def connect(self, origin: Origin, timeout_s: float) -> Connection:
        """
        Make a new connection within `timeout_s` seconds, TLS handshake included.

        Raises ConnectFailed.
        """
        if self._closed:
            raise ConnectFailed("the pool is closed")
        shelf = self._shelves.setdefault(origin.key, {})
        try:
            connection = await self._dial_within(timeout_s, origin, shelf)
            self._keep(connection, origin)
        except ConnectFailed as error:
            self._note_unreachable(origin, str(error))
            raise
        if origin in self._unreachable:
            _, since = self._unreachable.pop(origin)
            log.warning("%s is reached again after %.1f s", origin, self.wheel.clock() - since)
        return connection

    async def close(self) -> None:
        """Close everything; conversations in flight are lost, later ones cannot be pooled."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in list(self._connections):
            connection.fail(UpstreamLost("the gateway is closing", phase=connection.phase()))
        while self._connections:
            self._gone.clear()
            await self._gone.wait()
        self.wheel.close()

    # ---- what the connections call

    def release(self, connection: Connection) -> bool:
        """Take back a connection that may serve again; False when it is not wanted."""
        shelf = connection.shelf
        if len(shelf) >= self.max_idle:
            return False
        connection.idle_since = self.wheel.now
        shelf[connection] = None
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self.max_idle_s / 4, self._sweep)
        return True

    def gone(self, connection: Connection) -> None:
        """Forget a connection whose transport is closed."""
        self._connections.discard(connection)
        if self._closed:
            self._gone.set()

    async def _dial_within(
        self, timeout_s: float, origin: Origin, shelf: dict[Connection, None]
    ) -> Connection:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._dial(origin, shelf)
        except TimeoutError:
            raise ConnectFailed(f"no connection to {origin} within {timeout_s:g} s") from None
        except socket.gaierror as error:
            raise ConnectFailed(
                f"{origin}: the name does not resolve ({error.strerror})"
            ) from error
        except ssl.SSLCertVerificationError as error:
            raise ConnectFailed(f"{origin}: not trusted: {error.verify_message}") from error
        except ssl.SSLError as error:
            raise ConnectFailed(f"{origin}: TLS failed ({error.reason or error})") from error
        except (OSError, RuntimeError, UnicodeError) as error:
            # uvloop reports some socket troubles as RuntimeError.
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ConnectFailed(f"{origin}: {why}") from error

    def _note_unreachable(self, origin: Origin, why: str) -> None:
        # A name may be anything; a log is text.
        why = why.encode("utf-8", "backslashreplace").decode()
        said, _ = self._unreachable.setdefault(origin, (set(), self.wheel.clock()))
        if why not in said and len(said) < MOST_REASONS:
            said.add(why)
            log.warning("a provider cannot be reached: %s", why)

    async def _dial(self, origin: Origin, shelf: dict[Connection, None]) -> Connection:
        loop = self._loop
        options: dict[str, Any] = {}
        if origin.ssl_context is not None:
            options["ssl"] = origin.ssl_context
            options["server_hostname"] = origin.server_hostname
            options["ssl_shutdown_timeout"] = TLS_SHUTDOWN_S

        def make() -> Connection:
            return Connection(loop, self, self.wheel, shelf)

        if _is_address(origin.host):
            made = await loop.create_connection(make, origin.host, origin.port, **options)
        else:
            # Not left to create_connection: uvloop's would spend the whole deadline on the first
            # address that drops our packets, and asyncio's leaks a socket when it is cancelled.
            found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            sock = await start_connection(
                found, happy_eyeballs_delay=HAPPY_EYEBALLS_S, interleave=1, loop=loop
            )
            made = await loop.create_connection(make, sock=sock, **options)
        return made[1]

    def _keep(self, connection: Connection, origin: Origin) -> None:
        if self._closed or not connection.usable():
            connection.abort()
            raise ConnectFailed(f"{origin}: closed as soon as it was open")
        # Counted here and not in connection_made: after a cancelled connect, uvloop closes the
        # transport without telling the protocol.
        self.opened_total += 1
        self._connections.add(connection)

    def _sweep(self) -> None:
        """Close what nobody took for too long; runs only while something is idle."""
        oldest = self.wheel.clock() - self.max_idle_s
        left = 0
        for shelf in self._shelves.values():
            for connection in [each for each in shelf if each.idle_since < oldest]:
                connection.abort()
            left += len(shelf)
        again = self._loop.call_later(self.max_idle_s / 4, self._sweep) if left else None
        self._sweeper = again


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
