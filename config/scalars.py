"""
How one written value is read: numbers, money, switches, words, names, addresses.

Each reader is metadata for `typing.Annotated` and brings both halves: how a value is read (with
one error that says everything that was expected) and how editors are told about it (JSON schema).

The type is decided by the field, not by the look of the text. An unquoted value arrives as
`Plain`; a number field reads it as a number, a text field keeps it as written. So `region: no`,
`name: 1e3` and `access_log: off` are texts, whatever YAML version one has in mind, and a
switch takes `true` and `false` only. Quoted values are text and nothing else.
"""

import ipaddress
import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from config.problems import mistake
from store.target import FORMS, BadStoreUrl, target

NAME = r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*"
NAME_WITHOUT_SLASH = r"[A-Za-z0-9][A-Za-z0-9._:@+-]*"
LONGEST_NAME = 128

_WHOLE = re.compile(r"[-+]?[0-9][0-9_]{0,30}")
_DECIMAL = re.compile(r"[-+]?(?:[0-9][0-9_]{0,30})?(?:\.[0-9_]{0,30})?(?:[eE][-+]?[0-9]{1,3})?")
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_URL = re.compile(r"[\x21-\x7e]+")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+/-]{0,63}")
_MOMENT = re.compile(
    r"20(2[4-9]|[3-9][0-9])-[0-9]{2}-[0-9]{2}"
    r"(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
)


class Plain(str):
    """A value as it was written without quotes: a number, a switch or a text, as its field says."""

    __slots__ = ()


