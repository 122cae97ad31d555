"""The laws of writing requests of Converse."""

from typing import Any

import msgspec
import pytest

from proxy.wire.translate.converse.requests import write_request
from proxy.wire.translate.core import (
    CannotExpress,
    Conversation,
    Media,
    OutputFormat,
    Reasoning,
    Sampling,
    Target,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    Written,
)
from tests.proxy.wire.translate.samples import FULL, PIXEL, WEATHER

HI = Turn("user", (Text("hi"),))
CLAUDE, NOVA = "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "amazon.nova-pro-v1:0"


def talk(*turns: Turn, **members: Any) -> Conversation:
    return Conversation(model="m", turns=turns or (HI,), family="openai.chat", **members)


def written(conversation: Conversation, model: str = CLAUDE, **facts: Any) -> Written:
    return write_request(conversation, Target(model=model, **facts))


def body(conversation: Conversation, model: str = CLAUDE, **facts: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(written(conversation, model, **facts).body)
    return decoded


def test_a_conversation_is_put_into_amazons_words() -> None:
    """Turns alternate, results stand first, and the model is not in the body."""
    sent = body(FULL, NOVA)
    assert sent == {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"text": "What is this?"},
                    {"image": {"format": "png", "source": {"bytes": PIXEL}}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"text": "Let me see."},
                    {
                        "toolUse": {
                            "toolUseId": "call_1",
                            "name": "weather",
                            "input": {"city": "Paris"},
                        }
                    },
                    {
                        "toolUse": {
                            "toolUseId": "call_2",
                            "name": "weather",
                            "input": {"city": "Köln"},
                        }
                    },
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "toolResult": {
                            "toolUseId": "call_1",
                            "content": [{"text": "mild"}],
                            "status": "success",
                        }
                    },
                    {
                        "toolResult": {
                            "toolUseId": "call_2",
                            "content": [{"text": "wet"}],
                            "status": "success",
                        }
                    },
                    {"text": "And?"},
                ],
            },
        ],
        "system": [{"text": "Be brief."}],
        "toolConfig": {
            "tools": [
                {
                    "toolSpec": {
                        "name": "weather",
                        "description": "Say the weather.",
                        "inputSchema": {"json": WEATHER.schema},
                    }
                }
            ],
            "toolChoice": {"auto": {}},
        },
        "inferenceConfig": {"maxTokens": 300, "stopSequences": ["END"]},
    }


def test_proofs_are_sent_to_whoever_made_them() -> None:
    """A Claude's to a Claude; to anyone else they are named as dropped."""
    turns = (
        HI,
        Turn(
            "assistant",
            (
                Reasoning("hm", "s", maker="anthropic"),
                Reasoning(redacted="xx", maker="anthropic"),
                Reasoning("other"),
                Text("a"),
            ),
        ),
        HI,
    )
    content = body(talk(*turns))["messages"][1]["content"]
    assert content[0] == {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}}
    assert content[1] == {"reasoningContent": {"redactedContent": "xx"}}
    assert body(talk(*turns), NOVA)["messages"][1]["content"] == [{"text": "a"}]
    assert written(talk(*turns), NOVA).dropped == ("messages[].reasoning_content",)


@pytest.mark.parametrize(
    ("model", "thinking", "more", "dropped"),
    [
        (CLAUDE, Thinking("high"), {"thinking": {"type": "enabled", "budget_tokens": 16384}}, ()),
        (
            "anthropic.claude-opus-4-8-v1:0",
            Thinking("high"),
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
            (),
        ),
        ("openai.gpt-oss-120b-1:0", Thinking("max"), {"reasoning_effort": "high"}, ()),
        (NOVA, Thinking("low"), None, ("reasoning_effort",)),
        (NOVA, Thinking(off=True), None, ()),
    ],
)
def test_thinking_is_asked_for_in_the_models_words(
    model: str, thinking: Thinking, more: Any, dropped: tuple[str, ...]
) -> None:
    """Amazon passes them on as they are."""
    found = written(talk(thinking=thinking, max_tokens=30000), model)
    assert msgspec.json.decode(found.body).get("additionalModelRequestFields") == more
    assert found.dropped == dropped


