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
from pathlib import Path


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
        ways = (
            asyncio.ensure_future(self._pass(reader, theirs[1], held=False)),
            asyncio.ensure_future(self._pass(theirs[0], writer, held=True)),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for one in (writer, theirs[1]):
                one.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, held: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while True:
                data = await reader.read(1 << 16)
                if not data:
                    return
                if held and not self._quick.is_set():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._seconds):
                            await self._quick.wait()
                writer.write(data)
                await writer.drain()


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
