r"""
A look at an OpenAI request: what the gateway must know of it, and the few bytes it changes.

`look` decodes the members that matter and skips the rest; `rewrite` changes the model's name, asks
for usage, and sets the output cap, and leaves every other byte alone. Both work on the bytes as
the caller sent them.

**One meaning.** A body is refused when two parsers could read a member that matters differently:
a duplicate, or a twin that differs only in letter case (Go's ``encoding/json`` takes
``Max_Tokens`` for ``max_tokens``).

**How it stays cheap.** The one large member (the messages) is cut out of the body first. What is
left, the *frame*, is a few hundred bytes, and counting and searching there costs nothing, however
long the conversation is.

**Tokens.** Tokenizers are too slow for the event loop, so tokens are estimated from UTF-8 bytes.
Characters would undercount Chinese by two thirds; bytes/4 is within 31 % for English, 2 % for
Chinese and Korean, -27 % for code, +62 % for Russian (measured against o200k_base).

- `input_estimate` is the likely count: the text's bytes less the JSON around a message, a quarter
  of that, and four tokens for each message. It is what a token rate is charged at admission.
- `input_bound` is the most it can be: a byte-level BPE never makes more tokens than there are
  bytes, so it is the whole body's bytes plus margins for what the vendor's template adds. It is
  what a strict budget holds.
- A ``\uXXXX`` escape (clients that write ASCII only) counts as the UTF-8 bytes it stands for.
- Base64 payloads are not text: a part counts what vendors document for its kind, see the table
  below. An image or file named by URL or id counts the same.

Protocol: OpenAI's API reference for chat completions, completions and embeddings.
"""

import re
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from proxy.wire import json_edit
from proxy.wire.json_edit import DuplicateMember

__all__ = ["BadField", "Hints", "Kind", "Look", "look", "rewrite"]

Kind = Literal["chat", "completions", "embeddings"]

MAX_MODEL_NAME = 256
MAX_CHOICES = 128  # OpenAI's own limit for n
MAX_OUTPUT_CAP = 10_000_000
MAX_USER = 1024

# Tokens per part of a message that is not text: (likely, most).
# Image: 85 + 170 per tile of gpt-4o, 765 at 1024x1024; the dearest documented is gpt-4o-mini with
# 2833 + 5667 for each of 8 tiles. Low detail is 85, and 2833 on gpt-4o-mini.
IMAGE_TOKENS = (800, 48_169)
LOW_DETAIL_TOKENS = (85, 2_833)
# A file: text and picture of each page; 100 pages of 1,500 likely, 4,000 at most. A model's context
# ends it earlier, so whoever uses the bound takes the smaller of the two.
FILE_TOKENS = (5_000, 400_000)
VIDEO_TOKENS = (10_000, 400_000)
# Audio, per base64 character: 10 tokens/s at 64 kbit/s likely, 32 tokens/s (Gemini) at 8 kbit/s most.
AUDIO_CHARS_PER_TOKEN = (1_066, 41)

# What a chat template adds: for the answer's start, for tools (Anthropic documents 346, and Qwen's
# template is about 200), and per message.
ANSWER_START = 3
MESSAGE_TOKENS = 4
MESSAGE_JSON = 26  # bytes of {"role":"user","content":""}, less the quotes that may be a token
# Tools shorter than this stay in the frame: to cut them out costs more than to search them.
SMALL_TOOLS = 256
TEMPLATE_BOUND = 64
TOOLS_BOUND = 512
MESSAGE_BOUND = 8


