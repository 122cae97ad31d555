"""
What callers call things, and what of theirs cannot be left out.

Errors and ``x-penstock-dropped`` name a field as the caller wrote it. `word` looks up what a
protocol calls one of the core's fields; where the table says nothing, it is the core's own name.
"""

import re
import zlib
from collections.abc import Mapping
from types import MappingProxyType

from proxy.wire.translate.core import CannotExpress, Conversation, OutputFormat, Sampling

__all__ = ["Drops", "checked_schema", "safe_id", "safe_names", "word"]

_WORDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "openai.chat": {
            "turns": "messages",
            "reasoning": "messages[].reasoning_content",
            "detail": "messages[].content[].image_url.detail",
            "system_position": "messages[].role",
            "participant": "messages[].name",
            "output": "response_format",
            "thinking": "reasoning_effort",
        },
        "openai.completions": {"turns": "prompt"},
        "openai.responses": {
            "turns": "input",
            "reasoning": "input[].reasoning",
            "detail": "input[].content[].detail",
            "system_position": "input[].role",
            "participant": "input[].name",
            "output": "text.format",
            "thinking": "reasoning",
            "verbosity": "text.verbosity",
            "max_tokens": "max_output_tokens",
        },
        "anthropic.messages": {
            "turns": "messages",
            "reasoning": "messages[].content[].thinking",
            "stop": "stop_sequences",
            "system_position": "messages[].role",
            "output": "output_config.format",
            "user": "metadata.user_id",
            "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
        },
        "gemini.generate": {
            "turns": "contents",
            "reasoning": "contents[].parts[].thoughtSignature",
            "output": "generationConfig.responseMimeType",
            "thinking": "generationConfig.thinkingConfig",
            "stop": "generationConfig.stopSequences",
            "n": "generationConfig.candidateCount",
            "max_tokens": "generationConfig.maxOutputTokens",
            "temperature": "generationConfig.temperature",
            "top_p": "generationConfig.topP",
            "top_k": "generationConfig.topK",
            "frequency_penalty": "generationConfig.frequencyPenalty",
            "presence_penalty": "generationConfig.presencePenalty",
            "seed": "generationConfig.seed",
            "logprobs": "generationConfig.responseLogprobs",
            "top_logprobs": "generationConfig.logprobs",
            "tool_choice": "toolConfig.functionCallingConfig",
            "service_tier": "serviceTier",
            "detail": "generationConfig.mediaResolution",
        },
        "ollama.chat": {
            "turns": "messages",
            "reasoning": "messages[].thinking",
            "output": "format",
            "thinking": "think",
            "stop": "options.stop",
            "max_tokens": "options.num_predict",
            "temperature": "options.temperature",
            "top_p": "options.top_p",
            "top_k": "options.top_k",
            "min_p": "options.min_p",
            "frequency_penalty": "options.frequency_penalty",
            "presence_penalty": "options.presence_penalty",
            "repetition_penalty": "options.repeat_penalty",
            "seed": "options.seed",
        },
    }
)

# Members that change what the answer is, or where it is made: they are not left out.
_REFUSED: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "openai.chat": {
            "audio": "only text can be answered by this model.",
            "modalities": "only text can be answered by this model.",
            "functions": "use tools.",
            "function_call": "use tool_choice.",
            "web_search_options": "this model cannot search the web.",
            "moderation": "this model has no moderation of its own.",
        },
        "openai.responses": {
            "previous_response_id": "send the whole input: this model's vendor keeps no responses.",
            "conversation": "send the whole input: this model's vendor keeps no conversations.",
            "background": "this model's vendor answers at once only.",
            "prompt": "send the prompt's text: this model's vendor keeps no prompts.",
            "modalities": "only text can be answered by this model.",
        },
        "anthropic.messages": {
            "container": "this model runs no containers.",
            "mcp_servers": "this model calls no MCP servers.",
            "inference_geo": "this model's place is decided by its deployment.",
        },
        "gemini.generate": {
            "cachedContent": "send the whole contents: this model's vendor keeps no cached contents.",
            "generationConfig.responseModalities": "only text can be answered by this model.",
            "generationConfig.speechConfig": "only text can be answered by this model.",
            "generationConfig.imageConfig": "only text can be answered by this model.",
        },
        "ollama.chat": {},
    }
)
# What says nothing, because it is so without.
_NEUTRAL: Mapping[str, object] = MappingProxyType(
    {
        "frequency_penalty": 0,
        "presence_penalty": 0,
        "repetition_penalty": 1,
        "min_p": 0,
        "top_logprobs": 0,
        "logit_bias": {},
        "logprobs": False,
    }
)

_ID = re.compile(r"[a-zA-Z0-9_-]+")
_NAME = re.compile(r"[a-zA-Z0-9_-]+")


def word(conversation: Conversation, field: str) -> str:
    """Say what the caller calls `field`."""
    return _WORDS.get(conversation.family, {}).get(field, field)


class Drops:
    """
    What a writer leaves out, by the caller's words, each once.

    Made with a conversation, it begins with what that has of words unknown to the core, which are
    refused (`CannotExpress`) where leaving them out would change the answer's kind or place. A writer
    of the same `family` takes them itself.
    """

    def __init__(self, conversation: Conversation, family: str) -> None:
        self._conversation = conversation
        self._names: dict[str, None] = {}
        if conversation.family != family:
            refused = _REFUSED.get(conversation.family, {})
            for path, value in conversation.extra.items():
                why = refused.get(path)
                if why is not None and value not in (False, ["text"], ["TEXT"], "global"):
                    raise CannotExpress(path, why)
                self._names[re.sub(r"\[\d+\]", "[]", path)] = None
            if conversation.metadata:
                self._names["metadata"] = None

    def add(self, field: str) -> None:
        """Leave out one of the core's fields."""
        self._names[word(self._conversation, field)] = None

    def add_sampling(self, sampling: Sampling, *names: str) -> None:
        """Leave out ways of drawing tokens, as far as they are set to something."""
        for name in names:
            value = getattr(sampling, name)
            if value is not None and value != _NEUTRAL.get(name):
                self.add(name)

    def cannot(self, field: str, why: str) -> CannotExpress:
        """Make the error for a field of the core that cannot be left out."""
        return CannotExpress(word(self._conversation, field), why)

    def names(self) -> tuple[str, ...]:
        """Give what was left out, in the order it was."""
        return tuple(self._names)


def safe_id(given: str, most: int) -> str:
    """Give a call's id as a vendor allows it: letters, digits, ``-`` and ``_``, at most `most`."""
    if len(given) <= most and _ID.fullmatch(given):
        return given
    return _shortened(re.sub(r"[^a-zA-Z0-9_-]", "_", given) or "call", given, most)


def safe_names(names: "tuple[str, ...]", most: int) -> dict[str, str]:
    """Give for each of `names` that a vendor does not allow another, unique one."""
    renamed = {}
    for name in names:
        if len(name) > most or not _NAME.fullmatch(name):
            renamed[name] = _shortened(re.sub(r"[^a-zA-Z0-9_-]", "_", name) or "tool", name, most)
    return renamed


def checked_schema(output: OutputFormat) -> Mapping[str, object]:
    """Give the schema of an output format that has one, else that of any object."""
    return output.schema if output.schema is not None else {"type": "object"}


def _shortened(text: str, given: str, most: int) -> str:
    """Cut `text`, with a mark made of what was `given`: equal for equal, different for different."""
    return f"{text[: most - 9]}_{zlib.crc32(given.encode('utf-8', 'replace')):08x}"
