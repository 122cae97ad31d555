"""What the tests of the gate share: the scripts on an emptied server, with a clock of the test's own."""

from collections.abc import Iterator

import pytest
import redis

from tests.ratelimit.cell import Cell


@pytest.fixture
def cell(redis_url: str) -> Iterator[Cell]:
    """Hand out the scripts over an emptied server."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        yield Cell(client)
