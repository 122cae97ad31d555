"""Laws of commands that operate: exit codes, what goes where, and how numbers are read."""

import argparse
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import RedisError

from console.gateway import Misuse
from console.operating import budget_of, limit_of, path_to, seconds, version
from tests.console.command_rig import typed

Api = Any  # the fixtures of this folder's conftest


@pytest.mark.parametrize(
    ("text", "limit"), [("600", 600), ("10_000", 10_000), ("none", None), ("-5", -5)]
)
def test_a_limit_is_a_whole_number_or_none(text: str, limit: int | None) -> None:
    """Whether it is in range says the gateway."""
    assert limit_of("rpm", text) == limit


@pytest.mark.parametrize(
    "text", ["", "5/s", "1.5", "1e3", "0x5", "five", "_5", "5_", "\u0665", "9" * 40]
)
def test_a_limit_has_no_unit(text: str) -> None:
    """The name says it."""
    with pytest.raises(Misuse, match="rpm="):
        limit_of("rpm", text)


def test_a_budget_is_an_amount_a_period_and_a_mode() -> None:
    """Exact to nine decimals."""
    assert budget_of("300/month/strict") == {"usd": 300, "per": "month", "mode": "strict"}
    assert budget_of("0.000000001/day") == {"usd": 1e-9, "per": "day"}
    assert budget_of("-3/day") == {"usd": -3, "per": "day"}
    for text in (
        "",
        "300",
        "x/day",
        "nan/day",
        "inf/day",
        "1/day/soft/x",
        "1.00000000000000000001/day",
    ):
        with pytest.raises(Misuse, match="budget="):
            budget_of(text)


@given(st.text(max_size=20))
def test_whatever_is_typed_is_read_or_refused(text: str) -> None:
    """By words, never by a traceback; and what is read can be sent."""
    for read in (lambda: limit_of("rpm", text), lambda: budget_of(text)):
        try:
            json.dumps(read(), allow_nan=False)
        except Misuse:
            pass
    for parse in (version, seconds):
        try:
            parse(text)
        except argparse.ArgumentTypeError:
            pass


def test_a_name_is_one_part_of_a_path() -> None:
    """Whatever it holds."""
    assert path_to("quotas", "key:a/b/c") == "/v1/quotas/key:a%2Fb%2Fc"
    assert path_to("deployments", "m/x#2?y") == "/v1/deployments/m%2Fx%232%3Fy"
    assert path_to("events", query=[("scope", "a&b")]) == "/v1/events?scope=a%26b"


@pytest.mark.parametrize(
    "words",
    [
        ["quota", "show", "user:acme#\udcff"],
        ["quota", "events", "user:acme#\udcff"],
        ["quota", "set", "user:acme#\udcff", "rpm=5"],
        ["key", "create", "acme/support/\udcff"],
        ["key", "list", "acme/\udcff"],
        ["route", "explain", "\udcff"],
        ["models", "--tag", "\udcff"],
    ],
)
async def test_what_is_no_text_is_refused_by_words(operator: Api, words: list[str]) -> None:
    """A word in another encoding than UTF-8 comes so from the shell; nothing is made of it."""
    before = await operator.everything()
    ended = await typed(words)
    assert (ended.code, ended.out) == (2, "")
    assert "UTF-8" in ended.err
    assert await operator.everything() == before


