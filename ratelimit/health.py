"""
What the store tells of a deployment's health, beyond its latency: the breaker of each kind of call.

The layout stands in the header of `routing/lua/breaker.lua`.
There is nothing to read while a deployment is well.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgpack

from ratelimit.asks import STREAM, TOOLS, WHOLE

KIND_WORDS: Mapping[int, str] = MappingProxyType({WHOLE: "whole", STREAM: "stream", TOOLS: "tools"})

# For how long a deployment's share grows back after it came to itself.
RAMP_US = 30_000_000


@dataclass(frozen=True, slots=True)
class KindHealth:
    """
    Calls of one kind at one deployment: fading counts, and its breaker; times in us since 2024-01-01.

    `openings` is how often it opened without having come back wholly.
    """

    fine: float
    failed: float
    counted_at_us: float
    in_a_row: int
    openings: int
    opened_at_us: float
    open_until_us: float
    closed_at_us: float

    def state(self, now_us: float) -> str:
        """Return `closed`, `open`, `half_open`, or `returning` while its share grows back."""
        if not self.openings:
            return "closed"
        if not self.closed_at_us:
            return "open" if self.open_until_us > now_us else "half_open"
        return "returning" if self.closed_at_us + RAMP_US > now_us else "closed"


@dataclass(frozen=True, slots=True)
class Health:
    """
    What there is to tell: who tries it, what its vendor said is left, what an active probe said, and each kind of call.

    `left` is {requests or tokens: (how many, until when)}; times in us since 2024-01-01.
    """

    probe: str
    left: Mapping[str, tuple[int, float]]
    offline_until_us: float
    kinds: Mapping[str, KindHealth]

    def state(self, now_us: float) -> str:
        """Return the worst of its kinds: `open`, `half_open`, `returning`, `closed`."""
        found = {kind.state(now_us) for kind in self.kinds.values()}
        return next(
            (word for word in ("open", "half_open", "returning") if word in found), "closed"
        )


WELL = Health("", MappingProxyType({}), 0, MappingProxyType({}))


def decode_health(packed: bytes | None) -> Health:
    """Read the field; nothing there is a deployment that is well."""
    if packed is None:
        return WELL
    probe, _, _, requests, requests_until, tokens, tokens_until, offline, *rows = msgpack.unpackb(
        packed
    )
    left = {"requests": (requests, requests_until), "tokens": (tokens, tokens_until)}
    return Health(
        probe,
        {what: row for what, row in left.items() if row[1]},
        offline,
        {
            KIND_WORDS[kind]: KindHealth(*told)
            for kind, *told in zip(*[iter(rows)] * 9, strict=True)
        },
    )
