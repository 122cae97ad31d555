"""The laws of reading and writing streams of Gemini."""

from typing import Any

import msgspec
import pytest

from proxy.wire.translate.carried import wrap
from proxy.wire.translate.core import Reasoning, Usage
from proxy.wire.translate.events import (
    Alive,
    Ended,
    Event,
    Failed,
    ReasoningDelta,
    ReasoningRedacted,
    ReasoningSigned,
    Started,
    Stopped,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    UsageSeen,
)
from proxy.wire.translate.gemini.streams import ArrayWriter, GeminiReader, GeminiWriter
from tests.proxy.wire.translate.arrivals import read, read_every_way, sse
from tests.proxy.wire.translate.samples import REPLY

USAGE = {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 2}
COUNTED = UsageSeen(Usage(9, 0, 0, 5, 2))


def chunk(*parts: Any, finish: str | None = None, index: int = 0, **top: Any) -> bytes:
    candidate: dict[str, Any] = {"content": {"parts": list(parts)}, "index": index}
    if finish:
        candidate["finishReason"] = finish
    return sse({"candidates": [candidate], "modelVersion": "gm", "responseId": "r", **top})


START = Started("r", "gm")
HI = TextDelta("hi")
STREAMS: dict[str, tuple[bytes, list[Event]]] = {
    "plain": (
        chunk({"text": "hi"}, usageMetadata=USAGE | {"candidatesTokenCount": 1})
        + chunk({"text": ""}, finish="STOP", usageMetadata=USAGE),
        # Each chunk tells all of it so far; what counts is the last.
        [START, HI, COUNTED, Stopped("end"), Ended()],
    ),
    "thoughts": (
        chunk({"text": "hm", "thought": True})
        + chunk({"text": "hi"})
        + chunk({"text": "", "thoughtSignature": "gs"}, finish="STOP"),
        [START, ReasoningDelta("hm"), HI, ReasoningSigned("gs", "google"), Stopped("end"), Ended()],
    ),
    "parallel calls": (
        chunk(
            {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "gs"},
            {"functionCall": {"name": "g", "id": "b"}},
            finish="STOP",
        ),
        [
            START,
            ReasoningSigned("gs", "google"),
            ToolCallStarted(0, "", "f"),
            ToolCallDelta(0, '{"x":1}'),
            ToolCallEnded(0),
            ToolCallStarted(1, "b", "g"),
            ToolCallDelta(1, "{}"),
            ToolCallEnded(1),
            Stopped("tool_calls"),
            Ended(),
        ],
    ),
    "another vendor's proofs": (
        chunk(
            {
                "text": "",
                "thought": True,
                "thoughtSignature": wrap(Reasoning("", "s", maker="anthropic")),
            }
        )
        + chunk(
            {
                "text": "",
                "thought": True,
                "thoughtSignature": wrap(Reasoning(redacted="x", maker="openai")),
            }
        )
        + chunk({"text": "hi"}, finish="STOP"),
        [
            START,
            ReasoningSigned("s", "anthropic"),
            ReasoningRedacted("x", "openai"),
            HI,
            Stopped("end"),
            Ended(),
        ],
    ),
    "blocked": (
        sse({"promptFeedback": {"blockReason": "SAFETY"}, "modelVersion": "gm", "responseId": "r"}),
        [START, Stopped("filtered"), Ended()],
    ),
    "filtered in the middle": (
        chunk({"text": "hi"}) + sse({"candidates": [{"finishReason": "SAFETY"}]}),
        [START, HI, Stopped("filtered"), Ended()],
    ),
    "two candidates": (
        chunk({"text": "hi"}, finish="STOP") + chunk({"text": "b"}, finish="MAX_TOKENS", index=1),
        [START, HI, TextDelta("b", 1), Stopped("end"), Stopped("length", None, 1), Ended()],
    ),
    "comments": (
        b": x\n\n" + chunk({"text": "hi"}, finish="STOP"),
        [Alive(), START, HI, Stopped("end"), Ended()],
    ),
}


