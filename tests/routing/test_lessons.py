"""Lessons: every replica's part counts once, what is old fades, and a caller judges its own calls, once."""

import msgpack
import pytest
from redis.asyncio import Redis

from routing.lessons import (
    ALL,
    ENOUGH,
    MOST_RECENT,
    MOST_REMEMBERED,
    Lessons,
    Sums,
    decode,
    lesson_of,
    read_lessons,
    vote,
)

NOW = 90_000_000_000_000
HALF_LIFE_US = 6 * 3600 * 1_000_000
AT_S = 1_790_000_000.0
MODELS = {"m", "n"}


@pytest.fixture
def lessons() -> Lessons:
    return Lessons()


def answered(lessons: Lessons, count: int = 1, *, defect: float = 0.0, tokens: int = 100) -> None:
    for _ in range(count):
        lessons.note("m", "coding", defect=defect, tokens=tokens, after_first_us=tokens * 20)


async def test_what_replicas_saw_is_added_up(redis_client: Redis) -> None:
    """In whatever order it arrives, and for the task as for all tasks."""
    one, other = Lessons(), Lessons()
    answered(one, 3)
    answered(other, 1, defect=1.0, tokens=200)
    assert await one.send(redis_client, AT_S, now=str(NOW)) == 2
    assert await other.send(redis_client, AT_S, now=str(NOW)) == 2
    found = (await read_lessons(redis_client, MODELS, now_us=NOW)).lessons
    assert found.keys() == {("m", "coding"), ("m", ALL)}
    wanted = Sums(calls=4, defects=1, tokens=500, answers=4, us=10_000, timed=500)
    assert found["m", "coding"] == found["m", ALL] == wanted
    assert lesson_of(wanted) == (4, 1, 0, 0, 125, 4)
    assert await redis_client.ttl("{c0}:lessons") > 0


async def test_what_was_sent_is_not_sent_again(redis_client: Redis, lessons: Lessons) -> None:
    """And where nothing was seen nothing is written."""
    answered(lessons)
    await lessons.send(redis_client, AT_S, now=str(NOW))
    assert await lessons.send(redis_client, AT_S, now=str(NOW)) == 0
    found = (await read_lessons(redis_client, MODELS, now_us=NOW)).lessons
    assert found["m", "coding"].calls == 1


async def test_half_is_forgotten_in_six_hours_and_a_clock_that_steps_back_forgets_nothing(
    redis_client: Redis, lessons: Lessons
) -> None:
    """What is new counts more."""
    for at, calls in ((NOW, 8), (NOW + HALF_LIFE_US, 1), (NOW, 1)):
        answered(lessons, calls)
        await lessons.send(redis_client, AT_S, now=str(at))
    found = await read_lessons(redis_client, MODELS, now_us=NOW + HALF_LIFE_US)
    assert found.lessons["m", "coding"].calls == pytest.approx(6)


async def test_what_nobody_adds_to_fades_as_well(redis_client: Redis, lessons: Lessons) -> None:
    """A kind of calls that nobody sends any more does not outweigh what is learned of its task today; how long its answers were stays known."""
    answered(lessons, 8, defect=0.5)
    await lessons.send(redis_client, AT_S, now=str(NOW))

    async def known(later_us: int) -> Sums:
        return (await read_lessons(redis_client, MODELS, now_us=NOW + later_us)).lessons[
            "m", "coding"
        ]

    assert await known(0) == await known(-HALF_LIFE_US) == Sums(8, 4, 0, 0, 800, 8, 16_000, 800)
    faded = await known(HALF_LIFE_US)
    assert faded == Sums(4, 2, 0, 0, 400, 4, 8000, 400)
    old = lesson_of(await known(20 * HALF_LIFE_US))
    assert old.calls < 0.0001
    assert old.output == pytest.approx(100)


