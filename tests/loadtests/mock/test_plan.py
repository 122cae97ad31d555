"""Laws of what the mock vendor puts on the wire."""

import json

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.mock.exchange import Asked
from loadtests.mock.plan import CHAT, plan
from tests.loadtests.mock.plans import Answer, answer


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
