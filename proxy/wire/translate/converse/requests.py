"""Requests of Converse, written."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from proxy.wire.translate import effort
from proxy.wire.translate.core import (
    Conversation,
    Target,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    Written,
)
from proxy.wire.translate.fields import encode
from proxy.wire.translate.messages.requests import fit, generation, write_turns
from proxy.wire.translate.words import Drops, safe_id, safe_names

__all__ = ["FAMILY", "write_request"]

FAMILY = "bedrock.converse"
MAX_NAME = 64
MAX_ID = 64

# Of documents: Amazon takes letters, digits, single blanks, hyphens, parentheses and brackets.
_UNNAMABLE = re.compile(r"[^A-Za-z0-9\s\-()\[\]]+|\s+")
_FORMATS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
_UNKNOWN_SAMPLING = (
    *("min_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "seed"),
    *("logit_bias", "top_logprobs"),
)
_TIERS = {"auto": None, "default": "default", "flex": "flex", "priority": "priority"}


def write_request(conversation: Conversation, target: Target) -> Written:
    """Write a Converse body; raises `CannotExpress`. The model goes into the URL."""
    drops = Drops(conversation, FAMILY)
    claude = "claude" in target.model
    calls = [
        part.name
        for turn in conversation.turns
        for part in turn.parts
        if isinstance(part, ToolCall)
    ]
    renamed = safe_names((*(tool.name for tool in conversation.tools), *calls), MAX_NAME)
    system, messages = write_turns(conversation, renamed, drops)
    if messages[-1]["role"] == "assistant" and claude and generation(target.model) >= (4, 6):
        raise drops.cannot(
            "turns", "this model does not continue an answer; end with a user's turn."
        )
    body: dict[str, Any] = {
        "messages": [
            {
                "role": message["role"],
                "content": list(_write_blocks(message["content"], drops, proofs=claude)),
            }
            for message in messages
        ]
    }
    if system:
        body["system"] = list(_write_system(system))
    forced = _write_tools(conversation, body, renamed, drops)
    _write_options(conversation, body, target, messages, drops, forced=forced)
    return Written(encode(body), drops.names(), {new: old for old, new in renamed.items()})


def _write_system(system: Iterable[Text]) -> Iterator[dict[str, Any]]:
    for text in system:
        yield {"text": text.text}
        if text.cache is not None:
            yield _cache_point({"ttl": text.cache})


def _cache_point(mark: dict[str, Any]) -> dict[str, Any]:
    point = {"type": "default"}
    ttl = mark.get("ttl")
    if ttl:
        point["ttl"] = "5m" if ttl == "5m" else "1h"
    return {"cachePoint": point}


def _write_blocks(blocks: Any, drops: Drops, *, proofs: bool) -> Iterator[dict[str, Any]]:
    """Put Anthropic's blocks into Amazon's words; a mark on a block is a point after it."""
    if isinstance(blocks, str):
        yield {"text": blocks}
        return
    for number, block in enumerate(blocks):
        written = _write_block(block, number, drops, proofs=proofs)
        if written is not None:
            yield written
        mark = block.get("cache_control")
        if mark is not None:
            yield _cache_point(mark)


def _write_block(
    block: dict[str, Any], number: int, drops: Drops, *, proofs: bool
) -> dict[str, Any] | None:
    match block["type"]:
        case "text":
            return {"text": block["text"]}
        case "image":
            source = block["source"]
            if source["type"] != "base64":
                raise drops.cannot("turns", "this model's vendor fetches nothing; send the data.")
            form = source["media_type"].partition("/")[2]
            return {"image": {"format": form, "source": {"bytes": source["data"]}}}
        case "document":
            return _write_document(block, number, drops)
        case "tool_use":
            use = {
                "toolUseId": safe_id(block["id"], MAX_ID),
                "name": block["name"],
                "input": block["input"],
            }
            return {"toolUse": use}
        case "tool_result":
            content = list(_write_blocks(block.get("content", ()), drops, proofs=proofs))
            result = {
                "toolUseId": safe_id(block["tool_use_id"], MAX_ID),
                "content": content or [{"text": ""}],
            }
            result["status"] = "error" if block.get("is_error") else "success"
            return {"toolResult": result}
        case "thinking" if proofs:
            text = {"text": block["thinking"], "signature": block["signature"]}
            return {"reasoningContent": {"reasoningText": text}}
        case "redacted_thinking" if proofs:
            return {"reasoningContent": {"redactedContent": block["data"]}}
        case _:
            drops.add("reasoning")
            return None


def _write_document(block: dict[str, Any], number: int, drops: Drops) -> dict[str, Any]:
    source = block["source"]
    if source["type"] == "url":
        raise drops.cannot("turns", "this model's vendor fetches nothing; send the data.")
    name = _UNNAMABLE.sub(" ", block.get("title") or "").strip() or f"document {number}"
    written: dict[str, Any] = {"name": name[:200]}
    if source["type"] == "text":
        written |= {"format": "txt", "source": {"text": source["data"]}}
    else:
        form = _FORMATS[source["media_type"]]
        written |= {"format": form, "source": {"bytes": source["data"]}}
    if block.get("context") is not None:
        written["context"] = block["context"]
    return {"document": written}


def _write_tools(
    conversation: Conversation, body: dict[str, Any], renamed: dict[str, str], drops: Drops
) -> bool:
    """Write the tools and which to call; say whether one must be called."""
    choice, tools = conversation.tool_choice, conversation.tools
    if choice is not None and len(choice.names) > (choice.mode == "required"):
        # What may not be called is not offered.
        tools = tuple(tool for tool in tools if tool.name in choice.names)
        choice = ToolChoice(choice.mode)
    if choice is not None and choice.mode == "none" and tools:
        used = any(
            "toolUse" in block for message in body["messages"] for block in message["content"]
        )
        if used:
            # Amazon has no "none", and wants the tools to be there when they were called before.
            drops.add("tool_choice")
            choice = None
        else:
            tools = ()
    if not tools:
        return False
    written: list[dict[str, Any]] = []
    for tool in tools:
        written.append({"toolSpec": _write_tool(tool, renamed, drops)})
        if tool.cache is not None:
            written.append(_cache_point({"ttl": tool.cache}))
    config: dict[str, Any] = {"tools": written}
    if choice is not None:
        match choice.mode:
            case "required" if choice.names:
                name = choice.names[0]
                config["toolChoice"] = {"tool": {"name": renamed.get(name, name)}}
            case "required":
                config["toolChoice"] = {"any": {}}
            case _:
                config["toolChoice"] = {"auto": {}}
    body["toolConfig"] = config
    if conversation.parallel_tool_calls is False:
        drops.add("parallel_tool_calls")
    return choice is not None and choice.mode == "required"


def _write_tool(tool: Tool, renamed: dict[str, str], drops: Drops) -> dict[str, Any]:
    if tool.custom:
        raise drops.cannot("tools", f"the tool {tool.name} takes free text; give it a schema.")
    schema = dict(tool.schema) if tool.schema else {}
    schema.setdefault("type", "object")
    written: dict[str, Any] = {"name": renamed.get(tool.name, tool.name)}
    if tool.description:
        written["description"] = tool.description
    written["inputSchema"] = {"json": schema}
    if tool.strict is not None:
        written["strict"] = tool.strict
    return written


def _write_options(
    conversation: Conversation,
    body: dict[str, Any],
    target: Target,
    messages: list[dict[str, Any]],
    drops: Drops,
    *,
    forced: bool,
) -> None:
    if conversation.n > 1:
        raise drops.cannot("n", "this model's vendor gives one answer at a time.")
    sampling = conversation.sampling
    if sampling.logprobs:
        raise drops.cannot("logprobs", "this model's vendor gives none.")
    drops.add_sampling(sampling, *_UNKNOWN_SAMPLING)
    claude = "claude" in target.model
    more: dict[str, Any] = {}
    config: dict[str, Any] = {}
    cap = target.output_cap if target.output_cap is not None else conversation.max_tokens
    if claude:
        # What a Claude takes of thinking and of drawing tokens is the same everywhere.
        fitted = fit(conversation, target, messages, drops, forced=forced)
        cap = fitted.pop("max_tokens")
        for name, word in (("temperature", "temperature"), ("top_p", "topP")):
            if name in fitted:
                config[word] = fitted.pop(name)
        chosen = fitted.pop("output_config", {})
        if "effort" in chosen:
            more["output_config"] = {"effort": chosen["effort"]}
        more |= fitted
    else:
        for name, word in (("temperature", "temperature"), ("top_p", "topP")):
            value = getattr(sampling, name)
            if value is not None:
                config[word] = value
        drops.add_sampling(sampling, "top_k")
        _write_thinking(conversation, target, more, drops)
    if cap is not None:
        config["maxTokens"] = cap
    if conversation.stop:
        config["stopSequences"] = list(conversation.stop)
    if config:
        body["inferenceConfig"] = config
    if more:
        body["additionalModelRequestFields"] = more
    _write_output(conversation, body, drops)
    for field in ("user", "verbosity"):
        if getattr(conversation, field) is not None:
            drops.add(field)
    tier = conversation.service_tier
    if tier is not None:
        if _TIERS.get(tier) is not None:
            body["serviceTier"] = {"type": _TIERS[tier]}
        elif tier not in _TIERS:
            drops.add("service_tier")


def _write_thinking(
    conversation: Conversation, target: Target, more: dict[str, Any], drops: Drops
) -> None:
    """Say how much to think to models that are not Anthropic's: each in its own words, where known."""
    thinking = conversation.thinking
    if thinking is None:
        return
    word = effort.effort_of(thinking)
    if "gpt-oss" in target.model and word is not None and not thinking.off:
        more["reasoning_effort"] = effort.nearest(word, ("low", "medium", "high"))
    elif not thinking.off:
        drops.add("thinking")


def _write_output(conversation: Conversation, body: dict[str, Any], drops: Drops) -> None:
    output = conversation.output
    if output is None:
        return
    if output.schema is None:
        raise drops.cannot("output", "this model writes JSON by a schema only; give json_schema.")
    schema: dict[str, Any] = {"schema": encode(output.schema).decode()}
    if output.name:
        schema["name"] = output.name
    if output.description:
        schema["description"] = output.description
    form = {"type": "json_schema", "structure": {"jsonSchema": schema}}
    body["outputConfig"] = {"textFormat": form}
