"""The laws of reading and writing streams of Responses."""

from typing import Any

import msgspec
import pytest

from proxy.wire.translate.core import Conversation, Tool, Usage
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
from proxy.wire.translate.responses.streams import ResponsesReader, ResponsesWriter
from tests.proxy.wire.translate.arrivals import read, read_every_way, sse
from tests.proxy.wire.translate.samples import REPLY

USAGE = {"input_tokens": 9, "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 2}}
COUNTED = UsageSeen(Usage(9, 0, 0, 3, 2))


def told(kind: str, **members: Any) -> bytes:
    return sse({"type": f"response.{kind}", **members}, f"response.{kind}")


BEGIN = told("created", response={"id": "r", "model": "m"}) + told("in_progress", response={})
END = told("completed", response={"status": "completed", "usage": USAGE})
START = Started("r", "m")
HI = TextDelta("hi")


def item(kind: str, number: int = 0, **members: Any) -> bytes:
    return told(f"output_item.{kind}", output_index=number, item=members)


STREAMS: dict[str, tuple[bytes, list[Event]]] = {
    "plain": (
        BEGIN
        + item("added", type="message")
        + told("output_text.delta", delta="hi")
        + told("output_text.done", text="hi")
        + item("done", type="message")
        + END,
        [START, HI, COUNTED, Stopped("end"), Ended()],
    ),
    "with [DONE], as others serve it": (
        BEGIN + told("output_text.delta", delta="hi") + END + b"data: [DONE]\n\n",
        [START, HI, COUNTED, Stopped("end"), Ended()],
    ),
    "types that are newer": (
        BEGIN + told("brand_new", x=1) + told("output_text.delta", delta="hi") + END,
        [START, HI, COUNTED, Stopped("end"), Ended()],
    ),
    "reasoning in paragraphs, sealed": (
        BEGIN
        + item("added", type="reasoning")
        + told("reasoning_summary_part.added", summary_index=0)
        + told("reasoning_summary_text.delta", delta="a")
        + told("reasoning_summary_part.added", summary_index=1)
        + told("reasoning_summary_text.delta", delta="b")
        + item("done", type="reasoning", encrypted_content="enc")
        + END,
        [
            START,
            ReasoningDelta("a"),
            ReasoningDelta("\n\n"),
            ReasoningDelta("b"),
            ReasoningRedacted("enc", "openai"),
            COUNTED,
            Stopped("end"),
            Ended(),
        ],
    ),
    "calls, with pieces and without": (
        BEGIN
        + item("added", 1, type="function_call", call_id="a", name="f", arguments="")
        + told("function_call_arguments.delta", output_index=1, delta="{")
        + told("function_call_arguments.delta", output_index=1, delta="}")
        + item("done", 1, type="function_call", arguments="{}")
        + item("added", 2, type="custom_tool_call", call_id="b", name="g")
        + item("done", 2, type="custom_tool_call", input="x")
        + END,
        [
            START,
            ToolCallStarted(0, "a", "f"),
            ToolCallDelta(0, "{"),
            ToolCallDelta(0, "}"),
            ToolCallEnded(0),
            ToolCallStarted(1, "b", "g", custom=True),
            ToolCallDelta(1, "x"),
            ToolCallEnded(1),
            COUNTED,
            Stopped("tool_calls"),
            Ended(),
        ],
    ),
    "a piece after its call has ended": (
        BEGIN
        + item("added", 1, type="function_call", call_id="a", name="f")
        + item("done", 1, type="function_call", arguments="{}")
        + told("function_call_arguments.delta", output_index=1, delta="x")
        + END,
        [
            START,
            ToolCallStarted(0, "a", "f"),
            ToolCallDelta(0, "{}"),
            ToolCallEnded(0),
            COUNTED,
            Stopped("tool_calls"),
            Ended(),
        ],
    ),
    "refusal": (
        BEGIN + told("refusal.delta", delta="no") + END,
        [START, RefusalDelta("no"), COUNTED, Stopped("refusal"), Ended()],
    ),
    "incomplete": (
        BEGIN
        + told("output_text.delta", delta="hi")
        + told("incomplete", response={"incomplete_details": {"reason": "max_output_tokens"}}),
        [START, HI, Stopped("length"), Ended()],
    ),
    "comments": (b": x\n\n" + BEGIN + END, [Alive(), START, COUNTED, Stopped("end"), Ended()]),
}


@pytest.mark.parametrize(("stream", "expected"), STREAMS.values(), ids=STREAMS)
def test_what_openai_sends_is_understood_however_it_arrives(
    stream: bytes, expected: list[Event]
) -> None:
    """Whole, byte by byte, and cut at every boundary; the same with CR LF."""
    assert read_every_way(ResponsesReader, stream) == expected
    assert read(ResponsesReader, [stream.replace(b"\n", b"\r\n")]) == expected


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (BEGIN + told("output_text.delta", delta="hi"), "lost"),
        (
            BEGIN
            + told(
                "failed", response={"error": {"code": "rate_limit_exceeded", "message": "slow"}}
            ),
            "rate_limited",
        ),
        (BEGIN + told("failed"), "lost"),
        (
            BEGIN + sse({"type": "error", "code": "server_error", "message": "x"}, "error"),
            "internal",
        ),
        (
            sse({"type": "error", "error": {"code": "invalid_prompt", "message": "x"}}),
            "bad_request",
        ),
        (sse({"error": {"message": "x"}}), "internal"),
        (sse({"type": 7}), "lost"),
    ],
)
def test_what_is_no_answer_is_a_failure(stream: bytes, kind: str) -> None:
    """A cut, a response that failed, an error event in both of its forms, garbage."""
    *_, last = read_every_way(ResponsesReader, stream)
    assert isinstance(last, Failed)
    assert last.failure.kind == kind


