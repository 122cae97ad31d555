"""Limits and budgets: ceilings that a slip of a few zeros does not get past, and money that stays exact."""

from decimal import Decimal

import pytest
from pydantic import ValidationError

from config.quotas import Budget, Limits
from config.scalars import Plain


def test_the_largest_budget_is_exact_in_lua() -> None:
    """Scripts count nano-USD in doubles, which are exact below 2**53."""
    largest = Budget(usd=Decimal(9_000_000), per="month")
    assert largest.limit_nusd < 2**53
    with pytest.raises(ValidationError):
        Budget(usd=Decimal("9000000.000000001"), per="month")


def test_limits_have_ceilings() -> None:
    """A slip of a few zeros is a mistake, not a limit that is never reached."""
    Limits(rpm=10**7, tpm=10**10, concurrency=10**6)
    for field, most in (("rpm", 10**7), ("tpm", 10**10), ("concurrency", 10**6)):
        for value in (0, -1, most + 1, Plain("0"), 1.5, True, "5"):
            with pytest.raises(ValidationError):
                Limits.model_validate({field: value})
