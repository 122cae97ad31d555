"""
OpenAI's Audio: text to be spoken, and recordings to be written down or translated.

**Speech** is asked for in JSON and answered in bytes of sound, which pass as they come, or in events where
``stream_format`` is ``sse``; only those say what they used.
**A transcription** is a form with the recording. It is answered in JSON, as text, as subtitles, or in events; usage
counts tokens, or seconds where the model is sold by the second (``{"type": "duration", "seconds": 9}``). Where an
answer tells neither, its ``duration`` or the time of its last subtitle does.

**The end** of a stream is ``speech.audio.done`` or ``transcript.text.done``, which carries the usage.

Protocol: OpenAI's API reference for audio and for its streaming events.
"""

import re
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from proxy.wire import forms
from proxy.wire.look import (
    ABSENT,
    TEMPLATE_BOUND,
    BadField,
    Look,
    carve,
    check_model,
    decode,
    inner,
    is_plain,
    uncapped,
)
from proxy.wire.meter import MAX_TOKENS, Units, Usage, within
from proxy.wire.typed_events import deltas, events_ending_in
from proxy.wire.units import (
    HEARD_TOKENS_PER_S,
    US,
    WRITTEN_TOKENS_PER_S,
    Sold,
    recording_us,
    speech,
)

__all__ = [
    "EVENTS",
    "look_speech",
    "look_transcription",
    "meter",
    "rewrite",
    "tokens_in",
]

MOST_EVENT: Final = 16 << 20
MOST_SECONDS: Final = 1 << 30
SPEEDS: Final = (0.25, 4.0)


class _Speech(Struct, gc=False):
    model: str
    input: Raw
    response_format: str | None = None
    stream_format: str | None = None
    speed: float | None = None
    user: str | None = None
    instructions: Raw = ABSENT


class _Details(Struct, gc=False):
    audio_tokens: int | None = None
    cached_tokens: int | None = None


