"""The drill of the breaker, small: its laws hold, and it would notice if they did not."""

import json
import random
from pathlib import Path

import pytest

from tests.drills import breaker
from tests.drills.breaker import Fleet, Found, Traffic, trials
from tests.drills.server import server


@pytest.mark.timeout(120)
def test_a_small_drill_finds_its_laws_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything is told, and recorded with its seed."""
    record = tmp_path / "breaker.json"
    small = ("--replicas", "3", "--concurrent", "20", "--periods", "3", "--rate", "20")
    assert breaker.main([*small, "--json", str(record)]) == 0
    found = json.loads(record.read_text())["found"]
    assert found["trials"] == [1, 1, 1]
    assert found["trial_pauses_s"] == [1, 2, 4]
    assert len(found["sinkhole"]) == 20
    assert "1 1 1" in capsys.readouterr().out


def test_a_second_trial_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet in which a trial is given back at once tries again and again."""
    real = Fleet.admit

    def forgetful(self: Fleet, replica: str, asks: list, now: int) -> list:  # type: ignore[type-arg]
        rows = real(self, replica, asks, now)
        for ask, row in zip(asks, rows, strict=True):
            if row[5] == breaker.PROBE:
                self.settle(replica, ask, row, health=0, ttft=0, now=now)
        return rows

    monkeypatch.setattr(Fleet, "admit", forgetful)
    found = Found()
    with server() as (client, _):
        trials(client, found, replicas=2, concurrent=9, periods=1, rng=random.Random(1))
    assert found.trials[0] > 1
    assert found.broken


def test_shares_are_counted_by_seconds() -> None:
    """Of each second's calls; a second without any has none."""
    with server() as (client, _):
        fleet = Fleet(client, 1, ("a", "b"))
        traffic = Traffic(fleet, random.Random(1), lambda _place, _now: (1000, breaker.FINE))
    traffic.sent = [(0, 1), (1, 2), (999_999, 2), (1_000_000, 1), (3_000_000, 2)]
    assert traffic.shares(2, 0, 4) == [0.6667, 0.0, 0.0, 1.0]
