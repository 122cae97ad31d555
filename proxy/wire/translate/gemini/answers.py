"""Answers and errors of Gemini, read and written."""

import math
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
    Reply,
    StopReason,
    Text,
    ToolCall,
    Usage,
)
from proxy.wire.translate.failures import WrittenError, failure_of
from proxy.wire.translate.fields import Fields, encode, parse_object
from proxy.wire.translate.gemini.parts import ProtoFields, add_thought, reasoning_of, write_said

__all__ = [
    "FAULTS",
    "RawUsage",
    "error_object",
    "failure_in",
    "finish_of",
    "read_answer",
    "read_error",
    "stop_of",
    "usage_of",
    "write_answer",
    "write_error",
    "write_usage",
]

MAX_TOKENS = 1 << 40

_STOPS: Mapping[str, StopReason] = {"STOP": "end", "MAX_TOKENS": "length", "OTHER": "end"}
_FILTERS = frozenset(
    {
        *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
        *(
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
            "MODEL_ARMOR",
            "ESCALATION",
        ),
    }
)
# The model wrote what is no answer: to be tried again.
FAULTS = frozenset(
    {
        *("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MISSING_THOUGHT_SIGNATURE"),
        *("MALFORMED_RESPONSE", "TOO_MANY_TOOL_CALLS"),
    }
)
_FINISHES: Mapping[StopReason, str] = {
    "length": "MAX_TOKENS",
    "context": "MAX_TOKENS",
    "refusal": "SAFETY",
    "filtered": "SAFETY",
}
# For each kind of failure: status, Google's word.
_ERRORS: Mapping[FailureKind, tuple[int, str]] = {
    "bad_request": (400, "INVALID_ARGUMENT"),
    "context_length": (400, "INVALID_ARGUMENT"),
    "filtered": (400, "INVALID_ARGUMENT"),
    "unauthorized": (401, "UNAUTHENTICATED"),
    "billing": (402, "FAILED_PRECONDITION"),
    "forbidden": (403, "PERMISSION_DENIED"),
    "not_found": (404, "NOT_FOUND"),
    "conflict": (409, "ABORTED"),
    "too_large": (413, "INVALID_ARGUMENT"),
    "rate_limited": (429, "RESOURCE_EXHAUSTED"),
    "overloaded": (503, "UNAVAILABLE"),
    "unavailable": (503, "UNAVAILABLE"),
    "timeout": (504, "DEADLINE_EXCEEDED"),
    "lost": (502, "UNAVAILABLE"),
    "internal": (500, "INTERNAL"),
}
_STATUSES = {word: status for status, word in _ERRORS.values()} | {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "ALREADY_EXISTS": 409,
    "UNAVAILABLE": 503,
}
_RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


class _Detail(Struct, gc=False):
    modality: str = ""
    tokenCount: int | None = None  # noqa: N815  # Google's spelling


class RawUsage(Struct, gc=False, rename="camel"):
    """Usage as Google writes it: the prompt includes what was cached, the candidates exclude thoughts."""

    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    total_token_count: int | None = None
    prompt_tokens_details: list[_Detail] | None = None
    candidates_tokens_details: list[_Detail] | None = None


def usage_of(raw: RawUsage) -> Usage:
    """Make the gateway's counts of Google's: output includes the thoughts."""
    entered = _counted(raw.prompt_token_count)
    if raw.tool_use_prompt_token_count:
        entered += _counted(raw.tool_use_prompt_token_count)
    thought = _counted(raw.thoughts_token_count) if raw.thoughts_token_count else 0
    output = _counted(raw.candidates_token_count) + thought
    cached = _counted(raw.cached_content_token_count) if raw.cached_content_token_count else 0
    usage = Usage(entered, min(cached, entered), 0, output, thought)
    if raw.prompt_tokens_details:
        usage.audio_input_tokens = min(_part(raw.prompt_tokens_details, "AUDIO"), entered)
        usage.image_input_tokens = min(_part(raw.prompt_tokens_details, "IMAGE"), entered)
    if raw.candidates_tokens_details:
        usage.audio_output_tokens = min(_part(raw.candidates_tokens_details, "AUDIO"), output)
        usage.image_output_tokens = min(_part(raw.candidates_tokens_details, "IMAGE"), output)
    return usage


def write_usage(usage: Usage) -> dict[str, Any]:
    """Write usage in Google's way."""
    written: dict[str, Any] = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }
    if usage.cached_tokens:
        written["cachedContentTokenCount"] = usage.cached_tokens
    if usage.reasoning_tokens:
        written["thoughtsTokenCount"] = usage.reasoning_tokens
    return written


def _counted(tokens: int | None) -> int:
    return tokens if tokens is not None and 0 <= tokens <= MAX_TOKENS else 0


def _part(details: list[_Detail], modality: str) -> int:
    """Give what is of one modality."""
    return sum(_counted(one.tokenCount) for one in details if one.modality == modality)


def stop_of(finish: str, *, called: bool) -> StopReason:
    """Say why an answer ended: Google says STOP after calls as well."""
    if finish in _FILTERS:
        return "filtered"
    reason = _STOPS.get(finish, "end")
    return "tool_calls" if called and reason == "end" else reason


def finish_of(reason: StopReason) -> str:
    """Give the reason in Google's words."""
    return _FINISHES.get(reason, "STOP")


