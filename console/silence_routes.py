"""The routes that tell who fell silent and what stays reserved for it, and that take an operator's word that it is dead."""

import logging
from itertools import chain

from aiohttp import web
from pydantic import Field
from redis.asyncio import Redis

from config.problems import quoted
from console.answers import Refused, json_answer
from console.calls import Call, Route
from console.desk import moment
from console.shapes import Shape, Words
from console.stores import in_each
from governance.usage import usd
from ratelimit.silence import Silent, bury, silent
from store.cells import Cell

__all__ = ["ROUTES"]

_log = logging.getLogger("penstock.control")


# What goes in and out...


class ReservedShape(Shape):
    """What one strict budget reserves."""

    scope: str
    per: str
    usd: str


class SilentShape(Shape):
    """A life of a replica that fell silent, and is not known to be dead."""

    replica: str
    cell: str = Field(description="As in `c0`.")
    since: str
    attempts: int = Field(description="Of how many something stays reserved.")
    most_usd: str = Field(description="What they may still cost, beyond what was charged.")
    reserved: list[ReservedShape]


class Silence(Shape):
    """All of them, the longest silent first."""

    silent: list[SilentShape]


class Dead(Shape):
    """Somebody's word that a silent replica is dead."""

    replica: Words = Field(description="As `GET /v1/silent` says it.")
    why: Words = Field(description="A sentence for the log.")


class Freed(Shape):
    """Who is dead; what stayed reserved for it is free within two seconds."""

    replica: str


async def _silent(call: Call) -> web.Response:
    async def found(cell: Cell, store: Redis) -> list[Silent]:
        return await silent(store, cell)

    each = sorted(
        chain.from_iterable(await in_each(call.door.cells, found)), key=lambda one: one.since_us
    )
    rows = [
        {
            "replica": one.replica,
            "cell": str(one.cell),
            "since": moment(one.since_us),
            "attempts": one.attempts,
            "most_usd": usd(one.most_nusd),
            "reserved": [
                {"scope": scope, "per": per, "usd": usd(nusd)}
                for (scope, per), nusd in sorted(one.reserved_nusd.items())
            ],
        }
        for one in each
    ]
    return json_answer(200, {"silent": rows})


async def _dead(call: Call) -> web.Response:
    said: Dead = call.body

    async def told(cell: Cell, store: Redis) -> bool:
        return await bury(store, said.replica, cell)

    if not any(await in_each(call.door.cells, told)):
        raise Refused(
            404,
            "not_found",
            f"no replica {quoted(said.replica)} is silent; one that beats is alive (GET /v1/silent)",
            path="replica",
        )
    _log.warning("%s says that %s is dead: %s", call.by, said.replica, said.why)
    return json_answer(200, {"replica": said.replica})


ROUTES = (
    Route(
        "GET",
        "/v1/silent",
        "Who fell silent and is not known to be dead, and what stays reserved for it",
        _silent,
        Silence,
    ),
    Route(
        "POST",
        "/v1/silent/dead",
        "Say that a silent replica is dead, so that what stays reserved for it is freed",
        _dead,
        Freed,
        takes=Dead,
        refuses=(404,),
    ),
)
