"""
A look at an Anthropic request: what the gateway must know of it, and the few bytes it changes.

Only the model's name, and under a budget or a model's ceiling `max_tokens`, ever change; how a body is
looked at, and how tokens are estimated, stands in `look`.

**A cap below a thinking budget.** ``max_tokens`` has to be greater than ``thinking.budget_tokens``, so
that where the cap has to shrink below it, the budget shrinks with it; and where that would fall below
the least that the vendor takes, the call goes without thinking.

**Threads.** A message may go on from one that its provider keeps (``thread`` of type ``continue``). Nobody
else can serve it, so that `Look.tied` says so; and how much input that brings is not to be seen here, so
that its bound is whatever the model can take.

**What is not on the price list.** Tools that the vendor runs itself (searches, fetched pages, code) cost
money besides the tokens, or bring in input that nobody can bound beforehand, as do a fast mode and
inference in one region: `Look.dearer` names the first of them that a body asks for.

Protocol: https://platform.claude.com/docs/en/api/messages, and the count of tokens beside it.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw

from proxy.wire import json_edit
from proxy.wire.look import (
    ABSENT,
    FILE_TOKENS,
    MESSAGE_BOUND,
    MESSAGE_JSON,
    MESSAGE_TOKENS,
    SMALL_TOOLS,
    TEMPLATE_BOUND,
    TOOLS_BOUND,
    Anything,
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
from proxy.wire.translate.counts import whole_body

__all__ = [
    "estimated_count",
    "look_count",
    "look_messages",
    "rewrite",
    "rewrite_count_for_vertex",
    "rewrite_for_vertex",
]

# What Google's Vertex AI wants in the body, where it has the model in the URL.
_ON_VERTEX = b'"anthropic_version":"vertex-2023-10-16"'

# An image is (width * height) / 750 tokens, 1,600 at most on most models and 5,000 on those that see
# more: (likely, most).
IMAGE_TOKENS = (1_600, 5_000)
# What the prompt around tools takes, as documented for tool use.
TOOLS_TOKENS = 346
# The bound of what is not in the body: more than any model takes.
UNSEEN_TOKENS = 1 << 40
# The least that the vendor takes for thinking.
LEAST_THINKING = 1_024

# Tools that the caller runs itself, although the vendor has named their type.
_RUN_BY_CALLER = re.compile(r"custom$|bash_|text_editor_|computer_|memory_")
_KEYS = re.compile(rb'"(?:m(?:odel|essages|ax_tokens)|stream)"')
_COUNT_KEYS = re.compile(rb'"(?:model|messages)"')


class _Metadata(msgspec.Struct, gc=False):
    user_id: str | None = None


class _Messages(msgspec.Struct, gc=False):
    model: str
    messages: Raw
    max_tokens: int
    stream: bool | None = None
    system: Raw = ABSENT
    tools: Raw = ABSENT
    output_config: Raw = ABSENT
    metadata: Raw = ABSENT
    mcp_servers: Raw = ABSENT
    thread: Raw = ABSENT
    speed: str | None = None
    inference_geo: str | None = None


class _Count(msgspec.Struct, gc=False):
    model: str
    messages: Raw


class _Source(msgspec.Struct, gc=False):
    type: str | None = None
    data: Raw = ABSENT


class _Block(msgspec.Struct, gc=False):
    type: str | None = None
    source: _Source | None = None
    content: "list[_Block | str] | str | dict[str, Any] | None" = None


class _Message(msgspec.Struct, gc=False):
    content: list[_Block | str] | str | None = None


class _Tool(msgspec.Struct, gc=False):
    type: str | None = None


_MESSAGES = msgspec.json.Decoder(_Messages)
_COUNT = msgspec.json.Decoder(_Count)
_PLAIN_TURNS = msgspec.json.Decoder(list[Anything])
_TURNS = msgspec.json.Decoder(list[_Message])
_TOOLS = msgspec.json.Decoder(list[_Tool])
_METADATA = msgspec.json.Decoder(_Metadata)


def look_messages(body: bytes) -> Look:
    """Look at a request for a message: some 3 us for a short one. Raises `BadField`."""
    doc: _Messages = decode(_MESSAGES, body)
    large = [("messages", doc.messages)]
    if len(doc.tools) > SMALL_TOOLS:
        large.append(("tools", doc.tools))
    if len(doc.system) > SMALL_TOOLS:
        large.append(("system", doc.system))
    frame, cuts = carve(body, large)
    plain = is_plain(frame, _KEYS, 3 + (doc.stream is not None))
    check_model(doc.model)
    cap = checked_cap("max_tokens", doc.max_tokens)
    count, payload, likely, most = _measure(doc.messages)
    text = len(doc.messages) + len(doc.system) + len(doc.tools) + len(doc.output_config) - payload
    bound = len(body) - payload + MESSAGE_BOUND * count + TEMPLATE_BOUND
    if len(doc.tools) > 2:
        likely += TOOLS_TOKENS
        bound += TOOLS_BOUND
    saved = escape_surplus(body)
    if saved:
        text = max(text - saved, 0)
        bound -= saved
    # What is yet to be kept hides nothing; whether the rest is well said is the vendor's to judge.
    tied = "thread" if len(doc.thread) and b"continue" in bytes(doc.thread) else None
    return Look(
        doc.model,
        doc.stream is True,
        # Usage is a part of every answer, asked for or not.
        True,
        cap,
        1,
        _user(doc.metadata) if len(doc.metadata) else None,
        (max(text - MESSAGE_JSON * count, 0) + 3) // 4 + MESSAGE_TOKENS * count + likely,
        bound + most if tied is None else UNSEEN_TOKENS,
        hints_in(doc.metadata) if len(doc.metadata) else None,
        count,
        frame,
        cuts,
        plain,
        ("max_tokens",),
        False,
        _dearer(doc),
        tied,
    )


def look_count(body: bytes) -> Look:
    """Look at a request to count tokens, which uses none. Raises `BadField`."""
    doc: _Count = decode(_COUNT, body)
    frame, cuts = carve(body, (("messages", doc.messages),))
    plain = is_plain(frame, _COUNT_KEYS, 2)
    check_model(doc.model)
    count = len(inner(_PLAIN_TURNS, doc.messages, "messages", "an array of message objects"))
    return Look(
        doc.model, False, True, None, 1, None, 0, 0, None, count, frame, cuts, plain, (), False
    )


def estimated_count(body: bytes) -> bytes:
    """Answer a request to count tokens with what admission would reckon. Raises `BadField`."""
    seen = look_messages(whole_body(body))
    return b'{"input_tokens":%d}' % seen.input_estimate


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
    ``max_tokens`` the `output_cap` where there is one. `include_usage` and `cap_field` say nothing here:
    usage always comes, and there is one field for a cap.
    """
    edits = [] if output_cap is None else _cap_edits(seen, output_cap)
    if upstream_model != seen.model:
        start, end = model_span(seen)
        edits.append((start, end, msgspec.json.encode(upstream_model)))
    return splice(body, seen, edits)


