"""The laws of reading and writing requests of Responses."""

from typing import Any

import msgspec
import pytest

from proxy.wire.look import BadField
from proxy.wire.translate.chat.requests import write_request as write_chat
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
from proxy.wire.translate.responses.requests import read_request, write_request
from tests.proxy.wire.translate.samples import PIXEL, WEATHER

HI = Turn("user", (Text("hi"),))


def asked(given: Any = "hi", **members: Any) -> Conversation:
    return read_request(msgspec.json.encode({"model": "m", "input": given} | members))


def talk(*turns: Turn, **members: Any) -> Conversation:
    return Conversation(model="m", turns=turns or (HI,), family="openai.chat", **members)


def written(conversation: Conversation, model: str = "gpt-5", **facts: Any) -> Written:
    return write_request(conversation, Target(model=model, **facts))


def body(conversation: Conversation, model: str = "gpt-5", **facts: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(written(conversation, model, **facts).body)
    return decoded


# Reading...


def test_items_become_turns() -> None:
    """What an assistant thought, said and called in a row is one turn."""
    read = asked(
        [
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
            {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "enc"},
            {
                "type": "message",
                "role": "assistant",
                "id": "m",
                "status": "completed",
                "content": [
                    {"type": "output_text", "text": "a", "annotations": []},
                    {"type": "refusal", "refusal": "no"},
                ],
            },
            {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "custom_tool_call", "call_id": "d", "name": "free", "input": "x"},
            {"type": "function_call_output", "call_id": "c", "output": "1"},
            {
                "type": "custom_tool_call_output",
                "call_id": "d",
                "output": [{"type": "input_text", "text": "2"}],
            },
            {"role": "developer", "content": "Now in French."},
        ],
        instructions="Be brief.",
    )
    assert read.system == (Text("Be brief."), Text("Be kind."))
    assert read.turns == (
        HI,
        Turn(
            "assistant",
            (
                Reasoning(redacted="enc", maker="openai"),
                Text("a"),
                Refusal("no"),
                ToolCall("c", "f", "{}"),
                ToolCall("d", "free", "x", custom=True),
            ),
        ),
        Turn("user", (ToolResult("c", (Text("1"),)),)),
        Turn("user", (ToolResult("d", (Text("2"),)),)),
        Turn("system", (Text("Now in French."),)),
    )
    assert read.extra == {}


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "low"},
            Media("image", "image/png", data=PIXEL, detail="low"),
        ),
        (
            {"type": "input_image", "image_url": "https://x", "detail": "auto"},
            Media("image", url="https://x"),
        ),
        ({"type": "input_image", "file_id": "f"}, Media("image", file_id="f")),
        (
            {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,AA=="},
            Media("document", "text/plain", data="AA==", name="a.txt"),
        ),
        (
            {"type": "input_file", "file_data": "AA=="},
            Media("document", "application/pdf", data="AA=="),
        ),
        ({"type": "input_file", "file_url": "https://x"}, Media("document", url="https://x")),
        ({"type": "input_file", "file_id": "f"}, Media("document", file_id="f")),
        (
            {
                "type": "input_text",
                "text": "a",
                "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"},
            },
            Text("a", "30m"),
        ),
    ],
)
def test_parts_are_read(part: dict[str, Any], expected: Any) -> None:
    """Images and files, by their data or where they are."""
    assert asked([{"role": "user", "content": [part]}]).turns[0].parts == (expected,)


@pytest.mark.parametrize(
    ("members", "field", "expected"),
    [
        ({"max_output_tokens": 9}, "max_tokens", 9),
        ({"reasoning": {"effort": "high"}}, "thinking", Thinking("high")),
        ({"reasoning": {"effort": "none"}}, "thinking", Thinking(off=True)),
        ({"reasoning": {"summary": "auto"}}, "thinking", Thinking(shown=True)),
        ({"reasoning": {}}, "thinking", None),
        (
            {"text": {"format": {"type": "json_object"}, "verbosity": "low"}},
            "output",
            OutputFormat("json"),
        ),
        ({"text": {"verbosity": "low"}}, "verbosity", "low"),
        (
            {
                "text": {
                    "format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}
                }
            },
            "output",
            OutputFormat("json_schema", {}, "n", strict=True),
        ),
        (
            {"tools": [{"type": "function", "name": "f", "parameters": {}, "strict": True}]},
            "tools",
            (Tool("f", None, {}, strict=True),),
        ),
        (
            {"tools": [{"type": "custom", "name": "f", "format": {"type": "text"}}]},
            "tools",
            (Tool("f", custom=True),),
        ),
        ({"tool_choice": "required"}, "tool_choice", ToolChoice("required")),
        (
            {"tool_choice": {"type": "function", "name": "f"}},
            "tool_choice",
            ToolChoice("required", ("f",)),
        ),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "function", "name": "f"}],
                }
            },
            "tool_choice",
            ToolChoice("auto", ("f",)),
        ),
        ({"store": True, "include": ["reasoning.encrypted_content"]}, "extra", {}),
        ({"prompt_cache_key": "k"}, "extra", {"prompt_cache_key": "k"}),
        (
            {"include": ["file_search_call.results"]},
            "extra",
            {"include": ["file_search_call.results"]},
        ),
    ],
)
def test_options_are_read(members: dict[str, Any], field: str, expected: Any) -> None:
    """And what nobody knows is kept."""
    assert getattr(asked(**members), field) == expected


