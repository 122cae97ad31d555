"""
The admin port: health, metrics, and what the books say; no completion passes here.

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
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from aiohttp import hdrs, web
from redis.asyncio import Redis
from redis.exceptions import RedisError

from console.metrics import CONTENT_TYPE
from governance.exchanges import find_exchange, in_database
from governance.usage import BadQuestion, moment_us, usage
from store.sql import LedgerUnreachable

__all__ = ["Door", "check_listen", "is_loopback", "make_app"]

_OPEN = ("/health/live", "/health/ready", "/metrics")
_ASKS = frozenset({"by", "since", "until"})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Door:
    """
    What the admin port needs from the role behind it.

    `token` is the admin token, None where none is configured.
    `not_ready` says what the role still waits for, None when it is ready; `page` makes the metrics.
    `client` answers in bytes; `ledger` is the database's file.
    """

    token: str | None
    not_ready: Callable[[], Awaitable[str | None]]
    page: Callable[[], Awaitable[bytes]]
    client: Redis
    ledger: Path


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


def make_app(door: Door) -> web.Application:
    """Return the application of the admin port."""
    app = web.Application(middlewares=[_errors, _guard(door.token)])

    async def live(_: web.Request) -> web.Response:
        return _json(200, {"status": "live"})

    async def ready(_: web.Request) -> web.Response:
        waiting = await door.not_ready()
        if waiting is None:
            return _json(200, {"status": "ready"})
        return _json(503, {"status": "not ready", "reason": waiting})

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=await door.page(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})

    async def exchange(request: web.Request) -> web.Response:
        return await _exchange(door, request.match_info["request_id"])

    async def sums(request: web.Request) -> web.Response:
        return await _usage(door, request.query)

    app.router.add_get("/health/live", live)
    app.router.add_get("/health/ready", ready)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/v1/exchanges/{request_id}", exchange)
    app.router.add_get("/v1/usage", sums)
    return app


# The routes...


async def _exchange(door: Door, request_id: str) -> web.Response:
    """Answer the entries of one exchange: 404 as long as there is none."""
    try:
        try:
            entries = await find_exchange(door.client, door.ledger, request_id)
        except (RedisError, OSError) as error:
            entries = await asyncio.to_thread(in_database, door.ledger, request_id)
            if not entries:
                return _error(503, "store_unavailable", f"the store does not answer: {error}")
    except LedgerUnreachable as error:
        return _error(503, "ledger_unavailable", str(error))
    if not entries:
        return _error(404, "not_found", f"there is no entry of {request_id!r} (yet)")
    return _json(200, {"entries": entries})


async def _usage(door: Door, query: Mapping[str, str]) -> web.Response:
    """Answer sums over the ledger, as `penstock usage --json` does."""
    unknown = sorted(set(query) - _ASKS)
    if unknown:
        return _error(
            400, "bad_request", f"unknown parameter {unknown[0]!r}; known: by, since, until"
        )
    now = datetime.now(UTC)
    try:
        until = query.get("until")
        answer = await asyncio.to_thread(
            usage,
            door.ledger,
            query.get("by", "model"),
            since_us=moment_us(query.get("since", "24h"), now),
            until_us=None if until is None else moment_us(until, now),
        )
    except BadQuestion as error:
        return _error(400, "bad_request", str(error))
    except LedgerUnreachable as error:
        return _error(503, "ledger_unavailable", str(error))
    return _json(200, answer.as_json())


# The guard, and the shape of errors...


def _guard(token: str | None) -> Any:
    """Return the middleware that lets only those in who may come in."""
    expected = None if token is None else _digest(token)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in _OPEN:
            return await handler(request)
        if expected is None:
            if not is_loopback(_host_of(request)):
                return _error(
                    403, "forbidden", "without admin.token only a loopback host is answered"
                )
            return await handler(request)
        scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        # Digests have one length, so that comparing tells nothing about the token's.
        if scheme.lower() != "bearer" or not hmac.compare_digest(_digest(given.strip()), expected):
            return _error(
                401,
                "unauthorized",
                "the admin token is expected: Authorization: Bearer <admin.token>",
                {hdrs.WWW_AUTHENTICATE: 'Bearer realm="penstock admin"'},
            )
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
        return _error(405, "method_not_allowed", f"allowed here: {allowed}", {hdrs.ALLOW: allowed})
    except web.HTTPNotFound:
        return _error(404, "not_found", f"there is no {request.path} on the admin port")


def _error(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an error as JSON."""
    return _json(status, {"error": {"code": code, "message": message}}, headers)


def _json(status: int, body: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a body as JSON that no cache keeps."""
    return web.Response(
        status=status,
        body=orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE),
        content_type="application/json",
        headers={hdrs.CACHE_CONTROL: "no-store", **(headers or {})},
    )
