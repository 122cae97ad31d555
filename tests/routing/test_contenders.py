"""Contenders and policies: what the configuration says is what the scorer sees."""

import json
from datetime import UTC, datetime
from typing import Any

from config.loader import load_text
from config.models import Config
from routing.contenders import UNBOUNDED, field_of, policy_of
from routing.eligibility import Pool
from routing.scoring import DELTAS, UNKNOWN_QUALITY, Field

AT = datetime(2026, 1, 15, tzinfo=UTC)


def config_of(models: dict[str, Any], **route: Any) -> Config:
    """Load models at one provider, and a route `r` over them."""
    house = {"protocol": "openai", "base_url": "http://127.0.0.1:8000/v1"}
    said = {
        "providers": {"house": house},
        "models": {
            name: {"deployments": [{"provider": "house"}]} | one for name, one in models.items()
        },
        "routes": {"r": {"models": list(models)} | route},
    }
    return load_text(json.dumps(said), source="test", environ={}).config


def fielded(models: dict[str, Any], **route: Any) -> Field:
    config = config_of(models, **route)
    asked = Pool(config, AT).asked("r", lambda _: True)
    return field_of(asked.options, policy_of(asked.route, 500), 131_072)


def test_a_model_is_one_contender_with_all_its_deployments() -> None:
    """Its price is that of the dearest of them, so that a ceiling holds wherever it is served."""
    dear = {"provider": "house", "id": "dear", "price": {"input": 4, "output": 8}, "region": "us"}
    cheap = {"provider": "house", "id": "cheap", "region": "eu"}
    price = {"input": 1, "output": 2}
    field = fielded({"a": {"price": price, "deployments": [cheap, dear]}, "b": {}})
    a, b = field.contenders
    assert (a.model, a.places, a.ids, a.regions) == ("a", (0, 1), ("cheap", "dear"), ("eu", "us"))
    assert (a.input, a.output, a.price_nusd) == (4_000_000, 8_000_000, 5_000_000_000)
    assert (b.places, b.price_nusd, b.context, b.quality) == ((2,), None, UNBOUNDED, {})
    assert field.declared == bytes([0, 0, 1])


def test_what_a_model_lacks_is_known_of_those_that_say_what_they_can() -> None:
    """Tags that do not name vision say that it has none; no tags say nothing."""
    everything = {"vision", "audio", "video", "pdf"}
    tags = [{"tags": ["chat"]}, {"tags": ["chat", *sorted(everything)]}, {}]
    field = fielded({f"private-{n}": one for n, one in enumerate(tags)})
    assert [one.lacks for one in field.contenders] == [everything, set(), set()]


def test_a_task_that_nobody_measured_is_taken_for_a_chat() -> None:
    """So a route's own word for a task does not make every model unknown."""
    (a,) = fielded({"a": {"quality": 0.7}}).contenders
    assert (a.quality[""], a.quality["coding"]) == (0.7, 0.7)
    assert UNKNOWN_QUALITY < 0.7


def test_a_policy_is_what_the_route_says_and_else_the_usual() -> None:
    """By level; who is no route has the declared order."""
    assert not policy_of(None, 500).scores
    economy = {"within": {"low": 0.4}, "max_price": 2, "min_quality": 0.3, "max_output": 9}
    field = fielded(
        {"a": {}}, policy="cost_quality", tags=["x"], task="coding", levels={"economy": economy}
    )
    policy = field.policy
    assert (policy.name, policy.tags, policy.task, policy.explore) == (
        *("cost_quality", {"x"}, "coding"),
        0.01,
    )
    normal, cheap = policy.levels[2], policy.levels[3]
    assert (normal.low, normal.high) == DELTAS[2]
    assert (cheap.low, cheap.high, cheap.delta("")) == (0.4, 0.12, 0.26)
    assert (cheap.max_price_nusd, cheap.min_quality, cheap.max_output) == (2 * 10**9, 0.3, 9)


def test_a_declared_route_tries_nothing_out() -> None:
    """Exploration is the scorer's, and it has nothing to say there."""
    assert fielded({"a": {}}).policy.explore == 0.0
