"""
OpenAI's Images: what is asked of a generation, an edit or a variation, and what its answers used.

A request is JSON, or a form where pictures are sent along. What it may use is images, by quality and size, and
for models that are sold by the token the tokens of those.

**The end.** A stream ends with ``image_generation.completed`` or ``image_edit.completed``, once for each image;
there is no ``[DONE]``. Before it come partial images, each an event as large as a picture.

Protocol: OpenAI's API reference for images and for image streaming events.
"""

import re
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from proxy.wire import forms
from proxy.wire.look import (
    ABSENT,
    TEMPLATE_BOUND,
    BadField,
    Look,
    carve,
    check_model,
    checked_choices,
    decode,
    inner,
    is_plain,
    named,
    uncapped,
)
from proxy.wire.meter import MAX_TOKENS, Units, Usage, within
from proxy.wire.openai import IMAGE_TOKENS
from proxy.wire.typed_events import events_ending_in, nothing
from proxy.wire.units import PARTIAL_TOKENS, Sold, image_tokens

__all__ = ["EVENTS", "look", "look_form", "look_variation", "meter", "rewrite", "tokens_in"]

# What a call means that names no model (OpenAI's reference).
DEFAULT_MODEL: Final = "dall-e-2"
MOST_EVENT: Final = 64 << 20
MAX_ODD_BODY: Final = 1 << 20
MOST_PARTIAL: Final = 16
# A picture that is sent along, in tokens: likely, most (see `openai.IMAGE_TOKENS`).
PICTURE_TOKENS: Final = IMAGE_TOKENS


class _Asked(Struct, gc=False):
    model: str | None = None
    prompt: Raw = ABSENT
    n: int | None = None
    size: str | None = None
    quality: str | None = None
    stream: bool | None = None
    partial_images: int | None = None
    user: str | None = None
    images: Raw = ABSENT


class _Details(Struct, gc=False):
    image_tokens: int | None = None
    cached_tokens: int | None = None


