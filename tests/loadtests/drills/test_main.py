"""Every drill is a name away."""

import importlib.util

import pytest

from loadtests.drills.__main__ import DRILLS, main


@pytest.mark.parametrize("name", DRILLS)
def test_a_name_is_a_command(name):
    """The module is there."""
    assert importlib.util.find_spec(DRILLS[name][0]) is not None


def test_a_drill_is_run_with_its_options(capfd):
    """And its exit code is ours."""
    assert main(["cost", "--help"]) == 0
    assert "tests.drills.cost" in capfd.readouterr().out
    assert main(["staleness", "--no-such-option"]) == 2


def test_without_a_name_they_are_listed(capsys):
    """Misuse, with all that there are."""
    assert main([]) == main(["nothing"]) == 2
    said = capsys.readouterr().err
    assert all(name in said for name in DRILLS)
