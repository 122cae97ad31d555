"""The parts of Gemini's contents: what stands in requests and in answers alike."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from proxy.wire.translate.carried import unwrap, wrap
from proxy.wire.translate.core import BadAnswer, Reasoning, Refusal, Text, ToolCall
from proxy.wire.translate.fields import Fields, decode_object

__all__ = ["NO_SIGNATURE", "ProtoFields", "add_thought", "reasoning_of", "write_said"]

# What Google documents for calls that no Gemini made: their signature is not asked for.
NO_SIGNATURE = "skip_thought_signature_validator"

_SNAKE = re.compile(r"_([a-z0-9])")


class ProtoFields(Fields):
    """An object of Google's JSON, whose members have two spellings; paths are in the first."""

    __slots__ = ()

    def __init__(self, value: Any, path: str = "") -> None:
        if type(value) is dict:
            value = {_camel(name): member for name, member in value.items()}
        super().__init__(value, path)


def reasoning_of(signature: str) -> Reasoning:
    """Read a signature: Google's own, or another vendor's reasoning that was wrapped."""
    return unwrap(signature) or Reasoning(signature=signature, maker="google")


def add_thought(found: list[Any], text: str, signature: str | None) -> None:
    """
    Add a thought to what was said before.

    A streamed one comes in pieces, and its proof perhaps in a piece without text: together they are
    one, because whoever signed it wants it whole.
    """
    proof = reasoning_of(signature) if signature else Reasoning()
    text = text or proof.text
    before = found[-1] if found else None
    if isinstance(before, Reasoning) and not before.signature and not before.redacted:
        found[-1] = msgspec.structs.replace(proof, text=before.text + text)
    else:
        found.append(msgspec.structs.replace(proof, text=text))


def write_said(
    said: Iterable[Text | Refusal | Reasoning | ToolCall],
    renamed: Mapping[str, str],
    *,
    foreign: bool,
) -> Iterator[dict[str, Any]]:
    """
    Write what a model said, part by part.

    `foreign` says whether other vendors' proofs are carried: to callers they are, to Google never.
    Raises `BadAnswer` when a call's arguments are no JSON object.
    """
    pending: str | None = None
    for part in said:
        written: dict[str, Any] = {}
        match part:
            case Reasoning():
                if part.maker == "google" and part.signature is not None:
                    if part.text:
                        yield {"text": part.text, "thought": True}
                    pending = part.signature
                elif foreign or part.text:
                    written = {"text": part.text, "thought": True}
                    if foreign and (part.signature or part.redacted):
                        written["thoughtSignature"] = wrap(part)
                    yield written
                continue
            case ToolCall():
                arguments = None if part.custom else decode_object(part.arguments)
                if arguments is None:
                    raise BadAnswer(f"the arguments of {part.name} are no JSON object")
                call = {"name": renamed.get(part.name, part.name), "args": arguments}
                if part.id:
                    call["id"] = part.id
                written = {"functionCall": call}
            case _:
                written = {"text": part.text}
        if pending is not None:
            written["thoughtSignature"] = pending
            pending = None
        yield written
    if pending is not None:
        yield {"text": "", "thoughtSignature": pending}


def _camel(name: str) -> str:
    return _SNAKE.sub(lambda found: found[1].upper(), name) if "_" in name else name
