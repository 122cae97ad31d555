"""Laws of changes: what is not touched stays as written, what is wrong is said at once, and nothing half-done comes out."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config import changes
from config.changes import Draft, NoSuchPlace, NotEmpty, Taken, checked, taken_over
from config.differences import diff, exported
from config.document import TooDeep
from config.loader import ConfigError, Loaded, as_written, load_text
from config.secrets import hash_key
from tests.config.samples import ENVIRON, FULL, as_yaml, configurations, secret_environ

LIVE = as_written(FULL, ENVIRON)
HASH = hash_key("sk-pen-a-new-key-of-somebody")


def changed(edit: changes.Edit, live: str = LIVE) -> list[tuple[str, Any, Any]]:
    """Give what an edit changes, having seen to it that it changes no more."""
    after = checked(live, edit, ENVIRON)
    assert after.document == as_written(after.document, ENVIRON), "the form is canonical"
    return [(each.path, each.before, each.after) for each in diff(live, after.document)]


def wrong(edit: changes.Edit) -> list[str]:
    """Give the problems of an edit that is refused."""
    with pytest.raises(ConfigError) as refused:
        checked(LIVE, edit, ENVIRON)
    return [str(problem) for problem in refused.value.problems]


# What a change does...


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


def test_keys_come_change_and_go() -> None:
    """Only the hash is in the document, and only its beginning is shown."""
    section = {"key": HASH, "application": "desk", "models": ["auto"], "limits": {"rpm": 1}}
    edit = changes.add_key("acme/no/new", section)
    ((path, before, after),) = changed(edit)
    assert (path, before) == ("organizations.acme.teams.no.keys.new", None)
    assert after == {**section, "key": HASH[:15] + "…"}
    live = checked(LIVE, edit, ENVIRON).document
    assert HASH in live
    with pytest.raises(Taken, match="rotate"):
        checked(live, edit, ENVIRON)
    ((path, before, after),) = changed(
        changes.set_key_hash("acme/no/new", hash_key("x" * 20)), live
    )
    assert path.endswith(".new.key")
    assert before != after
    assert changed(changes.remove("key", "acme/no/new"), live)[0][2] is None
    with pytest.raises(NoSuchPlace, match='did you mean "helpdesk"'):
        checked(LIVE, changes.set_key_hash("acme/no/helpdeks", HASH), ENVIRON)


def test_things_with_names_are_put_and_removed() -> None:
    """What is there is replaced; an organization keeps its teams, a team its keys."""
    provider = {"protocol": "openai", "base_url": "http://h", "api_key": "${HOUSE_TOKEN}"}
    edit = changes.put("provider", "new", provider)
    assert changed(edit) == [("providers.new", None, provider)]
    live = checked(LIVE, edit, ENVIRON).document
    assert "api_key: ${HOUSE_TOKEN}\n" in live
    assert changed(changes.remove("provider", "new"), live) == [("providers.new", provider, None)]
    model = {"deployments": [{"provider": "house"}]}
    assert changed(changes.put("model", "m/x", model)) == [("models.m/x", None, model)]
    assert changed(changes.put("route", "auto", {"models": ["qwen"]})) == [
        ("routes.auto.models", ["gpt-4.1", "qwen"], ["qwen"])
    ]
    assert changed(
        changes.put("organization", "acme", {"budget": {"usd": 2000, "per": "month"}})
    ) == [("organizations.acme.limits", {"rpm": 6000}, None)]
    assert [path for path, *_ in changed(changes.put("team", "acme/no", {}))] == [
        "organizations.acme.teams.no.budget"
    ]
    assert changed(changes.put("team", "acme/new", {})) == [
        ("organizations.acme.teams.new", None, {})
    ]
    for kind, name in (("organization", "acme"), ("team", "acme/no")):
        with pytest.raises(NotEmpty, match="still has"):
            checked(LIVE, changes.remove(kind, name), ENVIRON)


def test_any_value_is_set_and_removed() -> None:
    """At a path of names and numbers; what leads nowhere is refused."""
    assert changed(changes.set_value(("edge", "max_attempts"), 5)) == [
        ("edge.max_attempts", None, 5)
    ]
    path = ("models", "gpt-4.1", "tags", 0)
    assert changed(changes.set_value(path, "talk"))[0][2] == ["talk", "no", "1e3"]
    assert changed(changes.remove_value(path))[0][2] == ["no", "1e3"]
    assert changed(changes.remove_value(("edge", "access_log"))) == [
        ("edge.access_log", "off", None)
    ]
    nowhere: list[changes.Edit] = [
        changes.set_value((), 1),
        changes.set_value(("models", "qwen", "deployments", 7, "weight"), 1),
        changes.set_value(("models", "qwen", "quality", "x"), 1),
        changes.set_value(("models", "qwen", "deployments", "x"), 1),
        changes.remove_value(()),
        changes.remove_value(("edge", "max_attempts")),
    ]
    for edit in nowhere:
        with pytest.raises(NoSuchPlace):
            checked(LIVE, edit, ENVIRON)


def test_a_text_is_a_text() -> None:
    """What looks like a number, a switch or nothing is none, and comes back as it went in."""
    for text in ("600", "true", "null", "~", "no", "1e3", "a: b", "#x", "plain", "ü", "$$x"):
        edit = changes.set_value(("models", "qwen", "tags"), [text])
        after = checked(LIVE, edit, ENVIRON)
        assert after.config.models["qwen"].tags == (text.replace("$$", "$"),)
    assert "found" in wrong(changes.set_quota("org:acme", {"rpm": "600"}))[0]


# What is refused...


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (changes.set_quota("org:acme", {"rmp": 1}), "did you mean 'rpm'"),
        (changes.set_quota("org:acme", {"rpm": -1}), "whole number from 1"),
        (changes.set_quota("org:acme", {"rpm": 1.5}), "whole number"),
        (changes.set_quota("org:acme", {"rpm": 10**30}), "whole number"),
        (changes.set_quota("org:acme", {"rpm": "600/min"}), "found"),
        (changes.set_quota("org:acme", {"rpm": True}), "whole number"),
        (changes.set_quota("org:acme", {"rpm": [1]}), "found a list"),
        (changes.set_quota("org:acme", None, [{"usd": -3, "per": "day"}]), "more than 0"),
        (changes.set_quota("org:acme", None, [{"usd": float("nan"), "per": "day"}]), "USD"),
        (changes.set_quota("org:acme", None, [{"usd": 3, "per": "fortnight"}]), "day | week"),
        (changes.set_quota("model:qwen", None, [{"usd": 3, "pr": "day"}]), "unknown field"),
        (changes.remove("provider", "house"), 'no provider named "house"'),
        (changes.remove("model", "qwen"), 'no model named "qwen"'),
        (changes.remove("route", "auto"), 'no model or route named "auto"'),
        (changes.put("route", "auto", {"models": ["qwenn"]}), "did you mean 'qwen'"),
        (changes.put("provider", "p", {"protocol": "openai", "base_url": "${NOWHERE}"}), "NOWHERE"),
        (changes.put("provider", "p\n", {"protocol": "openai", "base_url": "http://h"}), "a name"),
        (changes.put("model", "m" * 129, {"deployments": [{"provider": "house"}]}), "128"),
        (changes.put("team", "acme/b ", {}), "without '/'"),
        (changes.add_key("acme/no/x", {"key": HASH, "application": "a\x00b"}), "control"),
        (changes.add_key("acme/no/x", {"key": HASH, "application": "a" * 129}), "128"),
        (changes.add_key("acme/no/x", {"key": HASH, "user": "\ud800"}), "YAML"),
        (changes.add_key("acme/no/x", {"key": HASH, "models": ["nope"]}), "nope"),
        (changes.set_deployment("spare", {"weight": 0}), "from 1 to 1000"),
        (changes.set_deployment("spare", {"drained": "yes"}), "true or false"),
        (changes.set_value(("admin", "token"), "short"), "at least 16"),
    ],
)
def test_a_mistake_is_refused_with_its_path(edit: changes.Edit, words: str) -> None:
    """By the same words as in a file."""
    assert any(words in problem for problem in wrong(edit)), wrong(edit)


def test_every_mistake_is_said_at_once() -> None:
    """Not one after the other."""
    edit = changes.put(
        "model", "m", {"quality": 7, "deployments": [{"provider": "x", "wieght": 2}]}
    )
    assert len(wrong(edit)) == 3


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (changes.set_quota("org:acmee", {}), 'did you mean "acme"'),
        (changes.set_quota("organization:acme", {}), "expected key:ORG/TEAM/NAME"),
        (changes.set_quota("org:", {}), "expected"),
        (changes.set_quota("", {}), "expected"),
        (changes.set_quota("team:acme", {}), "expected organization/team"),
        (changes.set_quota("key:acme/no/helpdesk/x", {}), 'no organization "acme/no"'),
        (changes.put("organization", "a/b", {}), 'no organization "a"'),
        (changes.set_quota("user:acme", {}), "expected user:ORG#NAME"),
        (changes.set_quota("user:acme#", {}), "expected user:ORG#NAME"),
        (changes.set_quota("application:nope#x", {}), 'no organization "nope"'),
        (changes.set_quota("key:nope/no/helpdesk", {}), 'no organization "nope"'),
        (changes.set_quota("key:acme/nope/helpdesk", {}), 'no team "acme/nope"'),
        (changes.set_deployment("gpt-4.1/hous", {}), 'did you mean "gpt-4.1/house"'),
        (changes.add_key("acme/nope/x", {}), 'no team "acme/nope"'),
        (changes.remove("model", "gpt"), "there is no model"),
    ],
)
def test_what_is_not_there_is_said(edit: changes.Edit, words: str) -> None:
    """With what was meant."""
    with pytest.raises(NoSuchPlace) as refused:
        checked(LIVE, edit, ENVIRON)
    assert words in str(refused.value)


def test_what_is_too_deep_is_refused() -> None:
    """Before it is written."""
    deep: Any = 1
    for _ in range(70):
        deep = {"x": deep}
    with pytest.raises(TooDeep):
        checked(LIVE, changes.put("provider", "p", deep), ENVIRON)


def test_a_document_that_cannot_be_read_is_no_beginning() -> None:
    """Should the store ever hold one."""
    for text in ("a: [", "providers: {a: 1, a: 2}\n"):
        with pytest.raises(ConfigError):
            Draft(text, ENVIRON)


# What was masked...


CLEAR = """
store: {redis: "redis://user:hush-password@store:6379/0"}
admin: {token: hush-hush-hush-hush}
providers: {mock: {protocol: openai, base_url: http://h, api_key: hush-key}}
organizations: {acme: {teams: {t: {keys: {k: {key: hush-caller-key-0123}}}}}}
"""


def test_an_export_that_is_given_back_changes_nothing() -> None:
    """A mask stands for the value that is live."""
    live = as_written(CLEAR, {})
    shown = exported(live)
    assert "hush" not in shown
    assert taken_over(shown, live, {}, source="f").document == live
    edited = shown.replace("http://h", "http://other")
    after = taken_over(edited, live, {}, source="f").config.providers["mock"]
    assert after.api_key is not None
    assert (after.base_url, after.api_key.reveal()) == ("http://other", "hush-key")
    put: Callable[[str], Loaded] = lambda url: checked(  # noqa: E731
        live,
        changes.put("provider", "mock", {"protocol": "openai", "base_url": url, "api_key": "***"}),
        {},
    )
    assert put("http://x").document == live.replace("http://h", "http://x")


def test_a_mask_that_stands_for_nothing_is_a_mistake() -> None:
    """A renamed provider has no live key to keep; the other mistakes are said too."""
    live = as_written(CLEAR, {})
    renamed = exported(live).replace("mock:", "other:").replace("openai", "opnai")
    with pytest.raises(ConfigError) as refused:
        taken_over(renamed, live, {}, source="f")
    said = [str(problem) for problem in refused.value.problems]
    assert any("providers.other.api_key: *** stands for a value" in each for each in said)
    assert any("openai" in each for each in said)
    with pytest.raises(ConfigError):
        taken_over(exported(live).replace("store:6379", "other:6379"), live, {}, source="f")
    with pytest.raises(ConfigError):
        taken_over("a: [***", live, {}, source="f")
    with pytest.raises(ConfigError):
        taken_over(exported(live), None, {}, source="f")
    assert taken_over("models: {} # ***\n", None, {}, source="f").document == "models: {}\n"


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
