"""
The routes that judge how calls were led: which models are worth what they cost, and why a call went where it went.

Prices and qualities are those of the live configuration, at the moment of the question.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from config import live
from config.loader import load_published
from config.models import Config
from config.problems import quoted
from console.answers import Refused, error_answer, json_answer
from console.calls import Call, Route
from console.desk import Desk, refusals
from console.shapes import Shape
from governance.exchanges import find_exchange
from governance.insight import models_used
from governance.usage import BadQuestion, moment_us, usd
from ratelimit.asks import LOST_WORDS
from routing.eligibility import Pool
from routing.explain import explain
from routing.insight import Known, Report, report
from store.sql import LedgerUnreachable

__all__ = ["ROUTES"]


# What goes in and out...


class ModelRow(Shape):
    """One model in one task, as `GET /v1/usage/models` judges it."""

    task: str = Field(description="The task, empty where it is not known.")
    model: str
    verdict: str = Field(
        description="`best`, `bargain` (nearly as good at half the price or less), `fair`, `dear`"
        " (another one is at least as good for less), or `unrated`."
    )
    requests: int
    attempts: int
    errors: int
    cost_nusd: int
    cost_usd: str
    ttft_us: int = Field(description="Mean first-byte time of what was served.")
    quality: float | None
    worth: float | None = Field(description="Quality times the share of tries answered.")
    price_nusd: int | None = Field(description="For a thousand mean calls of the task.")
    price_usd: str | None
    instead: str = Field(description="The model that is at least as good and costs less.")
    could_save_nusd: int = Field(description="What its calls would have cost less there.")
    could_save_usd: str


class BestSingle(Shape):
    """The best single model, and what everything would have cost there."""

    model: str
    worth: float
    cost_nusd: int
    cost_usd: str


class ModelsReport(Shape):
    """Which models are worth what they cost, and what choosing among them saved."""

    version: int
    rows: list[ModelRow]
    cost_nusd: int
    cost_usd: str
    best: BestSingle | None
    saved_nusd: int | None = Field(description="Negative when routing cost more.")
    saved_usd: str | None
    worth: float | None = Field(description="What was served was worth, weighed by calls.")


class CandidateShape(Shape):
    """A candidate of an attempt."""

    deployment: str
    model: str = Field(description="Empty where nobody knows it any more.")
    fate: Literal["chosen", "before", "at", "behind", "beside"] = Field(
        description="`chosen`; out `before` or `at` admission; ranked `behind`; as good, `beside` it."
    )
    why: str
    tier: int | None = Field(description="Its rank for the call, 0 first; null where it was out.")
    quality: float | None = Field(description="Expected, from 0 to 1; null: nothing was scored.")
    cost_nusd: int | None = Field(description="Expected, of the whole call.")
    latency_us: int | None = Field(description="Expected, to its end; 0 where nothing is known.")


class AttemptShape(Shape):
    """One attempt of a call."""

    attempt: int
    deployment: str
    model: str
    reason: str
    outcome: str
    status: int
    cost_nusd: int
    cost_usd: str
    ttft_us: int
    duration_us: int
    experiment: str
    policy: str
    made_from: dict[str, Any] = Field(
        description="Level, preference, task, complexity, budget pressure, delta and the board's"
        " version; empty where nothing was scored."
    )
    candidates: list[CandidateShape]
    problem: str


class Explanation(Shape):
    """Why a call went where it went, attempt by attempt."""

    request_id: str
    asked: str
    cost_nusd: int
    cost_usd: str
    attempts: list[AttemptShape]


async def _models(call: Call) -> web.Response:
    """Answer which models are dear and underperform, which are cheap and good, and what routing saved."""
    now = datetime.now(UTC)
    until = call.query.get("until")
    try:
        since_us = moment_us(call.query.get("since", "7d"), now)
        until_us = None if until is None else moment_us(until, now)
    except BadQuestion as error:
        raise Refused(400, "bad_request", str(error), path="query") from None
    version = await Desk(call.door).current()

    def judged() -> Report:
        config = load_published(version.document, call.door.environ)
        uses = models_used(call.door.ledger, since_us=since_us, until_us=until_us)
        return report(uses, _known(config, now))

    try:
        made = await asyncio.to_thread(refusals, judged)
    except LedgerUnreachable as error:
        return error_answer(503, "ledger_unavailable", str(error))
    return json_answer(200, {"version": version.number, **_said(made)})


def _known(config: Config, at: datetime) -> Callable[[str, str], Known]:
    """
    Return what tells a model's quality for a task, and its price: that of its first deployment that has one.

    A task that has no quality of its own has that of chat.
    """
    pool = Pool(config, at)

    def known(model: str, task: str) -> Known:
        if model not in config.models:
            return Known(None, None)
        options = pool.options(model)
        rates = next((each.rates for each in options if each.rates is not None), None)
        quality = options[0].quality
        return Known(quality.get(task, quality.get("chat")), rates)

    return known


def _said(made: Report) -> dict[str, object]:
    """Return a report with its money in USD beside nano-USD."""
    said = made.as_json()
    for row in said["rows"]:
        row["cost_usd"] = usd(row["cost_nusd"])
        row["could_save_usd"] = usd(row["could_save_nusd"])
        row["price_usd"] = None if row["price_nusd"] is None else usd(row["price_nusd"])
    said["cost_usd"] = usd(made.cost_nusd)
    said["saved_usd"] = None if made.saved_nusd is None else usd(made.saved_nusd)
    if made.best is not None:
        said["best"]["cost_usd"] = usd(made.best.cost_nusd)
    return said


async def _explain(call: Call) -> web.Response:
    """Answer every attempt of a call, with each candidate, its scores and the reason it lost."""
    door, request_id = call.door, call.names["request_id"]
    try:
        entries = await find_exchange(door.cells, door.ledger, request_id)
    except LedgerUnreachable as error:
        return error_answer(503, "ledger_unavailable", str(error))
    version = await live.current(door.client)

    def models() -> dict[str, str]:
        if version is None:
            return {}
        config = refusals(lambda: load_published(version.document, door.environ))
        return {name: placed.model for name, placed in config.deployments.items()}

    found = explain(entries, LOST_WORDS, await asyncio.to_thread(models))
    if found is None:
        raise Refused(
            404, "not_found", f"there is no entry of {quoted(request_id)} (yet)", path="request_id"
        )
    said = found.as_json()
    for attempt in said["attempts"]:
        attempt["cost_usd"] = usd(attempt["cost_nusd"])
    return json_answer(200, {**said, "cost_usd": usd(found.cost_nusd)})


_SPAN = {
    "since": "30m, 24h, 7d, or a moment such as 2026-11-01.",
    "until": "The end, not included.",
}

ROUTES = (
    Route(
        "GET",
        "/v1/usage/models",
        "Which models are worth what they cost, and what routing saved",
        _models,
        ModelsReport,
        query=_SPAN,
    ),
    Route(
        "GET",
        "/v1/routing/explain/{request_id}",
        "Why a call went where it went",
        _explain,
        Explanation,
        refuses=(404,),
    ),
)
