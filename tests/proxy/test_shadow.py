"""Laws of shadow traffic: no caller pays for a copy, waits for one, or notices one; it is the first to be dropped."""

import asyncio
import json
from typing import Any

import pytest

from tests.proxy.edge_rig import Edge, Rig, eventually
from tests.proxy.partners import INPUT_NUSD, OUTPUT_NUSD, Line, at, chat, completion, whole

PLAIN = ["sim;tokens=3"]
ANSWER = completion()


def shadow(**said: Any) -> dict[str, Any]:
    """Write a shadow of `a` on `b`."""
    budget = {"usd": 1, "per": "day", "mode": "strict"}
    return {"dark": {"asked": "a", "shadow": {"model": "b", "budget": budget} | said}}


def copies(rig: Rig) -> dict[str, float]:
    """Count what became of copies."""
    counters = rig.edge.metrics.snapshot("x")["counters"]
    return {word: n for word, n in counters["penstock_shadow_copies_total"].items() if n}


async def became(rig: Rig, word: str, count: int = 1) -> None:
    """Wait until something became of so many copies."""
    await eventually(lambda: copies(rig).get(word) == count)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_copy_is_booked_under_its_experiment_alone(edge: Edge, stream: bool) -> None:
    """The caller is answered and charged as ever; the copy has an entry without anybody, and spends its own budget."""
    rig = await edge(
        models={"a": PLAIN, "b": ["sim;tokens=9"]},
        experiments=shadow(),
        key={"budget": {"usd": 1, "per": "day"}},
    )
    answer = await rig.ask(chat("a", stream=stream))
    assert answer.status == 200
    assert answer.header("x-penstock-model") == "a"
    await became(rig, "answered")
    own, copy = await rig.entries()
    assert (own.model, own.experiment, own.organization) == ("a", "", "acme")
    assert (copy.model, copy.experiment, copy.outcome) == ("b", "dark/shadow", "ok")
    assert (copy.organization, copy.team, copy.key, copy.user, copy.application) == ("",) * 5
    assert (copy.model_asked, copy.stream, copy.output_tokens) == ("a", int(stream), 9)
    assert copy.request_id != own.request_id
    scopes = await rig.scopes()
    spent = {key: state.budgets["day"].spent_nusd for key, state in scopes.items() if state.budgets}
    assert spent == {
        "{c0}:s:key:acme/support/helpdesk": own.cost_nusd,
        "{c0}:s:shadow:dark": copy.cost_nusd,
    }
    assert copy.cost_nusd == copy.input_tokens * INPUT_NUSD + 9 * OUTPUT_NUSD


async def test_a_copy_begins_when_the_answer_has_ended_and_delays_nobody(edge: Edge) -> None:
    """Its vendor is silent: the caller has its answer and asks again on the same connection."""
    rig = await edge(models={"a": PLAIN, "b": [at("v", "b")]}, experiments=shadow(), scripted=["v"])
    for _ in range(2):
        assert (await rig.ask(chat("a"))).status == 200
    first, second = await rig.vendors["v"].line(), await rig.vendors["v"].line()
    assert rig.edge.shadows.under_way == 2
    for line in (first, second):
        asked = await line.gets()
        assert json.loads(asked.body)["model"] == "b"
        await line.says(whole(ANSWER))
    await became(rig, "answered", 2)


async def test_copies_have_a_concurrency_of_their_own(edge: Edge) -> None:
    """What is beyond it is refused, not queued."""
    rig = await edge(
        models={"a": PLAIN, "b": [at("v", "b")]},
        experiments=shadow(concurrency=1),
        scripted=["v"],
    )
    await rig.ask(chat("a"))
    line = await rig.vendors["v"].line()
    await line.gets()
    await rig.ask(chat("a"))
    await became(rig, "refused")
    await line.says(whole(ANSWER))
    await became(rig, "answered")


async def test_a_spent_budget_ends_the_copies_and_nothing_else(edge: Edge) -> None:
    """402 is for callers; here there is none."""
    rig = await edge(
        models={"a": PLAIN, "b": PLAIN},
        experiments=shadow(budget={"usd": 0.000000001, "per": "day", "mode": "strict"}),
    )
    assert (await rig.ask(chat("a"))).status == 200
    await became(rig, "refused")
    assert len(await rig.entries()) == 1


