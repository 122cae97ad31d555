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

A feature's weights for all outcomes stand in one integer, with what else is counted of words, so that one sum adds them all; and
those of words that were seen before are not looked up by their hash again.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from math import exp, log2
from struct import Struct
from typing import Final
from zlib import crc32

import msgspec

__all__ = [
    "BUCKETS",
    "LEXICAL",
    "OUTCOMES",
    "Model",
    "Weights",
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

# A sum for each outcome and for the complexity; then how many words begin with a digit, are common in English, and elsewhere.
_TASKS: Final = len(OUTCOMES)
_SUMS: Final = Struct(f"<{_TASKS + 1}I3H")
_BITS: Final = 32
_A_NUMBER: Final = 1 << (_BITS * (_TASKS + 1))
_ENGLISH: Final = _A_NUMBER << 16
_FOREIGN: Final = _ENGLISH << 16
# What is added to every weight, and to every bias, so that no sum is ever below 0.
_BIAS: Final = 128
_BASE: Final = 1 << 20
_MOST_KNOWN: Final = 4096
_LONGEST_KNOWN: Final = 24
"""Words that are remembered with their weights, and bytes of the longest of them: 2 MB at most."""
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
_ZERO: Final = 48

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
# A mark that has one of these signs is looked for only where it stands: few texts have any.
_SIGNS: Final = b"`()\\$=^?<"
_BY_SIGN: Final = {
    sign: tuple((mark, feature) for mark, feature in _MARKS if sign in mark) for sign in _SIGNS
}
_UNSIGNED: Final = tuple((mark, feature) for mark, feature in _MARKS if not set(mark) & set(_SIGNS))
_ONLY_SIGNS: Final = bytes(code if code in _SIGNS else 32 for code in range(256))
_SIZES: Final = tuple(b"#size%d" % bits for bits in range(64))
_ZEROS: Final = tuple(b"#zeros%d" % bits for bits in range(64))

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
_COMMON_ELSEWHERE: Final = frozenset().union(
    *(words for code, words in _COMMON.items() if code != "en")
)


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


class Weights(dict[bytes, int]):
    """The packed weights of features, remembered for those that were asked for before; `begin` is what a sum begins with."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self._buckets = [_packed(row, _BIAS) for row in model.weights]
        self._common = {
            word: self._buckets[crc32(word) & (BUCKETS - 1)]
            + (_ENGLISH if word in _COMMON["en"] else 0)
            + (_FOREIGN if word in _COMMON_ELSEWHERE else 0)
            for word in _COMMON["en"] | _COMMON_ELSEWHERE
        }
        self.update(self._common)
        self.begin = _packed(model.bias, _BASE)
        self.spread = model.spread

    def __missing__(self, feature: bytes) -> int:
        packed = self._buckets[crc32(feature) & (BUCKETS - 1)]
        if feature[0] == _ZERO:
            packed += _A_NUMBER
        if len(feature) <= _LONGEST_KNOWN:
            if len(self) >= _MOST_KNOWN:
                self.clear()
                self.update(self._common)
            self[feature] = packed
        return packed


def _packed(weights: Sequence[int], above: int) -> int:
    return sum((weight + above) << (_BITS * at) for at, weight in enumerate(weights))


@cache
def _shipped() -> Weights:
    data = files("routing").joinpath("classify.json").read_bytes()
    return Weights(msgspec.json.decode(data, type=Model))


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
    weights: Weights | None = None,
    only_words: bool = False,
) -> tuple[str, float]:
    """
    Return the task of a call (one of `routing.listing.TASKS`) and its complexity, 0 to 1.

    `body` is the request as it came, `frame` and `cuts` are as the look at it found them: the body without its large
    members, and (offset in the frame, length) for each. `tokens` are the estimated input tokens. `weights` are the shipped
    ones unless others are given. `only_words`: the look has found that the conversation is all that was cut out, and that
    neither tools nor a format are in the frame.
    """
    text = _ends(body, *(cuts[0] if only_words else _conversation(body, cuts, frame)))
    words, marks = _words(text), _marks(text)
    if weights is None:
        weights = _shipped()
    total = sum(map(weights.__getitem__, words), weights.begin)
    for mark in marks:
        total += weights[mark]
    total += weights[_ZEROS[(total // _A_NUMBER & 0xFFFF).bit_length()]]
    sums = _SUMS.unpack(total.to_bytes(_SUMS.size, "little"))
    task = OUTCOMES[sums.index(max(sums[:_TASKS]))]
    off = (sums[_TASKS] - _BASE - _BIAS * (len(words) + len(marks) + 1)) / weights.spread
    off = -6.0 if off < -6.0 else min(off, 6.0)
    complexity = 0.5 + LEXICAL * (2.0 / (1.0 + exp(-_STRETCH * off)) - 1.0)
    if tokens > 1024:
        complexity += 0.03 * log2(tokens / 1024)
    if messages > 3:
        complexity += 0.01 * min(messages - 3, 10)
    formal = _by_form(task, b"" if only_words else frame or body, tokens)
    # The words of the model are English; code and formulas speak for themselves in any language.
    if (
        not formal
        and (_is_foreign(*sums[-2:]) or text.find(b"\\u") >= 0 or not text.isascii())
        and task not in _IN_ANY_LANGUAGE
        and language(text, words) != "en"
    ):
        formal = "multilingual"
    return formal or task, max(0.02, min(0.98, complexity))


def _by_form(task: str, frame: bytes, tokens: int) -> str:
    """Return the task that the form of a call says, whose words say another one; empty where it says none."""
    if frame and any(mark in frame for mark in _TOOLS):
        return "tools"
    if tokens >= LONG_TOKENS:
        return "long-context"
    if frame and task == "chat" and any(mark in frame for mark in _FORMATS):
        return "extraction"
    return ""


def window(body: bytes, cuts: Sequence[tuple[int, int]] = (), frame: bytes = b"") -> bytes:
    """Return what is looked at of a body: how its conversation begins, and how it ends."""
    return _ends(body, *_conversation(body, cuts, frame))


def _ends(body: bytes, start: int, length: int) -> bytes:
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
    words = _words(text)
    numbers = len([word for word in words if word[0] == _ZERO])
    return {*words, *_marks(text), _ZEROS[numbers.bit_length()]}, words


def _words(text: bytes) -> set[bytes]:
    return set(text.replace(b"\\n", b" ").translate(_FOLD).split())


def _marks(text: bytes) -> set[bytes]:
    """Return the features of a text that are no words, but for the count of its numbers."""
    found = {_SIZES[len(text).bit_length()]}
    # Not `in`, which first tries whether the mark is a number.
    find = text.find
    for mark, feature in _UNSIGNED:
        if find(mark) >= 0:
            found.add(feature)
    for sign in set(b"".join(text.translate(_ONLY_SIGNS).split())):
        for mark, feature in _BY_SIGN[sign]:
            if find(mark) >= 0:
                found.add(feature)
    return found


def language(text: bytes, words: set[bytes] | None = None) -> str:
    r"""
    Return a rough guess at the language of a text: an ISO 639-1 code, 'en' where nothing says otherwise.

    By script where it is not Latin (also as ``\uXXXX``), else by the most common words.
    """
    other = 0 if text.isascii() else len(text.translate(None, _ASCII))
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
    elsewhere = words & _COMMON_ELSEWHERE
    best, found = max(
        [(len(elsewhere & common), code) for code, common in _COMMON.items() if code != "en"]
    )
    return found if _is_foreign(english, best) else "en"


def _is_foreign(english: int, foreign: int) -> bool:
    """Whether so many words that are common in another language make a text one of it."""
    return foreign >= 3 and foreign > english
