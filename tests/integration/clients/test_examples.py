"""The examples of docs/clients.md, as they stand there but for the gateway's address: each is run, and says hello."""

import re
from pathlib import Path

import pytest

from store.places import CHECKOUT
from tests.integration.clients.site import NODE, Site, node, python

PAGE = (CHECKOUT / "docs/clients.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^## (?P<head>.+?)$|^```(?P<kind>python|js|sh)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


def examples() -> dict[str, tuple[str, str]]:
    """Give the programs of the page, by where they stand; coding agents are run by `.ci/agents`."""
    found: dict[str, tuple[str, str]] = {}
    head = ""
    for block in BLOCK.finditer(PAGE):
        if block["head"]:
            head = block["head"]
        elif head != "Claude Code":
            found[f"{head}, {block['kind']}"] = (block["kind"], block["text"])
    return found


EXAMPLES = examples()


def test_every_client_has_an_example() -> None:
    """In each of the languages that it is for."""
    assert len(EXAMPLES) == 9
    assert {kind for kind, _ in EXAMPLES.values()} == {"python", "js", "sh"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(site: Site, tmp_path: Path, name: str) -> None:
    """It ends well, and what it prints is what the model said."""
    kind, text = EXAMPLES[name]
    suffix, program, folder = {
        "python": (".py", python(), tmp_path),
        # Beside the packages: Node looks for them from where the file is.
        "js": (".mjs", node(), NODE / "node_modules"),
        "sh": (".sh", "sh", tmp_path),
    }[kind]
    file = folder / f"example{suffix}"
    file.write_text(text.replace("http://localhost:8080", site.url), encoding="utf-8")
    try:
        printed = site.printed_by(program, str(file), cwd=tmp_path)
    finally:
        file.unlink()
    assert "Hello from" in printed
