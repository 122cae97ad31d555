"""The laws of reading streams of ConverseStream."""

from typing import Any

import msgspec
import pytest

from proxy.wire.translate.converse.streams import ConverseReader
from proxy.wire.translate.core import Usage
from proxy.wire.translate.events import (
    Collector,
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
from proxy.wire.translate.eventstream import write_frame
from proxy.wire.translate.protocols import PROTOCOLS
from tests.proxy.wire.translate.arrivals import read, read_every_way
from tests.proxy.wire.translate.samples import REPLY


def told(kind: str, **payload: Any) -> bytes:
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return write_frame(headers, msgspec.json.encode(payload))


def exception(kind: str, message: str) -> bytes:
    headers = {":exception-type": kind, ":message-type": "exception"}
    return write_frame(headers, msgspec.json.encode({"message": message}))


def delta(index: int, **members: Any) -> bytes:
    return told("contentBlockDelta", contentBlockIndex=index, delta=members)


BEGIN = told("messageStart", role="assistant")
USAGE = told(
    "metadata", usage={"inputTokens": 5, "outputTokens": 7, "cacheReadInputTokens": 10}, metrics={}
)
COUNTED = UsageSeen(Usage(15, 10, 0, 7))


def ended(reason: str) -> bytes:
    return told("messageStop", stopReason=reason) + USAGE


FULL = (
    BEGIN
    + delta(0, reasoningContent={"text": "hm"})
    + delta(0, reasoningContent={"signature": "s"})
    + told("contentBlockStop", contentBlockIndex=0)
    + delta(1, reasoningContent={"redactedContent": "xx"})
    + delta(2, text="hi")
    + told("contentBlockStop", contentBlockIndex=2)
    + told(
        "contentBlockStart", contentBlockIndex=3, start={"toolUse": {"toolUseId": "a", "name": "f"}}
    )
    + delta(3, toolUse={"input": ""})
    + delta(3, toolUse={"input": '{"x":'})
    + delta(3, toolUse={"input": "1}"})
    + told("contentBlockStop", contentBlockIndex=3)
    + told("brandNew", x=1)
    + ended("tool_use")
)
EVENTS: list[Event] = [
    Started(),
    ReasoningDelta("hm"),
    ReasoningSigned("s", "anthropic"),
    ReasoningRedacted("xx", "anthropic"),
    TextDelta("hi"),
    ToolCallStarted(0, "a", "f"),
    ToolCallDelta(0, '{"x":'),
    ToolCallDelta(0, "1}"),
    ToolCallEnded(0),
    COUNTED,
    Stopped("tool_calls"),
    Ended(),
]


def test_what_amazon_sends_is_understood_however_it_arrives() -> None:
    """Whole, byte by byte, and cut at every boundary."""
    assert read_every_way(ConverseReader, FULL) == EVENTS


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (b"", "lost"),
        (BEGIN + delta(0, text="hi"), "lost"),
        (BEGIN + exception("throttlingException", "slow"), "rate_limited"),
        (BEGIN + exception("modelStreamErrorException", "x"), "lost"),
        (exception("validationException", "bad"), "bad_request"),
        (write_frame({":message-type": "error", ":error-code": "InternalError"}, b""), "lost"),
        (BEGIN + ended("malformed_model_output"), "lost"),
        (BEGIN + write_frame({":event-type": "metadata"}, b"<html>"), "lost"),
        (b"HTTP/1.1 200 OK", "lost"),
    ],
)
def test_what_is_no_answer_is_a_failure(stream: bytes, kind: str) -> None:
    """A cut, an exception inside the stream, damage."""
    *_, last = read_every_way(ConverseReader, stream) if stream else read(ConverseReader, [b""])
    assert isinstance(last, Failed)
    assert last.failure.kind == kind


def test_calls_have_the_names_of_the_caller() -> None:
    """And what the core has no word for is named."""
    reader = ConverseReader({"f": "a.b"})
    reader.feed(BEGIN)
    start = {"toolUse": {"toolUseId": "a", "name": "f"}}
    assert reader.feed(told("contentBlockStart", contentBlockIndex=0, start=start)) == [
        ToolCallStarted(0, "a", "a.b")
    ]
    reader.feed(delta(1, citation={"title": "t"}))
    assert reader.dropped == ["citations"]


@pytest.mark.parametrize("caller", PROTOCOLS)
def test_a_cut_anywhere_ends_with_an_error_in_the_callers_protocol(caller: str) -> None:
    """Whatever byte was the last; complete it is once it was said why it ended."""
    complete = len(FULL) - len(USAGE)
    for cut in range(0, len(FULL) + 1, 7):
        reader, writer = ConverseReader(), PROTOCOLS[caller].writer(REPLY)
        ours = writer.write(reader.feed(FULL[:cut])) + writer.write(reader.eof())
        last = read(lambda: PROTOCOLS[caller].reader(None), [ours])[-1]
        assert isinstance(last, Ended if cut >= complete else Failed)


@pytest.mark.parametrize("caller", PROTOCOLS)
def test_every_caller_gets_what_was_said(caller: str) -> None:
    """In its own protocol."""
    reader, writer = ConverseReader(), PROTOCOLS[caller].writer(REPLY)
    ours = writer.write(reader.feed(FULL)) + writer.write(reader.eof())
    collector = Collector()
    assert collector.add(read(lambda: PROTOCOLS[caller].reader(None), [ours]))
    answer = collector.answer()
    texts = [part.text for part in answer.choices[0].parts if type(part).__name__ == "Text"]
    assert "".join(texts) == "hi"
    assert answer.choices[0].stop == "tool_calls"
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (15, 7)
