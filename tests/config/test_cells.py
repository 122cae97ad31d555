"""Where tenants lie: decided by name or by an operator, whole, and refused where it cannot be kept."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.cells import (
    cell_of,
    cells_of,
    division_in,
    division_of,
    is_shared,
    moved,
    tenant_of,
)
from config.loader import check_text, load_text
from config.models import Config
from config.processes import StoreSettings
from config.section import MOST_CELLS
from config.tenants import Organization
from store.cells import FIRST, cell

NAMES = st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1, max_size=30, unique=True)


def config(cells: int, *names: str, **placed: int) -> Config:
    """Return organizations over cells."""
    return Config.model_construct(
        store=StoreSettings.model_construct(cells=cells),
        organizations={
            **{name: Organization() for name in names},
            **{name: Organization.model_construct(cell=number) for name, number in placed.items()},
        },
    )


@given(NAMES, st.integers(1, MOST_CELLS - 1))
def test_one_cell_more_moves_only_those_who_go_there(names: list[str], count: int) -> None:
    """And with one cell everybody is in it."""
    before, after = config(count, *names), config(count + 1, *names)
    for name in names:
        here, there = cell_of(before, name), cell_of(after, name)
        assert here in cells_of(before)
        assert there in {here, cell(count)}
        assert cell_of(config(1, *names), name) is FIRST


def test_names_spread_over_cells() -> None:
    """A thousand organizations over four cells: none has much more than another."""
    names = [f"org-{number}" for number in range(1000)]
    ours = config(4, *names)
    found = [cell_of(ours, name).number for name in names]
    assert all(200 < found.count(number) < 300 for number in range(4))
    # Where they lie outlives this process, and every replica has to agree.
    assert found[:8] == [cell_of(ours, name).number for name in names[:8]]
    assert [cell_of(config(4), name).number for name in ("acme", "globex", "initech")] == KNOWN


KNOWN = [3, 0, 1]


def test_parts_lie_where_the_whole_does() -> None:
    """A limit over an organization has to be seen by one script."""
    ours = config(8, acme=5)
    assert cell_of(ours, "acme") is cell_of(ours, "acme/emea/paris") is cell(5)


@pytest.mark.parametrize(
    ("scope", "tenant"),
    [
        ("org:acme", "acme"),
        ("org:acme/emea", "acme"),
        ("team:acme/emea/support", "acme"),
        ("key:acme/support/helpdesk", "acme"),
        ("user:acme#ann/lee", "acme"),
        ("users:acme", "acme"),
        ("application:acme/emea#help#desk", "acme"),
        ("business_line:acme#x", "acme"),
    ],
)
def test_a_scope_of_callers_belongs_to_a_tenant(scope: str, tenant: str) -> None:
    """Whatever stands in the names of users."""
    assert tenant_of(scope) == tenant
    assert not is_shared(scope)


def test_what_belongs_to_nobody_lies_in_the_first_cell() -> None:
    """What an experiment copies to a shadow is paid by no tenant."""
    assert tenant_of("shadow:trial/x") == ""
    assert not is_shared("shadow:trial/x")
    assert cell_of(config(8), "") is FIRST


def test_what_everybody_uses_is_shared() -> None:
    """Models, deployments and providers."""
    assert all(map(is_shared, ("model:m", "deployment:m/p", "provider:p")))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (config(2, "a"), config(2, "a", "b"), ""),
        (config(1, "a"), config(2, "a"), "store.cells: 1 -> 2"),
        (config(2, a=0), config(2, a=1), "organizations.a.cell: 0 -> 1"),
        (config(2, a=0), config(2), ""),
    ],
)
def test_it_is_told_what_would_lie_elsewhere(before: Config, after: Config, said: str) -> None:
    """What is new, or gone, does not move."""
    assert moved(division_of(before), division_of(after)) == said


@pytest.mark.parametrize("cells", ["3", "${CELLS:-3}"])
def test_what_ran_tells_its_cells_whatever_else_it_lacks(cells: str) -> None:
    """Variables that are set no longer, and sections that nobody knows, do not hide where tenants lie."""
    document = f"""
store: {{cells: {cells}}}
providers: {{p: {{protocol: gone, base_url: "${{GONE}}", api_key: "${{GONE}}"}}}}
organizations:
  a: {{cell: 2, organizations: {{b: {{}}}}}}
  c: {{budget: "${{GONE}}"}}
"""
    assert division_in(document, {}) == (3, {"a": 2, "c": None})
    assert division_in("a: [", {}) == (1, {})


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
    old: str, new: str, said: Any
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
