"""What tests with everybody's clients share: one site."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.clients.site import Site
from tests.integration.processes import Books, running


@pytest.fixture(scope="session")
def site(make_redis: Callable[..., Any]) -> Iterator[Site]:
    """Run the gateway, and aimock behind it."""
    with running(make_redis().url, make=Site) as made:
        yield made


@pytest.fixture
def books(site: Site) -> Books:
    """Open the books for one test."""
    return Books(site)
