"""The laws of reading and writing requests of Gemini."""

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
    addressed,
)
from proxy.wire.translate.gemini.parts import NO_SIGNATURE
from proxy.wire.translate.gemini.requests import generation, read_request, write_request
from tests.proxy.wire.translate.samples import PIXEL, WEATHER

HI = Turn("user", (Text("hi"),))
OWN = Reasoning(signature="gs", maker="google")


def asked(*parts: Any, **members: Any) -> Conversation:
    body = {"contents": [{"role": "user", "parts": list(parts) or [{"text": "hi"}]}]}
    return read_request(msgspec.json.encode(body | members))


def talk(*turns: Turn, **members: Any) -> Conversation:
    return Conversation(model="m", turns=turns or (HI,), family="openai.chat", **members)


def written(conversation: Conversation, model: str = "gemini-2.5-flash", **facts: Any) -> Written:
    return write_request(conversation, Target(model=model, **facts))


def body(
    conversation: Conversation, model: str = "gemini-2.5-flash", **facts: Any
) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(written(conversation, model, **facts).body)
    return decoded


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gemini-2.5-flash-lite", (2, 5)),
        ("models/gemini-3-pro-preview", (3, 0)),
        ("gemini-3.1-pro", (3, 1)),
        ("learnlm", (99, 0)),
    ],
)
def test_a_generation_is_read_out_of_a_name(model: str, expected: tuple[int, int]) -> None:
    """An unknown one is new."""
    assert generation(model) == expected


