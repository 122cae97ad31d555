"""
A look at the target before load starts: a wrong URL, a dead target, a wrong key or an unknown model are told at once.

Each base gets one real call of each scenario, with a one-token answer: it proves address, key, model and protocol together, and costs a token.
"""

from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import Any

import msgspec

from loadtests.answers import BadAnswer
from loadtests.client import Base, Call, Client, get
from loadtests.engine import Plan
from loadtests.metrics import Record
from loadtests.scenarios import SCENARIOS, Draw

_WITHIN_S = 15.0
# What a mixture is made of is looked at, not the mixture.
_PARTS = {
    "mixed": ("chat-stream", "embeddings"),
    "unruly": ("chat-stream", "embeddings"),
    "slow-reader": ("chat-stream",),
    "leaver": ("chat-stream",),
    "retry-storm": ("chat",),
}


def first_model(base: Base) -> str:
    """Give the first model that a base lists; raises `OSError` or `BadAnswer`, the latter with words for a caller."""
    status, body = get(base, "/v1/models", _WITHIN_S)
    if status in {401, 403}:
        raise BadAnswer(f"the key is wrong: {base.url} answered {status}")
    try:
        document: Any = msgspec.json.decode(body)
        return str(document["data"][0]["id"])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        asked = f"{base.url}/v1/models answered {status}"
        if status == 404:
            raise BadAnswer(
                f"{asked}: is the API there? If it lists no models, name one with --model"
            ) from None
        raise BadAnswer(f"{asked} and lists no model: name one with --model") from None


def look(plan: Plan, scenarios: Iterable[str]) -> list[str]:
    """Ask every base once per scenario and key; gives what is wrong, in words, nothing when all is well."""
    names = dict.fromkeys(part for name in scenarios for part in _PARTS.get(name, (name,)))
    mistakes: list[str] = []
    for base in plan.bases:
        if not base.model:
            mistakes.append(f"{base.name}: no model is named")
            continue
        seen: set[str | None] = set()
        for tenant in plan.tenants:
            if tenant.key in seen:
                continue
            seen.add(tenant.key)
            for name in names:
                draw = Draw(Random(1), tenant, base.model, base.embedding_model or base.model)
                call = _small(SCENARIOS[name](draw))
                client = Client(base, timeout_s=_WITHIN_S)
                record = client.call(call)
                client.close()
                words = _words(base, call, record, tenant.name if tenant.key else "")
                if words and words not in mistakes:
                    mistakes.append(words)
                if record.outcome in {"connect_failed", "timed_out"}:
                    break
    return mistakes


def _small(call: Call) -> Call:
    document = msgspec.json.decode(call.body)
    if "max_tokens" in document:
        document["max_tokens"] = 1
    return replace(
        call, body=msgspec.json.encode(document), slow_bytes_s=0, leave_after=0, retries=0
    )


def _words(base: Base, call: Call, record: Record, tenant: str) -> str:
    if record.fine:
        return ""
    where = f"{base.name} ({base.url})"
    if record.outcome in {"connect_failed", "timed_out"}:
        return f"{where} is not reachable: {record.detail}"
    if record.status in {401, 403}:
        whose = f"the key of tenant {tenant}" if tenant else "the key"
        return f"{where} refuses {whose}: {record.status} {record.detail}"
    if record.status == 404:
        return f"{where} does not know {call.path}, or its model: {record.status} {record.detail[:200]}"
    if record.status in {429, 503, 529}:
        # Busy is an answer: the load test may be about just that.
        return ""
    return f"{where} cannot be used for {call.scenario}: {record.outcome}: {record.detail[:200]}"
