"""
What a call uses that is not sold by the token: how much it may be, and how much it was.

`Sold` is what a look at the request finds: the most that can be used (what a strict budget reserves) and what is
charged where the vendor does not say. `used` completes the usage of an answer with it.

**Images.** Most vendors bill by the piece, OpenAI's newer models by the token, in a number that follows from
quality and size: 4,160, 6,240 and 6,208 for high quality at 1024x1024, 1024x1536 and 1536x1024, a quarter of that for
medium and a fifteenth for low (OpenAI, image generation guide). Other sizes are reckoned from those by their area.

**Audio.** How long a recording is stands in no field. A WAV file says its bytes per second; of the others
the vendors take any bit rate, so the most is what 8 kbit/s would hold, and the likely 64 kbit/s. Speech is some 15
characters a second and, where it is sold by the token, 1,250 tokens a minute (OpenAI, pricing of gpt-4o-mini-tts).
"""

import struct
from typing import Final

from msgspec import Struct

from proxy.wire.meter import Units, Usage

__all__ = ["Sold", "image_tokens", "recording_us", "speech", "used"]

US: Final = 1_000_000
# Of compressed audio, in bytes a second: 64 kbit/s likely, 8 kbit/s the least.
LIKELY_BYTES_PER_S: Final = 8_000
LEAST_BYTES_PER_S: Final = 1_000
# Of speech: characters a second, likely and the fewest (slow, with pauses), and tokens a minute.
CHARACTERS_PER_S: Final = 15
FEWEST_CHARACTERS_PER_S: Final = 2
SPEECH_TOKENS_PER_MINUTE: Final = 1_250
# What is heard, in tokens a second: OpenAI's 1,000 a minute and Gemini's 32 a second.
HEARD_TOKENS_PER_S: Final = (17, 32)
# What is written down of it: three words a second likely.
WRITTEN_TOKENS_PER_S: Final = (4, 12)
# Bytes a second of what speech is answered in, by the format that is asked for.
SPOKEN_BYTES_PER_S: Final = {
    "mp3": 16_000,
    "opus": 4_000,
    "aac": 8_000,
    "flac": 24_000,
    "wav": 48_000,
    "pcm": 48_000,
}
# Tokens of an image of high quality, for an area of so many pixels.
IMAGE_AREA: Final = (6_240, 1024 * 1536)
QUALITIES: Final = {"low": 15, "medium": 4, "standard": 4}
# Of a size that the vendor chooses: 2048x2048 at high quality.
MOST_IMAGE_TOKENS: Final = 16_640
LIKELY_IMAGE_TOKENS: Final = 1_584
PARTIAL_TOKENS: Final = 100


class Sold(Struct, gc=False):
    """
    What a call may use that is not sold by the token.

    `most` bounds it, and `output_tokens` the output that no cap can be written for; `likely` and
    `likely_tokens` are charged where the vendor does not say. `bytes_per_s` is of the audio that is asked for, 0 where
    none is; `kind` says what those tokens are: of an image, of audio, or of a recording.
    """

    most: Units
    likely: Units
    output_tokens: int = 0
    likely_tokens: int = 0
    bytes_per_s: int = 0
    kind: str = ""


def used(sold: Sold, usage: Usage, *, complete: bool, size: int, by_token: bool) -> bool:
    """
    Complete what is known of an answer by what the request says; tell whether anything was estimated.

    `complete`: the answer came to its end; of one that did not, what was sent is owed, and of what was to be made
    what came of it: `size` bytes of audio. `by_token`: the model is sold by the token, so that tokens which the
    vendor does not report are reckoned.
    """
    found = usage.units
    reported = found is not None or bool(usage.input_tokens or usage.output_tokens)
    units = usage.units = Units() if found is None else found
    likely = sold.likely
    estimated = not reported and bool(likely.characters)
    if likely.images:
        if not units.images and complete:
            units.images = likely.images
            estimated = True
        if not units.image_kind:
            units.image_kind = likely.image_kind
    units.characters = likely.characters
    if likely.search_units and not units.search_units and complete and not usage.input_tokens:
        units.search_units = likely.search_units
        estimated = True
    if likely.audio_input_us and not units.audio_input_us:
        units.audio_input_us = likely.audio_input_us
        estimated = True
    if sold.bytes_per_s and size:
        units.audio_output_us = size * US // sold.bytes_per_s
    if by_token and complete and not usage.output_tokens and sold.likely_tokens:
        usage.output_tokens = sold.likely_tokens
        if sold.bytes_per_s:
            usage.output_tokens = -(-units.audio_output_us * SPEECH_TOKENS_PER_MINUTE // (60 * US))
        estimated = True
    if sold.kind == "image" and not usage.image_output_tokens:
        usage.image_output_tokens = usage.output_tokens
    elif sold.kind == "audio" and not usage.audio_output_tokens:
        usage.audio_output_tokens = usage.output_tokens
    elif sold.kind == "recording" and usage.input_tokens and not usage.audio_input_tokens:
        heard = likely.audio_input_us * HEARD_TOKENS_PER_S[0] // US
        usage.audio_input_tokens = min(heard, usage.input_tokens)
    return estimated


def image_tokens(quality: str, size: str) -> tuple[int, int]:
    """Return the tokens of an image, likely and at most, by its quality and its size (`1024x1536`)."""
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and len(size) <= 11):
        if quality in QUALITIES:
            return LIKELY_IMAGE_TOKENS // (4 if quality == "low" else 1), (
                -(-MOST_IMAGE_TOKENS // QUALITIES[quality])
            )
        return LIKELY_IMAGE_TOKENS, MOST_IMAGE_TOKENS
    tokens, area = IMAGE_AREA
    most = -(-tokens * int(width) * int(height) // area)
    if quality in QUALITIES:
        most = -(-most // QUALITIES[quality])
        return most, most
    return (most if quality in {"high", "hd"} else -(-most // 4)), most


def speech(characters: int, format_: str, speed: float) -> Sold:
    """Return what a text of so many characters may become when it is spoken, in a format and at a speed (1 is usual)."""
    seconds = characters / CHARACTERS_PER_S / speed
    most = characters / FEWEST_CHARACTERS_PER_S / speed + 2
    per_s = SPEECH_TOKENS_PER_MINUTE / 60
    return Sold(
        most=Units(characters=characters, audio_output_us=int(most * US)),
        likely=Units(characters=characters, audio_output_us=int(seconds * US)),
        output_tokens=int(most * per_s) + 1,
        likely_tokens=int(seconds * per_s) + 1,
        bytes_per_s=SPOKEN_BYTES_PER_S.get(format_, LIKELY_BYTES_PER_S),
        kind="audio",
    )


def recording_us(data: "bytes | memoryview[int]") -> tuple[int, int]:
    """Return how long a recording is, likely and at most, in microseconds: as a WAV file says, else by its size."""
    size = len(data)
    head = bytes(data[:4096])
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        at = head.find(b"fmt ", 12)
        if 0 < at <= len(head) - 24:
            (per_s,) = struct.unpack_from("<I", head, at + 16)
            channels, hertz = struct.unpack_from("<HI", head, at + 10)
            bits = struct.unpack_from("<H", head, at + 22)[0]
            # It has to agree with itself, or somebody wants less to be charged.
            if per_s >= LEAST_BYTES_PER_S and per_s * 8 == channels * hertz * bits:
                exact = size * US // per_s
                return exact, exact
    return size * US // LIKELY_BYTES_PER_S, size * US // LEAST_BYTES_PER_S
