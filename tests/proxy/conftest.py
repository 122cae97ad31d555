"""What tests of the edge share: a rig over a real store, on the loop that the edge runs on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop
from redis.asyncio import Redis

from tests.proxy.edge_rig import Edge, rigs
from tests.proxy.partners import VENDOR_KEY, VENDOR_KEY_VARIABLE

# Modules that hold the running edge to its laws: on uvloop, as it runs.
ON_UVLOOP = {
    "test_app",
    "test_bad_input",
    "test_choosing",
    "test_doors",
    "test_drain",
    "test_exchange",
    "test_files",
    "test_leaving",
    "test_media",
    "test_feedback",
    "test_outage",
    "test_passage",
    "test_protocols",
    "test_realtime",
    "test_messages",
    "test_own_door",
    "test_server",
    "test_settlement",
    "test_shadow",
    "test_survival",
    "test_trials",
}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Choose the loop by the module."""
    if item.path.stem in ON_UVLOOP:
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture
async def edge(
    redis_client: Redis, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Edge]:
    """Give a maker of running edges; what it takes is said at `Rig.start`."""
    monkeypatch.setenv("PENSTOCK_VAR", str(tmp_path / "var"))
    monkeypatch.setenv(VENDOR_KEY_VARIABLE, VENDOR_KEY)
    async with rigs(redis_client, redis_url, tmp_path) as make:
        yield make


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a run directory whose sockets have short names."""
    found = tmp_path_factory.mktemp("e")
    monkeypatch.setenv("PENSTOCK_VAR", str(found / "var"))
    return found