# Reading...


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"text": "a"}, (Text("a"),)),
        ({"text": "hm", "thought": True}, (Reasoning("hm"),)),
        ({"text": "", "thoughtSignature": "gs"}, (OWN,)),
        ({"text": "a", "thought_signature": "gs"}, (OWN, Text("a"))),
        (
            {"inlineData": {"mimeType": "image/png", "data": "-_8="}},
            (Media("image", "image/png", data="+/8="),),
        ),
        (
            {"inline_data": {"mime_type": "application/pdf", "data": "AA==", "display_name": "n"}},
            (Media("document", "application/pdf", data="AA==", name="n"),),
        ),
        (
            {"inlineData": {"mimeType": "audio/wav", "data": "AA=="}},
            (Media("audio", "audio/wav", data="AA=="),),
        ),
        (
            {"fileData": {"fileUri": "gs://b/o", "mimeType": "video/mp4"}},
            (Media("video", "video/mp4", file_id="gs://b/o"),),
        ),
        (
            {"fileData": {"fileUri": "https://x/y.png", "mimeType": "image/png"}},
            (Media("image", "image/png", url="https://x/y.png"),),
        ),
        (
            {"functionCall": {"name": "f", "args": {"x": 1}, "id": "a"}, "thoughtSignature": "gs"},
            (OWN, ToolCall("a", "f", '{"x":1}')),
        ),
        (
            {"functionCall": {"name": "f"}, "thoughtSignature": NO_SIGNATURE},
            (ToolCall("call_0", "f", "{}"),),
        ),
    ],
)
def test_parts_are_read(part: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """In both spellings, and base64 in both alphabets."""
    assert asked(part).turns[0].parts == expected


@pytest.mark.parametrize(
    ("response", "expected", "failed"),
    [
        ({"output": "mild"}, "mild", False),
        ({"result": "mild"}, "mild", False),
        ({"error": "gone"}, "gone", True),
        ({"result": {"t": 1}}, '{"t":1}', False),
        ({"t": 1, "u": 2}, '{"t":1,"u":2}', False),
        ({"t": 1}, '{"t":1}', False),
    ],
)
def test_results_are_read(response: dict[str, Any], expected: str, failed: bool) -> None:
    """Google's words for an output and an error; any other object is JSON."""
    [result] = (
        asked({"functionResponse": {"name": "f", "id": "a", "response": response}}).turns[0].parts
    )
    assert result == ToolResult("a", (Text(expected),), "f", failed)


def test_calls_without_ids_find_their_results() -> None:
    """By name and order: the gateway's other protocols need ids."""
    read = read_request(
        msgspec.json.encode(
            {
                "contents": [
                    {"parts": [{"text": "hi"}]},
                    {
                        "role": "model",
                        "parts": [
                            {"functionCall": {"name": "f"}},
                            {"functionCall": {"name": "g"}},
                            {"functionCall": {"name": "f"}},
                        ],
                    },
                    {
                        "role": "user",
                        "parts": [
                            {"functionResponse": {"name": "f", "response": {"output": "1"}}},
                            {"functionResponse": {"name": "f", "response": {"output": "2"}}},
                            {"functionResponse": {"name": "g", "response": {"output": "3"}}},
                        ],
                    },
                ]
            }
        )
    )
    calls = [part.id for part in read.turns[1].parts if isinstance(part, ToolCall)]
    results = [part.id for part in read.turns[2].parts if isinstance(part, ToolResult)]
    assert calls == ["call_0", "call_1", "call_2"]
    assert results == ["call_0", "call_2", "call_1"]


@pytest.mark.parametrize(
    ("members", "field", "expected"),
    [
        ({"systemInstruction": {"parts": [{"text": "a"}]}}, "system", (Text("a"),)),
        ({"system_instruction": {"parts": [{"text": "a"}]}}, "system", (Text("a"),)),
        ({"generationConfig": {"maxOutputTokens": 5}}, "max_tokens", 5),
        ({"generation_config": {"stop_sequences": ["a"]}}, "stop", ("a",)),
        ({"generationConfig": {"candidateCount": 2}}, "n", 2),
        (
            {"generationConfig": {"responseMimeType": "application/json"}},
            "output",
            OutputFormat("json"),
        ),
        (
            {
                "generationConfig": {
                    "responseMimeType": "application/json",
                    "responseSchema": {
                        "type": "OBJECT",
                        "properties": {
                            "type": {"type": "STRING", "nullable": True},
                            "l": {"type": "ARRAY", "items": {"anyOf": [{"type": "INTEGER"}]}},
                        },
                        "propertyOrdering": ["type"],
                    },
                }
            },
            "output",
            OutputFormat(
                "json_schema",
                {
                    "type": "object",
                    "properties": {
                        "type": {"type": ["string", "null"]},
                        "l": {"type": "array", "items": {"anyOf": [{"type": "integer"}]}},
                    },
                },
            ),
        ),
        (
            {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}},
            "thinking",
            Thinking(off=True),
        ),
        (
            {
                "generationConfig": {
                    "thinkingConfig": {"thinkingBudget": -1, "includeThoughts": True}
                }
            },
            "thinking",
            Thinking(shown=True),
        ),
        (
            {"generationConfig": {"thinkingConfig": {"thinkingLevel": "HIGH"}}},
            "thinking",
            Thinking("high"),
        ),
        (
            {
                "tools": [
                    {"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}
                ]
            },
            "tools",
            (Tool("f", None, {"type": "object"}),),
        ),
        (
            {
                "toolConfig": {
                    "functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}
                }
            },
            "tool_choice",
            ToolChoice("required", ("f",)),
        ),
        ({"safetySettings": [{}]}, "extra", {"safetySettings": [{}]}),
        (
            {"generationConfig": {"mediaResolution": "X"}},
            "extra",
            {"generationConfig.mediaResolution": "X"},
        ),
    ],
)
def test_options_are_read(members: dict[str, Any], field: str, expected: Any) -> None:
    """And what nobody knows is kept."""
    assert getattr(asked(**members), field) == expected


def test_the_url_says_the_rest() -> None:
    """The model, and whether it is streamed."""
    conversation = addressed(asked(), "gemini-x", stream=True)
    assert (conversation.model, conversation.stream) == ("gemini-x", True)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"contents": None}, "contents"),
        ({"contents": []}, "contents"),
        ({"contents": [{"role": "robot"}]}, "contents[0].role"),
        (
            {"contents": [{"parts": [{"inlineData": {"data": "AA"}}]}]},
            "contents[0].parts[0].inlineData.mimeType",
        ),
        ({"generationConfig": {"maxOutputTokens": 0}}, "generationConfig.maxOutputTokens"),
        (
            {"generationConfig": {"thinkingConfig": {"thinkingLevel": "HUGE"}}},
            "generationConfig.thinkingConfig.thinkingLevel",
        ),
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
            {"contents": [{"parts": [{"executableCode": {}, "videoMetadata": {}}]}]},
            "contents[0].parts[0]",
        ),
        ({"contents": [{"parts": [{"text": "a", "inlineData": {}}]}]}, "contents[0].parts[0]"),
        ({"tools": [{"googleSearch": {"x": 1}}]}, "tools[0].googleSearch"),
        (
            {"generationConfig": {"responseMimeType": "text/x.enum"}},
            "generationConfig.responseMimeType",
        ),
    ],
)
def test_what_no_other_protocol_has_is_refused(members: dict[str, Any], param: str) -> None:
    """Google's own tools run at Google only."""
    with pytest.raises(CannotExpress) as cannot:
        asked(**members)
    assert cannot.value.param == param


