"""What tests of the console share: a configuration, and a ledger with something in it."""

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from pydantic import BaseModel
from redis.asyncio import Redis

from config import live
from config.keys import VARIABLE, KeySecrets
from config.loader import load_text
from console import settings, shapes
from console.admin import Door, make_app, routes
from governance.drain import LedgerWriter
from governance.ledger import Entry, encode, entry_of
from store.cells import FIRST, Cell

AT_US = 1_795_318_572_345_678  # 2026-11-22T03:36:12Z

CONFIG = """
admin: {listen: 127.0.0.1:0, token: "${PENSTOCK_TEST_TOKEN:-a-token-of-32-letters-and-digits}"}
providers: {mock: {protocol: openai, base_url: http://127.0.0.1:9}}
models: {demo: {price: {input: 1, output: 2}, deployments: [{provider: mock}]}}
organizations:
  acme:
    limits: {rpm: 6000}
    teams: {support: {keys: {helpdesk: {key: sk-penstock-of-the-helpdesk-0123456789}}}}
"""


def entry(attempt_id: str, **said: str | int) -> Entry:
    """Make an entry of which only the fields that matter to a test are said."""
    request_id, _, number = attempt_id.partition("+")[0].rpartition(".")
    base = {"attempt_id": attempt_id, "request_id": request_id, "attempt": int(number)}
    return entry_of(**(base | {"outcome": "ok", "at_us": AT_US} | said))


class Ledger:
    """A store and the path of a ledger."""

    def __init__(self, redis: Redis, path: Path) -> None:
        self.redis = redis
        self.path = path
        self.url = f"sqlite:{path}"

    async def append(self, attempt_id: str, cell: Cell = FIRST, **said: str | int) -> None:
        """Append an entry and count it, as `settle` does."""
        new = entry(attempt_id, **said)
        await self.redis.xadd(cell.ledger, {"e": encode(new)})
        for name, amount in (
            ("entries", 1),
            ("input_tokens", new.input_tokens),
            ("output_tokens", new.output_tokens),
            ("cost_nusd", new.cost_nusd),
        ):
            await self.redis.hincrby(cell.totals, name, amount)

    async def drain(self, cell: Cell = FIRST) -> None:
        """Make the database and enter everything."""
        async with LedgerWriter(self.redis, self.path, cell=cell) as writer:
            await writer.prepare()
            while await writer.drain():
                pass


@pytest.fixture
async def ledger(redis_client: Redis, tmp_path: Path) -> Ledger:
    """Give an empty store and an empty ledger."""
    found = Ledger(redis_client, tmp_path / "ledger.db")
    await found.drain()
    return found


TOKEN = "a-token-of-32-letters-and-digits"
REPLICA = "here/control"
ENVIRON: Mapping[str, str] = {
    "VENDOR_KEY": "sk-vendor-canary-0123456789",
    VARIABLE: "key-secret-canary-0123456789-0123456789",
}
SECRETS = KeySecrets([ENVIRON[VARIABLE]])
CANARIES = (
    "sk-vendor-canary",
    "key-secret-canary",
    "clear-canary",
    "sk-caller-canary",
    "header-canary",
)
RUNNING = """
admin: {listen: 127.0.0.1:0, token: clear-canary-of-32-letters}
providers:
  alpha: {protocol: openai, base_url: http://127.0.0.1:9, api_key: "${VENDOR_KEY}"}
  beta:
    protocol: openai
    base_url: http://127.0.0.1:9/v1
    api_key: clear-canary-of-beta
    headers: {x-auth: header-canary}
models:
  demo:
    price: {input: 1, output: 2}
    deployments: [{provider: alpha}, {provider: beta, weight: 3, limits: {rpm: 50}}]
  Qwen/other: {deployments: [{provider: beta, id: spare, drained: true}]}
routes: {auto: {models: [demo, Qwen/other]}}
experiments:
  idle: {asked: demo, stopped: not begun, arms: {a: {}, b: {model: Qwen/other}}}
  dark: {asked: demo, stopped: not begun, shadow: {model: Qwen/other, budget: {usd: 2, per: day}}}
organizations:
  acme:
    limits: {rpm: 6000}
    budget: {usd: 100, per: month}
    teams:
      support:
        budget: [{usd: 3.5, per: day, mode: strict}, {usd: 10, per: week}]
        keys:
          helpdesk:
            key: sk-caller-canary-0123456789
            application: desk
            models: [auto]
            limits: {rpm: 60, tpm: 6000, concurrency: 4}
  empty: {}
"""


