"""
An edge in this process, between callers and vendors that do as they are told.

The store is a real server, the sockets are real, and the clock is the machine's: what is scripted is who says what, and when.
`Rig` starts an edge and, when the test is over, holds it to the laws that have no exception:

- everything that was admitted is settled, once: no lease, nothing in flight, no budget held, and the sums are those of the entries;
- nothing is left behind: no exchange, no stream, no busy connection, no task;
- the caller's key goes to no vendor, the vendor's key to no caller, and neither they nor a prompt into logs, metrics or books.

A `Story` tells an exchange in order: `>>` is what happens, `<<` is what we must do (mitmproxy's idea).
"""

import asyncio
import contextlib
import json
import logging
import shutil
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgpack
from redis.asyncio import Redis

from config.live import publish
from config.loader import load_text
from governance.ledger import Entry, decode
from loadtests import mock
from proxy.app import Edge
from proxy.options import EdgeOptions
from ratelimit.limits import ScopeState, scope_of
from ratelimit.upkeep import read_scope
from tests.conftest import open_strict_budgets

CALLER_KEY = "sk-caller-canary-5b1f0c7e9d3a2468"
VENDOR_KEY = "sk-vendor-canary-90e1d2c3b4a59687"
PROMPT = "prompt-canary-wolpertinger"
VENDOR_KEY_VARIABLE = "TEST_VENDOR_KEY"

PATIENCE_S = 10.0
CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"

# USD per million tokens; in nano-USD per token it is 1000 times as much.
PRICE = {"input": 1, "output": 2}
INPUT_NUSD, OUTPUT_NUSD = 1000, 2000


async def eventually(true: Callable[[], object]) -> None:
    """Give the loop turns until `true()`, for what only the loop can bring about."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - what is waited for has no event to wait on
            await asyncio.sleep(0.001)


# What is asked...


def chat(model: str = "m", **fields: Any) -> bytes:
    """Write the body of a chat call; a field that is None is left out."""
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}]} | fields
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


def message(model: str = "c", **fields: Any) -> bytes:
    """Write the body of a call for a message; a field that is None is left out."""
    body = {
        "model": model,
        "max_tokens": 100,
        "messages": [{"role": "user", "content": PROMPT}],
    } | fields
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


def request(
    body: bytes | None = None,
    *headers: str,
    path: str = CHAT,
    method: str = "POST",
    key: str | None = CALLER_KEY,
    version: str = "1.1",
) -> bytes:
    """Write a whole request."""
    lines = [f"{method} {path} HTTP/{version}", "Host: penstock.test"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    if body is not None:
        if not any(line.lower().startswith("content-type:") for line in headers):
            lines.append("Content-Type: application/json")
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + (body or b"")


def event(document: Any) -> bytes:
    """Write a server-sent event."""
    text = document if isinstance(document, str) else json.dumps(document)
    return f"data: {text}\n\n".encode()


def delta(text: str, finish: str | None = None) -> bytes:
    """Write a chunk of a streamed chat answer."""
    said = {"content": text} if text else {}
    return event({"choices": [{"index": 0, "delta": said, "finish_reason": finish}]})


def usage(prompt: int = 7, completion: int = 3) -> dict[str, int]:
    """Say what a call used."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


DONE = event("[DONE]")


def named(kind: str, **members: Any) -> bytes:
    """Write an event of Anthropic's."""
    return f"event: {kind}\n".encode() + event({"type": kind} | members)


