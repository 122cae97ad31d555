"""What Bedrock's answers say of themselves, as the meter reads it."""

import msgspec
import pytest

from proxy.wire.bedrock_answers import FRAMES, meter_answer, tokens_in
from proxy.wire.meter import StreamMeter, Usage


def event(kind: str, **payload: object) -> bytes:
    return b"data: %b\n\n" % msgspec.json.encode({"type": kind, "payload": payload})


USED = {"inputTokens": 2, "cacheReadInputTokens": 3, "cacheWriteInputTokens": 2, "outputTokens": 9}
COUNTED = Usage(7, 3, 2, 9)
ANSWER = {
    "output": {"message": {"role": "assistant", "content": [{"text": "12345678"}]}},
    "stopReason": "end_turn",
}


def test_a_whole_answers_usage_includes_its_cache() -> None:
    """Once; and where there is none, the text is measured."""
    assert meter_answer(msgspec.json.encode(ANSWER | {"usage": USED})) == COUNTED
    assert meter_answer(msgspec.json.encode(ANSWER)) is None
    assert tokens_in(ANSWER) == 2
    assert tokens_in({"message": "no"}) == 0


@pytest.mark.parametrize("body", [b"", b"[]", b'{"usage": 1}', b"\xff", b"[" * 5000])
def test_what_is_no_answer_has_no_usage(body: bytes) -> None:
    """Whatever it is."""
    assert meter_answer(body) is None


def test_a_stream_ends_with_its_usage() -> None:
    """The reason comes before it; words of the model are not taken for it."""
    meter = StreamMeter(FRAMES, keep_usage=True)
    for said in ('say "usage"', "usage"):
        meter.look(event("contentBlockDelta", contentBlockIndex=0, delta={"text": said}))
    assert (meter.usage, meter.done, meter.finished) == (None, False, False)
    assert meter.output_tokens == 2
    meter.look(event("messageStop", stopReason="end_turn"))
    assert (meter.done, meter.finished) == (False, True)
    meter.look(event("metadata", usage=USED, metrics={"latencyMs": 1}))
    assert (meter.usage, meter.done, meter.output_tokens) == (COUNTED, True, 9)
