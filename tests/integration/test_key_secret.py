"""
The key secret over real processes: one secret works everywhere, another one is found at the start.

A control and edges, each a process of its own with an environment of its own, over one store.
"""

import asyncio
import json
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from config import live
from config.keys import KeySecrets
from config.loader import load_text
from config.secrets import hash_key
from store.places import CHECKOUT

KEY = "sk-integration-key-0123456789"
OURS, OTHER = "the-key-secret-of-this-place-0123456789", "the-key-secret-of-another-one-0123456789"
TOKEN = "a-token-of-32-letters-and-digits"
CONFIG = {
    "admin": {"listen": "127.0.0.1:0", "token": TOKEN},
    "edge": {"access_log": "off"},
    "providers": {"p": {"protocol": "openai", "base_url": "http://127.0.0.1:9/v1"}},
    "models": {"m": {"price": {"input": 1, "output": 1}, "deployments": [{"provider": "p"}]}},
    "organizations": {"o": {"teams": {"t": {"keys": {"k": {"key": KEY}}}}}},
}


class Place:
    """Where processes run: a folder and a store; `secret` is what the environment says, None for nothing."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        self.file = folder / "penstock.yaml"
        self.file.write_text(json.dumps(CONFIG))
        self._redis_url = redis_url
        self._count = 0

    def _environ(self, secret: str | None) -> Mapping[str, str]:
        environ = {k: v for k, v in os.environ.items() if k != "PENSTOCK_KEY_SECRET"}
        if secret is not None:
            environ["PENSTOCK_KEY_SECRET"] = secret
        return {
            **environ,
            "REDIS_URL": self._redis_url,
            "PENSTOCK_VAR": str(self.folder / "var"),
            "PYTHONPATH": str(CHECKOUT),
        }

    async def _start(self, secret: str | None, *argv: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", *argv),
            env=self._environ(secret),
            cwd=self.folder,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )

    def _argv(self, role: str, port: int = 0) -> tuple[str, ...]:
        if role == "control":
            ledger = f"sqlite:{self.folder / 'ledger.db'}"
            return ("console", "serve", "--config", str(self.file), "--ledger", ledger)
        self._count += 1
        return (
            *("proxy", "edge", "--listen", f"127.0.0.1:{port}", "--worker", str(self._count)),
            *("--run-dir", str(self.folder / "run")),
        )

    async def refused(self, role: str, secret: str | None) -> str:
        """Start a role that must end by itself as misused; give what it said."""
        process = await self._start(secret, *self._argv(role))
        async with asyncio.timeout(30):
            _, said = await process.communicate()
        assert process.returncode == 2, said.decode()
        return said.decode()

    @asynccontextmanager
    async def control(self, secret: str | None) -> AsyncIterator[str]:
        """Run a control; gives the URL of its admin port."""
        process = await self._start(secret, *self._argv("control"))
        assert process.stderr is not None
        try:
            async with asyncio.timeout(30):
                said = b""
                while not (found := re.search(rb"listens on 127\.0\.0\.1:(\d+)", said)):
                    said = await process.stderr.readline()
                    assert said, "it ended at once"
                url = f"http://127.0.0.1:{found[1].decode()}"
                while (await get(f"{url}/health/ready"))[0] != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            yield url
        finally:
            process.terminate()
            await process.communicate()

    @asynccontextmanager
    async def edge(self, secret: str | None) -> AsyncIterator[str]:
        """Run an edge; gives the URL of its data port."""
        with socket.create_server(("127.0.0.1", 0), reuse_port=True) as held:
            # Held until the edge shares it, so that nobody else takes it; nobody is accepted here
            port = held.getsockname()[1]
            process = await self._start(secret, *self._argv("edge", port))
            door = self.folder / "run" / f"edge-{self._count}.sock"
            try:
                async with asyncio.timeout(30):
                    while not door.exists() or (await get("http://e/health/ready", door))[0] != 200:
                        assert process.returncode is None, await process.communicate()
                        await asyncio.sleep(0.02)
                held.close()
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()
                await process.communicate()


async def get(url: str, door: Path | None = None, token: str = TOKEN) -> tuple[int, str]:
    """Ask once; status 0 where nobody answers."""
    connector = None if door is None else aiohttp.UnixConnector(str(door))
    try:
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(url, headers={"Authorization": f"Bearer {token}"}) as answer,
        ):
            return answer.status, await answer.text()
    except aiohttp.ClientError:
        return 0, ""


async def post(url: str, body: Mapping[str, Any]) -> Any:
    """Make a change that must succeed."""
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
        session.post(url, json=body) as answer,
    ):
        found = await answer.json()
        assert answer.status < 300, found
        return found


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Place:
    """Give a folder whose sockets have short names."""
    return Place(tmp_path_factory.mktemp("k"), redis_url)


async def test_another_secret_is_found_at_the_start(place: Place, redis_client: Redis) -> None:
    """By an edge and by a control, each with words that say what to set; nothing is changed by it."""
    async with place.control(OURS) as url:
        said = await place.refused("edge", OTHER)
        assert KeySecrets([OURS]).id in said
        assert "PENSTOCK_KEY_SECRET" in said
        assert OURS not in said
        assert OTHER not in said
        said = await place.refused("edge", None)
        assert "there is no key secret" in said
        said = await place.refused("edge", "short")
        assert "at least 32" in said
        before = await redis_client.hgetall(live.LIVE_KEY)
        said = await place.refused("control", OTHER)
        assert "another key secret" in said
        assert "Nothing was changed." in said
        assert await redis_client.hgetall(live.LIVE_KEY) == before
        # A control alone makes one; that it is another one is found all the same
        assert "another key secret" in await place.refused("control", None)
        async with place.edge(OURS):
            status = json.loads((await get(f"{url}/v1/config/status"))[1])
            assert [each["error"] for each in status["replicas"]] == [None, None]


async def test_hashes_of_a_time_without_secrets_are_keyed_at_the_start(
    place: Place, redis_client: Redis
) -> None:
    """What was changed live stays, the file is not published again, keys go on working."""
    said = {"by": "control", "why": "start"}
    plain = load_text(place.file.read_text(), source="test", environ={}).document
    await live.publish_file(redis_client, plain, **said)
    tuned = plain + "routes: {auto: {models: [m]}}\n"
    await live.publish(redis_client, tuned, expected=1, **said)
    assert hash_key(KEY) in tuned
    async with place.control(f"{OURS},{OTHER}"):
        found = await live.current(redis_client)
        assert found is not None
        assert (found.number, found.key_id) == (2, KeySecrets([OURS]).id)
        assert "auto" in found.document
        everything = repr(await redis_client.hgetall(live.LIVE_KEY))
        assert hash_key(KEY) not in everything
        assert everything.count(KeySecrets([OURS]).keyed(hash_key(KEY))) == 2


async def test_a_revoked_key_is_refused_by_every_edge(place: Place) -> None:
    """Three processes: when the answer says everywhere, none of them knows it any more."""
    async with (
        place.control(OURS) as url,
        place.edge(OURS) as one,
        place.edge(OURS) as two,
        place.edge(OURS) as three,
    ):
        edges = (one, two, three)
        body = {"organization": "o", "team": "t", "name": "n", "why": "w", "wait_ms": 20_000}
        made = await post(f"{url}/v1/keys", body)
        assert made["everywhere"] is True
        assert [await knows(edge, made["key"]) for edge in edges] == [200] * 3
        rotated = await post(f"{url}/v1/keys/o/t/n/rotate", {"why": "w", "wait_ms": 20_000})
        assert rotated["everywhere"] is True
        assert [await knows(edge, made["key"]) for edge in edges] == [401] * 3
        assert [await knows(edge, rotated["key"]) for edge in edges] == [200] * 3
        assert [await knows(edge, KEY) for edge in edges] == [200] * 3


async def knows(edge: str, key: str) -> int:
    """Ask an edge for the models of a key."""
    return (await get(f"{edge}/v1/models", token=key))[0]
