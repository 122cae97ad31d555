"""
The admin port: health, metrics, what the books say, and the live configuration; no completion passes here.

Its routes are rows of a table (`console.calls.Route`), from which OpenAPI is made too.
`/health/*` and `/metrics` are open to whoever reaches the port, everything else needs the admin
token, compared in constant time.
Where no token is configured only a loopback address is listened on (`check_listen`), and a request
must name a loopback host: a web page in the operator's browser cannot then read the books by
letting a name of its own point here (DNS rebinding).
"""

import asyncio
import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict
from redis.exceptions import RedisError

from config.problems import quoted
from console import (
    catalogue_routes,
    config_routes,
    experiment_routes,
    health_routes,
    key_routes,
    models_routes,
    openapi,
    quota_routes,
    routing_routes,
    silence_routes,
    simulate_routes,
)
from console.answers import Refused, error_answer, json_answer
from console.calls import LARGEST_BODY, Call, Door, Route, listen_path, read_call
from console.metrics import CONTENT_TYPE
from console.page_routes import PATHS, add_page
from console.shapes import Shape
from governance.exchanges import find_exchange, in_database
from governance.usage import BadQuestion, moment_us, usage
from store.sql import LedgerUnreachable

__all__ = ["Door", "check_listen", "is_loopback", "make_app", "routes"]

_log = logging.getLogger("penstock.admin")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


# What goes in and out...


class Word(Shape):
    """Whether the role lives or is ready."""

    status: str
    reason: str | None = None


class Anything(BaseModel):
    """An answer that is described elsewhere."""

    model_config = ConfigDict(extra="allow")


def is_loopback(host: str) -> bool:
    """Tell whether a host (a name or an address, without brackets) is this machine and no other."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_listen(host: str, token: str | None) -> str | None:
    """Return what is wrong with listening there, None if nothing is."""
    if token is not None or is_loopback(host):
        return None
    return (
        f"admin.listen is {host}, which others can reach, and admin.token is not set\n"
        "set admin.token (at least 16 letters and digits), or listen on 127.0.0.1"
    )


def routes() -> tuple[Route, ...]:
    """Return every route of the admin port."""
    return (
        *_BOOKS,
        *config_routes.ROUTES,
        *key_routes.ROUTES,
        *quota_routes.ROUTES,
        *silence_routes.ROUTES,
        *catalogue_routes.ROUTES,
        *health_routes.ROUTES,
        *models_routes.ROUTES,
        *experiment_routes.ROUTES,
        *routing_routes.ROUTES,
        *simulate_routes.ROUTES,
    )


def make_app(door: Door) -> web.Application:
    """Return the application of the admin port."""
    table = routes()
    guard = _guard(door.token, PATHS | {route.path for route in table if route.is_open})
    app = web.Application(middlewares=[_errors, guard], client_max_size=LARGEST_BODY)
    for route in table:
        app.router.add_route(route.method, listen_path(route), _served(route, door))
        if route.method == hdrs.METH_GET:
            app.router.add_route(hdrs.METH_HEAD, listen_path(route), _served(route, door))
    described = orjson.dumps(openapi.document(table), option=orjson.OPT_APPEND_NEWLINE)

    async def description(_: web.Request) -> web.Response:
        return web.Response(body=described, content_type="application/json")

    app.router.add_get("/openapi.json", description)
    add_page(app)
    app.on_response_prepare.append(_unnamed)
    return app


async def _unnamed(_: web.Request, answer: web.StreamResponse) -> None:
    """Keep back which versions of what answer."""
    answer.headers.pop(hdrs.SERVER, None)


def _served(route: Route, door: Door) -> Handler:
    """Return the handler that reads a call, does it, and turns refusals into answers."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await route.handler(await read_call(route, request, door))
        except Refused as refused:
            return refused.answer()
        except (RedisError, OSError) as error:
            return error_answer(503, "store_unavailable", f"the store does not answer: {error}")
        except web.HTTPException:
            raise
        except Exception:  # noqa: BLE001 - the boundary that renders all errors
            # What was sent is in no log: it may hold a secret
            _log.exception("%s %s failed", route.method, route.path)
            return error_answer(500, "internal", "the gateway failed over it; its log knows more")

    return handle


# The routes...


async def _live(call: Call) -> web.Response:
    return json_answer(200, {"status": "live"})


