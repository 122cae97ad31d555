"""
What callers declare of a call beside its body: how important it is, and how long they will wait for its beginning.

`x-biz-level` (or `metadata.biz_level`): premium, normal or economy; what the key carries is the default, and more than that it cannot be.
`x-deadline-ms`: within how many milliseconds of its arrival the answer should begin; it bounds the wait for a place.
"""

from typing import TYPE_CHECKING, Final

from governance.identity import Caller
from proxy.errors import BadRequest

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

    from proxy.wire.look import Hints

# As the scripts know them: the lower goes first.
LEVELS: Final = {"premium": 1, "normal": 2, "economy": 3}
LEVEL_HEADER: Final = "x-biz-level"
DEADLINE_HEADER: Final = "x-deadline-ms"
LONGEST_DEADLINE_MS: Final = 86_400_000
_SHOWN: Final = 40


def level_of(caller: Caller, headers: "CIMultiDictProxy[str]", hints: "Hints | None") -> int:
    """Return the level of a call: what it says, or what its key carries if that is lower. Raises `BadRequest`."""
    carried = LEVELS[caller.biz_level]
    where, said = LEVEL_HEADER, headers.get(LEVEL_HEADER)
    if said is None:
        if hints is None or hints.biz_level is None:
            return carried
        where, said = "metadata.biz_level", hints.biz_level
    level = LEVELS.get(said.strip().lower())
    if level is None:
        raise BadRequest(
            f"{where} is '{_shown(said)}'; it can be premium, normal or economy.",
            code="invalid_value",
            param=where,
        )
    return max(level, carried)


def patience_s(longest_s: float, headers: "CIMultiDictProxy[str]") -> float:
    """Return for how long a call may wait for a place, counted from its arrival. Raises `BadRequest`."""
    said = headers.get(DEADLINE_HEADER)
    if said is None:
        return longest_s
    text = said.strip()
    if not (text.isascii() and text.isdigit() and len(text) < 12) or not (
        1 <= int(text) <= LONGEST_DEADLINE_MS
    ):
        raise BadRequest(
            f"{DEADLINE_HEADER} is '{_shown(said)}'; it is a number of milliseconds from 1 to {LONGEST_DEADLINE_MS}.",
            code="invalid_value",
            param=DEADLINE_HEADER,
        )
    return min(longest_s, int(text) / 1000)


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:_SHOWN])
