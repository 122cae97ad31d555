"""The laws of reading and writing requests of Ollama."""

from typing import Any

import msgspec
import pytest

from proxy.wire.look import BadField
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
from proxy.wire.translate.ollama.requests import read_generate, read_request, write_request
from tests.proxy.wire.translate.samples import PIXEL, WEATHER

HI = Turn("user", (Text("hi"),))
CALL = {"function": {"name": "f", "arguments": {"x": 1}}}


def asked(*messages: Any, **members: Any) -> Conversation:
    body = {"model": "m", "messages": list(messages) or [{"role": "user", "content": "hi"}]}
    return read_request(msgspec.json.encode(body | members))


def generate(**members: Any) -> Conversation:
    return read_generate(msgspec.json.encode({"model": "m"} | members))


def talk(*turns: Turn, **members: Any) -> Conversation:
    return Conversation(model="m", turns=turns or (HI,), family="openai.chat", **members)


def written(conversation: Conversation, model: str = "qwen3", **facts: Any) -> Written:
    return write_request(conversation, Target(model=model, **facts))


def body(conversation: Conversation, model: str = "qwen3", **facts: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(written(conversation, model, **facts).body)
    return decoded


def test_messages_become_turns() -> None:
    """Calls without ids find their results by name and order."""
    read = asked(
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi", "images": [PIXEL, "/9j/4AAQ"]},
        {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [CALL, CALL]},
        {"role": "tool", "tool_name": "f", "content": "1"},
        {"role": "tool", "content": "2"},
    )
    assert read.system == (Text("Be brief."),)
    assert read.turns == (
        Turn(
            "user",
            (
                Text("hi"),
                Media("image", "image/png", data=PIXEL),
                Media("image", "image/jpeg", data="/9j/4AAQ"),
            ),
        ),
        Turn(
            "assistant",
            (
                Reasoning("hm"),
                ToolCall("call_0", "f", '{"x":1}'),
                ToolCall("call_1", "f", '{"x":1}'),
            ),
        ),
        Turn("user", (ToolResult("call_0", (Text("1"),), "f"),)),
        Turn("user", (ToolResult("call_1", (Text("2"),)),)),
    )


def test_a_stream_is_the_default() -> None:
    """Other than everywhere else."""
    assert asked().stream
    assert not asked(stream=False).stream
    assert generate(prompt="x").stream


def test_generate_is_a_conversation_of_one_turn() -> None:
    """With its instructions and images; what only a local model knows is refused."""
    read = generate(prompt="a", system="b", images=[PIXEL], think="low", format="json")
    assert read.turns == (Turn("user", (Text("a"), Media("image", "image/png", data=PIXEL))),)
    assert read.system == (Text("b"),)
    assert read.thinking == Thinking("low", shown=True)
    assert read.output == OutputFormat("json")
    for name, value in (("suffix", "x"), ("template", "x"), ("context", [1]), ("raw", True)):
        with pytest.raises(CannotExpress) as cannot:
            generate(prompt="a", **{name: value})
        assert cannot.value.param == name
    with pytest.raises(BadField):
        generate()
    assert generate(prompt="a", raw=False, suffix="").extra == {}


@pytest.mark.parametrize(
    ("members", "field", "expected"),
    [
        ({"options": {"num_predict": 9}}, "max_tokens", 9),
        ({"options": {"num_predict": -1}}, "max_tokens", None),
        ({"options": {"stop": ["a"]}}, "stop", ("a",)),
        ({"options": {"repeat_penalty": 1.1}}, "sampling", Sampling(repetition_penalty=1.1)),
        ({"format": {"type": "object"}}, "output", OutputFormat("json_schema", {"type": "object"})),
        ({"format": ""}, "output", None),
        ({"think": True}, "thinking", Thinking(shown=True)),
        ({"think": False}, "thinking", Thinking(off=True)),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", (Tool("f"),)),
        ({"keep_alive": "5m", "options": {"num_ctx": 9}}, "extra", {"options.num_ctx": 9}),
    ],
)
def test_options_are_read(members: dict[str, Any], field: str, expected: Any) -> None:
    """And what nobody knows is kept."""
    assert getattr(asked(**members), field) == expected


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{}]}]},
            "messages[0].tool_calls[0].function",
        ),
        ({"format": "xml"}, "format"),
        ({"think": "hugely"}, "think"),
        ({"options": 7}, "options"),
    ],
)
def test_a_mistake_is_named(members: dict[str, Any], param: str) -> None:
    """With the path of the field."""
    with pytest.raises(BadField) as bad:
        asked(**members)
    assert bad.value.param == param


