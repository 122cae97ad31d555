"""The laws of counts of tokens between protocols."""

import msgspec
import pytest

from proxy.wire.look import BadField
from proxy.wire.translate.core import BadAnswer, Failure, Target
from proxy.wire.translate.counts import COUNTERS, Count, counted_body, whole_body
from tests.proxy.wire.translate.samples import REPLY

MESSAGES, GEMINI = COUNTERS["anthropic.count_tokens"], COUNTERS["gemini.count_tokens"]
TARGET = Target(model="served", max_output=100)
ASKED = {
    "model": "m",
    "system": "be brief",
    "messages": [{"role": "user", "content": "hi"}],
    "tools": [{"name": "f", "input_schema": {"type": "object"}}],
}
CONTENTS = [{"role": "user", "parts": [{"text": "hi"}]}]


def test_a_count_of_anthropics_is_one_of_geminis() -> None:
    """Everything that has tokens, and nothing that has none: no cap, no temperature."""
    written = GEMINI.write_request(MESSAGES.read_request(msgspec.json.encode(ASKED)), TARGET)
    inner = msgspec.json.decode(written.body)["generateContentRequest"]
    assert inner.keys() == {"model", "contents", "systemInstruction", "tools"}
    assert inner["model"] == "models/served"
    assert inner["contents"] == CONTENTS
    assert "max_tokens" not in written.dropped


@pytest.mark.parametrize(
    "asked",
    [
        {"contents": CONTENTS},
        {"generateContentRequest": {"model": "models/m", "contents": CONTENTS}},
    ],
)
def test_a_count_of_geminis_is_one_of_anthropics(asked: dict[str, object]) -> None:
    """Whichever way it was asked."""
    conversation = GEMINI.read_request(msgspec.json.encode(asked))
    body = msgspec.json.decode(MESSAGES.write_request(conversation, TARGET).body)
    assert body["model"] == "served"
    assert body["messages"][0]["role"] == "user"
    assert body.keys() == {"model", "messages"}


@pytest.mark.parametrize("caller", [MESSAGES, GEMINI])
@pytest.mark.parametrize("vendor", [MESSAGES, GEMINI])
def test_every_pair_keeps_the_count(caller: object, vendor: object) -> None:
    """To the token."""
    assert isinstance(caller, type(MESSAGES))
    assert isinstance(vendor, type(MESSAGES))
    theirs = vendor.write_answer(Count(31), REPLY)
    again = caller.write_answer(vendor.read_answer(theirs, None), REPLY)
    assert caller.read_answer(again, None) == Count(31)


@pytest.mark.parametrize("counter", COUNTERS.values(), ids=list(COUNTERS))
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"input_tokens":"1","totalTokens":"1"}', b"\xff"]
)
def test_what_is_no_count_is_a_bad_answer(counter: object, body: bytes) -> None:
    """Whatever it is; and errors are the protocol's own."""
    assert isinstance(counter, type(MESSAGES))
    with pytest.raises(BadAnswer):
        counter.read_answer(body, None)
    assert isinstance(counter.read_error(429, {}, body), Failure)


def test_what_is_counted_is_a_whole_request() -> None:
    """A cap is not wanted, and one that is given stays; a request within a request is taken out."""
    assert b'"max_tokens":1' in whole_body(b'{"model":"m"}')
    assert b'"max_tokens":5' in whole_body(b'{"max_tokens":5}')
    assert counted_body(b'{"contents": []}') == b'{"contents": []}'
    assert counted_body(b'{"generateContentRequest":{"model":"x","a":1}}') == b'{"a":1}'
    for body in (b"[]", b'{"generateContentRequest":1}'):
        with pytest.raises(BadField):
            counted_body(body)
