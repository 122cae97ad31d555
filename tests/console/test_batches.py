"""The biller asks what is due, when it is due, and leaves what it cannot read for later; what it bills is in tests/proxy/test_files.py."""

import asyncio
import json
from typing import Any

import msgpack
import pytest
from aiohttp import web
from redis.asyncio import Redis

from config.loader import load_text
from config.models import Config
from console.batches import LOOK_EVERY_S, PATIENCE_S, Biller
from governance import kept as shelf
from governance.batches import Bill, write_bill
from governance.kept import Kept
from governance.ledger import decode
from ratelimit.limits import Candidate, Plan
from store.cells import FIRST
from store.clock import EPOCH_US

NOW_S = 1_900_000_000


def config(url: str) -> Config:
    return load_text(
        json.dumps(
            {
                "providers": {
                    name: {"protocol": "openai", "base_url": f"{url}/{name}", "files": True}
                    for name in ("v", "slow")
                },
                "models": {
                    "m": {
                        "price": {"input": 1, "output": 2},
                        "deployments": [{"provider": "v", "id": "d"}],
                    }
                },
            }
        ),
        source="test",
        environ={},
    ).config


def bill(**said: Any) -> Bill:
    plan = Plan(("team:acme/t",), (Candidate("d", "m", 0, 1, 1, 1, 1, "v"),), b"")
    known = {
        **dict.fromkeys(Bill.__struct_fields__, ""),
        "attempt_id": "r.1",
        "request_id": "r",
        "attempt": 1,
        "model": "m",
        "deployment": "d",
        "charged_nusd": 0,
        "lines": 2,
        "percent": 50,
        "plan": plan.packed,
        "keys": plan.keys,
        "users": (),
        "cell": 0,
        "candidate": 0,
        "at_us": NOW_S * 1_000_000 - EPOCH_US,
        "provider": "v",
    }
    return Bill(**known | said)


class Vendor:
    """Answers as it is told; and so does the ledger, of what was charged."""

    def __init__(self) -> None:
        self.batch: dict[str, Any] | None = None
        self.output = b""
        self.asked: list[str] = []
        self.begun: list[dict[str, Any]] = []
        self.charged: int | None = 0
        self.quick = asyncio.Event()

    async def entries(self, request_id: str) -> list[dict[str, str | int]]:
        return [] if self.charged is None else [{"attempt_id": "r.1", "cost_nusd": self.charged}]

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if request.path.startswith("/slow"):
            await self.quick.wait()
        self.quick.set()
        if request.path.endswith("/batches"):
            after = request.query.get("after", "")
            at = [one["id"] for one in self.begun].index(after) + 1 if after else 0
            more = len(self.begun) > at + 1
            return web.json_response({"data": self.begun[at : at + 1], "has_more": more})
        if request.path.endswith("/content"):
            return web.Response(body=self.output)
        if self.batch is None:
            return web.Response(status=500)
        return web.json_response(self.batch)


