"""
The route that lists models by what one looks for: those of the live configuration, or all that are listed.

Reading it asks no vendor and reads no ledger: prices and qualities are those of the checkout and the configuration.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from aiohttp import web
from pydantic import Field

from config.loader import load_published
from config.problems import nearest
from console.answers import Refused, json_answer
from console.calls import Call, Route
from console.desk import Desk, refusals
from console.shapes import Shape
from routing.browse import Wanted, all_listed, as_json, configured, matching
from routing.listing import TASKS

__all__ = ["ROUTES", "BadWish", "wanted"]

_NANO = 10**9
_MOST_USD = 10**6
_MOST_TOKENS = 10**9


# What goes in and out...


class ListPrice(Shape):
    """What a million tokens cost, in USD."""

    input_usd: str
    output_usd: str
    cached_input_usd: str
    blended_usd: str = Field(description="Three tokens of input for one of output.")
    version: str = Field(description="The price list.")


class ListedQuality(Shape):
    """How good a model is at a task, and where that is from."""

    value: float
    source: str = Field(description="As docs/catalogue.md names them, or `configuration`.")
    read: float | str = Field(description="What the source says.")
    url: str = Field(description="Where the source is published, empty for the configuration.")


class CatalogueModel(Shape):
    """A model with what is known of it, and where it is served."""

    name: str
    vendor: str
    tags: list[str]
    input: list[str] = Field(description="Modalities that it takes, empty where nobody knows.")
    output: list[str]
    context: int | None
    max_output: int | None
    price: ListPrice | None
    quality: dict[str, ListedQuality] = Field(description="By task.")
    providers: list[str]
    deployments: list[str]
    listed_as: str = Field(description="Its name in the listing, empty where it is not listed.")


class Catalogue(Shape):
    """Models by what they cost, hold and are good at."""

    version: int
    models: list[CatalogueModel]


class BadWish(ValueError):
    """What is looked for cannot be; `name` is the parameter, the message says what is expected."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(words)
        self.name = name


def wanted(said: Mapping[str, str]) -> Wanted:
    """Read what is looked for, as a query or a command line says it. Raises `BadWish`."""
    task = said.get("task", "")
    if task and task not in TASKS:
        meant = nearest(task, TASKS)
        hint = f"; did you mean {meant}?" if meant else ""
        raise BadWish("task", f"expected one of {', '.join(TASKS)}{hint}")
    price = _number(said, "max_price", _MOST_USD, "USD per million tokens")
    return Wanted(
        tags=_words(said, "tag"),
        providers=_words(said, "provider"),
        vendor=said.get("vendor", ""),
        max_price_nusd=None if price is None else int(price * _NANO),
        min_context=int(_number(said, "min_context", _MOST_TOKENS, "tokens") or 0),
        task=task,
        min_quality=float(_number(said, "min_quality", 1, "a quality from 0 to 1") or 0),
    )


def _words(said: Mapping[str, str], name: str) -> frozenset[str]:
    return frozenset(word.strip() for word in said.get(name, "").split(",") if word.strip())


def _number(said: Mapping[str, str], name: str, most: int, what: str) -> Decimal | None:
    text = said.get(name)
    if text is None:
        return None
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite() or not 0 <= found <= most:
        raise BadWish(name, f"expected {what}, a number from 0 to {most}")
    return found


async def _models(call: Call) -> web.Response:
    """Answer which models there are."""
    query = dict(call.query)
    of = query.pop("of", "live")
    if of not in {"live", "all"}:
        raise Refused(400, "bad_request", "expected live or all", path="of")
    try:
        looked_for = wanted(query)
    except BadWish as bad:
        raise Refused(400, "bad_request", str(bad), path=bad.name) from None
    version = await Desk(call.door).current()
    now = datetime.now(UTC)

    def found() -> list[dict[str, Any]]:
        models = (
            all_listed(now)
            if of == "all"
            else configured(load_published(version.document, call.door.environ), now)
        )
        return [as_json(each) for each in matching(models, looked_for)]

    rows = await asyncio.to_thread(refusals, found)
    return json_answer(
        200, {"version": version.number, "models": rows}, {"ETag": f'"{version.number}"'}
    )


ROUTES = (
    Route(
        "GET",
        "/v1/catalogue",
        "Models by what they cost, hold and are good at, and where each number is from",
        _models,
        Catalogue,
        query={
            "of": "`live` (default): what is configured; `all`: everything that is listed.",
            "tag": "Tags that it must have, separated by commas.",
            "provider": "Providers, any of which serves it, separated by commas.",
            "vendor": "Who made it, e.g. anthropic.",
            "max_price": "Most USD per million tokens, three of input for one of output.",
            "min_context": "Least tokens of context.",
            "task": "A task: the best at it come first, and `min_quality` is of it.",
            "min_quality": "Least quality at the task (chat where none is said), 0 to 1.",
        },
    ),
)
