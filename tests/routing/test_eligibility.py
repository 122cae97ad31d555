"""Which deployments stand behind a name, in which order, and what is known of each."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from config.loader import load_text
from routing.eligibility import Pool, UnknownModel, rates_of
from routing.listing import TASKS

AT = datetime(2026, 1, 15, tzinfo=UTC)
PROVIDERS = {
    "openai": {"protocol": "openai", "base_url": "https://api.openai.com/v1", "api_key": "sk-x"},
    "house": {"protocol": "openai", "base_url": "http://10.0.0.5:8000/v1"},
}


def pool(models: dict[str, Any], routes: dict[str, list[str]] | None = None) -> Pool:
    """Read a configuration of models and routes."""
    text = json.dumps(
        {
            "providers": PROVIDERS,
            "models": models,
            "routes": {name: {"models": each} for name, each in (routes or {}).items()},
        }
    )
    return Pool(load_text(text, source="test", environ={}).config, AT)


TWO = {
    "gpt-4o-mini": {"deployments": [{"provider": "openai"}, {"provider": "house", "name": "mini"}]},
    "qwen": {"deployments": [{"provider": "house", "name": "Qwen/Qwen3-32B"}]},
}


def test_a_model_stands_for_its_deployments_in_declared_order() -> None:
    """All of them on one tier: load decides among them."""
    options = pool(TWO).options("gpt-4o-mini")
    assert [option.placed.id for option in options] == ["gpt-4o-mini/openai", "gpt-4o-mini/house"]
    assert [option.placed.upstream_name for option in options] == ["gpt-4o-mini", "mini"]
    assert [option.tier for option in options] == [0, 0]
    assert options[0].provider.base_url == "https://api.openai.com/v1"


def test_a_route_stands_for_its_models_in_declared_order() -> None:
    """Each model is a tier; the deployments are those of the models."""
    options = pool(TWO, {"auto": ["qwen", "gpt-4o-mini"]}).options("auto")
    assert [(option.placed.model, option.tier) for option in options] == [
        ("qwen", 0),
        ("gpt-4o-mini", 1),
        ("gpt-4o-mini", 1),
    ]


def test_names_are_models_first() -> None:
    """As the list of models shows them."""
    found = pool(TWO, {"auto": ["qwen"], "auto/coding": ["gpt-4o-mini"]})
    assert found.names() == ["gpt-4o-mini", "qwen", "auto", "auto/coding"]
    assert [name for name in found.names() if found.is_route(name)] == ["auto", "auto/coding"]


@pytest.mark.parametrize(("tag", "task"), [("tools", "tools"), ("vision", None), ("json", None)])
def test_a_tag_behind_a_name_tells_the_task_where_it_is_one(tag: str, task: str | None) -> None:
    """Any other says what a model must have, and what the call is about is told from the call."""
    route = pool(TWO, {"smart": ["gpt-4o-mini"]}).asked(f"smart/{tag}", lambda _: True).route
    assert route is not None
    assert (route.tags, route.task) == ((tag,), task)


@pytest.mark.parametrize("name", ["", "gpt", "gpt-4o-mini/openai", "AUTO", "gpt-4o-mini "])
def test_other_names_are_unknown(name: str) -> None:
    """A deployment's id is no model."""
    with pytest.raises(UnknownModel):
        pool(TWO, {"auto": ["qwen"]}).options(name)


def test_what_is_known_comes_from_the_catalogue() -> None:
    """Price, context and the ceiling of the output, by the provider's host and the upstream name."""
    listed, house = pool(TWO).options("gpt-4o-mini")
    assert listed.rates is not None
    assert listed.rates.input_nusd_per_ktok == 150_000
    assert listed.context == 128_000
    assert house.rates is None


def test_the_configuration_goes_before_the_catalogue() -> None:
    """A deployment's price before its model's, the model's before the list."""
    models = {
        "gpt-4o-mini": {
            "price": {"input": 2, "output": 4},
            "context": 1000,
            "max_output": 100,
            "deployments": [
                {"provider": "openai"},
                {"provider": "house", "price": {"input": 0.5, "output": 1}},
            ],
        }
    }
    one, two = pool(models).options("gpt-4o-mini")
    assert one.rates is not None
    assert two.rates is not None
    assert (one.rates.input_nusd_per_ktok, one.rates.output_nusd_per_ktok) == (2_000_000, 4_000_000)
    assert (two.rates.input_nusd_per_ktok, two.rates.output_nusd_per_ktok) == (500_000, 1_000_000)
    assert [(each.context, each.max_output) for each in (one, two)] == [(1000, 100), (1000, 100)]


def test_the_catalogue_may_be_named() -> None:
    """A mirror of a vendor's models has the vendor's prices where the configuration says so."""
    text = json.dumps(
        {
            "providers": {"mirror": PROVIDERS["house"] | {"catalogue": "openai"}},
            "models": {"gpt-4o-mini": {"deployments": [{"provider": "mirror"}]}},
        }
    )
    found = Pool(load_text(text, source="test", environ={}).config, AT)
    assert found.options("gpt-4o-mini")[0].rates is not None