class Api:
    """
    The admin port over a real store, as its callers see it.

    Every answer is held to the schema that OpenAPI promises, and to showing no secret.
    """

    def __init__(self, client: TestClient, redis: Redis) -> None:
        self.client = client
        self.redis = redis
        self.said = ""
        self.headers: Mapping[str, str] = {}
        self._routes = routes()

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
    ) -> tuple[int, Any]:
        """Make a call; give its status and its answer."""
        said = {"Authorization": f"Bearer {TOKEN}"}
        if body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            said["Content-Type"] = "application/json"
        sent = None if data is None else io.BytesIO(data)
        async with self.client.request(
            method, path, headers=said | dict(headers or {}), data=sent
        ) as answer:
            text = await answer.text()
            self.said += text
            self.headers = answer.headers
            found = await answer.json()
        for canary in CANARIES:
            assert canary not in text
        self._promised(method, path, answer.status).model_validate(found)
        return answer.status, found

    async def done(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """Make a call that must succeed; give its answer."""
        status, found = await self.ask(method, path, body, **more)
        assert status in {200, 201}, found
        return found

    async def refused(
        self, status: int, code: str, method: str, path: str, body: Any = None, **more: Any
    ) -> Any:
        """Make a call that must be refused so, and change nothing; give the error."""
        before = await self.everything()
        found_status, found = await self.ask(method, path, body, **more)
        assert (found_status, found["error"]["code"]) == (status, code), found
        assert await self.everything() == before, "a refused call changed something"
        if status < 500:
            assert found["error"]["problems"], (
                "what is wrong, with its place and what to do about it"
            )
        return found["error"]

    async def everything(self) -> dict[bytes, bytes]:
        """Give all that the store holds, byte for byte."""
        found: dict[bytes, bytes] = {}
        for key in await self.redis.keys("*"):
            kind = await self.redis.type(key)
            # Not DUMP: a hash may be moved about in memory between two looks at it
            if kind == b"hash":
                found[key] = repr(sorted((await self.redis.hgetall(key)).items())).encode()
            else:
                found[key] = kind + (await self.redis.dump(key) or b"")
        return found

    async def document(self) -> str:
        """Give the live document, byte for byte."""
        found = await live.current(self.redis)
        assert found is not None
        return found.document

    def _promised(self, method: str, path: str, status: int) -> type[BaseModel]:
        for route in self._routes:
            inner = ".+" if route.wide else "[^/]+"
            pattern = re.sub(r"\\{[a-z_]+\\}", inner, re.escape(route.path))
            if route.method == method and re.fullmatch(pattern, path.partition("?")[0]):
                return route.gives if status == route.status else shapes.Failure
        return shapes.Failure


@pytest.fixture
async def api(ledger: Ledger, aiohttp_client: Any) -> Api:
    """Open the admin port over a store with a published configuration."""

    async def not_ready() -> str | None:
        return None

    async def page() -> bytes:
        return b""

    door = Door(
        token=TOKEN,
        not_ready=not_ready,
        page=page,
        cells={FIRST: ledger.redis},
        ledger=ledger.path,
        environ=ENVIRON,
        replica=REPLICA,
    )
    loaded = load_text(RUNNING, source="test", environ=ENVIRON)
    await live.publish_file(
        ledger.redis, loaded.document, by="test", why="start", key_id=loaded.key_id
    )
    return Api(await aiohttp_client(make_app(door)), ledger.redis)


@pytest.fixture
def operator(api: Api, nowhere: None, monkeypatch: pytest.MonkeyPatch) -> Api:
    """Let commands find the admin port of `api`, and nothing else."""
    monkeypatch.setenv("PENSTOCK_ADMIN_URL", str(api.client.make_url("/")))
    monkeypatch.setenv("PENSTOCK_ADMIN_TOKEN", TOKEN)
    return api


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """Write a small configuration."""
    path = tmp_path / "penstock.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in an empty folder, with an empty `var/`, and with nothing in the environment."""
    monkeypatch.setattr(settings, "CHECKOUT", tmp_path / "checkout")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setenv("PENSTOCK_VAR", str(tmp_path / "var"))
    for name in (
        "REDIS_URL",
        "LEDGER_URL",
        "NO_COLOR",
        "PENSTOCK_ADMIN_URL",
        "PENSTOCK_ADMIN_TOKEN",
    ):
        monkeypatch.delenv(name, raising=False)
