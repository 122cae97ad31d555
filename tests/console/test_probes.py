"""Laws of active probes: what is asked, of whom and how often, and what an answer, an error and a silence mean."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from config.loader import load_published, load_text
from config.models import Config
from config.providers import HealthProbe
from console.probes import Prober
from governance.ledger import decode
from ratelimit.limits import records
from ratelimit.reports import read_reports
from ratelimit.upkeep import seed
from store.cells import FIRST

KEY = "sk-vendor-canary-0123456789"


class Vendor:
    """A server that answers as told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.said: Any = {"data": []}
        self.hangs = asyncio.Event()
        self.hangs.set()
        self.drips = False
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer anything."""
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append((request.method, request.path_qs, headers, body))
        await self.hangs.wait()
        if not self.drips:
            return web.json_response(self.said, status=self.status)
        answer = web.StreamResponse(status=self.status)
        await answer.prepare(request)
        for byte in json.dumps(self.said).encode():
            await answer.write(bytes([byte]))
            await asyncio.sleep(0.001)
        return answer


@pytest.fixture
async def vendor() -> AsyncIterator[tuple[Vendor, str]]:
    """Give a vendor and its address."""
    one = Vendor()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", one.answer)
    async with TestServer(app) as server:
        yield one, f"http://127.0.0.1:{server.port}"
        one.hangs.set()


def config(url: str, protocol: str = "openai", **health: Any) -> Config:
    document = {
        "providers": {
            "v": {
                "protocol": protocol,
                "base_url": url,
                "api_key": KEY,
                "health": {"timeout_s": 2} | health,
            }
        },
        "models": {
            name: {"price": {"input": 1, "output": 2}, "deployments": [{"provider": "v"}]}
            for name in ("a", "b")
        },
    }
    loaded = load_text(json.dumps(document), source="test", environ={})
    return load_published(loaded.document, {})


async def probed(redis_client: Any, made: Config, *at: float) -> Prober:
    """Let a prober make its rounds at these moments."""
    await seed(redis_client, records(made, 1), 1)
    prober = Prober({FIRST: redis_client}, lambda: (made, 1), replica="here/control")
    async with aiohttp.ClientSession() as session:
        for moment in at or (1000.0,):
            async with asyncio.TaskGroup() as tasks:
                prober.round(session, tasks, moment)
    return prober


@pytest.mark.parametrize(
    ("protocol", "base", "path", "header"),
    [
        ("openai", "/v1", "/v1/models", ("authorization", f"Bearer {KEY}")),
        ("anthropic", "", "/v1/models?limit=1", ("x-api-key", KEY)),
        ("anthropic", "/v1", "/v1/models?limit=1", ("x-api-key", KEY)),
        ("gemini", "", "/v1beta/models?pageSize=1", ("x-goog-api-key", KEY)),
        ("gemini", "/v1beta", "/v1beta/models?pageSize=1", ("x-goog-api-key", KEY)),
        ("ollama", "", "/api/tags", ("authorization", f"Bearer {KEY}")),
        ("ollama", "/api", "/api/tags", ("authorization", f"Bearer {KEY}")),
    ],
)
async def test_each_protocol_is_asked_for_its_list_of_models(  # noqa: PLR0917 - a table's columns
    redis_client: Any,
    vendor: tuple[Vendor, str],
    protocol: str,
    base: str,
    path: str,
    header: tuple[str, str],
) -> None:
    """Once for all deployments of a provider, with its own key."""
    one, url = vendor
    prober = await probed(redis_client, config(url + base, protocol))
    ((method, asked, headers, body),) = one.asked
    assert (method, asked, body) == ("GET", path, b"")
    assert headers[header[0]] == header[1]
    found = await read_reports(redis_client)
    assert {name: (one.fine, one.why) for name, one in found.items()} == {
        "a/v": (True, "answered"),
        "b/v": (True, "answered"),
    }
    assert prober.counts == {("v", "fine"): 1}


@pytest.mark.parametrize(
    ("how", "status", "fine", "why"),
    [
        ("models", 404, True, "answered"),
        ("models", 401, True, "unauthorized"),
        ("models", 429, True, "at_its_limit"),
        ("models", 529, True, "at_its_limit"),
        ("models", 500, False, "status_500"),
        ("models", 302, True, "answered"),
        ("call", 401, False, "unauthorized"),
        ("call", 404, False, "status_404"),
        ("call", 429, True, "at_its_limit"),
    ],
)
async def test_an_answer_says_that_somebody_is_there(  # noqa: PLR0917 - a table's columns
    redis_client: Any, vendor: tuple[Vendor, str], how: str, status: int, fine: bool, why: str
) -> None:
    """Whatever it says of our key or our rate; a call has to be answered."""
    one, url = vendor
    one.status = status
    await probed(redis_client, config(url, probe=how))
    found = (await read_reports(redis_client))["a/v"]
    assert (found.fine, found.why) == (fine, why)


async def test_silence_and_nobody_there_fail(
    redis_client: Any, vendor: tuple[Vendor, str], unused_tcp_port: int
) -> None:
    """In the time that the configuration gives them."""
    one, url = vendor
    one.hangs.clear()
    prober = await probed(redis_client, config(url, timeout_s=0.05))
    assert (await read_reports(redis_client))["a/v"].why == "timed_out"
    assert prober.counts == {("v", "failed"): 1}
    for how in ("models", "connect"):
        await probed(redis_client, config(f"http://127.0.0.1:{unused_tcp_port}", probe=how))
        assert (await read_reports(redis_client))["a/v"].why == "no_connection"


async def test_a_connection_may_be_enough(redis_client: Any, vendor: tuple[Vendor, str]) -> None:
    """Nothing is asked then."""
    one, url = vendor
    await probed(redis_client, config(url, probe="connect"))
    assert (await read_reports(redis_client))["b/v"].why == "connected"
    assert one.asked == []


@pytest.mark.parametrize(
    ("protocol", "path", "usage"),
    [
        ("openai", "/chat/completions", {"usage": {"prompt_tokens": 8, "completion_tokens": 1}}),
        ("anthropic", "/v1/messages", {"usage": {"input_tokens": 8, "output_tokens": 1}}),
        (
            "gemini",
            "/v1beta/models/a:generateContent",
            {"usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": 1}},
        ),
        ("ollama", "/api/chat", {"prompt_eval_count": 8, "eval_count": 1}),
    ],
)
async def test_a_call_is_tiny_and_stands_in_the_ledger(
    redis_client: Any, vendor: tuple[Vendor, str], protocol: str, path: str, usage: Any
) -> None:
    """One for each deployment, with what it cost, under the key `probe`."""
    one, url = vendor
    one.said = usage
    await probed(redis_client, config(url, protocol, probe="call"))
    assert one.asked[0][:2] == ("POST", path)
    assert len(one.asked) == 2
    entries = [decode(fields[b"e"]) for _, fields in await redis_client.xrange(FIRST.ledger)]
    assert [(each.key, each.deployment, each.reason) for each in entries] == [
        ("probe", "a/v", "probe"),
        ("probe", "b/v", "probe"),
    ]
    # Eight tokens of input at a dollar, one of output at two, per million.
    assert [each.cost_nusd for each in entries] == [10_000, 10_000]
    assert int(await redis_client.hget(FIRST.totals, "cost_nusd")) == 20_000


async def test_a_call_that_is_answered_piece_by_piece_costs_the_same(
    redis_client: Any, vendor: tuple[Vendor, str]
) -> None:
    """What it used stands at the end of the answer."""
    one, url = vendor
    one.said = {"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 1}}
    one.drips = True
    await probed(redis_client, config(url, probe="call"))
    entries = [decode(fields[b"e"]) for _, fields in await redis_client.xrange(FIRST.ledger)]
    assert [each.cost_nusd for each in entries] == [10_000, 10_000]


async def test_everybody_is_probed_in_his_own_time(
    redis_client: Any, vendor: tuple[Vendor, str]
) -> None:
    """Again when the interval is over, and not before."""
    one, url = vendor
    await probed(redis_client, config(url, interval_s=10), 1000.0, 1009.9, 1010.0, 1015.0)
    assert len(one.asked) == 2


async def test_a_vendor_that_is_slow_keeps_nobody_waiting(
    redis_client: Any, vendor: tuple[Vendor, str]
) -> None:
    """Its next probe begins when this one has ended; those of others in their own time."""
    one, url = vendor
    one.hangs.clear()
    made = config(url, timeout_s=20, probe="connect")
    slow = made.providers["v"].model_copy(
        update={"health": HealthProbe(probe="models", timeout_s=20)}
    )
    there = made.models["a"].deployments[0].model_copy(update={"provider": "slow"})
    made = made.model_copy(
        update={
            "providers": {"slow": slow, "v": made.providers["v"]},
            "models": {
                "a": made.models["a"].model_copy(update={"deployments": (there,)}),
                "b": made.models["b"],
            },
        }
    )
    await seed(redis_client, records(made, 1), 1)
    prober = Prober({FIRST: redis_client}, lambda: (made, 1), replica="here/control")
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        for n, moment in enumerate((1000.0, 1030.0, 1060.0), 1):
            async with asyncio.timeout(20):
                while prober.counts["v", "fine"] < n:
                    # A round that comes too soon does nothing.
                    prober.round(session, tasks, moment)
                    await asyncio.sleep(0.002)
        one.hangs.set()
    assert prober.counts == {("v", "fine"): 3, ("slow", "fine"): 1}
    assert len(one.asked) == 1


async def test_who_goes_offline_and_comes_back_is_told_once(
    redis_client: Any, vendor: tuple[Vendor, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A line for each, however often it is probed."""
    one, url = vendor
    made = config(url, interval_s=1)
    await seed(redis_client, records(made, 1), 1)
    prober = Prober({FIRST: redis_client}, lambda: (made, 1), replica="here/control")
    caplog.set_level("INFO", "penstock.probes")
    async with aiohttp.ClientSession() as session:
        for n, status in enumerate([500, 500, 500, 200, 200]):
            one.status = status
            async with asyncio.TaskGroup() as tasks:
                prober.round(session, tasks, 1000.0 + n)
    said = [record.getMessage() for record in caplog.records if "a/v" in record.getMessage()]
    assert said == ["the deployment a/v is offline: status_500", "the deployment a/v is back"]


async def test_off_is_off(redis_client: Any, vendor: tuple[Vendor, str]) -> None:
    """Nobody is asked, and nothing is reported."""
    one, url = vendor
    await probed(redis_client, config(url, probe="off"))
    assert one.asked == []
    assert await read_reports(redis_client) == {}
