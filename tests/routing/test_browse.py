"""Models to choose among: what is configured and what is listed, narrowed by what one looks for."""

import json
from datetime import UTC, datetime

import pytest

from config.loader import load_text
from routing.browse import CONFIGURED, Offered, Wanted, all_listed, as_json, configured, matching
from routing.listing import TASKS, listing

AT = datetime(2026, 11, 22, tzinfo=UTC)
TEXT = json.dumps(
    {
        "providers": {
            "openai": {"protocol": "openai", "base_url": "https://api.openai.com/v1"},
            "house": {"protocol": "openai", "base_url": "http://10.0.0.5:8000/v1"},
        },
        "models": {
            "gpt-5-mini": {"deployments": [{"provider": "openai"}, {"provider": "house"}]},
            "ours": {
                "tags": ["legal"],
                "quality": {"coding": 0.9},
                "price": {"input": 1, "output": 5},
                "context": 1000,
                "deployments": [{"provider": "house"}],
            },
            "unknown": {"deployments": [{"provider": "house"}]},
        },
    }
)


def models() -> list[Offered]:
    return list(configured(load_text(TEXT, source="test", environ={}).config, AT))


def names(wanted: Wanted) -> list[str]:
    return [each.name for each in matching(models(), wanted)]


def test_what_is_configured_is_shown_in_its_order() -> None:
    """With who serves it, and what is known of it."""
    mini, ours, unknown = models()
    assert (mini.name, mini.vendor, mini.providers) == ("gpt-5-mini", "openai", ("openai", "house"))
    assert mini.deployments == ("gpt-5-mini/openai", "gpt-5-mini/house")
    assert mini.rates is not None
    assert mini.listed_as == "gpt-5-mini"
    assert (ours.tags, ours.context, ours.listed_as) == ({"legal"}, 1000, "")
    assert (unknown.tags, unknown.blended_nusd, dict(unknown.quality)) == (frozenset(), None, {})


def test_a_quality_says_where_it_is_from() -> None:
    """The configuration, or the source of the listing with what was read there."""
    mini, ours, _ = (as_json(each)["quality"] for each in models())
    assert set(mini) == set(TASKS)
    assert mini["coding"]["source"] == "livebench"
    assert mini["coding"]["url"].startswith("https://")
    assert ours == {"coding": {"value": 0.9, "source": "configuration", "read": "", "url": ""}}
    assert CONFIGURED.source == "configuration"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), ["gpt-5-mini", "ours", "unknown"]),
        (Wanted(tags=frozenset({"coding"})), ["gpt-5-mini"]),
        (Wanted(tags=frozenset({"legal", "coding"})), []),
        (Wanted(providers=frozenset({"openai"})), ["gpt-5-mini"]),
        (Wanted(providers=frozenset({"house", "openai"})), ["gpt-5-mini", "ours", "unknown"]),
        (Wanted(vendor="openai"), ["gpt-5-mini"]),
        (Wanted(max_price_nusd=2_000_000_000), ["gpt-5-mini", "ours"]),
        (Wanted(max_price_nusd=1_999_999_999), ["gpt-5-mini"]),
        (Wanted(max_price_nusd=0), []),
        (Wanted(min_context=1000), ["gpt-5-mini", "ours"]),
        (Wanted(min_context=1001), ["gpt-5-mini"]),
        (Wanted(task="coding"), ["ours", "gpt-5-mini", "unknown"]),
        (Wanted(task="coding", min_quality=0.8), ["ours"]),
        (Wanted(min_quality=0.01), ["gpt-5-mini"]),
    ],
)
def test_only_what_is_looked_for_is_shown(wanted: Wanted, found: list[str]) -> None:
    """An unknown price is no low one, an unknown quality no high one."""
    assert names(wanted) == found


def test_a_blended_price_is_three_parts_input() -> None:
    """USD per million tokens: (3 * 1 + 5) / 4."""
    said = as_json(models()[1])["price"]
    assert (said["input_usd"], said["output_usd"], said["blended_usd"]) == ("1.00", "5.00", "2.00")


def test_all_that_is_listed_can_be_shown() -> None:
    """Every entry, each as JSON."""
    found = list(all_listed(AT))
    assert [each.name for each in found] == [each.id for each in listing()]
    said = [as_json(each) for each in found]
    assert json.loads(json.dumps(said)) == said
    assert sum(each["price"] is not None for each in said) > 400