class Reader(ABC):
    """What all readers share: they take the place of pydantic's own validation of a scalar."""

    @abstractmethod
    def read(self, value: object) -> object:
        """Give the value, or raise `mistake(...)`."""

    @abstractmethod
    def schema(self) -> JsonSchemaValue:
        """Describe what may be written, as JSON schema."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Put `read` where pydantic would have its own rule."""
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Put `schema` where pydantic would have its own description."""
        return self.schema()


@dataclass(frozen=True)
class Whole(Reader):
    """A whole number from `low` to `high`, both included; `or_word` may stand in its place."""

    low: int
    high: int
    or_word: str = ""

    def read(self, value: object) -> int | str:
        """Read `600`, `10_000`; refuse `1.0`, `"600"`, `true`."""
        if self.or_word and value == self.or_word:
            return self.or_word
        found = whole_of(value)
        if found is None or not self.low <= found <= self.high:
            either = f", or {self.or_word}" if self.or_word else ""
            raise mistake(
                f"a whole number from {self.low} to {self.high}{either}",
                remedy="remove the quotes" if _is_quoted(value, _WHOLE) else "",
                choices=[self.or_word] if self.or_word else [],
            )
        return found

    def schema(self) -> JsonSchemaValue:
        """Describe an integer with bounds."""
        whole: JsonSchemaValue = {"type": "integer", "minimum": self.low, "maximum": self.high}
        return {"anyOf": [whole, {"const": self.or_word}]} if self.or_word else whole


@dataclass(frozen=True)
class Number(Reader):
    """A number from `low` to `high`, both included (`low` excluded where `above` says so)."""

    low: float
    high: float
    above: bool = False

    def read(self, value: object) -> float:
        """Read `0.71`, `10`; refuse `nan`, `inf`, `"10"`, `true`."""
        found = decimal_of(value)
        if found is None or not (self.low < found if self.above else self.low <= found):
            raise self._mistake(value)
        if found > self.high:
            raise self._mistake(value)
        return float(found)

    def _mistake(self, value: object) -> Exception:
        low = f"above {self.low:g}" if self.above else f"from {self.low:g}"
        return mistake(
            f"a number {low} {'and up to' if self.above else 'to'} {self.high:g}",
            remedy="remove the quotes" if _is_quoted(value, _DECIMAL) else "",
        )

    def schema(self) -> JsonSchemaValue:
        """Describe a number with bounds."""
        low = "exclusiveMinimum" if self.above else "minimum"
        return {"type": "number", low: self.low, "maximum": self.high}


@dataclass(frozen=True)
class Money(Reader):
    """An amount of USD up to `high`, exact to nine decimals (one nano-USD)."""

    high: int
    above: bool

    def read(self, value: object) -> Decimal:
        """Read `2000`, `0.10` without a detour over floats."""
        found = decimal_of(value)
        low_enough = found is not None and found <= self.high
        if found is None or not low_enough or not (found > 0 if self.above else found >= 0):
            raise mistake(
                f"USD, {'more than 0' if self.above else '0 or more'} and at most {self.high}",
                remedy="remove the quotes" if _is_quoted(value, _DECIMAL) else "",
            )
        if found != round(found, 9):
            raise mistake("USD with at most nine decimals")
        return found

    def schema(self) -> JsonSchemaValue:
        """Describe a number with bounds."""
        low = "exclusiveMinimum" if self.above else "minimum"
        return {"type": "number", low: 0, "maximum": self.high}


@dataclass(frozen=True)
class Flag(Reader):
    """A switch: `true` or `false`, and no other word for them."""

    def read(self, value: object) -> bool:
        """Read a switch; `yes`, `no`, `on`, `off`, `1` and `0` are refused by name."""
        found = flag_of(value)
        if found is not None:
            return found
        said = value.lower() if isinstance(value, Plain) else ""
        meant = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(said, "")
        raise mistake("true or false", remedy=f"write {meant}" if meant else "")

    def schema(self) -> JsonSchemaValue:
        """Describe a boolean."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class Word(Reader):
    """One word of a fixed few."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, literal: object) -> "Word":
        """Take the words from a `Literal`, so that they are listed once."""
        return cls(get_args(literal))

    def read(self, value: object) -> str:
        """Read one of the words, exactly as listed."""
        if isinstance(value, str) and value in self.words:
            return str(value)
        raise mistake(" | ".join(self.words), choices=self.words)

    def schema(self) -> JsonSchemaValue:
        """Describe an enumeration."""
        return {"type": "string", "enum": list(self.words)}


@dataclass(frozen=True)
class Text(Reader):
    """A text of 1 to `longest` printable characters, matching `pattern` where one is given."""

    pattern: str = ""
    longest: int = LONGEST_NAME
    what: str = "a text"
    remedy: str = ""

    def read(self, value: object) -> str:
        """Read text; unquoted numbers and words are text here too."""
        if not isinstance(value, str):
            raise mistake(self.what)
        if not 1 <= len(value) <= self.longest:
            raise mistake(f"{self.what} of 1 to {self.longest} characters")
        if not value.isprintable():
            raise mistake(f"{self.what} without control characters")
        if value != value.strip():
            raise mistake(f"{self.what} without spaces at its ends")
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise mistake(self.what, remedy=self.remedy)
        return str(value)

    def schema(self) -> JsonSchemaValue:
        """Describe a string with a pattern."""
        described: JsonSchemaValue = {"type": "string", "minLength": 1, "maxLength": self.longest}
        return {**described, "pattern": f"^{self.pattern}$"} if self.pattern else described


@dataclass(frozen=True)
class StoreUrl(Text):
    """`embedded`, or a URL as `store.target` reads it."""

    pattern: str = r"(embedded|(rediss?(\+sentinel|\+cluster)?|unix)://[\x21-\x7e]+)"
    longest: int = 2048
    what: str = f"embedded, or a store's URL: {FORMS}"

    def read(self, value: object) -> str:
        """Read a URL, and see that a store could be reached by it."""
        url = super().read(value)
        if url != "embedded":
            try:
                target(url)
            except BadStoreUrl as error:
                raise mistake(self.what, remedy=error.words) from None
        return url


ANY_NAME = Text(
    NAME, what="a name", remedy="names take letters, digits and . _ : / @ + - after the first"
)
PLAIN_NAME = Text(
    NAME_WITHOUT_SLASH,
    what="a name without '/'",
    remedy="names here take letters, digits and . _ : @ + - after the first",
)


@dataclass(frozen=True)
class TimeZone(Reader):
    """The IANA name of a time zone, as in `Europe/Berlin`."""

    def read(self, value: object) -> str:
        """Read a name that the time zone database has."""
        if isinstance(value, str) and _ZONE.fullmatch(value):
            try:
                return ZoneInfo(value).key
            except (ZoneInfoNotFoundError, ValueError, OSError):
                pass
        raise mistake("the IANA name of a time zone", choices=available_timezones())

    def schema(self) -> JsonSchemaValue:
        """Describe a string that looks like one."""
        return {"type": "string", "pattern": f"^{_ZONE.pattern}$"}


@dataclass(frozen=True)
class Moment(Reader):
    """A date, or a date and a time with or without an offset, as ISO 8601 writes them."""

    def read(self, value: object) -> str:
        """Read the text; `moment_of` says when that is."""
        if isinstance(value, str) and _MOMENT.fullmatch(value):
            try:
                moment_of(value, "UTC")
            except (ValueError, OverflowError):
                pass
            else:
                return str(value)
        raise mistake(
            "a date or a moment from 2024 to 2099",
            remedy="write 2026-12-24, 2026-12-24T18:00 or 2026-12-24T18:00+01:00",
        )

    def schema(self) -> JsonSchemaValue:
        """Describe a string of that form."""
        return {"type": "string", "pattern": f"^{_MOMENT.pattern}$"}


def moment_of(text: str, time_zone: str) -> datetime:
    """
    Return the moment that a text names; without an offset it is that of the clocks in a time zone.

    Raises ValueError for what is no moment.
    """
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=ZoneInfo(time_zone))


@dataclass(frozen=True)
class Listen(Reader):
    """Where to listen: `HOST:PORT`, with IPv6 in brackets; port 0 takes a free one."""

    def read(self, value: object) -> str:
        """Read an address; see `split_listen` for its parts."""
        if not isinstance(value, str):
            raise mistake("HOST:PORT")
        try:
            split_listen(value)
        except ValueError as error:
            raise mistake("HOST:PORT", remedy=str(error)) from error
        return str(value)

    def schema(self) -> JsonSchemaValue:
        """Describe a string that ends in a port."""
        return {"type": "string", "pattern": r"^(\[[0-9A-Fa-f:.]+\]|[^\[\]:/\s]+):[0-9]{1,5}$"}


def split_listen(address: str) -> tuple[str, int]:
    """
    Split `HOST:PORT` or `[IPV6]:PORT` into host (without brackets) and port.

    Raises ValueError, saying what to write, when it is neither.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError("end it with a port, as in 127.0.0.1:8080")
    if not host:
        raise ValueError(f"to listen on every address, write 0.0.0.0:{port} or [::]:{port}")
    in_brackets = host.startswith("[") and host.endswith("]")
    if in_brackets:
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"put an IPv6 address in brackets, as in [::1]:{port}")
    if not _is_host(host, ipv6=in_brackets):
        raise ValueError("the host is no name and no address")
    return host, int(port)


