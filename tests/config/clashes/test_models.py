"""Models: their deployments go to providers that exist, under ids of their own, at prices that each have a beginning."""

import pytest

from tests.config.slips import said


@pytest.mark.parametrize(
    ("old", "new", "problems"),
    [
        (
            "m: {deployments: [{provider: p}]}",
            "m: {deployments: [{provider: x}]}",
            [
                'f:8: models.m.deployments[0].provider: no provider named "x"; there are: "p", "q/r", "g"'
            ],
        ),
        (
            "n: {deployments: [{provider: p}]}",
            "n: {deployments: [{provider: p, id: m/p}]}",
            [
                (
                    'f:9: models.n.deployments[0].id: the deployment id "m/p" is taken by'
                    " models.m.deployments[0]; give each deployment an id of its own"
                )
            ],
        ),
        (
            "  m: {deployments: [{provider: p}]}",
            "  m: {deployments: [{provider: q/r}]}\n  m/q: {deployments: [{provider: r}]}",
            [
                (
                    'f:9: models.m/q.deployments[0]: the deployment id "m/q/r" is taken by'
                    " models.m.deployments[0]; give each deployment an id of its own"
                ),
                'f:9: models.m/q.deployments[0].provider: no provider named "r"; there are: "p", "q/r", "g"',
            ],
        ),
        (
            "  m: {deployments: [{provider: p}]}",
            "  m: {deployments: [{provider: p}], context: 10, max_output: 11, tags: [a, a]}",
            [
                "f:8: models.m.max_output: more output than the context of 10 tokens holds; lower it, or raise context",
                'f:8: models.m.tags[1]: "a" is listed twice; keep one',
            ],
        ),
        *(
            (
                "  m: {deployments: [{provider: p}]}",
                f"  m: {{deployments: [{{provider: {name}, responses_only: {said}}}]}}",
                [
                    (
                        "f:8: models.m.deployments[0].responses_only: this is for providers that speak"
                        " openai and have Responses; leave it out"
                    )
                ]
                if clashes
                else [],
            )
            for name, said, clashes in (
                ("p", "true", False),
                ("g", "true", True),
                ("g", "false", False),
            )
        ),
    ],
)
def test_what_cannot_be_served_is_said(old: str, new: str, problems: list[str]) -> None:
    """Exactly these problems, in the order of the document."""
    assert said(old, new) == problems


@pytest.mark.parametrize(
    ("prices", "problems"),
    [
        ("{from: 2027-01-01, input: 1, output: 1}", []),
        ("[{input: 1, output: 1}, {from: 2027-01-01, input: 2, output: 2}]", []),
        (
            "[{input: 1, output: 1}, {input: 2, output: 2}]",
            [
                (
                    "f:8: models.m.price[1]: a second price without a beginning;"
                    " say from when on each of them holds, e.g. from: 2027-01-01"
                )
            ],
        ),
        (
            "[{from: 2027-01-01, input: 1, output: 1}, {from: 2027-01-01T01:00+01:00, input: 2, output: 2}]",
            [
                (
                    "f:8: models.m.price[1].from: a second price from then on;"
                    " say from when on each of them holds, e.g. from: 2027-01-01"
                )
            ],
        ),
        (
            "[{from: '${GONE}', input: 1, output: 1}, {input: 2, output: 2}]",
            [
                (
                    "f:8: models.m.price[0].from: the variable GONE is not set; set it, or write"
                    " ${NAME:-default}"
                )
            ],
        ),
        (
            "[{from: soon, input: 1, output: 1}]",
            [
                (
                    'f:8: models.m.price[0].from: found "soon", expected a date or a moment from 2024 to'
                    " 2099; write 2026-12-24, 2026-12-24T18:00 or 2026-12-24T18:00+01:00"
                )
            ],
        ),
    ],
)
def test_each_price_of_a_list_begins_at_a_moment_of_its_own(
    prices: str, problems: list[str]
) -> None:
    """Two that begin together would leave open which one bills."""
    model = "m: {deployments: [{provider: p}]}"
    assert said(model, f"m: {{price: {prices}, deployments: [{{provider: p}}]}}") == problems
    inner = f"m: {{deployments: [{{provider: p, price: {prices}}}]}}"
    assert len(said(model, inner)) == len(problems)
