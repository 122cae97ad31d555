"""An assistant's message: what stands in it in requests and in answers alike."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from proxy.wire.look import BadField
from proxy.wire.translate.core import Maker, Reasoning, Refusal, Text, ToolCall
from proxy.wire.translate.fields import Fields, encode
from proxy.wire.translate.words import safe_id

__all__ = ["DATA_URL", "detail_of", "read_calls", "read_details", "read_reasoning", "write_message"]

# data:[<type>][;parameters];base64,<data>   (RFC 2397)
DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]+)*?;base64,", re.IGNORECASE)

# OpenRouter's names of who signed.
_FORMATS: dict[Maker, str] = {
    "anthropic": "anthropic-claude-v1",
    "google": "google-gemini-v1",
    "openai": "openai-responses-v1",
    "": "unknown",
}
_MAKERS: dict[Any, Maker] = {
    "anthropic-claude-v1": "anthropic",
    "google-gemini-v1": "google",
    "openai-responses-v1": "openai",
}


def read_reasoning(message: Fields) -> list[Reasoning]:
    """Take an assistant's reasoning, wherever its vendor puts it."""
    plain = message.any("reasoning_content")
    other = message.any("reasoning")
    details = read_details(message.any("reasoning_details"))
    # LiteLLM's way of carrying Anthropic's blocks.
    blocks = message.any("thinking_blocks")
    if not details and isinstance(blocks, list):
        details = [
            Reasoning(
                _text(block.get("thinking")),
                _text(block.get("signature")) or None,
                _text(block.get("data")) or None,
                "anthropic",
            )
            for block in blocks
            if isinstance(block, dict)
        ]
    if any(part.text for part in details):
        return details
    text = _text(plain) or _text(other)
    if text and details and details[0].redacted is not None:
        # What is shown of reasoning that is hidden.
        return [msgspec.structs.replace(details[0], text=text), *details[1:]]
    return ([Reasoning(text)] if text else []) + details


def read_details(details: Any) -> list[Reasoning]:
    """Read ``reasoning_details``; what is no reasoning is passed over."""
    found: list[Reasoning] = []
    for detail in details if isinstance(details, list) else ():
        if not isinstance(detail, dict):
            continue
        maker = _MAKERS.get(detail.get("format"), "")
        match detail.get("type"):
            case "reasoning.encrypted":
                data = _text(detail.get("data"))
                if data and maker == "google":
                    found.append(Reasoning(signature=data, maker=maker))
                elif data:
                    found.append(Reasoning(redacted=data, maker=maker))
            case "reasoning.summary":
                found.append(Reasoning(_text(detail.get("summary"))))
            case _:
                text, signature = _text(detail.get("text")), _text(detail.get("signature"))
                if text or signature:
                    found.append(Reasoning(text, signature or None, maker=maker))
    return found


def detail_of(part: Reasoning, number: int) -> dict[str, Any]:
    """Write what the maker of `part` wants back, as the entry `number` of ``reasoning_details``."""
    if part.redacted is not None:
        return {
            "type": "reasoning.encrypted",
            "data": part.redacted,
            "format": _FORMATS[part.maker],
            "index": number,
        }
    return {
        "type": "reasoning.text",
        "text": part.text,
        "signature": part.signature,
        "format": _FORMATS[part.maker],
        "index": number,
    }


def read_calls(calls: Iterable[Fields], extra: dict[str, Any]) -> list[Reasoning | ToolCall]:
    """Read tool calls, each after the signature it carries."""
    found: list[Reasoning | ToolCall] = []
    for call in calls:
        signature = _google_signature(call.any("extra_content"))
        if signature:
            found.append(Reasoning(signature=signature, maker="google"))
        kind = call.text("type") or ("custom" if call.has("custom") else "function")
        if kind not in {"function", "custom"}:
            raise BadField(call.at("type"), f"{call.at('type')} must be function or custom.")
        body = call.need_fields(kind)
        text = body.any("input" if kind == "custom" else "arguments")
        if isinstance(text, dict):  # of servers that do not write JSON into a string
            text = encode(text).decode()
        if text is not None and not isinstance(text, str):
            raise body.wrong("arguments", str)
        found.append(
            ToolCall(call.text("id") or "", body.need_text("name"), text or "", kind == "custom")
        )
        call.any("index")
        extra.update(call.rest())
        extra.update(body.rest())
    return found


def write_message(
    parts: Sequence[Any], *, reasoning: str, details: bool, most_id: int
) -> dict[str, Any]:
    """
    Write an assistant's message without its role.

    `reasoning` is the field for reasoning's text ("" for none) and `details` says whether
    ``reasoning_details`` and ``extra_content`` are written.
    """
    texts: list[str] = []
    refusals: list[str] = []
    thoughts: list[str] = []
    signed: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    pending: Reasoning | None = None
    for part in parts:
        match part:
            case Text():
                texts.append(part.text)
            case Refusal():
                refusals.append(part.text)
            case Reasoning():
                thoughts.append(part.text)
                if part.maker == "google" and part.signature and not part.text:
                    pending = part
                elif part.signature or part.redacted or part.text:
                    signed.append(detail_of(part, len(signed)))
            case ToolCall():
                call = write_call(part, most_id)
                if pending is not None and details:
                    call["extra_content"] = {"google": {"thought_signature": pending.signature}}
                pending = None
                calls.append(call)
    if pending is not None:
        signed.append(detail_of(pending, len(signed)))
    message: dict[str, Any] = {"content": "".join(texts) if texts or not calls else None}
    if refusals:
        message["refusal"] = "".join(refusals)
        message["content"] = "".join(texts) if texts else None
    thought = "".join(thoughts)
    if thought and reasoning:
        message[reasoning] = thought
    if details and any("signature" not in entry or entry["signature"] for entry in signed):
        message["reasoning_details"] = signed
    if calls:
        message["tool_calls"] = calls
    return message


def write_call(call: ToolCall, most_id: int) -> dict[str, Any]:
    """Write one tool call."""
    if call.custom:
        return {
            "id": safe_id(call.id, most_id),
            "type": "custom",
            "custom": {"name": call.name, "input": call.arguments},
        }
    return {
        "id": safe_id(call.id, most_id),
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments or "{}"},
    }


def _google_signature(extra_content: Any) -> str:
    google = extra_content.get("google") if isinstance(extra_content, dict) else None
    return _text(google.get("thought_signature")) if isinstance(google, dict) else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
