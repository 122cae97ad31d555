"""Names: what leads nowhere is said once, and what is no name is not looked for."""

from tests.config.slips import said


def test_names_that_cannot_be_read_are_not_dangling() -> None:
    """A reference to an unset variable, or to what is no name, is said once."""
    for written, words in (
        ("${GONE}", "is not set"),
        ("'a b'", "expected a name"),
        ("[m]", "a list"),
    ):
        found = said("[m, n]", f"[m, {written}]")
        assert len(found) == 1
        assert words in found[0]