class _Usage(Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_token_details: _Details | None = None
    seconds: float | None = None


class _Answer(Struct, gc=False):
    usage: _Usage | None = None
    duration: float | str | None = None


_SPEECH = msgspec.json.Decoder(_Speech)
_ANSWER = msgspec.json.Decoder(_Answer)
_TEXT = msgspec.json.Decoder(str)

_SPEECH_KEYS = re.compile(rb'"(?:model|input|response_format|stream_format|speed|instructions)"')
# The end of a subtitle's time, in SubRip and in WebVTT, whose hours may be left out.
_CUE = re.compile(rb"--> *(?:(\d{1,4}):)?(\d{2}):(\d{2})[.,](\d{3})")


def look_speech(body: bytes) -> Look:
    """Look at a text that is to be spoken. Raises `BadField`."""
    doc: _Speech = decode(_SPEECH, body)
    frame, cuts = carve(body, (("input", doc.input),))
    given = (doc.response_format, doc.stream_format, doc.speed)
    count = 2 + sum(one is not None for one in given) + (len(doc.instructions) > 0)
    plain = is_plain(frame, _SPEECH_KEYS, count)
    check_model(doc.model)
    text: str = inner(_TEXT, doc.input, "input", "a string")
    if not text:
        raise BadField("input", "input is empty; send some text")
    speed = 1.0 if doc.speed is None else doc.speed
    if not SPEEDS[0] <= speed <= SPEEDS[1]:
        raise BadField("speed", f"speed must be from {SPEEDS[0]} to {SPEEDS[1]:g}")
    size = len(text.encode("utf-8", "replace")) + len(doc.instructions)
    return uncapped(
        doc.model,
        stream=doc.stream_format == "sse",
        user=doc.user,
        input_estimate=(size + 3) // 4,
        input_bound=size + TEMPLATE_BOUND,
        frame=frame,
        cuts=cuts,
        plain=plain,
        sold=speech(len(text), doc.response_format or "mp3", speed),
    )


def look_transcription(body: bytes, content_type: str) -> Look:
    """Look at a recording that is to be written down. Raises `BadField`."""
    if not forms.is_form(content_type):
        raise BadField(None, "send the recording as multipart/form-data", "invalid_form")
    form = forms.scan(body, content_type)
    texts = form.texts(("model", "prompt", "stream", "user", "response_format"))
    files = form.files("file")
    if not files:
        raise BadField(
            "file", "file is missing; send the recording as a file of the form", "missing"
        )
    if len(files) > 1:
        raise BadField("file", "file is given more than once; keep one", "duplicate")
    model = texts.get("model")
    if model is None:
        raise BadField("model", "model is missing; add it", "missing")
    check_model(model)
    likely, most = recording_us(files[0])
    prompt = len(texts.get("prompt", "").encode())
    return uncapped(
        model,
        stream=forms.flag(texts, "stream"),
        user=texts.get("user"),
        input_estimate=(prompt + 3) // 4 + likely * HEARD_TOKENS_PER_S[0] // US,
        input_bound=prompt + TEMPLATE_BOUND + most * HEARD_TOKENS_PER_S[1] // US,
        cuts=(form.span("model"),),
        sold=Sold(
            most=Units(audio_input_us=most),
            likely=Units(audio_input_us=likely),
            output_tokens=most * WRITTEN_TOKENS_PER_S[1] // US + 1,
            likely_tokens=likely * WRITTEN_TOKENS_PER_S[0] // US + 1,
            kind="recording",
        ),
        form=form.boundary,
    )


def rewrite(
    body: bytes,
    seen: Look,
    *,
    upstream_model: str,
    include_usage: bool,
    output_cap: int | None,
    cap_field: str | None,
) -> bytes | forms.Spliced:
    """Give the form that goes upstream, with another model's name."""
    return forms.rewrite(body, seen, upstream_model)


def meter(body: bytes) -> Usage | None:
    """Read what an answer used, of JSON or of subtitles; None when it does not say."""
    try:
        found: _Answer = _ANSWER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _heard(_last_cue_us(body))
    usage = _settled(found.usage)
    if usage is not None:
        return usage
    try:
        seconds = float(found.duration or 0)
    except ValueError:
        return None
    return _heard(int(seconds * US) if 0 < seconds < MOST_SECONDS else 0)


def tokens_in(document: Any) -> int:
    """Estimate the output of a decoded answer: a quarter of the bytes of its text."""
    text = document.get("text") if isinstance(document, dict) else None
    return -(-len(text.encode("utf-8", "replace")) // 4) if isinstance(text, str) else 0


def _heard(us: int) -> Usage | None:
    return Usage(units=Units(audio_input_us=us)) if us else None


def _last_cue_us(body: bytes) -> int:
    """Return when the last subtitle ends, in microseconds; 0 where there is none."""
    ends = _CUE.findall(body[:4096] if len(body) < 4096 else body[-4096:])
    if not ends:
        return 0
    hours, minutes, seconds, ms = (int(part or 0) for part in ends[-1])
    return (((hours * 60 + minutes) * 60 + seconds) * 1000 + ms) * 1000


def _settled(found: _Usage | None) -> Usage | None:
    """Make the gateway's counts of a vendor's; None when they make no sense."""
    if found is None:
        return None
    if found.seconds is not None and 0 < found.seconds < MOST_SECONDS:
        return _heard(int(found.seconds * US))
    prompt, output = found.input_tokens, found.output_tokens
    if prompt is None and output is None:
        return None
    prompt, output = prompt or 0, output or 0
    if not (0 <= prompt <= MAX_TOKENS and 0 <= output <= MAX_TOKENS):
        return None
    usage = Usage(prompt, 0, 0, output)
    details = found.input_token_details
    if details is not None:
        usage.audio_input_tokens = within(details.audio_tokens or 0, prompt)
        usage.cached_tokens = within(details.cached_tokens or 0, prompt)
    return usage


def _usage_of(data: bytes) -> Usage | None:
    try:
        return _settled(_ANSWER.decode(data).usage)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


EVENTS = events_ending_in(
    r"speech\.audio\.done|transcript\.text\.done",
    _usage_of,
    said=deltas,
    most_event=MOST_EVENT,
)
