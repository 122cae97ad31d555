"""Laws of the callers: what they say of an answer is what happened to it."""

import asyncio
import random

import pytest
from aiohttp import web

from loadtests.drills.load import Kind, Load, code_of

WORD = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


async def told(handler, kind, *, calls=1):
    """Let a server answer a few calls, and return what the callers say."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        load = Load(url, "key", [kind], 200.0, random.Random(1), marks="t-")
        running = asyncio.ensure_future(load.run())
        async with asyncio.timeout(10):
            while len(load.calls) < calls:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
            load.stop()
            await running
    finally:
        await runner.cleanup()
    return load.calls


def streamed(*pieces: bytes, cut: bool = False):
    """Answer by a stream."""

    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        for piece in pieces:
            await answer.write(piece)
        if cut:
            assert request.transport is not None
            request.transport.abort()
        return answer

    return handler


@pytest.mark.parametrize(
    ("handler", "ended", "tokens"),
    [
        (streamed(WORD, WORD, DONE), "whole", 2),
        (streamed(WORD, DONE), "short", 1),
        (streamed(WORD, cut=True), "cut", 1),
        (streamed(WORD), "cut", 1),
        (streamed(WORD, b'data: {"error":{"code":"upstream_lost"}}\n\n'), "told", 1),
    ],
)
async def test_a_stream_is_told_as_it_ended(handler, ended, tokens):
    """Whole, seemingly whole, cut, or cut with words."""
    call = (await told(handler, Kind("k", "m", stream=True, tokens=2, weight=1)))[0]
    assert (call.ended, call.tokens, call.status) == (ended, tokens, 200)


async def test_a_caller_leaves_where_it_is_told_to():
    """After so many chunks, whatever would have come."""
    kind = Kind("k", "m", stream=True, tokens=3, weight=1, leave_after=2)
    call = (await told(streamed(WORD, WORD, WORD, DONE), kind))[0]
    assert (call.ended, call.tokens) == ("left", 2)


async def test_each_call_has_a_mark_and_a_key():
    """The mark goes in the body, where both books find it."""
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(((await request.json())["user"], request.headers["authorization"]))
        return web.json_response({"usage": {"completion_tokens": 2}}, headers={"x-request-id": "r"})

    kind = Kind("k", "m", stream=False, tokens=2, weight=1)
    calls = await told(handler, kind, calls=3)
    assert {call.mark for call in calls} == {mark for mark, _ in seen}
    assert {key for _, key in seen} == {"Bearer key"}
    assert {(call.ended, call.request_id) for call in calls} == {("whole", "r")}


async def test_a_refusal_is_told_with_its_code():
    """Status and code; a body that is none has no code."""

    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"error": {"code": "store_unavailable"}}, status=503)

    call = (await told(handler, Kind("k", "m", stream=False, tokens=2, weight=1)))[0]
    assert (call.ended, call.status, call.code) == ("refused", 503, "store_unavailable")
    assert code_of(b"<html>") == ""


async def test_a_connection_that_breaks_before_an_answer_is_lost():
    """No status at all."""

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    call = (await told(handler, Kind("k", "m", stream=False, tokens=2, weight=1)))[0]
    assert (call.ended, call.status) == ("lost", 0)
