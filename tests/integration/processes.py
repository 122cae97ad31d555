"""
An edge as it runs, for tests with real clients: a process of its own over a real store, with the mock vendor as another.

What a client was given, what the vendor says that it served and what the ledger says that it cost must agree, to the token.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from redis.asyncio import Redis

from config.live import publish_file
from config.loader import load_text
from governance.ledger import Entry, decode
from ratelimit.limits import scope_of
from ratelimit.upkeep import read_scope, reap
from store.places import CHECKOUT
from tests.conftest import open_strict_budgets

KEY = "sk-integration-0123456789"
VENDOR_KEY = "sk-vendor-canary-0123456789"
PRICE = {"input": 1, "output": 2}
HELLO = {"role": "user", "content": "Say something."}
MODELS = {
    "plain": "sim;tokens=24;cached=3;reasoning=2",
    "paced": "sim;tokens=30;interval_ms=5",
    "endless": "sim;tokens=4000;interval_ms=10",
    "late": "sim;ttft_ms=3000",
    "tools": "sim;tools=1;tokens=16",
    "silent": "sim;tokens=40;usage=off",
    "vectors": "sim-embedding;dim=16",
    "moody": "sim;status=429;retry_after=1;times=1;tokens=5",
    "down": "sim;status=503",
}
# The same vendor, who speaks Anthropic's protocol as well.
CLAUDES = {
    "claude": "sim;tokens=24;cached=3;cache_write=5;reasoning=2",
    "claude-paced": "sim;tokens=30;interval_ms=5",
    "claude-endless": "sim;tokens=4000;interval_ms=10",
    "claude-tools": "sim;tools=1;tokens=16",
    "claude-moody": "sim;status=429;retry_after=1;times=1;tokens=5",
    "claude-down": "sim;status=503",
    "claude-cut": "sim;tokens=40;error=mid",
    "claude-lost": "sim;tokens=40;cut=3000",
}


def wait_until(so: Callable[[], object], why: str, *, seconds: float = 20) -> None:
    """Wait for another process."""
    give_up = time.monotonic() + seconds
    while not so():
        if time.monotonic() > give_up:
            pytest.fail(f"waited in vain: {why}")
        time.sleep(0.01)


def processes_of(var: Path) -> dict[int, str]:
    """
    Return every process of an installation: pid and command line.

    They are known by the directory in their environment, or (a server that overwrote its own) in their title.
    """
    found = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                environ = (process / "environ").read_bytes().split(b"\0")
                # One that has ended and waits for its parent has no command line any more.
                if command and (f"PENSTOCK_VAR={var}".encode() in environ or str(var) in command):
                    found[int(process.name)] = command
    return found


def pid_of(var: Path, words: str) -> int:
    """Return the one process whose command line holds these words."""
    found = [pid for pid, command in processes_of(var).items() if words in command]
    assert len(found) == 1, processes_of(var)
    return found[0]


class Gateway:
    """An edge and a mock vendor as processes, over a store of their own."""

    def __init__(
        self,
        redis_url: str,
        folder: Path,
        hose: int | None = None,
        experiments: dict[str, Any] | None = None,
    ) -> None:
        self.redis_url = redis_url
        self.hose = hose
        self.experiments = experiments or {}
        self.folder = folder
        self.log = folder / "edge.log"
        self.processes: list[subprocess.Popen[bytes]] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        with contextlib.ExitStack() as begun:
            # What has begun ends, too, when the rest cannot.
            begun.callback(self.close)
            self.begin()
            begun.pop_all()

    # The processes.

    def begin(self) -> None:
        """Start all of them."""
        self.vendor_url = self._start_vendor()
        asyncio.run(self._publish())
        self.edge = self.start_edge()

    def start(self, *command: str, out: Any) -> subprocess.Popen[bytes]:
        """Start a program in the checkout; it is ended with the others."""
        process = subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env=os.environ
            | {"PENSTOCK_VAR": str(self.folder / "var"), "INTEGRATION_KEY": VENDOR_KEY},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        self.processes.append(process)
        return process

    def _run(self, *arguments: str, out: Any) -> subprocess.Popen[bytes]:
        return self.start(sys.executable, "-m", *arguments, out=out)

    def _start_vendor(self) -> str:
        vendor = self._run("loadtests.mock", "--listen", "127.0.0.1:0", out=subprocess.PIPE)
        assert vendor.stdout is not None
        return vendor.stdout.readline().decode().split()[-1]

    def start_edge(self) -> subprocess.Popen[bytes]:
        """Start the edge, and return when it is ready."""
        with self.log.open("ab") as out:
            edge = self._run(
                *("proxy", "edge", "--redis", self.redis_url),
                *("--listen", f"127.0.0.1:{self.port}", "--run-dir", str(self.folder)),
                out=out,
            )

        def ready() -> bool:
            assert edge.poll() is None, self.log.read_text()
            with contextlib.suppress(httpx2.TransportError):
                return httpx2.get(f"{self.url}/health/ready").status_code == 200
            return False

        wait_until(ready, "the edge is not ready")
        return edge

    def start_control(self) -> str:
        """Start the control role over what is published, with a ledger of its own; gives the ledger's file."""
        config = self.folder / "penstock.yaml"
        ledger = self.folder / "ledger.db"
        with (self.folder / "control.log").open("ab") as out:
            self._run(
                *("console", "serve", "--redis", self.redis_url, "--config", str(config)),
                *("--listen", "127.0.0.1:0", "--run-dir", str(self.folder)),
                *("--ledger", f"sqlite:{ledger}"),
                out=out,
            )
        wait_until(ledger.exists, "the control has no ledger", seconds=60)
        return str(ledger)

    def document(self) -> dict[str, Any]:
        """Write the configuration: one organization with one key, models of the mock vendor's in two protocols."""
        document: dict[str, Any] = {
            "edge": {"access_log": str(self.folder / "access.log"), "drain_timeout_s": 5},
            "providers": {
                "mock": {
                    "protocol": "openai",
                    "base_url": f"{self.vendor_url}/v1",
                    "api_key": "${INTEGRATION_KEY}",
                },
                "messages": {
                    "protocol": "anthropic",
                    "base_url": self.vendor_url,
                    "api_key": "${INTEGRATION_KEY}",
                },
            },
            "models": {
                name: {"price": PRICE, "deployments": [{"provider": provider, "name": upstream}]}
                for provider, models in (("mock", MODELS), ("messages", CLAUDES))
                for name, upstream in models.items()
            },
            "routes": {"auto": {"models": ["plain", "paced"]}},
            "experiments": self.experiments,
            "organizations": {
                "acme": {
                    "limits": {"rpm": 600_000, "tpm": 100_000_000, "concurrency": 5000},
                    "teams": {
                        "support": {
                            "budget": {"usd": 1000, "per": "month", "mode": "strict"},
                            "keys": {"desk": {"key": KEY, "limits": {"concurrency": 5000}}},
                        }
                    },
                }
            },
        }
        if self.hose is not None:
            url = f"http://127.0.0.1:{self.hose}/v1"
            document["providers"]["hose"] = {"protocol": "openai", "base_url": url}
            document["models"]["hose"] = {"price": PRICE, "deployments": [{"provider": "hose"}]}
        return document

    async def _publish(self) -> None:
        text = json.dumps(self.document())
        (self.folder / "penstock.yaml").write_text(text)
        loaded = load_text(text, source="test", environ={"INTEGRATION_KEY": VENDOR_KEY})
        client = Redis.from_url(self.redis_url)
        await publish_file(client, loaded.document, by="test", why="test")
        await open_strict_budgets(client)
        await client.aclose()

    def close(self) -> None:
        """End everything that was started."""
        for process in self.processes:
            process.kill()
            process.wait(10)
            if process.stdout is not None:
                process.stdout.close()

    # The books.

    def vendor_books(self) -> dict[str, Any]:
        """Give what the vendor served since the last reset."""
        return httpx2.get(f"{self.vendor_url}/__mock/books").json()

    def reset_vendor(self) -> None:
        """Let the vendor begin its books anew."""
        httpx2.post(f"{self.vendor_url}/__mock/reset")

    def ask_store(self, asking: Callable[[Redis], Awaitable[Any]]) -> Any:
        """Ask the store something."""

        async def ask() -> Any:
            client = Redis.from_url(self.redis_url)
            try:
                return await asking(client)
            finally:
                await client.aclose()

        return asyncio.run(ask())

    def entries(self, since: bytes = b"-") -> list[Entry]:
        """Give the ledger's entries behind a place in the stream."""
        start = b"-" if since == b"-" else b"(" + since
        found = self.ask_store(lambda client: client.xrange("{c0}:led", start))
        return [decode(fields[b"e"]) for _, fields in found]

    def takes_connections(self) -> bool:
        """Whether the data port is open."""
        address = urlsplit(self.url)
        try:
            socket.create_connection((address.hostname, address.port), 5).close()
        except ConnectionRefusedError:
            return False
        return True

    def place(self) -> bytes:
        """Give the place of the ledger's end."""
        found = self.ask_store(lambda client: client.xrevrange("{c0}:led", count=1))
        return found[0][0] if found else b"-"

    def reaped(self) -> bool:
        """Reap as the control does, wherever it runs; say whether nothing is held any more."""
        self.ask_store(reap)
        return not self.in_flight()

    def in_flight(self) -> int:
        """Count what all scopes hold: in flight, and money."""

        async def count(client: Redis) -> int:
            held = 0
            for pattern in ("{c0}:s:*", "{c0}:d:*"):
                async for key in client.scan_iter(match=pattern):
                    scope = await read_scope(client, scope_of(key.decode()))
                    assert scope is not None
                    held += scope.in_flight + sum(b.held_nusd for b in scope.budgets.values())
            return held

        return self.ask_store(count)


