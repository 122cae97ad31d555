"""The laws of cutting a stream into its documents."""

import pytest

from proxy.wire.translate.frames import EventTooLong, LineFrames, SseFrames
from tests.proxy.wire.translate.arrivals import ways

STREAMS = {
    "plain": (b'data: {"a":1}\n\ndata: [DONE]\n\n', [b'{"a":1}', b"[DONE]"]),
    "named": (b'event: x\ndata: {"a":1}\n\nevent: y\ndata: 2\n\n', [b'{"a":1}', b"2"]),
    "crlf": (b"event: x\r\ndata: 1\r\n\r\ndata: 2\r\n\r\n", [b"1", b"2"]),
    "cr": (b"data: 1\r\rdata: 2\r\r", [b"1", b"2"]),
    "no space": (b"data:1\n\ndata: 2\n\n", [b"1", b"2"]),
    "several lines": (b"data: {\ndata:  1}\n\n", [b"{\n 1}"]),
    "byte order mark": (b"\xef\xbb\xbfdata: 1\n\n", [b"1"]),
    "comments": (b": alive\n\n: x\ndata: 1\n\n", [b"", b"1"]),
    "other fields": (b"id: 7\nretry: 5\n\nid: 8\ndata: 1\n\n", [b"1"]),
    "blank lines": (b"\n\n\ndata: 1\n\n\n\n\ndata: 2\n\n", [b"1", b"2"]),
    "name after data": (b"data: 1\nevent: x\n\n", [b"1"]),
}


@pytest.mark.parametrize(("stream", "expected"), STREAMS.values(), ids=STREAMS)
def test_events_are_the_same_however_they_arrive(stream: bytes, expected: list[bytes]) -> None:
    """Whole, byte by byte, and cut anywhere."""
    for reads in ways(stream):
        frames = SseFrames()
        assert [found for data in reads for found in frames.feed(data)] == expected
        assert frames.eof() == []


def test_an_event_that_nothing_ended_is_given_at_the_end() -> None:
    """Some servers forget the last blank line; whether it is whole is for its reader to say."""
    frames = SseFrames()
    assert frames.feed(b"data: 1\n\nevent: x\ndata: 2") == [b"1"]
    assert frames.eof() == [b"2"]


def test_an_endless_event_is_bounded() -> None:
    """Nothing is held beyond the limit."""
    frames = SseFrames(limit=100)
    with pytest.raises(EventTooLong):
        for _ in range(20):
            frames.feed(b"data: 123456789")


@pytest.mark.parametrize(
    ("stream", "expected", "rest"),
    [
        (b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}'], []),
        (b"1\r\n\n \n2", [b"1\r"], [b"2"]),
    ],
)
def test_lines_are_the_same_however_they_arrive(
    stream: bytes, expected: list[bytes], rest: list[bytes]
) -> None:
    """Blank lines are none, and the last line may end nowhere."""
    for reads in ways(stream):
        frames = LineFrames()
        assert [found for data in reads for found in frames.feed(data)] == expected
        assert frames.eof() == rest


def test_an_endless_line_is_bounded() -> None:
    """Nothing is held beyond the limit."""
    frames = LineFrames(limit=10)
    with pytest.raises(EventTooLong):
        frames.feed(b"0123456789a")
