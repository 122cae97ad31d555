"""Laws of the admin port: who may come in, what is answered, and how errors look."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from console.admin import Door, check_listen, is_loopback, make_app
from store.cells import FIRST

Ledger = Any  # the fixture of this folder's conftest
TOKEN = "a-token-of-32-letters-and-digits"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Ours:
    """What stands behind the port in these tests."""

    def __init__(self) -> None:
        self.waiting: str | None = None

    async def not_ready(self) -> str | None:
        return self.waiting

    async def page(self) -> bytes:
        return b"penstock_workers 1\n"


@pytest.fixture
def ours() -> Ours:
    return Ours()


@pytest.fixture
def door(ledger: Ledger, ours: Ours, aiohttp_client: Any) -> Callable[..., Awaitable[TestClient]]:
    """Open the port, with a token unless None is said."""

    async def make(token: str | None = TOKEN, redis: Redis | None = None) -> TestClient:
        behind = Door(
            token=token,
            not_ready=ours.not_ready,
            page=ours.page,
            cells={FIRST: redis or ledger.redis},
            ledger=ledger.path,
        )
        return await aiohttp_client(make_app(behind))

    return make


@pytest.mark.parametrize("path", ["/", "/metrics", "/health/live", "/v1/usage", "/nothing"])
async def test_no_answer_tells_what_the_port_is_made_of(door: Any, path: str) -> None:
    """Which version of which server runs is of use to nobody but who looks for its faults."""
    for headers in ({}, BEARER):
        answer = await (await door()).get(path, headers=headers)
        assert "Server" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/usage", "/v1/exchanges/x", "/nothing", "/v1/keys"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer \udcff"},
        {"x-api-key": TOKEN},
    ],
)
async def test_without_the_token_nobody_comes_in(
    path: str, headers: dict[str, str], door: Callable[..., Awaitable[TestClient]]
) -> None:
    """Everything but health and metrics wants the token, the whole token, as a bearer."""
    client = await door()
    async with client.get(path, headers=headers) as answer:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        error = (await answer.json())["error"]
        assert error["code"] == "unauthorized"
        assert error["problems"][0]["path"] == "Authorization"


async def test_health_and_metrics_are_open(
    door: Callable[..., Awaitable[TestClient]], ours: Ours
) -> None:
    """A probe and Prometheus need no token; ready says what is missing."""
    client = await door()
    async with client.get("/health/live") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "live"})
    async with client.get("/health/ready", headers={"Host": "anything"}) as answer:
        assert answer.status == 200
    ours.waiting = "the configuration is not published yet"
    async with client.get("/health/ready") as answer:
        assert answer.status == 503
        assert (await answer.json())["reason"] == ours.waiting
    async with client.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert await answer.text() == "penstock_workers 1\n"
    async with client.head("/health/live") as answer:
        assert answer.status == 200


async def test_usage_is_answered_as_the_command_does(
    door: Callable[..., Awaitable[TestClient]], ledger: Ledger
) -> None:
    """The same sums, the same words, money exact."""
    await ledger.append("a.1", model="m", cost_nusd=1_000_000_007, output_tokens=2)
    await ledger.drain()
    client = await door()
    async with client.get("/v1/usage?by=model&since=2026-11-01", headers=BEARER) as answer:
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        said = await answer.json()
    assert said["rows"][0]["model"] == "m"
    assert said["total"]["cost_usd"] == "1.000000007"
    async with client.get("/v1/usage?until=2026-11-01", headers=BEARER) as answer:
        assert (await answer.json())["rows"] == []


@pytest.mark.parametrize("query", ["by=colour", "since=yesterday", "until=x", "team=acme", "by="])
async def test_a_question_that_is_not_understood_is_refused(
    query: str, door: Callable[..., Awaitable[TestClient]]
) -> None:
    """400, with what is understood."""
    client = await door()
    async with client.get(f"/v1/usage?{query}", headers=BEARER) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["message"]


async def test_an_exchange_is_answered_wherever_its_entries_are(
    door: Callable[..., Awaitable[TestClient]], ledger: Ledger
) -> None:
    """404 until there is one, then from the stream, then from the database."""
    client = await door()
    async with client.get("/v1/exchanges/abc", headers=BEARER) as answer:
        assert answer.status == 404
    await ledger.append("abc.1", cost_nusd=5)
    found = []
    for _ in range(2):
        async with client.get("/v1/exchanges/abc", headers=BEARER) as answer:
            assert answer.status == 200
            found.append(await answer.json())
        await ledger.drain()
    assert found[0] == found[1]
    assert found[0]["entries"][0]["cost_nusd"] == 5


async def test_without_a_store_the_database_still_answers(
    door: Callable[..., Awaitable[TestClient]], ledger: Ledger, redis_url: str
) -> None:
    """What is entered is found; what is not found may be in the stream, so 503 and not 404."""
    await ledger.append("abc.1")
    await ledger.drain()
    gone = Redis.from_url(redis_url.replace("redis.sock", "none.sock"))
    client = await door(redis=gone)
    async with client.get("/v1/exchanges/abc", headers=BEARER) as answer:
        assert answer.status == 200
    async with client.get("/v1/exchanges/other", headers=BEARER) as answer:
        assert answer.status == 503
        assert (await answer.json())["error"]["code"] == "store_unavailable"
    await gone.aclose()


async def test_without_a_ledger_it_is_said(
    door: Callable[..., Awaitable[TestClient]], ledger: Ledger
) -> None:
    """503, and which file is missing."""
    client = await door()
    ledger.path.rename(ledger.path.with_suffix(".away"))
    for path in ("/v1/usage", "/v1/exchanges/x"):
        async with client.get(path, headers=BEARER) as answer:
            assert answer.status == 503
            assert (await answer.json())["error"]["code"] == "ledger_unavailable"


async def test_other_routes_and_methods_are_refused_in_json(
    door: Callable[..., Awaitable[TestClient]],
) -> None:
    """404 and 405 with what is allowed, in the shape of every other error."""
    client = await door()
    async with client.get("/v1/chat/completions", headers=BEARER) as answer:
        assert answer.status == 404
        assert (await answer.json())["error"]["code"] == "not_found"
    async with client.post("/v1/usage", headers=BEARER) as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET, HEAD"
        assert (await answer.json())["error"]["code"] == "method_not_allowed"
    async with client.delete("/metrics") as answer:
        assert answer.status == 405


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8081", 200),
        ("127.9.9.9", 200),
        ("localhost:8081", 200),
        ("LOCALHOST", 200),
        ("[::1]:8081", 200),
        ("books.example.com", 403),
        ("127.0.0.1.example.com:8081", 403),
        ("10.0.0.1:8081", 403),
        ("localhost:80:81", 403),
        ("", 403),
    ],
)
async def test_without_a_token_only_a_loopback_host_is_answered(
    host: str, status: int, door: Callable[..., Awaitable[TestClient]]
) -> None:
    """A web page that points its own name at this machine reads nothing."""
    client = await door(token=None)
    async with client.get("/v1/usage", headers={"Host": host}) as answer:
        assert answer.status == status


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.1.2.3", False),
        ("example.com", False),
        ("", False),
    ],
)
def test_what_others_can_reach_wants_a_token(host: str, ours: bool) -> None:
    """Without one the start is refused, with the setting to change."""
    assert is_loopback(host) == ours
    assert check_listen(host, TOKEN) is None
    wrong = check_listen(host, None)
    assert (wrong is None) == ours
    if wrong is not None:
        assert "admin.token" in wrong


@given(st.text(max_size=30))
def test_no_text_is_taken_for_a_loopback_host_by_accident(host: str) -> None:
    """Whatever a Host header holds, the question has an answer."""
    assert is_loopback(host) in {True, False}
