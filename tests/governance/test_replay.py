"""Laws of replay: the last calls that were served, and nobody's copies."""

from typing import Any

import pytest

from governance.replay import last_calls
from store.sql import LedgerUnreachable

Books = Any  # the fixture of this folder's conftest


async def test_the_last_calls_that_were_served_come_first(books: Books) -> None:
    """No failed tries, no corrections, no copies."""
    for number in range(3):
        await books.append(f"r{number}.1", at_us=number, model="m", input_tokens=number)
    await books.append("f.1", at_us=9, outcome="overloaded")
    await books.append("r2.1+settle", at_us=9)
    await books.append("c.1", at_us=9, experiment="dark/shadow")
    await books.drain()
    assert [one.request_id for one in last_calls(books.path, 2)] == ["r2", "r1"]
    assert [one.input_tokens for one in last_calls(books.path, 9)] == [2, 1, 0]


def test_no_ledger_is_said(books: Books) -> None:
    """There is nothing to replay."""
    with pytest.raises(LedgerUnreachable):
        last_calls(books.path, 1)
