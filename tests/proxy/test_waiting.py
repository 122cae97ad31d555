"""What callers see of a full deployment: a short wait instead of a refusal, as long as they have time."""

import asyncio
from typing import Any

import pytest

from tests.proxy.edge_rig import Edge, Rig, eventually
from tests.proxy.partners import Answer, at, chat, request, usage, whole

FULL = at("v", limits={"concurrency": 1})


async def busy(make: Edge, **said: Any) -> tuple[Rig, "asyncio.Task[Answer]", Any]:
    """Start an edge whose only deployment has one place, and take it: the call, and its line to the vendor."""
    rig = await make(models={"m": [FULL]}, scripted=["v"], **said)
    first = asyncio.get_running_loop().create_task(rig.ask(chat("m")))
    line = await rig.vendors["v"].line()
    await line.gets()
    return rig, first, line


def done(text: str) -> bytes:
    return whole(
        b'{"choices":[{"index":0,"message":{"content":"%b"},"finish_reason":"stop"}],"usage":%b}'
        % (text.encode(), str(usage()).replace("'", '"').encode())
    )


def waits(rig: Rig) -> dict[str, int]:
    """Return how many waits ended how."""
    found = rig.edge.metrics.snapshot("x")["histograms"].get("penstock_wait_seconds", {})
    return {outcome: row[2] for outcome, row in found.items() if row[2]}


async def test_a_call_waits_for_its_place_and_is_served(edge: Edge) -> None:
    """The second call is not refused: it is sent when the first has ended, and booked like any other."""
    rig, first, line = await busy(edge, edge={"queue_timeout_ms": 10_000})
    second = asyncio.get_running_loop().create_task(rig.ask(chat("m")))
    await eventually(lambda: rig.edge.gate.waiting)
    await line.says(done("one"))
    await line.gets()
    await line.says(done("two"))
    assert [(await call).status for call in (first, second)] == [200, 200]
    assert waits(rig) == {"granted": 1}
    entries = await rig.entries()
    # The wait is the vendor's, not what the gateway adds.
    assert [entry.outcome for entry in entries] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("said", "headers", "counted"),
    [
        ({"queue_timeout_ms": 30}, (), {"refused": 1}),
        ({"queue_timeout_ms": 10_000}, ("x-deadline-ms: 30",), {"refused": 1}),
        ({"queue_timeout_ms": 0}, (), {}),
    ],
)
async def test_the_wait_is_bounded(
    edge: Edge, said: dict[str, int], headers: tuple[str, ...], counted: dict[str, int]
) -> None:
    """By the configuration and by the caller's deadline; then the refusal says why, and when to come again."""
    rig, first, line = await busy(edge, edge=said)
    answer = await rig.ask(chat("m"), *headers)
    assert answer.status == 429
    assert "concurrency" in answer.error["message"]
    assert answer.header("retry-after")
    assert waits(rig) == counted
    await line.says(done("one"))
    assert (await first).status == 200


async def test_premium_goes_before_economy(edge: Edge) -> None:
    """Whoever came first, the more important call is served first; a call may declare itself less important."""
    rig, first, line = await busy(
        edge, edge={"queue_timeout_ms": 10_000}, key={"biz_level": "premium"}
    )
    served: list[str] = []

    async def ask(level: str) -> None:
        assert (await rig.ask(chat("m", user=level), f"x-biz-level: {level}")).status == 200

    calls = []
    for count, level in enumerate(("economy", "normal", "premium"), 1):
        calls.append(asyncio.get_running_loop().create_task(ask(level)))
        await eventually(lambda wanted=count: rig.edge.gate.waiting == wanted)
    for _ in range(3):
        await line.says(done("x"))
        served.append((await line.gets()).json["user"])
    await line.says(done("x"))
    await asyncio.gather(first, *calls)
    assert served == ["premium", "normal", "economy"]


async def test_a_caller_that_leaves_while_it_waits_is_forgotten(edge: Edge) -> None:
    """Its place goes to nobody's ghost, and nothing is booked for it."""
    rig, first, line = await busy(edge, edge={"queue_timeout_ms": 10_000})
    caller = await rig.caller()
    await caller.send(request(chat("m")))
    await eventually(lambda: rig.edge.gate.waiting)
    await caller.leave()
    await eventually(lambda: not rig.edge.gate.waiting)
    await line.says(done("one"))
    assert (await first).status == 200
    assert waits(rig) == {"left": 1}
    assert await rig.outcomes() == ["ok"]


@pytest.mark.parametrize("header", ["x-biz-level: vip", "x-deadline-ms: soon"])
async def test_a_declaration_that_is_none_is_refused_by_name(edge: Edge, header: str) -> None:
    """400, before anything is admitted."""
    rig = await edge(models={"m": ["sim"]})
    answer = await rig.ask(chat("m"), header)
    assert answer.status == 400
    assert answer.error["param"] == header.partition(":")[0]
    assert await rig.entries() == []
