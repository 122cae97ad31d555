"""Laws of `/v1/config`: versions that nobody overwrites unseen, and documents that show no secret."""

import asyncio
import re
from typing import Any

import pytest
from redis.asyncio import Redis

from config import live
from config.secrets import hash_key
from ratelimit.upkeep import read_scope
from tests.console.conftest import SECRETS

Api = Any  # the fixture of this folder's conftest
CONFIG, APPLY, DIFF = "/v1/config", "/v1/config/apply", "/v1/config/diff"
ROLLBACK = "/v1/config/rollback"


async def edited(api: Api, before: str, after: str) -> str:
    """Give the exported document with a part of it replaced."""
    document = (await api.done("GET", CONFIG))["document"]
    assert before in document
    return document.replace(before, after)


async def test_what_is_live_is_shown_without_secrets(api: Api) -> None:
    """Document, number, who, why, when; hashes of callers' keys, masks for what is in clear."""
    said = await api.done("GET", CONFIG)
    assert (said["version"], said["by"], said["why"], said["kind"]) == (
        1,
        "test",
        "start",
        "config.file",
    )
    assert said["at"].endswith("Z")
    assert said["digest"] == live.digest_of(await api.document())
    assert SECRETS.keyed(hash_key("sk-caller-canary-0123456789")) in said["document"]
    assert "${VENDOR_KEY}" in said["document"]
    assert said["document"].count("***") == 3
    assert api.headers["ETag"] == '"1"'
    assert api.headers["Cache-Control"] == "no-store"


async def test_an_export_that_is_applied_changes_nothing(api: Api) -> None:
    """No version is made, and the store stays as it is."""
    document = (await api.done("GET", CONFIG))["document"]
    before = await api.everything()
    body = {"document": document, "why": "again", "expected": 1}
    said = await api.done("POST", APPLY, body)
    assert (said["version"], said["published"], said["changes"]) == (1, False, [])
    assert await api.everything() == before


async def test_a_document_is_compared_applied_noted_and_taken_back(api: Api) -> None:
    """The whole way, and every step is in the history."""
    document = await edited(api, "rpm: 6000", "rpm: 7000")
    changes = [{"path": "organizations.acme.limits.rpm", "before": 6000, "after": 7000}]
    said = await api.done("POST", DIFF, {"document": document})
    assert (said["version"], said["changes"]) == (1, changes)
    said = await api.done(
        "POST",
        APPLY,
        {"document": document, "why": "more for acme", "expected": 1},
        headers={"x-penstock-actor": "ann"},
    )
    assert (said["version"], said["by"], said["why"]) == (2, "ann", "more for acme")
    assert (said["kind"], said["published"], said["changes"]) == ("config.apply", True, changes)
    assert api.headers["ETag"] == '"2"'
    assert "api_key: clear-canary-of-beta" in await api.document()
    state = await read_scope(api.redis, "org:acme")
    assert state is not None
    assert (state.limit("rpm"), state.version) == (7000, 2), "the next admission obeys"
    said = await api.done("POST", ROLLBACK, {"version": 1, "why": "too much", "expected": 2})
    assert (said["version"], said["kind"], said["by"]) == (3, "config.rollback", "admin")
    first = await live.version(api.redis, 1)
    assert first is not None
    assert await api.document() == first.document
    state = await read_scope(api.redis, "org:acme")
    assert state is not None
    assert (state.limit("rpm"), state.version) == (6000, 3)
    said = await api.done("GET", "/v1/config/versions")
    assert [(each["version"], each["by"], each["kind"]) for each in said["versions"]] == [
        (3, "admin", "config.rollback"),
        (2, "ann", "config.apply"),
        (1, "test", "config.file"),
    ]
    said = await api.done("GET", "/v1/config/versions/2")
    assert said["changes"] == changes
    assert "rpm: 7000" in said["document"]
    assert (await api.done("GET", "/v1/config/versions/1"))["changes"] is None


@pytest.mark.parametrize("number", ["0", "7", "x", "1e3", "-1", "9" * 30, "%00"])
async def test_a_version_that_is_not_kept_is_not_found(api: Api, number: str) -> None:
    """404, and which are."""
    await api.refused(404, "not_found", "GET", f"/v1/config/versions/{number}")


async def test_a_stale_version_is_told_what_changed(api: Api) -> None:
    """409, the current version, and the differences since the one that was started from."""
    document = await edited(api, "rpm: 6000", "rpm: 7000")
    await api.done("POST", APPLY, {"document": document, "why": "first", "expected": 1})
    body = {"document": document, "why": "second", "expected": 1}
    error = await api.refused(409, "stale_version", "POST", APPLY, body)
    assert (error["expected"], error["current"]) == (1, 2)
    assert error["changes"] == [
        {"path": "organizations.acme.limits.rpm", "before": 6000, "after": 7000}
    ]
    error = await api.refused(409, "stale_version", "POST", APPLY, {**body, "expected": 99})
    assert error["changes"] is None
    body.pop("expected")
    error = await api.refused(
        409, "stale_version", "POST", APPLY, body, headers={"If-Match": '"1"'}
    )
    assert error["current"] == 2


async def test_of_two_operators_one_is_told_of_the_other(api: Api) -> None:
    """However close they are: one version, one refusal that shows it."""
    for number in range(1, 6):
        document = (await api.done("GET", CONFIG))["document"]
        bodies = [
            {
                "document": re.sub("tpm: [0-9]+", f"tpm: {n}{number}", document),
                "why": "race",
                "expected": number,
            }
            for n in (1, 2, 3)
        ]
        answers = await asyncio.gather(*(api.ask("POST", APPLY, body) for body in bodies))
        assert sorted(status for status, _ in answers) == [200, 409, 409]
        current = await live.current(api.redis)
        assert current is not None
        assert current.number == number + 1