def test_options_are_written() -> None:
    """Where Amazon has a word; a Claude's top_k goes where Amazon looks for a model's own."""
    sent = body(
        talk(
            sampling=Sampling(temperature=0.5, top_k=5),
            tools=(WEATHER, Tool("x", cache="1h")),
            tool_choice=ToolChoice("required", ("x",)),
            output=OutputFormat("json_schema", {"type": "object"}, "n", "d"),
            service_tier="flex",
            system=(Text("a", ""),),
        ),
        output_cap=7,
    )
    assert sent["inferenceConfig"] == {"temperature": 0.5, "maxTokens": 7}
    assert sent["additionalModelRequestFields"] == {"top_k": 5}
    assert sent["toolConfig"]["tools"][2] == {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert sent["toolConfig"]["toolChoice"] == {"tool": {"name": "x"}}
    assert sent["system"][1] == {"cachePoint": {"type": "default"}}
    assert sent["serviceTier"] == {"type": "flex"}
    form = sent["outputConfig"]["textFormat"]
    assert form["structure"]["jsonSchema"] == {
        "schema": '{"type":"object"}',
        "name": "n",
        "description": "d",
    }


def test_options_without_a_word_are_named() -> None:
    """Also what a model that is no Claude does not take."""
    found = written(
        talk(
            sampling=Sampling(top_k=5, seed=1, temperature=0.1),
            tools=(WEATHER,),
            parallel_tool_calls=False,
            user="u",
            verbosity="low",
            service_tier="scale",
        ),
        NOVA,
    )
    assert found.dropped == (
        "parallel_tool_calls",
        "seed",
        "top_k",
        "user",
        "verbosity",
        "service_tier",
    )


def test_tools_that_may_not_be_called() -> None:
    """Amazon has no "none": they are not offered, unless the conversation needs them."""
    none = ToolChoice("none")
    assert "toolConfig" not in body(talk(tools=(WEATHER,), tool_choice=none))
    loop = (
        HI,
        Turn("assistant", (ToolCall("c", "f", "{}"),)),
        Turn("user", (ToolResult("c", ()),)),
    )
    found = written(talk(*loop, tools=(WEATHER,), tool_choice=none))
    assert found.dropped == ("tool_choice",)
    assert "toolConfig" in msgspec.json.decode(found.body)
    some = body(talk(tools=(WEATHER, Tool("x")), tool_choice=ToolChoice("auto", ("x",))))
    assert len(some["toolConfig"]["tools"]) == 1
    must = body(talk(tools=(WEATHER, Tool("x")), tool_choice=ToolChoice("required")))
    assert must["toolConfig"]["toolChoice"] == {"any": {}}


def test_documents_have_names_that_amazon_takes() -> None:
    """Letters, digits, blanks, hyphens and brackets."""
    parts = (
        Media("document", "application/pdf", data="AA==", name="a/b_c.pdf", context="c"),
        Media("document", text="t"),
    )
    content = body(talk(Turn("user", parts)))["messages"][0]["content"]
    assert content[0]["document"] == {
        "name": "a b c pdf",
        "format": "pdf",
        "source": {"bytes": "AA=="},
        "context": "c",
    }
    assert content[1]["document"] == {
        "name": "document 1",
        "format": "txt",
        "source": {"text": "t"},
    }


@pytest.mark.parametrize(
    ("conversation", "param"),
    [
        (talk(n=2), "n"),
        (talk(sampling=Sampling(logprobs=True)), "logprobs"),
        (talk(output=OutputFormat("json")), "response_format"),
        (talk(tools=(Tool("f", custom=True),)), "tools"),
        (talk(Turn("user", (Media("image", url="https://x"),))), "messages"),
        (talk(Turn("user", (Media("document", url="https://x"),))), "messages"),
    ],
)
def test_what_amazon_cannot_be_told_is_refused(conversation: Conversation, param: str) -> None:
    """By the name that the caller gave it."""
    with pytest.raises(CannotExpress) as cannot:
        written(conversation)
    assert cannot.value.param == param


def test_an_answer_is_not_continued_by_newer_claudes() -> None:
    """They refuse it wherever they run."""
    begun = talk(HI, Turn("assistant", (Text("So:"),)))
    with pytest.raises(CannotExpress):
        written(begun, "anthropic.claude-opus-4-8-v1:0")
    assert body(begun)["messages"][1]["content"] == [{"text": "So:"}]
