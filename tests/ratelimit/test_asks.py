"""Asks and answers: keys lie where the scripts look, and answers become words."""

from typing import Any

import pytest

from ratelimit import asks
from ratelimit.asks import Ask, Denied, Grant, boot_of, denied, replica_name
from ratelimit.limits import Candidate, Plan
from store import scripts
from store.cells import FIRST
from tests.ratelimit.gates import plan_of

BOOT = boot_of("host/0.abcd")


def ask(plan: Plan, number: int = 1, **wish: Any) -> Ask:
    plain = {"input": 1, "bound": 2, "cap": 3, "assumed": 4, "n": 5, "first": False}
    plain |= {"excluded": (2,), "tie": 6, "user": "ü"} | wish
    return Ask(plan, f"q{number}.1", **plain)


def test_every_key_of_a_boot_lies_in_the_cell() -> None:
    """One script touches one slot, so all of them share its tag; and no two are the same."""
    keys = [BOOT.leases, BOOT.bar, BOOT.seen, BOOT.graves, BOOT.parts]
    assert len(set(keys)) == 5
    assert all(key.startswith(f"{FIRST.tag}:") and key.endswith(":host/0.abcd") for key in keys)
    assert {
        key.split(":")[0] for key in (FIRST.beats, FIRST.ledger, FIRST.totals, *plan_of().keys)
    } == {FIRST.tag}


def test_a_plan_without_candidates_is_a_mistake() -> None:
    """Whoever makes one learns it at once, not from the script."""
    with pytest.raises(ValueError, match="candidate"):
        Plan(("org:o",), (), b"")


def test_a_plan_names_each_key_once() -> None:
    """Candidates of one model share its scope."""
    two = Candidate("d2", "m", 0, 1, 1, 1, 1, "p")
    plan = Plan(("key:o/t/k", "org:o"), (Candidate("d1", "m", 0, 1, 1, 1, 1, "p"), two), b"")
    assert plan.keys == (
        "{c0}:s:key:o/t/k",
        "{c0}:s:org:o",
        "{c0}:d:d1",
        "{c0}:s:model:m",
        "{c0}:d:d2",
    )


def test_a_grant_counts_candidates_from_zero() -> None:
    """As a list in Python does."""
    grant = Grant([1, 2, 256, 99, [1, 2, 3, 4, 5, 6], 3, "10", 7.5], BOOT)
    assert (grant.candidate, grant.cap, grant.at_us) == (1, 256, 99)
    assert (grant.why, grant.lost, grant.boot) == ("load", "10", BOOT)


def test_a_refusal_names_the_scope_that_binds() -> None:
    """By the plan's own word; a budget says its period, too."""
    row = [0, 4, 3, 500, 0, 99, [0] * 6, 2]
    assert denied(ask(plan_of()), row) == Denied("budget", "org:o", 500, 0, 99, [0] * 6, "week")
    row = [0, 2, 1, 500, 70, 99, [0] * 6, 5]
    said = denied(ask(plan_of()), row)
    assert said == Denied("tokens", "key:o/t/k", 500, 70, 99, [0] * 6, rate="tpm")
    plain = plan_of()
    plan = Plan(plain.scopes, plain.candidates, b"", ("o/e", "o"))
    said = denied(ask(plan), [0, 3, 5, 2, 0, 99, [0] * 6, 0])
    assert (said.scope, said.rate) == ("user:o#ü", "")


def test_every_number_of_the_scripts_has_its_word() -> None:
    """What the header of admit lists is what callers and operators read."""
    text = scripts.read("ratelimit", "admit")
    assert set(asks.DENIED_WORDS) == {1, 2, 3, 4, 5}
    assert set(asks.WHY_WORDS) == {1, 2, 3, 4, 5, 6}
    assert set(asks.LOST_WORDS) == set("0123456789abcdef")
    for said in (
        "1 requests, 2 tokens, 3 concurrency, 4 budget",
        "1 drained, 2 cooling",
        "4 all were failing: the least bad",
        "5 to try it, 6 favoured",
        "e half-open and being tried, f offline",
    ):
        assert said in text


def test_a_replica_is_named_after_its_host_and_number() -> None:
    """So that operators find it; a slash parts the two."""
    host, _, number = replica_name(3).rpartition("/")
    assert host
    assert number == "3"
