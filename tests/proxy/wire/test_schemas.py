"""A value conforms to a schema, or it does not; a schema that cannot be followed forbids nothing."""

from typing import Any

import pytest

from proxy.wire.schemas import DEEPEST, _Comparison, _TooLong, conforms

AGAIN = {"allOf": [{"$ref": "#/$defs/x"}] * 3000}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "friends": {"type": "array", "items": {"$ref": "#"}},
        "kind": {"enum": ["a", "b"]},
        "home": {"$ref": "#/$defs/home~1place"},
    },
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"home/place": {"type": ["string", "null"]}},
}


@pytest.mark.parametrize(
    "value",
    [
        {"name": "Ada"},
        {"name": "Ada", "age": 36, "kind": "b", "home": None},
        {"name": "Ada", "age": 36.0, "friends": [{"name": "Bob"}, {"name": "C", "friends": []}]},
    ],
)
def test_what_has_the_form_conforms(value: Any) -> None:
    """Members that may be missing may be missing, and a whole number is an integer however it is written."""
    assert conforms(value, PERSON)


@pytest.mark.parametrize(
    "value",
    [
        [],
        "Ada",
        {},
        {"name": 7},
        {"name": "Ada", "age": "36"},
        {"name": "Ada", "age": 36.5},
        {"name": "Ada", "age": True},
        {"name": "Ada", "surname": "L"},
        {"name": "Ada", "kind": "c"},
        {"name": "Ada", "home": 7},
        {"name": "Ada", "friends": [{"name": "Bob"}, {"age": 1}]},
    ],
)
def test_what_has_another_form_does_not(value: Any) -> None:
    """By type, by a member that is missing or too many, by a value that is none of those allowed, however deep."""
    assert not conforms(value, PERSON)


@pytest.mark.parametrize(
    ("schema", "fits", "fails"),
    [
        ({"const": 3}, 3, 4),
        ({"anyOf": [{"type": "string"}, {"type": "number"}]}, 2.5, None),
        ({"oneOf": [{"type": "boolean"}, {"const": 1}]}, True, "x"),
        ({"allOf": [{"type": "object"}, {"required": ["a"]}]}, {"a": 1}, {"b": 1}),
        ({"additionalProperties": {"type": "integer"}}, {"a": 1}, {"a": "b"}),
        (False, None, 1),
        ({"const": True}, True, 1),
        ({"enum": ["a", "b", "c", "d"]}, "d", "x" * 200_000),
        ({"enum": [0, [1, {"a": 0}]]}, [1.0, {"a": 0}], False),
        ({"enum": [[1, {"a": 0}]]}, [1, {"a": 0}], [1, {"a": False}]),
        ({"prefixItems": [{"type": "string"}, {"type": "integer"}]}, ["a", 1, None], ["a", "b"]),
        ({"prefixItems": [{"type": "string"}], "items": False}, ["a"], ["a", 1]),
        ({"prefixItems": [{}], "items": {"type": "integer"}}, ["a", 1], ["a", 1, "b"]),
        ({"prefixItems": [{}, {}], "items": False}, ["a"], [1, 2, 3]),
        ({"type": "string", "nullable": True}, None, 1),
        ({"type": "string", "enum": ["a"], "nullable": True}, None, "b"),
        ({"type": "string", "nullable": False}, "a", None),
        (
            {"properties": {"a": {"type": "integer"}}, "patternProperties": {"^x": {}}},
            {"a": 1, "x1": 1},
            {"a": "b"},
        ),
    ],
)
def test_words_that_combine_schemas(schema: Any, fits: Any, fails: Any) -> None:
    """All of them, one of them, or whatever else is there."""
    assert schema is False or conforms(fits, schema)
    assert not conforms(fails, schema)


@pytest.mark.parametrize(
    "schema",
    [
        None,
        True,
        {},
        {"type": "thing"},
        {"type": 7},
        {"enum": 7},
        {"enum": "abc"},
        {"required": "a"},
        {"properties": 3},
        {"$ref": "#/nowhere"},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#"},
        {"anyOf": {}},
        {"pattern": "("},
        {"patternProperties": {"(a+)+$": {"type": "string"}}, "additionalProperties": False},
        {"$ref": "#somewhere", "$defs": {"x": {"$anchor": "somewhere"}}},
        {"allOf": [{"$id": "x", "$ref": "#/$defs/y"}], "$defs": {"y": {"type": "string"}}},
    ],
)
def test_a_schema_that_cannot_be_followed_forbids_nothing(schema: Any) -> None:
    """Nor does one that leads round in circles; nobody is blamed for it."""
    assert conforms({"a": [1]}, schema)


def test_what_is_nested_without_end_is_given_up() -> None:
    """Two such values cannot even be compared."""
    one: list[Any] = [1]
    other: list[Any] = [2]
    for _ in range(100_000):
        one, other = [one], [other]
    assert conforms(one, {"const": other})


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ("x", {"allOf": [{"$ref": "#"}] * 50}),
        ([["x"] * 200] * 200, {"items": {"items": {"allOf": [{"type": "string"}] * 200}}}),
        (["x"] * 20_000, {"items": {"enum": [*range(20_000), "x"]}}),
        ([[0]] * 20_000, {"$defs": {"x": {"const": [[0]] * 20_000}}} | AGAIN),
        (
            dict.fromkeys(map(str, range(20_000)), 0),
            {"anyOf": [{"const": dict.fromkeys([*map(str, range(19_999)), "x"], 0)}] * 3000},
        ),
        ("x" * 200_000, {"$defs": {"x": {"const": "x" * 200_000}}} | AGAIN),
        ("x", {"$defs": {"x": {"$ref": "#" + "/a" * 100_000}}} | AGAIN),
    ],
    ids=[
        "circles",
        "each of each",
        "long list",
        "large constant",
        "many names",
        "long text",
        "long way",
    ],
)
def test_a_schema_that_takes_long_is_given_up(value: Any, schema: Any) -> None:
    """It is the caller's, and followed on the loop that serves everybody: whoever writes one that multiplies stops nobody."""
    assert conforms(value, schema)
    with pytest.raises(_TooLong):
        _Comparison(schema).conforms(value, schema, DEEPEST)
