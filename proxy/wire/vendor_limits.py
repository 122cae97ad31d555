"""
What a vendor says of its own limits: how long it wants to be left alone, and how much it still lets pass.

`cooldown_us` reads what comes with a refusal, `left_of` what comes with any answer:

| header | from |
|---|---|
| `retry-after-ms`, `retry-after` | all |
| `x-ratelimit-remaining-requests`, `-tokens`, and `x-ratelimit-reset-…` | OpenAI and who follows it |
| `x-ratelimit-remaining`, `x-ratelimit-reset` | who counts requests only |
| `anthropic-ratelimit-requests-remaining`, `-tokens-`, `-input-tokens-`, `-output-tokens-`, and `…-reset` | Anthropic |
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from proxy.wire.headers import FEW_DIGITS, Header

__all__ = ["Left", "cooldown_us", "is_scarce", "left_of", "should_retry"]

Left = tuple[int, int, int, int]
"""Requests, for how long in us, tokens, for how long; -1 where nothing was said."""

MAX_COOLDOWN_US = 60_000_000
# Nobody keeps what is left for longer.
MAX_LEFT_US = 3_600_000_000
# What is left is told to others only when there are no more digits to it.
FEW_REQUESTS = 2
FEW_TOKENS = FEW_DIGITS

_DURATION_PART = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)(ms|us|µs|ns|s|m|h|d)", re.ASCII)
_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,15})?", re.ASCII)
_UNITS_US = {
    "ns": 0.001,
    "us": 1,
    "µs": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}


def should_retry(headers: Iterable[Header]) -> bool | None:
    """Say what the vendor says of another try (``x-should-retry``); None when nothing."""
    value = _last(headers, b"x-should-retry").lower()
    return {"true": True, "false": False}.get(value)


def cooldown_us(headers: Sequence[Header], now_s: float) -> int | None:
    """
    Say how long the vendor wants to be left alone, in microseconds, 60 s at most; None if it does not.

    Obeys ``retry-after-ms``, then ``retry-after`` (seconds or a date; `now_s` is Unix time), then
    the resets of those rate limits that have nothing remaining (``x-ratelimit-reset-*``: ``1s``,
    ``6m0s``, ``20ms``, plain seconds, or a Unix time).
    """
    value = _last(headers, b"retry-after-ms")
    if (found := _scaled(value, 1_000)) is not None:
        return found
    value = _last(headers, b"retry-after")
    if value:
        if (found := _scaled(value, 1_000_000)) is not None:
            return found
        try:
            date = parsedate_to_datetime(value)
            if date.tzinfo is None:
                date = date.replace(tzinfo=UTC)
            return _capped((date.timestamp() - now_s) * 1_000_000)
        except (ValueError, TypeError, OverflowError):
            pass
    waits: list[int] = []
    for kind in (b"-requests", b"-tokens", b""):
        remaining = _last(headers, b"x-ratelimit-remaining" + kind)
        reset = _last(headers, b"x-ratelimit-reset" + kind)
        if reset and remaining in {"", "0"}:
            wait = _duration_us(reset, now_s)
            if wait is not None:
                waits.append(wait)
    return max(waits) if waits else None


def is_scarce(name: bytes, value: bytes) -> bool:
    """Tell whether a header says that little is left: a cheap look, before anybody reads more."""
    if len(value) > FEW_TOKENS:
        return False
    lower = name.lower()
    if b"-remaining" not in lower:
        return False
    return len(value) <= FEW_REQUESTS or b"token" in lower


def left_of(headers: Sequence[Header], now_s: float) -> Left | None:
    """
    Say how much the vendor still lets pass, and until its window ends; None if it does not say, or plenty.

    `now_s` is Unix time. Of several limits of tokens the one with the least left is told.
    """
    known = {name.lower(): value.decode("latin-1").strip() for name, value in headers}
    requests = _least(
        known,
        (
            (b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests"),
            (b"x-ratelimit-remaining", b"x-ratelimit-reset"),
            (b"anthropic-ratelimit-requests-remaining", b"anthropic-ratelimit-requests-reset"),
        ),
        FEW_REQUESTS,
        now_s,
    )
    tokens = _least(
        known,
        (
            (b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens"),
            *(
                (b"anthropic-ratelimit-%b-remaining" % kind, b"anthropic-ratelimit-%b-reset" % kind)
                for kind in (b"tokens", b"input-tokens", b"output-tokens")
            ),
        ),
        FEW_TOKENS,
        now_s,
    )
    if requests is None and tokens is None:
        return None
    return (*(requests or (-1, 0)), *(tokens or (-1, 0)))


def _least(
    known: dict[bytes, str],
    names: Iterable[tuple[bytes, bytes]],
    digits: int,
    now_s: float,
) -> tuple[int, int] | None:
    found = None
    for remaining, reset in names:
        said = known.get(remaining, "")
        if not said.isdecimal() or not said.isascii() or len(said) > digits:
            continue
        wait = _moment_us(known.get(reset, ""), now_s)
        if wait and (found is None or int(said) < found[0]):
            found = int(said), wait
    return found


def _moment_us(value: str, now_s: float) -> int | None:
    """Return how long it is until a reset, in us: a duration, seconds, a Unix time, or a date and time."""
    if "T" in value:
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            return None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        wait_us = (at.timestamp() - now_s) * 1_000_000
    else:
        found = _wait_us(value, now_s)
        if found is None:
            return None
        wait_us = found
    return int(min(max(wait_us, 0), MAX_LEFT_US))


def _last(headers: Iterable[Header], wanted: bytes) -> str:
    found = ""
    for name, value in headers:
        if name.lower() == wanted:
            found = value.decode("latin-1").strip()
    return found


def _scaled(value: str, unit_us: int) -> int | None:
    if not _NUMBER.fullmatch(value):
        return None
    return _capped(float(value) * unit_us)


def _duration_us(value: str, now_s: float) -> int | None:
    wait = _wait_us(value, now_s)
    return None if wait is None else _capped(wait)


def _wait_us(value: str, now_s: float) -> float | None:
    if _NUMBER.fullmatch(value):
        number = float(value)
        if number > 1e11:
            return (number / 1_000 - now_s) * 1_000_000
        if number > 1e9:
            return (number - now_s) * 1_000_000
        return number * 1_000_000
    parts = _DURATION_PART.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        return None
    return sum(float(number) * _UNITS_US[unit] for number, unit in parts)


def _capped(wait_us: float) -> int:
    return int(min(max(wait_us, 0), MAX_COOLDOWN_US))
