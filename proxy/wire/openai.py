"""
A look at an OpenAI request: what the gateway must know of it, and the few bytes it changes.

A look decodes the members that matter and skips the rest; `rewrite` changes the model's name, asks
for usage, and sets the output cap, and leaves every other byte alone. Both work on the bytes as
the caller sent them; how, and how tokens are estimated, stands in `look`.

Protocol: OpenAI's API reference for chat completions, completions and embeddings.
"""

import re
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from proxy.wire import json_edit
from proxy.wire.look import (
    ABSENT,
    ANSWER_START,
    FILE_TOKENS,
    MESSAGE_BOUND,
    MESSAGE_JSON,
    MESSAGE_TOKENS,
    SMALL_TOOLS,
    TEMPLATE_BOUND,
    TOOLS_BOUND,
    VIDEO_TOKENS,
    Anything,
    BadField,
    Look,
    cap_span,
    carve,
    check_model,
    checked_cap,
    checked_choices,
    decode,
    escape_surplus,
    hints_in,
    inner,
    is_plain,
    model_span,
    place,
    splice,
)

__all__ = ["look_chat", "look_completions", "look_embeddings", "rewrite"]

# Processing tiers that are billed above the list price.
DEARER_TIERS = frozenset({"priority", "fast", "scale"})

# Tokens per part of a message that is not text: (likely, most).
# Image: 85 + 170 per tile of gpt-4o, 765 at 1024x1024; the dearest documented is gpt-4o-mini with
# 2833 + 5667 for each of 8 tiles. Low detail is 85, and 2833 on gpt-4o-mini.
IMAGE_TOKENS = (800, 48_169)
LOW_DETAIL_TOKENS = (85, 2_833)
# Audio, per base64 character: 10 tokens/s at 64 kbit/s likely, 32 tokens/s (Gemini) at 8 kbit/s most.
AUDIO_CHARS_PER_TOKEN = (1_066, 41)


class _StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class _Chat(msgspec.Struct, gc=False):
    model: str
    messages: Raw
    stream: bool | None = None
    stream_options: _StreamOptions | UnsetType | None = UNSET
    max_tokens: int | UnsetType | None = UNSET
    max_completion_tokens: int | UnsetType | None = UNSET
    n: int | None = None
    user: str | None = None
    metadata: Raw = ABSENT
    tools: Raw = ABSENT
    functions: Raw = ABSENT
    response_format: Raw = ABSENT
    service_tier: str | None = None


class _Completions(msgspec.Struct, gc=False):
    model: str
    prompt: Raw = ABSENT
    stream: bool | None = None
    stream_options: _StreamOptions | UnsetType | None = UNSET
    max_tokens: int | UnsetType | None = UNSET
    n: int | None = None
    best_of: int | None = None
    user: str | None = None
    metadata: Raw = ABSENT


class _Embeddings(msgspec.Struct, gc=False):
    model: str
    input: Raw
    user: str | None = None
    metadata: Raw = ABSENT


class _Image(msgspec.Struct, gc=False):
    url: Raw = Raw(b"")
    detail: str | None = None


class _Audio(msgspec.Struct, gc=False):
    data: Raw = Raw(b"")


class _File(msgspec.Struct, gc=False):
    file_data: Raw = Raw(b"")


class _Part(msgspec.Struct, gc=False):
    image_url: _Image | str | None = None
    input_audio: _Audio | None = None
    file: _File | None = None
    video_url: _Image | str | None = None


class _Message(msgspec.Struct, gc=False):
    content: list[_Part | str] | str | dict[str, Any] | None = None


_CHAT = msgspec.json.Decoder(_Chat)
_COMPLETIONS = msgspec.json.Decoder(_Completions)
_EMBEDDINGS = msgspec.json.Decoder(_Embeddings)
_PLAIN_MESSAGES = msgspec.json.Decoder(list[Anything])
_MESSAGES = msgspec.json.Decoder(list[_Message])
_INTS = msgspec.json.Decoder(list[int])
_LISTS = msgspec.json.Decoder(list[list[int]])
_ITEMS = msgspec.json.Decoder(list[str | dict[str, Any]])


