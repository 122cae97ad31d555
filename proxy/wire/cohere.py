"""
A look at a request for embeddings of Cohere's, and what an answer says of its usage.

Protocol: Cohere's API reference for /v2/embed.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct

from proxy.wire.look import (
    ABSENT,
    MESSAGE_BOUND,
    TEMPLATE_BOUND,
    Look,
    carve,
    check_model,
    decode,
    inner,
    is_plain,
)
from proxy.wire.meter import MAX_TOKENS, Usage

__all__ = ["Billed", "Meta", "counted", "look_embed", "meter_embed", "tokens_in"]

# Tokens of an image, likely and at most: a tile of 512 x 512, and what a picture of 5 MB may have of them.
IMAGE_TOKENS = (1_000, 16_000)


class _Asked(Struct, gc=False):
    model: str
    texts: Raw = ABSENT
    images: Raw = ABSENT
    inputs: Raw = ABSENT


class Billed(Struct, gc=False):
    """What Cohere bills an answer by; None where it does not."""

    search_units: float | None = None
    input_tokens: float | None = None
    image_tokens: float | None = None


class Meta(Struct, gc=False):
    """What an answer says of itself."""

    billed_units: Billed | None = None


class _Answer(Struct, gc=False):
    meta: Meta | None = None


_ASKED = msgspec.json.Decoder(_Asked)
_TEXTS = msgspec.json.Decoder(list[str])
_ITEMS = msgspec.json.Decoder(list[Raw])
_ANSWER = msgspec.json.Decoder(_Answer)
_KEYS = re.compile(rb'"(?:model|texts|images|inputs)"')


def look_embed(body: bytes) -> Look:
    """Look at a request. Raises `BadField`."""
    doc: _Asked = decode(_ASKED, body)
    large = [
        (name, raw)
        for name, raw in (("texts", doc.texts), ("images", doc.images), ("inputs", doc.inputs))
        if len(raw)
    ]
    frame, cuts = carve(body, large)
    plain = is_plain(frame, _KEYS, 1 + len(large))
    check_model(doc.model)
    count = size = images = 0
    if len(doc.texts):
        texts = inner(_TEXTS, doc.texts, "texts", "an array of texts")
        count, size = len(texts), sum(len(text.encode()) for text in texts)
    if len(doc.inputs):
        count += len(inner(_ITEMS, doc.inputs, "inputs", "an array of inputs"))
        size += len(doc.inputs)
    if len(doc.images):
        images = len(inner(_ITEMS, doc.images, "images", "an array of images"))
    return Look(
        doc.model,
        False,
        False,
        None,
        1,
        None,
        max((size + 3) // 4, count) + IMAGE_TOKENS[0] * images,
        size + MESSAGE_BOUND * count + TEMPLATE_BOUND + IMAGE_TOKENS[1] * images,
        None,
        count + images,
        frame,
        cuts,
        plain,
        (),
        False,
    )


def meter_embed(body: bytes) -> Usage | None:
    """Read what an answer was billed; None when it does not say."""
    # What is billed stands behind the vectors; of a long answer the end is enough.
    at = body.rfind(b'"meta"')
    try:
        meta = _ANSWER.decode(b"{" + body[at:]).meta if at >= 0 else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            meta = _ANSWER.decode(body).meta
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
    billed = None if meta is None else meta.billed_units
    if billed is None or (billed.input_tokens is None and billed.image_tokens is None):
        return None
    return Usage(input_tokens=counted(billed.input_tokens) + counted(billed.image_tokens))


def counted(value: float | None) -> int:
    """Give a count that can be one, else 0."""
    return int(value) if value is not None and 0 <= value <= MAX_TOKENS else 0


def tokens_in(document: Any) -> int:
    """Say that vectors are no output."""
    return 0
