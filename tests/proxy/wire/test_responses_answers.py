"""The laws of answers of Responses: usage comes with the event that ends a stream, and nothing else ends one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.mock.behaviour import read_behaviour
from loadtests.mock.responses import events, response
from proxy.wire import sse
from proxy.wire.meter import StreamMeter, Usage, error_in
from proxy.wire.responses_answers import EVENTS, meter_response, tokens_in

METERED = Usage(
    input_tokens=30, cached_tokens=8, cache_write_tokens=4, output_tokens=8, reasoning_tokens=3
)


def stream(options: str = "", visible: int = 5) -> list[bytes]:
    """Give a stream as the mock vendor writes it."""
    behaviour = read_behaviour(f"sim;cached=8;cache_write=4;reasoning=3{options}")
    return [said.payload for said in events(behaviour, "0", 0, 30, visible, capped=False)]


def whole(**changed: Any) -> dict[str, Any]:
    behaviour = read_behaviour("sim;cached=8;cache_write=4;reasoning=3")
    return response(behaviour, "0", 0, 30, 5, capped=False) | changed


def metered(reads: list[bytes]) -> StreamMeter:
    """Meter a stream, of which nothing may change."""
    meter = StreamMeter(EVENTS, keep_usage=True)
    for read in reads:
        assert meter.look(read) is read
    return meter


@pytest.mark.parametrize("options", ["", ";crlf=1", ";tools=1"])
def test_usage_comes_with_the_end(options: str) -> None:
    """In one read or in many."""
    said = stream(options)
    for reads in ([b"".join(said)], said, [b"".join(said[:4]), b"".join(said[4:])]):
        meter = metered(reads)
        assert meter.usage == METERED
        assert (meter.output_tokens, meter.progress()) == (8, 8)
        assert meter.done
        assert meter.finished


def test_searches_are_counted() -> None:
    """They are billed by the call: each item of the output is one, and what a model says of them is none."""
    items = [{"type": "web_search_call", "id": f"ws_{at}"} for at in range(2)]
    said = {
        "type": "message",
        "content": [{"type": "output_text", "text": '"type":"web_search_call"'}],
    }
    document = whole(output=[*items, said], tools=[{"type": "web_search"}])
    for indent in (None, 2):
        found = meter_response(json.dumps(document, indent=indent).encode())
        assert found is not None
        assert found.web_searches == 2
    event = {"type": "response.completed", "response": document}
    meter = metered([*stream()[:3], f"data: {json.dumps(event)}\n\n".encode()])
    assert meter.usage is not None
    assert meter.usage.web_searches == 2


def test_every_way_bytes_arrive() -> None:
    """Split anywhere, the splitter and the meter give the same bytes and the same counts."""
    text = b"".join(stream())
    for at in range(1, len(text), 7):
        splitter, meter = sse.EventSplitter(), StreamMeter(EVENTS, keep_usage=True)
        out = b"".join([meter.look(splitter.feed(part)) for part in (text[:at], text[at:])])
        assert out == text
        assert meter.usage == METERED
        assert meter.done


def test_a_long_answer_ends_too() -> None:
    """The event that ends it carries all of it, and is longer than what the meter keeps."""
    said = stream(visible=20_000)
    assert len(said[-1]) > 60_000
    meter = metered(said)
    assert meter.done
    assert meter.usage is not None
    assert meter.usage.output_tokens == 20_003


def test_a_stream_that_stops_early_is_not_finished() -> None:
    """At no event before the last one; its output is counted by what came."""
    said = stream()
    for count in range(1, len(said)):
        meter = metered(said[:count])
        assert not meter.finished
        assert meter.usage is None
        assert meter.output_tokens == min(max(count - 4, 0), 5)


@pytest.mark.parametrize("status", ["incomplete", "cancelled", "completed"])
def test_other_ends_are_ends(status: str) -> None:
    """Also without usage."""
    document = {"type": f"response.{status}", "response": {"usage": None}}
    last = f"event: response.{status}\ndata: {json.dumps(document)}\n\n".encode()
    meter = metered([*stream()[:-1], last])
    assert meter.done
    assert meter.usage is None


@pytest.mark.parametrize(
    "document",
    [
        {"type": "error", "code": "server_error", "message": "Oh no", "param": None},
        {"type": "error", "error": {"code": "server_error", "message": "Oh no"}},
        {"type": "response.failed", "response": {"error": {"code": "x", "message": "Oh no"}}},
    ],
)
def test_an_error_in_the_stream_is_known(document: dict[str, Any]) -> None:
    """Flat, in an envelope, and within the response that failed."""
    text = json.dumps(document).encode()
    last = b"event: error\ndata: " + text + b"\n\n"
    meter = metered([*stream()[:5], last])
    assert not meter.finished
    assert meter.error is not None
    assert meter.error.message == "Oh no"
    first = StreamMeter(EVENTS, keep_usage=True).first(last)
    assert first is not None
    assert error_in(text) == first
    assert StreamMeter(EVENTS, keep_usage=True).first(stream()[0]) is None


def test_usage_of_a_whole_answer_is_found_wherever_it_stands() -> None:
    """Before other members, behind a tool that has a usage of its own, or not at all."""
    assert meter_response(json.dumps(whole()).encode()) == METERED
    last = {name: value for name, value in whole().items() if name != "usage"} | {
        "usage": whole()["usage"]
    }
    assert meter_response(json.dumps(last).encode()) == METERED
    odd = whole(metadata={"x": {"usage": 1}})
    assert meter_response(json.dumps(odd).encode()) == METERED
    assert meter_response(json.dumps(whole(usage=None)).encode()) is None


@pytest.mark.parametrize(
    "usage",
    ["much", [], {}, {"input_tokens": -1}, {"output_tokens": 1 << 70}, {"input_tokens": "7"}],
)
def test_nonsense_is_no_usage(usage: Any) -> None:
    """Rather than a wrong bill."""
    assert meter_response(json.dumps(whole(usage=usage)).encode()) is None


@pytest.mark.parametrize("body", [b"", b"{}", b'{"usage"', b"\xff", b'{"usage":' + b"[" * 99_999])
def test_an_answer_that_is_no_answer_has_no_usage(body: bytes) -> None:
    """Broken and foreign bodies are None, not an exception."""
    assert meter_response(body) is None


def test_an_answer_without_usage_is_estimated_by_what_it_says() -> None:
    """A quarter of the bytes of its items, one token at least."""
    items = [{"type": "function_call", "arguments": "x" * 9}]
    assert tokens_in({"output": items}) == 3
    assert tokens_in({"output": []}) == 1
    for nothing in ({}, [], None, {"output": "x"}):
        assert tokens_in(nothing) == 0


@given(st.binary(max_size=80))
def test_garbage_passes(data: bytes) -> None:
    """No bytes break the meter, and none are changed."""
    for text in (
        data,
        b'data: {"type":"response.completed","response":{"usage":' + data + b"}}\n\n",
    ):
        meter = StreamMeter(EVENTS, keep_usage=True)
        assert meter.look(text) == text
        assert meter.output_tokens >= 0
        meter.finished, meter.error  # noqa: B018 - they are properties that must not raise
        meter_response(text)
