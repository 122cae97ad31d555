"""The laws of reading and writing answers of Responses."""

from typing import Any

import msgspec
import pytest

from proxy.wire.translate.core import (
    Answer,
    BadAnswer,
    Choice,
    Conversation,
    Failure,
    OutputFormat,
    Reasoning,
    Refusal,
    Reply,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    Turn,
    Usage,
)
from proxy.wire.translate.responses.answers import (
    RawUsage,
    read_answer,
    status_of,
    stop_of,
    usage_of,
    write_answer,
    write_usage,
)
from tests.proxy.wire.translate.samples import REPLY, WEATHER

# What the Open Responses specification wants to be there.
MEMBERS = {
    *("id", "object", "created_at", "completed_at", "status", "incomplete_details", "model"),
    *("previous_response_id", "instructions", "output", "error", "tools", "tool_choice"),
    *("truncation", "parallel_tool_calls", "text", "top_p", "temperature", "top_logprobs"),
    *("presence_penalty", "frequency_penalty", "reasoning", "usage", "max_output_tokens"),
    *("max_tool_calls", "store", "background", "service_tier", "metadata", "safety_identifier"),
    "prompt_cache_key",
}


def vendor(*output: Any, **members: Any) -> Answer | Failure:
    body = {"id": "resp", "model": "m", "status": "completed", "output": list(output)} | members
    return read_answer(msgspec.json.encode(body), {"short": "a.b"})


def test_usage_is_inclusive_on_both_sides() -> None:
    """Neither doubled nor dropped."""
    usage = Usage(100, 30, 20, 50, 40)
    assert usage_of(msgspec.convert(write_usage(usage), RawUsage)) == usage
    assert usage_of(RawUsage(-1, None)) == Usage()


@pytest.mark.parametrize(
    ("status", "details", "called", "refused", "expected"),
    [
        ("completed", None, False, False, "end"),
        ("completed", None, True, False, "tool_calls"),
        ("completed", None, False, True, "refusal"),
        ("incomplete", {"reason": "max_output_tokens"}, True, False, "length"),
        ("incomplete", {"reason": "content_filter"}, False, False, "filtered"),
        ("incomplete", None, False, False, "length"),
    ],
)
def test_why_an_answer_ended(
    status: str, details: Any, called: bool, refused: bool, expected: Any
) -> None:
    """And back: a response is complete, or says what cut it."""
    assert stop_of(status, details, called=called, refused=refused) == expected
    again, why = status_of(expected, refused=refused)
    assert again == status
    assert (why is None) == (status == "completed")


def test_a_response_is_read_item_by_item() -> None:
    """What the core has no word for is named."""
    answer = vendor(
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]},
        {
            "type": "message",
            "content": [
                {"type": "output_text", "text": "a", "annotations": [{}]},
                {"type": "refusal", "refusal": "no"},
            ],
        },
        {"type": "function_call", "call_id": "c", "name": "short", "arguments": "{}"},
        {"type": "web_search_call"},
        usage={"input_tokens": 3},
    )
    assert isinstance(answer, Answer)
    assert answer.choices[0].parts == (
        Reasoning("hm"),
        Text("a"),
        Refusal("no"),
        ToolCall("c", "a.b", "{}"),
    )
    assert answer.dropped == ("annotations", "web_search_call")
    assert answer.usage == Usage(3)


def test_a_failed_response_is_a_failure() -> None:
    """Although its status is 200."""
    failure = vendor(status="failed", error={"code": "rate_limit_exceeded", "message": "slow"})
    assert isinstance(failure, Failure)
    assert failure.kind == "rate_limited"
    silent = vendor(status="failed")
    assert isinstance(silent, Failure)
    plain = read_answer(b'{"error":{"message":"x","code":7}}')
    assert isinstance(plain, Failure)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"output":7}', b'{"output":[7]}', b'{"output":[{}]}']
)
def test_garbage_is_a_bad_answer(body: bytes) -> None:
    """To be tried elsewhere."""
    with pytest.raises(BadAnswer):
        read_answer(body)


def test_every_member_of_a_response_is_there() -> None:
    """Strict clients want them all, and those that repeat the request say what was asked."""
    asked = Conversation(
        model="m",
        turns=(Turn("user", (Text("hi"),)),),
        system=(Text("Be brief."),),
        tools=(WEATHER, Tool("free", custom=True)),
        tool_choice=ToolChoice("required", ("weather",)),
        output=OutputFormat("json_schema", {"type": "object"}, "n"),
        thinking=Thinking("high", shown=True),
        verbosity="low",
        max_tokens=7,
        extra={"prompt_cache_key": "k"},
    )
    reply = Reply(id="x", model="m", created_s=7, conversation=asked)
    made = msgspec.json.decode(
        write_answer(Answer((Choice((Text("a"),)),), "", "", Usage(1)), reply)
    )
    assert set(made) >= MEMBERS
    assert made["instructions"] == "Be brief."
    assert made["tool_choice"] == {"type": "function", "name": "weather"}
    assert [tool["type"] for tool in made["tools"]] == ["function", "custom"]
    assert made["text"]["format"]["name"] == "n"
    assert made["reasoning"] == {"effort": "high", "summary": "auto"}
    assert (made["max_output_tokens"], made["prompt_cache_key"]) == (7, "k")
    assert set(msgspec.json.decode(write_answer(Answer((Choice(()),)), REPLY))) >= MEMBERS


def test_parts_are_items_and_texts_in_a_row_one_message() -> None:
    """Each with an id of its own; a refusal that was explained has words."""
    answer = Answer(
        (Choice((Reasoning("hm"), Text("a"), Refusal("b"), ToolCall("", "f", "{}")), "tool_calls"),)
    )
    made = msgspec.json.decode(write_answer(answer, REPLY))
    assert [item["type"] for item in made["output"]] == ["reasoning", "message", "function_call"]
    assert len({item["id"] for item in made["output"]}) == 3
    assert made["output"][2]["call_id"] == "call_0123abcd_2"
    refused = msgspec.json.decode(write_answer(Answer((Choice((), "refusal", "why"),)), REPLY))
    assert refused["output"][0]["content"] == [{"type": "refusal", "refusal": "why"}]
    cut = msgspec.json.decode(write_answer(Answer((Choice((), "length"),)), REPLY))
    assert (cut["status"], cut["incomplete_details"]) == (
        "incomplete",
        {"reason": "max_output_tokens"},
    )
