"""Laws of experiments: every replica puts a call into the same arm, shares are kept, and who is in stays in."""

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.loader import load_text
from config.models import Config
from routing.experiments import Arm, Split, compiled, place_of, share_at

PRICE = {"input": 1, "output": 1}


def configured(**experiments: Any) -> Config:
    """Read a configuration with two models, a route, and these experiments."""
    document = {
        "providers": {"mock": {"protocol": "openai", "base_url": "http://127.0.0.1:9"}},
        "models": {
            name: {"price": PRICE, "deployments": [{"provider": "mock"}]} for name in ("a", "b")
        },
        "routes": {"auto": {"models": ["a", "b"]}},
        "experiments": experiments,
    }
    return load_text(json.dumps(document), source="test", environ={}).config


@given(st.text(), st.text())
def test_a_place_is_from_0_to_below_1_and_always_the_same(name: str, unit: str) -> None:
    """Whatever the names are made of."""
    place = place_of(name, unit)
    assert 0 <= place < 1
    assert place == place_of(name, unit)


def test_places_do_not_depend_on_the_machine() -> None:
    """Two versions of the gateway side by side put a caller into the same arm."""
    assert place_of("luna", "acme/support/desk") == pytest.approx(0.6687279, abs=1e-6)


def test_shares_are_kept_and_experiments_are_independent() -> None:
    """Of 20,000 units each arm has its share, and so it has of those that another experiment has drawn."""
    arms = (Arm("x/a"), Arm("x/b"))
    one, two = (Split(name, "caller", arms, (0.25, 1.0)) for name in ("one", "two"))
    units = [f"unit-{number}" for number in range(20_000)]
    both = Counter((one.arm_of(u, 0).label, two.arm_of(u, 0).label) for u in units)
    expected = {"x/a": 0.25, "x/b": 0.75}
    for (first, second), count in both.items():
        assert count / 20_000 == pytest.approx(expected[first] * expected[second], abs=0.012)


@given(st.text(), st.lists(st.floats(0, 100), min_size=2, max_size=6).map(sorted))
def test_who_is_in_a_canary_stays_in_it_as_it_grows(unit: str, percents: list[float]) -> None:
    """A larger share holds the smaller one."""
    arms = (Arm("luna/canary", "b"), Arm("luna/control"))
    drawn = [
        Split("luna", "caller", arms, (each / 100, 1.0)).arm_of(unit, 0) is arms[0]
        for each in percents
    ]
    assert drawn == sorted(drawn)


def test_a_share_grows_evenly_between_its_points() -> None:
    """Nothing before the first, the last one's after it."""
    schedule = ((1000, 0.1), (2000, 0.5), (3000, 1.0))
    seen = [share_at(schedule, at) for at in (0, 999, 1000, 1500, 2000, 2750, 3000, 9999)]
    assert seen == pytest.approx([0, 0, 0.1, 0.3, 0.5, 0.875, 1, 1])


def test_what_is_declared_becomes_arms() -> None:
    """Weights become shares; a canary has its step's; a shadow stands beside."""
    found = compiled(
        configured(
            ab={"asked": "a", "arms": {"old": {"weight": 3}, "new": {"model": "b"}}},
            luna={"asked": "auto", "canary": {"model": "b", "steps": [2, 50], "step": 1}},
            dark={
                "asked": "auto",
                "shadow": {
                    "deployment": "b/mock",
                    "percent": 5,
                    "budget": {"usd": 1, "per": "day"},
                },
            },
        )
    )
    ab = found["a"].split
    assert ab is not None
    assert [(arm.label, arm.model, arm.leads) for arm in ab.arms] == [
        ("ab/old", "", False),
        ("ab/new", "b", True),
    ]
    assert ab.ends == (0.75, 1.0)
    luna, dark = found["auto"].split, found["auto"].shadow
    assert luna is not None
    assert luna.ends == (0.5, 1.0)
    assert dark is not None
    assert (dark.arm.label, dark.arm.deployment, dark.scope) == (
        "dark/shadow",
        "b/mock",
        "shadow:dark",
    )
    assert not dark.takes("anybody", 256 * 1024 + 1)
    assert sum(dark.takes(f"unit-{number}", 1) for number in range(10_000)) == pytest.approx(
        500, abs=80
    )


def test_a_migration_is_where_its_schedule_is() -> None:
    """Moments without an offset are UTC."""
    points = [
        {"at": "2026-11-01", "percent": 0},
        {"at": "2026-11-03T01:00+01:00", "percent": 100},
    ]
    found = compiled(
        configured(move={"asked": "a", "migration": {"model": "b", "schedule": points}})
    )
    split = found["a"].split
    assert split is not None

    def share(day: int) -> float:
        at_us = int(datetime(2026, 11, day, tzinfo=UTC).timestamp() * 1_000_000)
        return sum(split.arm_of(str(n), at_us) is split.arms[0] for n in range(2000)) / 2000

    assert [share(1), share(3)] == [0, 1]
    assert share(2) == pytest.approx(0.5, abs=0.05)


def test_the_shares_of_all_arms_are_told() -> None:
    """Of an A/B test, of a canary at its step, of a migration at its moment, and of what is copied."""
    half = {"at": "2026-12-01", "percent": 0}, {"at": "2026-12-03", "percent": 100}
    trials = compiled(
        configured(
            ab={"asked": "auto", "arms": {"x": {"weight": 3}, "y": {"weight": 1, "model": "b"}}},
            luna={"asked": "a", "canary": {"model": "b", "steps": [10, 50], "step": 1}},
            off={"asked": "b", "migration": {"model": "a", "schedule": [*half]}},
            dark={
                "asked": "b",
                "shadow": {"model": "a", "percent": 5, "budget": {"usd": 1, "per": "day"}},
            },
        )
    )
    at_us = int(datetime(2026, 12, 2, tzinfo=UTC).timestamp() * 1e6)
    assert trials["auto"].shares(at_us) == {"ab/x": 0.75, "ab/y": 0.25}
    assert trials["a"].shares(at_us) == {"luna/canary": 0.5, "luna/control": 0.5}
    assert trials["b"].shares(at_us) == {"off/new": 0.5, "off/old": 0.5, "dark/shadow": 0.05}


def test_what_is_stopped_leads_nobody() -> None:
    """And leaves its name to another one."""
    arms = {"x": {}, "y": {"model": "b"}}
    found = compiled(
        configured(
            first={"asked": "a", "arms": arms, "stopped": "enough was seen"},
            second={"asked": "a", "arms": arms},
        )
    )
    split = found["a"].split
    assert split is not None
    assert split.name == "second"
    assert "b" not in found
