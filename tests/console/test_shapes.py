"""Laws of the schemas: nothing unknown comes in, and no type is bent into another."""

import pytest
from pydantic import ValidationError

from console.catalogue_routes import PutModel
from console.config_routes import Apply, Rollback
from console.shapes import Change


def test_a_change_says_why() -> None:
    """In one printable line of at most 500 characters; all else is optional."""
    said = Change.model_validate({"why": "because it was Ümlaut day"})
    assert (said.expected, said.wait_ms) == (None, 0)
    for why in (None, "", " ", "a\nb", "a\x00", "w" * 501, 5, ["w"], "\ud800"):
        with pytest.raises(ValidationError):
            Change.model_validate({"why": why})
    with pytest.raises(ValidationError):
        Change.model_validate({})


@pytest.mark.parametrize(
    "more",
    [
        {"expected": "1"},
        {"expected": 0},
        {"expected": -1},
        {"expected": 1.0},
        {"expected": True},
        {"expected": 2**60},
        {"wait_ms": -1},
        {"wait_ms": 30_001},
        {"wait_ms": "5"},
        {"because": "x"},
    ],
)
def test_nothing_else_is_taken(more: dict[str, object]) -> None:
    """A wrong type, a wrong range, an unknown member."""
    with pytest.raises(ValidationError):
        Change.model_validate({"why": "w", **more})


def test_a_replacement_says_its_version() -> None:
    """What takes the place of a whole would undo what it does not know of."""
    for shape, more in (
        (Apply, {"document": ""}),
        (Rollback, {"version": 1}),
        (PutModel, {"model": {}}),
    ):
        with pytest.raises(ValidationError):
            shape.model_validate({"why": "w", **more})
        shape.model_validate({"why": "w", "expected": 1, **more})
