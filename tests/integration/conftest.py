"""What tests with real clients share: the gateway's processes, and both books."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.processes import Books, Gateway, running


@pytest.fixture(scope="module")
def gateway(make_redis: Callable[..., Any]) -> Iterator[Gateway]:
    """Share the processes among the tests that leave them running."""
    with running(make_redis().url) as made:
        yield made


@pytest.fixture
def own(make_redis: Callable[..., Any]) -> Iterator[Gateway]:
    """Run processes for one test, which may end them."""
    with running(make_redis().url) as made:
        yield made


@pytest.fixture
def books(gateway: Gateway) -> Books:
    """Open the books for one test."""
    return Books(gateway)
