"""
Headers: what passes the gateway, and how a request's head is written.

Towards the caller everything passes but what belongs to one hop (RFC 9110, section 7.6.1), what
the gateway says itself, and what tells of the vendor's account or edge. Towards the vendor nothing
passes but a short list: the caller's credentials, addresses and SDK fingerprints stay here.

Nothing that is written can hold a CR, LF or NUL: one check over the written block sees to it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence, Sized

__all__ = ["AnswerHeaders", "Header", "RequestHead", "RequestHeaders"]

Header = tuple[bytes, bytes]

MAX_REMEMBERED = 1_024
MAX_REMEMBERED_NAME = 64
MAX_PASSED_VALUE = 2_048
# Of a number that remains: with more of them there is plenty.
FEW_DIGITS = 4

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


# What a header of a vendor's is to the gateway itself.
_NOTHING, _TYPE, _ENCODING, _REMAINING, _CONNECTION = range(5)

_KINDS = {
    b"content-type": _TYPE,
    b"content-encoding": _ENCODING,
    b"connection": _CONNECTION,
}


class AnswerHeaders:
    """Reads a vendor's headers, and writes those that the caller may see; one for each worker, as it remembers."""

    __slots__ = ("_remembered",)

    def __init__(self) -> None:
        # A name as it is spelled -> what to write before the value (None when it does not pass), and what it is to us.
        self._remembered: dict[bytes, tuple[bytes | None, int]] = {}

    def read(self, headers: Sequence[Header]) -> tuple[bytes, bytes, bool, bool]:
        """
        Read the head of an answer, all of it in one pass.

        Gives the lines that pass, each as ``name: value CR LF``, in order; the content type; whether the body is encoded;
        and whether one of the numbers that remain (``…-remaining…``) has few digits.
        """
        remembered = self._remembered
        lines: list[bytes] = []
        content_type = b""
        encoded = few = named = False
        for name, value in headers:
            try:
                prefix, kind = remembered[name]
            except KeyError:
                prefix, kind = self._decide(name)
            if kind:
                if kind == _TYPE:
                    content_type = value
                elif kind == _ENCODING:
                    encoded = value.strip().lower() != b"identity"
                elif kind == _REMAINING:
                    few = few or len(value) <= FEW_DIGITS
                elif value.lower() not in {b"keep-alive", b"close"}:
                    named = True
            if prefix is not None:
                lines.append(prefix + value)
        count = len(lines)
        lines.append(b"")
        block = b"\r\n".join(lines)
        if named:
            block = self.block(_without_named(headers))
        elif block.count(b"\n") != count or block.count(b"\r") != count or b"\0" in block:
            block = self.block([pair for pair in headers if _UNSAFE.search(pair[1]) is None])
        return block, content_type, encoded, few

    def block(self, headers: Sequence[Header]) -> bytes:
        """Write the headers that pass, each as ``name: value CR LF``, in order."""
        return self.read(headers)[0]

    def _decide(self, name: bytes) -> tuple[bytes | None, int]:
        lower = name.lower()
        prefix: bytes | None = None
        if (
            lower not in _NOT_TO_CALLER
            and not lower.startswith(_NOT_TO_CALLER_PREFIXES)
            and _TOKEN.fullmatch(name)
        ):
            prefix = _RENAMED.get(lower, lower) + b": "
        kind = _KINDS.get(lower, _REMAINING if b"-remaining" in lower else _NOTHING)
        # A vendor (or whoever plays one) could send ever new names; then the rest is decided anew.
        if len(self._remembered) < MAX_REMEMBERED and len(name) <= MAX_REMEMBERED_NAME:
            self._remembered[name] = prefix, kind
        return prefix, kind


def _without_named(headers: Sequence[Header]) -> list[Header]:
    """Leave out what Connection names, and Connection."""
    named = {b"connection"}
    for name, value in headers:
        if name.lower() == b"connection":
            named.update(token.strip().lower() for token in value.split(b","))
    return [pair for pair in headers if pair[0].lower() not in named]


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
            if block.find(prefix) < 0:
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


def _line(name: str, value: str) -> bytes:
    try:
        line = f"{name}: {value}\r\n".encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"the value of the header {name!r} cannot be sent") from None
    if not _TOKEN.fullmatch(name.encode("latin-1")) or _UNSAFE.search(line[:-2]):
        raise ValueError(f"the header {name!r} cannot be sent")
    return line