def rewrite_for_vertex(
    body: bytes,
    seen: Look,
    *,
    upstream_model: str,
    include_usage: bool,
    output_cap: int | None,
    cap_field: str | None,
) -> bytes:
    """Give the body that goes to Vertex: the model stands in the URL, and in its place the version of the API."""
    edits = _cap_edits(seen, output_cap)
    if b'"anthropic_version"' in seen.frame:
        return json_edit.edit(splice(body, seen, edits), remove=("model",))
    model = next(one for one in json_edit.scan(seen.frame) if one.name == "model")
    edits.append((model.key, model.end, _ON_VERTEX))
    return splice(body, seen, edits)


def rewrite_count_for_vertex(
    body: bytes,
    seen: Look,
    *,
    upstream_model: str,
    include_usage: bool,
    output_cap: int | None,
    cap_field: str | None,
) -> bytes:
    """Give the body of a count that goes to Vertex, which is told the model there."""
    body = rewrite(
        body,
        seen,
        upstream_model=upstream_model,
        include_usage=include_usage,
        output_cap=output_cap,
        cap_field=cap_field,
    )
    if b'"anthropic_version"' in seen.frame:
        return body
    brace = body.index(b"{") + 1
    return b"%b%b,%b" % (body[:brace], _ON_VERTEX, body[brace:])


