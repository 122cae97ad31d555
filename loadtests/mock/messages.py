"""
What the mock vendor says in Anthropic's protocol: messages, whole and as events, and counts of tokens.

Pure functions from what was asked to payloads; `plan` frames and paces them as it does OpenAI's.
Hidden reasoning is counted and not shown; whatever else a behaviour says has the same meaning in both protocols.
Protocol: https://platform.claude.com/docs/en/api/messages
"""

from itertools import pairwise
from typing import Any

import msgspec

from loadtests.mock import words
from loadtests.mock.behaviour import Behaviour
from loadtests.mock.exchange import Said

MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
ARGUMENTS = '{"city":"Reykjavik","days":3,"unit":"celsius","detail":"hourly"}'


def is_spoken_at(path: str) -> bool:
    """Whether a path of the mock is one of Anthropic's."""
    return path.startswith(MESSAGES)


def usage(behaviour: Behaviour, prompt: int, output: int) -> dict[str, Any]:
    """Write the usage: what was read from the cache or written to it is no part of `input_tokens`."""
    read = min(behaviour.cached, prompt)
    written = min(behaviour.cache_write, prompt - read)
    hour = min(behaviour.cache_write_1h, written)
    return {
        "input_tokens": prompt - read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": written - hour,
            "ephemeral_1h_input_tokens": hour,
        },
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": min(behaviour.reasoning, output)},
        "server_tool_use": None,
        "service_tier": "standard",
        "inference_geo": "global",
    }


def message(
    behaviour: Behaviour, ids: str, prompt: int, visible: int, *, capped: bool
) -> dict[str, Any]:
    """Write a whole message of `visible` tokens; `ids` is what its ids end in."""
    content: list[dict[str, Any]] = [
        {"type": "text", "text": words.say(visible), "citations": None}
    ]
    stop = "max_tokens" if capped else "end_turn"
    if behaviour.tools:
        arguments = msgspec.json.decode(ARGUMENTS)
        content = [
            {
                "type": "tool_use",
                "id": f"toolu_{ids}",
                "name": "get_weather",
                "input": arguments,
                "caller": {"type": "direct"},
            }
        ]
        stop = "tool_use"
    document: dict[str, Any] = {
        "id": f"msg_{ids}",
        "type": "message",
        "role": "assistant",
        "model": behaviour.name,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
    }
    if behaviour.usage != "off":
        document["usage"] = usage(behaviour, prompt, visible + behaviour.reasoning)
    return document


def events(
    behaviour: Behaviour, ids: str, prompt: int, visible: int, *, capped: bool
) -> list[Said]:
    """Write the same message as a stream; `done=off` leaves its last event out."""
    line_end = "\r\n" if behaviour.crlf else "\n"
    hidden = behaviour.reasoning
    whole = message(behaviour, ids, prompt, visible, capped=capped)
    opening = whole | {"content": [], "stop_reason": None}
    if "usage" in whole:
        opening["usage"] = usage(behaviour, prompt, 1)
    stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None, "stop_details": None}

    def event(kind: str, **members: Any) -> bytes:
        return sse(kind, {"type": kind} | members, line_end)

    said = [Said(event("message_start", message=opening), hidden)]
    if behaviour.tools:
        block: dict[str, Any] = whole["content"][0] | {"input": {}}
        parts = max(1, min(visible, len(ARGUMENTS)))
        edges = [len(ARGUMENTS) * at // parts for at in range(parts + 1)]
        deltas = [
            {"type": "input_json_delta", "partial_json": ARGUMENTS[start:end]}
            for start, end in pairwise(edges)
        ]
        counts = [visible * (at + 1) // parts for at in range(parts)]
    else:
        block = {"type": "text", "text": ""}
        filler = "." * behaviour.pad
        deltas = [{"type": "text_delta", "text": words.token(at) + filler} for at in range(visible)]
        counts = list(range(1, visible + 1))
    said.append(Said(event("content_block_start", index=0, content_block=block), hidden))
    said.append(Said(event("ping"), hidden))
    ready: dict[str, bytes] = {}  # as many as there are words, however long the stream
    for at, (delta, count) in enumerate(zip(deltas, counts, strict=True)):
        key = delta.get("text") or f"{at}"
        payload = ready.get(key)
        if payload is None:
            payload = ready[key] = event("content_block_delta", index=0, delta=delta)
        said.append(Said(payload, hidden + count, at))
    last = said[-1].beat
    out = hidden + visible
    said.append(Said(event("content_block_stop", index=0), out, last))
    closing: dict[str, Any] = {"delta": stop}
    if "usage" in whole:
        closing["usage"] = whole["usage"]
    said.append(Said(event("message_delta", **closing), out, last))
    if behaviour.done == "on":
        said.append(Said(event("message_stop"), out, last))
    return said


def sse(kind: str, document: Any, line_end: str) -> bytes:
    """Write one event."""
    text = msgspec.json.encode(document).decode()
    return f"event: {kind}{line_end}data: {text}{line_end}{line_end}".encode()


def error(status: int, words_said: str, ids: str) -> dict[str, Any]:
    """Write Anthropic's error envelope."""
    usual = "api_error" if status >= 500 else "invalid_request_error"
    return {
        "type": "error",
        "error": {"type": _TYPES.get(status, usual), "message": words_said},
        "request_id": f"req_{ids}",
    }
