"""The section of prices: tokens in USD per million, other things in USD each."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from config.forms import OneForAll, OneOrMore
from config.scalars import Moment, Money, Text
from config.section import Section, UsdPerMillion

HIGHEST_UNIT_USD = 1_000
UsdPerUnit = Annotated[Decimal, Money(HIGHEST_UNIT_USD, above=False)]
ImagePrices = Annotated[
    dict[
        Annotated[
            str,
            Text(
                r"[a-z0-9_.-]+(/[a-z0-9_.-]+)?",
                what="default, a quality, a size, or quality/size",
            ),
        ],
        UsdPerUnit,
    ],
    OneForAll(),
]
# What may be sold by itself; a price that says one of these need not speak of tokens.
UNIT_PRICES = (
    *("per_image", "per_second", "per_second_output", "per_character", "per_search_unit"),
    "per_request",
)


def _without_required(schema: dict[str, Any]) -> None:
    """Let editors accept a price that sells no tokens."""
    required = schema.pop("required", [])
    sold = [{"required": [name]} for name in UNIT_PRICES]
    schema["anyOf"] = [{"required": required}, *sold]


class Price(Section):
    """What a model costs: tokens in USD per million, other things in USD each; it overrides the catalogue."""

    model_config = ConfigDict(json_schema_extra=_without_required)

    since: Annotated[str, Moment()] | None = Field(
        default=None,
        validation_alias="from",
        description="From when on, in a list of prices: `2027-01-01` or `2027-01-01T12:00` (UTC), or"
        " with an offset; before the first of them the catalogue's price holds.",
    )
    input: UsdPerMillion = Field(
        description="Input tokens; together with `output` it may be left out where something else is sold."
    )
    output: UsdPerMillion = Field(description="Output tokens, reasoning included.")
    cached_input: UsdPerMillion | None = Field(
        default=None, description="Input tokens read from the vendor's cache; as `input` if absent."
    )
    cache_write: UsdPerMillion | None = Field(
        default=None,
        description="Input tokens written to the vendor's cache; as `input` if absent.",
    )
    cache_write_1h: UsdPerMillion | None = Field(
        default=None,
        description="Those of them that are to live for an hour; as `cache_write` if absent.",
    )
    audio_input: UsdPerMillion | None = Field(
        default=None, description="Audio input tokens; as `input` if absent."
    )
    audio_output: UsdPerMillion | None = Field(
        default=None, description="Audio output tokens; as `output` if absent."
    )
    reasoning: UsdPerMillion | None = Field(
        default=None, description="Reasoning tokens; as `output` if absent."
    )
    image_input: UsdPerMillion | None = Field(
        default=None, description="Image input tokens; as `input` if absent."
    )
    image_output: UsdPerMillion | None = Field(
        default=None, description="Image output tokens; as `output` if absent."
    )
    per_image: ImagePrices | None = Field(
        default=None,
        description="USD for an image that is made: one price, or a mapping of `default`, a quality, a"
        " size or `quality/size` to prices, of which the most exact holds.",
    )
    per_second: UsdPerUnit | None = Field(
        default=None, description="USD for a second of audio that is sent, as of a transcription."
    )
    per_second_output: UsdPerUnit | None = Field(
        default=None, description="USD for a second of audio that is made."
    )
    per_character: UsdPerUnit | None = Field(
        default=None, description="USD for a character that is spoken."
    )
    per_search_unit: UsdPerUnit | None = Field(
        default=None, description="USD for a search unit of a rerank."
    )
    per_request: UsdPerUnit | None = Field(
        default=None, description="USD for each attempt that the vendor served, whatever it holds."
    )

    @model_validator(mode="before")
    @classmethod
    def _need_not_sell_tokens(cls, data: Any) -> Any:
        if not isinstance(data, dict) or {"input", "output"} & data.keys():
            return data
        sells = any(data.get(name) is not None for name in UNIT_PRICES)
        return {"input": 0, "output": 0} | data if sells else data


Prices = Annotated[tuple[Price, ...], OneOrMore()]