def message_events(*words: str, output: int = 3) -> list[bytes]:
    """Write the events of a message that says these words; it read 2 tokens, 3 from the cache, and wrote 2 there."""
    used = {"input_tokens": 2, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2}
    opening = {
        "id": "msg_1",
        "type": "message",
        "content": [],
        "usage": used | {"output_tokens": 1},
    }
    return [
        named("message_start", message=opening),
        named("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        named("ping"),
        *[
            named("content_block_delta", index=0, delta={"type": "text_delta", "text": word})
            for word in words
        ],
        named("content_block_stop", index=0),
        named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": output}),
        named("message_stop"),
    ]


def at(provider: str = "v", name: str | None = "upstream-m", **said: Any) -> dict[str, Any]:
    """Write a deployment."""
    return {"provider": provider, "name": name} | said


def answer_head(*headers: bytes, status: bytes = b"200 OK") -> bytes:
    """Write the head of a vendor's answer."""
    return b"\r\n".join([b"HTTP/1.1 " + status, *headers, b"", b""])


def sse_head(*headers: bytes) -> bytes:
    """Write the head of a streamed answer in chunks."""
    return answer_head(b"content-type: text/event-stream", b"transfer-encoding: chunked", *headers)


def piece(data: bytes) -> bytes:
    """Frame a piece of a chunked body; the empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def whole(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """Write an answer with its length."""
    length = b"content-length: %d" % len(body)
    return answer_head(b"content-type: application/json", length, *headers, status=status) + body


# What is answered...


@dataclass
class Answer:
    """An answer as a caller reads it; `complete` says whether its framing came to its end."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    complete: bool = False
    interim: list[int] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """Give a header that stands there once; None when it does not."""
        found = [value for known, value in self.headers if known.lower() == name]
        assert len(found) <= 1, f"{name} stands {len(found)} times"
        return found[0] if found else None

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error of the envelope, which has no other members."""
        document = self.json
        assert set(document) == {"error"}, document
        assert set(document["error"]) == {"message", "type", "param", "code"}, document
        return document["error"]

    @property
    def events(self) -> list[str]:
        """The data of the events of a stream; nothing but whole events may be there."""
        assert not self.body or self.body.endswith((b"\n\n", b"\r\n\r\n")), self.body[-80:]
        blocks = self.body.decode().replace("\r\n", "\n").split("\n\n")[:-1]
        return [block.removeprefix("data: ") for block in blocks if block.startswith("data:")]

    @property
    def ends_in_error(self) -> dict[str, Any]:
        """The error of the stream's last event, which no [DONE] follows."""
        events = self.events
        assert "[DONE]" not in events
        document = json.loads(events[-1])
        assert set(document) == {"error"}, document
        return document["error"]


class Caller:
    """A client connection, spoken by hand."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: list[bytes]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._heard = heard

    async def send(self, *pieces: bytes) -> None:
        """Send, each piece by itself."""
        for data in pieces:
            self._writer.write(data)
            await self._writer.drain()

    async def answer(self, *, to: str = "POST") -> Answer:
        """Read one answer to its end, or to where it was cut."""
        async with asyncio.timeout(PATIENCE_S):
            found = await self.head()
            await self._body(found, to)
        return found

    async def head(self) -> Answer:
        """Read the head of an answer; interim ones are noted."""
        interim: list[int] = []
        async with asyncio.timeout(PATIENCE_S):
            while True:
                head = await self._until(b"\r\n\r\n")
                first, *lines = head[:-4].decode("latin-1").split("\r\n")
                status = int(first.split(" ")[1])
                if status >= 200:
                    break
                interim.append(status)
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
        return Answer(status, headers, interim=interim)

    async def chunk(self) -> bytes:
        """Read one chunk of a body, b"" at its end. Raises `IncompleteReadError` where it was cut."""
        async with asyncio.timeout(PATIENCE_S):
            size = int((await self._until(b"\r\n"))[:-2], 16)
            data = await self._exactly(size + 2)
        assert data[-2:] == b"\r\n"
        return data[:-2]

    async def raw(self) -> bytes:
        """Read whatever comes until the close; a reset is one, too."""
        pieces: list[bytes] = []
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                while data := await self._reader.read(65536):
                    pieces.append(data)
                    self._heard.append(data)
        return b"".join(pieces)

    async def closed(self) -> None:
        """See that the gateway closes the connection, and says nothing more."""
        assert await self.raw() == b""

    @property
    def has_answer(self) -> bool:
        """Whether something has come that was not read yet."""
        return bool(self._reader._buffer)  # type: ignore[attr-defined]

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self._writer.write_eof()

    def stop_reading(self) -> None:
        """Let the kernel's buffers fill, as a stalled client does."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def go_on_reading(self) -> None:
        """Read again, through a window of the usual size."""
        theirs: socket.socket = self._writer.get_extra_info("socket")
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]

    async def leave(self) -> None:
        """Close."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _body(self, found: Answer, to: str) -> None:
        length = found.header("content-length")
        coding = found.header("transfer-encoding")
        assert length is None or coding is None
        try:
            if to == "HEAD" or found.status in {204, 304}:
                found.complete = True
            elif length is not None:
                found.body = await self._exactly(int(length))
                found.complete = True
            elif coding == "chunked":
                while data := await self.chunk():
                    found.chunks.append(data)
                    found.body += data
                found.complete = True
            else:
                await self._to_the_close(found)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass

    async def _to_the_close(self, found: Answer) -> None:
        while data := await self._reader.read(65536):
            found.body += data
            self._heard.append(data)
        found.complete = True

    async def _until(self, end: bytes) -> bytes:
        data = await self._reader.readuntil(end)
        self._heard.append(data)
        return data

    async def _exactly(self, size: int) -> bytes:
        data = await self._reader.readexactly(size)
        self._heard.append(data)
        return data


# Who is asked...


@dataclass(frozen=True)
class Asked:
    """A request as a vendor gets it."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Give a header that stands there once; None when it does not."""
        found = [value for known, value in self.headers if known.lower() == name]
        assert len(found) <= 1, f"{name} stands {len(found)} times"
        return found[0] if found else None

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Line:
    """The vendor's end of a connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: list[bytes]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._heard = heard

    async def gets(self) -> Asked:
        """Read one request. Raises `IncompleteReadError` when the gateway hangs up instead."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        line, *lines = head[:-4].decode("latin-1").split("\r\n")
        headers = [(name, value) for name, _, value in (one.partition(": ") for one in lines)]
        asked = Asked(line, headers, b"")
        body = await self._reader.readexactly(int(asked.header("content-length") or 0))
        self._heard += (head, body)
        return Asked(line, headers, body)

    async def says(self, *pieces: bytes) -> None:
        """Send, each piece by itself; a gateway that has hung up does not hear it."""
        with contextlib.suppress(ConnectionError):
            for data in pieces:
                self._writer.write(data)
                await self._writer.drain()

    def closes(self) -> None:
        """Close in good order."""
        self._writer.close()

    def resets(self) -> None:
        """Close by RST."""
        theirs: socket.socket = self._writer.get_extra_info("socket")
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def left(self) -> None:
        """Wait until the gateway has hung up."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(65536):
                pass


Habit = Callable[[Line], Awaitable[None]]


def always(*pieces: bytes) -> Habit:
    """Make a vendor that answers every request in the same way."""

    async def habit(line: Line) -> None:
        while True:
            await line.gets()
            await line.says(*pieces)

    return habit


class Vendor:
    """
    A vendor with a port and no manners of its own.

    Without a `habit` a test takes each connection by `line()`; with one, every connection is handled so.
    """

    def __init__(self) -> None:
        self.habit: Habit | None = None
        self.heard: list[bytes] = []
        self.accepted = 0
        self._lines: asyncio.Queue[Line] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server

    async def start(self) -> Self:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._met, "127.0.0.1", 0, limit=1 << 22)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    @property
    def base_url(self) -> str:
        """Where its API begins."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def line(self) -> Line:
        """Take the next connection."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._lines.get()

    async def stop(self) -> None:
        """Hang up on everybody."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        line = Line(reader, writer, self.heard)
        if self.habit is None:
            self._lines.put_nowait(line)
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.habit(line)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()


