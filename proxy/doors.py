"""
The data port's routes: which request is served by what, found before a body is read.

One table from path and method to a handler; whatever can spend goes to `proxy.exchange.serve`, the rest is answered here from memory.
"""

import json
import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote

from proxy import feedback
from proxy.errors import GatewayError, NotFound
from proxy.exchange import NO_LIMITS, Exchange, serve
from proxy.files import Errand
from proxy.live import Live
from proxy.reading import caller_of, path_of
from proxy.realtime import Session
from proxy.refusals import retry_lines
from proxy.server import Request, Written
from proxy.wire.endpoints import (
    ANTHROPIC,
    BATCHES,
    COHERE,
    ENDPOINTS,
    FILES,
    GEMINI,
    JINA,
    OLLAMA,
    OPENAI,
    REALTIME,
    VERBS,
    Endpoint,
    Protocol,
)

if TYPE_CHECKING:
    from proxy.app import Edge

Handler = Callable[[Request], Awaitable[Written]]


class Doors:
    """The data port's routes: a table look-up, before a body is read."""

    def __init__(self, edge: "Edge") -> None:
        self._edge = edge
        self._routes: dict[str, dict[str, Handler]] = {
            **{
                endpoint.route: {endpoint.method: self._spend(endpoint)}
                for endpoint in ENDPOINTS
                if "{model}" not in endpoint.route
            },
            "/v1/feedback": {"POST": self._feedback},
            "/v1/files": {"POST": self._spend(FILES), "GET": self._spend(FILES)},
            "/v1/batches": {"POST": self._spend(BATCHES), "GET": self._spend(BATCHES)},
            "/v1/models": {"GET": self._models},
            "/v1beta/models": {"GET": self._models},
            "/api/tags": {"GET": self._models},
            "/api/version": {"GET": self._version},
            "/": {"HEAD": self._root, "GET": self._root},
            "/health/live": {"GET": self._alive, "HEAD": self._alive},
            "/health/ready": {"GET": self._is_ready, "HEAD": self._is_ready},
        }

        file, batch = self._spend(FILES), self._spend(BATCHES)
        self._kept: dict[str, dict[str, Handler]] = {
            "/v1/files/{id}": {"GET": file, "DELETE": file},
            "/v1/files/{id}/content": {"GET": file},
            "/v1/batches/{id}": {"GET": batch},
            "/v1/batches/{id}/cancel": {"POST": batch},
        }

    @property
    def routes(self) -> dict[str, tuple[str, ...]]:
        """Every path with its methods, those that name a model included."""
        named = {endpoint.route: ("POST",) for endpoint in VERBS.values()}
        return {path: tuple(methods) for path, methods in self._routes.items()} | {
            "/v1/models/{id}": ("GET",),
            **{path: tuple(methods) for path, methods in self._kept.items()},
            "/v1beta/models/{id}": ("GET",),
            **named,
        }

    async def answer(self, request: Request) -> Written:
        """Find the route and let it answer; whoever does not read its answers gets no more of them."""
        if request.client.writing_paused:
            await request.client.caught_up()
        message = request.message
        methods = self._routes.get(message.path)
        if methods is None:
            path = path_of(request)
            methods = self._routes.get(path)
            if methods is None:
                methods = self._named(path, message.path, message.method)
                if methods is None:
                    return self._refuse(
                        request, 404, f"There is no route {_shown(path)} here.", "unknown_route"
                    )
        handler = methods.get(message.method)
        if handler is None:
            return self._refuse(
                request,
                405,
                f"{_shown(message.method)} is not possible here; use {' or '.join(methods)}.",
                "method_not_allowed",
                b"allow: %b\r\n" % ", ".join(methods).encode(),
            )
        return await handler(request)

    def _named(self, path: str, target: str, method: str) -> dict[str, Handler] | None:
        """Find the route of a path that names a model; None where there is none."""
        if path.startswith(_KEEPERS):
            kept = _KEPT.fullmatch(path)
            if kept is None:
                return None
            begin, end = kept.span("id")
            return self._kept.get(f"{path[:begin]}{{id}}{path[end:]}")
        found = _model_in(path)
        if found is None:
            return None
        model, verb = found
        if "alt=sse" in target.partition("?")[2].split("&"):
            endpoint = VERBS.get(f"{verb}?alt=sse") or VERBS.get(verb)
        else:
            endpoint = VERBS.get(verb)
        if endpoint is not None:
            return {"POST": self._spend(endpoint, model)}
        # A colon that no verb of Gemini's follows is a part of the name.
        return {"GET": self._model} if not verb or method == "GET" else None

    def _spend(self, endpoint: Endpoint, model: str = "") -> Handler:
        story = _STORIES.get(endpoint, Exchange)

        def handler(request: Request) -> Awaitable[Written]:
            return serve(self._edge, request, endpoint, model, story=story)

        return handler

    async def _models(self, request: Request) -> Written:
        protocol = _spoken_by(request)
        return self._with_names(request, protocol, _LISTS[protocol])

    async def _model(self, request: Request) -> Written:
        protocol = _spoken_by(request)
        wanted = request.message.url.path.partition("/models/")[2]

        def one(live: Live, names: list[str]) -> object:
            if wanted not in names:
                raise NotFound(
                    f"The model '{_shown(wanted)}' does not exist here, or this key may not use it.",
                    code="model_not_found",
                    param="model",
                )
            return _CARDS[protocol](live, wanted)

        return self._with_names(request, protocol, one)

    def _with_names(
        self, request: Request, protocol: Protocol, body: Callable[[Live, list[str]], object]
    ) -> Written:
        live = self._edge.live
        try:
            document = body(live, live.names_for(caller_of(request, protocol, live.callers)))
        except GatewayError as error:
            return self._error(request, error)
        return self._say(request, 200, document)

    async def _feedback(self, request: Request) -> Written:
        try:
            return self._say(request, 200, await feedback.take(self._edge, request))
        except GatewayError as error:
            return self._error(request, error)

    async def _root(self, request: Request) -> Written:
        return self._say(request, 200, {"name": "penstock"})

    async def _version(self, request: Request) -> Written:
        return self._say(request, 200, {"version": _OLLAMA_VERSION})

    async def _alive(self, request: Request) -> Written:
        return self._say(request, 200, {"status": "live"})

    async def _is_ready(self, request: Request) -> Written:
        why = self._edge.ready
        return self._say(request, 503 if why else 200, {"status": why or "ready"})

    def _refuse(
        self, request: Request, status: int, words: str, code: str, headers: bytes = b""
    ) -> Written:
        return self._error(request, NotFound(words, code=code, status=status), headers)

    def _error(self, request: Request, error: GatewayError, headers: bytes = b"") -> Written:
        request_id = self._edge.next_request_id()
        body = _spoken_by(request).error(
            error.http_status,
            error.message,
            error.type,
            error.code,
            param=error.param,
            request_id=request_id,
        )
        return self._write(
            request,
            error.http_status,
            body,
            retry_lines(error) + headers,
            request_id=request_id,
        )

    def _say(self, request: Request, status: int, document: object) -> Written:
        return self._write(request, status, json.dumps(document).encode())

    def _write(
        self,
        request: Request,
        status: int,
        body: bytes,
        headers: bytes = b"",
        *,
        request_id: str = "",
    ) -> Written:
        edge = self._edge
        request_id = request_id or edge.next_request_id()
        message = request.message
        # A body that nobody has read would be taken for the next request's head.
        unread = not request.content.is_eof()
        close = message.should_close or edge.draining or unread
        whole = edge.server.answer(
            status,
            body,
            b"x-request-id: %b\r\n%b%b"
            % (
                request_id.encode(),
                _spoken_by(request).lines(NO_LIMITS, request_id, edge.unix_us),
                headers,
            ),
            close=close,
        )
        if message.method == "HEAD":
            whole = whole[: len(whole) - len(body)]
        transport = request.client.transport
        if transport is not None:
            transport.write(whole)
        return edge.server.closing if close else edge.server.kept


