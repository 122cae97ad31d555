"""Other catalogues: what is understood, what is not, and what is wrong, each by its path."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.loader import load_text
from routing.imports import SHAPES, BadCatalogue, Imported, Reading, read, section, snippet

LITELLM = {
    "sample_spec": {"mode": "one of: chat, embedding"},
    "acme/rocket-2": {
        "litellm_provider": "acme",
        "mode": "chat",
        "input_cost_per_token": 1.5e-07,
        "output_cost_per_token": 6e-07,
        "cache_read_input_token_cost": 7.5e-08,
        "cache_creation_input_token_cost": 1.5e-07,
        "max_input_tokens": 200_000,
        "max_output_tokens": "8192",
        "max_tokens": 8192,
        "supports_vision": True,
        "supports_function_calling": True,
        "supports_response_schema": False,
        "source": "https://acme.example/prices",
        "input_cost_per_token_batches": 7.5e-08,
    },
}
OPENROUTER = {
    "data": [
        {
            "id": "acme/rocket-2",
            "name": "Rocket",
            "context_length": 131072,
            "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
            "pricing": {
                "prompt": "0.00000015",
                "completion": "0.0000006",
                "input_cache_read": "0.000000075",
                "web_search": "0.01",
                "image": "0",
            },
            "top_provider": {"max_completion_tokens": 8192, "is_moderated": True},
            "supported_parameters": ["tools", "reasoning", "temperature"],
        }
    ]
}
MODELS_DEV = {
    "acme": {
        "id": "acme",
        "models": {
            "rocket-2": {
                "id": "rocket-2",
                "name": "Rocket",
                "reasoning": True,
                "tool_call": True,
                "attachment": True,
                "modalities": {"input": ["text", "pdf"], "output": ["text"]},
                "limit": {"context": 131072, "output": 8192},
                "cost": {"input": 0.15, "output": 0.6, "cache_read": 0.075},
            }
        },
    }
}


def reading(found: Any, shape: str = "") -> Reading:
    return read(json.dumps(found).encode(), shape)


def test_litellm_is_read() -> None:
    """Prices per token become prices per million; what is priced like its whole is left out."""
    found = reading(LITELLM)
    assert (found.shape, found.mistakes) == ("litellm", ())
    assert found.models == (
        Imported(
            name="rocket-2",
            upstream="rocket-2",
            seller="acme",
            tags=("chat", "vision", "tools", "long-context"),
            context=200_000,
            max_output=8192,
            price={
                "input": Decimal("0.15"),
                "output": Decimal("0.6"),
                "cached_input": Decimal("0.075"),
            },
        ),
    )
    assert [each.member for each in found.unplaced] == ["input_cost_per_token_batches"]


def test_openrouter_is_read() -> None:
    """Texts are prices, an image that costs nothing is no loss, a search is."""
    found = reading(OPENROUTER)
    (model,) = found.models
    assert (found.shape, model.name, model.seller) == ("openrouter", "acme/rocket-2", "openrouter")
    assert model.tags == ("chat", "vision", "reasoning", "tools")
    assert (model.context, model.max_output) == (131072, 8192)
    assert model.price == {
        "input": Decimal("0.15"),
        "output": Decimal("0.6"),
        "cached_input": Decimal("0.075"),
    }
    assert [(each.member, each.example) for each in found.unplaced] == [
        ("pricing.web_search", "data[0]")
    ]


def test_models_dev_is_read() -> None:
    """Prices are per million already."""
    found = reading(MODELS_DEV)
    (model,) = found.models
    assert (found.shape, model.name, model.seller) == ("models.dev", "rocket-2", "acme")
    assert model.tags == ("chat", "pdf", "reasoning", "tools")
    assert model.price["cached_input"] == Decimal("0.075")
    assert [each.member for each in found.unplaced] == ["attachment"]


def test_all_three_say_the_same_of_the_same_model() -> None:
    """As far as they say it."""
    prices = [reading(each).models[0].price for each in (LITELLM, OPENROUTER, MODELS_DEV)]
    assert prices[0] == prices[1] == prices[2]


@pytest.mark.parametrize("found", [LITELLM, OPENROUTER, MODELS_DEV])
def test_a_snippet_is_a_configuration(found: Any) -> None:
    """What is printed can be pasted: the loader takes it as it is."""
    (model,) = reading(found).models
    text = snippet({model.name: section(model, "acme")})
    text += "providers: {acme: {protocol: openai, base_url: http://h}}\n"
    config = load_text(text, source="snippet", environ={}).config
    made = config.models[model.name]
    assert made.tags == model.tags
    assert made.prices[0].cached_input == Decimal("0.075")
    assert made.max_output == 8192


def changed(found: Any, *path: Any, to: Any) -> Any:
    """Copy a catalogue with another value at a path."""
    copy = json.loads(json.dumps(found))
    at = copy
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = to
    return copy


@pytest.mark.parametrize(
    ("found", "mistake"),
    [
        (
            changed(LITELLM, "acme/rocket-2", "input_cost_per_token", to="cheap"),
            'acme/rocket-2.input_cost_per_token: found "cheap", expected a price in USD',
        ),
        (
            changed(LITELLM, "acme/rocket-2", "output_cost_per_token", to=-1),
            "acme/rocket-2.output_cost_per_token: found -1, expected a price in USD",
        ),
        (
            changed(LITELLM, "acme/rocket-2", "max_input_tokens", to=1.5),
            "acme/rocket-2.max_input_tokens: found 1.5, expected a number of tokens",
        ),
        (
            changed(LITELLM, "acme/rocket-2", "supports_vision", to="yes"),
            'acme/rocket-2.supports_vision: found "yes", expected true or false',
        ),
        (
            changed(OPENROUTER, "data", 0, "pricing", "prompt", to=True),
            "data[0].pricing.prompt: found true, expected a price in USD",
        ),
        (
            changed(OPENROUTER, "data", 0, "architecture", to=[]),
            "data[0].architecture: found [], expected an object",
        ),
        (
            changed(OPENROUTER, "data", 0, "architecture", "input_modalities", to=[1]),
            "data[0].architecture.input_modalities: found [1], expected a list of words",
        ),
        (changed(OPENROUTER, "data", 0, "id", to=None), "data[0].id: missing"),
        (changed(OPENROUTER, "data", 0, to=7), "data[0]: found 7, expected an object"),
        (
            changed(OPENROUTER, "data", 0, "id", to="no name"),
            'data[0]: found the name "no name", which no model can have',
        ),
        (
            changed(MODELS_DEV, "acme", "models", "rocket-2", "limit", "context", to="many"),
            'acme.models.rocket-2.limit.context: found "many", expected a number of tokens',
        ),
    ],
)
def test_a_record_with_a_mistake_is_left_out_and_named(found: Any, mistake: str) -> None:
    """Where it stands, what was found and what was expected; the others are taken."""
    said = reading(found)
    assert [str(each) for each in said.mistakes] == [mistake]
    assert said.models == ()


def test_a_model_twice_is_a_mistake() -> None:
    """Of the same seller; the first is taken."""
    twice = {"data": OPENROUTER["data"] * 2}
    said = reading(twice)
    assert len(said.models) == 1
    assert [str(each) for each in said.mistakes] == ['data[1]: a second "acme/rocket-2"']


def test_a_router_has_no_price() -> None:
    """OpenRouter says -1 where the price is that of another model."""
    routed = changed(OPENROUTER, "data", 0, "pricing", to={"prompt": "-1", "completion": "-1"})
    said = reading(routed)
    assert said.mistakes == ()
    assert said.models[0].price == {}


def test_a_name_that_begins_with_a_sign_is_asked_for_as_it_is() -> None:
    """The configuration's name is without it."""
    (model,) = reading(changed(OPENROUTER, "data", 0, "id", to="@cf/rocket")).models
    assert (model.name, model.upstream) == ("cf/rocket", "@cf/rocket")
    assert section(model, "p")["deployments"] == [{"provider": "p", "name": "@cf/rocket"}]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON: Expecting value at line 1, column 1"),
        (b"{", "not JSON"),
        (b"\xff", "byte 0 is not UTF-8"),
        (b"[]", "none of the shapes that are known"),
        (b"{}", "none of the shapes that are known"),
        (b'{"a": {"b": 1}}', "none of the shapes that are known"),
        (b"[" * 100_000, "not JSON that can be read: RecursionError"),
    ],
)
def test_what_is_no_catalogue_is_refused(data: bytes, words: str) -> None:
    """With what is expected instead."""
    with pytest.raises(BadCatalogue, match=words):
        read(data)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("found", [[], 7, None, "x"])
