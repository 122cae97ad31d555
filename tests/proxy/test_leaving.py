"""Callers that leave at any moment, and callers that read slowly or not at all: settled once, and nobody works for them on."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from proxy.server import WRITE_HIGH
from ratelimit.upkeep import read_scope
from tests.proxy.edge_rig import Edge, eventually
from tests.proxy.partners import (
    at,
    chat,
    delta,
    event,
    piece,
    request,
    sse_head,
    usage,
)
from tests.proxy.stories import (
    booked,
    caller_gets_events,
    caller_gets_head,
    caller_leaves,
    caller_sends,
    tell,
    vendor_gets,
    vendor_is_left,
    vendor_says,
)

# Callers that leave...


async def test_a_caller_leaves_before_it_is_admitted(edge: Edge) -> None:
    """While the store is slow: what is granted meanwhile is given back, and nobody is asked."""
    rig = await edge(models={"m": [at()]}, scripted=["v"], store={"admit_timeout_ms": 5000})
    await rig.redis.client_pause(200)
    caller = await rig.caller()
    await caller.send(request(chat()))
    await eventually(lambda: rig.edge.exchanges)
    await caller.leave()
    await eventually(lambda: not rig.edge.exchanges)
    await rig.at_rest()
    assert await rig.entries() == []
    assert rig.vendors["v"].accepted == 0


async def test_a_caller_leaves_while_we_connect(edge: Edge) -> None:
    """The connect is given up; it cost nothing, and the books say who left."""
    with full_backlog() as (port, fill):
        rig = await edge(
            models={"m": [at("far")]}, providers={"far": f"http://127.0.0.1:{port}/v1"}
        )
        await fill()
        caller = await rig.caller()
        await caller.send(request(chat()))
        await eventually(lambda: any(one.current is not None for one in rig.edge.exchanges))
        await asyncio.sleep(0.02)
        await caller.leave()
        (entry,) = await rig.entries()
    assert (entry.outcome, entry.cost_nusd, entry.token_source) == ("client_left", 0, "none")


class full_backlog:  # noqa: N801 - reads as a function
    """A port whose queue of connections is full, so that a connect to it hangs."""

    def __enter__(self) -> tuple[int, Callable[[], Awaitable[None]]]:
        self._server = socket.socket()
        self._server.bind(("127.0.0.1", 0))
        self._server.listen(0)
        self._sockets = [socket.socket() for _ in range(3)]
        return self._server.getsockname()[1], self._fill

    async def _fill(self) -> None:
        for each in self._sockets:
            each.setblocking(False)
            each.connect_ex(self._server.getsockname())
        await asyncio.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        for each in (*self._sockets, self._server):
            each.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_leaves_before_the_first_byte(edge: Edge, stream: bool) -> None:
    """The vendor is hung up on within 100 ms, and its work so far is charged: the input."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    await (
        tell(rig)
        >> caller_sends(request(chat(stream=stream)))
        << vendor_gets()
        >> caller_leaves()
        << vendor_is_left(within_s=0.1)
        << booked({"outcome": "client_left", "output_tokens": 0, "token_source": "estimated"})
    )
    (entry,) = await rig.entries()
    assert entry.input_tokens > 0
    state = await read_scope(rig.redis, "deployment:m/v")
    assert state is not None
    assert state.failures == 0


async def test_a_caller_leaves_in_the_middle_of_a_stream(edge: Edge) -> None:
    """The vendor is hung up on within 100 ms, and what was streamed is charged."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    await (
        tell(rig)
        >> caller_sends(request(chat(stream=True)))
        << vendor_gets()
        >> vendor_says(sse_head(), *(piece(delta(f"{n}")) for n in range(5)))
        << caller_gets_head(200)
        << caller_gets_events(b"".join(delta(f"{n}") for n in range(5)))
        >> caller_leaves()
        << vendor_is_left(within_s=0.1)
        << booked({"outcome": "client_left", "output_tokens": 5, "token_source": "estimated"})
    )
    counters = rig.edge.metrics.snapshot("x")["counters"]
    counted = {
        labels: count for labels, count in counters["penstock_requests_total"].items() if count
    }
    assert counted == {"openai.chat\x1fm\x1f499": 1}


async def test_what_a_vendor_reports_as_it_goes_is_charged_to_the_token(edge: Edge) -> None:
    """Some servers write what was used so far into every chunk (vLLM for whoever asks): the last one counts, and none are added up."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    asked = {"continuous_usage_stats": True}
    said = [
        event({"choices": [{"index": 0, "delta": {"content": word}}], "usage": usage(11, used)})
        for word, used in (("Wa", 4), ("ter", 9))
    ]
    await (
        tell(rig)
        >> caller_sends(request(chat(stream=True, stream_options=asked)))
        << vendor_gets(stream_options=asked | {"include_usage": True})
        >> vendor_says(sse_head(), piece(said[0]), piece(said[1]))
        << caller_gets_head(200)
        << caller_gets_events(b"".join(said))
        >> caller_leaves()
        << vendor_is_left(within_s=0.1)
        << booked(
            {
                "outcome": "client_left",
                "input_tokens": 11,
                "output_tokens": 9,
                "token_source": "provider",
            }
        )
    )


