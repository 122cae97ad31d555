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
CHARACTERS_A_STEP: Final = 16
"""Characters of a text, or of a reference, that are compared or followed in one of them."""


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
        if value is None and schema.get("nullable") is True:
            # OpenAPI 3.0's word, which Gemini's schemas have too; whether its `enum` has to say so is disputed.
            return True
        if "$id" in schema and schema is not self._root:
            # From here on references begin elsewhere.
            return True
        types = schema.get("type")
        if types is not None and not self._is_one_of(value, types):
            return False
        if "const" in schema and not self._same(value, schema["const"]):
            return False
        options = self._list(schema.get("enum"))
        if options and not any(self._same(value, each) for each in options):
            return False

        def fits(part: Any, by: Any) -> bool:
            return self.conforms(part, by, deeper - 1)

        there = self._found(schema.get("$ref"))
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
            return self._items_conform(value, schema, fits)
        return True

    def _items_conform(
        self, value: list[Any], schema: Mapping[str, Any], fits: Callable[[Any, Any], bool]
    ) -> bool:
        first = self._list(schema.get("prefixItems"))
        if not all(fits(each, by) for each, by in zip(value, first, strict=False)):
            return False
        others = schema.get("items", True)
        return others is True or all(
            fits(value[at], others) for at in range(len(first), len(value))
        )

    def _members_conform(
        self, value: dict[str, Any], schema: Mapping[str, Any], fits: Callable[[Any, Any], bool]
    ) -> bool:
        required = self._list(schema.get("required"))
        if any(name not in value for name in required if isinstance(name, str)):
            return False
        known = schema.get("properties")
        known = known if isinstance(known, Mapping) else {}
        # Patterns are not tried, since they are the caller's and may take for ever: whatever is not known may be of one.
        others = schema.get("additionalProperties", True)
        if schema.get("patternProperties"):
            others = True
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

    def _same(self, value: Any, other: Any) -> bool:
        """Return whether two values are equal as JSON says it: 1 is 1.0, and is not true."""
        self._step(1)
        if isinstance(value, list):
            return (
                isinstance(other, list)
                and len(value) == len(other)
                and all(map(self._same, value, other))
            )
        if isinstance(value, dict):
            return (
                isinstance(other, dict)
                and len(value) == len(other)
                and all(
                    name in other and self._same(member, other[name])
                    for name, member in value.items()
                )
            )
        if isinstance(value, str) and isinstance(other, str) and len(value) == len(other):
            self._step(len(value) // CHARACTERS_A_STEP)
        return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)

    def _found(self, ref: Any) -> Any:
        """Return what a reference within the schema leads to, None where it leads nowhere."""
        if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
            return None
        self._step(len(ref) // CHARACTERS_A_STEP)
        there = self._root
        for step in ref.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(there, Mapping) or name not in there:
                return None
            there = there[name]
        return there

    def _step(self, number: int) -> None:
        self._steps += number
        if self._steps > MOST_STEPS:
            raise _TooLong


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
