"""An assistant's content blocks: what stands in requests and in answers alike."""

from collections.abc import Iterable
from typing import Any

from proxy.wire.translate.carried import unwrap, wrap
from proxy.wire.translate.core import Reasoning
from proxy.wire.translate.fields import Fields

__all__ = [
    "joined",
    "read_redacted",
    "read_signed",
    "read_thinking",
    "signature_of",
    "write_thinking",
]


def read_thinking(block: Fields, kind: str) -> Reasoning:
    """Read a ``thinking`` or ``redacted_thinking`` block."""
    if kind == "redacted_thinking":
        return read_redacted(block.need_text("data"))
    return read_signed(block.text("thinking") or "", block.text("signature") or "")


def read_signed(text: str, signature: str) -> Reasoning:
    """Read reasoning and its signature, Anthropic's or a wrapped one."""
    if not signature:
        return Reasoning(text)
    foreign = unwrap(signature)
    if foreign is not None:
        return Reasoning(text, foreign.signature, foreign.redacted, foreign.maker)
    return Reasoning(text, signature, maker="anthropic")


def read_redacted(data: str) -> Reasoning:
    """Read redacted reasoning, Anthropic's or a wrapped one."""
    return unwrap(data) or Reasoning(redacted=data, maker="anthropic")


def write_thinking(part: Reasoning) -> dict[str, Any]:
    """Write reasoning for a caller: whatever of another vendor it holds is wrapped."""
    if part.redacted is not None and (part.maker == "anthropic" or not part.text):
        data = part.redacted if part.maker == "anthropic" else wrap(part)
        return {"type": "redacted_thinking", "data": data}
    return {"type": "thinking", "thinking": part.text, "signature": signature_of(part)}


def signature_of(part: Reasoning) -> str:
    """Give what to write as the signature of reasoning; "" when nobody signed it."""
    if part.signature is None and part.redacted is None:
        return ""
    if part.maker == "anthropic":
        return part.signature or ""
    return wrap(part)


def joined(texts: Iterable[str]) -> str:
    """Join texts that stand one after the other."""
    return "\n".join(text for text in texts if text)
