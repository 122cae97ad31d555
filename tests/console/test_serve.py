"""Laws of the control's process: a bad start changes nothing, and the end leaves whole books."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from redis.asyncio import Redis

from config import live
from console.serve import _listening, run
from store.cells import FIRST
from tests.console.patience import eventually

Ledger = Any  # the fixture of this folder's conftest
TOKEN = {"Authorization": "Bearer a-token-of-32-letters-and-digits"}

pytestmark = pytest.mark.usefixtures("nowhere")


class Started:
    """A control role in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    async def get(self, path: str) -> tuple[int, str]:
        """Ask the admin port."""
        async with (
            aiohttp.ClientSession(headers=TOKEN) as session,
            session.get(f"{self.url}{path}") as answer,
        ):
            return answer.status, await answer.text()

    async def is_ready(self) -> bool:
        """Tell whether it says that it is ready."""
        return (await self.get("/health/ready"))[0] == 200


@pytest.fixture
def start(ledger: Ledger, config_file: Path, tmp_path: Path) -> Any:
    """Start the role as the supervisor does."""

    @asynccontextmanager
    async def started(redis_url: str) -> AsyncIterator[Started]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "console", "serve", "--config", str(config_file)),
            *("--listen", "127.0.0.1:0", "--run-dir", str(tmp_path / "run")),
            *("--ledger", ledger.url),
            env={
                **os.environ,
                "REDIS_URL": redis_url,
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        said = b""
        try:
            async with asyncio.timeout(20):
                while not (found := re.search(rb"listens on 127\.0\.0\.1:(\d+)", said)):
                    said = await process.stderr.readline()
                    assert said, "it ended at once"
            yield Started(process, f"http://127.0.0.1:{found[1].decode()}")
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    return started


async def test_a_control_from_its_start_to_its_end(
    start: Any, ledger: Ledger, redis_url: str
) -> None:
    """It publishes, seeds, drains, answers; on SIGTERM it drains the rest and ends with 0."""
    async with start(redis_url) as role, asyncio.timeout(30):
        await eventually(role.is_ready)
        version = await live.current(ledger.redis)
        assert version is not None
        assert version.number == 1
        assert "sk-penstock" not in version.document
        said = await live.acknowledgements(ledger.redis)
        assert [(ack.number, ack.error) for ack in said.values()] == [(1, None)]
        assert await ledger.redis.hget("{c0}:s:org:acme", "l2") is not None
        await ledger.append("a.1", cost_nusd=7, model="demo")
        assert (await eventually(lambda: entered(role)))["rows"][0]["cost_nusd"] == 7
        status, page = await role.get("/metrics")
        assert status == 200
        assert "penstock_ledger_entries_total 1.0" in page
        assert 'penstock_config_acknowledged_version{replica="' in page
        assert 'penstock_chore_leading{chore="ledger"} 1.0' in page
        role.process.send_signal(signal.SIGSTOP)
        await ledger.append("late.1", cost_nusd=5)
        role.process.send_signal(signal.SIGTERM)
        role.process.send_signal(signal.SIGCONT)
        assert await role.process.wait() == 0
    assert await ledger.redis.xlen(FIRST.ledger) == 0
    assert await live.acknowledgements(ledger.redis) == {}
    assert not await ledger.redis.keys("{c0}:lead:*")


async def test_what_ran_may_refer_to_variables_that_are_gone(
    start: Any, ledger: Ledger, redis_url: str
) -> None:
    """The file that a control starts with takes the place of it."""
    gone = 'providers: {p: {protocol: openai, base_url: "http://h", api_key: "${GONE}"}}'
    await live.publish(ledger.redis, gone, by="ann", why="before", expected=0)
    async with start(redis_url) as role, asyncio.timeout(30):
        await eventually(role.is_ready)
        version = await live.current(ledger.redis)
        assert version is not None
        assert version.number == 2
        assert "GONE" not in version.document


async def entered(role: Started) -> Any:
    """Ask for usage until there is some."""
    async with aiohttp.ClientSession(headers=TOKEN) as session:
        async with session.get(f"{role.url}/v1/usage?since=2026-11-01") as answer:
            said = await answer.json()
        return said if said["rows"] else None


async def test_a_store_that_comes_late_is_waited_for(
    start: Any, make_redis: Callable[..., Any]
) -> None:
    """Live at once, ready when the store is there, and not ready while it is gone again."""
    server = make_redis()
    server.stop()
    async with start(server.url) as role, asyncio.timeout(40):
        assert (await role.get("/health/live"))[0] == 200
        status, why = await role.get("/health/ready")
        assert status == 503
        assert "not published yet" in why
        server.start()
        await eventually(role.is_ready)
        server.stop()
        status, why = await role.get("/health/ready")
        assert (status, "does not answer" in why) == (503, True)
        assert (await role.get("/metrics"))[0] == 200
        role.process.terminate()
        assert await role.process.wait() == 0


# A start that is refused...


def refused(capsys: pytest.CaptureFixture, *argv: str) -> tuple[int, str]:
    """Run the role, which must not start; return its exit code and what it said."""
    code = run(argv)
    said = capsys.readouterr()
    assert not said.out
    return code, said.err


@pytest.fixture
def bad_config(tmp_path: Path) -> Path:
    """Write a configuration with two mistakes."""
    path = tmp_path / "bad.yaml"
    path.write_text("providers: {x: {protocl: openai}}\nroutes: {auto: {models: [nope]}}\n")
    return path


async def test_a_bad_configuration_changes_nothing(
    redis_client: Redis, redis_url: str, bad_config: Path, capsys: pytest.CaptureFixture
) -> None:
    """Every mistake is printed, the exit code is 2, and the store was not touched."""
    argv = ("--config", str(bad_config), "--redis", redis_url)
    code, said = await asyncio.to_thread(refused, capsys, *argv)
    assert code == 2
    assert "protocl" in said
    assert "nope" in said
    assert "Nothing was changed." in said
    assert await redis_client.keys("*") == []


@pytest.mark.parametrize(
    ("change", "argv", "words"),
    [
        ("admin: {listen: 0.0.0.0:0}", (), "without a token"),
        ("admin: {listen: 127.0.0.1:0}", ("--listen", "[::]:0"), "admin.token is not set"),
        ("", ("--listen", "nonsense"), "--listen 'nonsense': end it with a port"),
        ("", ("--redis", "http://x"), "expected redis://"),
        ("", ("--ledger", "mysql:x"), "expected sqlite:PATH"),
    ],
)
def test_a_start_that_cannot_be_right_is_refused(
    change: str,
    argv: tuple[str, ...],
    words: str,
    config_file: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    """An open port without a token, and command lines that nobody can mean: exit code 2."""
    if change:
        text = config_file.read_text()
        config_file.write_text(re.sub(r"^admin: .*$", change, text, flags=re.MULTILINE))
    code, said = refused(capsys, "--config", str(config_file), *argv)
    assert (code, words in said) == (2, True), said


def test_a_port_that_is_taken_is_said(
    config_file: Path, ledger_url: str, redis_url: str, capsys: pytest.CaptureFixture
) -> None:
    """Exit code 1, and which port."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = f"127.0.0.1:{other.getsockname()[1]}"
        code, said = refused(
            capsys,
            *("--config", str(config_file), "--listen", where),
            *("--ledger", ledger_url, "--redis", redis_url),
        )
    assert code == 1
    assert where in said


@pytest.fixture
def ledger_url(tmp_path: Path) -> str:
    return f"sqlite:{tmp_path / 'other.db'}"


async def test_what_is_no_request_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """A header that cannot be read may hold the token."""
    async with _listening(web.Application(), "127.0.0.1", 0) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nauthorization: Bearer canary\x01\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
        writer.close()
        await writer.wait_closed()
    assert "canary" not in caplog.text
