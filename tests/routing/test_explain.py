"""Laws of explanations: every candidate of every attempt is there, with its scores and one reason."""

from typing import Any

import msgspec
import pytest

from routing.decision import DECLARED, Decision, Scored, head, record
from routing.explain import explain

WORDS = {"0": "feasible", "2": "cooling", "8": "tried", "d": "unsuitable"}


def entry(**said: Any) -> dict[str, Any]:
    base = {
        "attempt_id": "r.1",
        "request_id": "r",
        "attempt": 1,
        "model_asked": "auto",
        "model": "big",
        "deployment": "big/v",
        "reason": "score",
        "outcome": "ok",
        "status": 200,
        "cost_nusd": 7,
        "ttft_us": 1,
        "duration_us": 2,
        "experiment": "",
        "decision": "",
    }
    return base | said


def scored(**said: Any) -> str:
    """Write the decision of a policy that scored four models on five places."""
    found = Decision(
        policy="cost_quality",
        asked="auto",
        places=("big/v", "small/v", "small/w", "odd", "blind/v"),
        chosen=0,
        lost="0020d",
        tiers=(0, 1, 1, 2, 255),
        models=(
            Scored("big", 900, 500, 1000, ""),
            Scored("small", 700, 50, 900, "quality"),
            Scored("other", 650, 900, 900, "cost"),
            Scored("blind", lost="the request needs vision"),
        ),
        level="premium",
        task="coding",
        complexity=800,
        delta=20,
        board=12,
    )
    return msgspec.json.encode(msgspec.structs.replace(found, **said)).decode()


def test_every_candidate_has_its_scores_and_one_reason() -> None:
    """Chosen, out before admission, out at admission, ranked behind."""
    found = explain([entry(decision=scored())], WORDS, {"odd": "other"})
    assert found is not None
    (attempt,) = found.attempts
    fates = {each.deployment: (each.fate, each.why) for each in attempt.candidates}
    assert fates == {
        "big/v": ("chosen", "score"),
        "small/v": ("behind", "its expected quality is below what the call may give up"),
        "small/w": ("at", "it failed and is left alone for a while"),
        "odd": ("behind", "it is good enough, and the chosen one is cheaper"),
        "blind/v": ("before", "the request needs vision"),
    }
    by_place = {each.deployment: each for each in attempt.candidates}
    assert (by_place["big/v"].quality, by_place["big/v"].cost_nusd) == (0.9, 500)
    assert (by_place["odd"].model, by_place["odd"].latency_us) == ("other", 900)
    assert (by_place["blind/v"].tier, by_place["blind/v"].quality) == (None, None)
    assert attempt.made_from["delta"] == 0.02
    assert attempt.made_from["level"] == "premium"


def test_what_is_as_good_lost_by_its_load() -> None:
    """The same tier, and feasible."""
    found = explain([entry(decision=scored(tiers=(0, 0, 1, 2, 255)))], WORDS, {})
    assert found is not None
    assert found.attempts[0].candidates[1].fate == "beside"


def test_a_declared_order_has_its_reasons_too() -> None:
    """Nothing was scored: the store's word, or the order."""
    text = record(head("auto", ["a/v", "b/v", "c/v"]), 1, "200", DECLARED)
    row = entry(decision=text, deployment="b/v", model="b", reason="order")
    found = explain([row], WORDS, {"a/v": "a"})
    assert found is not None
    first, second, third = found.attempts[0].candidates
    assert (first.fate, first.model) == ("at", "a")
    assert (second.fate, second.why, second.quality) == ("chosen", "order", None)
    assert third.fate == "behind"
    assert found.attempts[0].made_from == {}


def test_each_attempt_is_told_in_order_and_corrections_count_only_in_the_cost() -> None:
    """A retry knows what was tried; where there was one place, it was chosen."""
    rows = [
        entry(outcome="overloaded", cost_nusd=0),
        entry(attempt_id="r.2", attempt=2, reason="retry:overloaded"),
        entry(attempt_id="r.2+settle", attempt=2, cost_nusd=-2),
    ]
    found = explain(rows, WORDS, {})
    assert found is not None
    assert [(each.attempt, each.outcome) for each in found.attempts] == [
        (1, "overloaded"),
        (2, "ok"),
    ]
    assert found.cost_nusd == 5
    assert found.attempts[1].candidates[0].why == "retry:overloaded"
    assert explain([], WORDS, {}) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"policy": 1}'])
def test_a_decision_that_cannot_be_read_is_said(text: str) -> None:
    """The rest of the entry is told all the same."""
    found = explain([entry(decision=text)], WORDS, {})
    assert found is not None
    assert found.attempts[0].problem.startswith("not a decision")
    assert found.attempts[0].candidates[0].deployment == "big/v"
