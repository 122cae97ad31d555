"""
From the stream to the books: every entry enters the database exactly once, whatever dies.

`settle` appends to the stream; this writer takes batches as consumer group `ledger`, commits them,
and only then acknowledges and deletes them.
So an entry is at every instant in the stream, in the database, or in both; the database knows it by
its attempt id and enters it once.
Whoever dies where: before the commit, the entry is delivered again; between commit and delete, it
is delivered again and found entered; two writers at once enter the same rows and delete the same ids.

What an entry cannot be decoded from goes to the table `rejected` with its bytes, and the drain goes on.

A *book* is one life of the store.
Its name lies beside the stream and is made when it is missing; it is read before and after a batch
is taken, and what was taken counts only if it is the same: names are random, so nothing was flushed
in between. So the rows of a flushed or replaced Redis, whose sums begin anew, stay told apart.

Failure stance: when Redis or the database is out of reach, nothing is lost and nothing is dropped;
the stream grows, `waiting` says by how much, and the writer tries again until it can.
"""

import asyncio
import logging
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import msgpack
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from governance.ledger import FIELD, MalformedEntry, decode_values, stream_id
from store.cells import FIRST, Cell
from store.sql import LedgerUnreachable, migrate, open_writer, statement

__all__ = ["Drained", "LedgerWriter"]

GROUP = "ledger"
_GROUP_NAME = GROUP.encode()

BATCH = 500
"""Entries per transaction: beyond some hundreds a larger batch no longer costs less per row."""

IDLE_S = 0.2
"""Between two looks at a stream that was empty; it lets entries gather, and bounds the lag."""

CLAIM_AFTER_MS = 30_000
"""How long a batch may be in another writer's hands before it is taken over."""

_RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

_log = logging.getLogger("penstock.ledger")
_Given = TypeVar("_Given")


@dataclass(slots=True)
class Drained:
    """What a writer has done since it began; `waiting` is the stream's length at its last look."""

    written: int = 0
    repeated: int = 0
    rejected: int = 0
    failures: int = 0
    waiting: int = 0


class _Taken(NamedTuple):
    """A place in the stream, and what lies there (None when it was deleted meanwhile)."""

    place: bytes
    fields: Mapping[bytes, bytes] | None


class _Batch(NamedTuple):
    """What was taken at once, all of one book."""

    book: str
    taken: Sequence[_Taken]


