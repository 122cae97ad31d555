"""
What is wished of the model that serves a call: by the key, its team and its organizations, and by the call itself.

Wishes are values: equal ones are the same wish, so that what follows from them is found once and kept.
The business level is not among them; it says who goes first, and a call can only lower it (`proxy.declared`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from config.tenants import Declares

__all__ = ["NO_WISHES", "Wishes", "carried", "nusd_of"]

NANO_PER_USD = 10**9


@dataclass(frozen=True, slots=True)
class Wishes:
    """
    What a model or deployment must be to serve a call.

    `prefer` is low, high or empty; `max_price_nusd` is nano-USD per million tokens, three of input for one of output, 0 without a ceiling;
    `min_quality` is from 0 to 1; `regions` are sets, in each of which a deployment's region must be;
    `pin` names a model or a deployment; `routing` is full, steady (nothing is tried out) or declared (nothing is scored).
    """

    prefer: str = ""
    capabilities: frozenset[str] = frozenset()
    max_price_nusd: int = 0
    min_quality: float = 0.0
    deadline_ms: int = 0
    regions: tuple[frozenset[str], ...] = ()
    pin: str = ""
    routing: str = "full"
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Reckon the hash once: calls are looked up by it."""
        said = (self.prefer, self.capabilities, self.max_price_nusd, self.min_quality)
        more = (self.deadline_ms, self.regions, self.pin, self.routing)
        object.__setattr__(self, "_hash", hash((*said, *more)))

    def __hash__(self) -> int:
        return self._hash

    @property
    def filters(self) -> bool:
        """Whether they leave anybody out, whatever decides among the others."""
        return bool(
            self.capabilities or self.max_price_nusd or self.min_quality or self.regions or self.pin
        )

    def under(self, ceiling_nusd: int) -> int:
        """Return the lower of a ceiling and theirs, 0 where there is none."""
        return min(filter(None, (ceiling_nusd, self.max_price_nusd)), default=0)


NO_WISHES = Wishes()


def carried(sections: Iterable[Declares]) -> Wishes:
    """
    Return what the sections of a caller say, the innermost (the key) first.

    The innermost word holds, but for ceilings, of which the lowest does, and regions, which each narrows.
    """
    wishes = NO_WISHES
    for section in reversed(list(sections)):
        said: dict[str, Any] = {}
        if section.prefer_cost is not None:
            said["prefer"] = section.prefer_cost
        if section.capabilities is not None:
            said["capabilities"] = frozenset(section.capabilities)
        if section.max_price is not None:
            said["max_price_nusd"] = wishes.under(nusd_of(section.max_price))
        if section.min_quality is not None:
            said["min_quality"] = section.min_quality
        if section.deadline_ms is not None:
            said["deadline_ms"] = section.deadline_ms
        if section.regions is not None:
            said["regions"] = (*wishes.regions, frozenset(section.regions))
        if section.pin is not None:
            said["pin"] = section.pin
        if section.routing is not None:
            said["routing"] = section.routing
        wishes = replace(wishes, **said) if said else wishes
    return wishes


def nusd_of(usd: Decimal) -> int:
    """Return a price in nano-USD, at least one: a ceiling of nothing is not the same as none."""
    return max(int(usd * NANO_PER_USD), 1)
