"""Laws of the drain: what was appended is entered exactly once, whatever dies and whoever repeats."""

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisGone

from governance.drain import GROUP, LedgerWriter
from governance.ledger import CORRECTION, ENTRY_FIELDS
from store import topology
from store.cells import FIRST
from store.sql import LedgerUnreachable

Books = Any  # the fixture of this folder's conftest


async def drain_all(writer: LedgerWriter) -> int:
    """Drain until nothing is waiting; return how many entries that were."""
    total = 0
    while count := await writer.drain():
        total += count
    return total


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


class DiesBeforeDelete(LedgerWriter):
    """A writer that dies between its commit and the acknowledgement."""

    async def _delete(self, batch: object) -> None:
        raise Killed


async def test_an_entry_moves_from_the_stream_to_the_database(
    books: Books, make_entry: Callable
) -> None:
    """After a drain every field is in its column, with its place, and the stream is empty."""
    said = {"team": "support", "input_tokens": 7, "cost_nusd": -3, "outcome": "reaped"}
    said["decision"] = '{"policy":"declared"}'
    place = await books.append("abc.1", **said)
    async with books.writer() as writer:
        assert await drain_all(writer) == 1
        assert writer.done.written == 1
    names = ", ".join([*ENTRY_FIELDS, "stream_ms", "stream_seq"])
    (row,) = books.ask(f"SELECT {names} FROM entries")
    assert row[:-2] == tuple(make_entry("abc.1", **said).as_dict().values())
    assert f"{row[-2]}-{row[-1]}" == place
    assert await books.waiting() == 0
    assert (await books.redis.xpending(FIRST.ledger, GROUP))["pending"] == 0


async def test_an_empty_stream_is_nothing(books: Books) -> None:
    """Draining nothing says 0 and makes no database."""
    async with books.writer() as writer:
        assert await drain_all(writer) == 0
    assert not books.path.exists()


async def test_a_correction_is_added_and_overwrites_nothing(books: Books) -> None:
    """A late settle appends differences under an id of its own; the sums are the truth."""
    await books.append("q.1", output_tokens=10, cost_nusd=100, outcome="reaped")
    await books.append("q.1" + CORRECTION, output_tokens=-4, cost_nusd=-40)
    await books.drain()
    assert books.sums() == (2, 0, 6, 60)
    assert books.ask("SELECT DISTINCT request_id FROM entries") == [("q",)]


async def test_a_writer_that_dies_between_commit_and_delete_leaves_nothing_twice(
    books: Books,
) -> None:
    """Its successor gets the same entries again, finds them entered, and deletes them."""
    for number in range(5):
        await books.append(f"r{number}.1", cost_nusd=number)
    async with DiesBeforeDelete(books.redis, books.path) as first:
        with pytest.raises(Killed):
            await first.drain()
    assert books.sums()[0] == 5
    assert await books.waiting() == 5
    async with books.writer(consumer="another") as second:
        await books.append("late.1", cost_nusd=100)
        assert await drain_all(second) == 6
        assert (second.done.written, second.done.repeated, second.done.rejected) == (1, 5, 0)
    assert books.sums() == (6, 0, 0, 110)
    assert await books.waiting() == 0


PROCESS = """
import asyncio, os, signal, sys
from pathlib import Path
from governance.drain import LedgerWriter
from store.topology import client


class Dying(LedgerWriter):
    async def _delete(self, batch):
        if sys.argv[3] == "after":
            await super()._delete(batch)
        os.kill(os.getpid(), signal.SIGKILL)


async def main():
    writer = Dying(client(sys.argv[1]), Path(sys.argv[2]), batch=3)
    while True:
        await writer.drain()

asyncio.run(main())
"""


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_killed_process_loses_and_doubles_nothing(
    when: str, books: Books, redis_url: str
) -> None:
    """SIGKILL right after a commit, before or after the delete: the sums stay what was appended."""
    for number in range(8):
        await books.append(f"r{number}.1", cost_nusd=1 << number)
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROCESS, redis_url, str(books.path), when
        )
        assert await process.wait() == -signal.SIGKILL
    await books.drain()
    assert books.sums() == (8, 0, 0, 255)
    assert books.ask("SELECT count(*) FROM rejected") == [(0,)]
    assert await books.waiting() == 0


