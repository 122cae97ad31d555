"""
Where a call goes that one deployment would not, or could not, serve: another model for what is too long, another vendor for what a policy blocks.

A request that nobody else may take goes back to its caller in the vendor's own words, and is never cut to fit.
"""

import json
from typing import Any

import pytest

from ratelimit.health import decode_health
from ratelimit.limits import deployment_key
from tests.proxy.edge_rig import Edge, Rig
from tests.proxy.partners import Answer, at, chat, completion, request, whole

ANSWER = completion()
TOO_LONG = json.dumps(
    {
        "error": {
            "message": "too long",
            "type": "x",
            "param": "messages",
            "code": "context_length_exceeded",
        }
    }
).encode()
BLOCKED = json.dumps(
    {"error": {"message": "no", "type": "x", "param": None, "code": "content_filter"}}
).encode()
BAD = json.dumps({"error": {"message": "no", "type": "x", "param": "n", "code": None}}).encode()


def refusal(body: bytes) -> bytes:
    return whole(body, status=b"400 Bad Request")


async def played(rig: Rig, *said: tuple[str, bytes], model: str = "auto") -> Answer:
    """Send a call, let these vendors be asked one after the other and answer; gives what the caller gets."""
    caller = await rig.caller()
    await caller.send(request(chat(model)))
    for vendor, answer in said:
        line = await rig.vendors[vendor].line()
        await line.gets()
        await line.says(answer)
    return await caller.answer()


def models(**contexts: int | None) -> dict[str, Any]:
    """Write a route of models by their contexts, each at a vendor of its own name."""
    return {
        "models": {
            name: {"context": context, "deployments": [at(name)]}
            for name, context in contexts.items()
        },
        "routes": {"auto": list(contexts)},
        "scripted": list(contexts),
    }


async def test_what_is_too_long_goes_to_a_model_with_a_larger_context(edge: Edge) -> None:
    """One that holds no more is not even asked; the ledger says why the second one was."""
    rig = await edge(**models(small=1000, smaller=500, large=9000))
    answer = await played(rig, ("small", refusal(TOO_LONG)), ("large", whole(ANSWER)))
    assert answer.status == 200
    entries = await rig.entries()
    assert [(one.model, one.reason) for one in entries][1] == ("large", "fallback:context")
    assert (entries[0].cost_nusd, entries[0].status) == (0, 400)
    assert decode_health(await rig.redis.hget(deployment_key("small/small"), "h")).kinds == {}


async def test_what_a_policy_blocks_goes_to_another_vendor(edge: Edge) -> None:
    """Not to another model of the same one."""
    said = models(a=None, b=None)
    said["models"]["c"] = {"deployments": [at("a", "other-model")]}
    said["routes"]["auto"] = ["a", "c", "b"]
    rig = await edge(**said)
    answer = await played(rig, ("a", refusal(BLOCKED)), ("b", whole(ANSWER)))
    assert answer.status == 200
    assert [one.reason for one in await rig.entries()][1] == "fallback:policy"


@pytest.mark.parametrize(
    ("body", "contexts"),
    [
        (TOO_LONG, {"small": 1000, "other": 1000}),
        (TOO_LONG, {"only": None}),
        (BAD, {"small": 1000, "large": 9000}),
    ],
    ids=["nobody holds more", "nobody else", "the caller's to put right"],
)
async def test_what_nobody_else_may_take_goes_back_in_the_vendors_words(
    edge: Edge, body: bytes, contexts: dict[str, int | None]
) -> None:
    """As the vendor said it: the caller decides what to leave out."""
    rig = await edge(**models(**contexts))
    answer = await played(rig, (next(iter(contexts)), refusal(body)))
    assert (answer.status, answer.json) == (400, json.loads(body))
    assert len(await rig.entries()) == 1


async def test_an_outage_is_not_answered_with_more_load_than_the_budget_allows(edge: Edge) -> None:
    """Second tries are refused when their share is used up; what is refused says what the vendor did."""
    rig = await edge(
        models={"one": ["sim;status=500"], "two": ["sim;status=503"]},
        routes={"auto": ["one", "two"]},
        edge={"retry_ratio": 0},
    )
    answer = await rig.ask(chat("auto"))
    assert (answer.status, answer.error["code"]) == (500, "upstream_refused")
    assert len(await rig.entries()) == 1
    assert (rig.edge.retries.made, rig.edge.retries.refused) == (0, 1)


async def test_what_a_vendor_says_is_left_is_known_to_all(edge: Edge) -> None:
    """An answer that was fine came with nothing left: the next call goes elsewhere, or is told when."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    nothing = b"x-ratelimit-remaining-requests: 0", b"x-ratelimit-reset-requests: 20s"
    assert (await played(rig, ("v", whole(ANSWER, *nothing)), model="m")).status == 200
    await rig.at_rest()
    answer = await rig.ask(chat())
    assert answer.status == 429
    assert "m/v: throttled" in answer.error["message"]
    assert 10 <= int(answer.header("retry-after") or 0) <= 20


@pytest.mark.parametrize("policy", ["declared", "cost_quality"])
async def test_a_route_degrades_before_it_refuses(edge: Edge, policy: str) -> None:
    """When none of its models can take a call, those that it names for need do; and no sooner."""
    rig = await edge(
        models={
            "good": {"quality": 0.9, "deployments": [at("mock", "sim", limits={"rpm": 1})]},
            "cheap": {
                "quality": 0.9,
                "price": {"input": 0.001, "output": 0.001},
                "deployments": ["sim"],
            },
        },
        routes={"auto": {"models": ["good"], "degrade": ["cheap"], "policy": policy}},
    )
    first, second = await rig.ask(chat("auto")), await rig.ask(chat("auto"))
    assert first.header("x-penstock-model") == "good"
    assert second.header("x-penstock-model") == "cheap"
    assert [(one.model, one.reason == "degraded") for one in await rig.entries()] == [
        ("good", False),
        ("cheap", True),
    ]
    assert "reason=degraded" in (second.header("x-penstock-route") or "")
