"""
What callers declare of a call beside its body: how important it is, how long they will wait for its beginning, and what they wish of the model.

Each stands in a header, or under the same name in the body's `metadata` (or `labels`, as Gemini's protocol has it), from
which it is taken out; what is not said there is what the key carries (`config.wishes`).

| header | metadata | says |
|---|---|---|
| `x-biz-level` | `biz_level` | premium, normal or economy; more than the key carries it cannot be |
| `x-prefer-cost` | `prefer_cost` | low or high |
| `x-capabilities` | `capabilities` | tags that the model must have |
| `x-max-price` | `max_price` | USD per million tokens; a ceiling that the key carries can only be lowered |
| `x-min-quality` | `min_quality` | from 0 to 1 |
| `x-deadline-ms` | `deadline_ms` | within how many milliseconds of its arrival the answer should begin; it bounds the wait for a place |
| `x-pin` | `pin` | the one model or deployment that is to serve |
| `x-routing` | `routing` | full, steady or declared |
| `x-region` | | where data may go; what the key carries can only be narrowed |
| `x-models` | | what else may serve, in this order, after the model of the body and the list `models` beside it |
"""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from config.section import HIGHEST_PRICE_USD
from config.wishes import Wishes, nusd_of
from governance.identity import Caller
from proxy.errors import BadRequest
from proxy.wire import json_edit
from proxy.wire.look import HINTS, HOLDERS, BadField, twice

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

    from proxy.wire.look import Hints

# As the scripts know them: the lower goes first.
LEVELS: Final = {"premium": 1, "normal": 2, "economy": 3}
LEVEL_HEADER: Final = "x-biz-level"
MODELS_HEADER: Final = "x-models"
# What says something of the model, without their x-.
WISHES: Final = (
    *("prefer-cost", "capabilities", "max-price", "min-quality", "deadline-ms", "pin", "routing"),
    "region",
)
LONGEST_DEADLINE_MS: Final = 86_400_000
MOST_LISTED: Final = 32
_HEADERS: Final = tuple((f"x-{name}", name) for name in WISHES)
_ALL: Final = frozenset((LEVEL_HEADER, MODELS_HEADER, *(header for header, _ in _HEADERS)))
_SHOWN: Final = 40
_NAMES = msgspec.json.Decoder(list[str])


def declares(headers: "CIMultiDictProxy[str]") -> bool:
    """Whether any header declares something: nearly none does, and one look is cheaper than ten."""
    return not headers.keys().isdisjoint(_ALL)


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
        _refuse(where, said, "it can be premium, normal or economy")
    return max(level, carried)


def wishes_of(caller: Caller, headers: "CIMultiDictProxy[str]", hints: "Hints | None") -> Wishes:
    """Return what is wished of the model: the caller's own object where the call says nothing. Raises `BadRequest`."""
    wishes = caller.wishes
    said = [
        (header, name, value)
        for header, name in _HEADERS
        if (value := headers.get(header)) is not None
    ]
    if hints is None and not said:
        return wishes
    return _wished(
        wishes, {name: (where, value) for where, name, value in (*_hinted(hints), *said)}
    )


def patience_s(longest_s: float, wishes: Wishes) -> float:
    """Return for how long a call may wait for a place, counted from its arrival."""
    return min(longest_s, wishes.deadline_ms / 1000) if wishes.deadline_ms else longest_s


def models_of(asked: str, headers: "CIMultiDictProxy[str]", models: str = "") -> str:
    """Return what is asked for: the body's model, or a list of it and those that may serve in its place; `models` are the body's."""
    more = headers.get(MODELS_HEADER)
    if more is None and not models:
        return asked
    return ",".join(filter(None, (asked, models, more)))


