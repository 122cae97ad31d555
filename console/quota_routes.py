"""The routes of `/v1/quotas`: what scopes may, what they hold right now, and how that is tuned."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import chain
from typing import Any, NamedTuple

from aiohttp import web
from pydantic import Field
from redis.asyncio import Redis

from config.changes import (
    Draft,
    organizations_of,
    raise_budget,
    scope_place,
    set_quota,
    time_zone_at,
)
from config.differences import as_data
from config.outline import deployments_in
from config.problems import Path
from config.tenants import DEFAULT_MEMBER
from console.answers import Refused, json_answer
from console.calls import Call, Door, Route
from console.desk import Desk, moment, refusals
from console.quotas import quota
from console.shapes import Budgets, Change, Changed, Limits, Shape
from console.stores import as_one, in_each, scope_states, shares_of
from governance.alerts import Event, newest
from governance.usage import usd
from store import clock
from store.cells import Cell

__all__ = ["ROUTES", "quotas_of"]


# What goes in and out...


class PutQuota(Change):
    """What changes of a scope's limits and budgets."""

    limits: Limits | None = None
    budgets: Budgets | None = Field(
        default=None, description="All budgets of the scope; an empty list takes them away."
    )


class PutRaise(Change):
    """Another amount for a budget, for a time."""

    per: str = Field(description="The period of the budget, as in `month`.")
    usd: Any = Field(
        description="The amount that holds until then; null ends the raise.",
        json_schema_extra={"type": ["number", "null"]},
    )
    until: str | None = Field(
        default=None,
        description="When it ends: `2026-12-24`, `2026-12-24T18:00` (in the budget's time zone), or with an offset.",
    )


class RateShape(Shape):
    """A limit and what is left of it."""

    limit: int
    burst: int = Field(description="Most at once: what its bucket holds.")
    remaining: int | None
    resets_in_ms: int | None = Field(description="When the bucket is full again.")


class BudgetShape(Shape):
    """A budget and what is left of it in its current period."""

    usd: float
    per: str
    mode: str
    time_zone: str
    raised_usd: float | None = Field(description="The amount until `raised_until`.")
    raised_until: str | None
    spent_usd: str
    held_usd: str
    remaining_usd: str
    resets_at: str | None = Field(description="When its period ends; null for a total.")


class ShareShape(Shape):
    """What one cell has of limits that are divided over cells."""

    cell: str = Field(description="As in `c1`.")
    limits: dict[str, int]
    in_flight: int


class Quota(Shape):
    """Limits and budgets of a scope, and what they hold right now."""

    scope: str
    seeded: bool = Field(description="Whether the store knows its limits.")
    in_flight: int
    limits: dict[str, RateShape]
    budgets: list[BudgetShape]
    shares: list[ShareShape] = Field(
        description="What each cell has of it, where `store.cells` divides it; empty otherwise."
    )


class OneQuota(Quota):
    """One scope."""

    version: int


class Quotas(Shape):
    """Every scope that has a limit or a budget."""

    version: int
    quotas: list[Quota]


class ChangedQuota(Changed):
    """What a change did, and what the scope holds now."""

    quota: Quota


class EventShape(Shape):
    """A threshold of a budget that was reached."""

    id: str
    at: str
    scope: str
    per: str
    period: int = Field(description="Number of the period, as the store counts.")
    percent: int
    amount_usd: str = Field(description="What the budget allowed then, raised or not.")
    spent_usd: str
    mode: str


class Events(Shape):
    """The latest events of budgets, the newest first."""

    events: list[EventShape]


class Shown(NamedTuple):
    """A scope, its section, and the time zone of its budgets that do not say theirs."""

    scope: str
    settings: dict[str, Any]
    time_zone: str


async def _list(call: Call) -> web.Response:
    version = await Desk(call.door).current()

    def found() -> list[Shown]:
        draft = Draft(version.document, call.door.environ)
        sections = (
            Shown(
                scope,
                as_data(draft.at(path), path, resolved=True) or {},
                time_zone_at(draft, path),
            )
            for scope, path in _scopes(draft)
        )
        return [
            each for each in sections if each.settings.get("limits") or each.settings.get("budget")
        ]

    scopes = await asyncio.to_thread(refusals, found)
    return json_answer(
        200, {"version": version.number, "quotas": await quotas_of(call.door, scopes)}
    )


async def _show(call: Call) -> web.Response:
    version = await Desk(call.door).current()
    said = await _one(call, version.document)
    return json_answer(200, {"version": version.number, **said}, {"ETag": f'"{version.number}"'})


async def _put(call: Call) -> web.Response:
    asked: PutQuota = call.body
    edit = set_quota(call.names["scope"], asked.limits, asked.budgets)
    outcome = await Desk(call.door).edit(call, "quota.set", edit)
    said = {**outcome.as_dict(), "quota": await _one(call, outcome.loaded.document)}
    return json_answer(200, said, outcome.headers)


