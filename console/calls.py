"""
One call of the admin API: what it says, read whole and checked, before anything is done for it.

A `Route` is a row: method, path, what it takes and gives, and the handler. The rows make the
application (`console.admin`) and the OpenAPI document (`console.openapi`), so that the two agree.

A call that changes something is JSON and says so: a page in an operator's browser can send other
bodies to this machine without asking, but not that one.
"""

import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import hdrs, web
from pydantic import BaseModel, ValidationError
from redis.asyncio import Redis

from config.problems import nearest, quoted, spell
from console.answers import Refused, problem
from console.shapes import Change
from console.stores import Stores
from store.cells import FIRST

__all__ = ["Call", "Door", "Route", "listen_path", "read_call"]

ACTOR = "x-penstock-actor"
NOBODY_IN_PARTICULAR = "admin"
LONGEST_ACTOR = 128
# A configuration of 8 MiB, each character of it escaped
LARGEST_BODY = 20 * 1024 * 1024

_NAME = re.compile(r"\{([a-z_]+)\}")
_ETAG = re.compile(r'"([0-9]{1,16})"')
# What may stand in the query of a call that has no body
_SAID_OF_A_CHANGE = frozenset({"why", "expected", "wait_ms"})


@dataclass(frozen=True, slots=True)
class Door:
    """
    What the admin port needs from the role behind it.

    `token` is the admin token, None where none is configured.
    `not_ready` says what the role still waits for, None when it is ready; `page` makes the metrics.
    `cells` are all of the store, each with a client that answers in bytes; `ledger` is the database's file.
    `environ` resolves the references of configurations; `replica` is the role's own name.
    """

    token: str | None
    not_ready: Callable[[], Awaitable[str | None]]
    page: Callable[[], Awaitable[bytes]]
    cells: Stores = field(repr=False)
    ledger: Path
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    replica: str = ""

    @property
    def client(self) -> Redis:
        """The client of the first cell, where the configuration lies."""
        return self.cells[FIRST]


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was read: `names` are the parts of its path, `body` its checked body."""

    door: Door
    names: Mapping[str, str]
    query: Mapping[str, str]
    by: str
    body: Any = None

    @property
    def change(self) -> Change:
        """The body of a call that changes something."""
        assert isinstance(self.body, Change)
        return self.body


Handler = Callable[[Call], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """
    One route of the admin port.

    `path` is a template, `/v1/models/{name}`; a name in `wide` may hold slashes.
    `takes` is the schema of its body, `gives` that of its answer with status `status`.
    `query` are the parameters that it knows, each with a line of description.
    """

    method: str
    path: str
    says: str
    handler: Handler
    gives: type[BaseModel]
    takes: type[BaseModel] | None = None
    status: int = 200
    wide: bool = False
    query: Mapping[str, str] = field(default_factory=dict)
    is_open: bool = False
    media: str = "application/json"
    refuses: tuple[int, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether it changes the live configuration."""
        return self.takes is not None and issubclass(self.takes, Change)

    @property
    def names(self) -> list[str]:
        """The names in its path."""
        return _NAME.findall(self.path)


def listen_path(route: Route) -> str:
    """Return a route's path as aiohttp takes it."""
    return _NAME.sub(r"{\1:[\\s\\S]+}", route.path) if route.wide else route.path


async def read_call(route: Route, request: web.Request, door: Door) -> Call:
    """Read a call, or raise Refused with everything that is wrong with it."""
    try:
        unquote_to_bytes(request.raw_path).decode()
    except UnicodeDecodeError:
        raise Refused(400, "bad_request", "the URL is not UTF-8", path="url") from None
    may_be_said = set(route.query)
    in_query = route.method == hdrs.METH_DELETE and route.changes
    if in_query:
        may_be_said |= _SAID_OF_A_CHANGE
    query: dict[str, str] = {}
    for name, value in () if route.is_open else request.query.items():
        if name not in may_be_said:
            known = ", ".join(sorted(may_be_said)) or "none"
            raise Refused(
                400,
                "bad_request",
                f"unknown parameter {quoted(name)}; known: {known}",
                path=spell((name,)),
            )
        if name in query:
            raise Refused(400, "bad_request", f"the parameter {name} is said twice", path=name)
        query[name] = value
    body = None
    if route.takes is not None:
        said = await _said(request, may_be_empty=in_query)
        if in_query:
            said = _merged(
                said, {name: query.pop(name) for name in [*query] if name in _SAID_OF_A_CHANGE}
            )
        if route.changes:
            said = _with_if_match(said, request.headers.getall(hdrs.IF_MATCH, []))
        body = _checked(route.takes, said)
    names = {name: request.match_info[name] for name in route.names}
    return Call(door, names, query, _actor(request), body)


