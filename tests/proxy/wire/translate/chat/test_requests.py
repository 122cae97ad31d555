"""The laws of reading and writing requests of Chat Completions, in each vendor's dialect."""

from typing import Any

import msgspec
import pytest

from config.dialects import DIALECTS
from proxy.wire.look import BadField
from proxy.wire.translate.chat.requests import is_reasoning_model, read_request, write_request
from proxy.wire.translate.core import (
    CannotExpress,
    Conversation,
    Media,
    OutputFormat,
    Reasoning,
    Refusal,
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
from tests.proxy.wire.translate.samples import PIXEL, WEATHER

HI = Turn("user", (Text("hi"),))
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def asked(**members: Any) -> Conversation:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]} | members
    return read_request(msgspec.json.encode(body))


def written(conversation: Conversation, dialect: str = "compatible", **facts: Any) -> Written:
    target = Target(model="served", dialect=DIALECTS[dialect])
    return write_request(conversation, msgspec.structs.replace(target, **facts))


def body(conversation: Conversation, dialect: str = "compatible", **facts: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(written(conversation, dialect, **facts).body)
    return decoded


def talk(*turns: Turn, **members: Any) -> Conversation:
    return Conversation(model="m", turns=turns or (HI,), family="none", **members)


# Reading...


def test_messages_become_turns() -> None:
    """Instructions first, results in the user's turns, later instructions where they stand."""
    read = asked(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": "hi", "name": "ann"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": "done"},
            {"role": "system", "content": "Now in French."},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "assistant", "content": "a", "refusal": "b"},
        ]
    )
    assert read.system == (Text("Be brief."), Text("Be kind."))
    assert read.turns == (
        Turn("user", (Text("hi"),), "ann"),
        Turn("assistant", (ToolCall("c", "f", "{}"),)),
        Turn("user", (ToolResult("c", (Text("done"),)),)),
        Turn("system", (Text("Now in French."),)),
        Turn("assistant", (Refusal("no"),)),
        Turn("assistant", (Text("a"), Refusal("b"))),
    )


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"type": "image_url", "image_url": {"url": f"data:image/PNG;base64,{PIXEL}"}},
            Media("image", "image/png", data=PIXEL),
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
            Media("image", url="https://x/y.png", detail="low"),
        ),
        (
            {"type": "image_url", "image_url": "https://x/y.png"},
            Media("image", url="https://x/y.png"),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            Media("audio", "audio/mpeg", data="AAAA"),
        ),
        (
            {
                "type": "file",
                "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
            },
            Media("document", "application/pdf", data="AA==", name="a.pdf"),
        ),
        (
            {"type": "file", "file": {"filename": "a.csv", "file_data": "AA=="}},
            Media("document", "text/csv", data="AA==", name="a.csv"),
        ),
        ({"type": "file", "file": {"file_id": "file-1"}}, Media("document", file_id="file-1")),
        (
            {"type": "video_url", "video_url": {"url": "https://x/y.mp4"}},
            Media("video", url="https://x/y.mp4"),
        ),
        (
            {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
            Text("a", "1h"),
        ),
        (
            {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
            Text("a", ""),
        ),
    ],
)
def test_parts_of_a_message_are_read(part: dict[str, Any], expected: Text | Media) -> None:
    """Images, sounds, documents and films, by their data or where they are."""
    [turn] = asked(messages=[{"role": "user", "content": [part]}]).turns
    assert turn.parts == (expected,)


