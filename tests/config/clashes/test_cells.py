"""Cells: what cannot be kept over as many of them as a document asks for is refused, with its place and a remedy."""

import pytest

from config.loader import check_text, load_text

BASE = """\
store: {cells: 3}
providers:
  p: {protocol: openai, base_url: http://h, limits: {rpm: 3}}
models:
  m: {limits: {tpm: 900, burst: {tpm: 90}}, deployments: [{provider: p, limits: {concurrency: 3}}]}
organizations:
  o: {cell: 2, budget: {usd: 1, per: day}}
"""


def problems(text: str) -> list[str]:
    return [str(each) for each in check_text(text, source="f", environ={})]


def test_what_can_be_divided_is_taken() -> None:
    """A limit as large as the number of cells gives each one."""
    assert problems(BASE) == []
    assert load_text(BASE, source="f", environ={}).config.store.cells == 3


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "rpm: 3",
            "rpm: 2",
            (
                "f:3: providers.p.limits.rpm: 2 cannot be divided over 3 cells (store.cells);"
                " make it 3 at least, or set store.cells lower"
            ),
        ),
        (
            "concurrency: 3",
            "concurrency: 1",
            (
                "f:5: models.m.deployments[0].limits.concurrency: 1 cannot be divided over 3 cells"
                " (store.cells); make it 3 at least, or set store.cells lower"
            ),
        ),
        (
            "burst: {tpm: 90}",
            "burst: {tpm: 2}",
            (
                "f:5: models.m.limits.burst.tpm: 2 cannot be divided over 3 cells (store.cells);"
                " make it 3 at least, or set store.cells lower"
            ),
        ),
        (
            "m: {limits",
            "m: {budget: {usd: 9, per: day}, limits",
            (
                "f:5: models.m.budget: it is used from 3 cells (store.cells), and a budget lies in one;"
                " give budgets to organizations, teams, keys, users, applications or business lines,"
                " or set store.cells to 1"
            ),
        ),
        (
            "cell: 2",
            "cell: 3",
            (
                "f:7: organizations.o.cell: there is no cell 3: store.cells is 3;"
                " write a number from 0 to 2, or raise store.cells"
            ),
        ),
        (
            "cell: 2",
            "organizations: {x: {cell: 1}}",
            (
                "f:7: organizations.o.organizations.x.cell: a part lies where the whole does;"
                " write it at organizations.o"
            ),
        ),
        (
            "cells: 3",
            "cells: 17",
            'f:1: store.cells: found "17", expected a whole number from 1 to 16',
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_place_and_a_remedy(
    old: str, new: str, said: str
) -> None:
    """Before anything is published."""
    assert old in BASE
    assert problems(BASE.replace(old, new, 1)) == [said]


def test_it_is_told_where_large_calls_will_not_fit() -> None:
    """A warning: they go elsewhere, or nowhere."""
    text = BASE.replace("m: {limits", "m: {context: 400, limits")
    (said,) = problems(text)
    assert said == (
        "f:5: models.m.limits.tpm: warning: an even share for 3 cells (store.cells) is 30 tokens at once, and the"
        " context of the model 400: larger calls are not sent there; raise it, or have the tenants of this model in one cell"
    )
    assert problems(text.replace("tpm: 900, burst: {tpm: 90}", "tpm: 1200")) == []


def test_with_one_cell_nothing_of_this_is_asked() -> None:
    """Small limits and budgets of models are as they were."""
    text = BASE.replace("cells: 3", "cells: 1").replace("cell: 2, ", "").replace("rpm: 3", "rpm: 1")
    assert problems(text.replace("m: {limits", "m: {budget: {usd: 9, per: day}, limits")) == []


def test_an_empty_value_is_as_if_it_were_not_there() -> None:
    """No budget, and one cell: there is no third."""
    assert problems(BASE.replace("m: {limits", "m: {budget: ~, limits")) == []
    [said] = problems(BASE.replace("cells: 3", "cells: ~"))
    assert said.startswith("f:7: organizations.o.cell: there is no cell 2: store.cells is 1")
