"""Start a mock vendor: inside a test's own loop (`serve`), or as a process (`run`)."""

import asyncio
import contextlib
import functools
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from loadtests.mock.books import Books
from loadtests.mock.vendor import Connection, Vendor
from loadtests.mock.watching import WatchingConnection

_BACKLOG = 4096
_TURNS_TO_BEGIN = 4


@dataclass(frozen=True, slots=True)
class Mock:
    """
    A mock vendor that is up.

    `url` has no path (`http://127.0.0.1:4711`), `base_url` is what an SDK wants.
    """

    url: str
    vendor: Vendor

    @property
    def base_url(self) -> str:
        """The URL under which the API lies."""
        return f"{self.url}/v1"

    def books(self) -> dict[str, Any]:
        """Give totals, served calls and complaints, as `GET /__mock/books` does."""
        return self.vendor.books.as_dict()

    def requests(self) -> list[dict[str, Any]]:
        """Give the last requests, oldest first, as `GET /__mock/requests` does."""
        return list(self.vendor.books.requests)

    def reset(self) -> None:
        """Forget everything that was counted."""
        self.vendor.reset()

    async def until(self, predicate: Callable[[Books], bool], timeout_s: float = 10.0) -> None:
        """Wait until the books satisfy a predicate, or raise `TimeoutError`."""
        await self.vendor.books.until(predicate, timeout_s)

    async def quiet(self, timeout_s: float = 10.0) -> None:
        """Wait until no call is in flight."""
        await self.until(lambda books: not books.totals.in_flight, timeout_s)


@contextlib.asynccontextmanager
async def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    unix: str | None = None,
    tls: ssl.SSLContext | None = None,
    fast: bool = False,
    detailed: bool | None = None,
) -> AsyncIterator[Mock]:
    """
    Serve until the block ends, then drop what is still open.

    `unix` is a socket path in place of host and port.
    `fast` leaves headers, requests and complaints unseen; `detailed` keeps the list of served calls, which is on unless `fast`.
    """
    loop = asyncio.get_running_loop()
    vendor = Vendor(Books(detailed=not fast if detailed is None else detailed))
    connect = functools.partial(Connection if fast else WatchingConnection, vendor)
    scheme = "http" if tls is None else "https"
    if unix is None:
        server = await loop.create_server(connect, host, port, ssl=tls, backlog=_BACKLOG)
        name = server.sockets[0].getsockname()
        shown = f"[{name[0]}]" if ":" in name[0] else name[0]
        url = f"{scheme}://{shown}:{name[1]}"
    else:
        server = await loop.create_unix_server(connect, unix, ssl=tls, backlog=_BACKLOG)
        url = f"{scheme}+unix://{unix}"
    try:
        yield Mock(url, vendor)
    finally:
        # Whoever is being accepted when a server closes is left half made (CPython 3.11): those begin first.
        for _ in range(_TURNS_TO_BEGIN):
            await asyncio.sleep(0)
        server.close()
        while vendor.connections:
            vendor.close()
            await asyncio.sleep(0)
        await server.wait_closed()


async def run(
    listen: tuple[str, int] | None,
    unix: str | None,
    tls: ssl.SSLContext | None,
    *,
    fast: bool,
    detailed: bool,
) -> None:
    """Serve on an address, a Unix socket or both with one set of books, until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    host, port = listen or ("", 0)
    where = None if listen is not None else unix
    async with contextlib.AsyncExitStack() as stack:
        mock = await stack.enter_async_context(
            serve(host, port, unix=where, tls=tls, fast=fast, detailed=detailed)
        )
        if listen is not None and unix is not None:
            connect = functools.partial(Connection if fast else WatchingConnection, mock.vendor)
            second = await loop.create_unix_server(connect, unix, ssl=tls, backlog=_BACKLOG)
            stack.callback(second.close)
        print(f"listening on {mock.url}", flush=True)
        await stop.wait()
