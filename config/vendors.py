"""
What the configuration says of a vendor beyond the protocol that it speaks: its dialect, its platform, how a key is shown to it.

Edges ask providers by it, and the control probes them by it.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

import msgspec

from config.dialects import DIALECTS, Dialect, of_host
from config.providers import Provider

__all__ = [
    "bedrock_region",
    "credential_of",
    "dialect_of",
    "facts_of",
    "why_unprobed",
    "word_of",
]

Credential = Callable[[str], tuple[str, str]]
# The protocols that a probe can speak.
_PROBED: Final = ("openai", "anthropic", "gemini", "ollama")
# Google's Vertex AI, at any of its hosts.
_VERTEX_HOST: Final = "aiplatform.googleapis.com"
_BEDROCK_HOST: Final = re.compile(r"(?:^|\.)bedrock(?:-runtime)?(?:-fips)?\.([a-z0-9-]+)\.")


def word_of(host: str) -> str:
    """Return the word for what the server at `host` (a lower-case name without a port) speaks."""
    at_google = host == _VERTEX_HOST or host.endswith((f"-{_VERTEX_HOST}", f".{_VERTEX_HOST}"))
    return "vertex" if at_google else of_host(host).name


def bedrock_region(host: str) -> str:
    """Return the region that the host of a Bedrock endpoint names, "" where it names none."""
    found = _BEDROCK_HOST.search(host)
    return "" if found is None else found[1]


def dialect_of(provider: Provider) -> str:
    """Return the word for what a provider's server speaks, as the configuration or its host says."""
    return provider.dialect or word_of(_host(provider))


def facts_of(provider: Provider) -> Dialect:
    """Return how a provider's server differs from OpenAI's family, as the configuration or its host says."""
    dialect = of_host(_host(provider))
    if provider.dialect is not None:
        dialect = DIALECTS.get(provider.dialect, dialect)
    cap = provider.output_cap or dialect.cap
    usage = dialect.stream_options if provider.stream_usage is None else provider.stream_usage
    if cap == dialect.cap and usage == dialect.stream_options:
        return dialect
    return msgspec.structs.replace(dialect, cap=cap, stream_options=usage)


def _host(provider: Provider) -> str:
    return urlsplit(provider.base_url).hostname or ""


# How a key is shown...


def _bearer(key: str) -> tuple[str, str]:
    return "authorization", f"Bearer {key}"


def _anthropic(key: str) -> tuple[str, str]:
    # Tokens of OAuth are taken as a bearer only.
    return _bearer(key) if key.startswith("sk-ant-oat") else ("x-api-key", key)


def _google(key: str) -> tuple[str, str]:
    # Tokens of OAuth are taken as a bearer only.
    return _bearer(key) if key.startswith("ya29.") else ("x-goog-api-key", key)


def _azure(key: str) -> tuple[str, str]:
    # A token of Entra's is a bearer's; a key is not.
    return _bearer(key) if key.startswith("eyJ") else ("api-key", key)


_CREDENTIALS: Mapping[tuple[str, str], Credential] = MappingProxyType(
    {
        ("openai", "azure"): _azure,
        ("anthropic", ""): _anthropic,
        ("anthropic", "vertex"): _bearer,
        ("gemini", ""): _google,
    }
)


def credential_of(protocol: str, dialect: str = "") -> Credential:
    """Return what makes the header that shows a key to those who speak a protocol in this dialect."""
    usual = _CREDENTIALS.get((protocol, ""), _bearer)
    return _CREDENTIALS.get((protocol, dialect), usual)


def why_unprobed(protocol: str, dialect: str, *, with_token: bool) -> str:
    """
    Say why a provider cannot be asked by a probe, only be connected to; "" where it can.

    `with_token` says that a token stands in place of a key.
    """
    if protocol not in _PROBED:
        return f"those who speak {protocol} have no such probe"
    if with_token:
        return "its token is known to the edges only"
    if dialect == "vertex" and protocol != "openai":
        return "its paths at Vertex AI are known to the edges only"
    return ""
