"""Laws of the frames that the mock vendor writes."""

import struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.mock.frames import damaged, frame
from proxy.wire.translate.eventstream import FrameSplitter, read_headers
from proxy.wire.translate.frames import BadFrame


def test_amazons_examples_are_written():
    """To the byte: AWS's own, of its test suite for this encoding."""
    assert frame({}, b"").hex() == "000000100000000005c248eb7d98c8ff"
    whole = "0000001d00000000fd528c5a7b27666f6f273a27626172277dc3653936"
    assert frame({}, b"{'foo':'bar'}").hex() == whole


def test_a_frame_has_its_lengths_and_both_checksums():
    """A header is its name, 7 for a string, and its value; numbers are big-endian."""
    whole = frame({":a": "bc"}, b"payload")
    assert struct.unpack(">II", whole[:8]) == (len(whole), 8)
    assert struct.unpack(">I", whole[8:12])[0] == crc32(whole[:8])
    assert whole[12:-4] == b"\x02:a\x07\x00\x02bc" + b"payload"
    assert struct.unpack(">I", whole[-4:])[0] == crc32(whole[:-4])


HEADERS = st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=20), max_size=3)


@given(HEADERS, st.binary(max_size=40))
def test_the_gateway_reads_what_is_written(headers, payload):
    """They were written apart; and refuses what is damaged."""
    whole = frame(headers, payload)
    [(found, said)] = FrameSplitter().feed(whole)
    assert (read_headers(found), said) == (headers, payload)
    with pytest.raises(BadFrame):
        FrameSplitter().feed(damaged(whole))
