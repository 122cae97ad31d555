"""What the gateway says itself in each protocol: errors, cut streams, limits."""

import json

import msgspec
import pytest

from proxy.wire import sse
from proxy.wire.envelopes import (
    anthropic_error,
    anthropic_event,
    anthropic_lines,
    array_event,
    gemini_error,
    gemini_event,
    ollama_error,
    ollama_event,
    openai_error,
    openai_event,
    openai_lines,
    responses_event,
)
from tests.proxy.wire.chunks import metered

# OpenAI...


def test_our_error_event_is_one_event_and_no_done() -> None:
    """One event that the official clients raise on, whatever the message holds."""
    raw = openai_event('cut\n\ndata: [DONE] "x" \u2028', "upstream_lost", "req_1")
    [(name, data)] = sse.decode(raw)
    assert name == "message"
    assert json.loads(data)["error"] == {
        "message": 'cut\n\ndata: [DONE] "x" \u2028',
        "type": "upstream_error",
        "param": None,
        "code": "upstream_lost",
        "request_id": "req_1",
    }
    meter, _ = metered([raw])
    assert not meter.done
    assert meter.error is not None


def test_our_error_body_is_openais_envelope() -> None:
    """All four members are there, null where there is nothing to say."""
    body = openai_error(400, "bad", "invalid_request_error", param="model")
    assert msgspec.json.decode(body) == {
        "error": {"message": "bad", "type": "invalid_request_error", "param": "model", "code": None}
    }


def test_limits_become_headers() -> None:
    """Requests and tokens, each where there is a limit; the reset as OpenAI writes it."""
    assert openai_lines((0, 0, 0, 0, 0, 0), "req_1", int) == b""
    assert openai_lines((60, 59, 1_000_000, 0, 0, 0), "req_1", int) == (
        b"x-ratelimit-limit-requests: 60\r\n"
        b"x-ratelimit-remaining-requests: 59\r\n"
        b"x-ratelimit-reset-requests: 1.000s\r\n"
    )
    assert openai_lines((0, 0, 0, 1000, 0, 59_500_000), "req_1", int) == (
        b"x-ratelimit-limit-tokens: 1000\r\n"
        b"x-ratelimit-remaining-tokens: 0\r\n"
        b"x-ratelimit-reset-tokens: 59.500s\r\n"
    )
    assert openai_lines([1, 0, 5, 2, 1, 6], "req_1", int).count(b"\r\n") == 6


def test_the_error_event_of_responses_is_flat_and_raised() -> None:
    """Its members are those of the protocol, and the official clients raise it for the one besides."""
    [(name, data)] = sse.decode(responses_event("cut", "upstream_lost", "req_1"))
    document = json.loads(data)
    assert name == document["type"] == "error"
    assert (document["code"], document["message"], document["param"]) == (
        "upstream_lost",
        "cut",
        None,
    )
    assert document["sequence_number"] > 1_000_000
    assert document["error"]["message"] == "cut"


# Anthropic...


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (408, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_anthropics_error_has_the_type_of_its_status(status: int, kind: str) -> None:
    """Whatever the word is elsewhere; nothing else stands in the envelope."""
    body = anthropic_error(
        status, "bad", "insufficient_quota", "x", param="model", request_id="req_1"
    )
    assert json.loads(body) == {
        "type": "error",
        "error": {"type": kind, "message": "bad"},
        "request_id": "req_1",
    }


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("upstream_lost", "api_error"),
        ("idle_timed_out", "timeout_error"),
        ("drained", "overloaded_error"),
    ],
)
def test_anthropics_error_event_is_named(code: str, kind: str) -> None:
    """The official clients drop an event without a name."""
    raw = anthropic_event("cut\n\nevent: message_stop", code, "req_1")
    [(name, data)] = sse.decode(raw)
    assert name == "error"
    assert json.loads(data) == {
        "type": "error",
        "error": {"type": kind, "message": "cut\n\nevent: message_stop"},
        "request_id": "req_1",
    }


def test_anthropics_limits_name_the_instant_of_their_reset() -> None:
    """In RFC 3339, not before it; the id goes by the name that its clients read."""

    def clock() -> int:
        return 1_700_000_000_000_000

    alone = b"request-id: req_1\r\n"
    assert anthropic_lines((0, 0, 0, 0, 0, 0), "req_1", clock) == alone
    assert anthropic_lines((60, 59, 1_000_001, 0, 0, 0), "req_1", clock) == alone + (
        b"anthropic-ratelimit-requests-limit: 60\r\n"
        b"anthropic-ratelimit-requests-remaining: 59\r\n"
        b"anthropic-ratelimit-requests-reset: 2023-11-14T22:13:22Z\r\n"
    )
    assert anthropic_lines((0, 0, 0, 1000, 0, 0), "req_1", clock) == alone + (
        b"anthropic-ratelimit-tokens-limit: 1000\r\n"
        b"anthropic-ratelimit-tokens-remaining: 0\r\n"
        b"anthropic-ratelimit-tokens-reset: 2023-11-14T22:13:20Z\r\n"
    )


# Gemini and Ollama...


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (400, "INVALID_ARGUMENT"),
        (413, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
    ],
)
def test_googles_error_has_the_word_of_its_status(status: int, word: str) -> None:
    """And the status besides."""
    body = gemini_error(status, "bad", "api_error", "x", param="model", request_id="req_1")
    assert json.loads(body) == {"error": {"code": status, "message": "bad", "status": word}}


def test_googles_cut_streams_end_in_an_error() -> None:
    """As an event, and as the last element of an array."""
    [(_, data)] = sse.decode(gemini_event("cut", "idle_timed_out", "req_1"))
    assert json.loads(data)["error"]["code"] == 504
    assert json.loads(gemini_event("cut", "drained", "")[6:])["error"]["code"] == 503
    array = json.loads(b'[{"candidates":[]}' + array_event("cut", "upstream_lost", "req_1"))
    assert array[1]["error"]["code"] == 502


def test_ollamas_error_is_a_message() -> None:
    """Whole, and as the last line of a stream."""
    assert ollama_error(400, "bad", "x") == b'{"error":"bad"}'
    assert ollama_event("cut", "upstream_lost", "req_1") == b'{"error":"cut"}\n'
