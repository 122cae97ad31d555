"""
What a vendor refused a request for, where another model or another vendor may well take it.

| fault | said by | as |
|---|---|---|
| `context` | OpenAI, Azure, DeepSeek, OpenRouter | code `context_length_exceeded` |
| | vLLM, SGLang, llama.cpp | "maximum context length is …", "longer than the model's context length", "exceeds the available context size" |
| | Anthropic | "prompt is too long: …", "… exceed context limit" |
| | Gemini | "The input token count (…) exceeds the maximum number of tokens allowed" |
| | Bedrock | "Input is too long for requested model" |
| `policy` | OpenAI, Azure | code `content_filter`, `content_policy_violation`, `moderation_blocked`, `ResponsibleAIPolicyViolation` |
| | Anthropic | "Output blocked by content filtering policy" |

Everything else about a request is the caller's to put right, wherever it is sent.
"""

import re
from typing import Literal

__all__ = ["Fault", "fault_of"]

Fault = Literal["", "context", "policy"]

# Most of a refusal that is looked at: what it is for stands at its beginning.
_LOOKED_AT = 4096

_CODES: tuple[tuple[Fault, re.Pattern[bytes]], ...] = (
    (
        "context",
        re.compile(
            rb'"context_length_exceeded"'
            rb"|maximum context length"
            rb"|longer than the model's context length"
            rb"|exceeds? the (?:available )?context (?:size|window|limit)"
            rb"|prompt is too long"
            rb"|exceeds? context limit"
            rb"|input token count[^.]{0,40} exceeds the maximum"
            rb"|input is too long for (?:the )?requested model",
            re.IGNORECASE,
        ),
    ),
    (
        "policy",
        re.compile(
            rb'"content_filter"|"content_policy_violation"|"moderation_blocked"'
            rb'|"ResponsibleAIPolicyViolation"|blocked by content filtering policy',
            re.IGNORECASE,
        ),
    ),
)


def fault_of(body: bytes) -> Fault:
    """Return what a refused request was refused for; empty when it is the caller's to put right."""
    start = body[:_LOOKED_AT]
    return next((fault for fault, words in _CODES if words.search(start)), "")
