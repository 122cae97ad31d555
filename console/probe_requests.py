"""
What a probe asks a provider, and what an answer says of it: the same paths, headers and words as the edges have.

Somebody who answers is there, also with words about our key or our rate; a call has to be answered.
Pure: `console.probes` does the asking.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import orjson

from config.providers import Provider
from config.vendors import credential_of, dialect_of, facts_of, why_unprobed
from routing.rates import Tokens

__all__ = ["Asked", "call_of", "judged", "list_of", "probe_of", "used"]

# Models that think first refuse a cap that they reach before the first word.
MOST_OUTPUT: Final = 16
USER_AGENT: Final = "penstock-probe"
_VERSIONS: Final = re.compile(r"/v1(?:beta)?$")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a probe; without a body it is a GET."""

    url: str
    headers: dict[str, str]
    body: bytes | None = None


def probe_of(provider: Provider) -> str:
    """Return how a provider is probed: as it says, or else by its list of models, where it can be asked for one."""
    if provider.health.probe is not None:
        return provider.health.probe
    why = why_unprobed(
        provider.protocol,
        dialect_of(provider),
        with_token=provider.token is not None,
    )
    return "connect" if why else "models"


def _bare(provider: Provider) -> str:
    """Return the base URL without the version that some protocols' paths begin with."""
    return _VERSIONS.sub("", provider.base_url.rstrip("/"))


def _headers(provider: Provider) -> dict[str, str]:
    headers = {"user-agent": USER_AGENT, "accept": "application/json"}
    key = provider.api_key
    if provider.protocol == "anthropic":
        headers["anthropic-version"] = "2023-06-01"
    if key is not None:
        name, shown = credential_of(provider.protocol, dialect_of(provider))(key.reveal())
        headers[name] = shown
    return headers | {name.lower(): value for name, value in provider.headers.items()}


def _ollama(provider: Provider) -> str:
    return _bare(provider).removesuffix("/api") + "/api"


def _openai(provider: Provider, path: str, model: str = "") -> str:
    """Return the URL of a path of OpenAI's; in Azure's older API a deployment stands in it, and a version behind it."""
    base = provider.base_url.rstrip("/")
    if provider.api_version is None:
        return base + path
    deployment = f"/deployments/{quote(model, safe='')}" if model else ""
    bare = base.removesuffix("/openai")
    return f"{bare}/openai{deployment}{path}?api-version={provider.api_version}"


_MODELS: Final[dict[str, Callable[[Provider], str]]] = {
    "openai": lambda provider: _openai(provider, "/models"),
    "anthropic": lambda provider: _bare(provider) + "/v1/models?limit=1",
    "gemini": lambda provider: _bare(provider) + "/v1beta/models?pageSize=1",
    "ollama": lambda provider: _ollama(provider) + "/tags",
}


def list_of(provider: Provider) -> Asked:
    """Return how a provider is asked for its list of models."""
    return Asked(_MODELS[provider.protocol](provider), _headers(provider))


def call_of(provider: Provider, model: str, *, responses_only: bool = False) -> Asked:
    """Return the smallest call of a protocol."""
    said: dict[str, Any]
    if responses_only:
        url = _openai(provider, "/responses")
        said = {"model": model, "input": "Hi", "max_output_tokens": MOST_OUTPUT, "store": False}
    elif provider.protocol == "openai":
        url = _openai(provider, "/chat/completions", model)
        cap = facts_of(provider).cap
        said = {"model": model, "messages": [{"role": "user", "content": "Hi"}], cap: MOST_OUTPUT}
    elif provider.protocol == "anthropic":
        url = _bare(provider) + "/v1/messages"
        said = {
            "model": model,
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": MOST_OUTPUT,
        }
    elif provider.protocol == "ollama":
        url = _ollama(provider) + "/chat"
        said = {
            "model": model,
            "messages": [{"role": "user", "content": "Hi"}],
            "stream": False,
            "options": {"num_predict": MOST_OUTPUT},
        }
    else:
        url = f"{_bare(provider)}/v1beta/models/{quote(model, safe='')}:generateContent"
        said = {
            "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
            "generationConfig": {"maxOutputTokens": MOST_OUTPUT},
        }
    headers = _headers(provider) | {"content-type": "application/json"}
    return Asked(url, headers, orjson.dumps(said))


def used(body: bytes) -> Tokens:
    """Read what a call used, in the words of any protocol; nothing where nothing is said."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Tokens()
    if not isinstance(document, dict):
        return Tokens()
    # Ollama has it beside the answer.
    usage = document.get("usage") or document.get("usageMetadata") or document
    if not isinstance(usage, dict):
        return Tokens()

    def first(*names: str) -> int:
        values = [usage.get(name) for name in names]
        return next((value for value in values if type(value) is int and value >= 0), 0)

    return Tokens(
        input_tokens=first(
            "prompt_tokens", "input_tokens", "promptTokenCount", "prompt_eval_count"
        ),
        output_tokens=first(
            "completion_tokens", "output_tokens", "candidatesTokenCount", "eval_count"
        ),
    )


def judged(status: int, *, listed: bool) -> tuple[bool, str]:
    """Tell whether an answer is one of somebody who can serve, and why."""
    if status in {401, 403}:
        # A key may well call models and not list them.
        return listed, "unauthorized"
    if status in {429, 529}:
        return True, "at_its_limit"
    if status >= 500:
        return False, f"status_{status}"
    if listed or 200 <= status < 300:
        return True, "answered"
    return False, f"status_{status}"
