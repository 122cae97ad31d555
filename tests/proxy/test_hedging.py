"""
A second attempt beside a late first one: one of them is heard, the other is hung up on and settled, and the share of calls that do it is bounded.

That nothing leaks and every lease is settled once is held by the rig after each of these tests.
"""

import asyncio
from typing import Any

import pytest

from tests.proxy.edge_rig import Edge, Rig, eventually
from tests.proxy.partners import (
    DONE,
    Caller,
    Line,
    at,
    chat,
    delta,
    event,
    piece,
    request,
    sse_head,
    usage,
    whole,
)

SOON = {"after_ms": 30, "times": 0, "max_share": 0.5}
STREAM = (
    sse_head(),
    piece(delta("Water", "stop")),
    piece(event({"choices": [], "usage": usage()})),
    piece(DONE) + piece(b""),
)


def pair(**hedge: Any) -> dict[str, Any]:
    """Write a model at two scripted vendors, of which `a` is asked first."""
    model = {"deployments": [at("a", weight=1000), at("b")], "hedge": SOON | hedge}
    return {"models": {"m": model}, "scripted": ["a", "b"]}


async def asked(rig: Rig, vendor: str) -> Line:
    line = await rig.vendors[vendor].line()
    await line.gets()
    return line


async def both_asked(rig: Rig) -> tuple[Caller, Line, Line]:
    """Ask for a stream, and wait until it is late and both vendors are asked."""
    caller = await rig.caller()
    await caller.send(request(chat(stream=True)))
    return caller, await asked(rig, "a"), await asked(rig, "b")


async def booked(rig: Rig) -> dict[str, tuple[str, str]]:
    """Give how the attempt at each vendor ended, and why it was made."""
    return {one.provider: (one.outcome, one.reason) for one in await rig.entries()}


async def test_whoever_speaks_first_has_the_call(edge: Edge) -> None:
    """The second one here: the caller hears it alone, the first vendor is hung up on, and both are in the books."""
    rig = await edge(**pair())
    caller, first, second = await both_asked(rig)
    await second.says(*STREAM)
    answer = await caller.answer()
    assert answer.complete
    assert answer.events[-1] == "[DONE]"
    assert answer.header("x-penstock-deployment") == "m/b"
    assert "reason=hedge; attempt=2" in (answer.header("x-penstock-route") or "")
    await first.left()
    entries = {one.provider: one for one in await rig.entries()}
    assert (entries["a"].outcome, entries["b"].outcome) == ("hedged", "ok")
    # What the loser has read of the prompt is billed.
    assert entries["a"].input_tokens > 0
    assert entries["a"].output_tokens == 0
    assert entries["b"].reason == "hedge"


async def test_the_first_one_may_still_win(edge: Edge) -> None:
    """It was late, and is quicker all the same."""
    rig = await edge(**pair())
    caller, first, second = await both_asked(rig)
    await first.says(*STREAM)
    answer = await caller.answer()
    assert answer.header("x-penstock-deployment") == "m/a"
    assert answer.events[-1] == "[DONE]"
    await second.left()
    assert await booked(rig) == {"a": ("ok", "load"), "b": ("hedged", "hedge")}


async def test_a_slow_caller_holds_the_winner_back(edge: Edge) -> None:
    """The loser, which ends a moment later, does not take the caller's hand off it."""
    rig = await edge(**pair())
    caller = await rig.caller(small_window=True)
    await caller.send(request(chat(stream=True)))
    first = await asked(rig, "a")
    second = await asked(rig, "b")
    await second.says(sse_head(), piece(delta("Water")))
    await caller.head()
    await first.left()
    caller.stop_reading()
    flood = asyncio.ensure_future(second.says(*[piece(delta("x" * 8000))] * 900))
    (client,) = rig.edge.server.connections
    await eventually(lambda: client.writing_paused)
    (winner,) = rig.edge.pool.wheel.in_flight
    assert winner.paused
    caller.go_on_reading()
    await flood
    await second.says(*STREAM[1:])
    while await caller.chunk():
        pass
    assert await booked(rig) == {"a": ("hedged", "load"), "b": ("ok", "hedge")}


