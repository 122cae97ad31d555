"""
What a call is about, and how hard it is, from its bytes, in microseconds.

The rules of this file:

- **Pure and bounded.** At most the first and the last bytes of the conversation are looked at, whatever its length;
  no tokenizer, no embedding, no call to anybody.
- **Structure first.** Tools that are offered, a format that is asked for, the length and the script of the text say more
  than words do. Words decide among the rest, by a linear model over hashed words (`classify.json`, trained by
  `routing.training`), as in feature hashing (Weinberger et al., arXiv 0902.2206).
- **A word counts once.** Repeating it changes nothing, and what all words together can do is bounded: a text that is
  stuffed with them moves the complexity within `LEXICAL`, never beyond. What it may cost is bounded elsewhere, by level.
- Complexity is relative to the task: 0.5 is an average call of its kind. Quality priors are per task already.

A bucket's weights for all outcomes stand in one integer, `_BITS` bits each, so that one sum adds them all.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from math import exp, log2
from typing import Final
from zlib import crc32

import msgspec

__all__ = [
    "BUCKETS",
    "LEXICAL",
    "OUTCOMES",
    "Model",
    "classify",
    "features",
    "language",
    "load_weights",
    "window",
]

HEAD, TAIL = 192, 768
"""Bytes of a conversation that are looked at: how it begins, and how it ends."""
NEAR: Final = 4096
"""Within so many bytes the conversation has to begin, where the look did not say where that is."""

OUTCOMES: Final = ("chat", "coding", "math", "reasoning", "extraction")
"""The tasks that words decide among; the others are known by structure."""

_IN_ANY_LANGUAGE: Final = frozenset({"coding", "math"})
BUCKETS: Final = 4096
LEXICAL: Final = 0.35
"""How far words can move the complexity from the middle."""
LONG_TOKENS: Final = 32_000
"""From so many input tokens on, the length is what makes a call hard."""

_BITS: Final = 20
_FIELD: Final = (1 << _BITS) - 1
_BIAS: Final = 128
_STRETCH: Final = (
    1.7  # the logistic function at 1.7 z is close to the share of a normal population below z
)

# Letters become small, digits 0, and everything else of ASCII a space; other bytes stay.
_FOLD: Final = bytes(
    code + 32
    if 65 <= code <= 90
    else code
    if 97 <= code <= 122 or code >= 128
    else 48
    if 48 <= code <= 57
    else 32
    for code in range(256)
)
_ASCII: Final = bytes(range(128))

# What stands before the conversation in a frame, by protocol.
_CONVERSATIONS: Final = (b'"messages"', b'"contents"', b'"input"', b'"prompt"')
_TOOLS: Final = (b'"tools"', b'"functions"')
_FORMATS: Final = (
    b'"response_format"',
    b'"responseSchema"',
    b'"responseJsonSchema"',
    b'"output_format"',
    b'"application/json"',
    b'"json_schema"',
    b'"json_object"',
    b'"format":"json"',
    b'"format": "json"',
)

# Marks of which the presence is a feature of its own; as they stand inside JSON.
_MARKS: Final = (
    (b"```", b"#fence"),
    (b"def ", b"#def"),
    (b"();", b"#call"),
    (b"){", b"#brace"),
    (b") {", b"#brace"),
    (b"SELECT ", b"#sql"),
    (b"\\\\frac", b"#latex"),
    (b"$", b"#dollar"),
    (b" = ", b"#equals"),
    (b"^", b"#power"),
    (b"?", b"#question"),
    (b"\\nA", b"#options"),
    (b"A)", b"#options"),
    (b"A.", b"#options"),
    (b"</", b"#markup"),
    (b"\\\\boxed", b"#boxed"),
)

_SCRIPTS: Final = (
    ("ko", (b"\xea", b"\xeb", b"\xec", b"\xed")),
    ("ja", (b"\xe3\x81", b"\xe3\x82", b"\xe3\x83")),
    ("zh", (b"\xe4", b"\xe5", b"\xe6", b"\xe7", b"\xe8", b"\xe9")),
    ("ru", (b"\xd0", b"\xd1")),
    ("ar", (b"\xd8", b"\xd9")),
    ("hi", (b"\xe0\xa4", b"\xe0\xa5")),
    ("th", (b"\xe0\xb8", b"\xe0\xb9")),
    ("el", (b"\xce", b"\xcf")),
    ("he", (b"\xd7",)),
)
_COMMON: Final = {
    "en": frozenset(b"the of and to in is that for what with are how you this please".split()),
    "de": frozenset(b"der die das und ist nicht ein eine mit wie von zu ich bitte auf".split()),
    "fr": frozenset(b"le les des est une que dans pour qui avec sur pas vous et comment".split()),
    "es": frozenset(b"el los las una que por con para como del es en cual y qu".split()),
    "it": frozenset(b"il che di una per con non sono come gli della nel questo qual e".split()),
    "pt": frozenset(b"o os uma que para com como do da em por qual um voc n".split()),
    "nl": frozenset(b"de het een van en niet dat met voor zijn hoe wat ik op aan".split()),
    "pl": frozenset(b"jak jest nie na do si w z i co czy dla to od po".split()),
    "tr": frozenset(b"bir ve bu ile nas ne i da de mi olarak ok daha gibi olan".split()),
}


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Weights, as `routing.training` writes them.

    `weights` are whole numbers from -127 to 127: for each bucket one per outcome, then that of the complexity, of
    which `spread` is the standard deviation over the texts it was trained with; `bias` likewise, added once.
    """

    about: str
    bias: tuple[int, ...]
    spread: float
    weights: tuple[tuple[int, ...], ...]

    def packed(self) -> tuple[int, ...]:
        """Return one integer per bucket, with all of its weights."""
        return tuple(
            sum((weight + _BIAS) << (_BITS * at) for at, weight in enumerate(row))
            for row in self.weights
        )