# What lies between...


def document(
    models: dict[str, Any],
    providers: dict[str, str | dict[str, Any]],
    *,
    edge: dict[str, Any] | None = None,
    routes: dict[str, Any] | None = None,
    organization: dict[str, Any] | None = None,
    team: dict[str, Any] | None = None,
    key: dict[str, Any] | None = None,
    provider: dict[str, Any] | None = None,
    keys: dict[str, Any] | None = None,
    store: dict[str, Any] | None = None,
    experiments: dict[str, Any] | None = None,
    keeper: str = "",
) -> str:
    """
    Write a configuration.

    A model is a list of upstream names at the provider `mock`, or of deployments, or a whole section;
    a provider is a base URL, or a whole section, `keeper` the one that keeps files; a route is a list of models, or a whole section.
    """

    def model(said: Any) -> dict[str, Any]:
        section = said if isinstance(said, dict) else {"deployments": said}
        placed = [
            {"provider": "mock", "name": one} if isinstance(one, str) else one
            for one in section["deployments"]
        ]
        return {"price": PRICE} | section | {"deployments": placed}

    def vendor(said: str | dict[str, Any]) -> dict[str, Any]:
        common = {
            "protocol": "openai",
            "api_key": f"${{{VENDOR_KEY_VARIABLE}}}",
            "connect_timeout_s": 2,
            "first_byte_timeout_s": 10,
            "idle_timeout_s": 10,
        } | (provider or {})
        return common | ({"base_url": said} if isinstance(said, str) else said)

    helpdesk = {
        "key": CALLER_KEY,
        "application": "desk",
        "business_line": "service",
        "user": "someone",
    }
    return json.dumps(
        {
            "store": store or {},
            "edge": edge or {},
            "providers": {
                name: vendor(said) | ({"files": True} if name == keeper else {})
                for name, said in providers.items()
            },
            "models": {name: model(said) for name, said in models.items()},
            "routes": {
                name: each if isinstance(each, dict) else {"models": each}
                for name, each in (routes or {}).items()
            },
            "experiments": experiments or {},
            "organizations": {
                "acme": (organization or {})
                | {
                    "teams": (organization or {}).get("teams", {})
                    | {
                        "support": (team or {})
                        | {"keys": {"helpdesk": helpdesk | (key or {})} | (keys or {})}
                    }
                }
            },
        }
    )


