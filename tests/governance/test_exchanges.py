"""Laws of one exchange: all its entries, each once, wherever they are."""

from typing import Any

import pytest
from redis.asyncio import Redis

from governance import exchanges
from governance.exchanges import find_exchange, in_database, in_stream
from store.cells import FIRST
from store.sql import LedgerUnreachable

Books = Any  # the fixture of this folder's conftest


async def test_entries_are_found_in_both_places_and_in_their_order(books: Books) -> None:
    """The first attempt is in the database, the second in both, a correction in the stream."""
    await books.append("x.1", outcome="connect_failed")
    await books.append("other.1")
    await books.drain()
    await books.append("x.10", cost_nusd=3)
    await books.append("x.2", cost_nusd=2)
    await books.append("x.2+settle", cost_nusd=-1)
    found = await find_exchange({FIRST: books.redis}, books.path, "x")
    assert [entry["attempt_id"] for entry in found] == ["x.1", "x.2", "x.2+settle", "x.10"]
    await books.drain()
    assert await find_exchange({FIRST: books.redis}, books.path, "x") == found
    assert found[0]["outcome"] == "connect_failed"


async def test_an_entry_that_is_in_both_places_is_told_once(books: Books) -> None:
    """Committed and not yet deleted is one entry."""
    place = await books.append("x.1")
    (payload,) = [content for _, content in await books.redis.xrange(FIRST.ledger, place, place)]
    await books.drain()
    await books.redis.xadd(FIRST.ledger, payload)
    assert len(await in_stream(books.redis, "x")) == 1
    assert len(await find_exchange({FIRST: books.redis}, books.path, "x")) == 1


async def test_a_name_that_is_part_of_another_finds_only_itself(books: Books) -> None:
    """`x` is neither `xx` nor the model `x` of someone else's call; garbage is passed over."""
    await books.append("xx.1", model="x")
    await books.redis.xadd(FIRST.ledger, {"e": b"x?"})
    await books.redis.xadd(FIRST.ledger, {"other": b"x"})
    assert await in_stream(books.redis, "x") == []


@pytest.mark.parametrize("page", [1, 2, 1000])
async def test_the_stream_is_looked_through_page_by_page(
    page: int, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a page holds; and no further back than is bearable."""
    monkeypatch.setattr(exchanges, "_PAGE", page)
    for number in range(5):
        await books.append(f"r{number}.1")
    for number in range(5):
        assert len(await in_stream(books.redis, f"r{number}")) == 1
    monkeypatch.setattr(exchanges, "LOOK_BACK", 2)
    assert (await in_stream(books.redis, "r0") == []) == (page < 5)


async def test_nothing_is_an_empty_answer(books: Books, redis_client: Redis) -> None:
    """An unknown exchange has no entries; a database that is not there is an error."""
    with pytest.raises(LedgerUnreachable):
        await find_exchange({FIRST: redis_client}, books.path, "x")
    async with books.writer() as writer:
        await writer.prepare()
    assert await find_exchange({FIRST: redis_client}, books.path, "x") == []
    assert in_database(books.path, "x") == []
