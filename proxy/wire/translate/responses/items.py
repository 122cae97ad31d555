"""The items of Responses: what stands in its input and in its output alike."""

from typing import Any

import msgspec

from proxy.wire.translate.carried import unwrap, wrap
from proxy.wire.translate.core import Conversation, Reasoning, ToolCall, namespaced
from proxy.wire.translate.fields import Fields

__all__ = [
    "call_item",
    "message_item",
    "namespace_of",
    "read_call",
    "read_reasoning",
    "reasoning_item",
    "reasoning_of",
    "sealed",
]

# Parts of a summary are paragraphs.
PARAGRAPH = "\n\n"


def read_reasoning(item: Fields) -> Reasoning:
    """Read a reasoning item."""
    texts = [part.text("text") or "" for part in item.each("content")]
    summaries = [part.text("text") or "" for part in item.each("summary")]
    for known in ("id", "status"):
        item.any(known)
    text = PARAGRAPH.join(text for text in texts or summaries if text)
    return reasoning_of(text, item.text("encrypted_content"))


def reasoning_of(text: str, encrypted: str | None) -> Reasoning:
    """Read what an item's ``encrypted_content`` is: OpenAI's own, or another vendor's proof."""
    if not encrypted:
        return Reasoning(text)
    foreign = unwrap(encrypted)
    if foreign is None:
        return Reasoning(text, redacted=encrypted, maker="openai")
    # The proof is of the text that was wrapped with it, not of what a client shows of it.
    return foreign if foreign.text else msgspec.structs.replace(foreign, text=text)


def sealed(part: Reasoning) -> str | None:
    """Give what to write as ``encrypted_content``; None when there is nothing to prove."""
    if part.maker == "openai" and part.redacted is not None:
        return part.redacted
    if part.signature is None and part.redacted is None:
        return None
    return wrap(part, with_text=True)


def reasoning_item(part: Reasoning, given: str) -> dict[str, Any]:
    """Write a reasoning item."""
    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
    item: dict[str, Any] = {"id": given, "type": "reasoning", "summary": summary}
    encrypted = sealed(part)
    if encrypted is not None:
        item["encrypted_content"] = encrypted
    return item


def message_item(content: list[dict[str, Any]], given: str, status: str) -> dict[str, Any]:
    """Write an assistant's message."""
    return {
        "id": given,
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def text_part(text: str) -> dict[str, Any]:
    """Write text within a message."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def refusal_part(text: str) -> dict[str, Any]:
    """Write a refusal within a message."""
    return {"type": "refusal", "refusal": text}


def read_call(item: Fields, kind: str) -> ToolCall:
    """Read a call of a function or of a custom tool."""
    custom = kind == "custom_tool_call"
    for known in ("id", "status", "caller"):
        item.any(known)
    name, namespace = item.need_text("name"), item.text("namespace")
    return ToolCall(
        item.need_text("call_id"),
        namespaced(namespace, name) if namespace else name,
        item.text("input" if custom else "arguments") or "",
        custom,
    )


def namespace_of(name: str, conversation: Conversation | None) -> tuple[str, str]:
    """Give a called tool's name and the namespace in which the caller has it, empty for none."""
    for tool in () if conversation is None else conversation.tools:
        if tool.namespace and tool.name == name:
            return name[len(namespaced(tool.namespace, "")) :], tool.namespace
    return name, ""


def call_item(
    call: ToolCall, given: str, status: str, conversation: Conversation | None = None
) -> dict[str, Any]:
    """Write a call of a function or of a custom tool; `conversation` knows of namespaces."""
    name, namespace = namespace_of(call.name, conversation)
    item: dict[str, Any] = {
        "id": given,
        "type": "custom_tool_call" if call.custom else "function_call",
        "status": status,
        "call_id": call.id,
        "name": name,
    }
    if namespace:
        item["namespace"] = namespace
    if call.custom:
        item["input"] = call.arguments
    else:
        item["arguments"] = call.arguments
    return item
