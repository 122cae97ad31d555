"""
Headers: what passes the gateway, and how a request's head is written.

Towards the caller everything passes but what belongs to one hop (RFC 9110, section 7.6.1), what
the gateway says itself, and what tells of the vendor's account or edge. Towards the vendor nothing
passes but a short list: the caller's credentials, addresses and SDK fingerprints stay here.

Nothing that is written can hold a CR, LF or NUL: one check over the written block sees to it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence, Sized
from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["AnswerHeaders", "RequestHead", "RequestHeaders", "cooldown_us", "should_retry"]

Header = tuple[bytes, bytes]

MAX_COOLDOWN_US = 60_000_000
MAX_REMEMBERED = 1_024
MAX_REMEMBERED_NAME = 64
MAX_PASSED_VALUE = 2_048

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_UNSAFE = re.compile(rb"[\x00\r\n]")

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_NOT_TO_CALLER = _HOP_BY_HOP | {
    # The gateway frames and identifies its own answers.
    b"content-length",
    b"server",
    b"via",
    b"x-powered-by",
    # Cookies and policies of the vendor's origin, which is not the caller's.
    b"set-cookie",
    b"set-cookie2",
    b"alt-svc",
    b"strict-transport-security",
    b"public-key-pins",
    b"nel",
    b"report-to",
    b"reporting-endpoints",
    b"content-security-policy",
    b"x-frame-options",
    b"access-control-allow-origin",
    b"access-control-allow-credentials",
    b"access-control-allow-headers",
    b"access-control-allow-methods",
    b"access-control-expose-headers",
    b"access-control-max-age",
    # Credentials that a vendor may echo, and how it asks for its own.
    b"authorization",
    b"api-key",
    b"x-api-key",
    b"x-goog-api-key",
    b"www-authenticate",
    # Whose account it is, and where it runs.
    b"openai-organization",
    b"openai-project",
    b"anthropic-organization-id",
    b"x-groq-region",
    b"x-inference-provider",
    b"x-accel-buffering",
}
_NOT_TO_CALLER_PREFIXES = (
    b"x-ratelimit-",
    b"ratelimit",
    b"anthropic-ratelimit-",
    b"anthropic-fast-",
    b"anthropic-priority-",
    b"cf-",
    b"x-cloud-trace-",
    b"x-envoy-",
    b"x-amz",
    b"x-ms-",
    b"azureml-",
    b"apim-",
    b"x-goog-",
    b"x-penstock-",
)
_RENAMED = {b"x-request-id": b"x-upstream-request-id", b"request-id": b"x-upstream-request-id"}

_TO_VENDOR = frozenset({b"idempotency-key", b"traceparent", b"tracestate"})

# What a provider's own headers may not say: how messages are framed and encoded.
_FRAMING = frozenset(
    {"content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"}
    | {"accept-encoding", "content-encoding"}
)

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


class AnswerHeaders:
    """Writes the vendor's headers that the caller may see; one for each worker, as it remembers."""

    __slots__ = ("_remembered",)

    def __init__(self) -> None:
        # A name as it is spelled -> what to write before the value; None when it does not pass.
        self._remembered: dict[bytes, bytes | None] = {}

    def block(self, headers: Sequence[Header]) -> bytes:
        """Write the headers that pass, each as ``name: value CR LF``, in order."""
        remembered = self._remembered
        lines: list[bytes] = []
        for name, value in headers:
            try:
                prefix = remembered[name]
            except KeyError:
                prefix = self._decide(name)
            if prefix is not None:
                lines.append(prefix)
                lines.append(value)
                lines.append(b"\r\n")
            elif (
                len(name) == len(b"connection")
                and name.lower() == b"connection"
                and value.lower() not in {b"keep-alive", b"close"}
            ):
                return self._without_named(headers)
        block = b"".join(lines)
        count = len(lines) // 3
        if block.count(b"\n") == count and block.count(b"\r") == count and b"\0" not in block:
            return block
        return self.block([pair for pair in headers if _UNSAFE.search(pair[1]) is None])

    def _decide(self, name: bytes) -> bytes | None:
        lower = name.lower()
        prefix: bytes | None = None
        if (
            lower not in _NOT_TO_CALLER
            and not lower.startswith(_NOT_TO_CALLER_PREFIXES)
            and _TOKEN.fullmatch(name)
        ):
            prefix = _RENAMED.get(lower, lower) + b": "
        # A vendor (or whoever plays one) could send ever new names; then the rest is decided anew.
        if len(self._remembered) < MAX_REMEMBERED and len(name) <= MAX_REMEMBERED_NAME:
            self._remembered[name] = prefix
        return prefix

    def _without_named(self, headers: Sequence[Header]) -> bytes:
        """Leave out what Connection names, and Connection."""
        named = {b"connection"}
        for name, value in headers:
            if name.lower() == b"connection":
                named.update(token.strip().lower() for token in value.split(b","))
        return self.block([pair for pair in headers if pair[0].lower() not in named])


