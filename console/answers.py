"""How the admin port answers: JSON that no cache keeps, and errors of one shape."""

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import hdrs, web

__all__ = ["Refused", "error_answer", "json_answer"]


class Refused(Exception):
    """
    An answer that says no; nothing was changed unless the message says so.

    `code` is a public word, `more` goes into the error beside code and message.
    """

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.more = more
        super().__init__(message)

    def answer(self) -> web.Response:
        """Return it as an answer."""
        return error_answer(self.status, self.code, self.message, **self.more)


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
    """Return a body as JSON that no cache keeps."""
    return web.Response(
        status=status,
        body=orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE),
        content_type="application/json",
        headers={hdrs.CACHE_CONTROL: "no-store", **(headers or {})},
    )
