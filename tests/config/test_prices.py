"""Prices: whoever sells something else need not sell tokens, and whoever sells tokens says both prices."""

from decimal import Decimal

import pytest
from pydantic import ValidationError

from config.prices import UNIT_PRICES, Price


@pytest.mark.parametrize("unit", UNIT_PRICES)
def test_what_is_sold_by_itself_needs_no_price_of_tokens(unit: str) -> None:
    """Tokens then cost nothing."""
    price = Price.model_validate({unit: Decimal("0.01")})
    assert (price.input, price.output) == (0, 0)


@pytest.mark.parametrize("said", [{}, {"input": 1}, {"output": 1}, {"per_second": 1, "input": 1}])
def test_tokens_have_both_prices_or_none(said: dict[str, int]) -> None:
    """A price that says nothing, or half of it, is a mistake and not a gift."""
    with pytest.raises(ValidationError, match="Field required"):
        Price.model_validate(said)
