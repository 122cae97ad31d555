"""Laws of what is configured by name: whole sections with the version they were made from, deployments one setting at a time."""

import re
from typing import Any

import msgpack
import pytest

from ratelimit.limits import deployment_key
from ratelimit.upkeep import read_scope

Api = Any  # the fixture of this folder's conftest
BETA = "/v1/deployments/demo/beta"


@pytest.mark.parametrize(
    ("path", "kind", "section", "changed"),
    [
        (
            "/v1/providers/gamma",
            "provider",
            {"protocol": "openai", "base_url": "http://h", "api_key": "${VENDOR_KEY}"},
            "providers.gamma",
        ),
        (
            "/v1/models/Qwen/new",
            "model",
            {"quality": 0.5, "deployments": [{"provider": "alpha"}]},
            "models.Qwen/new",
        ),
        ("/v1/routes/cheap", "route", {"models": ["demo"]}, "routes.cheap"),
        (
            "/v1/experiments/mini",
            "experiment",
            {"asked": "auto", "arms": {"old": {"weight": 9}, "new": {"model": "demo"}}},
            "experiments.mini",
        ),
        (
            "/v1/organizations/globex",
            "organization",
            {"limits": {"rpm": 5}},
            "organizations.globex",
        ),
        (
            "/v1/teams/acme/sales",
            "team",
            {"budget": {"usd": 1, "per": "day"}},
            "organizations.acme.teams.sales",
        ),
    ],
)
async def test_a_section_comes_is_shown_and_goes(
    api: Api, path: str, kind: str, section: dict[str, Any], changed: str
) -> None:
    """Put twice it changes nothing the second time."""
    await api.refused(404, "not_found", "GET", path)
    await api.refused(422, "invalid", "PUT", path, {kind: section, "why": "no version"})
    body = {kind: section, "why": "new", "expected": 1}
    said = await api.done("PUT", path, body)
    assert said["changes"] == [{"path": changed, "before": None, "after": section}]
    assert said["kind"] == f"{kind}.put"
    shown = await api.done("GET", path)
    assert (shown["version"], shown["section"]) == (2, section)
    again = await api.done("PUT", path, {**body, "expected": 2})
    assert (again["version"], again["published"]) == (2, False)
    await api.refused(409, "stale_version", "DELETE", f"{path}?why=w&expected=1")
    said = await api.done("DELETE", f"{path}?why=w&expected=2")
    assert (said["kind"], said["changes"][0]["after"]) == (f"{kind}.remove", None)
    await api.refused(404, "not_found", "DELETE", f"{path}?why=w")


async def test_sections_are_listed_without_secrets(api: Api) -> None:
    """Everything that is configured; a secret is a mask, a caller's key the beginning of its hash."""
    said = (await api.done("GET", "/v1/providers"))["sections"]
    assert said["alpha"]["api_key"] == "${VENDOR_KEY}"
    assert (said["beta"]["api_key"], said["beta"]["headers"]) == ("***", {"x-auth": "***"})
    assert list((await api.done("GET", "/v1/models"))["sections"]) == ["demo", "Qwen/other"]
    assert (await api.done("GET", "/v1/routes"))["sections"] == {
        "auto": {"models": ["demo", "Qwen/other"]}
    }
    said = (await api.done("GET", "/v1/organizations"))["sections"]
    key = said["acme"]["teams"]["support"]["keys"]["helpdesk"]["key"]
    assert re.fullmatch(r"hmac-sha256:[0-9a-f]{8}:[0-9a-f]{8}…", key)
    assert said["empty"] == {}


