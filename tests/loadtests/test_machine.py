"""Laws of the description: what another person needs to judge a figure, and nothing that tells whose machine it is."""

import json
import os
import platform

from loadtests import machine


def test_a_machine_is_described_without_naming_anybody():
    """No host, person or path."""
    told = machine.described()
    assert set(told) == {"cpu", "cores", "kernel", "python", "commit", "changed_since"}
    assert told["cores"] == os.cpu_count()
    words = json.dumps(told)
    assert str(machine.ROOT) not in words
    assert platform.node() not in words


def test_packages_are_named_where_they_matter():
    """With their versions."""
    assert machine.described("msgspec", "PyYAML")["packages"].keys() == {"msgspec", "PyYAML"}


def test_without_git_the_rest_is_told(monkeypatch, tmp_path):
    """Files from an archive can be measured, too."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.described()["commit"] == ""
    assert machine.described()["changed_since"] is False
