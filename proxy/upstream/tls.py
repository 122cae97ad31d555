"""
Where a provider is, and the trust that is asked of it.

TLS 1.2 or newer, with the certificate and the host name verified, always: there is no switch to
turn verification off.
A private authority is trusted by naming its CA file, and then it alone is trusted.
"""

import ssl
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from config.authorities import Authorities, authorities_in

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """
    Scheme, host and port of a provider: what connections are pooled by.

    `trust` is the digest of the CA file ("" = the system's authorities): two origins are the same
    when it is, whichever `SSLContext` object they carry, so that reloading the configuration
    keeps the pooled connections. `key` is all of that in one string: what a dictionary finds without asking us.
    """

    scheme: str
    host: str
    port: int
    trust: str = ""
    server_hostname: str | None = None
    ssl_context: ssl.SSLContext | None = field(default=None, compare=False, repr=False)
    key: str = field(default="", init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        key = (self.scheme, self.host, self.port, self.trust, self.server_hostname)
        object.__setattr__(self, "key", repr(key))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def context_of(authorities: Authorities) -> ssl.SSLContext:
    """Make the client's TLS context; raises OSError (ssl.SSLError is one) for unusable authorities."""
    context = authorities.context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = True
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["http/1.1"])
    return context


def origin_of(
    base_url: str,
    ca_file: str | None = None,
    contexts: MutableMapping[str, ssl.SSLContext] | None = None,
) -> Origin:
    """
    Read the origin out of a provider's base URL; blocks on the CA file, so not for the hot path.

    `contexts` (trust digest -> context), when given, shares one TLS context among the origins that
    trust the same authorities: a context of the system's takes tens of milliseconds to load.
    Raises ValueError for a URL that names no http(s) host, OSError for an unusable CA file.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in _PORTS:
        raise ValueError("a base URL starts with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a base URL carries no user name or password")
    if not parts.hostname:
        raise ValueError("a base URL names a host")
    host = parts.hostname
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    port = _PORTS[parts.scheme] if parts.port is None else parts.port
    if parts.scheme == "http":
        return Origin("http", host, port)
    authorities = authorities_in(ca_file)
    trust = authorities.digest
    context = None if contexts is None else contexts.get(trust)
    if context is None:
        context = context_of(authorities)
        if contexts is not None:
            contexts[trust] = context
    return Origin("https", host, port, trust, host, context)
