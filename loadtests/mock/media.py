"""
What the mock says where nothing is chatted about: images, speech, transcriptions, moderations.

Everything follows from what was asked and from the behaviour that the model's name carries, as for chat.
What is not a token is counted as well: `Units` are what the vendor would bill for.

Protocol: OpenAI's API reference for images, audio and moderations.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from loadtests.mock import words
from loadtests.mock.behaviour import Behaviour
from loadtests.mock.exchange import Asked, Said

MODERATIONS = "/v1/moderations"
IMAGES = "/v1/images/generations"
EDITS = "/v1/images/edits"
VARIATIONS = "/v1/images/variations"
SPEECH = "/v1/audio/speech"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"
PATHS = frozenset({MODERATIONS, IMAGES, EDITS, VARIATIONS, SPEECH, TRANSCRIPTIONS, TRANSLATIONS})
# The smallest picture there is: one pixel.
PICTURE = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da63f8ffff"
        "3f0005fe02fea72d1e2b0000000049454e44ae426082"
    )
).decode()
# Sound as it is spoken here: some bytes for each character.
BYTES_PER_CHARACTER = 64


class Units(NamedTuple):
    """What a call used that is no token; audio in milliseconds."""

    images: int = 0
    characters: int = 0
    audio_ms: int = 0


class Answer(NamedTuple):
    """An answer: its type, what is said, and what it used."""

    content_type: str
    events: list[Said]
    units: Units


class Form(NamedTuple):
    """A form as it came: its fields, and the sizes of its files."""

    fields: dict[str, str]
    files: dict[str, int]


def read_form(body: bytes) -> Form:
    """Read a form by the boundary that it begins with. Raises `ValueError`."""
    delimiter, _, _ = body.partition(b"\r\n")
    if not delimiter.startswith(b"--") or len(delimiter) < 3:
        raise ValueError("the body does not begin with a boundary")
    if not body.rstrip(b"\r\n").endswith(delimiter + b"--"):
        raise ValueError("the last boundary is missing")
    fields: dict[str, str] = {}
    files: dict[str, int] = {}
    for part in body.split(delimiter + b"\r\n")[1:]:
        head, _, rest = part.partition(b"\r\n\r\n")
        value = rest.rpartition(b"\r\n" + delimiter)[0] if delimiter + b"--" in rest else rest[:-2]
        name = head.partition(b'name="')[2].partition(b'"')[0].decode().removesuffix("[]")
        if b"filename" in head:
            files[name] = len(value)
        elif name in fields:
            raise ValueError(f"{name} is there twice")
        else:
            fields[name] = value.decode()
    return Form(fields, files)


def said(asked: Asked, behaviour: Behaviour, prompt: int, created: int) -> Answer:
    """Give the answer to a call at one of `PATHS`; `created` is unix seconds."""
    if asked.path == MODERATIONS:
        return _whole(_judgement(behaviour), 0, Units())
    if asked.path == SPEECH:
        return _speech(asked, behaviour, prompt)
    if asked.path in {TRANSCRIPTIONS, TRANSLATIONS}:
        return _transcript(asked, behaviour, prompt)
    return _images(asked, behaviour, prompt, created)


def _whole(document: Any, tokens: int, units: Units) -> Answer:
    return Answer("application/json", [Said(msgspec.json.encode(document), tokens)], units)


def _streamed(events: Iterator[dict[str, Any]], tokens: int, units: Units) -> Answer:
    found = [
        Said(f"data: {json.dumps(event)}\n\n".encode(), tokens, beat)
        for beat, event in enumerate(events)
    ]
    return Answer("text/event-stream; charset=utf-8", found, units)


def _judgement(behaviour: Behaviour) -> dict[str, Any]:
    kinds = ("hate", "violence", "sexual", "self-harm", "harassment", "illicit")
    return {
        "id": "modr-000000000000000000000000",
        "model": behaviour.name,
        "results": [
            {
                "flagged": False,
                "categories": dict.fromkeys(kinds, False),
                "category_scores": dict.fromkeys(kinds, 0.01),
                "category_applied_input_types": {kind: ["text"] for kind in kinds},
            }
        ],
    }


def _images(asked: Asked, behaviour: Behaviour, prompt: int, created: int) -> Answer:
    count = asked.inputs
    tokens = behaviour.tokens * count
    usage = {
        "input_tokens": prompt,
        "output_tokens": tokens,
        "total_tokens": prompt + tokens,
        "input_tokens_details": {"text_tokens": prompt, "image_tokens": 0},
        "output_tokens_details": {"image_tokens": tokens, "text_tokens": 0},
    }
    reports = {} if behaviour.usage == "off" else {"usage": usage}
    units = Units(images=count)
    if not asked.stream:
        document: dict[str, Any] = {"created": created, "data": [{"b64_json": PICTURE}] * count}
        return _whole(document | reports, tokens if reports else 0, units)
    word = "image_edit" if asked.path == EDITS else "image_generation"

    def events() -> Iterator[dict[str, Any]]:
        for index in range(asked.partial):
            yield {
                "type": f"{word}.partial_image",
                "b64_json": PICTURE,
                "partial_image_index": index,
                "created_at": created,
                "size": "1024x1024",
                "quality": "low",
                "background": "auto",
                "output_format": "png",
            }
        yield {
            "type": f"{word}.completed",
            "b64_json": PICTURE,
            "created_at": created,
            "size": "1024x1024",
            "quality": "low",
            "background": "auto",
            "output_format": "png",
            **reports,
        }

    return _streamed(events(), tokens if reports else 0, units)


def _speech(asked: Asked, behaviour: Behaviour, prompt: int) -> Answer:
    units = Units(characters=asked.characters)
    sound = b"\x01\x02" * (asked.characters * BYTES_PER_CHARACTER // 2)
    if not asked.stream:
        # In pieces, as it is spoken.
        step = max(len(sound) // 8, 1)
        pieces = [sound[at : at + step] for at in range(0, len(sound), step)]
        events = [Said(piece, 0, beat) for beat, piece in enumerate(pieces)]
        return Answer("audio/mpeg", events, units)
    tokens = behaviour.tokens

    def spoken() -> Iterator[dict[str, Any]]:
        for at in range(2):
            half = sound[at * len(sound) // 2 : (at + 1) * len(sound) // 2]
            yield {"type": "speech.audio.delta", "audio": base64.b64encode(half).decode()}
        usage = {"input_tokens": prompt, "output_tokens": tokens, "total_tokens": prompt + tokens}
        yield {"type": "speech.audio.done", "usage": usage}

    return _streamed(spoken(), tokens, units)


def _transcript(asked: Asked, behaviour: Behaviour, prompt: int) -> Answer:
    text = words.say(behaviour.tokens)
    ms = behaviour.seconds * 1000
    units = Units(audio_ms=ms)
    if behaviour.seconds:
        usage: dict[str, Any] = {"type": "duration", "seconds": behaviour.seconds}
        tokens = 0
    else:
        tokens = behaviour.tokens
        usage = {
            "type": "tokens",
            "input_tokens": prompt,
            "output_tokens": tokens,
            "total_tokens": prompt + tokens,
            "input_token_details": {"text_tokens": 0, "audio_tokens": prompt},
        }
    if behaviour.usage == "off":
        usage, tokens = {}, 0
    reports = {"usage": usage} if usage else {}
    if asked.stream:
        parts = text.split(" ")

        def written() -> Iterator[dict[str, Any]]:
            for part in parts:
                yield {"type": "transcript.text.delta", "delta": f"{part} "}
            yield {"type": "transcript.text.done", "text": text, **reports}

        return _streamed(written(), tokens, units)
    if asked.format == "text":
        return Answer("text/plain; charset=utf-8", [Said(text.encode() + b"\n", 0)], units)
    if asked.format in {"srt", "vtt"}:
        comma = "," if asked.format == "srt" else "."
        end = f"00:00:{behaviour.seconds:02d}{comma}000"
        cue = f"00:00:00{comma}000 --> {end}\n{text}\n\n"
        head = "1\n" if asked.format == "srt" else "WEBVTT\n\n"
        return Answer("text/plain; charset=utf-8", [Said((head + cue).encode(), 0)], units)
    if asked.format == "verbose_json":
        document: dict[str, Any] = {
            "task": "transcribe",
            "language": "english",
            "duration": float(behaviour.seconds),
            "text": text,
            "segments": [],
        }
        return _whole(document | reports, tokens, units)
    return _whole({"text": text} | reports, tokens, units)
