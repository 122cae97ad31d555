"""Laws of `penstock ledger`: equal is 0, different is 1 and says what, unreachable is 3."""

import asyncio
import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from console.ledger_command import run
from store.cells import FIRST
from tests.console.conftest import AT_US

Ledger = Any  # the fixture of this folder's conftest
Call = Callable[..., Any]

pytestmark = pytest.mark.usefixtures("nowhere")


@pytest.fixture
def call(ledger: Ledger, redis_url: str) -> Call:
    """Run the command on the test's store and ledger, on a thread, as it has a loop of its own."""

    async def on_a_thread(*argv: str, redis: str = redis_url) -> int:
        places = ["--redis", redis, "--ledger", ledger.url]
        return await asyncio.to_thread(run, [*argv, *places])

    return on_a_thread


async def test_an_export_has_every_entry_of_its_span(
    ledger: Ledger, capsys: pytest.CaptureFixture
) -> None:
    """As CSV and as JSON, corrections included: what is exported adds up to what is owed."""
    await ledger.append("a.1", user="ann", cost_nusd=1_500_000_001)
    await ledger.append("a.1+settle", user="ann", cost_nusd=-500_000_000)
    await ledger.append("later.1", at_us=AT_US + 86_400_000_000, cost_nusd=7)
    await ledger.drain()
    span = ["--since", "2026-11-01", "--until", "2026-11-22T23:00", "--ledger", ledger.url]
    assert await asyncio.to_thread(run, ["export", *span]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["attempt_id"], row["cost_usd"]) for row in rows] == [
        ("a.1", "1.500000001"),
        ("a.1+settle", "-0.500000000"),
    ]
    assert await asyncio.to_thread(run, ["export", *span, "--format", "jsonl"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [{name: str(value) for name, value in entry.items()} for entry in said] == rows


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--since", "soon"], 2, "no time"),
        (["--ledger", "mysql:x"], 2, "sqlite:"),
        ([], 3, "no ledger"),
    ],
)
def test_an_export_that_fails_prints_nothing(
    argv: list[str], code: int, words: str, capsys: pytest.CaptureFixture
) -> None:
    """No head either: half a file would be taken for an empty one."""
    assert run(["export", *argv]) == code
    said = capsys.readouterr()
    assert words in said.err
    assert not said.out


async def test_equal_books_are_0(ledger: Ledger, call: Call, capsys: pytest.CaptureFixture) -> None:
    """In words, with the sums side by side."""
    await ledger.append("a.1", input_tokens=3, output_tokens=1000, cost_nusd=42)
    await ledger.drain()
    await ledger.append("b.1", cost_nusd=-2)
    assert await call("verify") == 0
    assert capsys.readouterr().out.splitlines() == [
        (
            "The books agree: the counters are what stream and database hold, 2 entries,"
            " 3 input and 1,000 output tokens, 0.000000040 USD."
        ),
        "",
        "            entries  input tokens  output tokens      cost USD",
        "counters          2             3          1,000   0.000000040",
        "database          1             3          1,000   0.000000042",
        "stream            1             0              0  -0.000000002",
        "difference        0             0              0   0.000000000",
    ]


async def test_different_books_are_1_and_every_difference_is_said(
    ledger: Ledger, call: Call, capsys: pytest.CaptureFixture
) -> None:
    """What is missing, what is too much, and what may explain it."""
    await ledger.append("old.1")
    await ledger.drain()
    await ledger.redis.flushall()
    await ledger.redis.xadd(FIRST.ledger, {"e": b"?"})
    await ledger.redis.hset(
        FIRST.totals, mapping={"entries": 1, "input_tokens": -7, "cost_nusd": 1_000_000_001}
    )
    assert await call("verify") == 1
    said = capsys.readouterr().out
    assert "do not agree" in said
    assert "1 entry missing in the books" in said
    assert "7 input tokens too many in the books" in said
    assert "1.000000001 USD of cost missing in the books" in said
    assert "output tokens missing" not in said
    assert "Rejected: 1" in said
    assert "Not compared: 1 entry" in said
    assert await call("verify", "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["equal"] is False
    assert answer["difference"] == {
        "entries": 1,
        "input_tokens": -7,
        "output_tokens": 0,
        "cost_nusd": 1_000_000_001,
    }


async def test_an_exchange_is_told_as_a_story(
    ledger: Ledger, call: Call, capsys: pytest.CaptureFixture
) -> None:
    """Each attempt: who asked, who served and why, what came of it, what it cost."""
    await ledger.append("x.1", outcome="overloaded", status=529, reason="load")
    await ledger.append(
        *("x.2",),
        outcome="ok",
        status=200,
        deployment="m/house",
        model="m",
        stream=1,
        reason="retry:overloaded",
        cost_nusd=1234,
        output_tokens=5,
        ttft_us=1500,
    )
    assert await call("show", "x") == 0
    said = capsys.readouterr().out
    assert "attempt x.1" in said
    assert "overloaded: the vendor answered 529 (HTTP 529)" in said
    assert "m at m/house" in said
    assert "because: retry:overloaded" in said
    assert "0.000001234 USD" in said
    assert "first byte 1.5 ms" in said
    assert "2026-11-22 03:36:12.345 UTC" in said
    assert await call("show", "x", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["entries"]) == 2


async def test_an_exchange_that_is_not_there_is_1(
    call: Call, capsys: pytest.CaptureFixture
) -> None:
    """Nothing on standard output but the empty answer that was asked for."""
    assert await call("show", "x") == 1
    said = capsys.readouterr()
    assert "no entry of 'x'" in said.err
    assert not said.out
    assert await call("show", "x", "--json") == 1
    assert json.loads(capsys.readouterr().out) == {"entries": []}


async def test_a_store_that_is_away_is_3(
    ledger: Ledger, call: Call, redis_url: str, capsys: pytest.CaptureFixture
) -> None:
    """What cannot be compared is not called equal; what is entered is shown all the same."""
    gone = redis_url.replace("redis.sock", "none.sock")
    await ledger.append("x.1")
    await ledger.drain()
    assert await call("verify", redis=gone) == 3
    assert "none.sock does not answer" in capsys.readouterr().err
    assert await call("show", "x", redis=gone) == 0
    said = capsys.readouterr()
    assert "attempt x.1" in said.out
    assert "not in the database yet" in said.err
    assert await call("show", "y", redis=gone) == 3


async def test_a_ledger_that_is_away_is_3(
    ledger: Ledger, call: Call, capsys: pytest.CaptureFixture
) -> None:
    """Without the books there is no proof, and nothing to show."""
    ledger.path.unlink()
    assert await call("verify") == 3
    assert await call("show", "x") == 3
    assert "no ledger at" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        ["verify", "--redis", "http://x"],
        ["verify", "--ledger", "x"],
        ["show", "x", "--config", "no"],
    ],
)
def test_misuse_is_2(argv: list[str], capsys: pytest.CaptureFixture) -> None:
    """A URL that nobody can mean, a configuration that is not there."""
    assert run(argv) == 2
    assert "penstock ledger:" in capsys.readouterr().err
