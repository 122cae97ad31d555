"""Laws of simulation: it is the scorer itself, on live facts, and what was is told by the same measure."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from config.loader import load_text
from config.wishes import Wishes
from routing.scoring import NO_FACTS, Facts, Lesson
from routing.simulate import Described, Outcome, Simulator, Was, summed

MODELS: dict[str, Any] = {
    "big": {"quality": 0.9, "price": {"input": 10, "output": 30}},
    "small": {"quality": 0.8, "price": {"input": 1, "output": 3}},
    "free": {"price": {"input": 0, "output": 0}},
}


def simulator(
    *, facts: Facts = NO_FACTS, unavailable: dict[str, str] | None = None, **route: Any
) -> Simulator:
    """Give a simulator of three models behind the route `r`."""
    document = {
        "providers": {"v": {"protocol": "openai", "base_url": "http://127.0.0.1:9"}},
        "models": {
            name: {"deployments": [{"provider": "v"}, {"provider": "v"}]} | said
            for name, said in MODELS.items()
        },
        "routes": {"r": {"models": ["big", "small"]} | route},
    }
    config = load_text(json.dumps(document), source="test", environ={}).config
    at = datetime(2026, 1, 15, tzinfo=UTC)
    return Simulator(config, at, facts, most_output=1000, unavailable=unavailable or {})


def test_a_policy_chooses_as_it_would_on_the_hot_path() -> None:
    """Premium the better, economy the cheaper; each with what it would cost and be worth."""
    ours = simulator(policy="cost_quality")
    premium = ours.would(Described("r", 1000, 100, level=1))
    economy = ours.would(Described("r", 1000, 100, level=3))
    assert (premium.model, premium.cost_nusd) == ("big", 1000 * 10_000 + 100 * 30_000)
    assert (economy.model, economy.cost_nusd) == ("small", 1000 * 1_000 + 100 * 3_000)
    assert premium.quality is not None
    assert economy.quality is not None
    assert premium.quality > economy.quality
    assert [each.lost for each in premium.candidates] == ["", "quality"]
    assert premium.policy == "cost_quality"


def test_a_call_is_known_as_roughly_as_an_edge_knows_it_and_costs_what_it_is() -> None:
    """What is alike is chosen for once on the hot path, so it is here; costs are for the tokens that were named."""
    ours = simulator(policy="cost_quality")
    one, like = (ours.would(Described("r", tokens, complexity=0.51)) for tokens in (3010, 3060))
    assert [each.quality for each in one.candidates] == [each.quality for each in like.candidates]
    exact = ours.would(Described("r", 3010, complexity=0.5))
    assert [each.quality for each in one.candidates] == [each.quality for each in exact.candidates]
    assert one.cost_nusd is not None
    assert like.cost_nusd is not None
    price = {"big": 10_000, "small": 1_000}[one.model]
    assert like.cost_nusd - one.cost_nusd == 50 * price
    assert one.cost_nusd in {each.cost_nusd for each in one.candidates}


def test_a_declared_order_is_told_with_what_is_to_be_expected_of_each() -> None:
    """Nothing is scored on the hot path, and yet one wants to know."""
    would = simulator().would(Described("r", 1000))
    assert (would.policy, would.model, would.deployment) == ("declared", "big", "big/v")
    assert would.quality is not None
    assert [(each.model, each.cost_nusd > 0, each.lost) for each in would.candidates] == [
        ("big", True, ""),
        ("small", True, "order"),
    ]
    pinned = simulator().would(Described("r", 1000, wishes=Wishes(pin="small")))
    assert [each.lost for each in pinned.candidates] == ["the call is pinned to 'small'", ""]


def test_who_cannot_serve_right_now_is_passed_over() -> None:
    """The next deployment of the model first, then the next model; nobody is a refusal with reasons."""
    down = dict.fromkeys(("big/v", "small/v", "small/v#2"), "it is offline")
    assert simulator(unavailable=down).would(Described("r", 10)).deployment == "big/v#2"
    down["big/v#2"] = "it is offline"
    refused = simulator(unavailable=down).would(Described("r", 10))
    assert "big/v: it is offline" in refused.refused


def test_what_serves_only_in_need_stands_behind() -> None:
    """As on the hot path: it is not scored against the others, however cheap it is."""
    route = {"models": ["big"], "degrade": ["small"], "policy": "cost_quality"}
    assert simulator(**route).would(Described("r", 10, level=3)).model == "big"
    down = dict.fromkeys(("big/v", "big/v#2"), "it is offline")
    assert simulator(unavailable=down, **route).would(Described("r", 10)).model == "small"
    pinned = Described("r", 10, wishes=Wishes(pin="small"))
    assert simulator(**route).would(pinned).model == "small"


def test_what_was_learned_counts() -> None:
    """The facts are the board's."""
    facts = Facts(version=7, lessons={"big": {"chat": Lesson(400.0, 300.0)}})
    would = simulator(facts=facts, policy="cost_quality").would(Described("r", 10, level=1))
    assert (would.model, would.board) == ("small", 7)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (Described("nothing", 10), "does not exist"),
        (Described("r", 10, wishes=Wishes(pin="free")), "pinned"),
        (Described("r", 10, wishes=Wishes(min_quality=0.99)), "quality"),
    ],
)
def test_a_refusal_says_why(call: Described, words: str) -> None:
    """For each model that falls out."""
    would = simulator(policy="cost_quality").would(call)
    assert words in would.refused
    assert would.model == ""


def test_what_nobody_knows_is_not_guessed() -> None:
    """No quality where none is declared or listed."""
    ours = simulator()
    assert ours.would(Described("free", 10, 5)).quality is None
    assert ours.quality_of("free", Described("free", 10)) is None
    assert ours.quality_of("gone", Described("r", 10)) is None
    assert ours.quality_of("big", Described("r", 10)) == pytest.approx(0.9, abs=0.02)


def test_sums_are_over_what_has_both_sides() -> None:
    """A refusal is counted and compared with nothing."""
    rows = [
        (Was("a", "big", "big/v", 100), 0.9, Outcome("p", "small", "small/v", 0.8, 10)),
        (Was("b", "small", "small/v", 10), 0.8, Outcome("p", "small", "small/v", 0.8, 10)),
        (Was("c", "big", "big/v", 100), None, Outcome("p", refused="no")),
        (Was("d", "free", "free/v", 5), None, Outcome("p", "free", "free/w", None, 5)),
    ]
    sums = summed(rows)
    assert (sums.calls, sums.changed, sums.refused, sums.compared) == (4, 2, 1, 3)
    assert (sums.was_cost_nusd, sums.would_cost_nusd) == (115, 25)
    assert sums.was_quality == pytest.approx(0.85)
    assert sums.would_quality == pytest.approx(0.8)
