"""The page of what is translated, dropped and refused is true."""

import pytest

from proxy.wire.translate.protocols import PROTOCOLS, VENDORS
from tests.proxy.wire.translate.matrix import (
    FEATURES,
    ORDERS,
    PAGE,
    VECTORS,
    can_ask,
    outcome,
    outcome_of_one,
    page,
)


def test_the_page_says_what_is_done() -> None:
    """It is made of what is written; `python -m tests.proxy.wire.translate.matrix` makes it again."""
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    "feature",
    [
        *("text", "system prompt", "image by its data", "tools", "parallel calls and results"),
        *("a result that failed", "some of the tools", "temperature", "no thinking"),
    ],
)
def test_what_everyone_needs_is_translated_everywhere(vendor: str, feature: str) -> None:
    """Whoever the vendor is."""
    expected = {"translated"}
    if (vendor, feature) == ("gemini.generate", "no thinking"):
        # A model that always thinks is told to do it little, and the caller is told that.
        expected = {"dropped"}
    if vendor == "openai.responses" and feature == "temperature":
        expected = {"translated"}
    assert outcome(vendor, feature) in expected


@pytest.mark.parametrize("caller", PROTOCOLS)
def test_callers_can_ask_for_what_everyone_needs(caller: str) -> None:
    """In every protocol."""
    for feature in (
        "text",
        "system prompt",
        "image by its data",
        "tools",
        "parallel calls and results",
    ):
        assert can_ask(caller, feature), feature


def test_reasoning_goes_back_to_its_maker() -> None:
    """And to nobody else: who has not signed it, refuses it."""
    assert outcome("anthropic.messages", "reasoning signed by Anthropic") == "translated"
    assert outcome("bedrock.converse", "reasoning signed by Anthropic") == "translated"
    assert outcome("gemini.generate", "reasoning signed by Google") == "translated"
    assert outcome("openai.responses", "reasoning sealed by OpenAI") == "translated"
    for maker in ("signed by Google", "sealed by OpenAI"):
        assert outcome("anthropic.messages", f"reasoning {maker}") == "dropped"
    assert len(FEATURES) > 30


def test_texts_are_embedded_and_put_in_order_everywhere() -> None:
    """With what everyone has a word for; what nobody knows is declared, and kept within its protocol."""
    for vendor in ("openai.embeddings", "gemini.embeddings", "cohere.embeddings"):
        assert outcome_of_one(vendor, VECTORS["texts"]) == "translated"
        assert outcome_of_one(vendor, VECTORS["dimensions"]) == "translated"
        unknown = VECTORS["what only the caller's protocol knows"]
        assert outcome_of_one(vendor, unknown) == "dropped"
        assert outcome_of_one(vendor, unknown, vendor.partition(".")[0]) == "translated"
    for vendor in ("cohere.rerank", "jina.rerank"):
        assert outcome_of_one(vendor, ORDERS["the best of them"]) == "translated"