# Writing...


def test_results_stand_together_and_apart_from_the_rest() -> None:
    """Google wants as many results as calls in one content; their names are those of the calls."""
    image = Media("image", "image/png", data=PIXEL)
    sent = body(
        talk(
            HI,
            Turn("assistant", (ToolCall("a", "f", ""), ToolCall("b", "g", "{}"))),
            Turn("user", (ToolResult("a", (Text("1"), image)),)),
            Turn("user", (ToolResult("b", (Text("2"),), failed=True), Text("so?"))),
        )
    )["contents"]
    results = [
        part["functionResponse"]
        for content in sent
        for part in content["parts"]
        if "functionResponse" in part
    ]
    assert [(one["name"], one["response"]) for one in results] == [
        ("f", {"output": "1"}),
        ("g", {"error": "2"}),
    ]
    texts = [part.get("text") for part in sent[-1]["parts"]]
    assert texts[-1] == "so?"


def test_only_googles_own_proofs_are_sent() -> None:
    """Calls that no Gemini made carry what Google documents for them, where it demands it."""
    call, foreign = ToolCall("c", "f", "{}"), Reasoning("hm", "s", maker="anthropic")
    own = talk(HI, Turn("assistant", (OWN, call)), Turn("user", (ToolResult("c", ()),)))
    other = talk(HI, Turn("assistant", (foreign, call)), Turn("user", (ToolResult("c", ()),)))
    assert body(own, "gemini-3-pro")["contents"][1]["parts"][0]["thoughtSignature"] == "gs"
    assert (
        body(other, "gemini-3-pro")["contents"][1]["parts"][0]["thoughtSignature"] == NO_SIGNATURE
    )
    assert "thoughtSignature" not in body(other)["contents"][1]["parts"][0]
    assert written(other).dropped == ("messages[].reasoning_content",)
    assert written(own).dropped == ()


def test_what_google_would_refuse_is_not_sent() -> None:
    """An answer that begins, empty texts, instructions in the middle."""
    found = written(
        talk(Turn("assistant", (Text("Hello!"), Text(""))), HI, Turn("system", (Text("b"),)))
    )
    sent = msgspec.json.decode(found.body)
    assert [content["role"] for content in sent["contents"]] == ["user", "model", "user"]
    assert sent["systemInstruction"] == {"parts": [{"text": "b"}]}
    assert found.dropped == ("messages[].role",)
    alone = body(Conversation(model="m", turns=(), system=(Text("a"),)))
    assert alone == {"contents": [{"role": "user", "parts": [{"text": "a"}]}]}


@pytest.mark.parametrize(
    ("model", "thinking", "expected", "dropped"),
    [
        ("gemini-2.0-flash", Thinking("high"), None, True),
        ("gemini-2.0-flash", Thinking(off=True), None, False),
        (
            "gemini-2.5-flash",
            Thinking("high"),
            {"thinkingBudget": 16384, "includeThoughts": True},
            False,
        ),
        (
            "gemini-2.5-flash",
            Thinking("max", shown=False),
            {"thinkingBudget": 24576, "includeThoughts": False},
            False,
        ),
        ("gemini-2.5-flash", Thinking(off=True), {"thinkingBudget": 0}, False),
        ("gemini-2.5-pro", Thinking(off=True), {"thinkingBudget": 128}, True),
        (
            "gemini-3-pro",
            Thinking("minimal"),
            {"thinkingLevel": "LOW", "includeThoughts": True},
            False,
        ),
        (
            "gemini-3-flash",
            Thinking(budget=500),
            {"thinkingLevel": "MINIMAL", "includeThoughts": True},
            False,
        ),
        ("gemini-3-flash", Thinking(off=True), {"thinkingLevel": "MINIMAL"}, True),
        ("gemini-3-flash", Thinking(), {"includeThoughts": True}, False),
    ],
)
def test_thinking_is_asked_for_as_the_model_takes_it(
    model: str, thinking: Thinking, expected: Any, dropped: bool
) -> None:
    """In tokens or in levels; a model that always thinks is said to."""
    found = written(talk(thinking=thinking), model)
    config = msgspec.json.decode(found.body).get("generationConfig", {})
    assert config.get("thinkingConfig") == expected
    assert found.dropped == (("reasoning_effort",) if dropped else ())


