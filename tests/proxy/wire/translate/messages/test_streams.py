"""The laws of reading and writing streams of Messages."""

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
    ReasoningRedacted,
    ReasoningSigned,
    RefusalDelta,
    Started,
    Stopped,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    UsageSeen,
)
from proxy.wire.translate.messages.streams import MessagesReader, MessagesWriter
from tests.proxy.wire.translate.arrivals import read, read_every_way, sse
from tests.proxy.wire.translate.samples import REPLY


def told(kind: str, **members: Any) -> bytes:
    return sse({"type": kind, **members}, kind)


def block(index: int, **members: Any) -> bytes:
    return told("content_block_start", index=index, content_block=members)


def delta(index: int, kind: str, **members: Any) -> bytes:
    return told("content_block_delta", index=index, delta={"type": kind, **members})


def stop(index: int) -> bytes:
    return told("content_block_stop", index=index)


BEGIN = told(
    "message_start",
    message={
        "id": "msg_1",
        "model": "claude",
        "usage": {"input_tokens": 5, "cache_read_input_tokens": 10, "output_tokens": 1},
    },
)
END = told("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7}) + told(
    "message_stop"
)
STARTED: list[Event] = [Started("msg_1", "claude"), UsageSeen(Usage(15, 10, 0, 1))]
ENDED: list[Event] = [UsageSeen(Usage(15, 10, 0, 7)), Stopped("end"), Ended()]
TEXT = block(0, type="text", text="") + delta(0, "text_delta", text="hi") + stop(0)

STREAMS: dict[str, tuple[bytes, list[Event]]] = {
    "plain": (BEGIN + TEXT + END, [*STARTED, TextDelta("hi"), *ENDED]),
    "pings": (BEGIN + told("ping") + TEXT + END, [*STARTED, Alive(), TextDelta("hi"), *ENDED]),
    "no message_stop": (
        (BEGIN + TEXT + END).removesuffix(told("message_stop")),
        [*STARTED, TextDelta("hi"), *ENDED],
    ),
    "types that are newer": (
        BEGIN + told("brand_new", x=1) + TEXT + END,
        [*STARTED, TextDelta("hi"), *ENDED],
    ),
    "text in the start": (
        BEGIN + block(0, type="text", text="hi") + stop(0) + END,
        [*STARTED, TextDelta("hi"), *ENDED],
    ),
    "thinking": (
        BEGIN
        + block(0, type="thinking", thinking="", signature="")
        + delta(0, "thinking_delta", thinking="hm")
        + delta(0, "signature_delta", signature="sig")
        + stop(0)
        + block(1, type="redacted_thinking", data="xx")
        + stop(1)
        + END,
        [
            *STARTED,
            ReasoningDelta("hm"),
            ReasoningSigned("sig", "anthropic"),
            ReasoningRedacted("xx", "anthropic"),
            *ENDED,
        ],
    ),
    "calls": (
        BEGIN
        + block(0, type="tool_use", id="a", name="f", input={})
        + delta(0, "input_json_delta", partial_json="")
        + delta(0, "input_json_delta", partial_json='{"x":')
        + delta(0, "input_json_delta", partial_json="1}")
        + stop(0)
        + block(1, type="tool_use", id="b", name="g", input={"y": 2})
        + stop(1)
        + END,
        [
            *STARTED,
            ToolCallStarted(0, "a", "f"),
            ToolCallDelta(0, '{"x":'),
            ToolCallDelta(0, "1}"),
            ToolCallEnded(0),
            ToolCallStarted(1, "b", "g"),
            ToolCallDelta(1, '{"y":2}'),
            ToolCallEnded(1),
            *ENDED,
        ],
    ),
    "usage at the end replaces what it repeats": (
        BEGIN
        + told(
            "message_delta",
            delta={
                "stop_reason": "refusal",
                "stop_details": {"type": "refusal", "explanation": "why"},
            },
            usage={
                "input_tokens": 6,
                "cache_creation_input_tokens": 2,
                "output_tokens": 7,
                "output_tokens_details": {"thinking_tokens": 3},
            },
        )
        + told("message_stop"),
        [*STARTED, UsageSeen(Usage(18, 10, 2, 7, 3)), Stopped("refusal", "why"), Ended()],
    ),
    "a stop sequence": (
        BEGIN
        + told("message_delta", delta={"stop_reason": "stop_sequence", "stop_sequence": "END"})
        + told("message_stop"),
        [*STARTED, Stopped("stop_sequence", "END"), Ended()],
    ),
}


