"""Nodes: small questions have an answer where the shape is right, and none where it is not."""

from decimal import Decimal

import pytest

from config import document
from config.node import Node, amount, given, is_true, items, members, text, whole


def read(written: str) -> Node | None:
    root, _ = document.compose(f"x: {written}\n")
    assert root is not None
    document.expand(root, {"SET": "3", "EMPTY": ""})
    return root.get("x")


@pytest.mark.parametrize(
    ("written", "answers"),
    [
        ("3", ("3", 3, Decimal(3), False)),
        ("+1_0", ("+1_0", 10, Decimal(10), False)),
        ("'3'", ("3", None, None, False)),
        ("${SET}", ("3", 3, Decimal(3), False)),
        ("0.5", ("0.5", None, Decimal("0.5"), False)),
        ("nan", ("nan", None, None, False)),
        ("1e9999", ("1e9999", None, None, False)),
        ("True", ("True", None, None, True)),
        ("'true'", ("true", None, None, False)),
        ("${GONE}", (None, None, None, False)),
        ("~", (None, None, None, False)),
        ("[3]", (None, None, None, False)),
    ],
)
def test_a_scalar_answers_as_its_field_would_read_it(
    written: str, answers: tuple[object, ...]
) -> None:
    """With the same readers, so that a check and a field never differ about a number."""
    node = read(written)
    assert (text(node), whole(node), amount(node), is_true(node)) == answers


@pytest.mark.parametrize(
    ("written", "is_given"),
    [
        ("", False),
        ("null", False),
        ("${EMPTY:-}", False),
        ("'null'", True),
        ("''", True),
        ("${GONE}", True),
        ("{}", True),
    ],
)
def test_an_empty_value_is_as_if_it_were_not_there(written: str, is_given: bool) -> None:
    """What could not be resolved is there: what it lacks is said elsewhere."""
    assert (given(read(written)) is not None) == is_given


def test_one_goes_down_by_names_and_by_indexes() -> None:
    """There is nothing beyond the ends of a list, nor within a scalar."""
    root, _ = document.compose("a: [{b: 1}, 2]\nc: 3\n")
    assert root is not None
    assert root.at(()) is root
    assert root.at(("a", 0, "b")) is root.at(("a", 0)).get("b")
    for path in (("a", 2), ("a", -1), ("a", "b"), ("c", "d"), ("d", "e"), ("a", 1, 0)):
        assert root.at(path) is None
    assert [name for name, _ in members(root)] == ["a", "c"]
    assert [each.raw for each in items(root.get("a"))] == ["", "2"]
    assert list(members(root, "c")) == list(items(root.get("c"))) == list(items(None)) == []
