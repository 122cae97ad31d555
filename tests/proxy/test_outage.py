"""What callers and operators see of an edge whose store has stopped: calls that go on, calls that are closed, and a mark on both."""

import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.conftest import RedisServer
from tests.proxy.edge_rig import Edge, Rig, eventually, rigs
from tests.proxy.partners import VENDOR_KEY, VENDOR_KEY_VARIABLE, chat

MADE_HERE = "store; share=1/1"


@pytest.fixture
def server(make_redis: Callable[..., RedisServer]) -> RedisServer:
    """Start a store that the test may stop."""
    return make_redis()


@pytest.fixture
async def edge(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Edge]:
    """Give a maker of running edges over that store, which wait 100 ms for it."""
    monkeypatch.setenv("PENSTOCK_VAR", str(tmp_path / "var"))
    monkeypatch.setenv(VENDOR_KEY_VARIABLE, VENDOR_KEY)
    client = Redis.from_url(server.url, socket_timeout=None)
    async with rigs(client, server.url, tmp_path) as make:
        yield lambda **said: make(store={"admit_timeout_ms": 100}, **said)
    await client.aclose()


@contextlib.contextmanager
def stopped(server: RedisServer) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def counted(rig: Rig) -> dict[str, float]:
    """Return what the metrics tell of outages."""
    snapshot = rig.edge.metrics.snapshot("x")
    return {
        label or name: value
        for kind in ("counters", "gauges")
        for name, rows in snapshot[kind].items()
        if name.startswith("penstock_degraded")
        for label, value in rows.items()
    }


async def test_calls_go_on_while_the_store_is_stopped(edge: Edge, server: RedisServer) -> None:
    """Streams and whole answers, marked by a header, counted, and booked when the store goes on."""
    rig = await edge(models={"m": ["sim;tokens=3;prompt=7"]})
    with stopped(server):
        for stream in (False, True):
            answer = await rig.ask(chat("m", stream=stream))
            assert answer.status == 200
            assert answer.header("x-penstock-degraded") == MADE_HERE
        assert counted(rig)["penstock_degraded"] == 1
    await eventually(lambda: not rig.edge.gate.degraded)
    answer = await rig.ask(chat("m"))
    assert answer.header("x-penstock-degraded") is None
    assert await rig.outcomes() == ["ok", "ok", "ok"]
    assert counted(rig) == {"penstock_degraded": 0, "granted": 2, "denied": 0, "closed": 0}


async def test_what_is_closed_says_so_and_when_to_come_back(
    edge: Edge, server: RedisServer
) -> None:
    """503 with the documented code under a strict budget; 429 from this edge's share of a rate: both marked."""
    rig = await edge(
        models={"m": ["sim;tokens=3;prompt=7"]},
        team={"budget": {"usd": 5, "per": "month", "mode": "strict"}},
    )
    assert (await rig.ask(chat("m", max_tokens=10))).status == 200
    with stopped(server):
        closed = await rig.ask(chat("m", max_tokens=10))
        assert closed.status == 503
        assert closed.header("x-penstock-degraded") == MADE_HERE
        assert closed.header("retry-after") == "1"
        error = json.loads(closed.body)["error"]
        assert error["code"] == "store_unavailable"
        assert "the strict budget of team acme/support is closed" in error["message"]
    await eventually(lambda: not rig.edge.gate.degraded)
    assert (await rig.ask(chat("m", max_tokens=10))).status == 200
    assert counted(rig)["closed"] == 1


async def test_a_rate_is_held_at_this_edges_share(edge: Edge, server: RedisServer) -> None:
    """The first call of an outage comes too early for an empty bucket, and is told when to come: 100 ms it has waited."""
    rig = await edge(models={"m": ["sim;tokens=3;prompt=7"]}, key={"limits": {"rpm": 60}})
    assert (await rig.ask(chat("m"))).status == 200
    with stopped(server):
        refused = await rig.ask(chat("m"))
        assert refused.status == 429
        assert refused.header("x-penstock-degraded") == MADE_HERE
        assert refused.header("retry-after") == "1"
        assert 800 < int(refused.header("retry-after-ms") or 0) < 901
        error = json.loads(refused.body)["error"]
        assert error["code"] == "requests_limit"
        assert "holds its share of it alone" in error["message"]
    await eventually(lambda: not rig.edge.gate.degraded)
