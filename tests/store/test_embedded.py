"""
The embedded store, on real servers: the one from the wheel and, where it is installed, Debian's redis-server.

The laws: what was acknowledged survives a restart, two servers never share data, and nothing is left behind.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis.asyncio

from store import embedded, places
from store.parent import ParentPipe

SERVERS = [
    path for path in (embedded.carried_server(), shutil.which("redis-server")) if path is not None
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's tmp_path, which may be too long for a socket; with a space, as a checkout may have."""
    with tempfile.TemporaryDirectory(prefix="pst e") as made:
        yield Path(made)


@pytest.fixture(params=SERVERS, ids=lambda path: Path(path).name)
def server(request: pytest.FixtureRequest) -> embedded.Server:
    version = embedded.version_of(request.param)
    assert version is not None
    assert version[:2] >= embedded.OLDEST
    return embedded.Server(request.param, version)


@pytest.fixture
async def store(folder: Path, server: embedded.Server) -> AsyncIterator[embedded.EmbeddedStore]:
    made = embedded.EmbeddedStore(server, folder / "s.sock", folder / "data", folder / "store.log")
    await made.start()
    yield made
    await made.stop()


def client(folder: Path) -> redis.asyncio.Redis:
    return redis.asyncio.Redis(unix_socket_path=str(folder / "s.sock"), decode_responses=True)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# Which server...


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_the_carried_server_comes_first_then_valkey_then_redis_on_path(tmp_path: Path) -> None:
    """The order of the documentation is the order that is tried."""
    carried = script(tmp_path / "carried", "echo Valkey server v=9.1.2 sha=0")
    environ = {"PATH": str(tmp_path)}
    script(tmp_path / "redis-server", "echo Redis server v=7.0.15 sha=0")
    assert embedded.find_server(environ, lambda: carried).version == (9, 1, 2)
    assert embedded.find_server(environ, lambda: None).version == (7, 0, 15)
    script(tmp_path / "valkey-server", "echo Valkey server v=8.1.0 sha=0")
    assert str(embedded.find_server(environ, lambda: None)) == "valkey-server 8.1.0"


def test_a_server_that_is_too_old_or_does_not_run_is_passed_over_and_named(tmp_path: Path) -> None:
    """Version 6 lacks commands that the scripts use; the error lists what was tried."""
    script(tmp_path / "valkey-server", "exit 1")
    script(tmp_path / "redis-server", "echo Redis server v=6.2.14 sha=0")
    with pytest.raises(embedded.StoreFailed) as caught:
        embedded.find_server({"PATH": str(tmp_path)}, lambda: None)
    said = str(caught.value)
    assert "valkey-server does not run" in said
    assert "redis-server is version 6.2.14" in said
    assert "REDIS_URL" in said


def test_the_wheel_carries_a_server_for_this_machine() -> None:
    """A machine with Python alone has a store."""
    assert embedded.find_server({"PATH": ""}).version[:2] >= embedded.OLDEST


# Running it...


async def test_what_was_written_is_there_after_a_stop_and_after_a_kill(
    folder: Path, server: embedded.Server
) -> None:
    """SIGTERM keeps everything; SIGKILL keeps everything that the last fsync saw."""
    store = embedded.EmbeddedStore(server, folder / "s.sock", folder / "data", folder / "log")
    await store.start()
    async with client(folder) as ours:
        await ours.set("a", "1")
    assert await store.stop() == 0
    assert not store.socket.exists()
    await store.start()
    async with client(folder) as ours:
        assert await ours.get("a") == "1"
        await ours.set("b", "2")
        await ours.execute_command("WAITAOF", 1, 0, 5000) if server.version >= (7, 2) else None
    os.kill(store.pid, signal.SIGKILL)
    assert await store.ended() == -signal.SIGKILL
    assert store.socket.exists(), "a killed server leaves its socket behind"
    await store.start()
    async with client(folder) as ours:
        assert await ours.mget("a", "b") == ["1", "2"]
    await store.stop()


async def test_it_keeps_an_append_only_file_never_evicts_and_listens_on_no_port(
    store: embedded.EmbeddedStore, folder: Path
) -> None:
    """The settings that the ledger's promises stand on."""
    async with client(folder) as ours:
        settings = await ours.config_get("append*", "maxmemory-policy", "port", "unixsocketperm")
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["port"] == "0"
    assert store.socket.stat().st_mode & 0o077 == 0


async def test_either_server_reads_what_the_other_wrote(folder: Path) -> None:
    """Installing or removing a server on PATH must not lock an operator out of the data."""
    for turn, path in enumerate([*SERVERS, *SERVERS]):
        version = embedded.version_of(path)
        assert version is not None
        store = embedded.EmbeddedStore(
            embedded.Server(path, version), folder / "s.sock", folder / "data", folder / "log"
        )
        await store.start()
        async with client(folder) as ours:
            assert await ours.incr("turns") == turn + 1
            await ours.bgrewriteaof()
        await store.stop()


async def test_a_second_server_on_the_same_data_is_refused_with_the_pid_of_the_first(
    store: embedded.EmbeddedStore, folder: Path
) -> None:
    """Two servers appending to one file would destroy it; the words say whom to stop."""
    second = embedded.EmbeddedStore(store.server, folder / "t.sock", store.data)
    with pytest.raises(embedded.StoreFailed, match=f"in use by another server .pid {store.pid}."):
        await second.start()
    async with client(folder) as ours:
        assert await ours.ping()


