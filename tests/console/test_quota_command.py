"""Laws of `penstock quota`: what is named changes, what is not stays, and what is held is shown."""

import re
from typing import Any

import msgpack
import pytest

from console import quota_command
from ratelimit.lives import DEAD
from ratelimit.upkeep import read_scope
from store.cells import FIRST
from tests.console.command_rig import typed
from tests.console.silent import MEMBER, fall_silent

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


async def test_every_scope_has_its_limits(operator: Api) -> None:
    """Of users, applications and business lines each entry of its own begins as what holds for all."""
    for words, scope, rate, limit in (
        ("user:acme#default rpd=5 burst.rpd=2", "user:acme#anybody", "rpd", 5),
        ("user:acme#ann itpm=9", "user:acme#ann", "itpm", 9),
        ("application:acme#desk rps=3", "application:acme#desk", "rps", 3),
        ("business_line:acme#retail otpd=4", "business_line:acme#retail", "otpd", 4),
        ("provider:beta tpd=6", "provider:beta", "tpd", 6),
    ):
        ended = await typed(f"quota set {words}")
        assert ended.code == 0, ended.err
        state = await read_scope(operator.redis, scope)
        assert state is not None
        assert state.limit(rate) == limit
    ann = await read_scope(operator.redis, "user:acme#ann")
    assert ann is not None
    assert (ann.limit("rpd"), ann.rates["rpd"].burst) == (5, 2)
    shown = await typed("quota show user:acme#who-has-never-called")
    assert "rpd, burst 2" in shown.out
    assert "rpd" not in (await typed("quota show application:acme#other")).out


async def test_a_budget_is_raised_for_a_time(operator: Api) -> None:
    """And no longer than that; what is spent stays spent."""
    ended = await typed("quota set team:acme/support budget=3/month/strict@Europe/Berlin")
    assert ended.code == 0, ended.err
    ended = await typed("quota raise team:acme/support month 5.5 --until 2099-12-24")
    assert ended.code == 0, ended.err
    assert "5.50 until 2099-12-23T23:00:00Z" in ended.out
    state = await read_scope(operator.redis, "team:acme/support")
    assert state is not None
    assert state.budgets["month"].raised_nusd == 5_500_000_000
    ended = await typed("quota raise team:acme/support month none")
    assert ended.code == 0, ended.err
    state = await read_scope(operator.redis, "team:acme/support")
    assert state is not None
    assert (state.budgets["month"].raised_nusd, state.budgets["month"].amount_nusd) == (
        0,
        3 * 10**9,
    )


async def test_a_budget_below_a_cent_is_shown_as_it_is(operator: Api) -> None:
    """It is not 0.00."""
    shown = (await typed("quota set team:acme/support budget=0.0002/day")).out
    assert re.search(r"USD per day, soft +0\.0002 ", shown)


async def test_that_nothing_happened_is_said(operator: Api) -> None:
    """A table without rows would leave one wondering."""
    assert (await typed("quota events")).out == "No threshold of a budget was reached.\n"


async def test_who_fell_silent_is_listed_and_freed(operator: Api) -> None:
    """With what stays reserved; the word that it is dead needs no version, and is refused of whoever is not silent."""
    assert (await typed("quota silent")).out == "Every replica beats, or is known to be dead.\n"
    await fall_silent(operator.redis)
    _, row = (await typed("quota silent")).out.splitlines()
    assert row.split()[:2] == [MEMBER, "2024-01-01T00:01:00.000Z"]
    assert "team:acme/support 0.000003 per total" in row
    (one,) = (await typed("quota silent --json")).json["silent"]
    assert one["attempts"] == 2
    ended = await typed(["quota", "free", MEMBER, "--why", "the machine burned"])
    assert (ended.code, ended.err) == (0, "")
    assert MEMBER in ended.out
    assert await operator.redis.zscore(FIRST.beats, MEMBER) == DEAD
    again = await typed(["quota", "free", "host/9.none", "--json"])
    assert again.code == 2
    assert again.json["error"]["code"] == "not_found"


async def test_events_are_listed(operator: Api) -> None:
    """The newest first, of one scope or of all."""
    for percent, key in ((50, "{c0}:s:team:acme/support"), (80, "{c0}:s:org:acme")):
        row = [key, 3, 24_318, percent, 5 * 10**9, 4 * 10**9, 1, 60_000_000]
        await operator.redis.xadd("{c0}:ev", {"e": msgpack.packb(row)})
    ended = await typed("quota events")
    assert ended.code == 0, ended.err
    _, newest, older = ended.out.splitlines()
    assert "80 %" in newest
    assert "team:acme/support" in older
    assert "of 5.00 per month, strict" in older
    one = (await typed("quota events org:acme --json")).json["events"]
    assert [(each["percent"], each["at"]) for each in one] == [(80, "2024-01-01T00:01:00.000Z")]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("quota events --count 0", 2),
        (f"quota events --count {'9' * 5000}", 2),
        ("quota events --count many", 2),
        ("quota set user:acme rpm=1", 2),
        ("quota set user:nope#ann rpm=1", 2),
        ("quota set team:acme/support burst.rpm=3", 2),
        ("quota set team:acme/support rpm=3 burst.rmp=3", 2),
        ("quota set team:acme/support budget=3/day@Europe/Berlyn", 2),
        ("quota set user:acme#default budget=3/total", 2),
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("team:acme/support day 500", "--until is missing"),
        ("team:acme/support year 500 --until 2099-01-01", 'has no budget per "year"'),
        ("team:acme/support day much --until 2099-01-01", "USD"),
        ("team:acme/support day 500 --until soon", 'budget.raise.until: found "soon"'),
        ("team:acme/support day 500 --until 2099-02-30", 'budget.raise.until: found "2099-02-30"'),
        ("team:acme/support day 1 --until 2099-01-01", "a raise to no more than the 3 USD"),
        ("team:acme/support day -5 --until 2099-01-01", 'budget.raise.usd: found "-5"'),
        ("team:acme/support day 500 --until 2026-01-01", "2026-01-01 has passed; say a later"),
        ("org:nope day 500 --until 2099-01-01", 'there is no organization "nope"'),
    ],
)
async def test_a_bad_raise_changes_nothing(operator: Api, words: str, said: str) -> None:
    """An amount that is none, or no more than there is; a moment that is none, or has passed."""
    assert (await typed("quota set team:acme/support budget=3/day/strict@Europe/Berlin")).code == 0
    before = await operator.everything()
    ended = await typed(f"quota raise {words}")
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert await operator.everything() == before


def test_what_each_cell_has_of_a_limit_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Where limits are divided, a line for each share follows the whole."""
    whole = {"limit": 60, "burst": 60, "remaining": 59, "resets_in_ms": 1000}
    shares = [{"cell": f"c{n}", "limits": {"rpm": 30}, "in_flight": 0} for n in range(2)]
    said = {"scope": "model:m", "limits": {"rpm": whole}, "budgets": [], "shares": shares}
    quota_command._print([said])
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split() for line in lines] == [
        ["model:m", "rpm", "60", "59", "in", "1.0", "s"],
        ["model:m", "rpm", "in", "c0", "30"],
        ["model:m", "rpm", "in", "c1", "30"],
    ]
