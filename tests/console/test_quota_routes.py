"""Laws of `/v1/quotas`: what is set is in the store before the answer, and what is held is told exactly."""

import asyncio
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import msgpack
import pytest

from console.quotas import period_ids
from ratelimit.limits import decode_scope, deployment_key, scope_key
from ratelimit.upkeep import read_scope, seed
from store.clock import EPOCH, EPOCH_US

Api = Any  # the fixture of this folder's conftest
QUOTAS = "/v1/quotas"
HELPDESK = f"{QUOTAS}/key:acme/support/helpdesk"
DEPLOYMENTS = "/v1/deployments"


async def test_a_quota_is_in_the_store_before_the_answer(api: Api) -> None:
    """The next admission on any replica obeys it, without waiting for anybody."""
    for number, rpm in enumerate((7, 8, 9), 2):
        said = await api.done("PUT", HELPDESK, {"limits": {"rpm": rpm}, "why": "tune"})
        assert (said["version"], said["kind"]) == (number, "quota.set")
        state = await read_scope(api.redis, "key:acme/support/helpdesk")
        assert state is not None
        assert (state.limit("rpm"), state.limit("tpm"), state.version) == (rpm, 6000, number)
        assert said["quota"]["limits"]["rpm"] == {
            "limit": rpm,
            "burst": rpm,
            "remaining": rpm,
            "resets_in_ms": 0,
        }
    said = await api.done(
        "PUT",
        HELPDESK,
        {
            "limits": {"rpm": None, "tpm": None, "concurrency": None},
            "budgets": [{"usd": 0.5, "per": "month", "mode": "strict"}],
            "why": "money only",
        },
    )
    state = await read_scope(api.redis, "key:acme/support/helpdesk")
    assert state is not None
    assert (state.rates, state.concurrency) == ({}, 0)
    assert (state.budgets["month"].amount_nusd, state.budgets["month"].strict) == (5 * 10**8, True)
    assert said["quota"]["limits"] == {}


@pytest.mark.parametrize(
    ("scope", "key"),
    [
        ("org:acme", scope_key("org:acme")),
        ("org:empty", scope_key("org:empty")),
        ("team:acme/support", scope_key("team:acme/support")),
        ("model:demo", scope_key("model:demo")),
        ("model:Qwen/other", scope_key("model:Qwen/other")),
        ("deployment:demo/beta", deployment_key("demo/beta")),
        ("deployment:spare", deployment_key("spare")),
    ],
)
async def test_every_kind_of_scope_can_be_tuned(api: Api, scope: str, key: str) -> None:
    """By its name, escaped or not."""
    for path in (f"{QUOTAS}/{scope}", f"{QUOTAS}/{quote(scope, safe='')}"):
        said = await api.done("PUT", path, {"limits": {"tpm": 77}, "why": "w"})
        assert said["quota"]["limits"]["tpm"]["limit"] == 77
        held = decode_scope(await api.redis.hget(key, "l2"), None)
        assert held.limit("tpm") == 77
    assert (await api.done("GET", f"{QUOTAS}/{scope}"))["scope"] == scope


async def test_the_budget_of_a_shadow_can_be_tuned(api: Api) -> None:
    """It has no limits but its concurrency, which is the experiment's own setting."""
    path = f"{QUOTAS}/shadow:dark"
    assert (await api.done("GET", path))["budgets"][0]["usd"] == 2
    body = {"budgets": [{"usd": 5, "per": "month", "mode": "strict"}], "why": "w"}
    said = await api.done("PUT", path, body)
    assert [each["usd"] for each in said["quota"]["budgets"]] == [5]
    await api.refused(422, "mistakes", "PUT", path, {"limits": {"rpm": 5}, "why": "w"})
    await api.refused(404, "not_found", "GET", f"{QUOTAS}/shadow:idle")


async def test_what_a_scope_holds_is_told(api: Api) -> None:
    """Requests, tokens, what is in flight, money spent and held; what is over counts no more."""
    await api.done("PUT", f"{QUOTAS}/team:acme/support", {"limits": {"rpm": 60}, "why": "seed"})
    await api.done("PUT", f"{QUOTAS}/org:acme", {"limits": {"concurrency": 5}, "why": "seed"})
    seconds, micros = await api.redis.time()
    now_us = seconds * 1_000_000 + micros - EPOCH_US
    ids = period_ids(EPOCH + timedelta(microseconds=now_us))
    # 30 requests taken a moment ago; a day with money, a week that is over
    shape = msgpack.unpackb(await api.redis.hget(scope_key("team:acme/support"), "l2"))[1]
    state = [shape, 3, now_us + 30_000_000, 1, ids["day"], 10**9, 5 * 10**8, 0, 0]
    state += [2, ids["week"] - 1, 9, 9, 0, 0]
    await api.redis.hset(scope_key("team:acme/support"), "s2", msgpack.packb(state))
    said = await api.done("GET", f"{QUOTAS}/team:acme/support")
    assert (said["in_flight"], said["seeded"]) == (3, True)
    rpm = said["limits"]["rpm"]
    assert rpm["limit"] == 60
    assert 30 <= rpm["remaining"] <= 33
    assert 25_000 < rpm["resets_in_ms"] <= 30_000
    day, week = said["budgets"]
    assert (day["usd"], day["per"], day["mode"]) == (3.5, "day", "strict")
    assert (day["spent_usd"], day["held_usd"]) == ("1.000000000", "0.500000000")
    assert day["remaining_usd"] == "2.000000000"
    assert day["resets_at"].endswith("T00:00:00Z")
    assert (week["spent_usd"], week["remaining_usd"]) == ("0.000000000", "10.000000000")
    said = await api.done("GET", f"{QUOTAS}/org:acme")
    assert said["limits"]["concurrency"] == {
        "limit": 5,
        "burst": 5,
        "remaining": 5,
        "resets_in_ms": None,
    }
    assert said["budgets"][0]["remaining_usd"] == "100.000000000"


