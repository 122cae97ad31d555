"""What the gateway says itself in each protocol: errors, cut streams, limits."""

import json

import msgspec

from proxy.wire import sse
from proxy.wire.envelopes import openai_error, openai_event, openai_lines
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