class BadField(ValueError):
    """
    The caller's body cannot be served: answer 400.

    `param` names the field (None when it is the body as a whole), `message` says what to do, and
    `code` is the public word: ``invalid_json``, ``missing``, ``invalid_type``, ``invalid_value`` or
    ``duplicate``.
    """

    def __init__(self, param: str | None, message: str, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.param = param
        self.message = message
        self.code = code


class Hints(msgspec.Struct, frozen=True, gc=False):
    """What a caller said about scheduling under ``metadata``; None or empty where nothing."""

    biz_level: str | None = None
    prefer_cost: str | None = None
    capabilities: tuple[str, ...] = ()


class Look(msgspec.Struct, gc=False):
    """
    What one look at a request's body found.

    `output_cap` is the greatest number of output tokens that any cap field allows each answer, None
    when the caller set none; `cap_fields` are the fields that did. `n` is how many answers are
    generated in all (n or best_of, times the prompts of a completion): the cap holds for each.
    `input_estimate` and `input_bound` are tokens, see the module. `hints` is None without metadata
    that speaks of scheduling. `messages` counts messages, prompts or inputs. `service_tier` is the
    processing tier that the caller asks the vendor for.
    """

    kind: Kind
    model: str
    stream: bool
    asked_usage: bool
    output_cap: int | None
    cap_fields: tuple[str, ...]
    n: int
    user: str | None
    input_estimate: int
    input_bound: int
    hints: Hints | None
    messages: int
    # How rewrite finds its way: the body without its large members, and (offset in the frame,
    # bytes cut out there) for each.
    frame: bytes
    cuts: tuple[tuple[int, int], ...]
    # In the frame each member that matters is named once and without escapes.
    plain: bool
    # Cap fields that are there, those with null included; whether stream_options is there.
    caps_present: tuple[str, ...]
    has_stream_options: bool
    service_tier: str | None = None


# What a member that is not there decodes to; msgspec has no unions with Raw.
_NONE = Raw(b"")


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
    metadata: Raw = _NONE
    tools: Raw = _NONE
    functions: Raw = _NONE
    response_format: Raw = _NONE
    service_tier: str | None = None


class _Completions(msgspec.Struct, gc=False):
    model: str
    prompt: Raw = _NONE
    stream: bool | None = None
    stream_options: _StreamOptions | UnsetType | None = UNSET
    max_tokens: int | UnsetType | None = UNSET
    n: int | None = None
    best_of: int | None = None
    user: str | None = None
    metadata: Raw = _NONE


class _Embeddings(msgspec.Struct, gc=False):
    model: str
    input: Raw
    user: str | None = None
    metadata: Raw = _NONE


class _Hints(msgspec.Struct, gc=False):
    biz_level: str | None = None
    prefer_cost: str | None = None
    capabilities: str | list[str] | None = None


class _Nothing(msgspec.Struct, gc=False):
    pass


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
_PLAIN_MESSAGES = msgspec.json.Decoder(list[_Nothing])
_MESSAGES = msgspec.json.Decoder(list[_Message])
_HINTS = msgspec.json.Decoder(_Hints)
_INTS = msgspec.json.Decoder(list[int])
_LISTS = msgspec.json.Decoder(list[list[int]])
_ITEMS = msgspec.json.Decoder(list[str | dict[str, Any]])

_QUOTE, _BACKSLASH, _BRACKET, _BRACE = b'"\\[{'

# The members that matter, by kind: whoever reads another meaning into one gets past a limit.
_CHAT_KEYS = re.compile(rb'"(?:m(?:odel|essages|ax_(?:completion_)?tokens)|stream(?:_options)?|n)"')
_COMPLETIONS_KEYS = re.compile(rb'"(?:m(?:odel|ax_tokens)|prompt|stream(?:_options)?|n|best_of)"')
_EMBEDDINGS_KEYS = re.compile(rb'"(?:model|input)"')
# Letters that Unicode folds onto an ASCII one: long s and the Kelvin sign.
_FOLDING = re.compile("\u017f|\u212a".encode())
_AFTER_KEY = re.compile(rb"[ \t\n\r]*+:[ \t\n\r]*+")
_CAP_VALUE = re.compile(rb"[ \t\n\r]*+:[ \t\n\r]*+([0-9]+|null)")
_FIRST_ITEM = re.compile(rb"\[[ \t\n\r]*+(.)", re.DOTALL)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# Escapes whose UTF-8 is shorter than three bytes: up to U+07FF, and each half of a surrogate pair.
_SHORT_ESCAPE = re.compile(rb"\\u(?:0[0-7]|[dD][89a-fA-F])")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_SAYS_HINTS = re.compile(rb"biz_level|prefer_cost|capabilities|\\u")
_PATH = re.compile(r" - at `\$\.?([^`]*)`")
_MISSING = re.compile(r"missing required field `([^`]*)`")
_EXPECTED = re.compile(r"Expected `([^`]*)`, got `([^`]*)`")


def look(kind: Kind, body: bytes) -> Look:
    """
    Look at `body`, a request of `kind`; raises `BadField` for what cannot be served.

    Costs about 2.5 us for a short conversation, and some 0.4 ns for each further byte.
    """
    return _LOOKS[kind](body)


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
        start, end = _model_span(seen)
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
            start, end = _cap_span(seen, present[0])
            edits.append((start, end, b"%d" % output_cap))
    if inserts:
        brace = frame.index(b"{") + 1
        edits.append((brace, brace, inserts))
    if not edits:
        return body
    if len(edits) > 1:
        edits.sort()
    pieces: list[bytes] = []
    at = 0
    for start, end, new in edits:
        # From an offset in the frame to the one in the body.
        shift = 0
        for cut, length in seen.cuts:
            if start > cut:
                shift += length
        pieces += (body[at : start + shift], new)
        at = end + shift
    pieces.append(body[at:])
    return b"".join(pieces)


def _look_chat(body: bytes) -> Look:
    doc: _Chat = _decode(_CHAT, body)
    raw = doc.messages
    length = len(raw)
    # The two spellings that encoders write; `_place` knows all, and why the bytes are compared.
    at = body.find(b'"messages":[') + 11
    if at < 11:
        at = body.find(b'"messages": [') + 12
    if at < 12 or not body.startswith(bytes(raw), at):
        at = _place(body, b'"messages"', raw, "messages")
    end = at + length
    frame = body[:at] + body[end:]
    cuts: tuple[tuple[int, int], ...] = ((at, length),)
    if len(doc.tools) > SMALL_TOOLS:
        frame, cuts = _cut_tools(frame, doc.tools, at, length)
    asked_usage = False
    options = doc.stream_options
    if options is not UNSET and options is not None:
        asked_usage = _asks_usage(options, doc.stream)
    cap: int | None = None
    caps: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    value = doc.max_completion_tokens
    if value is not UNSET:
        caps = ("max_completion_tokens",)
        if value is not None:
            cap = _checked_cap("max_completion_tokens", value)
            named = caps
    value = doc.max_tokens
    if value is not UNSET:
        caps += ("max_tokens",)
        if value is not None:
            _checked_cap("max_tokens", value)
            named += ("max_tokens",)
            if cap is None or value > cap:
                cap = value
    n = 1 if doc.n is None else _checked_choices("n", doc.n)
    plain = _is_plain(
        frame,
        _CHAT_KEYS,
        2 + (doc.stream is not None) + (options is not UNSET) + (doc.n is not None) + len(caps),
    )
    _check_model(doc.model)

    text = length
    media = 0, 0
    if body.find(_BRACKET, at + 1, end) < 0:
        count = len(_inner(_PLAIN_MESSAGES, raw, "messages", "an array of message objects"))
    else:
        count, cut, media = _measure(raw)
        text -= cut
    if not count:
        raise BadField("messages", "messages is empty; send at least one message")
    bound = len(body) - length + text + MESSAGE_BOUND * count + TEMPLATE_BOUND
    if len(doc.tools):
        text += len(doc.tools)
        bound += TOOLS_BOUND
    if len(doc.functions):
        text += len(doc.functions)
        bound += TOOLS_BOUND
    text += len(doc.response_format)
    if _BACKSLASH in body and b"\\u" in body:
        saved = _escape_surplus(body)
        text = max(text - saved, 0)
        bound -= saved
    return Look(
        "chat",
        doc.model,
        doc.stream is True,
        asked_usage,
        cap,
        named,
        n,
        doc.user,
        (max(text - MESSAGE_JSON * count, 0) + 3) // 4
        + MESSAGE_TOKENS * count
        + ANSWER_START
        + media[0],
        bound + media[1],
        _hints(doc.metadata) if len(doc.metadata) else None,
        count,
        frame,
        cuts,
        plain,
        caps,
        options is not UNSET,
        doc.service_tier,
    )


def _look_completions(body: bytes) -> Look:
    doc: _Completions = _decode(_COMPLETIONS, body)
    raw = doc.prompt
    at = 0
    length = len(raw)
    if length:
        at = _place(body, b'"prompt"', raw, "prompt")
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
            cap = _checked_cap("max_tokens", doc.max_tokens)
    n = 1 if doc.n is None else _checked_choices("n", doc.n)
    if doc.best_of is not None:
        n = max(n, _checked_choices("best_of", doc.best_of))
    plain = _is_plain(
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
    _check_model(doc.model)
    count, estimate, bound = _measure_items(raw, "prompt") if length else (1, 1, 1)
    return Look(
        "completions",
        doc.model,
        doc.stream is True,
        asked_usage,
        cap,
        caps if cap is not None else (),
        n * count,
        doc.user,
        estimate,
        len(frame) + bound + TEMPLATE_BOUND,
        _hints(doc.metadata) if len(doc.metadata) else None,
        count,
        frame,
        ((at, length),),
        plain,
        caps,
        options is not UNSET,
    )


def _look_embeddings(body: bytes) -> Look:
    doc: _Embeddings = _decode(_EMBEDDINGS, body)
    raw = doc.input
    length = len(raw)
    at = _place(body, b'"input"', raw, "input")
    frame = body[:at] + body[at + length :]
    plain = _is_plain(frame, _EMBEDDINGS_KEYS, 2)
    _check_model(doc.model)
    count, estimate, bound = _measure_items(raw, "input")
    return Look(
        "embeddings",
        doc.model,
        False,
        False,
        None,
        (),
        1,
        doc.user,
        estimate,
        len(frame) + bound + TEMPLATE_BOUND,
        _hints(doc.metadata) if len(doc.metadata) else None,
        count,
        frame,
        ((at, length),),
        plain,
        (),
        False,
    )


_LOOKS = {"chat": _look_chat, "completions": _look_completions, "embeddings": _look_embeddings}


# Decoding...


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _decode_again(decoder, body, error)


def _decode_again(decoder: msgspec.json.Decoder[Any], body: bytes, first: Exception) -> Any:
    # msgspec refuses a lone surrogate even where it skips. JavaScript sends them and it is for the
    # vendor to judge, so look at a copy in which each is U+FFFD: spelled in as many bytes, so that
    # every offset stays.
    if not isinstance(first, msgspec.ValidationError) and b"\\u" in body:
        mended = _ESCAPE.sub(_mend, body)
        if mended != body:
            try:
                return decoder.decode(mended)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise _explain(error) from error
    raise _explain(first) from first


def _mend(escape: re.Match[bytes]) -> bytes:
    return b"\\ufffd" if escape.group(1) else escape.group()


def _inner(decoder: msgspec.json.Decoder[Any], raw: Raw, param: str, wanted: str) -> Any:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise BadField(param, f"{param} must be {wanted}: {error}", "invalid_type") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            return _decode_again(decoder, bytes(raw), error)
        except BadField as bad:
            raise BadField(param, f"{param} must be {wanted}: {bad.message}", bad.code) from error


def _explain(error: Exception, within: str = "") -> BadField:
    """Say it in words; `within` is the member that holds what was decoded."""
    if isinstance(error, RecursionError):
        return BadField(None, "the JSON body is nested too deeply; flatten it", "invalid_json")
    if isinstance(error, UnicodeDecodeError):
        return BadField(
            None, f"the JSON body is not valid UTF-8: {error.reason}; send UTF-8", "invalid_json"
        )
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return BadField(None, f"the body is not valid JSON: {text}", "invalid_json")
    missing = _MISSING.search(text)
    path = _PATH.search(text)
    param = path.group(1) if path else ""
    if within:
        param = f"{within}.{param}" if param else within
    if missing:
        param = f"{param}.{missing.group(1)}" if param else missing.group(1)
        return BadField(param, f"{param} is missing; add it", "missing")
    if not param:
        return BadField(None, "the body must be a JSON object", "invalid_type")
    expected = _EXPECTED.search(text)
    if expected is None:
        return BadField(param, f"{param} cannot be used: {text}")
    wanted, got = expected.groups()
    wanted = _WORDS.get(wanted.removesuffix(" | null"), wanted)
    return BadField(param, f"{param} must be {wanted}, not {got}", "invalid_type")


_WORDS = {
    "int": "an integer",
    "str": "a string",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
}


# Checking...


def _place(body: bytes, quoted: bytes, raw: Raw, name: str) -> int:
    """Find where the value `raw` of the top-level member lies in the body."""
    at = body.find(quoted)
    if at >= 0:
        start = at + len(quoted)
        if body[start] == 0x3A and body[start + 1] not in b" \t\n\r":
            start += 1
        else:
            colon = _AFTER_KEY.match(body, start)
            start = colon.end() if colon else start
        # The same bytes as the value that was decoded: either they are it, or they are a copy of
        # it inside another member, and then that copy may be cut out as well.
        if body.startswith(bytes(raw), start):
            return start
    try:
        return json_edit.locate_known(body, name)[0]
    except DuplicateMember as error:
        raise _twice(name) from error


def _cut_tools(
    frame: bytes, raw: Raw, at: int, length: int
) -> tuple[bytes, tuple[tuple[int, int], ...]]:
    """Cut the tools out of the frame as well; `at` and `length` are of the cut before."""
    tools = _place(frame, b'"tools"', raw, "tools")
    short = len(raw)
    if tools < at:
        at -= short
    return frame[:tools] + frame[tools + short :], ((at, length), (tools, short))


def _is_plain(frame: bytes, keys: re.Pattern[bytes], expected: int) -> bool:
    """
    Say whether each member that matters is named once in the frame, and in plain letters.

    `expected` is how many of them the decoder found. Refuses a frame in which two parsers could
    read one of them differently.
    """
    if (
        len(keys.findall(frame.lower())) == expected
        and (_BACKSLASH not in frame or b"\\u" not in frame)
        and (frame.isascii() or _FOLDING.search(frame) is None)
    ):
        return True
    seen: set[str] = set()
    for member in json_edit.scan(frame):
        name = member.name
        folded = name.casefold()
        if keys.fullmatch(b'"%b"' % folded.encode("utf-8", "replace")) is None:
            continue
        if folded != name:
            raise BadField(
                name, f"{name!r} differs from {folded!r} only in case; spell it so, or drop it"
            )
        if name in seen:
            raise _twice(name)
        seen.add(name)
    return False


def _twice(name: str) -> BadField:
    return BadField(name, f"{name} is given more than once; keep one", "duplicate")


def _check_model(model: str) -> None:
    if not model:
        raise BadField("model", "model is empty; name a model, see GET /v1/models")
    if len(model) > MAX_MODEL_NAME:
        raise BadField("model", f"model is longer than {MAX_MODEL_NAME} characters")
    if not model.isprintable() and _CONTROL.search(model):
        raise BadField("model", "model holds control characters; send its plain name")


def _asks_usage(options: _StreamOptions, stream: bool | None) -> bool:
    if not stream:
        raise BadField(
            "stream_options", "stream_options needs stream: true; set it or drop the options"
        )
    return options.include_usage is True


def _checked_cap(param: str, value: int) -> int:
    if 0 < value <= MAX_OUTPUT_CAP:
        return value
    if value <= 0:
        raise BadField(param, f"{param} must be at least 1, not {value}")
    raise BadField(param, f"{param} must be at most {MAX_OUTPUT_CAP}")


def _checked_choices(param: str, value: int) -> int:
    if 0 < value <= MAX_CHOICES:
        return value
    raise BadField(param, f"{param} must be from 1 to {MAX_CHOICES}")


def _hints(raw: Raw) -> Hints | None:
    # Metadata is the caller's own; only what is said about scheduling is judged.
    text = bytes(raw)
    if text[0] != _BRACE or not _SAYS_HINTS.search(text):
        return None
    try:
        hints = _HINTS.decode(raw)
    except msgspec.ValidationError as error:
        raise _explain(error, "metadata") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _explain(error) from error
    named = hints.capabilities
    if isinstance(named, str):
        # OpenAI allows only strings in metadata.
        named = named.split(",")
    tags = tuple([tag for part in named or () if (tag := part.strip())])
    if hints.biz_level is None and hints.prefer_cost is None and not tags:
        return None
    return Hints(hints.biz_level, hints.prefer_cost, tags)


# Measuring...


def _escape_surplus(text: bytes) -> int:
    r"""
    Say by how many bytes the ``\u`` escapes are longer than their UTF-8, at least.

    An escape is six bytes for at most three. One right after another backslash may be no escape and is
    not counted, so the surplus is never too large.
    """
    escapes = text.count(b"\\u") - text.count(b"\\\\u")
    surplus = 3 * escapes
    if text.find(b"\\u0") >= 0 or text.find(b"\\ud") >= 0 or text.find(b"\\uD") >= 0:
        surplus += max(len(_SHORT_ESCAPE.findall(text)) - text.count(b"\\\\u"), 0)
    return surplus


def _measure(raw: Raw) -> tuple[int, int, tuple[int, int]]:
    """
    Count messages, the bytes of payload among their text, and the tokens (likely, most) of that.

    Content that is not shaped as documented counts as text: too much rather than too little.
    """
    try:
        messages = _MESSAGES.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return (
            len(_inner(_PLAIN_MESSAGES, raw, "messages", "an array of message objects")),
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
        items = _inner(_ITEMS, raw, param, wanted)
        return len(items), *_text_tokens(text, len(items))
    if start == b"[":
        lists = _inner(_LISTS, raw, param, wanted)
        tokens = sum(map(len, lists))
        if not all(lists):
            raise BadField(param, f"{param} has an empty item; send at least one token in each")
        return len(lists), tokens, tokens
    tokens = len(_inner(_INTS, raw, param, wanted))
    return 1, tokens, tokens


def _text_tokens(text: bytes, count: int) -> tuple[int, int]:
    length = len(text)
    if _BACKSLASH in text and b"\\u" in text:
        length -= _escape_surplus(text)
    # An item is at least one token; two quotes and a separator of each are no text.
    return max((length - 3 * count + 3) // 4, count), length + MESSAGE_BOUND * count


# Rewriting...


def _model_span(seen: Look) -> tuple[int, int]:
    frame = seen.frame
    if seen.plain:
        start = frame.find(b'"', frame.find(b'"model"') + 7)
        end = frame.find(b'"', start + 1) + 1
        if frame.find(_BACKSLASH, start, end) < 0:
            return start, end
    return json_edit.locate_known(frame, "model")


def _cap_span(seen: Look, name: str) -> tuple[int, int]:
    if seen.plain:
        frame = seen.frame
        value = _CAP_VALUE.match(frame, frame.find(b'"%b"' % name.encode()) + len(name) + 2)
        if value is not None:
            return value.span(1)
    return json_edit.locate_known(seen.frame, name)


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