# What is told by another story than a call that is answered at once.
_STORIES: dict[Endpoint, type[Exchange]] = {REALTIME: Session, FILES: Errand, BATCHES: Errand}
_KEEPERS = ("/v1/files/", "/v1/batches/")
_KEPT = re.compile(r"/v1/(?:files|batches)/(?P<id>[A-Za-z0-9_.-]{1,128})(?:/[a-z]+)?")
# A model's name may hold slashes; what Gemini's clients want of it stands behind a colon.
_NAMED = re.compile(r"/v1(?:beta1?)?/models/(?P<model>.+?)(?::(?P<verb>[a-zA-Z]+))?")
# The version of Ollama's API that is spoken here.
_OLLAMA_VERSION = "0.12.0"


@lru_cache(maxsize=256)
def _model_in(path: str) -> tuple[str, str] | None:
    """Give the model that a path names and the verb behind its colon, which may be empty; None where it names none."""
    found = _NAMED.fullmatch(path)
    return None if found is None else (unquote(found["model"]), found["verb"] or "")


def _spoken_by(request: Request) -> Protocol:
    """Say which protocol a request is in that no row of the table tells: by its path, or by what its client sends along."""
    message = request.message
    path = path_of(request)
    if path.startswith("/v1/messages") or "anthropic-version" in message.headers:
        return ANTHROPIC
    if path.startswith("/api/"):
        return OLLAMA
    if path.startswith("/v2/"):
        return COHERE
    if path.startswith("/v1/rerank"):
        return JINA
    if (
        path.startswith("/v1beta")
        or "x-goog-api-key" in message.headers
        or "key=" in message.path.partition("?")[2]
    ):
        return GEMINI
    return OPENAI


