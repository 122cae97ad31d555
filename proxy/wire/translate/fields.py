"""
A JSON object, read member by member: each taken once, with its path, and the rest kept.

Readers of requests take what they know; what is left at the end is what nobody knew, and goes into
`Conversation.extra` instead of being lost. A member that is null is one that is not there, as every
protocol here has it.
"""

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from proxy.wire.look import BadField

__all__ = ["Fields", "decode_object", "encode", "is_object", "parse_object"]

T = TypeVar("T")

encode = msgspec.json.Encoder().encode
_ANY = msgspec.json.Decoder()

_NAMES = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


class Fields:
    """
    The members of one object at `path` (empty for the body itself).

    Each of the methods takes a member out and raises `BadField` with its path when it is not what it
    must be. What has not been taken is given by `rest`.
    """

    __slots__ = ("_left", "path")

    def __init__(self, value: Any, path: str = "") -> None:
        if type(value) is not dict:
            raise BadField(path or None, f"{path or 'The body'} must be an object.", "invalid_type")
        self._left: dict[str, Any] = dict(value)
        self.path = path

    def at(self, name: str) -> str:
        """Give the path of the member `name`."""
        return f"{self.path}.{name}" if self.path else name

    def any(self, name: str) -> Any:
        """Take whatever stands there, None if nothing."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str | None:
        """Take a string."""
        return self._take(name, str)

    def need_text(self, name: str) -> str:
        """Take a string that must be there."""
        value = self._take(name, str)
        if value is None:
            raise self.missing(name)
        return value

    def boolean(self, name: str) -> bool | None:
        """Take true or false."""
        return self._take(name, bool)

    def whole(self, name: str, least: int | None = None) -> int | None:
        """Take a whole number, which is at least `least`."""
        value = self._left.pop(name, None)
        if type(value) is float and value.is_integer():
            value = int(value)
        if value is None:
            return None
        if type(value) is not int:
            raise self.wrong(name, int)
        if least is not None and value < least:
            raise BadField(self.at(name), f"{self.at(name)} must be at least {least}.")
        return value

    def number(self, name: str) -> float | None:
        """Take a number."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if type(value) is not int and type(value) is not float:
            raise self.wrong(name, float)
        return value

    def list(self, name: str) -> list[Any] | None:
        """Take a list."""
        return self._take(name, list)

    def object(self, name: str) -> dict[str, Any] | None:
        """Take an object, as it is."""
        return self._take(name, dict)

    def fields(self, name: str) -> "Fields | None":
        """Take an object, to be read member by member."""
        value = self._take(name, dict)
        return None if value is None else type(self)(value, self.at(name))

    def need_fields(self, name: str) -> "Fields":
        """Take an object that must be there, to be read member by member."""
        value = self.fields(name)
        if value is None:
            raise self.missing(name)
        return value

    def each(self, name: str) -> "Iterator[Fields]":
        """Take a list of objects, one after the other; nothing when it is not there."""
        for number, value in enumerate(self._take(name, list) or ()):
            yield type(self)(value, f"{self.at(name)}[{number}]")

    def texts(self, name: str) -> tuple[str, ...]:
        """Take a list of strings, or one string for a list of one."""
        value = self._left.pop(name, None)
        if value is None:
            return ()
        if type(value) is str:
            return (value,)
        if type(value) is not list or not all(type(item) is str for item in value):
            raise BadField(
                self.at(name),
                f"{self.at(name)} must be a string or a list of strings.",
                "invalid_type",
            )
        return tuple(value)

    def choice(self, name: str, *words: str) -> str | None:
        """Take one of `words`."""
        value = self._take(name, str)
        if value is not None and value not in words:
            raise BadField(self.at(name), f"{self.at(name)} must be one of: {', '.join(words)}.")
        return value

    def has(self, name: str) -> bool:
        """Say whether the member is there and was not taken."""
        return self._left.get(name) is not None

    def missing(self, name: str) -> BadField:
        """Make the error for a member that must be there."""
        return BadField(self.at(name), f"{self.at(name)} is required.", "missing")

    def wrong(self, name: str, kind: type) -> BadField:
        """Make the error for a member of another type than `kind`."""
        return BadField(self.at(name), f"{self.at(name)} must be {_NAMES[kind]}.", "invalid_type")

    def taken(self) -> dict[str, Any]:
        """Take all members that are left, as they are."""
        left, self._left = self._left, {}
        return left

    def rest(self) -> dict[str, Any]:
        """Give what was not taken, by path, without nulls."""
        return {self.at(name): value for name, value in self._left.items() if value is not None}

    def _take(self, name: str, kind: type[T]) -> T | None:
        value = self._left.pop(name, None)
        if value is None:
            return None
        if type(value) is not kind:
            raise self.wrong(name, kind)
        return value


def parse_object(body: bytes) -> Fields:
    """Read a request's body; raises `BadField` when it is no JSON object, or nested too deep."""
    try:
        value = _ANY.decode(body)
    except RecursionError:
        raise BadField(None, "The body is nested too deep.", "invalid_json") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
        raise BadField(None, f"The body is not valid JSON: {fault}.", "invalid_json") from None
    return Fields(value)


def decode_object(text: str) -> dict[str, Any] | None:
    """Read tool arguments, "" being {}; None when `text` is not a JSON object."""
    if not text or text.isspace():
        return {}
    try:
        value = _ANY.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None
    return value if type(value) is dict else None


def is_object(text: str) -> bool:
    """Say whether `text` is a whole JSON object."""
    return bool(text) and decode_object(text) is not None and not text.isspace()
