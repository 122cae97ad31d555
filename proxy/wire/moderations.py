"""
OpenAI's Moderations: text and pictures to be judged; most vendors make no charge.

An answer says nothing of usage, so that what is sold by the token is charged by the estimate of the input.

Protocol: OpenAI's API reference for moderations.
"""

import re
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from proxy.wire.look import ABSENT as _ABSENT
from proxy.wire.look import (
    TEMPLATE_BOUND,
    BadField,
    Look,
    carve,
    check_model,
    decode,
    hints_in,
    is_plain,
    uncapped,
)

__all__ = ["look", "tokens_in"]

# What a call means that names no model (OpenAI's reference).
DEFAULT_MODEL: Final = "omni-moderation-latest"


class _Asked(Struct, gc=False):
    input: Raw
    model: str | None = None
    user: str | None = None
    metadata: Raw = _ABSENT


_ASKED = msgspec.json.Decoder(_Asked)
_KEYS = re.compile(rb'"(?:model|input)"')


def look(body: bytes) -> Look:
    """Look at a request. Raises `BadField`."""
    doc: _Asked = decode(_ASKED, body)
    frame, cuts = carve(body, (("input", doc.input),))
    plain = is_plain(frame, _KEYS, 1 + (doc.model is not None))
    size = len(doc.input)
    if bytes(doc.input)[:1] not in {b'"', b"["}:
        raise BadField("input", "input must be a string or an array", "invalid_type")
    model = DEFAULT_MODEL if doc.model is None else doc.model
    check_model(model)
    return uncapped(
        model,
        user=doc.user,
        input_estimate=(size + 3) // 4,
        input_bound=size + TEMPLATE_BOUND,
        hints=hints_in(doc.metadata) if len(doc.metadata) else None,
        frame=frame,
        cuts=cuts,
        plain=plain,
    )


def tokens_in(document: Any) -> int:
    """Say that a judgement is no output."""
    return 0