def _actor(request: web.Request) -> str:
    said = request.headers.get(ACTOR, "").strip()
    if len(said) > LONGEST_ACTOR or not said.isprintable():
        raise _invalid(ACTOR, f"expected at most {LONGEST_ACTOR} printable characters")
    return said or NOBODY_IN_PARTICULAR


async def _said(request: web.Request, *, may_be_empty: bool) -> dict[str, Any]:
    data = await request.read()
    if not data and may_be_empty:
        return {}
    if request.content_type != "application/json":
        raise Refused(
            415,
            "unsupported_media_type",
            "expected a body with Content-Type: application/json",
            path="Content-Type",
        )
    try:
        found = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_no_constant,
            parse_float=_exact,
        )
        # Half of a pair of surrogates can be written in JSON, and is no character.
        json.dumps(found, ensure_ascii=False, default=str).encode()
    except RecursionError:
        raise Refused(400, "invalid_json", "the body is nested too deep", path="body") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError among them
        raise Refused(
            400, "invalid_json", f"the body is not JSON: {_first_line(error)}", path="body"
        ) from None
    if not isinstance(found, dict):
        raise Refused(400, "invalid_json", "the body is not a JSON object", path="body")
    return found


def _first_line(error: ValueError) -> str:
    """Say what is wrong without the bytes, which may hold a secret."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    if isinstance(error, UnicodeEncodeError):
        return "\\u with half of a pair of surrogates"
    return str(error)[:200]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the member {quoted(twice)} stands there twice")
    return found


def _exact(text: str) -> Decimal | float:
    """Read a number with all its digits: money has more than a float carries."""
    number = Decimal(text)
    return number if abs(number.adjusted()) < 40 and len(text) < 60 else float(text)


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")


def _merged(said: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
    for name, text in query.items():
        if name in said:
            raise _invalid(name, "said in the query and in the body")
        is_number = name != "why" and re.fullmatch(r"[0-9]{1,16}", text)
        said[name] = int(text) if is_number else text
    return said


def _with_if_match(said: dict[str, Any], headers: list[str]) -> dict[str, Any]:
    if not headers:
        return said
    found = _ETAG.fullmatch(headers[0]) if len(headers) == 1 else None
    if found is None:
        raise _invalid("If-Match", 'expected one version in quotes, as in "7"')
    number = int(found[1])
    if said.get("expected", number) != number:
        raise _invalid("If-Match", "another version than `expected`")
    return {**said, "expected": number}


def _checked(shape: type[BaseModel], said: dict[str, Any]) -> BaseModel:
    try:
        return shape.model_validate(said)
    except ValidationError as error:
        problems = []
        for each in error.errors(include_url=False, include_input=False, include_context=False):
            path = spell(tuple(each["loc"]))
            message, remedy, meant = str(each["msg"]).removeprefix("Value error, "), "", ""
            if each["type"] == "extra_forbidden":
                known = list(shape.model_fields)
                meant = nearest(str(each["loc"][-1]), known)
                message, remedy = (
                    "unknown field",
                    "" if meant else f"known here: {', '.join(known)}",
                )
            elif each["type"] == "missing":
                message, remedy = "missing", _ABSENT.get(path, f"say {path}")
            problems.append(problem(path, message, remedy or _MENDED, meant))
        said_of = "; ".join(
            f"{each['path']}: {each['message']}"
            + (f"; did you mean '{each['nearest']}'?" if each["nearest"] else "")
            for each in problems
        )
        raise Refused(422, "invalid", said_of, problems=problems) from None


_MENDED = "GET /openapi.json describes it"
_ABSENT = {
    "why": "every change says why, for the history",
    "expected": "say the version that you start from (GET /v1/config), so that nobody's change is lost",
}


def _invalid(path: str, message: str, remedy: str = "mend it, or leave it out") -> Refused:
    return Refused(422, "invalid", f"{path}: {message}", problems=[problem(path, message, remedy)])
