"""Laws of trials: which session a request names, what a call sticks to, and where its arm leads it."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.trials import session_of, unit_of
from tests.proxy.edge_rig import Edge, eventually
from tests.proxy.partners import always, at, chat, completion, whole

CALLER: Any = SimpleNamespace(key="acme/support/desk", organization="acme")


@pytest.mark.parametrize(
    ("headers", "body", "session"),
    [
        ({"x-session-id": " s1 "}, b'{"prompt_cache_key": "s3"}', "s1"),
        ({}, b'{"metadata": {"session_id": "s2", "x": [1]}, "prompt_cache_key": "s3"}', "s2"),
        ({}, b'{"metadata": {"x": 1}, "prompt_cache_key": "s3"}', "s3"),
        ({}, b'{"metadata": null, "prompt_cache_key": null}', ""),
        ({}, b'{"metadata": {"session_id": 7}, "prompt_cache_key": "s3"}', ""),
        ({}, b'{"prompt_cache_key": "%b"}' % (b"x" * 999), "x" * 256),
        ({}, b"not json", ""),
    ],
)
def test_the_first_that_is_said_counts(headers: dict[str, str], body: bytes, session: str) -> None:
    """The header, then metadata, then the cache's key; what is none is no session."""
    assert session_of(headers, body) == session


@pytest.mark.parametrize(
    ("sticky", "user", "session", "unit"),
    [
        ("caller", "ann", "s", "acme/support/desk"),
        ("user", "ann", "s", "acme\0ann"),
        ("user", "", "s", "acme/support/desk"),
        ("session", "ann", "s", "acme/support/desk\0s"),
        ("session", "ann", "", "acme/support/desk"),
        ("request", "ann", "s", "req_1"),
    ],
)
def test_where_nothing_is_named_the_key_counts(
    sticky: str, user: str, session: str, unit: str
) -> None:
    """Sessions are a key's own, users an organization's."""
    assert unit_of(sticky, CALLER, user, session, "req_1") == unit


# At a running edge...

PLAIN = ["sim;tokens=3"]
DOWN = ["sim;status=503"]


async def test_sessions_stay_in_their_arm_and_the_ledger_names_it(edge: Edge) -> None:
    """Both arms serve; no session sees both; callers are told by what they were served, as ever."""
    rig = await edge(
        models={"a": PLAIN, "b": PLAIN},
        experiments={
            "mini": {"asked": "a", "sticky": "session", "arms": {"old": {}, "new": {"model": "b"}}}
        },
    )
    for session in range(12):
        for _ in range(2):
            answer = await rig.ask(chat("a"), f"x-session-id: s{session}")
            assert answer.status == 200
    entries = await rig.entries()
    served = Counter((entry.experiment, entry.model) for entry in entries)
    assert set(served) == {("mini/old", "a"), ("mini/new", "b")}
    assert all(count % 2 == 0 for count in served.values())
    assert {entry.model_asked for entry in entries} == {"a"}


async def test_what_is_wrong_with_an_answer_is_written_down(edge: Edge) -> None:
    """Of calls in an experiment: one that was cut where nobody asked for it is a half."""
    rig = await edge(
        models={"a": PLAIN, "b": [at("v", "b")]},
        experiments={"luna": {"asked": "a", "canary": {"model": "b", "steps": [100]}}},
        scripted=["v"],
    )
    rig.vendors["v"].habit = always(whole(completion("h", "length")))
    await rig.ask(chat("a"))
    await rig.ask(chat("a", max_tokens=1))
    await rig.ask(chat("b"))
    assert [entry.defect for entry in await rig.entries()] == [500, 0, 0]


async def test_what_no_experiment_touches_is_as_it_was(edge: Edge) -> None:
    """Nothing is written, and the offer is the one that everybody gets."""
    rig = await edge(
        models={"a": PLAIN, "b": PLAIN},
        experiments={"mini": {"asked": "a", "arms": {"old": {}, "new": {"model": "b"}}}},
    )
    await rig.ask(chat("b"))
    (entry,) = await rig.entries()
    assert (entry.model, entry.experiment) == ("b", "")


async def test_no_call_is_lost_to_an_experiment(edge: Edge) -> None:
    """Where an arm's own places fail, the call goes where it always went, and that is not held for the arm."""
    rig = await edge(
        models={"a": PLAIN, "b": DOWN},
        experiments={"luna": {"asked": "a", "canary": {"model": "b", "steps": [100]}}},
    )
    answer = await rig.ask(chat("a"))
    assert answer.status == 200
    assert answer.header("x-penstock-model") == "a"
    assert "; experiment=luna/canary/fallback; policy=" in answer.header("x-penstock-route")
    first, second = await rig.entries()
    assert (first.experiment, first.model, first.outcome) == (
        "luna/canary",
        "b",
        "upstream_refused",
    )
    assert (second.experiment, second.model, second.outcome) == ("luna/canary/fallback", "a", "ok")


