"""What the tests of the store share: connections are tried on both event loops."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from store.places import CHECKOUT


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests of connections on both loops, the others on asyncio's."""
    loops = {"asyncio": asyncio.new_event_loop}
    if item.path.relative_to(CHECKOUT).name in {"test_lane.py", "test_mended.py"}:
        loops["uvloop"] = uvloop.new_event_loop
    return loops