@pytest.mark.parametrize(
    ("given", "members", "param"),
    [
        (None, {}, "input"),
        ([], {}, "input"),
        ([{"role": "robot", "content": "x"}], {}, "input[0].role"),
        ([{"content": "x"}], {}, "input[0].role"),
        ([{"role": "user"}], {}, "input[0].content"),
        ([{"type": "function_call", "name": "f"}], {}, "input[0].call_id"),
        ("hi", {"tool_choice": "sometimes"}, "tool_choice"),
        ("hi", {"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ("hi", {"reasoning": {"effort": "huge"}}, "reasoning.effort"),
    ],
)
def test_a_mistake_is_named(given: Any, members: dict[str, Any], param: str) -> None:
    """With the path of the field."""
    with pytest.raises(BadField) as bad:
        asked(given, **members)
    assert bad.value.param == param


@pytest.mark.parametrize(
    ("given", "members", "param"),
    [
        ([{"type": "item_reference", "id": "x"}], {}, "input[0].type"),
        ([{"type": "local_shell_call"}], {}, "input[0].type"),
        (
            [{"role": "user", "content": [{"type": "input_hologram"}]}],
            {},
            "input[0].content[0].type",
        ),
        ("hi", {"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ("hi", {"tool_choice": {"type": "file_search"}}, "tool_choice.type"),
        ("hi", {"include": ["message.output_text.logprobs"]}, "include"),
    ],
)
def test_what_only_its_vendor_has_or_keeps_is_refused(
    given: Any, members: dict[str, Any], param: str
) -> None:
    """Items by their id, and tools that run at OpenAI."""
    with pytest.raises(CannotExpress) as cannot:
        asked(given, **members)
    assert cannot.value.param == param


AGENTS = {
    "type": "namespace",
    "name": "agents",
    "tools": [{"type": "function", "name": "close", "parameters": {"type": "object"}}],
}


def test_tools_of_a_namespace_are_tools_by_their_full_names() -> None:
    """Other protocols have no groups; calls of them, and the choice of one, are read in the same way."""
    call = {"type": "function_call", "call_id": "c", "name": "close", "namespace": "agents"}
    choice = {"type": "function", "name": "close", "namespace": "agents"}
    read = asked([call | {"arguments": "{}"}], tools=[AGENTS], tool_choice=choice)
    assert read.tools == (Tool("agents__close", None, {"type": "object"}, namespace="agents"),)
    assert read.turns == (Turn("assistant", (ToolCall("c", "agents__close", "{}"),)),)
    assert read.tool_choice == ToolChoice("required", ("agents__close",))
    chat = msgspec.json.decode(write_chat(read, Target(model="x")).body)
    assert chat["tools"][0]["function"]["name"] == "agents__close"


def test_within_a_namespace_too_only_functions_can_be_translated() -> None:
    """The tool that is not is named by its place."""
    inside = AGENTS | {"tools": [{"type": "web_search"}]}
    with pytest.raises(CannotExpress) as cannot:
        asked("hi", tools=[inside])
    assert cannot.value.param == "tools[0].tools[0].type"


# Writing...


def test_turns_become_items() -> None:
    """In order; of reasoning only what OpenAI made, because it refuses anything else."""
    sent = written(
        talk(
            HI,
            Turn(
                "assistant",
                (
                    Reasoning("hm", redacted="enc", maker="openai"),
                    Reasoning("other", "s", maker="anthropic"),
                    Text("a"),
                    Refusal("no"),
                    ToolCall("c", "f", ""),
                    ToolCall("d", "free", "x", custom=True),
                ),
            ),
            Turn(
                "user",
                (ToolResult("c", (Text("1"),), failed=True), ToolResult("d", ()), Text("so?")),
            ),
            Turn("system", (Text("b"),)),
            system=(Text("x"), Text("y")),
        )
    )
    decoded = msgspec.json.decode(sent.body)
    assert decoded["instructions"] == "x\ny"
    assert decoded["store"] is False
    kinds = [item["type"] for item in decoded["input"]]
    assert kinds == [
        *("message", "reasoning", "message", "function_call", "custom_tool_call"),
        *("function_call_output", "custom_tool_call_output", "message", "message"),
    ]
    assert decoded["input"][1]["encrypted_content"] == "enc"
    assert decoded["input"][3]["arguments"] == "{}"
    assert decoded["input"][5]["output"] == "Error:\n1"
    assert decoded["input"][8]["role"] == "developer"
    assert sent.dropped == ("messages[].reasoning_content",)


def test_options_are_written() -> None:
    """A tool is not strict unless it was said; models that reason draw in their own way."""
    found = written(
        talk(
            tools=(WEATHER, Tool("free", custom=True, schema={"type": "grammar"})),
            tool_choice=ToolChoice("auto", ("weather", "free")),
            parallel_tool_calls=False,
            sampling=Sampling(temperature=0.5, seed=1),
            thinking=Thinking(budget=9000),
            output=OutputFormat("json_schema", {"type": "object"}, "n", strict=True),
            verbosity="low",
            user="u",
            max_tokens=7,
            stream=True,
        )
    )
    sent = msgspec.json.decode(found.body)
    assert sent["tools"][0]["strict"] is False
    assert sent["tools"][1]["format"] == {"type": "grammar"}
    assert sent["tool_choice"]["type"] == "allowed_tools"
    assert sent["tool_choice"]["tools"][1] == {"type": "custom", "name": "free"}
    assert sent["reasoning"] == {"effort": "high", "summary": "auto"}
    assert sent["include"] == ["reasoning.encrypted_content"]
    assert sent["text"]["format"]["name"] == "n"
    assert sent["text"]["verbosity"] == "low"
    assert sent["max_output_tokens"] == 7
    assert found.dropped == ("seed", "temperature")
    plain = written(talk(sampling=Sampling(temperature=0.5), thinking=Thinking("low")), "gpt-4.1")
    assert plain.dropped == ("reasoning_effort",)
    assert msgspec.json.decode(plain.body)["temperature"] == 0.5


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        (
            Media("image", url="https://x"),
            {"type": "input_image", "image_url": "https://x", "detail": "auto"},
        ),
        (Media("document", url="https://x"), {"type": "input_file", "file_url": "https://x"}),
        (Media("document", text="t", name="n"), {"type": "input_text", "text": "n\nt"}),
        (
            Media("document", "application/pdf", data="AA", context="c"),
            {
                "type": "input_file",
                "filename": "document",
                "file_data": "data:application/pdf;base64,AA",
            },
        ),
    ],
)
def test_media_are_written_by_where_they_are(media: Media, expected: Any) -> None:
    """Responses takes addresses as well."""
    assert body(talk(Turn("user", (media,))))["input"][0]["content"] == [expected]


def test_a_result_may_hold_media() -> None:
    """Here it can."""
    image = Media("image", "image/png", data=PIXEL)
    sent = body(talk(HI, Turn("user", (ToolResult("c", (Text("a"), image)),))))
    assert [part["type"] for part in sent["input"][1]["output"]] == ["input_text", "input_image"]


@pytest.mark.parametrize(
    ("conversation", "param"),
    [
        (talk(n=2), "n"),
        (talk(stop=("a",)), "stop"),
        (talk(sampling=Sampling(logprobs=True)), "logprobs"),
        (talk(Turn("user", (Media("audio", "audio/wav", data="AA"),))), "messages"),
        (talk(Turn("user", (Media("image", file_id="f"),))), "messages"),
        (talk(HI, Turn("assistant", (Media("image", url="x"),))), "messages"),
        (Conversation(model="m", turns=(), family="openai.chat"), "messages"),
    ],
)
def test_what_cannot_be_asked_is_refused(conversation: Conversation, param: str) -> None:
    """By the name that the caller gave it."""
    with pytest.raises(CannotExpress) as cannot:
        written(conversation)
    assert cannot.value.param == param


def test_unknown_members_pass_within_the_family() -> None:
    """And instructions alone are a request."""
    found = written(asked(prompt_cache_key="k", metadata={"a": "b"}))
    sent = msgspec.json.decode(found.body)
    assert (sent["prompt_cache_key"], sent["metadata"]) == ("k", {"a": "b"})
    assert body(Conversation(model="m", turns=(), system=(Text("a"),)))["input"] == []


@pytest.mark.parametrize("name", ["previous_response_id", "conversation", "background", "prompt"])
def test_what_is_kept_elsewhere_is_refused_by_everyone_else(name: str) -> None:
    """The gateway keeps nothing of what was said."""
    with pytest.raises(CannotExpress) as cannot:
        write_chat(asked(**{name: "x"}), Target(model="m"))
    assert cannot.value.param == name
