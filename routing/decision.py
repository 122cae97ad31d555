"""
The record of a decision: who could have served, what was expected of each, and why each other one lost.

It goes into the ledger's entry as one text (`decision`), a JSON object; `read` takes it from there.
What does not change from call to call is encoded once: the beginning per offer (`head`), the end for all calls that are alike (`Reasons`).

    asked      the model or the route that was asked for
    places     the deployments in the order of the plan
    chosen     the place that won, counted from 0
    lost       one sign per place, as `ratelimit/lua/admit.lua` gives them; empty when the store did not say
    effort     how much the model that serves was told to think, absent when nothing was said
    policy     declared, or the name of the policy that scored the candidates
    tiers      the tier of each place for this call, 255 for what fell out before admission; empty for the declared ones
    models     what was expected of each model, where it was scored (`Scored`)
    the rest   what the scores were made from, and is absent where nothing was scored

Numbers that are parts of one are given in thousandths, so that the text stays short and says the same everywhere.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
import orjson

__all__ = [
    "DECLARED",
    "Decision",
    "MalformedDecision",
    "Reasons",
    "Scored",
    "head",
    "read",
    "record",
]


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


class Reasons(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a decision was made from, the same for all calls that are alike; `cap` is the output cap that it set, 0 for none."""

    policy: str
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
    cap: int = 0

    def ending(self) -> str:
        """Return the end of a decision's text."""
        return _encode(self).decode().removeprefix("{")


class Decision(Reasons, frozen=True, omit_defaults=True, kw_only=True):
    """One decision, as the module says."""

    asked: str
    places: tuple[str, ...]
    chosen: int
    lost: str = ""
    effort: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Decision).decode

DECLARED: Final = Reasons("declared").ending()
"""How the text of a decision ends that nothing but the declared order, health and load made."""


def head(asked: str, places: Iterable[str]) -> str:
    """Return the beginning of a decision's text: what an offer knows before anybody asks."""
    text = orjson.dumps({"asked": asked, "places": list(places)}).decode()
    return text[:-1] + ',"chosen":'


def record(head: str, chosen: int, lost: str, ending: str, effort: str = "") -> str:
    """Return the text of a decision."""
    thought = f'"effort":"{effort}",' if effort else ""
    return f'{head}{chosen},"lost":"{lost}",{thought}{ending}'


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
