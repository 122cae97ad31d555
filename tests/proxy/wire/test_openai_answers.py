"""The laws of OpenAI's whole answers: where usage is found in them, and that nonsense is none."""

import json
from typing import Any

import pytest

from proxy.wire.meter import Usage
from proxy.wire.openai_answers import meter_json, tokens_in
from tests.proxy.wire.chunks import METERED, USAGE, chunk, event, metered


def answer(usage: Any, content: str = "Hello", **more: Any) -> bytes:
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return json.dumps({"id": "x", "choices": [choice], "usage": usage, **more}).encode()


@pytest.mark.parametrize(
    ("usage", "wanted"),
    [
        (USAGE, METERED),
        # OpenAI, with everything.
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 150,
                "prompt_tokens_details": {
                    "cached_tokens": 20,
                    "cache_write_tokens": 30,
                    "audio_tokens": 7,
                    "image_tokens": 3,
                },
                "completion_tokens_details": {
                    "reasoning_tokens": 11,
                    "audio_tokens": 9,
                    "image_tokens": 4,
                    "accepted_prediction_tokens": 0,
                },
            },
            Usage(100, 20, 30, 50, 11, 7, 9, image_input_tokens=3, image_output_tokens=4),
        ),
        # Embeddings; DeepSeek; Kimi.
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(8)),
        ({**USAGE, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 5}, Usage(9, 4, 0, 5)),
        ({**USAGE, "cached_tokens": 3}, Usage(9, 3, 0, 5)),
        ({**USAGE, "prompt_tokens_details": None, "completion_tokens_details": None}, METERED),
        # xAI names its reasoning beside the completion; Gemini only counts it in the total.
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "total_tokens": 34,
                "completion_tokens_details": {"reasoning_tokens": 20},
            },
            Usage(9, 0, 0, 25, 20),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 34}, Usage(9, 0, 0, 25, 20)),
        ({**USAGE, "completion_tokens_details": {"reasoning_tokens": 4}}, Usage(9, 0, 0, 5, 4)),
        # Parts are never greater than their whole, nor negative.
        ({**USAGE, "cached_tokens": 99}, Usage(9, 9, 0, 5)),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": -4}}, METERED),
        ({**USAGE, "completion_tokens_details": {"reasoning_tokens": 60}}, Usage(9, 0, 0, 5, 5)),
        ({**USAGE, "total_tokens": 3}, METERED),
        ({**USAGE, "total_tokens": -1}, METERED),
        ({**USAGE, "total_tokens": 1 << 70}, METERED),
        # Garbage in the parts, and whole floats.
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": "4"}}, METERED),
        ({**USAGE, "prompt_tokens_details": [1]}, METERED),
        ({**USAGE, "cost": 0.001, "total_tokens": None}, METERED),
        ({"prompt_tokens": 9.0, "completion_tokens": 5.0}, METERED),
        # No sense at all.
        ({"prompt_tokens": -1, "completion_tokens": 5}, None),
        ({"prompt_tokens": 9, "completion_tokens": -5}, None),
        ({"prompt_tokens": 1 << 60, "completion_tokens": 5}, None),
        ({"prompt_tokens": "9", "completion_tokens": "5"}, None),
        ({"prompt_tokens": True}, None),
        ({"prompt_tokens": 9.5}, None),
        ({"prompt_tokens": []}, None),
        ({}, None),
        (None, None),
        ("much", None),
        ([], None),
        (7, None),
    ],
)
def test_usage_is_read_and_tamed(usage: Any, wanted: Usage | None) -> None:
    """The same in a whole answer and in a stream; nonsense is no usage rather than a wrong bill."""
    assert meter_json(answer(usage)) == wanted
    assert meter_json(answer(usage, service_tier="default")) == wanted
    meter, _ = metered([event({"choices": [], "usage": usage})])
    assert meter.usage == wanted


def test_usage_is_found_wherever_it_stands() -> None:
    """First, last, nested, twice, behind long content, behind a text about usage."""
    assert meter_json(json.dumps({"usage": USAGE, "choices": []}).encode()) == METERED
    assert meter_json(json.dumps({"choices": [{"usage": USAGE}]}).encode()) == METERED
    assert meter_json(json.dumps({"x_groq": {"usage": USAGE}}).encode()) == METERED
    assert (
        meter_json(json.dumps({"choices": [], "x": {"usage": {"prompt_tokens": 1}}}).encode())
        is None
    )
    both = {"usage": USAGE, "x": {"usage": {"prompt_tokens": 1}}}
    assert meter_json(json.dumps(both).encode()) == METERED
    assert meter_json(json.dumps(both, indent=2).encode()) == METERED
    content = '"usage":{"prompt_tokens":1} he said "usage'
    assert meter_json(answer(USAGE, content)) == METERED
    assert meter_json(json.dumps({"usage": USAGE, "text": content}).encode()) == METERED
    assert meter_json(answer(USAGE, "x" * 3_000_000)) == METERED
    floats = {"data": [{"embedding": [0.123456789] * 20_000}], "usage": {"prompt_tokens": 3}}
    assert meter_json(json.dumps(floats).encode()) == Usage(3)


def test_lone_surrogates_in_content_do_not_hide_usage() -> None:
    """A model may write half a surrogate pair; that is content."""
    assert meter_json(answer(USAGE, "\ud800")) == METERED
    body = json.dumps({"usage": USAGE, "text": "\udc00\ud800", "x": {"usage": 1}}).encode()
    assert meter_json(body) == METERED
    last = event(chunk("\ud83d", reason="stop", usage=USAGE))
    meter, out = metered([last])
    assert meter.usage == METERED
    assert out == last


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"<html>",
        b'"usage"',
        b'{"usage":',
        b'{"usage"',
        b"\xff",
        b'{"usage":{"prompt_tokens":1}}}',
    ],
)
def test_an_answer_that_is_no_answer_has_no_usage(body: bytes) -> None:
    """Broken and foreign bodies are None, not an exception."""
    assert meter_json(body) is None


def test_an_answer_without_usage_is_estimated_by_what_it_says() -> None:
    """A quarter of its UTF-8 bytes, one token for each choice at least; its role is not said."""
    said = {"role": "assistant", "content": "x" * 9, "tool_calls": [{"function": {"name": "abc"}}]}
    assert tokens_in({"choices": [{"message": said}]}) == 3
    assert tokens_in({"choices": [{"text": "\ud800"}, {"text": ""}, {"message": {}}]}) == 3
    for nothing in ({}, [], None, {"choices": {}}, {"choices": [1]}):
        assert tokens_in(nothing) == 0
