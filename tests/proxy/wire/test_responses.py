"""The laws of the look at Responses: what is refused, what is counted, what is tied to one provider, and which bytes change."""

import json
from typing import Any

import pytest

from proxy.wire import openai
from proxy.wire.look import FILE_TOKENS, BadField, Look
from proxy.wire.responses import UNSEEN_TOKENS, look_response, rewrite

MINIMAL: dict[str, Any] = {"model": "m", "input": "Hello"}
TOOL = {"type": "function", "name": "f", "description": "does " * 100, "parameters": {}}


def dumped(**changed: Any) -> bytes:
    return json.dumps(MINIMAL | changed).encode()


def look(**changed: Any) -> Look:
    return look_response(dumped(**changed))


def changed(body: bytes, **wanted: Any) -> bytes:
    seen = look_response(body)
    arguments: dict[str, Any] = {"upstream_model": seen.model, "output_cap": None} | wanted
    return rewrite(body, seen, include_usage=True, cap_field=None, **arguments)


def test_everything_that_matters_is_seen() -> None:
    """Wherever it stands, between whatever else."""
    items = [{"role": "user", "content": "Hello " * 100}, {"type": "reasoning", "summary": []}]
    seen = look(
        input=items,
        tools=[TOOL],
        instructions="Be brief. " * 100,
        stream=True,
        max_output_tokens=20,
        user="u",
        store=False,
        include=["reasoning.encrypted_content"],
        conversation=None,
        metadata=None,
    )
    assert (seen.model, seen.stream, seen.asked_usage) == ("m", True, True)
    assert (seen.output_cap, seen.caps_present, seen.n) == (20, ("max_output_tokens",), 1)
    assert (seen.user, seen.messages, seen.tied, seen.dearer) == ("u", 2, None, None)
    assert len(seen.cuts) == 3
    assert look(safety_identifier="s").user == "s"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": 7}, "model"),
        ({"model": ""}, "model"),
        ({"input": 7}, "input"),
        ({"input": [7]}, "input"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": "9"}, "max_output_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"background": True}, "background"),
        ({"tools": "x"}, "tools"),
        ({"Max_output_tokens": 5}, "Max_output_tokens"),
    ],
)
def test_a_mistake_is_named(change: dict[str, Any], param: str) -> None:
    """Also what cannot be metered, because nobody would see what it costs."""
    with pytest.raises(BadField) as caught:
        look(**change)
    assert caught.value.param == param


def test_a_member_that_is_there_twice_is_refused() -> None:
    """Two parsers may take another one of them."""
    with pytest.raises(BadField) as caught:
        look_response(b'{"background":false,' + dumped(background=True)[1:])
    assert caught.value.code == "duplicate"


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
        ({"previous_response_id": None, "conversation": None, "prompt": None}, None),
        ({"store": True, "background": False}, None),
    ],
)
def test_what_a_provider_keeps_ties_the_call_to_it(
    change: dict[str, Any], wanted: str | None
) -> None:
    """And how much input that brings is unknown."""
    seen = look(**change)
    assert seen.tied == wanted
    assert (seen.input_bound == UNSEEN_TOKENS) == (wanted is not None)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"tools": [TOOL]}, None),
        ({"tools": []}, None),
        ({"tools": None}, None),
        ({"tools": [TOOL, {"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"service_tier": "flex"}, None),
    ],
)
def test_what_costs_more_than_the_list_says_is_seen(
    change: dict[str, Any], wanted: str | None
) -> None:
    """A strict budget cannot hold it."""
    seen = look(**change)
    assert (seen.dearer[0] if seen.dearer else None) == wanted


def test_input_counts_by_its_bytes() -> None:
    """Text and items, instructions and tools; a picture or a file as the vendor documents it."""
    assert look(input="x" * 400).input_estimate == pytest.approx(105, abs=5)
    assert look(instructions="x" * 400).input_estimate == pytest.approx(105, abs=6)
    image = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 100_000}
    low = {"type": "input_image", "file_id": "f", "detail": "low"}
    pdf = {"type": "input_file", "file_data": "A" * 50_000}
    seen = look(input=[{"role": "user", "content": [image]}])
    assert openai.IMAGE_TOKENS[0] < seen.input_estimate < openai.IMAGE_TOKENS[0] + 100
    seen = look(input=[{"type": "function_call_output", "call_id": "c", "output": [low, pdf]}])
    wanted = openai.LOW_DETAIL_TOKENS[0] + FILE_TOKENS[0]
    assert wanted < seen.input_estimate < wanted + 100
    escaped = look_response(b'{"model":"m","input":"%b"}' % (b"\\u4f60" * 100))
    assert escaped.input_estimate < 120


def test_only_the_model_and_the_cap_change() -> None:
    """Every other byte stays as the caller wrote it."""
    body = b'{ "input":"%b", "max_output_tokens" : 20 ,"model" :  "m", "x":1.50 }' % (b"i" * 500)
    assert changed(body) is body
    assert changed(body, output_cap=20) is body
    assert changed(body, output_cap=7, upstream_model="up") == body.replace(
        b": 20", b": 7"
    ).replace(b'"m"', b'"up"')
    bare = dumped(input="x" * 500)
    assert json.loads(changed(bare, output_cap=7)) == json.loads(bare) | {"max_output_tokens": 7}
    null = dumped(max_output_tokens=None)
    assert json.loads(changed(null, output_cap=7))["max_output_tokens"] == 7
