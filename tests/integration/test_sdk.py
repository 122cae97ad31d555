"""
The official openai client, sync and async, against an edge as it runs: a process of its own over a real store, with the mock vendor as another.

What the client was given, what the vendor says that it served and what the ledger says that it cost must agree, to the token.
"""

import asyncio
import json
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from redis.asyncio import Redis

from loadtests.mock import words
from tests.integration.processes import (
    CLAUDES,
    HELLO,
    KEY,
    MODELS,
    Books,
    Gateway,
    running,
    wait_until,
)

Call = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, gateway: Gateway) -> Call:
    """Give a way to call a method of the client, by its dotted name; a stream is read to its end."""

    def options(said: dict[str, Any]) -> dict[str, Any]:
        return {"base_url": f"{gateway.url}/v1", "api_key": KEY, "max_retries": 0} | said

    def in_sync(name: str, client: dict[str, Any] | None = None, **said: Any) -> Any:
        with openai.OpenAI(**options(client or {})) as theirs:
            answer = attrgetter(name)(theirs)(**said)
            return list(answer) if said.get("stream") else answer

    def in_async(name: str, client: dict[str, Any] | None = None, **said: Any) -> Any:
        async def ask() -> Any:
            async with openai.AsyncOpenAI(**options(client or {})) as theirs:
                answer = await attrgetter(name)(theirs)(**said)
                return [chunk async for chunk in answer] if said.get("stream") else answer

        return asyncio.run(ask())

    return in_sync if request.param == "sync" else in_async


CREATE = "chat.completions.create"


def test_chat(call: Call, books: Books) -> None:
    """The usage that the client sees is what is booked."""
    answer = call(CREATE, model="plain", messages=[HELLO], user="somebody")
    assert answer.choices[0].finish_reason == "stop"
    (entry,) = books.agree(1)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        entry.input_tokens,
        entry.output_tokens,
    )
    assert (entry.cached_tokens, entry.reasoning_tokens) == (3, 2)
    assert (entry.user, entry.team, entry.outcome) == ("somebody", "support", "ok")


def test_a_stream(call: Call, books: Books) -> None:
    """Nobody asked for usage: the client sees none, and the books have it all the same."""
    chunks = call(CREATE, model="plain", messages=[HELLO], stream=True)
    assert all(chunk.choices for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert sum(bool(chunk.choices[0].delta.content) for chunk in chunks) == 24
    (entry,) = books.agree(1)
    assert (entry.stream, entry.output_tokens, entry.token_source) == (1, 26, "provider")


def test_a_stream_with_usage(call: Call, books: Books) -> None:
    """Who asks for usage gets it, in a last chunk."""
    chunks = call(
        CREATE,
        model="plain",
        messages=[HELLO],
        stream=True,
        stream_options={"include_usage": True},
    )
    assert chunks[-1].choices == []
    (entry,) = books.agree(1)
    assert chunks[-1].usage.completion_tokens == entry.output_tokens


def test_a_paced_stream_comes_as_it_is_made(gateway: Gateway, books: Books) -> None:
    """The first chunk is there long before the last one is made."""
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY) as client:
        arrivals = [
            time.monotonic()
            for _ in client.chat.completions.create(model="paced", messages=[HELLO], stream=True)
        ]
    assert arrivals[-1] - arrivals[0] > 0.1
    (entry,) = books.agree(1)
    assert entry.ttft_us < 100_000
    assert entry.duration_us > 145_000


def test_usage_that_is_not_reported(call: Call, books: Books) -> None:
    """Counted by us: a token for each chunk."""
    call(CREATE, model="silent", messages=[HELLO], stream=True)
    (entry,) = books.entries(1)
    assert (entry.output_tokens, entry.token_source) == (40, "estimated")


def test_tools(call: Call, books: Books) -> None:
    """The pieces of the arguments make a whole."""
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {}}}]
    chunks = call(CREATE, model="tools", messages=[HELLO], tools=tools, stream=True)
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert calls[0].function.name == "get_weather"
    assert json.loads("".join(call.function.arguments for call in calls))["city"] == "Reykjavik"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    whole = call(CREATE, model="tools", messages=[HELLO], tools=tools)
    assert json.loads(whole.choices[0].message.tool_calls[0].function.arguments)["days"] == 3
    books.agree(2)