def test_options_are_written() -> None:
    """Under Google's names; what it has no name for is told."""
    found = written(
        talk(
            sampling=Sampling(
                temperature=1.5, top_p=0.5, top_k=4, seed=0, min_p=0.1, frequency_penalty=0.5
            ),
            max_tokens=7,
            stop=("a",),
            n=2,
            output=OutputFormat("json_schema", {"type": "object"}),
            tools=(WEATHER,),
            tool_choice=ToolChoice("required", ("weather",)),
            parallel_tool_calls=False,
            user="u",
            verbosity="low",
            service_tier="flex",
        ),
        output_cap=5,
    )
    sent = msgspec.json.decode(found.body)
    assert sent["generationConfig"] == {
        "temperature": 1.5,
        "topP": 0.5,
        "topK": 4,
        "frequencyPenalty": 0.5,
        "seed": 0,
        "maxOutputTokens": 5,
        "stopSequences": ["a"],
        "candidateCount": 2,
        "responseMimeType": "application/json",
        "responseJsonSchema": {"type": "object"},
    }
    assert sent["serviceTier"] == "flex"
    assert sent["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] == WEATHER.schema
    assert sent["toolConfig"]["functionCallingConfig"] == {
        "mode": "ANY",
        "allowedFunctionNames": ["weather"],
    }
    assert found.dropped == ("parallel_tool_calls", "min_p", "user", "verbosity")


def test_tools_that_may_not_be_called_are_not_offered() -> None:
    """Names are for calls that must be made."""
    sent = body(talk(tools=(WEATHER, Tool("x")), tool_choice=ToolChoice("auto", ("x",))))
    assert [tool["name"] for tool in sent["tools"][0]["functionDeclarations"]] == ["x"]
    assert sent["toolConfig"]["functionCallingConfig"] == {"mode": "AUTO"}


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        (
            Media("image", "image/png", data="AA"),
            {"inlineData": {"mimeType": "image/png", "data": "AA"}},
        ),
        (Media("document", text="t", name="n"), {"text": "n\nt"}),
        (Media("video", url="https://youtu.be/x"), {"fileData": {"fileUri": "https://youtu.be/x"}}),
        (
            Media("image", file_id="gs://b/o", media_type="image/png"),
            {"fileData": {"fileUri": "gs://b/o", "mimeType": "image/png"}},
        ),
    ],
)
def test_media_are_written_by_where_they_are(media: Media, expected: Any) -> None:
    """Data inline, and what Google itself can reach by its address."""
    assert body(talk(Turn("user", (media,))))["contents"][0]["parts"] == [expected]


@pytest.mark.parametrize(
    ("conversation", "param"),
    [
        (talk(stop=tuple("abcdef")), "stop"),
        (talk(sampling=Sampling(logprobs=True)), "logprobs"),
        (talk(tools=(Tool("f", custom=True),)), "tools"),
        (talk(Turn("user", (Media("image", url="https://x/y.png"),))), "messages"),
        (talk(Turn("user", (ToolResult("nobody", ()),))), "messages"),
        (talk(HI, Turn("assistant", (ToolCall("c", "f", "{oops"),))), "messages"),
        (talk(HI, Turn("assistant", (Media("image", url="x"),))), "messages"),
        (talk(Turn("user", (Text(""),))), "messages"),
    ],
)
def test_what_google_cannot_be_told_is_refused(conversation: Conversation, param: str) -> None:
    """By the name that the caller gave it."""
    with pytest.raises(CannotExpress) as cannot:
        written(conversation)
    assert cannot.value.param == param


def test_unknown_members_pass_within_the_family() -> None:
    """Where they stood; deep inside they are named."""
    read = asked(
        {"text": "hi", "videoMetadata": {"fps": 1}},
        safetySettings=[{"x": 1}],
        generationConfig={"mediaResolution": "LOW"},
        labels={"team": "a"},
    )
    found = written(read)
    sent = msgspec.json.decode(found.body)
    assert sent["safetySettings"] == [{"x": 1}]
    assert sent["generationConfig"] == {"mediaResolution": "LOW"}
    assert sent["labels"] == {"team": "a"}
    assert found.dropped == ("contents[0].parts[0].videoMetadata",)
