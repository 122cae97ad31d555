"""Answers and errors of Chat Completions, read and written."""

from collections.abc import Mapping
from typing import Any

import msgspec

from proxy.wire.envelopes import openai_error
from proxy.wire.look import BadField
from proxy.wire.meter import Usage, VendorError, error_in
from proxy.wire.openai_answers import meter_json
from proxy.wire.translate import failures
from proxy.wire.translate.chat import parts
from proxy.wire.translate.core import (
    Answer,
    BadAnswer,
    Choice,
    Failure,
    FailureKind,
    Refusal,
    Reply,
    StopReason,
    Text,
    ToolCall,
)
from proxy.wire.translate.failures import WrittenError, failure_of
from proxy.wire.translate.fields import Fields, encode, parse_object

__all__ = [
    "error_words",
    "failure_of_vendor",
    "finish_of",
    "read_answer",
    "read_error",
    "stop_of",
    "usage_of",
    "write_error",
    "write_failure",
]

# What OpenAI, and of the family DeepSeek, GLM, Mistral and others, say of an answer's end.
_STOPS: Mapping[str, StopReason] = {
    "stop": "end",
    "eos": "end",
    "length": "length",
    "model_length": "context",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "filtered",
    "sensitive": "filtered",
}
# And of one that went wrong.
FAULTS = frozenset({"error", "network_error", "insufficient_system_resource", "abort"})
_FINISHES: Mapping[StopReason, str] = {
    "end": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "context": "length",
    "tool_calls": "tool_calls",
    "refusal": "content_filter",
    "filtered": "content_filter",
    "paused": "length",
}

# For each kind of failure: status, type, code.
_ERRORS: Mapping[FailureKind, tuple[int, str, str | None]] = {
    "bad_request": (400, "invalid_request_error", None),
    "context_length": (400, "invalid_request_error", "context_length_exceeded"),
    "filtered": (400, "invalid_request_error", "content_filter"),
    "unauthorized": (401, "authentication_error", "invalid_api_key"),
    "billing": (402, "insufficient_quota", "insufficient_quota"),
    "forbidden": (403, "permission_error", None),
    "not_found": (404, "invalid_request_error", None),
    "conflict": (409, "invalid_request_error", None),
    "too_large": (413, "invalid_request_error", None),
    "rate_limited": (429, "rate_limit_error", "rate_limit_exceeded"),
    "overloaded": (503, "api_error", None),
    "unavailable": (503, "api_error", None),
    "timeout": (504, "api_error", None),
    "lost": (502, "api_error", None),
    "internal": (500, "api_error", None),
}


def stop_of(finish: str, *, called: bool, refused: bool) -> StopReason:
    """
    Say why an answer ended, of its finish reason and of what stood in it.

    Servers say ``stop`` after tool calls as well; OpenAI says it after a refusal.
    """
    reason = _STOPS.get(finish, "end")
    if reason == "end":
        if refused:
            return "refusal"
        if called:
            return "tool_calls"
    return reason


def finish_of(reason: StopReason, *, refused: bool) -> str:
    """Give the finish reason; where the refusal was `refused` in words, OpenAI says ``stop``."""
    return "stop" if reason == "refusal" and refused else _FINISHES[reason]


def read_answer(body: bytes, renamed: Mapping[str, str] | None = None) -> Answer | Failure:
    """
    Read a chat completion; a failure where the vendor put an error into an answer with status 200.

    Raises `BadAnswer` for what is neither.
    """
    try:
        return _read_answer(body, renamed or {})
    except BadField as fault:
        raise BadAnswer(str(fault)) from fault


def _read_answer(body: bytes, renamed: Mapping[str, str]) -> Answer | Failure:
    error = error_in(body)
    if error is not None:
        return failure_of_vendor(error)
    top = parse_object(body)
    dropped: dict[str, None] = {}
    choices = []
    for choice in top.each("choices"):
        finish = choice.text("finish_reason") or "stop"
        if finish in FAULTS:
            return failures.bad_chunk(f"it ended with {finish}")
        message = choice.fields("message") or Fields({}, choice.at("message"))
        found = _read_message(message, renamed)
        if choice.has("logprobs"):
            dropped["logprobs"] = None
        if message.any("annotations"):
            dropped["annotations"] = None
        if message.has("audio"):
            dropped["audio"] = None
        called = any(isinstance(part, ToolCall) for part in found)
        refused = any(isinstance(part, Refusal) for part in found)
        choices.append(Choice(tuple(found), stop_of(finish, called=called, refused=refused)))
    if not choices:
        raise BadAnswer("it has no choices")
    return Answer(
        tuple(choices),
        top.text("id") or "",
        top.text("model") or "",
        meter_json(body),
        tuple(dropped),
    )