def test_a_model_of_the_other_protocol(call: Call, books: Books) -> None:
    """Whole, as a stream with usage, and with tools: the client cannot tell, and both books agree."""
    whole = call(CREATE, model="claude", messages=[HELLO])
    assert whole.choices[0].message.content == words.say(24)
    assert (whole.choices[0].finish_reason, whole.usage.completion_tokens) == ("stop", 26)
    assert whole.usage.prompt_tokens_details.cached_tokens == 3
    options = {"include_usage": True}
    chunks = call(CREATE, model="claude", messages=[HELLO], stream=True, stream_options=options)
    text = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(text) == words.say(24)
    assert chunks[-1].usage.completion_tokens == 26
    tools: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": {}}}]
    called = call(CREATE, model="claude-tools", messages=[HELLO], tools=tools)
    assert json.loads(called.choices[0].message.tool_calls[0].function.arguments)["days"] == 3
    call(CREATE, model="claude-tools", messages=[HELLO], tools=tools, stream=True)
    entries = books.agree(4)
    assert {entry.protocol for entry in entries} == {"openai.chat"}
    assert {entry.provider for entry in entries} == {"messages"}


def test_responses(call: Call, books: Books) -> None:
    """Whole and streamed: what the client is told of usage is what is booked."""
    whole = call("responses.create", model="plain", input="Say something.")
    assert (whole.status, whole.output_text) == ("completed", words.say(24))
    events = call("responses.create", model="plain", input="Say something.", stream=True)
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage.output_tokens == 26
    entries = books.agree(2)
    assert {entry.protocol for entry in entries} == {"openai.responses"}
    assert {(entry.cached_tokens, entry.reasoning_tokens) for entry in entries} == {(3, 2)}
    with pytest.raises(openai.BadRequestError) as behind:
        call("responses.create", model="plain", input="x", background=True)
    assert behind.value.param == "background"


def test_responses_of_the_other_protocol(call: Call, books: Books) -> None:
    """Translated both ways; what only OpenAI could go on from cannot be said."""
    whole = call("responses.create", model="claude", input="Say something.")
    assert (whole.status, whole.output_text) == ("completed", words.say(24))
    assert whole.usage.input_tokens_details.cached_tokens == 3
    events = call("responses.create", model="claude", input="Say something.", stream=True)
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage.output_tokens == 26
    books.agree(2)
    with pytest.raises(openai.BadRequestError) as kept:
        call("responses.create", model="claude", input="x", previous_response_id="resp_1")
    assert (kept.value.code, kept.value.param) == ("cannot_express", "previous_response_id")


def test_embeddings(call: Call, books: Books) -> None:
    """The client asks for base64 by itself, and may ask for numbers."""
    by_itself = call("embeddings.create", model="vectors", input=["a", "b", "c"])
    assert [len(one.embedding) for one in by_itself.data] == [16, 16, 16]
    numbers = call("embeddings.create", model="vectors", input="a", encoding_format="float")
    assert numbers.data[0].embedding == pytest.approx(by_itself.data[0].embedding)
    large = call("embeddings.create", model="vectors", input=["x"] * 300, dimensions=1024)
    assert len(large.data) == 300
    entries = books.agree(3)
    assert {entry.output_tokens for entry in entries} == {0}


def test_completions_of_the_old_kind(call: Call, books: Books) -> None:
    """As a document and as a stream."""
    whole = call("completions.create", model="plain", prompt="Once upon a time")
    assert whole.choices[0].text
    chunks = call("completions.create", model="plain", prompt=["a", "b"], stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks)
    entries = books.agree(2)
    assert {entry.protocol for entry in entries} == {"openai.completions"}


def test_models(call: Call, books: Books) -> None:
    """Listed and retrieved; it costs nothing."""
    names = [model.id for model in call("models.list").data]
    assert names == [*MODELS, *CLAUDES, "auto"]
    assert call("models.retrieve", model="auto").owned_by == "penstock"
    with pytest.raises(openai.NotFoundError):
        call("models.retrieve", model="gpt-7")
    books.agree(0)


def test_errors_are_the_clients_own(call: Call, books: Books) -> None:
    """With code, parameter and request id, for whoever catches them."""
    with pytest.raises(openai.NotFoundError) as missing:
        call(CREATE, model="gpt-7", messages=[HELLO])
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    assert (missing.value.request_id or "").startswith("req_")
    with pytest.raises(openai.AuthenticationError):
        call(CREATE, {"api_key": "sk-nobody-knows-this"}, model="plain", messages=[HELLO])
    with pytest.raises(openai.BadRequestError) as bad:
        call(CREATE, model="plain", messages=[HELLO], max_tokens=0)
    assert bad.value.param == "max_tokens"
    with pytest.raises(openai.InternalServerError) as down:
        call(CREATE, model="down", messages=[HELLO])
    assert down.value.status_code == 503
    (entry,) = books.agree(1)
    assert (entry.outcome, entry.cost_nusd) == ("upstream_refused", 0)


