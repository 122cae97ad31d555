"""Quotas: bursts have a rate, and budgets can hold beside each other."""

import pytest

from config.loader import check_text
from tests.config.slips import said


@pytest.mark.parametrize(
    ("old", "new", "problems"),
    [
        (
            "teams: {t:",
            "budget: [{usd: 1, per: day}, {usd: 2, per: day, mode: strict}, {usd: 3, per: day}], teams: {t:",
            ["f:13: organizations.o.budget[2]: a second soft budget per day; keep the smaller one"],
        ),
    ],
)
def test_a_second_budget_of_a_kind_is_said(old: str, new: str, problems: list[str]) -> None:
    """Of two for one period the smaller one holds anyway."""
    assert said(old, new) == problems


@pytest.mark.parametrize(
    ("budget", "where"),
    [
        ("{usd: 1, per: day, mode: strict, when_store_is_down: share}", "budget"),
        ("[{usd: 1, per: day, mode: strict, when_store_is_down: share}]", "budget[0]"),
    ],
)
def test_a_strict_budget_cannot_declare_that_it_goes_on(budget: str, where: str) -> None:
    """What is spent unseen may overshoot it; `closed` is what it does anyway, and a soft one may say either."""
    [problem] = said("o: {teams", f"o: {{budget: {budget}, teams")
    assert (
        f"organizations.o.{where}.when_store_is_down: a strict budget is always closed" in problem
    )
    for fine in (
        budget.replace("share", "closed"),
        budget.replace("strict", "soft"),
        budget.replace("mode: strict, ", ""),
    ):
        assert said("o: {teams", f"o: {{budget: {fine}, teams") == []


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (
            "organizations: {o: {limits: {rpm: 5, burst: {tpm: 3}}}}",
            "organizations.o.limits.burst.tpm",
            "there is no tpm",
        ),
        (
            "organizations: {o: {limits: {rpm: 1, burst: {rpm: 50_000}}}}",
            "organizations.o.limits.burst.rpm",
            "31 days",
        ),
        (
            "organizations: {o: {users: {default: {budget: {usd: 1, per: total}}}}}",
            "organizations.o.users.default.budget.per",
            "not kept for ever",
        ),
        (
            "organizations: {o: {budget: {usd: 5, per: day, raise: {usd: 5, until: 2026-01-01}}}}",
            "organizations.o.budget.raise.usd",
            "no more than the 5 USD",
        ),
        (
            "organizations: {o: {budget: [{usd: 5, per: day}, {usd: 5, per: day, mode: strict, time_zone: Europe/Berlin}]}}",
            "organizations.o.budget[1]",
            "different time zones",
        ),
        (
            "organizations: {o: {business_lines: {b: {limits: {burst: {rpm: 3}}}}}}",
            "organizations.o.business_lines.b.limits.burst.rpm",
            "there is no rpm",
        ),
        (
            "organizations: {o: {limits: {rpm: ~, burst: {rpm: 3}}}}",
            "organizations.o.limits.burst.rpm",
            "there is no rpm",
        ),
        (
            "providers: {p: {protocol: openai, base_url: http://h, limits: {burst: {rps: 3}}}}",
            "providers.p.limits.burst.rps",
            "there is no rps",
        ),
    ],
)
def test_limits_that_cannot_hold_are_said(text: str, path: str, words: str) -> None:
    """Wherever they stand, with their path."""
    found = [one for one in check_text(text, source="t", environ={}) if one.severity == "error"]
    assert [words in one.message for one in found] == [True], found
    assert found[0].path.startswith(path)


def test_a_burst_that_is_left_out_needs_no_rate() -> None:
    """An empty value is as if the line were not there."""
    text = "organizations: {o: {limits: {burst: {rpm: ~}}}}"
    assert not check_text(text, source="t", environ={})


def test_an_amount_that_nobody_could_write_out_is_refused_as_such() -> None:
    """It is not written out in the message about the raise, which would take all memory."""
    budget = "{usd: 1e999999999, per: day, raise: {usd: 1, until: 2026-12-24}}"
    [problem] = check_text(f"organizations: {{o: {{budget: {budget}}}}}", source="t", environ={})
    assert problem.path == "organizations.o.budget.usd"
    assert len(problem.message) < 200
