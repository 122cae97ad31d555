"""
Coding agents without a head against the gateway: told to write a note, they call a tool, give its result back and say that it is done.

They are large and fetch native programs, so they run when they are asked for: `.ci/agents`.
"""

import json
import os
import re
from pathlib import Path

import pytest

from store.places import CHECKOUT
from tests.integration.clients.site import MODELS, Site, python

PROGRAMS = Path(__file__).parent / "node_modules/.bin"
PAGE = (CHECKOUT / "docs/clients.md").read_text(encoding="utf-8")
ASK = "Write the note."
NOTE = "by way of the gate\n"
DONE = "The note is written."


def example(site: Site, head: str, kind: str, model: str) -> str:
    """Give the example of docs/clients.md for this gateway and model."""
    found = re.search(rf"^## {head}$.*?^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    text = found[1].replace("http://localhost:8080", site.url)
    return re.sub(r'(MODEL=|^model = )"?\w+"?', rf'\1"{model}"', text, flags=re.MULTILINE)


def run(site: Site, folder: Path, *command: str) -> str:
    """Run an agent in a folder that is its home as well; gives what it printed."""
    path = f"{PROGRAMS}:{Path(python()).parent}:{os.environ['PATH']}"
    return site.printed_by(*command, cwd=folder, HOME=str(folder), PATH=path)


@pytest.mark.parametrize("model", MODELS)
def test_claude_code(site: Site, tmp_path: Path, model: str) -> None:
    """By Messages, whoever's the model is."""
    options = f"-p '{ASK}' --allowedTools Bash --output-format json"
    script = example(site, "Claude Code", "sh", model).rstrip("\n") + f" {options}\n"
    # What it would look up elsewhere is nobody's business here.
    script = f"export CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1\n{script}"
    told = run(site, tmp_path, "sh", "-euc", script)
    assert json.loads(told.splitlines()[-1])["result"] == DONE
    assert (tmp_path / "note.txt").read_text() == NOTE


@pytest.mark.parametrize("model", MODELS)
def test_codex(site: Site, tmp_path: Path, model: str) -> None:
    """By Responses, with its tools in namespaces, whoever's the model is."""
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex/config.toml").write_text(example(site, "Codex", "toml", model))
    told = run(
        site,
        tmp_path,
        *("codex", "exec", "--skip-git-repo-check", "--json"),
        *("--sandbox", "danger-full-access", ASK),
    )
    events = [json.loads(line) for line in told.splitlines() if line[:1] == "{"]
    said = [one["item"] for one in events if one["type"] == "item.completed"]
    assert said[-1]["text"] == DONE
    assert events[-1]["type"] == "turn.completed"
    assert (tmp_path / "note.txt").read_text() == NOTE