def test_a_conversation_is_written() -> None:
    """Calls as objects, results with the names of their calls; proofs have no field."""
    image = Media("image", "image/png", data=PIXEL, detail="low")
    found = written(
        talk(
            Turn("user", (Text("hi", ""), image), "ann"),
            Turn("assistant", (Reasoning("hm", "s", maker="anthropic"), ToolCall("c", "f", ""))),
            Turn("user", (ToolResult("c", (Text("1"),), failed=True), Text("so?"))),
            system=(Text("a"),),
            tools=(WEATHER,),
            tool_choice=ToolChoice("required"),
            sampling=Sampling(temperature=0.5, repetition_penalty=1.1, logit_bias={"1": 1}),
            max_tokens=9,
            stop=("x",),
            output=OutputFormat("json"),
            thinking=Thinking("high"),
            user="u",
        )
    )
    sent = msgspec.json.decode(found.body)
    assert [message["role"] for message in sent["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "user",
    ]
    assert sent["messages"][1] == {"role": "user", "content": "hi", "images": [PIXEL]}
    assert sent["messages"][2]["thinking"] == "hm"
    assert sent["messages"][2]["tool_calls"] == [
        {"id": "c", "function": {"name": "f", "arguments": {}}}
    ]
    assert sent["messages"][3] == {
        "role": "tool",
        "content": "Error:\n1",
        "tool_call_id": "c",
        "tool_name": "f",
    }
    assert sent["options"] == {
        "temperature": 0.5,
        "repeat_penalty": 1.1,
        "num_predict": 9,
        "stop": ["x"],
    }
    assert (sent["format"], sent["think"], sent["stream"]) == ("json", True, False)
    assert found.dropped == (
        *("messages[].name", "cache_control", "messages[].content[].image_url.detail"),
        *("messages[].reasoning_content", "tool_choice", "logit_bias", "user"),
    )


def test_thinking_is_a_word_for_the_one_family_that_takes_it() -> None:
    """For everyone else it is on or off."""
    think = talk(thinking=Thinking("max"))
    assert body(think, "gpt-oss:20b")["think"] == "high"
    assert body(think)["think"] is True
    assert body(talk(thinking=Thinking(off=True)))["think"] is False


def test_tools_that_may_not_be_called_are_not_offered() -> None:
    """There is no other way to say so."""
    tools = (WEATHER, Tool("x"))
    assert "tools" not in body(talk(tools=tools, tool_choice=ToolChoice("none")))
    some = body(talk(tools=tools, tool_choice=ToolChoice("auto", ("x",))))
    assert [tool["function"]["name"] for tool in some["tools"]] == ["x"]


@pytest.mark.parametrize(
    ("conversation", "param"),
    [
        (talk(n=2), "n"),
        (talk(sampling=Sampling(logprobs=True)), "logprobs"),
        (talk(tools=(Tool("f", custom=True),)), "tools"),
        (talk(Turn("user", (Media("image", url="https://x"),))), "messages"),
        (talk(Turn("user", (Media("document", "application/pdf", data="AA"),))), "messages"),
        (talk(Turn("user", (ToolResult("c", (Media("audio", data="AA"),)),))), "messages"),
        (talk(HI, Turn("assistant", (ToolCall("c", "f", "{oops"),))), "messages"),
        (Conversation(model="m", turns=(), family="openai.chat"), "messages"),
    ],
)
def test_what_ollama_cannot_be_told_is_refused(conversation: Conversation, param: str) -> None:
    """By the name that the caller gave it."""
    with pytest.raises(CannotExpress) as cannot:
        written(conversation)
    assert cannot.value.param == param


def test_unknown_members_pass_within_the_family() -> None:
    """Where they stood."""
    found = written(
        asked({"role": "user", "content": "hi", "odd": 1}, options={"num_ctx": 9}, new=1)
    )
    sent = msgspec.json.decode(found.body)
    assert (sent["options"], sent["new"]) == ({"num_ctx": 9}, 1)
    assert found.dropped == ("messages[0].odd",)
