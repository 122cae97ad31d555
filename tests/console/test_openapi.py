"""Laws of the OpenAPI document: it is whole, it is valid in itself, and it is what the port serves."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from console.admin import routes
from console.openapi import text
from console.page_routes import PATHS

Api = Any  # the fixture of this folder's conftest


@pytest.fixture
def said() -> Any:
    return json.loads(text(routes()))


def everything_in(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from everything_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from everything_in(inner)


async def test_it_is_served_behind_the_token(api: Api, said: Any) -> None:
    """As the file has it."""
    async with api.client.get("/openapi.json") as answer:
        assert answer.status == 401
    async with api.client.get(
        "/openapi.json", headers={"Authorization": "Bearer a-token-of-32-letters-and-digits"}
    ) as answer:
        assert (answer.status, await answer.json()) == (200, said)


async def test_every_route_that_is_served_is_described(api: Api, said: Any) -> None:
    """And no other."""
    served = set()
    app: web.Application = api.client.server.app
    for route in app.router.routes():
        assert route.resource is not None
        path = re.sub(r"\{([a-z_]+):[^}]*\}", r"{\1}", route.resource.canonical)
        served.add((route.method, path))
    described = {(method.upper(), path) for path, each in said["paths"].items() for method in each}
    heads = {("HEAD", path) for method, path in described if method == "GET"}
    for path in ("/openapi.json", *PATHS):  # itself, and the page for people
        served -= {("GET", path), ("HEAD", path)}
    assert served == described | heads
    assert len(described) == len(routes())


def test_every_reference_resolves(said: Any) -> None:
    """To a schema of the document; and each of those is used."""
    known = set(said["components"]["schemas"])
    used = {
        each["$ref"].removeprefix("#/components/schemas/")
        for each in everything_in(said)
        if "$ref" in each
    }
    assert used <= known
    assert known - used == {"Config"}
    assert not [each for each in everything_in(said) if "x-section" in each]


def test_its_structure_is_openapi(said: Any) -> None:
    """Version, info, security; each operation with an id of its own, its parameters and answers."""
    assert said["openapi"] == "3.1.0"
    assert set(said) <= {"openapi", "info", "security", "paths", "components"}
    assert {"title", "version"} <= set(said["info"])
    ids = []
    for path, operations in said["paths"].items():
        assert path.startswith("/")
        for method, operation in operations.items():
            assert method in {"get", "put", "post", "patch", "delete"}
            ids.append(operation["operationId"])
            assert operation["summary"]
            named = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
            assert sorted(named) == sorted(re.findall(r"\{([a-z_]+)\}", path))
            places = [(each["in"], each["name"]) for each in operation["parameters"]]
            assert len(places) == len(set(places))
            assert all(
                each["required"] is (each["in"] == "path") for each in operation["parameters"]
            )
            statuses = list(operation["responses"])
            assert all(re.fullmatch("[2-5][0-9][0-9]", status) for status in statuses)
            assert all(each["description"] for each in operation["responses"].values())
            assert ("requestBody" in operation) == (method in {"put", "post", "patch", "delete"})
            is_open = path.startswith("/health") or path == "/metrics"
            assert ("401" in statuses) == (not is_open)
            assert (operation.get("security") == []) == is_open
    assert len(ids) == len(set(ids))
    assert said["security"] == [{"adminToken": []}]


def test_every_change_can_be_refused_for_its_version(said: Any) -> None:
    """409 stands at all of them, and If-Match and the actor can be said."""
    for route in routes():
        operation = said["paths"][route.path][route.method.lower()]
        assert ("409" in operation["responses"]) == route.changes
        named = {each["name"] for each in operation["parameters"]}
        assert ({"If-Match", "x-penstock-actor"} <= named) == route.changes


@pytest.mark.parametrize("route", routes(), ids=lambda route: f"{route.method} {route.path}")
async def test_without_the_token_no_route_answers(route: Any, api: Api) -> None:
    """Reading or changing: 401 before anything of the call is looked at, and nothing is changed."""
    path = re.sub(r"\{[a-z_]+\}", "x", route.path)
    before = await api.everything()
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"x-penstock-actor": "ann"}):
        async with api.client.request(
            route.method, path, headers=headers, json=None if route.takes is None else {"why": "w"}
        ) as answer:
            assert answer.status == (200 if route.is_open else 401)
    assert await api.everything() == before
