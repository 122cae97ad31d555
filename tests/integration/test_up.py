"""
A whole installation, as people start it: `python -m proxy up` with a store, a control and edges, against the mock vendor.

The laws: it comes up and serves; what dies is replaced; what was promised to a caller is kept while it goes down; and nothing is left behind.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from loadtests.mock.server import Mock, serve
from proxy.__main__ import main
from store.places import CHECKOUT
from tests.integration.processes import pid_of, processes_of

KEY = "integration-test-key"
EDGE = ["edge", "--listen", "127.0.0.1:0", "--run-dir", "x"]
CONFIG = """
edge: {{listen: "127.0.0.1:0", workers: 2, access_log: "off", drain_timeout_s: 20,
  liveness_timeout_s: 8}}
admin: {{listen: "127.0.0.1:0"}}
providers: {{mock: {{protocol: openai, base_url: "{vendor}"}}}}
models:
  plain: {{price: {{input: 1, output: 2}}, deployments: [{{provider: mock, name: "m;tokens=20"}}]}}
  paced: {{price: {{input: 1, output: 2}}, deployments: [{{provider: mock, name: "m;tokens=60;interval_ms=20"}}]}}
  slow: {{price: {{input: 1, output: 2}}, deployments: [{{provider: mock, name: "m;tokens=200;interval_ms=50"}}]}}
organizations:
  acme: {{teams: {{one: {{
    budget: {{usd: 10, per: day, mode: strict}},
    keys: {{k: {{key: {key}, limits: {{rpm: 6000, tpm: 1000000, concurrency: 50}}}}}}}}}}}}
"""


class Up:
    """A running installation: its process, what it said, and where it is."""

    def __init__(self, var: Path, process: asyncio.subprocess.Process) -> None:
        self.var = var
        self.process = process
        self.said = ""
        self.data_url = ""
        self.admin_url = ""

    async def until_said(self, words: str) -> None:
        """Read what it says until these words (a regular expression) have come."""
        assert self.process.stderr is not None
        async with asyncio.timeout(40):
            while not re.search(words, self.said):
                line = await self.process.stderr.readline()
                assert line, f"it ended before it said {words!r}:\n{self.said}"
                self.said += line.decode()

    async def ended(self) -> int:
        """Wait for its end and return its exit code."""
        async with asyncio.timeout(40):
            _, rest = await self.process.communicate()
        self.said += rest.decode()
        assert self.process.returncode is not None
        return self.process.returncode

    def client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.data_url}/v1", api_key=KEY, max_retries=0)

    async def admin(self, path: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(self.admin_url + path) as answer:
            return await answer.json()

    async def entries(self, request_id: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until an exchange has its entries, and return them."""
        async with asyncio.timeout(30):
            while True:
                found = (await self.admin(f"/v1/exchanges/{request_id}")).get("entries", [])
                if len(found) >= count:
                    return list(found)
                await asyncio.sleep(0.05)


async def until(condition: Callable[[], bool], within_s: float = 30) -> None:
    """Wait for something that announces nothing."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.fixture
def var() -> Iterator[Path]:
    """Short enough for sockets, and gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="pst-up-") as made:
        yield Path(made) / "var"


@pytest.fixture
async def vendor() -> AsyncIterator[Mock]:
    async with serve() as mock:
        yield mock


async def proxy(var: Path, *arguments: str) -> asyncio.subprocess.Process:
    # As on a fresh machine: no store, and no key secret, which the start makes.
    fresh = {"REDIS_URL", "PENSTOCK_KEY_SECRET"}
    environ = {name: value for name, value in os.environ.items() if name not in fresh}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=CHECKOUT,
        env={**environ, "PENSTOCK_VAR": str(var), "NO_COLOR": "1"},
    )


def written(var: Path, name: str, text: str) -> Path:
    var.mkdir(parents=True, exist_ok=True)
    (var / name).write_text(text)
    return var / name


def config_for(vendor: Mock, var: Path) -> Path:
    return written(var, "penstock.yaml", CONFIG.format(vendor=vendor.base_url, key=KEY))


async def started(config: Path) -> Up:
    """Start an installation in the folder of its configuration."""
    up = Up(config.parent, await proxy(config.parent, "up", "--config", str(config)))
    await up.until_said(r"  logs ")
    for name in ("data", "admin"):
        found = re.search(rf"  {name} +(http://\S+)", up.said)
        assert found
        setattr(up, f"{name}_url", found[1])
    return up


@pytest.fixture
async def up(var: Path, vendor: Mock) -> AsyncIterator[Up]:
    """Start an installation, and see that its end leaves nothing behind."""
    made = await started(config_for(vendor, var))
    yield made
    if made.process.returncode is None:
        made.process.terminate()
        await made.ended()
    await until(lambda: not processes_of(var))


async def ask(client: openai.AsyncOpenAI, model: str) -> Any:
    return await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Hello"}], stream=True
    )


