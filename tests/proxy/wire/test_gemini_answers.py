"""The laws of Gemini's answers: usage is cumulative, thinking is output, and a finish reason is the end."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import sse
from proxy.wire.gemini_answers import CHUNKS, meter_answer, meter_count, tokens_in
from proxy.wire.meter import StreamMeter, Usage

USED = {
    "promptTokenCount": 10,
    "cachedContentTokenCount": 4,
    "candidatesTokenCount": 5,
    "thoughtsTokenCount": 3,
    "totalTokenCount": 18,
}
METERED = Usage(input_tokens=10, cached_tokens=4, output_tokens=8, reasoning_tokens=3)
WORDS = ["Hel", "lo", " wor", "ld", "!"]


def chunk(text: str, *, index: int = 0, end: str | None = None, usage: Any = None) -> bytes:
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}}
    candidate["index"] = index
    if end is not None:
        candidate["finishReason"] = end
    document: dict[str, Any] = {"candidates": [candidate], "modelVersion": "gemini-x"}
    if usage is not None:
        document["usageMetadata"] = usage
    return f"data: {json.dumps(document)}\r\n\r\n".encode()


def stream() -> list[bytes]:
    """Give five words, each with what was used so far."""
    said = [
        chunk(word, usage={"promptTokenCount": 10, "candidatesTokenCount": at})
        for at, word in enumerate(WORDS[:-1], 1)
    ]
    return [*said, chunk(WORDS[-1], end="STOP", usage=USED)]


def metered(reads: list[bytes], choices: int = 1) -> StreamMeter:
    """Meter a stream, of which nothing may change."""
    meter = StreamMeter(CHUNKS, keep_usage=True, choices=choices)
    for read in reads:
        assert meter.look(read) is read
    return meter


def test_the_last_usage_wins_however_bytes_arrive() -> None:
    """In one read, in many, and split at every byte."""
    whole = b"".join(stream())
    for reads in ([whole], stream()):
        meter = metered(reads)
        assert (meter.usage, meter.output_tokens, meter.progress()) == (METERED, 8, 8)
        assert meter.finished
    for at in range(1, len(whole), 5):
        splitter, meter = sse.EventSplitter(), StreamMeter(CHUNKS, keep_usage=True)
        out = b"".join([meter.look(splitter.feed(part)) for part in (whole[:at], whole[at:])])
        assert out + splitter.tail() == whole
        assert meter.usage == METERED


def test_only_the_last_report_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every chunk has one, and a long stream has many chunks: what nobody asks for costs nothing."""
    read: list[bytes] = []

    def counting(data: bytes, before: Usage | None, keep: bool) -> Any:
        read.append(data)
        return CHUNKS.read_usage(data, before, keep)

    reads = stream()
    meter = StreamMeter(dataclasses.replace(CHUNKS, read_usage=counting), keep_usage=True)
    for each in reads[:3]:
        meter.look(each)
    assert not read
    assert meter.progress() == 3
    for each in reads[3:]:
        meter.look(each)
    assert (meter.usage, meter.output_tokens, meter.usage) == (METERED, 8, METERED)
    assert read == [reads[2], reads[-1]]
    long = chunk("x" * 10_000, usage=USED)
    meter.look(long)
    assert read[2:] == [long]
    assert meter.usage == METERED


def test_behind_a_report_that_cannot_be_read_stands_the_one_before() -> None:
    """A lone surrogate, which only JavaScript can write, hides no more than its own chunk."""
    broken = chunk("x", end="STOP", usage=USED).replace(b'"x"', b'"\\ud800"')
    for reads in ([*stream()[:-1], broken], [b"".join([*stream()[:-1], broken])]):
        meter = metered(reads)
        assert meter.usage == Usage(input_tokens=10, output_tokens=4)
        assert meter.finished
        assert meter.output_tokens == 4
    seen = metered(stream()[:2])
    assert seen.progress() == 2
    seen.look(broken)
    assert seen.usage == Usage(input_tokens=10, output_tokens=2)
    unseen = metered(stream()[:2])
    unseen.look(broken + b": " + b"x" * 10_000 + b"\n\n")
    assert unseen.usage == Usage(input_tokens=10, output_tokens=2)


