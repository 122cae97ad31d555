"""The laws of an assistant's message in the OpenAI family."""

from typing import Any

import pytest

from proxy.wire.look import BadField
from proxy.wire.translate.chat import parts
from proxy.wire.translate.core import Reasoning, Refusal, Text, ToolCall
from proxy.wire.translate.fields import Fields

SIGNED = Reasoning("hm", "sig", maker="anthropic")
HIDDEN = Reasoning(redacted="xx", maker="openai")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"reasoning_content": "hm"}, [Reasoning("hm")]),
        ({"reasoning": "hm"}, [Reasoning("hm")]),
        ({"reasoning": {"effort": "low"}}, []),
        ({"reasoning_content": "hm", "reasoning": "hm"}, [Reasoning("hm")]),
        (
            {"reasoning": "hm", "reasoning_details": [parts.detail_of(SIGNED, 0)]},
            [SIGNED],
        ),
        (
            {"reasoning_content": "hm", "reasoning_details": [parts.detail_of(HIDDEN, 0)]},
            [Reasoning("hm", redacted="xx", maker="openai")],
        ),
        (
            {"thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "sig"}]},
            [SIGNED],
        ),
        ({"reasoning_details": [{"type": "reasoning.summary", "summary": "s"}]}, [Reasoning("s")]),
        ({"reasoning_details": ["odd", {}, {"type": "reasoning.encrypted"}]}, []),
    ],
)
def test_reasoning_is_found_wherever_a_vendor_puts_it(
    message: dict[str, Any], expected: list[Reasoning]
) -> None:
    """And is not told twice when it stands in two places."""
    assert parts.read_reasoning(Fields(message)) == expected


def test_a_message_is_written_as_it_is_read() -> None:
    """What its maker wants back comes back: proofs, and Google's beside the call it belongs to."""
    content = [
        SIGNED,
        HIDDEN,
        Text("a"),
        Refusal("no"),
        Reasoning(signature="gs", maker="google"),
        ToolCall("call_1", "f", '{"x":1}'),
        ToolCall("call_2", "free", "any text", custom=True),
    ]
    written = parts.write_message(content, reasoning="reasoning_content", details=True, most_id=40)
    assert written["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "gs"}}
    assert written["reasoning_content"] == "hm"
    message = Fields(written)
    extra: dict[str, Any] = {}
    assert parts.read_reasoning(message) == [SIGNED, HIDDEN]
    assert parts.read_calls(message.each("tool_calls"), extra) == content[4:]
    assert extra == {}


def test_nothing_foreign_is_written_to_a_vendor_that_refuses_it() -> None:
    """OpenAI itself has no field for reasoning."""
    written = parts.write_message([SIGNED, Text("a")], reasoning="", details=False, most_id=40)
    assert written == {"content": "a"}


def test_content_is_null_only_beside_calls() -> None:
    """An empty answer is an empty text."""
    call = ToolCall("c", "f", "")
    written = parts.write_message([call], reasoning="", details=False, most_id=40)
    assert written["content"] is None
    assert written["tool_calls"][0]["function"]["arguments"] == "{}"
    assert parts.write_message([], reasoning="", details=False, most_id=40) == {"content": ""}


def test_arguments_that_are_an_object_are_taken() -> None:
    """Some servers do not write JSON into a string."""
    calls = Fields({"t": [{"id": "c", "function": {"name": "f", "arguments": {"x": 1}}}]})
    assert parts.read_calls(calls.each("t"), {}) == [ToolCall("c", "f", '{"x":1}')]
    with pytest.raises(BadField):
        parts.read_calls(Fields({"t": [{"id": "c", "type": "odd"}]}).each("t"), {})
