"""
What the mock vendor says in OpenAI's Responses: whole, and as the events that build one.

Pure functions from what was asked to payloads; `plan` frames and paces them as it does chat completions.
Protocol: OpenAI's API reference for responses; every key of a response is there, null where it says nothing.
"""

from itertools import pairwise
from typing import Any

import msgspec

from loadtests.mock import words
from loadtests.mock.behaviour import Behaviour
from loadtests.mock.exchange import Said
from loadtests.mock.messages import ARGUMENTS

RESPONSES = "/v1/responses"


def usage(behaviour: Behaviour, prompt: int, output: int) -> dict[str, Any]:
    """Write the usage; the cache is a part of the input."""
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": min(behaviour.cached, prompt),
            "cache_write_tokens": min(behaviour.cache_write, prompt),
        },
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": min(behaviour.reasoning, output)},
        "total_tokens": prompt + output,
    }


def response(
    behaviour: Behaviour, ids: str, created: int, prompt: int, visible: int, *, capped: bool
) -> dict[str, Any]:
    """Write a whole response of `visible` tokens; `ids` is what its ids end in."""
    output = visible + behaviour.reasoning
    return {
        "id": f"resp_{ids}",
        "object": "response",
        "created_at": created,
        "status": "incomplete" if capped else "completed",
        "completed_at": created,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if capped else None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": behaviour.name,
        "output": [_item(behaviour, ids, visible)],
        "parallel_tool_calls": True,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "safety_identifier": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None if behaviour.usage == "off" else usage(behaviour, prompt, output),
        "user": None,
        "metadata": {},
    }


def events(
    behaviour: Behaviour, ids: str, created: int, prompt: int, visible: int, *, capped: bool
) -> list[Said]:
    """Write the same response as a stream; `done=off` leaves its last event out."""
    line_end = "\r\n" if behaviour.crlf else "\n"
    whole = response(behaviour, ids, created, prompt, visible, capped=capped)
    item = whole["output"][0]
    begun = whole | {"status": "in_progress", "completed_at": None, "output": [], "usage": None}
    begun["incomplete_details"] = None
    hidden = behaviour.reasoning
    out = hidden + visible
    said: list[Said] = []

    def add(kind: str, tokens: int, beat: int = 0, **members: Any) -> None:
        document = {"type": kind, "sequence_number": len(said)} | members
        text = msgspec.json.encode(document).decode()
        payload = f"event: {kind}{line_end}data: {text}{line_end}{line_end}".encode()
        said.append(Said(payload, tokens, beat))

    at: dict[str, Any] = {"item_id": item["id"], "output_index": 0}
    add("response.created", hidden, response=begun)
    add("response.in_progress", hidden, response=begun)
    if behaviour.tools:
        empty = item | {"arguments": "", "status": "in_progress"}
        add("response.output_item.added", hidden, output_index=0, item=empty)
        parts = max(1, min(visible, len(ARGUMENTS)))
        edges = [len(ARGUMENTS) * number // parts for number in range(parts + 1)]
        for number, (start, end) in enumerate(pairwise(edges)):
            count = hidden + visible * (number + 1) // parts
            piece = ARGUMENTS[start:end]
            add("response.function_call_arguments.delta", count, number, **at, delta=piece)
        beat = said[-1].beat
        add("response.function_call_arguments.done", out, beat, **at, arguments=ARGUMENTS)
    else:
        empty = item | {"content": [], "status": "in_progress"}
        add("response.output_item.added", hidden, output_index=0, item=empty)
        at["content_index"] = 0
        part = item["content"][0]
        add("response.content_part.added", hidden, **at, part=part | {"text": ""})
        filler = "." * behaviour.pad
        for number in range(visible):
            add(
                "response.output_text.delta",
                hidden + number + 1,
                number,
                **at,
                delta=words.token(number) + filler,
                logprobs=[],
            )
        beat = said[-1].beat
        add("response.output_text.done", out, beat, **at, text=part["text"], logprobs=[])
        add("response.content_part.done", out, beat, **at, part=part)
    add("response.output_item.done", out, beat, output_index=0, item=item)
    if behaviour.done == "on":
        add(f"response.{whole['status']}", out, beat, response=whole)
    return said


def _item(behaviour: Behaviour, ids: str, visible: int) -> dict[str, Any]:
    if behaviour.tools:
        return {
            "id": f"fc_{ids}",
            "type": "function_call",
            "status": "completed",
            "call_id": f"call_{ids}",
            "name": "get_weather",
            "arguments": ARGUMENTS,
        }
    text = words.say(visible)
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "id": f"msg_{ids}",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }
