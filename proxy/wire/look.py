r"""
What one look at a request's body finds, in any protocol, and how what must change is spliced into it.

A protocol's own module (`openai`, `anthropic`) says which members matter and what they mean; here is what all of them do alike.

**One meaning.** A body is refused when two parsers could read a member that matters differently:
a duplicate, or a twin that differs only in letter case (Go's ``encoding/json`` takes
``Max_Tokens`` for ``max_tokens``).

**How it stays cheap.** The large members (the messages) are cut out of the body first. What is
left, the *frame*, is a few hundred bytes, and counting and searching there costs nothing, however
long the conversation is. Every other byte of the body stays as the caller sent it.

**Tokens.** Tokenizers are too slow for the event loop, so tokens are estimated from UTF-8 bytes.
Characters would undercount Chinese by two thirds; bytes/4 is within 31 % for English, 2 % for
Chinese and Korean, -27 % for code, +62 % for Russian (measured against o200k_base).

- `input_estimate` is the likely count: the text's bytes less the JSON around a message, a quarter
  of that, and four tokens for each message. It is what a token rate is charged at admission.
- `input_bound` is the most it can be: a byte-level BPE never makes more tokens than there are
  bytes, so it is the whole body's bytes plus margins for what the vendor's template adds. It is
  what a strict budget holds.
- A ``\uXXXX`` escape (clients that write ASCII only) counts as the UTF-8 bytes it stands for.
- Base64 payloads are not text: a part counts what vendors document for its kind.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from proxy.wire import json_edit
from proxy.wire.json_edit import DuplicateMember
from proxy.wire.units import Sold

__all__ = [
    "ABSENT",
    "HINTS",
    "HOLDERS",
    "Anything",
    "BadField",
    "Hints",
    "Look",
    "cap_span",
    "carve",
    "check_model",
    "checked_cap",
    "checked_choices",
    "decode",
    "escape_surplus",
    "hints_in",
    "inner",
    "is_plain",
    "model_span",
    "named",
    "place",
    "rename",
    "splice",
    "twice",
    "uncapped",
]

# A file: text and picture of each page; 100 pages of 1,500 likely, 4,000 at most. A model's context
# ends it earlier, so whoever uses the bound takes the smaller of the two.
FILE_TOKENS = (5_000, 400_000)
VIDEO_TOKENS = (10_000, 400_000)
# What a chat template adds: for the answer's start, for tools (Anthropic documents 346, and Qwen's
# template is about 200), and per message.
ANSWER_START = 3
MESSAGE_TOKENS = 4
MESSAGE_JSON = 26  # bytes of {"role":"user","content":""}, less the quotes that may be a token
TEMPLATE_BOUND = 64
TOOLS_BOUND = 512
MESSAGE_BOUND = 8

MAX_MODEL_NAME = 256

MAX_CHOICES = 128  # OpenAI's own limit for n

MAX_OUTPUT_CAP = 10_000_000

MAX_USER = 1024

# Tools shorter than this stay in the frame: to cut them out costs more than to search them.
SMALL_TOOLS = 256


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
    """
    What a caller said about scheduling under ``metadata``; None or empty where nothing.

    `others` are the declarations that are rarer, by the name of their header without ``x-``.
    """

    biz_level: str | None = None
    prefer_cost: str | None = None
    capabilities: tuple[str, ...] = ()
    others: tuple[tuple[str, str], ...] = ()


class Look(msgspec.Struct, gc=False):
    """
    What one look at a request's body found.

    `output_cap` is the greatest number of output tokens that any cap field allows each answer, None
    when the caller set none. `n` is how many answers are generated in all (n or best_of, times the
    prompts of a completion): the cap holds for each.
    `input_estimate` and `input_bound` are tokens, see the module. `hints` is None without metadata
    that speaks of scheduling. `messages` counts messages, prompts or inputs. `dearer` is a member,
    with its value, that makes the vendor bill more than its price list says. `tied` is a member that
    goes on from what one provider keeps.
    """

    model: str
    stream: bool
    asked_usage: bool
    output_cap: int | None
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
    dearer: tuple[str, str] | None = None
    tied: str | None = None
    # What may be used that is not sold by the token; None for nothing.
    sold: Sold | None = None
    # Of a form, its boundary; then the one cut is where the model's name lies.
    form: bytes = b""
    # Nothing but words is sent and asked for: no media, no tools, no format. False also where nobody has looked.
    only_words: bool = False


# What a member that is not there decodes to; msgspec has no unions with Raw.
ABSENT = Raw(b"")


class _Hints(msgspec.Struct, gc=False):
    biz_level: str | None = None
    prefer_cost: str | None = None
    capabilities: str | list[str] | None = None
    max_price: str | float | None = None
    min_quality: str | float | None = None
    deadline_ms: str | int | None = None
    pin: str | None = None
    routing: str | None = None


HINTS = _Hints.__struct_fields__
"""The members of ``metadata`` that are for the gateway."""
HOLDERS = ("metadata", "labels")
"""What they may stand under: the second is Google's word for it."""

