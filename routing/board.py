"""
The board: what is known of all models right now, put up by one control for every replica to read.

It is one key with a version, and with the moment from which that holds, by the store's clock: a second after it was put up. A replica
reads it more than twice in that second, off the hot path, and changes to it in that moment. So all replicas decide by the same version at
the same time, but for what the answer of a read takes; and two that name the same version in `x-penstock-route` decide the same call alike.

Failure stance: a board passes away when nobody renews it for ten seconds. Then latencies and pressures are forgotten, because they
are no longer true; what was learned of quality is kept, because it changes slowly; and the version is 0.
Limits, health and load never depend on it: `admit` judges them on the state itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgpack
import msgspec
from redis.asyncio import Redis

from routing.kinds import task_of
from routing.lessons import ALL, Sums, lesson_of
from routing.scoring import Facts, Lesson
from store import scripts
from store.cells import FIRST

__all__ = ["AHEAD_US", "BOARD", "Live", "Read", "decode", "encode", "publish", "read", "stale"]

# Its number is that of the format: during an update replicas of two releases run beside each other.
BOARD = f"{FIRST.tag}:board:3"
LAST = f"{FIRST.tag}:board:last"
KEEP_MS = 10_000
AHEAD_US = 1_000_000
"""How long before it holds a version is put up; replicas read it at least twice in this time."""
FEWEST = 5.0
"""A kind of which less was seen of late is left out: its task's lesson weighs ten times as much (`routing.scoring.TASK_WEIGHT`)."""


@dataclass(frozen=True, slots=True)
class Live:
    """What changes by the second: the first byte by model in us, and the pressure by scope, from 0 to 1."""

    ttft_us: Mapping[str, float]
    pressures: Mapping[str, float]


class _Content(msgspec.Struct, array_like=True):
    """What a board says, as `Facts` hold it: it is read at one go, since a large one has ten thousand lessons."""

    lessons: dict[str, dict[str, Lesson]]
    tpot_us: dict[str, float]
    ttft_us: dict[str, float]
    pressures: dict[str, float]


_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER = msgspec.msgpack.Decoder(_Content)


def encode(lessons: Mapping[tuple[str, str], Sums], live: Live) -> bytes:
    """Return a board's content; the same facts give the same bytes, whoever writes them and in whatever order."""
    content = _Content({}, {}, {}, {})
    for (model, kind), sums in lessons.items():
        if kind != task_of(kind) and max(sums.calls, sums.votes, sums.answers) < FEWEST:
            continue
        content.lessons.setdefault(model, {})[kind] = lesson_of(sums)
        if kind == ALL and sums.timed:
            content.tpot_us[model] = float(round(sums.us / sums.timed))
    content.ttft_us = {model: float(round(us)) for model, us in live.ttft_us.items() if us > 0}
    content.pressures = {
        scope: part
        for scope, pressure in live.pressures.items()
        if (part := round(pressure, 3)) > 0
    }
    return _ENCODER.encode(content)


@dataclass(frozen=True, slots=True)
class Read:
    """A board as it lies in the store, opaque, and what time it is there, in us since 2024-01-01."""

    raw: bytes
    now_us: int


async def read(client: Redis, *, now: str = "") -> Read | None:
    """Return what is up, None where nothing is. Raises what redis-py raises."""
    script: Any = client.register_script(scripts.load("routing", "look").text)
    raw, now_us = await script(keys=[BOARD], args=[now])
    return None if raw is None else Read(raw, int(now_us))


def decode(raw: bytes) -> tuple[Facts, int]:
    """Return the facts of a board as it lies in the store, and from when on they hold, in us since 2024-01-01. Raises `ValueError` for what is none."""
    try:
        version, packed, from_us = msgpack.unpackb(raw, raw=True)
        content = _DECODER.decode(packed)
        facts = Facts(
            version=int(version),
            lessons=content.lessons,
            ttft_us=content.ttft_us,
            tpot_us=content.tpot_us,
            pressures=content.pressures,
        )
        return facts, int(from_us)
    except (
        TypeError,
        ValueError,
        OverflowError,
        msgpack.UnpackException,
        msgspec.DecodeError,
    ) as error:
        raise ValueError(f"not a board: {error}") from error


def stale(facts: Facts) -> Facts:
    """Return what still holds of facts that nobody has renewed."""
    return Facts(version=0, lessons=facts.lessons, tpot_us=facts.tpot_us)


async def publish(client: Redis, content: bytes, *, ahead_us: int = AHEAD_US, now: str = "") -> int:
    """
    Put a content up, to hold in `ahead_us`; return the version that is up, which is the former one while that does not hold yet.

    Raises what redis-py raises.
    """
    script: Any = client.register_script(scripts.load("routing", "publish").text)
    return int(await script(keys=[BOARD, LAST], args=[now, content, KEEP_MS, ahead_us]))
