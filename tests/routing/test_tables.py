"""Public tables are read as they were published, or not at all."""

import hashlib
import json
from pathlib import Path
from types import MappingProxyType

import pytest

from routing import tables
from routing.tables import BadTable, Published, read_llmrouter, read_routerbench

SCORED = [
    {"question": "q one", "scores": {"small": 0, "large": 1.0}},
    {"question": "q two", "scores": {"small": 0.5, "large": 0.25}},
]
HEAD = "sample_id,prompt,eval_name,small,large,small|total_cost,large|total_cost\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a table of two questions, as if it had been published."""
    kinds = [{"query": "q one", "task_name": "gsm8k"}, {"query": "q two", "task_name": "mbpp"}]
    written = {
        "train.json": json.dumps(SCORED),
        "test.json": json.dumps(SCORED[1:]),
        "default_query_train.jsonl": "\n".join(map(json.dumps, kinds)),
        "default_query_test.jsonl": json.dumps(kinds[1]),
        "default_llm.json": json.dumps(
            {
                "small": {"input_price": 0.1, "output_price": 0.2},
                "large": {"input_price": 1, "output_price": 2},
            }
        ),
        "a_test.csv": HEAD + "1,text,a,1.0,0.0,0.001,0.002\n2,none,a,,1.0,0.001,0.002\n",
        "b_test.csv": HEAD + "1,more,b,0.5,1.0,0,0.5\n",
    }
    for name, text in written.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    published = {
        name: Published(f"https://tables.example/{name}", hashlib.sha256(text.encode()).hexdigest())
        for name, text in written.items()
    }
    monkeypatch.setattr(tables, "FILES", MappingProxyType(published))
    return tmp_path


def test_llmrouter_is_read_with_its_prices(folder: Path) -> None:
    """A cost is that of the question's tokens and of the assumed answer."""
    table = read_llmrouter(folder, "test")
    assert table.models == ("small", "large")
    (row,) = table.rows
    assert (row.text, row.kind, row.scores) == ("q two", "mbpp", (0.5, 0.25))
    assert row.costs_nusd == (1 * 100 + 256 * 200, 1 * 1000 + 256 * 2000)


def test_no_question_is_in_both_parts(folder: Path) -> None:
    """What is tested was not trained with."""
    assert [row.text for row in read_llmrouter(folder, "train").rows] == ["q one"]


def test_routerbench_is_read_where_every_model_has_an_outcome(folder: Path) -> None:
    """All files of a part, one after the other."""
    table = read_routerbench(folder, "test")
    assert table.models == ("small", "large")
    assert [(row.text, row.kind) for row in table.rows] == [("text", "a"), ("more", "b")]
    assert table.rows[0].scores == (1.0, 0.0)
    assert table.rows[0].costs_nusd == (1_000_000, 2_000_000)


def test_another_file_than_was_published_is_refused(folder: Path) -> None:
    """A figure is always that of the same rows."""
    (folder / "test.json").write_text("[]", encoding="utf-8")
    with pytest.raises(BadTable, match=r"test\.json is another file than was published at https"):
        read_llmrouter(folder, "test")


def test_what_is_missing_is_said_with_where_it_is_published(folder: Path) -> None:
    """So that one can get it."""
    (folder / "a_test.csv").unlink()
    with pytest.raises(BadTable, match=r"a_test\.csv cannot be read: .*published at https"):
        read_routerbench(folder, "test")


def test_digests_tell_tables_apart(folder: Path) -> None:
    """Of the same files it is the same."""
    one, two = read_llmrouter(folder, "test"), read_llmrouter(folder, "train")
    assert one.digest != two.digest
    assert one.digest == read_llmrouter(folder, "test").digest