def _cap_edits(seen: Look, output_cap: int | None) -> list[tuple[int, int, bytes]]:
    """Give the edits that a cap brings about."""
    if output_cap is None or not seen.caps_present or seen.output_cap == output_cap:
        return []
    start, end = cap_span(seen, "max_tokens")
    return [(start, end, b"%d" % output_cap), *_less_thinking(seen.frame, output_cap)]


def _less_thinking(frame: bytes, output_cap: int) -> list[tuple[int, int, bytes]]:
    """Give the edit that keeps the budget of thinking below the cap, if it is not."""
    span = json_edit.locate(frame, "thinking")
    if span is None:
        return []
    thinking = msgspec.json.decode(frame[span[0] : span[1]])
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    if not isinstance(budget, int) or budget < output_cap:
        return []
    if output_cap > LEAST_THINKING:
        thinking["budget_tokens"] = output_cap - 1
    else:
        thinking = {"type": "disabled"}
    return [(*span, msgspec.json.encode(thinking))]


def _user(metadata: Raw) -> str | None:
    if bytes(metadata) == b"null":
        return None
    try:
        return _METADATA.decode(metadata).user_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadField(
            "metadata.user_id", "metadata.user_id must be a string", "invalid_type"
        ) from error


def _dearer(doc: _Messages) -> tuple[str, str] | None:
    if len(doc.tools) and b'"type"' in bytes(doc.tools):
        for tool in inner(_TOOLS, doc.tools, "tools", "an array of tools"):
            if tool.type is not None and not _RUN_BY_CALLER.match(tool.type):
                return "tools", tool.type
    if len(doc.mcp_servers) > 2:
        return "mcp_servers", "…"
    if doc.speed not in {None, "standard"}:
        return "speed", str(doc.speed)
    if doc.inference_geo not in {None, "global"}:
        return "inference_geo", str(doc.inference_geo)
    return None


# Measuring...


def _measure(raw: Raw) -> tuple[int, int, int, int]:
    """
    Count the messages, the bytes of payload among their text, and the tokens of that: likely, most.

    Content that is not shaped as documented counts as text: too much rather than too little.
    """
    wanted = "an array of message objects"
    sums = [0, 0, 0]
    messages: list[Any]
    if bytes(raw).find(b"[", 1) < 0:
        messages = inner(_PLAIN_TURNS, raw, "messages", wanted)
    else:
        try:
            messages = _TURNS.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            messages = inner(_PLAIN_TURNS, raw, "messages", wanted)
        else:
            for message in messages:
                if type(message.content) is list:
                    _add(message.content, sums)
    if not messages:
        raise BadField("messages", "messages is empty; send at least one message")
    payload, likely, most = sums
    return len(messages), payload, likely, most


def _add(blocks: list[Any], sums: list[int]) -> None:
    """Add the payload and the tokens of these blocks, and of those within results of tools."""
    for block in blocks:
        if type(block) is not _Block:
            continue
        if block.source is not None and block.source.type != "text":
            if block.source.type == "base64":
                sums[0] += len(block.source.data)
            tokens = IMAGE_TOKENS if block.type == "image" else FILE_TOKENS
            sums[1] += tokens[0]
            sums[2] += tokens[1]
        if type(block.content) is list:
            _add(block.content, sums)
