"""Laws of comparing and showing documents: every change once, and no secret ever."""

import json

from hypothesis import given
from hypothesis import strategies as st

from config import document as documents
from config.differences import Difference, as_data, diff, exported
from config.loader import as_written, load_text
from tests.config.samples import ENVIRON, FULL, as_yaml, configurations, secret_environ

CLEAR = """
store: {redis: "rediss://user:hush-password@store:6379/0?ssl_ca_certs=/a"}
admin: {token: "${NOT_SET:-hush-hush-hush-hush}"}
providers:
  mock: {protocol: openai, base_url: http://h, api_key: hush-key, headers: {x-auth: hush-header}}
models: {m: {deployments: [{provider: mock}]}}
organizations: {acme: {teams: {t: {keys: {k: {key: hush-caller-key-0123}}}}}}
"""


def written(text: str) -> str:
    return as_written(text, ENVIRON)


def changes(before: str, after: str) -> list[tuple[str, object, object]]:
    return [(d.path, d.before, d.after) for d in diff(written(before), written(after))]


def test_a_document_differs_from_itself_in_nothing() -> None:
    """However it was written."""
    assert changes(FULL, FULL) == []
    assert changes("models: {}", "models: {}\nroutes:\n") == []


def test_values_are_shown_as_what_they_are() -> None:
    """Numbers as numbers, switches as switches, a text that looks like a number as text."""
    after = (
        FULL.replace("rpm: 6000", "rpm: 7_000")
        .replace("name: 0123, weight: 2", "name: 0124, weight: 3")
        .replace("quality: 0.71", "quality: 0.5")
        .replace("stream_usage: false", "stream_usage: true")
        .replace("admit_timeout_ms: 500", "")
    )
    assert changes(FULL, after) == [
        ("store.admit_timeout_ms", 500, None),
        ("providers.house.stream_usage", False, True),
        ('models."gpt-4.1".deployments[1].name', "0123", "0124"),
        ('models."gpt-4.1".deployments[1].weight', 2, 3),
        ("models.qwen.quality", 0.71, 0.5),
        ("organizations.acme.limits.rpm", 6000, 7000),
    ]


def test_what_comes_or_goes_is_one_change() -> None:
    """With all that is in it."""
    text = "organizations: {acme: {limits: {rpm: 6}, teams: {no: {limits: {tpm: 1_0}}}}}"
    told = {"limits": {"rpm": 6}, "teams": {"no": {"limits": {"tpm": 10}}}}
    assert changes("{}", text) == [("organizations", None, {"acme": told})]
    assert changes("organizations: {b: {}}", text) == [
        ("organizations.acme", None, told),
        ("organizations.b", {}, None),
    ]


def test_deployments_are_compared_by_their_ids() -> None:
    """One that is taken out is one change, whatever stood behind it; another order is said."""
    text = "providers: {a: {protocol: openai, base_url: http://h}, b: {protocol: openai, base_url: http://h}}\n"
    one = text + "models: {m: {deployments: [{provider: a}, {provider: b, weight: 2}]}}"
    two = text + "models: {m: {deployments: [{provider: b, weight: 2}]}}"
    assert changes(one, two) == [("models.m.deployments[0]", {"provider": "a"}, None)]
    assert changes(two, one) == [("models.m.deployments[0]", None, {"provider": "a"})]
    turned = text + "models: {m: {deployments: [{provider: b, weight: 2}, {provider: a}]}}"
    assert changes(one, turned) == [
        ("models.m.deployments.order", ["m/a", "m/b"], ["m/b", "m/a"]),
    ]


def test_one_budget_is_a_list_of_one() -> None:
    """Both forms mean the same, so the change of form is none."""
    one = "organizations: {a: {budget: {usd: 1, per: day}}}"
    assert changes(one, "organizations: {a: {budget: [{usd: 1, per: day, mode: null}]}}") == []
    assert changes(one, "organizations: {a: {budget: {usd: 2, per: day}}}") == [
        ("organizations.a.budget", {"usd": 1, "per": "day"}, {"usd": 2, "per": "day"})
    ]


def test_no_secret_is_shown() -> None:
    """Not in a difference, not in an export; references and the beginning of a hash are."""
    shown = exported(load_text(CLEAR, source="t", environ={}).document)
    assert "hush" not in shown
    assert "rediss://***@store" in shown
    found = diff("{}\n", load_text(CLEAR, source="t", environ={}).document)
    said = json.dumps([each.as_dict() for each in found]) + "".join(map(str, found))
    assert "hush" not in said
    assert '"api_key": "***"' in said
    assert "sha256:" in said
    assert "${OPENAI_API_KEY}" in exported(written(FULL))
    other = CLEAR.replace("hush-key", "hush-lock").replace("caller-key", "caller-lock")
    changed = diff(*(load_text(text, source="t", environ={}).document for text in (CLEAR, other)))
    assert [each.path for each in changed] == [
        "providers.mock.api_key",
        "organizations.acme.teams.t.keys.k.key",
    ]
    assert str(changed[0]) == "providers.mock.api_key: *** -> ***"


def test_what_the_environment_holds_is_not_shown() -> None:
    """A number is resolved for whoever computes with it; a text stays a reference."""
    text = """
providers: {p: {protocol: openai, base_url: http://h, api_key: "${KEY}"}}
models:
  m:
    quality: ${QUALITY:-0.5}
    deployments: [{provider: p, weight: "${WEIGHT}", region: "${KEY}", drained: "${NO:-}"}]
"""
    environ = {"KEY": "hush-hush", "WEIGHT": "7"}
    root, _ = documents.compose(as_written(text, environ))
    assert root is not None
    documents.expand(root, environ)
    assert as_data(root, (), resolved=True)["models"] == {
        "m": {
            "quality": 0.5,
            "deployments": [{"provider": "p", "weight": 7, "region": "${KEY}"}],
        }
    }
    assert "hush" not in json.dumps(as_data(root, (), resolved=True))
    assert as_data(root, ())["models"]["m"]["deployments"][0]["weight"] == "${WEIGHT}"


def test_a_change_reads_as_a_line() -> None:
    """For people."""
    assert str(Difference("a.b", None, 2)) == "a.b: nothing -> 2"


@given(st.data())
def test_any_two_documents_can_be_compared(data: st.DataObject) -> None:
    """There is a difference if they mean different things, both ways, and it shows no secret."""
    environ = secret_environ()
    one, two = (
        load_text(as_yaml(data.draw(configurations())), source="t", environ=environ)
        for _ in range(2)
    )
    found = diff(one.document, two.document)
    assert "hush" not in json.dumps([each.as_dict() for each in found])
    assert bool(found) == bool(diff(two.document, one.document))
    if one.config != two.config:
        assert found
    assert diff(one.document, one.document) == []
