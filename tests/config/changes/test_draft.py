"""Laws of drafts: any value is set and removed at its path, and what leads nowhere is refused."""

from typing import Any

import pytest

from config import changes
from config.changes import Draft, NoSuchPlace, checked
from config.document import TooDeep
from config.loader import ConfigError
from tests.config.edits import LIVE, changed, wrong
from tests.config.samples import ENVIRON


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
