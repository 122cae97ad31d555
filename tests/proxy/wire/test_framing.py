"""The laws of how streams are made of events: found around any byte, cut only where one ends, mended only where nothing else is missing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import sse
from proxy.wire.framing import (
    EVENTS,
    LineSplitter,
    event_around,
    lines_of,
    payload_around,
    payload_of,
)
from proxy.wire.sse import EventTooLong
from tests.proxy.wire.test_sse import ways

LINES = st.sampled_from(
    [b"data: x", b"data:y", b"data", b"event: e", b"event:", b": c", b"id: 1", b""]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINED = lines_of(100)


@given(st.lists(st.tuples(LINES, ENDS), min_size=1, max_size=9))
def test_an_event_is_found_around_any_byte_of_its_lines(lines: list[tuple[bytes, bytes]]) -> None:
    """Whatever its lines end with: it is the one that cutting all of them gives, and says what reading them says."""
    data = b"".join([line + end for line, end in lines])
    begin = 0
    for event_ in sse.split(data):
        end = begin + len(event_)
        for at in range(begin, end):
            if data[at : at + 1] in {b"\r", b"\n"}:
                continue
            found = data[slice(*event_around(data, at))]
            assert payload_around(data, at)[0] == payload_of(found)
            # Blank lines before it may be taken with it, and more than one behind it left; they say nothing.
            assert found.strip(b"\r\n") == event_.strip(b"\r\n")
        said = [text for _, text in sse.decode(event_ + b"\n\n")]
        assert payload_of(event_).strip().decode() == "\n".join(said).strip()
        begin = end


@pytest.mark.parametrize("tail", [b"", b'{"c":', b" "])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n"])
def test_lines_are_cut_only_where_one_ends(end: bytes, tail: bytes) -> None:
    """However they arrive: nothing is lost or changed, and a read of whole lines is not copied."""
    whole = b'{"a":1}' + end + '{"b":"é 你"}'.encode() + end
    for reads in ways(whole + tail):
        splitter = LineSplitter()
        out = [splitter.feed(read) for read in reads]
        assert b"".join(out) == whole
        assert all(not each or each.endswith(b"\n") for each in out)
        assert splitter.tail() == tail
    assert LineSplitter().feed(whole) is whole


def test_a_held_line_is_bounded() -> None:
    """A vendor that never ends a line cannot grow memory: the stream is over."""
    splitter = LineSplitter(10)
    assert splitter.feed(b"{}\n" * 10 + b"0123456789") == b"{}\n" * 10
    assert splitter.feed(b"0\n") == b"01234567890\n"
    with pytest.raises(EventTooLong):
        splitter.feed(b"01234567890")


def test_lines_are_events() -> None:
    """Each is one, blank ones carry nothing, and the last may be unfinished."""
    text = b'{"a":1}\r\n\n \n{"b":2}\n{"c"'
    found = [*LINED.events_in(text)]
    assert b"".join(found) == text
    assert [LINED.payload_of(one) for one in found] == [b'{"a":1}', b"", b"", b'{"b":2}', b'{"c"']
    assert LINED.count(text) == 3


@pytest.mark.parametrize(
    ("tail", "events", "lines"),
    [
        (b'data: {"a":1}', b'data: {"a":1}\n\n', b""),
        (b'event: x\r\ndata: {"a":1}\r\n', b'event: x\r\ndata: {"a":1}\n\n', b""),
        (b"data: [DONE]", b"data: [DONE]\n\n", b""),
        (b'{"a":1}\r', b"", b'{"a":1}\n'),
        *[(cut, b"", b"") for cut in (b'data: {"a":', b'{"a":', b": c", b"event: x", b"[1]", b"1")],
        (b"data: [1]", b"", b""),
    ],
)
def test_what_lacks_only_its_end_is_given_one(tail: bytes, events: bytes, lines: bytes) -> None:
    """A stream may end without it; whatever else is missing was cut."""
    assert (EVENTS.mended(tail), LINED.mended(tail)) == (events, lines)