async def _ready(call: Call) -> web.Response:
    waiting = await call.door.not_ready()
    if waiting is None:
        return json_answer(200, {"status": "ready"})
    return json_answer(503, {"status": "not ready", "reason": waiting})


async def _metrics(call: Call) -> web.Response:
    return web.Response(body=await call.door.page(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})


async def _exchange(call: Call) -> web.Response:
    """Answer the entries of one exchange: 404 as long as there is none."""
    door, request_id = call.door, call.names["request_id"]
    try:
        try:
            entries = await find_exchange(door.cells, door.ledger, request_id)
        except (RedisError, OSError) as error:
            entries = await asyncio.to_thread(in_database, door.ledger, request_id)
            if not entries:
                return error_answer(503, "store_unavailable", f"the store does not answer: {error}")
    except LedgerUnreachable as error:
        return error_answer(503, "ledger_unavailable", str(error))
    if not entries:
        raise Refused(
            404, "not_found", f"there is no entry of {quoted(request_id)} (yet)", path="request_id"
        )
    return json_answer(200, {"entries": entries})


async def _usage(call: Call) -> web.Response:
    """Answer sums over the ledger, as `penstock usage --json` does."""
    query = call.query
    now = datetime.now(UTC)
    try:
        until = query.get("until")
        answer = await asyncio.to_thread(
            usage,
            call.door.ledger,
            query.get("by", "model"),
            since_us=moment_us(query.get("since", "24h"), now),
            until_us=None if until is None else moment_us(until, now),
        )
    except BadQuestion as error:
        raise Refused(400, "bad_request", str(error), path="query") from None
    except LedgerUnreachable as error:
        return error_answer(503, "ledger_unavailable", str(error))
    return json_answer(200, answer.as_json())


_BOOKS = (
    Route("GET", "/health/live", "Whether the role lives", _live, Word, is_open=True),
    Route("GET", "/health/ready", "Whether the role is ready", _ready, Word, is_open=True),
    Route(
        "GET",
        "/metrics",
        "Metrics of the edges and of this role",
        _metrics,
        Anything,
        is_open=True,
        media="text/plain",
    ),
    Route(
        "GET",
        "/v1/exchanges/{request_id}",
        "The ledger entries of one call",
        _exchange,
        Anything,
        refuses=(404,),
    ),
    Route(
        "GET",
        "/v1/usage",
        "Sums over the ledger",
        _usage,
        Anything,
        query={
            "by": "Dimensions to group by, separated by commas.",
            "since": "30m, 24h, 7d, or a moment such as 2026-11-01.",
            "until": "The end, not included.",
        },
    ),
)


# The guard, and the shape of errors...


def _guard(token: str | None, is_open: frozenset[str]) -> Any:
    """Return the middleware that lets only those in who may come in; everybody, to the paths that are open."""
    expected = None if token is None else _digest(token)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in is_open:
            return await handler(request)
        if expected is None:
            if not is_loopback(_host_of(request)):
                return Refused(
                    403,
                    "forbidden",
                    "without admin.token only a loopback host is answered",
                    path="Host",
                ).answer()
            return await handler(request)
        scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        # Digests have one length, so that comparing tells nothing about the token's.
        if scheme.lower() != "bearer" or not hmac.compare_digest(_digest(given.strip()), expected):
            return Refused(
                401,
                "unauthorized",
                "the admin token is expected: Authorization: Bearer <admin.token>",
                path="Authorization",
            ).answer({hdrs.WWW_AUTHENTICATE: 'Bearer realm="penstock admin"'})
        return await handler(request)

    return guard


def _digest(text: str) -> bytes:
    """Return a digest to compare by; header values may hold what UTF-8 does not."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _host_of(request: web.Request) -> str:
    """Return the host that a request names, without port and brackets."""
    host = request.headers.get(hdrs.HOST, "")
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the router's errors the shape of ours."""
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        refused = Refused(405, "method_not_allowed", f"allowed here: {allowed}", path="method")
        return refused.answer({hdrs.ALLOW: allowed})
    except web.HTTPRequestEntityTooLarge:
        said = f"a body has at most {LARGEST_BODY} bytes"
        return Refused(413, "too_large", said, path="body").answer()
    except web.HTTPNotFound:
        said = f"there is no {quoted(request.path)} on the admin port"
        return Refused(404, "not_found", said, path="url", remedy="see /openapi.json").answer()