def listed_models(body: bytes) -> tuple[str, bytes]:
    """
    Return the names of the body's own list `models`, with commas between them, and the body without it.

    A body in which only an inner member has that name stays as it is. Raises `BadField`.
    """
    try:
        span = json_edit.locate(body, "models")
        if span is None:
            return "", body
        names = _NAMES.decode(body[span[0] : span[1]])
        if len(names) > MOST_LISTED or any(not name.strip() or "," in name for name in names):
            raise BadField("models", f"models is a list of at most {MOST_LISTED} names of models")
        return ",".join(names), json_edit.edit(body, remove=("models",))
    except json_edit.DuplicateMember:
        raise twice("models") from None
    except msgspec.DecodeError:
        raise BadField("models", "models is a list of names of models", "invalid_type") from None


def without_hints(body: bytes) -> bytes:
    """
    Return a body without what its metadata says to the gateway: vendors refuse members of it that they do not know.

    What else stands there is left to them; an object of which nothing is left goes altogether. Raises `BadField`.
    """
    for holder in HOLDERS:
        try:
            span = json_edit.locate(body, holder)
            if span is None:
                continue
            start, end = span
            said = body[start:end]
            left = json_edit.edit(said, remove=HINTS) if said.startswith(b"{") else said
        except json_edit.DuplicateMember as error:
            raise twice(error.name) from None
        if left.strip(b"{} \t\r\n"):
            body = body[:start] + left + body[end:]
        elif left is not said:
            body = json_edit.edit(body, remove=(holder,))
    return body


def _hinted(hints: "Hints | None") -> Iterator[tuple[str, str, str]]:
    """Yield (where, name, value) of what metadata says."""
    if hints is None:
        return
    if hints.prefer_cost is not None:
        yield "metadata.prefer_cost", "prefer-cost", hints.prefer_cost
    if hints.capabilities:
        yield "metadata.capabilities", "capabilities", ",".join(hints.capabilities)
    for name, value in hints.others:
        yield f"metadata.{name.replace('-', '_')}", name, value


def _wished(wishes: Wishes, said: dict[str, tuple[str, str]]) -> Wishes:
    """Return wishes as a call changes them."""
    new: dict[str, Any] = {}
    for name, (where, value) in said.items():
        text = value.strip()
        match name:
            case "prefer-cost":
                new["prefer"] = _word(where, text, "low", "high")
            case "routing":
                new["routing"] = _word(where, text, "full", "steady", "declared")
            case "capabilities":
                new["capabilities"] = frozenset(_listed(where, text))
            case "region":
                new["regions"] = (*wishes.regions, frozenset(_listed(where, text)))
            case "pin":
                new["pin"] = text
            case "max-price":
                usd = _number(where, text, HIGHEST_PRICE_USD, "USD per million tokens")
                new["max_price_nusd"] = wishes.under(nusd_of(usd))
            case "min-quality":
                new["min_quality"] = float(_number(where, text, 1, "a number"))
            case "deadline-ms":
                new["deadline_ms"] = _milliseconds(where, text)
    return replace(wishes, **new)


def _word(where: str, text: str, *known: str) -> str:
    word = text.lower()
    if word not in known:
        _refuse(where, text, f"it can be {', '.join(known[:-1])} or {known[-1]}")
    return word


def _listed(where: str, text: str) -> list[str]:
    found = [part for each in text.split(",") if (part := each.strip())]
    if not found or len(found) > MOST_LISTED:
        _refuse(where, text, f"it is a list of 1 to {MOST_LISTED} words, with commas between them")
    return found


def _number(where: str, text: str, most: int, what: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal(-1)
    if not (number.is_finite() and 0 <= number <= most and len(text) <= _SHOWN):
        _refuse(where, text, f"it is {what}, from 0 to {most}")
    return number


def _milliseconds(where: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12) or not (
        1 <= int(text) <= LONGEST_DEADLINE_MS
    ):
        _refuse(where, text, f"it is a number of milliseconds from 1 to {LONGEST_DEADLINE_MS}")
    return int(text)


def _refuse(where: str, said: str, what: str) -> NoReturn:
    shown = "".join(c if c.isprintable() else "?" for c in said[:_SHOWN])
    raise BadRequest(f"{where} is '{shown}'; {what}.", code="invalid_value", param=where)
