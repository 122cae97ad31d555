"""
The route that simulates: what a described call, or the last calls of the ledger, would be led to under a changed policy.

The policy is the live configuration's, with an overlay or another document in its place; it is checked as if it were
to be published, and nothing is. The facts are those that the edges choose by in this moment.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field

from config import live
from config.changes import Draft, Edit, checked, set_value, taken_over
from config.loader import load_published
from config.models import Config
from config.problems import Path, quoted, there_are
from config.tenants import Declares
from config.wishes import NO_WISHES, Wishes, carried, nusd_of
from console.answers import Refused, error_answer, json_answer
from console.calls import Call, Door, Route
from console.desk import Desk, refusals
from console.probes import worst_standings
from console.shapes import Shape
from governance.exchanges import find_exchange
from governance.replay import Served, last_calls
from ratelimit.limits import MOST_OUTPUT
from routing import board
from routing.decision import MalformedDecision, read
from routing.scoring import NO_FACTS, Facts
from routing.simulate import Described, Outcome, Simulator, Was, summed
from store.sql import LedgerUnreachable

__all__ = ["ROUTES"]

SOURCE = "policy"
SHOWN = 200
"""Most calls that are told one by one; all of them are summed."""
LEVELS = ("premium", "normal", "economy")


# What goes in and out...


# The reader of bodies gives numbers with all their digits.
Share = Annotated[float, Field(ge=0, le=1, strict=False)]


class DescribedCall(Shape):
    """A call to simulate."""

    model: str = Field(description="What is asked for: a model, a route, or several with commas.")
    input_tokens: Annotated[int, Field(ge=0, le=10**8)] = 1000
    output_tokens: Annotated[int, Field(ge=0, le=10**8)] | None = Field(
        default=None, description="By default what is to be expected of each model."
    )
    max_tokens: Annotated[int, Field(ge=0, le=10**8)] = Field(default=0, description="0: no cap.")
    key: str | None = Field(default=None, description="Whose defaults and models hold.")
    level: Literal["premium", "normal", "economy"] = "normal"
    prefer_cost: Literal["low", "high"] | None = None
    capabilities: list[str] | None = None
    max_price: Annotated[Decimal, Field(ge=0, le=100_000, strict=False)] | None = Field(
        default=None, description="USD per million tokens, three of input for one of output."
    )
    min_quality: Share | None = None
    regions: list[str] | None = None
    pin: str | None = None
    task: str = "chat"
    complexity: Share = 0.5
    needs: list[str] = Field(default=[], description="`vision`, `audio`: what the request holds.")
    budget_pressure: Share = 0.0


class Simulate(Shape):
    """What to simulate: a described call, one of the ledger, or its last ones."""

    request: DescribedCall | None = None
    request_id: str | None = Field(default=None, description="The `x-request-id` of an answer.")
    last: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="How many of the last calls that were served."
    )
    overlay: dict[str, Any] | None = Field(
        default=None,
        description="What differs from the live configuration: mappings are merged, null takes away.",
    )
    document: str | None = Field(default=None, description="Another configuration, as YAML.")


class WouldCandidate(Shape):
    """What is to be expected of a model, and why it would not be the first."""

    model: str
    quality: float
    cost_nusd: int
    latency_us: int
    lost: str


class Would(Shape):
    """What would be chosen."""

    policy: str
    model: str
    deployment: str = Field(description="Among equal ones the first; load cannot be told.")
    quality: float | None = Field(description="Expected, from 0 to 1; null where nobody knows.")
    cost_nusd: int | None = Field(description="Null without a price.")
    latency_us: int
    delta: float
    board: int = Field(description="The version of the facts that it was reckoned with.")
    candidates: list[WouldCandidate]
    refused: str = Field(description="Why nothing would be chosen; empty where something is.")


class WasShape(Shape):
    """What a call was."""

    request_id: str
    model: str
    deployment: str
    cost_nusd: int
    quality: float | None = Field(description="As it is to be expected by the same facts.")


class Replayed(Shape):
    """A call that would be led elsewhere."""

    was: WasShape
    would: Would


class SimulationSums(Shape):
    """All calls together; costs and qualities over those that have both sides."""

    calls: int
    changed: int
    refused: int
    compared: int
    was_cost_nusd: int
    would_cost_nusd: int
    was_quality: float | None
    would_quality: float | None


class Simulation(Shape):
    """What would be chosen, beside what was."""

    version: int
    changed: bool = Field(description="Whether the policy is another one than the live one.")
    would: Would | None
    calls: list[Replayed] = Field(description="Those that would be led elsewhere, at most 200.")
    sums: SimulationSums | None


async def _simulate(call: Call) -> web.Response:
    asked: Simulate = call.body
    if [asked.request, asked.request_id, asked.last].count(None) != 2:
        raise Refused(422, "invalid", "say one of request, request_id and last", path="request")
    if asked.overlay is not None and asked.document is not None:
        raise Refused(422, "invalid", "say one of overlay and document", path="overlay")
    version = await Desk(call.door).current()
    config = await asyncio.to_thread(refusals, lambda: _policy(asked, version, call.door.environ))
    # Prices are looked up for every deployment.
    simulator = await asyncio.to_thread(
        Simulator,
        config,
        datetime.now(UTC),
        await _facts(call.door),
        most_output=MOST_OUTPUT,
        unavailable=await _unavailable(call.door, config),
    )
    said = {
        "version": version.number,
        "changed": asked.overlay is not None or asked.document is not None,
    }
    if asked.request is not None:
        described, models = _described(asked.request, config)
        if not simulator.knows(described.asked, models):
            hint = there_are(described.asked, [*config.models, *config.routes], "model or route")
            message = f"there is no model or route {quoted(described.asked)}"
            raise Refused(404, "not_found", message, path="request.model", remedy=hint)
        would = await asyncio.to_thread(simulator.would, described, models)
        return json_answer(200, {**said, "would": _outcome(would), "calls": [], "sums": None})
    try:
        if asked.request_id is not None:
            served = [await _one(call.door, asked.request_id)]
        else:
            served = await asyncio.to_thread(last_calls, call.door.ledger, asked.last or 0)
    except LedgerUnreachable as error:
        return error_answer(503, "ledger_unavailable", str(error))
    rows = await asyncio.to_thread(lambda: list(_replayed(served, simulator, config)))
    sums = summed((was, quality, would) for was, quality, would in rows)
    told = [
        {"was": {**asdict(was), "quality": quality}, "would": _outcome(would, brief=True)}
        for was, quality, would in rows
        if asked.request_id is not None
        or would.refused
        or (was.model, was.deployment) != (would.model, would.deployment)
    ]
    return json_answer(200, {**said, "would": None, "calls": told[:SHOWN], "sums": sums.as_json()})


async def _one(door: Door, request_id: str) -> Served:
    """Return a call by its last attempt. Raises `Refused` and `LedgerUnreachable`."""
    entries = await find_exchange(door.cells, door.ledger, request_id)
    attempts: list[Any] = [each for each in entries if "+" not in str(each["attempt_id"])]
    if not attempts:
        raise Refused(
            404, "not_found", f"there is no entry of {quoted(request_id)} (yet)", path="request_id"
        )
    return Served(**{field.name: attempts[-1][field.name] for field in fields(Served)})


def _policy(asked: Simulate, version: live.Version, environ: Mapping[str, str]) -> Config:
    """Return the configuration to simulate. Raises what the reader of configurations raises."""
    if asked.document is not None:
        return taken_over(asked.document, version.document, environ, source=SOURCE).config
    if asked.overlay is not None:
        return checked(version.document, _laid_over(asked.overlay), environ).config
    return load_published(version.document, environ)


def _laid_over(overlay: Mapping[str, Any]) -> Edit:
    """Set what an overlay says: mappings are merged with what is there, all else takes its place, null takes it away."""

    def each(path: Path, said: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
        for name, value in said.items():
            if isinstance(value, Mapping) and value:
                yield from each((*path, name), value)
            else:
                yield (*path, name), value

    def edit(draft: Draft) -> None:
        for path, value in each((), overlay):
            there = draft.at(path)
            if value is None:
                draft.remove(path)
            elif value != {} or there is None or there.kind != "mapping":
                set_value(path, value)(draft)

    return edit


async def _facts(door: Door) -> Facts:
    """Return the facts of the board; none where nobody keeps one."""
    raw: Any = await door.client.get(board.BOARD)
    try:
        return NO_FACTS if raw is None else board.decode(raw)[0]
    except ValueError:
        return NO_FACTS


async def _unavailable(door: Door, config: Config) -> dict[str, str]:
    """Return why deployments cannot serve right now."""
    found = {}
    for name, standing in (await worst_standings(door.cells, config.deployments)).items():
        if standing.state == "offline":
            found[name] = "it is offline"
        elif standing.scope is not None and standing.scope.throttled_until_us > standing.now_us:
            found[name] = "its vendor asked to be left alone"
    return found


def _described(said: DescribedCall, config: Config) -> tuple[Described, frozenset[str]]:
    """Return a call as it was described, with what its key carries."""
    wishes, models = _carried(config, said.key) if said.key else (NO_WISHES, frozenset())
    new: dict[str, Any] = {}
    if said.prefer_cost is not None:
        new["prefer"] = said.prefer_cost
    if said.capabilities is not None:
        new["capabilities"] = frozenset(said.capabilities)
    if said.max_price is not None:
        new["max_price_nusd"] = wishes.under(nusd_of(said.max_price))
    if said.min_quality is not None:
        new["min_quality"] = said.min_quality
    if said.regions is not None:
        new["regions"] = (*wishes.regions, frozenset(said.regions))
    if said.pin is not None:
        if said.pin not in config.models and said.pin not in config.deployments:
            hint = there_are(said.pin, [*config.models, *config.deployments], "model")
            message = f"there is no model or deployment {quoted(said.pin)}"
            raise Refused(404, "not_found", message, path="request.pin", remedy=hint)
        new["pin"] = said.pin
    described = Described(
        asked=said.model,
        input_tokens=said.input_tokens,
        output_tokens=said.output_tokens,
        cap=said.max_tokens,
        level=LEVELS.index(said.level) + 1,
        wishes=replace(wishes, **new),
        task=said.task,
        complexity=said.complexity,
        needs=frozenset(said.needs),
        pressure=said.budget_pressure,
    )
    return described, models


def _carried(config: Config, key: str) -> tuple[Wishes, frozenset[str]]:
    """Return what a key carries, and the names that it may ask for. Raises `Refused`."""
    for placed in config.placed_keys():
        if placed.id == key:
            chain = placed.place.chain
            team = chain[0].organization.teams[placed.team]
            sections: list[Declares] = [placed.key, team, *(each.organization for each in chain)]
            return carried(sections), frozenset(placed.key.models)
    hint = there_are(key, [each.id for each in config.placed_keys()], "key")
    message = f"there is no key {quoted(key)}"
    raise Refused(404, "not_found", message, path="request.key", remedy=hint)


def _replayed(
    served: list[Served], simulator: Simulator, config: Config
) -> Iterator[tuple[Was, float | None, Outcome]]:
    """Yield what each call was, the quality that is to be expected of that, and what it would be."""
    remembered = _remembering(config)
    for one in served:
        described, models = remembered(one)
        was = Was(one.request_id, one.model, one.deployment, one.cost_nusd)
        quality = simulator.quality_of(one.model, described)
        yield was, quality, simulator.would(described, models)


def _remembering(config: Config) -> Callable[[Served], tuple[Described, frozenset[str]]]:
    """Return what makes a call of the ledger one to simulate; of each key it is found once what it carries."""
    known: dict[str, tuple[Wishes, frozenset[str]]] = {}

    def remember(one: Served) -> tuple[Described, frozenset[str]]:
        if one.key not in known:
            try:
                known[one.key] = _carried(config, one.key)
            except Refused:
                known[one.key] = NO_WISHES, frozenset()
        wishes, models = known[one.key]
        try:
            found = read(one.decision)
        except MalformedDecision:
            found = None
        described = Described(one.model_asked, one.input_tokens, one.output_tokens, wishes=wishes)
        if found is None or not found.level:
            return described, models
        return (
            replace(
                described,
                level=LEVELS.index(found.level) + 1 if found.level in LEVELS else 2,
                wishes=replace(wishes, prefer=found.prefer),
                task=found.task or described.task,
                complexity=found.complexity / 1000,
                pressure=found.pressure / 1000,
                # What fell out for what the request holds falls out again.
                needs=frozenset(
                    need
                    for need in ("vision", "audio")
                    if any(each.lost == f"the request needs {need}" for each in found.models)
                ),
            ),
            models,
        )

    return remember


def _outcome(would: Outcome, *, brief: bool = False) -> dict[str, Any]:
    """Return an outcome as JSON."""
    said = asdict(would)
    said["candidates"] = [
        {
            "model": each.model,
            "quality": each.quality / 1000,
            "cost_nusd": each.cost_nusd,
            "latency_us": each.latency_us,
            "lost": each.lost,
        }
        for each in (() if brief else would.candidates)
    ]
    return said


ROUTES = (
    Route(
        "POST",
        "/v1/routing/simulate",
        "What would be chosen under a changed policy",
        _simulate,
        Simulation,
        takes=Simulate,
        refuses=(404, 422),
    ),
)