def test_a_retry_of_the_clients(call: Call, books: Books) -> None:
    """A vendor's 429 becomes ours, with its time; the client waits and comes back, and is served."""
    began = time.monotonic()
    answer = call(CREATE, {"max_retries": 2}, model="moody", messages=[HELLO])
    assert answer.usage.completion_tokens == 5
    assert 0.5 < time.monotonic() - began < 3
    refused, served = books.agree(2)
    assert (refused.outcome, served.outcome) == ("rate_limited", "ok")
    assert refused.request_id != served.request_id


def test_a_timeout_of_the_clients(call: Call, books: Books) -> None:
    """It hangs up, and so do we: the vendor is left, the input is charged."""
    with pytest.raises(openai.APITimeoutError):
        call(CREATE, {"timeout": 0.7}, model="late", messages=[HELLO])
    (entry,) = books.entries(1)
    assert (entry.outcome, entry.output_tokens) == ("client_left", 0)
    assert entry.duration_us < 1_500_000


def test_a_stream_that_is_left(gateway: Gateway, books: Books) -> None:
    """What was streamed is charged, within the chunks that were on their way."""
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY) as client,
        client.chat.completions.create(model="endless", messages=[HELLO], stream=True) as stream,
    ):
        for number, _ in enumerate(stream):
            if number == 20:
                break
    (entry,) = books.entries(1)
    assert (entry.outcome, entry.token_source) == ("client_left", "estimated")
    served = gateway.vendor_books()["served"][0]
    assert served["outcome"] == "client_left"
    assert 19 <= entry.output_tokens <= served["completion_tokens"] + 1
    assert served["completion_tokens"] < 60


def test_many_at_once(gateway: Gateway, books: Books) -> None:
    """A hundred and fifty calls of every kind from one client, and every token of them in both books."""

    async def ask(client: openai.AsyncOpenAI, number: int) -> None:
        model = ("plain", "paced", "tools", "auto")[number % 4]
        answer = await client.chat.completions.create(
            model=model, messages=[HELLO], stream=number % 2 == 0
        )
        if number % 2 == 0:
            assert [chunk async for chunk in answer]

    async def all_of_them() -> None:
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY) as client:
            await asyncio.gather(*(ask(client, number) for number in range(150)))

    asyncio.run(all_of_them())
    entries = books.agree(150)
    assert {entry.outcome for entry in entries} == {"ok"}


# The end of a process...


class Readers:
    """Threads that read streams of an endless model until they break."""

    def __init__(self, gateway: Gateway, count: int) -> None:
        self.ended: list[str] = []
        self.chunks = 0
        self._gateway = gateway
        self._threads = [threading.Thread(target=self._read) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        options = {"base_url": f"{self._gateway.url}/v1", "api_key": KEY, "max_retries": 0}
        with openai.OpenAI(**options) as client:  # type: ignore[arg-type]
            try:
                stream = client.chat.completions.create(
                    model="endless", messages=[HELLO], stream=True
                )
                for _ in stream:
                    self.chunks += 1
                self.ended.append("complete")
            except openai.APIError as error:
                self.ended.append(error.code or type(error).__name__)
            except httpx2.TransportError as error:
                self.ended.append(type(error).__name__)

    def join(self) -> list[str]:
        """Wait for all of them; gives how each ended."""
        for thread in self._threads:
            thread.join(20)
        return self.ended


def test_a_killed_edge_leaks_nothing(own: Gateway) -> None:
    """
    `kill -9` under load: the reaper frees every lease, charges what was reported, and the sums still agree.

    No caller takes the cut for an end.
    """
    gateway, books = own, Books(own)
    readers = Readers(gateway, 12)
    wait_until(lambda: gateway.vendor_books()["totals"]["in_flight"] == 12, "12 streams")
    # Progress is reported every two seconds.
    progress = "{c0}:p:*"

    async def reported(client: Redis) -> int:
        return sum([await client.hlen(key) async for key in client.scan_iter(match=progress)])

    wait_until(lambda: gateway.ask_store(reported) == 12, "progress of 12 streams")
    gateway.edge.kill()
    gateway.edge.wait(10)
    ended = readers.join()
    assert len(ended) == 12
    assert "complete" not in ended
    assert gateway.in_flight() > 0

    # That the edge is dead is told by its witness.
    wait_until(gateway.reaped, "the end of what a dead edge held")
    entries = books.entries(12)
    assert {entry.outcome for entry in entries} == {"reaped"}
    assert all(0 < entry.output_tokens <= 4000 for entry in entries)
    assert all(entry.team == "support" and entry.deployment == "endless/mock" for entry in entries)
    served = gateway.vendor_books()["totals"]
    assert served["calls"] == 12
    assert sum(entry.output_tokens for entry in entries) <= served["completion_tokens"] + 12
    totals = gateway.ask_store(lambda client: client.hgetall("{c0}:tot"))
    everything = gateway.entries()
    assert int(totals[b"entries"]) == len(everything)
    assert int(totals[b"cost_nusd"]) == sum(entry.cost_nusd for entry in everything)
    gateway.edge = gateway.start_edge()
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY) as client:
        client.chat.completions.create(model="plain", messages=[HELLO])
    books.entries(13)


