"""The timelines drill: a few timelines from the pools, and that a difference is seen and told."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.drills import timelines
from tests.drills.timelines import tell_some
from tests.ratelimit import oracle


def test_a_few_timelines_agree(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The command, small: every step compared, and what happened is counted."""
    record = tmp_path / "timelines.json"
    given = ["--timelines", "12", "--draws", "4", "--processes", "2", "--json", str(record)]
    assert timelines.main(given) == 0
    assert "12 timelines" in capsys.readouterr().out
    found = json.loads(record.read_text())["found"]
    assert found["timelines"] == 12
    assert found["steps"] >= 120
    assert found["happened"]["answer 1"] > 0


def test_a_difference_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the number of the timeline, and its whole story."""

    def progress(store: Any, name: str, reports: Any) -> int:
        return -1

    monkeypatch.setattr(oracle.Store, "progress", progress)
    found = tell_some(1, 4, 0, 30, 60)
    assert found.broken
    assert found.broken[0].startswith("timeline ")
    assert "the oracle -1" in found.broken[0]
    assert "progress" in found.stories[0]
