"""What goes wrong between a gate and its store, in words, and what the gate counts of its own work."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import hiredis
from redis.exceptions import ResponseError

from store.lane import LaneLost

# Called with `admit` or `settle`, the size of an answered batch, and the seconds that it took.
Observe = Callable[[str, int, float], None]

_PLACE = re.compile(r"user_script:\d+")

log = logging.getLogger("penstock.gate")


class StoreUnavailable(Exception):
    """
    The store did not answer in time, or cannot write; nothing may be spent.

    `degraded` is as in a grant: what holds here meanwhile, empty when this is no outage.
    """

    def __init__(self, why: str, degraded: str = "") -> None:
        super().__init__(why)
        self.degraded = degraded


@dataclass(slots=True)
class GateStats:
    """Counters of one gate, for metrics."""

    admit_batches: int = 0
    admit_asks: int = 0
    settlements: int = 0
    store_errors: int = 0
    unavailable: int = 0
    journalled: int = 0
    replayed: int = 0
    reseeded: int = 0
    recalled: int = 0
    boots: int = 0
    asserted: int = 0
    degraded_granted: int = 0
    degraded_denied: int = 0
    degraded_closed: int = 0


class Troubles:
    """What does not work at the moment; each loss and each return is one line in the log."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[set[str], float]] = {}

    def note(self, what: str, error: Any) -> None:
        """Say that something does not work, once for each reason until it works again."""
        reason = words(error)
        said, _ = self._known.setdefault(what, (set(), monotonic()))
        if reason not in said:
            said.add(reason)
            log.warning("the store fails at %s: %s", what, reason)

    def over(self, what: str) -> None:
        """Say that it works again, if it did not."""
        if self._known:
            known = self._known.pop(what, None)
            if known is not None:
                log.warning("the store is back for %s after %.1f s", what, monotonic() - known[1])


def words(error: Any) -> str:
    """Return what an error is in words that show neither keys nor contents."""
    if isinstance(error, (hiredis.ReplyError, ResponseError)):
        place = _PLACE.search(str(error))
        code = str(error).partition(" ")[0] if isinstance(error, hiredis.ReplyError) else ""
        return " ".join(
            word for word in (code or error.__class__.__name__, place and f"at {place[0]}") if word
        )
    if isinstance(error, LaneLost):
        return "no connection"
    if isinstance(error, OSError) and error.strerror:
        # The system's own words for the number: a full disk, a file that may not be written.
        return f"{error.__class__.__name__}: {error.strerror}"
    return str(error.__class__.__name__)
