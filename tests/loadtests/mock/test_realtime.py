"""Laws of the frames of a realtime session: they mean the same however they are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.mock.realtime import Frames, frame


def masked(payload: bytes, opcode: int = 1, *, final: bool = True) -> bytes:
    """Write a client's frame."""
    key = b"\x01\x02\x03\x04"
    head = bytearray(frame(payload, opcode))
    head = head[: len(head) - len(payload)]
    head[0] = (0x80 if final else 0) | opcode
    head[1] |= 0x80
    return bytes(head) + key + bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


@given(st.lists(st.binary(max_size=300), max_size=4), st.data())
def test_frames_mean_the_same_however_they_are_cut(
    payloads: list[bytes], data: st.DataObject
) -> None:
    """In one piece or byte by byte."""
    wire = b"".join(masked(payload) for payload in payloads)
    frames, found, at = Frames(), [], 0
    while at < len(wire):
        step = data.draw(st.integers(1, 400))
        found += [payload for _, payload in frames.feed(wire[at : at + step])]
        at += step
    assert found == payloads


def test_a_message_may_come_in_fragments() -> None:
    """With a ping between them; a large one has a longer head; one that is not masked is refused."""
    wire = masked(b"ab", final=False) + masked(b"!", 9) + masked(b"cd", 0)
    assert list(Frames().feed(wire)) == [(9, b"!"), (1, b"abcd")]
    assert list(Frames().feed(masked(bytes(70_000)))) == [(1, bytes(70_000))]
    with pytest.raises(ValueError, match="masked"):
        list(Frames().feed(frame(b"x")))
