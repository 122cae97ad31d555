"""The laws of the look at Ollama's requests: a stream is the default, and what is counted."""

import json
from typing import Any

import pytest

from proxy.wire.look import BadField
from proxy.wire.ollama import look_chat, look_embed, look_generate, rewrite
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


def rewritten(body: bytes, look: Any = look_chat, cap: int | None = None) -> bytes:
    return rewrite(
        body,
        look(body),
        upstream_model="other",
        include_usage=True,
        output_cap=cap,
        cap_field=None,
    )


def test_only_the_name_and_the_cap_change() -> None:
    """Wherever they stand, in whichever spelling; every other byte is as it came."""
    tools = [{"type": "function", "function": {"name": "model", "parameters": {"stream": 1}}}]
    for body in (
        chat(),
        chat(tools=tools, options={"num_ctx": 8192}, keep_alive="5m", stream=False),
        chat(messages=[{"role": "user", "content": 'say "model": "m"'}] * 20, tools=tools * 9),
        b'{ "options" : null, "messages":[{"role":"user","content":"\\u00e9"}],"model" :"m"}',
    ):
        found = json.loads(body)
        assert json.loads(rewritten(body)) == found | {"model": "other"}
        name = b'"model" :"%b"' if b'"model" :' in body else b'{"model": "%b"'
        assert rewritten(body) == body.replace(name % b"m", name % b"other")
        capped = json.loads(rewritten(body, cap=7))
        options = (found.get("options") or {}) | {"num_predict": 7}
        assert capped == found | {"model": "other", "options": options}
    same = chat(options={"num_predict": 7})
    assert rewritten(same, cap=7) == same.replace(b'"m"', b'"other"')
    for look, asked in ((look_generate, {"prompt": "m" * 999}), (look_embed, {"input": ["m"]})):
        body = json.dumps({"model": "m"} | asked).encode()
        assert json.loads(rewritten(body, look)) == {"model": "other"} | asked


def test_what_two_could_read_differently_is_refused() -> None:
    """A model that is named twice."""
    with pytest.raises(BadField):
        look_chat(b'{"model":"m","model":"n","messages":[]}')
    with pytest.raises(BadField):
        look_chat(b'{"model":"m","Model":"n","messages":[]}')


def test_vectors_never_stream() -> None:
    """Nor have they output to cap."""
    seen = look_embed(b'{"model":"m","input":"x","stream":true,"options":{"num_predict":5}}')
    assert (seen.stream, seen.output_cap) == (False, None)
