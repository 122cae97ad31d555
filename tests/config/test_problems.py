"""Problems: one line says where, what and what to do; paths have one reading and no control characters."""

import json

from hypothesis import given
from hypothesis import strategies as st

from config.problems import ConfigError, Problem, mistake, nearest, quoted, spell


def problem(**more: object) -> Problem:
    fields = {"source": "penstock.yaml", "path": "a.b", "line": 3, "column": 5, "message": "wrong"}
    return Problem(**{**fields, **more})  # type: ignore[arg-type]


def test_a_problem_is_one_line() -> None:
    """Place, path, message, then the nearest name and the remedy where there are any."""
    assert str(problem()) == "penstock.yaml:3: a.b: wrong"
    assert str(problem(nearest="rpm")) == "penstock.yaml:3: a.b: wrong; did you mean 'rpm'?"
    assert str(problem(remedy="mend it")) == "penstock.yaml:3: a.b: wrong; mend it"
    assert str(problem(path="", line=0)) == "penstock.yaml: wrong"
    assert str(problem(severity="warning")) == "penstock.yaml:3: a.b: warning: wrong"


def test_a_problem_is_json() -> None:
    """Every field by its name, for those who read with programs."""
    fields = json.loads(json.dumps(problem(nearest="rpm").as_dict()))
    assert Problem(**fields) == problem(nearest="rpm")


def test_an_error_says_all_of_its_problems() -> None:
    """One line each, in the order given."""
    error = ConfigError([problem(), problem(line=4)])
    assert str(error).splitlines() == [str(each) for each in error.problems]
    assert len(error.problems) == 2


STEPS = st.lists(st.integers(0, 99) | st.text(st.characters(codec="utf-8"), max_size=8), max_size=4)


@given(STEPS, STEPS)
def test_two_paths_are_spelled_differently(one: list[str | int], other: list[str | int]) -> None:
    """A dot, a quote or a bracket within a name is no other path."""
    if one != other and not (one and other and "" in (*one, *other)):
        assert (spell(tuple(one)) == spell(tuple(other))) == (one == other)


@given(STEPS)
def test_a_path_is_printable(steps: list[str | int]) -> None:
    """No name in a file can move the cursor of a terminal."""
    assert spell(tuple(steps)).isprintable()


def test_a_path_is_as_people_read_it() -> None:
    """Names as they are, indexes in brackets, names with a dot in quotes."""
    path = ("models", "gpt-4.1", "deployments", 0, "provider")
    assert spell(path) == 'models."gpt-4.1".deployments[0].provider'
    assert spell(("organizations", "a@b:c", "teams")) == "organizations.a@b:c.teams"


@given(st.text())
def test_a_quoted_text_is_short_and_printable(text: str) -> None:
    """However long and whatever is in it, also what is no Unicode text."""
    assert quoted(text).isprintable()
    assert quoted(text + "\ud800\x1b").isprintable()
    assert len(quoted(text)) <= 2 + 80 * 10


def test_the_nearest_name_is_the_likely_one() -> None:
    """Case does not count; what is far from every name has no nearest."""
    known = ["rpm", "tpm", "concurrency", "GPT-5-mini"]
    assert [nearest(word, known) for word in ("rmp", "RPM", "concurency", "gpt5-mini")] == [
        *("rpm", "rpm", "concurrency", "GPT-5-mini"),
    ]
    assert nearest("something else", known) == ""
    assert nearest("x", []) == ""
    assert nearest("x" * 100_000, known) == ""


def test_a_mistake_says_what_was_expected() -> None:
    """What pydantic carries from a reader to the loader."""
    error = mistake("a text", remedy="write one", choices=["a"])
    assert error.message() == "expected a text"
    assert error.context == {"expected": "a text", "remedy": "write one", "choices": ("a",)}
