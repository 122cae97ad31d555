"""Laws of finding the gateway: flags, environment, configuration, in this order; and words when there is none."""

import argparse
import asyncio
from pathlib import Path
from typing import Any

import pytest

from console.gateway import Gateway, Misuse, No, Unreachable, add_options, gateway
from tests.console.command_rig import typed

Api = Any  # the fixture of this folder's conftest
pytestmark = pytest.mark.usefixtures("nowhere")


def found(here: Path, *argv: str, **environ: str) -> tuple[str, str | None]:
    """Give the URL and the token that a command line means."""
    parser = argparse.ArgumentParser()
    add_options(parser)
    made = gateway(parser.parse_args(argv), environ, here, by="ann")
    return made.url, made._token


def test_the_order_of_places(tmp_path: Path) -> None:
    """What is nearer to the operator's hands wins; each of URL and token by itself."""
    assert found(tmp_path) == ("http://127.0.0.1:8081", None)
    config = tmp_path / "penstock.yaml"
    config.write_text("admin: {listen: 0.0.0.0:9, token: ${TOKEN}}\nmodels: {broken: [}")
    with pytest.raises(Misuse, match="line 2"):
        found(tmp_path)
    config.write_text("admin: {listen: 0.0.0.0:9, token: ${TOKEN}}\nproviders: {x: ${UNSET}}")
    assert found(tmp_path) == ("http://127.0.0.1:9", None)
    assert found(tmp_path, TOKEN="t") == ("http://127.0.0.1:9", "t")
    assert found(tmp_path, TOKEN="t", PENSTOCK_ADMIN_TOKEN="u") == ("http://127.0.0.1:9", "u")
    environ = {"PENSTOCK_ADMIN_URL": "https://gate.example/x/", "TOKEN": "t"}
    assert found(tmp_path, **environ) == ("https://gate.example/x", "t")
    url = ("--admin-url", "http://[::1]:7")
    assert found(tmp_path, *url, **environ) == ("http://[::1]:7", "t")
    (tmp_path / "token").write_text("from-file\n")
    by_file = ("--token-file", str(tmp_path / "token"))
    assert found(tmp_path, *url, *by_file, **environ)[1] == "from-file"
    other = tmp_path / "other.yaml"
    other.write_text('admin: {listen: "[::]:5"}')
    assert found(tmp_path, "--config", str(other)) == ("http://[::1]:5", None)


@pytest.mark.parametrize(
    "argv",
    [
        ("--admin-url", "gate:8081"),
        ("--admin-url", "ftp://gate"),
        ("--admin-url", "http://gate:x"),
        ("--token-file", "/nowhere/token"),
        ("--config", "/nowhere/penstock.yaml"),
    ],
)
def test_what_cannot_be_used_is_said(argv: tuple[str, ...], tmp_path: Path) -> None:
    """Before anything is sent."""
    with pytest.raises(Misuse):
        found(tmp_path, *argv)


def test_a_token_that_no_header_carries_is_not_sent(tmp_path: Path) -> None:
    """And not shown."""
    with pytest.raises(Misuse) as refused:
        found(tmp_path, PENSTOCK_ADMIN_TOKEN="hush\nhush")
    assert "hush" not in str(refused.value)


async def test_answers_and_refusals(api: Api) -> None:
    """A refusal carries what the API said."""
    made = Gateway(str(api.client.make_url("/")), "a-token-of-32-letters-and-digits", "Änn")
    assert (await asyncio.to_thread(made.ask, "GET", "/v1/config"))["version"] == 1
    body = {"why": "w", "limits": {"rpm": 5}}
    said = await asyncio.to_thread(made.ask, "PUT", "/v1/quotas/org:acme", body)
    assert said["by"] == "Änn"
    with pytest.raises(No) as no:
        await asyncio.to_thread(made.ask, "GET", "/v1/keys/a/b/c")
    assert (no.value.status, no.value.error["code"]) == (404, "not_found")


async def test_what_is_no_gateway_is_said() -> None:
    """Nobody there, somebody else there, somebody who hangs up."""

    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
        writer.close()

    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    for habit, words in ((other, "no Penstock gateway"), (rude, "no gateway answers")):
        server = await asyncio.start_server(habit, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        made = Gateway(f"http://127.0.0.1:{port}", None, "ann")
        with pytest.raises(Unreachable, match=words):
            await asyncio.to_thread(made.ask, "GET", "/v1/config")
        server.close()
        await server.wait_closed()
    with pytest.raises(Unreachable, match=r"\./penstock up"):
        await asyncio.to_thread(made.ask, "GET", "/v1/config")


@pytest.mark.parametrize(
    "words",
    [
        "config diff FILE",
        "config apply FILE",
        "config export",
        "config history",
        "config rollback 1",
        "config status",
        "key create a/b/c",
        "key list",
        "key show a/b/c",
        "key rotate a/b/c",
        "key revoke a/b/c",
        "quota show",
        "quota set org:a rpm=1",
        "providers",
        "deployment list",
        "deployment drain x",
        "deployment undrain x",
        "deployment weight x 2",
    ],
)
async def test_every_command_says_when_no_gateway_runs(
    words: str, free_url: str, config_file: Path
) -> None:
    """Exit code 3, where it was looked for and what to do; no traceback."""
    ended = await typed([*words.replace("FILE", str(config_file)).split(), "--admin-url", free_url])
    assert (ended.code, ended.out) == (3, "")
    assert f"no gateway answers at {free_url}" in ended.err
    assert "./penstock up" in ended.err


@pytest.fixture
async def free_url() -> str:
    """Give the URL of a port where nobody listens."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return f"http://127.0.0.1:{port}"
