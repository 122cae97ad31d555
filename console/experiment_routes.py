"""The routes of experiments beside their sections: what they have shown, to stop and to resume them."""

import asyncio
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from config.changes import Draft, place_of, present, remove_value, set_value
from config.loader import load_published
from config.models import Config
from config.problems import quoted, there_are
from config.trials import Experiment
from console.answers import Refused, error_answer, json_answer
from console.calls import Call, Route
from console.canaries import judged, since_us
from console.desk import Desk, refusals
from console.shapes import Change, Changed, Shape
from governance.arms import ArmSums, look
from routing.canary import next_move
from routing.experiments import compiled
from store import clock
from store.sql import LedgerUnreachable

__all__ = ["ROUTES"]


# What goes in and out...


class ArmShape(Shape):
    """What an arm of an experiment did."""

    arm: str
    share: float | None = Field(description="Of the calls, from 0 to 1.")
    tries: int
    errors: int = Field(description="Tries that failed, or that its own places could not take.")
    ttft_us: int | None = Field(description="Geometric mean of the first-byte times.")
    cost_nusd: int | None = Field(description="Mean cost of an answer.")
    faults: float | None = Field(description="What was wrong with its answers, from 0 to 1.")


class FindingShape(Shape):
    """What a guard of a canary says."""

    guard: str
    canary: float
    control: float
    allowed: float
    excess: float = Field(description="By how much the canary seems worse than is allowed.")
    at_least: float = Field(description="The lower bound of that; above 0 it does harm.")


class Results(Shape):
    """What an experiment has shown."""

    version: int
    name: str
    kind: Literal["arms", "canary", "migration", "shadow"]
    asked: str
    state: str = Field(description="What a canary waits for, or why the experiment is stopped.")
    arms: list[ArmShape]
    findings: list[FindingShape]


async def _results(call: Call) -> web.Response:
    """Answer what an experiment has shown: since its step began, where it is a canary."""
    version = await Desk(call.door).current()
    name = call.names["name"]
    config: Config = await asyncio.to_thread(
        refusals, lambda: load_published(version.document, call.door.environ)
    )
    found = config.experiments.get(name)
    if found is None:
        hint = there_are(name, config.experiments, "experiment")
        message = f"there is no experiment {quoted(name)}"
        raise Refused(404, "not_found", message, path="experiments", remedy=hint)
    begun_us = since_us(found.canary) if found.canary is not None else None
    try:
        seen = await asyncio.to_thread(look, call.door.ledger, name, begun_us or 0)
    except LedgerUnreachable as error:
        return error_answer(503, "ledger_unavailable", str(error))
    now_us = await clock.now_us(call.door.client)
    said = {
        "version": version.number,
        "name": name,
        "kind": _kind(found),
        "asked": found.asked,
        "state": "running",
        "arms": [
            _arm(label.partition("/")[2], share, seen.arms.get(label, ArmSums()))
            for label, share in _shares(config, name, now_us).items()
        ],
        "findings": [],
    }
    if found.canary is not None:
        judgement = judged(name, found.canary, seen)
        said["findings"] = [*judgement.as_json()["findings"]]
        in_step_us = None if begun_us is None else now_us - begun_us
        move = next_move(found.canary, judgement, in_step_us)
        said["state"] = getattr(move, "why", "") or "running"
    if found.stopped is not None:
        said["state"] = f"stopped: {found.stopped}"
    return json_answer(200, said)


def _kind(found: Experiment) -> str:
    kinds = ("canary", "migration", "shadow")
    return next((kind for kind in kinds if getattr(found, kind) is not None), "arms")


def _shares(config: Config, name: str, now_us: int) -> dict[str, float]:
    """Return the share of each arm by its label, as it would be if the experiment ran."""
    running = config.experiments[name].model_copy(update={"stopped": None})
    trial = compiled(config.model_copy(update={"experiments": {name: running}}))[running.asked]
    return trial.shares(now_us)


def _arm(name: str, share: float, sums: ArmSums) -> dict[str, Any]:
    """Return what an arm did: the geometric mean of its first bytes, the mean of its costs."""
    timed, billed = sums.ttft_count, sums.cost_count
    return {
        "arm": name,
        "share": share,
        "tries": sums.tries,
        "errors": sums.errors,
        "ttft_us": round(math.exp(sums.ttft_sum / timed)) if timed else None,
        "cost_nusd": round(sums.cost_sum / billed) if billed else None,
        "faults": sums.defect_sum / billed if billed else None,
    }


async def _stop(call: Call) -> web.Response:
    name, why = call.names["name"], call.change.why

    def edit(draft: Draft) -> None:
        _there(draft, name)
        set_value(("experiments", name, "stopped"), why)(draft)

    outcome = await Desk(call.door).edit(call, "experiment.stop", edit)
    return json_answer(200, outcome.as_dict(), outcome.headers)


async def _resume(call: Call) -> web.Response:
    name = call.names["name"]
    since = (await clock.now(call.door.client) + timedelta(seconds=1)).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )

    def edit(draft: Draft) -> None:
        _there(draft, name)
        path = ("experiments", name)
        if draft.at((*path, "stopped")) is not None:
            remove_value((*path, "stopped"))(draft)
            if draft.at((*path, "canary")) is not None:
                # What was judged before is over: it begins anew.
                set_value((*path, "canary", "step"), 0)(draft)
                set_value((*path, "canary", "since"), since)(draft)

    outcome = await Desk(call.door).edit(call, "experiment.resume", edit)
    return json_answer(200, outcome.as_dict(), outcome.headers)


def _there(draft: Draft, name: str) -> None:
    present(draft, "experiment", name, place_of(draft, "experiment", name))


def _post(path: str, says: str, handler: Callable[[Call], Any]) -> Route:
    return Route(
        "POST",
        path,
        says,
        handler,
        Changed,
        takes=Change,
        refuses=(404,),
    )


ROUTES = (
    Route(
        "GET",
        "/v1/experiments/{name}/results",
        "What an experiment has shown",
        _results,
        Results,
        refuses=(404,),
    ),
    _post("/v1/experiments/{name}/stop", "Stop an experiment; `why` is kept in it", _stop),
    _post(
        "/v1/experiments/{name}/resume", "Let an experiment go on; a canary begins anew", _resume
    ),
)
