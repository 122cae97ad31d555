"""
What calls teach of models: gathered by each replica, added up in the store, and faded there.

A replica notes an exchange in memory and sends its sums every two seconds (`lua/teach.lua`), off the hot path.
Sums are added, so it does not matter which replica saw what, nor in which order they arrive.
They fade where they are added to, and where they are read by as much as has passed since: of what nobody sends any more less and less is left.
What a replica has seen in the last two seconds is lost with it: these are statistics, not books.
Under load a sample is enough: of many calls a replica notes every second, fourth, or eighth request, told by its hash, and counts it
for as many. So a request that is sent again is noted again, and what is learned means the same at any load; the store keeps no more
than the weight of some hundred calls of a model anyhow.

| signal | counts as |
|---|---|
| the answer broke off, or was none (`upstream_lost`, `bad_answer`, `idle_timed_out`) | a defect |
| it was refused by a filter | a defect |
| it was cut short, though nobody had set a cap | half a defect |
| it has another form than was asked for: no JSON, JSON or a tool's arguments not by the schema, a tool that was not offered | a defect |
| the same caller sends the same request again within a minute | half a defect of the answer before |
| `POST /v1/feedback` | a vote from 0 to 1 |
| an answer without any of these | a call without a defect |

Failure stance: what cannot be sent is dropped and not tried again; nothing waits for it.
"""

import asyncio
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgpack
from redis.asyncio import Redis

from routing.kinds import task_of
from routing.scoring import Lesson
from store import clock, scripts
from store.cells import FIRST

__all__ = [
    "ASKED",
    "LESSONS",
    "Learned",
    "Lessons",
    "Sums",
    "decode",
    "forget",
    "lesson_of",
    "read_lessons",
    "vote",
]

LESSONS = f"{FIRST.tag}:lessons"
"""The hash of all lessons, by model and task or kind."""
HALF_LIFE_US = 6 * 3600 * 1_000_000
"""As in `lua/lesson.lua`."""
FADES_EVERY_US = 60 * 1_000_000
"""What nobody adds to is read as the same for so long: a board of it changes no more often."""
MONTH_US, DAY_US = 30 * 86_400_000_000, 86_400_000_000
"""How long a lesson is kept that nobody adds to, and one of a model that is not configured."""
MOST_FORGOTTEN = 1000
"""Lessons that are deleted at once."""
ASKED = f"{FIRST.tag}:asked:"
"""What the hashes begin with of calls that may still be judged; one for each span of time."""
SPAN_S = 600
JUDGED_WITHIN_S = 3600
ENOUGH = 500
"""Calls that are noted between two sendings; of more than twice as many, one in so many that about these are left."""
MOST_REMEMBERED = 400
"""Calls that a replica offers for judgement each time it sends; of more than that, the first ones."""
AGAIN_WITHIN_S = 60.0
MOST_RECENT = 4096
"""Requests that are known again for a while: the latest so many, or up to twice as many."""
ALL = ""
"""The task of what was seen of a model over all tasks."""

_pack = msgpack.Packer(use_bin_type=False).pack


