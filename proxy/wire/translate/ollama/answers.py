"""Answers and errors of Ollama, read and written."""

from collections.abc import Mapping, Sequence
from time import gmtime, strftime
from typing import Any

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

__all__ = [
    "done_of",
    "failure_in",
    "head_of",
    "read_answer",
    "read_error",
    "status_of",
    "stop_of",
    "write_answer",
    "write_error",
    "write_generated",
    "write_usage",
]

MAX_TOKENS = 1 << 40

_STATUSES: Mapping[FailureKind, int] = {
    "bad_request": 400,
    "context_length": 400,
    "filtered": 400,
    "unauthorized": 401,
    "billing": 402,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "too_large": 413,
    "rate_limited": 429,
    "overloaded": 503,
    "unavailable": 503,
    "timeout": 504,
    "lost": 502,
    "internal": 500,
}
_DONE: Mapping[StopReason, str] = {
    "length": "length",
    "context": "length",
    "paused": "length",
    "refusal": "content_filter",
    "filtered": "content_filter",
}


def stop_of(reason: str, *, called: bool) -> StopReason:
    """Say why an answer ended: Ollama says ``stop`` after calls as well."""
    if reason == "length":
        return "length"
    if reason == "content_filter":
        return "filtered"
    return "tool_calls" if called else "end"


def done_of(reason: StopReason) -> str:
    """Give the reason in Ollama's words, and one of OpenAI's where it has none."""
    return _DONE.get(reason, "stop")


def usage_of(prompt: int | None, output: int | None) -> Usage | None:
    """Make the gateway's counts; None when there are none."""
    if prompt is None and output is None:
        return None
    return Usage(input_tokens=_counted(prompt), output_tokens=_counted(output))


def write_usage(usage: Usage | None) -> dict[str, int]:
    """Write usage, which has no parts here."""
    if usage is None:
        return {}
    return {"prompt_eval_count": usage.input_tokens, "eval_count": usage.output_tokens}


def _counted(tokens: int | None) -> int:
    return tokens if tokens is not None and 0 <= tokens <= MAX_TOKENS else 0


def read_answer(body: bytes, renamed: Mapping[str, str] | None = None) -> Answer | Failure:
    """
    Read an /api/chat answer; a failure where an error came with status 200.

    Raises `BadAnswer` for what is neither.
    """
    try:
        top = parse_object(body)
        if top.has("error"):
            return failure_in(top.any("error"))
        return _read_answer(top, renamed or {})
    except BadField as fault:
        raise BadAnswer(str(fault)) from fault


def _read_answer(top: Fields, renamed: Mapping[str, str]) -> Answer:
    message = top.need_fields("message")
    found: list[Any] = []
    thinking, content = message.text("thinking"), message.text("content")
    if thinking:
        found.append(Reasoning(thinking))
    if content:
        found.append(Text(content))
    for call in message.each("tool_calls"):
        function = call.need_fields("function")
        name = function.need_text("name")
        arguments = encode(function.object("arguments") or {}).decode()
        found.append(ToolCall(call.text("id") or "", renamed.get(name, name), arguments))
    called = any(isinstance(part, ToolCall) for part in found)
    stop = stop_of(top.text("done_reason") or "stop", called=called)
    return Answer(
        (Choice(tuple(found), stop),),
        "",
        top.text("model") or "",
        usage_of(top.whole("prompt_eval_count"), top.whole("eval_count")),
        ("logprobs",) if top.has("logprobs") else (),
    )


def head_of(reply: Reply, model: str) -> dict[str, Any]:
    """Write what every answer and every line begins with."""
    return {
        "model": model or reply.model,
        "created_at": strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(reply.created_s)),
    }


def write_call(given: str, name: str, arguments: str) -> dict[str, Any]:
    """Write a call; raises `BadAnswer` when its arguments are no JSON object."""
    decoded = decode_object(arguments)
    if decoded is None:
        raise BadAnswer(f"the arguments of {name} are no JSON object")
    call: dict[str, Any] = {"function": {"name": name, "arguments": decoded}}
    if given:
        call["id"] = given
    return call


def write_answer(answer: Answer, reply: Reply) -> bytes:
    """Write an /api/chat answer; raises `BadAnswer` when a call's arguments are no JSON object."""
    choice = answer.choices[0]
    text, thinking = _said(choice.parts)
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if thinking:
        message["thinking"] = thinking
    calls = [
        write_call(part.id, part.name, part.arguments)
        for part in choice.parts
        if isinstance(part, ToolCall)
    ]
    if calls:
        message["tool_calls"] = calls
    written = head_of(reply, answer.model) | {"message": message}
    return encode(written | _end(answer))


def write_generated(answer: Answer, reply: Reply) -> bytes:
    """Write an /api/generate answer."""
    text, thinking = _said(answer.choices[0].parts)
    written = head_of(reply, answer.model) | {"response": text}
    if thinking:
        written["thinking"] = thinking
    return encode(written | _end(answer))


def _end(answer: Answer) -> dict[str, Any]:
    done = {"done": True, "done_reason": done_of(answer.choices[0].stop)}
    return done | write_usage(answer.usage)


def _said(parts: Sequence[Any]) -> tuple[str, str]:
    texts = [part.text for part in parts if isinstance(part, Text | Refusal)]
    thoughts = [part.text for part in parts if isinstance(part, Reasoning)]
    return "".join(texts), "".join(thoughts)


# Errors...


def failure_in(error: Any, status: int = 500) -> Failure:
    """Make a failure of an ``error``, which is a sentence."""
    return failure_of(status, {}, error if isinstance(error, str) else "")


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """Read a refusal; whatever its body is, there is a failure. `headers` in lower case."""
    try:
        error = parse_object(body).any("error")
    except BadField:
        said = body[:200].decode("utf-8", "replace").strip()
        return failure_of(status, headers, said if said[:1] not in "<{[" else "")
    if isinstance(error, dict):  # its OpenAI door, and gateways in between
        error = error.get("message")
    return failure_of(status, headers, error if isinstance(error, str) else "")


def status_of(failure: Failure) -> int:
    """Give the status of an error."""
    return _STATUSES[failure.kind]


def message_of(failure: Failure) -> str:
    """Give the sentence of an error, which names the field."""
    if failure.param and failure.param not in failure.message:
        return f"{failure.param}: {failure.message}"
    return failure.message


def write_error(failure: Failure, request_id: str) -> WrittenError:
    """Write an error as Ollama does."""
    return WrittenError(
        status_of(failure),
        failures.retry_headers(failure),
        encode({"error": message_of(failure)}),
    )
