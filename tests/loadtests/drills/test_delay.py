"""The relay that makes a store slow: nothing is lost, nothing changes places, and it is quick again when told."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loadtests.drills.delay import Delay
from tests.patience import within


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Delay, Path]]:
    """Hand out a relay in front of a peer that says everything back, and the socket to reach it by."""
    folder = Path(tempfile.mkdtemp(prefix="pst-"))

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(100):
                writer.write(data)
            writer.close()

    delay = Delay(folder / "peer", 0.2)
    peer = await asyncio.start_unix_server(echo, str(folder / "peer"))
    relay = await asyncio.start_unix_server(delay.met, str(folder / "relay"))
    yield delay, folder / "relay"
    for server in (relay, peer):
        server.close()
    await asyncio.sleep(0.01)


async def test_answers_come_late_and_in_their_order(ends: tuple[Delay, Path]) -> None:
    """At once, then later, then those that wait and all others at once."""
    delay, socket = ends
    reader, writer = await asyncio.open_unix_connection(str(socket))
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    delay.slow()
    writer.write(b"two")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await reader.readexactly(3)
    writer.write(b"three")
    delay.quick()
    async with within(0.1):
        assert await reader.readexactly(8) == b"twothree"
    writer.close()


async def test_a_peer_that_is_gone_ends_the_connection(ends: tuple[Delay, Path]) -> None:
    """As the store's own end would."""
    _, socket = ends
    delay = Delay(socket.with_name("nobody"), 1)
    relay = await asyncio.start_unix_server(delay.met, str(socket.with_name("other")))
    reader, writer = await asyncio.open_unix_connection(str(socket.with_name("other")))
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()
    relay.close()
