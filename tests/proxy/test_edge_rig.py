"""Laws of the rig itself: what cannot start leaves nothing behind."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from config.problems import ConfigError
from proxy.app import Edge
from tests.proxy.edge_rig import Rig
from tests.proxy.partners import at


async def left_nothing(rig: Rig, tasks: set[asyncio.Task[Any]]) -> None:
    """See that nobody listens or runs any more, and that nobody takes down what is logged."""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", rig.vendors["v"].port)
    assert asyncio.all_tasks() == tasks
    assert not rig._run_dir.exists()
    assert rig._records not in logging.getLogger().handlers


async def test_a_bad_configuration_ends_the_vendors(
    redis_client: Redis, redis_url: str, tmp_path: Path
) -> None:
    """And says what is wrong with it, at once."""
    tasks = asyncio.all_tasks()
    rig = Rig(redis_client, redis_url, tmp_path)
    with pytest.raises(ConfigError, match="no provider named"):
        await rig.start(scripted=["v"], models={"m": [at("nobody")]})
    await left_nothing(rig, tasks)


async def test_an_edge_that_fails_ends_the_vendors(
    redis_client: Redis, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own error."""

    async def run(edge: Edge) -> int:
        raise LookupError(edge.serving)

    monkeypatch.setattr(Edge, "run", run)
    tasks = asyncio.all_tasks()
    rig = Rig(redis_client, redis_url, tmp_path)
    with pytest.raises(LookupError):
        await rig.start(scripted=["v"], models={"m": [at("v")]})
    await left_nothing(rig, tasks)
