"""The laws of the look at Anthropic's requests: what is refused, what is counted, and which bytes change."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import anthropic
from proxy.wire.anthropic import (
    look_count,
    look_messages,
    rewrite,
    rewrite_count_for_vertex,
    rewrite_for_vertex,
)
from proxy.wire.look import FILE_TOKENS, BadField, Look

HELLO = [{"role": "user", "content": "Hello"}]
MINIMAL: dict[str, Any] = {"model": "m", "max_tokens": 20, "messages": HELLO}
TOOL = {"name": "f", "description": "does " * 100, "input_schema": {"type": "object"}}


def dumped(**changed: Any) -> bytes:
    """Write a request; a member that is None is left out."""
    document = MINIMAL | changed
    return json.dumps(
        {name: value for name, value in document.items() if value is not None}
    ).encode()


def look(**changed: Any) -> Look:
    return look_messages(dumped(**changed))


def changed(body: bytes, **wanted: Any) -> bytes:
    seen = look_messages(body)
    arguments: dict[str, Any] = {"upstream_model": seen.model, "output_cap": None} | wanted
    return rewrite(body, seen, include_usage=True, cap_field=None, **arguments)


def test_everything_that_matters_is_seen() -> None:
    """Wherever it stands, between whatever else; usage is asked for by everybody."""
    seen = look(
        temperature=1,
        tools=[TOOL],
        stream=True,
        system="Be brief. " * 100,
        metadata={"user_id": "u-7"},
        messages=[*HELLO, {"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}],
    )
    assert (seen.model, seen.stream, seen.asked_usage) == ("m", True, True)
    assert (seen.output_cap, seen.n) == (20, 1)
    assert (seen.user, seen.messages, seen.plain, seen.dearer) == ("u-7", 2, True, None)
    assert len(seen.cuts) == 3
    assert len(seen.frame) < 300


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"max_tokens": None}, "max_tokens", "missing"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": "20"}, "max_tokens", "invalid_type"),
        ({"model": None}, "model", "missing"),
        ({"model": ""}, "model", "invalid_value"),
        ({"messages": None}, "messages", "missing"),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "Hello"}, "messages", "invalid_type"),
        ({"messages": ["Hello"]}, "messages", "invalid_type"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"metadata": {"user_id": 7}}, "metadata.user_id", "invalid_type"),
        ({"Max_Tokens": 9}, "Max_Tokens", "invalid_value"),
    ],
)
def test_a_mistake_is_named(change: dict[str, Any], param: str, code: str) -> None:
    """The message names the field, since the protocol's envelope has no other place for it."""
    with pytest.raises(BadField) as caught:
        look(**change)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert param in caught.value.message


@pytest.mark.parametrize("name", ["model", "max_tokens", "messages"])
def test_a_member_that_is_there_twice_is_refused(name: str) -> None:
    """Two parsers may take another one of them."""
    document = dumped()
    twice = b'{"%b":%b,' % (name.encode(), json.dumps(MINIMAL[name]).encode()) + document[1:]
    for body in (
        twice,
        twice.replace(b'"%b"' % name.encode(), b'"\\u006d%b"' % name[1:].encode(), 1),
    ):
        with pytest.raises(BadField) as caught:
            look_messages(body)
        assert caught.value.code == "duplicate"


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'"x"', b"\xff", b"[" * 100_000])
def test_what_is_no_request_is_refused(body: bytes) -> None:
    """In words, whatever it is."""
    for look_at in (look_messages, look_count):
        with pytest.raises(BadField):
            look_at(body)


# What is counted...


@given(st.text(max_size=400), st.booleans())
def test_text_counts_by_its_bytes(text: str, blocks: bool) -> None:
    """A quarter of them is likely and all of them are the most, in whichever form they come."""
    content: Any = [{"type": "text", "text": text}] if blocks else text
    seen = look(messages=[{"role": "user", "content": content}])
    size = len(text.encode("utf-8", "surrogatepass"))
    assert size <= seen.input_bound
    assert 0 < seen.input_estimate <= seen.input_bound
    assert abs(seen.input_estimate - size / 4) <= 30 + size / 4


def test_system_and_tools_are_input() -> None:
    """And tools bring a prompt of their own."""
    plain = look().input_estimate
    assert look(system="x" * 400).input_estimate == plain + 100 + 1
    tools = [TOOL]
    size = len(json.dumps(tools))
    assert look(tools=tools).input_estimate == pytest.approx(
        plain + size / 4 + anthropic.TOOLS_TOKENS, abs=1
    )


def test_payload_is_no_text() -> None:
    """A picture counts what the vendor documents, however many bytes carry it; within a tool's result as well."""
    source = {"type": "base64", "media_type": "image/png", "data": "A" * 100_000}
    image = {"type": "image", "source": source}
    for content in ([image], [{"type": "tool_result", "tool_use_id": "t", "content": [image]}]):
        seen = look(messages=[{"role": "user", "content": content}])
        assert anthropic.IMAGE_TOKENS[0] < seen.input_estimate < anthropic.IMAGE_TOKENS[0] + 100
        assert anthropic.IMAGE_TOKENS[1] < seen.input_bound < anthropic.IMAGE_TOKENS[1] + 1000
    document = {"type": "document", "source": {"type": "url", "url": "https://x.test/a.pdf"}}
    seen = look(messages=[{"role": "user", "content": [document]}])
    assert seen.input_estimate > FILE_TOKENS[0]
    text = {"type": "document", "source": {"type": "text", "data": "x" * 4000}}
    assert 1000 < look(messages=[{"role": "user", "content": [text]}]).input_estimate < 1100


