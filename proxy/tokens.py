"""
Access tokens that do not last: had before they are needed, and renewed before they end, off every request's path.

One owner (`Tokens.run`) fetches them; heads read `Token.value` when they are written (`credentials.TokenHead`).
A token that cannot be renewed is used to its end; without one the provider cannot be asked, and calls go elsewhere.

    service_account   a key of Google's, with which an assertion is signed that buys a token (RFC 7523)
    metadata          the account of the machine, from Google's metadata server
    file              whoever else writes one; it is read again every minute
    role              what this machine is at Amazon, whose access key signs in place of a token (`roles`)

The assertion's signature (RS256) is made by the `openssl` program, which is given the key through a pipe: see
docs/decisions/0051.
"""

import asyncio
import base64
import json
import logging
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import aiohttp

from config.providers import AwsCredentials, TokenSource
from proxy.documents import read_document
from proxy.roles import NoRole, role_of
from proxy.wire.translate.sigv4 import Credentials

__all__ = ["Source", "Token", "TokenFailed", "Tokens"]

Source = TokenSource | AwsCredentials

log = logging.getLogger("penstock.tokens")

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
ASSERTION_S: Final = 3600
FETCH_S: Final = 10.0
# How long a new configuration waits for the tokens that it needs.
PATIENCE_S: Final = 5.0
FILE_S: Final = 60.0
# A token is renewed when a fifth of its life is left, and after a failure in one second to one minute.
LEFT: Final = 0.2
LONGEST_WAIT_S: Final = 60.0
LONGEST_TOKEN: Final = 16_384
METADATA: Final = "metadata.google.internal"


class TokenFailed(Exception):
    """A token could not be had; the message says why, and holds no secret."""


class Token:
    """A token as it is now; `value` is empty while there is none. Of a role it is an access key, in `key`."""

    __slots__ = ("due_s", "expires_s", "failures", "key", "source", "told", "value")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.value = b""
        self.key: Credentials | None = None
        # When to fetch it next, and when the one that is there ends, in Unix seconds; 0: at once.
        self.due_s = 0.0
        self.expires_s = 0.0
        self.failures = 0
        self.told = ""


