"""What callers say of answers: authenticated, about their own calls, once."""

import json
from typing import Any

import pytest

from proxy.feedback import MOST_A_SECOND, Pace
from routing.kinds import task_of
from routing.lessons import read_lessons
from tests.proxy.edge_rig import Edge, Rig
from tests.proxy.partners import Answer, at, chat, request

OTHER = "sk-other-caller-0123456789"
FEEDBACK = "/v1/feedback"


async def says(rig: Rig, body: Any, **said: Any) -> Answer:
    caller = await rig.caller()
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    await caller.send(request(data, path=FEEDBACK, **said))
    return await caller.answer()


async def test_a_word_on_an_answer_changes_what_is_expected_of_its_model(edge: Edge) -> None:
    """From the key that asked, once; the lessons hold it, and the answer's own signals."""
    rig = await edge(
        models={"m": {"deployments": [at("mock")], "quality": 0.8}},
        routes={"smart": {"models": ["m"], "policy": "cost_quality"}},
        keys={"other": {"key": OTHER}},
    )
    caller = await rig.caller()
    await caller.send(request(chat("smart", stream=True)))
    answer = await caller.answer()
    request_id = answer.header("x-request-id")
    word = {"request_id": request_id, "score": 0.25}
    assert (await says(rig, word)).status == 404
    await rig.edge.learner.send(rig.redis)
    assert (await says(rig, word, key=OTHER)).error["code"] == "unknown_request"
    taken = await says(rig, word)
    assert (taken.status, taken.json) == (200, {"object": "feedback"} | word)
    again = await says(rig, word)
    assert (again.status, again.error["code"]) == (409, "judged_before")
    lessons = (await read_lessons(rig.redis, {"m"})).lessons
    kind = max((kind for _, kind in lessons), key=len)
    for name in (kind, task_of(kind)):
        found = lessons["m", name]
        assert (found.votes, found.score) == pytest.approx((1, 0.25), rel=1e-3)
        assert found.calls == pytest.approx(1, rel=1e-3)
        assert found.tokens > 0
    assert len(lessons) == 3


async def test_calls_that_nothing_scored_are_not_looked_at(edge: Edge) -> None:
    """A name of a model teaches nothing, and cannot be judged."""
    rig = await edge(models={"m": [at("mock")]})
    caller = await rig.caller()
    await caller.send(request(chat("m")))
    answer = await caller.answer()
    assert await rig.edge.learner.lessons.send(rig.redis, 0.0) == 0
    refused = await says(rig, {"request_id": answer.header("x-request-id"), "score": 1})
    assert refused.status == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"[]", None),
        ({"score": 1}, "request_id"),
        ({"request_id": "r"}, "score"),
        ({"request_id": "", "score": 1}, "request_id"),
        ({"request_id": "r" * 200, "score": 1}, "request_id"),
        ({"request_id": "r", "score": 2}, "score"),
        ({"request_id": "r", "score": "good"}, "score"),
    ],
)
async def test_what_is_no_word_is_refused_by_name(edge: Edge, body: Any, param: str | None) -> None:
    """400 names the field; nothing is looked up."""
    rig = await edge(models={"m": [at("mock")]})
    answer = await says(rig, body)
    assert (answer.status, answer.error["param"]) == (400, param)


async def test_nobody_judges_without_a_key(edge: Edge) -> None:
    """401, and a body that is too large is not read to its end."""
    rig = await edge(models={"m": [at("mock")]})
    assert (await says(rig, {"request_id": "r", "score": 1}, key=None)).status == 401
    assert (await says(rig, {"request_id": "r", "score": 1}, key="sk-unknown")).status == 401
    assert (await says(rig, b" " * 20_000)).status == 413


def test_a_key_that_judges_too_fast_waits_for_the_next_second() -> None:
    """Each key for itself; what was said before is forgotten with its second."""
    pace = Pace()
    assert all(pace.allows("a", 7.0 + n / 100) for n in range(MOST_A_SECOND))
    assert not pace.allows("a", 7.9)
    assert pace.allows("b", 7.9)
    assert pace.allows("a", 8.0)


async def test_who_is_too_fast_is_told_when_to_come_back(edge: Edge) -> None:
    """429 with the time; and nothing was looked up."""
    rig = await edge(models={"m": [at("mock")]})
    rig.edge.pace.allows = lambda *_: False  # type: ignore[method-assign]
    answer = await says(rig, {"request_id": "r", "score": 1})
    assert (answer.status, answer.error["code"]) == (429, "requests_limit")
    assert (answer.header("retry-after"), answer.header("retry-after-ms")) == ("1", "1000")
    assert answer.header("x-should-retry") == "true"