async def stream(up: Up, model: str = "plain") -> tuple[str, str]:
    """Stream a completion to its end; return its request id and its text."""
    async with up.client() as client:
        chunks = await ask(client, model)
        text = [chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices]
        return chunks.response.headers["x-request-id"], "".join(text)


async def test_it_serves_and_its_books_agree_with_the_vendors(up: Up, vendor: Mock) -> None:
    """One streamed call, from the official SDK to the ledger, to the token."""
    request_id, text = await stream(up)
    assert text.startswith("Water comes down")
    (entry,) = await up.entries(request_id)
    (served,) = vendor.books()["served"]
    assert entry["outcome"] == "ok"
    assert entry["input_tokens"] == served["prompt_tokens"]
    assert entry["output_tokens"] == served["completion_tokens"] == 20
    assert entry["cost_nusd"] == served["prompt_tokens"] * 1000 + 20 * 2000
    assert entry["key"] == "acme/one/k"


async def test_a_killed_and_a_stopped_edge_are_replaced_and_their_leases_reaped(up: Up) -> None:
    """One dies, one only stops answering: a new one comes for each, it serves, and nothing stays held."""
    async with up.client() as client:
        streams = [await ask(client, "slow") for _ in range(6)]
        for number, word in ((0, signal.SIGKILL), (1, signal.SIGSTOP)):
            os.kill(pid_of(up.var, f"proxy edge --worker {number}"), word)
        await up.until_said("edge-0 is back")
        assert "edge-0 ended (killed by SIGKILL)" in up.said
        await up.until_said("edge-1 is back")
        assert re.search(r"edge-1 runs .* but has answered nobody for 8 s, and is killed", up.said)
        await stream(up)
        ids = [one.response.headers["x-request-id"] for one in streams]
        entries = [(await up.entries(one))[0] for one in ids]
        assert {entry["outcome"] for entry in entries} == {"reaped"}
        for one in streams:
            # A cut connection, never an answer that seems to be complete.
            with pytest.raises(openai.APIConnectionError):
                async for _ in one:
                    pass


async def test_a_killed_store_comes_back_with_what_it_knew(up: Up) -> None:
    """The append-only file holds the budget's state; callers are refused for a moment, and never let through unchecked."""
    first, _ = await stream(up)
    await up.entries(first)
    os.kill(pid_of(up.var, "valkey-server unixsocket:"), signal.SIGKILL)
    await up.until_said("store is back")
    async with asyncio.timeout(20):
        while True:
            try:
                second, _ = await stream(up)
                break
            except openai.APIStatusError as error:
                assert error.status_code == 503  # noqa: PT017
    await up.entries(second)
    assert len(await up.entries(first)) == 1


async def test_sigterm_lets_a_running_stream_finish(up: Up) -> None:
    """Not a token is lost, new calls are not taken, and the exit code says that all went well."""
    async with up.client() as client:
        chunks = await ask(client, "paced")
        text = []
        async for chunk in chunks:
            if chunk.choices:
                text.append(chunk.choices[0].delta.content or "")
            if len(text) == 3:
                up.process.terminate()
                await up.until_said("waiting up to")
                with pytest.raises(openai.APIConnectionError):
                    await ask(client, "plain")
        assert len("".join(text).split()) == 60
    assert await up.ended() == 0
    assert "killed" not in up.said
    assert not processes_of(up.var)


async def test_a_second_signal_does_not_wait_for_streams(up: Up) -> None:
    """Ctrl-C twice: over within seconds, whatever is open."""
    async with up.client() as client:
        chunks = await ask(client, "slow")
        await anext(aiter(chunks))
        up.process.send_signal(signal.SIGINT)
        await up.until_said("waiting up to")
        up.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(8):
            await up.ended()
        await chunks.close()
    assert not processes_of(up.var)


async def test_a_killed_supervisor_leaves_nobody_behind(up: Up) -> None:
    """`kill -9` of the one process that watches over all others."""
    assert len(processes_of(up.var)) >= 6
    up.process.kill()
    await up.ended()
    await until(lambda: not processes_of(up.var))


async def test_a_second_installation_on_the_same_directory_is_refused(up: Up, vendor: Mock) -> None:
    """With the pid of the first, exit code 1, and the first one unharmed."""
    second = Up(up.var, await proxy(up.var, "up", "--config", str(config_for(vendor, up.var))))
    assert await second.ended() == 1
    assert f"already runs on {up.var} (pid {up.process.pid})" in second.said
    await stream(up)


async def test_a_configuration_with_mistakes_starts_nothing(var: Path) -> None:
    """All mistakes at once, with their places, and exit code 2."""
    file = written(var, "bad.yaml", "edge: {lisen: 1}\nroutes: {auto: {models: [none]}}\n")
    bad = Up(var, await proxy(var, "up", "--config", str(file)))
    assert await bad.ended() == 2
    assert "bad.yaml:1: edge.lisen: unknown field; did you mean 'listen'?" in bad.said
    assert "bad.yaml:2: routes.auto" in bad.said
    assert "Nothing was started." in bad.said
    assert not (var / "store").exists()


