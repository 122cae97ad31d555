"""
A whole installation over a store in company: edges, control and command line find the primary, and the next one.

What a failover does to the gate alone stands in `tests/ratelimit/test_failover.py`.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from redis.crc import key_slot

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

Start = Callable[..., Awaitable[Up]]
OTHER_KEY = "another-integration-key"
HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture
async def start(var: Path, vendor: Mock) -> AsyncIterator[Start]:
    """Start an installation on a store, and see that its end leaves nothing behind."""
    made: list[Up] = []

    async def start(url: str, more: str = "", **changed: str) -> Up:
        text = CONFIG.format(vendor=vendor.base_url, key=KEY)
        for old, new in changed.items():
            text = text.replace(old, new, 1)
        text += f"{more}store: {{redis: '{url}'{', cells: 2' if more else ''}}}\n"
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


async def verified(up: Up) -> dict[str, Any]:
    """Return what the command line says of the books."""
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "console", "ledger", "verify", "--json"),
        *("--config", str(up.var / "penstock.yaml")),
        stdout=subprocess.PIPE,
        cwd=CHECKOUT,
        env={**os.environ, "PENSTOCK_VAR": str(up.var)},
    )
    said, _ = await command.communicate()
    found: dict[str, Any] = json.loads(said)
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


@pytest.fixture
def partial_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """Hand out a cluster whose nodes go on though another's slots are served by nobody."""
    for node in cluster.nodes:
        node.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
    yield cluster
    cluster.heal()
    for node in cluster.nodes:
        node.ask("CONFIG", "SET", "cluster-require-full-coverage", "yes")


async def test_cells_on_two_nodes_of_a_cluster_are_ill_one_by_one(
    start: Start, partial_cluster: Cluster
) -> None:
    """Two tenants over one vendor: while the node of one cell is gone, the other tenant is served; the books have both."""
    other = f"  globex: {{cell: 1, teams: {{one: {{keys: {{k: {{key: {OTHER_KEY}}}}}}}}}}}\n"
    up = await start(partial_cluster.url, other, teams="cell: 0, teams")
    globex = openai.AsyncOpenAI(base_url=f"{up.data_url}/v1", api_key=OTHER_KEY, max_retries=0)
    async with globex:
        first, _ = await stream(up)
        await globex.chat.completions.create(model="plain", messages=HELLO)
        (entry,) = await up.entries(first)
        assert entry["organization"] == "acme"
        assert (await verified(up))["counters"]["entries"] == 2
        _owner_of(partial_cluster, "{c1}").kill()
        second, _ = await stream(up)
        await up.entries(second)
        async with asyncio.timeout(60):
            while True:
                # Without a limit over it, a call needs no store; only what it holds is known later.
                try:
                    answer = await globex.chat.completions.create(model="plain", messages=HELLO)
                except openai.APIStatusError as error:
                    assert error.status_code == 503  # noqa: PT017
                else:
                    break
        assert answer.choices[0].message.content
    assert (await up.admin("/v1/config/status"))["everywhere"] is True
    await until_verified(up, 4)


async def until_verified(up: Up, count: int) -> None:
    """Wait until so many entries are in the books of both cells."""
    async with asyncio.timeout(60):
        while True:
            said = await verified(up)
            if said.get("equal") is True and said["counters"]["entries"] == count:
                return
            await asyncio.sleep(0.2)


def _owner_of(cluster: Cluster, tag: str) -> Member:
    slot = key_slot(tag.encode())
    for first, last, primary, *_ in cluster.nodes[0].ask("CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return next(node for node in cluster.nodes if node.port == primary[1])
    raise LookupError(tag)