def test_what_is_read_in_one_minute_is_the_same() -> None:
    """A board that nobody adds to changes once a minute, and not each time that it is put up."""
    row = (b"m\0coding", msgpack.packb([8, 4, 0, 0, 800, 8, 16_000, 800, NOW]))
    minute_us = 60_000_000
    begun = NOW + HALF_LIFE_US - (NOW + HALF_LIFE_US) % minute_us
    read = [decode([row], MODELS, begun + after).lessons for after in (0, minute_us - 1, minute_us)]
    assert read[0] == read[1] != read[2]


def test_what_has_faded_is_over() -> None:
    """What was not added to for a month, and for a day where its model is no longer configured."""
    day_us = 86_400_000_000

    def row(name: bytes, days: float) -> tuple[bytes, bytes]:
        return name, msgpack.packb([1, 0, 0, 0, 10, 1, 10, 10, NOW - round(days * day_us)])

    rows = [row(b"m\0", 29), row(b"m\0a", 31), row(b"n\0", 0.9), row(b"n\0a", 1.1)]
    found = decode(rows, {"m", "n"}, NOW)
    assert found.lessons.keys() == {("m", ""), ("n", ""), ("n", "a")}
    assert found.over == [b"m\0a"]
    found = decode(rows, {"m"}, NOW)
    assert found.lessons.keys() == {("m", "")}
    assert found.over == [b"m\0a", b"n\0a"]


async def test_no_more_is_remembered_than_can_be_outweighed(
    redis_client: Redis, lessons: Lessons
) -> None:
    """A model that was good for a year is found out in hundreds of calls, not in millions."""
    answered(lessons, 5000)
    await lessons.send(redis_client, AT_S, now=str(NOW))
    other = Lessons()
    answered(other, 400, defect=1.0)
    await other.send(redis_client, AT_S, now=str(NOW))
    found = (await read_lessons(redis_client, MODELS, now_us=NOW)).lessons["m", "coding"]
    assert found.calls == 400
    assert found.defects == pytest.approx(200)


# Votes...


async def test_a_caller_judges_its_own_call_once(redis_client: Redis, lessons: Lessons) -> None:
    """Another key's is unknown to it, a second word does not count, and an hour later it is forgotten."""
    answered(lessons)
    lessons.remember("req_1", "acme/t/k", "m", "coding", body=1, at_s=0)
    await lessons.send(redis_client, AT_S)
    assert await vote(redis_client, "req_1", "acme/t/other", 1.0, AT_S) == 0
    assert await vote(redis_client, "req_2", "acme/t/k", 1.0, AT_S) == 0
    assert await vote(redis_client, "req_1", "acme/t/k", 0.25, AT_S + 3500) == 1
    assert await vote(redis_client, "req_1", "acme/t/k", 1.0, AT_S) == 2
    found = (await read_lessons(redis_client, MODELS)).lessons["m", "coding"]
    assert (found.votes, found.score) == pytest.approx((1, 0.25), rel=1e-3)
    assert await vote(redis_client, "req_1", "acme/t/k", 1.0, AT_S + 9000) == 0
    (bucket,) = [key async for key in redis_client.scan_iter("{c0}:asked:*")]
    assert await redis_client.ttl(bucket) > 0


async def test_what_is_seen_of_a_kind_is_seen_of_its_task(
    redis_client: Redis, lessons: Lessons
) -> None:
    """Calls and words alike; the task's lesson is that of all its kinds, and each call counts once there."""
    for kind, calls in (("coding\x1f6e", 3), ("coding\x1f9h", 2), ("chat", 1)):
        for _ in range(calls):
            lessons.note("m", kind, defect=0.5, tokens=10, after_first_us=5)
    lessons.remember("req_1", "k", "m", "coding\x1f9h", body=1, at_s=0)
    await lessons.send(redis_client, AT_S)
    assert await vote(redis_client, "req_1", "k", 0.5, AT_S) == 1
    found = (await read_lessons(redis_client, MODELS)).lessons
    assert {kind: round(sums.calls) for (_, kind), sums in found.items()} == {
        "coding\x1f6e": 3,
        "coding\x1f9h": 2,
        "coding": 5,
        "chat": 1,
        ALL: 6,
    }
    assert {kind for (_, kind), sums in found.items() if sums.votes} == {"coding\x1f9h", "coding"}


