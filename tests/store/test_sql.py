"""Laws of the database: where a URL points, and that tables change whole or not at all."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from store import sql
from store.sql import (
    BadLedgerUrl,
    LedgerUnreachable,
    Migration,
    ledger_path,
    migrate,
    migrations,
    open_reader,
    open_writer,
    statement,
)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:var/ledger.db", "var/ledger.db"),
        ("sqlite:ledger.db", "ledger.db"),
        ("sqlite:/srv/ledger.db", "/srv/ledger.db"),
        ("sqlite:///srv/a b.db", "/srv/a b.db"),
    ],
)
def test_a_url_names_a_file(url: str, path: str) -> None:
    """`sqlite:` with a path, or with two slashes before an absolute one."""
    assert ledger_path(url) == Path(path)


@pytest.mark.parametrize(
    "url",
    ["", "ledger.db", "sqlite:", "sqlite::memory:", "sqlite://a/b", "sqlite:a/", "postgres://x/y"],
)
def test_another_url_is_refused_with_what_was_expected(url: str) -> None:
    """The message names the setting and the form that is understood."""
    with pytest.raises(BadLedgerUrl, match=r"store\.ledger.*sqlite:"):
        ledger_path(url)


def test_the_books_tables_are_made_once(tmp_path: Path) -> None:
    """The first start makes them, the second finds them, and a commit is on the disk."""
    path = tmp_path / "deep" / "er" / "ledger.db"
    connection = open_writer(path)
    assert migrate(connection, "governance") == len(migrations("governance")) > 0
    assert migrate(connection, "governance") == 0
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.close()


def test_a_new_ledger_is_its_owners_alone(tmp_path: Path) -> None:
    """It names users; what SQLite writes beside it is closed to others, too, and a database that others may read stays so."""
    path = tmp_path / "ledger.db"
    with closing(open_writer(path)) as connection:
        connection.execute("CREATE TABLE t (c)")
        assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    path.chmod(0o640)
    open_writer(path).close()
    assert path.stat().st_mode & 0o777 == 0o640


def test_writers_that_start_at_once_make_the_tables_once(tmp_path: Path) -> None:
    """Whoever comes second waits, and finds the tables made; forty starts, for SQLite itself waits in most of them only."""

    def start(path: Path) -> int:
        connection = open_writer(path)
        applied = migrate(connection, "governance")
        connection.close()
        return applied

    with ThreadPoolExecutor(6) as threads:
        for number in range(40):
            path = tmp_path / f"ledger{number}.db"
            assert sum(threads.map(start, [path] * 6)) == len(migrations("governance"))


def test_a_ledger_that_somebody_holds_for_good_is_said_to_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait has an end."""
    monkeypatch.setattr(sql, "BUSY_S", 0.05)
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerUnreachable, match="database is locked"):
            open_writer(path)


def test_a_database_of_an_earlier_release_gets_the_columns_that_were_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows keep what they hold; what was added later is its default there."""
    known = migrations("governance")
    with closing(open_writer(tmp_path / "ledger.db")) as connection:
        with monkeypatch.context() as earlier:
            earlier.setattr(sql, "migrations", lambda _: known[:1])
            migrate(connection, "governance")
        connection.execute("INSERT INTO books VALUES (1, 'b')")
        connection.execute(f"INSERT INTO entries VALUES ('q.1', {', '.join('1' * 35)})")
        assert migrate(connection, "governance") == len(known) - 1
        row = connection.execute("SELECT attempt_id, cost_nusd, decision FROM entries").fetchone()
        assert tuple(row) == ("q.1", 1, "")


def test_a_migration_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of a migration never stays, and the next start tries it again."""
    good = Migration(1, "good", "CREATE TABLE a (x); -- one; with a semicolon in its comment\n")
    bad = Migration(2, "bad", "CREATE TABLE b (x);\nCREATE TABLE a (y);\n")
    unended = Migration(2, "unended", "CREATE TABLE b (x)\n-- the end\n")
    connection = open_writer(tmp_path / "ledger.db")
    monkeypatch.setattr(sql, "migrations", lambda _: (good, bad))
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(connection, "any")
    monkeypatch.setattr(sql, "migrations", lambda _: (good, unended))
    with pytest.raises(ValueError, match="semicolon"):
        migrate(connection, "any")
    names = connection.execute("SELECT name FROM sqlite_master").fetchall()
    assert names == [("a",)]
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    connection.close()


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    """An old version does not write into tables that it does not know."""
    connection = open_writer(tmp_path / "ledger.db")
    connection.execute("PRAGMA user_version = 999")
    with pytest.raises(LedgerUnreachable, match="newer version"):
        migrate(connection, "governance")
    connection.close()


