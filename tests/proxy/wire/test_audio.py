"""Audio: texts and recordings bound what may be used, and answers of every kind say what was."""

import json
from typing import Any

import pytest

from proxy.wire import audio
from proxy.wire.look import BadField, rename
from proxy.wire.meter import StreamMeter, Units, Usage


def speech(**fields: Any) -> Any:
    return audio.look_speech(json.dumps({"model": "m", "input": "hello"} | fields).encode())


def test_a_text_counts_its_characters() -> None:
    """As they are read, not as they are written down."""
    assert speech(input="\u00fc\U0001f600").sold.most.characters == 2
    assert speech(stream_format="sse").stream
    assert not speech(stream_format="audio").stream
    assert speech(response_format="pcm").sold.bytes_per_s == 48_000


@pytest.mark.parametrize(
    "fields", [{"input": ""}, {"input": ["x"]}, {"speed": 0.1}, {"speed": "x"}, {"model": ""}]
)
def test_a_mistake_is_named(fields: dict[str, Any]) -> None:
    """With the field that is wrong."""
    with pytest.raises(BadField) as refused:
        speech(**fields)
    assert refused.value.param == next(iter(fields))


def test_only_the_name_of_the_model_changes() -> None:
    """In the body of a text that is to be spoken."""
    body = b'{"input":"\\"model\\":\\"m\\"", "model" : "m","voice":{"id":"v"}}'
    made = rename(
        body,
        audio.look_speech(body),
        upstream_model="theirs",
        include_usage=True,
        output_cap=5,
        cap_field="x",
    )
    assert made == body.replace(b': "m"', b': "theirs"')


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        ({"text": "x", "usage": {"type": "duration", "seconds": 9}}, 9_000_000),
        ({"text": "x", "usage": {"seconds": 1.5}}, 1_500_000),
        ({"text": "x", "duration": 8.47}, 8_470_000),
        ({"text": "x", "duration": "8.47"}, 8_470_000),
        ({"text": "x"}, None),
        ({"text": "x", "duration": "soon"}, None),
        ({"text": "x", "usage": {"seconds": -1}}, None),
        ({"text": "x", "usage": {"seconds": 1e300}}, None),
        (
            {
                "usage": {
                    "input_tokens": 9,
                    "output_tokens": 3,
                    "input_token_details": {"audio_tokens": 7},
                }
            },
            Usage(9, 0, 0, 3, audio_input_tokens=7),
        ),
        (
            "1\n00:00:00,000 --> 00:00:02,250\nHi\n\n2\n00:00:03,000 --> 01:00:04,500\nYo\n",
            3_604_500_000,
        ),
        ("WEBVTT\n\n00:00.000 --> 00:02.250\nHi\n", 2_250_000),
        ("nothing but text", None),
    ],
)
def test_what_an_answer_says_of_itself(body: Any, usage: Usage | int | None) -> None:
    """Seconds or tokens, where it says either."""
    text = body if isinstance(body, str) else json.dumps(body)
    found = audio.meter(text.encode())
    if isinstance(usage, int):
        usage = Usage(units=Units(audio_input_us=usage))
    assert found == usage


def test_a_stream_ends_with_its_usage() -> None:
    """Of speech and of a transcript; without it nothing is finished."""
    for kind in ("speech.audio", "transcript.text"):
        meter = StreamMeter(audio.EVENTS, keep_usage=True)
        meter.look(f'data: {{"type":"{kind}.delta","delta":"four"}}\n\n'.encode())
        assert not meter.finished
        done = {"type": f"{kind}.done", "usage": {"input_tokens": 4, "output_tokens": 8}}
        out = meter.look(f"data: {json.dumps(done)}\n\n".encode())
        assert b"usage" in out
        assert meter.finished
        assert meter.usage == Usage(4, 0, 0, 8)


def test_what_a_transcript_says_is_its_output() -> None:
    """Where nothing else is known."""
    assert audio.tokens_in({"text": "x" * 9}) == 3
    assert audio.tokens_in([]) == 0