class _Records(logging.Handler):
    """Everything that anybody logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def text(self) -> str:
        """Give all of it as it would be written, tracebacks included."""
        formatter = logging.Formatter("%(name)s %(levelname)s %(message)s")
        return "\n".join(formatter.format(record) for record in self.records)

    def alarms(self) -> list[str]:
        """Give what calls for an operator, and every word of asyncio's."""
        return [
            f"{record.name}: {record.getMessage()}"
            for record in self.records
            if record.levelno >= logging.ERROR
            or (record.name == "asyncio" and record.levelno >= logging.WARNING)
        ]


class Rig:
    """A running edge with its store, its callers and its vendors."""

    def __init__(self, client: Redis, redis_url: str, folder: Path) -> None:
        self.redis = client
        self.folder = folder
        self.caller_key = CALLER_KEY
        self.heard: list[bytes] = []
        self.vendors: dict[str, Vendor] = {}
        self.said: dict[str, Any] = {}
        self.callers: list[Caller] = []
        self.mock: mock.Mock
        self.edge: Edge
        # Errors that a test brings about on purpose; all others fail it.
        self.expected_alarms = 0
        self._url = redis_url
        self._stack: contextlib.AsyncExitStack
        self._run_dir = Path(tempfile.mkdtemp(prefix="pst-"))
        self._records = _Records()
        self._tasks_before: set[asyncio.Task[Any]] = set()
        self._task: asyncio.Task[int]

    # Life.

    async def start(self, *, scripted: Iterable[str] = (), **said: Any) -> Self:
        """
        Start the vendors, publish a configuration, and start the edge over it.

        There is the mock vendor (`mock` speaks OpenAI's protocol, `messages` Anthropic's), and one `Vendor` for each name of `scripted`, with settings of its own in `vendors`; the rest goes to `document`.
        What cannot start has ended everything that it had begun.
        """
        async with contextlib.AsyncExitStack() as begun:
            await self._start(begun, scripted, said)
            self._stack = begun.pop_all()
        return self

    async def _start(
        self, begun: contextlib.AsyncExitStack, scripted: Iterable[str], said: dict[str, Any]
    ) -> None:
        self._tasks_before = asyncio.all_tasks()
        begun.callback(shutil.rmtree, self._run_dir, ignore_errors=True)
        logging.getLogger().addHandler(self._records)
        begun.callback(logging.getLogger().removeHandler, self._records)
        logging.getLogger("penstock").setLevel(logging.INFO)
        self.mock = await begun.enter_async_context(mock.serve())
        for name in scripted:
            self.vendors[name] = await Vendor().start()
            begun.push_async_callback(self.vendors[name].stop)
        self.said = said
        await self.publish()
        await open_strict_budgets(self.redis)
        loop = asyncio.get_running_loop()
        self.edge = Edge(EdgeOptions(self._url, "127.0.0.1:0", self._run_dir))
        self._task = loop.create_task(self.edge.run())
        begun.push_async_callback(self._cut)
        await eventually(lambda: self.edge.serving or self._task.done())
        if self._task.done():
            self._task.result()

    async def _cut(self) -> None:
        if not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def publish(self, **changed: Any) -> None:
        """Publish the configuration with some of its parts changed; a running edge takes it within 200 ms."""
        said = self.said | changed
        settings_of = said.pop("vendors", {})
        providers = (
            {
                "mock": self.mock.base_url,
                "messages": {"protocol": "anthropic", "base_url": self.mock.url},
            }
            | {
                name: {"base_url": vendor.base_url} | settings_of.get(name, {})
                for name, vendor in self.vendors.items()
            }
            | said.pop("providers", {})
        )
        settings = {"access_log": str(self.folder / "access.log")} | said.pop("edge", {})
        text = document(providers=providers, edge=settings, **said)
        loaded = load_text(text, source="test", environ={VENDOR_KEY_VARIABLE: VENDOR_KEY})
        await publish(self.redis, loaded.document, by="test", why="test", expected=None)

    async def stop(self) -> int:
        """Let the edge drain and end; gives its exit code."""
        self.edge.stop()
        async with asyncio.timeout(PATIENCE_S + 5):
            return await self._task

    async def close(self) -> None:
        """Hold the edge to the laws, and end everything."""
        for caller in self.callers:
            await caller.leave()
        try:
            if not self._task.done():
                # Who has connected and left again may still lie in the queue of the listening socket.
                for _ in range(3):
                    await eventually(lambda: not self.edge.server.connections)
                    await asyncio.sleep(0.005)
                await self.at_rest()
                self._hold_secrets(json.dumps(self.edge.metrics.snapshot("x")))
            assert await self.stop() == 0
            await self._hold_books()
            assert self.edge.pool.open == 0
        finally:
            await self._stack.aclose()
        for name in ("access.log",):
            path = self.folder / name
            self._hold_secrets(path.read_text() if path.exists() else "")
        alarms = self._records.alarms()
        assert len(alarms) == self.expected_alarms, self._records.text()
        await eventually(lambda: not self._left_over())

    def _left_over(self) -> set[asyncio.Task[Any]]:
        ours = asyncio.current_task()
        return {task for task in asyncio.all_tasks() - self._tasks_before if task is not ours}

    # Who takes part.

    async def caller(self, *, small_window: bool = False) -> Caller:
        """Connect; with a `small_window` the kernel holds little of what the caller does not read."""
        theirs = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if small_window:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        theirs.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(theirs, self.edge.address)
        except OSError:
            theirs.close()
            raise
        streams = await asyncio.open_connection(sock=theirs, limit=1 << 26)
        made = Caller(*streams, self.heard)
        self.callers.append(made)
        return made

    async def ask(self, body: bytes | None = None, *headers: str, **said: Any) -> Answer:
        """Send one request on a connection of its own, read the answer, and leave."""
        caller = await self.caller()
        await caller.send(request(body, *headers, **said))
        found = await caller.answer(to=said.get("method", "POST"))
        await caller.leave()
        return found

    # The books.

    async def entries(self) -> list[Entry]:
        """Give the ledger once everything is settled, oldest first."""
        await eventually(lambda: not self.edge.exchanges and not self.edge.gate.unsettled)
        return await self._entries()

    async def _entries(self) -> list[Entry]:
        return [decode(fields[b"e"]) for _, fields in await self.redis.xrange("{c0}:led")]

    async def outcomes(self) -> list[str]:
        """Give the outcomes of all attempts so far."""
        return [entry.outcome for entry in await self.entries()]

    async def scopes(self) -> dict[str, ScopeState]:
        """Give every scope of the store by its key."""
        found: dict[str, ScopeState] = {}
        for pattern in ("{c0}:s:*", "{c0}:d:*"):
            async for key in self.redis.scan_iter(match=pattern):
                state = await read_scope(self.redis, scope_of(key.decode()))
                assert state is not None
                found[key.decode()] = state
        return found

    async def at_rest(self) -> None:
        """See that nothing is under way any more, here or in the store, and that the sums are right."""
        edge = self.edge
        await eventually(
            lambda: (
                not edge.exchanges
                and not edge.streams
                # An admission under way may grant what nobody waits for any more, and is then given back.
                and edge.gate.idle
                and edge.pool.open == edge.pool.idle
                and not edge.pool.wheel.in_flight
            )
        )
        await self._hold_books()

    async def _hold_books(self) -> None:
        for key, state in (await self.scopes()).items():
            assert state.in_flight == 0, f"{key} has {state.in_flight} in flight"
            held = {period: budget.held_nusd for period, budget in state.budgets.items()}
            assert not any(held.values()), f"{key} holds {held}"
        async for key in self.redis.scan_iter(match="{c0}:[lp]:*"):
            kept = await self.redis.hkeys(key)
            assert not kept, f"{key.decode()} still has {kept}"
        entries = await self._entries()
        totals = {
            name.decode(): int(value)
            for name, value in (await self.redis.hgetall("{c0}:tot")).items()
        }
        sums = {
            "entries": len(entries),
            "input_tokens": sum(entry.input_tokens for entry in entries),
            "output_tokens": sum(entry.output_tokens for entry in entries),
            "cost_nusd": sum(entry.cost_nusd for entry in entries),
        }
        assert totals == (sums if entries else {})
        ids = [entry.attempt_id for entry in entries]
        assert len(ids) == len(set(ids)), f"settled twice: {ids}"
        self._hold_secrets(msgpack.packb([vars_of(entry) for entry in entries]).decode("latin-1"))

    def _hold_secrets(self, text: str) -> None:
        """See that neither this text nor any of the partners got to know what is not theirs."""
        text += self._records.text()
        for secret in (CALLER_KEY, VENDOR_KEY, PROMPT):
            assert secret not in text, f"{secret} in {text}"
        to_callers = b"".join(self.heard)
        for secret in (CALLER_KEY, VENDOR_KEY, PROMPT):
            assert secret.encode() not in to_callers
        to_vendors = b"".join(b"".join(vendor.heard) for vendor in self.vendors.values())
        assert CALLER_KEY.encode() not in to_vendors
        assert CALLER_KEY not in json.dumps(self.mock.requests())


