"""
What the mock vendor says in OpenAI's Chat Completions, in the completions before them, and of embeddings.

Pure functions from what was asked to payloads, as in `messages`; `plan` frames and paces them.
"""

import base64
import math
import struct
from typing import Any

import msgspec

from loadtests.mock import messages, words
from loadtests.mock.behaviour import Behaviour
from loadtests.mock.exchange import ID, Asked, Said

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"

ERROR_WORDS: dict[int, tuple[str, str | None, str]] = {
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("permission_error", None, "You are not allowed to do this."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    500: ("server_error", None, "The server had an error while processing your request."),
    503: ("server_error", None, "The engine is currently overloaded, please try again later."),
    529: ("overloaded_error", None, "The service is overloaded."),
}
_ARGUMENTS = messages.ARGUMENTS
_CALL_ID = f"call_{ID}"


def _usage(behaviour: Behaviour, prompt: int, visible: int) -> dict[str, Any]:
    completion = visible + behaviour.reasoning
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": min(behaviour.cached, prompt),
            "cache_write_tokens": min(behaviour.cache_write, prompt),
            "audio_tokens": min(behaviour.audio_in, prompt),
        },
        "completion_tokens_details": {
            "reasoning_tokens": behaviour.reasoning,
            "audio_tokens": behaviour.audio_out,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def answer(
    asked: Asked, behaviour: Behaviour, prompt: int, created: int, visible: int, *, capped: bool
) -> dict[str, Any]:
    """Write a whole answer; `created` is unix seconds, `capped` that the caller's cap ended it."""
    finish = "length" if capped else "stop"
    document: dict[str, Any] = {
        "id": f"chatcmpl-{ID}" if asked.path == CHAT else f"cmpl-{ID}",
        "object": "chat.completion" if asked.path == CHAT else "text_completion",
        "created": created,
        "model": behaviour.name,
    }
    if asked.path == COMPLETIONS:
        choice: dict[str, Any] = {
            "text": words.say(visible),
            "index": 0,
            "logprobs": None,
            "finish_reason": finish,
        }
    else:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": words.say(visible),
            "refusal": None,
            "annotations": [],
        }
        if behaviour.tools:
            call = {"name": "get_weather", "arguments": _ARGUMENTS}
            message["content"] = None
            message["tool_calls"] = [{"id": _CALL_ID, "type": "function", "function": call}]
            finish = "tool_calls"
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    document["choices"] = [choice]
    document["service_tier"] = "default"
    document["system_fingerprint"] = "fp_5e1f00d5"
    if behaviour.usage != "off":
        document["usage"] = _usage(behaviour, prompt, visible)
    return document


def events(
    asked: Asked, behaviour: Behaviour, prompt: int, created: int, visible: int, *, capped: bool
) -> list[Said]:
    """Write the same as a stream."""
    finish = "length" if capped else "stop"
    line_end = "\r\n" if behaviour.crlf else "\n"
    chat = asked.path == CHAT
    with_usage = behaviour.usage == "always" or (behaviour.usage == "on" and asked.include_usage)
    frame: dict[str, Any] = {
        "id": f"chatcmpl-{ID}" if chat else f"cmpl-{ID}",
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": created,
        "model": behaviour.name,
        "service_tier": "default",
        "system_fingerprint": "fp_5e1f00d5",
    }

    def event(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        document = frame | {"choices": choices}
        if usage is not None or asked.include_usage:
            document["usage"] = usage
        return sse(msgspec.json.encode(document), line_end)

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        if chat:
            return event([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}])
        text = delta.get("content", "")
        return event([{"text": text, "index": 0, "logprobs": None, "finish_reason": finish}])

    hidden = behaviour.reasoning
    said: list[Said] = []
    if behaviour.tools and chat:
        finish = "tool_calls"
        function = {"name": "get_weather", "arguments": ""}
        call = {"index": 0, "id": _CALL_ID, "type": "function", "function": function}
        opening = {"role": "assistant", "content": None, "tool_calls": [call]}
        said.append(Said(chunk(opening), hidden))
        parts = max(1, min(visible, len(_ARGUMENTS)))
        edges = [len(_ARGUMENTS) * at // parts for at in range(parts + 1)]
        for at in range(parts):
            piece = {"arguments": _ARGUMENTS[edges[at] : edges[at + 1]]}
            delta = {"tool_calls": [{"index": 0, "function": piece}]}
            said.append(Said(chunk(delta), hidden + visible * (at + 1) // parts, at))
    else:
        if chat:
            opening = {"role": "assistant", "content": "", "refusal": None}
            said.append(Said(chunk(opening), hidden))
        filler = "." * behaviour.pad
        ready: dict[str, bytes] = {}  # as many as there are words, however long the stream
        for at in range(visible):
            word = words.token(at)
            payload = ready.get(word)
            if payload is None:
                payload = ready[word] = chunk({"content": word + filler})
            said.append(Said(payload, hidden + at + 1, at))
    last = said[-1].beat if said else 0
    said.append(Said(chunk({}, finish), hidden + visible, last))
    if with_usage:
        usage = event([], _usage(behaviour, prompt, visible))
        said.append(Said(usage, hidden + visible, last))
    if behaviour.done == "on":
        said.append(Said(sse(b"[DONE]", line_end), hidden + visible, last))
    return said


def sse(payload: bytes, line_end: str) -> bytes:
    """Write an event."""
    return b"data: " + payload + line_end.encode() * 2


def embeddings(asked: Asked, behaviour: Behaviour, prompt: int) -> dict[str, Any]:
    """Write one vector for each input, as numbers or in base64."""
    size = asked.dimensions or behaviour.dim
    data = []
    for at in range(asked.inputs):
        # A point on the unit sphere, another one for each input; no meaning is in it.
        raw = [math.sin((at + 1) * (place + 1)) for place in range(size)]
        norm = math.sqrt(sum(number * number for number in raw)) or 1.0
        packed = struct.pack(f"<{size}f", *(number / norm for number in raw))
        vector: Any = (
            base64.b64encode(packed).decode()
            if asked.base64
            else list(struct.unpack(f"<{size}f", packed))
        )
        data.append({"object": "embedding", "index": at, "embedding": vector})
    document: dict[str, Any] = {"object": "list", "data": data, "model": behaviour.name}
    if behaviour.usage != "off":
        document["usage"] = {"prompt_tokens": prompt, "total_tokens": prompt}
    return document
