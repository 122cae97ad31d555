"""
Scripted peers for whoever speaks to a store: a server that answers as it is told, and a pipe that fails on purpose.

Both listen on a unix socket of their own, so that no port is taken.
"""

import asyncio
import contextlib
import shutil
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import hiredis

from store.target import Address

# Of the keys of our cell.
SLOT = 10282

Answer = Callable[[list[bytes]], bytes | Awaitable[bytes]]


class _Listener:
    """A unix socket (or a port of 127.0.0.1) and the tasks of its connections."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pst-"))
        self.path = self.folder / "s"
        self.connections = 0
        # New connections are broken at once while it is shut.
        self.shut = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._closed = False
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        """The address, as the lane takes it."""
        return f"unix://{self.path}"

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._accept, self.path)

    async def start_port(self, context: ssl.SSLContext | None = None) -> int:
        """Listen on a port of this machine, with TLS where there is a context. Returns the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=context)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed or self.shut:
            writer.transport.abort()
            return
        self.connections += 1
        self._writers.append(writer)
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.serve(reader, writer)
        except OSError:
            pass
        finally:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk on one connection."""
        raise AssertionError("a peer says how it serves")

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def close(self) -> None:
        """Stop listening, break what is open."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        shutil.rmtree(self.folder, ignore_errors=True)


class FakeRedis(_Listener):
    """Answers each command with the bytes that `answer` gives; keeps what it was asked."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer
        self.asked: list[list[bytes]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read commands, write answers; empty bytes break the connection."""
        commands = hiredis.Reader()
        while data := await reader.read(65536):
            commands.feed(data)
            while (command := commands.gets()) is not False:
                self.asked.append(command)
                answer: Any = self.answer(command)
                if not isinstance(answer, bytes):
                    answer = await answer
                if not answer:
                    writer.transport.abort()
                    return
                writer.write(answer)


class Scripted(FakeRedis):
    """A Sentinel or a node: answers by the first words of a command, PONG to everything else."""

    def __init__(self, **answers: Any) -> None:
        super().__init__(self.say)
        self.answers = answers
        self.begun = asyncio.Event()

    @property
    def at(self) -> Address:
        """Where it listens."""
        return Address(str(self.path), 0)

    def knows(self, primary: Address, epoch: int = 1) -> None:
        """Be a Sentinel that names a primary."""
        # As one does that leads a failover: the primary of before, and the new epoch.
        said = ["name", "main", "ip", "/before", "port", "0", "config-epoch", str(epoch)]
        self.answers["SENTINEL"] = {
            b"MASTER": said,
            b"GET-MASTER-ADDR-BY-NAME": [primary.host, str(primary.port)],
        }

    def maps(self, owner: "Scripted | None", *nodes: "Scripted") -> None:
        """Be a node that names the owner of our slot, and of the other slots, the others."""
        rows: list[Any] = (
            [[0, SLOT - 1, *([one.at.host, 0, "id"] for one in nodes)]] if nodes else []
        )
        if owner is not None:
            rows.append([SLOT, 16383, [owner.at.host, 0, "id"]])
        self.answers["CLUSTER"] = rows

    async def say(self, command: list[bytes]) -> bytes:
        """Answer one command; an event as an answer keeps everybody waiting for it."""
        self.begun.set()
        answer = self.answers.get(command[0].decode(), "PONG")
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            answer = self.answers[command[0].decode()]
        if isinstance(answer, dict):
            answer = answer[command[1]]
        return answer if isinstance(answer, bytes) else resp(answer)

    def was_asked(self, word: bytes) -> int:
        """Count the commands that begin with a word."""
        return sum(command[0] == word for command in self.asked)


class Pipe(_Listener):
    """
    Stands between a client and a real server, and fails as it is told.

    `cut_up_after` and `cut_down_after` are how many more bytes pass towards the server and back before the connection breaks.
    """

    def __init__(self, target: Path) -> None:
        super().__init__()
        self._target = target
        self.cut_up_after: int | None = None
        self.cut_down_after: int | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._once = False
        self._roads: list[tuple[asyncio.Event, asyncio.StreamWriter]] = []

    def hold(self) -> None:
        """Let nothing through towards the client."""
        self._open.clear()

    def release(self, *, once: bool = False) -> None:
        """Let everything through again, or the next answer only."""
        self._once = once
        self._open.set()

    def delay(self) -> None:
        """Keep what is sent on the connections of now, as a bad network does: nothing is lost, it comes later."""
        for road, _ in self._roads:
            road.clear()

    def lose_clients(self) -> None:
        """Break the connections of now towards the client; what was delayed is still under way."""
        for _, writer in self._roads:
            writer.transport.abort()

    def deliver(self) -> None:
        """Let arrive what was delayed."""
        for road, _ in self._roads:
            road.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry bytes both ways until one side ends or it is time to break."""
        up_reader, up_writer = await asyncio.open_unix_connection(self._target)
        self._writers.append(up_writer)
        road = asyncio.Event()
        road.set()
        self._roads.append((road, writer))

        async def up() -> None:
            while data := await reader.read(65536):
                await road.wait()
                if self.cut_up_after is not None:
                    data, self.cut_up_after = self._part(data, self.cut_up_after)
                up_writer.write(data)
                if self.cut_up_after == 0:
                    self.cut_up_after = None
                    await up_writer.drain()
                    break

        async def down() -> None:
            while data := await up_reader.read(65536):
                await self._open.wait()
                if self._once:
                    self._once = False
                    self._open.clear()
                if self.cut_down_after is not None:
                    data, self.cut_down_after = self._part(data, self.cut_down_after)
                writer.write(data)
                if self.cut_down_after == 0:
                    self.cut_down_after = None
                    await writer.drain()
                    break

        tasks = [asyncio.ensure_future(up()), asyncio.ensure_future(down())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            up_writer.transport.abort()

    @staticmethod
    def _part(data: bytes, left: int) -> tuple[bytes, int]:
        return data[:left], max(left - len(data), 0)


def resp(value: Any) -> bytes:
    """Encode an answer: a list, a text, bytes, an integer, None, or an error as an exception."""
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(resp, value))
    if isinstance(value, Exception):
        return b"-%s\r\n" % str(value).encode()
    if isinstance(value, int):
        return b":%d\r\n" % value
    if value is None:
        return b"$-1\r\n"
    data = value.encode() if isinstance(value, str) else value
    return b"$%d\r\n%s\r\n" % (len(data), data)


@contextlib.contextmanager
def gathered_errors(loop: asyncio.AbstractEventLoop) -> Iterator[list[dict[str, Any]]]:
    """Collect what the loop's exception handler is told."""
    told: list[dict[str, Any]] = []
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: told.append(context))
    yield told
    loop.set_exception_handler(before)