@pytest.mark.parametrize(
    ("members", "field", "expected"),
    [
        ({"max_tokens": 5}, "max_tokens", 5),
        ({"max_completion_tokens": 7, "max_tokens": 5}, "max_tokens", 7),
        ({"stop": "a"}, "stop", ("a",)),
        ({"stop": ["a", "b"]}, "stop", ("a", "b")),
        ({"stop": None}, "stop", ()),
        ({"tool_choice": "required"}, "tool_choice", ToolChoice("required")),
        ({"tool_choice": "any"}, "tool_choice", ToolChoice("required")),
        (
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            "tool_choice",
            ToolChoice("required", ("f",)),
        ),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "auto",
                        "tools": [
                            {"type": "function", "function": {"name": "f"}},
                            {"type": "function", "name": "g"},
                        ],
                    },
                }
            },
            "tool_choice",
            ToolChoice("auto", ("f", "g")),
        ),
        ({"response_format": {"type": "text"}}, "output", None),
        ({"response_format": {"type": "json_object"}}, "output", OutputFormat("json")),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a", "schema": {"type": "object"}, "strict": True},
                }
            },
            "output",
            OutputFormat("json_schema", {"type": "object"}, "a", strict=True),
        ),
        ({"reasoning_effort": "high"}, "thinking", Thinking("high")),
        ({"reasoning_effort": "none"}, "thinking", Thinking(off=True)),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, "thinking", Thinking(budget=9)),
        ({"thinking": {"type": "disabled"}}, "thinking", Thinking(off=True)),
        ({"enable_thinking": True, "thinking_budget": 9}, "thinking", Thinking(budget=9)),
        ({"enable_thinking": False}, "thinking", Thinking(off=True)),
        (
            {"reasoning": {"effort": "low", "exclude": True}},
            "thinking",
            Thinking("low", shown=False),
        ),
        ({"stream": True, "stream_options": {"include_usage": True}}, "include_usage", True),
        ({"tools": [TOOL]}, "tools", (Tool("f", None, {"type": "object"}),)),
        (
            {"tools": [{"type": "custom", "custom": {"name": "free"}}]},
            "tools",
            (Tool("free", custom=True),),
        ),
        ({"prediction": {"type": "content"}}, "extra", {"prediction": {"type": "content"}}),
        (
            {"tools": [{**TOOL, "odd": 1}]},
            "extra",
            {"tools[0].odd": 1},
        ),
    ],
)
def test_options_are_read(members: dict[str, Any], field: str, expected: Any) -> None:
    """OpenAI's words and those of its family, and what nobody knows is kept."""
    assert getattr(asked(**members), field) == expected


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"text": "x"}]}]},
            "messages[0].content[0].type",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"model": 7}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"n": 0}, "n"),
    ],
)
def test_a_mistake_is_named(members: dict[str, Any], param: str) -> None:
    """With the path of the field."""
    with pytest.raises(BadField) as bad:
        asked(**members)
    assert bad.value.param == param


@pytest.mark.parametrize(
    ("members", "param"),
    [
        (
            {"messages": [{"role": "user", "content": [{"type": "hologram"}]}]},
            "messages[0].content[0].type",
        ),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "assistant", "audio": {"id": "a"}}]},
            "messages[0].audio",
        ),
        (
            {"messages": [{"role": "assistant", "function_call": {"name": "f", "arguments": ""}}]},
            "messages[0].function_call",
        ),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice.type"),
    ],
)
def test_what_no_other_protocol_has_is_refused(members: dict[str, Any], param: str) -> None:
    """A part of a message is never left out."""
    with pytest.raises(CannotExpress) as cannot:
        asked(**members)
    assert cannot.value.param == param


# Writing...


def test_a_cap_goes_under_the_vendors_name() -> None:
    """What admission reserved goes before what the caller asked."""
    assert body(talk(max_tokens=9), "openai")["max_completion_tokens"] == 9
    assert body(talk(max_tokens=9), "deepseek")["max_tokens"] == 9
    assert body(talk(max_tokens=9), output_cap=5)["max_tokens"] == 5


def test_usage_is_asked_for_in_streams_where_it_can_be() -> None:
    """Tokens are money."""
    assert body(talk(stream=True))["stream_options"] == {"include_usage": True}
    assert "stream_options" not in body(talk(stream=True), "mistral")
    assert "stream" not in body(talk())


