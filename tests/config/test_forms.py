"""Short forms: what may be written in the place of a list, a section or a mapping, and is the same."""

from decimal import Decimal

import pytest

from config.offers import Model
from config.prices import Price
from config.quotas import Budget
from config.tenants import Team


def test_one_budget_or_many() -> None:
    """A budget that is written without a list is a list of one, and code may say `budgets`."""
    one = Budget(usd=Decimal(5), per="day")
    written = {"usd": 5, "per": "day"}
    expected = Team(budgets=(one,))
    for value in (written, [written], one, [one], (one,)):
        assert Team.model_validate({"budget": value}) == expected
        assert Team.model_validate({"budgets": value}) == expected
    assert expected.budgets[0].limit_nusd == 5 * 10**9
    assert Team.model_validate({"budget": []}) == Team()


@pytest.mark.parametrize("written", [0.5, {"overall": 0.5}])
def test_a_value_stands_for_its_section(written: object) -> None:
    """A quality that is a number is the overall one."""
    model = Model.model_validate({"quality": written, "deployments": [{"provider": "p"}]})
    assert model.quality is not None
    assert model.quality.overall == 0.5


@pytest.mark.parametrize("written", [Decimal("0.04"), {"default": Decimal("0.04")}])
def test_one_price_stands_for_all_kinds_of_images(written: object) -> None:
    """It is the default, which a quality or a size may override."""
    assert Price.model_validate({"per_image": written}).per_image == {"default": Decimal("0.04")}
