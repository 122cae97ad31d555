"""
Where price lists come from: the public catalogue and the configuration, as `routing.rates` reckons by them.

The rules of this file:

- Prices come from the data that the ``genai-prices`` wheel carries, or from the configuration.
  The network updater of that package is never started, so the same checkout always bills the same.
- Six decimals of a vendor's price survive; the few rows with binary noise beyond that are rounded.
- Prices may depend on the length of the input (tiers) and on the time (a new price list, off-peak hours):
  `Rates.until_us` says when to ask again.
- What cannot be told is not guessed: an unknown model has no rates, and the caller decides.

Still ugly: the ledger does not tell one-hour cache writes from five-minute ones (they are billed apart, and
counted together), and price variants that a caller selects (``service_tier``) bill at the standard rate.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from importlib.metadata import version as installed_version

from genai_prices.data import providers as _bundled_providers
from genai_prices.data_snapshot import DataSnapshot, find_provider_by_id
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from config.prices import Price
from config.scalars import moment_of
from routing.rates import Rates

__all__ = [
    "from_config",
    "in_force",
    "is_listed",
    "provider_id_for",
    "rates_for",
]

_NUSD_PER_KTOK = 1_000_000
"""One USD per million tokens, as nano-USD per thousand tokens (1e9 nano-USD / 1e6 tokens * 1e3)."""

_NUSD_PER_REQUEST = 1_000_000
"""One USD per thousand requests, as nano-USD per request."""

_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
_WRITTEN = (
    "input",
    "output",
    "cached_input",
    "cache_write",
    "cache_write_1h",
    "audio_input",
    "audio_output",
    "reasoning",
    "image_input",
    "image_output",
)

_UNITS = ("per_second", "per_second_output", "per_character", "per_search_unit", "per_request")

_NANO = 10**9


def from_config(price: Price) -> Rates:
    """Return the rates of a price in the configuration; its digest is the version."""
    nusd = _told(price, _WRITTEN, _NUSD_PER_KTOK)
    each = _told(price, _UNITS, _NANO)
    images = tuple(
        (kind, _per_ktok(usd, _NANO)) for kind, usd in sorted((price.per_image or {}).items())
    )
    listed = nusd | each | {f"image {kind}": usd for kind, usd in images}
    said = ",".join(f"{name}={listed[name]}" for name in sorted(listed))
    digest = hashlib.sha256(said.encode()).hexdigest()[:8]
    input_rate, output_rate = nusd["input"], nusd["output"]
    return Rates(
        input_nusd_per_ktok=input_rate,
        cached_nusd_per_ktok=nusd.get("cached_input", input_rate),
        cache_write_nusd_per_ktok=nusd.get("cache_write", input_rate),
        output_nusd_per_ktok=output_rate,
        reasoning_nusd_per_ktok=nusd.get("reasoning", output_rate),
        audio_input_nusd_per_ktok=nusd.get("audio_input", input_rate),
        audio_output_nusd_per_ktok=nusd.get("audio_output", output_rate),
        cache_write_1h_nusd_per_ktok=nusd.get(
            "cache_write_1h", nusd.get("cache_write", input_rate)
        ),
        request_nusd=each.get("per_request", 0),
        version=f"config/{digest}",
        image_input_nusd_per_ktok=nusd.get("image_input"),
        image_output_nusd_per_ktok=nusd.get("image_output"),
        images=images,
        second_nusd=each.get("per_second", 0),
        second_output_nusd=each.get("per_second_output", 0),
        character_nusd=each.get("per_character", 0),
        search_unit_nusd=each.get("per_search_unit", 0),
        sells_tokens=bool(input_rate or output_rate) or not (each or images),
    )


def _told(price: Price, names: Iterable[str], factor: int) -> dict[str, int]:
    """Return what a price says of these, as whole nano-USD of their unit."""
    said: dict[str, Decimal | None] = {name: getattr(price, name) for name in names}
    return {name: _per_ktok(usd, factor) for name, usd in said.items() if usd is not None}


def in_force(prices: Sequence[Price], at: datetime) -> tuple[Price | None, int]:
    """
    Return the price of a list that holds at an instant (aware, or UTC), None before the first of them.

    With it comes the unix time in microseconds from which another one holds, 0 for never.
    """
    now = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    found, begun, following = None, _ALWAYS, 0
    for price in prices:
        since = _ALWAYS if price.since is None else moment_of(price.since, "UTC")
        if since > now:
            next_us = round(since.timestamp() * 1_000_000)
            following = min(following, next_us) if following else next_us
        elif found is None or since >= begun:
            found, begun = price, since
    return found, following


def is_listed(model_name: str, provider_catalogue_id: str | None) -> bool:
    """Say whether the catalogue has the model at all, be it sold by the token or otherwise."""
    return _find(model_name, provider_catalogue_id) is not None


def rates_for(model_name: str, provider_catalogue_id: str | None, at: datetime) -> Rates | None:
    """
    Return the catalogue's rates of a model at an instant (aware, or UTC), None if it knows none.

    ``model_name`` is what the upstream is asked for; dated versions and a vendor's prefix
    (``openai/gpt-5-mini``) are understood.
    ``provider_catalogue_id`` is the catalogue's name of the seller (`provider_id_for`); with None
    the model's own vendor is taken, which is a guess that only a distinctive name allows.
    A model that is not sold by the token (audio by the hour, pages) has no rates.
    """
    model = _find(model_name, provider_catalogue_id)
    if model is None:
        return None
    rates = _flatten(model.get_prices(at))
    if rates is None:
        if not model_name.lower().endswith(":free"):
            return None
        rates = _rates_at({}, None)
    return replace(
        rates,
        version=_catalogue_version(),
        context=model.context_window,
        until_us=_next_change_us(model, at),
    )


def provider_id_for(base_url: str) -> str | None:
    """Return the catalogue's id of the vendor that answers at ``base_url``, None if unknown."""
    for provider in _bundled_providers:
        if re.match(provider.api_pattern, base_url):
            return provider.id
    return None


