"""
A JSON value held against a JSON schema: whether what a model wrote has the form that was asked of it.

Of the schema's words those are known that vendors take for structured output and for tools; a word that is not known, and
one that is used wrongly, forbid nothing. Where it cannot be told, the value conforms: nobody is blamed for a schema.

Words: https://json-schema.org/draft/2020-12, validation and applicators.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

__all__ = ["conforms"]

DEEPEST: Final = 32
"""Schemas within schemas that are followed; they may go round in circles."""
MOST_STEPS: Final = 10_000
"""Values and words that are compared: some ten milliseconds of the loop, on which callers' schemas may multiply them."""


class _TooLong(Exception):
    """It cannot be told within the steps that are allowed."""


def conforms(value: Any, schema: Any) -> bool:
    """Return whether a decoded value has the form that a schema asks for."""
    try:
        return _Comparison(schema).conforms(value, schema, DEEPEST)
    except (_TooLong, RecursionError):
        # What is nested without end can be neither followed nor compared.
        return True


class _Comparison:
    """One value held against one schema, in so many steps."""

    __slots__ = ("_root", "_steps")

    def __init__(self, root: Any) -> None:
        self._root = root
        self._steps = 0

    def conforms(self, value: Any, schema: Any, deeper: int) -> bool:
        self._step(1)
        if schema is False:
            return False
        if not isinstance(schema, Mapping) or not deeper:
            return True
        types = schema.get("type")
        if types is not None and not self._is_one_of(value, types):
            return False
        if "const" in schema and value != schema["const"]:
            return False
        options = self._list(schema.get("enum"))
        if options and value not in options:
            return False

        def fits(part: Any, by: Any) -> bool:
            return self.conforms(part, by, deeper - 1)

        there = _found(schema.get("$ref"), self._root)
        if there is not None and not fits(value, there):
            return False
        if not all(fits(value, each) for each in self._list(schema.get("allOf"))):
            return False
        for word in ("anyOf", "oneOf"):
            either = self._list(schema.get(word))
            if either and not any(fits(value, each) for each in either):
                return False
        if isinstance(value, dict):
            return self._members_conform(value, schema, fits)
        if isinstance(value, list):
            return "items" not in schema or all(fits(each, schema["items"]) for each in value)
        return True

    def _members_conform(
        self, value: dict[str, Any], schema: Mapping[str, Any], fits: Callable[[Any, Any], bool]
    ) -> bool:
        required = self._list(schema.get("required"))
        if any(name not in value for name in required if isinstance(name, str)):
            return False
        known = schema.get("properties")
        known = known if isinstance(known, Mapping) else {}
        others = schema.get("additionalProperties", True)
        return all(
            fits(member, known[name]) if name in known else fits(member, others)
            for name, member in value.items()
        )

    def _is_one_of(self, value: Any, types: Any) -> bool:
        """Return whether a value is of a type, or of one of several."""
        names = [types] if isinstance(types, str) else self._list(types)
        known = [_IS[name] for name in names if isinstance(name, str) and name in _IS]
        return len(known) < len(names) or not names or any(is_it(value) for is_it in known)

    def _list(self, said: Any) -> Sequence[Any]:
        """Return a list of the schema's, each of which is a step; an empty one for what is none."""
        if not isinstance(said, list | tuple):
            return ()
        self._step(len(said))
        return said

    def _step(self, number: int) -> None:
        self._steps += number
        if self._steps > MOST_STEPS:
            raise _TooLong


def _found(ref: Any, root: Any) -> Any:
    """Return what a reference within the schema leads to, None where it leads nowhere."""
    if not isinstance(ref, str) or not ref.startswith("#"):
        return None
    there = root
    for step in ref.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(there, Mapping) or name not in there:
            return None
        there = there[name]
    return there


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_IS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": lambda value: _is_number(value) and value == int(value),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
