"""
A look at a Gemini request: what the gateway must know of it, and the few bytes it changes.

The model and whether the answer is streamed stand in the URL, so that a body has neither; only the output
cap in it ever changes. Names are read in both of their spellings (``maxOutputTokens``,
``max_output_tokens``), as Google does; how a body is looked at, and how tokens are estimated, stands in
`look`.

Protocol: https://ai.google.dev/api/generate-content
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw

from proxy.wire import json_edit
from proxy.wire.look import (
    ABSENT,
    FILE_TOKENS,
    MESSAGE_BOUND,
    MESSAGE_TOKENS,
    SMALL_TOOLS,
    TEMPLATE_BOUND,
    TOOLS_BOUND,
    VIDEO_TOKENS,
    BadField,
    Hints,
    Look,
    carve,
    checked_cap,
    checked_choices,
    decode,
    escape_surplus,
    hints_in,
    inner,
    is_plain,
    splice,
)
from proxy.wire.translate.counts import counted_body

__all__ = [
    "estimated_count",
    "look_count",
    "look_embed",
    "look_stream",
    "look_whole",
    "rewrite",
    "rewrite_embed",
]

# An image is 258 tokens for each tile of 768 x 768 (documented); a film 300 a second, a sound 32.
IMAGE_TOKENS = (516, 5_000)

_KEYS = re.compile(rb'"(?:contents|generationconfig|generation_config)"')
_CONFIGS = ("generationConfig", "generation_config")
_CAPS = ("maxOutputTokens", "max_output_tokens")
_SYSTEMS = ("systemInstruction", "system_instruction")
# Tools that Google runs itself, and bills besides.
_RUN_BY_CALLER = frozenset({"functionDeclarations", "function_declarations", "computerUse"})


class _Config(msgspec.Struct, gc=False):
    maxOutputTokens: int | None = None  # noqa: N815 - the protocol's name
    max_output_tokens: int | None = None
    candidateCount: int | None = None  # noqa: N815 - the protocol's name
    candidate_count: int | None = None


class _Request(msgspec.Struct, gc=False):
    contents: Raw
    systemInstruction: Raw = ABSENT  # noqa: N815 - the protocol's name
    system_instruction: Raw = ABSENT
    tools: Raw = ABSENT
    generationConfig: _Config | None = None  # noqa: N815 - the protocol's name
    generation_config: _Config | None = None
    cachedContent: str | None = None  # noqa: N815 - the protocol's name
    cached_content: str | None = None
    metadata: Raw = ABSENT
    labels: Raw = ABSENT


class _Blob(msgspec.Struct, gc=False):
    mimeType: str | None = None  # noqa: N815 - the protocol's name
    mime_type: str | None = None
    data: Raw = ABSENT


class _Part(msgspec.Struct, gc=False):
    inlineData: _Blob | None = None  # noqa: N815 - the protocol's name
    inline_data: _Blob | None = None
    fileData: _Blob | None = None  # noqa: N815 - the protocol's name
    file_data: _Blob | None = None


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


_REQUEST = msgspec.json.Decoder(_Request)
_CONTENTS = msgspec.json.Decoder(list[_Content])
_PLAIN = msgspec.json.Decoder(list[dict[str, Raw]])
_TOOLS = msgspec.json.Decoder(list[dict[str, Raw]])

UNSEEN_TOKENS = 1 << 40


def look_whole(body: bytes) -> Look:
    """Look at a request of generateContent; the model's name is the URL's to say. Raises `BadField`."""
    return _look(body, stream=False)


def look_stream(body: bytes) -> Look:
    """Look at a request of streamGenerateContent. Raises `BadField`."""
    return _look(body, stream=True)


def look_count(body: bytes) -> Look:
    """Look at a request of countTokens, which uses none. Raises `BadField`."""
    decode(_ANY, body)
    return Look("", False, True, None, 1, None, 0, 0, None, 1, body, (), True, (), False)


def estimated_count(body: bytes) -> bytes:
    """Answer a request of countTokens with what admission would reckon. Raises `BadField`."""
    return b'{"totalTokens":%d}' % look_whole(counted_body(body)).input_estimate


def look_embed(body: bytes) -> Look:
    """Look at a request of embedContent or batchEmbedContents. Raises `BadField`."""
    doc = decode(_ANY, body)
    count = 1
    if "requests" in doc:
        count = len(inner(_ANYS, doc["requests"], "requests", "an array of requests"))
        if not count:
            raise BadField("requests", "requests is empty; send at least one")
    elif "content" not in doc:
        raise BadField("content", "content is missing; add it", "missing")
    size = len(body) - escape_surplus(body)
    return Look(
        "",
        False,
        True,
        None,
        1,
        None,
        max((size + 3) // 4 - 8 * count, count),
        size + MESSAGE_BOUND * count,
        None,
        count,
        body,
        (),
        True,
        (),
        False,
    )


def rewrite_embed(
    body: bytes,
    seen: Look,
    *,
    upstream_model: str,
    include_usage: bool,
    output_cap: int | None,
    cap_field: str | None,
) -> bytes:
    """Give the body that goes upstream: where it names the model, as the URL does."""
    if upstream_model == seen.model:
        return body
    name = Raw(msgspec.json.encode(f"models/{upstream_model.removeprefix('models/')}"))
    doc: dict[str, Raw] = decode(_ANY, body)
    if "model" in doc:
        doc["model"] = name
    if "requests" in doc:
        each = inner(_ANYS, doc["requests"], "requests", "an array of requests")
        doc["requests"] = Raw(msgspec.json.encode([one | {"model": name} for one in each]))
    return msgspec.json.encode(doc)


_ANY = msgspec.json.Decoder(dict[str, Raw])
_ANYS = msgspec.json.Decoder(list[dict[str, Raw]])


def _look(body: bytes, *, stream: bool) -> Look:
    doc: _Request = decode(_REQUEST, body)
    system = doc.systemInstruction, doc.system_instruction
    large = [("contents", doc.contents)]
    if len(doc.tools) > SMALL_TOOLS:
        large.append(("tools", doc.tools))
    for name, raw in zip(_SYSTEMS, system, strict=True):
        if len(raw) > SMALL_TOOLS:
            large.append((name, raw))
    frame, cuts = carve(body, large)
    config = doc.generationConfig or doc.generation_config
    if doc.generationConfig is not None and doc.generation_config is not None:
        raise BadField(
            "generationConfig", "generationConfig is given in two spellings; keep one", "duplicate"
        )
    # Members of another case than ours are Google's own spellings, and no twins.
    plain = is_plain(
        frame.replace(b'"generationConfig"', b'"generationconfig"'),
        _KEYS,
        1 + (config is not None),
    )
    caps: list[int] = []
    choices = 1
    if config is not None:
        caps = [
            checked_cap("generationConfig.maxOutputTokens", cap)
            for cap in (config.maxOutputTokens, config.max_output_tokens)
            if cap is not None
        ]
        choices = checked_choices(
            "generationConfig.candidateCount", config.candidateCount or config.candidate_count or 1
        )
    count, payload, likely, most = _measure(doc.contents)
    text = len(doc.contents) + len(system[0]) + len(system[1]) + len(doc.tools) - payload
    bound = len(body) - payload + MESSAGE_BOUND * count + TEMPLATE_BOUND + TOOLS_BOUND + most
    saved = escape_surplus(body)
    if saved:
        text = max(text - saved, 0)
        bound -= saved
    kept = doc.cachedContent or doc.cached_content
    return Look(
        "",
        stream,
        # Usage is a part of every answer, asked for or not.
        True,
        max(caps) if caps else None,
        choices,
        None,
        (text + 3) // 4 + MESSAGE_TOKENS * count + likely,
        UNSEEN_TOKENS if kept else bound,
        _hints(doc),
        count,
        frame,
        cuts,
        plain,
        (),
        False,
        _dearer(doc) if len(doc.tools) > 2 else None,
        "cachedContent" if kept else None,
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

    `seen` is what a look found in this very body. Only the output cap is in it; the model's name is in the URL.
    """
    if output_cap is None or seen.output_cap == output_cap:
        return body
    frame = seen.frame
    new = {"maxOutputTokens": b"%d" % output_cap}
    # A frame in plain letters that does not name it has none.
    for name in () if seen.plain and frame.find(b'"generation') < 0 else _CONFIGS:
        span = json_edit.locate(frame, name)
        if span is None:
            continue
        config = frame[span[0] : span[1]]
        if not config.startswith(b"{"):  # null
            config = b"{}"
        return splice(body, seen, [(*span, json_edit.edit(config, insert=new, remove=_CAPS))])
    brace = frame.index(b"{") + 1
    return splice(
        body, seen, [(brace, brace, b'"generationConfig":{"maxOutputTokens":%d},' % output_cap)]
    )


