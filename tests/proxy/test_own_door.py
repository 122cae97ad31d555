"""The worker's own door: what it says of itself, and to whom."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, UnixConnector

from proxy.app import Edge
from proxy.options import EdgeOptions
from tests.proxy.edge_rig import Edge as MakeEdge
from tests.proxy.edge_rig import Rig, eventually
from tests.proxy.partners import chat


async def own(rig: Rig, path: str) -> tuple[int, Any]:
    """Ask the worker's own socket."""
    where = rig.edge.options.run_dir / "edge-0.sock"
    async with ClientSession(connector=UnixConnector(str(where))) as session:
        answer = await session.get(f"http://edge{path}")
        return answer.status, await answer.json()


async def test_the_own_door_tells_of_health_and_counts(edge: MakeEdge) -> None:
    """For the supervisor and the control role; the snapshot bears the name of this life."""
    rig = await edge(models={"m": ["sim;tokens=2"]})
    await rig.ask(chat())
    await rig.entries()
    # The supervisor waits for as long as this says.
    said = {"status": "live", "drain_timeout_s": rig.edge.live.config.edge.drain_timeout_s}
    assert await own(rig, "/health/live") == (200, said)
    assert await own(rig, "/health/ready") == (200, {"status": "ready"})
    status, snapshot = await own(rig, "/snapshot")
    assert status == 200
    assert snapshot["boot"] == rig.edge.gate.boot.member
    assert snapshot["counters"]["penstock_requests_total"]["openai.chat\x1fm\x1f200"] == 1
    assert snapshot["gauges"]["penstock_config_version"] == {"": 1}
    assert snapshot["histograms"]["penstock_admit_seconds"][""][2] >= 1


async def test_the_snapshot_has_every_metric_but_those_without_a_label_yet(edge: MakeEdge) -> None:
    """Whatever is declared is counted: after one stream and one refusal all of the table is there."""
    rig = await edge(models={"m": ["sim;tokens=5;interval_ms=2"]})
    await rig.ask(chat(stream=True))
    await rig.ask(chat("nobody"))
    await rig.entries()
    # How late the loop is, it sees four times a second.
    await eventually(lambda: sum(rig.edge._lag.counts))
    _, snapshot = await own(rig, "/snapshot")
    found = {name for kind in ("counters", "gauges", "histograms") for name in snapshot[kind]}
    assert found == {row["name"] for row in snapshot["schema"]}


async def test_its_own_metrics_may_have_a_port(
    edge: MakeEdge, folder: Path, redis_url: str
) -> None:
    """Where no control collects them."""
    await edge(models={"m": ["sim"]})
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = Edge(
        EdgeOptions(redis_url, "127.0.0.1:0", folder, worker=3, metrics=f"127.0.0.1:{port}")
    )
    running = asyncio.get_running_loop().create_task(made.run())
    await eventually(lambda: made.serving)
    async with ClientSession() as session:
        answer = await session.get(f"http://127.0.0.1:{port}/snapshot")
        assert (await answer.json())["boot"].startswith(made.replica)
        scraped = await session.get(f"http://127.0.0.1:{port}/metrics")
        assert scraped.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "\npenstock_config_version 1\n" in await scraped.text()
    made.stop()
    assert await running == 0


async def test_a_door_that_cannot_be_opened_leaves_nothing_open(
    folder: Path, redis_url: str
) -> None:
    """The worker ends with the reason, and nobody listens on its socket any more."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        made = Edge(EdgeOptions(redis_url, "127.0.0.1:0", folder, metrics=address))
        with pytest.raises(OSError, match="in use"):
            await made.run()
    # The one where a loop leaves the file of a socket, the other where it takes it away.
    with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
        await asyncio.open_unix_connection(str(folder / "edge-0.sock"))
