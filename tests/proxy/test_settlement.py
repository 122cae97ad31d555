"""What an attempt is charged, and the entry that says so: the vendor's count, or ours where it gives none."""

import asyncio
import json

import pytest

from proxy import settlement
from tests.proxy.edge_rig import Edge
from tests.proxy.partners import (
    EMBEDDINGS,
    INPUT_NUSD,
    OUTPUT_NUSD,
    always,
    at,
    chat,
    request,
    usage,
    whole,
)
from tests.proxy.stories import booked, caller_gets, caller_sends, tell, vendor_gets, vendor_says


@pytest.mark.parametrize("stream", [False, True])
async def test_usage_that_does_not_come_is_counted_by_us(edge: Edge, stream: bool) -> None:
    """It is charged all the same, and marked as estimated."""
    rig = await edge(models={"m": ["sim;tokens=20;usage=off"]})
    answer = await rig.ask(chat(stream=stream or None))
    assert answer.status == 200
    (entry,) = await rig.entries()
    assert entry.token_source == "estimated"
    assert entry.input_tokens > 0
    # A streamed chunk is a token; of a document only the bytes tell.
    assert entry.output_tokens == 20 if stream else 20 <= entry.output_tokens <= 40
    assert entry.cost_nusd == entry.input_tokens * INPUT_NUSD + entry.output_tokens * OUTPUT_NUSD


async def test_a_document_without_usage_is_counted_by_what_it_says(edge: Edge) -> None:
    """A quarter of the bytes of content, reasoning and arguments; envelope, role and ids are none of it."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    said = {"role": "assistant", "content": "ä" * 20, "reasoning_content": "x" * 8}
    calls = [{"id": "", "function": {"name": "f", "arguments": "y" * 11}}]
    choices = [
        {"index": 0, "message": said, "finish_reason": "stop", "logprobs": None},
        {"index": 1, "message": {"content": None, "tool_calls": calls}},
        {"index": 2, "message": {"content": "\ud800"}},
    ]
    answer = json.dumps({"id": "chatcmpl-" + "0" * 400, "choices": choices}).encode()
    await (
        tell(rig)
        >> caller_sends(request(chat()))
        << vendor_gets()
        >> vendor_says(whole(answer))
        << caller_gets(200, body=answer)
        << booked({"outcome": "ok", "output_tokens": 12 + 3 + 1, "token_source": "estimated"})
    )


@pytest.mark.parametrize("kind", ["completion_tokens", "prompt_tokens"])
async def test_a_count_that_no_vendor_can_mean_breaks_nothing(edge: Edge, kind: str) -> None:
    """Whatever a vendor reports: it is charged within what the store can count exactly, and the lease is settled."""
    rig = await edge(
        models={"m": {"deployments": [at()], "price": {"input": 100_000, "output": 100_000}}},
        scripted=["v"],
    )
    vendor = rig.vendors["v"]
    for number in (1 << 40, (1 << 40) + 1, 1 << 63, 1 << 64, 10**30, -1, 1.5, "7", None):
        document = {"choices": [{"index": 0}], "usage": usage(1, 1) | {kind: number}}
        vendor.habit = always(whole(json.dumps(document).encode()))
        assert (await rig.ask(chat())).status == 200
    assert {entry.outcome for entry in await rig.entries()} == {"ok"}
    assert max(entry.cost_nusd for entry in await rig.entries()) == 1 << 52


@pytest.mark.parametrize("stream", [False, True])
async def test_what_cannot_be_judged_is_settled_all_the_same(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """A fault of ours on the way to the books: the lease does not outlive its call, nor does anything that was kept of it."""
    tools = [{"type": "function", "function": {"name": "f"}}]

    def fail(*_: object) -> float:
        raise RuntimeError("a fault of ours")

    rig = await edge(
        models={"a": [at("mock")], "b": [at("mock")]},
        experiments={"luna": {"asked": "a", "canary": {"model": "b", "steps": [100]}}},
    )
    rig.expected_alarms = 1
    monkeypatch.setattr(settlement, "defect_seen", fail)
    assert (await rig.ask(chat("a", stream=stream, tools=tools))).status == 200
    assert await rig.outcomes() == ["internal"]
    assert rig.edge.learner.kept == 0


async def test_tokens_of_every_kind_reach_the_books(edge: Edge) -> None:
    """Cached, cache-write, reasoning and audio tokens as the vendor reports them."""
    name = "sim;tokens=4;prompt=100;cached=60;cache_write=10;reasoning=5;audio_in=7;audio_out=2"
    rig = await edge(models={"m": [name]})
    await rig.ask(chat())
    (entry,) = await rig.entries()
    assert (entry.input_tokens, entry.cached_tokens, entry.cache_write_tokens) == (100, 60, 10)
    assert (entry.output_tokens, entry.reasoning_tokens) == (9, 5)
    assert (entry.audio_input_tokens, entry.audio_output_tokens) == (7, 2)


async def test_a_large_answer_without_usage_is_estimated(edge: Edge) -> None:
    """An embedding has no output, however large it is."""
    rig = await edge(models={"m": ["sim-embedding;dim=1536;usage=off"]})
    body = json.dumps({"model": "m", "input": ["some text"] * 60}).encode()
    answer = await rig.ask(body, path=EMBEDDINGS)
    assert answer.complete
    (entry,) = await rig.entries()
    assert (entry.output_tokens, entry.token_source) == (0, "estimated")
    assert entry.input_tokens > 60


async def test_many_at_once_are_all_in_the_books(edge: Edge) -> None:
    """Two hundred exchanges, every second one a stream: the vendor's books and ours agree to the token."""
    rig = await edge(models={"m": [f"sim;tokens={n}" for n in (1, 7, 40)]})
    answers = await asyncio.gather(
        *(rig.ask(chat(stream=n % 2 == 0 or None, user=f"u{n % 9}")) for n in range(200))
    )
    assert {answer.status for answer in answers} == {200}
    entries = await rig.entries()
    totals = rig.mock.books()["totals"]
    assert len(entries) == totals["calls"] == 200
    assert sum(entry.input_tokens for entry in entries) == totals["prompt_tokens"]
    assert sum(entry.output_tokens for entry in entries) == totals["completion_tokens"]
    assert {entry.deployment for entry in entries} == {"m/mock", "m/mock#2", "m/mock#3"}
    assert rig.mock.books()["complaints"] == []
