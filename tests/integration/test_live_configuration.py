"""
Laws of live configuration with a running edge: what was answered is obeyed.

Commands and the admin API on one side, callers with keys on the other; a real store and a mock vendor in between.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiohttp.test_utils import TestClient, TestServer
from redis.asyncio import Redis

from console.admin import Door, make_app
from store.cells import FIRST
from tests.console.command_rig import typed
from tests.proxy.edge_rig import Rig, rigs
from tests.proxy.partners import VENDOR_KEY, VENDOR_KEY_VARIABLE, chat

TOKEN = "a-token-of-32-letters-and-digits"
QUOTA = "/v1/quotas/key:acme/support/helpdesk"
KEYS = "/v1/keys"
MODELS: Mapping[str, Any] = {"m": ["sim;tokens=2", "sim;tokens=3"]}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop that the edge runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def rig(
    redis_client: Redis, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Rig]:
    """Start an edge with a mock vendor."""
    monkeypatch.setenv("PENSTOCK_VAR", str(tmp_path / "var"))
    monkeypatch.setenv(VENDOR_KEY_VARIABLE, VENDOR_KEY)
    async with rigs(redis_client, redis_url, tmp_path) as make:
        yield await make(models=dict(MODELS), key={"limits": {"rpm": 1000}})


class Admin:
    """The admin port beside it."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    async def done(self, method: str, path: str, **body: Any) -> Any:
        """Make a call that must succeed."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self.client.request(method, path, json=body or None, headers=headers) as answer:
            found = await answer.json()
            assert answer.status in {200, 201}, found
        return found


@pytest.fixture
async def admin(rig: Rig, tmp_path: Path) -> AsyncIterator[Admin]:
    """Open the admin port over the edge's store."""

    async def not_ready() -> str | None:
        return None

    async def page() -> bytes:
        return b""

    door = Door(
        token=TOKEN,
        not_ready=not_ready,
        page=page,
        cells={FIRST: rig.redis},
        ledger=tmp_path / "none.db",
        environ={VENDOR_KEY_VARIABLE: VENDOR_KEY},
        replica="here/control",
    )
    async with TestClient(TestServer(make_app(door))) as client:
        yield Admin(client)


async def test_a_quota_is_obeyed_by_the_very_next_admission(rig: Rig, admin: Admin) -> None:
    """Without waiting for the edge to hear of the version: limits live in the store."""
    for rpm in (500, 7, 900, 2):
        await admin.done("PUT", QUOTA, why="tune", limits={"rpm": rpm})
        answer = await rig.ask(chat())
        assert answer.header("x-ratelimit-limit-requests") == str(rpm)
    await admin.done("PUT", QUOTA, why="stop", limits={"rpm": 1})
    answer = await rig.ask(chat())
    assert (answer.status, answer.error["code"]) == (429, "requests_limit")
    # An empty bucket fills at the new rate: one request every six microseconds
    await admin.done("PUT", QUOTA, why="go on", limits={"rpm": 10_000_000})
    assert (await rig.ask(chat())).status == 200
    await admin.done("PUT", "/v1/quotas/org:acme", why="tune", limits={"concurrency": 1})
    assert (await rig.ask(chat())).status == 200
    said = await admin.done("GET", QUOTA)
    assert said["limits"]["rpm"]["limit"] == 10_000_000


async def test_a_key_that_is_made_works_and_a_revoked_one_does_not(rig: Rig, admin: Admin) -> None:
    """When the answer says everywhere, no edge knows it any more; the same for one that was rotated."""
    made = await admin.done(
        "POST",
        KEYS,
        organization="acme",
        team="support",
        name="new",
        why="a new desk",
        wait_ms=5000,
    )
    assert made["everywhere"] is True
    assert (await rig.ask(chat(), key=made["key"])).status == 200
    path = f"{KEYS}/acme/support/new"
    rotated = await admin.done("POST", f"{path}/rotate", why="leak", wait_ms=5000)
    assert (await rig.ask(chat(), key=made["key"])).error["code"] == "invalid_api_key"
    assert (await rig.ask(chat(), key=rotated["key"])).status == 200
    gone = await admin.done("DELETE", path, why="left", wait_ms=5000)
    assert gone["everywhere"] is True
    for key in (made["key"], rotated["key"]):
        answer = await rig.ask(chat(), key=key)
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert (await rig.ask(chat())).status == 200


