"""Laws of the way of a change: what is wrong is said at once, in the words of the file, and masks keep what is live."""

from collections.abc import Callable

import pytest

from config import changes
from config.changes import checked, taken_over
from config.differences import exported
from config.loader import ConfigError, Loaded, as_written
from tests.config.edits import HASH, wrong


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
