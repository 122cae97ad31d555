"""Bounds on time that hold on a busy machine, too: what other processes take of it is nobody's delay."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from loadtests.health import waited_s

_FOR_EVER_S = 30.0


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Require the block to end within so many seconds, without those in which this process wanted a core and had none (Linux tells)."""
    begun, without = monotonic(), waited_s()
    async with asyncio.timeout(seconds + _FOR_EVER_S):
        yield
    took = monotonic() - begun - (waited_s() - without)
    assert took < seconds, f"took {took:.3f} s, of {seconds:g} allowed"
