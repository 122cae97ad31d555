"""A worker that goes down: what runs may end, within bounds, and what is new is turned away."""

import json

import pytest

from ratelimit.upkeep import read_scope
from tests.patience import within
from tests.proxy.edge_rig import Edge, eventually
from tests.proxy.partners import (
    DONE,
    at,
    chat,
    delta,
    piece,
    request,
    sse_head,
    whole,
)


async def test_open_streams_finish_in_a_drain(edge: Edge) -> None:
    """The port closes, idle connections close, and the streams go on to their end; then the worker ends."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    idle, busy, spent = [await rig.caller() for _ in range(3)]
    rig.vendors["v"].habit = None
    await spent.send(request(None, method="GET", path="/v1/models"))
    await spent.answer()
    await busy.send(request(chat(stream=True)))
    line = await rig.vendors["v"].line()
    await line.gets()
    await line.says(sse_head(), piece(delta("One")))
    assert (await busy.head()).status == 200
    rig.edge.stop()
    await idle.closed()
    await spent.closed()
    assert rig.edge.ready == "draining"
    with pytest.raises(ConnectionRefusedError):
        await rig.caller()
    await line.says(piece(delta(" two", "stop") + DONE), piece(b""))
    assert await busy.chunk() == delta("One")
    assert await busy.chunk() == delta(" two", "stop") + DONE
    assert await busy.chunk() == b""
    await busy.closed()
    assert await rig.stop() == 0
    assert [entry.outcome for entry in await rig._entries()] == ["ok"]


async def test_an_answer_that_begins_in_a_drain_says_that_the_connection_ends(edge: Edge) -> None:
    """Or a client would send its next request into a connection that is about to close (RFC 9112, 9.6)."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    caller = await rig.caller()
    await caller.send(request(chat()))
    line = await rig.vendors["v"].line()
    await line.gets()
    rig.edge.stop()
    await eventually(lambda: rig.edge.draining)
    await line.says(whole(b'{"choices":[]}'))
    answer = await caller.answer()
    assert (answer.status, answer.header("connection")) == (200, "close")
    await caller.closed()


async def test_a_drain_has_a_bound(edge: Edge) -> None:
    """Beyond it a stream ends with an error it can read, and an exchange that waits is told to come back."""
    rig = await edge(
        models={"m": [at()], "n": [at(), at()]}, scripted=["v"], edge={"drain_timeout_s": 0.1}
    )
    streaming, waiting = [await rig.caller() for _ in range(2)]
    await streaming.send(request(chat(stream=True)))
    line = await rig.vendors["v"].line()
    await line.gets()
    await line.says(sse_head(), piece(delta("One")))
    await streaming.head()
    await streaming.chunk()
    await waiting.send(request(chat("n")))
    await (await rig.vendors["v"].line()).gets()
    assert await rig.stop() == 0
    error = json.loads((await streaming.chunk()).removeprefix(b"data: "))["error"]
    assert error["code"] == "drained"
    assert await streaming.chunk() == b""
    answer = await waiting.answer()
    assert (answer.status, answer.error["code"]) == (503, "drained")
    entries = await rig._entries()
    assert sorted(entry.outcome for entry in entries) == ["drained", "drained"]
    for name in ("deployment:m/v", "deployment:n/v"):
        state = await read_scope(rig.redis, name)
        assert state is not None
        assert state.failures == 0


async def test_a_drain_may_be_hurried(edge: Edge) -> None:
    """What is open is cut at once, told so and settled with what was metered, and the worker ends within a second."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    streaming, sending = [await rig.caller() for _ in range(2)]
    await streaming.send(request(chat(stream=True)))
    line = await rig.vendors["v"].line()
    await line.gets()
    await line.says(sse_head(), piece(delta("One")))
    await streaming.head()
    await streaming.chunk()
    await sending.send(request(chat())[:-5])
    await eventually(lambda: len(rig.edge.exchanges) == 2)
    rig.edge.stop()
    await eventually(lambda: rig.edge.draining)
    rig.edge.hurry()
    async with within(1):
        assert await rig.stop() == 0
    assert b'"drained"' in await streaming.chunk()
    assert await streaming.chunk() == b""
    answer = await sending.answer()
    assert (answer.status, answer.error["code"]) == (503, "shutting_down")
    assert answer.header("retry-after") == "1"
    await sending.closed()
    (entry,) = await rig._entries()
    assert (entry.outcome, entry.output_tokens) == ("drained", 1)


async def test_a_body_that_is_still_coming_is_read_in_a_drain(edge: Edge) -> None:
    """Its head came in time, so that it is served like the others, and the connection closes behind it."""
    rig = await edge(models={"m": ["sim;tokens=1"]})
    caller = await rig.caller()
    whole_request = request(chat())
    await caller.send(whole_request[:-10])
    await eventually(lambda: rig.edge.exchanges)
    rig.edge.stop()
    await eventually(lambda: rig.edge.draining)
    await caller.send(whole_request[-10:])
    answer = await caller.answer()
    assert (answer.status, answer.complete) == (200, True)
    await caller.closed()
    assert await rig.stop() == 0


async def test_who_was_told_to_come_back_is_not_served_any_more(edge: Edge) -> None:
    """What would be granted to it a moment later is given back, and nobody is asked."""
    rig = await edge(models={"m": ["sim;tokens=1"]}, store={"admit_timeout_ms": 5000})
    await rig.redis.client_pause(5000, all=False)
    caller = await rig.caller()
    await caller.send(request(chat()))
    await eventually(lambda: not rig.edge.gate.idle)
    rig.edge.hurry()
    answer = await caller.answer()
    assert (answer.status, answer.error["code"]) == (503, "shutting_down")
    await rig.redis.client_unpause()
    await caller.closed()
    assert await rig.stop() == 0
    assert rig.mock.books()["totals"]["calls"] == 0
    assert await rig._entries() == []


async def test_new_requests_on_a_busy_connection_are_turned_away(edge: Edge) -> None:
    """What was pipelined behind a stream is not served by a worker that goes down."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    caller = await rig.caller()
    await caller.send(request(chat(stream=True)))
    line = await rig.vendors["v"].line()
    await line.gets()
    await line.says(sse_head(), piece(delta("One")))
    await caller.head()
    rig.edge.stop()
    await eventually(lambda: rig.edge.draining)
    await caller.send(request(chat()))
    await line.says(piece(delta("", "stop") + DONE), piece(b""))
    while await caller.chunk():
        pass
    await caller.closed()
    assert await rig.stop() == 0
    assert len(await rig._entries()) == 1
