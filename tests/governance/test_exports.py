"""Laws of an export: every entry of the span once, in the order of time, with its own fields."""

from typing import Any

import pytest

from governance.exports import FIELDS, entries
from governance.ledger import ENTRY_FIELDS
from governance.usage import BadQuestion
from store.sql import LedgerUnreachable

Books = Any  # the fixture of this folder's conftest

SECOND_US = 1_000_000


async def test_a_span_holds_its_beginning_and_not_its_end(books: Books) -> None:
    """So that months add up to a year, whatever the order in which entries came."""
    for number, at_s in enumerate((30, 10, 20, 10)):
        await books.append(f"r{number}.1", at_us=at_s * SECOND_US, cost_nusd=1)
    await books.drain()
    found = list(entries(books.path, since_us=10 * SECOND_US, until_us=30 * SECOND_US))
    assert [entry["attempt_id"] for entry in found] == ["r1.1", "r3.1", "r2.1"]
    assert [*found[0]] == [*FIELDS]
    assert (found[0]["at"], found[0]["cost_usd"]) == ("1970-01-01T00:00:10.000000Z", "0.000000001")
    later = list(entries(books.path, since_us=30 * SECOND_US))
    assert [entry["attempt_id"] for entry in later] == ["r0.1"]


async def test_a_part_is_what_has_these_values(books: Books) -> None:
    """All of them at once; a value is a value, whatever it looks like."""
    odd = "o' OR 1=1 --"
    await books.append("a.1", organization="acme", team="support", model="m")
    await books.append("b.1", organization="acme", team="support", model="n")
    await books.append("c.1", organization="acme", team="sales", model="m", user=odd)
    await books.drain()

    def found(**where: str) -> list[str | int]:
        return [entry["request_id"] for entry in entries(books.path, since_us=0, where=where)]

    assert found(team="acme/support") == ["a", "b"]
    assert found(Team="acme/support", model="m") == ["a"]
    assert (found(user=odd), found(user="o"), found(day="1970-01-01")) == (
        ["c"],
        [],
        ["a", "b", "c"],
    )
    with pytest.raises(BadQuestion, match="no dimension"):
        found(colour="red")


def test_an_exported_entry_has_every_field_but_the_decision() -> None:
    """What was reckoned before a choice is the matter of `route explain`, and large."""
    assert {*FIELDS} - {"at", "cost_usd"} == {*ENTRY_FIELDS} - {"decision"}


async def test_a_ledger_that_cannot_be_read_is_no_empty_one(books: Books) -> None:
    """It is said, and nothing is given."""
    with pytest.raises(LedgerUnreachable):
        next(entries(books.path, since_us=0))
    books.path.parent.mkdir()
    books.path.write_bytes(b"no database" * 1000)
    with pytest.raises(LedgerUnreachable):
        next(entries(books.path, since_us=0))
