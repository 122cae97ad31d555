"""One connection: its greeting, what it leaves alone, and when it goes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import hiredis
import pytest

from store.target import Address, Target, target
from store.wire import LaneLost, Wire
from tests.store.peers import FakeRedis, resp

Fakes = Callable[[Any], Awaitable[FakeRedis]]


@pytest.fixture
async def fake() -> AsyncIterator[Fakes]:
    """Make scripted servers."""
    made: list[FakeRedis] = []

    async def make(answer: Any) -> FakeRedis:
        made.append(FakeRedis(answer))
        await made[-1].start()
        return made[-1]

    yield make
    for one in made:
        await one.close()


def there(server: FakeRedis) -> tuple[Target, Address]:
    return target(server.url), Address(str(server.path), 0)


async def test_a_connection_begins_with_its_greeting(fake: Fakes) -> None:
    """Word for word, each after the answer to the one before; then it is there to be asked."""
    server = await fake(lambda command: resp(b" ".join(command)))
    wire = await Wire.open(*there(server), [("AUTH", "p"), ("PING",)])
    assert await wire.ask("ECHO", 7, b"\xff") == b"ECHO 7 \xff"
    assert server.asked == [[b"AUTH", b"p"], [b"PING"], [b"ECHO", b"7", b"\xff"]]
    wire.abort()


@pytest.mark.parametrize(
    ("answer", "error"),
    [(resp(Exception("WRONGPASS no")), hiredis.ReplyError), (b"", LaneLost), (b"?", LaneLost)],
)
async def test_a_greeting_that_fails_leaves_no_connection(
    fake: Fakes, answer: bytes, error: type[Exception]
) -> None:
    """Refused, cut off or not understood."""
    server = await fake(lambda _: answer)
    lost: list[Wire] = []
    with pytest.raises(error):
        await Wire.open(*there(server), [("PING",)], lost=lost.append)
    await asyncio.sleep(0)
    assert len(lost) == 1


async def test_a_replica_is_no_primary(fake: Fakes) -> None:
    """Where it matters, a connection is to a primary or it is not made."""
    role: list[Any] = ["slave", "h", 1, "connected", 0]
    server = await fake(lambda command: resp(role if command == [b"ROLE"] else "PONG"))
    with pytest.raises(LaneLost, match="is no primary"):
        await Wire.open(*there(server), [("PING",)], ask_role=True)
    role[:] = ["master", 0, []]
    wire = await Wire.open(*there(server), [("PING",)], ask_role=True)
    wire.abort()


async def test_a_server_that_sends_us_elsewhere_is_left(fake: Fakes) -> None:
    """Its word fails the call and those behind it, the answers before it count; nobody takes it for an answer."""
    answers = {b"1": "one", b"2": Exception("MOVED 10282 h:1"), b"3": "three"}
    server = await fake(lambda command: resp(answers[command[0]]))
    lost = asyncio.Event()
    wire = await Wire.open(*there(server), [], lost=lambda _: lost.set(), elsewhere=("MOVED",))
    told: list[Any] = []
    for word in ("1", "2", "3"):
        wire.call(told.append, word)
    async with asyncio.timeout(20):
        await lost.wait()
    await asyncio.sleep(0)
    assert told[0] == b"one"
    assert [type(one) for one in told[1:]] == [LaneLost, LaneLost]


async def test_other_refusals_are_answers(fake: Fakes) -> None:
    """Also those that would send us elsewhere, where there is no other server to go to."""
    server = await fake(lambda command: resp(Exception(command[0].decode() + " x")))
    wire = await Wire.open(*there(server), [], elsewhere=("MOVED",))
    for code in ("NOSCRIPT", "READONLY", "MOVEDX"):
        with pytest.raises(hiredis.ReplyError, match=code):
            await wire.ask(code)
    wire.abort()
