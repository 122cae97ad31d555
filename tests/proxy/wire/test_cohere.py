"""A look at a request for Cohere's embeddings, and what its answer was billed."""

import json
from typing import Any

import pytest

from proxy.wire.cohere import look_embed, meter_embed, tokens_in
from proxy.wire.look import BadField
from proxy.wire.meter import Usage


def asked(**said: Any) -> bytes:
    return json.dumps({"model": "m", "input_type": "search_query"} | said).encode()


def test_texts_and_images_are_measured() -> None:
    """A quarter of a text's bytes, at least one token each; an image by what one may have."""
    seen = look_embed(asked(texts=["12345678", "a"]))
    assert (seen.model, seen.messages, seen.input_estimate) == ("m", 2, 3)
    assert seen.input_bound >= 9
    assert look_embed(asked(images=["data:image/png;base64,AAAA"])).input_estimate == 1000
    assert look_embed(asked(inputs=[{"content": []}])).messages == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "model"),
        (asked(texts="a"), "texts"),
        (asked(images=1), "images"),
        (asked(model=""), "model"),
    ],
)
def test_a_mistake_is_named(body: bytes, param: str) -> None:
    """By its field."""
    with pytest.raises(BadField) as caught:
        look_embed(body)
    assert caught.value.param == param


def test_what_was_billed_is_what_the_vendor_says() -> None:
    """Also where only the end of a long answer is at hand."""
    answer = b'{"embeddings":{"float":[[0.5]]},"meta":{"billed_units":{"input_tokens":7}}}'
    assert meter_embed(answer) == Usage(7)
    assert meter_embed(answer[-60:]) == Usage(7)
    odd = b'{"meta":{"billed_units":{"input_tokens":2,"image_tokens":3}},"texts":["meta"]}'
    assert meter_embed(odd) == Usage(5)
    for nothing in (b"{}", b"[", b'{"meta":{}}', b'{"meta":{"billed_units":{}}}'):
        assert meter_embed(nothing) is None
    assert tokens_in({}) == 0