def test_a_reader_sees_one_moment_and_changes_nothing(tmp_path: Path) -> None:
    """What is committed while a reader reads does not show; and a reader cannot write."""
    path = tmp_path / "led ger#1.db"
    writer = open_writer(path)
    migrate(writer, "governance")
    with open_reader(path) as reader:
        count = "SELECT count(*) FROM books"
        assert reader.execute(count).fetchone()[0] == 0
        writer.execute("INSERT INTO books (name) VALUES ('x')")
        assert reader.execute(count).fetchone()[0] == 0
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("INSERT INTO books (name) VALUES ('y')")
    with open_reader(path) as reader:
        assert reader.execute(count).fetchone()[0] == 1
    with pytest.raises(LedgerUnreachable, match="no such table"), open_reader(path) as reader:
        reader.execute("SELECT 1 FROM nobody")
    writer.close()
    with open_reader(path) as reader:
        assert reader.execute(count).fetchone()["count(*)"] == 1


def test_a_reader_sees_what_a_killed_writer_committed(tmp_path: Path) -> None:
    """A write-ahead log that nobody closed is read as it lies."""
    path = tmp_path / "ledger.db"
    program = (
        "import os, sys; from pathlib import Path; from store.sql import *\n"
        "c = open_writer(Path(sys.argv[1])); migrate(c, 'governance')\n"
        "c.execute(\"INSERT INTO books (name) VALUES ('x')\"); os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, path], check=False).returncode == -9
    with open_reader(path) as reader:
        assert [tuple(row) for row in reader.execute("SELECT name FROM books")] == [("x",)]


def test_a_ledger_that_is_not_there_is_said(tmp_path: Path) -> None:
    """No file, no tables, no database at all, a folder, no permission: one error that says which."""
    with pytest.raises(LedgerUnreachable, match="no ledger at"), open_reader(tmp_path / "none.db"):
        pass
    open_writer(tmp_path / "empty.db").close()
    with pytest.raises(LedgerUnreachable, match="no tables"), open_reader(tmp_path / "empty.db"):
        pass
    (tmp_path / "text.db").write_text("this is no database, but long enough to have a header" * 9)
    with pytest.raises(LedgerUnreachable, match="cannot read"), open_reader(tmp_path / "text.db"):
        pass
    for path in (tmp_path / "text.db", tmp_path, tmp_path / "text.db" / "x"):
        with pytest.raises(LedgerUnreachable, match="cannot open"):
            open_writer(path)


def test_every_file_of_sql_says_what_it_takes_and_gives() -> None:
    """The header is the interface."""
    root = Path(__file__).parents[2] / "governance" / "sql"
    found = sorted(root.rglob("*.sql"))
    assert found
    for path in found:
        text = path.read_text()
        assert text.startswith("-- "), path
        assert "\n-- Takes  " in text, path
        assert "\n-- Gives  " in text, path
    assert statement("governance", "insert_book").startswith("-- Open a book")


def test_migrations_are_numbered_without_a_gap() -> None:
    """001, 002, …: the order in which they were made is the order in which they apply."""
    assert [one.number for one in migrations("governance")] == list(
        range(1, len(migrations("governance")) + 1)
    )
