"""
A look at a request of Ollama's API: what the gateway must know of it, and the few bytes it changes.

Only the model's name, and under a budget or a model's ceiling ``options.num_predict``, ever change; how a body is
looked at, and how tokens are estimated, stands in `look`. A stream is the default.

Protocol: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

import re

import msgspec
from msgspec import Raw

from proxy.wire import json_edit
from proxy.wire.look import (
    ABSENT,
    MESSAGE_BOUND,
    MESSAGE_TOKENS,
    SMALL_TOOLS,
    TEMPLATE_BOUND,
    TOOLS_BOUND,
    BadField,
    Look,
    carve,
    check_model,
    checked_cap,
    decode,
    escape_surplus,
    inner,
    is_plain,
    model_span,
    splice,
)
from proxy.wire.openai import IMAGE_TOKENS

__all__ = ["look_chat", "look_embed", "look_generate", "rewrite"]

_KEYS = re.compile(rb'"(?:m(?:odel|essages)|stream|prompt|input|options)"')
# What may be large, and is cut out of the frame.
_LARGE = ("messages", "prompt", "input", "images", "tools")


class _Options(msgspec.Struct, gc=False):
    num_predict: int | None = None


class _Request(msgspec.Struct, gc=False):
    model: str
    stream: bool | None = None
    messages: Raw = ABSENT
    prompt: Raw = ABSENT
    input: Raw = ABSENT
    images: Raw = ABSENT
    tools: Raw = ABSENT
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
    if not len(doc.input) and not len(doc.prompt):
        raise BadField("input", "input is missing; add it", "missing")
    return _look(body, doc, 1, [], answers=False)


def rewrite(
    body: bytes,
    seen: Look,
    *,
    upstream_model: str,
    include_usage: bool,
    output_cap: int | None,
    cap_field: str | None,
) -> bytes:
    """
    Give the body that goes upstream; `body` itself when nothing has to change.

    `seen` is what a look found in this very body. The model's name becomes `upstream_model`, and
    ``options.num_predict`` the `output_cap` where there is one.
    """
    edits: list[tuple[int, int, bytes]] = []
    if upstream_model != seen.model:
        edits.append((*model_span(seen), msgspec.json.encode(upstream_model)))
    if output_cap is not None and seen.output_cap != output_cap:
        # A frame in plain letters that does not name them has none.
        there = not seen.plain or seen.frame.find(b'"options"') >= 0
        span = json_edit.locate(seen.frame, "options") if there else None
        if span is None:
            brace = seen.frame.index(b"{") + 1
            edits.append((brace, brace, b'"options":{"num_predict":%d},' % output_cap))
        else:
            options = seen.frame[span[0] : span[1]]
            new = {"num_predict": b"%d" % output_cap}
            if not options.startswith(b"{"):  # null
                options = b"{}"
            edits.append((*span, json_edit.edit(options, insert=new, remove=("num_predict",))))
    return splice(body, seen, edits)


def _look(
    body: bytes, doc: _Request, count: int, images: list[str], *, answers: bool = True
) -> Look:
    frame: bytes = body
    cuts: tuple[tuple[int, int], ...] = ()
    if len(body) > SMALL_TOOLS:
        large = [(name, raw) for name in _LARGE if len(raw := getattr(doc, name)) > SMALL_TOOLS]
        if large:
            frame, cuts = carve(body, large)
    plain = is_plain(
        frame,
        _KEYS,
        1
        + (len(doc.messages) > 0)
        + (len(doc.prompt) > 0)
        + (len(doc.input) > 0)
        + (doc.stream is not None)
        + (doc.options is not None),
    )
    check_model(doc.model)
    cap = None
    # -1 and -2 are Ollama's words for no cap.
    if answers and doc.options is not None and doc.options.num_predict not in {None, -1, -2}:
        cap = checked_cap("options.num_predict", doc.options.num_predict or 0)
    size = len(body) - sum(map(len, images)) - escape_surplus(body)
    return Look(
        doc.model,
        answers and doc.stream is not False,
        True,
        cap,
        1,
        None,
        size // 4 + MESSAGE_TOKENS * count + IMAGE_TOKENS[0] * len(images),
        size + MESSAGE_BOUND * count + TEMPLATE_BOUND + TOOLS_BOUND + IMAGE_TOKENS[1] * len(images),
        None,
        count,
        frame,
        cuts,
        plain,
        (),
        False,
    )