class Tokens:
    """All tokens of a worker, by what they come from, and their one owner."""

    def __init__(self, environ: Mapping[str, str], *, clock: Callable[[], float]) -> None:
        self._environ = environ
        self._metadata = environ.get("GCE_METADATA_HOST", METADATA)
        self._clock = clock
        self._tokens: dict[Source, Token] = {}
        self._changed = asyncio.Event()
        self._tried = asyncio.Event()

    def of(self, source: Source) -> Token:
        """Return the token of this source, which may still be empty; safe in any thread."""
        return self._tokens.setdefault(source, Token(source))

    def keep(self, sources: Iterable[Source]) -> None:
        """Forget the tokens of all other sources."""
        wanted = set(sources)
        for source in [source for source in self._tokens if source not in wanted]:
            del self._tokens[source]

    def _all(self) -> list[Token]:
        # At once: another thread may add one meanwhile.
        return list(self._tokens.values())

    async def had(self) -> None:
        """Wait until each token that is wanted was fetched, or at least tried; not for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while any(not token.due_s for token in self._all()):
                    self._tried.clear()
                    self._changed.set()
                    await self._tried.wait()

    async def run(self) -> None:
        """Fetch tokens when they are due, until it is cancelled."""
        timeout = aiohttp.ClientTimeout(total=FETCH_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                self._changed.clear()
                now = self._clock()
                due = [token for token in self._all() if token.due_s <= now]
                await asyncio.gather(*(self._renew(token, session) for token in due))
                self._tried.set()
                next_s = min((token.due_s for token in self._all()), default=now + 3600)
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(next_s - self._clock(), 0.05)):
                        await self._changed.wait()

    async def _renew(self, token: Token, session: aiohttp.ClientSession) -> None:
        try:
            value, lasts_s = await self._fetch(token.source, session)
        except (TokenFailed, NoRole) as failed:
            self._failed(token, str(failed))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._failed(token, f"{type(error).__name__} while it was fetched")
        except Exception:
            # A fault of ours must not keep the other tokens from being renewed.
            log.exception("a token of %s could not be had", _named(token.source))
            self._failed(token, "the edge failed over it")
        else:
            if token.told:
                log.info("a token of %s could be had again", _named(token.source))
            token.told, token.failures = "", 0
            if isinstance(value, str):
                token.value = value.encode("ascii")
            else:
                token.key = value
            now = self._clock()
            token.expires_s = now + lasts_s
            token.due_s = now + max(lasts_s * (1 - LEFT), 1.0)

    def _failed(self, token: Token, why: str) -> None:
        now = self._clock()
        if now >= token.expires_s:
            token.value, token.key = b"", None
        token.due_s = now + min(2.0**token.failures, LONGEST_WAIT_S)
        token.failures = min(token.failures + 1, 10)
        if why != token.told:
            token.told = why
            log.warning("a token of %s could not be had: %s", _named(token.source), why)

    async def _fetch(
        self, source: Source, session: aiohttp.ClientSession
    ) -> tuple[str | Credentials, float]:
        if isinstance(source, AwsCredentials):
            return await role_of(session, self._environ, self._clock)
        if source.file is not None:
            return _token_in(await asyncio.to_thread(_read, source.file)), FILE_S
        if source.service_account is not None:
            url, assertion = await asyncio.to_thread(
                assertion_of, source.service_account, int(self._clock())
            )
            form = {
                "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
                "assertion": assertion,
            }
            async with session.post(url, data=form, allow_redirects=False) as answer:
                return await _granted(answer)
        url = f"http://{self._metadata}/computeMetadata/v1/instance/service-accounts/default/token"
        google = {"Metadata-Flavor": "Google"}
        async with session.get(url, headers=google, allow_redirects=False) as answer:
            return await _granted(answer)


def _named(source: Source) -> str:
    if isinstance(source, AwsCredentials):
        return "the role at Amazon"
    return source.file or source.service_account or "the machine's account"


async def _granted(answer: aiohttp.ClientResponse) -> tuple[str, float]:
    """Read a token and how long it lasts, in seconds."""
    try:
        document: Any = json.loads(await read_document(answer, 2 * LONGEST_TOKEN))
    except ValueError:
        document = None
    if answer.status != 200 or not isinstance(document, dict):
        said = document.get("error") if isinstance(document, dict) else ""
        words = f" ({said[:100]})" if isinstance(said, str) and said.isprintable() and said else ""
        raise TokenFailed(f"{answer.url.host} answered {answer.status}{words}")
    lasts: Any = document.get("expires_in")
    if type(lasts) not in {int, float} or lasts <= 0:
        raise TokenFailed(f"{answer.url.host} did not say how long its token lasts")
    return _token_in(str(document.get("access_token") or "")), float(lasts)


def _token_in(text: str) -> str:
    token = text.strip()
    if not token or len(token) > LONGEST_TOKEN or not token.isascii() or not token.isprintable():
        raise TokenFailed("what was given is no token")
    if " " in token:
        raise TokenFailed("what was given is no token: it holds a space")
    return token


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise TokenFailed(f"{path} cannot be read: {why}") from None


def assertion_of(path: str, now_s: int) -> tuple[str, str]:
    """
    Return where a service account's key buys a token, and the signed assertion to buy it with; blocks.

    `path` is the JSON file that Google gives for the key. Raises `TokenFailed`.
    """
    try:
        key = json.loads(_read(path))
        account, url = str(key["client_email"]), str(key["token_uri"])
        private, key_id = str(key["private_key"]), str(key.get("private_key_id", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TokenFailed(f"{path} is no service account's key in JSON") from None
    claims = {
        "iss": account,
        "scope": SCOPE,
        "aud": url,
        "iat": now_s,
        "exp": now_s + ASSERTION_S,
    }
    head = {"alg": "RS256", "typ": "JWT", "kid": key_id}
    signing = f"{encoded(head)}.{encoded(claims)}"
    return url, f"{signing}.{_base64(signed(private, signing.encode()))}"


def encoded(document: Mapping[str, object]) -> str:
    """Write one part of a JSON web token (RFC 7515, 7.1)."""
    return _base64(json.dumps(document, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(private_key: str, data: bytes) -> bytes:
    """Sign with RSASSA-PKCS1-v1_5 and SHA-256 (RFC 8017, 8.2); `private_key` is PEM. Raises `TokenFailed`; blocks."""
    reading, writing = os.pipe()
    try:
        # A key fits into a pipe, and so is in no file and in no list of processes.
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(private_key.encode()[:LONGEST_TOKEN])
        made = subprocess.run(  # noqa: S603 - nothing of it comes from outside
            ["openssl", "dgst", "-sha256", "-sign", f"/dev/fd/{reading}"],  # noqa: S607 - as installed
            input=data,
            capture_output=True,
            pass_fds=(reading,),
            timeout=FETCH_S,
            check=False,
        )
    except FileNotFoundError:
        raise TokenFailed("there is no openssl on this machine to sign with") from None
    except subprocess.TimeoutExpired:
        raise TokenFailed("openssl took too long to sign") from None
    finally:
        os.close(reading)
    if made.returncode or not made.stdout:
        raise TokenFailed("its private key cannot be used to sign")
    return made.stdout
