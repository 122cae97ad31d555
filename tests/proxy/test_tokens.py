"""
Access tokens: fetched before they are needed, renewed before they end, and missed without harm.

Google is played by a small server; its metadata server by the same.
"""

import asyncio
import base64
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from config.providers import TokenSource
from proxy.tokens import Token, TokenFailed, Tokens, assertion_of, encoded, signed
from tests.proxy.edge_rig import eventually
from tests.proxy.partners import Asked, Line, at, chat, whole
from tests.proxy.test_protocols import GEMINI_ANSWER, Edge

PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = PRIVATE.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
).decode()


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Google:
    """Sells tokens by assertion, and gives the machine's away."""

    def __init__(self) -> None:
        self.sold = 0
        self.forms: list[Any] = []
        self.headers: list[Any] = []
        self.refuses = False

    async def answer(self, request: web.Request) -> web.Response:
        self.forms.append(dict(await request.post()))
        self.headers.append(dict(request.headers))
        if self.refuses:
            return web.json_response({"error": "invalid_grant"}, status=400)
        self.sold += 1
        return web.json_response({"access_token": f"ya29.t{self.sold}", "expires_in": 3600})


@pytest.fixture
async def google() -> AsyncIterator[tuple[Google, TestServer]]:
    """Give a Google and where it is."""
    played = Google()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", played.answer)
    async with TestServer(app) as server:
        yield played, server


