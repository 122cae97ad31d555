"""What the tests of the transport share: both event loops, scripted raw peers, a listener."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pytest
import uvloop

from proxy.upstream.pool import Pool
from tests.proxy.upstream.peers import Peer, Script


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every async test of this directory on both loops."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def peer() -> AsyncIterator[Callable[..., Awaitable[Peer]]]:
    """Make raw servers that run one script (reader and writer in) per connection."""
    made: list[Peer] = []

    async def make(script: Script, **options: Any) -> Peer:
        one = Peer(script)
        await one.start(**options)
        made.append(one)
        return one

    yield make
    for one in made:
        await one.stop()


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    """Hand out a pool of the running loop, and close it."""
    one = Pool(asyncio.get_running_loop())
    yield one
    await one.close()
