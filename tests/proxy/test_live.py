"""One version of the configuration, compiled: what each caller gets for each name, and what a new version leaves alone."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.keys import KeySecrets
from config.loader import load_text
from governance.ledger import ENTRY_FIELDS, decode
from proxy.errors import BadRequest, Forbidden, NotFound
from proxy.live import Live, Offer
from proxy.observe import Metrics
from proxy.tokens import Source, Token
from proxy.wire.endpoints import ENDPOINTS, Endpoint
from ratelimit.limits import MOST_OUTPUT
from routing.rates import bound

ROWS = {endpoint.word: endpoint for endpoint in ENDPOINTS}
CHAT = ROWS["openai.chat"]
KEY = "sk-helpdesk-0123456789"
STRICT = {"usd": 1, "per": "day", "mode": "strict"}
PRICE = {"input": 1, "output": 2}
MODELS = {
    "m": {"price": PRICE, "deployments": [{"provider": "house"}, {"provider": "far", "name": "M"}]},
    "free": {"deployments": [{"provider": "house"}]},
    "half": {"deployments": [{"provider": "house"}, {"provider": "far", "price": PRICE}]},
}
PROVIDERS = {
    "house": {
        "protocol": "openai",
        "base_url": "http://127.0.0.1:8000/v1/",
        "api_key": "sk-house-key-0123456789",
        "headers": {"x-team": "a"},
        "first_byte_timeout_s": 3,
        "idle_timeout_s": 4,
        "total_timeout_s": 5,
        "connect_timeout_s": 6,
    },
    "far": {"protocol": "openai", "base_url": "https://api.openai.com/v1"},
}


def live(
    models: dict[str, Any] | None = None,
    *,
    key: dict[str, Any] | None = None,
    providers: dict[str, Any] | None = None,
    version: int = 1,
    metrics: Metrics | None = None,
) -> Live:
    """Compile a configuration of these models, a route over them, and one key."""
    models = MODELS if models is None else models
    helpdesk = {"key": KEY} | (key or {})
    text = json.dumps(
        {
            "providers": PROVIDERS | (providers or {}),
            "models": models,
            "routes": {"auto": {"models": list(models)}},
            "organizations": {"acme": {"teams": {"support": {"keys": {"helpdesk": helpdesk}}}}},
        }
    )
    return compiled(text, version=version, metrics=metrics)


def compiled(text: str, *, version: int = 1, metrics: Metrics | None = None) -> Live:
    """Compile a configuration; its variables are set to something."""
    tokens: dict[Source, Token] = {}
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "a-secret-of-24-characters")
    return Live(
        load_text(text, source="test", environ=environ).config,
        version,
        metrics or Metrics(),
        at=datetime(2026, 1, 15, tzinfo=UTC),
        replica="host/0",
        trust={},
        secrets=KeySecrets(["a-secret-of-the-tests-0123456789-0"]),
        token=lambda source: tokens.setdefault(source, Token(source)),
    )


def offer(made: Live, asked: str = "m", endpoint: Endpoint = CHAT, bound: int = 100) -> Offer:
    """Ask as the one caller that there is."""
    caller = made.callers.find(KEY)
    assert caller is not None
    return made.offer(caller, asked, endpoint, stream=False, input_bound=bound)


def test_an_offer_has_its_places_in_the_plans_order() -> None:
    """A candidate's number is its place's."""
    found = offer(live(), "auto")
    ids = [place.id for place in found.places]
    assert ids == ["m/house", "m/far", "free/house", "half/house", "half/far"]
    assert [candidate.deployment for candidate in found.plan.candidates] == ids
    assert [candidate.tier for candidate in found.plan.candidates] == [0, 0, 1, 2, 2]
    assert [candidate.model for candidate in found.plan.candidates] == [
        p.model for p in found.places
    ]
    assert found.plan.scopes == ("key:acme/support/helpdesk", "team:acme/support", "org:acme")
    assert found.asked == "auto"


def test_an_offer_is_made_once() -> None:
    """The same plan object for the same question, so that a batch carries it once; another for another."""
    made = live()
    assert offer(made) is offer(made)
    assert offer(made) is not offer(made, endpoint=ROWS["openai.embeddings"])
    assert offer(made) is not offer(made, "auto")
    caller = made.callers.find(KEY)
    assert caller is not None
    assert made.offer(caller, "m", CHAT, stream=True, input_bound=1) is not offer(made)


@pytest.mark.parametrize(
    ("asked", "error", "code"),
    [("nobody", NotFound, "model_not_found"), ("free", Forbidden, "model_not_allowed")],
)
def test_a_name_that_is_not_the_callers(asked: str, error: type[Exception], code: str) -> None:
    """404 for what does not exist, 403 for what this key may not use; never remembered as an offer."""
    made = live(key={"models": ["auto", "m"]})
    for _ in range(2):
        with pytest.raises(error) as caught:
            offer(made, asked)
        assert caught.value.code == code  # type: ignore[attr-defined]
    assert made._offers == {}


def test_names_are_those_the_caller_may_ask_for() -> None:
    """Models first, in declared order; a route is a name of its own."""
    made = live(key={"models": ["auto", "m"]})
    caller = made.callers.find(KEY)
    assert caller is not None
    assert made.names_for(caller) == ["m", "auto"]


def test_under_a_strict_budget_only_what_has_a_price_is_a_candidate() -> None:
    """The others fall out, with the reason; where nobody is left, the reason is the answer."""
    made = live(key={"budget": STRICT})
    assert offer(made, "half").strict
    assert [place.id for place in offer(made, "half").places] == ["half/far"]
    with pytest.raises(BadRequest) as caught:
        offer(made, "free")
    assert caught.value.code == "none_eligible"
    assert "free/house" in caught.value.message
    assert "models.free.price" in caught.value.message
    assert [place.id for place in offer(live(), "half").places] == ["half/house", "half/far"]


def test_what_is_not_known_is_bounded_all_the_same() -> None:
    """The output of a model without a known ceiling, and the input of one without a known context."""
    candidate, _ = offer(live()).plan.candidates
    assert candidate.most == MOST_OUTPUT
    small = {"m": MODELS["m"] | {"max_output": 500, "context": 4096}}
    found = offer(live(small))
    assert found.plan.candidates[0].most == 500
    assert found.most_input == 4096
    assert offer(live()).most_input > 10**6


LISTED = {"gemini-2.5-pro": {"deployments": [{"provider": "far"}, {"provider": "house"}]}}
GOOGLE = {"far": PROVIDERS["far"] | {"catalogue": "google"}}


@given(st.lists(st.integers(1, 2_000_000), min_size=1, max_size=20))
def test_a_remembered_offer_has_the_dearest_rates_that_apply(bounds: list[int]) -> None:
    """Whatever was asked before: the reservation of an input is never priced below what its size can cost."""
    tiered = _tiered()
    for input_bound in bounds:
        found = offer(tiered, "gemini-2.5-pro", bound=input_bound)
        for candidate, place in zip(found.plan.candidates, found.places, strict=True):
            assert (candidate.input, candidate.output) == bound(place.rates, input_bound)


def _tiered() -> Live:
    made = live(LISTED, providers=GOOGLE)
    assert offer(made, "gemini-2.5-pro").places[0].rates.tiers, (
        "the model of this test has no tiers"
    )
    return made


def test_a_plan_carries_the_entry_that_a_reaper_completes() -> None:
    """Everything of the caller is in it; what only the attempt knows is empty."""
    made = live(key={"application": "desk", "business_line": "b"})
    packed = msgpack.unpackb(offer(made).plan.packed, raw=True)[2]
    entry = msgpack.unpackb(packed)
    known = dict(zip(ENTRY_FIELDS, entry, strict=True))
    assert known["organization"] == "acme"
    assert (known["application"], known["business_line"]) == ("desk", "b")
    assert (known["outcome"], known["token_source"]) == ("reaped", "estimated")
    assert (known["model_asked"], known["protocol"], known["replica"]) == (
        "m",
        "openai.chat",
        "host/0",
    )
    whole = msgpack.packb(["r.1", "r", *entry[2:]], use_bin_type=False)
    assert decode(whole).outcome == "reaped"


def test_metrics_go_on_over_versions() -> None:
    """A new version counts on the same objects."""
    metrics = Metrics()
    one, two = live(metrics=metrics), live(version=2, metrics=metrics)
    assert offer(one).places[0].tally.ok is offer(two).places[0].tally.ok
    assert offer(one).ok is offer(two).ok


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ({"protocol": "openai", "api_key": "k" * 20}, {"authorization": f"Bearer {'k' * 20}"}),
        ({"protocol": "openai", "api_key": "k" * 20, "dialect": "azure"}, {"api-key": "k" * 20}),
        ({"protocol": "gemini", "api_key": "k" * 20}, {"x-goog-api-key": "k" * 20}),
        ({"protocol": "openai", "token": {"file": "/x"}}, {"authorization": "Bearer now"}),
        ({"protocol": "openai"}, {}),
        (
            {"protocol": "openai", "headers": {"X-Team": "a"}, "api_key": "k" * 20},
            {"authorization": f"Bearer {'k' * 20}", "X-Team": "a"},
        ),
    ],
)
def test_what_a_provider_is_shown(said: dict[str, Any], shown: dict[str, str]) -> None:
    """Its key as its protocol and dialect have it, or the token of the moment, and its own headers."""
    made = live(providers={"p": {"base_url": "http://h"} | said})
    for token in made.tokens:
        assert made.headers_to("p") == {}
        made._token(token).value = b"now"
    assert made.headers_to("p") == shown
