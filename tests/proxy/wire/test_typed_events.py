"""Streams of typed events mean the same however they are cut, and end with the event that says what was used."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.meter import StreamMeter, Usage
from proxy.wire.typed_events import deltas, events_ending_in, nothing


def usage_of(data: bytes) -> Usage | None:
    tokens = json.loads(data).get("usage", {}).get("tokens")
    return None if tokens is None else Usage(output_tokens=tokens)


GRAMMAR = events_ending_in(r"a\.done|b\.done", usage_of, said=deltas, most_event=1000)


def metered(*events: Any) -> StreamMeter:
    meter = StreamMeter(GRAMMAR, keep_usage=True)
    for event in events:
        meter.look(f"data: {json.dumps(event)}\n\n".encode())
    return meter


@given(st.lists(st.text("ab", min_size=1, max_size=20), max_size=5), st.integers(0, 99))
def test_the_last_event_says_what_was_used(words: list[str], tokens: int) -> None:
    """Until it has come, what was said is estimated."""
    said = [{"type": "a.delta", "delta": word} for word in words]
    cut = metered(*said)
    assert not cut.finished
    assert cut.usage is None
    assert bool(cut.output_tokens) == bool(words)
    whole = metered(*said, {"type": "b.done", "usage": {"tokens": tokens}})
    assert whole.finished
    assert whole.usage == Usage(output_tokens=tokens)
    assert metered(*said, {"type": "a.done"}).finished


def test_a_word_is_no_event() -> None:
    """Only the type ends a stream, and only usage that can be read is usage."""
    meter = metered({"type": "a.delta", "delta": '"usage" "a.done"'}, {"type": "c.done"})
    assert not meter.finished
    assert meter.usage is None


def test_what_an_event_says() -> None:
    """Words, or nothing."""
    assert list(deltas({"delta": "x"})) == ["x"]
    assert list(deltas({"delta": 7})) == list(deltas([])) == list(nothing({"delta": "x"})) == []
