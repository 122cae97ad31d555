"""Laws of things with names: put, removed, and found again by the name that was meant."""

import pytest

from config import changes
from config.changes import NoSuchPlace, NotEmpty, Taken, checked
from config.secrets import hash_key
from tests.config.edits import HASH, LIVE, changed
from tests.config.samples import ENVIRON


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