async def test_exit_codes_mean_something(operator: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 done, 1 no right, 2 what was asked for cannot be; refusals go to standard error."""
    for words, code, says in (
        ("quota show org:acme", 0, ""),
        ("quota show org:nope", 2, "there is no organization"),
        ("key create acme/support/helpdesk", 2, "there is a key"),
        ("quota set org:acme rpm=1 --expected 9", 2, "version 1"),
        ("quota set org:acme rpm=0", 2, "organizations.acme.limits.rpm"),
        ("quota set org:acme rpm=1 --wait 99", 2, "--wait"),
        ("quota set org:acme rpm=1 --expected x", 2, "--expected"),
        ("quota", 2, "usage"),
        ("deployment weight demo/beta x", 2, "not a whole number"),
    ):
        ended = await typed(words)
        assert ended.code == code, ended
        assert says in ended.err
        assert (ended.out != "") == (code == 0)
    monkeypatch.setenv("PENSTOCK_ADMIN_TOKEN", "wrong-token-of-an-operator")
    ended = await typed("quota show")
    assert ended.code == 1
    assert "PENSTOCK_ADMIN_TOKEN" in ended.err
    assert "wrong-token" not in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("config show model nope", 'models.nope: there is no model "nope"; there are: '),
        ("config remove provider nope", 'providers.nope: there is no provider "nope"; there are: '),
        ("key create nope/x/y", 'organizations.nope: there is no organization "nope"; there are: '),
        ("deployment drain nope", 'models: there is no deployment "nope"; there are: '),
        ("experiment show nope", 'experiments: there is no experiment "nope"; '),
        ("experiment stop nope", 'experiments.nope: there is no experiment "nope"; '),
        ("route simulate --model nope", 'there is no model or route "nope"; there are: '),
        ("quota show teams:acme", 'scope: "teams:acme" is no scope; expected key:ORG/TEAM/NAME'),
        ("quota show team:acme", 'organizations: "acme" is no team; expected organization/team'),
        (
            "key create acme/support/helpdesk",
            'there is a key "acme/support/helpdesk" already; rotate it, or choose another name',
        ),
    ],
)
async def test_what_is_not_there_is_answered_with_what_there_is(
    operator: Api, words: str, said: str
) -> None:
    """In the command's own words, and in none of the API's."""
    ended = await typed(words)
    assert ended.code == 2
    first, *_ = ended.err.splitlines()
    assert first.startswith(f"penstock {words.split(maxsplit=1)[0]}: ")
    assert said in first
    assert "GET" not in ended.err


async def test_what_may_have_been_done_is_not_denied(
    operator: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store went away behind a change: only the history tells whether it is there."""

    async def gone(*_: object) -> None:
        raise RedisError("it is gone")

    monkeypatch.setattr("config.live._reach_a_replica", gone)
    ended = await typed("quota set org:acme rpm=1")
    assert (ended.code, ended.out) == (3, "")
    assert "Nothing was changed" not in ended.err
    assert "./penstock config history" in ended.err
    assert (await operator.done("GET", "/v1/config"))["version"] == 2


async def test_json_is_what_the_api_answers(operator: Api) -> None:
    """Of answers and of refusals."""
    assert (await typed("quota show org:acme --json")).json["scope"] == "org:acme"
    ended = await typed("quota set org:acme rpm=0 --json")
    assert (ended.code, ended.json["error"]["code"]) == (2, "mistakes")
    ended = await typed("deployment drain demo/beta --json --why repair")
    assert (ended.json["kind"], ended.json["why"]) == ("deployment.set", "repair")


@pytest.mark.parametrize("name", ["a\x1bb", "n" * 600])
async def test_what_was_typed_is_judged_by_its_own_field(operator: Api, name: str) -> None:
    """Without a reason of its own a change is noted as it was typed, which is no reason to refuse it."""
    ended = await typed(["quota", "set", f"org:{name}", "rpm=6"])
    assert ended.code == 2
    assert "--why" not in ended.err
    assert "organization" in ended.err


async def test_why_and_who_are_noted(operator: Api) -> None:
    """What was typed where nothing is said; one printable line."""
    ended = await typed("quota set org:acme rpm=5 --json")
    assert ended.json["why"] == "quota set org:acme rpm=5 --json"
    assert "@" in ended.json["by"]
    for why in ("", " ", "a\nb", "\x1b[31m", "w" * 501):
        ended = await typed(["quota", "set", "org:acme", "rpm=6", "--why", why])
        assert ended.code == 2
        assert "--why" in ended.err
    ended = await typed(["quota", "set", "org:acme", "rpm=6", "--why", "Ümlaut week"])
    assert ended.code == 0


async def test_a_replica_that_is_late_is_named(operator: Api) -> None:
    """The change is made, and the exit code says that it is not everywhere."""
    await operator.redis.zadd("{c0}:r", {"h/0.a": 2**52})
    ended = await typed("quota set org:acme rpm=5 --wait 0.05")
    assert ended.code == 1
    assert "Version 2 is live." in ended.out
    assert "Not yet by h/0" in ended.err
    ended = await typed("quota set org:acme rpm=6 --wait 0")
    assert ended.code == 0
