"""
The answer to one request, read as its bytes arrive (RFC 9112): no socket, no clock.

`feed` takes whatever the socket gave and hands out the part of the body that became readable by it, so that whoever holds the clock knows when.
Every reader of load-test tools that hides bytes until a block is full lies about the first token; this one hides nothing.
"""

import re

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?")
_LENGTH = re.compile(r"[0-9]{1,19}")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]+")
_MOST_HEAD = 256 * 1024


class BadAnswer(Exception):
    """What came is no HTTP/1.1 response, or ended before its end; the message says which."""


class Answer:
    """
    One response.

    `status` and `headers` (names in lower case) are there once `started`; `complete` says that the body is whole,
    and `keep_alive` that the connection can be used again.
    """

    __slots__ = ("_buffer", "_left", "_step", "complete", "headers", "keep_alive", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self.keep_alive = False
        self._buffer = bytearray()
        self._step = "head"
        self._left = 0

    @property
    def started(self) -> bool:
        """Whether the final head was read."""
        return self._step != "head"

    def feed(self, data: bytes) -> bytes:
        """Take bytes; give the bytes of body that they made readable. Raises `BadAnswer`."""
        if self._step == "close":
            return data
        if self._step == "length" and len(data) < self._left:
            self._left -= len(data)
            return data
        self._buffer += data
        body = bytearray()
        while self._advance(body):
            pass
        return bytes(body)

    def end(self) -> None:
        """Take the end of the connection. Raises `BadAnswer` unless it is the answer's end, too."""
        if self._step == "close":
            self.complete = True
        if not self.complete:
            where = "in its middle" if self.started else "before its head"
            raise BadAnswer(f"the connection closed {where}")

    def _advance(self, body: bytearray) -> bool:
        if self._step == "head":
            return self._read_head()
        if self._step == "size":
            return self._read_size()
        if self._step == "trailers":
            return self._read_trailers()
        if self._step == "done" or not self._buffer:
            return False
        if self._step == "close":
            body += self._buffer
            self._buffer.clear()
            return False
        took = min(self._left, len(self._buffer))
        if self._step == "gap":
            # The two bytes after a chunk's data.
            del self._buffer[:took]
            self._left -= took
            if not self._left:
                self._step = "size"
            return bool(self._buffer)
        body += self._buffer[:took]
        del self._buffer[:took]
        self._left -= took
        if self._left:
            return False
        if self._step == "length":
            self._finish()
        else:
            self._step, self._left = "gap", 2
        return bool(self._buffer)

    def _read_head(self) -> bool:
        until = self._buffer.find(b"\r\n\r\n")
        if until < 0:
            if len(self._buffer) > _MOST_HEAD:
                raise BadAnswer("its head has no end")
            return False
        first, *lines = bytes(self._buffer[:until]).split(b"\r\n")
        del self._buffer[: until + 4]
        found = _STATUS_LINE.fullmatch(first)
        if found is None:
            raise BadAnswer(f"it begins with {first[:60]!r}, which is no HTTP/1.1")
        status = int(found[1])
        if 100 <= status < 200:
            return bool(self._buffer)
        self.status = status
        for line in lines:
            name, _, value = line.partition(b":")
            self.headers[name.decode("latin-1").strip().lower()] = value.decode("latin-1").strip()
        self._begin_body(http_1_0=first.startswith(b"HTTP/1.0"))
        return True

    def _begin_body(self, *, http_1_0: bool) -> None:
        connection = self.headers.get("connection", "").lower()
        self.keep_alive = "close" not in connection and (not http_1_0 or "keep-alive" in connection)
        length = self.headers.get("content-length")
        if self.status in {204, 304}:
            self._finish()
        elif "chunked" in self.headers.get("transfer-encoding", "").lower():
            self._step = "size"
        elif length is not None:
            if _LENGTH.fullmatch(length) is None:
                raise BadAnswer(f"content-length {length[:40]!r} is no number")
            self._step, self._left = "length", int(length)
            if not self._left:
                self._finish()
        else:
            self._step, self.keep_alive = "close", False

    def _read_size(self) -> bool:
        until = self._buffer.find(b"\r\n")
        if until < 0:
            return False
        text = bytes(self._buffer[:until]).partition(b";")[0].strip()
        del self._buffer[: until + 2]
        if _CHUNK_SIZE.fullmatch(text) is None:
            raise BadAnswer(f"chunk size {text[:40]!r} is no number")
        self._left = int(text, 16)
        self._step = "chunk" if self._left else "trailers"
        return True

    def _read_trailers(self) -> bool:
        until = self._buffer.find(b"\r\n")
        if until < 0:
            return False
        del self._buffer[: until + 2]
        if until == 0:
            self._finish()
        return until != 0

    def _finish(self) -> None:
        self._step, self.complete = "done", True
        if self._buffer:
            # Nobody asked for more, so what follows cannot be attributed to anything.
            self.keep_alive = False
