"""Laws of redis-py's connections: who is asked to end ends, at whatever moment, and who talks to one that is gone hears it."""

import asyncio
from contextlib import suppress

import pytest
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from store.mended import mended
from store.topology import client


class Forgetful:
    """A connection whose sending forgets a cancellation, as `asyncio.wait_for` of Python 3.11 may."""

    def __init__(self) -> None:
        self.disconnected = 0
        self.sent: list[tuple[object, bool]] = []

    async def send_packed_command(self, command: object, check_health: bool = True) -> None:
        self.sent.append((command, check_health))
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.01)

    async def disconnect(self, *, nowait: bool) -> None:
        assert nowait
        self.disconnected += 1


async def test_a_forgotten_cancellation_is_raised_and_the_connection_not_used_again() -> None:
    """The answer of the command that was sent is on its way, so the connection is closed."""
    connection = mended(Forgetful)()
    task = asyncio.ensure_future(connection.send_packed_command(b"PING"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert connection.disconnected == 1


async def test_a_deadline_is_a_cancellation_too() -> None:
    """`asyncio.timeout` around a command works, and a later command of the task is not disturbed."""
    connection = mended(Forgetful)()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await connection.send_packed_command(b"PING", check_health=False)
    await connection.send_packed_command(b"PING")
    assert connection.sent == [(b"PING", False), (b"PING", True)]
    assert connection.disconnected == 1


async def test_what_is_said_last_by_a_cancelled_task_is_said() -> None:
    """A task that cleans up after its cancellation may still talk to the store."""
    connection = mended(Forgetful)()

    async def clean_up() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await connection.send_packed_command(b"DEL")

    task = asyncio.ensure_future(clean_up())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert connection.disconnected == 0


async def test_what_is_sent_on_a_closed_connection_fails_as_redis_py_says_it(
    redis_url: str,
) -> None:
    """With uvloop too: a server that ends a connection while a command is on its way there costs no task its life."""
    store = client(redis_url)
    connection = store.connection_pool.make_connection()
    await connection.connect()
    connection._writer.transport.abort()
    for _ in range(3):
        await asyncio.sleep(0)
    with pytest.raises(RedisConnectionError):
        await connection.send_command("PING")
    assert not connection.is_connected
    await store.aclose()


def test_a_kind_of_connection_stays_recognisable() -> None:
    """Pools and logs print kinds; ours is redis-py's by type and by name."""
    assert issubclass(mended(Connection), Connection)
    assert mended(Connection).__name__ == "MendedConnection"


async def test_a_loop_that_talks_to_the_store_always_ends(redis_url: str) -> None:
    """Cancelled at any turn of the event loop, a loop that survives every error of Redis still ends."""
    store = client(redis_url)

    async def loop() -> None:
        while True:
            with suppress(RedisError):
                await store.ping()

    for turns in range(150):
        task = asyncio.ensure_future(loop())
        for _ in range(turns % 25 + 3):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=5)
        assert done, f"it goes on after {turns} turns"
        assert task.cancelled()
    await store.aclose()
