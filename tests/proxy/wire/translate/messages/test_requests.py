"""The laws of reading and writing requests of Messages."""

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
from proxy.wire.translate.messages.requests import generation, read_request, write_request
from tests.proxy.wire.translate.samples import PIXEL, WEATHER

HI = Turn("user", (Text("hi"),))
PROOF = Reasoning("hm", "sig", maker="anthropic")
OLD, NEW = "claude-sonnet-4-5-20250929", "claude-opus-4-8"


def asked(**members: Any) -> Conversation:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    return read_request(msgspec.json.encode(body | members))


def talk(*turns: Turn, **members: Any) -> Conversation:
    return Conversation(model="m", turns=turns or (HI,), family="openai.chat", **members)


def written(conversation: Conversation, model: str = OLD, **facts: Any) -> Written:
    return write_request(conversation, Target(model=model, **facts))


def body(conversation: Conversation, model: str = OLD, **facts: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(written(conversation, model, **facts).body)
    return decoded


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("claude-3-5-haiku-latest", (3, 5)),
        ("claude-3-opus-20240229", (3, 0)),
        ("claude-opus-4-1-20250805", (4, 1)),
        ("claude-opus-4-20250514", (4, 0)),
        ("claude-sonnet-4-5@20250929", (4, 5)),
        ("us.anthropic.claude-sonnet-4-6-v1:0", (4, 6)),
        ("anthropic/claude-opus-4.7", (4, 7)),
        ("claude-sonnet-5", (5, 0)),
        ("claude-fable", (99, 0)),
    ],
)
def test_a_generation_is_read_out_of_a_name(model: str, expected: tuple[int, int]) -> None:
    """As Anthropic, Bedrock, Vertex and OpenRouter name them; an unknown one is new."""
    assert generation(model) == expected


# Reading...


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
            Text("a", ""),
        ),
        (
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
            },
            Media("image", "image/png", data=PIXEL),
        ),
        (
            {"type": "image", "source": {"type": "url", "url": "https://x"}},
            Media("image", url="https://x"),
        ),
        (
            {
                "type": "document",
                "title": "t",
                "context": "c",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "AA=="},
            },
            Media("document", "application/pdf", data="AA==", name="t", context="c"),
        ),
        (
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "d"},
            },
            Media("document", "text/plain", text="d"),
        ),
        (
            {
                "type": "document",
                "source": {
                    "type": "content",
                    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                },
            },
            Media("document", "text/plain", text="a\nb"),
        ),
        (
            {"type": "document", "source": {"type": "content", "content": "a"}},
            Media("document", "text/plain", text="a"),
        ),
        (
            {"type": "document", "source": {"type": "file", "file_id": "f"}},
            Media("document", file_id="f"),
        ),
        (
            {
                "type": "search_result",
                "title": "t",
                "source": "s",
                "content": [{"type": "text", "text": "a"}],
            },
            Media("document", "text/plain", text="a", name="t", context="s"),
        ),
        ({"type": "thinking", "thinking": "hm", "signature": "sig"}, PROOF),
        (
            {"type": "redacted_thinking", "data": "xx"},
            Reasoning(redacted="xx", maker="anthropic"),
        ),
        (
            {"type": "tool_use", "id": "c", "name": "f", "input": {"x": 1}},
            ToolCall("c", "f", '{"x":1}'),
        ),
        (
            {"type": "tool_result", "tool_use_id": "c", "content": "done", "is_error": True},
            ToolResult("c", (Text("done"),), failed=True),
        ),
        (
            {
                "type": "tool_result",
                "tool_use_id": "c",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image", "source": {"type": "url", "url": "https://x"}},
                ],
            },
            ToolResult("c", (Text("a"), Media("image", url="https://x"))),
        ),
        ({"type": "tool_result", "tool_use_id": "c"}, ToolResult("c", ())),
    ],
)
def test_blocks_are_read(block: dict[str, Any], expected: Any) -> None:
    """Text, images, documents, thinking, calls and results."""
    [turn] = asked(messages=[{"role": "user", "content": [block]}]).turns
    assert turn.parts == (expected,)