def test_what_the_core_has_no_word_for_is_named() -> None:
    """Items of OpenAI's own tools, and annotations."""
    reader = ResponsesReader()
    reader.feed(item("added", type="web_search_call") + told("output_text.annotation.added"))
    assert reader.dropped == ["web_search_call", "annotations"]


def documents(stream: bytes) -> list[Any]:
    found = []
    for event in stream.split(b"\n\n")[:-1]:
        if event.startswith(b":"):
            continue
        name, data = event.split(b"\n")
        found.append(msgspec.json.decode(data[6:]))
        assert name == b"event: " + found[-1]["type"].encode()
    return found


def write(*events: Event) -> bytes:
    return ResponsesWriter(REPLY).write([Started("up", "served"), *events])


FULL: list[Event] = [
    ReasoningDelta("h"),
    ReasoningDelta("m"),
    ReasoningSigned("sig", "anthropic"),
    TextDelta("a"),
    TextDelta("b"),
    RefusalDelta("c"),
    ToolCallStarted(0, "x", "f"),
    ToolCallDelta(0, "{"),
    ToolCallStarted(1, "", "g", custom=True),
    ToolCallDelta(1, "free"),
    ToolCallDelta(0, "}"),
    ToolCallEnded(0),
    ToolCallEnded(1),
    ReasoningRedacted("enc", "openai"),
    Alive(),
    COUNTED,
    Stopped("tool_calls"),
    Ended(),
]


def test_events_are_numbered_without_gaps() -> None:
    """And every event is named as its type."""
    found = documents(write(*FULL))
    assert [one["sequence_number"] for one in found] == list(range(len(found)))


def test_what_was_told_in_pieces_is_told_whole() -> None:
    """Every item ends as it stands in the response at the end."""
    found = documents(write(*FULL))
    done = {one["output_index"]: one["item"] for one in found if one["type"].endswith("item.done")}
    whole = found[-1]["response"]
    assert found[-1]["type"] == "response.completed"
    assert [done[number] for number in sorted(done)] == whole["output"]
    kinds = [one["type"] for one in whole["output"]]
    assert kinds == ["reasoning", "message", "function_call", "custom_tool_call", "reasoning"]
    assert [part["type"] for part in whole["output"][1]["content"]] == ["output_text", "refusal"]
    assert whole["output"][1]["content"][0]["text"] == "ab"
    assert whole["output"][2]["arguments"] == "{}"
    assert whole["output"][3]["input"] == "free"
    assert whole["output"][3]["call_id"] == "call_0123abcd_1"
    assert whole["usage"]["total_tokens"] == 12
    assert whole["model"] == "served"


def test_pieces_belong_to_what_was_begun() -> None:
    """Each names an item that was added before and is not done."""
    alive: dict[int, str] = {}
    for one in documents(write(*FULL)):
        match one["type"].removeprefix("response."):
            case "output_item.added":
                alive[one["output_index"]] = one["item"]["id"]
            case "output_item.done":
                assert alive.pop(one["output_index"]) == one["item"]["id"]
            case _ if "item_id" in one:
                assert alive[one["output_index"]] == one["item_id"]
    assert alive == {}


def test_a_cut_answer_is_incomplete() -> None:
    """With the reason; what nobody ended is ended."""
    found = documents(write(ToolCallStarted(0, "x", "f"), Stopped("length"), Ended()))
    assert found[-1]["type"] == "response.incomplete"
    assert found[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert found[-1]["response"]["output"][0]["arguments"] == "{}"


def test_an_explained_refusal_is_told() -> None:
    """In words, as OpenAI's clients show it."""
    found = documents(write(Stopped("refusal", "why"), Ended()))
    assert found[-1]["response"]["output"][0]["content"][0]["refusal"] == "why"


def test_an_error_is_said_twice() -> None:
    """As the state of the response, and as what the official client raises."""
    reader, writer = ResponsesReader(), ResponsesWriter(REPLY)
    stream = writer.write([Started("up", "m"), TextDelta("half"), *reader.eof()])
    failed, error = documents(stream)[-2:]
    assert failed["type"] == "response.failed"
    assert failed["response"]["status"] == "failed"
    assert error["error"]["message"] == failed["response"]["error"]["message"]
    assert writer.write([HI]) == b""


def test_what_is_held_is_bounded() -> None:
    """A vendor cannot fill the memory."""
    writer = ResponsesWriter(REPLY)
    writer.write([Started()])
    last = b""
    for _ in range(100):
        last = writer.write([TextDelta("x" * 100_000)]) or last
    assert b"response.failed" in last
    assert b": alive\n\n" in write(Alive())


def test_a_streamed_call_is_told_in_the_namespace_of_its_tool() -> None:
    """As it begins, with its arguments, and when it is done."""
    asked = Conversation(model="m", turns=(), tools=(Tool("agents__close", namespace="agents"),))
    writer = ResponsesWriter(msgspec.structs.replace(REPLY, conversation=asked))
    call = [ToolCallStarted(0, "c", "agents__close"), ToolCallDelta(0, "{}"), ToolCallEnded(0)]
    out = writer.write([START, *call, Stopped("tool_calls"), Ended()])
    told = [msgspec.json.decode(line[6:]) for line in out.splitlines() if line[:6] == b"data: "]
    named = [event["item"] for event in told if "item" in event]
    assert {(item["name"], item["namespace"]) for item in named} == {("close", "agents")}
    (arguments,) = [event for event in told if event["type"].endswith("arguments.done")]
    assert arguments["name"] == "close"
    assert told[-1]["response"]["output"][0]["namespace"] == "agents"
