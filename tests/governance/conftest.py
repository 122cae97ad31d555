"""What tests of the books share: entries, and a stand-in for what `settle` appends."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from redis.asyncio import Redis

from governance import drain
from governance.ledger import Entry, encode, entry_of
from store.cells import FIRST


def entry(attempt_id: str = "r.1", **said: str | int) -> Entry:
    """Make an entry of which only the fields that matter to a test are said."""
    request_id, _, number = attempt_id.partition("+")[0].rpartition(".")
    base = {"attempt_id": attempt_id, "request_id": request_id, "attempt": int(number)}
    return entry_of(**(base | {"outcome": "ok"} | said))


class Books:
    """A store with its stream and sums, and the path of a database that does not exist yet."""

    def __init__(self, redis: Redis, path: Path) -> None:
        self.redis = redis
        self.path = path

    async def append(self, attempt_id: str = "r.1", **said: str | int) -> str:
        """Append an entry and count it, in one step as `settle` does; gives its place."""
        new = entry(attempt_id, **said)
        async with self.redis.pipeline(transaction=True) as together:
            together.xadd(FIRST.ledger, {"e": encode(new)})
            together.hincrby(FIRST.totals, "entries", 1)
            together.hincrby(FIRST.totals, "input_tokens", new.input_tokens)
            together.hincrby(FIRST.totals, "output_tokens", new.output_tokens)
            together.hincrby(FIRST.totals, "cost_nusd", new.cost_nusd)
            return (await together.execute())[0].decode()

    async def waiting(self) -> int:
        """Count what is still in the stream."""
        return await self.redis.xlen(FIRST.ledger)

    def writer(self, **said: object) -> drain.LedgerWriter:
        """Make a writer from the stream to the database."""
        return drain.LedgerWriter(self.redis, self.path, **said)

    async def drain(self) -> None:
        """Drain everything."""
        async with self.writer() as writer:
            while await writer.drain():
                pass

    def ask(self, sql: str) -> list[tuple]:
        """Ask the database directly."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(sql).fetchall()

    def sums(self) -> tuple:
        """Sum the database: entries, input tokens, output tokens, cost."""
        return self.ask(
            "SELECT count(*), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),"
            " coalesce(sum(cost_nusd), 0) FROM entries"
        )[0]


@pytest.fixture
def books(redis_client: Redis, tmp_path: Path) -> Books:
    """Give an empty store and no database."""
    return Books(redis_client, tmp_path / "var" / "ledger.db")


@pytest.fixture
def make_entry() -> Callable[..., Entry]:
    """Make an entry of which only the fields that matter to a test are said."""
    return entry


@pytest.fixture
def broken_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Break and mend the database under a writer: `broken_disk(True)`, `broken_disk(False)`."""
    state = {"broken": False}
    genuine = drain._enter

    def enter(*args: object) -> object:
        if state["broken"]:
            raise sqlite3.OperationalError("database or disk is full")
        return genuine(*args)

    monkeypatch.setattr(drain, "_enter", enter)

    def turn(broken: bool) -> None:
        state["broken"] = broken

    return turn


@pytest.fixture
def until() -> Callable[[Callable[[], object]], object]:
    """Wait until a predicate holds that another task makes true."""

    async def wait(is_so: Callable[[], object]) -> None:
        for _ in range(4000):
            if is_so():
                return
            await asyncio.sleep(0.005)
        pytest.fail("waited for 20 s in vain")

    return wait
