"""
What every section of the configuration is made of: its base, and the words and numbers that several sections share.

A number that is too large, or a word that is none, is refused with what was expected (`config.scalars`).
"""

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from config.scalars import ANY_NAME, PLAIN_NAME, Money, Number, Text

DAY_S = 86_400
HIGHEST_CONCURRENCY = 10**6
HIGHEST_PRICE_USD = 100_000
WhenDown = Literal["share", "closed"]
Name = Annotated[str, ANY_NAME]
PlainName = Annotated[str, PLAIN_NAME]
Label = Annotated[str, Text()]
Seconds = Annotated[float, Number(0, DAY_S, above=True)]
Share = Annotated[float, Number(0, 1)]
UsdPerMillion = Annotated[Decimal, Money(HIGHEST_PRICE_USD, above=False)]


class Section(BaseModel):
    """What all sections share: frozen, no unknown field, and an empty value means the default."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        # In YAML a field has one name (the loader sees to it); code may use the attribute's.
        validate_by_name=True,
        validate_by_alias=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_means_default(cls, data: Any) -> Any:
        if not isinstance(data, dict) or None not in data.values():
            return data
        optional = {
            name
            for attribute, field in cls.model_fields.items()
            if not field.is_required()
            for name in (attribute, field.validation_alias)
        }
        return {
            name: value for name, value in data.items() if value is not None or name not in optional
        }


# As many as anybody runs nodes for; each costs every edge two connections.
MOST_CELLS = 16