async def test_a_successor_ends_the_server_that_was_left_behind(
    store: embedded.EmbeddedStore, folder: Path
) -> None:
    """Where the kernel cannot tie a server to its keeper's life, the keeper's successor ends it."""
    successor = embedded.EmbeddedStore(store.server, folder / "s.sock", store.data, store.log)
    await successor.start(inherit=True)
    assert await store.ended() == 0
    async with client(folder) as ours:
        assert await ours.ping()
    await successor.stop()


async def test_a_server_that_cannot_start_is_reported_with_its_last_words(
    folder: Path, server: embedded.Server
) -> None:
    """A damaged append-only file: the operator reads the server's own reason, not a timeout."""
    data = folder / "data" / "appendonlydir"
    data.mkdir(parents=True)
    (data / "appendonly.aof.manifest").write_text("this is no manifest\n")
    store = embedded.EmbeddedStore(server, folder / "s.sock", folder / "data", folder / "log")
    with pytest.raises(embedded.StoreFailed, match=r"ended at once[^|]*\n  \| .*"):
        await store.start()


def test_a_socket_path_that_the_kernel_would_cut_is_refused(tmp_path: Path) -> None:
    """A clear error instead of a bind that fails with EINVAL."""
    with pytest.raises(embedded.StoreFailed, match="longer than"):
        embedded.EmbeddedStore(
            embedded.Server("redis-server", (7, 0, 15)), tmp_path / ("x" * 100), tmp_path
        )


# In the foreground...


async def foreground(
    folder: Path, *options: str, pipe: ParentPipe | None = None
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "store.embedded", "--socket", str(folder / "s.sock")),
        *("--data", str(folder / "data"), "--log", str(folder / "log"), *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=places.CHECKOUT,
        env={**os.environ, **(pipe.environment() if pipe else {})},
        pass_fds=(pipe.read_fd,) if pipe else (),
    )


async def ready(process: asyncio.subprocess.Process) -> int:
    """Wait for the line that says it is ready and return the server's pid."""
    assert process.stdout is not None
    words = (await process.stdout.readline()).decode().split(" pid ")
    assert words[0].startswith("ready unix://")
    return int(words[1].split()[0])


async def exit_code(process: asyncio.subprocess.Process) -> int | None:
    """Wait until it is gone and its pipes are read."""
    await process.communicate()
    return process.returncode


async def gone(pid: int) -> None:
    async with asyncio.timeout(20):
        while alive(pid):  # noqa: ASYNC110  (not our child: the kernel tells its parent only)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_in_the_foreground_it_ends_with_its_server_on_a_signal(
    folder: Path, number: signal.Signals
) -> None:
    """One line when it is ready, exit code 0 when it was told to end, and no server left."""
    process = await foreground(folder)
    server = await ready(process)
    process.send_signal(number)
    assert await exit_code(process) == 0
    assert not alive(server)


async def test_it_fails_when_its_server_dies(folder: Path) -> None:
    """Whoever supervises it sees the death and may start it again."""
    process = await foreground(folder)
    os.kill(await ready(process), signal.SIGKILL)
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"killed by SIGKILL" in said


async def test_a_killed_keeper_takes_its_server_along(folder: Path) -> None:
    """`kill -9` of the process that keeps the server leaves no server behind, or a successor ends it."""
    process = await foreground(folder)
    server = await ready(process)
    process.kill()
    await exit_code(process)
    if sys.platform == "linux":
        await gone(server)
    successor = await foreground(folder, "--inherit")
    assert await ready(successor) != server
    await gone(server)
    successor.terminate()
    assert await exit_code(successor) == 0


async def test_when_the_parent_is_gone_the_store_leaves_after_its_clients(folder: Path) -> None:
    """Edges that drain after a dead supervisor still settle into the store."""
    pipe = ParentPipe()
    process = await foreground(folder, pipe=pipe)
    server = await ready(process)
    async with client(folder) as ours:
        await ours.ping()
        pipe.close()
        for count in range(20):
            assert await ours.incr("settled") == count + 1
            await asyncio.sleep(0.01)
        assert process.returncode is None
    assert await exit_code(process) == 0
    assert not alive(server)


async def test_a_client_that_never_leaves_is_not_waited_for_longer_than_told(folder: Path) -> None:
    """`--linger` bounds how long an orphaned store stays."""
    pipe = ParentPipe()
    process = await foreground(folder, "--linger", "0.2", pipe=pipe)
    await ready(process)
    async with client(folder) as ours:
        await ours.ping()
        pipe.close()
        assert await exit_code(process) == 0


async def test_in_the_foreground_a_refusal_is_words_and_exit_code_1(
    store: embedded.EmbeddedStore, folder: Path
) -> None:
    """No traceback for a mistake that an operator can make."""
    process = await foreground(folder)
    _, said = await process.communicate()
    assert process.returncode == 1
    assert f"pid {store.pid}" in said.decode()
    assert b"Traceback" not in said


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit code 0"), (3, "exit code 3"), (-9, "killed by SIGKILL"), (-250, "signal 250")],
)
def test_an_ending_is_said_in_words(code: int, words: str) -> None:
    """Signals have names where they have any."""
    assert words in embedded.ending(code)
