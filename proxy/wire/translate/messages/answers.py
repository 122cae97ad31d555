"""Answers and errors of Messages, read and written."""

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
    FailureKind,
    Reasoning,
    Refusal,
    Reply,
    StopReason,
    Text,
    ToolCall,
    Usage,
)
from proxy.wire.translate.failures import WrittenError, failure_of
from proxy.wire.translate.fields import Fields, decode_object, encode, parse_object
from proxy.wire.translate.messages import blocks
from proxy.wire.translate.words import safe_id

__all__ = [
    "error_of",
    "read_answer",
    "read_error",
    "stop_of",
    "stop_word",
    "usage_of",
    "write_answer",
    "write_error",
    "write_usage",
]

MAX_ID = 256
MAX_TOKENS = 1 << 40

_STOPS: Mapping[str, StopReason] = {
    "end_turn": "end",
    "max_tokens": "length",
    "stop_sequence": "stop_sequence",
    "tool_use": "tool_calls",
    "pause_turn": "paused",
    "refusal": "refusal",
    "model_context_window_exceeded": "context",
}
_WORDS: Mapping[StopReason, str] = {
    "end": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "context": "model_context_window_exceeded",
    "tool_calls": "tool_use",
    "refusal": "refusal",
    "filtered": "refusal",
    "paused": "pause_turn",
}
# For each kind of failure: status, type.
_ERRORS: Mapping[FailureKind, tuple[int, str]] = {
    "bad_request": (400, "invalid_request_error"),
    "context_length": (400, "invalid_request_error"),
    "filtered": (400, "invalid_request_error"),
    "unauthorized": (401, "authentication_error"),
    "billing": (402, "billing_error"),
    "forbidden": (403, "permission_error"),
    "not_found": (404, "not_found_error"),
    "conflict": (409, "conflict_error"),
    "too_large": (413, "request_too_large"),
    "rate_limited": (429, "rate_limit_error"),
    "overloaded": (529, "overloaded_error"),
    "unavailable": (503, "api_error"),
    "timeout": (504, "timeout_error"),
    "lost": (502, "api_error"),
    "internal": (500, "api_error"),
}
_STATUSES = {type_: status for status, type_ in _ERRORS.values()} | {"api_error": 500}


class _Lifetimes(Struct, gc=False):
    ephemeral_1h_input_tokens: int | None = None


class _ServerTools(Struct, gc=False):
    web_search_requests: int | None = None


class _OutputDetails(Struct, gc=False):
    thinking_tokens: int | None = None


