"""Laws of the option language in model names."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.mock import OPTIONS, BadOption, Behaviour, read_behaviour

README = Path(__file__).parents[3] / "loadtests" / "README.md"


def test_a_bare_name_is_the_default_behaviour():
    """A model name without options behaves, and keeps its name."""
    assert read_behaviour("gpt-5-mini") == Behaviour(name="gpt-5-mini")
    assert not read_behaviour("gpt-5-mini").fails


def test_options_are_read_in_any_order():
    """The order of options does not matter."""
    one = read_behaviour("sim;ttft_ms=50;tokens=7;usage=off;crlf=1")
    other = read_behaviour("sim;crlf=1;usage=off;tokens=7;ttft_ms=50")
    assert one == other == Behaviour(ttft_ms=50, tokens=7, usage="off", crlf=True)


@pytest.mark.parametrize(
    "model",
    [
        "sim;",
        "sim;tokens",
        "sim;tokens=",
        "sim;tokens=-1",
        "sim;tokens=1e3",
        "sim;tokens=99999999999",
        "sim;usage=maybe",
        "sim;crlf=yes",
        "sim;ttft=5",
        "sim;name=other",
        "sim;status=200",
    ],
)
def test_a_mistake_is_told(model):
    """An option that does not exist, or a value without sense, raises with words."""
    with pytest.raises(BadOption, match=r"mock has no option|expected|no error status"):
        read_behaviour(model)


@given(st.text(max_size=40))
def test_any_name_is_read_or_refused(model):
    """No model name whatever brings anything but a behaviour or `BadOption`."""
    try:
        assert read_behaviour(model).name == model.split(";")[0]
    except BadOption:
        assert ";" in model


@pytest.mark.parametrize(
    "option",
    ["status=500", "hang=mid", "cut=9", "reset=1", "garbage=head", "error=first"],
)
def test_healing_takes_the_failure_and_nothing_else(option):
    """After its failures, a behaviour is what it would have been without them."""
    failing = read_behaviour(f"sim;tokens=5;ttft_ms=3;times=2;{option}")
    assert failing.fails
    assert failing.healed() == read_behaviour("sim;tokens=5;ttft_ms=3")


def test_every_option_is_in_the_readme():
    """The option table of the README has a row with the help of every option."""
    rows = README.read_text()
    for option in OPTIONS:
        assert f"| `{option.name}` |" in rows, option.name
        assert option.metadata["help"] in rows, option.name


def test_every_option_has_help():
    """Each field but the name says what it does."""
    assert len(OPTIONS) == len(dataclasses.fields(Behaviour)) - 1
    assert all(option.metadata["help"] for option in OPTIONS)