class LedgerWriter:
    """
    The one who empties the stream of a cell into the database.

    `client` answers in bytes. `consumer` names this writer within the group.
    Use as an async context manager, or call `aclose`.
    """

    def __init__(
        self,
        client: Redis,
        path: Path,
        *,
        cell: Cell = FIRST,
        consumer: str = "control",
        batch: int = BATCH,
        claim_after_ms: int = CLAIM_AFTER_MS,
        idle_s: float = IDLE_S,
    ) -> None:
        self.done = Drained()
        self.cell = cell
        self._client = client
        self._path = path
        self._consumer = consumer
        self._size = batch
        self._claim_after_ms = claim_after_ms
        self._idle_s = idle_s
        # Everything that was delivered and not deleted is looked for first: at the start, after a
        # failure, and now and then for the sake of writers that died elsewhere.
        self._recover = True
        self._recover_at = 0.0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._connection: sqlite3.Connection | None = None

    @property
    def store(self) -> Redis:
        """The client of its cell."""
        return self._client

    @property
    def path(self) -> Path:
        """Where the database lies."""
        return self._path

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Wait for the transaction under way, and close the database."""
        await asyncio.to_thread(self._thread.shutdown)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def run(self) -> None:
        """Drain until cancelled; failures of Redis or the database are logged, and retried."""
        in_a_row = 0
        while True:
            try:
                if self._connection is None:
                    await self.prepare()
                count = await self.drain()
            except (RedisError, OSError, LedgerUnreachable) as error:
                self.done.failures += 1
                pause = _RETRY_S[min(in_a_row, len(_RETRY_S) - 1)]
                in_a_row += 1
                _log.warning("the ledger waits, next try in %.1f s: %s", pause, error)
                await asyncio.sleep(pause)
                continue
            in_a_row = 0
            if count < self._size:
                await asyncio.sleep(self._idle_s)

    async def prepare(self) -> None:
        """
        Make the database and its tables, so that it can be read before the first entry comes.

        Raises `LedgerUnreachable`.
        """
        await self._on_thread(self._open)

    async def drain(self) -> int:
        """
        Move one batch from the stream to the database; return how many entries it had.

        0 says that nothing was waiting.
        Raises what redis-py raises, and `LedgerUnreachable`; then nothing was lost, and the next call begins anew.
        """
        try:
            batch = await self._take()
            if not batch.taken:
                return 0
            written = await self._on_thread(self._commit, batch)
            await self._delete(batch)
        except BaseException:
            self._recover = True
            raise
        for name in ("written", "repeated", "rejected"):
            setattr(self.done, name, getattr(self.done, name) + getattr(written, name))
        self.done.waiting = max(0, self.done.waiting - len(batch.taken))
        return len(batch.taken)

    # Taking from the stream...

    async def _take(self) -> _Batch:
        """Take what was left behind, if it is time to look for that, else what is new."""
        now = asyncio.get_running_loop().time()
        if self._recover or now >= self._recover_at:
            batch = await self._left_behind(0 if self._recover else self._claim_after_ms)
            if batch.taken:
                return batch
            self._recover = False
            self._recover_at = now + self._claim_after_ms / 1000
        return await self._delivered()

    async def _delivered(self) -> _Batch:
        """Take the entries that no one was given yet."""
        try:
            book = await self._book()
            async with self._together() as together:
                together.xlen(self.cell.ledger)
                together.xreadgroup(
                    GROUP, self._consumer, {self.cell.ledger: ">"}, count=self._size
                )
                together.get(self.cell.book)
                self.done.waiting, reply, after = await together.execute()
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self._make_group()
            return _Batch("", ())
        return self._of_one_book(book, after, reply[0][1] if reply else ())

    async def _left_behind(self, idle_ms: int) -> _Batch:
        """
        Take over entries that a writer was given more than `idle_ms` ago and did not delete.

        Then look at what the group has passed by and nobody holds: an operator who removes a
        consumer leaves such entries, and they would wait for ever.
        Both may take what another writer has in hand, which the database notices.
        """
        try:
            cursor = b"0-0"
            while True:
                book = await self._book()
                async with self._together() as together:
                    together.xautoclaim(
                        self.cell.ledger, GROUP, self._consumer, idle_ms, cursor, count=self._size
                    )
                    together.get(self.cell.book)
                    claimed, after = await together.execute()
                cursor, taken = claimed[0], claimed[1]
                if taken or cursor == b"0-0":
                    break
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self._make_group()
            return _Batch("", ())
        if not taken:
            groups: Any = await self._client.xinfo_groups(self.cell.ledger)
            passed = next(
                (one["last-delivered-id"] for one in groups if one["name"] == _GROUP_NAME), b"0-0"
            )
            async with self._together() as together:
                together.xrange(self.cell.ledger, max=passed, count=self._size)
                together.get(self.cell.book)
                taken, after = await together.execute()
        return self._of_one_book(book, after, taken)

    def _together(self) -> Any:
        """
        Return a pipeline; its commands queue, which redis-py's types do not know.

        No transaction: a store that is out of memory refuses those, and it is we who free its memory.
        """
        return self._client.pipeline(transaction=False)

    async def _book(self) -> bytes:
        """Return the book's name; make it if this life of the store has none."""
        while True:
            book: Any = await self._client.get(self.cell.book)
            if book is not None:
                return bytes(book)
            await self._client.set(self.cell.book, secrets.token_hex(8), nx=True)

    def _of_one_book(
        self, before: bytes, after: bytes | None, taken: Sequence[tuple[bytes, Any]]
    ) -> _Batch:
        """Return what was taken while a book was open; nothing when another was begun meanwhile: it is taken anew."""
        if before != after:
            self._recover = True
            return _Batch("", ())
        return _Batch(before.decode(), [_Taken(*one) for one in taken])

    async def _make_group(self) -> None:
        """Make the group, from the stream's beginning; another writer may be faster."""
        try:
            await self._client.xgroup_create(self.cell.ledger, GROUP, "0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def _delete(self, batch: _Batch) -> None:
        """Take the committed entries out of the stream."""
        places = [one.place for one in batch.taken]
        async with self._together() as together:
            together.xack(self.cell.ledger, GROUP, *places)
            together.xdel(self.cell.ledger, *places)
            await together.execute()

    # Entering into the books, on the writer's own thread...

    async def _on_thread(self, do: Callable[..., _Given], *about: Any) -> _Given:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, do, *about)
        except sqlite3.Error as error:
            raise LedgerUnreachable(f"cannot write the ledger {self._path}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        """Return the connection, made with its tables when it is first asked for."""
        if self._connection is None:
            connection = open_writer(self._path)
            try:
                migrate(connection, "governance")
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _commit(self, batch: _Batch) -> Drained:
        """Enter the batch in one transaction; return what became of it."""
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        try:
            written = _enter(connection, batch)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return written


def _enter(connection: sqlite3.Connection, batch: _Batch) -> Drained:
    """Enter the entries of a batch, and reject what is none."""
    connection.execute(statement("governance", "insert_book"), (batch.book,))
    (book,) = connection.execute(statement("governance", "select_book"), (batch.book,)).fetchone()
    rows: list[tuple[Any, ...]] = []
    bad: list[tuple[Any, ...]] = []
    for place, fields in batch.taken:
        if not fields:  # deleted by another writer, which committed it before
            continue
        origin = (book, *stream_id(place))
        payload = fields.get(FIELD)
        if payload is None:
            bad.append((*origin, "there is no field e", msgpack.packb(dict(fields))))
            continue
        try:
            rows.append((*decode_values(payload), *origin))
        except MalformedEntry as error:
            bad.append((*origin, str(error), payload))
    before = connection.total_changes
    connection.executemany(statement("governance", "insert_entry"), rows)
    written = connection.total_changes - before
    repeated = len(rows) - written
    if repeated:
        bad.extend(_impostors(connection, rows))
    before = connection.total_changes
    connection.executemany(statement("governance", "insert_rejected"), bad)
    rejected = connection.total_changes - before
    for _, ms, seq, reason, _ in bad:
        _log.error("no entry at %d-%d of the ledger's stream: %s", ms, seq, reason)
    return Drained(written=written, repeated=repeated, rejected=rejected)


def _impostors(
    connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]
) -> list[tuple[Any, ...]]:
    """
    Find entries whose attempt was entered from another place of the stream.

    A second delivery comes from the same place and is nothing new, nor is an entry that is equal in
    every field: a store that had forgotten it in a crash was told once more.
    A second *append* under the same attempt id was counted twice by the store's sums; it must not
    vanish silently, so it is kept where `ledger verify` shows it.
    """
    found = []
    for row in rows:
        attempt_id, origin = row[0], row[-3:]
        entered = connection.execute(
            statement("governance", "select_entry"), (attempt_id,)
        ).fetchone()
        told_again = entered[: len(row) - 2] == row[:-2]  # every field, and the book
        if entered[-3:] != origin and not told_again:
            reason = f"attempt {attempt_id} was entered from {entered[-2]}-{entered[-1]}"
            found.append((*origin, reason, msgpack.packb(row[:-3])))
    return found