def test_a_stream_without_a_reason_is_not_finished() -> None:
    """A blocked prompt is an end as well, and each candidate has one of its own."""
    for count in range(1, 5):
        assert not metered(stream()[:count]).finished
    blocked = b'data: {"promptFeedback":{"blockReason":"SAFETY"}}\n\n'
    assert metered([blocked]).finished
    first, second = chunk("a", end="STOP"), chunk("b", index=1, end="STOP")
    assert not metered([first], choices=2).finished
    assert metered([first, second], choices=2).finished


def test_output_without_usage_is_estimated() -> None:
    """A token for each chunk of a word."""
    meter = metered([chunk(word) for word in WORDS])
    assert meter.usage is None
    assert meter.output_tokens == 5


def test_an_error_in_the_stream_is_known() -> None:
    """In Google's envelope."""
    broken = b'data: {"error":{"code":503,"message":"Overloaded","status":"UNAVAILABLE"}}\r\n\r\n'
    found = StreamMeter(CHUNKS, keep_usage=True).first(broken)
    assert found is not None
    assert (found.message, found.type, found.status) == ("Overloaded", "UNAVAILABLE", 503)
    assert not metered([*stream()[:2], broken]).finished


def test_usage_of_a_whole_answer() -> None:
    """Before other members, or last; what a tool's prompt takes is input."""
    document = {"candidates": [], "usageMetadata": USED, "modelVersion": "x", "responseId": "y"}
    assert meter_answer(json.dumps(document).encode()) == METERED
    odd = document | {"x": {"usageMetadata": {"promptTokenCount": 1}}}
    assert meter_answer(json.dumps(odd).encode()) == METERED
    more = json.dumps({"usageMetadata": USED | {"toolUsePromptTokenCount": 5}}).encode()
    found = meter_answer(more)
    assert found is not None
    assert found.input_tokens == 15


def test_sound_and_pictures_are_told_apart() -> None:
    """They have prices of their own; text and whatever else there is have not."""
    details = [
        {"modality": "TEXT", "tokenCount": 2},
        {"modality": "AUDIO", "tokenCount": 5},
        {"modality": "IMAGE", "tokenCount": 3},
    ]
    used = USED | {"promptTokensDetails": details, "candidatesTokensDetails": details[2:]}
    body = json.dumps({"candidates": [], "usageMetadata": used}).encode()
    for found in (meter_answer(body), metered([chunk("x", usage=used)]).usage):
        assert found is not None
        assert (found.audio_input_tokens, found.image_input_tokens) == (5, 3)
        assert (found.audio_output_tokens, found.image_output_tokens) == (0, 3)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"<html>",
        b'{"usageMetadata":{}}',
        b'{"usageMetadata":{"promptTokenCount":-1}}',
        b'{"usageMetadata":{"promptTokenCount":"7"}}',
        b'{"usageMetadata":' + b"[" * 99_999,
    ],
)
def test_nonsense_is_no_usage(body: bytes) -> None:
    """Rather than a wrong bill, or an exception."""
    assert meter_answer(body) is None
    assert meter_count(body) is None


def test_a_count_uses_nothing() -> None:
    """It is not billed."""
    assert meter_count(b'{"totalTokens":31}') == Usage()


def test_an_answer_without_usage_is_estimated_by_what_it_says() -> None:
    """A quarter of the bytes of its parts, one token at least."""
    assert tokens_in(json.loads(chunk("x" * 9)[6:])) == 3
    assert tokens_in({"candidates": []}) == 1
    for nothing in ({}, [], None, {"candidates": "x"}):
        assert tokens_in(nothing) == 0


@given(st.binary(max_size=80))
def test_garbage_passes(data: bytes) -> None:
    """No bytes break the meter, and none are changed."""
    for text in (data, b'data: {"usageMetadata":' + data + b"}\n\n"):
        meter = StreamMeter(CHUNKS, keep_usage=True, choices=2)
        assert meter.look(text) == text
        assert meter.output_tokens >= 0
        meter.finished, meter.error  # noqa: B018 - they are properties that must not raise
        meter_answer(text)
