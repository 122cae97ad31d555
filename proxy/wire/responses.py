"""
A look at a request of OpenAI's Responses: what the gateway must know of it, and the few bytes it changes.

Only the model's name, and under a budget or a model's ceiling `max_output_tokens`, ever change; how a body
is looked at, and how tokens are estimated, stands in `look`.

**State.** A response may go on from one that its provider keeps (``previous_response_id``, a conversation,
a stored prompt). Nobody else can serve it, so that `Look.tied` names the member that says so; and how much
input that brings is not to be seen here, so that its bound is whatever the model can take. A response in
the background is refused: it is used up when nobody meters it.

Protocol: OpenAI's API reference for responses, and https://www.openresponses.org.
"""

import re

import msgspec
from msgspec import UNSET, Raw, UnsetType

from proxy.wire.look import (
    ABSENT,
    ANSWER_START,
    FILE_TOKENS,
    MESSAGE_BOUND,
    MESSAGE_TOKENS,
    SMALL_TOOLS,
    TEMPLATE_BOUND,
    TOOLS_BOUND,
    BadField,
    Look,
    cap_span,
    carve,
    check_model,
    checked_cap,
    decode,
    escape_surplus,
    hints_in,
    inner,
    is_plain,
    model_span,
    splice,
)
from proxy.wire.openai import DEARER_TIERS, IMAGE_TOKENS, LOW_DETAIL_TOKENS

__all__ = ["look_response", "rewrite"]

UNSEEN_TOKENS = 1 << 40

# Tools that the caller runs itself.
_RUN_BY_CALLER = frozenset(
    {"function", "custom", "local_shell", "apply_patch", "namespace", "tool_search", "computer"}
    | {"computer_use_preview"}
)
_KEYS = re.compile(
    rb'"(?:model|input|stream|max_output_tokens|background|previous_response_id|conversation|prompt)"'
)


class _Response(msgspec.Struct, gc=False):
    model: str
    input: Raw = ABSENT
    instructions: Raw = ABSENT
    stream: bool | None = None
    max_output_tokens: int | UnsetType | None = UNSET
    tools: Raw = ABSENT
    text: Raw = ABSENT
    user: str | None = None
    safety_identifier: str | None = None
    metadata: Raw = ABSENT
    service_tier: str | None = None
    background: bool | UnsetType | None = UNSET
    previous_response_id: str | UnsetType | None = UNSET
    conversation: Raw = ABSENT
    prompt: Raw = ABSENT


class _Part(msgspec.Struct, gc=False):
    type: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_data: Raw = ABSENT


class _Item(msgspec.Struct, gc=False):
    type: str | None = None
    content: list[_Part] | str | None = None
    output: list[_Part] | _Part | str | None = None


class _Tool(msgspec.Struct, gc=False):
    type: str | None = None


_RESPONSE = msgspec.json.Decoder(_Response)
_ITEMS = msgspec.json.Decoder(list[_Item])
_PLAIN_ITEMS = msgspec.json.Decoder(list[dict[str, Raw]])
_TOOLS = msgspec.json.Decoder(list[_Tool])


