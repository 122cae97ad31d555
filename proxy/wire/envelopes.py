"""
What the gateway says itself, in the caller's protocol: errors, an error within a stream, and how much of its limits is left.

Each function takes the same things in each protocol and says as much of them as the protocol has words for.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from time import gmtime, strftime
from types import MappingProxyType
from typing import Final

import msgspec

__all__ = [
    "anthropic_error",
    "anthropic_event",
    "anthropic_lines",
    "array_event",
    "cohere_error",
    "gemini_error",
    "gemini_event",
    "jina_error",
    "ollama_error",
    "ollama_event",
    "openai_error",
    "openai_event",
    "openai_lines",
    "responses_event",
]

_REQUEST_LIMITS: Final = (
    b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\n"
    b"x-ratelimit-reset-requests: %d.%03ds\r\n"
)
_TOKEN_LIMITS: Final = (
    b"x-ratelimit-limit-tokens: %d\r\nx-ratelimit-remaining-tokens: %d\r\n"
    b"x-ratelimit-reset-tokens: %d.%03ds\r\n"
)
_BOTH_LIMITS: Final = _REQUEST_LIMITS + _TOKEN_LIMITS

# The greatest whole number that every client can read.
LAST_NUMBER: Final = (1 << 31) - 1

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


def responses_event(message: str, code: str, request_id: str) -> bytes:
    """
    Write the event that ends a cut stream of Responses: an error, and no ``response.completed`` after it.

    Its members are flat, as the protocol has them; ``error`` besides makes the official clients raise it.
    Its number is beyond all others: how many there were, only the provider knows.
    """
    event = {
        "type": "error",
        "code": code,
        "message": message,
        "param": None,
        "sequence_number": LAST_NUMBER,
        "error": {"message": message, "type": "upstream_error", "param": None, "code": code},
        "request_id": request_id,
    }
    return b"event: error\ndata: %b\n\n" % msgspec.json.encode(event)


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


# Anthropic: https://platform.claude.com/docs/en/api/errors and /rate-limits

_ANTHROPIC_TYPES: Final = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_ANTHROPIC_REQUESTS: Final = (
    b"anthropic-ratelimit-requests-limit: %d\r\nanthropic-ratelimit-requests-remaining: %d\r\n"
    b"anthropic-ratelimit-requests-reset: %b\r\n"
)
_ANTHROPIC_TOKENS: Final = (
    b"anthropic-ratelimit-tokens-limit: %d\r\nanthropic-ratelimit-tokens-remaining: %d\r\n"
    b"anthropic-ratelimit-tokens-reset: %b\r\n"
)
_ANTHROPIC_BOTH: Final = b"request-id: %b\r\n" + _ANTHROPIC_REQUESTS + _ANTHROPIC_TOKENS


def anthropic_error(
    status: int,
    message: str,
    type_: str,
    code: str | None = None,
    *,
    param: str | None = None,
    request_id: str = "",
) -> bytes:
    """Write an error in Anthropic's envelope: its type follows from the status, and the message names the field."""
    kind = _ANTHROPIC_TYPES.get(status)
    if kind is None:
        kind = "invalid_request_error" if status < 500 else "api_error"
    # By these words Anthropic's clients know to send the whole conversation instead.
    details = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    return _anthropic_envelope(
        kind, message, request_id, {"details": details} if param == "thread" else {}
    )


def anthropic_event(message: str, code: str, request_id: str) -> bytes:
    """
    Write the event that ends a stream which was cut: an error, and no ``message_stop`` after it.

    The official clients drop an event without a name, and raise ``APIStatusError`` on this one.
    """
    kind = "api_error"
    if code.endswith("timed_out"):
        kind = "timeout_error"
    elif code == "drained":
        kind = "overloaded_error"
    return b"event: error\ndata: %b\n\n" % _anthropic_envelope(kind, message, request_id)


