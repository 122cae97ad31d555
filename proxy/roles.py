"""
The access key of the role that this machine, container or pod has at Amazon, which lasts for hours.

It is asked for where Amazon's own clients ask, the first that the environment speaks of:

    web identity   AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN (a pod of EKS with a service account)
    container      AWS_CONTAINER_CREDENTIALS_FULL_URI or …_RELATIVE_URI (ECS, EKS Pod Identity)
    machine        the metadata service of EC2 (IMDSv2)

Source: AWS SDKs and Tools Reference Guide, "Standardized credential providers".
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import aiohttp

from proxy.documents import read_document
from proxy.wire.translate.sigv4 import Credentials

__all__ = ["NoRole", "role_of"]

LONGEST_ANSWER: Final = 65_536
MACHINE: Final = "http://169.254.169.254"
CONTAINER: Final = "http://169.254.170.2"
_NAMES = ("AccessKeyId", "SecretAccessKey", "Token", "Expiration")


class NoRole(Exception):
    """There is no role to be had; the message says why, and holds no secret."""


async def role_of(
    session: aiohttp.ClientSession, environ: Mapping[str, str], clock: Callable[[], float]
) -> tuple[Credentials, float]:
    """
    Return the access key of the role, and for how many seconds it holds by the `clock` (Unix seconds).

    Raises `NoRole`, and what `aiohttp` and the system raise.
    """
    if "AWS_WEB_IDENTITY_TOKEN_FILE" in environ and "AWS_ROLE_ARN" in environ:
        found = await _by_web_identity(session, environ)
    elif any(name.startswith("AWS_CONTAINER_CREDENTIALS_") for name in environ):
        found = await _by_container(session, environ)
    else:
        found = await _by_machine(session, environ)
    try:
        key, secret, token, ends = (str(found[name]) for name in _NAMES)
        ends_s = datetime.fromisoformat(ends).timestamp()
    except (KeyError, ValueError):
        raise NoRole("what was given is no access key") from None
    if not key or not secret or not f"{key}{token}".isascii() or not f"{key}{token}".isprintable():
        raise NoRole("what was given is no access key")
    return Credentials(key, secret, token), ends_s - clock()


async def _by_web_identity(
    session: aiohttp.ClientSession, environ: Mapping[str, str]
) -> Mapping[str, Any]:
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    host = f"https://sts.{region}.amazonaws.com" if region else "https://sts.amazonaws.com"
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": environ["AWS_ROLE_ARN"],
        "RoleSessionName": environ.get("AWS_ROLE_SESSION_NAME", "penstock"),
        "WebIdentityToken": await asyncio.to_thread(_text, environ["AWS_WEB_IDENTITY_TOKEN_FILE"]),
    }
    url = environ.get("AWS_ENDPOINT_URL_STS", host)
    async with session.post(url, data=form, allow_redirects=False) as answer:
        said = await _said(answer)
    # It answers in XML, of which four elements matter, and none of them has another within.
    found = dict(re.findall(r"<(\w+)>([^<]+)</\1>", said))
    return found | {"Token": found.get("SessionToken", "")}


async def _by_container(
    session: aiohttp.ClientSession, environ: Mapping[str, str]
) -> Mapping[str, Any]:
    url = environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if url is None:
        url = CONTAINER + environ["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"]
    headers = {}
    shown = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
    if "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" in environ:
        path = environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]
        shown = await asyncio.to_thread(_text, path)
    if shown:
        headers["authorization"] = shown
    async with session.get(url, headers=headers, allow_redirects=False) as answer:
        return _document(await _said(answer))


async def _by_machine(
    session: aiohttp.ClientSession, environ: Mapping[str, str]
) -> Mapping[str, Any]:
    base = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", MACHINE).rstrip("/")
    wanted = {"x-aws-ec2-metadata-token-ttl-seconds": "300"}
    async with session.put(f"{base}/latest/api/token", headers=wanted) as answer:
        headers = {"x-aws-ec2-metadata-token": await _said(answer)}
    roles = f"{base}/latest/meta-data/iam/security-credentials/"
    async with session.get(roles, headers=headers) as answer:
        role = (await _said(answer)).strip().partition("\n")[0]
    async with session.get(roles + role, headers=headers) as answer:
        return _document(await _said(answer))


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise NoRole(f"{path} cannot be read") from None


def _document(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NoRole("what was given is no access key")
    return found


async def _said(answer: aiohttp.ClientResponse) -> str:
    text = (await read_document(answer, LONGEST_ANSWER)).decode("utf-8", "replace")
    if answer.status != 200:
        raise NoRole(f"{answer.url.host} answered {answer.status}")
    return text
