"""
The record of a decision: who could have served, what was expected of each, and why each other one lost.

It goes into the ledger's entry as one text (`decision`), a JSON object; `read` takes it from there.
What does not change from call to call is encoded once per offer (`head`), so that a call which was decided by the declared order pays for one small text.

    policy     declared, or the name of the policy that scored the candidates
    asked      the model or the route that was asked for
    places     the deployments in the order of the plan
    chosen     the place that won, counted from 0
    lost       one sign per place, as `ratelimit/lua/admit.lua` gives them; empty when the store did not say
    tiers      the tier of each place for this call, 255 for what fell out before admission; empty for the declared ones
    models     what was expected of each model, where it was scored (`Scored`)
    the rest   what the scores were made from, and is absent where nothing was scored

Numbers that are parts of one are given in thousandths, so that the text stays short and says the same everywhere.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
import orjson

__all__ = ["Decision", "MalformedDecision", "Scored", "declared", "head", "read"]


class MalformedDecision(ValueError):
    """A text that is no decision; the message says where."""


class Scored(msgspec.Struct, frozen=True, array_like=True):
    """
    What was expected of one model.

    `quality` in thousandths; `cost_nusd` of the whole call; `latency_us` to its end, 0 when nothing is known;
    `lost` says why it fell out or was not preferred, and is empty for one that was among the best.
    """

    model: str
    quality: int = 0
    cost_nusd: int = 0
    latency_us: int = 0
    lost: str = ""


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """One decision, as the module says; `effort` and `cap` are what it changed of the request, empty and 0 when nothing."""

    policy: str
    asked: str
    places: tuple[str, ...]
    chosen: int
    lost: str = ""
    tiers: tuple[int, ...] = ()
    models: tuple[Scored, ...] = ()
    level: str = ""
    prefer: str = ""
    task: str = ""
    complexity: int = 0
    pressure: int = 0
    delta: int = 0
    board: int = 0
    explored: bool = False
    effort: str = ""
    cap: int = 0


_decode = msgspec.json.Decoder(Decision).decode


def head(policy: str, asked: str, places: Iterable[str]) -> str:
    """Return the beginning of a decision's text: what an offer knows before anybody asks."""
    text = orjson.dumps({"policy": policy, "asked": asked, "places": list(places)}).decode()
    return text[:-1] + ',"chosen":'


def declared(head: str, chosen: int, lost: str) -> str:
    """Return the text of a decision that nothing but the declared order, health and load made."""
    return f'{head}{chosen},"lost":"{lost}"}}'


def read(text: str) -> Decision | None:
    """
    Return the decision that an entry holds, None where there was nothing to decide.

    Raises `MalformedDecision`.
    """
    if not text:
        return None
    try:
        found: Any = _decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise MalformedDecision(f"not a decision: {error}") from error
    return found  # type: ignore[no-any-return]