def vars_of(entry: Entry) -> dict[str, str | int]:
    """Give an entry's fields."""
    return entry.as_dict()


@contextlib.asynccontextmanager
async def rigs(
    client: Redis, redis_url: str, folder: Path
) -> AsyncIterator[Callable[..., Awaitable[Rig]]]:
    """Give a maker of rigs, and close those that have started."""
    made: list[Rig] = []

    async def make(**said: Any) -> Rig:
        rig = await Rig(client, redis_url, folder).start(**said)
        made.append(rig)
        return rig

    try:
        yield make
    finally:
        for rig in made:
            await rig.close()


# Stories...


Step = Callable[["Stage"], Awaitable[None]]


@dataclass
class Stage:
    """Where a story plays: one caller, and the line of the vendor who is being asked."""

    rig: Rig
    vendor: Vendor
    caller: Caller
    line: Line | None = None
    asked: Asked | None = None
    answer: Answer | None = None
    # Of a streamed body: what has come and was not looked at yet.
    unread: bytes = b""


class Story:
    """A sequence of steps: `>>` what happens, `<<` what we must do. Await it to play it."""

    def __init__(self, rig: Rig, vendor: Vendor) -> None:
        self._rig = rig
        self._vendor = vendor
        self._steps: list[tuple[str, Step]] = []

    def __rshift__(self, step: Step) -> Self:
        self._steps.append((f">> {step.__qualname__.partition('.')[0]}", step))
        return self

    def __lshift__(self, step: Step) -> Self:
        self._steps.append((f"<< {step.__qualname__.partition('.')[0]}", step))
        return self

    def __await__(self) -> Generator[Any, None, Stage]:
        return self._play().__await__()

    async def _play(self) -> Stage:
        stage = Stage(self._rig, self._vendor, await self._rig.caller())
        for number, (name, step) in enumerate(self._steps, 1):
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await step(stage)
            except BaseException as error:
                error.add_note(f"in step {number} of the story: {name}")
                raise
        return stage