async def test_two_writers_at_once_enter_everything_once(books: Books) -> None:
    """While leadership moves two may drain; each entry is entered once and the stream ends empty."""
    async with (
        books.writer(consumer="a", batch=7) as a,
        books.writer(consumer="b", batch=5) as b,
    ):

        async def add() -> None:
            for number in range(60):
                await books.append(f"r{number}.1", cost_nusd=1, output_tokens=2)

        await asyncio.gather(add(), drain_all(a), drain_all(b))
        await asyncio.gather(drain_all(a), drain_all(b))
        assert a.done.written + b.done.written == 60
    assert books.sums() == (60, 0, 120, 60)
    assert await books.waiting() == 0


async def test_a_dead_writers_batch_is_taken_over(books: Books) -> None:
    """Entries in the hands of a consumer that never comes back reach a writer that runs already."""
    async with books.writer(claim_after_ms=0) as writer:
        assert await writer.drain() == 0
        await books.append()
        await books.redis.xreadgroup(GROUP, "dead", {FIRST.ledger: ">"})
        assert await drain_all(writer) == 1
    assert books.sums()[0] == 1


async def test_an_entry_that_nobody_holds_any_more_is_found(books: Books) -> None:
    """An operator who removes a consumer takes its entries out of the group, not out of the books."""
    async with books.writer(claim_after_ms=0) as writer:
        assert await writer.drain() == 0
        await books.append()
        await books.redis.xreadgroup(GROUP, "gone", {FIRST.ledger: ">"})
        await books.redis.xgroup_delconsumer(FIRST.ledger, GROUP, "gone")
        assert await drain_all(writer) == 1
    assert books.sums()[0] == 1
    assert await books.waiting() == 0


