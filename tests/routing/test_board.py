"""The board: what is put up is what everybody reads, under a version that says so."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from routing import board
from routing.lessons import ALL, Sums
from routing.scoring import Facts, Lesson

LESSONS = {
    ("m", "coding"): Sums(4, 1, 2, 1.5, 500, 4, 10_000, 500),
    ("m", ALL): Sums(4, 1, 2, 1.5, 500, 4, 10_000, 500),
}
LIVE = board.Live({"m": 250_000.0, "n": 0.0}, {"team:acme/t": 0.25, "org:acme": 0.0})


async def test_what_is_put_up_is_read(redis_client: Redis) -> None:
    """Latencies and pressures that are nothing are not written; the time per token is that over all tasks."""
    version = await board.publish(redis_client, board.encode(LESSONS, LIVE), now="5000")
    found = await board.read(redis_client, now="7000")
    assert found is not None
    assert found.now_us == 7000
    lesson = Lesson(4, 1, 2, 1.5, 125, 4)
    facts, from_us = board.decode(found.raw)
    assert from_us == 5000 + board.AHEAD_US
    assert facts == Facts(
        version=version,
        lessons={"m": {"coding": lesson, ALL: lesson}},
        ttft_us={"m": 250_000.0},
        tpot_us={"m": 20.0},
        pressures={"team:acme/t": 0.25},
    )
    assert 0 < await redis_client.pttl(board.BOARD) <= board.KEEP_MS


async def test_a_version_stands_for_one_content(redis_client: Redis) -> None:
    """The same content keeps its version; another one, also after the board has passed away, gets the next."""
    one, other = board.encode(LESSONS, LIVE), board.encode({}, LIVE)

    async def put_up(content: bytes, at_us: int) -> int:
        return await board.publish(redis_client, content, ahead_us=10, now=str(at_us))

    first = await put_up(one, 100)
    assert await put_up(one, 110) == first
    assert await put_up(other, 110) == first + 1
    await redis_client.delete(board.BOARD)
    assert await put_up(one, 110) == first + 2


async def test_a_version_is_up_until_it_holds(redis_client: Redis) -> None:
    """Whoever reads more often than that misses none, and all change in the same moment; a clock that steps back holds nobody up."""
    one, other = board.encode(LESSONS, LIVE), board.encode({}, LIVE)
    first = await board.publish(redis_client, one, now="5000000")
    just_before = str(5_000_000 + board.AHEAD_US - 1)
    assert await board.publish(redis_client, other, now=just_before) == first
    found = await board.read(redis_client, now=just_before)
    assert found is not None
    assert board.decode(found.raw)[0].version == first
    assert await board.publish(redis_client, other, now=str(5_000_000 + board.AHEAD_US)) > first
    assert await board.publish(redis_client, one, now="1000000") == first + 2


def test_kinds_of_which_little_was_seen_of_late_are_left_out() -> None:
    """Their task's word decides; what was seen of tasks is told whatever it is."""
    seen = {
        "coding": Sums(calls=0.1),
        "coding\x1f9h": Sums(calls=4.9, votes=4.9, answers=4.9),
        "coding\x1f9e": Sums(calls=5.0),
        "coding\x1f8e": Sums(votes=5.0),
        "coding\x1f7e": Sums(tokens=500.0, answers=5.0),
        ALL: Sums(calls=0.1),
    }
    content = board.encode({("m", kind): sums for kind, sums in seen.items()}, LIVE)
    facts, _ = board.decode(msgpack.packb([1, content, 5]))
    assert facts.lessons["m"].keys() == seen.keys() - {"coding\x1f9h"}


def test_the_same_facts_are_the_same_bytes() -> None:
    """Whatever order they were read in."""
    turned = dict(reversed(LESSONS.items()))
    assert board.encode(turned, LIVE) == board.encode(LESSONS, LIVE)


@given(st.binary(max_size=60))
def test_whatever_is_no_board_is_refused_with_one_error(raw: bytes) -> None:
    """Any bytes raise `ValueError`, nothing else."""
    with pytest.raises(ValueError, match="not a board"):
        board.decode(raw)


def test_what_nobody_renews_is_forgotten_but_for_what_was_learned() -> None:
    """Latencies and pressures are no longer true; quality changes slowly."""
    facts = Facts(7, {"m": {ALL: Lesson(1)}}, {"m": 5.0}, {"m": 2.0}, {"org:o": 1.0})
    assert board.stale(facts) == Facts(0, facts.lessons, {}, facts.tpot_us, {})