@pytest.mark.parametrize(("stream", "expected"), STREAMS.values(), ids=STREAMS)
def test_what_google_sends_is_understood_however_it_arrives(
    stream: bytes, expected: list[Event]
) -> None:
    """Whole, byte by byte, and cut at every boundary; the same with CR LF."""
    assert read_every_way(GeminiReader, stream) == expected
    assert read(GeminiReader, [stream.replace(b"\n", b"\r\n")]) == expected


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (chunk({"text": "hi"}), "lost"),
        (chunk({"text": "a"}, finish="STOP") + chunk({"text": "b"}, index=1), "lost"),
        (sse({"error": {"code": 429, "message": "slow"}}), "rate_limited"),
        (chunk({"text": "hi"}) + sse({"error": {"code": 503, "message": "busy"}}), "overloaded"),
        (chunk(finish="MALFORMED_FUNCTION_CALL"), "lost"),
        (sse({"candidates": 7}), "lost"),
        (b"data: [1]\n\n", "lost"),
        (b'{"error":{"message":"no stream"}}', "lost"),
    ],
)
def test_what_is_no_answer_is_a_failure(stream: bytes, kind: str) -> None:
    """A cut, an error inside the stream, a call that is none, garbage."""
    *_, last = read_every_way(GeminiReader, stream)
    assert isinstance(last, Failed)
    assert last.failure.kind == kind


def test_what_the_core_has_no_word_for_is_named() -> None:
    """Images, code and citations."""
    reader = GeminiReader()
    reader.feed(chunk({"inlineData": {}}, {"executableCode": {}}))
    reader.feed(sse({"candidates": [{"citationMetadata": {}, "groundingMetadata": {}}]}))
    assert reader.dropped == [
        "inlineData",
        "executableCode",
        "citationMetadata",
        "groundingMetadata",
    ]


EVENTS: list[Event] = [
    Started("up", "served"),
    ReasoningDelta("hm"),
    ReasoningSigned("gs", "google"),
    ToolCallStarted(0, "a", "f"),
    ToolCallDelta(0, '{"x":'),
    ToolCallDelta(0, "1}"),
    ToolCallEnded(0),
    Alive(),
    ReasoningSigned("last", "google"),
    COUNTED,
    Stopped("tool_calls"),
    Ended(),
]


def parts(stream: bytes) -> list[Any]:
    return [
        part
        for event in stream.split(b"\n\n")
        if event
        for candidate in msgspec.json.decode(event[6:])["candidates"]
        for part in candidate["content"]["parts"]
    ]


def test_calls_are_written_whole() -> None:
    """With the proof they need; the end has the finish reason and usage."""
    stream = GeminiWriter(REPLY).write(EVENTS)
    assert parts(stream) == [
        {"text": "hm", "thought": True},
        {"functionCall": {"name": "f", "args": {"x": 1}, "id": "a"}, "thoughtSignature": "gs"},
        {"text": "", "thoughtSignature": "last"},
        {"text": ""},
    ]
    last = msgspec.json.decode(stream.rstrip().rpartition(b"\n\n")[2][6:])
    assert last["candidates"][0]["finishReason"] == "STOP"
    assert last["usageMetadata"]["thoughtsTokenCount"] == 2
    assert last["responseId"] == "0123abcd"


def test_without_sse_a_stream_is_one_array() -> None:
    """In pieces that join to valid JSON, also when it breaks off."""
    writer = ArrayWriter(REPLY)
    whole = b"".join(writer.write([event]) for event in EVENTS)
    assert len(msgspec.json.decode(whole)) == 4
    writer = ArrayWriter(REPLY)
    reader = GeminiReader()
    cut = b"".join(writer.write([event]) for event in EVENTS[:5]) + writer.write(reader.eof())
    assert msgspec.json.decode(cut)[-1]["error"]["code"] == 502
    assert writer.write([HI]) == b""


def test_a_signed_text_has_its_proof() -> None:
    """Google signs texts, too."""
    stream = GeminiWriter(REPLY).write([Started(), ReasoningSigned("gs", "google"), HI])
    assert parts(stream) == [{"text": "hi", "thoughtSignature": "gs"}]


def test_a_call_that_is_none_breaks_off() -> None:
    """Gemini's clients get an object or an error."""
    writer = GeminiWriter(REPLY)
    stream = writer.write(
        [
            Started(),
            ToolCallStarted(0, "a", "f"),
            ToolCallDelta(0, "{oops"),
            ToolCallEnded(0),
            Ended(),
        ]
    )
    assert b'"error"' in stream
    assert stream.count(b"data: ") == 1


def test_what_is_held_is_bounded() -> None:
    """A vendor cannot fill the memory."""
    writer = GeminiWriter(REPLY)
    writer.write([Started(), ToolCallStarted(0, "a", "f")])
    last = b""
    for _ in range(100):
        last = writer.write([ToolCallDelta(0, "x" * 100_000)]) or last
    assert b'"error"' in last


def test_calls_that_nobody_ended_are_written_at_the_end() -> None:
    """They are complete when the answer is."""
    stream = GeminiWriter(REPLY).write(
        [Started(), ToolCallStarted(0, "a", "f"), Stopped("tool_calls"), Ended()]
    )
    assert parts(stream)[0] == {"functionCall": {"name": "f", "args": {}, "id": "a"}}
