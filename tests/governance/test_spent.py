"""What was spent, by scope: every entry counts once in each scope that it belongs to."""

from pathlib import Path
from typing import Any

import pytest

from governance.spent import is_blank, spent_since
from store.sql import LedgerUnreachable

Books = Any  # the fixture of this folder's conftest

WHO = {
    "organization": "acme/emea",
    "team": "support",
    "key": "acme/emea/support/desk",
    "user": "ann",
    "application": "desk",
    "model": "m",
    "deployment": "m/p",
    "provider": "p",
}


async def test_each_scope_of_a_call_is_charged(books: Books) -> None:
    """Up to the outermost organization; what is not said is no scope; what came before does not count."""
    await books.append("a.1", at_us=50, cost_nusd=1000, **WHO)
    await books.append("b.1", at_us=100, cost_nusd=7, **WHO)
    await books.append("b.1+settle", at_us=100, cost_nusd=-2, **WHO)
    await books.append("c.1", at_us=200, cost_nusd=10, **WHO | {"user": "bob", "team": "x"})
    await books.drain()
    assert spent_since(books.path, 100) == {
        "key:acme/emea/support/desk": 15,
        "team:acme/emea/support": 5,
        "team:acme/emea/x": 10,
        "org:acme/emea": 15,
        "org:acme": 15,
        "user:acme/emea#ann": 5,
        "user:acme#ann": 5,
        "user:acme/emea#bob": 10,
        "user:acme#bob": 10,
        "application:acme/emea#desk": 15,
        "application:acme#desk": 15,
        "model:m": 15,
        "deployment:m/p": 15,
        "provider:p": 15,
    }
    assert spent_since(books.path, 0)["org:acme"] == 1015


async def test_a_copy_is_charged_to_its_experiment(books: Books) -> None:
    """And an arm that happens to be called so, to whoever called."""
    await books.append("a.1", at_us=100, cost_nusd=7, experiment="dark/shadow", model="m")
    await books.append("b.1", at_us=100, cost_nusd=9, experiment="ab/shadow", **WHO)
    await books.drain()
    found = spent_since(books.path, 100)
    assert found["shadow:dark"] == 7
    assert "shadow:ab" not in found
    assert found["model:m"] == 16


async def test_a_ledger_is_blank_until_something_is_entered(books: Books) -> None:
    """One that does not exist yet, too."""
    assert is_blank(books.path)
    await books.drain()
    await books.append("a.1")
    await books.drain()
    assert not is_blank(books.path)


def test_a_ledger_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """Nothing is taken for nothing spent."""
    (tmp_path / "ledger.db").write_text("this is no database" * 100)
    with pytest.raises(LedgerUnreachable):
        spent_since(tmp_path / "ledger.db", 0)
    with pytest.raises(LedgerUnreachable):
        is_blank(tmp_path / "ledger.db")