async def test_what_can_be_judged_is_bounded(redis_client: Redis, lessons: Lessons) -> None:
    """A replica offers some hundreds of calls each time, however many it served."""
    answered(lessons)
    for n in range(MOST_REMEMBERED + 50):
        lessons.remember(f"req_{n}", "k", "m", "coding", body=n, at_s=0)
    await lessons.send(redis_client, AT_S)
    (bucket,) = [key async for key in redis_client.scan_iter("{c0}:asked:*")]
    assert await redis_client.hlen(bucket) == MOST_REMEMBERED


# The same again...


async def test_to_ask_again_speaks_against_the_answer_before(
    redis_client: Redis, lessons: Lessons
) -> None:
    """The same request of the same key within a minute; a program that repeats itself says so once."""
    answered(lessons)
    lessons.remember("r1", "k", "m", "coding", body=7, at_s=0)
    lessons.remember("r2", "k", "n", "coding", body=8, at_s=1)
    lessons.remember("r3", "other", "n", "coding", body=7, at_s=2)
    lessons.remember("r4", "k", "n", "coding", body=7, at_s=59)
    lessons.remember("r5", "k", "n", "coding", body=7, at_s=60)
    lessons.remember("r6", "k", "n", "coding", body=8, at_s=100)
    await lessons.send(redis_client, AT_S, now=str(NOW))
    found = (await read_lessons(redis_client, MODELS, now_us=NOW)).lessons
    assert found["m", "coding"].defects == 0.5
    assert ("n", "coding") not in found


def test_what_was_asked_lately_is_bounded(lessons: Lessons) -> None:
    """However many different requests come; the latest are known again."""
    for n in range(3 * MOST_RECENT + 100):
        lessons.remember(f"r{n}", "k", "m", "t", body=n, at_s=0)
    assert len(lessons._recent) + len(lessons._earlier) <= 2 * MOST_RECENT
    lessons.remember("again", "k", "m", "t", body=2 * MOST_RECENT + 101, at_s=1)
    lessons.remember("again", "k", "m", "u", body=5, at_s=1)
    assert {task: sums.defects for (_, task), sums in lessons._batch.sums.items()} == {"t": 0.5}


async def test_a_sample_of_many_calls_counts_for_all(redis_client: Redis, lessons: Lessons) -> None:
    """About as many are noted as are enough, a request always or never, and the sums are those of all calls."""
    calls = 16 * ENOUGH
    # The first calls of a burst are all noted; then fewer and fewer, and from the next time on few from the beginning.
    for most in (5 * ENOUGH, ENOUGH, ENOUGH):
        noted = 0
        for body in range(calls):
            if lessons.wants(body):
                noted += 1
                lessons.note("m", "coding", defect=0.25, tokens=10, after_first_us=5)
        assert ENOUGH / 2 <= noted <= most
        sums = lessons._batch.sums["m", "coding"]
        assert sums.calls == sums.answers == pytest.approx(calls, rel=0.01)
        assert (sums.defects, sums.tokens) == (0.25 * sums.calls, 10 * sums.calls)
        assert (sums.us, sums.timed) == (5 * sums.calls, 10 * sums.calls)
        await lessons.send(redis_client, AT_S)
    await lessons.send(redis_client, AT_S)
    assert all(lessons.wants(body) for body in range(64))


async def test_a_request_that_is_sent_again_is_seen_in_a_sample_too(
    redis_client: Redis, lessons: Lessons
) -> None:
    """Half a defect of the answer before, for every request that the one stands for."""
    answered(lessons, 4 * ENOUGH)
    await lessons.send(redis_client, AT_S)
    again = next(body for body in range(100) if lessons.wants(body))
    for _ in range(2):
        lessons.remember("r", "k", "m", "coding", body=again, at_s=0)
    stands_for = lessons._one_in
    assert stands_for > 1
    assert lessons._batch.sums["m", "coding"].defects == 0.5 * stands_for