# Those that are taken as they are, under the name of their header. Where the data may go, and what else
# could serve, is said in headers alone: metadata is the caller's own, and such words may mean something else there.
_OTHERS = tuple(
    (name, name.replace("_", "-"))
    for name in ("max_price", "min_quality", "deadline_ms", "pin", "routing")
)


class Anything(msgspec.Struct, gc=False):
    """Any object, whatever it holds."""


_HINTS = msgspec.json.Decoder(_Hints)

_BACKSLASH, _BRACE = b"\\{"

# Letters that Unicode folds onto an ASCII one: long s and the Kelvin sign.
_FOLDING = re.compile("\u017f|\u212a".encode())

_AFTER_KEY = re.compile(rb"[ \t\n\r]*+:[ \t\n\r]*+")

_CAP_VALUE = re.compile(rb"[ \t\n\r]*+:[ \t\n\r]*+([0-9]+|null)")

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

# Escapes whose UTF-8 is shorter than three bytes: up to U+07FF, and each half of a surrogate pair.
_SHORT_ESCAPE = re.compile(rb"\\u(?:0[0-7]|[dD][89a-fA-F])")

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)

_SAYS_HINTS = re.compile(
    rb'biz_level|prefer_cost|capabilities|\\u|"(?:max_price|min_quality|deadline_ms|pin|routing)"'
)

_PATH = re.compile(r" - at `\$\.?([^`]*)`")

_MISSING = re.compile(r"missing required field `([^`]*)`")

_EXPECTED = re.compile(r"Expected `([^`]*)`, got `([^`]*)`")

_WORDS = {
    "int": "an integer",
    "str": "a string",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
}


def decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """Decode a body into what its decoder is of. Raises `BadField` that names what is wrong."""
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


def inner(decoder: msgspec.json.Decoder[Any], raw: Raw, param: str, wanted: str) -> Any:
    """Decode the value of the member `param`, which has to be `wanted`. Raises `BadField`."""
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


def place(body: bytes, quoted: bytes, raw: Raw, name: str) -> int:
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
        raise twice(name) from error


def is_plain(frame: bytes, keys: re.Pattern[bytes], expected: int) -> bool:
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
            raise twice(name)
        seen.add(name)
    return False


def twice(name: str) -> BadField:
    """Say that a member is there twice."""
    return BadField(name, f"{name} is given more than once; keep one", "duplicate")


def check_model(model: str) -> None:
    """Refuse what cannot be a model's name. Raises `BadField`."""
    if not model:
        raise BadField("model", "model is empty; name a model, see GET /v1/models")
    if len(model) > MAX_MODEL_NAME:
        raise BadField("model", f"model is longer than {MAX_MODEL_NAME} characters")
    if not model.isprintable() and _CONTROL.search(model):
        raise BadField("model", "model holds control characters; send its plain name")


def checked_cap(param: str, value: int) -> int:
    """Give an output cap that can be one, in tokens. Raises `BadField`."""
    if 0 < value <= MAX_OUTPUT_CAP:
        return value
    if value <= 0:
        raise BadField(param, f"{param} must be at least 1, not {value}")
    raise BadField(param, f"{param} must be at most {MAX_OUTPUT_CAP}")


def checked_choices(param: str, value: int) -> int:
    """Give a number of answers that can be asked for. Raises `BadField`."""
    if 0 < value <= MAX_CHOICES:
        return value
    raise BadField(param, f"{param} must be from 1 to {MAX_CHOICES}")


def hints_in(raw: Raw) -> Hints | None:
    """Read what ``metadata`` says about scheduling; None when nothing. Raises `BadField`."""
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
    tags = _listed(hints.capabilities)
    others = [
        (header, value if isinstance(value, str) else repr(value))
        for name, header in _OTHERS
        if (value := getattr(hints, name)) is not None
    ]
    if hints.biz_level is None and hints.prefer_cost is None and not tags and not others:
        return None
    return Hints(hints.biz_level, hints.prefer_cost, tags, tuple(others))


