"""
How much to think, said in bodies that pass: a policy's word, where the caller's own says nothing of it.

A body that is translated gets it from its writer; here is the same for one that its caller wrote in the vendor's
protocol, as it stands, but for these members. Where the model does not think, or the rest of the call forbids it to, the
body stays as it is.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import cast

import msgspec
from msgspec import Raw

from proxy.wire import json_edit
from proxy.wire.translate.chat.requests import thinking_members
from proxy.wire.translate.core import Effort, Target, Thinking
from proxy.wire.translate.effort import TOKENS, nearest
from proxy.wire.translate.fields import encode
from proxy.wire.translate.gemini.requests import thinking_config
from proxy.wire.translate.messages.requests import EFFORTS, MIN_BUDGET, generation, lets_think
from proxy.wire.translate.ollama.requests import think_of
from proxy.wire.translate.responses.requests import takes_reasoning

__all__ = ["with_effort"]


def with_effort(protocol: str, body: bytes, effort: str, target: Target) -> bytes:
    """
    Return a request that says how much is to be thought; `body` itself where that cannot be said.

    It is one that a look has accepted, in the vendor's protocol of this name, and says nothing of it yet.
    """
    write = _BY_PROTOCOL.get(protocol)
    return body if write is None else write(body, cast("Effort", effort), target)


def _in_chat(body: bytes, word: Effort, target: Target) -> bytes:
    said = thinking_members(Thinking(word, shown=False), target) or {}
    return json_edit.edit(body, insert={name: encode(value) for name, value in said.items()})


def _in_responses(body: bytes, word: Effort, target: Target) -> bytes:
    if not takes_reasoning(target):
        return body
    return json_edit.edit(body, insert={"reasoning": encode({"effort": word})})


def _in_gemini(body: bytes, word: Effort, target: Target) -> bytes:
    config = thinking_config(Thinking(word, shown=False), target.model)
    if config is None:
        return body
    said = {"thinkingConfig": encode(config)}
    for name in ("generationConfig", "generation_config"):
        span = json_edit.locate(body, name)
        if span is not None:
            start, end = span
            old = body[start:end] if body[start:end] != b"null" else b"{}"
            return body[:start] + json_edit.edit(old, insert=said) + body[end:]
    return json_edit.edit(body, insert={"generationConfig": encode({"thinkingConfig": config})})


def _in_ollama(body: bytes, word: Effort, target: Target) -> bytes:
    said = think_of(Thinking(word), target.model)
    return json_edit.edit(body, insert={"think": encode(said)})


class _Kind(msgspec.Struct, gc=False):
    type: str = ""


class _Turn(msgspec.Struct, gc=False):
    role: str
    content: Raw


class _Message(msgspec.Struct, gc=False):
    """What says whether Anthropic lets a model think in this call."""

    max_tokens: int
    messages: list[_Turn]
    tool_choice: _Kind | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    output_config: dict[str, Raw] | None = None


_message = msgspec.json.Decoder(_Message).decode
_kinds = msgspec.json.Decoder(list[_Kind]).decode


def _in_messages(body: bytes, word: Effort, target: Target) -> bytes:
    version = generation(target.model)
    try:
        asked = _message(body)
        if version < (3, 7) or not _may_think(asked):
            return body
    except msgspec.DecodeError:
        # Whether it is a request at all is for the vendor to say.
        return body
    if version >= (4, 6):
        config = (asked.output_config or {}) | {"effort": Raw(encode(nearest(word, EFFORTS)))}
        return json_edit.edit(
            json_edit.edit(body, remove=("output_config",)),
            insert={"thinking": b'{"type":"adaptive"}', "output_config": encode(config)},
        )
    budget = min(TOKENS.get(word, 0), asked.max_tokens - 1)
    if budget < MIN_BUDGET:
        return body
    said = b'{"type":"enabled","budget_tokens":%d}' % budget
    return json_edit.edit(body, insert={"thinking": said})


def _may_think(asked: _Message) -> bool:
    """Say whether nothing else in a call forbids thinking: how tokens are drawn, a tool that must be called, its turns."""
    if (asked.temperature, asked.top_p, asked.top_k) != (None, None, None):
        return False
    if asked.tool_choice is not None and asked.tool_choice.type in {"any", "tool"}:
        return False
    return lets_think(_turns(asked))


def _turns(asked: _Message) -> Iterator[tuple[str, list[str]]]:
    for turn in reversed(asked.messages):
        content = bytes(turn.content)
        kinds = _kinds(content) if content.startswith(b"[") else []
        yield turn.role, [kind.type for kind in kinds]


_BY_PROTOCOL: Mapping[str, Callable[[bytes, Effort, Target], bytes]] = MappingProxyType(
    {
        "openai.chat": _in_chat,
        "openai.responses": _in_responses,
        "gemini.generate": _in_gemini,
        "anthropic.messages": _in_messages,
        "ollama.chat": _in_ollama,
        "ollama.generate": _in_ollama,
    }
)
