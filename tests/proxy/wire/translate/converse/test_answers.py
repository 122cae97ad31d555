"""The laws of reading answers and errors of Converse."""

import msgspec
import pytest

from proxy.wire.translate.converse.answers import (
    RawUsage,
    failure_named,
    read_answer,
    read_error,
    stop_of,
    usage_of,
)
from proxy.wire.translate.core import (
    Answer,
    BadAnswer,
    Failure,
    Reasoning,
    Text,
    ToolCall,
    Usage,
)


def test_input_is_counted_whole() -> None:
    """Amazon leaves out of it what was read from or put into the cache."""
    raw = msgspec.convert(
        {
            "inputTokens": 10,
            "outputTokens": 5,
            "cacheReadInputTokens": 100,
            "cacheWriteInputTokens": 1000,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 400}, {"ttl": "5m", "inputTokens": 600}],
        },
        RawUsage,
    )
    assert usage_of(raw) == Usage(1110, 100, 1000, 5, cache_write_1h_tokens=400)
    assert usage_of(RawUsage(-1)) == Usage()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("end_turn", "end"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("guardrail_intervened", "filtered"),
        ("model_context_window_exceeded", "context"),
        ("brand_new", "end"),
        (None, "end"),
    ],
)
def test_why_an_answer_ended(word: str | None, expected: str) -> None:
    """In the core's words."""
    assert stop_of(word) == expected


def test_an_answer_is_read_block_by_block() -> None:
    """What the core has no word for is named."""
    blocks = [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
        {"reasoningContent": {"redactedContent": "xx"}},
        {"reasoningContent": {"reasoningText": {"text": "open"}}},
        {"text": "a"},
        {"toolUse": {"toolUseId": "c", "name": "short", "input": {"x": 1}}},
        {"citationsContent": {"content": []}},
    ]
    body = {
        "output": {"message": {"role": "assistant", "content": blocks}},
        "stopReason": "tool_use",
        "usage": {"inputTokens": 3, "outputTokens": 2},
    }
    answer = read_answer(msgspec.json.encode(body), {"short": "a.b"})
    assert isinstance(answer, Answer)
    assert answer.choices[0].parts == (
        Reasoning("hm", "s", maker="anthropic"),
        Reasoning(redacted="xx", maker="anthropic"),
        Reasoning("open"),
        Text("a"),
        ToolCall("c", "a.b", '{"x":1}'),
    )
    assert answer.usage == Usage(3, 0, 0, 2)
    assert answer.dropped == ("citationsContent",)


def test_what_a_model_wrote_wrong_is_a_failure() -> None:
    """To be tried again."""
    failure = read_answer(b'{"stopReason":"malformed_tool_use"}')
    assert isinstance(failure, Failure)
    assert failure.code == "bad_answer"


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"output":{}}', b'{"output":{"message":{"content":[{"toolUse":{}}]}}}']
)
def test_garbage_is_a_bad_answer(body: bytes) -> None:
    """To be tried elsewhere."""
    with pytest.raises(BadAnswer):
        read_answer(body)


@pytest.mark.parametrize(
    ("status", "name", "body", "kind"),
    [
        (
            429,
            "ThrottlingException:http://internal.amazon.com/x",
            b'{"message":"slow"}',
            "rate_limited",
        ),
        (400, "ServiceQuotaExceededException", b'{"message":"slow"}', "rate_limited"),
        (400, "ValidationException", b'{"message":"Input is too long"}', "context_length"),
        (403, "AccessDeniedException", b'{"Message":"no"}', "forbidden"),
        (403, "InvalidSignatureException", b"{}", "unauthorized"),
        (424, "ModelErrorException", b'{"message":"x"}', "lost"),
        (429, "ModelNotReadyException", b'{"message":"x"}', "overloaded"),
        (503, "", b'{"__type":"com.amazon#ServiceUnavailableException"}', "overloaded"),
        (502, "", b"Bad Gateway", "lost"),
    ],
)
def test_a_refusal_is_sorted_by_its_name(status: int, name: str, body: bytes, kind: str) -> None:
    """Amazon's statuses say less than its names."""
    failure = read_error(status, {"x-amzn-errortype": name} if name else {}, body)
    assert failure.kind == kind
    assert failure.message


def test_an_exception_without_a_status_is_one_by_its_name() -> None:
    """As frames of a stream have it."""
    assert failure_named("throttlingException", "slow").status == 429
    assert failure_named("brandNewException", None).status == 502
