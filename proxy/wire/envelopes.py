"""
What the gateway says itself, in the caller's protocol: errors, an error within a stream, and how much of its limits is left.

Each function takes the same things in each protocol and says as much of them as the protocol has words for.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

__all__ = ["openai_error", "openai_event", "openai_lines"]

_REQUEST_LIMITS: Final = (
    b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\n"
    b"x-ratelimit-reset-requests: %d.%03ds\r\n"
)
_TOKEN_LIMITS: Final = (
    b"x-ratelimit-limit-tokens: %d\r\nx-ratelimit-remaining-tokens: %d\r\n"
    b"x-ratelimit-reset-tokens: %d.%03ds\r\n"
)
_BOTH_LIMITS: Final = _REQUEST_LIMITS + _TOKEN_LIMITS

# OpenAI: https://platform.openai.com/docs/guides/error-codes


def openai_error(
    status: int,
    message: str,
    type_: str,
    code: str | None = None,
    *,
    param: str | None = None,
    request_id: str = "",
) -> bytes:
    """Write an error in OpenAI's envelope, which has no place for `status` and `request_id`."""
    return msgspec.json.encode(
        {"error": {"message": message, "type": type_, "param": param, "code": code}}
    )


def openai_event(message: str, code: str, request_id: str) -> bytes:
    """
    Write the event that ends a stream which was cut: an error, and no [DONE] after it.

    The official clients raise ``APIError`` on a chunk that has a truthy ``error``.
    """
    error = {
        "message": message,
        "type": "upstream_error",
        "param": None,
        "code": code,
        "request_id": request_id,
    }
    return b"data: %b\n\n" % msgspec.json.encode({"error": error})


def openai_lines(limits: Sequence[int], request_id: str, unix_us: Callable[[], int]) -> bytes:
    """
    Return the header lines of the tightest limits, none where there is no limit.

    `limits` is limit, remaining and us to the reset of requests, then of tokens.
    """
    requests, requests_left, requests_us, tokens, tokens_left, tokens_us = limits
    if requests and tokens:
        return _BOTH_LIMITS % (
            *(requests, requests_left, requests_us // 1_000_000, requests_us % 1_000_000 // 1000),
            *(tokens, tokens_left, tokens_us // 1_000_000, tokens_us % 1_000_000 // 1000),
        )
    if requests:
        return _REQUEST_LIMITS % (
            *(requests, requests_left, requests_us // 1_000_000, requests_us % 1_000_000 // 1000),
        )
    if tokens:
        return _TOKEN_LIMITS % (
            *(tokens, tokens_left, tokens_us // 1_000_000, tokens_us % 1_000_000 // 1000),
        )
    return b""
