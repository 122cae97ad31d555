"""The site of the clients, for coding agents."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.clients.site import Site
from tests.integration.processes import running


@pytest.fixture(scope="session")
def site(make_redis: Callable[..., Any]) -> Iterator[Site]:
    """Run the gateway, and aimock behind it."""
    with running(make_redis().url, make=Site) as made:
        yield made