def test_prices_of_the_configuration_never_end() -> None:
    """0: nothing is to be looked at again."""
    models = {"m": {"price": {"input": 1, "output": 1}, "deployments": [{"provider": "house"}]}}
    assert pool(models).next_price_change_us() == 0


def test_the_next_change_of_a_price_is_the_earliest() -> None:
    """Whoever compiles a configuration looks again then."""
    found = pool(TWO)
    ends = [
        option.rates.until_us
        for name in TWO
        for option in found.options(name)
        if option.rates is not None and option.rates.until_us
    ]
    assert found.next_price_change_us() == min(ends, default=0)


def test_tags_and_quality_come_from_the_listing() -> None:
    """By what the upstream calls the model, or by the model's own name; whoever serves it."""
    vendor, house = pool(TWO).options("gpt-4o-mini")
    assert {"chat", "vision", "tools"} <= vendor.tags == house.tags
    assert vendor.quality == house.quality
    assert 0 < vendor.quality["coding"] < 1
    assert "image" in vendor.input
    assert vendor.output == {"text"}
    assert "tools" in pool(TWO).options("qwen")[0].tags


def test_a_server_of_ones_own_is_not_held_to_the_sizes_that_vendors_give() -> None:
    """The listing's window and ceiling are those of who sells the model."""
    vendor, house = pool(TWO).options("gpt-4o-mini")
    assert (vendor.context, vendor.max_output) == (128_000, 16_384)
    assert (house.context, house.max_output) == (None, None)


def test_nothing_is_made_up_for_a_model_that_nobody_knows() -> None:
    """No tags, no quality, no modalities."""
    found = pool({"house-7": {"deployments": [{"provider": "house"}]}}).options("house-7")[0]
    assert (found.tags, dict(found.quality)) == (frozenset(), {})
    assert (found.input, found.output) == (frozenset(), frozenset())


def test_tags_and_quality_of_the_configuration_go_before_the_listing() -> None:
    """Tags as a whole; quality task by task, and a number alone for all of them."""
    one, per_task, both = (
        pool({"gpt-4o-mini": {**said, "deployments": [{"provider": "openai"}]}}).options(
            "gpt-4o-mini"
        )[0]
        for said in (
            {"tags": ["ours"], "quality": 0.5},
            {"quality": {"coding": 0.25}},
            {"quality": {"overall": 0.75, "long-context": 0.25}},
        )
    )
    assert one.tags == {"ours"}
    assert one.quality == dict.fromkeys(TASKS, 0.5)
    assert per_task.quality["coding"] == 0.25
    assert per_task.quality["chat"] == pool(TWO).options("gpt-4o-mini")[0].quality["chat"]
    assert both.quality == {**dict.fromkeys(TASKS, 0.75), "long-context": 0.25}


def test_prices_of_the_configuration_may_begin_at_a_moment() -> None:
    """Before the first the catalogue's holds, and whoever compiles looks again when the next begins."""
    later = [
        {"from": "2026-02-01", "input": 1, "output": 2},
        {"from": "2026-03-01T00:00+01:00", "input": 3, "output": 4},
    ]
    models = {"gpt-4o-mini": {"price": later, "deployments": [{"provider": "openai"}]}}
    text = json.dumps({"providers": PROVIDERS, "models": models})
    config = load_text(text, source="test", environ={}).config

    def at(*moment: int) -> tuple[int, int]:
        then = datetime(*moment, tzinfo=UTC)  # type: ignore[misc,arg-type]
        found = Pool(config, then)
        (option,) = found.options("gpt-4o-mini")
        rates = option.rates
        assert rates is not None
        assert rates_of(config, option.placed, then) == rates
        return rates.input_nusd_per_ktok, found.next_price_change_us()

    february = round(datetime(2026, 2, 1, tzinfo=UTC).timestamp() * 1_000_000)
    march = round(datetime(2026, 2, 28, 23, tzinfo=UTC).timestamp() * 1_000_000)
    assert at(2026, 1, 15) == (150_000, february)
    assert at(2026, 2, 1) == (1_000_000, march)
    assert at(2026, 2, 28, 22) == (1_000_000, march)
    assert at(2026, 2, 28, 23) == (3_000_000, 0)


def test_what_serves_in_need_stands_behind_the_route_s_models() -> None:
    """In its own order, once, and told apart."""
    text = json.dumps(
        {
            "providers": PROVIDERS,
            "models": TWO,
            "routes": {"auto": {"models": ["qwen"], "degrade": ["gpt-4o-mini", "qwen"]}},
        }
    )
    options = Pool(load_text(text, source="test", environ={}).config, AT).options("auto")
    assert [(one.placed.id, one.tier, one.degraded) for one in options] == [
        ("qwen/house", 0, False),
        ("gpt-4o-mini/openai", 1, True),
        ("gpt-4o-mini/house", 1, True),
    ]
