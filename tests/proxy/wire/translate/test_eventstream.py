"""The laws of Amazon's event streams."""

import struct
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.translate.eventstream import (
    MAX_FRAME,
    MAX_KNOWN,
    EventStreamFrames,
    EventStreamSplitter,
    FrameSplitter,
    read_headers,
    write_frame,
)
from proxy.wire.translate.frames import BadFrame
from tests.proxy.wire.translate.arrivals import ways

# AWS's own examples, of its test suite for this encoding: no headers and no payload; a payload; all.
EMPTY = bytes.fromhex("000000100000000005c248eb7d98c8ff")
PAYLOAD = bytes.fromhex("0000001d00000000fd528c5a7b27666f6f273a27626172277dc3653936")
INT32 = bytes.fromhex(
    "0000002d0000001041c424b80a6576656e742d747970650400 00a00c7b27666f6f273a27626172277d36f480a0"
)


def read(stream: bytes) -> list[tuple[dict[str, str], bytes]]:
    """Read a whole stream."""
    return [(read_headers(headers), payload) for headers, payload in FrameSplitter().feed(stream)]


def test_amazons_examples_are_read() -> None:
    """To the byte; a header that is a number is passed over."""
    assert read(EMPTY) == [({}, b"")]
    assert read(PAYLOAD) == [({}, b"{'foo':'bar'}")]
    assert read(INT32) == [({}, b"{'foo':'bar'}")]
    assert write_frame({}, b"") == EMPTY
    assert write_frame({}, b"{'foo':'bar'}") == PAYLOAD


HEADERS = st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=20), max_size=3)


@given(st.lists(st.tuples(HEADERS, st.binary(max_size=40)), max_size=4))
def test_what_is_written_is_read(frames: list[tuple[dict[str, str], bytes]]) -> None:
    """Frame by frame."""
    stream = b"".join(write_frame(headers, payload) for headers, payload in frames)
    assert read(stream) == frames


def test_frames_are_the_same_however_they_arrive() -> None:
    """Whole, byte by byte, and cut anywhere; a begun one waits."""
    stream = write_frame({":event-type": "a"}, b"{}") + write_frame(
        {":event-type": "b"}, b'{"x":1}'
    )
    expected = FrameSplitter().feed(stream)
    for reads in ways(stream):
        splitter = FrameSplitter()
        assert [frame for data in reads for frame in splitter.feed(data)] == expected
        assert splitter.tail() == b""
    splitter = FrameSplitter()
    splitter.feed(stream[:-1])
    assert splitter.tail()


def test_the_longest_frame_may_come_in_small_reads() -> None:
    """Each byte is held once, however many reads a frame takes."""
    stream = write_frame({":event-type": "a"}, b"x" * (16 << 20)) + write_frame({}, b"y")
    splitter = FrameSplitter()
    found = [
        payload
        for at in range(0, len(stream), 4096)
        for _, payload in splitter.feed(stream[at : at + 4096])
    ]
    assert [len(payload) for payload in found] == [16 << 20, 1]


def test_one_wrong_bit_anywhere_is_found() -> None:
    """That is what checksums are for; or the frame is not complete yet."""
    frame = write_frame({":event-type": "a"}, b'{"x":1}')
    for at in range(len(frame)):
        damaged = bytearray(frame)
        damaged[at] ^= 1
        with pytest.raises(BadFrame):
            FrameSplitter().feed(bytes(damaged))


def test_a_frame_without_end_is_bounded() -> None:
    """By its own word, which is believed only with its checksum."""
    for total, headers in ((MAX_FRAME + 1, 0), (15, 0), (16, 1)):
        prelude = struct.pack(">II", total, headers)
        with pytest.raises(BadFrame):
            FrameSplitter().feed(prelude + struct.pack(">I", crc32(prelude)))


@pytest.mark.parametrize(
    "headers", [b"\x05ab", b"\x01a\x07\x00\x09abc", b"\x01a\x63\x00", b"\x02\xff\xfe\x00", b"\x01a"]
)
def test_headers_that_cannot_be_read_are_damage(headers: bytes) -> None:
    """Even with right checksums."""
    prelude = struct.pack(">II", 16 + len(headers), len(headers))
    frame = prelude + struct.pack(">I", crc32(prelude)) + headers
    with pytest.raises(BadFrame):
        EventStreamFrames().feed(frame + struct.pack(">I", crc32(frame)))


@pytest.mark.parametrize(
    ("headers", "payload", "expected"),
    [
        (
            {":message-type": "event", ":event-type": "metadata"},
            b'{"x":1}',
            {"type": "metadata", "payload": {"x": 1}},
        ),
        (
            {":message-type": "exception", ":exception-type": "throttlingException"},
            b'{"message":"slow"}',
            {"type": "throttlingException", "payload": {"message": "slow"}},
        ),
        (
            {":message-type": "error", ":error-code": "InternalError", ":error-message": "oops"},
            b"",
            {"type": "InternalError", "payload": {"message": "oops"}},
        ),
        ({":event-type": "messageStart"}, b"", {"type": "messageStart", "payload": {}}),
    ],
)
def test_a_frame_is_a_document(headers: dict[str, str], payload: bytes, expected: object) -> None:
    """Whatever kind of message it is."""
    frames = EventStreamFrames()
    [document] = frames.feed(write_frame(headers, payload))
    assert msgspec.json.decode(document) == expected
    assert frames.eof() == []


@pytest.mark.parametrize(
    "kind",
    ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "newer"],
)
def test_the_order_of_headers_says_nothing(kind: str) -> None:
    """Nor what else is among them: what is known of headers as they came is what they say."""
    said = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    frames = EventStreamFrames()
    for headers in (said, dict(reversed(said.items())), said | {"x": "y"}):
        for _ in range(2):
            [document] = frames.feed(write_frame(headers, b"[1]"))
            assert msgspec.json.decode(document) == {"type": kind, "payload": [1]}


def test_no_more_headers_are_remembered_than_a_stream_has() -> None:
    """Whatever a stream says, each of its documents has its own type."""
    frames = EventStreamFrames()
    for number in list(range(100)) * 2:
        [document] = frames.feed(write_frame({":event-type": f"{number}"}, b"[]"))
        assert msgspec.json.decode(document)["type"] == f"{number}"
    assert len(frames._documents._known) == MAX_KNOWN


def test_frames_become_events_however_they_arrive() -> None:
    """One event for each frame; line ends within a payload's JSON are no line ends of the event."""
    stream = write_frame({":event-type": "a"}, b'{\r\n"x": 1\n}') + write_frame(
        {":exception-type": "b"}, b"{}"
    )
    expected = b'data: {"type":"a","payload":{  "x": 1 }}\n\ndata: {"type":"b","payload":{}}\n\n'
    for reads in ways(stream):
        splitter = EventStreamSplitter()
        assert b"".join(map(splitter.feed, reads)) == expected
        assert splitter.tail() == b""


def test_a_damaged_frame_is_an_event_that_nobody_can_read() -> None:
    """What came before it is given, what comes after it is not, wherever the reads end."""
    good = write_frame({":event-type": "a"}, b"{}")
    stream = good + good[:-1] + bytes((good[-1] ^ 1,)) + good
    for reads in ways(stream):
        splitter = EventStreamSplitter()
        first, second, rest = b"".join(map(splitter.feed, reads)).split(b"\n\n")
        assert first == b'data: {"type":"a","payload":{}}'
        assert rest == b""
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(second.removeprefix(b"data: "))