def caller_sends(*pieces: bytes) -> Step:
    """Let the caller send bytes."""

    async def step(stage: Stage) -> None:
        await stage.caller.send(*pieces)

    return step


def caller_leaves() -> Step:
    """Let the caller hang up."""

    async def step(stage: Stage) -> None:
        await stage.caller.leave()

    return step


def vendor_gets(**members: Any) -> Step:
    """See that the vendor is asked (on a new line, unless it has one), with these members in the body."""

    async def step(stage: Stage) -> None:
        if stage.line is None:
            stage.line = await stage.vendor.line()
        stage.asked = await stage.line.gets()
        for name, value in members.items():
            assert stage.asked.json.get(name) == value, stage.asked.body

    return step


def vendor_gets_bytes(body: bytes) -> Step:
    """See that the vendor is asked with this very body."""

    async def step(stage: Stage) -> None:
        await vendor_gets()(stage)
        assert stage.asked is not None
        assert stage.asked.body == body

    return step


def vendor_says(*pieces: bytes) -> Step:
    """Let the vendor send bytes."""

    async def step(stage: Stage) -> None:
        assert stage.line is not None
        await stage.line.says(*pieces)

    return step


def vendor_closes() -> Step:
    """Let the vendor close its line in good order."""

    async def step(stage: Stage) -> None:
        assert stage.line is not None
        stage.line.closes()
        stage.line = None

    return step


