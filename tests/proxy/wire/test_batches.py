"""The input of a batch is looked at call by call, and only the model's name changes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import batches, openai
from proxy.wire.look import BadField, Look

CHAT = "/v1/chat/completions"
LOOKS = {CHAT: openai.look_chat, "/v1/embeddings": openai.look_embeddings}


def line(**body: Any) -> bytes:
    said = {"model": "m", "messages": [{"role": "user", "content": "x"}]} | body
    return json.dumps({"custom_id": "a", "method": "POST", "url": CHAT, "body": said}).encode()


def rename(body: bytes, seen: Look) -> bytes:
    return openai.rewrite(
        body,
        seen,
        upstream_model="theirs",
        include_usage=False,
        output_cap=None,
        cap_field=None,
    )


def test_what_a_batch_may_cost_is_the_sum_of_its_calls() -> None:
    """Caps times answers; what has no cap is counted apart."""
    data = b"\n".join([line(max_tokens=10, n=2), b"", line(), line(max_completion_tokens=5)])
    found = batches.look(data, LOOKS)
    one = openai.look_chat(
        json.loads(line())["body"] and json.dumps(json.loads(line())["body"]).encode()
    )
    assert (found.model, found.url, found.lines) == ("m", CHAT, 3)
    assert (found.output, found.uncapped) == (25, 1)
    assert found.input_bound >= 3 * one.input_bound
    assert found.longest < found.input_bound


@given(
    st.lists(
        st.dictionaries(st.text(max_size=8), st.integers() | st.text(), max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_nothing_but_the_name_changes(extras: list[dict[str, Any]]) -> None:
    """Whatever else the calls hold."""
    known = {"model", "messages", "stream", "n", "max_tokens", "max_completion_tokens", "user"}
    calls = [
        {name: value for name, value in extra.items() if name.casefold() not in known}
        for extra in extras
    ]
    try:
        data = b"\n".join(
            line(**{f"x_{name}": value for name, value in call.items()}) for call in calls
        )
        batches.look(data, LOOKS)
    except BadField:
        return
    changed = batches.renamed(data, LOOKS, rename).splitlines()
    for before, after in zip(data.splitlines(), changed, strict=True):
        was, is_ = json.loads(before), json.loads(after)
        assert is_["body"].pop("model") == "theirs"
        assert was["body"].pop("model") == "m"
        assert was == is_


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b" \n\n", "no line"),
        (line() + b"\n[]", "line 2"),
        (line() + b"\n" + line(model="n"), "line 2 of the file: all lines"),
        (line(stream=True), "cannot be streamed"),
        (line().replace(b"POST", b"GET"), "method POST"),
        (line().replace(b"chat/completions", b"files"), "url must be one of"),
        (b'{"url":"/v1/embeddings","body":{}}', "line 1 of the file: body"),
        (b"\xff", "line 1"),
        (b'{"url":1,"body":{}}', "line 1"),
    ],
)
def test_a_mistake_is_named_with_its_line(data: bytes, words: str) -> None:
    """As a mistake of the file."""
    with pytest.raises(BadField, match=words) as refused:
        batches.look(data, LOOKS)
    assert refused.value.param == "file"
