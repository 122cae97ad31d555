"""Answers and errors of Converse, read."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from proxy.wire.look import BadField
from proxy.wire.translate import failures
from proxy.wire.translate.core import (
    Answer,
    BadAnswer,
    Choice,
    Failure,
    Reasoning,
    StopReason,
    Text,
    ToolCall,
    Usage,
)
from proxy.wire.translate.failures import failure_of
from proxy.wire.translate.fields import Fields, encode, parse_object

__all__ = [
    "FAULTS",
    "RawUsage",
    "failure_named",
    "read_answer",
    "read_error",
    "stop_of",
    "usage_of",
]

MAX_TOKENS = 1 << 40

_STOPS: Mapping[str, StopReason] = {
    "end_turn": "end",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "stop_sequence": "stop_sequence",
    "guardrail_intervened": "filtered",
    "content_filtered": "filtered",
    "model_context_window_exceeded": "context",
}
# The model wrote what is no answer: to be tried again.
FAULTS = frozenset({"malformed_model_output", "malformed_tool_use"})

# What Amazon names, whatever its letters' case and its ending, and the status it means.
_EXCEPTIONS = {
    "throttling": 429,
    "toomanyrequests": 429,
    "servicequotaexceeded": 429,
    "modelnotready": 503,
    "serviceunavailable": 503,
    "internalserver": 500,
    "modelerror": 502,
    "modelstreamerror": 502,
    "modeltimeout": 504,
    "validation": 400,
    "accessdenied": 403,
    "unrecognizedclient": 401,
    "invalidsignature": 401,
    "expiredtoken": 401,
    "incompletesignature": 401,
    "missingauthenticationtoken": 401,
    "resourcenotfound": 404,
    "conflict": 409,
}


class _CacheDetail(Struct, gc=False, rename="camel"):
    ttl: str = ""
    input_tokens: int | None = None


class RawUsage(Struct, gc=False, rename="camel"):
    """Usage as Amazon writes it: the input's tokens exclude what was read from or put in the cache."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    cache_details: list[_CacheDetail] | None = None


def usage_of(raw: RawUsage) -> Usage:
    """Make the gateway's counts of Amazon's: all input, cached or not, is one number."""
    cached, written = _counted(raw.cache_read_input_tokens), _counted(raw.cache_write_input_tokens)
    hour = sum(_counted(one.input_tokens) for one in raw.cache_details or () if one.ttl == "1h")
    return Usage(
        input_tokens=_counted(raw.input_tokens) + cached + written,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=_counted(raw.output_tokens),
        cache_write_1h_tokens=min(hour, written),
    )


def _counted(tokens: int | None) -> int:
    return tokens if tokens is not None and 0 <= tokens <= MAX_TOKENS else 0


def stop_of(word: str | None) -> StopReason:
    """Say why an answer ended."""
    return _STOPS.get(word or "", "end")


def read_answer(body: bytes, renamed: Mapping[str, str] | None = None) -> Answer | Failure:
    """
    Read a Converse answer; a failure where the model wrote what is none.

    Raises `BadAnswer` for what is neither.
    """
    try:
        top = parse_object(body)
        reason = top.text("stopReason")
        if reason in FAULTS:
            return failures.bad_chunk(f"it ended with {reason}")
        return _read_answer(top, reason, renamed or {})
    except (BadField, msgspec.ValidationError) as fault:
        raise BadAnswer(str(fault)) from fault


def _read_answer(top: Fields, reason: str | None, renamed: Mapping[str, str]) -> Answer:
    found: list[Any] = []
    dropped: dict[str, None] = {}
    message = top.need_fields("output").need_fields("message")
    for block in message.each("content"):
        text, use = block.text("text"), block.fields("toolUse")
        reasoning = block.fields("reasoningContent")
        if text:
            found.append(Text(text))
        elif use is not None:
            name = use.need_text("name")
            arguments = encode(use.any("input") or {}).decode()
            found.append(ToolCall(use.need_text("toolUseId"), renamed.get(name, name), arguments))
        elif reasoning is not None:
            found.append(_read_reasoning(reasoning))
        for path in block.rest():
            dropped[path.rpartition(".")[2]] = None
    usage = top.object("usage")
    return Answer(
        (Choice(tuple(found), stop_of(reason)),),
        "",
        "",
        None if usage is None else usage_of(msgspec.convert(usage, RawUsage)),
        tuple(dropped),
    )


def _read_reasoning(reasoning: Fields) -> Reasoning:
    redacted = reasoning.text("redactedContent")
    if redacted is not None:
        return Reasoning(redacted=redacted, maker="anthropic")
    inner = reasoning.fields("reasoningText")
    if inner is None:
        return Reasoning()
    signature = inner.text("signature")
    return Reasoning(
        inner.text("text") or "", signature or None, maker="anthropic" if signature else ""
    )


# Errors...


def failure_named(
    name: str, message: Any, status: int = 0, headers: Mapping[str, str] | None = None
) -> Failure:
    """Make a failure of an exception by its name, such as ``ThrottlingException``."""
    # AWS appends where the name is from: "ThrottlingException:http://internal.amazon.com/…".
    word = name.partition(":")[0].rpartition("#")[2]
    key = word.lower().removesuffix("exception")
    return failure_of(
        _EXCEPTIONS.get(key) or status or 502,
        headers or {},
        message if isinstance(message, str) else "",
        type_=word or None,
    )


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """Read a vendor's refusal; whatever its body is, there is a failure. `headers` in lower case."""
    name = headers.get("x-amzn-errortype", "")
    try:
        top = parse_object(body)
    except BadField:
        said = body[:200].decode("utf-8", "replace").strip()
        return failure_named(name, said if said[:1] not in "<{[" else "", status, headers)
    message = top.any("message") or top.any("Message")
    type_ = top.any("__type")
    return failure_named(
        name or (type_ if isinstance(type_, str) else ""), message, status, headers
    )
