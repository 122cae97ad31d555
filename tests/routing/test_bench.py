"""The bench of routing: on a small table of which one knows what a router can do, and with the words it prints."""

import json
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from routing import bench
from routing.tables import BadTable, Row, Table
from routing.training import Example

MODELS = ("cheap", "dear")


def row(number: int) -> Row:
    """Return a question: code is what only the dear model can do."""
    if number % 2:
        return Row(
            f"Write a Python function that sorts list number {number} and add unit tests",
            "mbpp",
            "coding",
            (0.0, 1.0),
            (10, 1000),
        )
    return Row(
        f"who wrote the song that won contest {number}", "trivia", "chat", (1.0, 1.0), (10, 1000)
    )


def read(folder: Path, part: str) -> Table:
    if not folder.exists():
        raise BadTable(f"{folder} is not there; get it: somewhere")
    return Table("small", MODELS, tuple(row(number) for number in range(40)), part)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the small table, and few decisions."""
    monkeypatch.setattr(bench, "TABLES", MappingProxyType({"small": read}))
    monkeypatch.setattr(bench, "DECISIONS", 20)


def test_a_router_that_tells_the_task_halves_the_cost(tmp_path: Path) -> None:
    """What is easy goes to the cheap model, what is not to the dear one; lots would lose quality for that."""
    (found,) = bench.measured(tmp_path, ["small"], times=20)
    assert (found["best_single"], found["questions"]) == ("dear", 40)
    figures = {name: each["value"] for name, each in found["figures"].items()}
    assert figures["penstock/cost_at_100"] == pytest.approx(0.505)
    assert figures["oracle/cost_at_100"] == pytest.approx(0.505)
    assert figures["zero/cost_at_100"] == 1.0
    assert (figures["random/cost"], figures["random/quality"]) == (0.505, 0.75)
    assert figures["penstock/aiq_linear_above_zero"] > 0.1
    assert figures["level premium/quality"] == 1.0
    assert figures["penstock/aiq_linear"] <= figures["oracle/aiq_linear"] + 1e-9


def test_a_router_tells_calls_of_one_task_apart_by_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where long questions are what the dear model alone can do, half of them cost little."""

    def read(folder: Path, part: str) -> Table:
        rows = [
            Row(
                f"who wrote song {number} " + "of the long list of songs that won " * (n * 20),
                *("trivia", "chat", (1.0 - n, 1.0), (10, 1000)),
            )
            for number in range(200)
            for n in (0, 1)
        ]
        return Table("small", MODELS, tuple(rows), part)

    monkeypatch.setattr(bench, "TABLES", MappingProxyType({"small": read}))
    (found,) = bench.measured(tmp_path, ["small"], times=5)
    assert found["figures"]["penstock/cost_at_100"]["value"] == pytest.approx(0.505)


def test_figures_are_the_same_each_time(tmp_path: Path) -> None:
    """Every draw has a seed."""
    first, second = (bench.measured(tmp_path, ["small"], times=5) for _ in range(2))
    assert first == second


def test_in_folds_every_question_is_answered_by_who_has_not_seen_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is tested once; neither lessons nor the classifier's weights are from it, nor from its twin in the other part."""
    learned_from: list[set[str]] = []

    def examples_of(tables: Iterable[Table]) -> list[Example]:
        rows = [one for table in tables for one in table.rows]
        learned_from.append({one.text for one in rows})
        return [Example(one.text, one.task, 0.1) for one in rows]

    monkeypatch.setattr(bench, "examples_of", examples_of)
    parts = bench._folded(tmp_path, ["small"], 4)["small"]
    tested = [one.text for part in parts for one in part.table.rows]
    assert sorted(tested) == sorted([row(number).text for number in range(40)] * 2)
    for part, learned in zip(parts, learned_from, strict=True):
        held_out = {row.text for row in part.table.rows}
        assert held_out
        assert held_out.isdisjoint(learned)
        assert held_out.isdisjoint(row.text for row in part.training.rows)
    (found,) = bench.measured(tmp_path, ["small"], folds=4, times=5)
    assert (found["questions"], found["folds"]) == (80, 4)
    assert found["figures"]["penstock/cost_at_100"]["value"] == pytest.approx(0.505)


def test_models_that_are_listed_are_measured_without_lessons_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the priors of the catalogue."""

    def known(folder: Path, part: str) -> Table:
        rows = read(folder, part).rows
        return Table("known", ("gpt-4o-mini", "claude-opus-4-5"), rows, part)

    monkeypatch.setattr(bench, "TABLES", MappingProxyType({"known": known}))
    (found,) = bench.measured(tmp_path, ["known"], times=5)
    assert found["figures"]["penstock, catalogue alone/cost_at_100"]["value"] is not None


def test_it_prints_and_keeps_its_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table for people, JSON for the rest."""
    out = tmp_path / "figures.json"
    assert bench.main(["--tables", str(tmp_path), "--times", "5", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "small: 40 questions, best single model dear" in printed
    assert "50 models: p50" in printed
    kept: Any = json.loads(out.read_text(encoding="utf-8"))
    assert [table["table"] for table in kept["tables"]] == ["small"]
    assert set(kept["scorer"]) == {"8 models", "50 models", "200 models", "task and complexity"}


def test_without_a_table_it_says_where_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Decisions are timed in any case; a folder that lacks a file is said."""
    assert bench.main(["--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["tables"] == []
    assert "pip download" in said.err
    assert bench.main(["--tables", str(tmp_path / "none")]) == 2
    assert "none is not there" in capsys.readouterr().err


@pytest.mark.parametrize("said", ["1", "-3", "many", "21", ""])
def test_a_number_of_folds_that_is_none_is_refused(
    said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is trained."""
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--folds", said])
    assert "a whole number from 2 to 20" in capsys.readouterr().err
