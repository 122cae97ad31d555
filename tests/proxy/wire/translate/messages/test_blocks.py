"""The laws of reasoning in Anthropic's blocks, its own and other vendors'."""

import pytest

from proxy.wire.translate.carried import wrap
from proxy.wire.translate.core import Reasoning
from proxy.wire.translate.fields import Fields
from proxy.wire.translate.messages import blocks

PARTS = [
    Reasoning("hm", "sig", maker="anthropic"),
    Reasoning("hm"),
    Reasoning("hm", "gs", maker="google"),
    Reasoning("", "gs", maker="google"),
    Reasoning(redacted="xx", maker="anthropic"),
    Reasoning(redacted="yy", maker="openai"),
]


@pytest.mark.parametrize("part", PARTS)
def test_reasoning_comes_back_as_it_was(part: Reasoning) -> None:
    """Whoever made it; a foreign proof is wrapped where Anthropic's own stands."""
    block = blocks.write_thinking(part)
    fields = Fields(block)
    assert blocks.read_thinking(fields, fields.need_text("type")) == part


def test_anthropics_own_is_not_touched() -> None:
    """Its proofs pass as they are; a foreign one cannot be taken for its own."""
    own, foreign = PARTS[0], PARTS[2]
    assert blocks.write_thinking(own)["signature"] == "sig"
    assert blocks.write_thinking(foreign)["signature"] == wrap(Reasoning("", "gs", maker="google"))
    assert blocks.write_thinking(PARTS[1])["signature"] == ""


def test_texts_are_joined_by_lines() -> None:
    """Without the empty ones."""
    assert blocks.joined(["a", "", "b"]) == "a\nb"