async def test_a_caller_leaves_in_the_middle_of_its_body(edge: Edge) -> None:
    """Nothing was admitted, nobody was asked."""
    rig = await edge(models={"m": ["sim"]})
    caller = await rig.caller()
    await caller.send(request(chat())[:-5])
    await eventually(lambda: rig.edge.exchanges)
    await caller.leave()
    await eventually(lambda: not rig.edge.exchanges)
    assert await rig.entries() == []


async def test_a_thousand_leave_at_every_moment(edge: Edge) -> None:
    """Callers that leave after any number of milliseconds leak nothing; the rig counts afterwards."""
    rig = await edge(models={"m": ["sim;ttft_ms=10;interval_ms=3;tokens=30"]})

    async def impatient(number: int) -> None:
        caller = await rig.caller()
        await caller.send(request(chat(stream=number % 3 > 0 or None)))
        await asyncio.sleep(number % 97 / 1000)
        await caller.leave()

    for batch in range(5):
        await asyncio.gather(*(impatient(200 * batch + number) for number in range(200)))
    entries = await rig.entries()
    assert {entry.outcome for entry in entries} <= {"client_left", "ok"}
    await rig.mock.quiet()


# Callers that read slowly...


async def test_a_slow_caller_holds_its_vendor_back(edge: Edge) -> None:
    """The gateway buffers its bound and no more, tells the vendor by TCP, and goes on when the caller reads."""
    rig = await edge(models={"m": ["sim;tokens=900;pad=8000"]})
    caller = await rig.caller(small_window=True)
    caller.stop_reading()
    await caller.send(request(chat(stream=True)))
    totals = rig.mock.vendor.books.totals
    await rig.mock.until(lambda books: books.totals.stalled == 1)
    (client,) = rig.edge.server.connections
    assert client.transport is not None
    # One read of the vendor's may be on top of what the buffer holds when it says stop.
    assert client.transport.get_write_buffer_size() <= WRITE_HIGH + 256 * 1024 + 4096
    caller.go_on_reading()
    answer = await caller.answer()
    assert answer.complete
    assert answer.events[-1] == "[DONE]"
    assert len(answer.events) == 903
    assert totals.stalled == 0
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.output_tokens) == ("ok", 900)


async def test_a_slow_caller_is_not_the_vendors_silence(edge: Edge) -> None:
    """While the caller holds the stream back, the idle deadline of the vendor does not run."""
    rig = await edge(models={"m": ["sim;tokens=900;pad=8000"]}, provider={"idle_timeout_s": 0.2})
    caller = await rig.caller(small_window=True)
    caller.stop_reading()
    await caller.send(request(chat(stream=True)))
    await rig.mock.until(lambda books: books.totals.stalled == 1)
    await asyncio.sleep(0.5)
    caller.go_on_reading()
    answer = await caller.answer()
    assert answer.events[-1] == "[DONE]"
    assert await rig.outcomes() == ["ok"]


async def test_a_caller_that_never_reads_is_let_go(edge: Edge) -> None:
    """The total deadline ends the stream, and the connection does not stay for what nobody fetches."""
    rig = await edge(models={"m": ["sim;tokens=900;pad=8000"]}, provider={"total_timeout_s": 0.3})
    rig.edge.server.flush_timeout_s = 0.3
    caller = await rig.caller(small_window=True)
    caller.stop_reading()
    await caller.send(request(chat(stream=True)))
    await rig.mock.until(lambda books: books.totals.stalled == 1)
    assert await rig.outcomes() == ["total_timed_out"]
    await eventually(lambda: not rig.edge.server.connections)


async def test_a_paused_caller_may_leave(edge: Edge) -> None:
    """A connection that is paused hears of the end as well."""
    rig = await edge(models={"m": ["sim;tokens=900;pad=8000"]})
    caller = await rig.caller(small_window=True)
    caller.stop_reading()
    await caller.send(request(chat(stream=True)))
    await rig.mock.until(lambda books: books.totals.stalled == 1)
    await caller.leave()
    await rig.mock.quiet()
    assert await rig.outcomes() == ["client_left"]
