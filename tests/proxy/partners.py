"""
Callers and vendors, spoken by hand over real sockets: what they say as bytes, and what they hear.

Neither has manners of its own: a test says what goes over the line, and when.
"""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

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
INPUT_NUSD = 1000
OUTPUT_NUSD = 2000


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


def completion(text: str = "hi", finish: str = "stop") -> bytes:
    """Write a whole answer of OpenAI's chat completions."""
    choice = {"index": 0, "message": {"content": text}, "finish_reason": finish}
    return json.dumps({"id": "chatcmpl-1", "choices": [choice], "usage": usage()}).encode()


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


class _Message:
    """What an answer and a request have in common."""

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


@dataclass
class Answer(_Message):
    """An answer as a caller reads it; `complete` says whether its framing came to its end."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    complete: bool = False
    interim: list[int] = field(default_factory=list)

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
class Asked(_Message):
    """A request as a vendor gets it."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes


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


def once(*pieces: bytes, hangs: bool = False) -> Habit:
    """Make a vendor that says so much on each connection and hangs up, or waits until it is left."""

    async def habit(line: Line) -> None:
        await line.gets()
        await line.says(*pieces)
        if hangs:
            await line.left()

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