@pytest.mark.parametrize(("stream", "expected"), STREAMS.values(), ids=STREAMS)
def test_what_anthropic_sends_is_understood_however_it_arrives(
    stream: bytes, expected: list[Event]
) -> None:
    """Whole, byte by byte, and cut at every boundary; the same with CR LF, and without names."""
    assert read_every_way(MessagesReader, stream) == expected
    assert read(MessagesReader, [stream.replace(b"\n", b"\r\n")]) == expected
    nameless = b"\n".join(line for line in stream.split(b"\n") if not line.startswith(b"event:"))
    assert read(MessagesReader, [nameless]) == expected


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (b"", "lost"),
        (BEGIN + TEXT, "lost"),
        (told("message_stop"), "lost"),
        (
            BEGIN + told("error", error={"type": "overloaded_error", "message": "busy"}),
            "overloaded",
        ),
        (told("error", error={"type": "rate_limit_error", "message": "slow"}), "rate_limited"),
        (sse({"error": {"message": "x"}}), "internal"),
        (BEGIN + b"data: <html>\n\n", "lost"),
        (BEGIN + told("content_block_delta", index="x"), "lost"),
    ],
)
def test_what_is_no_answer_is_a_failure(stream: bytes, kind: str) -> None:
    """A cut, an error inside the stream, garbage."""
    *_, last = read_every_way(MessagesReader, stream) if stream else read(MessagesReader, [b""])
    assert isinstance(last, Failed)
    assert last.failure.kind == kind


def test_what_the_core_has_no_word_for_is_named() -> None:
    """Citations and blocks of Anthropic's own tools."""
    reader = MessagesReader()
    reader.feed(
        BEGIN + block(0, type="server_tool_use", id="s") + delta(0, "citations_delta", citation={})
    )
    assert reader.dropped == ["server_tool_use", "citations"]


def documents(stream: bytes) -> list[Any]:
    return [
        msgspec.json.decode(line[6:]) for line in stream.split(b"\n") if line.startswith(b"data: ")
    ]


def shape(stream: bytes) -> list[str]:
    """Say what happened, block by block; and hold that every event is named as its type."""
    for event in stream.split(b"\n\n")[:-1]:
        name, data = event.split(b"\n")
        assert name == b"event: " + msgspec.json.decode(data[6:])["type"].encode()
    out = []
    for document in documents(stream):
        match document["type"]:
            case "content_block_start":
                out.append(f"{document['index']}+{document['content_block']['type']}")
            case "content_block_delta":
                out.append(
                    f"{document['index']} {next(iter(list(document['delta'].values())[1:]))}"
                )
            case "content_block_stop":
                out.append(f"{document['index']}-")
            case kind:
                out.append(kind)
    return out


def write(*events: Event) -> bytes:
    return MessagesWriter(REPLY).write([Started("up", "served"), *events])