def look_response(body: bytes) -> Look:
    """Look at a request for a response. Raises `BadField`."""
    doc: _Response = decode(_RESPONSE, body)
    large = [("input", doc.input)] if len(doc.input) else []
    if len(doc.tools) > SMALL_TOOLS:
        large.append(("tools", doc.tools))
    if len(doc.instructions) > SMALL_TOOLS:
        large.append(("instructions", doc.instructions))
    frame, cuts = carve(body, large)
    plain = is_plain(
        frame,
        _KEYS,
        1
        + (len(doc.input) > 0)
        + (doc.stream is not None)
        + (doc.max_output_tokens is not UNSET)
        + (doc.background is not UNSET)
        + (doc.previous_response_id is not UNSET)
        + (len(doc.conversation) > 0)
        + (len(doc.prompt) > 0),
    )
    check_model(doc.model)
    if doc.background is True:
        raise BadField(
            "background",
            "background is not possible here, since what it costs would not be seen; leave it out",
        )
    cap: int | None = None
    if doc.max_output_tokens is not UNSET and doc.max_output_tokens is not None:
        cap = checked_cap("max_output_tokens", doc.max_output_tokens)
    count, payload, likely, most = _measure(doc.input)
    text = len(doc.input) + len(doc.instructions) + len(doc.tools) + len(doc.text) - payload
    bound = len(body) - payload + MESSAGE_BOUND * count + TEMPLATE_BOUND + most
    if len(doc.tools) > 2:
        bound += TOOLS_BOUND
    saved = escape_surplus(body)
    if saved:
        text = max(text - saved, 0)
        bound -= saved
    tied = _tied(doc)
    return Look(
        doc.model,
        doc.stream is True,
        # Usage is a part of every answer, asked for or not.
        True,
        cap,
        1,
        doc.user or doc.safety_identifier,
        (text + 3) // 4 + MESSAGE_TOKENS * count + ANSWER_START + likely,
        UNSEEN_TOKENS if tied else bound,
        hints_in(doc.metadata) if len(doc.metadata) else None,
        count,
        frame,
        cuts,
        plain,
        ("max_output_tokens",) if doc.max_output_tokens is not UNSET else (),
        False,
        _dearer(doc),
        tied,
    )


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

    `seen` is what `look_response` found in this very body. The model's name becomes `upstream_model`,
    and ``max_output_tokens`` the `output_cap` where there is one. `include_usage` and `cap_field` say
    nothing here: usage always comes, and there is one field for a cap.
    """
    edits: list[tuple[int, int, bytes]] = []
    if upstream_model != seen.model:
        start, end = model_span(seen)
        edits.append((start, end, msgspec.json.encode(upstream_model)))
    if output_cap is not None and seen.output_cap != output_cap:
        if seen.caps_present:
            start, end = cap_span(seen, "max_output_tokens")
            edits.append((start, end, b"%d" % output_cap))
        else:
            brace = seen.frame.index(b"{") + 1
            edits.append((brace, brace, b'"max_output_tokens":%d,' % output_cap))
    return splice(body, seen, edits)


def _says(raw: Raw) -> bool:
    """Say whether a member that is there is not null."""
    return bytes(raw) != b"null"


def _tied(doc: _Response) -> str | None:
    if doc.previous_response_id is not UNSET and doc.previous_response_id is not None:
        return "previous_response_id"
    if len(doc.conversation) and _says(doc.conversation):
        return "conversation"
    if len(doc.prompt) and _says(doc.prompt):
        return "prompt"
    return "input" if bytes(doc.input).find(b'"item_reference"') >= 0 else None


def _dearer(doc: _Response) -> tuple[str, str] | None:
    if doc.service_tier in DEARER_TIERS:
        return "service_tier", str(doc.service_tier)
    if len(doc.tools) and _says(doc.tools):
        for tool in inner(_TOOLS, doc.tools, "tools", "an array of tools"):
            if tool.type is not None and tool.type not in _RUN_BY_CALLER:
                return "tools", tool.type
    return None


def _measure(raw: Raw) -> tuple[int, int, int, int]:
    """Count the items of the input, the bytes of payload among their text, and the tokens of that: likely, most."""
    text = bytes(raw)
    if not text or text == b"null" or text[:1] == b'"':
        return 1, 0, 0, 0
    try:
        items = _ITEMS.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Items of another shape count as text: too much rather than too little.
        wanted = "a string or an array of items"
        return len(inner(_PLAIN_ITEMS, raw, "input", wanted)), 0, 0, 0
    payload = likely = most = 0
    for part in _parts(items):
        if part.image_url is not None:
            tokens = LOW_DETAIL_TOKENS if part.detail == "low" else IMAGE_TOKENS
            payload += len(part.image_url)
        elif part.type == "input_image":
            tokens = LOW_DETAIL_TOKENS if part.detail == "low" else IMAGE_TOKENS
        elif part.type == "input_file":
            tokens = FILE_TOKENS
            payload += len(part.file_data)
        else:
            continue
        likely += tokens[0]
        most += tokens[1]
    return max(len(items), 1), payload, likely, most


def _parts(items: list[_Item]) -> list[_Part]:
    found: list[_Part] = []
    for item in items:
        for value in (item.content, item.output):
            if isinstance(value, list):
                found += value
            elif isinstance(value, _Part):
                found.append(value)
    return found
