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


def conforms(value: Any, schema: Any) -> bool:
    """Return whether a decoded value has the form that a schema asks for."""
    return _conforms(value, schema, schema, DEEPEST)


def _conforms(value: Any, schema: Any, root: Any, deeper: int) -> bool:
    if schema is False:
        return False
    if not isinstance(schema, Mapping) or not deeper:
        return True
    types = schema.get("type")
    if types is not None and not _is_one_of(value, types):
        return False
    if "const" in schema and value != schema["const"]:
        return False
    options = schema.get("enum")
    if isinstance(options, Sequence) and value not in options:
        return False

    def fits(part: Any, by: Any) -> bool:
        return _conforms(part, by, root, deeper - 1)

    there = _found(schema.get("$ref"), root)
    if there is not None and not fits(value, there):
        return False
    if not all(fits(value, each) for each in _list(schema.get("allOf"))):
        return False
    for word in ("anyOf", "oneOf"):
        either = _list(schema.get(word))
        if either and not any(fits(value, each) for each in either):
            return False
    if isinstance(value, dict):
        return _members_conform(value, schema, fits)
    if isinstance(value, list):
        return "items" not in schema or all(fits(each, schema["items"]) for each in value)
    return True


def _members_conform(
    value: dict[str, Any], schema: Mapping[str, Any], fits: Callable[[Any, Any], bool]
) -> bool:
    if any(name not in value for name in _list(schema.get("required")) if isinstance(name, str)):
        return False
    known = schema.get("properties")
    known = known if isinstance(known, Mapping) else {}
    others = schema.get("additionalProperties", True)
    return all(
        fits(member, known[name]) if name in known else fits(member, others)
        for name, member in value.items()
    )


def _is_one_of(value: Any, types: Any) -> bool:
    """Return whether a value is of a type, or of one of several."""
    names = [types] if isinstance(types, str) else _list(types)
    known = [_IS[name] for name in names if isinstance(name, str) and name in _IS]
    return len(known) < len(names) or not names or any(is_it(value) for is_it in known)


def _list(said: Any) -> Sequence[Any]:
    return said if isinstance(said, list | tuple) else ()


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