class RawUsage(Struct, gc=False):
    """Usage as Anthropic writes it: the input's tokens exclude what was read from or put in the cache."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None
    cache_creation: _Lifetimes | None = None
    server_tool_use: _ServerTools | None = None


def usage_of(raw: RawUsage) -> Usage:
    """Make the gateway's counts of Anthropic's: all input, cached or not, is one number."""
    cached = _counted(raw.cache_read_input_tokens)
    written = _counted(raw.cache_creation_input_tokens)
    output = _counted(raw.output_tokens)
    details = raw.output_tokens_details
    thought = _counted(details.thinking_tokens) if details is not None else 0
    lifetimes, searches = raw.cache_creation, raw.server_tool_use
    hour = _counted(lifetimes.ephemeral_1h_input_tokens) if lifetimes is not None else 0
    return Usage(
        input_tokens=_counted(raw.input_tokens) + cached + written,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output,
        reasoning_tokens=min(thought, output),
        cache_write_1h_tokens=min(hour, written),
        web_searches=_counted(searches.web_search_requests) if searches is not None else 0,
    )


def _counted(tokens: int | None) -> int:
    """Take a count as it can be; None and nonsense are 0."""
    return tokens if tokens is not None and 0 <= tokens <= MAX_TOKENS else 0


def write_usage(usage: Usage) -> dict[str, Any]:
    """Write usage: the input's tokens without the cached ones; strict clients want every member, null where nothing is known."""
    written: dict[str, Any] = {
        "input_tokens": max(usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens, 0),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "cache_creation": None,
        "server_tool_use": None,
        "output_tokens_details": None,
        "service_tier": None,
        "inference_geo": None,
    }
    if usage.cache_write_tokens:
        hour = usage.cache_write_1h_tokens
        written["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write_tokens - hour,
            "ephemeral_1h_input_tokens": hour,
        }
    if usage.web_searches:
        written["server_tool_use"] = {
            "web_search_requests": usage.web_searches,
            "web_fetch_requests": 0,
        }
    if usage.reasoning_tokens:
        written["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return written


def stop_of(word: str | None) -> StopReason:
    """Say why an answer ended."""
    return _STOPS.get(word or "", "end")


def stop_word(reason: StopReason, *, called: bool) -> str:
    """Give the reason in Anthropic's words; a call that is cut by the cap is still cut."""
    return "tool_use" if called and reason == "end" else _WORDS[reason]


def read_answer(body: bytes, renamed: Mapping[str, str] | None = None) -> Answer | Failure:
    """
    Read a message; a failure where an error came with status 200.

    Raises `BadAnswer` for what is neither.
    """
    try:
        top = parse_object(body)
        if top.text("type") == "error" or top.has("error"):
            return read_error(0, {}, body)
        return _read_message(top, renamed or {})
    except BadField as fault:
        raise BadAnswer(str(fault)) from fault
    except msgspec.ValidationError as fault:
        raise BadAnswer(str(fault)) from fault


def _read_message(top: Fields, renamed: Mapping[str, str]) -> Answer:
    found: list[Any] = []
    dropped: dict[str, None] = {}
    if not top.has("content"):
        raise top.missing("content")
    for block in top.each("content"):
        match kind := block.need_text("type"):
            case "text":
                text = block.text("text")
                if text:
                    found.append(Text(text))
                if block.list("citations"):
                    dropped["citations"] = None
            case "thinking" | "redacted_thinking":
                found.append(blocks.read_thinking(block, kind))
            case "tool_use":
                name = block.need_text("name")
                arguments = encode(block.object("input") or {}).decode()
                found.append(ToolCall(block.need_text("id"), renamed.get(name, name), arguments))
            case _:
                dropped[kind] = None
    stop = stop_of(top.text("stop_reason"))
    details = top.object("stop_details")
    detail = top.text("stop_sequence")
    if stop == "refusal" and details is not None:
        explanation = details.get("explanation")
        detail = explanation if isinstance(explanation, str) else None
    usage = top.object("usage")
    return Answer(
        (Choice(tuple(found), stop, detail),),
        top.text("id") or "",
        top.text("model") or "",
        None if usage is None else usage_of(msgspec.convert(usage, RawUsage)),
        tuple(dropped),
    )


def write_answer(answer: Answer, reply: Reply) -> bytes:
    """
    Write a message.

    Raises `BadAnswer` when a call's arguments are no JSON object, which a message cannot hold.
    """
    choice = answer.choices[0]
    content: list[dict[str, Any]] = []
    called = 0
    for part in choice.parts:
        match part:
            case Text() | Refusal():
                if part.text:
                    content.append({"type": "text", "text": part.text, "citations": None})
            case Reasoning():
                content.append(blocks.write_thinking(part))
            case ToolCall():
                arguments = None if part.custom else decode_object(part.arguments)
                if arguments is None:
                    raise BadAnswer(f"the arguments of {part.name} are no JSON object")
                content.append(write_call(call_id(part.id, reply, called), part.name, arguments))
                called += 1
    written = {
        "id": answer_id(reply),
        "type": "message",
        "role": "assistant",
        "model": answer.model or reply.model,
        "content": content,
        **stop_fields(choice.stop, choice.detail, called=bool(called)),
        "container": None,
        "usage": write_usage(answer.usage or Usage()),
    }
    return encode(written)


def write_call(given: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Write a call of a tool, which the model itself makes."""
    return {
        "type": "tool_use",
        "id": given,
        "name": name,
        "input": arguments,
        "caller": {"type": "direct"},
    }


def stop_fields(reason: StopReason, detail: str | None, *, called: bool) -> dict[str, Any]:
    """Write why an answer ended."""
    word = stop_word(reason, called=called)
    fields: dict[str, Any] = {
        "stop_reason": word,
        "stop_sequence": detail if reason == "stop_sequence" else None,
        "stop_details": None,
    }
    if word == "refusal":
        fields["stop_details"] = {
            "type": "refusal",
            "category": None,
            "explanation": detail if reason == "refusal" else None,
        }
    return fields


def answer_id(reply: Reply) -> str:
    """Make the id of an answer."""
    return f"msg_{reply.id}"


def call_id(given: str, reply: Reply, number: int) -> str:
    """Give a call's id as Anthropic's clients expect it, made of the exchange's if the vendor gave none."""
    return safe_id(given, MAX_ID) if given else f"toolu_{reply.id}_{number}"


# Errors...


def error_of(error: Any, status: int = 0, headers: Mapping[str, str] | None = None) -> Failure:
    """Make a failure of an ``error`` member, whatever it is."""
    if not isinstance(error, dict):
        return failure_of(status or 500, headers or {}, error if isinstance(error, str) else "")
    message, type_ = error.get("message"), error.get("type")
    word = type_ if isinstance(type_, str) else None
    return failure_of(
        status or _STATUSES.get(word or "", 500),
        headers or {},
        message if isinstance(message, str) else "",
        type_=word,
    )


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """Read a vendor's refusal; whatever its body is, there is a failure. `headers` in lower case."""
    try:
        top = parse_object(body)
    except BadField:
        text = body[:200].decode("utf-8", "replace").strip()
        return failure_of(status or 502, headers, text if text[:1] not in "<{[" else "")
    error = top.any("error")
    message = top.any("message")  # Bedrock and gateways in between
    return error_of(error if error is not None else message, status, headers)


def write_error(failure: Failure, request_id: str) -> WrittenError:
    """Write an error in Anthropic's envelope."""
    status, type_ = _ERRORS[failure.kind]
    return WrittenError(
        status,
        failures.retry_headers(failure),
        encode(error_object(failure, type_, request_id)),
    )


def error_object(failure: Failure, type_: str | None, request_id: str) -> dict[str, Any]:
    """Write the error itself; the field at fault stands in its message, as Anthropic has it."""
    message = failure.message
    if failure.param and failure.param not in message:
        message = f"{failure.param}: {message}"
    return {
        "type": "error",
        "error": {"type": type_ or _ERRORS[failure.kind][1], "message": message},
        "request_id": request_id,
    }
