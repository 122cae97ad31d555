"""Where tenants lie: decided by name or by an operator, whole, and refused where it cannot be kept."""

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
