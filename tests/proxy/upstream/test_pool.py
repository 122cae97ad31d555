"""The laws of the pool: who is given out again, how connecting fails, what is counted."""

import asyncio
import contextlib
import gc
import socket
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from typing import Any

import pytest

from proxy.upstream.connection import Connection
from proxy.upstream.deadlines import Wheel
from proxy.upstream.errors import ConnectFailed, UpstreamLost
from proxy.upstream.pool import MOST_REASONS, Pool
from proxy.upstream.tls import Origin
from tests.proxy.upstream.peers import BODY, PATIENT, REQUEST, Heard, Peer, answer, eventually, says

MakePeer = Callable[..., Awaitable[Peer]]


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ask(connection: Connection) -> Heard:
    """Send a request, whose answer is waited for by its `Heard`."""
    heard = Heard()
    connection.send(heard, REQUEST, BODY, PATIENT, asyncio.get_running_loop().time())
    return heard


async def idle(pool: Pool, peer: Peer, count: int) -> list[Connection]:
    """Bring `count` connections into the pool, in this order."""
    made = [await pool.connect(peer.origin, 5) for _ in range(count)]
    for connection in made:
        await ask(connection).until("end")
    return made


ANSWERS = [answer()] * 10


async def test_the_freshest_comes_out_first(peer: MakePeer, pool: Pool) -> None:
    """Last in, first out; and None when nothing is idle, or for another origin."""
    one = await peer(says(*ANSWERS))
    other = await peer(says(*ANSWERS))
    made = await idle(pool, one, 3)
    assert pool.take(other.origin) is None
    assert [pool.take(one.origin) for _ in range(4)] == [made[2], made[1], made[0], None]
    assert (pool.open, pool.idle, pool.opened_total, pool.reused_total) == (3, 0, 3, 3)


async def test_the_old_are_closed_not_given_out(peer: MakePeer) -> None:
    """After `max_idle_s` a connection is more likely dead than not: it is dropped when met."""
    clock = Clock()
    loop = asyncio.get_running_loop()
    pool = Pool(loop, Wheel(loop, clock=clock))
    one = await peer(says(*ANSWERS))
    old, young = await idle(pool, one, 2)
    clock.now += 50
    pool.wheel.tick()
    assert pool.take(one.origin) is young
    await ask(young).until("end")
    clock.now += 5.5
    assert pool.take(one.origin) is young
    assert pool.take(one.origin) is None
    assert not old.usable()
    await pool.close()


async def test_what_lies_too_long_is_swept(peer: MakePeer) -> None:
    """Connections that no request ever meets again are closed too, and the sweeper then rests."""
    loop = asyncio.get_running_loop()
    pool = Pool(loop, max_idle_s=0.02)
    one = await peer(says(*ANSWERS))
    await idle(pool, one, 2)
    await eventually(lambda: not pool.open)
    assert pool.idle == 0
    assert pool.take(one.origin) is None
    await eventually(lambda: pool._sweeper is None)
    await pool.close()


async def test_no_more_than_max_idle_are_kept_per_origin(peer: MakePeer) -> None:
    """What comes back beyond the limit is closed, and its listener is told so."""
    pool = Pool(asyncio.get_running_loop(), max_idle=2)
    one = await peer(says(*ANSWERS))
    made = [await pool.connect(one.origin, 5) for _ in range(3)]
    heard = [ask(connection) for connection in made]
    for each in heard:
        await each.until("end")
    assert sorted(each.reusable is True for each in heard) == [False, True, True]
    assert pool.idle == 2
    await pool.close()


async def test_the_dead_are_passed_over(peer: MakePeer, pool: Pool) -> None:
    """A connection whose transport is closing is not given out, nor counted as reused."""
    one = await peer(says(*ANSWERS))
    alive, dying, dead = await idle(pool, one, 3)
    dead.abort()
    assert dying._transport is not None
    dying._transport.close()
    assert pool.take(one.origin) is alive
    assert pool.take(one.origin) is None
    assert pool.reused_total == 1


async def refused_port() -> int:
    """Find a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_why_a_provider_is_out_of_reach_is_logged_once(
    peer: MakePeer, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """Callers hear only that it cannot be reached, so the log says why: once until it can be, and then that."""
    port = await refused_port()
    origin = Origin("http", "127.0.0.1", port)
    with caplog.at_level("WARNING", "penstock.upstream"):
        for _ in range(3):
            with pytest.raises(ConnectFailed):
                await pool.connect(origin, 5)
        await peer(says(*ANSWERS), port=port)
        for _ in range(2):
            await pool.connect(origin, 5)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(f"a provider cannot be reached: {origin}: Connect")
    assert second.startswith(f"{origin} is reached again after ")


async def test_reasons_that_are_ever_new_do_not_fill_the_log(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A name behind many addresses fails in other words each time; a few of them tell enough."""
    addresses = count(1)

    async def refuse(*_: object, **__: object) -> None:
        raise OSError(f"Connect call failed ('10.0.0.{next(addresses)}', 443)")

    monkeypatch.setattr("proxy.upstream.pool.start_connection", refuse)
    with caplog.at_level("WARNING", "penstock.upstream"):
        for _ in range(MOST_REASONS + 3):
            with pytest.raises(ConnectFailed):
                await pool.connect(Origin("http", "localhost", 9), 5)
    assert len(caplog.records) == MOST_REASONS


