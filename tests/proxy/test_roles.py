"""The access key of a role: asked for where the environment says, and read as Amazon gives it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from config.providers import AwsCredentials
from proxy.roles import NoRole, role_of
from proxy.tokens import Tokens
from proxy.wire.translate.sigv4 import Credentials
from tests.proxy.test_tokens import Clock, running

KEY = {
    "AccessKeyId": "ASIAEXAMPLE",
    "SecretAccessKey": "secret",
    "Token": "session",
    "Expiration": "2023-11-14T23:13:20Z",
}
FOUND = Credentials("ASIAEXAMPLE", "secret", "session")
XML = """<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>
<AccessKeyId>ASIAEXAMPLE</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>
<SessionToken>session</SessionToken><Expiration>2023-11-14T23:13:20Z</Expiration>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


class Amazon:
    """Gives keys away, and notes who asked how."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.said: dict[str, Any] = {}
        self.status = 200
        self.key: Any = KEY

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.path))
        self.said |= {name.lower(): value for name, value in request.headers.items()}
        self.said |= dict(await request.post())
        path = request.path
        if self.status != 200:
            return web.Response(status=self.status)
        if path == "/sts":
            return web.Response(text=XML)
        if path == "/latest/api/token":
            return web.Response(text="imds")
        if path.endswith("/security-credentials/"):
            return web.Response(text="penstock-role\n")
        return web.Response(text=json.dumps(self.key))


@pytest.fixture
async def amazon() -> AsyncIterator[tuple[Amazon, str]]:
    """Give an Amazon and where it is."""
    played = Amazon()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", played.answer)
    async with TestServer(app) as server:
        yield played, f"http://{server.host}:{server.port}"


async def had(environ: dict[str, str]) -> tuple[Credentials, float]:
    """Ask for the role at a fixed time."""
    async with aiohttp.ClientSession() as session:
        return await role_of(session, environ, lambda: 1_700_000_000.0)


async def test_a_machine_is_asked_with_a_token_of_its_own(amazon: tuple[Amazon, str]) -> None:
    """IMDSv2: a token, the role's name, its key."""
    played, url = amazon
    assert await had({"AWS_EC2_METADATA_SERVICE_ENDPOINT": url}) == (FOUND, 3600.0)
    roles = "/latest/meta-data/iam/security-credentials/"
    assert played.asked == [
        ("PUT", "/latest/api/token"),
        ("GET", roles),
        ("GET", f"{roles}penstock-role"),
    ]
    assert played.said["x-aws-ec2-metadata-token"] == "imds"


async def test_a_container_shows_what_it_was_given(
    amazon: tuple[Amazon, str], tmp_path: Path
) -> None:
    """As text, or in a file that is read each time."""
    played, url = amazon
    said = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/v1/credentials"}
    assert await had(said | {"AWS_CONTAINER_AUTHORIZATION_TOKEN": "shown"}) == (FOUND, 3600.0)
    assert played.said["authorization"] == "shown"
    path = tmp_path / "token"
    path.write_text("other\n")
    await had(said | {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(path)})
    assert played.said["authorization"] == "other"


async def test_a_web_identity_buys_the_key_of_its_role(
    amazon: tuple[Amazon, str], tmp_path: Path
) -> None:
    """At the security token service, which wants no signature for it."""
    played, url = amazon
    path = tmp_path / "identity"
    path.write_text("eyJ.x.y")
    said = {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(path),
        "AWS_ROLE_ARN": "arn:aws:iam::1:role/r",
        "AWS_ENDPOINT_URL_STS": f"{url}/sts",
    }
    assert await had(said) == (FOUND, 3600.0)
    assert played.said["Action"] == "AssumeRoleWithWebIdentity"
    assert (played.said["RoleArn"], played.said["WebIdentityToken"]) == (
        "arn:aws:iam::1:role/r",
        "eyJ.x.y",
    )


@pytest.mark.parametrize("key", [{}, [], {"AccessKeyId": "a"}, KEY | {"Expiration": "soon"}])
async def test_what_is_no_key_is_said_to_be_none(amazon: tuple[Amazon, str], key: Any) -> None:
    """Without a word of what it holds; nor is a refusal a key."""
    played, url = amazon
    played.key = key
    with pytest.raises(NoRole) as caught:
        await had({"AWS_EC2_METADATA_SERVICE_ENDPOINT": url})
    assert "secret" not in str(caught.value)
    played.status = 404
    with pytest.raises(NoRole, match="answered 404"):
        await had({"AWS_EC2_METADATA_SERVICE_ENDPOINT": url})


async def test_the_key_of_a_role_is_kept_as_tokens_are(amazon: tuple[Amazon, str]) -> None:
    """Had before it is needed, and renewed when a fifth of its life is left."""
    played, url = amazon
    clock = Clock()
    tokens = Tokens({"AWS_EC2_METADATA_SERVICE_ENDPOINT": url}, clock=clock)
    token = tokens.of(AwsCredentials(role=True))
    async with running(tokens):
        await tokens.had()
        assert (token.key, token.due_s - clock.now) == (FOUND, 2880.0)
    assert len(played.asked) == 3
