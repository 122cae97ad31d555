"""Laws of what the mock vendor puts on the wire."""

import base64
import json
import struct

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.mock import words
from loadtests.mock.plan import CHAT, COMPLETIONS, EMBEDDINGS, PLACEHOLDER, Asked, plan


class Answer:
    """What llhttp makes of bytes: status, headers, body, and whether the end was seen."""

    def __init__(self, wire):
        self.headers = {}
        self.body = b""
        self.complete = False
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(wire)
        self.status = parser.get_status_code()
        self.events = [
            line.removeprefix(b"data: ")
            for line in self.body.splitlines()
            if line.startswith(b"data: ")
        ]

    @property
    def json(self):
        return [json.loads(event) for event in self.events if event != b"[DONE]"]

    def on_header(self, name, value):
        self.headers[name.decode()] = value.decode()

    def on_body(self, piece):
        self.body += piece

    def on_message_complete(self):
        self.complete = True


def answer(model, path=CHAT, **asked):
    made = plan(Asked(path, model, **asked), created=1_700_000_000)
    return made, Answer(b"".join(step.wire for step in made.steps))


def said(chunks):
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )


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


def test_the_error_is_openais():
    """`status` answers with the error envelope, its reason and `retry-after`."""
    made, got = answer("sim;status=429;retry_after=7", stream=True)
    assert (got.status, got.headers["retry-after"]) == (429, "7")
    assert json.loads(got.body)["error"]["code"] == "rate_limit_exceeded"
    assert (made.prompt_tokens, made.tokens, made.outcome) == (0, 0, "refused")


@given(st.integers(0, 12000))
def test_a_cut_sends_exactly_so_many_bytes_of_body(size):
    """`cut=N` sends N bytes of body and never its end; tokens count only when their event is whole."""
    _, uncut = answer("sim;tokens=30", stream=True)
    made, got = answer(f"sim;tokens=30;cut={size}", stream=True)
    assert got.body == uncut.body[:size]
    assert not got.complete
    assert made.end == "close"
    whole_events = [event for event in got.body.split(b"\n\n")[:-1] if b'"content":"' in event]
    assert made.tokens == max(0, len(whole_events) - 1)


@pytest.mark.parametrize(
    ("option", "complete", "end", "outcome"),
    [
        ("hang=body", False, "hang", "hung"),
        ("hang=mid", False, "hang", "hung"),
        ("cut=40", False, "close", "cut"),
        ("cut=40;reset=1", False, "reset", "reset"),
        ("garbage=body", True, "keep", "garbage"),
        ("error=first", True, "keep", "stream_error"),
        ("error=mid", True, "keep", "stream_error"),
        ("close=1", True, "close", "ok"),
        ("framing=length", True, "keep", "ok"),
        ("framing=chunked", True, "keep", "ok"),
        ("head_1xx=1", True, "keep", "ok"),
        ("done=off", True, "keep", "ok"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_each_option_ends_as_it_says(option, complete, end, outcome, stream):
    """The end of the body is marked or missing, and the connection's fate is the option's."""
    made = plan(Asked(CHAT, f"sim;{option}", stream=stream), created=0)
    wire = b"".join(step.wire for step in made.steps)
    wire = wire[wire.index(b"HTTP/1.1 200") :]
    assert (Answer(wire).complete, made.end, made.outcome) == (complete, end, outcome)
    assert (made.whole is None) == (end != "keep")


def test_an_error_in_the_stream_replaces_its_end():
    """After an error event comes neither a reason, nor usage, nor `[DONE]`."""
    for option, before in (("first", 0), ("mid", 18)):
        _, got = answer(f"sim;error={option}", stream=True, include_usage=True)
        assert "error" in got.json[-1]
        assert len(got.events) == before + 1 == len(got.json)


def test_garbage_is_garbage():
    """No parser takes `garbage=head` or `garbage=chunk`; `garbage=body` is HTTP, but no JSON."""
    for option in ("garbage=head", "garbage=chunk"):
        with pytest.raises(httptools.HttpParserError):
            answer(f"sim;{option}", stream=True)
        with pytest.raises(httptools.HttpParserError):
            answer(f"sim;{option}")
    _, got = answer("sim;garbage=body")
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(got.body)


def test_a_stream_keeps_its_pace():
    """The first token falls due at `ttft_ms`, each further one `interval_ms` later, the rest with the last."""
    made, _ = answer("sim;ttft_ms=50;interval_ms=20;tokens=4", stream=True)
    assert [step.at_ms for step in made.steps] == [50, 70, 90, 110]
    assert [step.tokens for step in made.steps] == [1, 2, 3, 4]
    assert made.steps[-1].wire.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert made.whole is None


def test_a_burst_is_one_write_until_it_is_too_big_for_one():
    """Without an interval all chunks go in one write; a huge answer goes in pieces that feel backpressure."""
    made, _ = answer("sim;tokens=32", stream=True)
    assert len(made.steps) == 1
    assert made.whole == made.steps[0].wire
    assert made.whole.count(b"data: {") == 34
    big, got = answer("sim;tokens=400;pad=3000", stream=True)
    assert len(big.steps) > 10
    assert max(len(step.wire) for step in big.steps) < 70_000
    assert got.complete


@given(st.integers(1, 50))
def test_split_changes_the_writes_and_not_the_bytes(size):
    """`split=N` writes the same bytes in pieces of at most N."""
    whole, _ = answer("sim;tokens=3", stream=True)
    made, _ = answer(f"sim;tokens=3;split={size}", stream=True)
    assert b"".join(step.wire for step in made.steps) == whole.whole
    assert max(len(step.wire) for step in made.steps) <= size
    assert made.breathe


def test_times_carries_the_plan_that_follows():
    """A plan that fails some times knows the one after; without `times` it fails for ever."""
    made, _ = answer("sim;status=503;times=2")
    assert made.times == 2
    assert made.healed is not None
    assert made.healed.outcome == "ok"
    assert answer("sim;status=503")[0].healed is None
    assert answer("sim;times=2")[0].times is None
