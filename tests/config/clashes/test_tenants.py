"""Tenants: what they refer to exists, and a key is one caller's."""

import pytest

from config.loader import check_text
from tests.config.slips import said


@pytest.mark.parametrize(
    ("old", "new", "problems"),
    [
        (
            "{key:",
            "{pin: q, key:",
            [
                (
                    'f:13: organizations.o.teams.t.keys.k.pin: no model or deployment named "q";'
                    ' there are: "m", "n", "m/p", "n/p"'
                )
            ],
        ),
        (
            "{key:",
            "{files: p, key:",
            [
                (
                    "f:13: organizations.o.teams.t.keys.k.files: no provider that has `files: true`"
                    ' named "p"; no provider that has `files: true` is defined'
                )
            ],
        ),
        (
            "{key:",
            "{models: [auto, m, N, x, m], key:",
            [
                "f:13: organizations.o.teams.t.keys.k.models[2]: no model or route named \"N\"; did you mean 'n'?",
                (
                    'f:13: organizations.o.teams.t.keys.k.models[3]: no model or route named "x";'
                    ' there are: "m", "n", "auto"'
                ),
                'f:13: organizations.o.teams.t.keys.k.models[4]: "m" is listed twice; keep one',
            ],
        ),
        (
            "keys: {k:",
            "keys: {l: {key: 'sha256:%s'}, k:" % ("0" * 64),
            [
                (
                    "f:13: organizations.o.teams.t.keys.k.key: the same key as"
                    " organizations.o.teams.t.keys.l.key; a key belongs to one caller; make another"
                )
            ],
        ),
    ],
)
def test_what_a_tenant_cannot_have_is_said(old: str, new: str, problems: list[str]) -> None:
    """Exactly these problems, in the order of the document."""
    assert said(old, new) == problems


def test_one_key_under_two_variables_is_one_key() -> None:
    """Keys are compared by what they are, in clear or hashed, across organizations."""
    text = """
organizations:
  a: {teams: {t: {keys: {k: {key: "${ONE}"}}}}}
  b: {teams: {t: {keys: {k: {key: "${OTHER}"}}}}}
"""
    environ = {"ONE": "k" * 16, "OTHER": "k" * 16}
    (problem,) = check_text(text, source="f", environ=environ)
    assert problem.line == 4
    assert problem.message == "the same key as organizations.a.teams.t.keys.k.key"
    assert check_text(text, source="f", environ={**environ, "OTHER": "j" * 16}) == ()


def deep(levels: int) -> str:
    """Write organizations in organizations."""
    inner = "{}"
    for level in range(levels):
        inner = f"{{limits: {{rpm: {level + 1}}}, organizations: {{o{level}: {inner}}}}}"
    return f"organizations: {{o: {inner}}}"


def test_organizations_lie_in_each_other_up_to_four_levels() -> None:
    """The first that is too deep is told of, with its path."""
    assert not check_text(deep(3), source="t", environ={})
    [problem] = check_text(deep(4), source="t", environ={})
    assert problem.path.startswith("organizations.o.organizations.o3")
    assert "at most 4 levels" in problem.message


def test_what_a_user_has_spent_is_kept_where_he_is_named() -> None:
    """A total budget is for those with an entry of their own."""
    text = "organizations: {o: {users: {ann: {budget: {usd: 1, per: total}}}}}"
    assert not check_text(text, source="t", environ={})


def test_files_are_kept_where_the_switch_is_on_however_it_is_written() -> None:
    """`true` and `TRUE` are one word."""
    for written, count in (("true", 0), ("TRUE", 0), ("${ON:-True}", 0), ("false", 1)):
        text = f"""
providers: {{p: {{protocol: openai, base_url: http://h, files: {written}}}}}
organizations: {{o: {{files: p}}}}
"""
        assert len(check_text(text, source="t", environ={})) == count, written
