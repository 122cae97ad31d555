"""Laws of the catalogue: a name means the price list that holds for it at a moment, and nothing is guessed."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from genai_prices.data import providers
from genai_prices.types import ModelPrice, TimeOfDateConstraint

from routing.catalogue import from_config, provider_id_for, rates_for
from routing.rates import Rates, Tokens, cost_nusd
from tests.routing.prices import AT, is_found, price


def test_a_price_of_the_configuration_fills_its_gaps_from_the_kind_that_contains_it() -> None:
    """Cached, cache-write and audio input default to input, reasoning and audio output to output."""
    rates = from_config(price(Decimal("0.10"), 0.3))
    assert rates == Rates(
        *(100_000, 100_000, 100_000, 300_000, 300_000, 100_000, 300_000, 100_000),
        version=rates.version,
    )
    assert cost_nusd(rates, Tokens(input_tokens=7, output_tokens=3)) == 700 + 900


def test_the_version_of_a_configured_price_is_its_content() -> None:
    """Equal prices share a version however they are written, different prices never do."""
    assert from_config(price(0.5, 1)).version == from_config(price(Decimal("0.50"), 1.0)).version
    assert from_config(price(0.5, 1)).version != from_config(price(0.5, 2)).version
    assert (
        from_config(price(0.5, 1)).version != from_config(price(0.5, 1, cached_input=0.5)).version
    )
    assert from_config(price(0.5, 1)).version.startswith("config/")


@pytest.mark.parametrize(
    ("name", "provider", "like"),
    [
        ("gpt-5-mini", None, ("gpt-5-mini", "openai")),
        ("gpt-5-mini-2025-08-07", "openai", ("gpt-5-mini", "openai")),
        ("GPT-5-Mini", "openai", ("gpt-5-mini", "openai")),
        ("openai/gpt-5-mini", None, ("gpt-5-mini", "openai")),
        ("openai/gpt-5-mini", "openai", ("gpt-5-mini", "openai")),
        ("openai/gpt-5-mini", "openrouter", ("openai/gpt-5-mini", "openrouter")),
        ("claude-sonnet-4-5-20250929", None, ("claude-sonnet-4-5", "anthropic")),
        ("anthropic/claude-sonnet-4-5", None, ("claude-sonnet-4-5", "anthropic")),
        ("text-embedding-3-small", "openai", ("text-embedding-3-small", "openai")),
    ],
)
def test_a_name_is_found_under_its_dates_and_prefixes(
    name: str, provider: str | None, like: tuple[str, str]
) -> None:
    """Dated versions, capitals and the vendor's prefix all mean the vendor's model."""
    found = rates_for(name, provider, AT)
    assert found is not None
    assert found == rates_for(*like, AT)
    assert found.version.startswith("genai-prices/")


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("Qwen/Qwen3-32B", None),
        ("sim;ttft_ms=50", None),
        ("", None),
        ("", "openai"),
        ("/", None),
        ("openai/", None),
        ("/gpt-5-mini", None),
        ("gpt-9-unknown", "openai"),
        ("gpt-5-mini", "no-such-vendor"),
        ("openai/gpt-5-mini", "anthropic"),
        ("moderation", "openai"),
    ],
)
def test_what_is_unknown_has_no_rates(name: str, provider: str | None) -> None:
    """No guess: a name that the catalogue does not sell by the token has no price."""
    assert rates_for(name, provider, AT) is None


def test_a_free_model_is_free_and_not_unknown() -> None:
    """A model that its seller marks as free has rates, and they are zero."""
    rates = rates_for("agentica-org/deepcoder-14b-preview:free", "openrouter", AT)
    assert rates is not None
    assert cost_nusd(rates, Tokens(input_tokens=1000, output_tokens=1000)) == 0


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://api.anthropic.com", "anthropic"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://acme.openai.azure.com/openai/v1", "azure"),
        ("http://10.0.0.5:8000/v1", None),
        ("http://127.0.0.1:9", None),
        ("", None),
    ],
)
def test_the_vendor_is_told_from_its_address(url: str, provider: str | None) -> None:
    """A vendor's public host names it; a host of one's own names nobody."""
    assert provider_id_for(url) == provider


def test_a_price_that_depends_on_the_time_says_when_it_ends() -> None:
    """Within `until_us` the rates are constant, and a daily price list comes round."""
    timed = [
        (provider.id, model)
        for provider in providers
        for model in provider.models
        if not isinstance(model.prices, ModelPrice)
        and any(isinstance(price.constraint, TimeOfDateConstraint) for price in model.prices)
        and is_found(provider.id, model)
    ]
    assert timed
    for provider_id, model in timed:
        at, seen = AT, set()
        for _ in range(6):
            rates = rates_for(model.id, provider_id, at)
            assert rates is not None
            seen.add(rates.output_nusd_per_ktok)
            until = datetime.fromtimestamp(rates.until_us / 1_000_000, UTC)
            assert at < until <= at + timedelta(days=1)
            last = rates_for(model.id, provider_id, until - timedelta(microseconds=1))
            assert last is not None
            assert last.output_nusd_per_ktok == rates.output_nusd_per_ktok
            at = until
        assert len(seen) > 1


def test_a_plain_price_never_ends() -> None:
    """A model with one price list has nothing to ask again about."""
    rates = rates_for("gpt-5-mini", "openai", AT)
    assert rates is not None
    assert rates.until_us == 0
    assert rates.context == 400_000
