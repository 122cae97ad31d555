"""Laws of `penstock quota`: what is named changes, what is not stays, and what is held is shown."""

from typing import Any

import pytest

from ratelimit.upkeep import read_scope
from tests.console.command_rig import typed

Api = Any  # the fixtures of this folder's conftest


async def test_limits_and_budgets_are_set_and_shown(operator: Api) -> None:
    """In the store before the command ends."""
    ended = await typed(
        "quota set team:acme/support tpm=800_000 concurrency=9 budget=300/month/strict"
    )
    assert ended.code == 0, ended.err
    assert "800,000" in ended.out
    assert "USD per month, strict" in ended.out
    state = await read_scope(operator.redis, "team:acme/support")
    assert state is not None
    assert (state.limit("tpm"), state.concurrency, state.limit("rpm")) == (800_000, 9, 0)
    assert list(state.budgets) == ["month"]
    ended = await typed("quota set team:acme/support tpm=none budget=none")
    assert "nothing" in ended.out
    state = await read_scope(operator.redis, "team:acme/support")
    assert state is not None
    assert (state.rates, state.concurrency, state.budgets) == ({}, 9, {})
    ended = await typed("quota set team:acme/support concurrency=9")
    assert (ended.code, "Nothing to change" in ended.out) == (0, True)
    await typed(
        "quota set team:acme/support concurrency=none budget=1.5/day budget=0.000000001/week"
    )
    ended = await typed("quota show team:acme/support")
    assert "1.50" in ended.out
    assert "0.000000001" in ended.out
    shown = await typed("quota show")
    assert "key:acme/support/helpdesk" in shown.out
    assert (await typed("quota show org:empty")).out.count("no limits") == 1


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("quota set org:acme rpm=-1", 2),
        ("quota set org:acme rpm=0", 2),
        ("quota set org:acme rpm=1e3", 2),
        ("quota set org:acme rpm=600/min", 2),
        ("quota set org:acme rpm=", 2),
        ("quota set org:acme rpm", 2),
        ("quota set org:acme =5", 2),
        ("quota set org:acme rmp=5", 2),
        ("quota set org:acme rpm=5 rpm=6", 2),
        ("quota set org:acme rpm\x00=5", 2),
        ("quota set org:acme " + "r" * 2000 + "=5", 2),
        ("quota set org:acme budget=-3/day", 2),
        ("quota set org:acme budget=3/fortnight", 2),
        ("quota set org:acme budget=3/day/hard", 2),
        ("quota set org:acme budget=3/day budget=none", 2),
        ("quota set org:acme budget=none budget=3/day", 2),
        ("quota set org:acme budget=3/day budget=4/day", 2),
        ("quota set org:acme", 2),
        ("quota set org:nope rpm=5", 2),
        ("quota set acme rpm=5", 2),
        ("quota set model:demo budget=3/fortnight", 2),
        ("quota set org:acme rpm=5 --expected 3", 2),
        ("quota show org:nope", 2),
        ("quota tune", 2),
    ],
)
async def test_a_bad_quota_changes_nothing(operator: Api, words: str, code: int) -> None:
    """Wrong unit, negative, unknown, twice, stale; with words and the right exit code."""
    before = await operator.everything()
    ended = await typed([*words.split(" "), *(["--why", "w"] if " set " in words else [])])
    assert (ended.code, ended.out) == (code, "")
    assert ended.err
    assert await operator.everything() == before