async def test_an_arm_may_be_one_deployment(edge: Edge) -> None:
    """The others of its model are not asked."""
    rig = await edge(
        models={"a": PLAIN, "b": [*DOWN, *PLAIN]},
        experiments={"one": {"asked": "a", "canary": {"deployment": "b/mock#2", "steps": [100]}}},
    )
    await rig.ask(chat("a"))
    (entry,) = await rig.entries()
    assert (entry.deployment, entry.experiment) == ("b/mock#2", "one/canary")


async def test_a_change_of_an_experiment_holds_for_the_next_call(edge: Edge) -> None:
    """Live configuration: a stopped experiment leads nobody."""
    said = {"asked": "a", "canary": {"model": "b", "steps": [100]}}
    rig = await edge(models={"a": PLAIN, "b": PLAIN}, experiments={"luna": said})
    await rig.ask(chat("a"))
    before = rig.edge.live
    await rig.publish(experiments={"luna": said | {"stopped": "it was dearer"}})
    await eventually(lambda: rig.edge.live is not before)
    await rig.ask(chat("a"))
    assert [entry.experiment for entry in await rig.entries()] == ["luna/canary", ""]


def rated(
    quality: float, price: float, upstream: str = "sim;tokens=3", **said: Any
) -> dict[str, Any]:
    """Write a model with a quality and a price."""
    tokens = {"input": price, "output": price}
    return {"quality": quality, "price": tokens, "tags": ["chat"], "deployments": [upstream]} | said


async def test_an_arm_may_be_another_policy(edge: Edge) -> None:
    """A route chooses among its own models by its own policy; where the calls always went stands behind all of them."""
    rig = await edge(
        models={
            "a": PLAIN,
            "big": rated(0.9, 10),
            "small": rated(0.89, 1, "sim;status=503"),
        },
        routes={"smart": {"models": ["big", "small"], "policy": "cost_quality"}},
        experiments={"p": {"asked": "a", "canary": {"model": "smart", "steps": [100]}}},
        edge={"max_attempts": 3},
    )
    answer = await rig.ask(chat("a"))
    assert answer.status == 200
    tried = [(entry.model, entry.experiment) for entry in await rig.entries()]
    assert tried == [("small", "p/canary"), ("big", "p/canary")]


async def test_what_a_policy_of_an_arm_cannot_serve_has_its_last_resort(edge: Edge) -> None:
    """A tag that only the model has which is asked for: the call is served by it, and no caller gets a 400."""
    rig = await edge(
        models={
            "a": rated(0.5, 1, tags=["special"]),
            "big": rated(0.9, 10),
            "small": rated(0.8, 1),
        },
        routes={"smart": {"models": ["big", "small"], "policy": "cost_quality"}},
        experiments={"p": {"asked": "a", "canary": {"model": "smart", "steps": [100]}}},
    )
    assert (await rig.ask(chat("a"), "x-capabilities: special")).status == 200
    assert (await rig.ask(chat("a"), "x-capabilities: unheard-of")).status == 400
    (entry,) = await rig.entries()
    assert (entry.model, entry.experiment) == ("a", "p/canary/fallback")


@pytest.mark.parametrize("header", ["x-pin: a", "x-routing: steady", "x-routing: declared"])
async def test_who_wants_nothing_tried_out_takes_no_part(edge: Edge, header: str) -> None:
    """Neither in tests nor in canaries; a migration leads all but pinned calls."""
    canary = {"asked": "a", "canary": {"model": "b", "steps": [100]}}
    move = {
        "asked": "a",
        "migration": {"model": "b", "schedule": [{"at": "2024-01-02", "percent": 100}]},
    }
    rig = await edge(models={"a": PLAIN, "b": PLAIN}, experiments={"luna": canary})
    await rig.ask(chat("a"), header)
    before = rig.edge.live
    await rig.publish(experiments={"move": move})
    await eventually(lambda: rig.edge.live is not before)
    await rig.ask(chat("a"), header)
    first, second = await rig.entries()
    assert (first.model, first.experiment) == ("a", "")
    pinned = header.startswith("x-pin")
    assert (second.model, second.experiment) == (("a", "") if pinned else ("b", "move/new"))
