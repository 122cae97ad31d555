"""
AWS Signature Version 4: the headers that prove who sends a request.

It is some forty lines of HMAC over a canonical form of the request, and is held to AWS's published test
vectors; the official library that does the same weighs 31 MB and wants a request object of its own.
Nothing is read from the environment and no clock is asked: keys and the time are handed in.

Source: AWS, "Signature Version 4 signing process"; the vectors are of its test suite.
"""

import hashlib
import hmac
from collections.abc import Mapping
from time import gmtime, strftime
from urllib.parse import quote

from msgspec import Struct

__all__ = ["Credentials", "signed_headers"]

_ALGORITHM = "AWS4-HMAC-SHA256"


class Credentials(Struct, frozen=True):
    """Who signs: an access key's id and secret, and the session's token when they are temporary."""

    key_id: str
    secret: str
    token: str | None = None

    def __repr__(self) -> str:
        """Say whose key it is, never the key."""
        return f"Credentials({self.key_id!r})"


def signed_headers(
    credentials: Credentials,
    *,
    method: str,
    host: str,
    path: str,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    body: bytes,
    region: str,
    service: str,
    unix_s: int,
) -> dict[str, str]:
    """
    Return the headers to add to a request: ``authorization``, ``x-amz-date`` and perhaps a token.

    `path` and `query` are as they stand in the request line. `headers` are further ones to be signed
    (all of them must be sent as they are). The canonical path is encoded once more than the one that is
    sent, as every service but S3 has it.
    """
    moment = strftime("%Y%m%dT%H%M%SZ", gmtime(unix_s))
    added = {"x-amz-date": moment}
    if credentials.token is not None:
        added["x-amz-security-token"] = credentials.token
    signing = {name.lower(): " ".join(value.split()) for name, value in (headers or {}).items()}
    signing |= added | {"host": host}
    names = ";".join(sorted(signing))
    canonical = "\n".join(
        (
            method,
            quote(path or "/", safe="/-_.~"),
            # By name and then by value, not as the text of both.
            "&".join(
                "=".join(pair)
                for pair in sorted(
                    (name, value)
                    for name, _, value in (one.partition("=") for one in query.split("&") if one)
                )
            ),
            *(f"{name}:{signing[name]}" for name in sorted(signing)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    scope = f"{moment[:8]}/{region}/{service}/aws4_request"
    signing_text = "\n".join(
        (
            _ALGORITHM,
            moment,
            scope,
            hashlib.sha256(canonical.encode()).hexdigest(),
        )
    )
    key = f"AWS4{credentials.secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, signing_text.encode(), "sha256").hex()
    added["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.key_id}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return added