async def test_who_is_quick_has_no_rival(edge: Edge) -> None:
    """Nothing is sent twice, and nothing is taken out of the budget."""
    rig = await edge(**pair(after_ms=60_000))
    caller = await rig.caller()
    await caller.send(request(chat(stream=True)))
    await (await asked(rig, "a")).says(*STREAM)
    assert (await caller.answer()).complete
    assert await booked(rig) == {"a": ("ok", "load")}
    assert (rig.edge.hedges.made, rig.edge.hedges.refused) == (0, 0)


async def test_a_budget_that_is_used_up_makes_no_second_attempt(edge: Edge) -> None:
    """The first one is waited for."""
    rig = await edge(**pair(max_share=0))
    caller = await rig.caller()
    await caller.send(request(chat(stream=True)))
    first = await asked(rig, "a")
    await eventually(lambda: rig.edge.hedges.refused == 1)
    await first.says(*STREAM)
    assert (await caller.answer()).complete
    assert await booked(rig) == {"a": ("ok", "load")}


async def test_a_whole_answer_is_not_asked_for_twice(edge: Edge) -> None:
    """Its first byte comes when all of it is made: late says nothing."""
    rig = await edge(models={"m": {"deployments": ["sim;ttft_ms=80", "sim"], "hedge": SOON}})
    assert (await rig.ask(chat())).status == 200
    assert await rig.outcomes() == ["ok"]


async def test_a_second_attempt_saves_a_first_one_that_fails(edge: Edge) -> None:
    """Whoever is left has the call."""
    rig = await edge(**pair())
    caller, first, second = await both_asked(rig)
    await first.says(whole(b"{}", status=b"500 Oh"))
    refused = rig.edge.metrics.counter("penstock_attempts_total", "m", "m/a", "upstream_refused")
    await eventually(lambda: refused.value == 1)
    await second.says(*STREAM)
    assert (await caller.answer()).header("x-penstock-deployment") == "m/b"
    assert await booked(rig) == {"a": ("upstream_refused", "load"), "b": ("ok", "hedge")}


async def test_when_both_fail_the_caller_is_told_so(edge: Edge) -> None:
    """Nobody is left to try."""
    rig = await edge(**pair())
    caller, first, second = await both_asked(rig)
    await first.says(whole(b"{}", status=b"500 Oh"))
    await second.says(whole(b"{}", status=b"503 Oh"))
    answer = await caller.answer()
    assert answer.status in {500, 503}
    assert {outcome for outcome, _ in (await booked(rig)).values()} == {"upstream_refused"}


async def test_a_caller_who_leaves_ends_both(edge: Edge) -> None:
    """Each vendor is hung up on, each attempt is settled."""
    rig = await edge(**pair())
    caller, first, second = await both_asked(rig)
    await caller.leave()
    await first.left()
    await second.left()
    assert {outcome for outcome, _ in (await booked(rig)).values()} == {"client_left"}


@pytest.mark.parametrize("full", [True, False], ids=["full", "alone"])
async def test_where_nobody_else_can_serve_the_first_one_is_waited_for(
    edge: Edge, full: bool
) -> None:
    """A second attempt does not wait for a place, and takes none from anybody."""
    said = pair()
    if full:
        said["models"]["m"]["deployments"][1]["limits"] = {"concurrency": 1, "rpm": 1}
    else:
        said["models"]["m"]["deployments"].pop()
    rig = await edge(**said)
    if full:
        taken = await rig.caller()
        await taken.send(request(chat(stream=True)))
        line = await asked(rig, "a")
        other = await asked(rig, "b")
    caller = await rig.caller()
    await caller.send(request(chat(stream=True)))
    first = await asked(rig, "a")
    await first.says(*STREAM)
    assert (await caller.answer()).complete
    if full:
        await line.says(*STREAM)
        assert (await taken.answer()).complete
        await other.left()
    assert {outcome for outcome, _ in (await booked(rig)).values()} <= {"ok", "hedged"}
