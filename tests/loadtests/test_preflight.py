"""Laws of the look before the load: what cannot work is told at once, in words, and what can is not held up."""

import asyncio
import json

import pytest

from loadtests.answers import BadAnswer
from loadtests.client import Base
from loadtests.engine import Plan
from loadtests.mock import serve
from loadtests.preflight import first_model, look
from loadtests.scenarios import Tenant
from tests.loadtests.peer import peer, whole


async def looked(url, *scenarios, model="sim", **plan):
    made = Plan(bases=(Base("it", url, "sk", model),), **plan)
    return await asyncio.to_thread(look, made, scenarios)


async def test_a_target_that_answers_is_left_alone():
    """One small call per kind of call, of one token each."""
    async with serve() as mock:
        assert await looked(mock.url, "mixed", "chat", "leaver") == []
        bodies = [json.loads(one["body"]) for one in mock.requests()]
        assert mock.books()["totals"]["calls"] == 3
    assert {body.get("max_tokens", 1) for body in bodies} == {1}


async def test_a_dead_target_is_told():
    """As unreachable, once."""
    with peer(b"") as gone:
        url = gone.url
    (words,) = await looked(url, "mixed")
    assert f"it ({url}) is not reachable" in words


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("401 Unauthorized", "refuses the key"),
        ("403 Forbidden", "refuses the key"),
        ("404 Not Found", "does not know /v1/chat/completions, or its model"),
        ("400 Bad Request", "cannot be used for chat"),
    ],
)
async def test_refusals_are_told_by_their_cause(status, words):
    """A wrong key, a wrong path or model, a wrong request."""
    answer = whole(b'{"error":{"message":"because"}}', "application/json", status)
    with peer(answer) as ours:
        (told,) = await looked(ours.url, "chat")
    assert words in told
    assert "because" in told


async def test_a_busy_target_may_be_tested():
    """The load test may be about just that."""
    with peer(whole(b"{}", "application/json", "429 Too Many Requests")) as ours:
        assert await looked(ours.url, "chat") == []


async def test_each_tenants_key_is_tried():
    """The wrong one is named by its tenant, not shown."""
    answers = [
        whole(b'{"choices":[{}]}', "application/json"),
        whole(b"{}", "application/json", "401 No"),
    ]
    tenants = (Tenant("good", "premium", 1, "sk-1"), Tenant("bad", "economy", 1, "sk-2"))
    with peer(*answers) as ours:
        (words,) = await looked(ours.url, "chat", tenants=tenants)
    assert "the key of tenant bad" in words
    assert "sk-2" not in words


async def test_without_a_model_there_is_nothing_to_ask():
    """It is told rather than guessed, where several bases are asked."""
    assert await looked("http://127.0.0.1:1", "chat", model="") == ["it: no model is named"]


async def test_the_first_model_of_the_list_is_the_default():
    """And its absence, or a wrong key, is told."""
    async with serve() as mock:
        assert await asyncio.to_thread(first_model, Base("b", mock.url))
    for status, body, words in (
        ("401 No", b"{}", "key is wrong"),
        ("200 OK", b'{"data":[]}', "--model"),
        ("200 OK", b'{"data":[{"id":"\xc3"}]}', "--model"),
        ("404 Not Found", b"nothing", "answered 404: is the API there"),
    ):
        with (
            peer(whole(body, "application/json", status)) as ours,
            pytest.raises(BadAnswer, match=words),
        ):
            await asyncio.to_thread(first_model, Base("b", ours.url))