@cache
def _catalogue_version() -> str:
    """Return the version that ledger rows carry for prices of the catalogue."""
    return f"genai-prices/{installed_version('genai-prices')}"


@cache
def _snapshot() -> DataSnapshot:
    """Return the bundled data; one that an updater may have installed is never looked at."""
    return DataSnapshot(providers=_bundled_providers, from_auto_update=False)


def _find(model_name: str, provider_id: str | None) -> ModelInfo | None:
    """Return the catalogue's model for a name, as written first, then without a vendor's prefix."""
    if not model_name:
        return None
    found = _lookup(model_name, provider_id)
    if found is not None or "/" not in model_name:
        return found
    vendor, _, bare = model_name.partition("/")
    prefixed = find_provider_by_id(_bundled_providers, vendor)
    if prefixed is None or not bare:
        return None
    if provider_id is None:
        return _lookup(bare, prefixed.id)
    seller = find_provider_by_id(_bundled_providers, provider_id)
    # Only the vendor's own door may be named by the vendor's prefix; a reseller has its own prices.
    return _lookup(bare, prefixed.id) if seller is prefixed else None


def _lookup(model_name: str, provider_id: str | None) -> ModelInfo | None:
    """Return the model under exactly this name, None if the catalogue does not have it."""
    try:
        return _snapshot().find_provider_model(model_name, None, provider_id, None)[1]
    except LookupError:
        return None


def _flatten(price: ModelPrice) -> Rates | None:
    """Return a price list as integers with its tiers, None if it sells no tokens."""
    listed: dict[str, Decimal | TieredPrices] = {
        key: value for key, value in vars(price).items() if value is not None
    }
    if "input_mtok" not in listed and "output_mtok" not in listed:
        return None
    starts = sorted(
        {
            tier.start
            for value in listed.values()
            if isinstance(value, TieredPrices)
            for tier in value.tiers
        }
    )
    return replace(
        _rates_at(listed, None),
        tiers=tuple((start, _rates_at(listed, start)) for start in starts),
    )


def _rates_at(listed: dict[str, Decimal | TieredPrices], start: int | None) -> Rates:
    """Return the rates of the tier that begins at ``start`` tokens, of the base for None."""

    def rate(key: str, otherwise: int) -> int:
        value = listed.get(key)
        if value is None:
            return otherwise
        return _per_ktok(_price_at(value, start), _NUSD_PER_KTOK)

    input_rate = rate("input_mtok", 0)
    output_rate = rate("output_mtok", 0)
    write_rate = rate("cache_write_mtok", input_rate)
    fee = listed.get("requests_kcount")
    search = listed.get("web_searches_kcount")
    return Rates(
        input_nusd_per_ktok=input_rate,
        cached_nusd_per_ktok=rate("cache_read_mtok", input_rate),
        cache_write_nusd_per_ktok=write_rate,
        output_nusd_per_ktok=output_rate,
        reasoning_nusd_per_ktok=rate("output_reasoning_mtok", output_rate),
        audio_input_nusd_per_ktok=rate("input_audio_mtok", input_rate),
        audio_output_nusd_per_ktok=rate("output_audio_mtok", output_rate),
        cache_write_1h_nusd_per_ktok=rate("cache_write_1h_mtok", write_rate),
        search_nusd=0 if search is None else _per_ktok(_price_at(search, start), _NUSD_PER_REQUEST),
        request_nusd=0 if fee is None else _per_ktok(_price_at(fee, start), _NUSD_PER_REQUEST),
    )


def _price_at(value: Decimal | TieredPrices, start: int | None) -> Decimal:
    """Return the price that holds just above ``start`` input tokens."""
    if not isinstance(value, TieredPrices):
        return value
    price = value.base
    for tier in value.tiers:  # ascending, as TieredPrices guarantees
        if start is not None and start >= tier.start:
            price = tier.price
    return price


def _per_ktok(usd: Decimal, factor: int) -> int:
    """Return a price in USD as whole nano-USD of its unit."""
    return int((usd * factor).to_integral_value(rounding=ROUND_HALF_UP))


def _next_change_us(model: ModelInfo, at: datetime) -> int:
    """Return the next instant after ``at`` at which a condition of the price list may flip."""
    if isinstance(model.prices, ModelPrice):
        return 0
    now = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    changes = [moment for price in model.prices for moment in _boundaries(price, now)]
    return min((int(moment.timestamp()) * 1_000_000 for moment in changes), default=0)


def _boundaries(price: ConditionalPrice, now: datetime) -> Iterable[datetime]:
    """Yield the next boundary of each kind that the condition of a price has."""
    condition = price.constraint
    if isinstance(condition, StartDateConstraint):
        start = datetime.combine(condition.start_date, time(), UTC)
        if start > now:
            yield start
    elif isinstance(condition, TimeOfDateConstraint):
        for edge in (condition.start_time, condition.end_time):
            aware = edge.replace(tzinfo=UTC) if edge.tzinfo is None else edge
            today = datetime.combine(now.date(), aware).astimezone(UTC)
            while today > now:
                today -= timedelta(days=1)
            yield today + timedelta(days=1)
