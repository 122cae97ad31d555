"""Laws of the comparison: what must be equal, what may be estimated, and what is broken."""

import sqlite3
from typing import Any

import pytest

from loadtests.drills.books import Tariff, charged, compare, ledger_rows

TARIFFS = {"d": Tariff("m", 1000, 2000, 20), "e": Tariff("n", 1000, 2000)}


def row(**said: Any) -> dict[str, Any]:
    """Return an entry of 10 tokens in and 20 out."""
    base: dict[str, Any] = {
        "attempt_id": "r.1",
        "at_us": 1,
        "user": "k-1",
        "deployment": "d",
        "input_tokens": 10,
        "output_tokens": 20,
        "outcome": "ok",
        "token_source": "provider",
        "stream": 1,
        "duration_us": 5,
    }
    made = base | said
    made.setdefault("cost_nusd", made["input_tokens"] * 1000 + made["output_tokens"] * 2000)
    return made


def call(**said: Any) -> dict[str, Any]:
    """Return what the vendor wrote down of the same attempt."""
    return {
        "user": "k-1",
        "model": "m",
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "outcome": "ok",
    } | said


def test_what_the_vendor_reported_agrees_to_the_token():
    """Equal tokens at the right price are exact; one more token, or one more nano-USD, is broken."""
    assert compare([row()], [call()], TARIFFS).exact == 1
    assert compare([row()], [call()], TARIFFS).broken == []
    assert len(compare([row(output_tokens=21)], [call()], TARIFFS).broken) == 1
    assert len(compare([row(cost_nusd=50_001)], [call()], TARIFFS).broken) == 2


def test_what_was_refused_costs_nothing_on_both_sides():
    """Zero against zero is free; a charge for a refusal is broken."""
    refused = call(prompt_tokens=0, completion_tokens=0, outcome="refused")
    free = row(input_tokens=0, output_tokens=0, outcome="upstream_refused", token_source="none")
    assert compare([free], [refused], TARIFFS).free == 1
    paid = row(outcome="upstream_refused", token_source="none")
    assert len(compare([paid], [refused], TARIFFS).broken) == 1


def test_an_attempt_finds_its_own_call():
    """By mark and by upstream name: two attempts of one call at two deployments are two pairs."""
    rows = [
        row(),
        row(attempt_id="r.2", deployment="e", output_tokens=3),
        row(attempt_id="s.1", user="k-2", output_tokens=5),
    ]
    served = [
        call(user="k-2", completion_tokens=5),
        call(model="n", completion_tokens=3),
        call(),
    ]
    found = compare(rows, served, TARIFFS)
    assert (found.exact, found.broken) == (3, [])


def test_what_was_served_and_is_in_no_book_is_broken_unless_excused():
    """A fault may lose what it says it loses, and nothing else."""
    assert compare([], [call()], TARIFFS).broken
    assert compare([], [call()], TARIFFS, excused=frozenset({"k-1"})).excused == 1
    assert compare([], [call()], TARIFFS, prefix="other-").served_calls == 0


def test_what_is_charged_and_was_never_served_is_broken_unless_it_died_on_its_way():
    """A reaped attempt may not have reached the vendor."""
    assert compare([row()], [], TARIFFS).broken
    reaped = row(outcome="reaped", token_source="estimated", output_tokens=0)
    found = compare([reaped], [], TARIFFS)
    assert (len(found.reaped), found.reaped[0].heard, found.broken) == (1, False, [])


@pytest.mark.parametrize(
    ("charged_tokens", "served_tokens", "broken"),
    [(0, 100, 0), (0, 101, 1), (50, 150, 0), (50, 151, 1), (56, 50, 1), (55, 50, 0)],
)
def test_a_reaped_stream_errs_by_two_seconds_at_most(charged_tokens, served_tokens, broken):
    """100 chunks, 20 ms apart, may be missing; what was never served may not be charged."""
    reaped = row(outcome="reaped", token_source="estimated", output_tokens=charged_tokens)
    found = compare([reaped], [call(completion_tokens=served_tokens)], TARIFFS)
    assert len(found.broken) == broken
    assert found.reaped[0].output_error == charged_tokens - served_tokens


def test_a_late_settlement_corrects_the_estimate():
    """Both entries are summed; the sum must be exact, and there may be one correction."""
    reaped = row(outcome="reaped", token_source="estimated", output_tokens=8)
    late = row(attempt_id="r.1+settle", input_tokens=0, output_tokens=12)
    found = compare([reaped, late], [call()], TARIFFS)
    assert (found.exact, found.corrected, found.broken) == (1, 1, [])
    assert compare([late, reaped], [call()], TARIFFS).exact == 1
    assert charged([reaped, late])["r.1"].outcome == "ok"
    twice = compare([reaped, late, late], [call(completion_tokens=32)], TARIFFS)
    assert any("2 corrections" in words for words in twice.broken)


def test_an_attempt_is_charged_once_and_sent_once():
    """Two entries, or two calls for one attempt, are broken."""
    doubled = compare([row(), row()], [call(prompt_tokens=20, completion_tokens=40)], TARIFFS)
    assert any("2 entries" in words for words in doubled.broken)
    assert any(
        "asked 2 times" in words for words in compare([row()], [call(), call()], TARIFFS).broken
    )


def test_the_ledger_is_read_as_it_lies(tmp_path):
    """The columns that are compared, by name."""
    path = tmp_path / "ledger.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE entries ({', '.join(row())})")
        connection.execute(
            f"INSERT INTO entries VALUES ({', '.join('?' * len(row()))})", tuple(row().values())
        )
    connection.close()
    assert ledger_rows(path) == [row()]


def test_a_record_is_short():
    """One line for each error, under the names of its values."""
    reaped = row(outcome="reaped", token_source="estimated", output_tokens=8)
    told = compare([reaped], [call()], TARIFFS).as_json()["reaped"]
    assert told["fields"].split(",")[:3] == ["attempt_id", "outcome", "deployment"]
    assert told["rows"] == ["r.1,reaped,d,True,True,20,0,-12,-24000,0.24"]
