"""
Limits and budgets of every scope, as callers meet them at the edge; and strict budgets under everything that could get past them.

What the scripts do with a limit is held in `tests/ratelimit`; here it is that the edge asks them for the right thing.
"""

import asyncio
from typing import Any

import pytest

from config.live import acknowledgements
from ratelimit.upkeep import read_scope
from store.cells import FIRST, cell
from tests.proxy.edge_rig import Rig, eventually
from tests.proxy.partners import chat, request

Edge = Any  # the fixture of this folder's conftest

ROOM_NUSD = 20_000_000
STRICT = {"usd": ROOM_NUSD / 1e9, "per": "day", "mode": "strict"}


async def asked(rig: Rig, count: int, body: Any) -> list[int]:
    """Make so many calls at once; return their statuses."""
    answers = await asyncio.gather(
        *(rig.ask(body(n) if callable(body) else body) for n in range(count))
    )
    return [answer.status for answer in answers]


def dear(tokens: int = 3000) -> dict[str, Any]:
    """Write a model whose answers are as long as they may be."""
    return {"deployments": [f"sim;tokens={tokens}"], "max_output": 4000}


SLOW = "sim;tokens=3000;interval_ms=20"
FAILING = "sim;status=500"

# What could get past a budget: how the models are, what each call says, and how many calls there are.
HAZARDS: dict[str, tuple[dict[str, Any], Any]] = {
    "many calls at once": ({"m": dear()}, chat()),
    "a cap beyond the budget": ({"m": dear()}, chat(max_tokens=1_000_000)),
    "two caps in conflict": ({"m": dear()}, chat(max_tokens=1, max_completion_tokens=4000)),
    "two caps in conflict, the other way": (
        {"m": dear()},
        chat(max_tokens=4000, max_completion_tokens=1),
    ),
    "many choices": ({"m": dear(900)}, chat(n=4)),
    "many choices and a cap": ({"m": dear()}, chat(n=3, max_completion_tokens=900)),
    "users whom nobody knows": ({"m": dear()}, lambda n: chat(user=f"nobody-{n}")),
    "retries": (
        {"m": {"deployments": [FAILING, "sim;tokens=3000"], "max_output": 4000}},
        chat(),
    ),
    "retries that are billed": (
        {
            "m": {
                "deployments": ["sim;tokens=3000;error=mid", "sim;tokens=3000"],
                "max_output": 4000,
            }
        },
        chat(stream=True),
    ),
    "streams that are cut": (
        {"m": {"deployments": ["sim;tokens=3000;cut=2000"]}},
        chat(stream=True),
    ),
    "no usage from the vendor": (
        {"m": {"deployments": ["sim;tokens=3000;usage=off"], "max_output": 4000}},
        chat(stream=True),
    ),
}


@pytest.mark.parametrize("hazard", HAZARDS)
async def test_a_strict_budget_holds(edge: Edge, hazard: str) -> None:
    """Whatever is asked for, what is spent stays within it; and it is used, not just closed."""
    models, body = HAZARDS[hazard]
    rig = await edge(models=models, team={"budget": STRICT})
    statuses = await asked(rig, 12, body)
    for n in range(12, 40):
        # What is not settled yet holds more than it costs, and would close the budget too soon.
        await rig.at_rest()
        statuses += await asked(rig, 1, body(n) if callable(body) else body)
        if statuses[-1] == 402:
            break
    await rig.at_rest()
    assert set(statuses) <= {200, 402, 500, 502}
    assert 402 in statuses or hazard == "streams that are cut"
    spent = sum(entry.cost_nusd for entry in await rig.entries())
    assert ROOM_NUSD // 4 < spent <= ROOM_NUSD or hazard == "streams that are cut"
    scope = (await rig.scopes())["{c0}:s:team:acme/support"]
    assert scope.budgets["day"].spent_nusd == spent <= ROOM_NUSD


async def test_a_strict_budget_holds_over_a_fallback_to_a_dearer_model(edge: Edge) -> None:
    """Each attempt reserves at its own model's prices; one that is not affordable is not made."""
    rig = await edge(
        models={
            "cheap": {"deployments": [FAILING], "max_output": 4000},
            "dear": {
                "deployments": ["sim;tokens=3000"],
                "max_output": 4000,
                "price": {"input": 5, "output": 10},
            },
        },
        routes={"auto": ["cheap", "dear"]},
        team={"budget": STRICT},
    )
    statuses = await asked(rig, 8, chat("auto"))
    await rig.at_rest()
    assert 200 in statuses
    assert sum(entry.cost_nusd for entry in await rig.entries()) <= ROOM_NUSD


async def test_a_strict_budget_holds_when_callers_leave(edge: Edge) -> None:
    """What was streamed until then is charged, within what was reserved, and the rest is free again."""
    rig = await edge(
        models={"m": {"deployments": [SLOW], "max_output": 4000}}, team={"budget": STRICT}
    )
    callers = [await rig.caller() for _ in range(4)]
    for caller in callers:
        await caller.send(request(chat(stream=True)))
    await eventually(lambda: len(rig.edge.streams) >= 2)
    for caller in callers:
        await caller.leave()
    await rig.at_rest()
    scope = (await rig.scopes())["{c0}:s:team:acme/support"]
    assert scope.budgets["day"].held_nusd == 0
    spent = sum(entry.cost_nusd for entry in await rig.entries())
    assert scope.budgets["day"].spent_nusd == spent <= ROOM_NUSD


