"""Patience: what comes of chores and of other processes is asked for until it is there."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest


async def eventually(holds: Callable[[], Awaitable[Any]]) -> Any:
    """Ask until the answer is yes, for 20 s at most; give the answer."""
    for _ in range(400):
        if answer := await holds():
            return answer
        await asyncio.sleep(0.05)
    return pytest.fail("waited for 20 s in vain")
