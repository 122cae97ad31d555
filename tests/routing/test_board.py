"""The board: what is put up is what everybody reads, under a version that says so."""

from typing import Any

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
    version = await board.publish(redis_client, board.encode(LESSONS, LIVE))
    raw: Any = await redis_client.get(board.BOARD)
    lesson = Lesson(4, 1, 2, 1.5, 125)
    assert board.decode(raw) == Facts(
        version=version,
        lessons={("m", "coding"): lesson, ("m", ALL): lesson},
        ttft_us={"m": 250_000.0},
        tpot_us={"m": 20.0},
        pressures={"team:acme/t": 0.25},
    )
    assert 0 < await redis_client.pttl(board.BOARD) <= board.KEEP_MS


async def test_a_version_stands_for_one_content(redis_client: Redis) -> None:
    """The same content keeps its version; another one, also after the board has passed away, gets the next."""
    one, other = board.encode(LESSONS, LIVE), board.encode({}, LIVE)
    first = await board.publish(redis_client, one)
    assert await board.publish(redis_client, one) == first
    assert await board.publish(redis_client, other) == first + 1
    await redis_client.delete(board.BOARD)
    assert await board.publish(redis_client, one) == first + 2


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
    facts = Facts(7, {("m", ALL): Lesson(1)}, {"m": 5.0}, {"m": 2.0}, {"org:o": 1.0})
    assert board.stale(facts) == Facts(0, facts.lessons, {}, facts.tpot_us, {})
