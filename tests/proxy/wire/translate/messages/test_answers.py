"""The laws of reading and writing answers and errors of Messages."""

from typing import Any

import msgspec
import pytest

from proxy.wire.translate.core import (
    Answer,
    BadAnswer,
    Choice,
    Failure,
    Refusal,
    Text,
    ToolCall,
    Usage,
)
from proxy.wire.translate.messages.answers import (
    RawUsage,
    read_answer,
    read_error,
    stop_word,
    usage_of,
    write_answer,
    write_error,
    write_usage,
)
from tests.proxy.wire.translate.samples import REPLY


def vendor(**members: Any) -> Answer | Failure:
    body = {"type": "message", "id": "msg_1", "model": "claude", "content": []} | members
    return read_answer(msgspec.json.encode(body))


def test_input_is_counted_whole() -> None:
    """Anthropic leaves out of it what was read from or put into the cache; neither is lost or doubled."""
    raw = msgspec.convert(
        {
            "input_tokens": 10,
            "cache_read_input_tokens": 100,
            "cache_creation_input_tokens": 1000,
            "output_tokens": 50,
            "output_tokens_details": {"thinking_tokens": 20},
            "cache_creation": {"ephemeral_1h_input_tokens": 400},
            "server_tool_use": {"web_search_requests": 2},
        },
        RawUsage,
    )
    usage = usage_of(raw)
    assert usage == Usage(1110, 100, 1000, 50, 20, cache_write_1h_tokens=400, web_searches=2)
    written = write_usage(usage)
    assert written["input_tokens"] == 10
    assert usage_of(msgspec.convert(written, RawUsage)) == usage


def test_counts_that_cannot_be_are_none() -> None:
    """Negative, enormous, absent."""
    assert usage_of(RawUsage(-5, 1 << 60, None, -1)) == Usage()
    assert write_usage(Usage(5, 9))["input_tokens"] == 0


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "end"),
        ("max_tokens", "length"),
        ("stop_sequence", "stop_sequence"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "paused"),
        ("refusal", "refusal"),
        ("model_context_window_exceeded", "context"),
        ("something_new", "end"),
        (None, "end"),
    ],
)
def test_why_an_answer_ended(reason: str | None, expected: str) -> None:
    """And back in the same word, where it is one of Anthropic's."""
    answer = vendor(stop_reason=reason)
    assert isinstance(answer, Answer)
    assert answer.choices[0].stop == expected
    if reason is not None and reason != "something_new":
        assert stop_word(answer.choices[0].stop, called=False) == reason


def test_the_sequence_and_the_explanation_are_kept() -> None:
    """What stopped it, or why it was refused."""
    stopped = vendor(stop_reason="stop_sequence", stop_sequence="END")
    refused = vendor(stop_reason="refusal", stop_details={"type": "refusal", "explanation": "why"})
    for answer, key, expected in (
        (stopped, "stop_sequence", "END"),
        (refused, "stop_details", "why"),
    ):
        assert isinstance(answer, Answer)
        assert answer.choices[0].detail == expected
        again = msgspec.json.decode(write_answer(answer, REPLY))
        value = again[key]
        assert value == expected or value["explanation"] == expected


def test_what_the_core_has_no_word_for_is_named() -> None:
    """Citations, and blocks of a vendor's own tools."""
    answer = vendor(
        content=[
            {"type": "text", "text": "a", "citations": [{"type": "char_location"}]},
            {"type": "server_tool_use", "id": "s"},
        ]
    )
    assert isinstance(answer, Answer)
    assert answer.choices[0].parts == (Text("a"),)
    assert answer.dropped == ("citations", "server_tool_use")


def test_an_error_with_status_200_is_a_failure() -> None:
    """With the status that its type has."""
    failure = read_answer(b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}')
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.status) == ("overloaded", 529)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"content":7}',
        b'{"content":[{}]}',
        b'{"content":[],"usage":{"input_tokens":"x"}}',
        b'{"content":[{"type":"tool_use","id":"a"}]}',
    ],
)
def test_garbage_is_a_bad_answer(body: bytes) -> None:
    """To be tried elsewhere."""
    with pytest.raises(BadAnswer):
        read_answer(body)


def test_names_that_were_changed_are_given_back() -> None:
    """The caller sees its own tool's name."""
    answer = read_answer(
        b'{"content":[{"type":"tool_use","id":"a","name":"short","input":{}}]}', {"short": "a.b"}
    )
    assert isinstance(answer, Answer)
    assert answer.choices[0].parts == (ToolCall("a", "a.b", "{}"),)


def test_a_refusal_is_told_as_text() -> None:
    """OpenAI's has words, which Anthropic's clients show as what the model says."""
    written = msgspec.json.decode(
        write_answer(Answer((Choice((Refusal("no"),), "refusal"),)), REPLY)
    )
    assert written["content"] == [{"type": "text", "text": "no", "citations": None}]
    assert written["stop_reason"] == "refusal"


def test_calls_have_ids_and_objects() -> None:
    """A vendor without ids gets one made; arguments that are no object are a bad answer."""
    answer = Answer((Choice((ToolCall("", "f", ""), ToolCall("a:b", "f", "{}")), "end"),))
    written = msgspec.json.decode(write_answer(answer, REPLY))
    assert written["stop_reason"] == "tool_use"
    assert [block["input"] for block in written["content"]] == [{}, {}]
    assert written["content"][0]["id"] == "toolu_0123abcd_0"
    with pytest.raises(BadAnswer):
        write_answer(Answer((Choice((ToolCall("a", "f", "{oops"),)),)), REPLY)


def test_a_refusal_by_status_is_read_and_written() -> None:
    """The field at fault stands in the message, as Anthropic has it."""
    failure = Failure(kind="bad_request", message="no", status=400, param="messages[0]")
    written = write_error(failure, "req-1")
    body = msgspec.json.decode(written.body)
    assert body == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "messages[0]: no"},
        "request_id": "req-1",
    }
    bedrock = read_error(400, {}, b'{"message":"Malformed input request"}')
    assert bedrock.message == "Malformed input request"
    assert read_error(502, {}, b"Bad Gateway").message == "Bad Gateway"
    assert read_error(0, {}, b"{}").status == 500