async def test_every_mistake_of_a_document_is_said(api: Api) -> None:
    """422, each with its place and remedy; the same for a comparison."""
    body = {"document": "providers: {x: {protocl: openai}}\nroutes: {auto: {models: [nope]}}\n"}
    for path, more in ((DIFF, {}), (APPLY, {"why": "w", "expected": 1})):
        error = await api.refused(422, "mistakes", "POST", path, {**body, **more})
        said = {(each["path"], each["line"], each["nearest"]) for each in error["problems"]}
        assert ("providers.x.protocl", 1, "protocol") in said
        assert len(error["problems"]) == 4
        assert all(each["source"] == "document" for each in error["problems"])


@pytest.mark.parametrize(
    "document",
    [
        "a: [",
        "x: 1",
        "\x00",
        "models: {m: {limits: {rpm: -5}, deployments: [{provider: alpha}]}}",
        "models: {m: {deployments: [{provider: nowhere}]}}",
        "organizations: {a: {limits: {rpm: 5/s}}}",
        "organizations: {a: {budget: {usd: -1, per: day}}}",
        "organizations: {" + "a" * 129 + ": {}}",
        "organizations: {a: {teams: {t: {keys: {k: {key: '${SURELY_NOT_SET}'}}}}}}",
        "providers: {p: {protocol: openai, base_url: http://h, api_key: '***'}}",
        "&a [" * 100,
        "x: " + "a" * (9 * 1024 * 1024),
    ],
)
async def test_a_bad_document_changes_nothing(api: Api, document: str) -> None:
    """Whatever is wrong with it."""
    body = {"document": document, "why": "w", "expected": 1}
    error = await api.refused(422, "mistakes", "POST", APPLY, body)
    assert error["problems"]


async def test_going_back_is_checked_as_well(api: Api) -> None:
    """A version that is not kept is 404; one that cannot be loaded any more is refused."""
    body = {"version": 9, "why": "w", "expected": 1}
    await api.refused(404, "not_found", "POST", ROLLBACK, body)
    bad = "providers: {p: {protocol: openai, base_url: http://h, api_key: '${GONE}'}}\n"
    await live.publish(api.redis, bad, by="x", why="y", expected=1)
    await api.done("POST", ROLLBACK, {"version": 1, "why": "w", "expected": 2})
    error = await api.refused(
        422, "mistakes", "POST", ROLLBACK, {"version": 2, "why": "w", "expected": 3}
    )
    assert "GONE" in error["message"]


async def test_status_tells_who_runs_what(api: Api) -> None:
    """Edges that beat count, dead ones are shown and do not; an error is shown with its replica."""
    seconds, micros = await api.redis.time()
    now_us = seconds * 1_000_000 + micros - 1_704_067_200 * 1_000_000
    await api.redis.zadd(
        "{c0}:r",
        {"h/0.b1": now_us + 9e6, "h/1.b2": now_us + 9e6, "h/2.b3": -1, "h/2.b2": now_us - 1},
    )
    await live.acknowledge(api.redis, "h/0", 1, None)
    await live.acknowledge(api.redis, "h/2", 1, None)
    await live.acknowledge(api.redis, "here/control", 1, None)
    await live.acknowledge(api.redis, "other/control", 1, None)
    said = await api.done("GET", "/v1/config/status")
    assert (said["version"], said["everywhere"]) == (1, False)
    rows = {each["replica"]: each for each in said["replicas"]}
    assert {name: (row["live"], row["version"], row["current"]) for name, row in rows.items()} == {
        "h/0": (True, 1, True),
        "h/1": (True, None, False),
        "h/2": (False, 1, True),
        "here/control": (True, 1, True),
        "other/control": (None, 1, True),
    }
    assert 0 <= rows["h/0"]["age_ms"] < 10_000
    await live.acknowledge(api.redis, "h/1", 1, "no such file")
    said = await api.done("GET", "/v1/config/status")
    assert (said["everywhere"], said["replicas"][1]["error"]) == (False, "no such file")
    await live.acknowledge(api.redis, "h/1", 1, None)
    assert (await api.done("GET", "/v1/config/status"))["everywhere"] is True


async def test_before_the_first_version_nothing_can_be_changed(
    api: Api, redis_client: Redis
) -> None:
    """503, not 500."""
    await redis_client.flushall()
    body = {"document": "{}", "why": "w", "expected": 1}
    await api.refused(503, "not_ready", "POST", APPLY, body)
    await api.refused(503, "not_ready", "GET", CONFIG)
    assert (await api.done("GET", "/v1/config/versions"))["versions"] == []


async def test_tenants_lie_elsewhere_only_while_nothing_runs(api: Api) -> None:
    """A change of the cells is refused with what to do, and nothing is published."""
    document = (await api.done("GET", CONFIG))["document"] + "store: {cells: 2}\n"
    body = {"document": document, "why": "more room", "expected": 1}
    said = await api.refused(409, "cells_are_fixed", "POST", APPLY, body)
    assert said["message"] == "store.cells: 1 -> 2: this changes only while no edge runs"
    (problem,) = said["problems"]
    assert problem["path"] == "store.cells"
    assert problem["remedy"] == "stop every edge, change the file, and start again"
    assert (await api.done("GET", CONFIG))["version"] == 1
