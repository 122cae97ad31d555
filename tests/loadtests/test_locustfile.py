"""Laws of the file that Locust loads: it works from anywhere, offers every scenario by its class, and picks mixed traffic by itself."""

import asyncio
import os
import subprocess
import sys

from loadtests.mock import serve
from loadtests.runner import LOCUSTFILE
from loadtests.scenarios import SCENARIOS, class_of


def locust(*words, cwd):
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *words],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_offers_a_class_for_each_scenario(tmp_path):
    """From a foreign directory, without our path set."""
    told = locust("--list", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert set(map(class_of, SCENARIOS)) <= set(told.stdout.split())


async def test_without_a_class_it_is_mixed_traffic(tmp_path):
    """`locust -f loadtests/locustfile.py --headless`, with Locust's own numbers of users, too."""
    async with serve() as mock:
        words = ("--headless", "--host", mock.url, "-u", "15", "-r", "100", "-t", "2s")
        told = await asyncio.to_thread(locust, *words, "--model", "sim", cwd=tmp_path)
        paths = {one["path"] for one in mock.requests()}
    assert told.returncode == 0, told.stderr
    assert "E2E" in told.stderr
    assert "/v1/chat/completions" in paths
    assert list(tmp_path.iterdir()) == []
