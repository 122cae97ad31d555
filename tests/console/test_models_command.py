"""Laws of `penstock models`: a table of what there is, and other catalogues taken over."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.console.command_rig import typed

Api = Any  # the fixtures of this folder's conftest

THEIRS = {
    "data": [
        {
            "id": name,
            "context_length": 4096,
            "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
            "pricing": {"prompt": price, "completion": "0.000002"},
            "top_provider": {"is_moderated": True},
        }
        for name, price in (("acme/one", "0.000001"), ("acme/two", "0.000001"), ("x/bad", "free"))
    ]
}


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Write another catalogue, of which one record has a mistake."""
    path = tmp_path / "models.json"
    path.write_text(json.dumps(THEIRS), encoding="utf-8")
    return path


async def test_the_configured_models_are_listed(operator: Api) -> None:
    """One line each: who serves it, what it is for, what it costs."""
    ended = await typed("models")
    assert ended.code == 0, ended.err
    head, demo, other = ended.out.splitlines()
    assert head.split()[:3] == ["model", "provider", "tags"]
    assert demo.split() == ["demo", "alpha,beta", "-", "-", "1.00", "2.00", "-", "-"]
    assert other.split()[0] == "Qwen/other"
    assert (await typed("models --max-price 1 --json")).json["models"] == []
    assert (await typed("models --tag coding")).out == "No model is like that.\n"


async def test_what_cannot_be_looked_for_is_misuse(operator: Api) -> None:
    """Said by the gateway, or by the command itself; in both cases exit code 2."""
    ended = await typed("models --max-price cheap")
    assert ended.code == 2
    assert "USD per million tokens" in ended.err
    ended = await typed("models --all --min-quality 2")
    assert ended.code == 2
    assert "--min-quality: expected a quality from 0 to 1" in ended.err


async def test_all_that_is_listed_needs_no_gateway(nowhere: None) -> None:
    """The catalogue is in the checkout."""
    ended = await typed("models --all --tag coding --max-price 2 --task coding")
    assert ended.code == 0, ended.err
    head, *lines = ended.out.splitlines()
    assert head.split()[-2:] == ["coding", "by"]
    assert len(lines) > 10
    found = (await typed("models --all --vendor anthropic --json")).json["models"]
    assert len(found) > 10
    assert {each["vendor"] for each in found} == {"anthropic"}


async def test_a_snippet_is_printed_and_what_is_wrong_is_said(nowhere: None, theirs: Path) -> None:
    """The snippet alone on standard output; exit code 1, since a record was left out."""
    ended = await typed(["models", "import", str(theirs), "--provider", "router"])
    assert ended.code == 1
    assert ended.out.splitlines() == [
        "models:",
        *(
            f'  "acme/{name}": {{"tags": ["chat"], "context": 4096, "price": {{"input": 1, "output": 2}},'
            ' "deployments": [{"provider": "router"}]}'
            for name in ("one", "two")
        ),
    ]
    assert "2 models understood, 2 taken" in ended.err
    assert 'data[2].pricing.prompt: found "free", expected a price in USD' in ended.err


async def test_models_are_chosen_by_name(nowhere: None, theirs: Path) -> None:
    """By globs, and as JSON with everything of theirs that was not taken."""
    command = ["models", "import", str(theirs), "--json", "--only", "*/two"]
    ended = await typed(command)
    assert list(ended.json["models"]) == ["acme/two"]
    assert (ended.code, ended.json["shape"], ended.json["mistakes"]) == (0, "openrouter", [])
    ended = await typed([*command, "--only", "x/*"])
    assert list(ended.json["models"]) == ["acme/two"]
    assert [each["path"] for each in ended.json["mistakes"]] == ["data[2].pricing.prompt"]
    assert ended.code == 1
    assert (await typed(["models", "import", str(theirs), "--seller", "nobody"])).out == (
        "models: {}\n"
    )


async def test_what_is_no_catalogue_is_refused(nowhere: None, tmp_path: Path) -> None:
    """A file that is not there, and one that is something else."""
    ended = await typed(["models", "import", str(tmp_path / "none.json")])
    assert (ended.code, ended.out) == (2, "")
    assert "none.json: No such file or directory" in ended.err
    other = tmp_path / "other.json"
    other.write_text("[1]", encoding="utf-8")
    ended = await typed(["models", "import", str(other)])
    assert ended.code == 2
    assert "other.json: none of the shapes that are known" in ended.err


async def test_models_are_put_into_the_running_configuration(operator: Api, theirs: Path) -> None:
    """In one version, so that the history is not filled; those that are there already are left, and a second time changes nothing."""
    before = await operator.done("GET", "/v1/config")
    asked = ["models", "import", str(theirs), "--provider", "beta", "--apply", "--wait", "0"]
    ended = await typed(asked)
    assert "acme/one: added" in ended.out, ended.err
    live = await operator.done("GET", "/v1/models")
    assert live["sections"]["acme/two"]["price"] == {"input": 1, "output": 2}
    assert live["version"] == before["version"] + 1
    changed = await operator.done("GET", f"/v1/config/versions/{live['version']}")
    assert [each["path"] for each in changed["changes"]] == ["models.acme/one", "models.acme/two"]
    again = await typed(asked)
    assert "acme/one: there already, left as it is" in again.out
    stale = await typed([*asked, "--expected", str(before["version"])])
    assert stale.code == 2
    assert f"version {live['version']} is live, not {before['version']}" in stale.err
    assert (await operator.done("GET", "/v1/models"))["version"] == live["version"]


async def test_a_provider_that_is_none_changes_nothing(operator: Api, theirs: Path) -> None:
    """What the configuration refuses is said in its words; nor does a version that is live no longer."""
    before = await operator.everything()
    ended = await typed(["models", "import", str(theirs), "--apply", "--wait", "0"])
    assert ended.code == 2
    assert 'no provider named "openrouter"' in ended.err
    good = ["--provider", "beta", "--expected", "7"]
    ended = await typed(["models", "import", str(theirs), "--apply", "--wait", "0", *good])
    assert ended.code == 2
    assert "Nothing was changed." in ended.err
    assert await operator.everything() == before