@contextlib.contextmanager
def running(
    redis_url: str, hose: int | None = None, make: type[Gateway] = Gateway, **said: Any
) -> Iterator[Any]:
    """Run the processes, and look afterwards into what they wrote."""
    # Not pytest's tmp_path: a unix socket's path may have about 100 bytes on some systems.
    with tempfile.TemporaryDirectory(prefix="pst-") as folder:
        made = make(redis_url, Path(folder), hose, **said)
        try:
            yield made
        finally:
            made.close()
        written = made.log.read_text() + (made.folder / "access.log").read_text()
        for secret in (KEY, VENDOR_KEY, HELLO["content"]):
            assert secret not in written
        assert "Traceback" not in written
        assert "ERROR" not in written


class Books:
    """What happened since the beginning of a test, in both books."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._since = gateway.place()
        gateway.reset_vendor()

    def entries(self, count: int) -> list[Entry]:
        """Give the entries of this test, once there are so many and nothing is in flight."""
        wait_until(
            lambda: (
                len(self._gateway.entries(self._since)) >= count and not self._gateway.in_flight()
            ),
            f"{count} entries",
        )
        found = self._gateway.entries(self._since)
        assert len(found) == count
        return found

    def agree(self, count: int) -> list[Entry]:
        """See that ours and the vendor's agree to the token; gives ours."""
        entries = self.entries(count)
        totals = self._gateway.vendor_books()["totals"]
        assert totals["calls"] == len(entries)
        assert totals["prompt_tokens"] == sum(entry.input_tokens for entry in entries)
        assert totals["completion_tokens"] == sum(entry.output_tokens for entry in entries)
        assert totals["complaints"] == 0
        for entry in entries:
            assert entry.cost_nusd == 1000 * entry.input_tokens + 2000 * entry.output_tokens
        return entries
