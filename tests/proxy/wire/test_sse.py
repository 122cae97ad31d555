"""The laws of cutting a stream between events, and of reading events as the standard says."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.sse import EventSplitter, EventTooLong, decode, split

STREAMS = {
    "lf": b'data: {"a":1}\n\ndata: {"b":2}\n\ndata: [DONE]\n\n',
    "crlf": b"data: 1\r\n\r\nevent: x\r\ndata: 2\r\n\r\n",
    "cr": b"data: 1\r\rdata: 2\r\r",
    "mixed": b"data: 1\r\n\ndata: 2\n\r\ndata: 3\r\r\ndata: 4\n\rdata: 5\r\n\r\n",
    "comments": b": keep-alive\n\ndata: 1\n\n: OPENROUTER PROCESSING\n\n:\n\ndata: 2\n\n",
    "multi-line": b"data: a\ndata: b\n\nevent: e\nid: 1\nretry: 5\ndata:c\n\n",
    "bom": b"\xef\xbb\xbfdata: 1\n\ndata: 2\n\n",
    "utf-8": "data: 你好 \U0001f600\n\ndata: é\n\n".encode(),
    "blank lines": b"\n\n\ndata: 1\n\n\n\ndata: 2\n\n\n",
    "no space": b"data:1\n\ndata\n\nid\n\n",
}
TAILS = [b"", b"data: unfin", b"data: unfinished\n", b"data: unfinished\r\n"]


def ways(data: bytes) -> Iterator[list[bytes]]:
    """All the ways bytes can arrive: whole, byte by byte, cut in two anywhere, and at random."""
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
    dice = random.Random(7)
    for _ in range(20):
        cuts = sorted(dice.sample(range(1, len(data)), 3))
        yield [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.parametrize("tail", TAILS, ids=len)
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_a_stream_is_cut_only_between_events(stream: bytes, tail: bytes) -> None:
    """However it arrives: nothing is lost, all whole events are handed on, only a begun one is held."""
    for reads in ways(stream + tail):
        splitter = EventSplitter()
        out = [splitter.feed(read) for read in reads]
        assert b"".join(out) == stream
        assert splitter.tail() == tail
        for whole in out:
            # A prefix that ends between events decodes alone, and the events add up.
            assert whole == b"" or whole[-1:] in b"\r\n"
        events = [event for whole in out for event in decode(whole.removeprefix(b"\xef\xbb\xbf"))]
        assert events == decode(stream)


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_an_event_is_handed_on_by_the_read_that_ends_it(stream: bytes) -> None:
    """Byte by byte, an event never waits for the byte after its end."""
    splitter = EventSplitter()
    seen = b""
    for at in range(len(stream)):
        seen += splitter.feed(stream[at : at + 1])
        assert decode(seen) == decode(stream[: at + 1])


def test_a_read_of_whole_events_is_not_copied() -> None:
    """The common read passes as the object that came."""
    splitter = EventSplitter()
    for read in (STREAMS["lf"], STREAMS["crlf"], STREAMS["cr"], STREAMS["blank lines"]):
        assert splitter.feed(read) is read


def test_a_held_event_is_bounded() -> None:
    """A vendor that never ends an event cannot grow memory: the stream is over."""
    splitter = EventSplitter(limit=10)
    assert splitter.feed(b"data: 1\n\n" * 10) == b"data: 1\n\n" * 10
    assert splitter.feed(b"0123456789") == b""
    with pytest.raises(EventTooLong):
        splitter.feed(b"0")
    with pytest.raises(EventTooLong):
        EventSplitter(limit=10).feed(b"data: 1\n\n01234567890")
    splitter = EventSplitter(limit=10)
    splitter.feed(b"01234567")
    assert splitter.feed(b"89012\n\n0123456789") == b"0123456789012\n\n"
    assert splitter.tail() == b"0123456789"


@given(st.lists(st.sampled_from([b"\r", b"\n", b"data: x", b"a", b":"]), max_size=30))
def test_any_bytes_any_cuts(pieces: list[bytes]) -> None:
    """Cut anywhere, the splitter gives what it gives for the whole, but for an LF after a CR."""
    data = b"".join(pieces)
    whole = EventSplitter()
    expected = whole.feed(data), whole.tail()
    splitter = EventSplitter()
    out = b"".join([splitter.feed(piece) for piece in pieces])
    assert out + splitter.tail() == data
    assert (out, splitter.tail()) == expected


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_split_cuts_into_single_events(stream: bytes) -> None:
    """Joined they are the stream, and each holds at most one event."""
    events = list(split(stream))
    assert b"".join(events) == stream
    assert all(len(decode(event)) <= 1 for event in events)
    assert [found for event in events for found in decode(event)] == decode(stream)
    assert b"".join(split(stream + b"data: tail")) == stream + b"data: tail"


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        # The examples of the HTML standard, section 9.2.6.
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("message", "YHOO\n+2\n10")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            [("message", "first event"), ("message", "second event"), ("message", " third event")],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [("message", ""), ("message", "\n")]),
        (b"data:test\n\ndata: test\n\n", [("message", "test"), ("message", "test")]),
        # Names, and what is not dispatched.
        (b"event: error\ndata: {}\n\ndata: x\n\n", [("error", "{}"), ("message", "x")]),
        (b"event: lonely\n\ndata: x\n\n", [("message", "x")]),
        (b"data: unfinished\n", []),
        (b"\xef\xbb\xbfdata: bom\n\n", [("message", "bom")]),
        (b"data: a\r\ndata: b\rdata: c\n\r\n", [("message", "a\nb\nc")]),
        (b"data: \xff\n\n", [("message", "\ufffd")]),
        (b"unknown: x\nretry: 10\ndata: y\n\n", [("message", "y")]),
        (b"", []),
    ],
)
def test_events_are_read_as_the_standard_says(stream: bytes, events: list[tuple[str, str]]) -> None:
    """Fields, comments, several data lines, line ends, names, and a byte order mark."""
    assert decode(stream) == events
