"""The route that tells of every deployment's health: what probes found, what calls showed, what vendors said."""

import asyncio
from typing import Any

from aiohttp import web
from pydantic import Field

from config.changes import Draft
from config.outline import deployments_in
from console.answers import json_answer
from console.calls import Call, Route
from console.desk import Desk, refusals
from console.probes import worst_standings
from console.shapes import Shape
from ratelimit.reports import Standing
from store.clock import EPOCH_US

__all__ = ["ROUTES"]


# What goes in and out...


class LeftShape(Shape):
    """What a vendor still lets pass."""

    amount: int
    resets_us: int = Field(description="Until its window ends.")


class ProbeShape(Shape):
    """The last active probe of a deployment."""

    at_us: int = Field(description="Unix microseconds.")
    fine: bool
    failures: int = Field(description="Failures in a row.")
    why: str = Field(description="`answered`, `no_connection`, `timed_out`, `status_503`, …")
    took_us: int


class HealthShape(Shape):
    """The health of a deployment, as all replicas know it."""

    id: str
    model: str
    state: str = Field(description="`healthy`, `unknown` or `offline`.")
    kinds: dict[str, str] = Field(
        description="The same for calls that want a `whole` answer, a `stream`, or bring `tools`."
    )
    breaker: dict[str, str] = Field(
        description="Of kinds that failed of late: `closed`, `open`, `half_open`, `returning`."
    )
    latency_us: int = Field(description="To the first byte, 0 when not known.")
    failures: int = Field(description="Failures in a row.")
    throttled_us: int = Field(description="For how long the vendor wants to be left alone.")
    left: dict[str, LeftShape] = Field(
        description="Of `requests` and `tokens`, where the vendor says that few are left."
    )
    probe: ProbeShape | None


class Healths(Shape):
    """The health of every deployment."""

    version: int
    deployments: list[HealthShape]


async def _health(call: Call) -> web.Response:
    version = await Desk(call.door).current()

    def placed() -> dict[str, str]:
        draft = Draft(version.document, call.door.environ)
        return {name: str(path[1]) for name, path, _ in deployments_in(draft.root)}

    models = await asyncio.to_thread(refusals, placed)
    standings = await worst_standings(call.door.cells, models)
    rows = [_row(name, models[name], standing) for name, standing in standings.items()]
    return json_answer(200, {"version": version.number, "deployments": rows})


def _row(name: str, model: str, standing: Standing) -> dict[str, Any]:
    health, scope, probed, now = (
        standing.health,
        standing.scope,
        standing.report,
        standing.now_us,
    )
    return {
        "id": name,
        "model": model,
        "state": standing.state,
        "kinds": standing.kinds,
        "breaker": {kind: one.state(now) for kind, one in health.kinds.items()},
        "latency_us": 0 if scope is None else round(scope.latency_us),
        "failures": 0 if scope is None else scope.failures,
        "throttled_us": 0 if scope is None else max(round(scope.throttled_until_us - now), 0),
        "left": {
            what: {"amount": round(amount), "resets_us": round(until - now)}
            for what, (amount, until) in health.left.items()
            if until > now
        },
        "probe": None
        if probed is None
        else {
            "at_us": probed.at_us + EPOCH_US,
            "fine": probed.fine,
            "failures": probed.failures,
            "why": probed.why,
            "took_us": probed.took_us,
        },
    }


ROUTES = (Route("GET", "/v1/health", "The health of every deployment", _health, Healths),)
