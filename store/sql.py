"""
SQL: where the ledger database is, how it is opened, and how its tables come to be.

One file of SQLite: one connection writes, any number read, each on a thread of its own.
The writer keeps a write-ahead log and syncs it on every commit, because the entries of a batch are
deleted from Redis right after: a power cut between the two must find them on the disk.
Readers open the file read-only and never wait for the writer.
SQL lives in `<package>/sql/*.sql`, numbered files in `<package>/sql/migrations/` change the tables,
each once and in order; the database remembers the last in `user_version`.
"""

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

__all__ = [
    "BadLedgerUrl",
    "LedgerUnreachable",
    "Migration",
    "ledger_path",
    "migrate",
    "migrations",
    "open_reader",
    "open_writer",
    "statement",
]

BUSY_S = 10.0
"""How long one writer waits for another; two may meet while leadership moves."""

_NUMBERED = re.compile(r"^(\d{3})_(\w+)\.sql$")


class BadLedgerUrl(ValueError):
    """The URL of the ledger cannot be read; the message says what was expected."""


class LedgerUnreachable(Exception):
    """The ledger database does not exist, or cannot be opened, read or written; the message says which and why."""


def ledger_path(url: str) -> Path:
    """
    Return the file that a ledger URL names: `sqlite:PATH` or `sqlite:///ABSOLUTE/PATH`.

    A relative path is taken as it is; `store.places` says where a setting's `var/` lies.
    Raises `BadLedgerUrl`.
    """
    scheme, separator, rest = url.partition(":")
    if not separator or scheme != "sqlite":
        raise BadLedgerUrl(
            f"store.ledger: expected sqlite:PATH, found {scheme + ':' if separator else repr(url)}"
        )
    if rest.startswith("//"):
        rest = rest[2:]
        if not rest.startswith("/"):
            raise BadLedgerUrl(
                "store.ledger: sqlite:// takes an absolute path, as in sqlite:///srv/ledger.db;"
                " write sqlite:PATH for a relative one"
            )
    if not rest or rest.endswith("/") or rest == ":memory:" or "\0" in rest:
        raise BadLedgerUrl("store.ledger: expected the path of a file, as in sqlite:var/ledger.db")
    return Path(rest)


# Opening...


def open_writer(path: Path) -> sqlite3.Connection:
    """
    Open the database for writing, and make it and its folder if they do not exist.

    A new one is its owner's alone: it names users. The connection begins no transaction by itself. Raises `LedgerUnreachable`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite gives what it writes beside a database the permissions of that.
        path.touch(mode=0o600)
        connection = sqlite3.connect(
            path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
    except (OSError, sqlite3.Error) as error:
        raise LedgerUnreachable(f"cannot open the ledger {path}: {error}") from error
    try:
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        connection.close()
        raise LedgerUnreachable(f"cannot open the ledger {path}: {error}") from error
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """
    Turn the write-ahead log on, and wait for another writer that does so, or that closes, at the same moment.

    SQLite itself does not wait here, whatever its timeout says: both hold a read lock that they want to raise,
    so it calls one of them `busy` at once.
    """
    gives_up = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > gives_up:
                raise
            time.sleep(0.01)
        else:
            return


@contextmanager
def open_reader(path: Path) -> Iterator[sqlite3.Connection]:
    """
    Give a read-only connection whose statements all see one moment; closes it at the end.

    Raises `LedgerUnreachable` for whatever SQLite says within, and for a database that has no tables yet.
    """
    if not path.exists():
        raise LedgerUnreachable(f"there is no ledger at {path} yet")
    where = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(
            sqlite3.connect(where, uri=True, timeout=BUSY_S, isolation_level=None)
        ) as connection:
            connection.row_factory = sqlite3.Row
            connection.execute("BEGIN")
            if _version(connection) == 0:
                raise LedgerUnreachable(f"the ledger {path} has no tables yet")
            yield connection
    except sqlite3.Error as error:
        raise LedgerUnreachable(f"cannot read the ledger {path}: {error}") from error


# What lies in files...


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered change of the tables."""

    number: int
    name: str
    text: str


@cache
def statement(package: str, name: str) -> str:
    """Return the text of `<package>/sql/<name>.sql`."""
    return files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


def migrations(package: str) -> tuple[Migration, ...]:
    """
    Return the migrations of a package in their order.

    Raises `ValueError` when the numbers are not 1, 2, 3, ... without a gap.
    """
    found = sorted(
        (
            Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8"))
            for entry in files(package).joinpath("sql", "migrations").iterdir()
            if (match := _NUMBERED.match(entry.name))
        ),
        key=lambda migration: migration.number,
    )
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"{package}/sql/migrations must be numbered 001, 002, … without a gap")
    return tuple(found)


def migrate(connection: sqlite3.Connection, package: str) -> int:
    """
    Bring the tables up to date, each migration whole or not at all; return how many were applied.

    Safe when several processes start at once.
    Raises `LedgerUnreachable` for a database that a newer version has written.
    """
    applied = 0
    known = migrations(package)
    if _version(connection) > len(known):
        raise LedgerUnreachable(
            f"the ledger was written by a newer version: its tables are at number"
            f" {_version(connection)}, this version knows {len(known)}"
        )
    for migration in known:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection) < migration.number:
                for part in _statements(migration.text):
                    connection.execute(part)
                connection.execute(f"PRAGMA user_version = {migration.number:d}")
                applied += 1
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return applied


def _version(connection: sqlite3.Connection) -> int:
    """Return the number of the last migration that the database has seen."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _statements(text: str) -> Iterator[str]:
    """Yield the statements of a file one by one."""
    part = ""
    for line in text.splitlines(keepends=True):
        part += line
        if sqlite3.complete_statement(part):
            yield part
            part = ""
    if any(line.strip() and not line.strip().startswith("--") for line in part.splitlines()):
        raise ValueError("the last statement of a migration does not end in a semicolon")
