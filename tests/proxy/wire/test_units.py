"""What is reserved is never less than what is charged, and what the vendor says goes before what we reckon."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.meter import Units, Usage
from proxy.wire.units import Sold, image_tokens, recording_us, speech, used
from routing.rates import Rates, cost_nusd, fee_nusd

RATES = Rates(
    *(1000, 1000, 1000, 2000, 2000, 1000, 2000),
    images=(("default", 40), ("hd", 80)),
    second_nusd=100,
    second_output_nusd=70,
    character_nusd=15,
)


@given(
    st.integers(1, 4096),
    st.sampled_from(["mp3", "opus", "aac", "flac", "wav", "pcm", "odd"]),
    st.floats(0.25, 4),
)
def test_speech_costs_no_more_than_was_reserved(characters: int, kind: str, speed: float) -> None:
    """As long as it is not spoken more slowly than anybody speaks."""
    sold = speech(characters, kind, speed)
    assert sold.likely.audio_output_us <= sold.most.audio_output_us
    assert sold.likely_tokens <= sold.output_tokens
    usage = Usage()
    size = sold.likely.audio_output_us * sold.bytes_per_s // 1_000_000
    assert used(sold, usage, complete=True, size=size, by_token=True)
    assert cost_nusd(RATES, usage) <= fee_nusd(RATES, sold.most, sold.output_tokens)


@given(
    st.sampled_from(["", "auto", "low", "medium", "high", "hd"]),
    st.sampled_from(["", "auto", "1024x1024", "1536x1024", "9x9", "x", "1024x"]),
)
def test_the_tokens_of_an_image_have_a_bound(quality: str, size: str) -> None:
    """Where quality or size is open, the bound is that of the dearest."""
    likely, most = image_tokens(quality, size)
    assert 0 < likely <= most <= 16_640


def test_the_tokens_of_an_image_are_those_that_are_documented() -> None:
    """At high, medium and low quality."""
    assert image_tokens("high", "1024x1536") == (6240, 6240)
    assert image_tokens("high", "1024x1024") == (4160, 4160)
    assert image_tokens("low", "1024x1024")[1] == 278
    assert image_tokens("medium", "1024x1024")[1] == 1040


def header(per_s: int, channels: int = 1, hertz: int = 8000, bits: int = 16) -> bytes:
    fields = (b"RIFF", 0, b"WAVE", b"fmt ", 16, 1, channels, hertz, per_s, 2, bits)
    return struct.pack("<4sI4s4sIHHIIHH", *fields)


@given(st.binary(max_size=400))
def test_a_recording_is_bounded_by_its_size(data: bytes) -> None:
    """Whatever it holds."""
    for recording in (data, header(16_000) + data, header(0) + data, header(10**9) + data):
        likely, most = recording_us(recording)
        assert 0 <= likely <= most <= len(recording) * 1000


def test_a_wav_file_that_contradicts_itself_is_not_believed() -> None:
    """Or a caller would say how little it wants to pay."""
    assert recording_us(header(16_000) + bytes(15_964)) == (1_000_000, 1_000_000)
    assert recording_us(header(4_000_000) + bytes(15_964))[0] == 2_000_000


def test_what_the_vendor_says_is_what_counts() -> None:
    """Its images, its seconds and its tokens stand, and nothing of it is estimated."""
    sold = Sold(
        most=Units(images=4, image_kind="hd/", audio_input_us=9),
        likely=Units(images=4, image_kind="hd/", audio_input_us=5),
        likely_tokens=70,
    )
    usage = Usage(output_tokens=3, units=Units(images=2, image_kind="low/", audio_input_us=7))
    assert not used(sold, usage, complete=True, size=0, by_token=True)
    assert usage.units == Units(images=2, image_kind="low/", audio_input_us=7)
    assert usage.output_tokens == 3


def test_of_an_answer_that_did_not_come_what_was_sent_is_owed() -> None:
    """No image was made for the caller; the recording was heard, the text was read."""
    likely = Units(images=4, audio_input_us=5, characters=8)
    usage = Usage()
    assert used(Sold(most=likely, likely=likely), usage, complete=False, size=0, by_token=True)
    assert usage.units == Units(audio_input_us=5, characters=8)
    assert usage.output_tokens == 0
