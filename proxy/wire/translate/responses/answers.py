"""Answers of Responses, read and written."""

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
    Conversation,
    Failure,
    Reasoning,
    Refusal,
    Reply,
    StopReason,
    Text,
    ToolCall,
    Usage,
)
from proxy.wire.translate.failures import failure_of
from proxy.wire.translate.fields import Fields, encode, parse_object
from proxy.wire.translate.responses import items

__all__ = [
    "RawUsage",
    "answer_id",
    "call_id",
    "failure_in",
    "read_answer",
    "resource",
    "status_of",
    "stop_of",
    "usage_of",
    "write_answer",
    "write_usage",
]

MAX_TOKENS = 1 << 40

_CODES = {"rate_limit_exceeded": 429, "invalid_prompt": 400, "server_error": 500}


class _InputDetails(Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(Struct, gc=False):
    reasoning_tokens: int | None = None


class RawUsage(Struct, gc=False):
    """Usage as Responses writes it: the input includes the cached, the output the reasoning."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


def usage_of(raw: RawUsage) -> Usage:
    """Make the gateway's counts, which include alike."""
    entered, output = _counted(raw.input_tokens), _counted(raw.output_tokens)
    inputs = raw.input_tokens_details or _InputDetails()
    outputs = raw.output_tokens_details or _OutputDetails()
    return Usage(
        input_tokens=entered,
        cached_tokens=min(_counted(inputs.cached_tokens), entered),
        cache_write_tokens=min(_counted(inputs.cache_write_tokens), entered),
        output_tokens=output,
        reasoning_tokens=min(_counted(outputs.reasoning_tokens), output),
    )


def write_usage(usage: Usage) -> dict[str, Any]:
    """Write usage."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _counted(tokens: int | None) -> int:
    return tokens if tokens is not None and 0 <= tokens <= MAX_TOKENS else 0


def stop_of(status: str, incomplete: Any, *, called: bool, refused: bool) -> StopReason:
    """Say why an answer ended."""
    if status == "incomplete":
        reason = incomplete.get("reason") if isinstance(incomplete, dict) else None
        return "filtered" if reason == "content_filter" else "length"
    if called:
        return "tool_calls"
    return "refusal" if refused else "end"


def status_of(stop: StopReason, *, refused: bool) -> tuple[str, dict[str, str] | None]:
    """Give the status of an answer, and the details of one that is incomplete."""
    match stop:
        case "length" | "context" | "paused":
            return "incomplete", {"reason": "max_output_tokens"}
        case "filtered":
            return "incomplete", {"reason": "content_filter"}
        case "refusal" if not refused:
            return "incomplete", {"reason": "content_filter"}
        case _:
            return "completed", None


def failure_in(error: Any) -> Failure:
    """Make a failure of the ``error`` of a response or of an event."""
    if not isinstance(error, dict):
        return failures.bad_chunk("it failed without saying why")
    code, message, type_ = error.get("code"), error.get("message"), error.get("type")
    word = code if isinstance(code, str) else ""
    return failure_of(
        _CODES.get(word, 500),
        {},
        message if isinstance(message, str) else "",
        type_=type_ if isinstance(type_, str) else None,
        code=word or None,
    )


def read_answer(body: bytes, renamed: Mapping[str, str] | None = None) -> Answer | Failure:
    """
    Read a response; a failure where it has failed, although its status is 200.

    Raises `BadAnswer` for what is neither.
    """
    try:
        top = parse_object(body)
        status = top.text("status") or "completed"
        if status in {"failed", "cancelled"} or (top.has("error") and not top.has("output")):
            return failure_in(top.any("error"))
        return _read_answer(top, status, renamed or {})
    except (BadField, msgspec.ValidationError) as fault:
        raise BadAnswer(str(fault)) from fault


def _read_answer(top: Fields, status: str, renamed: Mapping[str, str]) -> Answer:
    found: list[Any] = []
    dropped: dict[str, None] = {}
    if not top.has("output"):
        raise top.missing("output")
    for item in top.each("output"):
        match kind := item.need_text("type"):
            case "message":
                for part in item.each("content"):
                    text, refusal = part.text("text"), part.text("refusal")
                    if text:
                        found.append(Text(text))
                    if refusal:
                        found.append(Refusal(refusal))
                    if part.list("annotations"):
                        dropped["annotations"] = None
            case "reasoning":
                found.append(items.read_reasoning(item))
            case "function_call" | "custom_tool_call":
                call = items.read_call(item, kind)
                name = renamed.get(call.name, call.name)
                found.append(ToolCall(call.id, name, call.arguments, call.custom))
            case _:
                dropped[kind] = None
    stop = stop_of(
        status,
        top.any("incomplete_details"),
        called=any(isinstance(part, ToolCall) for part in found),
        refused=any(isinstance(part, Refusal) for part in found),
    )
    usage = top.object("usage")
    return Answer(
        (Choice(tuple(found), stop),),
        top.text("id") or "",
        top.text("model") or "",
        None if usage is None else usage_of(msgspec.convert(usage, RawUsage)),
        tuple(dropped),
    )


def write_answer(answer: Answer, reply: Reply) -> bytes:
    """Write a response."""
    choice = answer.choices[0]
    refused = any(isinstance(part, Refusal) for part in choice.parts)
    parts = list(choice.parts)
    if choice.stop == "refusal" and choice.detail and not refused:
        refused = True
        parts.append(Refusal(choice.detail))
    status, details = status_of(choice.stop, refused=refused)
    output: list[dict[str, Any]] = []
    for part in parts:
        number = len(output)
        match part:
            case Text() | Refusal():
                written = (
                    items.text_part(part.text)
                    if isinstance(part, Text)
                    else items.refusal_part(part.text)
                )
                if output and output[-1]["type"] == "message":
                    output[-1]["content"].append(written)
                else:
                    given = f"msg_{reply.id}_{number}"
                    output.append(items.message_item([written], given, status))
            case Reasoning():
                output.append(items.reasoning_item(part, f"rs_{reply.id}_{number}"))
            case ToolCall():
                call = ToolCall(
                    call_id(part.id, reply, number), part.name, part.arguments, part.custom
                )
                given = f"fc_{reply.id}_{number}"
                output.append(items.call_item(call, given, "completed", reply.conversation))
    made = resource(reply, answer.model, status)
    made["output"] = output
    made["incomplete_details"] = details
    made["usage"] = None if answer.usage is None else write_usage(answer.usage)
    if status == "completed":
        made["completed_at"] = reply.created_s
    return encode(made)


def answer_id(reply: Reply) -> str:
    """Make the id of an answer."""
    return f"resp_{reply.id}"


def call_id(given: str, reply: Reply, number: int) -> str:
    """Give a call's id, made of the exchange's if the vendor gave none."""
    return given or f"call_{reply.id}_{number}"


_NOTHING_ASKED = Conversation(model="", turns=())


def resource(reply: Reply, model: str, status: str) -> dict[str, Any]:
    """Write a response without output: every member is there, and says what was asked."""
    asked = reply.conversation or _NOTHING_ASKED
    form: dict[str, Any] = {"format": {"type": "text"}}
    if asked.output is not None:
        form = {"format": {"type": "json_object"}}
        if asked.output.schema is not None:
            form["format"] = {
                "type": "json_schema",
                "name": asked.output.name or "answer",
                "schema": asked.output.schema,
                "strict": asked.output.strict or False,
                "description": asked.output.description,
            }
    if asked.verbosity is not None:
        form["verbosity"] = asked.verbosity
    thinking = asked.thinking
    sampling = asked.sampling
    return {
        "id": answer_id(reply),
        "object": "response",
        "created_at": reply.created_s,
        "completed_at": None,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": "\n".join(text.text for text in asked.system) or None,
        "max_output_tokens": asked.max_tokens,
        "max_tool_calls": None,
        "model": model or reply.model,
        "output": [],
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": asked.extra.get("prompt_cache_key"),
        "reasoning": {
            "effort": None if thinking is None else ("none" if thinking.off else thinking.effort),
            "summary": "auto" if thinking is not None and thinking.shown else None,
        },
        "safety_identifier": asked.extra.get("safety_identifier"),
        "service_tier": asked.service_tier or "default",
        "store": False,
        "temperature": 1.0 if sampling.temperature is None else sampling.temperature,
        "text": form,
        "tool_choice": _choice_of(asked),
        "tools": [_tool_of(tool) for tool in asked.tools],
        "top_logprobs": 0,
        "top_p": 1.0 if sampling.top_p is None else sampling.top_p,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "truncation": "disabled",
        "usage": None,
        "user": asked.user,
        "metadata": asked.metadata or {},
    }


def _choice_of(asked: Conversation) -> Any:
    choice = asked.tool_choice
    if choice is None:
        return "auto"
    if not choice.names:
        return choice.mode
    named = [{"type": "function", "name": name} for name in choice.names]
    if len(named) == 1 and choice.mode == "required":
        return named[0]
    return {"type": "allowed_tools", "mode": choice.mode, "tools": named}


def _tool_of(tool: Any) -> dict[str, Any]:
    if tool.custom:
        return {
            "type": "custom",
            "name": tool.name,
            "description": tool.description or "",
            "format": tool.schema or {"type": "text"},
        }
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.schema or {},
        "strict": tool.strict or False,
    }
