"""Laws of the faults: each leaves a store that works, and says what it may have lost."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace

import msgpack
import pytest

from loadtests.bench.ground import Ground
from loadtests.drills import faults
from loadtests.drills.holds import STREAM
from loadtests.drills.site import Site


@pytest.fixture(scope="module")
def store() -> Iterator[faults.Store]:
    """Run a store of the drill's own."""
    ground = Ground()
    ground.pinned = False
    with ground:
        one = faults.Store(ground)
        one.start()
        yield one


async def written(store: faults.Store, name: str, value: str | None = None) -> bytes | None:
    """Write, until it is in the store's file, and read."""
    client = store.client()
    try:
        if value is not None:
            await client.set(name, value)
            # An answer may come first, while the disk is busy with what was before.
            while (await client.info("persistence"))["aof_buffer_length"]:
                pass
        found = await client.get(name)
        return None if found is None else bytes(found)
    finally:
        await client.aclose()


@pytest.mark.parametrize(
    "name",
    sorted(
        set(faults.FAULTS)
        - {"clock_stepped", "edge_killed", "flushed", "lost_tail", "ledger_locked"}
    ),
)
async def test_a_store_that_was_ill_is_well_again(name: str, store: faults.Store):
    """What was written before is there, and it can be written."""
    await written(store, "before", name)
    await faults.FAULTS[name](store, 0.1, Site.__new__(Site))
    assert await written(store, "before") == name.encode()
    assert await written(store, "after", "x") == b"x"


async def test_a_lost_tail_loses_the_last_second(
    store: faults.Store, monkeypatch: pytest.MonkeyPatch
):
    """And nothing older."""
    await written(store, "old", "1")

    async def a_second(_: float):
        await written(store, "new", "2")

    time = SimpleNamespace(sleep=a_second, to_thread=asyncio.to_thread)
    monkeypatch.setattr(faults, "asyncio", time)
    harm = await faults.lost_tail(store, 0, Site.__new__(Site))
    assert harm.lost_tail
    assert harm.notes["bytes_cut"] > 0
    assert await written(store, "old") == b"1"
    assert await written(store, "new") is None


async def test_a_flush_says_whose_entries_it_took(store: faults.Store):
    """Exactly those that were in the stream at that instant."""
    client = store.client()
    entry = ["r.1", "r", 1, 0, "o", "t", "k", "mark-7"]
    await client.xadd(STREAM, {"e": msgpack.packb(entry)})
    await client.aclose()
    harm = await faults.flushed(store, 0, Site.__new__(Site))
    assert harm.lost == {"mark-7"}
    assert harm.new_book
    assert await written(store, "old") is None


async def test_a_locked_ledger_is_free_again(tmp_path, store: faults.Store):
    """Nobody can write while it lasts, everybody afterwards."""
    site = Site.__new__(Site)
    site.var = tmp_path
    with closing(sqlite3.connect(site.ledger, timeout=0, isolation_level=None)) as other:
        other.execute("CREATE TABLE t (x)")
        locking = asyncio.ensure_future(faults.ledger_locked(store, 0.1, site))
        await asyncio.sleep(0.02)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("INSERT INTO t VALUES (1)")
        await locking
        other.execute("INSERT INTO t VALUES (1)")