async def test_a_refused_connection_is_a_failed_connect(pool: Pool) -> None:
    """ECONNREFUSED becomes ConnectFailed, which names the origin and nothing secret."""
    origin = Origin("http", "127.0.0.1", await refused_port())
    with pytest.raises(ConnectFailed, match=f"http://127.0.0.1:{origin.port}") as caught:
        await pool.connect(origin, 5)
    assert (caught.value.phase, caught.value.status) == ("connect", 502)
    assert caught.value.metric == "connect_failed"
    assert not caught.value.stale


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 300, "a..b", "\udc00"])
async def test_a_name_that_does_not_resolve_is_a_failed_connect(
    pool: Pool, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """DNS that fails, and names that cannot be names, become ConnectFailed; the log can always be written."""
    with pytest.raises(ConnectFailed):
        await pool.connect(Origin("http", host, 80), 5)
    for record in caplog.records:
        record.getMessage().encode()


@pytest.fixture
def black_hole() -> Iterator[int]:
    """Give a port that drops every SYN: a listener whose queue is full."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield full.getsockname()[1]


async def test_a_connect_that_takes_too_long_is_a_failed_connect(
    pool: Pool, black_hole: int
) -> None:
    """The connect deadline covers name resolution and all addresses together."""
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(ConnectFailed, match=r"within 0\.05 s"):
            await pool.connect(Origin("http", host, black_hole), 0.05)
    assert pool.open == 0


async def test_an_address_that_drops_our_packets_does_not_hide_the_next(
    peer: MakePeer, black_hole: int
) -> None:
    """A name with a dead address first is reached through its second, on any event loop."""
    one = await peer(says(answer()))
    loop = asyncio.get_running_loop()
    kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")

    resolve = loop.getaddrinfo

    async def found(host: str, port: int, **options: Any) -> list[tuple[object, ...]]:
        if host != "two.example":
            return await resolve(host, port, **options)
        return [(*kind, ("127.0.0.1", black_hole)), (*kind, ("127.0.0.1", one.port))]

    loop.getaddrinfo = found  # type: ignore[method-assign, assignment]
    pool = Pool(loop)
    connection = await pool.connect(Origin("http", "two.example", 80), 5)
    heard = ask(connection)
    await heard.until("end")
    assert heard.data == b"pong"
    await pool.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_connect_that_is_cancelled_leaves_nothing(
    peer: MakePeer, pool: Pool, host: str
) -> None:
    """A caller who leaves during the connect takes the connection along, wherever it stood."""
    one = await peer(says(*ANSWERS))
    for turns in range(12):
        task = asyncio.ensure_future(pool.connect(Origin("http", host, one.port), 5))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(outcome, Connection):
            outcome.abort()
        else:
            assert isinstance(outcome, asyncio.CancelledError)
    await eventually(lambda: not pool.open)


async def test_close_ends_what_is_idle_and_what_is_in_flight(peer: MakePeer) -> None:
    """After `close()` no connection is open, conversations in flight were lost, none can be made."""
    pool = Pool(asyncio.get_running_loop())
    one = await peer(says(answer()))
    await idle(pool, one, 2)
    silent = await pool.connect(one.origin, 5)
    await ask(silent).until("end")
    assert pool.take(one.origin) is silent
    heard = ask(silent)
    await pool.close()
    assert isinstance(heard.error, UpstreamLost)
    assert (pool.open, pool.idle) == (0, 0)
    assert not pool.wheel.awake
    with pytest.raises(ConnectFailed, match="closed"):
        await pool.connect(one.origin, 5)
    await pool.close()


async def test_a_connect_that_completes_after_close_is_closed(peer: MakePeer) -> None:
    """`close()` also holds against a connect that is on its way."""
    pool = Pool(asyncio.get_running_loop())
    one = await peer(says(answer()))
    task = asyncio.ensure_future(pool.connect(one.origin, 5))
    await asyncio.sleep(0)
    await pool.close()
    with pytest.raises(ConnectFailed, match="closed"):
        await task
    await eventually(lambda: not pool.open)


async def test_a_connection_that_is_gone_is_freed_without_the_collector(
    peer: MakePeer, pool: Pool
) -> None:
    """The cycle through the parser is cut on close: memory follows the open connections at once."""
    one = await peer(says(*ANSWERS))
    gc.collect()
    gc.disable()
    try:
        for connection in await idle(pool, one, 3):
            connection.abort()
        del connection
        await eventually(lambda: not pool.open)
        await asyncio.sleep(0)
        assert not [each for each in gc.get_objects() if isinstance(each, Connection)]
    finally:
        gc.enable()


async def test_a_connection_that_dies_before_it_is_handed_out_is_a_failed_connect(
    peer: MakePeer, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that closes as soon as it accepts gives no connection, and leaves none behind."""
    one = await peer(says())
    dial = Pool._dial

    async def late(self: Pool, *args: Any) -> Connection:
        connection = await dial(self, *args)
        connection.abort()
        await eventually(lambda: connection._transport is None)
        return connection

    monkeypatch.setattr(Pool, "_dial", late)
    with pytest.raises(ConnectFailed, match="closed as soon"):
        await pool.connect(one.origin, 5)
    assert pool.open == 0


async def test_the_first_address_that_answers_is_taken(peer: MakePeer, pool: Pool) -> None:
    """A name with several addresses is served when any of them listens."""
    one = await peer(says(answer()))
    connection = await pool.connect(Origin("http", "localhost", one.port), 5)
    heard = ask(connection)
    await heard.until("end")
    assert heard.data == b"pong"
