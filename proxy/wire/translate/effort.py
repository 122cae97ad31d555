"""
How much to think: words into tokens and back.

Some vendors take a word, some a number of tokens. `TOKENS` is what each word stands for, of the order
that vendors document for their own words (OpenAI says nothing, Anthropic begins at 1024, Google's
models end at 24,576 or 32,768). A number becomes the least word that covers it, so that words survive
a way there and back.
"""

from collections.abc import Mapping
from types import MappingProxyType

from proxy.wire.translate.core import Effort, Thinking

__all__ = ["TOKENS", "budget_of", "effort_of", "nearest"]

TOKENS: Mapping[Effort, int] = MappingProxyType(
    {
        "minimal": 1024,
        "low": 2048,
        "medium": 8192,
        "high": 16384,
        "xhigh": 24576,
        "max": 32768,
    }
)
_ORDER: tuple[Effort, ...] = ("none", *TOKENS)


def budget_of(thinking: Thinking) -> int | None:
    """Say in tokens how much to think; None when the caller left it open."""
    if thinking.budget is not None:
        return thinking.budget
    return None if thinking.effort is None else TOKENS.get(thinking.effort, 0)


def effort_of(thinking: Thinking) -> Effort | None:
    """Say in a word how much to think; None when the caller left it open."""
    if thinking.off:
        return "none"
    if thinking.effort is not None:
        return thinking.effort
    if thinking.budget is None:
        return None
    for word, tokens in TOKENS.items():
        if thinking.budget <= tokens:
            return word
    return "max"


def nearest(effort: Effort, known: tuple[Effort, ...]) -> Effort:
    """Choose of the words that a vendor knows the nearest, the greater of two."""
    at = _ORDER.index(effort)
    return min(known, key=lambda word: (abs(_ORDER.index(word) - at), -_ORDER.index(word)))