def test_a_shape_that_is_said_is_held_to(shape: str, found: Any) -> None:
    """Another document is refused, whatever it is."""
    with pytest.raises(BadCatalogue):
        reading(found, shape)


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)
members = st.sampled_from(
    [
        *("pricing", "prompt", "id", "architecture", "top_provider", "context_length", "cost"),
        *("litellm_provider", "mode", "max_tokens", "input_cost_per_token", "limit", "context"),
        *("models", "modalities", "input", "supported_parameters", "supports_vision"),
    ]
)
records = st.dictionaries(members, anything | st.dictionaries(members, anything), max_size=4)


@given(records, st.sampled_from(SHAPES))
def test_no_record_breaks_the_reading(record: dict[str, Any], shape: str) -> None:
    """Every record is understood or a mistake of its own."""
    found = {
        "litellm": {"m": record},
        "openrouter": {"data": [record]},
        "models.dev": {"p": {"models": {"m": record}}},
    }[shape]
    said = read(json.dumps(found).encode(), shape)
    assert len(said.models) + len(said.mistakes) == 1


def test_of_models_that_nobody_wants_nothing_is_said() -> None:
    """Neither what was not understood of them nor their mistakes; a name holds with and without whose it is."""
    bad = {"litellm_provider": "acme", "mode": "chat", "input_cost_per_token": "free", "odd": 1}
    theirs = LITELLM | {"acme/wagon-1": bad, "other/rocket-9": bad | {"litellm_provider": "other"}}
    document = json.dumps(theirs).encode()
    assert len(read(document).mistakes) == 2
    found = read(document, only=["rocket-2"])
    assert [model.name for model in found.models] == ["rocket-2"]
    assert [each.member for each in found.unplaced] == ["input_cost_per_token_batches"]
    assert not found.mistakes
    (mistake,) = read(document, only=["rocket-*"]).mistakes
    assert mistake.path.startswith("other/rocket-9")
    assert not read(document, only=["acme/*"]).models


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ({"acme": {"models": {"rocket-1": {}, "wagon-1": {}}}}, "rocket-1"),
        ({"acme": {"models": {"labs/rocket-1": {}, "wagon-1": {}}}}, "labs/rocket-1"),
        ({"data": [{"id": "~acme/rocket-1"}, {"id": "acme/wagon-1"}]}, "acme/rocket-1"),
    ],
)
def test_models_are_wanted_by_the_names_that_they_get(document: Any, name: str) -> None:
    """In every shape of a catalogue, whatever it puts before them."""
    data = json.dumps(document).encode()
    assert name in [model.name for model in read(data).models]
    for form in (name, name[:-1] + "*"):
        assert [model.name for model in read(data, only=[form]).models] == [name]