@dataclass(slots=True)
class Sums:
    """What one replica has seen since it last said so; see `lua/lesson.lua`."""

    calls: float = 0.0
    defects: float = 0.0
    votes: float = 0.0
    score: float = 0.0
    tokens: float = 0.0
    answers: float = 0.0
    us: float = 0.0
    timed: float = 0.0

    def add(self, other: "Sums") -> None:
        """Add what another one has seen."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def row(self) -> bytes:
        """Return them as the script takes them."""
        packed: bytes = _pack([getattr(self, name) for name in self.__slots__])
        return packed


@dataclass(slots=True)
class _Batch:
    sums: dict[tuple[str, str], Sums] = field(default_factory=dict)
    asked: dict[str, tuple[str, str, str]] = field(default_factory=dict)


class Lessons:
    """What this replica has seen, until it is sent."""

    __slots__ = ("_batch", "_earlier", "_noted", "_one_in", "_recent")

    def __init__(self) -> None:
        self._batch = _Batch()
        # Who asked what a while ago, and which model answered; forgotten all at once, and not one by one.
        self._recent: dict[tuple[str, int], tuple[str, str, float]] = {}
        self._earlier = self._recent
        self._noted, self._one_in = 0, 1

    def wants(self, body: int) -> bool:
        """Whether a request is to be noted and remembered; `body` is a hash of it."""
        return body % self._one_in == 0

    def note(
        self, model: str, kind: str, *, defect: float | None, tokens: int, after_first_us: int
    ) -> None:
        """
        Note an answer to a call of a kind, or of a task: its defect from 0 to 1, and its output tokens, which took so long after the first byte.

        Without tokens it says nothing of how long answers are, without a defect nothing of how good.
        """
        sums, weight = self._of(model, kind), self._one_in
        if defect is not None:
            sums.calls += weight
            sums.defects += defect * weight
        if tokens > 0:
            sums.tokens += tokens * weight
            sums.answers += weight
            if after_first_us > 0:
                sums.us += after_first_us * weight
                sums.timed += tokens * weight
        self._noted += 1
        if self._noted >= 2 * ENOUGH:
            # From here on each stands for twice as many.
            self._noted, self._one_in = ENOUGH, 2 * weight

    def remember(
        self, request_id: str, key: str, model: str, kind: str, *, body: int, at_s: float
    ) -> None:
        """Offer a call for judgement; `body` is a hash of the request, which tells when it is sent again."""
        batch = self._batch
        if len(batch.asked) < MOST_REMEMBERED:
            batch.asked[request_id] = (key, model, kind)
        recent = self._recent
        asked = (key, body)
        before = recent.get(asked) or self._earlier.get(asked)
        if before is not None and at_s - before[2] < AGAIN_WITHIN_S:
            # Asked a third time it says nothing new: programs repeat themselves.
            if before[0]:
                self._of(before[0], before[1]).defects += 0.5 * self._one_in
            model = ""
        if len(recent) >= MOST_RECENT:
            self._earlier = recent
            self._recent = recent = {}
        recent[asked] = (model, kind, at_s)

    def _of(self, model: str, kind: str) -> Sums:
        found = self._batch.sums.get((model, kind))
        if found is None:
            found = self._batch.sums[model, kind] = Sums()
        return found

    async def send(self, client: Redis, at_s: float, *, now: str = "") -> int:
        """Send what was seen, and forget it; `at_s` is the wall clock. Returns how many lessons. Raises what redis-py raises."""
        batch, self._batch = self._batch, _Batch()
        calls = sum(sums.calls for sums in batch.sums.values())
        self._noted, self._one_in = 0, 1 << max(int(calls / ENOUGH).bit_length() - 1, 0)
        if not batch.sums:
            return 0
        wider: dict[tuple[str, str], Sums] = {}
        for (model, kind), sums in batch.sums.items():
            for each in {task_of(kind), ALL} - {kind}:
                wider.setdefault((model, each), Sums()).add(sums)
        rows: list[Any] = []
        for (model, kind), sums in (*batch.sums.items(), *wider.items()):
            rows += (f"{model}\0{kind}", sums.row())
        for request_id, call in batch.asked.items():
            rows += (request_id, _pack(call))
        script = client.register_script(scripts.load("routing", "teach").text)
        return int(
            await script(
                keys=[LESSONS, _span(at_s)],
                args=[now, JUDGED_WITHIN_S, len(batch.sums) + len(wider), *rows],
            )
        )


async def vote(
    client: Redis, request_id: str, key: str, score: float, at_s: float, *, now: str = ""
) -> int:
    """
    Take a caller's word (0 to 1) on an answer: 1 it counts, 2 it was judged before, 0 no such call of this key is remembered.

    `at_s` is the wall clock. Raises what redis-py raises.
    """
    spans = [_span(at_s - back) for back in range(0, JUDGED_WITHIN_S + SPAN_S, SPAN_S)]
    script = client.register_script(scripts.load("routing", "vote").text)
    return int(
        await script(keys=[LESSONS, *spans], args=[now, request_id, key, round(score * 1000)])
    )


def _span(at_s: float) -> str:
    return f"{ASKED}{int(at_s // SPAN_S)}"


class Learned(NamedTuple):
    """What was learned, by model and task or kind, as much of it as is left; and the fields of the hash that may be deleted."""

    lessons: dict[tuple[str, str], Sums]
    over: list[bytes]


async def read_lessons(
    client: Redis, models: Container[str], *, now_us: int | None = None
) -> Learned:
    """
    Return all that was learned of these models, as it is by the store's clock; `now_us` is since 2024-01-01 (tests pass a value).

    Raises what redis-py raises.
    """
    found: Any = await client.hgetall(LESSONS)
    if now_us is None:
        now_us = await clock.now_us(client) - clock.EPOCH_US
    # Of a hundred models a hundredth of a second and more.
    return await asyncio.to_thread(decode, found.items(), models, now_us)


def decode(rows: Iterable[tuple[bytes, bytes]], models: Container[str], now_us: int) -> Learned:
    """Return what of these models is left of what the store keeps; `now_us` is since 2024-01-01."""
    lessons, over = {}, []
    at_us = now_us - now_us % FADES_EVERY_US
    for field_, packed in rows:
        model, _, kind = field_.decode().partition("\0")
        *sums, added_us = msgpack.unpackb(packed)
        age_us = max(at_us - added_us, 0)
        configured = model in models
        if age_us > (MONTH_US if configured else DAY_US):
            over.append(field_)
        elif configured:
            left = 0.5 ** (age_us / HALF_LIFE_US)
            lessons[model, kind] = Sums(*(one * left for one in sums))
    return Learned(lessons, over)


async def forget(client: Redis, over: list[bytes]) -> None:
    """
    Delete lessons, so many at once; the rest the next time. Raises what redis-py raises.

    What an edge adds to one of them since they were read is lost: two seconds of what nobody had sent for a day.
    """
    if over:
        await client.hdel(LESSONS, *over[:MOST_FORGOTTEN])


def lesson_of(sums: Sums) -> Lesson:
    """Return what the scorer makes of sums."""
    return Lesson(
        sums.calls,
        sums.defects,
        sums.votes,
        sums.score,
        sums.tokens / sums.answers if sums.answers else 0.0,
        sums.answers,
    )