@pytest.mark.parametrize(
    ("members", "field", "expected"),
    [
        ({"system": "Be brief."}, "system", (Text("Be brief."),)),
        (
            {
                "system": [
                    {
                        "type": "text",
                        "text": "a",
                        "cache_control": {"type": "ephemeral", "ttl": "1h"},
                    }
                ]
            },
            "system",
            (Text("a", "1h"),),
        ),
        ({"stop_sequences": ["a"]}, "stop", ("a",)),
        ({"metadata": {"user_id": "u"}}, "user", "u"),
        (
            {"metadata": {"user_id": "u", "biz_level": "premium"}},
            "metadata",
            {"biz_level": "premium"},
        ),
        ({"tool_choice": {"type": "any"}}, "tool_choice", ToolChoice("required")),
        (
            {"tool_choice": {"type": "tool", "name": "f"}},
            "tool_choice",
            ToolChoice("required", ("f",)),
        ),
        (
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            "parallel_tool_calls",
            False,
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            "thinking",
            Thinking(budget=2000),
        ),
        (
            {"thinking": {"type": "adaptive", "display": "omitted"}},
            "thinking",
            Thinking(shown=False),
        ),
        ({"thinking": {"type": "disabled"}}, "thinking", Thinking(off=True)),
        ({"output_config": {"effort": "max"}}, "thinking", Thinking("max")),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
            "output",
            OutputFormat("json_schema", {"type": "object"}),
        ),
        (
            {"tools": [{"name": "f", "input_schema": {"type": "object"}, "defer_loading": True}]},
            "extra",
            {"tools[0].defer_loading": True},
        ),
        ({"context_management": {"edits": []}}, "extra", {"context_management": {"edits": []}}),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]},
            "turns",
            (Turn("user", (Text("a"),)), Turn("system", (Text("b"),))),
        ),
    ],
)
def test_options_are_read(members: dict[str, Any], field: str, expected: Any) -> None:
    """And what nobody knows is kept."""
    assert getattr(asked(**members), field) == expected


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"model": None}, "model"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "messages[0].content[0].source",
        ),
        ({"thinking": {"type": "enabled", "budget_tokens": 10}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "odd"}}, "thinking.type"),
        ({"tool_choice": {"type": "odd"}}, "tool_choice.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
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
            {"messages": [{"role": "user", "content": [{"type": "container_upload"}]}]},
            "messages[0].content[0].type",
        ),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image", "source": {"type": "odd"}}]}
                ]
            },
            "messages[0].content[0].source.type",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "c",
                                "content": [{"type": "thinking", "thinking": "x"}],
                            }
                        ],
                    }
                ]
            },
            "messages[0].content[0].content[0].type",
        ),
    ],
)
def test_what_no_other_protocol_has_is_refused(members: dict[str, Any], param: str) -> None:
    """A vendor's own tools run at that vendor only."""
    with pytest.raises(CannotExpress) as cannot:
        asked(**members)
    assert cannot.value.param == param


# Writing...