def anthropic_lines(limits: Sequence[int], request_id: str, unix_us: Callable[[], int]) -> bytes:
    """
    Return the header lines of the tightest limits, and of the id under the name that Anthropic's clients read.

    `limits` is limit, remaining and us to the reset of requests, then of tokens; a reset is written as an instant.
    """
    requests, requests_left, requests_us, tokens, tokens_left, tokens_us = limits
    if requests and tokens:
        now_us = unix_us()
        # Nearly always the same second.
        ends_s = -(-(now_us + requests_us) // 1_000_000)
        tokens_end_s = -(-(now_us + tokens_us) // 1_000_000)
        ends = _rfc3339(ends_s)
        return _ANTHROPIC_BOTH % (
            *(request_id.encode(), requests, requests_left, ends),
            *(tokens, tokens_left, ends if tokens_end_s == ends_s else _rfc3339(tokens_end_s)),
        )
    lines = b"request-id: %b\r\n" % request_id.encode()
    if requests:
        lines += _ANTHROPIC_REQUESTS % (requests, requests_left, _instant(unix_us(), requests_us))
    if tokens:
        lines += _ANTHROPIC_TOKENS % (tokens, tokens_left, _instant(unix_us(), tokens_us))
    return lines


def _anthropic_envelope(
    kind: str, message: str, request_id: str, more: Mapping[str, object] = MappingProxyType({})
) -> bytes:
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {"type": kind, "message": message, **more},
            "request_id": request_id or None,
        }
    )


def _instant(now_us: int, in_us: int) -> bytes:
    return _rfc3339(-(-(now_us + in_us) // 1_000_000))


@lru_cache(maxsize=256)
def _rfc3339(unix_s: int) -> bytes:
    """Write a second as RFC 3339 has it; many answers name the same one."""
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(unix_s)).encode()


# Gemini: https://cloud.google.com/apis/design/errors

_GOOGLE_STATUSES: Final = {
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def gemini_error(
    status: int,
    message: str,
    type_: str,
    code: str | None = None,
    *,
    param: str | None = None,
    request_id: str = "",
) -> bytes:
    """Write an error in Google's envelope, whose word follows from the status; the message names the field."""
    word = _GOOGLE_STATUSES.get(status) or ("INVALID_ARGUMENT" if status < 500 else "INTERNAL")
    return msgspec.json.encode({"error": {"code": status, "message": message, "status": word}})


def gemini_event(message: str, code: str, request_id: str) -> bytes:
    """Write the event that ends a stream which was cut: an error, which the official clients raise."""
    return b"data: %b\r\n\r\n" % gemini_error(_status_of(code), message, "")


def array_event(message: str, code: str, request_id: str) -> bytes:
    """Write the end of a stream that is one JSON array: an error as its last element."""
    return b",\r\n%b]" % gemini_error(_status_of(code), message, "")


def _status_of(code: str) -> int:
    if code.endswith("timed_out"):
        return 504
    return 503 if code == "drained" else 502


# Ollama: https://docs.ollama.com/api/errors


def ollama_error(
    status: int,
    message: str,
    type_: str,
    code: str | None = None,
    *,
    param: str | None = None,
    request_id: str = "",
) -> bytes:
    """Write an error as Ollama does: a message and nothing else."""
    return msgspec.json.encode({"error": message})


def ollama_event(message: str, code: str, request_id: str) -> bytes:
    """Write the line that ends a stream which was cut: an error, which the official client raises."""
    return ollama_error(0, message, "") + b"\n"


# Cohere: https://docs.cohere.com/reference/errors; Jina's servers, and those made as they are, say `detail`.


def cohere_error(
    status: int,
    message: str,
    type_: str,
    code: str | None = None,
    *,
    param: str | None = None,
    request_id: str = "",
) -> bytes:
    """Write an error as Cohere does: an id and a message."""
    return msgspec.json.encode({"id": request_id, "message": message})


def jina_error(
    status: int,
    message: str,
    type_: str,
    code: str | None = None,
    *,
    param: str | None = None,
    request_id: str = "",
) -> bytes:
    """Write an error as Jina does: a detail and nothing else."""
    return msgspec.json.encode({"detail": message})