async def test_what_is_no_entry_is_kept_aside_and_blocks_nothing(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    """Garbage goes to `rejected` with its bytes and a reason, once; its neighbours are entered."""
    await books.append("a.1")
    await books.redis.xadd(FIRST.ledger, {"e": b"\xff\x00garbage"})
    await books.redis.xadd(FIRST.ledger, {"other": b"x"})
    await books.redis.xadd(FIRST.ledger, {"e": msgpack.packb([1, 2, 3])})
    await books.append("b.1")
    async with DiesBeforeDelete(books.redis, books.path) as first:
        with pytest.raises(Killed):
            await first.drain()
    async with books.writer() as writer:
        assert await drain_all(writer) == 5
        assert (writer.done.repeated, writer.done.rejected) == (2, 0)
    assert books.sums()[0] == 2
    found = books.ask("SELECT reason, bytes FROM rejected ORDER BY stream_ms, stream_seq")
    assert [reason.split(":")[0].split(",")[0] for reason, _ in found] == [
        "not msgpack",
        "there is no field e",
        "expected an array of at least 33 places",
    ]
    assert found[0][1] == b"\xff\x00garbage"
    assert await books.waiting() == 0
    assert "no entry at" in caplog.text


async def test_an_attempt_that_was_appended_twice_is_kept_aside(books: Books) -> None:
    """The store counted it twice, the database enters it once; the second does not vanish."""
    await books.append(cost_nusd=5)
    async with books.writer() as writer:
        await drain_all(writer)
        await books.append(cost_nusd=6)
        await drain_all(writer)
        assert (writer.done.written, writer.done.repeated, writer.done.rejected) == (1, 1, 1)
    assert books.sums()[3] == 5
    assert "r.1 was entered from" in books.ask("SELECT reason FROM rejected")[0][0]


async def test_an_entry_that_a_store_had_forgotten_is_no_second_one(books: Books) -> None:
    """Entered, lost by the store in a crash and appended once more, it is equal in every field and counts once."""
    place = await books.append(cost_nusd=5)
    await books.drain()
    await books.append(cost_nusd=5)
    async with books.writer() as writer:
        await drain_all(writer)
        assert (writer.done.written, writer.done.repeated, writer.done.rejected) == (0, 1, 0)
    assert books.sums() == (1, 0, 0, 5)
    assert books.ask("SELECT stream_ms FROM entries") == [(int(place.partition("-")[0]),)]
    assert await books.waiting() == 0


async def test_a_store_without_memory_is_drained_all_the_same(books: Books) -> None:
    """When it is the stream that fills it, nobody but the drain can make room again."""
    await books.append("q.1")
    await books.drain()
    for number in range(5):
        await books.append(f"r{number}.1")
    await books.redis.config_set("maxmemory", 1)
    try:
        async with books.writer(consumer="another", claim_after_ms=0) as writer:
            assert await drain_all(writer) == 5
    finally:
        await books.redis.config_set("maxmemory", 0)
    assert books.sums()[0] == 6
    assert await books.waiting() == 0


async def test_a_flushed_store_begins_a_new_book(books: Books) -> None:
    """The sums of a new life of the store are told apart from the old one's."""
    async with books.writer() as writer:
        await books.append("old.1", cost_nusd=1)
        await drain_all(writer)
        await books.redis.flushall()
        await books.append("new.1", cost_nusd=2)
        await drain_all(writer)
        await drain_all(writer)
    by_book = books.ask("SELECT book, sum(cost_nusd) FROM entries GROUP BY book ORDER BY book")
    assert by_book == [(1, 1), (2, 2)]
    names = books.ask("SELECT name FROM books ORDER BY number")
    assert (await books.redis.get(FIRST.book)).decode() == names[1][0]


async def test_a_full_disk_loses_nothing(books: Books, broken_disk: Callable[[bool], None]) -> None:
    """While the database refuses, entries stay in the stream; afterwards they are entered once."""
    await books.append("a.1")
    async with books.writer() as writer:
        await drain_all(writer)
        await books.append("b.1")
        broken_disk(True)
        for _ in range(2):
            with pytest.raises(LedgerUnreachable, match="full"):
                await writer.drain()
        assert await books.waiting() == 1
        broken_disk(False)
        assert await drain_all(writer) == 1
    assert books.sums()[0] == 2


async def test_the_loop_survives_failures_and_goes_on(
    books: Books, broken_disk: Callable[[bool], None], until: Callable
) -> None:
    """`run` counts and logs a failure, waits, and tries again; it ends only by cancellation."""
    broken_disk(True)
    await books.append()
    async with books.writer(idle_s=0.001) as writer:
        running = asyncio.ensure_future(writer.run())
        await until(lambda: writer.done.failures >= 2)
        broken_disk(False)
        await until(lambda: writer.done.written)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


async def test_a_store_that_is_gone_is_waited_for(
    make_redis: Callable[..., Any], books: Books
) -> None:
    """Without a store `drain` raises, and with it again it works, without a new writer."""
    server = make_redis()
    client = topology.client(server.url)
    async with LedgerWriter(client, books.path) as writer:
        assert await writer.drain() == 0
        server.stop()
        with pytest.raises((RedisGone, OSError)):
            await writer.drain()
        server.start()
        assert await writer.drain() == 0
    await client.aclose()


async def test_the_lag_is_known(books: Books) -> None:
    """`waiting` is what the stream held at the last look, less what was moved since."""
    for number in range(7):
        await books.append(f"r{number}.1")
    async with books.writer(batch=3) as writer:
        seen = []
        while await writer.drain():
            seen.append(writer.done.waiting)
        assert seen == [4, 1, 0]


STEPS = st.lists(
    st.sampled_from(["append", "correct", "drain", "die", "deliver", "garbage", "other"]),
    max_size=25,
)


@given(STEPS)
async def test_any_history_ends_in_the_sums_of_what_was_appended(
    books: Books, tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    """Appends, corrections, drains, deaths, foreign deliveries, garbage: no sum is ever wrong."""
    await books.redis.flushall()
    books.path = tmp_path_factory.mktemp("history") / "ledger.db"
    truth = [0, 0, 0, 0]
    garbage = 0
    ours = books.writer(batch=3, claim_after_ms=0)
    other = books.writer(batch=2, consumer="other", claim_after_ms=0)
    await ours.drain()  # makes the group
    for number, step in enumerate(steps):
        if step in {"append", "correct"}:
            sign = -1 if step == "correct" else 1
            values = (sign * number, sign * 2 * number, sign * 1_000_003 * number)
            await books.append(
                f"r{number}.1" + (CORRECTION if step == "correct" else ""),
                **dict(zip(("input_tokens", "output_tokens", "cost_nusd"), values, strict=True)),
            )
            truth = [a + b for a, b in zip(truth, (1, *values), strict=True)]
        elif step == "drain":
            await ours.drain()
        elif step == "other":
            await other.drain()
        elif step == "deliver":
            await books.redis.xreadgroup(GROUP, "dead", {FIRST.ledger: ">"}, count=2)
        elif step == "garbage":
            await books.redis.xadd(FIRST.ledger, {"e": b"?"})
            garbage += 1
        else:
            async with DiesBeforeDelete(books.redis, books.path, batch=2) as dying:
                with suppress(Killed):
                    await dying.drain()
    await drain_all(ours)
    await ours.aclose()
    await other.aclose()
    assert await books.waiting() == 0
    if truth[0] or garbage:
        assert list(books.sums()) == truth
        assert books.ask("SELECT count(*) FROM rejected") == [(garbage,)]
