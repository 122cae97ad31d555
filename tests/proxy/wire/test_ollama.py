"""The laws of the look at Ollama's requests: a stream is the default, and what is counted."""

import json
from typing import Any

import pytest

from proxy.wire.look import BadField
from proxy.wire.ollama import as_it_is, look_chat, look_generate
from proxy.wire.openai import IMAGE_TOKENS

HELLO = [{"role": "user", "content": "Hello"}]


def chat(**changed: Any) -> bytes:
    return json.dumps({"model": "m", "messages": HELLO} | changed).encode()


def test_a_stream_is_the_default() -> None:
    """Only false is none; usage is a part of every answer."""
    assert look_chat(chat()).stream
    assert look_chat(chat(stream=None)).stream
    assert not look_chat(chat(stream=False)).stream
    assert look_chat(chat()).asked_usage


@pytest.mark.parametrize(("cap", "wanted"), [(20, 20), (-1, None), (-2, None), (None, None)])
def test_the_cap_is_an_option(cap: int | None, wanted: int | None) -> None:
    """Two negative numbers are its words for none."""
    assert look_chat(chat(options={"num_predict": cap})).output_cap == wanted


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": ""}, "model"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": ["Hello"]}, "messages"),
        ({"options": {"num_predict": "9"}}, "options.num_predict"),
        ({"options": {"num_predict": -7}}, "options.num_predict"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_a_mistake_is_named(change: dict[str, Any], param: str) -> None:
    """Whatever else is wrong is for the translation to say."""
    with pytest.raises(BadField) as caught:
        look_chat(chat(**change))
    assert caught.value.param == param


def test_pictures_count_as_pictures() -> None:
    """However many bytes carry them, in either of the two requests."""
    image = "A" * 100_000
    generate = json.dumps({"model": "m", "prompt": "x", "images": [image]}).encode()
    for seen in (
        look_chat(chat(messages=[HELLO[0] | {"images": [image]}])),
        look_generate(generate),
    ):
        assert IMAGE_TOKENS[0] < seen.input_estimate < IMAGE_TOKENS[0] + 100
        assert seen.input_bound < IMAGE_TOKENS[1] + 1500
    assert look_generate(b'{"model":"m","prompt":"x","images":null}').input_estimate < 30


def test_nobody_is_asked_in_it() -> None:
    """The body is for the translation alone."""
    body = chat()
    assert as_it_is(body, look_chat(body), upstream_model="x") is body