async def test_a_section_that_was_shown_can_be_put_back(api: Api) -> None:
    """Masks keep what is live, so that an operator may edit the rest."""
    section = (await api.done("GET", "/v1/providers/beta"))["section"]
    body = {"provider": {**section, "idle_timeout_s": 7}, "why": "w", "expected": 1}
    said = await api.done("PUT", "/v1/providers/beta", body)
    assert said["changes"] == [
        {"path": "providers.beta.idle_timeout_s", "before": None, "after": 7}
    ]
    assert "clear-canary-of-beta" in await api.document()
    body = {"provider": section, "why": "w", "expected": 2}
    error = await api.refused(422, "mistakes", "PUT", "/v1/providers/new", body)
    assert {each["path"] for each in error["problems"]} == {
        "providers.new.api_key",
        "providers.new.headers.x-auth",
    }


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("DELETE", "/v1/providers/alpha?why=w", None, 422, "mistakes"),
        ("DELETE", "/v1/models/demo?why=w", None, 422, "mistakes"),
        ("DELETE", "/v1/routes/auto?why=w", None, 422, "mistakes"),
        ("DELETE", "/v1/organizations/acme?why=w", None, 409, "not_empty"),
        ("DELETE", "/v1/teams/acme/support?why=w", None, 409, "not_empty"),
        ("DELETE", "/v1/teams/acme?why=w", None, 404, "not_found"),
        ("DELETE", "/v1/teams/acme%2Fsupport/x?why=w", None, 404, "not_found"),
        ("PUT", "/v1/routes/demo", {"route": {"models": ["demo"]}}, 422, "mistakes"),
        ("PUT", "/v1/routes/r", {"route": {"models": ["gone"]}}, 422, "mistakes"),
        ("PUT", "/v1/routes/r", {"route": {"model": ["demo"]}}, 422, "mistakes"),
        ("PUT", "/v1/routes/r", {"route": ["demo"]}, 422, "invalid"),
        ("PUT", "/v1/routes/a%0Ab", {"route": {"models": ["demo"]}}, 422, "mistakes"),
        ("PUT", "/v1/routes/" + "r" * 129, {"route": {"models": ["demo"]}}, 422, "mistakes"),
        ("PUT", "/v1/providers/p", {"provider": {"protocol": "openai"}}, 422, "mistakes"),
        ("PUT", "/v1/teams/nope/t", {"team": {}}, 404, "not_found"),
        ("PUT", "/v1/models/m", {"model": {"deployments": []}}, 422, "mistakes"),
        ("POST", "/v1/models/m", {}, 405, "method_not_allowed"),
    ],
)
async def test_what_cannot_be_changes_nothing(  # noqa: PLR0917 - a table's columns
    api: Api, method: str, path: str, body: Any, status: int, code: str
) -> None:
    """A dangling reference, a wrong name, something still in it."""
    if method == "PUT":
        body = {**body, "why": "w", "expected": 1}
    await api.refused(status, code, method, path, body)


async def test_an_organization_keeps_its_teams(api: Api) -> None:
    """Whoever tunes its limits does not speak of them."""
    body = {"organization": {"limits": {"rpm": 1}}, "why": "w", "expected": 1}
    said = await api.done("PUT", "/v1/organizations/acme", body)
    assert [each["path"] for each in said["changes"]] == [
        "organizations.acme.limits.rpm",
        "organizations.acme.budget",
    ]
    assert "helpdesk" in await api.document()


async def test_a_deployment_is_drained_weighed_and_limited(api: Api) -> None:
    """The store obeys before the answer; null takes a setting back to its default."""
    body = {"drained": True, "weight": 7, "limits": {"rpm": None, "tpm": 5}, "why": "repair"}
    said = await api.done("PATCH", BETA, body)
    assert said["kind"] == "deployment.set"
    after = {each["path"].rpartition(".")[2]: each["after"] for each in said["changes"]}
    assert after == {"weight": 7, "rpm": None, "tpm": 5, "drained": True}
    packed = msgpack.unpackb(await api.redis.hget(deployment_key("demo/beta"), "l2"), raw=True)
    assert packed[3:5] == [7, 1]
    shown = await api.done("GET", BETA)
    assert (shown["drained"], shown["weight"], shown["model"]) == (True, 7, "demo")
    await api.done("PATCH", BETA, {"drained": False, "weight": None, "why": "back"})
    shown = await api.done("GET", BETA)
    assert (shown["drained"], shown["weight"]) == (False, 1)
    said = await api.done("PATCH", BETA, {"why": "nothing"})
    assert said["published"] is False


async def test_deployments_are_listed_with_what_happens_there(api: Api) -> None:
    """All of them, in the order of the document."""
    await api.done("PATCH", BETA, {"weight": 4, "why": "seed"})
    state = await read_scope(api.redis, "deployment:demo/beta")
    assert state is not None
    shape = msgpack.unpackb(await api.redis.hget(deployment_key("demo/beta"), "l2"))[1]
    values = [shape, 2, 0, 0, 3, 2**52, 0]
    await api.redis.hset(deployment_key("demo/beta"), "s2", msgpack.packb(values))
    said = (await api.done("GET", "/v1/deployments"))["deployments"]
    assert [each["id"] for each in said] == ["demo/alpha", "demo/beta", "spare"]
    assert [each["drained"] for each in said] == [False, False, True]
    assert said[1] | {"settings": {}} == {
        "id": "demo/beta",
        "model": "demo",
        "settings": {},
        "drained": False,
        "weight": 4,
        "in_flight": 2,
        "failures": 3,
        "cooling": True,
        "throttled": False,
    }


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (BETA, {"weight": 0}, 422, "mistakes"),
        (BETA, {"weight": "2"}, 422, "mistakes"),
        (BETA, {"drained": "yes"}, 422, "mistakes"),
        (BETA, {"drained": 1}, 422, "mistakes"),
        (BETA, {"limits": {"rpm": -4}}, 422, "mistakes"),
        (BETA, {"wait": 5}, 422, "invalid"),
        (BETA, {"weight": 2, "expected": 9}, 409, "stale_version"),
        ("/v1/deployments/demo/gamma", {"weight": 2}, 404, "not_found"),
    ],
)
async def test_a_bad_setting_changes_nothing(
    api: Api, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    """Wrong type, wrong range, unknown member, stale version, unknown deployment."""
    await api.refused(status, code, "PATCH", path, {**body, "why": "w"})
