"""Events of a session: what they say of usage is what is charged, and what they do not say is reckoned."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.meter import Units, Usage
from proxy.wire.realtime import KEY_PREFIX, TurnMeter, error_event, presented

USAGE = {
    "total_tokens": 30,
    "input_tokens": 20,
    "output_tokens": 10,
    "input_token_details": {"text_tokens": 5, "audio_tokens": 15, "cached_tokens": 8},
    "output_token_details": {"text_tokens": 4, "audio_tokens": 6},
}


def metered(*events: Any) -> TurnMeter:
    meter = TurnMeter()
    for event in events:
        meter.look(event if isinstance(event, str) else json.dumps(event))
    return meter


def done(**response: Any) -> dict[str, Any]:
    return {"event_id": "e", "type": "response.done", "response": response}


def test_the_usage_of_a_response_is_the_vendors() -> None:
    """Text, audio and the cache told apart; transcriptions of what the caller said are added."""
    meter = metered({"type": "response.created"}, done(status="completed", usage=USAGE))
    assert meter.done
    assert not meter.active
    assert meter.usage == Usage(20, 8, 0, 10, audio_input_tokens=15, audio_output_tokens=6)
    heard = {"type": "conversation.item.input_audio_transcription.completed", "transcript": "x"}
    both = metered(
        heard | {"usage": {"type": "tokens", "input_tokens": 7, "output_tokens": 2}},
        heard | {"usage": {"type": "duration", "seconds": 3}},
        done(usage=USAGE),
    )
    assert both.usage is not None
    assert (both.usage.input_tokens, both.usage.output_tokens) == (27, 12)
    assert both.usage.units == Units(audio_input_us=3_000_000)


def test_a_response_under_way_is_reckoned() -> None:
    """A token for four bytes of text, and for 50 ms of sound."""
    meter = metered({"type": "response.created", "response": {}})
    assert (meter.active, meter.usage) == (True, None)
    meter.look(json.dumps({"type": "response.output_text.delta", "delta": "12345678"}))
    assert meter.progress() == 2
    meter.look(json.dumps({"type": "response.output_audio.delta", "delta": "A" * 3200}))
    assert 3 <= meter.output_tokens <= 4
    meter.look(json.dumps(done(status="failed")))
    assert (meter.done, meter.failed, meter.usage) == (True, True, None)


def test_a_turn_in_which_nothing_happened_has_used_nothing() -> None:
    """It is reported, not estimated."""
    assert metered({"type": "session.created"}, {"type": "error"}).usage == Usage()


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_whatever_a_vendor_says_is_looked_at(text: str) -> None:
    """Nothing that it says makes the session fail."""
    for said in (text, f'"response.done{text}', f'{{"type":"response.done","response":{text}}}'):
        metered(said)


def test_a_text_that_speaks_of_an_event_is_none() -> None:
    """Only the type of an event counts."""
    delta = '{"type":"response.output_text.delta","delta":"\\"response.done\\""}'
    assert not metered(delta).done


def test_a_key_may_come_as_a_subprotocol() -> None:
    """It is none that may be chosen; the beta that comes with it is told to the vendor as a header."""
    offered = ["realtime", f" {KEY_PREFIX}sk-1", "openai-beta.realtime-v1", "openai-project.p", "x"]
    assert presented(offered) == ("sk-1", ["realtime"], "realtime=v1")
    assert presented([""]) == ("", [], "")


def test_the_end_is_an_event_of_the_protocol() -> None:
    """As the official client reads it."""
    event = json.loads(error_event("why", "api_error", "drained"))
    assert event["type"] == "error"
    assert event["error"]["code"] == "drained"


def test_what_is_sent_is_counted() -> None:
    """Sound by its length, everything else as text."""
    meter = TurnMeter()
    meter.sent(json.dumps({"type": "input_audio_buffer.append", "audio": "A" * 64_000}))
    assert 10 <= meter.heard <= 11
    meter.sent("x" * 400)
    assert 110 <= meter.heard <= 111