def _hints(doc: _Request) -> Hints | None:
    """Return what is declared in Google's ``labels``, or in the other protocols' ``metadata``."""
    said = doc.metadata if len(doc.metadata) else doc.labels
    return hints_in(said) if len(said) else None


def _dearer(doc: _Request) -> tuple[str, str] | None:
    if bytes(doc.tools) != b"null":
        for tool in inner(_TOOLS, doc.tools, "tools", "an array of tools"):
            for name in tool:
                if name not in _RUN_BY_CALLER:
                    return "tools", name
    return None


def _measure(raw: Raw) -> tuple[int, int, int, int]:
    """Count the contents, the bytes of payload among their text, and the tokens of that: likely, most."""
    try:
        contents = _CONTENTS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Parts of another shape count as text: too much rather than too little.
        contents = []
        count = len(inner(_PLAIN, raw, "contents", "an array of content objects"))
    else:
        count = len(contents)
    if not count:
        raise BadField("contents", "contents is empty; send at least one")
    payload = likely = most = 0
    for blob in _blobs(contents):
        kind = (blob.mimeType or blob.mime_type or "").partition("/")[0]
        tokens = {"image": IMAGE_TOKENS, "video": VIDEO_TOKENS, "audio": VIDEO_TOKENS}.get(
            kind, FILE_TOKENS
        )
        payload += len(blob.data)
        likely += tokens[0]
        most += tokens[1]
    return count, payload, likely, most


def _blobs(contents: list[Any]) -> Iterator[_Blob]:
    for content in contents:
        for part in content.parts or ():
            for blob in (part.inlineData, part.inline_data, part.fileData, part.file_data):
                if blob is not None:
                    yield blob