async def run(redis: Redis, vendor: Vendor, *bills: Bill) -> Biller:
    app = web.Application()
    app.router.add_get("/{path:.*}", vendor.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        biller = Biller(
            redis,
            {FIRST: redis},
            lambda: config(url),
            replica="c",
            entries=vendor.entries,
            unix_s=lambda: NOW_S,
        )
        for number, one in enumerate(bills):
            record = Kept(
                f"batch_{number}", "acme/t", one.provider, "batch", b"{}", b"", write_bill(one)
            )
            await shelf.owe(redis, record, NOW_S)
        await biller.poll()
        return biller
    finally:
        await runner.cleanup()


async def entries(redis: Redis) -> list[Any]:
    return [decode(fields[b"e"]) for _, fields in await redis.xrange("{c0}:led")]


async def test_an_output_is_summed_line_by_line(redis_client: Redis) -> None:
    """At the prices of now and the provider's percent; a line may be long, and what is none is nothing."""
    vendor = Vendor()
    vendor.batch = {"status": "completed", "output_file_id": "f"}
    used = {"prompt_tokens": 10, "completion_tokens": 5}
    good = {"response": {"status_code": 200, "body": {"said": "x" * (1 << 20), "usage": used}}}
    bad = {"response": {"status_code": 400, "body": {}}}
    vendor.output = b"\n".join(json.dumps(one).encode() for one in (good, bad, good)) + b"\n{\n"
    biller = await run(redis_client, vendor, bill())
    assert biller.billed == 1
    assert vendor.asked == ["/v/batches/batch_0", "/v/files/f/content"]
    (entry,) = await entries(redis_client)
    assert (entry.input_tokens, entry.output_tokens, entry.protocol) == (20, 10, "openai.batches")
    assert entry.cost_nusd == (20 * 1000 + 10 * 2000) // 2
    assert (await shelf.find(redis_client, "f")) is not None


@pytest.mark.parametrize("status", [None, "validating", "in_progress", "finalizing"])
async def test_what_has_not_ended_is_looked_at_later(
    redis_client: Redis, status: str | None
) -> None:
    """Also where the provider cannot say."""
    vendor = Vendor()
    vendor.batch = None if status is None else {"status": status}
    biller = await run(redis_client, vendor, bill())
    assert biller.billed == 0
    assert await entries(redis_client) == []
    score = await redis_client.zscore("{c0}:kb", "batch_0")
    assert score == NOW_S + LOOK_EVERY_S


async def test_one_that_cannot_be_read_holds_up_no_other(redis_client: Redis) -> None:
    """A provider that is gone from the configuration, and a model that is."""
    vendor = Vendor()
    vendor.batch = {"status": "failed"}
    biller = await run(redis_client, vendor, bill(provider="gone"), bill(model="gone"))
    assert biller.billed == 1
    (entry,) = await entries(redis_client)
    assert (entry.cost_nusd, entry.model) == (0, "gone")


async def test_a_slow_provider_keeps_nobody_waiting_but_its_own(redis_client: Redis) -> None:
    """It answers when another one has been asked."""
    vendor = Vendor()
    vendor.batch = {"status": "failed"}
    async with asyncio.timeout(30):
        biller = await run(redis_client, vendor, bill(provider="slow"), bill())
    assert biller.billed == 2
    assert sorted(vendor.asked) == ["/slow/batches/batch_0", "/v/batches/batch_1"]


async def test_a_batch_that_nobody_knows_any_more_stays_charged(redis_client: Redis) -> None:
    """It is not asked for ever."""
    vendor = Vendor()
    old = bill(at_us=(NOW_S - PATIENCE_S - 1) * 1_000_000 - EPOCH_US)
    biller = await run(redis_client, vendor, old)
    assert (biller.billed, vendor.asked) == (0, [])
    assert await redis_client.zcard("{c0}:kb") == 0
    assert await entries(redis_client) == []


def begun(id_: str, ago_s: int, **said: Any) -> dict[str, Any]:
    """Write a batch as a vendor lists it."""
    known = {"id": id_, "input_file_id": "f", "endpoint": "/e", "created_at": NOW_S - ago_s}
    return known | said


@pytest.mark.parametrize(
    ("listed", "charged", "owner", "left"),
    [
        # Of another file, for another endpoint, long before, somebody's already, and then the one.
        (
            [
                begun("b1", 1000, input_file_id="g"),
                begun("b2", 1000, endpoint="/g"),
                begun("b3", 1000),
                begun("b4", 1200),
                begun("b5", 9000),
            ],
            7,
            "b4",
            0,
        ),
        # An edge may be about to write it down.
        ([begun("b1", 10)], 7, None, 1),
        # What was charged is not in the ledger yet.
        ([begun("b1", 1000)], None, None, 1),
        ([], 7, None, 0),
    ],
    ids=["found", "in flight", "not charged yet", "never begun"],
)
async def test_what_an_edge_could_not_say_is_found_out(
    redis_client: Redis,
    listed: list[dict[str, Any]],
    charged: int | None,
    owner: str | None,
    left: int,
) -> None:
    """What is nobody's and fits is whose it was meant to be; where there is none, the advance is given back."""
    vendor = Vendor()
    vendor.begun, vendor.charged = listed, charged
    vendor.batch = {"status": "in_progress"}
    await shelf.keep(redis_client, Kept("b3", "acme/u", "v", "batch", b"{}"), NOW_S)
    grave = msgpack.packb((0, 0, 0, 5, {}, 1, 0, ""), use_bin_type=False)
    wanted = shelf.Wanted("r.1", "acme/t", "v", "f", "/e", NOW_S - 1100, write_bill(bill()), grave)
    await shelf.want(redis_client, wanted)
    await run(redis_client, vendor)
    kept = await shelf.find(redis_client, owner or "b1")
    assert (kept is not None and kept.owner == "acme/t") == (owner is not None)
    assert len(await shelf.wanted(redis_client)) == left
    assert [entry.cost_nusd for entry in await entries(redis_client)] == (
        [-7] if not listed and charged else []
    )


async def test_without_a_configuration_it_waits(redis_client: Redis) -> None:
    """And goes on for as long as it is let."""
    biller = Biller(
        redis_client, {FIRST: redis_client}, lambda: None, replica="c", entries=Vendor().entries
    )
    await biller.poll()
    running = asyncio.ensure_future(biller.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert biller.billed == 0