async def test_the_demo_shows_a_governed_completion_and_ends(var: Path) -> None:
    """`./penstock demo --once`: the answer, what it cost, who served it and why, and exit code 0."""
    process = await proxy(var, "demo", "--once", "--port", "0", "--admin-port", "0")
    async with asyncio.timeout(60):
        out, errors = await process.communicate()
    said = out.decode()
    assert process.returncode == 0, said + errors.decode()
    assert "Water comes down from the lake" in said
    assert re.search(r"it cost +\$0\.000", said)
    assert re.search(r"served by +river/south", said)
    assert "river/north answered 503 before its first byte" in said
    assert re.search(r"gateway added +\d+\.\d\d ms", said)
    assert re.search(r"left this day +\$4\.99\d+ of \$5\.00", said)
    assert "\x1b" not in said
    assert not processes_of(var / "demo")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["up", "--wrokers", "2"], "penstock up: error: unrecognized arguments: --wrokers 2"),
        (["demo", "--onc"], "penstock demo: error: unrecognized arguments: --onc"),
        (["up", "--workers", "0"], "penstock up: error: argument --workers: '0' is not a number"),
        ([*EDGE, "--worker", "-5"], "--worker: '-5' is not a number from 0 to 65535"),
        ([*EDGE, "--metrics", "here"], "--metrics: 'here': end it with a port, as in"),
        ([*EDGE, "--listen", "127.0.0.1:99999"], "--listen: '127.0.0.1:99999': end it with"),
        ([*EDGE, "--listen", ":80"], "write 0.0.0.0:80 or [::]:80"),
    ],
)
def test_a_mistyped_option_is_told_with_its_verbs_usage(
    capsys: pytest.CaptureFixture[str], typed: list[str], told: str
) -> None:
    """Exit code 2, nothing starts, and an option is never guessed from its beginning."""
    with pytest.raises(SystemExit) as ended:
        main(typed)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert told in error
    assert f"usage: penstock {typed[0]} " in error


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        (["--redis", "ftp://x"], 2, "found ftp://"),
        (["--redis", "redis://127.0.0.1:1", "--run-dir", "/proc/x"], 1, "cannot serve: "),
    ],
)
async def test_an_edge_that_cannot_serve_says_why(
    var: Path, more: list[str], code: int, told: str
) -> None:
    """In a line, without a stack."""
    (var / "journal").mkdir(parents=True)
    (var / "key-secret").write_text("of-this-test-alone-" * 3)
    (var / "key-secret").chmod(0o600)
    process = await proxy(var, *EDGE, *more)
    async with asyncio.timeout(60):
        _, said = await process.communicate()
    assert process.returncode == code
    assert told in said.decode()
    assert "Traceback" not in said.decode()


async def test_one_edge_alone_says_what_it_lacks() -> None:
    """A role that a cluster deploys by itself is told where the store is, or says so."""
    environ = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "edge", "--listen", "127.0.0.1:0", "--run-dir", "x"),
        stderr=subprocess.PIPE,
        cwd=CHECKOUT,
        env=environ,
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"--redis URL, or set REDIS_URL" in said


async def test_health_is_asked_of_the_edges_that_run_here(up: Up) -> None:
    """What a container's health check calls; without a ready edge it fails and says so."""
    healthy = await proxy(up.var, "healthy")
    await healthy.communicate()
    assert healthy.returncode == 0
    up.process.terminate()
    await up.ended()
    gone = await proxy(up.var, "healthy")
    _, said = await gone.communicate()
    assert gone.returncode == 1
    assert said, "it says which edge does not answer, or that none is there"


async def test_what_was_spent_goes_along_when_tenants_are_spread_over_cells(
    up: Up, vendor: Mock
) -> None:
    """An end in good order, another file, a start: the team lies in the second cell, and its strict budget knows all."""
    first, _ = await stream(up)
    (entry,) = await up.entries(first)
    up.process.terminate()
    assert await up.ended() == 0
    text = CONFIG.format(vendor=vendor.base_url, key=KEY).replace(
        "acme: {teams", "acme: {cell: 1, teams"
    )
    spread = await started(written(up.var, "penstock.yaml", text + "store: {cells: 2}\n"))
    try:
        second, _ = await stream(spread)
        (later,) = await spread.entries(second)
        found = await spread.admin("/v1/quotas/team:acme/one")
        spent = entry["cost_nusd"] + later["cost_nusd"]
        assert found["budgets"][0]["spent_usd"] == f"{spent / 10**9:.9f}"
    finally:
        spread.process.terminate()
        assert await spread.ended() == 0
