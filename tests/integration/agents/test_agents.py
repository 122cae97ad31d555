"""
Coding agents without a head against the gateway: told to write a note, they call a tool, give its result back and say that it is done.

They are large and fetch native programs, so they run when they are asked for: `.ci/agents`.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.clients.site import MODELS, Site, python
from tests.integration.processes import KEY

PROGRAMS = Path(__file__).parent / "node_modules/.bin"
ASK = "Write the note."
NOTE = "by way of the gate\n"
DONE = "The note is written."


def run(site: Site, folder: Path, *command: str, **environ: str) -> str:
    """Run an agent in a folder that is its home as well; gives what it printed."""
    path = f"{Path(python()).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        command,
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), "NO_PROXY": "127.0.0.1", **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.parametrize("model", MODELS)
def test_claude_code(site: Site, tmp_path: Path, model: str) -> None:
    """By Messages, whoever's the model is."""
    told = run(
        site,
        tmp_path,
        *(str(PROGRAMS / "claude"), "-p", ASK, "--allowedTools", "Bash", "--output-format", "json"),
        ANTHROPIC_BASE_URL=site.url,
        ANTHROPIC_AUTH_TOKEN=KEY,
        ANTHROPIC_MODEL=model,
        ANTHROPIC_SMALL_FAST_MODEL=model,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
    )
    assert json.loads(told.splitlines()[-1])["result"] == DONE
    assert (tmp_path / "note.txt").read_text() == NOTE


@pytest.mark.parametrize("model", MODELS)
def test_codex(site: Site, tmp_path: Path, model: str) -> None:
    """By Responses, with its tools in namespaces, whoever's the model is."""
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex/config.toml").write_text(
        f"""
        model_provider = "penstock"
        web_search = "disabled"

        [model_providers.penstock]
        name = "Penstock"
        base_url = "{site.url}/v1"
        env_key = "PENSTOCK_KEY"
        wire_api = "responses"
        """
    )
    told = run(
        site,
        tmp_path,
        *(str(PROGRAMS / "codex"), "exec", "--skip-git-repo-check", "--json"),
        *("--sandbox", "danger-full-access", "--model", model, ASK),
        PENSTOCK_KEY=KEY,
    )
    events = [json.loads(line) for line in told.splitlines() if line[:1] == "{"]
    said = [one["item"] for one in events if one["type"] == "item.completed"]
    assert said[-1]["text"] == DONE
    assert events[-1]["type"] == "turn.completed"
    assert (tmp_path / "note.txt").read_text() == NOTE
