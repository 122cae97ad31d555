"""`penstock config`: what is wrong is printed with its line, and the exit code says whether it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from config import live
from config.schema import schema_text
from console.config_command import run
from tests.console.command_rig import typed

Api = Any  # the fixtures of this folder's conftest

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


# With a running gateway...


async def test_a_configuration_is_exported_edited_applied_and_taken_back(
    operator: Api, tmp_path: Path
) -> None:
    """The whole way of an operator; what is shown holds no secret, what runs does."""
    file = tmp_path / "mine.yaml"
    exported = await typed("config export")
    file.write_text(exported.out)
    assert "canary" not in exported.out
    same = await typed(f"config diff {file}")
    assert (same.code, same.out) == (0, "No change: version 1 says the same.\n")
    file.write_text("# a comment\n" + exported.out.replace("rpm: 6000", "rpm: 7000"))
    diff = await typed(f"config diff {file}")
    assert diff.out == "organizations.acme.limits.rpm: 6000 -> 7000\n"
    assert (await typed(f"config diff {file} --json")).json["changes"][0]["after"] == 7000
    applied = await typed(["config", "apply", str(file), "--why", "more for acme"])
    assert applied.code == 0, applied.err
    assert "Version 2 is live" in applied.out
    assert "clear-canary-of-beta" in await operator.document()
    again = await typed(f"config apply {file}")
    assert (again.code, "not 1" in again.err) == (2, True), "the file says what it was made from"
    again = await typed(f"config apply {file} --expected 2")
    assert (again.code, again.out[:17]) == (0, "Nothing to change")
    history = await typed("config history")
    assert "more for acme" in history.out.splitlines()[1]
    assert exported.out.startswith("# version: 1\n")
    assert "rpm: 6000" in (await typed("config export 1")).out
    back = await typed("config rollback 1 --json")
    assert (back.code, back.json["version"]) == (0, 3)
    assert [
        each["version"] for each in (await typed("config history --json")).json["versions"]
    ] == [
        3,
        2,
        1,
    ]
    assert (await typed("config export --json")).json["version"] == 3


async def test_mistakes_of_a_file_are_said_with_its_name_and_lines(
    operator: Api, tmp_path: Path
) -> None:
    """As `config check` says them; nothing is changed."""
    file = tmp_path / "mine.yaml"
    file.write_text("models: {}\n\nproviders: {x: {protocl: openai}}\n")
    before = await operator.everything()
    for verb in ("diff", "apply"):
        ended = await typed(f"config {verb} {file}")
        assert (ended.code, ended.out) == (2, "")
        assert (
            f"{file}:3: providers.x.protocl: unknown field; did you mean 'protocol'?" in ended.err
        )
    assert await operator.everything() == before


async def test_of_two_operators_the_slower_is_told(operator: Api, tmp_path: Path) -> None:
    """Exit code 1, with what the other changed."""
    file = tmp_path / "mine.yaml"
    file.write_text((await typed("config export")).out.replace("rpm: 60", "rpm: 61"))
    assert (await typed("quota set model:demo rpm=5")).code == 0
    ended = await typed(f"config apply {file}")
    assert (ended.code, ended.out) == (2, "")
    assert "models.demo.limits: nothing" in ended.err
    assert "Nothing was changed." in ended.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("config apply /nowhere/penstock.yaml", 2),
        ("config diff /", 2),
        ("config apply", 2),
        ("config rollback 9", 2),
        ("config rollback 0", 2),
        ("config rollback x", 2),
        ("config rollback 1 --expected 7", 2),
        ("config export 9", 2),
        ("config export -1", 2),
        ("config history 1", 2),
    ],
)
async def test_a_bad_request_changes_nothing(operator: Api, words: str, code: int) -> None:
    """Misuse, or a version that is not there."""
    before = await operator.everything()
    ended = await typed(words)
    assert (ended.code, ended.out) == (code, "")
    assert await operator.everything() == before


async def test_status_is_an_exit_code(operator: Api) -> None:
    """0 when every live replica runs the current version, else 1."""
    ended = await typed("config status")
    assert (ended.code, ended.out.startswith("Version 1, by test")) == (0, True)
    await operator.redis.zadd("{c0}:r", {"h/0.a": 2**52})
    await live.acknowledge(operator.redis, "h/0", 1, "no such file")
    ended = await typed("config status")
    assert ended.code == 1
    assert "no such file" in ended.out
    assert (await typed("config status --json")).json["everywhere"] is False


async def test_sections_are_shown_put_and_removed(operator: Api, tmp_path: Path) -> None:
    """Of every kind, by the same path as everything else; what the file does not say of is not there, but for what is inside."""
    sections = {
        (
            "provider",
            "gamma",
        ): "protocol: openai\nbase_url: http://127.0.0.1:9\napi_key: ${VENDOR_KEY}\n",
        (
            "model",
            "Qwen/new",
        ): "deployments: [{provider: alpha, weight: 2}]\nprice: {input: 0.5, output: 2}\n",
        ("route", "other"): '{"models": ["demo"]}',
        ("organization", "acme"): "limits: {rpm: 5_000}\n",
        ("team", "acme/new"): "limits: {concurrency: 4}\n",
        ("organization", "acme/emea"): "teams: {}\n",
        ("team", "acme/emea/new"): "limits: {concurrency: 4}\n",
    }
    for (kind, name), text in sections.items():
        file = tmp_path / "section.yaml"
        file.write_text(text)
        ended = await typed(["config", "put", kind, name, str(file), "--why", "w"])
        assert ended.code == 0, ended
        shown = await typed(["config", "show", kind, name])
        assert shown.code == 0
        if name == "acme/emea":
            continue
        if kind == "organization":
            assert "support" in shown.json["teams"]
            assert shown.json["limits"] == {"rpm": 5000}
        else:
            ended = await typed(["config", "remove", kind, name, "--why", "w"])
            assert ended.code == 0, ended
            assert (await typed(["config", "show", kind, name])).code == 2
    said = (await typed("config show provider")).json
    assert said["beta"]["api_key"] == "***"
    assert (await typed("config show model --json")).json["sections"]["demo"]
    assert (await typed("config show team")).code == 2


async def test_a_section_is_read_as_the_whole_file_would_be(operator: Api, tmp_path: Path) -> None:
    """What looks like a number is one where the field is; a text stays as it was written."""
    file = tmp_path / "model.yaml"
    file.write_text(
        "context: 10_000\n"
        "price: {input: .5, output: 1e0, per_image: 0.04}\n"
        "deployments:\n"
        "  - {provider: alpha, name: 4.10, region: 007, weight: +2, drained: True, id: Null}\n"
    )
    ended = await typed(["config", "put", "model", "new", str(file)])
    assert ended.code == 0, ended
    shown = (await typed("config show model new")).json
    assert shown["context"] == 10_000
    assert shown["price"] == {"input": 0.5, "output": 1, "per_image": 0.04}
    [deployment] = shown["deployments"]
    assert (deployment["name"], deployment["region"]) == ("4.10", "007")
    assert (deployment["weight"], deployment["drained"]) == (2, True)
    assert "id" not in deployment


async def test_a_section_that_was_shown_is_put_back_as_it_is(operator: Api, tmp_path: Path) -> None:
    """Masks keep what is live: nothing changes."""
    file = tmp_path / "beta.json"
    file.write_text((await typed("config show provider beta")).out)
    ended = await typed(["config", "put", "provider", "beta", str(file)])
    assert (ended.code, "Nothing to change" in ended.out) == (0, True), ended
