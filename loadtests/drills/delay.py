"""
`python -m loadtests.drills.delay --listen SOCKET --to SOCKET --seconds S`: what lies between the gateway and a store that is slow.

It passes bytes on in both directions.
SIGUSR1: from now on the store's answers come S later, in their order; SIGUSR2: at once again, those that wait included.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Delay:
    """A relay between two unix sockets, whose answers may be held up."""

    def __init__(self, to: Path, seconds: float) -> None:
        self._to = to
        self._seconds = seconds
        self._quick = asyncio.Event()
        self._quick.set()

    def slow(self) -> None:
        """Hold answers up."""
        self._quick.clear()

    def quick(self) -> None:
        """Let them through."""
        self._quick.set()

    async def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection until either side closes it."""
        try:
            theirs = await asyncio.open_unix_connection(str(self._to))
        except OSError:
            writer.transport.abort()
            return
        await relay((reader, writer), theirs, self._hold)

    async def _hold(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await self._quick.wait()


async def relay(ours: Streams, theirs: Streams, hold: Callable[[], Awaitable[None]]) -> None:
    """Carry bytes both ways until either side closes; what they say waits for `hold`."""

    async def carry(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, held: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if held:
                    await hold()
                writer.write(data)
                await writer.drain()

    ways = (
        asyncio.ensure_future(carry(ours[0], theirs[1], held=False)),
        asyncio.ensure_future(carry(theirs[0], ours[1], held=True)),
    )
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for _, writer in (ours, theirs):
            writer.transport.abort()


async def serve(listen: Path, to: Path, seconds: float) -> None:
    """Relay until SIGTERM."""
    delay = Delay(to, seconds)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number, act in (
        (signal.SIGUSR1, delay.slow),
        (signal.SIGUSR2, delay.quick),
        (signal.SIGTERM, ended.set),
        (signal.SIGINT, ended.set),
    ):
        loop.add_signal_handler(number, act)
    await asyncio.start_unix_server(delay.met, str(listen))
    print(f"listening on {listen}", flush=True)
    await ended.wait()


def main(arguments: list[str] | None = None) -> int:
    """Run the relay."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.drills.delay", description=__doc__)
    parser.add_argument("--listen", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=1.5)
    given = parser.parse_args(arguments)
    asyncio.run(serve(given.listen, given.to, given.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
