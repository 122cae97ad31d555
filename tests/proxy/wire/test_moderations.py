"""Moderations: what is asked is judged by its input alone, and named as the caller or the vendor names it."""

import json

import pytest

from proxy.wire import moderations
from proxy.wire.look import BadField, rename


def rewritten(body: bytes, model: str) -> bytes:
    return rename(
        body,
        moderations.look(body),
        upstream_model=model,
        include_usage=True,
        output_cap=None,
        cap_field=None,
    )


def test_without_a_model_it_is_the_vendors_own() -> None:
    """Another name is put in, and nothing else changes."""
    body = b' {"input" : [ {"type":"text","text":"\\u00e9"} ] , "x":1.50}'
    assert moderations.look(body).model == "omni-moderation-latest"
    assert rewritten(body, "omni-moderation-latest") is body
    assert json.loads(rewritten(body, "m")) == json.loads(body) | {"model": "m"}
    assert rewritten(body, "m").endswith(body.lstrip()[1:])


def test_the_name_is_the_callers_member_wherever_it_stands() -> None:
    """A text that says "model" is none, nor is an escaped member."""
    for body in (
        b'{"input":"\\"model\\":\\"x\\"","model":"mine"}',
        b'{"mod\\u0065l":"mine","input":"model"}',
    ):
        assert moderations.look(body).model == "mine"
        assert json.loads(rewritten(body, "theirs")) == json.loads(body) | {"model": "theirs"}


@pytest.mark.parametrize(
    "body",
    [b"{}", b"[]", b'{"input":null}', b'{"input":"x","Model":"m"}', b'{"input":"x","model":""}'],
)
def test_a_mistake_is_named(body: bytes) -> None:
    """As everywhere: the field, and what to do."""
    with pytest.raises(BadField):
        moderations.look(body)


def test_a_judgement_is_no_output() -> None:
    """Whatever it says."""
    assert moderations.tokens_in({"results": [{"flagged": True}]}) == 0