def test_a_told_edge_drains_and_a_second_word_hurries_it(own: Gateway) -> None:
    """Streams go on after the first SIGTERM; after the second each ends with a typed error, and is settled."""
    gateway, books = own, Books(own)
    readers = Readers(gateway, 3)
    wait_until(lambda: gateway.vendor_books()["totals"]["in_flight"] == 3, "3 streams")
    gateway.edge.send_signal(signal.SIGTERM)
    wait_until(lambda: not gateway.takes_connections(), "the drain to begin")
    before = readers.chunks
    wait_until(lambda: readers.chunks > before + 9, "the streams to go on")
    assert gateway.edge.poll() is None
    assert readers.ended == []
    gateway.edge.send_signal(signal.SIGTERM)
    assert gateway.edge.wait(3) == 0
    assert readers.join() == ["drained"] * 3
    assert {entry.outcome for entry in books.entries(3)} == {"drained"}


# Memory...

STALLED = 1000
# As docs/operations.md says: what a stream may hold of an answer that its caller does not fetch.
BOUND_BYTES = 64 * 1024 + 256 * 1024


class Hose(asyncio.Protocol):
    """A vendor that answers any request with a stream that has no end."""

    EVENT = (
        b"data: " + json.dumps({"choices": [{"delta": {"content": "x" * 4000}}]}).encode() + b"\n\n"
    )
    PIECE = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
    HEAD = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )

    def __init__(self, paused: set["Hose"]) -> None:
        self._paused = paused
        self._transport: asyncio.Transport
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._begun:
            self._begun = True
            self._transport.write(self.HEAD)
            self._pour()

    def pause_writing(self) -> None:
        self._paused.add(self)

    def resume_writing(self) -> None:
        self._paused.discard(self)
        asyncio.get_running_loop().call_soon(self._pour)

    def connection_lost(self, exc: Exception | None) -> None:
        self._paused.discard(self)

    def _pour(self) -> None:
        while self not in self._paused and not self._transport.is_closing():
            self._transport.write(self.PIECE)


def resident(pid: int) -> int:
    """Read how much memory a process holds, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in text.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


def test_a_thousand_that_do_not_read(make_redis: Callable[..., Any]) -> None:
    """Callers that ask for streams and never read them cost a bounded amount each, and nobody else is held up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listening:
        # Of what is in flight the kernel holds a part; what is looked at here is the edge's own.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
        with running(make_redis().url, listening.getsockname()[1]) as gateway:
            books = Books(gateway)
            growth = asyncio.run(_stall(gateway, listening))
            assert 0 < growth < STALLED * BOUND_BYTES
            entries = books.entries(STALLED + 1)
            assert sum(entry.outcome == "client_left" for entry in entries) == STALLED
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _stall(gateway: Gateway, listening: socket.socket) -> int:
    """Stall callers, ask a good question meanwhile, and give by how much the edge grew."""
    loop = asyncio.get_running_loop()
    paused: set[Hose] = set()
    server = await loop.create_server(lambda: Hose(paused), sock=listening)
    body = json.dumps({"model": "hose", "messages": [HELLO], "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
    wire = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    before = resident(gateway.edge.pid)
    callers: list[socket.socket] = []
    try:
        for _ in range(STALLED):
            caller = socket.socket()
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.setblocking(False)
            callers.append(caller)
            await loop.sock_connect(caller, ("127.0.0.1", gateway.port))
            await loop.sock_sendall(caller, wire)
        async with asyncio.timeout(40):
            while len(paused) < STALLED:  # noqa: ASYNC110 - it is the other process that we wait for
                await asyncio.sleep(0.05)
        # All of them stand; somebody who reads is served as ever.
        async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY) as client:
            await client.chat.completions.create(model="plain", messages=[HELLO])
        return resident(gateway.edge.pid) - before
    finally:
        for caller in callers:
            caller.close()
        server.close()
        async with asyncio.timeout(20):
            while paused:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
