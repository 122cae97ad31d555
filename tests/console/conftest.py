"""What tests of the console share: a configuration, and a ledger with something in it."""

from dataclasses import fields
from pathlib import Path

import pytest
from redis.asyncio import Redis

from console import whereabouts
from governance.drain import LedgerWriter
from governance.ledger import STREAM, TOTALS, Entry, encode

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
    base: dict = {field.name: 0 if field.type is int else "" for field in fields(Entry)}
    request_id, _, number = attempt_id.partition("+")[0].rpartition(".")
    base |= {"attempt_id": attempt_id, "request_id": request_id, "attempt": int(number)}
    return Entry(**(base | {"outcome": "ok", "at_us": AT_US} | said))


class Ledger:
    """A store and the path of a ledger."""

    def __init__(self, redis: Redis, path: Path) -> None:
        self.redis = redis
        self.path = path
        self.url = f"sqlite:{path}"

    async def append(self, attempt_id: str, **said: str | int) -> None:
        """Append an entry and count it, as `settle` does."""
        new = entry(attempt_id, **said)
        await self.redis.xadd(STREAM, {"e": encode(new)})
        for name, amount in (
            ("entries", 1),
            ("input_tokens", new.input_tokens),
            ("output_tokens", new.output_tokens),
            ("cost_nusd", new.cost_nusd),
        ):
            await self.redis.hincrby(TOTALS, name, amount)

    async def drain(self) -> None:
        """Make the database and enter everything."""
        async with LedgerWriter(self.redis, self.path) as writer:
            await writer.prepare()
            while await writer.drain():
                pass


@pytest.fixture
async def ledger(redis_client: Redis, tmp_path: Path) -> Ledger:
    """Give an empty store and an empty ledger."""
    found = Ledger(redis_client, tmp_path / "ledger.db")
    await found.drain()
    return found


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """Write a small configuration."""
    path = tmp_path / "penstock.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in an empty folder, with an empty `var/`, and with nothing in the environment."""
    monkeypatch.setattr(whereabouts, "CHECKOUT", tmp_path / "checkout")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setenv("PENSTOCK_VAR", str(tmp_path / "var"))
    for name in ("REDIS_URL", "LEDGER_URL", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