def test_roles_alternate_and_results_stand_first() -> None:
    """N results of OpenAI's are one message of Anthropic's, before what the user says."""
    sent = body(
        talk(
            HI,
            Turn("assistant", (ToolCall("a", "f", ""), ToolCall("b", "f", "{}"))),
            Turn("user", (ToolResult("a", (Text("1"),)),)),
            Turn("user", (Text("so?"),)),
            Turn("user", (ToolResult("b", (Text("2"),), failed=True),)),
        )
    )["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert sent[1]["content"][0]["input"] == {}
    kinds = [block["type"] for block in sent[2]["content"]]
    assert kinds == ["tool_result", "tool_result", "text"]
    assert [block.get("is_error") for block in sent[2]["content"][:2]] == [None, True]


def test_instructions_stand_at_the_top() -> None:
    """Those from the middle too, and it is said; instructions alone are what is answered."""
    found = written(talk(HI, Turn("system", (Text("b"),)), system=(Text("a"),)))
    assert found.dropped == ("messages[].role",)
    assert [block["text"] for block in msgspec.json.decode(found.body)["system"]] == ["a", "b"]
    alone = body(Conversation(model="m", turns=(), system=(Text("a"),)))
    assert alone["messages"] == [{"role": "user", "content": "a"}]


def test_what_anthropic_would_refuse_is_not_sent() -> None:
    """Empty texts, an answer that begins, a text that ends with blanks."""
    sent = body(talk(Turn("assistant", (Text("Hello!"),)), HI, Turn("assistant", (Text(""),))))
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "user"]
    begun = body(talk(HI, Turn("assistant", (Text("So: "),))))
    assert begun["messages"][-1]["content"][0]["text"] == "So:"
    with pytest.raises(CannotExpress):
        written(talk(HI, Turn("assistant", (Text("So:"),))), NEW)
    with pytest.raises(CannotExpress):
        written(talk(Turn("user", (Text(""),))))


def test_only_anthropics_own_proofs_are_sent() -> None:
    """Another vendor's reasoning is named as dropped: with it the answer would be a 400."""
    found = written(
        talk(
            HI,
            Turn(
                "assistant",
                (
                    PROOF,
                    Reasoning(redacted="xx", maker="anthropic"),
                    Reasoning("deep"),
                    Reasoning(signature="gs", maker="google"),
                    Refusal("no"),
                ),
            ),
            HI,
        )
    )
    kinds = [block["type"] for block in msgspec.json.decode(found.body)["messages"][1]["content"]]
    assert kinds == ["thinking", "redacted_thinking", "text"]
    assert found.dropped == ("messages[].reasoning_content",)


def test_a_cap_is_always_sent() -> None:
    """Admission's, the caller's, the model's own, or one that most models have."""
    assert body(talk(max_tokens=7), max_output=5)["max_tokens"] == 7
    assert body(talk(max_tokens=7), output_cap=3)["max_tokens"] == 3
    assert body(talk(), max_output=5)["max_tokens"] == 5
    assert body(talk())["max_tokens"] == 4096


@pytest.mark.parametrize(
    ("model", "thinking", "expected", "effort"),
    [
        (OLD, Thinking("high"), {"type": "enabled", "budget_tokens": 16384}, None),
        (OLD, Thinking(budget=100), {"type": "enabled", "budget_tokens": 1024}, None),
        (OLD, Thinking(off=True), {"type": "disabled"}, None),
        (NEW, Thinking("minimal"), {"type": "adaptive"}, "low"),
        (NEW, Thinking(budget=9000), {"type": "adaptive"}, "high"),
        (NEW, Thinking(shown=False), {"type": "adaptive", "display": "omitted"}, None),
        ("claude-3-5-haiku-latest", Thinking("high"), None, None),
    ],
)
def test_thinking_is_asked_for_as_the_model_takes_it(
    model: str, thinking: Thinking, expected: Any, effort: str | None
) -> None:
    """In tokens, or as a word, or not at all."""
    sent = body(talk(thinking=thinking, max_tokens=30000), model)
    assert sent.get("thinking") == expected
    assert sent.get("output_config", {}).get("effort") == effort


def test_thinking_fits_into_the_cap() -> None:
    """Anthropic wants it less than the cap, and no less than 1024."""
    think = Thinking("max")
    assert body(talk(thinking=think, max_tokens=5000))["thinking"]["budget_tokens"] == 4999
    assert written(talk(thinking=think, max_tokens=1000)).dropped == ("reasoning_effort",)
    assert body(talk(thinking=think))["max_tokens"] > 32768