def vendor_resets() -> Step:
    """Let the vendor reset its line."""

    async def step(stage: Stage) -> None:
        assert stage.line is not None
        stage.line.resets()
        stage.line = None

    return step


def vendor_is_left(within_s: float = 0.1) -> Step:
    """See that the gateway hangs up on the vendor in time."""

    async def step(stage: Stage) -> None:
        assert stage.line is not None
        async with asyncio.timeout(within_s):
            await stage.line.left()
        stage.line = None

    return step


def caller_gets_head(status: int = 200, **headers: str) -> Step:
    """See that the caller gets the head of an answer."""

    async def step(stage: Stage) -> None:
        stage.answer = await stage.caller.head()
        assert stage.answer.status == status
        for name, value in headers.items():
            assert stage.answer.header(name.replace("_", "-")) == value

    return step


def caller_gets_chunk(data: bytes) -> Step:
    """See that the caller gets these very bytes in one chunk."""

    async def step(stage: Stage) -> None:
        assert stage.unread == b""
        assert await stage.caller.chunk() == data

    return step


def caller_gets_events(data: bytes) -> Step:
    """See that the caller gets these very bytes next, in as many chunks as they take."""

    async def step(stage: Stage) -> None:
        while len(stage.unread) < len(data):
            chunk = await stage.caller.chunk()
            assert chunk.endswith(b"\n\n")
            stage.unread += chunk
        assert stage.unread.startswith(data)
        stage.unread = stage.unread[len(data) :]

    return step


def caller_gets_error_event(code: str) -> Step:
    """See that the stream ends in a typed error, and in good framing."""

    async def step(stage: Stage) -> None:
        while data := await stage.caller.chunk():
            stage.unread += data
        error = json.loads(stage.unread.removeprefix(b"data: "))["error"]
        assert (error["type"], error["code"]) == ("upstream_error", code)

    return step


def caller_gets(status: int, code: str | None = None, body: bytes | None = None) -> Step:
    """See that the caller gets a whole answer."""

    async def step(stage: Stage) -> None:
        stage.answer = await stage.caller.answer()
        assert stage.answer.complete
        assert stage.answer.status == status, stage.answer.body
        if code is not None:
            assert stage.answer.error["code"] == code
        if body is not None:
            assert stage.answer.body == body

    return step


def caller_is_left() -> Step:
    """See that the gateway closes the caller's connection, and says nothing more."""

    async def step(stage: Stage) -> None:
        await stage.caller.closed()

    return step


def booked(*expected: dict[str, Any]) -> Step:
    """See that the ledger holds these attempts and no other, with these fields."""

    async def step(stage: Stage) -> None:
        entries = [entry.as_dict() for entry in await stage.rig.entries()]
        found = [
            {name: entry[name] for name in wanted}
            for entry, wanted in zip(entries, expected, strict=True)
        ]
        assert found == list(expected)

    return step


def tell(rig: Rig, vendor: str = "v") -> Story:
    """Begin a story with this scripted vendor."""
    return Story(rig, rig.vendors[vendor])
