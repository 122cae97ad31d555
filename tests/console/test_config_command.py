"""`penstock config`: what is wrong is printed with its line, and the exit code says whether it is."""

import json
from pathlib import Path

import pytest

from config.schema import schema_text
from console.config_command import run

SOUND = "edge: {workers: 2}\n"
BROKEN = "edge:\n  wrkers: 2\n  listen: here\n"
IN_CLEAR = "admin: {token: a-token-in-clear-hush}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to an empty directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_sound_file_can_be_applied(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, one line."""
    (here / "other.yaml").write_text(SOUND)
    assert run(["check", "other.yaml"]) == 0
    assert capsys.readouterr() == ("other.yaml can be applied\n", "")


def test_penstock_yaml_here_is_checked_by_default(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `up` would take it."""
    (here / "penstock.yaml").write_text(SOUND)
    assert run(["check"]) == 0
    assert capsys.readouterr().out == "penstock.yaml can be applied\n"


def test_every_mistake_is_printed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each on standard error; exit code 2."""
    (here / "penstock.yaml").write_text(BROKEN)
    assert run(["check"]) == 2
    out, err = capsys.readouterr()
    assert out == "penstock.yaml is not applied: 2 mistakes\n"
    assert err.splitlines() == [
        "penstock.yaml:2: edge.wrkers: unknown field; did you mean 'workers'?",
        (
            'penstock.yaml:3: edge.listen: found "here", expected HOST:PORT;'
            " end it with a port, as in 127.0.0.1:8080"
        ),
    ]


def test_a_warning_is_no_mistake(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is printed, and the file can be applied."""
    (here / "penstock.yaml").write_text(IN_CLEAR)
    assert run(["check"]) == 0
    out, err = capsys.readouterr()
    assert out == "penstock.yaml can be applied: 1 warning\n"
    assert err.startswith("penstock.yaml:1: admin.token: warning: a secret in clear;")
    assert "hush" not in err


def test_problems_can_be_read_by_programs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` gives the verdict and every field of every problem; the exit code is the same."""
    (here / "penstock.yaml").write_text(BROKEN)
    assert run(["check", "--json"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["valid"] is False
    assert [(each["path"], each["line"], each["nearest"]) for each in said["problems"]] == [
        ("edge.wrkers", 2, "workers"),
        ("edge.listen", 3, ""),
    ]
    (here / "penstock.yaml").write_text(SOUND)
    assert run(["check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"valid": True, "problems": []}


def test_variables_come_from_the_environment(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that is not set where the check runs is a mistake there."""
    (here / "penstock.yaml").write_text("admin: {token: ${PENSTOCK_TOKEN_OF_THIS_TEST}}\n")
    assert run(["check"]) == 2
    assert "the variable PENSTOCK_TOKEN_OF_THIS_TEST is not set" in capsys.readouterr().err
    monkeypatch.setenv("PENSTOCK_TOKEN_OF_THIS_TEST", "t" * 16)
    assert run(["check"]) == 0


def test_a_file_that_is_not_there_is_a_mistake(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words and exit code 2, no traceback."""
    assert run(["check", str(here / "none.yaml")]) == 2
    assert "none.yaml: cannot be read: No such file or directory" in capsys.readouterr().err


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """The same text as in docs."""
    assert run(["schema"]) == 0
    assert capsys.readouterr().out == schema_text()


@pytest.mark.parametrize("argv", [[], ["apply"], ["check", "--jsn"], ["schema", "x"]])
def test_misuse_is_told(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and a usage line."""
    with pytest.raises(SystemExit) as caught:
        run(argv)
    assert caught.value.code == 2
    assert "usage: penstock config" in capsys.readouterr().err
