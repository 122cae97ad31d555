"""Laws of the options: a plan is made from them, or every mistake is told."""

import json

import pytest

from loadtests.engine import Plan
from loadtests.options import PARTS, SOURCES, OptionsWrong, parse_plan, read_bases, read_file

DEFAULTS = {part.name.replace("-", "_"): part.default for part in PARTS}


def test_the_defaults_make_a_plan():
    """With a host, nothing else is needed; the key and the models go to the base."""
    plan = parse_plan({**DEFAULTS, "key": "k", "model": "m"}, "http://h:1")
    (base,) = plan.bases
    assert (base.url, base.key, base.model) == ("http://h:1", "k", "m")
    assert plan.objectives == {"ttft": 1000, "itl": 100}
    assert (plan.each, plan.shape) == (1.0, None)
    assert isinstance(plan, Plan)


def test_bases_and_tenants_travel_as_json():
    """As the master hands them to workers that have no file."""
    bases = json.dumps([{"name": "a", "url": "http://a"}, {"name": "b", "url": "http://b/v1"}])
    tenants = json.dumps([{"name": "t", "level": "premium"}])
    plan = parse_plan({**DEFAULTS, "bases": bases, "tenants": tenants}, None)
    assert [base.name for base in plan.bases] == ["a", "b"]
    assert plan.tenants[0].level == "premium"


def test_every_mistake_is_told_at_once():
    """Each on a line, by its option."""
    wrong = {
        "slo": "fast:1",
        "arrivals": "sometimes",
        "timeout": 0,
        "most_open": -1,
        "load": "much",
        "each": -1.0,
        "drain": float("nan"),
        "ca": "/no/such",
        "tenants": "[]",
    }
    with pytest.raises(OptionsWrong) as told:
        parse_plan({**DEFAULTS, **wrong}, None)
    words = str(told.value)
    for part in (
        "--host",
        "--slo",
        "--arrivals",
        "--timeout",
        "--most-open",
        "--tenants",
        "--load",
        "--each",
        "--drain",
    ):
        assert part in words


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "a list of bases"),
        ([3], "no mapping"),
        ([{"name": "a"}], "url is missing"),
        ([{"name": "a", "url": "h"}], "no URL of a gateway"),
        ([{"name": "a", "url": "http://a", "speed": 1}], "unknown setting 'speed'"),
        ([{"name": "a", "url": 7}], "url is no text"),
        ([{"name": "a", "url": "http://a"}, {"name": "a", "url": "http://b"}], "two bases"),
    ],
)
def test_a_wrong_list_of_bases_is_told(document, words):
    """Which base, and what of it."""
    with pytest.raises(OptionsWrong, match=words):
        read_bases(document)


def test_a_load_becomes_the_shape_of_the_plan():
    """Shared by so many sources, over so many processes as the master has."""
    plan = parse_plan({**DEFAULTS, "load": "ramp:1-5", "duration": "2m", "workers": 3}, "http://h")
    assert plan.shape.points == ((0.0, 1.0), (120.0, 5.0))
    assert (plan.sources, plan.workers) == (SOURCES, 3)


def test_a_file_travels_as_json(tmp_path):
    """What is JSON already stays; what cannot be read is told by its option."""
    (tmp_path / "t.yaml").write_text("- {name: a}")
    assert read_file("tenants", str(tmp_path / "t.yaml")) == '[{"name":"a"}]'
    assert read_file("tenants", '[{"name":"a"}]') == '[{"name":"a"}]'
    assert read_file("tenants", "") == ""
    (tmp_path / "t.yaml").write_text("a: [")
    with pytest.raises(OptionsWrong, match="--tenants"):
        read_file("tenants", str(tmp_path / "t.yaml"))


def test_every_option_has_words():
    """`--help` leaves none unexplained; the key is a secret."""
    assert all(part.help for part in PARTS)
    assert [part.name for part in PARTS if part.secret] == ["key"]
