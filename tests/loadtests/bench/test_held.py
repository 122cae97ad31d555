"""Laws of streams that are held open."""

import asyncio
import json
import resource

import pytest

from loadtests.bench.held import HeldStreams, allow_files, request
from loadtests.bench.wrk import BenchFailed
from loadtests.mock import serve


def wire(model):
    body = json.dumps({"model": model, "messages": [], "stream": True}).encode()
    return request("mock", "/v1/chat/completions", body, "key")


async def test_streams_stay_open_as_long_as_the_block():
    """So many streams are past their first chunk inside, and gone after."""
    async with serve() as mock:
        port = int(mock.url.rsplit(":", 1)[1])
        streams = HeldStreams("127.0.0.1", port, wire("sim;interval_ms=60000"), 20)
        await asyncio.to_thread(streams.__enter__)
        assert mock.books()["totals"]["in_flight"] == 20
        streams.__exit__(None, None, None)
        await mock.quiet()
        assert mock.books()["totals"]["outcomes"] == {"client_left": 20}
        assert mock.requests()[0]["headers"][2] == ["Authorization", "Bearer key"]
        assert mock.books()["complaints"] == []


@pytest.mark.parametrize("model", ["sim;status=429", "sim;cut=0"])
async def test_a_stream_that_does_not_begin_fails_the_bench(model):
    """A refusal or an early end is told, and nothing stays open."""
    async with serve() as mock:
        port = int(mock.url.rsplit(":", 1)[1])
        streams = HeldStreams("127.0.0.1", port, wire(f"{model};close=1"), 3)
        with pytest.raises(BenchFailed, match="a stream"):
            await asyncio.to_thread(streams.__enter__)
        await mock.until(lambda books: not books.totals.connections_open)


def test_files_are_never_taken_away():
    """Asking for fewer files than we may open changes nothing."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    allow_files(0)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) >= before