_QUOTE, _BRACKET = b'"['

# The members that matter, by kind: whoever reads another meaning into one gets past a limit.
_CHAT_KEYS = re.compile(rb'"(?:m(?:odel|essages|ax_(?:completion_)?tokens)|stream(?:_options)?|n)"')
_COMPLETIONS_KEYS = re.compile(rb'"(?:m(?:odel|ax_tokens)|prompt|stream(?:_options)?|n|best_of)"')
_EMBEDDINGS_KEYS = re.compile(rb'"(?:model|input)"')
_FIRST_ITEM = re.compile(rb"\[[ \t\n\r]*+(.)", re.DOTALL)


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

    `seen` is what `look` found in this very body. The model's name becomes `upstream_model`. With
    `include_usage` a stream is made to report its usage; members of a given ``stream_options``
    stay. With an `output_cap` (tokens for each answer) exactly one cap field carries that value:
    the one that the caller used (``max_completion_tokens`` of two), else `cap_field`; without a
    `cap_field` a body without a cap stays without.
    """
    frame = seen.frame
    inserts = b""
    edits: list[tuple[int, int, bytes]] = []
    if upstream_model != seen.model:
        start, end = model_span(seen)
        edits.append((start, end, msgspec.json.encode(upstream_model)))
    if include_usage and seen.stream and not seen.asked_usage:
        if seen.has_stream_options:
            start, end = json_edit.locate_known(frame, "stream_options")
            edits.append((start, end, _with_usage(frame[start:end])))
        else:
            inserts = b'"stream_options":{"include_usage":true},'
    if output_cap is not None:
        present = seen.caps_present
        if not present:
            if cap_field is not None:
                inserts += b'"%b":%d,' % (cap_field.encode(), output_cap)
        elif len(present) > 1:
            return _with_one_cap(
                body,
                seen,
                upstream_model=upstream_model,
                include_usage=include_usage,
                output_cap=output_cap,
            )
        elif seen.output_cap != output_cap:
            start, end = cap_span(seen, present[0])
            edits.append((start, end, b"%d" % output_cap))
    if inserts:
        brace = frame.index(b"{") + 1
        edits.append((brace, brace, inserts))
    return splice(body, seen, edits)


def look_chat(body: bytes) -> Look:
    """Look at a chat completion: some 2.5 us for a short one, and 0.4 ns for each further byte. Raises `BadField`."""
    doc: _Chat = decode(_CHAT, body)
    raw = doc.messages
    length = len(raw)
    # The two spellings that encoders write; `place` knows all, and why the bytes are compared.
    at = body.find(b'"messages":[') + 11
    if at < 11:
        at = body.find(b'"messages": [') + 12
    if at < 12 or not body.startswith(bytes(raw), at):
        at = place(body, b'"messages"', raw, "messages")
    end = at + length
    frame = body[:at] + body[end:]
    cuts: tuple[tuple[int, int], ...] = ((at, length),)
    if len(doc.tools) > SMALL_TOOLS:
        frame, cuts = carve(body, (("messages", raw), ("tools", doc.tools)))
    asked_usage = False
    options = doc.stream_options
    if options is not UNSET and options is not None:
        asked_usage = _asks_usage(options, doc.stream)
    cap: int | None = None
    caps: tuple[str, ...] = ()
    value = doc.max_completion_tokens
    if value is not UNSET:
        caps = ("max_completion_tokens",)
        if value is not None:
            cap = checked_cap("max_completion_tokens", value)
    value = doc.max_tokens
    if value is not UNSET:
        caps += ("max_tokens",)
        if value is not None:
            checked_cap("max_tokens", value)
            if cap is None or value > cap:
                cap = value
    n = 1 if doc.n is None else checked_choices("n", doc.n)
    plain = is_plain(
        frame,
        _CHAT_KEYS,
        2 + (doc.stream is not None) + (options is not UNSET) + (doc.n is not None) + len(caps),
    )
    check_model(doc.model)

    text = length
    media = 0, 0
    only_words = body.find(_BRACKET, at + 1, end) < 0
    if only_words:
        count = len(inner(_PLAIN_MESSAGES, raw, "messages", "an array of message objects"))
    else:
        count, cut, media = _measure(raw)
        text -= cut
    if not count:
        raise BadField("messages", "messages is empty; send at least one message")
    bound = len(body) - length + text + MESSAGE_BOUND * count + TEMPLATE_BOUND
    if len(doc.tools):
        text += len(doc.tools)
        bound += TOOLS_BOUND
        only_words = False
    if len(doc.functions):
        text += len(doc.functions)
        bound += TOOLS_BOUND
        only_words = False
    if len(doc.response_format):
        text += len(doc.response_format)
        only_words = False
    saved = escape_surplus(body)
    if saved:
        text = max(text - saved, 0)
        bound -= saved
    return Look(
        doc.model,
        doc.stream is True,
        asked_usage,
        cap,
        n,
        doc.user,
        (max(text - MESSAGE_JSON * count, 0) + 3) // 4
        + MESSAGE_TOKENS * count
        + ANSWER_START
        + media[0],
        bound + media[1],
        hints_in(doc.metadata) if len(doc.metadata) else None,
        count,
        frame,
        cuts,
        plain,
        caps,
        options is not UNSET,
        ("service_tier", doc.service_tier) if doc.service_tier in DEARER_TIERS else None,
        only_words=only_words,
    )


def look_completions(body: bytes) -> Look:
    """Look at a legacy completion. Raises `BadField`."""
    doc: _Completions = decode(_COMPLETIONS, body)
    raw = doc.prompt
    at = 0
    length = len(raw)
    if length:
        at = place(body, b'"prompt"', raw, "prompt")
    frame = body[:at] + body[at + length :]
    asked_usage = False
    options = doc.stream_options
    if options is not UNSET and options is not None:
        asked_usage = _asks_usage(options, doc.stream)
    cap: int | None = None
    caps: tuple[str, ...] = ()
    if doc.max_tokens is not UNSET:
        caps = ("max_tokens",)
        if doc.max_tokens is not None:
            cap = checked_cap("max_tokens", doc.max_tokens)
    n = 1 if doc.n is None else checked_choices("n", doc.n)
    if doc.best_of is not None:
        n = max(n, checked_choices("best_of", doc.best_of))
    plain = is_plain(
        frame,
        _COMPLETIONS_KEYS,
        1
        + (length > 0)
        + (doc.stream is not None)
        + (options is not UNSET)
        + (doc.n is not None)
        + (doc.best_of is not None)
        + len(caps),
    )
    check_model(doc.model)
    count, estimate, bound = _measure_items(raw, "prompt") if length else (1, 1, 1)
    return Look(
        doc.model,
        doc.stream is True,
        asked_usage,
        cap,
        n * count,
        doc.user,
        estimate,
        len(frame) + bound + TEMPLATE_BOUND,
        hints_in(doc.metadata) if len(doc.metadata) else None,
        count,
        frame,
        ((at, length),),
        plain,
        caps,
        options is not UNSET,
    )


def look_embeddings(body: bytes) -> Look:
    """Look at a request for embeddings. Raises `BadField`."""
    doc: _Embeddings = decode(_EMBEDDINGS, body)
    raw = doc.input
    length = len(raw)
    at = place(body, b'"input"', raw, "input")
    frame = body[:at] + body[at + length :]
    plain = is_plain(frame, _EMBEDDINGS_KEYS, 2)
    check_model(doc.model)
    count, estimate, bound = _measure_items(raw, "input")
    return Look(
        doc.model,
        False,
        False,
        None,
        1,
        doc.user,
        estimate,
        len(frame) + bound + TEMPLATE_BOUND,
        hints_in(doc.metadata) if len(doc.metadata) else None,
        count,
        frame,
        ((at, length),),
        plain,
        (),
        False,
    )


# Checking...


def _asks_usage(options: _StreamOptions, stream: bool | None) -> bool:
    if not stream:
        raise BadField(
            "stream_options", "stream_options needs stream: true; set it or drop the options"
        )
    return options.include_usage is True


# Measuring...


def _measure(raw: Raw) -> tuple[int, int, tuple[int, int]]:
    """
    Count messages, the bytes of payload among their text, and the tokens (likely, most) of that.

    Content that is not shaped as documented counts as text: too much rather than too little.
    """
    try:
        messages = _MESSAGES.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return (
            len(inner(_PLAIN_MESSAGES, raw, "messages", "an array of message objects")),
            0,
            (0, 0),
        )
    payload = likely = most = 0
    for message in messages:
        if type(message.content) is not list:
            continue
        for part in message.content:
            if type(part) is not _Part:
                continue
            if part.image_url is not None:
                tokens = IMAGE_TOKENS
                if isinstance(part.image_url, str):
                    payload += len(part.image_url)
                else:
                    payload += len(part.image_url.url)
                    if part.image_url.detail == "low":
                        tokens = LOW_DETAIL_TOKENS
                likely += tokens[0]
                most += tokens[1]
            if part.input_audio is not None:
                length = len(part.input_audio.data)
                payload += length
                likely += 1 + length // AUDIO_CHARS_PER_TOKEN[0]
                most += 1 + length // AUDIO_CHARS_PER_TOKEN[1]
            if part.file is not None:
                payload += len(part.file.file_data)
                likely += FILE_TOKENS[0]
                most += FILE_TOKENS[1]
            if part.video_url is not None:
                url = part.video_url
                payload += len(url if isinstance(url, str) else url.url)
                likely += VIDEO_TOKENS[0]
                most += VIDEO_TOKENS[1]
    return len(messages), payload, (likely, most)


def _measure_items(raw: Raw, param: str) -> tuple[int, int, int]:
    """Count the prompts or inputs, and their tokens: likely, most."""
    text = bytes(raw)
    wanted = "a string, an array of strings, an array of tokens, or an array of arrays of tokens"
    if text[0] == _QUOTE:
        if len(text) == 2 and param == "input":
            raise BadField(param, f"{param} is empty; send some text")
        return 1, *_text_tokens(text, 1)
    if text == b"null" and param == "prompt":
        return 1, 1, 1
    if text[0] != _BRACKET:
        raise BadField(param, f"{param} must be {wanted}", "invalid_type")
    first = _FIRST_ITEM.match(text)
    start = first.group(1) if first else b"]"
    if start == b"]":
        raise BadField(param, f"{param} is empty; send at least one item")
    if start in b'"{':
        items = inner(_ITEMS, raw, param, wanted)
        return len(items), *_text_tokens(text, len(items))
    if start == b"[":
        lists = inner(_LISTS, raw, param, wanted)
        tokens = sum(map(len, lists))
        if not all(lists):
            raise BadField(param, f"{param} has an empty item; send at least one token in each")
        return len(lists), tokens, tokens
    tokens = len(inner(_INTS, raw, param, wanted))
    return 1, tokens, tokens


def _text_tokens(text: bytes, count: int) -> tuple[int, int]:
    length = len(text) - escape_surplus(text)
    # An item is at least one token; two quotes and a separator of each are no text.
    return max((length - 3 * count + 3) // 4, count), length + MESSAGE_BOUND * count


# Rewriting...


def _with_usage(options: bytes) -> bytes:
    if not options.startswith(b"{"):  # null
        return b'{"include_usage":true}'
    if json_edit.locate(options, "include_usage") is None:
        return json_edit.edit(options, insert={"include_usage": b"true"})
    return json_edit.edit(options, replace={"include_usage": b"true"})


def _with_one_cap(
    body: bytes, seen: Look, *, upstream_model: str, include_usage: bool, output_cap: int
) -> bytes:
    # A caller who sets both fields is rare enough to be scanned for.
    replace = {seen.caps_present[0]: b"%d" % output_cap}
    insert: dict[str, bytes] = {}
    if upstream_model != seen.model:
        replace["model"] = msgspec.json.encode(upstream_model)
    if include_usage and seen.stream and not seen.asked_usage:
        span = json_edit.locate(body, "stream_options")
        if span is None:
            insert["stream_options"] = b'{"include_usage":true}'
        else:
            replace["stream_options"] = _with_usage(body[span[0] : span[1]])
    return json_edit.edit(body, replace, insert, seen.caps_present[1:])
