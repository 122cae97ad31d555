"""The mock's sessions: frames however they are cut, and responses as the model's name says."""

import asyncio
import json

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests import mock
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


async def test_a_response_is_what_the_name_of_the_model_says() -> None:
    """And is in the books."""
    async with mock.serve() as vendor, aiohttp.ClientSession() as client, asyncio.timeout(10):
        url = f"{vendor.base_url}/realtime"
        model = "sim;tokens=5;prompt=9;audio_out=2"
        async with client.ws_connect(url, params={"model": model}) as ws:
            await ws.send_str(json.dumps({"type": "response.create"}))
            kinds = []
            while kinds[-1:] != ["response.done"]:
                event = await ws.receive_json()
                kinds.append(event["type"])
        assert kinds.count("response.output_audio.delta") == 2
        assert kinds.count("response.output_text.delta") == 3
        assert event["response"]["usage"]["total_tokens"] == 14
        totals = vendor.books()["totals"]
        assert (totals["calls"], totals["completion_tokens"]) == (1, 5)
        for model, status in (("sim;status=503", 503), ("sim;nonsense=1", 400)):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect(url, params={"model": model})
            assert refused.value.status == status
