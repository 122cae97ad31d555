"""How the admin port answers: JSON that no cache keeps, and errors of one shape."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson
from aiohttp import hdrs, web

__all__ = ["Refused", "error_answer", "json_answer", "problem"]

# What to do about a refusal that has no list of mistakes of its own.
_REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        "bad_request": "leave it out, or say it once and as it is described",
        "cells_are_fixed": "stop every edge, change the file, and start again",
        "contended": "try again",
        "forbidden": "set admin.token, or ask at a loopback address",
        "invalid": "mend it and ask again; nothing was changed",
        "invalid_json": "send one JSON object in UTF-8, each member once",
        "method_not_allowed": "use one of these",
        "not_empty": "take away what is in it first",
        "not_found": "look at what there is",
        "stale_version": "look at the changes since, and say the version that is live now",
        "taken": "choose another name, or change the one that is there",
        "too_large": "send less",
        "unauthorized": "send Authorization: Bearer and admin.token",
        "unsupported_media_type": "send Content-Type: application/json",
    }
)


# What callers named themselves is in many answers: no browser is to take one for a page of this port.
_HEADERS: Mapping[str, str] = MappingProxyType(
    {hdrs.CACHE_CONTROL: "no-store", "X-Content-Type-Options": "nosniff"}
)


class Refused(Exception):
    """
    An answer that says no; nothing was changed unless the message says so.

    `code` is a public word, `path` where it is wrong, `remedy` what to do about it (by default what the
    code stands for), `more` goes into the error beside code and message.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        path: str = "",
        remedy: str = "",
        **more: Any,
    ) -> None:
        self.status = status
        self.code = code
        self.message = f"{message}; {remedy}" if remedy else message
        self.more = more
        if 400 <= status < 500:
            self.more = {
                "problems": [problem(path, message, remedy or _REMEDIES.get(code, ""))],
                **more,
            }
        super().__init__(self.message)

    def answer(self, headers: Mapping[str, str] | None = None) -> web.Response:
        """Return it as an answer."""
        return error_answer(self.status, self.code, self.message, headers, **self.more)


def problem(path: str, message: str, remedy: str = "", meant: str = "") -> dict[str, Any]:
    """Return one mistake of a request, as `console.shapes.ProblemShape` has it."""
    return {
        "source": "request",
        "path": path,
        "line": 0,
        "column": 0,
        "message": message,
        "found": "",
        "expected": "",
        "nearest": meant,
        "remedy": remedy,
        "severity": "error",
    }


def error_answer(
    status: int,
    code: str,
    message: str,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> web.Response:
    """Return an error as JSON."""
    return json_answer(status, {"error": {"code": code, "message": message, **more}}, headers)


def json_answer(status: int, body: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a body as JSON that no cache keeps, and that no browser takes for anything else."""
    return web.Response(
        status=status,
        body=orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE),
        content_type="application/json",
        headers={**_HEADERS, **(headers or {})},
    )
