"""
How a vendor's limits are divided over cells: shares whose sum never exceeds what was divided.

A share is a limit like any other, of a size that changes: each cell keeps its own by the ordinary scripts, and asks nobody.
What is divided never comes back by itself, as a lease would: it is given only after it was taken elsewhere.
Who asks for how much is seen by how much of its share a cell has in use; this is what Doorman calls *wants* and *has*
(https://github.com/youtube/doorman), without a word from the clients.

The rules of one division:

- Nobody has less than a floor, a quarter of an even share. So a cell that knows nothing may begin with it, whatever the others have.
- While some press on their shares, those that use little give a quarter of what they have above the floor, and the smallest of
  those that press get it first.
- While all press, shares become even, slowly; while none does, likewise.

Everything here is a pure function.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from config.quotas import Burst, Limits

__all__ = [
    "Part",
    "amounts",
    "divided",
    "first",
    "floor_of",
    "floors",
    "limits_of",
    "then",
    "wanted",
]

RATES = tuple(Burst.model_fields)

PRESSED, EASY = 0.5, 0.25
"""A cell with so much of its share in use presses on it; one with less than so much can give."""

_FLOOR_PARTS = 4
_GIVEN_PART = 4
_EVENED_PART = 8


def amounts(limits: Limits) -> dict[str, int]:
    """Return what can be divided of limits, by its names: every rate that there is, and the concurrency."""
    found = ((name, getattr(limits, name)) for name in (*RATES, "concurrency"))
    return {name: amount for name, amount in found if amount is not None}


def floor_of(quota: int, cells: int) -> int:
    """Return what every cell has at least: one, and never more than an even share."""
    return max(1, quota // (_FLOOR_PARTS * cells))


def floors(limits: Limits, cells: int) -> Limits:
    """Return the limits of a cell that knows of no share."""
    least = {name: floor_of(amount, cells) for name, amount in amounts(limits).items()}
    return limits_of(limits, least, cells)


def limits_of(limits: Limits, shares: Mapping[str, int], cells: int) -> Limits:
    """
    Return limits with a cell's share in the place of each; bursts are divided with them.

    The shares of a limit's burst add up to no more than the burst, if those of the limit do to no more than the limit.
    """
    bursts = {}
    for name in RATES:
        whole = getattr(limits, name)
        if whole is not None:
            burst = getattr(limits.burst, name) or whole
            bursts[name] = 1 + (burst - cells) * shares[name] // whole
    return limits.model_copy(update={**shares, "burst": Burst.model_construct(**bursts)})


def divided(quota: int, shares: Sequence[int], used: Sequence[float]) -> list[int]:
    """
    Return the next share of each cell.

    `used` is how much each has in use, from 0, as `Part` says. None is less than the floor, and their sum is the quota; where it was more
    (the quota has become less), those who have more than the floor give it back.
    """
    count = len(shares)
    floor, even = floor_of(quota, count), quota // count
    found = [max(share, floor) for share in shares]
    above = sum(found) - floor * count
    if sum(found) > quota:
        found = [floor + (share - floor) * (quota - floor * count) // above for share in found]
    pot = quota - sum(found)
    pressing = [at for at in range(count) if used[at] >= PRESSED]
    takers: list[int] = list(range(count))
    if 0 < len(pressing) < count:
        takers = pressing
        for at in range(count):
            if used[at] < EASY:
                given = -((floor - found[at]) // _GIVEN_PART)
                found[at] -= given
                pot += given
    else:
        for at in range(count):
            if found[at] > even:
                given = -((even - found[at]) // _EVENED_PART)
                found[at] -= given
                pot += given
    _fill(found, takers, pot)
    return found


def _fill(shares: list[int], takers: list[int], pot: int) -> None:
    """Give a pot to some, the smallest first: as water fills vessels that are connected."""
    order = sorted(takers, key=lambda at: (shares[at], at))
    while pot:
        level = shares[order[0]]
        lowest = [at for at in order if shares[at] == level]
        higher = [shares[at] for at in order if shares[at] > level]
        rise = pot // len(lowest)
        if higher:
            rise = min(rise, higher[0] - level)
        if rise == 0:
            for at in lowest[:pot]:
                shares[at] += 1
            return
        for at in lowest:
            shares[at] += rise
        pot -= rise * len(lowest)


class Part(NamedTuple):
    """
    What one cell has of one scope: a share of each limit, how much of each is in use, and what is in flight.

    A rate is in use by so much as its bucket lacks of what the floor's would hold, places by what is in flight of them; 1 is all.

    `version` is that of the configuration under which it was written, -1 where nothing is.
    """

    shares: Mapping[str, int]
    used: Mapping[str, float]
    in_flight: int
    version: int = -1


def wanted(whole: Mapping[str, int], parts: Sequence[Part | None]) -> list[dict[str, int]]:
    """
    Return the shares that every cell is to have of limits; None is a cell that has not said what it has.

    While one has not, nothing is given to anybody; its share is not less than the floor, for which the others make room.
    """
    count = len(parts)
    found: list[dict[str, int]] = [{} for _ in parts]
    for name, quota in whole.items():
        floor = floor_of(quota, count)
        had = [floor if part is None else part.shares.get(name, floor) for part in parts]
        used = [0.0 if part is None else part.used.get(name, 0.0) for part in parts]
        if None not in parts:
            next_ones = divided(quota, had, used)
        elif sum(had) > quota:
            next_ones = divided(quota, had, [1.0] * count)
        else:
            next_ones = had
        for mine, amount in zip(found, next_ones, strict=True):
            mine[name] = amount
    return found


def first(target: Mapping[str, int], part: Part) -> dict[str, int]:
    """Return what a cell may have before anybody has confirmed anything: nothing grows."""
    return {name: min(amount, part.shares.get(name, amount)) for name, amount in target.items()}


def then(
    whole: Mapping[str, int], targets: Sequence[Mapping[str, int]], parts: Sequence[Part]
) -> list[dict[str, int]]:
    """
    Return what the cells may have once all have confirmed what they were to give; `parts` is what they said then.

    What is in flight beyond a share is still in the vendor's hands: as many places are not given to others.
    """
    found: list[dict[str, int]] = [{} for _ in parts]
    for name, quota in whole.items():
        floor = floor_of(quota, len(parts))
        had = [part.shares.get(name, floor) for part in parts]
        busy = [part.in_flight if name == "concurrency" else 0 for part in parts]
        held = list(map(max, had, busy))
        for at, mine in enumerate(found):
            room = quota - sum(held) + held[at]
            mine[name] = max(min(targets[at][name], room), had[at])
            held[at] = max(mine[name], busy[at])
    return found