@pytest.mark.parametrize(
    ("dialect", "thinking", "expected"),
    [
        ("compatible", Thinking(budget=2000), {"reasoning_effort": "low"}),
        (
            "deepseek",
            Thinking("medium"),
            {"thinking": {"type": "enabled"}, "reasoning_effort": "high"},
        ),
        ("deepseek", Thinking(off=True), {"thinking": {"type": "disabled"}}),
        ("qwen", Thinking("high"), {"enable_thinking": True, "thinking_budget": 16384}),
        ("qwen", Thinking(off=True), {"enable_thinking": False}),
        ("glm", Thinking("high"), {"thinking": {"type": "enabled"}}),
        ("kimi", Thinking("xhigh"), {"reasoning_effort": "max"}),
        ("openrouter", Thinking(budget=9), {"reasoning": {"max_tokens": 9}}),
        (
            "openrouter",
            Thinking("low", shown=False),
            {"reasoning": {"effort": "low", "exclude": True}},
        ),
        ("openrouter", Thinking(off=True), {"reasoning": {"enabled": False}}),
        ("vllm", Thinking(off=True), {"chat_template_kwargs": {"enable_thinking": False}}),
    ],
)
def test_thinking_is_asked_for_in_the_vendors_words(
    dialect: str, thinking: Thinking, expected: dict[str, Any]
) -> None:
    """A dialect is a row of facts."""
    found = body(talk(thinking=thinking), dialect)
    keys = {"reasoning_effort", "thinking", "enable_thinking", "thinking_budget", "reasoning"}
    keys.add("chat_template_kwargs")
    assert {key: value for key, value in found.items() if key in keys} == expected


def test_models_that_reason_draw_their_own_way() -> None:
    """What OpenAI would refuse is left out and named; and the other models do not think."""
    hot = talk(sampling=Sampling(temperature=0.2, top_p=0.5, seed=1), thinking=Thinking("low"))
    found = written(hot, "openai", model="gpt-5-mini")
    assert found.dropped == ("temperature", "top_p")
    assert msgspec.json.decode(found.body)["seed"] == 1
    plain = written(hot, "openai", model="gpt-4.1")
    assert plain.dropped == ("thinking",)
    assert msgspec.json.decode(plain.body)["temperature"] == 0.2


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-5", True),
        ("gpt-5.6-pro", True),
        ("openai/o4-mini", True),
        ("gpt-5-chat-latest", False),
        ("gpt-4.1", False),
        ("olmo-2", False),
    ],
)
def test_a_model_that_reasons_is_known_by_its_name(model: str, expected: bool) -> None:
    """OpenAI's own only."""
    assert is_reasoning_model(model) is expected


def test_reasoning_goes_back_where_its_vendor_wants_it() -> None:
    """DeepSeek answers 400 without it; OpenAI has no field for it, and it is named as dropped."""
    thought = talk(
        HI,
        Turn("assistant", (Reasoning("hm"), ToolCall("c", "f", "{}"))),
        Turn("user", (ToolResult("c", (Text("x"),)),)),
    )
    assert body(thought, "deepseek")["messages"][1]["reasoning_content"] == "hm"
    assert written(thought, "deepseek").dropped == ()
    assert body(thought, "openrouter")["messages"][1]["reasoning"] == "hm"
    assert "reasoning_content" not in body(thought, "openai")["messages"][1]
    assert written(thought, "openai").dropped == ("reasoning",)
    proof = talk(HI, Turn("assistant", (Reasoning("hm", "s", maker="anthropic"), Text("a"))), HI)
    details = body(proof, "openrouter")["messages"][1]["reasoning_details"]
    assert details[0]["signature"] == "s"
    assert written(proof, "deepseek").dropped == ("reasoning",)