async def test_each_user_has_a_budget_of_his_own(edge: Edge) -> None:
    """The request says who it is, or the key does; one who has spent his own refuses nobody else."""
    budget = {"usd": 0.002, "per": "month"}
    rig = await edge(
        models={"m": ["sim;tokens=1000"]},
        organization={
            "users": {"default": {"budget": budget}, "rich": {"budget": budget | {"usd": 5}}}
        },
    )
    for user in ("ann", "bob", None, "rich"):
        assert (await rig.ask(chat(user=user))).status == 200
    for user in ("ann", "bob", None):
        answer = await rig.ask(chat(user=user))
        assert answer.status == 402
        assert f"user {user or 'someone'} of acme" in answer.error["message"]
        assert "begins anew at" in answer.error["message"]
    assert (await rig.ask(chat(user="rich"))).status == 200
    assert (await rig.ask(chat(user="cy"))).status == 200


async def test_a_user_cannot_name_somebody_elses_scope(edge: Edge) -> None:
    """Whatever he calls himself, it is one name in his own organization."""
    rig = await edge(
        models={"m": ["sim;tokens=1"]}, organization={"users": {"default": {"limits": {"rpm": 1}}}}
    )
    for name in ("acme#ann", "#", "ann}", "{c1}", "default", "a\tb", "ü" * 200):
        assert (await rig.ask(chat(user=name))).status == 200
        assert (await rig.ask(chat(user=name))).status == 429
    keys = [key for key in await rig.scopes() if key.startswith("{c0}:s:user:")]
    assert all(key.startswith("{c0}:s:user:acme#") for key in keys)
    assert len(keys) == 7


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (
            {"organization": {"limits": {"rph": 1}}},
            "organization acme is reached: 1 requests per hour",
        ),
        ({"team": {"limits": {"rpd": 1}}}, "team acme/support is reached: 1 requests per day"),
        ({"key": {"limits": {"rps": 1, "burst": {"rps": 1}}}}, "1 requests per second"),
        (
            {"organization": {"applications": {"default": {"limits": {"rpm": 1}}}}},
            "application desk of acme is reached",
        ),
        (
            {"organization": {"business_lines": {"service": {"limits": {"rpm": 1}}}}},
            "business line service of acme is reached",
        ),
        ({"team": {"limits": {"otpd": 100}}}, "100 output tokens per day"),
        ({"team": {"limits": {"rpm": 60, "burst": {"rpm": 1}}}}, "60 requests per minute"),
    ],
)
async def test_the_limit_that_binds_is_named(edge: Edge, where: Any, words: str) -> None:
    """Its scope, how much in which window, and when to come back: in the body and in the header alike."""
    rig = await edge(models={"m": ["sim;tokens=100"]}, **where)
    assert (await rig.ask(chat(max_tokens=100))).status == 200
    answer = await rig.ask(chat(max_tokens=100))
    assert answer.status == 429
    assert words in answer.error["message"]
    seconds = float(answer.error["message"].split("Try again in ")[1].split(" s.")[0])
    assert abs(int(answer.header("retry-after-ms") or 0) / 1000 - seconds) < 0.002
    assert answer.header("x-should-retry") == "true"


async def test_a_provider_that_is_at_its_limit_is_passed_over(edge: Edge) -> None:
    """Over all its deployments and models; a spent budget of a model, too, and it is not the caller's."""
    rig = await edge(
        models={
            "m": ["sim;tokens=1"],
            "n": {"deployments": ["sim;tokens=1000"], "budget": {"usd": 0.001, "per": "total"}},
        },
        provider={"limits": {"rph": 2}},
    )
    assert (await rig.ask(chat("n"))).status == 200
    spent = await rig.ask(chat("n"))
    assert (spent.status, spent.error["code"]) == (503, "no_deployment")
    assert "own_budget" in spent.error["message"]
    assert (await rig.ask(chat())).status == 200
    full = await rig.ask(chat())
    assert (full.status, full.error["code"]) == (429, "no_deployment")
    assert "provider_limit" in full.error["message"]


async def test_a_tenant_is_held_to_its_limits_in_its_own_cell(edge: Edge) -> None:
    """What it is limited by, what it holds and what it cost lie there; of the vendor's places it has a share."""
    rig = await edge(
        models={"m": {"deployments": [{"provider": "mock", "limits": {"concurrency": 8}}]}},
        store={"cells": 2},
        organization={"cell": 1, "limits": {"rpm": 3}},
    )
    there = cell(1)
    statuses = []
    for _ in range(5):
        statuses.append((await rig.ask(chat())).status)
        # Nobody has divided yet, so that it has one place there.
        await rig.at_rest()
    assert statuses == [200, 200, 200, 429, 429]
    assert await rig.redis.xlen(there.ledger) == 3
    assert not await rig.redis.exists(FIRST.ledger)
    assert {scope for scope in await rig.scopes() if "acme" in scope} == set()
    share = await read_scope(rig.redis, "deployment:m/mock", there)
    assert share is not None
    assert (share.concurrency, share.version) == (1, 0)


async def test_an_edge_has_the_cells_with_which_it_started(edge: Edge) -> None:
    """Another number is refused, and said to whoever asks for the status; what runs goes on."""
    rig = await edge(models={"m": ["sim;tokens=5"]}, store={"cells": 2})
    await rig.publish(store={"cells": 3})

    async with asyncio.timeout(20):
        while not (said := next(iter((await acknowledgements(rig.redis)).values()))).error:  # noqa: ASYNC110 - said in the store
            await asyncio.sleep(0.01)
    assert said.error == "store.cells is 3 there and 2 here; start this edge anew"
    assert (await rig.ask(chat())).status == 200
    rig.expected_alarms = 1
