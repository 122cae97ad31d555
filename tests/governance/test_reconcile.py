"""Laws of the proof: equal at every instant while entries move, and every difference is named."""

import asyncio
import random
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisGone

from governance import reconcile
from governance.drain import GROUP
from governance.reconcile import Balance, verify
from store.cells import FIRST
from store.sql import LedgerUnreachable

Books = Any  # the fixture of this folder's conftest


async def prepared(books: Books) -> Books:
    """Make the database, as a control does at its start."""
    async with books.writer() as writer:
        await writer.prepare()
    return books


async def test_nothing_is_equal_to_nothing(books: Books) -> None:
    """A gateway that has served nobody has true books."""
    verdict = await verify({FIRST: books.redis}, (await prepared(books)).path)
    assert verdict.is_equal()
    assert verdict.counters == Balance()


async def test_what_waits_and_what_is_entered_add_up(books: Books) -> None:
    """Some entries are in the database, some in the stream, one in both, one in a dead one's hands."""
    await books.append("a.1", input_tokens=1, output_tokens=10, cost_nusd=100)
    await books.drain()
    await books.append("b.1", input_tokens=2, output_tokens=20, cost_nusd=200)
    await books.redis.xreadgroup(GROUP, "dead", {FIRST.ledger: ">"})
    await books.append("c.1", input_tokens=4, output_tokens=40, cost_nusd=-400)
    async with books.writer(claim_after_ms=0) as writer:
        writer._delete = unable  # committed, not deleted
        with pytest.raises(ConnectionResetError):
            await writer.drain()
    await books.append("d.1", input_tokens=8, output_tokens=80, cost_nusd=800)
    verdict = await verify({FIRST: books.redis}, books.path)
    assert verdict.is_equal()
    assert verdict.counters == Balance(4, 15, 150, 700)
    assert verdict.database + verdict.stream == verdict.counters
    assert verdict.stream.entries >= 1
    assert await books.waiting() == 3


async def unable(batch: object) -> None:
    """Stand for a connection that broke."""
    raise ConnectionResetError