def test_thinking_is_left_out_where_anthropic_would_refuse_it() -> None:
    """With a call that must be made, and in a tool loop whose proof the caller did not keep."""
    forced = talk(tools=(WEATHER,), tool_choice=ToolChoice("required"), thinking=Thinking("low"))
    assert written(forced).dropped == ("reasoning_effort",)
    call, result = ToolCall("c", "f", "{}"), ToolResult("c", (Text("x"),))
    loop = (HI, Turn("assistant", (call,)), Turn("user", (result,)))
    assert "thinking" not in body(talk(*loop, thinking=Thinking("low"), max_tokens=9000))
    kept = (HI, Turn("assistant", (PROOF, call)), Turn("user", (result,)))
    assert "thinking" in body(talk(*kept, thinking=Thinking("low"), max_tokens=9000))
    assert "thinking" in body(talk(*kept, HI, thinking=Thinking("low"), max_tokens=9000))


@pytest.mark.parametrize(
    ("model", "sampling", "thinking", "sent", "dropped"),
    [
        (OLD, Sampling(temperature=0.5), None, {"temperature": 0.5}, ()),
        (OLD, Sampling(temperature=1.5), None, {}, ("temperature",)),
        (OLD, Sampling(temperature=0.5, top_p=0.9), None, {"temperature": 0.5}, ("top_p",)),
        (
            "claude-3-opus",
            Sampling(temperature=0.5, top_p=0.9),
            None,
            {"temperature": 0.5, "top_p": 0.9},
            (),
        ),
        (
            NEW,
            Sampling(temperature=1, top_p=0.9, top_k=5),
            None,
            {},
            ("temperature", "top_p", "top_k"),
        ),
        (
            OLD,
            Sampling(temperature=0.5, top_k=5, top_p=0.9),
            Thinking("low"),
            {},
            ("temperature", "top_p", "top_k"),
        ),
        (OLD, Sampling(top_p=0.96), Thinking("low"), {"top_p": 0.96}, ()),
        (
            OLD,
            Sampling(seed=1, frequency_penalty=0.5, presence_penalty=0),
            None,
            {},
            ("frequency_penalty", "seed"),
        ),
        (OLD, Sampling(logit_bias={"1": 2}), None, {}, ("logit_bias",)),
    ],
)
def test_tokens_are_drawn_as_the_model_can(
    model: str,
    sampling: Sampling,
    thinking: Thinking | None,
    sent: dict[str, Any],
    dropped: tuple[str, ...],
) -> None:
    """What it refuses is left out, and named."""
    asking = talk(sampling=sampling, thinking=thinking, max_tokens=30000)
    decoded = body(asking, model)
    assert {
        key: value for key, value in decoded.items() if key in {"temperature", "top_p", "top_k"}
    } == sent
    assert written(asking, model).dropped == dropped


def test_tools_are_written_with_an_object_as_their_schema() -> None:
    """And which of them: filtered where Anthropic knows no list of names."""
    plain = body(talk(tools=(Tool("f"), WEATHER)))
    assert plain["tools"][0] == {"name": "f", "input_schema": {"type": "object"}}
    assert "tool_choice" not in plain
    tools = (WEATHER, Tool("x"), Tool("y"))
    some = body(talk(tools=tools, tool_choice=ToolChoice("required", ("x", "y"))))
    assert [tool["name"] for tool in some["tools"]] == ["x", "y"]
    assert some["tool_choice"] == {"type": "any"}
    one = body(
        talk(tools=tools, tool_choice=ToolChoice("required", ("x",)), parallel_tool_calls=False)
    )
    assert one["tool_choice"] == {"type": "tool", "name": "x", "disable_parallel_tool_use": True}
    assert body(talk(tools=tools, parallel_tool_calls=False))["tool_choice"]["type"] == "auto"
    assert body(talk(tools=tools, tool_choice=ToolChoice("none")))["tool_choice"] == {
        "type": "none"
    }
    assert "tool_choice" not in body(talk(tool_choice=ToolChoice("auto")))