class _Usage(Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Answer(Struct, gc=False):
    data: list[Raw] | None = None
    size: str | None = None
    quality: str | None = None
    usage: _Usage | None = None


class _HasUsage(Struct, gc=False):
    usage: _Usage | None = None


_ASKED = msgspec.json.Decoder(_Asked)
_ANSWER = msgspec.json.Decoder(_Answer)
_HAS_USAGE = msgspec.json.Decoder(_HasUsage)
_TEXT = msgspec.json.Decoder(str)
_LIST = msgspec.json.Decoder(list[Raw])

_KEYS = re.compile(rb'"(?:model|prompt|n|size|quality|stream|partial_images|images)"')


def look(body: bytes) -> Look:
    """Look at a request in JSON. Raises `BadField`."""
    doc: _Asked = decode(_ASKED, body)
    large = tuple(
        (name, raw) for name, raw in (("prompt", doc.prompt), ("images", doc.images)) if len(raw)
    )
    frame, cuts = carve(body, large) if large else (body, ())
    given = (doc.model, doc.n, doc.size, doc.quality, doc.stream, doc.partial_images)
    # A null is there as well, and means nothing: whoever writes one is looked at in detail.
    plain = is_plain(frame, _KEYS, sum(one is not None for one in given) + len(large))
    if not len(doc.prompt):
        raise BadField("prompt", "prompt is missing; add it", "missing")
    text = len(inner(_TEXT, doc.prompt, "prompt", "a string").encode("utf-8", "replace"))
    pictures = len(inner(_LIST, doc.images, "images", "an array")) if len(doc.images) else 0
    seen = _look(
        doc.model,
        n=doc.n,
        size=doc.size,
        quality=doc.quality,
        stream=doc.stream is True,
        partial=doc.partial_images,
        user=doc.user,
        text=text,
        pictures=pictures,
    )
    seen.frame, seen.cuts, seen.plain = frame, cuts, plain
    return seen


def look_form(body: bytes, content_type: str) -> Look:
    """Look at an edit, which sends pictures along. Raises `BadField`."""
    return _look_form(body, content_type, needs_prompt=True)


def look_variation(body: bytes, content_type: str) -> Look:
    """Look at a variation, which has no prompt. Raises `BadField`."""
    return _look_form(body, content_type, needs_prompt=False)


def _look_form(body: bytes, content_type: str, *, needs_prompt: bool) -> Look:
    if not forms.is_form(content_type):
        if needs_prompt:
            return look(body)
        raise BadField(None, "send the picture as multipart/form-data", "invalid_form")
    form = forms.scan(body, content_type)
    texts = form.texts(
        ("model", "prompt", "n", "size", "quality", "stream", "partial_images", "user")
    )
    if needs_prompt and not texts.get("prompt"):
        raise BadField("prompt", "prompt is missing; add it", "missing")
    pictures = len(form.files("image", "mask"))
    if not pictures:
        raise BadField("image", "image is missing; send it as a file of the form", "missing")
    seen = _look(
        texts.get("model"),
        n=forms.number(texts, "n", 1, 128),
        size=texts.get("size"),
        quality=texts.get("quality"),
        stream=forms.flag(texts, "stream"),
        partial=forms.number(texts, "partial_images", 0, MOST_PARTIAL),
        user=texts.get("user"),
        text=len(texts.get("prompt", "").encode()),
        pictures=pictures,
    )
    seen.form, seen.cuts = form.boundary, (form.span("model"),)
    return seen


def _look(
    model: str | None,
    *,
    n: int | None,
    size: str | None,
    quality: str | None,
    stream: bool,
    partial: int | None,
    user: str | None,
    text: int,
    pictures: int,
) -> Look:
    model = DEFAULT_MODEL if model is None else model
    check_model(model)
    n = 1 if n is None else checked_choices("n", n)
    if partial is not None and not 0 <= partial <= MOST_PARTIAL:
        raise BadField("partial_images", f"partial_images must be from 0 to {MOST_PARTIAL}")
    kind = f"{_word(quality, 'quality')}/{_word(size, 'size')}"
    likely, most = image_tokens(*kind.split("/"))
    extra = (partial or 0) * PARTIAL_TOKENS
    units = Units(images=n, image_kind=kind)
    return uncapped(
        model,
        stream=stream,
        user=user,
        input_estimate=(text + 3) // 4 + pictures * PICTURE_TOKENS[0],
        input_bound=text + TEMPLATE_BOUND + pictures * PICTURE_TOKENS[1],
        sold=Sold(
            most=units,
            likely=units,
            output_tokens=n * (most + extra),
            likely_tokens=n * (likely + extra),
            kind="image",
        ),
    )


def _word(said: str | None, name: str) -> str:
    if said is None:
        return ""
    if len(said) > 32 or not said.isascii() or "/" in said or not said.isprintable():
        raise BadField(name, f"{name} is none that can be asked for")
    return said.strip().lower()


def rewrite(
    body: bytes,
    seen: Look,
    *,
    upstream_model: str,
    include_usage: bool,
    output_cap: int | None,
    cap_field: str | None,
) -> bytes | forms.Spliced:
    """Give the body that goes upstream, with another model's name."""
    if seen.form:
        return forms.rewrite(body, seen, upstream_model)
    return named(body, seen, upstream_model)


def meter(body: bytes) -> Usage | None:
    """Read what an answer used, of a whole one also how many images it holds; None when it says nothing of either."""
    try:
        found: _Answer = _ANSWER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _usage_at_the_end(body)
    if found.data is None:
        return None
    usage = _settled(found.usage) or Usage()
    kind = f"{found.quality or ''}/{found.size or ''}"
    usage.units = Units(images=len(found.data), image_kind="" if kind == "/" else kind)
    return usage


def _usage_at_the_end(body: bytes) -> Usage | None:
    at = body.rfind(b'"usage"')
    return None if at < 0 else _usage_of(b"{" + body[at:])


def _usage_of(data: bytes) -> Usage | None:
    try:
        return _settled(_HAS_USAGE.decode(data).usage)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def tokens_in(document: Any) -> int:
    """Say that nothing is estimated here: an answer that holds no image is none."""
    return 0


def _settled(found: _Usage | None) -> Usage | None:
    """Make the gateway's counts of a vendor's; None when they make no sense."""
    if found is None:
        return None
    prompt, output = found.input_tokens or 0, found.output_tokens or 0
    if not (0 <= prompt <= MAX_TOKENS and 0 <= output <= MAX_TOKENS):
        return None
    usage = Usage(prompt, 0, 0, output)
    inputs, outputs = found.input_tokens_details, found.output_tokens_details
    if inputs is not None:
        usage.image_input_tokens = within(inputs.image_tokens or 0, prompt)
        usage.cached_tokens = within(inputs.cached_tokens or 0, prompt)
    if outputs is not None:
        usage.image_output_tokens = within(outputs.image_tokens or 0, output)
    return usage


EVENTS = events_ending_in(
    r"image_(?:generation|edit)\.completed",
    _usage_of,
    said=nothing,
    most_event=MOST_EVENT,
)
