"""Laws of what the mock vendor says in OpenAI's Chat Completions, in the completions before them, and of embeddings."""

import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.mock import words
from loadtests.mock.exchange import PLACEHOLDER
from loadtests.mock.plan import COMPLETIONS, EMBEDDINGS
from tests.loadtests.mock.plans import answer, said


@given(st.integers(0, 400), st.booleans(), st.booleans())
def test_a_stream_says_its_tokens_once(tokens, crlf, asked_usage):
    """A stream of n tokens says the n words, one chunk each, ends by reason, usage and `[DONE]`."""
    made, got = answer(
        f"sim;tokens={tokens};crlf={int(crlf)}",
        stream=True,
        include_usage=asked_usage,
        body_bytes=9,
    )
    assert got.complete
    assert got.status == 200
    assert got.events[-1] == b"[DONE]"
    assert said(got.json) == words.say(tokens)
    with_text = [
        one for one in got.json if one["choices"] and one["choices"][0]["delta"].get("content")
    ]
    assert len(with_text) == tokens
    reasons = [one["choices"][0]["finish_reason"] for one in got.json if one["choices"]]
    assert reasons[-1] == "stop"
    assert set(reasons[:-1]) == {None}
    usages = [one["usage"] for one in got.json if one.get("usage")]
    assert len(usages) == int(asked_usage)
    if asked_usage:
        assert got.json[-1]["choices"] == []
        assert all("usage" in one for one in got.json)
        assert usages[0]["completion_tokens"] == tokens == made.tokens
        assert usages[0]["prompt_tokens"] == 3 == made.prompt_tokens
    assert all(one["id"] == f"chatcmpl-{PLACEHOLDER.decode()}" for one in got.json)


def test_usage_is_off_on_or_always():
    """`off` is silent in both shapes; `always` tells a stream that did not ask."""
    assert "usage" not in json.loads(answer("sim;usage=off")[1].body)
    assert "usage" in json.loads(answer("sim")[1].body)
    _, off = answer("sim;usage=off", stream=True, include_usage=True)
    assert not any(one.get("usage") for one in off.json)
    _, always = answer("sim;usage=always", stream=True)
    assert always.json[-1]["usage"]["completion_tokens"] == 32


def test_a_cap_shortens_the_answer_and_says_so():
    """The caller's cap bounds the completion, hidden reasoning included, with reason `length`."""
    made, got = answer("sim;tokens=50;reasoning=4", cap=10)
    document = json.loads(got.body)
    assert document["choices"][0]["finish_reason"] == "length"
    assert document["choices"][0]["message"]["content"] == words.say(6)
    assert document["usage"]["completion_tokens"] == 10 == made.tokens
    assert document["usage"]["completion_tokens_details"]["reasoning_tokens"] == 4


def test_kinds_of_tokens_are_reported():
    """Cached, written, audio and reasoning tokens are where OpenAI reports them."""
    model = "sim;prompt=100;cached=40;cache_write=7;audio_in=3;audio_out=2;reasoning=9;tokens=5"
    usage = json.loads(answer(model)[1].body)["usage"]
    assert usage["prompt_tokens"] == 100
    assert usage["total_tokens"] == 114
    assert usage["prompt_tokens_details"] == {
        "cached_tokens": 40,
        "cache_write_tokens": 7,
        "audio_tokens": 3,
    }
    assert usage["completion_tokens_details"]["audio_tokens"] == 2


@given(st.integers(1, 100))
def test_the_arguments_of_a_streamed_tool_call_come_in_fragments(tokens):
    """Fragments add up to the same JSON as the unstreamed call's, and the first chunk alone has a name."""
    _, whole = answer("sim;tools=1")
    call = json.loads(whole.body)["choices"][0]["message"]["tool_calls"][0]
    _, got = answer(f"sim;tools=1;tokens={tokens}", stream=True)
    deltas = [
        delta
        for one in got.json
        for choice in one["choices"]
        for delta in choice["delta"].get("tool_calls", ())
    ]
    assert (
        "".join(delta["function"]["arguments"] for delta in deltas) == call["function"]["arguments"]
    )
    assert [delta["function"].get("name") for delta in deltas] == ["get_weather"] + [None] * (
        len(deltas) - 1
    )
    assert deltas[0]["id"] == call["id"]
    assert got.json[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
def test_completions_have_their_own_shape(stream):
    """`/v1/completions` answers text, streamed and not."""
    _, got = answer("sim;tokens=4", COMPLETIONS, stream=stream)
    documents = got.json if stream else [json.loads(got.body)]
    assert {one["object"] for one in documents} == {"text_completion"}
    assert "".join(one["choices"][0]["text"] for one in documents) == words.say(4)


@given(st.integers(1, 5), st.integers(1, 64))
def test_embeddings_are_the_same_numbers_in_both_encodings(inputs, dimensions):
    """Floats and little-endian base64 tell the same vectors, one per input, all different."""
    asked = {"inputs": inputs, "dimensions": dimensions, "body_bytes": 8}
    _, plain = answer("sim", EMBEDDINGS, **asked)
    _, packed = answer("sim", EMBEDDINGS, base64=True, **asked)
    floats = [one["embedding"] for one in json.loads(plain.body)["data"]]
    rows = [base64.b64decode(one["embedding"]) for one in json.loads(packed.body)["data"]]
    assert floats == [list(struct.unpack(f"<{dimensions}f", row)) for row in rows]
    assert len(floats) == inputs
    assert json.loads(plain.body)["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
