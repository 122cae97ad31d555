"""The retry machine, event by event: each way in which an attempt can end, before its first byte and after it."""

import pytest

from governance.ledger import OUTCOMES
from proxy.attempts import OF_THE_CALLER, Attempts, Ended, health_of, outcome_of

# How an attempt ended, what follows before the first byte and after it, what it teaches (0 nothing, 1 fine, 2 failed,
# 3 throttled, 4 nobody is there) before and after.
TABLE: list[tuple[str, int, str, str, int, int]] = [
    ("ok", 200, "done", "done", 1, 1),
    ("client_left", 0, "done", "done", 0, 0),
    ("client_left", 200, "done", "done", 0, 0),
    ("hedged", 200, "done", "done", 0, 0),
    ("connect_failed", 0, "next", "give_up", 4, 4),
    ("first_byte_timed_out", 0, "next", "give_up", 2, 2),
    ("idle_timed_out", 0, "next", "give_up", 2, 2),
    ("total_timed_out", 0, "next", "give_up", 2, 0),
    ("upstream_lost", 0, "next", "give_up", 2, 2),
    ("upstream_lost", 200, "next", "give_up", 2, 2),
    ("bad_answer", 0, "next", "give_up", 2, 2),
    ("bad_answer", 200, "next", "give_up", 2, 2),
    ("drained", 0, "give_up", "give_up", 0, 0),
    ("internal", 0, "give_up", "give_up", 0, 0),
    ("rate_limited", 429, "next", "give_up", 3, 3),
    ("overloaded", 529, "next", "give_up", 3, 3),
    *(("upstream_refused", status, "next", "give_up", 4, 4) for status in (401, 403)),
    *(("upstream_refused", status, "next", "give_up", 2, 2) for status in (301, 402)),
    *(
        ("upstream_refused", status, "next", "give_up", 2, 2)
        for status in (404, 405, 408, 425, 499)
    ),
    *(
        ("upstream_refused", status, "next", "give_up", 2, 2)
        for status in (500, 501, 502, 503, 599)
    ),
    *(("upstream_refused", status, "pass_on", "give_up", 0, 0) for status in sorted(OF_THE_CALLER)),
]
IDS = [f"{outcome} {status}" for outcome, status, *_ in TABLE]


def machine(candidates: int = 3, most: int = 3) -> Attempts:
    """Make a machine in which the first candidate is being tried."""
    made = Attempts(candidates, most)
    made.begin(0)
    return made


@pytest.mark.parametrize("row", TABLE, ids=IDS)
def test_what_follows_from_an_end(row: tuple[str, int, str, str, int, int]) -> None:
    """Before the first byte most failures move on; after it none does."""
    outcome, status, before, after, _, _ = row
    assert machine().decide(Ended(outcome, status)) == before
    assert machine().decide(Ended(outcome, status, committed=True)) == after


@pytest.mark.parametrize("row", TABLE, ids=IDS)
def test_what_an_end_teaches(row: tuple[str, int, str, str, int, int]) -> None:
    """A caller's fault and ours teach nothing about the deployment; a throttle is no failure."""
    outcome, status, _, _, before, after = row
    assert health_of(Ended(outcome, status)) == before
    assert health_of(Ended(outcome, status, committed=True)) == after


def test_the_table_knows_every_outcome() -> None:
    """`void` and `reaped` are written by the store alone."""
    assert {row[0] for row in TABLE} == set(OUTCOMES) - {"void", "reaped"}


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (429, "rate_limited"),
        (529, "overloaded"),
        (500, "upstream_refused"),
        (400, "upstream_refused"),
    ],
)
def test_a_refusal_has_its_word(status: int, outcome: str) -> None:
    """The words of the ledger."""
    assert outcome_of(status) == outcome
    assert outcome in OUTCOMES


def test_every_candidate_is_tried_once() -> None:
    """With more attempts allowed than there are candidates, the candidates are the bound."""
    attempts = Attempts(2, 9)
    failed = Ended("upstream_lost")
    attempts.begin(1)
    assert attempts.decide(failed) == "next"
    attempts.begin(0)
    assert attempts.decide(failed) == "give_up"
    assert (attempts.made, attempts.tried) == (2, [1, 0])


def test_attempts_are_bounded() -> None:
    """With more candidates than attempts allowed, the attempts are the bound."""
    attempts = Attempts(9, 3)
    for candidate, expected in enumerate(["next", "next", "give_up"]):
        attempts.begin(candidate)
        assert attempts.decide(Ended("connect_failed")) == expected


def test_a_single_attempt_is_no_retry() -> None:
    """`max_attempts: 1` passes every failure on."""
    assert machine(most=1).decide(Ended("connect_failed")) == "give_up"


def test_the_callers_mistake_ends_it_at_any_attempt() -> None:
    """Also where the first attempt failed for another reason."""
    attempts = machine()
    assert attempts.decide(Ended("upstream_lost")) == "next"
    attempts.begin(1)
    assert attempts.decide(Ended("upstream_refused", 422)) == "pass_on"


def test_an_endpoint_that_is_not_there_says_nothing_of_what_is() -> None:
    """The next candidate is asked, and its health stays as it is."""
    absent = Ended("upstream_refused", 404, absent=True)
    assert health_of(absent) == 0
    assert health_of(Ended("upstream_refused", 404)) == 2
    attempts = Attempts(2, 3)
    attempts.begin(0)
    assert attempts.decide(absent) == "next"
