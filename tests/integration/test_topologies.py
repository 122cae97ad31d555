"""
A whole installation over a store in company: edges, control and command line find the primary, and the next one.

What a failover does to the gate alone stands in `tests/ratelimit/test_failover.py`.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import openai
import pytest

from loadtests.drills.company import Cluster, Member, SentinelSet
from loadtests.mock.server import Mock
from store.places import CHECKOUT
from tests.integration.test_up import (
    CONFIG,
    KEY,
    Up,
    processes_of,
    started,
    stream,
    until,
    var,
    vendor,
    written,
)

# Fixtures, for pytest to find here.
__all__ = ["var", "vendor"]

Start = Callable[[str], Awaitable[Up]]


@pytest.fixture
async def start(var: Path, vendor: Mock) -> AsyncIterator[Start]:
    """Start an installation on a store, and see that its end leaves nothing behind."""
    made: list[Up] = []

    async def start(url: str) -> Up:
        text = CONFIG.format(vendor=vendor.base_url, key=KEY) + f"store: {{redis: '{url}'}}\n"
        made.append(await started(written(var, "penstock.yaml", text)))
        return made[-1]

    yield start
    for up in made:
        up.process.terminate()
        await up.ended()
    await until(lambda: not processes_of(var))


async def served_again(up: Up) -> str:
    """Stream one call as soon as one is served; until then callers are refused, and told why."""
    async with asyncio.timeout(60):
        while True:
            try:
                request_id, _ = await stream(up)
            except openai.APIStatusError as error:
                assert error.status_code == 503  # noqa: PT017
            else:
                return request_id


async def keeps_serving(up: Up, primary: Member) -> None:
    """Require that calls are served, entered into the books and verified before and after the end of the primary."""
    first, _ = await stream(up)
    await up.entries(first)
    primary.kill()
    second = await served_again(up)
    (entry,) = await up.entries(second)
    assert entry["outcome"] == "ok"
    assert len(await up.entries(first)) == 1
    assert (await verified(up))["equal"] is True


async def verified(up: Up) -> dict[str, object]:
    """Return what the command line says of the books."""
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "console", "ledger", "verify", "--json"),
        *("--config", str(up.var / "penstock.yaml")),
        stdout=subprocess.PIPE,
        cwd=CHECKOUT,
        env={**os.environ, "PENSTOCK_VAR": str(up.var)},
    )
    said, _ = await command.communicate()
    found: dict[str, object] = json.loads(said)
    return found


async def test_an_installation_outlives_the_primary_of_its_sentinels(
    start: Start, sentinels: SentinelSet
) -> None:
    """Calls, books and the command line, by one URL."""
    await keeps_serving(await start(sentinels.url), sentinels.primary())


async def test_an_installation_outlives_the_owner_of_its_slot(
    start: Start, cluster: Cluster
) -> None:
    """The same on a cluster."""
    await keeps_serving(await start(cluster.url), cluster.owner())
