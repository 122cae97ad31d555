"""Laws of `penstock usage`: what is printed is what the ledger holds."""

import csv
import io
import json
from typing import Any

import pytest

from console.usage_command import _verdict, run

Ledger = Any  # the fixture of this folder's conftest

pytestmark = pytest.mark.usefixtures("nowhere")


async def some_usage(ledger: Ledger) -> None:
    """Enter what two teams used."""
    acme = {"organization": "acme", "team": "support", "model": "m"}
    await ledger.append("a.1", outcome="upstream_lost", **acme)
    await ledger.append("a.2", input_tokens=1200, output_tokens=3, cost_nusd=1_500_000_001, **acme)
    await ledger.append("b.1", organization="acme", team="sales", cost_nusd=2_000_000_000)
    await ledger.drain()


async def test_a_table_with_its_total(ledger: Ledger, capsys: pytest.CaptureFixture) -> None:
    """Dearest first, aligned, money exact, an empty value shown as a dash."""
    await some_usage(ledger)
    assert run(["--by", "team,model", "--since", "2026-11-01", "--ledger", ledger.url]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "team          model  requests  attempts  input  cached  output  errors     cost USD",
        "acme/sales    -             1         1      0       0       0       0  2.000000000",
        "acme/support  m             1         2  1,200       0       3       1  1.500000001",
        "total                       2         3  1,200       0       3       1  3.500000001",
    ]


async def test_what_is_not_sold_by_the_token_is_shown_where_it_was_used(
    ledger: Ledger, capsys: pytest.CaptureFixture
) -> None:
    """A column for each unit that somebody used, and none for the others."""
    await ledger.append("a.1", model="dall-e", images=2, cost_nusd=80_000_000)
    await ledger.append("b.1", model="whisper", audio_input_us=90_500_000, cost_nusd=9_050_000)
    await ledger.drain()
    assert run(["--by", "model", "--since", "2026-11-01", "--ledger", ledger.url]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "model    requests  attempts  input  cached  output  errors  images  audio s  cost USD",
        "dall-e          1         1      0       0       0       0       2      0.0   0.08000",
        "whisper         1         1      0       0       0       0       0     90.5   0.00905",
        "total           2         2      0       0       0       0       2     90.5   0.08905",
    ]


async def test_json_for_programs(ledger: Ledger, capsys: pytest.CaptureFixture) -> None:
    """The same as JSON, whole."""
    await some_usage(ledger)
    said = ["--since", "2026-11-01", "--until", "2026-11-30", "--json", "--ledger", ledger.url]
    assert run(["--by", "team", *said]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [row["team"] for row in answer["rows"]] == ["acme/sales", "acme/support"]
    assert answer["total"]["cost_nusd"] == 3_500_000_001
    assert answer["until"] == "2026-11-30T00:00:00Z"


async def test_csv_for_spreadsheets(ledger: Ledger, capsys: pytest.CaptureFixture) -> None:
    """Every sum with its plain number and no total, which would be added once more."""
    await some_usage(ledger)
    argv = ["--by", "team", "--since", "2026-11-01", "--csv", "--ledger", ledger.url]
    assert run(argv) == 0
    first, second = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (first["team"], first["cost_usd"]) == ("acme/sales", "2.000000000")
    assert (second["input_tokens"], second["errors"]) == ("1200", "1")
    assert [*second] == [
        *("team", "requests", "attempts", "input_tokens", "cached_tokens", "output_tokens"),
        *("cost_nusd", "errors", "images", "audio_us", "characters", "search_units", "cost_usd"),
    ]


async def test_a_part_of_it(ledger: Ledger, capsys: pytest.CaptureFixture) -> None:
    """What one team's lead may see, with a total of its own."""
    await some_usage(ledger)
    argv = ["--by", "model", "--since", "2026-11-01", "--ledger", ledger.url]
    assert run([*argv, "--where", "team=acme/support"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "model  requests  attempts  input  cached  output  errors     cost USD",
        "m             1         2  1,200       0       3       1  1.500000001",
        "total         1         2  1,200       0       3       1  1.500000001",
    ]
    assert run([*argv, "--where", "team=acme/support", "--where", "model=x"]) == 0
    assert "Nothing was used" in capsys.readouterr().out
    assert run([*argv, "--where", "colour=red"]) == 2
    with pytest.raises(SystemExit):
        run([*argv, "--where", "team"])
    assert "'team': expected DIMENSION=VALUE" in capsys.readouterr().err


async def test_nothing_is_said_in_words(ledger: Ledger, capsys: pytest.CaptureFixture) -> None:
    """An empty span is no empty table."""
    await some_usage(ledger)
    for span in (["--since", "2026-11-23"], ["--since", "2026-01-01", "--until", "2026-02-01"]):
        assert run([*span, "--ledger", ledger.url]) == 0
        assert capsys.readouterr().out.startswith("Nothing was used from 2026-")


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--by", "colour"], 2, "no dimension"),
        (["--since", "soon"], 2, "no time"),
        (["--until", "soon"], 2, "no time"),
        (["--ledger", "mysql:x"], 2, "sqlite:PATH"),
        (["--config", "none.yaml"], 2, "cannot read none.yaml"),
        ([], 3, "no ledger at"),
    ],
)
def test_what_is_wrong_is_said_and_has_a_code(
    argv: list[str], code: int, words: str, capsys: pytest.CaptureFixture
) -> None:
    """2 for misuse, 3 for a ledger that is not there; nothing on standard output."""
    assert run(argv) == code
    said = capsys.readouterr()
    assert words in said.err
    assert not said.out


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"verdict": "best", "instead": "", "could_save_nusd": 0}, "best"),
        (
            {"verdict": "dear", "instead": "m", "could_save_nusd": 1_200_000},
            "dear: m saves 0.0012 USD",
        ),
        ({"verdict": "dear", "instead": "m", "could_save_nusd": 49_999}, "dear: m costs less"),
    ],
)
def test_a_verdict_tells_a_saving_where_there_is_one(row: dict[str, Any], words: str) -> None:
    """To a hundredth of a cent; calls that were in vain could have been made elsewhere for nothing, too."""
    assert _verdict(row) == words
