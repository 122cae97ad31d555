"""Laws of what is granted: a change sets what it names, where its scope stands, and touches nothing else."""

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config import changes
from config.changes import checked
from config.loader import ConfigError, load_text
from tests.config.edits import LIVE, changed
from tests.config.samples import ENVIRON, as_yaml, configurations, secret_environ


def test_a_limit_is_set_and_taken_away() -> None:
    """Those that are not named stay; an empty section goes."""
    edit = changes.set_quota("key:acme/no/helpdesk", {"rpm": 700, "tpm": 5, "concurrency": None})
    path = "organizations.acme.teams.no.keys.helpdesk.limits"
    assert changed(edit) == [
        (f"{path}.rpm", 600, 700),
        (f"{path}.tpm", None, 5),
        (f"{path}.concurrency", 50, None),
    ]
    edit = changes.set_quota("key:acme/no/helpdesk", {"rpm": None, "concurrency": None})
    assert changed(edit) == [(path, {"rpm": 600, "concurrency": 50}, None)]
    assert changed(changes.set_quota("key:acme/no/other", {"rpm": None})) == []


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ("key:acme/no/other", "organizations.acme.teams.no.keys.other.limits"),
        ("team:acme/no", "organizations.acme.teams.no.limits"),
        ("org:acme", "organizations.acme.limits.tpm"),
        ("model:gpt-4.1", 'models."gpt-4.1".limits'),
        ("model:qwen", "models.qwen.limits.tpm"),
        ("deployment:gpt-4.1/openai", 'models."gpt-4.1".deployments[0].limits'),
        ("deployment:spare", 'models."gpt-4.1".deployments[2].limits'),
        ("deployment:qwen/house", "models.qwen.deployments[0].limits"),
    ],
)
def test_every_kind_of_scope_has_its_place(scope: str, path: str) -> None:
    """One change, at that place."""
    ((found, before, after),) = changed(changes.set_quota(scope, {"tpm": 9}))
    assert (found, before) == (path, None)
    assert after in (9, {"tpm": 9})


def test_budgets_are_set_as_a_whole() -> None:
    """One, several, none; and left alone when nothing is said."""
    team = "team:acme/no"
    one = {"usd": 7, "per": "day", "mode": "strict"}
    ((path, before, after),) = changed(changes.set_quota(team, None, [one]))
    assert path == "organizations.acme.teams.no.budget"
    assert before == [
        {"usd": 300.5, "per": "month", "mode": "strict"},
        {"usd": 1, "per": "day"},
    ]
    assert after == one
    two = [one, {"usd": 0.000000001, "per": "week"}]
    assert changed(changes.set_quota(team, None, two))[0][2] == two
    assert changed(changes.set_quota(team, None, []))[0][2] is None
    assert changed(changes.set_quota(team, {})) == []


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "Europe", "../UTC", "Z" * 300])
def test_a_raise_by_clocks_that_there_are_not_is_refused(zone: str) -> None:
    """As everybody who reads the document refuses it: what a zone is called, this machine may no longer know."""
    zoned = changes.set_value(("organizations", "acme", "time_zone"), zone)
    draft = changes.Draft(LIVE, ENVIRON)
    zoned(draft)
    edit = changes.raise_budget("team:acme/no", "month", 900, "2098-01-01", now=datetime.now(UTC))
    with pytest.raises(ConfigError) as refused:
        checked(draft.text(), edit, ENVIRON)
    (problem,) = map(str, refused.value.problems)
    assert problem.startswith("request: organizations.acme.time_zone: found")
    assert "expected the IANA name of a time zone" in problem


def test_a_deployment_is_drained_and_weighed() -> None:
    """By its id."""
    edit = changes.set_deployment("spare", {"drained": False, "weight": 5}, {"rpm": 1})
    path = 'models."gpt-4.1".deployments[2]'
    assert changed(edit) == [
        (f"{path}.drained", True, False),
        (f"{path}.weight", None, 5),
        (f"{path}.limits", None, {"rpm": 1}),
    ]
    assert changed(changes.set_deployment("gpt-4.1/house", {"weight": None})) == [
        ('models."gpt-4.1".deployments[1].weight', 2, None)
    ]


@given(configurations(), st.integers(1, 10**6))
def test_a_change_touches_nothing_else(data: dict[str, Any], rpm: int) -> None:
    """Whatever the document is, only the limit changes, and setting it back gives the same bytes."""
    environ = secret_environ()
    data["organizations"]["acme"] = {"teams": {"t": {}}}
    live = load_text(as_yaml(data), source="t", environ=environ).document
    after = checked(live, changes.set_quota("team:acme/t", {"rpm": rpm}), environ).document
    expected = yaml.safe_load(live)
    expected["organizations"]["acme"]["teams"]["t"]["limits"] = {"rpm": rpm}
    assert yaml.safe_load(after) == expected
    back = checked(after, changes.set_quota("team:acme/t", {"rpm": None}), environ).document
    assert back == live
