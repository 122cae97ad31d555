"""Laws of what a call costs: what is billed is what the price list says, rounded up once."""

import math
from decimal import Decimal

import pytest
from genai_prices import Usage
from genai_prices.data import providers
from genai_prices.types import TieredPrices
from hypothesis import given
from hypothesis import strategies as st

from routing.catalogue import from_config, rates_for
from routing.rates import (
    Rates,
    Tokens,
    bound,
    cost_nusd,
    dearest_image_nusd,
    image_nusd,
    units_nusd,
)
from tests.routing.prices import AT, THEIRS, Units, is_found, price

SOLD_BY_THE_TOKEN = [
    (provider.id, model.id)
    for provider in providers
    for model in provider.models
    if {"input_mtok", "output_mtok"} & vars(model.get_prices(AT)).keys()
    and is_found(provider.id, model)
]
TIERED = [
    (provider_id, name)
    for provider_id, name in SOLD_BY_THE_TOKEN
    if any(
        isinstance(value, TieredPrices)
        for value in vars(
            THEIRS.find_provider_model(name, None, provider_id, None)[1].get_prices(AT)
        ).values()
    )
]


@st.composite
def tokens(draw: st.DrawFn, most: int = 2_000_000) -> Tokens:
    """Draw counts that agree with their sums."""
    kinds = [draw(st.integers(0, most // 4)) for _ in range(7)]
    plain, cached, written, audio, said, reasoned, spoken = kinds
    return Tokens(
        input_tokens=plain + cached + written + audio,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=said + reasoned + spoken,
        reasoning_tokens=reasoned,
        audio_input_tokens=audio,
        audio_output_tokens=spoken,
        cache_write_1h_tokens=draw(st.integers(0, written)),
    )


def theirs_nusd(provider_id: str, name: str, usage: Tokens) -> Decimal:
    """Return what genai-prices computes, in nano-USD, unrounded."""
    price = THEIRS.calc(
        Usage(
            input_tokens=usage.input_tokens,
            cache_read_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            input_audio_tokens=usage.audio_input_tokens,
            output_tokens=usage.output_tokens,
            output_reasoning_tokens=usage.reasoning_tokens,
            output_audio_tokens=usage.audio_output_tokens,
            cache_audio_read_tokens=0,
            cache_write_1h_tokens=usage.cache_write_1h_tokens,
            input_image_tokens=0,
            output_image_tokens=0,
            input_video_tokens=0,
            output_video_tokens=0,
            cache_image_read_tokens=0,
            output_citation_tokens=0,
        ),
        name,
        provider_id,
        None,
        AT,
    )
    return price.total_price * 10**9


def has_noise(provider_id: str, name: str) -> bool:
    """Tell whether a price carries more decimals than a nano-USD per thousand tokens holds."""
    price = THEIRS.find_provider_model(name, None, provider_id, None)[1].get_prices(AT)
    listed = [
        part
        for value in vars(price).values()
        for part in (
            [value.base, *(tier.price for tier in value.tiers)]
            if isinstance(value, TieredPrices)
            else [value]
        )
        if part is not None
    ]
    return any((part * 10**6) % 1 for part in listed)


def reserved_nusd(rates: Rates, input_tokens: int, output_tokens: int) -> int:
    """Reckon what a strict budget holds for a call within these counts, as the scripts do."""
    dearest_input, dearest_output = bound(rates, input_tokens)
    total = input_tokens * dearest_input + output_tokens * dearest_output
    return -(-total // 1000) + rates.request_nusd


@given(st.sampled_from(SOLD_BY_THE_TOKEN), tokens())
def test_a_cost_is_the_vendors_price_rounded_up(model: tuple[str, str], usage: Tokens) -> None:
    """Any model, any mix of kinds: the cost is the exact price, rounded up by less than one."""
    ours = rates_for(model[1], model[0], AT)
    assert ours is not None
    exact = theirs_nusd(*model, usage)
    if not usage.input_tokens and not usage.output_tokens:
        exact = Decimal(0)  # their fee per request is owed even by a request that never arrived
    billed = cost_nusd(ours, usage)
    if has_noise(*model):
        # A row such as 0.18000000000000002: half a nano-USD per thousand tokens at most.
        assert abs(billed - exact) <= 1 + Decimal(usage.input_tokens + usage.output_tokens) / 2000
    else:
        assert billed == math.ceil(exact)


@given(st.sampled_from(TIERED), st.data())
def test_a_tier_bills_every_token_just_above_its_start(
    model: tuple[str, str], data: st.DataObject
) -> None:
    """At the start of a tier the old rate holds, one token later the new one, for all tokens."""
    ours = rates_for(model[1], model[0], AT)
    assert ours is not None
    assert ours.tiers
    start = data.draw(st.sampled_from([start for start, _ in ours.tiers]))
    for count in (start - 1, start, start + 1, start + 777):
        usage = Tokens(input_tokens=count, cached_tokens=count // 3, output_tokens=1_000)
        assert cost_nusd(ours, usage) == math.ceil(theirs_nusd(*model, usage))


@given(st.sampled_from(SOLD_BY_THE_TOKEN), tokens(most=600_000), st.integers(0, 1000))
def test_a_reservation_covers_every_usage_within_it(
    model: tuple[str, str], usage: Tokens, slack: int
) -> None:
    """No usage within the reserved counts costs more than the reservation."""
    rates = rates_for(model[1], model[0], AT)
    assert rates is not None
    held = reserved_nusd(rates, usage.input_tokens + slack, usage.output_tokens + slack)
    assert cost_nusd(rates, usage) <= held


@pytest.mark.parametrize(
    ("usage", "nusd"),
    [
        (Tokens(), 0),
        (Tokens(input_tokens=1), 250),
        (Tokens(input_tokens=100, output_tokens=10), 100 * 250 + 10 * 2000),
        (Tokens(input_tokens=100, cached_tokens=90), 10 * 250 + 90 * 25),
        (Tokens(output_tokens=10, reasoning_tokens=10), 10 * 2000),
    ],
)
def test_a_well_known_model_costs_what_its_page_says(usage: Tokens, nusd: int) -> None:
    """gpt-5-mini: 0.25 USD in, 0.025 cached, 2.00 out, per million tokens."""
    rates = rates_for("gpt-5-mini", "openai", AT)
    assert rates is not None
    assert cost_nusd(rates, usage) == nusd


@pytest.mark.parametrize(
    "usage",
    [
        Tokens(input_tokens=10, cached_tokens=25),
        Tokens(input_tokens=10, cached_tokens=8, audio_input_tokens=8),
        Tokens(input_tokens=10, cached_tokens=6, cache_write_tokens=6, audio_input_tokens=6),
        Tokens(output_tokens=10, reasoning_tokens=25),
        Tokens(output_tokens=10, reasoning_tokens=8, audio_output_tokens=8),
    ],
)
def test_counts_that_contradict_their_sum_never_bill_a_token_twice(usage: Tokens) -> None:
    """A vendor that reports more of a kind than there is bills at most the sum at the dearest."""
    rates = from_config(
        price(1, 4, cached_input=0.1, cache_write=1.25, audio_input=2, audio_output=8, reasoning=6)
    )
    assert (
        0 < cost_nusd(rates, usage) <= reserved_nusd(rates, usage.input_tokens, usage.output_tokens)
    )


def test_an_hour_in_the_cache_costs_more_than_five_minutes() -> None:
    """Each write at its own rate; where only one rate is known, it is that of both."""
    rates = rates_for("claude-sonnet-4-0", "anthropic", AT)
    assert rates is not None
    usage = Tokens(input_tokens=100, cache_write_tokens=90, cache_write_1h_tokens=40)
    assert cost_nusd(rates, usage) == 10 * 3000 + 50 * 3750 + 40 * 6000
    written = from_config(price(1, 2, cache_write=1.25, cache_write_1h=2))
    assert cost_nusd(written, usage) == 10 * 1000 + 50 * 1250 + 40 * 2000
    assert cost_nusd(from_config(price(1, 2, cache_write=1.25)), usage) == 10_000 + 90 * 1250


def test_a_search_is_owed_by_the_piece() -> None:
    """Ten USD for a thousand at Anthropic; where nothing is listed, nothing."""
    rates = rates_for("claude-sonnet-4-0", "anthropic", AT)
    assert rates is not None
    assert cost_nusd(rates, Tokens(web_searches=3)) == 30_000_000
    assert cost_nusd(from_config(price(1, 2)), Tokens(web_searches=3)) == 0


def test_images_cost_what_the_most_exact_price_says() -> None:
    """Quality and size, then the size, then the quality, then the default; where none fits, the dearest."""
    listed = {"default": 0.04, "hd": 0.08, "1024x1792": 0.05, "hd/1024x1792": 0.12}
    rates = from_config(price(0, 0, per_image=listed))
    for kind, usd in {
        "standard/1024x1024": 0.04,
        "hd/1024x1024": 0.08,
        "standard/1024x1792": 0.05,
        "hd/1024x1792": 0.12,
        "/": 0.04,
    }.items():
        nusd = round(usd * 10**9)
        assert image_nusd(rates, kind) == nusd
        assert cost_nusd(rates, Tokens(units=Units(images=3, image_kind=kind))) == 3 * nusd
    known = from_config(price(0, 0, per_image={"low": 0.01, "high": 0.2}))
    assert image_nusd(known, "medium/1x1") == 200_000_000


@given(st.sampled_from(["", "auto", "low", "hd"]), st.sampled_from(["", "auto", "1x1", "2x2"]))
def test_what_is_reserved_for_an_image_is_no_less_than_what_it_may_become(
    quality: str, size: str
) -> None:
    """Where quality or size is left to the vendor, the dearest that it may choose."""
    listed = {"default": 0.01, "hd": 0.08, "2x2": 0.05, "low/2x2": 0.3, "hd/1x1": 0.02}
    rates = from_config(price(0, 0, per_image=listed))
    most = dearest_image_nusd(rates, f"{quality}/{size}")
    for made_quality in ["low", "hd", "std"] if quality in {"", "auto"} else [quality]:
        for made_size in ["1x1", "2x2", "3x3"] if size in {"", "auto"} else [size]:
            assert image_nusd(rates, f"{made_quality}/{made_size}") <= most


def test_seconds_characters_and_search_units_have_prices_of_their_own() -> None:
    """A second is priced to the microsecond and rounded up once; the fee for a request is owed by units, too."""
    units = price(
        *(0, 0),
        per_second=0.0001,
        per_second_output=0.00025,
        per_character=0.000015,
        per_search_unit=0.002,
        per_request=0.001,
    )
    rates = from_config(units)
    assert not rates.sells_tokens
    assert cost_nusd(rates, Tokens()) == 0
    used = Units(audio_input_us=1_500_001, audio_output_us=2_000_000, characters=7, search_units=2)
    assert units_nusd(rates, used) == 150_001 + 500_000 + 7 * 15_000 + 4_000_000
    assert cost_nusd(rates, Tokens(units=used)) == units_nusd(rates, used) + 1_000_000
    assert from_config(price(1, 2, per_character=0.1)).sells_tokens


def test_image_tokens_bill_at_their_own_rates() -> None:
    """As part of input and output; without rates of their own as the rest."""
    used = Tokens(input_tokens=10, image_input_tokens=4, output_tokens=20, image_output_tokens=20)
    dear = price(5, 8, image_input=10, image_output=40)
    assert cost_nusd(from_config(dear), used) == 6 * 5000 + 4 * 10_000 + 20 * 40_000
    assert cost_nusd(from_config(price(5, 8)), used) == 10 * 5000 + 20 * 8000
    assert cost_nusd(from_config(dear), used) <= reserved_nusd(from_config(dear), 10, 20)


def test_a_fraction_of_a_nano_usd_is_owed_in_full() -> None:
    """One token at 0.0001 USD per million costs 0.1 nano-USD, billed as one; ten cost one too."""
    rates = from_config(price(Decimal("0.0001"), 0))
    assert cost_nusd(rates, Tokens(input_tokens=1)) == 1
    assert cost_nusd(rates, Tokens(input_tokens=10)) == 1
    assert cost_nusd(rates, Tokens(input_tokens=11)) == 2


def test_a_fee_per_request_is_owed_by_those_who_were_served() -> None:
    """Perplexity bills each request beside its tokens; an attempt without tokens owes nothing."""
    rates = rates_for("sonar", "perplexity", AT)
    assert rates is not None
    assert rates.request_nusd == 12_000_000
    assert cost_nusd(rates, Tokens()) == 0
    assert cost_nusd(rates, Tokens(output_tokens=1)) == 12_000_000 + 1000
    assert reserved_nusd(rates, 0, 1) == 12_000_000 + 1000
