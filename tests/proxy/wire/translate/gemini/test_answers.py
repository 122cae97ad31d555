"""The laws of reading and writing answers and errors of Gemini."""

from typing import Any

import msgspec
import pytest

from proxy.wire.translate.core import (
    Answer,
    BadAnswer,
    Choice,
    Failure,
    Reasoning,
    Text,
    ToolCall,
    Usage,
)
from proxy.wire.translate.gemini.answers import (
    RawUsage,
    finish_of,
    read_answer,
    read_error,
    stop_of,
    usage_of,
    write_answer,
    write_error,
    write_usage,
)
from tests.proxy.wire.translate.samples import REPLY


def vendor(*parts: Any, finish: str = "STOP", **top: Any) -> Answer:
    body = {
        "candidates": [
            {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish}
        ],
        "responseId": "r",
        "modelVersion": "gemini-x",
    } | top
    answer = read_answer(msgspec.json.encode(body))
    assert isinstance(answer, Answer)
    return answer


def test_thoughts_are_output() -> None:
    """Google counts them beside the candidates, and what its tools read beside the prompt."""
    raw = msgspec.convert(
        {
            "promptTokenCount": 100,
            "cachedContentTokenCount": 30,
            "toolUsePromptTokenCount": 5,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 7,
            "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 11}, {"modality": "TEXT"}],
        },
        RawUsage,
    )
    assert usage_of(raw) == Usage(105, 30, 0, 27, 7, 11)
    written = write_usage(Usage(105, 30, 0, 27, 7))
    assert written["totalTokenCount"] == 132
    assert usage_of(msgspec.convert(written, RawUsage)) == Usage(105, 30, 0, 27, 7)
    assert usage_of(RawUsage(-1, 9)) == Usage()


@pytest.mark.parametrize(
    ("finish", "called", "expected"),
    [
        ("STOP", False, "end"),
        ("STOP", True, "tool_calls"),
        ("MAX_TOKENS", True, "length"),
        ("SAFETY", False, "filtered"),
        ("RECITATION", False, "filtered"),
        ("BRAND_NEW", False, "end"),
    ],
)
def test_why_an_answer_ended(finish: str, called: bool, expected: Any) -> None:
    """Google says STOP after calls as well."""
    assert stop_of(finish, called=called) == expected
    assert finish_of("tool_calls") == "STOP"
    assert finish_of("refusal") == "SAFETY"


def test_an_answer_is_read_part_by_part() -> None:
    """Thoughts, their proofs, text, calls; what the core has no word for is named."""
    answer = vendor(
        {"text": "hm", "thought": True},
        {"text": "a"},
        {"functionCall": {"name": "short", "args": {"x": 1}}, "thoughtSignature": "gs"},
        {"executableCode": {"code": "1"}},
        usageMetadata={"promptTokenCount": 3},
    )
    assert answer.choices[0].parts == (
        Reasoning("hm"),
        Text("a"),
        Reasoning(signature="gs", maker="google"),
        ToolCall("", "short", '{"x":1}'),
    )
    assert answer.usage == Usage(3)
    assert answer.dropped == ("executableCode",)
    named = read_answer(
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"short"}}]}}]}',
        {"short": "a.b"},
    )
    assert isinstance(named, Answer)
    assert named.choices[0].parts == (ToolCall("", "a.b", "{}"),)


def test_a_prompt_that_was_blocked_is_an_answer() -> None:
    """Without candidates, and with the reason."""
    answer = read_answer(b'{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{}}')
    assert isinstance(answer, Answer)
    assert answer.choices == (Choice((), "filtered", "SAFETY"),)


def test_what_a_model_wrote_wrong_is_a_failure() -> None:
    """To be tried again: a call that is none."""
    failure = read_answer(b'{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL"}]}')
    assert isinstance(failure, Failure)
    assert failure.code == "bad_answer"
    error = read_answer(b'{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}')
    assert isinstance(error, Failure)
    assert error.kind == "overloaded"


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"candidates":[]}', b'{"candidates":7}', b'{"candidates":[{"content":7}]}'],
)
def test_garbage_is_a_bad_answer(body: bytes) -> None:
    """To be tried elsewhere."""
    with pytest.raises(BadAnswer):
        read_answer(body)


def test_an_answer_is_written_as_google_writes_it() -> None:
    """With the ids that Google's client shows."""
    answer = Answer((Choice((Text("a"),), "length"),), "up", "served", Usage(3, 0, 0, 2))
    assert msgspec.json.decode(write_answer(answer, REPLY)) == {
        "candidates": [
            {
                "content": {"parts": [{"text": "a"}], "role": "model"},
                "finishReason": "MAX_TOKENS",
                "index": 0,
            }
        ],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
        "modelVersion": "served",
        "responseId": "0123abcd",
    }


@pytest.mark.parametrize(
    ("status", "body", "kind", "wait"),
    [
        (
            429,
            (
                b'{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED","details":[{},'
                b'{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.5s"}]}}'
            ),
            "rate_limited",
            34_500_000,
        ),
        (
            400,
            b'[{"error":{"message":"input is too long","status":"INVALID_ARGUMENT"}}]',
            "context_length",
            None,
        ),
        (502, b"Bad Gateway", "lost", None),
    ],
)
def test_a_refusal_is_read(status: int, body: bytes, kind: str, wait: int | None) -> None:
    """In Google's envelope, also in an array; when to come again stands in its details."""
    failure = read_error(status, {}, body)
    assert (failure.kind, failure.retry_after_us) == (kind, wait)


def test_an_error_is_written_with_its_details() -> None:
    """The field stands in the message, and when to come again where Google's clients look."""
    limited = Failure(
        kind="rate_limited", message="slow", status=429, retry_after_us=1_200_000, param="x"
    )
    error = msgspec.json.decode(write_error(limited, "r").body)["error"]
    assert error["message"] == "x: slow"
    assert error["details"][0]["retryDelay"] == "2s"
    assert (error["code"], error["status"]) == (429, "RESOURCE_EXHAUSTED")