async def test_a_drained_deployment_gets_nothing_from_the_next_admission_on(
    rig: Rig, admin: Admin
) -> None:
    """And serves again when it is taken back."""
    served = (await rig.ask(chat())).header("x-penstock-deployment")
    assert served is not None
    path = "/v1/deployments/" + served.replace("/", "%2F").replace("#", "%23")
    await admin.done("PATCH", path, why="repair", drained=True)
    for _ in range(5):
        answer = await rig.ask(chat())
        assert answer.status == 200
        assert answer.header("x-penstock-deployment") != served
    rows = (await admin.done("GET", "/v1/deployments"))["deployments"]
    assert [each["drained"] for each in rows if each["id"] == served] == [True]
    others = [each["id"] for each in rows if each["id"] != served]
    for other in others:
        where = "/v1/deployments/" + other.replace("/", "%2F").replace("#", "%23")
        await admin.done("PATCH", where, why="repair", drained=True)
    assert (await rig.ask(chat())).status == 503
    await admin.done("PATCH", path, why="back", drained=False)
    assert (await rig.ask(chat())).header("x-penstock-deployment") == served


async def test_what_a_budget_spent_is_told(rig: Rig, admin: Admin) -> None:
    """As the ledger has it, to the nano-USD; and a budget that is set now counts from now on."""
    await admin.done(
        "PUT", QUOTA, why="w", budgets=[{"usd": 1, "per": "month", "mode": "strict"}], wait_ms=5000
    )
    assert (await rig.ask(chat())).status == 200
    (entry,) = await rig.entries()
    said = await admin.done("GET", QUOTA)
    (budget,) = said["budgets"]
    assert budget["spent_usd"] == f"0.{entry.cost_nusd:09d}"
    assert float(budget["held_usd"]) == 0
    assert said["in_flight"] == 0
    await admin.done(
        "PUT",
        QUOTA,
        why="spent",
        budgets=[{"usd": 0.000000001, "per": "month", "mode": "strict"}],
    )
    assert (await rig.ask(chat())).status == 402


async def test_the_status_is_that_of_the_edge(
    rig: Rig, admin: Admin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From the command line, after a change that a command made and waited for."""
    monkeypatch.setenv("PENSTOCK_ADMIN_URL", str(admin.client.make_url("/")))
    monkeypatch.setenv("PENSTOCK_ADMIN_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)
    ended = await typed("quota set org:acme rpm=500 --json")
    assert (ended.code, ended.json["everywhere"], ended.json["version"]) == (0, True, 2)
    status = (await typed("config status --json")).json
    (edge,) = [each for each in status["replicas"] if each["role"] == "edge"]
    assert (edge["live"], edge["version"], edge["current"]) == (True, 2, True)
    assert edge["replica"] == rig.edge.replica


async def test_a_version_that_an_edge_cannot_run_is_told(
    rig: Rig, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The edge goes on with what it has, and says why; the answer does not claim that it is everywhere."""
    # One for each version that names it, also for that in which nobody uses it yet.
    rig.expected_alarms = 2
    missing = str(rig.folder / "no-such-authority.pem")
    answer = await admin.done("GET", "/v1/config")
    said = await admin.done(
        "PUT",
        "/v1/providers/private",
        provider={"protocol": "openai", "base_url": "https://127.0.0.1:9", "ca_file": missing},
        why="w",
        expected=answer["version"],
    )
    model = {"price": {"input": 1, "output": 1}, "deployments": [{"provider": "private"}]}
    said = await admin.done(
        "PUT", "/v1/models/p", model=model, why="w", expected=said["version"], wait_ms=10_000
    )
    assert said["everywhere"] is False
    assert said["waiting_for"] == [rig.edge.replica]
    status = await admin.done("GET", "/v1/config/status")
    assert status["everywhere"] is False
    assert any(each["error"] for each in status["replicas"])
    assert (await rig.ask(chat())).status == 200
