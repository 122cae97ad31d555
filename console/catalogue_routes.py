"""
The routes of what is configured by name: providers, models, routes, experiments, organizations, teams, deployments.

Whole sections are put and taken away, with the version that they were made from; of a deployment
single settings are tuned.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, Field

from config.changes import Draft, deployment_place, place_of, present, put, remove, set_deployment
from config.differences import as_data
from config.outline import deployments_in
from console.answers import Refused, json_answer
from console.calls import Call, Handler, Route
from console.desk import Desk, refusals
from console.shapes import Change, Changed, Limits, Replacement, Shape, section_of
from console.stores import as_one, scope_states
from store import clock
from store.clock import EPOCH_US

__all__ = ["ROUTES", "PatchDeployment", "PutModel"]


# What goes in and out...


class PutProvider(Replacement):
    """A provider."""

    provider: Annotated[dict[str, Any], section_of("Provider")]


class PutModel(Replacement):
    """A model with its deployments."""

    model: Annotated[dict[str, Any], section_of("Model")]


class PutRoute(Replacement):
    """A route."""

    route: Annotated[dict[str, Any], section_of("Route")]


class PutExperiment(Replacement):
    """An experiment."""

    experiment: Annotated[dict[str, Any], section_of("Experiment")]


class PutOrganization(Replacement):
    """An organization; it keeps its teams unless others are said."""

    organization: Annotated[dict[str, Any], section_of("Organization")]


class PutTeam(Replacement):
    """A team; it keeps its keys unless others are said."""

    team: Annotated[dict[str, Any], section_of("Team")]


class PatchDeployment(Change):
    """What changes of a deployment; null takes a setting back to its default."""

    drained: Any = Field(default=None, json_schema_extra={"type": ["boolean", "null"]})
    weight: Any = Field(default=None, json_schema_extra={"type": ["integer", "null"]})
    limits: Limits | None = None


class DeploymentShape(Shape):
    """A deployment as configured, and what is under way there."""

    id: str
    model: str
    settings: dict[str, Any]
    drained: bool
    weight: int
    in_flight: int
    failures: int = Field(description="Failures in a row.")
    cooling: bool = Field(description="Whether it is passed over for a while after failures.")
    throttled: bool = Field(description="Whether the vendor told us to wait.")


class Deployments(Shape):
    """Every deployment."""

    version: int
    deployments: list[DeploymentShape]


class OneDeployment(DeploymentShape):
    """One deployment."""

    version: int


class Sections(Shape):
    """Sections by name, secrets masked."""

    version: int
    sections: dict[str, Any]


class OneSection(Shape):
    """One section, secrets masked."""

    version: int
    name: str
    section: dict[str, Any]


# Sections...


async def _sections(call: Call, folder: str) -> web.Response:
    version = await Desk(call.door).current()

    def found() -> dict[str, Any]:
        draft = Draft(version.document, call.door.environ)
        return as_data(draft.at((folder,)), (folder,)) or {}

    sections = await asyncio.to_thread(refusals, found)
    return json_answer(
        200, {"version": version.number, "sections": sections}, {"ETag": f'"{version.number}"'}
    )


async def _section(call: Call, kind: str) -> web.Response:
    version = await Desk(call.door).current()
    name = _name(call)

    def found() -> Any:
        draft = Draft(version.document, call.door.environ)
        path = place_of(draft, kind, name)
        return as_data(present(draft, kind, name, path), path)

    section = await asyncio.to_thread(refusals, found)
    said = {"version": version.number, "name": name, "section": section}
    return json_answer(200, said, {"ETag": f'"{version.number}"'})


async def _put(call: Call, kind: str) -> web.Response:
    section: Mapping[str, Any] = getattr(call.body, kind)
    edit = put(kind, _name(call), section)
    outcome = await Desk(call.door).edit(call, f"{kind}.put", edit)
    return json_answer(200, outcome.as_dict(), outcome.headers)


async def _remove(call: Call, kind: str) -> web.Response:
    outcome = await Desk(call.door).edit(call, f"{kind}.remove", remove(kind, _name(call)))
    return json_answer(200, outcome.as_dict(), outcome.headers)


def _name(call: Call) -> str:
    if "team" in call.names:
        parts = (call.names["organization"], call.names["team"])
        if "/" in parts[1]:
            raise Refused(
                404,
                "not_found",
                "names of teams have no '/'",
                path="organizations",
            )
        return "/".join(parts)
    return call.names["name"]


# Deployments...

_Placed = tuple[str, str, dict[str, Any]]
"""A deployment's id, its model, and its settings."""


