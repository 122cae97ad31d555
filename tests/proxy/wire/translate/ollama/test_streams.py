"""The laws of reading and writing streams of Ollama."""

from typing import Any

import msgspec
import pytest

from proxy.wire.translate.core import Usage
from proxy.wire.translate.events import (
    Alive,
    Ended,
    Event,
    Failed,
    ReasoningDelta,
    ReasoningSigned,
    Started,
    Stopped,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    UsageSeen,
)
from proxy.wire.translate.ollama.streams import GenerateWriter, OllamaReader, OllamaWriter
from tests.proxy.wire.translate.arrivals import read, read_every_way
from tests.proxy.wire.translate.samples import REPLY


def line(message: Any = None, **members: Any) -> bytes:
    body = {"model": "m", "message": {"role": "assistant", **(message or {})}, "done": False}
    return msgspec.json.encode(body | members) + b"\n"


DONE = line(done=True, done_reason="stop", prompt_eval_count=9, eval_count=3)
START, HI, COUNTED = Started("", "m"), TextDelta("hi"), UsageSeen(Usage(9, 0, 0, 3))
STREAMS: dict[str, tuple[bytes, list[Event]]] = {
    "plain": (line({"content": "hi"}) + DONE, [START, HI, COUNTED, Stopped("end"), Ended()]),
    "no last line end": (
        (line({"content": "hi"}) + DONE).rstrip(),
        [START, HI, COUNTED, Stopped("end"), Ended()],
    ),
    "all in one line": (
        line({"content": "hi"}, done=True, done_reason="length"),
        [START, HI, Stopped("length"), Ended()],
    ),
    "thinking and calls": (
        line({"content": "", "thinking": "hm"})
        + line(
            {
                "content": "",
                "tool_calls": [
                    {"function": {"name": "f", "arguments": {"x": 1}}},
                    {"id": "b", "function": {"name": "g"}},
                ],
            }
        )
        + DONE,
        [
            START,
            ReasoningDelta("hm"),
            ToolCallStarted(0, "", "f"),
            ToolCallDelta(0, '{"x":1}'),
            ToolCallEnded(0),
            ToolCallStarted(1, "b", "g"),
            ToolCallDelta(1, "{}"),
            ToolCallEnded(1),
            COUNTED,
            Stopped("tool_calls"),
            Ended(),
        ],
    ),
}


@pytest.mark.parametrize(("stream", "expected"), STREAMS.values(), ids=STREAMS)
def test_what_ollama_sends_is_understood_however_it_arrives(
    stream: bytes, expected: list[Event]
) -> None:
    """Whole, byte by byte, and cut at every boundary; the same with CR LF."""
    assert read_every_way(OllamaReader, stream) == expected
    assert read(OllamaReader, [stream.replace(b"\n", b"\r\n")]) == expected


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (line({"content": "hi"}), "lost"),
        (line({"content": "hi"}) + b'{"error":"it broke"}\n', "internal"),
        (b"<html>\n", "lost"),
        (b"[1]\n", "lost"),
        (b'{"message":7}\n', "lost"),
    ],
)
def test_what_is_no_answer_is_a_failure(stream: bytes, kind: str) -> None:
    """A cut, an error inside the stream, garbage."""
    *_, last = read_every_way(OllamaReader, stream)
    assert isinstance(last, Failed)
    assert last.failure.kind == kind


EVENTS: list[Event] = [
    Started("up", "served"),
    ReasoningDelta("hm"),
    ReasoningSigned("s", "anthropic"),
    HI,
    Alive(),
    ToolCallStarted(0, "a", "f"),
    ToolCallDelta(0, '{"x":'),
    ToolCallDelta(0, "1}"),
    ToolCallStarted(1, "", "g"),
    ToolCallEnded(0),
    COUNTED,
    Stopped("tool_calls"),
    Ended(),
]


def test_each_line_is_a_document() -> None:
    """Calls come whole, and the last line says that it is done; proofs have no field."""
    writer = OllamaWriter(REPLY)
    lines = [msgspec.json.decode(one) for one in writer.write(EVENTS).splitlines()]
    assert [one["done"] for one in lines] == [False, False, False, False, True]
    assert [one["message"]["content"] for one in lines] == ["", "hi", "", "", ""]
    assert lines[0]["message"]["thinking"] == "hm"
    assert lines[2]["message"]["tool_calls"] == [
        {"id": "a", "function": {"name": "f", "arguments": {"x": 1}}}
    ]
    assert lines[3]["message"]["tool_calls"] == [{"function": {"name": "g", "arguments": {}}}]
    assert (lines[4]["done_reason"], lines[4]["eval_count"]) == ("stop", 3)
    assert {(one["model"], one["created_at"]) for one in lines} == {
        ("served", "2023-11-14T22:13:20Z")
    }
    assert writer.dropped == ["thinking.signature"]


def test_generate_has_its_text_elsewhere() -> None:
    """The same stream otherwise."""
    events: list[Event] = [
        Started("up", "served"),
        ReasoningDelta("hm"),
        HI,
        COUNTED,
        Stopped("end"),
        Ended(),
    ]
    lines = [msgspec.json.decode(one) for one in GenerateWriter(REPLY).write(events).splitlines()]
    assert [one["response"] for one in lines] == ["", "hi", ""]
    assert lines[0]["thinking"] == "hm"
    assert lines[2]["eval_count"] == 3
    assert not any("message" in one for one in lines)


def test_a_call_that_is_none_breaks_off() -> None:
    """Ollama's clients get an object or an error."""
    writer = OllamaWriter(REPLY)
    stream = writer.write(
        [Started(), ToolCallStarted(0, "a", "f"), ToolCallDelta(0, "{oops"), Ended()]
    )
    assert b'"error"' in stream
    assert stream.count(b"\n") == 1


def test_what_is_held_is_bounded() -> None:
    """A vendor cannot fill the memory."""
    writer = OllamaWriter(REPLY)
    writer.write([Started(), ToolCallStarted(0, "a", "f")])
    last = b""
    for _ in range(100):
        last = writer.write([ToolCallDelta(0, "x" * 100_000)]) or last
    assert b'"error"' in last
