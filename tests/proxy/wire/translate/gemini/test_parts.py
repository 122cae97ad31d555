"""The laws of the parts of Gemini's contents."""

import pytest

from proxy.wire.translate.carried import wrap
from proxy.wire.translate.core import BadAnswer, Reasoning, Text, ToolCall
from proxy.wire.translate.gemini.parts import ProtoFields, add_thought, reasoning_of, write_said

CALL = ToolCall("c", "f", '{"x":1}')
OWN = Reasoning(signature="gs", maker="google")
FOREIGN = Reasoning("hm", "sig", maker="anthropic")


def test_members_have_two_spellings() -> None:
    """Google reads both; what is said of a mistake is in the first."""
    fields = ProtoFields({"inline_data": {"mime_type": "a/b"}, "fileData": 1})
    assert fields.need_fields("inlineData").text("mimeType") == "a/b"
    assert fields.rest() == {"fileData": 1}


def test_googles_signature_stands_on_the_part_it_belongs_to() -> None:
    """The one after it; at the end on an empty one."""
    assert list(write_said([OWN, CALL], {}, foreign=False)) == [
        {
            "functionCall": {"name": "f", "args": {"x": 1}, "id": "c"},
            "thoughtSignature": "gs",
        }
    ]
    assert list(write_said([Text("a"), OWN], {}, foreign=False)) == [
        {"text": "a"},
        {"text": "", "thoughtSignature": "gs"},
    ]


def test_foreign_proofs_are_wrapped_for_callers_only() -> None:
    """Google would not know what to do with them."""
    [told] = write_said([FOREIGN], {}, foreign=True)
    assert told == {"text": "hm", "thought": True, "thoughtSignature": wrap(FOREIGN)}
    [kept] = write_said([FOREIGN], {}, foreign=False)
    assert kept == {"text": "hm", "thought": True}
    assert reasoning_of(wrap(FOREIGN)).maker == "anthropic"
    assert reasoning_of("gs") == OWN


def test_a_thought_in_pieces_is_one() -> None:
    """Its proof may come in a piece without text: whoever signed it wants it whole."""
    found: list[object] = [Text("a")]
    add_thought(found, "h", None)
    add_thought(found, "m", None)
    add_thought(found, "", wrap(Reasoning("", "sig", maker="anthropic")))
    add_thought(found, "more", None)
    assert found == [Text("a"), FOREIGN, Reasoning("more")]
    add_thought(found, "", wrap(Reasoning(redacted="xx", maker="openai")))
    assert found[-1] == Reasoning("more", redacted="xx", maker="openai")


def test_arguments_must_be_an_object() -> None:
    """Gemini has no text for them."""
    with pytest.raises(BadAnswer):
        list(write_said([ToolCall("c", "f", "{oops")], {}, foreign=True))
    [none] = write_said([ToolCall("", "f", "")], {"f": "g"}, foreign=True)
    assert none == {"functionCall": {"name": "g", "args": {}}}