def test_results_come_before_what_the_user_says() -> None:
    """One message per result; media in a result can only follow in the user's."""
    image = Media("image", "image/png", data=PIXEL)
    said = body(
        talk(
            HI,
            Turn("assistant", (ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}"))),
            Turn(
                "user",
                (
                    ToolResult("a", (Text("bad"),), failed=True),
                    ToolResult("b", (image,)),
                    Text("so?"),
                ),
            ),
        )
    )["messages"][2:]
    assert [message["role"] for message in said] == ["tool", "tool", "user"]
    assert said[0]["content"] == "Error:\nbad"
    assert [part["type"] for part in said[2]["content"]] == ["text", "image_url", "text"]
    assert "b" in said[2]["content"][0]["text"]


def test_tools_that_may_not_be_called_are_not_offered() -> None:
    """Where the vendor cannot be told which one: it means the same."""
    tools = (WEATHER, Tool("other"))
    named = talk(tools=tools, tool_choice=ToolChoice("required", ("weather",)))
    assert body(named)["tool_choice"]["function"]["name"] == "weather"
    assert len(body(named)["tools"]) == 2
    glm = written(named, "glm")
    assert len(msgspec.json.decode(glm.body)["tools"]) == 1
    assert glm.dropped == ("tool_choice",)
    some = body(talk(tools=(*tools, Tool("x")), tool_choice=ToolChoice("auto", ("weather", "x"))))
    assert [tool["function"]["name"] for tool in some["tools"]] == ["weather", "x"]
    assert (
        body(talk(tools=tools, tool_choice=ToolChoice("required")), "mistral")["tool_choice"]
        == "any"
    )


def test_names_and_ids_are_made_fit_and_given_back() -> None:
    """64 letters of a name and 40 of an id are all that OpenAI takes."""
    name, given = "server.with.dots" + "x" * 60, "toolu_" + "y" * 60
    found = written(
        talk(
            HI,
            Turn("assistant", (ToolCall(given, name, "{}"),)),
            Turn("user", (ToolResult(given, (Text("x"),)),)),
            tools=(Tool(name),),
        )
    )
    sent = msgspec.json.decode(found.body)
    short = sent["tools"][0]["function"]["name"]
    call = sent["messages"][1]["tool_calls"][0]
    assert len(short) == 64
    assert call["function"]["name"] == short
    assert len(call["id"]) <= 40
    assert sent["messages"][2]["tool_call_id"] == call["id"]
    assert found.renamed == {short: name}


def test_cache_marks_pass_where_they_are_understood() -> None:
    """Elsewhere they are named as dropped: the answer is the same, and dearer."""
    marked = talk(Turn("user", (Text("long", "1h"),)))
    assert written(marked).dropped == ("cache_control",)
    [part] = body(marked, "openrouter")["messages"][0]["content"]
    assert part["cache_control"] == {"type": "ephemeral", "ttl": "1h"}


@pytest.mark.parametrize(
    ("conversation", "dialect", "param"),
    [
        (talk(stop=tuple("abcde")), "compatible", "stop"),
        (talk(stop=("a",)), "minimax", "stop"),
        (talk(n=2), "glm", "n"),
        (talk(output=OutputFormat("json_schema", {})), "deepseek", "output"),
        (talk(sampling=Sampling(logprobs=True)), "groq", "logprobs"),
        (talk(Turn("user", (Media("document", file_id="f"),))), "compatible", "turns"),
        (talk(Turn("user", (Media("document", url="https://x"),))), "compatible", "turns"),
        (talk(Turn("user", (Media("audio", "audio/flac", data="AA"),))), "compatible", "turns"),
        (talk(HI, Turn("assistant", (Media("image", url="x"),))), "compatible", "turns"),
    ],
)
def test_what_a_vendor_cannot_be_told_is_refused(
    conversation: Conversation, dialect: str, param: str
) -> None:
    """It would be another answer without."""
    with pytest.raises(CannotExpress) as cannot:
        written(conversation, dialect)
    assert cannot.value.param == param


def test_unknown_members_pass_within_the_family() -> None:
    """A new member of OpenAI's is there before the gateway knows it; deep inside it is named."""
    read = asked(
        brand_new={"x": 1},
        metadata={"a": "b"},
        messages=[{"role": "user", "content": "hi", "odd": 1}],
    )
    found = written(read)
    sent = msgspec.json.decode(found.body)
    assert sent["brand_new"] == {"x": 1}
    assert sent["metadata"] == {"a": "b"}
    assert found.dropped == ("messages[0].odd",)


def test_minimax_is_asked_to_keep_reasoning_apart() -> None:
    """Else it stands in the text between tags."""
    assert body(talk(), "minimax")["reasoning_split"] is True


def test_instructions_go_under_the_role_the_model_knows() -> None:
    """OpenAI's reasoning models call it developer."""
    told = talk(system=(Text("Be brief."),))
    assert body(told, "openai", model="o3")["messages"][0]["role"] == "developer"
    assert body(told, "openai", model="gpt-4.1")["messages"][0]["role"] == "system"
    assert body(told)["messages"][0] == {"role": "system", "content": "Be brief."}
