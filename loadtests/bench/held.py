"""Streams that stay open: what they cost in memory is measured while this holds them."""

import resource
import socket
from types import TracebackType
from typing import Self

from loadtests.bench.wrk import BenchFailed

_SPARE_FILES = 512


def allow_files(count: int) -> None:
    """Let this process and its future children open so many files, as far as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _SPARE_FILES
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def request(host: str, path: str, body: bytes, key: str) -> bytes:
    """Write a POST as bytes."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class HeldStreams:
    """A context in which so many streams are open, each past its first chunk."""

    def __init__(self, host: str, port: int, wire: bytes, count: int) -> None:
        self._address = (host, port)
        self._wire = wire
        self._count = count
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                self._sockets.append(self._open())
            for one in self._sockets:
                self._await_first_chunk(one)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _open(self) -> socket.socket:
        one = socket.create_connection(self._address, timeout=30)
        one.sendall(self._wire)
        return one

    @staticmethod
    def _await_first_chunk(one: socket.socket) -> None:
        told = b""
        while b"data: {" not in told:
            piece = one.recv(4096)
            if not piece:
                raise BenchFailed(f"a stream ended before its first chunk: {told[:300]!r}")
            told += piece
        if not told.startswith(b"HTTP/1.1 200"):
            raise BenchFailed(f"a stream was refused: {told[:300]!r}")

    def _close(self) -> None:
        while self._sockets:
            self._sockets.pop().close()
