"""The laws of the items of Responses."""

import pytest

from proxy.wire.translate.carried import wrap
from proxy.wire.translate.core import Conversation, Reasoning, Tool, ToolCall
from proxy.wire.translate.fields import Fields
from proxy.wire.translate.responses import items

PARTS = [
    Reasoning("hm"),
    Reasoning("hm", redacted="enc", maker="openai"),
    Reasoning("hm", "sig", maker="anthropic"),
    Reasoning("", "gs", maker="google"),
    Reasoning(redacted="xx", maker="anthropic"),
]


@pytest.mark.parametrize("part", PARTS)
def test_reasoning_comes_back_as_it_was(part: Reasoning) -> None:
    """Whoever made it; a foreign proof is wrapped, with the text that it proves."""
    item = items.reasoning_item(part, "rs_1")
    assert items.read_reasoning(Fields(item)) == part


def test_openais_own_is_not_touched() -> None:
    """And what nobody proved needs nothing."""
    assert items.sealed(PARTS[1]) == "enc"
    assert items.sealed(PARTS[0]) is None
    assert items.sealed(PARTS[2]) == wrap(PARTS[2], with_text=True)


def test_a_proof_is_of_the_text_that_was_wrapped() -> None:
    """A client may show, and send back, less."""
    item = items.reasoning_item(PARTS[2], "rs_1") | {"summary": []}
    assert items.read_reasoning(Fields(item)) == PARTS[2]


def test_paragraphs_are_joined() -> None:
    """A summary comes in parts; the reasoning itself goes before it."""
    summary = [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}]
    assert items.read_reasoning(Fields({"summary": summary})) == Reasoning("a\n\nb")
    content = [{"type": "reasoning_text", "text": "c"}]
    assert items.read_reasoning(Fields({"summary": summary, "content": content})).text == "c"


@pytest.mark.parametrize("custom", [True, False])
def test_a_call_comes_back_as_it_was(custom: bool) -> None:
    """Of a function or of a tool that takes free text."""
    call = ToolCall("c", "f", '{"x":1}', custom)
    item = items.call_item(call, "fc_1", "completed")
    fields = Fields(item)
    assert items.read_call(fields, fields.need_text("type")) == call
    assert fields.rest() == {}


def test_a_call_is_told_in_the_namespace_of_its_tool() -> None:
    """By the name that it has there, as the caller wrote it; other names that look like it stay whole."""
    tools = (Tool("agents__close", namespace="agents"), Tool("agents__open"))
    asked = Conversation(model="m", turns=(), tools=tools)
    item = items.call_item(ToolCall("c", "agents__close", "{}"), "fc", "completed", asked)
    assert (item["name"], item["namespace"]) == ("close", "agents")
    assert items.read_call(Fields(item), "function_call").name == "agents__close"
    item = items.call_item(ToolCall("c", "agents__open", "{}"), "fc", "completed", asked)
    assert item["name"] == "agents__open"
    assert "namespace" not in item
