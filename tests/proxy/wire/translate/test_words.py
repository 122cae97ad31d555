"""The laws of naming what callers wrote, and of names that vendors do not take."""

import pytest

from proxy.wire.translate.core import CannotExpress, Conversation, Text, Turn
from proxy.wire.translate.words import Drops, safe_id, safe_names, word


def asked(family: str, **members: object) -> Conversation:
    return Conversation(model="m", turns=(Turn("user", (Text("hi"),)),), family=family, **members)


def test_fields_are_named_as_the_caller_wrote_them() -> None:
    """One field has a name in each protocol."""
    assert word(asked("openai.chat"), "output") == "response_format"
    assert word(asked("anthropic.messages"), "stop") == "stop_sequences"
    assert word(asked("gemini.generate"), "top_k") == "generationConfig.topK"
    assert word(asked("nobody"), "top_k") == "top_k"


def test_what_nobody_knows_is_named_once_and_in_order() -> None:
    """A path in every message is one name."""
    drops = Drops(
        asked("openai.chat", extra={"prediction": {}, "messages[0].x": 1, "messages[7].x": 1}),
        "anthropic.messages",
    )
    drops.add("seed")
    drops.add("seed")
    assert drops.names() == ("prediction", "messages[].x", "seed")


def test_what_would_change_the_answer_is_refused() -> None:
    """An answer without the audio that was asked for is another answer."""
    with pytest.raises(CannotExpress) as refused:
        Drops(asked("openai.chat", extra={"modalities": ["text", "audio"]}), "anthropic.messages")
    assert refused.value.param == "modalities"
    Drops(asked("openai.chat", extra={"modalities": ["text"]}), "anthropic.messages")
    Drops(asked("openai.chat", extra={"modalities": ["audio"]}), "openai.chat")


def test_metadata_is_named() -> None:
    """What it says to the gateway was taken out before; the rest is for the vendor, who has no place for it."""
    assert Drops(asked("openai.chat", metadata={}), "anthropic.messages").names() == ()
    other = asked("openai.chat", metadata={"trace": "1"})
    assert Drops(other, "anthropic.messages").names() == ("metadata",)


def test_ids_stay_when_they_are_allowed_and_stay_different_when_not() -> None:
    """A result must find its call again."""
    assert safe_id("call_1-a", 40) == "call_1-a"
    long = {safe_id("x" * 60 + str(number), 40) for number in range(50)}
    odd = {safe_id(text, 40) for text in ("a.b", "a:b", "a b", "", "é")}
    assert len(long) == 50
    assert len(odd) == 5
    assert all(len(text) <= 40 for text in long | odd)
    assert all(text.replace("_", "").replace("-", "").isalnum() for text in long | odd)


def test_names_are_changed_only_where_they_must_be() -> None:
    """And each to one of its own."""
    names = ("fine", "server.tool", "server:tool", "n" * 65, "n" * 66)
    renamed = safe_names(names, 64)
    assert set(renamed) == set(names[1:])
    assert len(set(renamed.values())) == 4
    assert all(len(name) <= 64 for name in renamed.values())
