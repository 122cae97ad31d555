"""Whether an answer has the form that was asked of it, in each protocol in which it can be asked."""

import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from proxy.passage import PASSING
from proxy.relay import Attempt
from proxy.validity import MOST_BYTES, looks_malformed
from proxy.wire.endpoints import ENDPOINTS
from routing.lessons import ALL, read_lessons
from tests.proxy.edge_rig import Rig
from tests.proxy.partners import at, chat, request

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SAID = [{"role": "user", "content": "hi"}]


def attempt_of(word: str, asked: dict[str, Any]) -> Attempt:
    """Return as much of an attempt as is looked at, of a call that passes."""
    endpoint = next(row for row in ENDPOINTS if row.word == word)
    body = json.dumps(asked).encode()
    exchange = SimpleNamespace(
        endpoint=endpoint, seen=endpoint.look(body), body=body, conversation=None
    )
    way = SimpleNamespace(endpoint=endpoint)
    return cast("Attempt", SimpleNamespace(exchange=exchange, way=way, passage=PASSING))


def in_chat(text: str | None, arguments: str = "", name: str = "f", stop: str = "stop") -> Any:
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
    message = {"role": "assistant", "content": text} | ({"tool_calls": [call]} if arguments else {})
    return {"choices": [{"index": 0, "message": message, "finish_reason": stop}]}


def in_messages(text: str | None, arguments: str = "", name: str = "f", stop: str = "") -> Any:
    blocks: list[Any] = [] if text is None else [{"type": "text", "text": text}]
    if arguments:
        blocks.append({"type": "tool_use", "id": "t", "name": name, "input": json.loads(arguments)})
    why = "max_tokens" if stop == "length" else "tool_use" if arguments else "end_turn"
    return {"type": "message", "role": "assistant", "content": blocks, "stop_reason": why}


def in_responses(text: str | None, arguments: str = "", name: str = "f", stop: str = "") -> Any:
    items: list[Any] = []
    if text is not None:
        content = [{"type": "output_text", "text": text, "annotations": []}]
        items.append({"type": "message", "id": "m", "role": "assistant", "content": content})
    if arguments:
        items.append(
            {
                "type": "function_call",
                "id": "i",
                "call_id": "c",
                "name": name,
                "arguments": arguments,
            }
        )
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    return {"object": "response", "id": "r", "status": "completed", "output": items} | (
        cut if stop == "length" else {}
    )


def in_gemini(text: str | None, arguments: str = "", name: str = "f", stop: str = "") -> Any:
    parts: list[Any] = [] if text is None else [{"text": text}]
    if arguments:
        parts.append({"functionCall": {"name": name, "args": json.loads(arguments)}})
    why = "MAX_TOKENS" if stop == "length" else "STOP"
    return {"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": why}]}


PROTOCOLS = {
    "openai.chat": (
        in_chat,
        {"model": "m", "messages": SAID},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": SCHEMA},
            }
        },
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]},
    ),
    "anthropic.messages": (
        in_messages,
        {"model": "m", "messages": SAID, "max_tokens": 99},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {"tools": [{"name": "f", "input_schema": SCHEMA}]},
    ),
    "openai.responses": (
        in_responses,
        {"model": "m", "input": "hi"},
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}},
        {"tools": [{"type": "function", "name": "f", "parameters": SCHEMA}]},
    ),
    "gemini.generate": (
        in_gemini,
        {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
        {
            "generationConfig": {
                "responseMimeType": "application/json",
                "responseJsonSchema": SCHEMA,
            }
        },
        {
            "tools": [
                {
                    "functionDeclarations": [
                        {
                            "name": "f",
                            "parameters": {
                                "type": "OBJECT",
                                "properties": {"city": {"type": "STRING"}},
                                "required": ["city"],
                            },
                        }
                    ]
                }
            ]
        },
    ),
}


@pytest.mark.parametrize("word", PROTOCOLS)
def test_a_form_that_was_asked_for_is_missed(word: str) -> None:
    """Text that is no JSON or not by the schema, a tool that was not offered, arguments that are not its own; what was cut has no form."""
    write, plain, formed, tooled = PROTOCOLS[word]

    def missed(asked: dict[str, Any], *said: Any, **more: Any) -> bool:
        return looks_malformed(
            attempt_of(word, plain | asked), json.dumps(write(*said, **more)).encode()
        )

    assert not missed(formed, '{"city": "Rome"}')
    assert missed(formed, '{"city": 7}')
    assert missed(formed, "Rome, of course")
    assert not missed({}, "Rome, of course")
    assert not missed(formed, '{"city": "Ro', stop="length")
    assert not missed(tooled, None, '{"city": "Rome"}')
    assert not missed(tooled, "I shall look.", '{"city": "Rome"}')
    assert missed(tooled, None, '{"town": "Rome"}')
    assert missed(tooled, None, '{"city": "Rome"}', name="g")
    assert not missed(tooled, "Rome, of course")


def test_arguments_that_are_no_json_are_seen_where_a_protocol_has_them_as_text() -> None:
    """Without any there is nothing wrong with them, but what the schema demands."""
    write, plain, _, tooled = PROTOCOLS["openai.chat"]
    attempt = attempt_of("openai.chat", plain | tooled)
    assert looks_malformed(attempt, json.dumps(write(None, '{"city": ')).encode())
    loose = attempt_of(
        "openai.chat", plain | {"tools": [{"type": "function", "function": {"name": "f"}}]}
    )
    assert not looks_malformed(loose, json.dumps(write(None, "{}")).encode())


@pytest.mark.parametrize(
    "body", [b"", b"sound", b'{"choices": 7}', b'{"error": {"message": "no"}}', b"{" * 10]
)
def test_what_cannot_be_read_says_nothing(body: bytes) -> None:
    """Another protocol's, a vendor's own way, or an error; nor does a request that nobody here can read."""
    _, plain, formed, _ = PROTOCOLS["openai.chat"]
    assert not looks_malformed(attempt_of("openai.chat", plain | formed), body)
    odd = attempt_of("openai.chat", plain | {"response_format": {"type": "poem"}})
    assert not looks_malformed(odd, json.dumps(in_chat("no")).encode())


def test_long_ones_are_not_looked_at() -> None:
    """It is done on the loop that serves."""
    _, plain, formed, _ = PROTOCOLS["openai.chat"]
    body = json.dumps(in_chat("no" * MOST_BYTES)).encode()
    assert not looks_malformed(attempt_of("openai.chat", plain | formed), body)


async def test_a_form_that_is_missed_counts_against_the_model(
    edge: Callable[..., Awaitable[Rig]],
) -> None:
    """Where answers pass and where they are translated; the mock vendors speak of the weather, whatever is asked."""
    rig = await edge(
        models={
            "passed": {"tags": ["chat"], "deployments": [at("mock")]},
            "translated": {"tags": ["chat"], "deployments": [at("messages")]},
        },
        routes={"smart": {"models": ["passed", "translated"], "policy": "cost_quality"}},
    )
    caller = await rig.caller()
    _, _, formed, _ = PROTOCOLS["openai.chat"]
    for model in ("passed", "translated"):
        for more in ({}, formed):
            # Of users of their own: nobody asks for the same once more, which would count as well.
            await caller.send(request(chat("smart", user=model, **more), f"x-pin: {model}"))
            assert (await caller.answer()).status == 200
    await rig.edge.learner.send(rig.redis)
    lessons = await read_lessons(rig.redis)
    for model in ("passed", "translated"):
        found = lessons[model, ALL]
        assert (found.calls, found.defects) == pytest.approx((2, 1), rel=1e-3)
