"""One worker, put together: its start, its configuration, its end."""

import asyncio
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from aiohttp import ClientSession, UnixConnector
from redis.asyncio import Redis

from config.live import acknowledgements, publish
from proxy.app import Edge
from proxy.options import EdgeOptions
from ratelimit.lives import DEAD
from store.lane import Lane
from tests.proxy.edge_rig import Edge as MakeEdge
from tests.proxy.edge_rig import eventually
from tests.proxy.partners import CALLER_KEY, at, chat, delta, piece, request, sse_head


async def until(so: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what only the store can tell."""
    async with asyncio.timeout(5):
        while not await so():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


# Configuration...


async def test_a_new_version_holds_for_the_next_request(edge: MakeEdge) -> None:
    """Models, keys, limits and deadlines; what runs goes on, and the version is acknowledged."""
    rig = await edge(models={"m": ["sim;tokens=1"]})
    caller = await rig.caller()
    await caller.send(request(chat()))
    await caller.answer()
    await rig.publish(
        models={"n": ["sim;tokens=2"]}, edge={"max_body_mb": 1, "head_timeout_s": 0.1}
    )
    await eventually(lambda: rig.edge.live.version == 2)
    await caller.send(request(chat()))
    assert (await caller.answer()).error["code"] == "model_not_found"
    await caller.send(request(chat("n")))
    assert (await caller.answer()).status == 200
    await caller.send(request(chat("n", metadata={"x": "y" * (1 << 20)})))
    assert (await caller.answer()).status == 413
    slow = await rig.caller()
    await slow.send(b"G")
    assert (await slow.answer()).status == 408

    async def acknowledged() -> bool:
        return (await acknowledgements(rig.redis))[rig.edge.replica].number == 2

    await until(acknowledged)


async def test_an_exchange_ends_under_the_version_it_began_with(edge: MakeEdge) -> None:
    """A stream is not cut because its model has gone."""
    rig = await edge(models={"m": ["sim;tokens=20;interval_ms=10"]})
    caller = await rig.caller()
    await caller.send(request(chat(stream=True)))
    assert (await caller.head()).status == 200
    await rig.publish(models={"n": ["sim"]})
    await eventually(lambda: rig.edge.live.version == 2)
    text = b""
    while data := await caller.chunk():
        text += data
    assert text.endswith(b"data: [DONE]\n\n")
    assert await rig.outcomes() == ["ok"]


async def test_a_request_that_is_still_coming_carries_no_right_over(edge: MakeEdge) -> None:
    """It began under the old version and ends under it; the new one knows nothing of what its key was allowed before."""
    rig = await edge(models={"m": ["sim"], "n": ["sim"]})
    caller = await rig.caller()
    whole_request = request(chat("n"))
    await caller.send(whole_request[:-5])
    await eventually(lambda: rig.edge.exchanges)
    await rig.publish(key={"models": ["m"]})
    await eventually(lambda: rig.edge.live.version == 2)
    await caller.send(whole_request[-5:])
    assert (await caller.answer()).status == 200
    await caller.send(whole_request)
    assert (await caller.answer()).status == 403


async def test_a_version_that_cannot_run_changes_nothing(edge: MakeEdge) -> None:
    """It is refused with its reason, the worker goes on with what it has, and takes the next good one."""
    rig = await edge(models={"m": ["sim;tokens=1"]})
    rig.expected_alarms = 2

    async def refused(words: str) -> None:
        async def said() -> bool:
            error = (await acknowledgements(rig.redis))[rig.edge.replica].error
            return error is not None and words in error

        await until(said)

    await publish(rig.redis, "models: [", by="test", why="broken", expected=None)
    await refused("live configuration")
    assert (await rig.ask(chat())).status == 200
    missing = {
        "protocol": "openai",
        "base_url": "https://x.test/v1",
        "ca_file": "/no/such/file.pem",
    }
    await rig.publish(providers={"far": missing}, models={"m": [{"provider": "far"}]})
    await refused("No such file")
    assert (rig.edge.live.version, (await rig.ask(chat())).status) == (1, 200)
    await rig.publish(models={"n": ["sim"]})
    await eventually(lambda: rig.edge.live.version == 4)
    assert (await rig.ask(chat("n"))).status == 200


async def test_a_fault_of_ours_does_not_end_the_following(
    edge: MakeEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version over which the worker stumbles is acknowledged as such, and the next one is taken."""
    rig = await edge(models={"m": ["sim"]})
    rig.expected_alarms = 1
    with monkeypatch.context() as patched:
        patched.setattr("proxy.app.load_published", lambda *_: {}["a fault of ours"])
        await rig.publish(models={"n": ["sim"]})

        async def stumbled() -> bool:
            found = (await acknowledgements(rig.redis))[rig.edge.replica]
            return found.number == 2 and found.error is not None

        await until(stumbled)
    await rig.publish(models={"o": ["sim"]})
    await eventually(lambda: rig.edge.live.version == 3)


async def test_a_chore_that_fails_is_begun_anew(
    edge: MakeEdge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that no longer heard of new versions would serve the old one for ever, and nobody would see it."""
    rig = await edge(models={"m": ["sim"]})

    async def failing(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patched:
        patched.setattr("proxy.app.acknowledge", failing)
        patched.setattr("proxy.app._quietly", lambda chore: chore)
        await rig.publish(models={"n": ["sim"]})
        await eventually(lambda: rig.edge._chores.failures()["configuration"] == 1)
    await rig.publish(models={"o": ["sim"]})
    await eventually(lambda: rig.edge.live.version == 3)
    assert "chore configuration failed, again in" in caplog.text


async def test_prices_that_end_are_looked_up_again(
    edge: MakeEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration is compiled anew; where that fails, what runs goes on."""
    monkeypatch.setattr("proxy.app.PRICES_S", 0.01)
    rig = await edge(models={"m": ["sim"]})
    before = rig.edge.live
    before.until_us = 1
    await eventually(lambda: rig.edge.live is not before)
    assert rig.edge.live.version == before.version
    assert (await rig.ask(chat())).status == 200
    rig.expected_alarms = 1
    with monkeypatch.context() as patched:

        def gone(*_: object) -> None:
            raise OSError("the file is gone")

        patched.setattr(rig.edge, "_compile", gone)
        rig.edge.live.until_us = 1
        await eventually(lambda: rig.edge.live.until_us == 0)
    assert (await rig.ask(chat())).status == 200


# Start and end...


async def alone(
    url: str, folder: Path, listen: str = "127.0.0.1:0"
) -> tuple[Edge, "asyncio.Task[int]"]:
    """Begin to run an edge over a store as it is."""
    made = Edge(EdgeOptions(url, listen, folder))
    return made, asyncio.get_running_loop().create_task(made.run())


async def test_without_a_configuration_it_waits(
    redis_client: Redis, redis_url: str, folder: Path
) -> None:
    """Not ready, not listening, and told to stop it ends in good order."""
    made, running = await alone(redis_url, folder)
    await eventually((folder / "edge-0.sock").exists)
    await asyncio.sleep(0.05)
    assert made.ready == "no configuration yet"
    async with ClientSession(connector=UnixConnector(str(folder / "edge-0.sock"))) as session:
        for path in ("/health/ready", "/snapshot"):
            answer = await session.get(f"http://edge{path}")
            assert (answer.status, (await answer.json())["status"]) == (503, "no configuration yet")
        assert (await session.get("http://edge/health/live")).status == 200
    made.stop()
    assert await running == 0
    assert await acknowledgements(redis_client) == {}


async def test_without_a_store_it_waits(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so once, however often it tries, and ends when it is told."""
    tries = Mock(side_effect=Lane.start)

    async def start(lane: Lane, *, timeout_s: float) -> None:
        await tries(lane, timeout_s=timeout_s)

    monkeypatch.setattr(Lane, "start", start)
    with caplog.at_level(logging.WARNING):
        made, running = await alone(f"unix://{folder}/nobody.sock", folder)
        await eventually(lambda: tries.call_count > 2)
        assert not running.done()
        made.stop()
        async with asyncio.timeout(5):
            assert await running == 0
    assert sum("waiting for the store" in record.getMessage() for record in caplog.records) == 1


async def test_a_port_that_is_taken_ends_it(edge: MakeEdge, folder: Path, redis_url: str) -> None:
    """With the reason, and with everything closed that was open."""
    await edge(models={"m": ["sim"]})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        made, running = await alone(redis_url, folder, f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(OSError, match="in use"):
            await running
    assert not made.serving
    assert not (await asyncio.wait([running]))[1]


async def test_two_workers_share_a_port(edge: MakeEdge, folder: Path, redis_url: str) -> None:
    """The kernel deals connections out; when one worker ends, the other takes them all."""
    rig = await edge(models={"m": ["sim;tokens=1"]})
    made = Edge(EdgeOptions(redis_url, "{}:{}".format(*rig.edge.address), folder, worker=1))
    running = asyncio.get_running_loop().create_task(made.run())
    await eventually(lambda: made.serving)
    for _ in range(60):
        assert (await rig.ask(chat())).status == 200
    assert made.server.requests_count > 0
    assert rig.edge.server.requests_count > 0
    made.stop()
    assert await running == 0
    served = made.server.requests_count + rig.edge.server.requests_count
    for _ in range(5):
        assert (await rig.ask(chat())).status == 200
    assert made.server.requests_count + rig.edge.server.requests_count == served + 5
    entries = await rig.entries()
    assert {entry.replica for entry in entries} == {made.replica, rig.edge.replica}
    assert len({entry.request_id for entry in entries}) == 65


async def test_it_ends_in_good_order(edge: MakeEdge) -> None:
    """No boot that the reaper has to wait for, known to have ended, no acknowledgement, no connection; its own door closes last."""
    rig = await edge(models={"m": ["sim"]})
    await rig.ask(chat())
    assert await rig.stop() == 0
    assert await acknowledgements(rig.redis) == {}
    scores = [score for _, score in await rig.redis.zrange("{c0}:r", 0, -1, withscores=True)]
    assert scores == [DEAD]
    assert rig.edge.ready == "draining"


async def test_long_streams_report_their_progress(
    edge: MakeEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they gave so far is what a reaper charges, should this worker die."""
    monkeypatch.setattr("proxy.app.PROGRESS_S", 0.02)
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    caller = await rig.caller()
    await caller.send(request(chat(stream=True)))
    line = await rig.vendors["v"].line()
    await line.gets()
    await line.says(sse_head(), *[piece(delta("a"))] * 7)
    await eventually(lambda: [tokens for *_, tokens in rig.edge.reports()] == [7])
    ((boot, attempt_id, _),) = list(rig.edge.reports())
    assert boot is rig.edge.gate.boot
    assert attempt_id.endswith(".1")
    await caller.leave()
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.output_tokens) == ("client_left", 7)
    assert list(rig.edge.reports()) == []


def test_a_caller_key_is_not_in_the_options() -> None:
    """The store's URL may hold a password; what is printed of the options does not show it."""
    options = EdgeOptions("redis://:secret@host/0", "127.0.0.1:1", Path("x"))
    assert "secret" not in repr(options)
    assert CALLER_KEY not in repr(options)


async def test_request_ids_of_two_workers_differ(folder: Path, redis_url: str) -> None:
    """A nonce of five bytes for each life, and a number for each request."""
    one, two = (Edge(EdgeOptions(redis_url, "127.0.0.1:0", folder)) for _ in range(2))
    ids = [edge.next_request_id() for edge in (one, one, two)]
    assert len(set(ids)) == 3
    assert all(re.fullmatch(r"req_[0-9a-f]{16}", each) for each in ids)
    assert ids[0][:14] == ids[1][:14] != ids[2][:14]