@dataclass(frozen=True)
class BaseUrl(Reader):
    """An http or https URL without user, query or fragment; a slash at its end is dropped."""

    def read(self, value: object) -> str:
        """Read the URL under which a provider's paths begin."""
        if not isinstance(value, str):
            raise mistake("an http:// or https:// URL")
        remedy = self._why_not(value)
        if remedy:
            raise mistake("an http:// or https:// URL", remedy=remedy)
        return value.rstrip("/")

    def _why_not(self, value: str) -> str:
        if not _URL.fullmatch(value) or len(value) > 2048:
            return "a URL takes up to 2048 visible ASCII characters and no spaces"
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:
            return "its host or port cannot be read"
        if parts.scheme not in {"http", "https"}:
            return "begin it with https:// (or http:// inside your own network)"
        if parts.username is not None or parts.password is not None:
            return "take the user and password out; keys go into api_key or headers"
        if "?" in value or "#" in value:
            return "take the query and the fragment out"
        if not parts.hostname or port == 0:
            return "it names no host" if not parts.hostname else "port 0 cannot be called"
        if not _is_host(parts.hostname, ipv6=":" in parts.hostname):
            return "its host is no name and no address"
        return ""

    def schema(self) -> JsonSchemaValue:
        """Describe the URL as a pattern."""
        return {"type": "string", "pattern": r"^https?://[^@?#\s]+$", "maxLength": 2048}


def _is_host(host: str, *, ipv6: bool) -> bool:
    """Say whether it is a host name or an address; a dotted number must be a whole IPv4 address."""
    if not ipv6 and not re.fullmatch(r"[0-9.]+", host):
        return _HOST.fullmatch(host) is not None
    try:
        ipaddress.IPv6Address(host) if ipv6 else ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def flag_of(value: object) -> bool | None:
    """Read a switch, or give None; text counts only where it was not quoted."""
    if isinstance(value, Plain):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def whole_of(value: object) -> int | None:
    """Read a whole number, or give None; text counts only where it was not quoted."""
    if isinstance(value, Plain) and _WHOLE.fullmatch(value):
        return int(value.replace("_", ""))
    # bool is an int to Python, but nobody means 1 by `true`
    return value if type(value) is int else None


def decimal_of(value: object) -> Decimal | None:
    """Read a finite decimal number, or give None; text counts only where it was not quoted."""
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Decimal(value) if abs(value) < 10**30 else None
    if isinstance(value, float):
        return Decimal(str(value)) if math.isfinite(value) else None
    if not isinstance(value, Plain) or not _DECIMAL.fullmatch(value):
        return None
    try:
        return Decimal(value.replace("_", ""))
    except InvalidOperation:
        return None


def _is_quoted(value: object, number: re.Pattern[str]) -> bool:
    """Say whether a number was written as text, which only quotes can do."""
    quoted = isinstance(value, str) and not isinstance(value, Plain)
    return quoted and bool(value) and number.fullmatch(str(value)) is not None
