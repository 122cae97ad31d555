"""
The routes of `/v1/keys`: callers' keys are made here, shown once, and kept as their hash.

A key is `sk-pen-` and 40 letters and digits, 238 bits from the system's generator.
It is in the one answer that made it, and in no log, document, history or error.
"""

import asyncio
import secrets
import string
from typing import Any

from aiohttp import web

from config.changes import Draft, add_key, organizations_of, place_of, present, remove, set_key_hash
from config.differences import as_data
from config.secrets import hash_key
from console.answers import Refused, json_answer
from console.calls import Call, Route
from console.desk import Desk, refusals
from console.shapes import Budgets, Change, Changed, Limits, Shape

__all__ = ["ROUTES", "CreateKey", "make_key"]

PREFIX = "sk-pen-"
RANDOM_CHARACTERS = 40
_ALPHABET = string.ascii_letters + string.digits
_PLACE = frozenset({"organization", "team", "name", "why", "expected", "wait_ms", "budgets"})


# What goes in and out...


class CreateKey(Change):
    """A new key of a team; the key itself is made by the gateway."""

    organization: str
    team: str
    name: str
    application: str | None = None
    business_line: str | None = None
    user: str | None = None
    biz_level: str | None = None
    prefer_cost: str | None = None
    capabilities: list[str] | None = None
    max_price: float | None = None
    min_quality: float | None = None
    deadline_ms: int | None = None
    pin: str | None = None
    regions: list[str] | None = None
    routing: str | None = None
    models: list[str] | None = None
    limits: Limits | None = None
    budgets: Budgets | None = None


class NewKey(Changed):
    """A key that was made; it is shown this once."""

    id: str
    key: str


class KeyShape(Shape):
    """A key without the key."""

    id: str
    fingerprint: str
    settings: dict[str, Any]


class Keys(Shape):
    """Keys by id."""

    version: int
    keys: list[KeyShape]


class OneKey(KeyShape):
    """One key."""

    version: int


def make_key() -> str:
    """Return a new key."""
    return PREFIX + "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_CHARACTERS))


async def _list(call: Call) -> web.Response:
    version = await Desk(call.door).current()
    wanted = call.query.get("organization"), call.query.get("team")

    def found() -> list[dict[str, Any]]:
        draft = Draft(version.document, call.door.environ)
        within = "/".join(name for name in wanted if name is not None)
        if wanted[0] is not None:
            kind = "organization" if wanted[1] is None else "team"
            present(draft, kind, within, place_of(draft, kind, within))
        return [
            _shown(draft, f"{organization}/{team}/{name}")
            for organization, path in organizations_of(draft)
            if wanted[0] in {None, organization}
            for team in draft.names((*path, "teams"))
            if wanted[1] in {None, team}
            for name in draft.names((*path, "teams", team, "keys"))
        ]

    keys = await asyncio.to_thread(refusals, found)
    return json_answer(200, {"version": version.number, "keys": keys})


async def _show(call: Call) -> web.Response:
    version = await Desk(call.door).current()

    def found() -> dict[str, Any]:
        return _shown(Draft(version.document, call.door.environ), _id(call))

    said = await asyncio.to_thread(refusals, found)
    return json_answer(200, {"version": version.number, **said}, {"ETag": f'"{version.number}"'})


def _shown(draft: Draft, key: str) -> dict[str, Any]:
    path = place_of(draft, "key", key)
    settings = as_data(present(draft, "key", key, path), path)
    return {"id": key, "fingerprint": settings.pop("key"), "settings": settings}


async def _create(call: Call) -> web.Response:
    asked: CreateKey = call.body
    # Each part by itself: a slash in one must not lead into another team
    for part in ("organization", "team", "name"):
        text = getattr(asked, part)
        if ("/" in text and part != "organization") or not text:
            raise Refused(422, "invalid", f"{part}: expected a name without '/'", path=part)
    key = make_key()
    section: dict[str, Any] = {"key": hash_key(key)}
    section |= {
        name: value
        for name, value in asked.model_dump(exclude=set(_PLACE)).items()
        if value is not None
    }
    if asked.budgets:
        section["budget"] = asked.budgets
    key_id = f"{asked.organization}/{asked.team}/{asked.name}"
    outcome = await Desk(call.door).edit(call, "key.create", add_key(key_id, section))
    return json_answer(201, {**outcome.as_dict(), "id": key_id, "key": key}, outcome.headers)


async def _rotate(call: Call) -> web.Response:
    key = make_key()
    outcome = await Desk(call.door).edit(call, "key.rotate", set_key_hash(_id(call), hash_key(key)))
    return json_answer(200, {**outcome.as_dict(), "id": _id(call), "key": key}, outcome.headers)


async def _revoke(call: Call) -> web.Response:
    outcome = await Desk(call.door).edit(call, "key.revoke", remove("key", _id(call)))
    return json_answer(200, outcome.as_dict(), outcome.headers)


def _id(call: Call) -> str:
    names = [call.names[name] for name in ("organization", "team", "name")]
    if any("/" in name for name in names[1:]):
        raise Refused(
            404,
            "not_found",
            "names of teams and keys have no '/'",
            path="organizations",
        )
    return "/".join(names)


_PATH = "/v1/keys/{organization}/{team}/{name}"

ROUTES = (
    Route(
        "GET",
        "/v1/keys",
        "Callers' keys, without the keys",
        _list,
        Keys,
        query={
            "organization": "Only keys of this organization.",
            "team": "Only keys of this team.",
        },
    ),
    Route(
        "POST",
        "/v1/keys",
        "Make a key; it is shown this once",
        _create,
        NewKey,
        takes=CreateKey,
        status=201,
        refuses=(404,),
    ),
    Route("GET", _PATH, "One key, without the key", _show, OneKey, refuses=(404,)),
    Route(
        "DELETE",
        _PATH,
        "Revoke a key",
        _revoke,
        Changed,
        takes=Change,
        refuses=(404,),
    ),
    Route(
        "POST",
        "/v1/keys/{organization}/{team}/{name}/rotate",
        "Put another key in its place; the old one is refused from then on",
        _rotate,
        NewKey,
        takes=Change,
        refuses=(404,),
    ),
)
