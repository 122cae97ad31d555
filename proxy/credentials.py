"""
How a provider is told who asks, where that is more than a fixed header: heads that are made for each request.

A head is anything with `write(body, passed)` (`wire.headers.RequestHead`); a `Way` has one.
"""

from collections.abc import Callable
from typing import Protocol

from proxy.tokens import Token
from proxy.upstream.errors import ConnectFailed
from proxy.wire.forms import Spliced
from proxy.wire.headers import RequestHead
from proxy.wire.translate.sigv4 import Credentials, signed_headers

__all__ = ["Head", "NoToken", "SignedHead", "TokenHead"]


class Head(Protocol):
    """The head of requests to one deployment."""

    def write(self, body: bytes | Spliced, passed: bytes = b"") -> bytes:
        """Give the head of a request with this body; `passed` is of `RequestHeaders`."""


class SignedHead:
    """
    A head that is signed as Amazon wants it, over the very body that it announces.

    The signature holds for five minutes around the time of the clock, which gives Unix time in seconds.
    `credentials` may be those of the moment; without any, `NoToken` is raised.
    """

    __slots__ = ("_clock", "_credentials", "_head", "_host", "_path", "_region")

    def __init__(
        self,
        head: RequestHead,
        *,
        credentials: Credentials | Token,
        host: str,
        path: str,
        region: str,
        clock: Callable[[], float],
    ) -> None:
        self._head = head
        self._credentials = credentials
        self._host = host
        self._path = path
        self._region = region
        self._clock = clock

    def write(self, body: bytes | Spliced, passed: bytes = b"") -> bytes:
        """Give the signed head of a request with this body; `passed` is of `RequestHeaders`, and is not signed."""
        key = self._credentials
        if isinstance(key, Token):
            if key.key is None:
                raise NoToken("there is no access key for the provider")
            key = key.key
        signed = signed_headers(
            key,
            method="POST",
            host=self._host,
            path=self._path,
            body=bytes(body),
            region=self._region,
            service="bedrock",
            unix_s=int(self._clock()),
        )
        lines = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
        return self._head.write(body, passed + lines.encode("latin-1"))


class NoToken(ConnectFailed):
    """The provider cannot be asked, because there is no token to show it."""


class TokenHead:
    """A head that shows the token of the moment. Raises `NoToken` while there is none."""

    __slots__ = ("_head", "_token")

    def __init__(self, head: RequestHead, token: Token) -> None:
        self._head = head
        self._token = token

    def write(self, body: "bytes | Spliced", passed: bytes = b"") -> bytes:
        """Give the head of a request with this body; `passed` is of `RequestHeaders`."""
        value = self._token.value
        if not value:
            raise NoToken("there is no token for the provider")
        return self._head.write(body, b"authorization: Bearer %b\r\n%b" % (value, passed))