async def test_scopes_with_limits_are_listed(api: Api) -> None:
    """And no others; what the store does not know yet is said."""
    said = await api.done("GET", QUOTAS)
    assert [each["scope"] for each in said["quotas"]] == [
        "org:acme",
        "team:acme/support",
        "key:acme/support/helpdesk",
        "deployment:demo/beta",
        "shadow:dark",
    ]
    assert not any(each["seeded"] for each in said["quotas"])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"limits": {"rpm": -1}, "why": "w"}, 422, "mistakes"),
        ({"limits": {"rpm": 0}, "why": "w"}, 422, "mistakes"),
        ({"limits": {"rpm": 1.5}, "why": "w"}, 422, "mistakes"),
        ({"limits": {"rpm": "60"}, "why": "w"}, 422, "mistakes"),
        ({"limits": {"rpm": "60/min"}, "why": "w"}, 422, "mistakes"),
        ({"limits": {"rpm": 10**8}, "why": "w"}, 422, "mistakes"),
        ({"limits": {"rmp": 6}, "why": "w"}, 422, "mistakes"),
        ({"limits": {"a\nb": 6}, "why": "w"}, 422, "mistakes"),
        ({"limits": [5], "why": "w"}, 422, "invalid"),
        ({"budgets": [{"usd": -5, "per": "day"}], "why": "w"}, 422, "mistakes"),
        ({"budgets": [{"usd": 5, "per": "fortnight"}], "why": "w"}, 422, "mistakes"),
        ({"budgets": [{"usd": 5, "per": "day", "mode": "hard"}], "why": "w"}, 422, "mistakes"),
        ({"budgets": [{"eur": 5, "per": "day"}], "why": "w"}, 422, "mistakes"),
        ({"budgets": [{"usd": "5", "per": "day"}], "why": "w"}, 422, "mistakes"),
        ({"budgets": [5], "why": "w"}, 422, "invalid"),
        ({"budget": {"usd": 5, "per": "day"}, "why": "w"}, 422, "invalid"),
        ({"limits": {"rpm": 5}}, 422, "invalid"),
        ({"limits": {"rpm": 5}, "why": "w", "expected": 2}, 409, "stale_version"),
        ({"limits": {"rpm": 5}, "why": "w", "force": True}, 422, "invalid"),
        ([], 400, "invalid_json"),
    ],
)
async def test_a_bad_quota_changes_nothing(api: Api, body: Any, status: int, code: str) -> None:
    """Neither the live document nor what the store obeys, byte for byte."""
    await seed(api.redis, [(scope_key("key:acme/support/helpdesk"), b"\x91\x01")], 1)
    error = await api.refused(status, code, "PUT", HELPDESK, body)
    if status == 422:
        assert error["problems"]
        assert all(each["path"] for each in error["problems"])


@pytest.mark.parametrize(
    "scope",
    ["org:nope", "key:acme/support", "tenant:acme", "acme", "deployment:demo/gamma", "a%00b"],
)
async def test_a_scope_that_is_not_there_is_not_found(api: Api, scope: str) -> None:
    """404, with what scopes look like or what was meant."""
    body = {"limits": {"rpm": 1}, "why": "w"}
    error = await api.refused(404, "not_found", "PUT", f"{QUOTAS}/{scope}", body)
    assert "expected" in error["message"] or "there is no" in error["message"]
    await api.refused(404, "not_found", "GET", f"{QUOTAS}/{scope}")


async def test_changes_without_a_version_do_not_undo_one_another(api: Api) -> None:
    """Ten operators at once, each of another limit: all ten are there."""
    scopes = ["org:acme", "org:empty", "team:acme/support", "model:demo", "deployment:demo/alpha"]
    answers = await asyncio.gather(
        *(
            api.ask("PUT", f"{QUOTAS}/{scope}", {"limits": {name: 5 + at}, "why": "race"})
            for at, scope in enumerate(scopes)
            for name in ("tpm", "concurrency")
        )
    )
    assert [status for status, _ in answers] == [200] * 10
    for at, scope in enumerate(scopes):
        state = await read_scope(api.redis, scope)
        assert state is not None
        assert (state.limit("tpm"), state.concurrency) == (5 + at, 5 + at)