def test_blocks_do_not_overlap() -> None:
    """Each is closed before the next is opened, and the numbers count up."""
    stream = write(
        ReasoningDelta("hm"),
        ReasoningSigned("sig", "anthropic"),
        TextDelta("a"),
        TextDelta("b"),
        RefusalDelta("c"),
        ToolCallStarted(0, "x", "f"),
        ToolCallDelta(0, "{}"),
        ToolCallEnded(0),
        ReasoningRedacted("xx", "anthropic"),
        UsageSeen(Usage(15, 10, 0, 7)),
        Stopped("tool_calls"),
        Ended(),
    )
    assert shape(stream) == [
        "message_start",
        *("0+thinking", "0 hm", "0 sig", "0-"),
        *("1+text", "1 a", "1 b", "1 c", "1-"),
        *("2+tool_use", "2 {}", "2-"),
        *("3+redacted_thinking", "3-"),
        *("message_delta", "message_stop"),
    ]
    begun, *_, last, _ = documents(stream)
    assert begun["message"]["model"] == "served"
    assert last["delta"]["stop_reason"] == "tool_use"
    assert last["usage"]["input_tokens"] == 5


def test_calls_that_overlap_are_put_one_after_the_other() -> None:
    """What comes for a call waits while another's block is open and incomplete."""
    stream = write(
        ToolCallStarted(0, "x", "f"),
        ToolCallDelta(0, '{"a":'),
        ToolCallStarted(1, "y", "g"),
        ToolCallDelta(1, '{"b"'),
        ToolCallDelta(0, "1}"),
        ToolCallDelta(1, ":2}"),
        ToolCallStarted(2, "z", "h"),
        ToolCallDelta(2, "{}"),
        ToolCallEnded(0),
        ToolCallEnded(1),
        ToolCallEnded(2),
        Stopped("tool_calls"),
        Ended(),
    )
    collected = read(MessagesReader, [stream])
    arguments = {0: "", 1: "", 2: ""}
    for event in collected:
        if isinstance(event, ToolCallDelta):
            arguments[event.call] += event.arguments
    assert sorted(arguments.values()) == ['{"a":1}', '{"b":2}', "{}"]
    assert isinstance(collected[-1], Ended)
    shape(stream)


def test_calls_that_follow_one_another_are_streamed_at_once() -> None:
    """OpenAI does not say where a call ends: it has ended when its arguments are whole."""
    writer = MessagesWriter(REPLY)
    writer.write([Started(), ToolCallStarted(0, "x", "f"), ToolCallDelta(0, '{"a":1}')])
    assert b'"id":"y"' in writer.write([ToolCallStarted(1, "y", "g")])
    assert b"partial_json" in writer.write([ToolCallDelta(1, '{"b')])


def test_a_call_that_waits_is_written_at_the_end() -> None:
    """Even when nobody says that the one before has ended."""
    stream = write(
        ToolCallStarted(0, "x", "f"),
        ToolCallDelta(0, "{"),
        ToolCallStarted(1, "y", "g"),
        ToolCallDelta(1, "{}"),
        Stopped("length"),
        Ended(),
    )
    assert shape(stream)[1:] == [
        "0+tool_use",
        "0 {",
        "0-",
        "1+tool_use",
        "1 {}",
        "1-",
        "message_delta",
        "message_stop",
    ]


def test_what_waits_is_bounded() -> None:
    """A vendor cannot fill the memory."""
    writer = MessagesWriter(REPLY)
    writer.write([Started(), ToolCallStarted(0, "x", "f"), ToolCallStarted(1, "y", "g")])
    last = b""
    for _ in range(100):
        last = writer.write([ToolCallDelta(1, "x" * 100_000)]) or last
    assert b"event: error" in last


def test_an_error_ends_a_stream() -> None:
    """With its name, because Anthropic's clients look at the name only."""
    writer = MessagesWriter(REPLY)
    reader = MessagesReader()
    events = reader.feed(
        BEGIN + told("error", error={"type": "overloaded_error", "message": "busy"})
    )
    stream = writer.write(events)
    assert documents(stream)[-1] == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "busy"},
        "request_id": "0123abcd",
    }
    assert stream.rpartition(b"event: ")[2].startswith(b"error\n")
    assert writer.write([TextDelta("late")]) == b""


def test_signs_of_life_are_pings() -> None:
    """They may come at any time."""
    assert write(Alive()).endswith(b'event: ping\ndata: {"type":"ping"}\n\n')
