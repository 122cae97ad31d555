"""Raw connections to a mock vendor: requests as bytes, and their answers."""

import asyncio
import contextlib
import json

ASK = [{"role": "user", "content": "Tell me about the gate."}]


def request(body, path="/v1/chat/completions", extra="", *, length=None):
    """Write a request as bytes; `body` is a document or bytes."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    size = len(payload) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nhost: mock\r\ncontent-length: {size}\r\n{extra}\r\n"
    return head.encode() + payload


def chat(model, **more):
    return {"model": model, "messages": ASK, **more}


class Line:
    """A raw connection to a mock: bytes out, answers in."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    def send(self, wire):
        self.writer.write(wire)

    async def answer(self):
        """Read one answer framed by length; gives status, headers and body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(status.split()[1]), headers, body

    def leave(self):
        """Go away without a word."""
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def line_to(mock):
    host, port = mock.url.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Line(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
