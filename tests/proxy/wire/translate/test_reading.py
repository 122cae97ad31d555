"""The laws that all readers of streams have from their common part."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from proxy.wire.translate.chat.streams import ChatReader
from proxy.wire.translate.converse.streams import ConverseReader
from proxy.wire.translate.core import Failure
from proxy.wire.translate.events import Ended, Event, Failed, TextDelta, ToolCallStarted
from proxy.wire.translate.gemini.streams import GeminiReader
from proxy.wire.translate.messages.streams import MessagesReader
from proxy.wire.translate.ollama.streams import OllamaReader
from proxy.wire.translate.reading import MOST_CALLS, MOST_CHOICES, MOST_DROPPED, DocumentReader
from proxy.wire.translate.responses.streams import ResponsesReader


class Echo(DocumentReader):
    """Gives back what it reads; "end" ends, and what begins with "?" means nothing."""

    def read(self, document: bytes, out: list[Event]) -> None:
        if document == b"end":
            self._over = True
            out.append(Ended())
        else:
            document.replace(b"?", b"\xff").decode()
            out.append(TextDelta(document.decode()))


def test_nothing_follows_an_end() -> None:
    """Neither events nor a second end."""
    reader = Echo()
    assert reader.feed(b"data: a\n\ndata: end\n\ndata: b\n\n") == [TextDelta("a"), Ended()]
    assert reader.feed(b"data: c\n\n") == []
    assert reader.eof() == []


def test_a_stream_without_an_end_is_lost() -> None:
    """With the cause, where somebody knows it; once."""
    cause = Failure(kind="timeout", message="too slow", status=504)
    reader = Echo()
    assert reader.feed(b"data: a\n\n") == [TextDelta("a")]
    assert reader.eof(cause) == [Failed(cause)]
    assert reader.eof() == []
    [end] = Echo().eof()
    assert isinstance(end, Failed)
    assert end.failure.kind == "lost"


def test_what_means_nothing_ends_the_stream() -> None:
    """After what meant something; at the end it was only cut."""
    first, last = Echo().feed(b"data: a\n\ndata: ?\n\ndata: b\n\n")
    assert first == TextDelta("a")
    assert isinstance(last, Failed)
    assert last.failure.code == "bad_answer"
    reader = Echo()
    reader.feed(b"data: a\n\ndata: ?")
    [end] = reader.eof()
    assert isinstance(end, Failed)
    assert end.failure.code == "upstream_lost"


def test_an_endless_event_ends_the_stream() -> None:
    """A vendor cannot fill the memory."""
    reader = Echo()
    events: list[Event] = []
    for _ in range(40):
        events += reader.feed(b"data: " + b"x" * 65536)
    [end] = events
    assert isinstance(end, Failed)


def test_what_was_dropped_is_named_once() -> None:
    """In the order it was met."""
    reader = Echo()
    for name in ("citations", "", "audio", "citations"):
        reader.drop(name)
    assert reader.dropped == ["citations", "audio"]


def test_names_without_end_are_bounded() -> None:
    """They may be a vendor's own words."""
    reader = Echo()
    for number in range(2 * MOST_DROPPED):
        reader.drop(str(number))
    assert reader.dropped == [str(number) for number in range(MOST_DROPPED)]


def sse(document: Any) -> bytes:
    return b"data: " + msgspec.json.encode(document) + b"\n\n"


def block(number: int) -> dict[str, Any]:
    """Begin a call as Anthropic does."""
    return {
        "type": "content_block_start",
        "index": number,
        "content_block": {"type": "tool_use", "id": f"c{number}", "name": "f"},
    }


def item(number: int) -> dict[str, Any]:
    """Begin a call as Responses does."""
    return {
        "type": "response.output_item.added",
        "output_index": number,
        "item": {"type": "function_call", "call_id": f"c{number}", "name": "f"},
    }


def converse(number: int) -> dict[str, Any]:
    """Begin a call as Converse does."""
    use = {"toolUseId": f"c{number}", "name": "f"}
    return {
        "type": "contentBlockStart",
        "payload": {"contentBlockIndex": number, "start": {"toolUse": use}},
    }


@pytest.mark.parametrize(
    ("reader", "begun"),
    [
        (
            ChatReader(),
            lambda n: sse({"choices": [{"delta": {"tool_calls": [{"index": n, "id": f"c{n}"}]}}]}),
        ),
        (
            GeminiReader(),
            lambda _: sse({"candidates": [{"content": {"parts": [{"functionCall": {}}] * 2}}]}),
        ),
        (MessagesReader(), lambda n: sse(block(n))),
        (ResponsesReader(), lambda n: sse(item(n))),
        (ResponsesReader(), lambda _: sse(item(0))),
        (ConverseReader(framed=False), lambda n: sse(converse(n))),
        (
            OllamaReader(),
            lambda _: msgspec.json.encode({"message": {"tool_calls": [{}, {}]}}) + b"\n",
        ),
    ],
    ids=["chat", "gemini", "messages", "responses", "in one place", "converse", "ollama"],
)
def test_calls_without_end_are_bounded(
    reader: DocumentReader, begun: Callable[[int], bytes]
) -> None:
    """A thousand calls are an answer, and one more is none: the failure stands last, and ends it."""
    events: list[Event] = []
    for number in range(MOST_CALLS + 1):
        events += reader.feed(begun(number))
    *said, last = events
    calls = [one.call for one in said if type(one) is ToolCallStarted]
    assert calls == list(range(MOST_CALLS))
    assert isinstance(last, Failed)
    assert last.failure.code == "bad_answer"


@pytest.mark.parametrize("number", [-1, MOST_CHOICES])
@pytest.mark.parametrize(
    ("made", "told"),
    [
        (ChatReader, lambda n: {"choices": [{"index": n, "delta": {"content": "a"}}]}),
        (
            GeminiReader,
            lambda n: {"candidates": [{"index": n, "content": {"parts": [{"text": "a"}]}}]},
        ),
    ],
    ids=["chat", "gemini"],
)
def test_answers_without_end_are_bounded(
    made: Callable[[], DocumentReader], told: Callable[[int], Any], number: int
) -> None:
    """Something is kept of each, so that their numbers are those of answers that somebody may have asked for."""
    reader = made()
    [*_, text] = reader.feed(sse(told(MOST_CHOICES - 1)))
    assert text == TextDelta("a", MOST_CHOICES - 1)
    strange = {word: answers * 2 for word, answers in told(number).items()}
    [last] = reader.feed(sse(strange))
    assert isinstance(last, Failed)
    assert last.failure.code == "bad_answer"