def _listed(said: str | list[str] | None) -> tuple[str, ...]:
    # OpenAI allows only strings in metadata.
    parts = said.split(",") if isinstance(said, str) else said or ()
    return tuple([part for each in parts if (part := each.strip())])


def escape_surplus(text: bytes) -> int:
    r"""
    Say by how many bytes the ``\u`` escapes are longer than their UTF-8, at least.

    An escape is six bytes for at most three. One right after another backslash may be no escape and is
    not counted, so the surplus is never too large.
    """
    if _BACKSLASH not in text or b"\\u" not in text:
        return 0
    escapes = text.count(b"\\u") - text.count(b"\\\\u")
    surplus = 3 * escapes
    if text.find(b"\\u0") >= 0 or text.find(b"\\ud") >= 0 or text.find(b"\\uD") >= 0:
        surplus += max(len(_SHORT_ESCAPE.findall(text)) - text.count(b"\\\\u"), 0)
    return surplus


def model_span(seen: Look) -> tuple[int, int]:
    """Say where in the frame the model's name stands, with its quotes."""
    frame = seen.frame
    if seen.plain:
        start = frame.find(b'"', frame.find(b'"model"') + 7)
        end = frame.find(b'"', start + 1) + 1
        if frame.find(_BACKSLASH, start, end) < 0:
            return start, end
    return json_edit.locate_known(frame, "model")


def cap_span(seen: Look, name: str) -> tuple[int, int]:
    """Say where in the frame the value of the cap field `name` stands."""
    if seen.plain:
        frame = seen.frame
        value = _CAP_VALUE.match(frame, frame.find(b'"%b"' % name.encode()) + len(name) + 2)
        if value is not None:
            return value.span(1)
    return json_edit.locate_known(seen.frame, name)


def named(body: bytes, seen: Look, upstream_model: str) -> bytes:
    """Give a JSON body with another model's name, or with one where the caller named none."""
    if upstream_model == seen.model:
        return body
    for member in json_edit.scan(seen.frame):
        if member.name == "model":
            start, end = model_span(seen)
            return splice(body, seen, [(start, end, msgspec.json.encode(upstream_model))])
    brace = body.index(b"{") + 1
    comma = b"" if body[brace:].lstrip().startswith(b"}") else b","
    name = msgspec.json.encode(upstream_model)
    return b'%b"model":%b%b%b' % (body[:brace], name, comma, body[brace:])


def uncapped(
    model: str,
    *,
    input_estimate: int = 0,
    input_bound: int = 0,
    stream: bool = False,
    user: str | None = None,
    hints: Hints | None = None,
    frame: bytes = b"",
    cuts: tuple[tuple[int, int], ...] = (),
    plain: bool = False,
    sold: Sold | None = None,
    form: bytes = b"",
) -> Look:
    """Return what is known of a call in which no output cap can be written; usage is reported unasked there."""
    return Look(
        model,
        stream,
        True,
        None,
        1,
        user,
        input_estimate,
        input_bound,
        hints,
        1,
        frame,
        cuts,
        plain,
        (),
        False,
        sold=sold,
        form=form,
    )


def rename(
    body: bytes,
    seen: Look,
    *,
    upstream_model: str,
    include_usage: bool,
    output_cap: int | None,
    cap_field: str | None,
) -> bytes:
    """Give the body that goes upstream where nothing but the model's name may change."""
    return named(body, seen, upstream_model)


def carve(
    body: bytes, members: Sequence[tuple[str, Raw]]
) -> tuple[bytes, tuple[tuple[int, int], ...]]:
    """Cut the values of these members out of the body: gives the frame, and the cuts as in `Look`."""
    if len(members) == 1:
        [(name, raw)] = members
        # As encoders write it; `place` knows all ways, and why the bytes are compared.
        key = b'"%b":' % name.encode()
        start = body.find(key) + len(key)
        if start < len(key) or not body.startswith(bytes(raw), start):
            start = place(body, key[:-1], raw, name)
        return body[:start] + body[start + len(raw) :], ((start, len(raw)),)
    found = sorted(
        (place(body, b'"%b"' % name.encode(), raw, name), len(raw)) for name, raw in members
    )
    pieces: list[bytes] = []
    cuts: list[tuple[int, int]] = []
    at = gone = 0
    for start, length in found:
        pieces.append(body[at:start])
        cuts.append((start - gone, length))
        at = start + length
        gone += length
    pieces.append(body[at:])
    return b"".join(pieces), tuple(cuts)


def splice(body: bytes, seen: Look, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Give the body with spans of its frame replaced; the body itself when there are none."""
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
