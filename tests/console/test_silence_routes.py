"""Laws of `/v1/silent`: who fell silent, what stays reserved for it, and who may be said to be dead."""

import logging
from typing import Any

import pytest

from ratelimit.lives import DEAD
from store.cells import FIRST
from tests.console.silent import MEMBER, SCOPE, fall_silent

Api = Any  # the fixtures of this folder's conftest


async def test_who_fell_silent_is_told(api: Api) -> None:
    """With what strict budgets reserve for it, in nano-USD exact."""
    assert (await api.done("GET", "/v1/silent"))["silent"] == []
    await fall_silent(api.redis)
    (one,) = (await api.done("GET", "/v1/silent"))["silent"]
    assert one == {
        "replica": MEMBER,
        "cell": "c0",
        "since": "2024-01-01T00:01:00.000Z",
        "attempts": 2,
        "most_usd": "0.000003000",
        "reserved": [{"scope": SCOPE, "per": "total", "usd": "0.000003000"}],
    }


async def test_a_word_that_one_is_dead_is_taken_and_logged(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    """With who said so, and why; the reaper does the rest."""
    await fall_silent(api.redis)
    body = {"replica": MEMBER, "why": "the machine burned"}
    who = {"x-penstock-actor": "ann"}
    with caplog.at_level(logging.WARNING, "penstock.control"):
        assert await api.done("POST", "/v1/silent/dead", body, headers=who) == {"replica": MEMBER}
    assert "ann says that host/0.ab12 is dead: the machine burned" in caplog.text
    assert await api.redis.zscore(FIRST.beats, MEMBER) == DEAD
    assert (await api.done("GET", "/v1/silent"))["silent"] == []


async def test_the_living_are_not_taken_for_dead(api: Api) -> None:
    """Nor is anybody who is not known."""
    await api.redis.zadd(FIRST.beats, {"host/1.cd34": 10**16})
    for name in ("host/1.cd34", "host/2.ef56"):
        body = {"replica": name, "why": "nobody answers"}
        error = await api.refused(404, "not_found", "POST", "/v1/silent/dead", body)
        assert error["problems"][0]["path"] == "replica"