class RequestHeaders:
    """Writes the caller's headers that the vendor may see; one for each worker and protocol, as it remembers."""

    __slots__ = ("_allowed", "_defaults", "_remembered")

    def __init__(self, also: Iterable[str] = (), defaults: Iterable[tuple[str, str]] = ()) -> None:
        """`also`: names that pass beyond the common list; `defaults`: what is sent where the caller does not say it."""
        self._defaults = tuple(
            (f"{name}: ".encode(), _line(name, value)) for name, value in defaults
        )
        self._allowed = _TO_VENDOR | {name.lower().encode("ascii") for name in also}
        self._remembered: dict[bytes, bytes | None] = {}

    def block(self, headers: Iterable[Header]) -> bytes:
        """Write the headers that pass, each as ``name: value CR LF``, in order."""
        remembered = self._remembered
        block = b""
        for name, value in headers:
            try:
                prefix = remembered[name]
            except KeyError:
                prefix = self._decide(name)
            if prefix is None or len(value) > MAX_PASSED_VALUE or _UNSAFE.search(value):
                continue
            block += b"%b%b\r\n" % (prefix, value)
        for prefix, line in self._defaults:
            if prefix not in block:
                block += line
        return block

    def _decide(self, name: bytes) -> bytes | None:
        lower = name.lower()
        prefix = lower + b": " if lower in self._allowed else None
        if len(self._remembered) < MAX_REMEMBERED and len(name) <= MAX_REMEMBERED_NAME:
            self._remembered[name] = prefix
        return prefix


class RequestHead:
    """
    The head of requests to one deployment, written once but for what changes per request.

    `host` is the authority of the base URL, `credentials` one header such as ``("authorization",
    "Bearer …")`` or None, `extra` the provider's own headers, which win over the defaults. Without `typed`
    it says no content-type, and what is passed has to. Raises `ValueError` for a name or value that cannot stand in a head.
    """

    __slots__ = ("_prefix",)

    def __init__(
        self,
        *,
        path: str,
        host: str,
        user_agent: str,
        credentials: tuple[str, str] | None = None,
        extra: Mapping[str, str] | None = None,
        method: str = "POST",
        typed: bool = True,
    ) -> None:
        headers = {
            "host": host,
            "user-agent": user_agent,
            "accept": "application/json, text/event-stream",
            # A compressed stream could not be metered.
            "accept-encoding": "identity",
            "content-type": "application/json",
        }
        if not typed:
            del headers["content-type"]
        if credentials is not None:
            headers[credentials[0].lower()] = credentials[1]
        for name, value in (extra or {}).items():
            headers[name.lower()] = value
        for name in extra or ():
            if name.lower() in _FRAMING:
                raise ValueError(f"the header {name} is the gateway's own to set")
        if not re.fullmatch(r"[!-~]+", path) or not _TOKEN.fullmatch(method.encode("ascii")):
            raise ValueError("a method or path that cannot stand in a request line")
        lines = [f"{method} {path} HTTP/1.1\r\n".encode("ascii")]
        for name, value in headers.items():
            lines.append(_line(name, value))
        self._prefix = b"".join(lines) + b"content-length: "

    def write(self, body: Sized, passed: bytes = b"") -> bytes:
        """Give the head of a request with this body; `passed` is of RequestHeaders."""
        return b"%b%d\r\n%b\r\n" % (self._prefix, len(body), passed)


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


def _line(name: str, value: str) -> bytes:
    try:
        line = f"{name}: {value}\r\n".encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"the value of the header {name!r} cannot be sent") from None
    if not _TOKEN.fullmatch(name.encode("latin-1")) or _UNSAFE.search(line[:-2]):
        raise ValueError(f"the header {name!r} cannot be sent")
    return line


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
    seconds = _scaled(value, 1_000_000)
    if seconds is not None:
        number = float(value)
        if number > 1e11:
            return _capped((number / 1_000 - now_s) * 1_000_000)
        if number > 1e9:
            return _capped((number - now_s) * 1_000_000)
        return seconds
    parts = _DURATION_PART.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        return None
    return _capped(sum(float(number) * _UNITS_US[unit] for number, unit in parts))


def _capped(wait_us: float) -> int:
    return int(min(max(wait_us, 0), MAX_COOLDOWN_US))
