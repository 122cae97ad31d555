"""The laws of reading and writing answers and errors of Chat Completions."""

from typing import Any

import msgspec
import pytest

from proxy.wire.translate.chat.answers import (
    finish_of,
    read_answer,
    read_error,
    stop_of,
    usage_of,
    write_answer,
    write_error,
)
from proxy.wire.translate.core import (
    Answer,
    BadAnswer,
    Choice,
    Failure,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    Usage,
)
from tests.proxy.wire.translate.samples import REPLY


def vendor(message: dict[str, Any], finish: str | None = "stop", **top: Any) -> Answer:
    body = {
        "id": "chatcmpl-1",
        "model": "served",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    } | top
    answer = read_answer(msgspec.json.encode(body))
    assert isinstance(answer, Answer)
    return answer


@pytest.mark.parametrize(
    ("finish", "called", "refused", "expected"),
    [
        ("stop", False, False, "end"),
        ("stop", True, False, "tool_calls"),
        ("stop", False, True, "refusal"),
        ("tool_calls", True, False, "tool_calls"),
        ("length", True, False, "length"),
        ("content_filter", False, False, "filtered"),
        ("model_length", False, False, "context"),
        ("something new", False, False, "end"),
    ],
)
def test_why_an_answer_ended(finish: str, called: bool, refused: bool, expected: str) -> None:
    """By its finish reason and by what stood in it: servers say "stop" after calls as well."""
    assert stop_of(finish, called=called, refused=refused) == expected


def test_a_refusal_in_words_ends_as_openai_ends_it() -> None:
    """Without words it was a filter, for all that a client can know."""
    assert finish_of("refusal", refused=True) == "stop"
    assert finish_of("refusal", refused=False) == "content_filter"
    refused = Answer((Choice((), "refusal", "Not this."),))
    message = msgspec.json.decode(write_answer(refused, REPLY))["choices"][0]
    assert message["message"]["refusal"] == "Not this."
    assert message["finish_reason"] == "stop"


def test_content_in_parts_is_read() -> None:
    """Mistral's models that think answer so."""
    answer = vendor({"content": [{"type": "text", "text": "a"}, {"type": "odd"}, "b"]})
    assert answer.choices[0].parts == (Text("a"),)


def test_names_that_were_changed_are_given_back() -> None:
    """The caller sees its own tool's name."""
    body = {
        "choices": [
            {
                "message": {
                    "tool_calls": [
                        {
                            "id": "c",
                            "type": "function",
                            "function": {"name": "short", "arguments": ""},
                        }
                    ]
                }
            }
        ]
    }
    answer = read_answer(msgspec.json.encode(body), {"short": "the.long.name"})
    assert isinstance(answer, Answer)
    assert answer.choices[0].parts == (ToolCall("c", "the.long.name", ""),)
    assert answer.choices[0].stop == "tool_calls"


def test_what_the_core_has_no_word_for_is_named() -> None:
    """Never silently."""
    body = {
        "choices": [
            {
                "message": {"content": "a", "annotations": [{}], "audio": {"id": "x"}},
                "logprobs": {"content": []},
            }
        ]
    }
    answer = read_answer(msgspec.json.encode(body))
    assert isinstance(answer, Answer)
    assert answer.dropped == ("logprobs", "annotations", "audio")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error":{"message":"slow down","code":429}}', "rate_limited"),
        (b'{"error":{"message":"x","type":"overloaded_error"}}', "overloaded"),
        (b'{"base_resp":{"status_code":1008,"status_msg":"no money"}}', "billing"),
        (b'{"error":"it broke"}', "lost"),
        (b'{"choices":[{"finish_reason":"error","message":{}}]}', "lost"),
    ],
)
def test_an_error_with_status_200_is_a_failure(body: bytes, kind: str) -> None:
    """With the status that it should have had."""
    failure = read_answer(body)
    assert isinstance(failure, Failure)
    assert failure.kind == kind


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"choices":[]}', b'{"choices":[7]}', b"<html>", b'{"choices":7}']
)
def test_garbage_is_a_bad_answer(body: bytes) -> None:
    """To be tried elsewhere."""
    with pytest.raises(BadAnswer):
        read_answer(body)


def test_usage_has_all_its_parts() -> None:
    """Inclusive, as OpenAI counts; what is in the cache's making only where there is some."""
    written = usage_of(Usage(100, 30, 20, 50, 40, 7, 8))
    assert written["prompt_tokens"] == 100
    assert written["total_tokens"] == 150
    assert written["prompt_tokens_details"] == {
        "cached_tokens": 30,
        "audio_tokens": 7,
        "cache_write_tokens": 20,
    }
    assert written["completion_tokens_details"] == {"reasoning_tokens": 40, "audio_tokens": 8}
    again = vendor({"content": "a"}, usage=written).usage
    assert again == Usage(100, 30, 20, 50, 40, 7, 8)


def test_several_choices_keep_their_order() -> None:
    """N answers are n choices."""
    answer = Answer((Choice((Text("a"),)), Choice((Reasoning("hm"), Refusal("b")), "refusal")))
    again = read_answer(write_answer(answer, REPLY))
    assert isinstance(again, Answer)
    assert again.choices == answer.choices


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (
            401,
            b'{"error":{"message":"bad key","code":"invalid_api_key"}}',
            "unauthorized",
            "invalid_api_key",
        ),
        (
            400,
            b'{"error":{"message":"x","code":"context_length_exceeded"}}',
            "context_length",
            "context_length_exceeded",
        ),
        (
            400,
            b'{"error":{"message":"The response was filtered","code":"content_filter"}}',
            "filtered",
            "content_filter",
        ),
        (
            429,
            b'[{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED"}}]',
            "rate_limited",
            "429",
        ),
        (502, b"Bad Gateway", "lost", None),
    ],
)
def test_a_refusal_is_read(status: int, body: bytes, kind: str, code: str | None) -> None:
    """In OpenAI's envelope, in Google's array, or as a page of text."""
    failure = read_error(status, {}, body)
    assert (failure.kind, failure.code) == (kind, code)


def test_an_error_names_its_field() -> None:
    """In the place where OpenAI's clients look for it."""
    failure = Failure(kind="bad_request", message="no", status=400, param="n", code="invalid_value")
    written = write_error(failure, "req")
    assert written.status == 400
    assert msgspec.json.decode(written.body)["error"] == {
        "message": "no",
        "type": "invalid_request_error",
        "param": "n",
        "code": "invalid_value",
    }
    assert read_error(400, {}, written.body).param == "n"
