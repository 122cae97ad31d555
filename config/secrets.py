"""
Secrets that cannot be printed by accident.

A `Secret` shows itself as `***` in `repr`, `str`, f-strings, logs, tracebacks and JSON dumps; only
`reveal()` gives the text, so every place that uses one can be found by that word.
A caller key is kept as a hash only (`config.keys`): who reads the configuration cannot call with it.
"""

import hashlib
import hmac
import re
from typing import Any, NoReturn, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from config.problems import mistake

MASK = "***"
LONGEST_SECRET = 4096
SHORTEST_SHARED_SECRET = 16  # 16 random letters and digits are about 95 bits: beyond guessing

_HASHED = re.compile(r"(?:sha256|hmac-sha256:[0-9a-f]{8}):[0-9a-f]{64}", re.IGNORECASE)
# What may stand in an HTTP field value without folding: visible ASCII, no space (RFC 9110 §5.5).
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_ONLY_REFERENCES = re.compile(r"(?:[A-Za-z]+ )?(?:\$\{[A-Za-z_][A-Za-z0-9_]*(?::-)?\})+")
# Greedy: a password may itself hold any of / ? # @
_IN_URL = re.compile(r"(?<=://)\S*(?=@)|(?<=\?)\S+")


class Secret:
    """
    A text that prints as `***`.

    Equality takes the same time whatever differs; secrets can be dictionary keys, but not pickled.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Give the text itself; the caller sees to it that it goes nowhere else."""
        return self._text

    def __repr__(self) -> str:
        return MASK

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: it would be written out in clear")

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[Any], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Read text, checked to be fit for an HTTP header; write `***`."""
        return _schema(read_secret)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe the written form for editors."""
        return {"type": "string", "minLength": 1, "maxLength": LONGEST_SECRET}


class SharedSecretRule:
    """Metadata for a `Secret` that callers of ours present: it must be long enough not to be guessed."""

    def __get_pydantic_core_schema__(
        self, source: type[Any], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Read a secret of at least `SHORTEST_SHARED_SECRET` characters."""
        return _schema(read_shared_secret)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe the written form for editors."""
        return {"type": "string", "minLength": 1, "maxLength": LONGEST_SECRET}


class CallerKeyRule(SharedSecretRule):
    """Metadata for a caller's key: one of its hashes, or the key in clear, which is hashed at once."""

    def __get_pydantic_core_schema__(
        self, source: type[Any], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Read any form; give a `Secret` that is a hash, in lower case."""
        return _schema(read_caller_key)


def hash_key(key: str) -> str:
    """Give the form of a caller's key that needs no secret: `sha256:` and 64 hex digits."""
    return "sha256:" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def read_secret(value: object) -> Secret:
    """Read a secret of our own, such as a provider's API key."""
    text = _text_of(value)
    if not text:
        raise mistake("a secret", remedy="it is empty: set the variable, or leave the line out")
    if len(text) > LONGEST_SECRET:
        raise mistake(f"a secret of at most {LONGEST_SECRET} characters")
    if not _VISIBLE.fullmatch(text):
        raise mistake(
            "a secret of visible ASCII characters",
            remedy="it holds a space, a line break or a character that no HTTP header may carry;"
            " look for a line break at its end",
        )
    return Secret(text)


def read_shared_secret(value: object) -> Secret:
    """Read a secret that others present to us: as `read_secret`, and long enough."""
    secret = read_secret(value)
    if len(secret.reveal()) < SHORTEST_SHARED_SECRET:
        raise mistake(
            f"a secret of at least {SHORTEST_SHARED_SECRET} characters",
            remedy="a shorter one can be guessed; `openssl rand -hex 24` makes a good one",
        )
    return secret


def is_hashed(text: str) -> bool:
    """Tell whether a caller's key is written as a hash, be it a good one or not."""
    return text.lower().startswith(("sha256:", "hmac-sha256:"))


def is_of_references(written: str) -> bool:
    """
    Tell whether a text says where a secret is and nothing of it: `${KEY}`, or `Bearer ${KEY}`.

    A name is no secret; a default is one.
    """
    return _ONLY_REFERENCES.fullmatch(written) is not None


def masked_url(text: str) -> str:
    """Give a text in which `***` stands where a URL may carry a secret."""
    return _IN_URL.sub(MASK, text)


def read_caller_key(value: object) -> Secret:
    """Read a caller's key in any form, and give its hash as a `Secret`."""
    text = _text_of(value)
    if is_hashed(text):
        if not _HASHED.fullmatch(text):
            raise mistake(
                "'sha256:' and 64 hexadecimal digits",
                remedy='`printf %s "$KEY" | sha256sum` prints the digits of a key;'
                " a hash that `config export` gave is taken whole",
            )
        return Secret(text.lower())
    return Secret(hash_key(read_shared_secret(text).reveal()))


def _text_of(value: object) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    if not isinstance(value, str):
        raise mistake("a text")
    return str(value)


def _schema(read: Any) -> CoreSchema:
    return core_schema.no_info_plain_validator_function(
        read, serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="json")
    )
