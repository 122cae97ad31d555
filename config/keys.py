"""
Callers' keys as they are kept: hashes keyed by a secret that is in neither Redis nor any configuration.

A key is kept as `hmac-sha256:<id>:<64 hex>`: HMAC-SHA-256 (RFC 2104) of the key's SHA-256, and the id of
the secret that made it. So whoever reads the store, a backup of it or an exported configuration can
neither call with a hash nor try guesses against it; a `sha256:` of a key, which people may write, is
keyed as it is published, without anybody knowing the key; and a replica with another secret is told
so instead of refusing every caller.

The secret is `PENSTOCK_KEY_SECRET`, else the file `var/key-secret`, which the first start makes for its
owner alone. All processes of an installation need the same one. There may be several, separated by
commas: the first makes new hashes, the others still recognize what they made, so that a secret can be
replaced while keys are rotated one by one.
"""

import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = ["VARIABLE", "BadKeySecret", "KeySecrets", "key_secret", "with_key_secret"]

VARIABLE: Final = "PENSTOCK_KEY_SECRET"
SHORTEST_CHARACTERS: Final = 32
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_KEYED = re.compile(r"hmac-sha256:([0-9a-f]{8}):([0-9a-f]{64})")
_ABOUT = b"penstock: the id of a key secret"


class BadKeySecret(ValueError):
    """The secret is missing, unfit, or another than the one that made the hashes; says what to do."""


class KeySecrets:
    """The secrets of an installation, the one that makes new hashes first; prints as its ids alone."""

    __slots__ = ("_by_id", "id")

    def __init__(self, texts: Sequence[str]) -> None:
        for text in texts:
            if len(text) < SHORTEST_CHARACTERS or not _VISIBLE.fullmatch(text):
                raise BadKeySecret(
                    f"a key secret has at least {SHORTEST_CHARACTERS} visible characters and no space;"
                    f" `openssl rand -hex 32` makes a good one ({VARIABLE})"
                )
        if not texts:
            raise BadKeySecret(f"{VARIABLE} is empty")
        self._by_id = {
            hmac.digest(text.encode(), _ABOUT, "sha256").hex()[:8]: text.encode() for text in texts
        }
        self.id = next(iter(self._by_id))

    @classmethod
    def said(cls, environ: Mapping[str, str]) -> "KeySecrets | None":
        """Read `PENSTOCK_KEY_SECRET`, None where it is not set. Raises `BadKeySecret`."""
        text = environ.get(VARIABLE, "")
        return cls([each.strip() for each in text.split(",")]) if text.strip() else None

    def __repr__(self) -> str:
        return f"KeySecrets({', '.join(self._by_id)})"

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all of them: 8 hex digits each, from which no secret can be told."""
        return tuple(self._by_id)

    def keyed(self, written: str) -> str:
        """Return the kept form of `sha256:<64 hex>`; what is kept already stays as it is."""
        if not written.startswith("sha256:"):
            return written
        digest = bytes.fromhex(written.removeprefix("sha256:"))
        return f"hmac-sha256:{self.id}:{self.tag(self.id, digest).hex()}"

    def tag(self, secret_id: str, digest: bytes) -> bytes:
        """Return the HMAC of a key's SHA-256 under one of the secrets."""
        return hmac.digest(self._by_id[secret_id], digest, "sha256")

    def unknown(self, written: str) -> str | None:
        """Return the id of the secret that made a hash if it is none of these."""
        found = _KEYED.fullmatch(written)
        return found[1] if found is not None and found[1] not in self._by_id else None

    def parts(self, written: str) -> tuple[str, bytes]:
        """Return the secret's id and the tag of a hash in either form. Raises `BadKeySecret`."""
        unknown = self.unknown(written)
        if unknown is not None:
            raise BadKeySecret(self.other(unknown))
        _, secret_id, tag = self.keyed(written).split(":")
        return secret_id, bytes.fromhex(tag)

    def other(self, secret_id: str) -> str:
        """Say that keys were hashed with a secret that is not here, and what to do."""
        return (
            f"callers' keys were hashed with another key secret (id {secret_id}) than the one here"
            f" ({', '.join(self._by_id)}): set {VARIABLE} to that one, which may be the content of"
            " var/key-secret of the machine that ran first"
        )

    def require(self, secret_id: str) -> None:
        """Raise `BadKeySecret` unless the secret of this id is here; an empty id is of a time without secrets."""
        if secret_id and secret_id not in self._by_id:
            raise BadKeySecret(self.other(secret_id))


def key_secret(environ: Mapping[str, str], file: Path, *, make: bool) -> str:
    """
    Return the text of `PENSTOCK_KEY_SECRET`, or of the file; where `make`, one that is missing is made.

    Raises `BadKeySecret` for one that is missing or unfit, that others may read, or that cannot be read or made.
    """
    text = environ.get(VARIABLE, "").strip()
    if not text:
        try:
            if make:
                _make(file)
            text = _read(file)
        except OSError as error:
            raise BadKeySecret(
                f"the key secret {file} cannot be used: {error.strerror}; set {VARIABLE} instead"
            ) from error
    KeySecrets.said({VARIABLE: text})
    return text


def with_key_secret(environ: Mapping[str, str], file: Path, *, make: bool) -> dict[str, str]:
    """Return an environment that says the key secret. Raises what `key_secret` raises."""
    return {**environ, VARIABLE: key_secret(environ, file, make=make)}


def _make(file: Path) -> None:
    """Make the file with a new secret, whole or not at all; one that is there stays."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as out:  # noqa: PTH123 - a descriptor
            out.write(secrets.token_urlsafe(32) + "\n")
            out.flush()
            os.fsync(out.fileno())
        try:
            file.hardlink_to(fresh)
        except FileExistsError:
            pass  # another process was first: its secret holds
    finally:
        fresh.unlink()


def _read(file: Path) -> str:
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise BadKeySecret(
            f"there is no key secret: set {VARIABLE} to that of the control, or give this process the"
            f" same var/ (looked for {file})"
        ) from None
    except UnicodeDecodeError:
        raise BadKeySecret(
            f"{file} is not text: it must hold the key secret and nothing else"
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BadKeySecret(f"others may read the key secret: chmod 600 {file}")
    if not text:
        raise BadKeySecret(f"{file} is empty: put the key secret there, or remove it")
    return text
