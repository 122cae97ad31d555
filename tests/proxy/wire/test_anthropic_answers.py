"""The laws of Anthropic's answers: usage is set and never added, the cache is a part of the input, and the end is an event."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import sse
from proxy.wire.anthropic_answers import EVENTS, meter_count, meter_message, tokens_in
from proxy.wire.meter import StreamMeter, Usage

STARTED = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 30,
    "cache_read_input_tokens": 200,
    "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
    "output_tokens": 1,
    "service_tier": "standard",
}
ENDED = {"output_tokens": 17, "output_tokens_details": {"thinking_tokens": 4}}
METERED = Usage(
    input_tokens=240,
    cached_tokens=200,
    cache_write_tokens=30,
    output_tokens=17,
    reasoning_tokens=4,
    cache_write_1h_tokens=20,
)
WORDS = ["Hel", "lo", " wor", "ld", "!"]


def event(kind: str, end: str = "\n", **members: Any) -> bytes:
    text = json.dumps({"type": kind} | members)
    return f"event: {kind}{end}data: {text}{end}{end}".encode()


def delta(text: str, end: str = "\n") -> bytes:
    return event("content_block_delta", end, index=0, delta={"type": "text_delta", "text": text})


def stream(
    *, end: str = "\n", started: Any = STARTED, ended: Any = ENDED, stop: bool = True
) -> list[bytes]:
    """Give the events of an answer of five words."""
    block = {"type": "text", "text": ""}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}
    if started is not None:
        message["usage"] = started
    closing = {"delta": {"stop_reason": "end_turn"}} | ({} if ended is None else {"usage": ended})
    return [
        event("message_start", end, message=message),
        event("content_block_start", end, index=0, content_block=block),
        event("ping", end),
        *[delta(word, end) for word in WORDS],
        event("content_block_stop", end, index=0),
        event("message_delta", end, **closing),
        *([event("message_stop", end)] if stop else []),
    ]


def ways(events: list[bytes]) -> Iterator[list[bytes]]:
    """Give the ways whole events can arrive: in one read, one by one, in any groups."""
    yield [b"".join(events)]
    yield events
    dice = random.Random(7)
    for _ in range(10):
        cuts = sorted(dice.sample(range(1, len(events)), 3))
        yield [b"".join(events[a:b]) for a, b in zip([0, *cuts], [*cuts, len(events)], strict=True)]


def metered(reads: list[bytes]) -> StreamMeter:
    """Meter a stream, of which nothing may change."""
    meter = StreamMeter(EVENTS, keep_usage=True)
    for read in reads:
        assert meter.look(read) is read
    return meter


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
def test_usage_is_what_was_said_last(end: str) -> None:
    """In whichever reads it comes: the input of the start, the output of the end, the cache a part of the input."""
    for reads in ways(stream(end=end)):
        meter = metered(reads)
        assert meter.usage == METERED
        assert (meter.output_tokens, meter.progress()) == (17, 17)
        assert meter.done
        assert meter.finished
        assert meter.error is None


def test_every_way_bytes_arrive() -> None:
    """Split at every byte, the splitter and the meter give the same bytes and the same counts."""
    whole = b"".join(stream())
    for at in range(1, len(whole)):
        splitter, meter = sse.EventSplitter(), StreamMeter(EVENTS, keep_usage=True)
        out = b"".join([meter.look(splitter.feed(part)) for part in (whole[:at], whole[at:])])
        assert (out, splitter.tail()) == (whole, b"")
        assert meter.usage == METERED
        assert meter.done


def test_what_is_reported_again_replaces_and_is_not_added() -> None:
    """The end may repeat the input, and be repeated itself."""
    again = ENDED | {"input_tokens": 12, "cache_read_input_tokens": 201}
    more = event("message_delta", delta={}, usage={"output_tokens": 9})
    events = stream(ended=again)
    meter = metered([*events[:-2], more, more, *events[-2:]])
    assert meter.usage is not None
    assert (meter.usage.input_tokens, meter.usage.output_tokens) == (12 + 201 + 30, 17)


def test_searches_are_counted() -> None:
    """The vendor bills them by the piece."""
    meter = metered(stream(ended=ENDED | {"server_tool_use": {"web_search_requests": 2}}))
    assert meter.usage is not None
    assert meter.usage.web_searches == 2


def test_a_stream_that_stops_early_is_not_finished() -> None:
    """At no event before the last one; its input is known, and its output counted by what came."""
    events = stream()
    for count in range(1, len(events)):
        meter = metered(events[:count])
        assert not meter.finished
        words = min(max(count - 3, 0), 5)
        if count < len(events) - 1:
            assert meter.usage is not None
            assert meter.usage.input_tokens == 240
            assert meter.output_tokens == words
        else:
            assert meter.output_tokens == 17


def test_output_without_usage_is_estimated() -> None:
    """A token for each event, in a short stream and in a long one."""
    meter = metered(stream(started=None, ended=None))
    assert meter.usage is None
    assert meter.output_tokens == 5
    events = stream(started=None, ended=None)
    meter = metered([*events[:3], *[delta("word")] * 5000])
    assert meter.output_tokens == pytest.approx(5000, rel=0.01)
    assert meter.progress() == pytest.approx(5000, rel=0.01)


def test_thinking_and_arguments_are_content() -> None:
    """A signature is none: nobody generated it for the caller."""
    deltas = [
        {"type": "thinking_delta", "thinking": "hmm"},
        {"type": "signature_delta", "signature": "x" * 400},
        {"type": "input_json_delta", "partial_json": '{"a":'},
    ]
    meter = metered([event("content_block_delta", index=0, delta=one) for one in deltas])
    assert meter.output_tokens == 2


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_error_in_the_stream_is_known(end: str) -> None:
    """As the first event, and as the last."""
    broken = event("error", end, error={"type": "overloaded_error", "message": "Overloaded"})
    first = StreamMeter(EVENTS, keep_usage=True).first(broken)
    assert first is not None
    assert (first.message, first.type) == ("Overloaded", "overloaded_error")
    meter = metered([*stream(end=end)[:5], broken])
    assert not meter.finished
    assert meter.error is not None
    assert StreamMeter(EVENTS, keep_usage=True).first(b"".join(stream())) is None


def test_the_end_is_known_in_all_spellings() -> None:
    """Padded, as the vendor does, and spaced."""
    for text in ('{"type":"message_stop"    }', '{ "type" : "message_stop" }'):
        assert metered(
            [*stream(stop=False), f"event: message_stop\ndata: {text}\n\n".encode()]
        ).done
    said = delta('{"type":"message_stop"}')
    assert not metered([*stream(stop=False), said]).done


@pytest.mark.parametrize(
    "usage",
    [None, "much", [], {"input_tokens": -1}, {"output_tokens": 1 << 70}, {"input_tokens": "7"}],
)
def test_nonsense_is_no_usage(usage: Any) -> None:
    """Rather than a wrong bill, in a stream and in a whole answer."""
    assert metered(stream(started=usage, ended=usage)).usage is None
    assert meter_message(json.dumps({"content": [], "usage": usage}).encode()) is None


# Whole answers...


def answer(text: str = "Hello", **more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": text}]
    return {"id": "msg_1", "type": "message", "content": content, "usage": STARTED | ENDED} | more


def test_usage_is_found_wherever_it_stands() -> None:
    """Last, first, behind a text about usage, beside a tool that has a usage of its own."""
    first = {"usage": STARTED | ENDED} | answer()
    tool = answer(content=[{"type": "tool_use", "input": {"usage": {"input_tokens": 1}}}])
    odd = {"usage": tool["usage"]} | tool
    for document in (answer(), first, answer('"usage":{"input_tokens":1}'), tool, odd):
        assert meter_message(json.dumps(document).encode()) == METERED
    assert meter_message(json.dumps(answer("\ud800")).encode()) == METERED
    assert meter_message(json.dumps({"usage": STARTED | ENDED, "x": "\ud800"}).encode()) == METERED


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"usage"', b"\xff", b'"usage"', b'{"usage":' + b"[" * 99_999]
)
def test_an_answer_that_is_no_answer_has_no_usage(body: bytes) -> None:
    """Broken and foreign bodies are None, not an exception."""
    assert meter_message(body) is None
    assert meter_count(body) is None


def test_a_count_uses_nothing() -> None:
    """The vendor does not bill it."""
    assert meter_count(b'{"input_tokens":2095}') == Usage()


def test_an_answer_without_usage_is_estimated_by_what_it_says() -> None:
    """A quarter of the bytes of its blocks, arguments included, one token at least."""
    blocks = [
        {"type": "text", "text": "x" * 9},
        {"type": "tool_use", "id": "t", "input": {"a": "xyz"}},
    ]
    assert tokens_in({"content": blocks}) == 3
    assert tokens_in({"content": []}) == 1
    for nothing in ({}, [], None, {"content": "x"}):
        assert tokens_in(nothing) == 0


@given(st.binary(max_size=80))
def test_garbage_passes(data: bytes) -> None:
    """No bytes break the meter, and none are changed."""
    for text in (data, b'event: x\ndata: {"type":"message_delta","usage":' + data + b"}\n\n"):
        meter = StreamMeter(EVENTS, keep_usage=True)
        assert meter.look(text) == text
        assert meter.output_tokens >= 0
        assert meter.progress() >= 0
        meter.finished, meter.error  # noqa: B018 - they are properties that must not raise
        meter_message(text)
