"""Public tables are read as they were published, or not at all."""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from types import MappingProxyType

import pytest

from routing import tables
from routing.listing import TASKS
from routing.tables import (
    FILES,
    LLMROUTER_TASKS,
    PARETOBANDIT_TASKS,
    BadTable,
    Published,
    read_llmrouter,
    read_paretobandit,
)

WHEEL = "paretobandit-0.1.1-py3-none-any.whl"
SCORED = [
    {"question": "q one", "scores": {"small": 0, "large": 1.0}},
    {"question": "q two", "scores": {"small": 0.5, "large": 0.25}},
]


def judged(prompt: str, source: str) -> str:
    arms = {"small": {"reward": 0.5, "cost": 1e-6}, "large": {"reward": 1.0, "cost": 0.002}}
    return json.dumps({"prompt": prompt, "source": source, "arms": arms})


def wheel() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        inside = "pareto_bandit/data/examples"
        archive.writestr(f"{inside}/val.jsonl", judged("learn", "gsm8k"))
        archive.writestr(
            f"{inside}/test_holdout.jsonl",
            judged("first", "mbpp") + "\n" + judged("second", "bbh/snarks"),
        )
    return held.getvalue()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write tables of two questions, as if they had been published."""
    kinds = [{"query": "q one", "task_name": "gsm8k"}, {"query": "q two", "task_name": "mbpp"}]
    written = {
        "train.json": json.dumps(SCORED).encode(),
        "test.json": json.dumps(SCORED[1:]).encode(),
        "default_query_train.jsonl": "\n".join(map(json.dumps, kinds)).encode(),
        "default_query_test.jsonl": json.dumps(kinds[1]).encode(),
        "default_llm.json": json.dumps(
            {
                "small": {"input_price": 0.1, "output_price": 0.2},
                "large": {"input_price": 1, "output_price": 2},
            }
        ).encode(),
        WHEEL: wheel(),
    }
    for name, data in written.items():
        (tmp_path / name).write_bytes(data)
    published = {
        name: Published(f"https://tables.example/{name}", hashlib.sha256(data).hexdigest())
        for name, data in written.items()
    }
    assert set(published) == set(FILES)
    monkeypatch.setattr(tables, "FILES", MappingProxyType(published))
    return tmp_path


def test_paretobandit_is_read_from_its_package(folder: Path) -> None:
    """Costs are nano-USD; what is no other set is of BIG-Bench Hard."""
    table = read_paretobandit(folder, "test")
    assert table.models == ("small", "large")
    first, second = table.rows
    assert (first.text, first.kind, first.task) == ("first", "mbpp", "coding")
    assert (first.scores, first.costs_nusd) == ((0.5, 1.0), (1_000, 2_000_000))
    assert (second.text, second.task) == ("second", "reasoning")
    assert [row.text for row in read_paretobandit(folder, "train").rows] == ["learn"]


def test_llmrouter_is_read_with_its_prices(folder: Path) -> None:
    """A cost is that of the question's tokens and of the assumed answer."""
    table = read_llmrouter(folder, "test")
    assert table.models == ("small", "large")
    (row,) = table.rows
    assert (row.text, row.kind, row.task) == ("q two", "mbpp", "coding")
    assert row.scores == (0.5, 0.25)
    assert row.costs_nusd == (1 * 100 + 256 * 200, 1 * 1000 + 256 * 2000)


def test_no_question_is_in_both_parts(folder: Path) -> None:
    """What is tested was not trained with."""
    assert [row.text for row in read_llmrouter(folder, "train").rows] == ["q one"]


def test_every_set_is_of_a_task() -> None:
    """Of those that calls are about."""
    assert set(LLMROUTER_TASKS.values()) | set(PARETOBANDIT_TASKS.values()) <= set(TASKS)


@pytest.mark.parametrize("name", ["test.json", WHEEL])
def test_another_file_than_was_published_is_refused(folder: Path, name: str) -> None:
    """A figure is always that of the same rows."""
    (folder / name).write_text("[]", encoding="utf-8")
    with pytest.raises(BadTable, match=f"{name} is another file than was published; get it"):
        (read_paretobandit if name == WHEEL else read_llmrouter)(folder, "test")


def test_what_is_missing_is_said_with_where_it_is_published(folder: Path) -> None:
    """So that one can get it."""
    (folder / WHEEL).unlink()
    with pytest.raises(BadTable, match=r"cannot be read: .*; get it: https"):
        read_paretobandit(folder, "test")


def test_digests_tell_tables_apart(folder: Path) -> None:
    """Of the same files it is the same."""
    one, two = read_llmrouter(folder, "test"), read_llmrouter(folder, "train")
    assert one.digest != two.digest
    assert one.digest == read_llmrouter(folder, "test").digest