async def _deployments(call: Call) -> web.Response:
    version = await Desk(call.door).current()

    def found() -> list[_Placed]:
        draft = Draft(version.document, call.door.environ)
        return [
            (name, str(path[1]), as_data(draft.at(path), path, resolved=True))
            for name, path, _ in deployments_in(draft.root)
        ]

    placed = await asyncio.to_thread(refusals, found)
    rows = await _deployment_rows(call, placed)
    return json_answer(200, {"version": version.number, "deployments": rows})


async def _deployment(call: Call) -> web.Response:
    version = await Desk(call.door).current()
    name = call.names["id"]

    def found() -> _Placed:
        draft = Draft(version.document, call.door.environ)
        path = deployment_place(draft, name)
        return name, str(path[1]), as_data(draft.at(path), path, resolved=True)

    (row,) = await _deployment_rows(call, [await asyncio.to_thread(refusals, found)])
    return json_answer(200, {"version": version.number, **row}, {"ETag": f'"{version.number}"'})


async def _deployment_rows(call: Call, placed: Sequence[_Placed]) -> list[dict[str, Any]]:
    scopes = [f"deployment:{name}" for name, _, _ in placed]
    found = await scope_states(call.door.cells, scopes)
    now_us = await clock.now_us(call.door.client) - EPOCH_US
    states = [
        as_one(call.door.cells, scope, held, now_us)
        for scope, held in zip(scopes, found, strict=True)
    ]
    return [
        {
            "id": name,
            "model": model,
            "settings": settings,
            "drained": settings.get("drained", False),
            "weight": settings.get("weight", 1),
            "in_flight": 0 if state is None else state.in_flight,
            "failures": 0 if state is None else state.failures,
            "cooling": state is not None and state.cooling_until_us > now_us,
            "throttled": state is not None and state.throttled_until_us > now_us,
        }
        for (name, model, settings), state in zip(placed, states, strict=True)
    ]


async def _patch_deployment(call: Call) -> web.Response:
    asked: PatchDeployment = call.body
    settings: dict[str, Any] = {
        name: getattr(asked, name)
        for name in ("drained", "weight")
        if name in asked.model_fields_set
    }
    edit = set_deployment(call.names["id"], settings, asked.limits)
    outcome = await Desk(call.door).edit(call, "deployment.set", edit)
    return json_answer(200, outcome.as_dict(), outcome.headers)


# The rows...


def _of(handler: Any, what: str) -> Handler:
    return partial(handler, **{"folder" if handler is _sections else "kind": what})


def _rows(
    kind: str, path: str, takes: type[BaseModel], *, wide: bool, listed: bool = True
) -> tuple[Route, ...]:
    folder = f"{kind}s"
    called = f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
    says = {
        "provider": "Providers by name, secrets masked",
        "model": "Models by name, with their deployments",
        "route": "Routes by name",
        "experiment": "Experiments by name",
        "organization": "Organizations by name, with their teams and keys",
    }
    rows = (
        Route(
            "GET",
            path,
            f"One {kind}",
            _of(_section, kind),
            OneSection,
            wide=wide,
            refuses=(404,),
        ),
        Route(
            "PUT",
            path,
            f"Make {called} what is said",
            _of(_put, kind),
            Changed,
            takes=takes,
            wide=wide,
        ),
        Route(
            "DELETE",
            path,
            f"Take {called} away",
            _of(_remove, kind),
            Changed,
            takes=Change,
            wide=wide,
            refuses=(404,),
        ),
    )
    if not listed:
        return rows
    all_of_them = Route(
        "GET", path.rpartition("/")[0], says[kind], _of(_sections, folder), Sections
    )
    return (all_of_them, *rows)


_DEPLOYMENT = "/v1/deployments/{id}"

ROUTES = (
    *_rows("provider", "/v1/providers/{name}", PutProvider, wide=True),
    *_rows("model", "/v1/models/{name}", PutModel, wide=True),
    *_rows("route", "/v1/routes/{name}", PutRoute, wide=True),
    *_rows("experiment", "/v1/experiments/{name}", PutExperiment, wide=False),
    *_rows("organization", "/v1/organizations/{name}", PutOrganization, wide=False),
    *_rows("team", "/v1/teams/{organization}/{team}", PutTeam, wide=False, listed=False),
    Route(
        "GET",
        "/v1/deployments",
        "Every deployment, and what is under way there",
        _deployments,
        Deployments,
    ),
    Route(
        "GET",
        _DEPLOYMENT,
        "One deployment, and what is under way there",
        _deployment,
        OneDeployment,
        wide=True,
        refuses=(404,),
    ),
    Route(
        "PATCH",
        _DEPLOYMENT,
        "Drain, weigh or limit a deployment",
        _patch_deployment,
        Changed,
        takes=PatchDeployment,
        wide=True,
        refuses=(404,),
    ),
)
