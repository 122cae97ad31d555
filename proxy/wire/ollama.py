"""
A look at a request of Ollama's API: what the gateway must know of it.

Callers may speak it; providers are spoken to in other protocols (an Ollama server speaks OpenAI's, too), so
that nothing here is rewritten. A stream is the default.

Protocol: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from typing import Any

import msgspec
from msgspec import Raw

from proxy.wire.look import (
    ABSENT,
    MESSAGE_BOUND,
    MESSAGE_TOKENS,
    TEMPLATE_BOUND,
    TOOLS_BOUND,
    BadField,
    Look,
    check_model,
    checked_cap,
    decode,
    escape_surplus,
    inner,
)
from proxy.wire.openai import IMAGE_TOKENS

__all__ = ["as_it_is", "look_chat", "look_embed", "look_generate"]


class _Options(msgspec.Struct, gc=False):
    num_predict: int | None = None


class _Request(msgspec.Struct, gc=False):
    model: str
    stream: bool | None = None
    messages: Raw = ABSENT
    prompt: Raw = ABSENT
    input: Raw = ABSENT
    images: Raw = ABSENT
    options: _Options | None = None


class _Message(msgspec.Struct, gc=False):
    images: list[str] | None = None


_REQUEST = msgspec.json.Decoder(_Request)
_MESSAGES = msgspec.json.Decoder(list[_Message])
_IMAGES = msgspec.json.Decoder(list[str] | None)


def look_chat(body: bytes) -> Look:
    """Look at a request of /api/chat. Raises `BadField`."""
    doc: _Request = decode(_REQUEST, body)
    messages: list[_Message] = []
    if len(doc.messages):
        messages = inner(_MESSAGES, doc.messages, "messages", "an array of message objects")
    images = [image for message in messages for image in message.images or ()]
    return _look(body, doc, len(messages), images)


def look_generate(body: bytes) -> Look:
    """Look at a request of /api/generate. Raises `BadField`."""
    doc: _Request = decode(_REQUEST, body)
    images: list[str] = []
    if len(doc.images):
        images = inner(_IMAGES, doc.images, "images", "an array of strings") or []
    return _look(body, doc, 1, images)


def look_embed(body: bytes) -> Look:
    """Look at a request of /api/embed, or of the older /api/embeddings. Raises `BadField`."""
    doc: _Request = decode(_REQUEST, body)
    doc.stream = False
    doc.options = None
    if not len(doc.input) and not len(doc.prompt):
        raise BadField("input", "input is missing; add it", "missing")
    return _look(body, doc, 1, [])


def as_it_is(body: bytes, seen: Look, **_: Any) -> bytes:
    """Give the body: nobody is asked in this protocol."""
    return body


def _look(body: bytes, doc: _Request, count: int, images: list[str]) -> Look:
    check_model(doc.model)
    cap = None
    # -1 and -2 are Ollama's words for no cap.
    if doc.options is not None and doc.options.num_predict not in {None, -1, -2}:
        cap = checked_cap("options.num_predict", doc.options.num_predict or 0)
    size = len(body) - sum(map(len, images)) - escape_surplus(body)
    return Look(
        doc.model,
        doc.stream is not False,
        True,
        cap,
        ("options.num_predict",) if cap is not None else (),
        1,
        None,
        size // 4 + MESSAGE_TOKENS * count + IMAGE_TOKENS[0] * len(images),
        size + MESSAGE_BOUND * count + TEMPLATE_BOUND + TOOLS_BOUND + IMAGE_TOKENS[1] * len(images),
        None,
        count,
        body,
        (),
        True,
        (),
        False,
    )
