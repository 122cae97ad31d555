"""Laws of the mock vendor's connections: what it answers, what it writes down, what it survives."""

import asyncio
import json
import random
import socket
import struct

import openai
import pytest

from loadtests.mock import serve
from tests.loadtests.mock.lines import ASK, chat, line_to, request


@pytest.fixture
async def sdk(mock):
    async with openai.AsyncOpenAI(base_url=mock.base_url, api_key="k", max_retries=0) as client:
        yield client


# What the official SDK sees


async def test_the_sdk_reads_every_shape(sdk, mock):
    """Chat, completions, embeddings and models parse in the official SDK, and the books say the same usage."""
    answer = await sdk.chat.completions.create(model="sim;tokens=9", messages=ASK)
    assert answer.usage.completion_tokens == 9
    stream = await sdk.chat.completions.create(
        model="sim;tokens=5", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage.completion_tokens == 5
    text = await sdk.completions.create(model="sim", prompt="x", max_tokens=4)
    assert text.choices[0].finish_reason == "length"
    vectors = await sdk.embeddings.create(model="sim;dim=8", input=["one", "two"])
    assert [len(one.embedding) for one in vectors.data] == [8, 8]
    assert {one.id async for one in await sdk.models.list()} >= {"sim"}
    assert (await sdk.models.retrieve("sim")).id == "sim"
    await mock.quiet()
    served = mock.books()["served"]
    assert [one["completion_tokens"] for one in served] == [9, 5, 4, 0]
    assert served[0]["id"] == answer.id
    assert served[1]["id"] == chunks[0].id
    usages = [answer.usage, chunks[-1].usage, text.usage, vectors.usage]
    assert [one["prompt_tokens"] for one in served] == [usage.prompt_tokens for usage in usages]
    assert mock.books()["complaints"] == []


async def test_the_sdk_sees_errors_as_errors(sdk):
    """A scripted status, an error event and a mistake in the name each raise their own class."""
    with pytest.raises(openai.RateLimitError) as limited:
        await sdk.chat.completions.create(model="sim;status=429;retry_after=3", messages=ASK)
    assert limited.value.response.headers["retry-after"] == "3"
    stream = await sdk.chat.completions.create(model="sim;error=mid", messages=ASK, stream=True)
    with pytest.raises(openai.APIError, match="server had an error"):
        [chunk async for chunk in stream]
    with pytest.raises(openai.BadRequestError, match="no option"):
        await sdk.chat.completions.create(model="sim;nonsense=1", messages=ASK)
    with pytest.raises(openai.NotFoundError):
        await sdk.models.retrieve("nobody")


async def test_a_model_fails_its_times_and_heals(sdk, mock):
    """`times=N` fails the first N calls of that exact name; a reset begins anew."""
    model = "sim;status=503;times=2"

    async def outcome():
        try:
            await sdk.chat.completions.create(model=model, messages=ASK)
        except openai.InternalServerError:
            return "refused"
        return "ok"

    assert [await outcome() for _ in range(4)] == ["refused", "refused", "ok", "ok"]
    mock.reset()
    assert await outcome() == "refused"


# What a gateway may get wrong


async def test_unknown_paths_and_methods(any_mock):
    """An unknown URL is 404, a wrong method 405, HEAD has no body."""
    async with line_to(any_mock) as line:
        line.send(request(b"{}", "/v1/nothing"))
        assert (await line.answer())[0] == 405
        for method, path, expected in (
            ("GET", "/v1/nothing", 404),
            ("GET", "/v1/chat/completions", 405),
            ("GET", "/", 200),
        ):
            line.send(f"{method} {path} HTTP/1.1\r\nhost: mock\r\n\r\n".encode())
            assert (await line.answer())[0] == expected
        line.send(b"HEAD / HTTP/1.1\r\nhost: mock\r\nconnection: close\r\n\r\n")
        assert (await line.reader.read()).endswith(b"\r\n\r\n")
    assert any_mock.books()["totals"]["calls"] == 0


async def test_a_length_that_is_too_small_is_a_complaint(any_mock):
    """Bytes beyond the declared length are no request: they are told in the books, and the connection ends."""
    wire = request(chat("sim"))
    async with line_to(any_mock) as line:
        line.send(wire + b"}}}")
        assert (await line.answer())[0] == 200
        assert (await line.answer())[0] == 400
        assert await line.reader.read() == b""
    assert "malformed" in any_mock.books()["complaints"][0]


async def test_pipelined_requests_are_answered_in_turn(any_mock):
    """A request behind an unfinished answer waits for it, and is a complaint."""
    async with line_to(any_mock) as line:
        line.send(request(chat("sim;ttft_ms=5;tokens=1")) + request(chat("sim;tokens=2")))
        bodies = [json.loads((await line.answer())[2]) for _ in range(2)]
    assert [body["usage"]["completion_tokens"] for body in bodies] == [1, 2]
    assert "pipelined" in any_mock.books()["complaints"][0]


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_a_request_may_come_in_any_pieces(any_mock, size):
    """The answer does not depend on where the request's bytes were split."""
    wire = request(chat("sim;tokens=3"))
    async with line_to(any_mock) as line:
        for start in range(0, len(wire), size):
            line.send(wire[start : start + size])
            await asyncio.sleep(0)
        status, _, body = await line.answer()
    assert (status, json.loads(body)["usage"]["completion_tokens"]) == (200, 3)


# What it writes down


async def test_books_and_reset_by_http(any_mock):
    """The books are readable while nothing else is, and a reset empties them."""
    async with line_to(any_mock) as line:
        line.send(request(chat("sim;prompt=10;tokens=3")))
        await line.answer()
        line.send(b"GET /__mock/books HTTP/1.1\r\nhost: mock\r\n\r\n")
        totals = json.loads((await line.answer())[2])["totals"]
        assert (totals["prompt_tokens"], totals["completion_tokens"]) == (10, 3)
        line.send(request(b"", "/__mock/reset"))
        assert (await line.answer())[0] == 200
        totals = any_mock.books()["totals"]
    assert (totals["calls"], totals["connections_open"]) == (0, 1)


async def test_fast_books_have_totals_only():
    """A fast mock keeps sums, and no list."""
    async with serve(fast=True) as mock, line_to(mock) as line:
        line.send(request(chat("sim;tokens=6")))
        await line.answer()
        books = mock.books()
    assert books["totals"]["completion_tokens"] == 6
    assert books["served"] == mock.requests() == []


@pytest.mark.parametrize("leave", ["close", "half"])
async def test_a_caller_that_leaves_is_charged_what_was_written(any_mock, leave):
    """Who goes away in the middle of a stream is `client_left`, with the tokens that were out by then."""
    model = "sim;prompt=4;tokens=1000;interval_ms=5"
    async with line_to(any_mock) as line:
        line.send(request(chat(model, stream=True)))
        await line.reader.readuntil(b"turbine")
        if leave == "close":
            line.leave()
        else:
            line.writer.write_eof()
        await any_mock.quiet()
    totals = any_mock.books()["totals"]
    assert totals["outcomes"] == {"client_left": 1}
    assert totals["prompt_tokens"] == 4
    assert 20 <= totals["completion_tokens"] < 1000


async def test_a_caller_that_leaves_before_the_first_token_is_charged_nothing(mock):
    """No answer has begun, so nothing was served."""
    async with line_to(mock) as line:
        line.send(request(chat("sim;ttft_ms=60000")))
        await mock.until(lambda books: books.totals.in_flight == 1)
        line.leave()
        await mock.quiet()
    (served,) = mock.books()["served"]
    assert (served["outcome"], served["prompt_tokens"], served["completion_tokens"]) == (
        "client_left",
        0,
        0,
    )


async def test_a_caller_that_does_not_read_stops_the_stream(mock):
    """The mock writes no more than the socket takes, and goes on when it is read again."""
    async with line_to(mock) as line:
        line.writer.transport.pause_reading()
        line.send(request(chat("sim;tokens=3000;pad=10000;framing=close", stream=True)))
        await mock.until(lambda books: books.totals.stalled == 1)
        (connection,) = mock.vendor.connections
        assert connection._transport.get_write_buffer_size() < 4_000_000
        assert mock.books()["totals"]["in_flight"] == 1
        line.writer.transport.resume_reading()
        size = 0
        while piece := await line.reader.read(1 << 20):
            size += len(piece)
        await mock.quiet()
    assert mock.books()["totals"]["stalled"] == 0
    (served,) = mock.books()["served"]
    assert served["bytes"] == size > 30_000_000
    assert served["completion_tokens"] == 3000


# How it fails


async def test_hanging_lasts_until_the_caller_gives_up(any_mock):
    """`hang` holds the connection; the books call it `hung` when it ends."""
    for option, begun in (("head", False), ("body", True), ("mid", True)):
        any_mock.reset()
        async with line_to(any_mock) as line:
            line.send(request(chat(f"sim;hang={option};tokens=8", stream=True)))
            if begun:
                await line.reader.readuntil(b"\r\n\r\n")
            else:
                await any_mock.until(lambda books: books.totals.in_flight == 1)
            line.leave()
            await any_mock.quiet()
        totals = any_mock.books()["totals"]
        assert totals["outcomes"] == {"hung": 1}
        assert totals["completion_tokens"] == (4 if option == "mid" else 0)


async def test_a_cut_is_an_end_and_a_reset_is_not(any_mock):
    """`cut` ends by FIN after its bytes; with `reset` the end is an error of the connection."""
    async with line_to(any_mock) as line:
        line.send(request(chat("sim;cut=40")))
        head, _, body = (await line.reader.read()).partition(b"\r\n\r\n")
        assert len(body) == 40
        assert b"content-length: 40\r\n" not in head
    for model in ("sim;reset=1", "sim;cut=40;reset=1"):
        async with line_to(any_mock) as line:
            line.send(request(chat(model)))
            with pytest.raises(ConnectionResetError):
                await line.reader.read()
    await any_mock.quiet()
    assert any_mock.books()["totals"]["outcomes"] == {"cut": 1, "reset": 2}


async def test_an_early_answer_does_not_wait_for_the_body(any_mock):
    """`early=1` answers while the request is still being sent, reads the rest, and then closes."""
    wire = request(chat("sim;early=1;status=413", padding="x" * 100_000))
    async with line_to(any_mock) as line:
        line.send(wire[:500])
        status, headers, _ = await line.answer()
        assert (status, headers["connection"]) == (413, "close")
        line.send(wire[500:])
        assert await line.reader.read() == b""


async def test_an_early_reset_comes_while_the_request_is_sent(any_mock):
    """`early=1;reset=1` resets the connection under a request that is not complete."""
    async with line_to(any_mock) as line:
        line.send(request(chat("sim;early=1;reset=1", padding="x" * 100_000))[:500])
        with pytest.raises(ConnectionResetError):
            await line.reader.read()


@pytest.mark.parametrize("option", ["close=1", "drop_ms=1", "framing=close"])
async def test_a_connection_that_closes_after_the_answer(any_mock, option):
    """`close` and `framing=close` announce it; `drop_ms` does not."""
    async with line_to(any_mock) as line:
        line.send(request(chat(f"sim;{option}")))
        wire = await line.reader.read()
    assert (b"connection: close" in wire) == (option != "drop_ms=1")
    assert wire.endswith(b"}")


async def test_a_client_that_wants_to_close_is_obeyed(any_mock):
    """`connection: close` in the request closes after the answer."""
    async with line_to(any_mock) as line:
        line.send(request(chat("sim"), extra="connection: close\r\n"))
        assert (await line.reader.read()).endswith(b"}")


async def test_a_reset_by_the_client_is_survived(any_mock):
    """An RST in the middle of a stream is a caller that left, and nothing more."""
    async with line_to(any_mock) as line:
        line.send(request(chat("sim;tokens=1000;interval_ms=5", stream=True)))
        await line.reader.readuntil(b"Water")
        theirs = line.writer.get_extra_info("socket")
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.leave()
        await any_mock.quiet()
    assert any_mock.books()["totals"]["outcomes"] == {"client_left": 1}


async def test_time_passes_between_chunks(any_mock):
    """A paced stream takes at least its pauses, measured from outside."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with line_to(any_mock) as line:
        line.send(request(chat("sim;ttft_ms=20;interval_ms=10;tokens=3", stream=True)))
        await line.reader.readuntil(b"[DONE]")
    assert loop.time() - began >= 0.037


async def test_a_jitter_delays_first_bytes_as_drawn(sdk):
    """The delays differ from call to call, are the same in each run, and are never shorter than asked."""
    drawn = random.Random(0)
    loop = asyncio.get_running_loop()
    for _ in range(3):
        least_s = (2 + drawn.uniform(0, 30)) / 1000
        began = loop.time()
        await sdk.chat.completions.create(model="sim;tokens=1;ttft_ms=2;jitter_ms=30", messages=ASK)
        # Timers count whole milliseconds.
        assert loop.time() - began >= least_s - 0.002
