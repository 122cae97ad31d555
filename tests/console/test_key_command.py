"""Laws of `penstock key`: the key is the one line that a script can take, and is seen nowhere else."""

import re
from typing import Any

import pytest

from tests.console.command_rig import typed

Api = Any  # the fixtures of this folder's conftest


async def test_a_key_from_its_making_to_its_end(operator: Api) -> None:
    """Made, shown, listed, rotated, revoked; each key printed once and alone."""
    made = await typed(
        "key create acme/support/new --application desk --business-line b --user u"
        " --biz-level premium --prefer-cost low --models auto,demo --rpm 5 --tpm 6_000"
        " --concurrency 2 --budget 3/day/strict --budget 9/week"
    )
    assert made.code == 0, made.err
    assert re.fullmatch(r"sk-pen-[A-Za-z0-9]{40}\n", made.out)
    assert made.out.strip() not in made.err
    shown = (await typed("key show acme/support/new --json")).json
    assert shown["settings"] == {
        "application": "desk",
        "business_line": "b",
        "user": "u",
        "biz_level": "premium",
        "prefer_cost": "low",
        "models": ["auto", "demo"],
        "limits": {"rpm": 5, "tpm": 6000, "concurrency": 2},
        "budget": [{"usd": 3, "per": "day", "mode": "strict"}, {"usd": 9, "per": "week"}],
    }
    assert "premium" in (await typed("key show acme/support/new")).out
    listed = await typed("key list acme/support")
    assert "acme/support/new" in listed.out
    assert "acme/support/helpdesk" in listed.out
    assert (await typed("key list empty --json")).json["keys"] == []
    rotated = await typed("key rotate acme/support/new --json")
    assert rotated.json["key"] != made.out.strip()
    revoked = await typed("key revoke acme/support/new --why gone")
    assert (revoked.code, "is live" in revoked.out) == (0, True)
    assert (await typed("key show acme/support/new")).code == 2
    everything = await operator.everything()
    for key in (made.out.strip(), rotated.json["key"]):
        assert not any(key.encode() in value for value in everything.values())


async def test_a_list_says_when_it_is_empty_and_when_nobody_is_called_so(operator: Api) -> None:
    """An empty table would leave open which of them it is."""
    assert (await typed("key list empty")).out == "There are no keys.\n"
    ended = await typed("key list acme/suport")
    assert (ended.code, ended.out) == (2, "")
    assert 'there is no team "acme/suport"; did you mean "support"?' in ended.err
    assert "rpm " in (await typed("key list acme")).out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("key create acme/support", 2),
        ("key create a//c", 2),
        ("key create acme/support/x/y", 2),
        ("key create nope/support/x", 2),
        ("key create acme/support/helpdesk", 2),
        ("key create acme/support/x --rpm -1", 2),
        ("key create acme/support/x --rpm 5/s", 2),
        ("key create acme/support/x --rpm 0", 2),
        ("key create acme/support/x --budget 300", 2),
        ("key create acme/support/x --budget 300/year", 2),
        ("key create acme/support/x --models nope", 2),
        ("key create acme/support/x --biz-level vip", 2),
        ("key create acme/support/x --key sk-mine", 2),
        ("key create acme/support/" + "x" * 129, 2),
        ("key create acme/support/x\x07", 2),
        ("key create acme/support/x --expected 5", 2),
        ("key rotate acme/support/nope", 2),
        ("key revoke acme/support/nope", 2),
        ("key show nope", 2),
        ("key list a/b/c", 2),
        ("key list nope", 2),
        ("key", 2),
        ("key burn x", 2),
    ],
)
async def test_a_bad_request_changes_nothing(operator: Api, words: str, code: int) -> None:
    """Misuse, a mistake, something that is not there or there already."""
    before = await operator.everything()
    ended = await typed(
        [*words.split(" "), *(["--why", "w"] if words.startswith("key create") else [])]
    )
    assert (ended.code, ended.out) == (code, "")
    assert ended.err
    assert await operator.everything() == before