def test_content_of_another_shape_counts_as_text() -> None:
    """Too much rather than too little."""
    odd = [{"role": "user", "content": [{"source": 7, "data": "x" * 4000}]}]
    assert look(messages=odd).input_estimate > 1000


def test_a_thread_that_goes_on_is_tied_and_without_bound() -> None:
    """What it brings is not in the body; one that begins hides nothing."""
    seen = look(thread={"type": "continue", "previous_message_id": "msg_1"})
    assert (seen.tied, seen.input_bound) == ("thread", anthropic.UNSEEN_TOKENS)
    for thread in ({"type": "create"}, None):
        seen = look(thread=thread)
        assert seen.tied is None
        assert seen.input_bound < 1000


def test_counting_uses_nothing() -> None:
    """A count has no input, no output and no cap."""
    body = dumped(max_tokens=None, tools=[TOOL])
    seen = look_count(body)
    assert (seen.input_estimate, seen.input_bound, seen.output_cap, seen.stream) == (
        0,
        0,
        None,
        False,
    )
    out = rewrite(
        body, seen, upstream_model="up", include_usage=True, output_cap=7, cap_field="max_tokens"
    )
    assert json.loads(out) == json.loads(body) | {"model": "up"}


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"tools": [TOOL]}, None),
        ({"tools": [TOOL | {"type": "custom"}]}, None),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, None),
        ({"tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}]}, "tools"),
        ({"tools": [{"type": "code_execution_20250825", "name": "x"}]}, "tools"),
        ({"mcp_servers": [{"type": "url", "url": "https://x.test"}]}, "mcp_servers"),
        ({"mcp_servers": []}, None),
        ({"speed": "fast"}, "speed"),
        ({"speed": "standard"}, None),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"service_tier": "auto"}, None),
    ],
)
def test_what_costs_more_than_the_list_says_is_seen(
    change: dict[str, Any], wanted: str | None
) -> None:
    """A strict budget cannot hold it."""
    seen = look(**change)
    assert (seen.dearer[0] if seen.dearer else None) == wanted


# What changes...


def test_nothing_to_change_is_the_same_object() -> None:
    """The body that came is the body that goes."""
    body = dumped(system="x" * 500, tools=[TOOL])
    assert changed(body) is body
    assert changed(body, output_cap=20) is body


def test_only_the_model_and_the_cap_change() -> None:
    """Numbers, escapes, spaces and order stay as the caller wrote them, wherever the large members stand."""
    body = (
        b'{ "tools" :[%b],"x":1.50e+3, "max_tokens" : 20,"messages" : [ {"role":"user",'
        b'"content":"\\u00e9 \\/ \\"model\\""} ] ,\t"model" :  "m","system":"%b", "y":"\xc3\xa9" }'
        % (json.dumps(TOOL).encode(), b"s" * 600)
    )
    assert changed(body, upstream_model="up/1", output_cap=7) == body.replace(
        b'"max_tokens" : 20', b'"max_tokens" : 7'
    ).replace(b':  "m"', b':  "up/1"')


@pytest.mark.parametrize(
    ("budget", "cap", "wanted"),
    [
        (2000, 3000, {"type": "enabled", "budget_tokens": 2000}),
        (4000, 3000, {"type": "enabled", "budget_tokens": 2999}),
        (4000, 1024, {"type": "disabled"}),
    ],
)
def test_thinking_stays_below_the_cap(budget: int, cap: int, wanted: dict[str, Any]) -> None:
    """The vendor refuses a budget that is not, so that it shrinks with the cap."""
    thinking = {"type": "enabled", "budget_tokens": budget}
    body = dumped(max_tokens=8000, thinking=thinking, system="s" * 500)
    out = json.loads(changed(body, output_cap=cap))
    assert out == json.loads(body) | {"max_tokens": cap, "thinking": wanted}
    for other in ({"type": "adaptive"}, None):
        out = json.loads(changed(dumped(max_tokens=8000, thinking=other), output_cap=cap))
        assert out.get("thinking") == other


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m", "max_tokens" : 20,"messages":[{"role":"user","content":"\\"model\\":\\"m\\""}]}',
        b'{"max_tokens":20,"messages":[{"role":"user","content":"x"}],"model":"m"}',
        b'{"messages":[{"role":"user","content":"x"}],"model": "m" ,"max_tokens":20,"system":"s"}',
        b'{"anthropic_version":"v","messages":[{"role":"user","content":"x"}],"model":"m","max_tokens":20}',
    ],
)
def test_on_vertex_the_version_stands_where_the_model_stood(body: bytes) -> None:
    """And every other byte stays; a version that is there stays, too. Of a count the model stays."""
    wanted = json.loads(body)
    del wanted["model"]
    said = {"upstream_model": "x", "include_usage": True, "output_cap": 5, "cap_field": None}
    written = json.loads(rewrite_for_vertex(body, look_messages(body), **said))
    version = wanted.get("anthropic_version", "vertex-2023-10-16")
    assert written == wanted | {"anthropic_version": version, "max_tokens": 5}
    said["output_cap"] = None
    counted = json.loads(rewrite_count_for_vertex(body, look_count(body), **said))
    assert counted == wanted | {"anthropic_version": version, "model": "x"}