# Nobody has asked when a model of ours was made; the protocols want a date.
_CREATED_S = 1_704_067_200
_CREATED = "2024-01-01T00:00:00Z"


def _openai_card(live: Live, name: str) -> dict[str, object]:
    return {
        "id": name,
        "object": "model",
        "created": _CREATED_S,
        "owned_by": "penstock" if live.pool.is_route(name) else "organization",
    }


def _openai_list(live: Live, names: list[str]) -> dict[str, object]:
    return {"object": "list", "data": [_openai_card(live, name) for name in names]}


def _anthropic_card(live: Live, name: str) -> dict[str, object]:
    options = live.pool.options(name)
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": _CREATED,
        "max_input_tokens": max((option.context or 0 for option in options), default=0) or None,
        "max_tokens": max((option.max_output or 0 for option in options), default=0) or None,
    }


def _anthropic_list(live: Live, names: list[str]) -> dict[str, object]:
    return {
        "data": [_anthropic_card(live, name) for name in names],
        "has_more": False,
        "first_id": names[0] if names else None,
        "last_id": names[-1] if names else None,
    }


_GEMINI_METHODS = ("generateContent", "streamGenerateContent", "countTokens")


def _gemini_card(live: Live, name: str) -> dict[str, object]:
    card = _anthropic_card(live, name)
    return {
        "name": f"models/{name}",
        "displayName": name,
        "inputTokenLimit": card["max_input_tokens"],
        "outputTokenLimit": card["max_tokens"],
        "supportedGenerationMethods": _GEMINI_METHODS,
    }


def _gemini_list(live: Live, names: list[str]) -> dict[str, object]:
    return {"models": [_gemini_card(live, name) for name in names]}


def _ollama_card(live: Live, name: str) -> dict[str, object]:
    return {
        "name": name,
        "model": name,
        "modified_at": _CREATED,
        "size": 0,
        "digest": "",
        "details": {"format": "", "family": "", "families": None, "parameter_size": ""},
    }


def _ollama_list(live: Live, names: list[str]) -> dict[str, object]:
    return {"models": [_ollama_card(live, name) for name in names]}


# How each protocol shows a model, and all that a key may use.
_CARDS = {
    OPENAI: _openai_card,
    ANTHROPIC: _anthropic_card,
    GEMINI: _gemini_card,
    OLLAMA: _ollama_card,
}
_LISTS = {
    OPENAI: _openai_list,
    ANTHROPIC: _anthropic_list,
    GEMINI: _gemini_list,
    OLLAMA: _ollama_list,
}


def _shown(text: str) -> str:
    """Return a caller's text as it may stand in a message: short, printable."""
    return "".join(c if c.isprintable() else "?" for c in text[:80])