async def test_a_failing_copy_fails_alone(edge: Edge) -> None:
    """It is tried once, and its failure is in the ledger."""
    rig = await edge(models={"a": PLAIN, "b": ["sim;status=503"] * 2}, experiments=shadow())
    assert (await rig.ask(chat("a"))).status == 200
    await became(rig, "failed")
    assert [entry.outcome for entry in await rig.entries()] == ["ok", "upstream_refused"]


@pytest.mark.parametrize(
    ("said", "headers", "fields"),
    [
        ({"percent": 0}, (), {}),
        ({"max_body_kb": 1}, (), {"metadata": {"filling": "x" * 1024}}),
        ({}, ("x-routing: steady",), {}),
    ],
)
async def test_what_is_not_copied(
    edge: Edge, said: dict[str, Any], headers: tuple[str, ...], fields: dict[str, Any]
) -> None:
    """Calls beyond the share, large ones, and those of callers who want nothing tried out."""
    rig = await edge(models={"a": PLAIN, "b": PLAIN}, experiments=shadow(**said))
    assert (await rig.ask(chat("a", **fields), *headers)).status == 200
    await rig.at_rest()
    assert [entry.experiment for entry in await rig.entries()] == [""]
    assert copies(rig) == {}


async def test_a_copy_goes_nowhere_where_the_original_may_not_go(edge: Edge) -> None:
    """The regions of its data hold for it, too."""
    near, far = at("mock", "sim;tokens=3", region="eu"), at("mock", "sim;tokens=3", region="us")
    rig = await edge(models={"a": [near], "b": [far]}, experiments=shadow())
    assert (await rig.ask(chat("a"), "x-region: eu")).status == 200
    await became(rig, "refused")
    assert len(await rig.entries()) == 1


async def test_what_failed_is_not_copied(edge: Edge) -> None:
    """There is no answer that it could be beside."""
    rig = await edge(models={"a": ["sim;status=503"], "b": PLAIN}, experiments=shadow())
    assert (await rig.ask(chat("a"))).status == 503
    await rig.at_rest()
    assert copies(rig) == {}
    assert rig.edge.shadows.held == 0


async def test_what_is_kept_for_copies_is_bounded(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a caller reads its answer its request is kept; beyond the bound nothing is, and all is given back."""
    rig = await edge(models={"a": [at("v", "a")], "b": PLAIN}, experiments=shadow(), scripted=["v"])
    size = len(chat("a"))
    monkeypatch.setattr("proxy.shadow.MOST_BYTES", size)
    first = asyncio.ensure_future(rig.ask(chat("a")))
    line = await rig.vendors["v"].line()
    await line.gets()
    assert rig.edge.shadows.held == size
    second = asyncio.ensure_future(rig.ask(chat("a")))
    other = await rig.vendors["v"].line()
    await other.gets()
    assert copies(rig) == {"dropped": 1}
    for each in (line, other):
        await each.says(whole(ANSWER))
    assert [answer.status for answer in await asyncio.gather(first, second)] == [200, 200]
    await became(rig, "answered")
    await eventually(lambda: rig.edge.shadows.held == 0)


async def test_copies_are_dropped_while_calls_wait(edge: Edge) -> None:
    """Whoever waits for a place goes before what nobody waits for."""

    async def habit(line: Line) -> None:
        while True:
            await line.gets()
            await release.wait()
            await line.says(whole(ANSWER))

    release = asyncio.Event()
    rig = await edge(
        models={"a": PLAIN, "b": PLAIN, "full": [at("v", limits={"concurrency": 1})]},
        experiments=shadow(),
        scripted=["v"],
        edge={"queue_timeout_ms": 20_000},
    )
    rig.vendors["v"].habit = habit
    waiting = [asyncio.ensure_future(rig.ask(chat("full"))) for _ in range(2)]
    await eventually(lambda: rig.edge.gate.waiting)
    assert (await rig.ask(chat("a"))).status == 200
    await became(rig, "dropped")
    release.set()
    assert [answer.status for answer in await asyncio.gather(*waiting)] == [200, 200]


async def test_copies_are_dropped_when_the_gateway_goes_down(edge: Edge) -> None:
    """No stop waits for one; what it used until then is settled."""
    rig = await edge(models={"a": PLAIN, "b": [at("v", "b")]}, experiments=shadow(), scripted=["v"])
    await rig.ask(chat("a"))
    line = await rig.vendors["v"].line()
    await line.gets()
    assert await rig.stop() == 0
    assert copies(rig) == {"dropped": 1}