def read_answer(body: bytes, renamed: Mapping[str, str] | None = None) -> Answer | Failure:
    """
    Read a generateContent answer; a failure where an error came with status 200.

    Raises `BadAnswer` for what is neither.
    """
    try:
        top = ProtoFields(parse_object(body).taken())
        if top.has("error"):
            return failure_in(top.any("error"))
        return _read_answer(top, renamed or {})
    except (BadField, msgspec.ValidationError) as fault:
        raise BadAnswer(str(fault)) from fault


def _read_answer(top: Fields, renamed: Mapping[str, str]) -> Answer | Failure:
    dropped: dict[str, None] = {}
    choices = []
    for candidate in top.each("candidates"):
        finish = candidate.text("finishReason") or "STOP"
        if finish in FAULTS:
            return failures.bad_chunk(f"it ended with {finish}")
        found: list[Any] = []
        content = candidate.fields("content")
        for part in content.each("parts") if content is not None else ():
            _read_part(part, renamed, found, dropped)
        for name in ("citationMetadata", "groundingMetadata", "logprobsResult"):
            if candidate.has(name):
                dropped[name] = None
        called = any(isinstance(part, ToolCall) for part in found)
        choices.append(Choice(tuple(found), stop_of(finish, called=called)))
    feedback = top.fields("promptFeedback")
    if not choices and feedback is not None and feedback.has("blockReason"):
        choices = [Choice((), "filtered", feedback.text("blockReason"))]
    if not choices:
        raise BadAnswer("it has no candidates")
    usage = top.object("usageMetadata")
    return Answer(
        tuple(choices),
        top.text("responseId") or "",
        top.text("modelVersion") or "",
        None if usage is None else usage_of(msgspec.convert(usage, RawUsage)),
        tuple(dropped),
    )


def _read_part(
    part: Fields, renamed: Mapping[str, str], found: list[Any], dropped: dict[str, None]
) -> None:
    signature, thought = part.text("thoughtSignature"), part.boolean("thought")
    text, call = part.text("text"), part.fields("functionCall")
    if thought:
        add_thought(found, text or "", signature)
        return
    if signature:
        found.append(reasoning_of(signature))
    if call is not None:
        name = call.need_text("name")
        arguments = encode(call.object("args") or {}).decode()
        found.append(ToolCall(call.text("id") or "", renamed.get(name, name), arguments))
    elif text:
        found.append(Text(text))
    else:
        for path in part.rest():
            dropped[path.rpartition(".")[2]] = None


def write_answer(answer: Answer, reply: Reply) -> bytes:
    """
    Write a generateContent answer.

    Raises `BadAnswer` when a call's arguments are no JSON object, which it cannot hold.
    """
    candidates = [
        {
            "content": {
                "parts": list(write_said(choice.parts, {}, foreign=True)),
                "role": "model",
            },
            "finishReason": finish_of(choice.stop),
            "index": number,
        }
        for number, choice in enumerate(answer.choices)
    ]
    written: dict[str, Any] = {"candidates": candidates}
    if answer.usage is not None:
        written["usageMetadata"] = write_usage(answer.usage)
    written["modelVersion"] = answer.model or reply.model
    written["responseId"] = reply.id
    return encode(written)


# Errors...


def failure_in(error: Any, status: int = 0, headers: Mapping[str, str] | None = None) -> Failure:
    """Make a failure of an ``error`` member, whatever it is."""
    if not isinstance(error, dict):
        return failure_of(status or 500, headers or {}, error if isinstance(error, str) else "")
    code, word, message = error.get("code"), error.get("status"), error.get("message")
    type_ = word if isinstance(word, str) else None
    if not status:
        status = _STATUSES.get(type_ or "", 500)
        if type(code) is int and 400 <= code < 600:
            status = code
    failure = failure_of(
        status, headers or {}, message if isinstance(message, str) else "", type_=type_
    )
    if failure.retry_after_us is None:
        wait = _retry_delay_us(error.get("details"))
        return msgspec.structs.replace(failure, retry_after_us=wait)
    return failure


def _retry_delay_us(details: Any) -> int | None:
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and detail.get("@type") == _RETRY_INFO:
            delay = detail.get("retryDelay")
            if isinstance(delay, str) and delay.endswith("s"):
                return failures.retry_after_us({"retry-after": delay[:-1]})
    return None


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """Read a vendor's refusal; whatever its body is, there is a failure. `headers` in lower case."""
    text = body.strip()
    if text[:1] == b"[":
        # What was to be a streamed array holds the error alone.
        text = text[1:-1]
    try:
        top = parse_object(text)
    except BadField:
        said = body[:200].decode("utf-8", "replace").strip()
        return failure_of(status, headers, said if said[:1] not in "<{[" else "")
    return failure_in(top.any("error"), status, headers)


def error_object(failure: Failure) -> dict[str, Any]:
    """Write the error itself; the field at fault stands in its message."""
    status, word = _ERRORS[failure.kind]
    message = failure.message
    if failure.param and failure.param not in message:
        message = f"{failure.param}: {message}"
    error: dict[str, Any] = {"code": status, "message": message, "status": word}
    if failure.retry_after_us is not None and failure.kind != "billing":
        delay = f"{math.ceil(failure.retry_after_us / 1e6)}s"
        error["details"] = [{"@type": _RETRY_INFO, "retryDelay": delay}]
    return {"error": error}


def write_error(failure: Failure, request_id: str) -> WrittenError:
    """Write an error in Google's envelope."""
    return WrittenError(
        _ERRORS[failure.kind][0], failures.retry_headers(failure), encode(error_object(failure))
    )