def test_names_and_ids_are_made_fit_and_given_back() -> None:
    """Letters, digits, - and _ are all that Anthropic takes."""
    found = written(
        talk(
            HI,
            Turn("assistant", (ToolCall("call:1", "a.b", "{}"),)),
            Turn("user", (ToolResult("call:1", ()),)),
            tools=(Tool("a.b"),),
        )
    )
    sent = msgspec.json.decode(found.body)
    use, result = sent["messages"][1]["content"][0], sent["messages"][2]["content"][0]
    assert use["id"] == result["tool_use_id"] != "call:1"
    assert found.renamed == {use["name"]: "a.b"}


def test_documents_and_images_are_written_by_their_kind() -> None:
    """A text is sent as text, whatever it came as."""
    parts = (
        Media("image", url="https://x", detail="low"),
        Media("document", "application/pdf", data="AA==", name="n", context="c"),
        Media("document", "text/csv", data="YSxi"),
        Media("document", text="t"),
        Media("document", url="https://x/y.pdf", cache=""),
    )
    found = written(talk(Turn("user", parts)))
    blocks = msgspec.json.decode(found.body)["messages"][0]["content"]
    assert [block["source"]["type"] for block in blocks] == ["url", "base64", "text", "text", "url"]
    assert blocks[2]["source"]["data"] == "a,b"
    assert (blocks[1]["title"], blocks[1]["context"]) == ("n", "c")
    assert blocks[4]["cache_control"] == {"type": "ephemeral"}
    assert found.dropped == ("messages[].content[].image_url.detail",)


@pytest.mark.parametrize(
    ("conversation", "param"),
    [
        (talk(n=2), "n"),
        (talk(stop=(" ",)), "stop"),
        (talk(output=OutputFormat("json")), "response_format"),
        (talk(sampling=Sampling(logprobs=True)), "logprobs"),
        (talk(tools=(Tool("f", custom=True),)), "tools"),
        (talk(Turn("user", (Media("audio", "audio/wav", data="AA"),))), "messages"),
        (talk(Turn("user", (Media("image", "image/tiff", data="AA"),))), "messages"),
        (talk(Turn("user", (Media("document", "application/zip", data="AA"),))), "messages"),
        (talk(Turn("user", (Media("document", "text/plain", data="?"),))), "messages"),
        (talk(Turn("user", (Media("document", file_id="f"),))), "messages"),
        (talk(HI, Turn("assistant", (ToolCall("c", "f", "{oops"),)), HI), "messages"),
        (talk(extra={"modalities": ["text", "audio"]}), "modalities"),
    ],
)
def test_what_anthropic_cannot_be_told_is_refused(conversation: Conversation, param: str) -> None:
    """By the name that the caller gave it."""
    with pytest.raises(CannotExpress) as cannot:
        written(conversation)
    assert cannot.value.param == param


@pytest.mark.parametrize(
    ("tier", "expected", "dropped"),
    [
        ("auto", "auto", ()),
        ("default", "standard_only", ()),
        ("flex", None, ("service_tier",)),
    ],
)
def test_tiers_are_translated(tier: str, expected: str | None, dropped: tuple[str, ...]) -> None:
    """What has another price is another thing."""
    found = written(talk(service_tier=tier))
    assert msgspec.json.decode(found.body).get("service_tier") == expected
    assert found.dropped == dropped


def test_options_without_a_word_are_named() -> None:
    """Verbosity, a user of many letters, who of several speaks."""
    found = written(talk(Turn("user", (Text("hi"),), "ann"), verbosity="low", user="u" * 300))
    assert found.dropped == ("messages[].name", "user", "verbosity")
    assert body(talk(user="u"))["metadata"] == {"user_id": "u"}


def test_unknown_members_pass_within_the_family() -> None:
    """From Anthropic's callers to Anthropic's models elsewhere."""
    found = written(
        asked(
            context_management={"edits": []},
            tools=[{"name": "f", "input_schema": {"type": "object"}, "defer_loading": True}],
        )
    )
    assert msgspec.json.decode(found.body)["context_management"] == {"edits": []}
    assert found.dropped == ("tools[0].defer_loading",)