@contextlib.asynccontextmanager
async def running(tokens: Tokens) -> AsyncIterator[None]:
    """Let the owner of the tokens do its work."""
    task = asyncio.get_running_loop().create_task(tokens.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def key_file(folder: Path, server: TestServer, **said: Any) -> str:
    """Write a service account's key as Google gives it."""
    path = folder / "key.json"
    key = {
        "type": "service_account",
        "client_email": "penstock@ours.iam.gserviceaccount.com",
        "private_key": PEM,
        "private_key_id": "k1",
        "token_uri": str(server.make_url("/token")),
    }
    path.write_text(json.dumps(key | said))
    return str(path)


def decoded(text: str) -> Any:
    """Read a part of a JWT."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


# RFC 7515, appendix A.2: the primes of its key, what is signed, and the signature.
PRIMES = (
    (
        "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_"
        "Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc"
    ),
    (
        "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeL"
        "QeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc"
    ),
)
SIGNED = (
    "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlL"
    "mNvbS9pc19yb290Ijp0cnVlfQ"
)
SIGNATURE = (
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2F"
    "p5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQB"
    "MHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeY"
    "I2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
)
# Of Google's page on service accounts ("Using OAuth 2.0 for Server to Server Applications").
CLAIMS = {
    "iss": "761326798069-r5mljlln1rd4lrbhg75efgigp36m78j5@developer.gserviceaccount.com",
    "scope": "https://www.googleapis.com/auth/prediction",
    "aud": "https://oauth2.googleapis.com/token",
    "exp": 1328554385,
    "iat": 1328550785,
}
ENCODED_CLAIMS = (
    "eyJpc3MiOiI3NjEzMjY3OTgwNjktcjVtbGpsbG4xcmQ0bHJiaGc3NWVmZ2lncDM2bTc4ajVAZGV2ZWxvcGVyLmdzZX"
    "J2aWNlYWNjb3VudC5jb20iLCJzY29wZSI6Imh0dHBzOi8vd3d3Lmdvb2dsZWFwaXMuY29tL2F1dGgvcHJlZGljdGlv"
    "biIsImF1ZCI6Imh0dHBzOi8vb2F1dGgyLmdvb2dsZWFwaXMuY29tL3Rva2VuIiwiZXhwIjoxMzI4NTU0Mzg1LCJpYX"
    "QiOjEzMjg1NTA3ODV9"
)


def test_the_published_example_of_a_signature() -> None:
    """By the key of RFC 7515, byte for byte."""
    p, q = (int.from_bytes(decoded(prime)) for prime in PRIMES)
    e = 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    pem = (
        rsa.RSAPrivateNumbers(
            *(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p)),
            public_numbers=rsa.RSAPublicNumbers(e, p * q),
        )
        .private_key()
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    assert signed(pem.decode(), SIGNED.encode()) == decoded(SIGNATURE)


def test_googles_example_of_an_assertion() -> None:
    """Head and claims are written as Google writes them."""
    assert encoded({"alg": "RS256", "typ": "JWT"}) == "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9"
    assert encoded(CLAIMS) == ENCODED_CLAIMS


async def test_an_assertion_is_signed_and_buys_a_token(
    tmp_path: Path, google: tuple[Google, TestServer]
) -> None:
    """RS256 over who it is, for whom and how long; as RFC 7523 has it."""
    played, server = google
    clock = Clock()
    tokens = Tokens({}, clock=clock)
    token = tokens.of(TokenSource(service_account=key_file(tmp_path, server)))
    async with running(tokens):
        await tokens.had()
        assert token.value == b"ya29.t1"
    form = played.forms[0]
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    head, claims, signature = form["assertion"].split(".")
    assert json.loads(decoded(head)) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    said = json.loads(decoded(claims))
    assert said["iss"] == "penstock@ours.iam.gserviceaccount.com"
    assert said["aud"] == str(server.make_url("/token"))
    assert (said["iat"], said["exp"]) == (1_700_000_000, 1_700_003_600)
    PRIVATE.public_key().verify(
        decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
    )


async def test_a_token_is_renewed_before_it_ends(google: tuple[Google, TestServer]) -> None:
    """When a fifth of its life is left; until then it is the same."""
    played, server = google
    clock = Clock()
    tokens = Tokens({"GCE_METADATA_HOST": f"{server.host}:{server.port}"}, clock=clock)
    token = tokens.of(TokenSource(metadata=True))
    async with running(tokens):
        await tokens.had()
        assert (token.value, token.due_s - clock.now) == (b"ya29.t1", 2880)
        assert played.headers[0]["Metadata-Flavor"] == "Google"
        clock.now += 2881
        tokens.of(TokenSource(file="/nowhere"))
        await tokens.had()
        assert token.value == b"ya29.t2"


async def test_a_token_that_cannot_be_renewed_is_used_to_its_end(
    google: tuple[Google, TestServer], caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again and again, and told once; when it has ended there is none."""
    played, server = google
    clock = Clock()
    tokens = Tokens({"GCE_METADATA_HOST": f"{server.host}:{server.port}"}, clock=clock)
    source = TokenSource(metadata=True)
    token = tokens.of(source)
    caplog.set_level(logging.INFO, "penstock.tokens")

    async def again(seconds: float) -> None:
        clock.now += seconds
        tried = len(played.forms)
        tokens.keep([source])
        tokens.of(TokenSource(file=f"/nowhere/{tried}"))
        await tokens.had()
        assert len(played.forms) > tried

    async with running(tokens):
        await tokens.had()
        played.refuses = True
        await again(2881)
        await again(60)
        assert token.value == b"ya29.t1"
        await again(700)
        assert token.value == b""
        played.refuses = False
        await again(60)
        assert token.value == b"ya29.t2"
    told = [one.message for one in caplog.records if "the machine's account" in one.message]
    assert len(told) == 2
    assert "could be had again" in told[1]
    assert "400 (invalid_grant)" in told[0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no token"),
        ("two words", "space"),
        ("a\nb", "no token"),
        ("ü", "no token"),
        (None, "cannot be read"),
    ],
)
async def test_a_file_may_hold_what_is_no_token(
    tmp_path: Path, text: str | None, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, without what it holds; nobody is asked with it."""
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text)
    tokens = Tokens({}, clock=Clock())
    token = tokens.of(TokenSource(file=str(path)))
    async with running(tokens):
        await tokens.had()
        assert token.value == b""
        assert why in caplog.text
        assert text is None or len(text) < 2 or text not in caplog.text


async def test_a_file_is_read_again(tmp_path: Path) -> None:
    """Who keeps it puts another token into it."""
    path = tmp_path / "token"
    path.write_text("one\n")
    clock = Clock()
    tokens = Tokens({}, clock=clock)
    token = tokens.of(TokenSource(file=str(path)))
    async with running(tokens):
        await tokens.had()
        assert token.value == b"one"
        path.write_text("other\n")
        clock.now += 60
        tokens.of(TokenSource(file="/nowhere"))
        await tokens.had()
        assert token.value == b"other"


@pytest.mark.parametrize("text", ["[1]", "{}", "", '{"client_email": "a", "token_uri": "b"}', None])
def test_a_key_that_is_none_is_said_to_be_none(tmp_path: Path, text: str | None) -> None:
    """Without a word of what it holds."""
    path = tmp_path / "key.json"
    broken = {"client_email": "a", "token_uri": "b", "private_key": "-----BEGIN PRIVATE"}
    path.write_text(json.dumps(broken) if text is None else text)
    with pytest.raises(TokenFailed) as caught:
        assertion_of(str(path), 1)
    assert "BEGIN" not in str(caught.value)


async def test_a_fault_of_ours_ends_no_other_token(
    google: tuple[Google, TestServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged with its trace; the owner goes on, and the others are had."""
    _, server = google
    tokens = Tokens({"GCE_METADATA_HOST": f"{server.host}:{server.port}"}, clock=Clock())
    token, other = tokens.of(TokenSource(metadata=True)), tokens.of(TokenSource(file="/x"))

    def breaks(path: str) -> str:
        raise RuntimeError("ours")

    monkeypatch.setattr("proxy.tokens._read", breaks)
    async with running(tokens):
        await tokens.had()
        assert token.value == b"ya29.t1"
        assert (other.value, other.failures) == (b"", 1)


def test_tokens_of_one_source_are_one() -> None:
    """And those that no configuration names are forgotten."""
    tokens = Tokens({}, clock=Clock())
    one, two = TokenSource(metadata=True), TokenSource(file="/x")
    first = tokens.of(one)
    assert tokens.of(TokenSource(metadata=True)) is first
    other = tokens.of(two)
    tokens.keep([two])
    assert tokens.of(two) is other
    assert tokens.of(one) is not first
    assert isinstance(first, Token)


# At the edge...


async def test_vertex_is_shown_a_token_that_was_bought_before(
    edge: Edge, tmp_path: Path, google: tuple[Google, TestServer]
) -> None:
    """Gemini and Anthropic at their paths; the model and the version where Vertex wants them."""
    played, server = google
    asked: list[Asked] = []

    async def vertex(line: Line) -> None:
        while True:
            asked.append(await line.gets())
            message = {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "text", "text": "hi"}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 7, "output_tokens": 3},
            }
            of_google = "google" in asked[-1].line
            await line.says(whole(GEMINI_ANSWER if of_google else json.dumps(message).encode()))

    key = {"service_account": key_file(tmp_path, server)}
    common = {"dialect": "vertex", "token": key, "api_key": None}
    rig = await edge(
        models={"g": [at("v", "gemini-x")], "c": [at("w", "claude-x@1")]},
        scripted=["v", "w"],
        vendors={"v": {"protocol": "gemini"} | common, "w": {"protocol": "anthropic"} | common},
    )
    rig.vendors["v"].habit = rig.vendors["w"].habit = vertex
    assert (await rig.ask(chat("g"))).status == 200
    assert (await rig.ask(chat("c"))).status == 200
    body = b'{ "model":"c", "max_tokens":9,"messages":[{"role":"user","content":"\\u00e9"}] }'
    assert (await rig.ask(body, path="/v1/messages")).status == 200
    assert played.sold == 1
    paths = [one.line.split()[1] for one in asked]
    assert paths == [
        "/publishers/google/models/gemini-x:generateContent",
        "/v1/publishers/anthropic/models/claude-x@1:rawPredict",
        "/v1/publishers/anthropic/models/claude-x@1:rawPredict",
    ]
    assert {one.header("authorization") for one in asked} == {"Bearer ya29.t1"}
    assert "model" not in asked[1].json
    assert asked[1].json["anthropic_version"] == "vertex-2023-10-16"
    version = b'"anthropic_version":"vertex-2023-10-16"'
    assert asked[2].body == body.replace(b'"model":"c"', version)


async def test_without_a_token_a_call_goes_elsewhere(edge: Edge) -> None:
    """Nothing is sent, nothing is charged, and it is not the caller's fault."""
    rig = await edge(
        models={"m": [at("v", "x")], "n": ["sim;tokens=3;prompt=7"]},
        routes={"auto": ["m", "n"]},
        scripted=["v"],
        vendors={"v": {"protocol": "gemini", "api_key": None, "token": {"file": "/nowhere"}}},
    )
    assert (await rig.ask(chat("auto"))).status == 200
    assert await rig.outcomes() == ["connect_failed", "ok"]
    assert rig.vendors["v"].accepted == 0
    await eventually(lambda: not rig.edge.exchanges)