@pytest.mark.parametrize("page", [1, 3, 1000])
async def test_the_books_agree_while_calls_run(
    page: int, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two writers drain, entries are appended, and every proof taken meanwhile says equal."""
    monkeypatch.setattr(reconcile, "_PAGE", page)
    await prepared(books)
    chance = random.Random(7)
    done = asyncio.Event()

    async def serve() -> None:
        for number in range(150):
            await books.append(
                f"r{number}.1", input_tokens=chance.randrange(9), cost_nusd=chance.randrange(-9, 99)
            )
        done.set()

    async def drain(name: str) -> None:
        async with books.writer(consumer=name, batch=4, claim_after_ms=1) as writer:
            while not done.is_set() or await books.waiting():
                await writer.drain()

    async def prove() -> int:
        proofs = 0
        while not done.is_set():
            verdict = await verify({FIRST: books.redis}, books.path)
            assert verdict.is_equal(), verdict
            proofs += 1
        return proofs

    async with asyncio.TaskGroup() as tasks:
        proving = tasks.create_task(prove())
        tasks.create_task(drain("a"))
        tasks.create_task(drain("b"))
        tasks.create_task(serve())
    assert proving.result() > 3
    assert (await verify({FIRST: books.redis}, books.path)).database.entries == 150


async def test_the_first_book_may_be_opened_while_they_are_compared(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was counted before there was a book, and is in it when the database is read, is found there."""
    await prepared(books)
    await books.append("a.1", input_tokens=5, cost_nusd=10)
    waiting = reconcile._waiting

    async def drained_meanwhile(*asked: Any) -> Any:
        found = await waiting(*asked)
        await books.drain()
        return found

    monkeypatch.setattr(reconcile, "_waiting", drained_meanwhile)
    verdict = await verify({FIRST: books.redis}, books.path)
    assert verdict.is_equal(), verdict
    assert verdict.database == Balance(1, 5, 0, 10)


@given(st.integers(-5, 5), st.integers(-5, 5), st.integers(-5, 5), st.integers(-(10**12), 10**12))
async def test_any_difference_is_told_exactly(
    books: Books, entries: int, tokens_in: int, tokens_out: int, cost: int
) -> None:
    """What the counters say beyond the books is the difference, to the token and the nano-USD."""
    await books.redis.flushall()
    await prepared(books)
    await books.append("a.1", input_tokens=3, output_tokens=4, cost_nusd=5)
    for name, off in (
        ("entries", entries),
        ("input_tokens", tokens_in),
        ("output_tokens", tokens_out),
        ("cost_nusd", cost),
    ):
        await books.redis.hincrby(FIRST.totals, name, off)
    verdict = await verify({FIRST: books.redis}, books.path)
    assert verdict.difference == Balance(entries, tokens_in, tokens_out, cost)
    assert verdict.is_equal() == (not any((entries, tokens_in, tokens_out, cost)))
    assert verdict.as_json()["equal"] == verdict.is_equal()
    assert verdict.as_json()["difference"]["cost_nusd"] == cost


async def test_a_row_that_was_taken_out_of_the_database_is_missed(books: Books) -> None:
    """Nobody changes the books unseen."""
    await books.append("a.1", cost_nusd=5)
    await books.append("b.1", cost_nusd=7)
    await books.drain()
    with closing(sqlite3.connect(books.path)) as connection:
        connection.execute("DELETE FROM entries WHERE attempt_id = 'a.1'")
        connection.commit()
    verdict = await verify({FIRST: books.redis}, books.path)
    assert verdict.difference == Balance(1, 0, 0, 5)


async def test_what_is_no_entry_is_counted_before_and_after_it_was_set_aside(books: Books) -> None:
    """Garbage, and an attempt's second append, are told and never called equal silently."""
    await prepared(books)
    await books.redis.xadd(FIRST.ledger, {"e": b"?"})
    assert (await verify({FIRST: books.redis}, books.path)).rejected == 1
    await books.append("a.1", cost_nusd=5)
    await books.append("a.1", cost_nusd=6)
    before = await verify({FIRST: books.redis}, books.path)
    assert before.difference == Balance(1, 0, 0, 6)
    await books.drain()
    after = await verify({FIRST: books.redis}, books.path)
    assert after.difference == Balance(1, 0, 0, 6)
    assert after.rejected == 2


async def test_an_earlier_life_of_the_store_is_told_and_not_compared(books: Books) -> None:
    """After a flush the counters begin anew, and the books with them; the old rows stay."""
    await books.append("old.1", cost_nusd=5)
    await books.drain()
    await books.redis.flushall()
    verdict = await verify({FIRST: books.redis}, books.path)
    assert verdict.is_equal()
    assert (verdict.earlier.entries, verdict.earlier.cost_nusd) == (1, 5)
    await books.append("new.1", cost_nusd=7)
    await books.drain()
    verdict = await verify({FIRST: books.redis}, books.path)
    assert verdict.is_equal()
    assert verdict.database == Balance(1, 0, 0, 7)


async def test_what_cannot_be_read_is_not_called_equal(books: Books, redis_url: str) -> None:
    """No database, and no store: an error each."""
    with pytest.raises(LedgerUnreachable):
        await verify({FIRST: books.redis}, books.path)
    await prepared(books)
    nowhere = Redis.from_url(redis_url.replace("redis.sock", "none.sock"))
    with pytest.raises(RedisGone, match=r"none\.sock"):
        await verify({FIRST: nowhere}, books.path)
    await nowhere.aclose()
    await books.redis.set(FIRST.totals, "no hash")
    with pytest.raises(Exception, match="WRONGTYPE"):
        await verify({FIRST: books.redis}, books.path)
