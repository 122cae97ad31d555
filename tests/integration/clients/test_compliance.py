"""
llm-comply, which others have made, judges every caller's protocol before every vendor's: requests that must be taken, answers and streams by the vendors' published schemas.

The mock vendor answers (aimock for Bedrock) for a model that talks and for one that calls a tool, as each of its tests wants.
"""

import json
import subprocess

import pytest

from tests.integration.clients.site import JUDGED, Site, python
from tests.integration.processes import KEY

# How it names a caller's protocol, and how it is told where and who.
CALLERS = {
    "openai-chat": ("/v1", ()),
    "open-responses": ("/v1", ()),
    "anthropic": ("/v1", ("--auth-header", "x-api-key", "--no-bearer")),
    "google-genai": ("", ("--auth-header", "x-goog-api-key", "--no-bearer")),
}
TOOLS = {"chat-tool-calling", "tool-calling", "anth-tool-calling", "google-tool-calling"}
# These it asks of models by their names only.
BY_NAME = {"chat-reasoning-summary", "reasoning-summary", "anth-thinking-display"}


@pytest.mark.parametrize("model", JUDGED)
@pytest.mark.parametrize("caller", CALLERS)
def test_every_caller_before_every_vendor(site: Site, caller: str, model: str) -> None:
    """Nothing fails and nothing is left out, whoever answers."""
    path, options = CALLERS[caller]

    def judge(upstream: str) -> dict[str, dict[str, object]]:
        ended = subprocess.run(
            [
                *(python(), "-m", "llm_comply.cli", "--json", "--format", caller),
                *("--base-url", site.url + path, "--api-key", KEY, "--model", upstream),
                *options,
            ],
            env=site.environment() | {"NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return {one["id"]: one for one in json.loads(ended.stdout)["results"]}

    talking, calling = judge(f"{model}-talks"), judge(f"{model}-calls")
    judged = {id_: (calling if id_ in TOOLS else talking)[id_] for id_ in talking}
    assert len(judged) >= 9
    failed = {id_: one for id_, one in judged.items() if one["status"] == "failed"}
    assert failed == {}
    assert {id_ for id_, one in judged.items() if one["status"] == "skipped"} <= BY_NAME
