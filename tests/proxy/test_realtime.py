"""
Realtime sessions: frames pass untouched, each response is an entry, and whatever ends a session settles it.

The vendor is the mock, which keeps books of its responses, or a server that does as a test says.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from proxy.realtime import Session
from proxy.wire.realtime import KEY_PREFIX
from tests.proxy.edge_rig import Edge, Rig, eventually
from tests.proxy.partners import CALLER_KEY, PATIENCE_S, VENDOR_KEY, at

PATH = "/v1/realtime"
PRICE = {"input": 4, "output": 16, "cached_input": 0.4, "audio_input": 32, "audio_output": 64}
SIM = "sim;tokens=10;prompt=100;cached=20;audio_in=30;audio_out=4"
# 50 of text, 20 cached, 30 of audio; 6 of text, 4 of audio.
TURN_NUSD = 50 * 4000 + 20 * 400 + 30 * 32_000 + 6 * 16_000 + 4 * 64_000
CREATE = {"type": "response.create"}


class Client:
    """A caller's end of a session."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.seen: list[dict[str, Any]] = []

    async def say(self, **event: Any) -> None:
        await self.ws.send_str(json.dumps(event))

    async def hear(self, kind: str) -> dict[str, Any]:
        """Read up to the next event of a type."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                event = await self.ws.receive_json()
                self.seen.append(event)
                if event["type"] == kind:
                    return dict(event)

    async def respond(self) -> dict[str, Any]:
        await self.say(**CREATE)
        return await self.hear("response.done")

    async def closed(self) -> tuple[int | None, dict[str, Any] | None]:
        """Read to the end; gives the close code, and the error before it."""
        error = None
        async with asyncio.timeout(PATIENCE_S):
            async for message in self.ws:
                event = json.loads(message.data)
                if event["type"] == "error":
                    error = event["error"]
        return self.ws.close_code, error


@contextlib.asynccontextmanager
async def session(
    rig: Rig, model: str = "m", *, query: str = "", **said: Any
) -> AsyncIterator[Client]:
    """Open a session, and close it at the end."""
    host, port = rig.edge.address
    headers = said.pop("headers", {"Authorization": f"Bearer {CALLER_KEY}"})
    url = f"http://{host}:{port}{PATH}?model={model}{query}"
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(url, headers=headers, **said) as ws,
    ):
        yield Client(ws)


@contextlib.asynccontextmanager
async def vendor(
    serve: Callable[[web.Request, web.WebSocketResponse], Awaitable[None]],
) -> AsyncIterator[str]:
    """Have a server whose sessions do as they are told; gives its base URL."""

    async def begin(theirs: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(theirs)
        await serve(theirs, ws)
        return ws

    app = web.Application()
    app.router.add_get("/v1/realtime", begin)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def entries_of(rig: Rig, count: int) -> list[Any]:
    await eventually(lambda: not rig.edge.exchanges)
    entries = await rig.entries()
    assert len(entries) == count
    return entries


def sold(*deployments: Any, **more: Any) -> dict[str, Any]:
    return {"m": {"deployments": list(deployments), "price": PRICE} | more}


async def test_each_response_is_an_entry(edge: Edge) -> None:
    """Text, audio and the cache told apart, as the vendor reports them; the books agree."""
    rig = await edge(models=sold(SIM))
    async with session(rig) as client:
        created = await client.hear("session.created")
        assert created["session"]["model"] == "sim"
        said = client.ws._response.headers
        assert (said["server"], said["x-penstock-deployment"]) == ("penstock", "m/mock")
        for _ in range(3):
            done = await client.respond()
            assert done["response"]["usage"]["total_tokens"] == 110
    entries = await entries_of(rig, 3)
    for number, entry in enumerate(entries, 1):
        assert entry.attempt_id.endswith(f".{number}")
        assert (entry.protocol, entry.outcome, entry.stream) == ("openai.realtime", "ok", 1)
        assert (entry.input_tokens, entry.cached_tokens, entry.audio_input_tokens) == (100, 20, 30)
        assert (entry.output_tokens, entry.audio_output_tokens) == (10, 4)
        assert (entry.cost_nusd, entry.token_source) == (TURN_NUSD, "provider")
    assert [entry.reason for entry in entries] == ["only", "session", "session"]
    totals = rig.mock.books()["totals"]
    assert (totals["calls"], totals["completion_tokens"]) == (3, 30)
    assert rig.mock.books()["complaints"] == []


async def test_the_vendor_gets_our_key_and_its_own_name_for_the_model(edge: Edge) -> None:
    """What the caller says besides passes; its key does not, however it was presented."""
    rig = await edge(models=sold(SIM))
    protocols = ["realtime", f"{KEY_PREFIX}{CALLER_KEY}", "openai-beta.realtime-v1"]
    async with session(rig, query="&intent=x", headers={}, protocols=protocols) as client:
        assert client.ws.protocol == "realtime"
        await client.hear("session.created")
    (asked,) = rig.mock.requests()
    assert asked["path"].startswith(f"/v1/realtime?model={SIM.replace(';', '%3B')[:6]}")
    assert asked["path"].endswith("&intent=x")
    headers = {name.lower(): value for name, value in asked["headers"]}
    assert headers["authorization"] == f"Bearer {VENDOR_KEY}"
    assert headers["openai-beta"] == "realtime=v1"
    assert "sec-websocket-protocol" not in headers
    (entry,) = await entries_of(rig, 1)
    assert (entry.outcome, entry.cost_nusd) == ("ok", 0)


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        (PATH, [], 426, "upgrade_required"),
        (f"{PATH}?model=m", [], 426, "upgrade_required"),
        (PATH, ["up"], 400, "invalid_value"),
        (f"{PATH}?model=x", ["up"], 404, "model_not_found"),
        (f"{PATH}?model=c", ["up"], 400, "none_eligible"),
        (f"{PATH}?model=down", ["up"], 503, "upstream_refused"),
        (f"{PATH}?model=gone", ["up"], 502, "connect_failed"),
    ],
)
async def test_what_cannot_be_opened_is_refused_in_words(
    edge: Edge, path: str, headers: list[str], status: int, code: str
) -> None:
    """As any call: a status and OpenAI's envelope, before the socket is open."""
    rig = await edge(
        models=sold(SIM)
        | {"c": [at("messages", "sim")], "down": ["sim;status=503"], "gone": [at("gone")]},
        providers={"gone": "http://127.0.0.1:9/v1"},
    )
    upgrade = (
        *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    lines = upgrade if headers else ()
    answer = await rig.ask(None, *lines, method="GET", path=path)
    assert (answer.status, answer.error["code"]) == (status, code)


async def test_nobody_knows_who_calls(edge: Edge) -> None:
    """Without a key, or with a wrong one, by whatever way it comes."""
    rig = await edge(models=sold(SIM))
    for said in (
        {"headers": {}},
        {"headers": {"Authorization": "Bearer sk-nobody-knows-this"}},
        {"headers": {}, "protocols": ["realtime", f"{KEY_PREFIX}sk-nobody-knows-this"]},
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with session(rig, **said):
                pass
        assert refused.value.status == 401
    assert rig.mock.books()["totals"]["connections"] == 0


async def test_a_session_opens_elsewhere_when_its_provider_fails(edge: Edge) -> None:
    """Before it is open it is a call like any other."""
    rig = await edge(models=sold("sim;status=503", SIM))
    for _ in range(2):
        async with session(rig) as client:
            await client.respond()
    await eventually(lambda: not rig.edge.exchanges)
    entries = await rig.entries()
    served = [entry for entry in entries if entry.outcome == "ok"]
    assert [entry.cost_nusd for entry in served] == [TURN_NUSD] * 2
    assert {entry.cost_nusd for entry in entries if entry.outcome != "ok"} <= {0}


async def test_a_fault_while_a_session_opens_holds_no_lease(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was asked, and nothing is charged."""

    async def fail(*_: object) -> None:
        raise LookupError("a fault of ours")

    monkeypatch.setattr(Session, "_dial", fail)
    rig = await edge(models=sold(SIM))
    rig.expected_alarms = 1
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with session(rig):
            pass
    assert refused.value.status == 500
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.cost_nusd) == ("internal", 0)


async def test_a_session_holds_its_place(edge: Edge) -> None:
    """One after another where one is allowed; it is free again when the first has closed."""
    rig = await edge(models=sold(SIM), key={"limits": {"concurrency": 1}})
    async with session(rig) as first:
        await first.respond()
        # The next turn has the place again.
        await eventually(lambda: [turn.number for turn in rig.edge.streams] == [2])
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with session(rig):
                pass
        assert refused.value.status == 429
        await first.respond()
    await entries_of(rig, 2)
    async with session(rig) as second:
        await second.respond()
    await entries_of(rig, 3)


async def test_a_spent_budget_ends_the_session(edge: Edge) -> None:
    """After the response that spent it: with an event that says so, and a close."""
    usd = TURN_NUSD * 1.5 / 1e9
    rig = await edge(models=sold(SIM), team={"budget": {"usd": round(usd, 9), "per": "month"}})
    async with session(rig) as client:
        await client.respond()
        await client.respond()
        code, error = await client.closed()
    assert code == 1008
    assert error is not None
    assert (error["code"], error["type"]) == ("budget_exhausted", "insufficient_quota")
    assert "budget of team acme/support" in error["message"]
    assert len(await entries_of(rig, 2)) == 2


async def test_a_strict_budget_holds_the_most_that_a_response_can_cost(edge: Edge) -> None:
    """What it cannot hold is not opened; what it held is given back when the session ends."""
    # The context at the dearest rate, and the longest answer.
    most = 128_000 * 32_000 + 4096 * 64_000
    strict = {"usd": round(most * 1.0001 / 1e9, 9), "per": "month", "mode": "strict"}
    rig = await edge(models=sold(SIM), team={"budget": strict})
    async with session(rig) as client:
        await client.respond()
        _, error = await client.closed()
        assert error is not None
        assert error["code"] == "budget_exhausted"
    await entries_of(rig, 1)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with session(rig):
            pass
    assert refused.value.status == 402


async def test_a_caller_who_leaves_in_a_response_pays_for_what_was_said(edge: Edge) -> None:
    """The vendor is hung up on; the books differ by what was on its way."""
    rig = await edge(models=sold("sim;tokens=4000;prompt=100;interval_ms=5"))
    async with session(rig) as client:
        await client.say(type="conversation.item.create", item={"text": "x" * 400})
        await client.say(**CREATE)
        for _ in range(20):
            await client.hear("response.output_text.delta")
    (entry,) = await entries_of(rig, 1)
    assert (entry.outcome, entry.token_source) == ("client_left", "estimated")
    assert entry.output_tokens >= 20
    assert entry.input_tokens > 100
    await rig.mock.quiet()


async def test_a_vendor_that_dies_in_a_response(edge: Edge) -> None:
    """The caller is told, with a code that says whose fault it was; what was said is charged."""
    rig = await edge(models=sold("sim;tokens=50;prompt=100;cut=7"))
    async with session(rig) as client:
        await client.say(**CREATE)
        code, error = await client.closed()
    assert code == 1011
    assert error is not None
    assert error["code"] == "upstream_lost"
    (entry,) = await entries_of(rig, 1)
    assert (entry.outcome, entry.token_source) == ("upstream_lost", "estimated")
    assert 0 < entry.output_tokens <= 20


async def test_a_response_without_usage_is_estimated(edge: Edge) -> None:
    """By what went by."""
    rig = await edge(models=sold("sim;tokens=12;prompt=5;audio_out=12;usage=off"))
    async with session(rig) as client:
        await client.respond()
    (entry,) = await entries_of(rig, 1)
    assert (entry.outcome, entry.token_source) == ("ok", "estimated")
    assert 12 <= entry.output_tokens <= 14


async def test_silence_ends_a_session(edge: Edge) -> None:
    """With an event, and the lease is free."""
    rig = await edge(models=sold(SIM), edge={"realtime_idle_timeout_s": 0.05})
    async with session(rig) as client:
        code, error = await client.closed()
    assert code == 1001
    assert error is not None
    assert error["code"] == "idle_timed_out"
    (entry,) = await entries_of(rig, 1)
    assert (entry.outcome, entry.cost_nusd) == ("idle_timed_out", 0)


async def test_no_session_lasts_for_ever(edge: Edge) -> None:
    """Not even a lively one."""
    rig = await edge(
        models=sold("sim;tokens=4000;prompt=1;interval_ms=5"), edge={"total_timeout_s": 0.3}
    )
    async with session(rig) as client:
        await client.say(**CREATE)
        _, error = await client.closed()
    assert error is not None
    assert error["code"] == "total_timed_out"
    (entry,) = await entries_of(rig, 1)
    assert entry.outcome == "total_timed_out"


async def test_a_gateway_that_goes_down_says_so(edge: Edge) -> None:
    """Sessions go on for as long as a drain lasts, and then end with an event."""
    rig = await edge(
        models=sold("sim;tokens=4000;prompt=1;interval_ms=5"), edge={"drain_timeout_s": 0.2}
    )
    async with session(rig) as client:
        await client.say(**CREATE)
        await client.hear("response.output_text.delta")
        rig.edge.stop()
        code, error = await client.closed()
    assert code == 1001
    assert error is not None
    assert error["code"] == "drained"
    await rig.stop()


async def test_progress_of_a_response_is_reported(edge: Edge) -> None:
    """As of a stream: what a crash would forget is two seconds of it."""
    rig = await edge(models=sold("sim;tokens=4000;prompt=1;interval_ms=2"))
    async with session(rig) as client:
        await client.say(**CREATE)
        for _ in range(5):
            await client.hear("response.output_text.delta")
        (turn,) = rig.edge.streams
        turn.sent_at -= 1
        ((_, attempt, tokens),) = rig.edge.reports()
        assert attempt.endswith(".1")
        assert tokens >= 5
    await entries_of(rig, 1)


async def test_a_caller_who_does_not_read_stops_the_vendor(edge: Edge) -> None:
    """What the gateway holds of a session is bounded; nothing is lost when the caller reads again."""
    frames, size = 600, 64 * 1024
    rig = await edge(models=sold(SIM))
    said = 0

    async def pour(_: web.Request, ws: web.WebSocketResponse) -> None:
        nonlocal said
        for _ in range(frames):
            await ws.send_bytes(bytes(size))
            said += 1
        await ws.close()

    async with vendor(pour) as url:
        await rig.publish(models=sold(at("w")), providers={"w": url})
        await eventually(lambda: rig.edge.live.version == 2)
        async with session(rig) as client:
            await eventually(lambda: any(one.client.writing_paused for one in rig.edge.exchanges))
            (open_one,) = rig.edge.exchanges
            assert open_one.bytes_out < frames * size
            heard = 0
            async with asyncio.timeout(PATIENCE_S):
                async for message in client.ws:
                    heard += len(message.data)
        assert heard == frames * size == said * size
    await entries_of(rig, 1)


async def test_a_turn_in_which_nothing_happened_leaves_nothing(edge: Edge) -> None:
    """Not even the progress that was reported of it."""
    rig = await edge(models=sold(SIM))
    async with session(rig) as client:
        await client.respond()
        await eventually(lambda: [turn.number for turn in rig.edge.streams] == [2])
        (turn,) = rig.edge.streams
        await rig.redis.hset(turn.grant.boot.parts, turn.attempt_id, 0)
        turn.reported = True
    await entries_of(rig, 1)
    await rig.at_rest()


async def test_frames_pass_untouched_both_ways(edge: Edge) -> None:
    """Text in any spelling, bytes, events that nobody knows; and a vendor's own close code."""
    heard: list[Any] = []

    async def serve(_: web.Request, ws: web.WebSocketResponse) -> None:
        await ws.send_str('{ "type" : "unheard.of", "x": "\\u00e9" }')
        await ws.send_bytes(b"\x00\xff")
        async for message in ws:
            heard.append((message.type, message.data))
            if len(heard) == 2:
                await ws.close(code=4123, message=b"enough")

    async with vendor(serve) as url:
        rig = await edge(models=sold(at("w")), providers={"w": url})
        async with session(rig) as client:
            text = await client.ws.receive(PATIENCE_S)
            assert text.data == '{ "type" : "unheard.of", "x": "\\u00e9" }'
            assert (await client.ws.receive(PATIENCE_S)).data == b"\x00\xff"
            await client.ws.send_str(' {"type":"mine"} ')
            await client.ws.send_bytes(b"\x01")
            code, error = await client.closed()
        assert heard == [(WSMsgType.TEXT, ' {"type":"mine"} '), (WSMsgType.BINARY, b"\x01")]
        assert code == 4123
        assert error is not None
        (entry,) = await entries_of(rig, 1)
        assert entry.outcome == "upstream_lost"


async def test_a_vendor_that_no_longer_takes_anything_is_lost(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is noticed where we speak to it before it is where we listen; the caller has not left."""

    async def listen(_: web.Request, ws: web.WebSocketResponse) -> None:
        async for _ in ws:
            pass

    async with vendor(listen) as url:
        rig = await edge(models=sold(at("w")), providers={"w": url})
        async with session(rig) as client:
            (open_one,) = rig.edge.exchanges
            monkeypatch.setattr(open_one._vendor, "send_str", gone)
            await client.say(**CREATE)
            code, error = await client.closed()
        assert code == 1011
        assert error is not None
        assert error["code"] == "upstream_lost"
        (entry,) = await entries_of(rig, 1)
        assert entry.outcome == "upstream_lost"


async def gone(_: str) -> None:
    """Fail as a connection does whose other end has closed it."""
    raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