@cache
def _shipped() -> tuple[tuple[int, ...], tuple[int, ...], float]:
    data = files("routing").joinpath("classify.json").read_bytes()
    model = msgspec.json.decode(data, type=Model)
    return model.packed(), model.bias, model.spread


def load_weights() -> None:
    """Read the weights, which takes some milliseconds, before the first call has to."""
    _shipped()


def classify(
    body: bytes,
    cuts: Sequence[tuple[int, int]] = (),
    frame: bytes = b"",
    *,
    tokens: int,
    messages: int = 1,
) -> tuple[str, float]:
    """
    Return the task of a call (one of `routing.listing.TASKS`) and its complexity, 0 to 1.

    `body` is the request as it came, `frame` and `cuts` are as the look at it found them: the body without its large
    members, and (offset in the frame, length) for each. `tokens` are the estimated input tokens.
    """
    text = window(body, cuts, frame)
    found, words = features(text)
    table, bias, spread = _shipped()
    mask = BUCKETS - 1
    total = sum([table[crc32(each) & mask] for each in found])
    base = _BIAS * len(found)
    best, task = None, "chat"
    for at, outcome in enumerate(OUTCOMES):
        score = ((total >> (_BITS * at)) & _FIELD) - base + bias[at]
        if best is None or score > best:
            best, task = score, outcome
    hard = ((total >> (_BITS * len(OUTCOMES))) & _FIELD) - base + bias[-1]
    lexical = (
        2.0 * LEXICAL * (1.0 / (1.0 + exp(-_STRETCH * max(-6.0, min(6.0, hard / spread)))) - 0.5)
    )
    complexity = 0.5 + lexical
    if tokens > 1024:
        complexity += 0.03 * log2(tokens / 1024)
    if messages > 3:
        complexity += 0.01 * min(messages - 3, 10)
    return _by_structure(task, text, words, frame or body, tokens), max(0.02, min(0.98, complexity))


def _by_structure(task: str, text: bytes, words: set[bytes], frame: bytes, tokens: int) -> str:
    """Return the task that the form of a call says, or the one that its words say."""
    for mark in _TOOLS:
        if mark in frame:
            return "tools"
    if tokens >= LONG_TOKENS:
        return "long-context"
    if task == "chat":
        for mark in _FORMATS:
            if mark in frame:
                return "extraction"
    # The words of the model are English; code and formulas speak for themselves in any language.
    if task not in _IN_ANY_LANGUAGE and language(text, words) != "en":
        return "multilingual"
    return task


def window(body: bytes, cuts: Sequence[tuple[int, int]] = (), frame: bytes = b"") -> bytes:
    """Return what is looked at of a body: how its conversation begins, and how it ends."""
    start, length = _conversation(body, cuts, frame)
    if length <= HEAD + TAIL:
        return body[start : start + length]
    return body[start : start + HEAD] + b" " + body[start + length - TAIL : start + length]


def _conversation(body: bytes, cuts: Sequence[tuple[int, int]], frame: bytes) -> tuple[int, int]:
    """Return where the conversation begins in a body, and its length."""
    shift = 0
    for offset, size in cuts:
        before = frame[max(0, offset - 16) : offset]
        for name in _CONVERSATIONS:
            if name in before:
                return offset + shift, size
        shift += size
    # It was not cut out, as in protocols whose look leaves the body whole: it goes to the end, or nearly.
    for name in _CONVERSATIONS:
        start = body.find(name, 0, NEAR)
        if start >= 0:
            start += len(name) + 1
            return start, len(body) - start
    return 0, len(body)


def features(text: bytes) -> tuple[set[bytes], set[bytes]]:
    """Return the features of a text, each once, and the words among them."""
    words = set(text.replace(b"\\n", b" ").translate(_FOLD).split())
    found = set(words)
    for mark, feature in _MARKS:
        if mark in text:
            found.add(feature)
    found.add(b"#size%d" % len(text).bit_length())
    found.add(b"#zeros%d" % len([word for word in words if word[0] == 48]).bit_length())
    return found, words


def language(text: bytes, words: set[bytes] | None = None) -> str:
    r"""
    Return a rough guess at the language of a text: an ISO 639-1 code, 'en' where nothing says otherwise.

    By script where it is not Latin (also as ``\uXXXX``), else by the most common words.
    """
    other = len(text.translate(None, _ASCII))
    escapes = text.count(b"\\u")
    if other * 3 > len(text) or escapes * 6 * 3 > len(text):
        if not other:
            return "other"
        counts = [(sum([text.count(lead) for lead in leads]), code) for code, leads in _SCRIPTS]
        most, code = max(counts)
        return code if most * 6 > other else "other"
    if words is None:
        words = features(text)[1]
    english = len(words & _COMMON["en"])
    best, found = max(
        [(len(words & common), code) for code, common in _COMMON.items() if code != "en"]
    )
    return found if best >= 3 and best > english else "en"
