"""Routes: models that exist, each once, and a policy that does not contradict itself."""

import pytest

from tests.config.slips import said


@pytest.mark.parametrize(
    ("old", "new", "problems"),
    [
        (
            "[m, n]",
            "[m, auto]",
            ['f:11: routes.auto.models[1]: no model named "auto"; there are: "m", "n"'],
        ),
        (
            "{models: [m, n]}",
            "{models: [m], degrade: [n, o]}",
            ['f:11: routes.auto.degrade[1]: no model named "o"; there are: "m", "n"'],
        ),
        ("[m, n]", "[m, m]", ['f:11: routes.auto.models[1]: "m" is listed twice; keep one']),
        (
            "[m, n]",
            "[]",
            ["f:11: routes.auto.models: found an empty list, expected at least one entry"],
        ),
        (
            "  auto: {models: [m, n]}",
            "  m: {models: [m, n]}",
            [
                (
                    "f:11: routes.m: a model has this name too (line 8);"
                    " callers ask for models and routes by the same field; rename one"
                )
            ],
        ),
        (
            "{models: [m, n]}",
            (
                "{models: [m, n], policy: cost_quality, levels:"
                " {economy: {within: {low: 0.1, high: 0.2}}}}"
            ),
            [
                (
                    "f:11: routes.auto.levels.economy.within.low: less than what calls with a"
                    " preference for high cost give up (0.2);"
                    " a preference for low cost gives up more quality; turn the two round"
                )
            ],
        ),
    ],
)
def test_what_a_route_cannot_do_is_said(old: str, new: str, problems: list[str]) -> None:
    """Exactly these problems, in the order of the document."""
    assert said(old, new) == problems


@pytest.mark.parametrize("low", ["nan", "-nan", "inf", "soon"])
def test_what_is_no_number_is_compared_with_none(low: str) -> None:
    """It is refused where it stands, and nothing else is said of it."""
    level = f"{{economy: {{within: {{low: {low}, high: 0.2}}}}}}"
    [problem] = said("{models: [m, n]}", f"{{models: [m, n], levels: {level}}}")
    assert "routes.auto.levels.economy.within.low: found" in problem
