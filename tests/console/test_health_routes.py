"""Laws of GET /v1/health: every deployment, with what probes, calls and vendors have said of it."""

from typing import Any

import msgpack

from ratelimit.limits import deployment_key
from ratelimit.reports import OFFLINE_AFTER, Finding, report

Api = Any  # the fixtures of this folder's conftest


async def test_every_deployment_is_told_of(api: Api) -> None:
    """In the order of the document; what nobody knows is unknown."""
    await api.done("PATCH", "/v1/deployments/demo/beta", {"weight": 4, "why": "seed"})
    gone = Finding(fine=False, why="timed_out", took_us=5_000_000)
    for _ in range(OFFLINE_AFTER):
        await report(api.redis, "demo/beta", gone, interval_s=30)
    said = await api.done("GET", "/v1/health")
    assert [(each["id"], each["state"]) for each in said["deployments"]] == [
        ("demo/alpha", "unknown"),
        ("demo/beta", "offline"),
        ("spare", "unknown"),
    ]
    found = said["deployments"][1]
    assert found["kinds"] == dict.fromkeys(("whole", "stream", "tools"), "offline")
    assert (found["probe"]["why"], found["probe"]["failures"]) == ("timed_out", OFFLINE_AFTER)
    assert said["deployments"][0]["probe"] is None


async def test_a_broken_kind_and_what_a_vendor_says_is_left_are_told(api: Api) -> None:
    """As the store keeps them."""
    await api.done("PATCH", "/v1/deployments/demo/beta", {"weight": 4, "why": "seed"})
    seconds, _ = await api.redis.time()
    now = (seconds - 1_704_067_200) * 1_000_000
    row = ["", 0, 0, 7, now + 20_000_000, 0, 0, 0]
    row += [2, 0, 0, now, 0, 1, now, now + 30_000_000, 0]
    await api.redis.hset(deployment_key("demo/beta"), "h", msgpack.packb(row))
    found = (await api.done("GET", "/v1/health"))["deployments"][1]
    assert (found["state"], found["kinds"]["stream"]) == ("unknown", "offline")
    assert found["breaker"] == {"stream": "open"}
    assert found["left"]["requests"]["amount"] == 7
    assert 0 < found["left"]["requests"]["resets_us"] <= 20_000_000
