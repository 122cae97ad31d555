"""
The OpenAI-compatible family: what each vendor does differently, as facts.

A dialect is a row of `DIALECTS`. Most servers do as `COMPATIBLE` does, so a new vendor needs no row. What a row says holds for requests that are translated; a caller who speaks OpenAI's
protocol has its bytes passed through and speaks the vendor's dialect itself.

Sources: the vendors' API references as of 2026-11, and what their users report (the traps are in
the tests, one each).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from msgspec import Struct

__all__ = ["COMPATIBLE", "DIALECTS", "OPENAI", "Dialect", "of_host"]

ThinkingWords = Literal[
    "reasoning_effort", "thinking", "enable_thinking", "reasoning", "chat_template_kwargs", "none"
]


class Dialect(Struct, frozen=True, kw_only=True):
    """
    How one vendor differs from OpenAI's chat completions.

    `cap` is the field for the output cap. `stream_options` says whether usage can be asked for in a
    stream. `system_role` is the role of instructions. `thinking` is the member that says how much to
    think; `efforts` maps words the vendor lacks. `reasoning` is the field of an assistant's message
    in which its reasoning is sent back ("" when the vendor refuses or ignores it); `details` says
    whether it takes ``reasoning_details``. `required` is the word for "a tool must be called", None
    where there is none. `named_choice` says whether one tool can be named. `json_schema` says whether
    output can be bound to a schema. `lacks` are members that the vendor refuses. `cache_marks` says
    whether ``cache_control`` is understood on parts. `missing` are the endpoints that it has not got and
    that chat completions can stand in for, by the ledger's words for them.
    """

    name: str
    cap: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    stream_options: bool = True
    system_role: Literal["system", "developer"] = "system"
    thinking: ThinkingWords = "reasoning_effort"
    efforts: Mapping[str, str] = MappingProxyType({})
    reasoning: str = "reasoning_content"
    details: bool = False
    required: str | None = "required"
    named_choice: bool = True
    json_schema: bool = True
    lacks: frozenset[str] = frozenset()
    cache_marks: bool = False
    missing: frozenset[str] = frozenset()


_PENALTIES = frozenset({"frequency_penalty", "presence_penalty"})
_LOGPROBS = frozenset({"logprobs", "top_logprobs"})
_COMPLETIONS = frozenset({"openai.completions"})
_OTHER_THAN_CHAT = _COMPLETIONS | {"openai.responses"}
_OPEN_MODELS_LACK = frozenset({"verbosity", "service_tier"})

OPENAI = Dialect(
    name="openai",
    cap="max_completion_tokens",
    system_role="developer",
    reasoning="",
    lacks=frozenset({"top_k", "min_p", "repetition_penalty"}),
)

# What a server does that says no more of itself than that it is compatible.
COMPATIBLE = Dialect(name="compatible")

DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        row.name: row
        for row in (
            OPENAI,
            COMPATIBLE,
            Dialect(
                name="azure",
                cap="max_completion_tokens",
                reasoning="",
                lacks=frozenset({"top_k", "min_p", "repetition_penalty"}),
            ),
            # With tools, reasoning that is not sent back is a 400; medium and xhigh are read as below.
            Dialect(
                name="deepseek",
                missing=_COMPLETIONS,
                thinking="thinking",
                efforts=MappingProxyType({"minimal": "low", "medium": "high", "xhigh": "max"}),
                json_schema=False,
                lacks=frozenset({"top_k", "min_p", "repetition_penalty", "seed", "n", "user"})
                | _OPEN_MODELS_LACK
                | {"logit_bias", "parallel_tool_calls"},
            ),
            Dialect(
                name="qwen",
                thinking="enable_thinking",
                required=None,
                lacks=_OPEN_MODELS_LACK | {"min_p", "user", "logit_bias", "frequency_penalty"},
            ),
            Dialect(
                name="glm",
                missing=_OTHER_THAN_CHAT,
                thinking="thinking",
                required=None,
                named_choice=False,
                json_schema=False,
                lacks=_PENALTIES
                | _LOGPROBS
                | _OPEN_MODELS_LACK
                | {"top_k", "min_p", "repetition_penalty", "seed", "n", "logit_bias"}
                | {"parallel_tool_calls"},
            ),
            Dialect(
                name="kimi",
                missing=_OTHER_THAN_CHAT,
                efforts=MappingProxyType({"minimal": "low", "medium": "high", "xhigh": "max"}),
                required=None,
                lacks=_LOGPROBS
                | _OPEN_MODELS_LACK
                | {"top_k", "min_p", "repetition_penalty", "seed", "logit_bias", "user"},
            ),
            # Without reasoning_split the reasoning stands in the content between <think> tags.
            Dialect(
                name="minimax",
                missing=_OTHER_THAN_CHAT,
                thinking="thinking",
                details=True,
                required=None,
                named_choice=False,
                lacks=_PENALTIES
                | _LOGPROBS
                | _OPEN_MODELS_LACK
                | {
                    "top_k",
                    "min_p",
                    "repetition_penalty",
                    "seed",
                    "n",
                    "logit_bias",
                    "stop",
                    "user",
                },
            ),
            # Its word for "required" is its own, its seed has another name, and it has no user.
            Dialect(
                name="mistral",
                missing=_OTHER_THAN_CHAT,
                stream_options=False,
                reasoning="",
                required="any",
                lacks=_LOGPROBS
                | _OPEN_MODELS_LACK
                | {"top_k", "min_p", "repetition_penalty", "seed", "logit_bias", "user"},
            ),
            Dialect(
                name="groq",
                missing=_COMPLETIONS,
                cap="max_completion_tokens",
                reasoning="reasoning",
                lacks=_LOGPROBS
                | {"top_k", "min_p", "repetition_penalty", "n", "logit_bias", "verbosity"},
            ),
            Dialect(
                name="xai",
                cap="max_completion_tokens",
                efforts=MappingProxyType({"minimal": "low", "xhigh": "high", "max": "high"}),
                lacks=frozenset(
                    {"top_k", "min_p", "repetition_penalty", "logit_bias", "verbosity"}
                ),
            ),
            Dialect(
                name="openrouter",
                thinking="reasoning",
                reasoning="reasoning",
                details=True,
                cache_marks=True,
            ),
            Dialect(name="vllm", thinking="chat_template_kwargs", lacks=frozenset({"verbosity"})),
            Dialect(name="sglang", thinking="chat_template_kwargs", lacks=_OPEN_MODELS_LACK),
            Dialect(
                name="ollama",
                reasoning="reasoning",
                required=None,
                named_choice=False,
                lacks=_LOGPROBS
                | _OPEN_MODELS_LACK
                | {"top_k", "min_p", "repetition_penalty", "n", "logit_bias", "user"}
                | {"parallel_tool_calls"},
            ),
        )
    }
)

_HOSTS = (
    ("openai.com", "openai"),
    ("openai.azure.com", "azure"),
    ("services.ai.azure.com", "azure"),
    ("deepseek.com", "deepseek"),
    ("aliyuncs.com", "qwen"),
    ("bigmodel.cn", "glm"),
    ("z.ai", "glm"),
    ("moonshot.cn", "kimi"),
    ("moonshot.ai", "kimi"),
    ("minimax.io", "minimax"),
    ("minimaxi.com", "minimax"),
    ("mistral.ai", "mistral"),
    ("groq.com", "groq"),
    ("x.ai", "xai"),
    ("openrouter.ai", "openrouter"),
)


def of_host(host: str) -> Dialect:
    """Say which dialect the server at `host` (a lower-case name without a port) speaks."""
    for suffix, name in _HOSTS:
        if host == suffix or host.endswith("." + suffix):
            return DIALECTS[name]
    return COMPATIBLE