def _read_message(message: Fields, renamed: Mapping[str, str]) -> list[Any]:
    found: list[Any] = list(parts.read_reasoning(message))
    content = message.any("content")
    if isinstance(content, list):
        # Mistral's answers of models that think, and others in parts.
        for part in content:
            text = part.get("text") if isinstance(part, dict) else None
            if isinstance(text, str) and text:
                found.append(Text(text))
    elif isinstance(content, str) and content:
        found.append(Text(content))
    refusal = message.text("refusal")
    if refusal:
        found.append(Refusal(refusal))
    for part in parts.read_calls(message.each("tool_calls"), {}):
        if isinstance(part, ToolCall) and part.name in renamed:
            found.append(msgspec.structs.replace(part, name=renamed[part.name]))
        else:
            found.append(part)
    return found


def write_answer(answer: Answer, reply: Reply) -> bytes:
    """Write a chat completion."""
    choices = []
    for number, choice in enumerate(answer.choices):
        said = list(choice.parts)
        if (
            choice.stop == "refusal"
            and choice.detail
            and not any(isinstance(part, Refusal) for part in said)
        ):
            said.append(Refusal(choice.detail))
        message = parts.write_message(
            said, reasoning="reasoning_content", details=True, most_id=256
        )
        refused = bool(message.get("refusal"))
        message.setdefault("refusal", None)
        message["annotations"] = []
        choices.append(
            {
                "index": number,
                "message": {"role": "assistant", **message},
                "logprobs": None,
                "finish_reason": finish_of(choice.stop, refused=refused),
            }
        )
    written: dict[str, Any] = {
        "id": answer_id(reply),
        "object": "chat.completion",
        "created": reply.created_s,
        "model": answer.model or reply.model,
        "choices": choices,
    }
    if answer.usage is not None:
        written["usage"] = usage_of(answer.usage)
    return encode(written)


def answer_id(reply: Reply) -> str:
    """Make the id of an answer."""
    return f"chatcmpl-{reply.id}"


def usage_of(usage: Usage) -> dict[str, Any]:
    """Write usage: the prompt's tokens include the cached ones, the completion's the reasoning."""
    inputs = {"cached_tokens": usage.cached_tokens, "audio_tokens": usage.audio_input_tokens}
    if usage.cache_write_tokens:
        inputs["cache_write_tokens"] = usage.cache_write_tokens
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": inputs,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.audio_output_tokens,
        },
    }


# Errors...


def failure_of_vendor(error: VendorError) -> Failure:
    """Make a failure of an error that a vendor put into an answer with status 200."""
    status = error.status or _status_of(error)
    return failure_of(
        status, {}, error.message, type_=error.type, code=error.code or None, param=error.param
    )


def _status_of(error: VendorError) -> int:
    """Guess the status that an error without one would have had."""
    said = f"{error.type} {error.code}".lower()
    for words, status in (
        (("rate_limit", "resource_exhausted", "1002", "1039"), 429),
        (("overloaded", "unavailable"), 503),
        (("invalid_request", "invalid_argument", "content_filter", "context_length"), 400),
        (("authentication", "invalid_api_key", "1004"), 401),
        (("insufficient", "1008"), 402),
        (("permission",), 403),
        (("not_found",), 404),
        (("timeout", "1001"), 504),
    ):
        if any(word in said for word in words):
            return status
    return 502


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """Read a vendor's refusal; whatever its body is, there is a failure. `headers` in lower case."""
    error = error_in(body)
    if error is None:
        text = body[:200].decode("utf-8", "replace").strip()
        return failure_of(status, headers, text if text[:1] not in "<{[" else "")
    return failure_of(
        status,
        headers,
        error.message,
        type_=error.type,
        code=error.code or None,
        param=error.param,
    )


def write_error(failure: Failure, request_id: str) -> WrittenError:
    """Write an error in OpenAI's envelope."""
    status, type_, code = _ERRORS[failure.kind]
    return WrittenError(
        status,
        failures.retry_headers(failure),
        openai_error(status, failure.message, type_, code or failure.code, param=failure.param),
    )


def error_words(failure: Failure) -> tuple[str, str | None]:
    """Give the type and the code of an error."""
    _, type_, code = _ERRORS[failure.kind]
    return type_, code or failure.code


def write_failure(failure: Failure, request_id: str) -> bytes:
    """Write the event that ends a stream which broke off: an error, and no [DONE] after it."""
    type_, code = error_words(failure)
    error = {
        "message": failure.message,
        "type": type_,
        "param": failure.param,
        "code": code,
        "request_id": request_id,
    }
    return b"data: " + encode({"error": error}) + b"\n\n"
