"""What all sections share: frozen, closed to unknown fields, and empty values mean defaults."""

import pytest
from pydantic import ValidationError

from config.models import Config
from config.quotas import Budget
from config.section import Section
from config.tenants import Team


def test_a_configuration_is_frozen() -> None:
    """What was checked cannot become something else."""
    with pytest.raises(ValidationError):
        Config().edge.workers = 4  # type: ignore[misc]


def test_unknown_fields_are_refused() -> None:
    """Also in code, and in every section."""
    for section in Section.__subclasses__():
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            section.model_validate({"unknown": 1})


def test_nothing_means_the_default() -> None:
    """A field that is empty is as if it were not there, under its name in code too."""
    config = Config.model_validate({"edge": None, "organizations": {"o": {"budget": None}}})
    assert config.edge.workers == "auto"
    assert config.organizations["o"].budgets == ()
    assert Team.model_validate({"budgets": None, "limits": None}) == Team()
    with pytest.raises(ValidationError):
        Budget.model_validate({"usd": None, "per": "day"})
