"""What tests of prices share: usage and prices as others write them, and the public catalogue as its own package reads it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import ModelInfo

from config.prices import Price

AT = datetime(2026, 11, 22, 3, 36, tzinfo=UTC)
THEIRS = DataSnapshot(providers=providers, from_auto_update=False)


def is_found(provider_id: str, model: ModelInfo) -> bool:
    """Tell whether a model's id leads to it; the matchers may prefer another, or none."""
    try:
        return THEIRS.find_provider_model(model.id, None, provider_id, None)[1] is model
    except LookupError:
        return False


@dataclass(frozen=True)
class Units:
    """What it used that is not sold by the token."""

    images: int = 0
    image_kind: str = ""
    audio_input_us: int = 0
    audio_output_us: int = 0
    characters: int = 0
    search_units: int = 0


def price(input_usd: Decimal | float, output_usd: Decimal | float, **more: Any) -> Price:
    """Write a price of the configuration."""
    return Price.model_validate({"input": input_usd, "output": output_usd, **more})