async def _raise(call: Call) -> web.Response:
    asked: PutRaise = call.body
    if asked.usd is not None and asked.until is None:
        raise Refused(422, "invalid", "until: missing; say when the raise ends", path="until")
    now = await clock.now(call.door.client)
    edit = raise_budget(call.names["scope"], asked.per, asked.usd, asked.until, now=now)
    outcome = await Desk(call.door).edit(call, "quota.raise", edit)
    said = {**outcome.as_dict(), "quota": await _one(call, outcome.loaded.document)}
    return json_answer(200, said, outcome.headers)


async def _events(call: Call) -> web.Response:
    text = call.query.get("count", "100")
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= MOST_EVENTS:
        raise Refused(
            400, "bad_request", f"expected a number from 1 to {MOST_EVENTS}", path="count"
        )
    scope = call.query.get("scope")
    if scope is not None:
        version = await Desk(call.door).current()
        await asyncio.to_thread(
            refusals, lambda: scope_place(Draft(version.document, call.door.environ), scope)
        )
    count = int(text)

    async def latest(cell: Cell, store: Redis) -> list[Event]:
        return await newest(store, count, scope, cell)

    each = await in_each(call.door.cells, latest)
    # By their own time: places in streams tell nothing of those in others.
    found = sorted(chain.from_iterable(each), key=lambda event: event.at_us, reverse=True)[:count]
    events = [
        {
            "id": event.id,
            "at": moment(event.at_us),
            "scope": event.scope,
            "per": event.per,
            "period": event.period,
            "percent": event.percent,
            "amount_usd": usd(event.amount_nusd),
            "spent_usd": usd(event.spent_nusd),
            "mode": event.mode,
        }
        for event in found
    ]
    return json_answer(200, {"events": events})


async def _one(call: Call, document: str) -> dict[str, Any]:
    scope = call.names["scope"]

    def found() -> Shown:
        draft = Draft(document, call.door.environ)
        path = scope_place(draft, scope)
        if draft.at(path) is None:
            # Who has no entry of his own has what holds for all.
            path = (*path[:-1], DEFAULT_MEMBER)
        settings = as_data(draft.at(path), path, resolved=True) or {}
        return Shown(scope, settings, time_zone_at(draft, path))

    (said,) = await quotas_of(call.door, [await asyncio.to_thread(refusals, found)])
    return said


async def quotas_of(door: Door, scopes: Sequence[Shown]) -> list[dict[str, Any]]:
    """Return what scopes may and hold."""
    states = await scope_states(door.cells, [each.scope for each in scopes])
    at = await clock.now(door.client)
    at_us = (at - clock.EPOCH) / timedelta(microseconds=1)
    return [
        quota(
            each.scope,
            each.settings,
            as_one(door.cells, each.scope, held, at_us),
            at,
            each.time_zone,
        )
        | {"shares": shares_of(door.cells, each.scope, held)}
        for each, held in zip(scopes, states, strict=True)
    ]


def _scopes(draft: Draft) -> Iterator[tuple[str, Path]]:
    for organization, path in organizations_of(draft):
        yield f"org:{organization}", path
        for kind in ("user", "application", "business_line"):
            for member in draft.names((*path, f"{kind}s")):
                yield f"{kind}:{organization}#{member}", (*path, f"{kind}s", member)
        for team in draft.names((*path, "teams")):
            inner = (*path, "teams", team)
            yield f"team:{organization}/{team}", inner
            for key in draft.names((*inner, "keys")):
                yield f"key:{organization}/{team}/{key}", (*inner, "keys", key)
    for provider in draft.names(("providers",)):
        yield f"provider:{provider}", ("providers", provider)
    for model in draft.names(("models",)):
        yield f"model:{model}", ("models", model)
    for name, path, _ in deployments_in(draft.root):
        yield f"deployment:{name}", path
    for name in draft.names(("experiments",)):
        if draft.at(("experiments", name, "shadow")) is not None:
            yield f"shadow:{name}", ("experiments", name, "shadow")


_PATH = "/v1/quotas/{scope}"
MOST_EVENTS = 1000

ROUTES = (
    Route("GET", "/v1/quotas", "Every scope that has a limit or a budget", _list, Quotas),
    Route(
        "GET",
        _PATH,
        "What a scope may, and what it holds right now",
        _show,
        OneQuota,
        wide=True,
        refuses=(404,),
    ),
    Route(
        "PUT",
        _PATH,
        "Set limits and budgets of a scope; the next admission obeys",
        _put,
        ChangedQuota,
        takes=PutQuota,
        wide=True,
        refuses=(404,),
    ),
    Route(
        "PUT",
        "/v1/raises/{scope}",
        "Raise a budget of a scope for a time; the next admission obeys",
        _raise,
        ChangedQuota,
        takes=PutRaise,
        wide=True,
        refuses=(404,),
    ),
    Route(
        "GET",
        "/v1/events",
        "Thresholds of budgets that were reached, the newest first",
        _events,
        Events,
        query={
            "scope": "Those of one scope, as in `team:acme/support`.",
            "count": "How many at most, up to 1000 (100).",
        },
        refuses=(404,),
    ),
)
