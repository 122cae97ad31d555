"""
What went wrong, in every protocol: sorted by what the caller would do about it.

A vendor's refusal is read into a `Failure` by its status and its words; `KINDS` sorts statuses. Each
protocol then has a status and words of its own for each kind, so that an overloaded Anthropic (529)
is a 503 to a caller who speaks OpenAI's protocol, and the other way round.
"""

import email.utils
import math
from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from proxy.wire.translate.core import Failure, FailureKind

__all__ = [
    "KINDS",
    "WrittenError",
    "bad_chunk",
    "failure_of",
    "kind_of",
    "retry_after_us",
    "retry_headers",
    "too_long",
]

MAX_MESSAGE = 4096
MAX_WAIT_US = 86_400_000_000

KINDS: Mapping[int, FailureKind] = MappingProxyType(
    {
        400: "bad_request",
        401: "unauthorized",
        402: "billing",
        403: "forbidden",
        404: "not_found",
        408: "timeout",
        409: "conflict",
        413: "too_large",
        422: "bad_request",
        429: "rate_limited",
        502: "lost",
        503: "overloaded",
        504: "timeout",
        529: "overloaded",
    }
)

# What vendors say in their codes and messages when the prompt is longer than the model's context.
_TOO_LONG = (
    "context_length_exceeded",
    "maximum context length",
    "prompt is too long",
    "exceeds the maximum number of tokens",
    "exceed context limit",
    "input is too long",
    "context window",
)
_FILTERED = ("content_filter", "content_policy_violation", "data_inspection_failed")
_BILLING = ("insufficient_quota", "insufficient_balance", "credit balance is too low", "billing_")


class WrittenError(Struct, frozen=True):
    """An error as it goes out: the status, headers that say when to come again, the body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def kind_of(status: int, *said: str | None) -> FailureKind:
    """Sort a refusal by its status, and by what the vendor `said`: type, code, message."""
    kind = KINDS.get(status) or ("bad_request" if 400 <= status < 500 else "internal")
    words = " ".join([word for word in said if word]).lower()
    if kind in {"bad_request", "too_large"}:
        if any(word in words for word in _TOO_LONG):
            return "context_length"
        if any(word in words for word in _FILTERED):
            return "filtered"
    if kind in {"bad_request", "rate_limited", "forbidden"} and any(
        word in words for word in _BILLING
    ):
        return "billing"
    return kind


def failure_of(
    status: int,
    headers: Mapping[str, str],
    message: str,
    *,
    type_: str | None = None,
    code: str | None = None,
    param: str | None = None,
) -> Failure:
    """Make a failure of a vendor's refusal; `headers` by lower-case names."""
    return Failure(
        kind=kind_of(status, type_, code, message),
        message=(message or "The provider gave no reason.")[:MAX_MESSAGE],
        status=status,
        code=code or type_,
        param=param,
        retry_after_us=retry_after_us(headers),
    )


def retry_after_us(headers: Mapping[str, str]) -> int | None:
    """
    Read when to come again: ``retry-after-ms``, or ``retry-after`` in seconds or as a date.

    A date counts from the answer's own ``date``, so that no clock is asked.
    """
    millis = _number(headers.get("retry-after-ms"))
    if millis is not None:
        return min(int(millis * 1000), MAX_WAIT_US)
    given = headers.get("retry-after")
    seconds = _number(given)
    if seconds is None and given:
        then, now = _date(given), _date(headers.get("date"))
        seconds = max(then - now, 0.0) if then is not None and now is not None else None
    return None if seconds is None else min(int(seconds * 1e6), MAX_WAIT_US)


def retry_headers(failure: Failure) -> tuple[tuple[str, str], ...]:
    """Write when to come again, as the official clients read it."""
    if failure.kind == "billing":
        return (("x-should-retry", "false"),)
    if failure.retry_after_us is None:
        return ()
    return (
        ("retry-after", str(math.ceil(failure.retry_after_us / 1e6))),
        ("retry-after-ms", str(math.ceil(failure.retry_after_us / 1e3))),
    )


def bad_chunk(what: str) -> Failure:
    """Make the failure of a vendor whose stream cannot be understood."""
    return Failure(
        kind="lost",
        message=f"The provider's answer cannot be understood: {what}.",
        status=502,
        code="bad_answer",
    )


def too_long() -> Failure:
    """Make the failure of a vendor whose answer would not end."""
    return bad_chunk("a part of it is longer than the gateway holds")


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _date(text: str | None) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text or "").timestamp()
    except (ValueError, TypeError):
        return None
