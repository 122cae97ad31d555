"""The laws of Ollama's answers: lines pass as they came, the last one says what was used, and only it ends a stream."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.meter import StreamMeter, Usage
from proxy.wire.ollama_answers import LINES, meter_answer, tokens_in
from tests.proxy.wire.test_sse import ways

END = {"done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 5}
WORDS = ["Hel", "lo", " wor", "ld", "!"]


def line(word: str, **more: Any) -> bytes:
    said = {"model": "m", "message": {"role": "assistant", "content": word}, "done": False}
    return json.dumps(said | more, separators=(",", ":")).encode() + b"\n"


def stream() -> list[bytes]:
    return [*map(line, WORDS), line("", **END)]


def metered(reads: list[bytes]) -> tuple[StreamMeter, bytes]:
    """Meter lines however they come; gives what would be forwarded."""
    splitter, meter = LINES.framing.splitter(), StreamMeter(LINES, keep_usage=True)
    out = b"".join([meter.look(lines) for read in reads if (lines := splitter.feed(read))])
    return meter, out + splitter.tail()


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lines_pass_however_they_arrive(end: bytes) -> None:
    """Byte for byte; usage is that of the last."""
    whole = b"".join(stream()).replace(b"\n", end)
    for reads in ways(whole):
        meter, out = metered(reads)
        assert out == whole
        assert meter.usage == Usage(input_tokens=9, output_tokens=5)
        assert (meter.done, meter.finished, meter.error) == (True, True, None)


def test_a_stream_that_stops_early_is_not_finished() -> None:
    """Whatever a tool is called with; its output is estimated, a token for each line."""
    call = {"function": {"name": "f", "arguments": {"done": True, "eval_count": 3}}}
    for end in (b"", line("", message={"role": "assistant", "tool_calls": [call]})):
        meter, _ = metered([*map(line, WORDS), end])
        assert not meter.finished
        assert meter.usage is None
        assert meter.output_tokens >= 5


def test_an_error_takes_the_place_of_the_rest() -> None:
    """Before the first word, or later."""
    broken = b'{"error":"out of memory"}\n'
    found = StreamMeter(LINES, keep_usage=True).first(broken)
    assert found is not None
    assert found.message == "out of memory"
    meter, _ = metered([line("x"), broken])
    assert not meter.finished
    assert meter.error == found


def test_usage_of_a_whole_answer() -> None:
    """Of an answer, and of vectors; without usage, a quarter of what it says."""
    assert meter_answer(line("x", **END)) == Usage(input_tokens=9, output_tokens=5)
    assert meter_answer(b'{"embeddings":[[1]],"prompt_eval_count":4}') == Usage(input_tokens=4)
    for body in (
        b"",
        b"{}",
        b"[]",
        b"<html>",
        b'{"eval_count":"x"}',
        b'{"eval_count":' + b"[" * 9999,
    ):
        assert meter_answer(body) is None
    assert tokens_in(json.loads(line("x" * 9))) == 3
    assert tokens_in({"response": "", "thinking": "y" * 8}) == 2
    for nothing in ({}, [], None, {"embedding": [1.0]}):
        assert tokens_in(nothing) == 0


@given(st.binary(max_size=80))
def test_garbage_passes(data: bytes) -> None:
    """No bytes break the meter, and none are changed."""
    meter, out = metered([data, b"\n"])
    assert out == data + b"\n"
    assert meter.output_tokens >= 0
    meter.finished, meter.error, meter.events  # noqa: B018 - they are properties that must not raise
    meter_answer(data)
