"""Long prompts that begin alike are led to one deployment, whichever replica they reach; short ones are not looked at."""

import json

from tests.proxy.edge_rig import Edge, Rig
from tests.proxy.partners import chat

MANUAL = "All of the manual, which stands before every question. " * 200


def asked(question: str, before: str = MANUAL, model: str = "m") -> bytes:
    messages = [{"role": "system", "content": before}, {"role": "user", "content": question}]
    return chat(model, messages=messages)


async def served(rig: Rig, *bodies: bytes) -> list[tuple[str, str]]:
    """Send calls one after the other; gives where each went, and why."""
    found = []
    for body in bodies:
        answer = await rig.ask(body)
        assert answer.status == 200, answer.body
        await rig.at_rest()
        found.append(answer.header("x-penstock-deployment") or "")
    return list(zip(found, [one.reason for one in await rig.entries()], strict=True))


async def test_what_begins_alike_goes_to_one_deployment(edge: Edge) -> None:
    """The questions differ, the beginning does not; another beginning goes its own way."""
    rig = await edge(models={"m": ["sim;tokens=3", "sim;tokens=3", "sim;tokens=3"]})
    places = await served(rig, *(asked(f"Question {n}?") for n in range(5)))
    assert len({place for place, _ in places}) == 1
    assert {why for _, why in places} <= {"affinity", "load"}
    assert "affinity" in {why for _, why in places}


async def test_a_short_prompt_goes_where_load_says(edge: Edge) -> None:
    """No vendor keeps anything of it."""
    rig = await edge(models={"m": ["sim;tokens=3", "sim;tokens=3"]})
    places = await served(rig, *(asked(f"Question {n}?", "Be brief.") for n in range(6)))
    assert "affinity" not in {why for _, why in places}


async def test_it_can_be_turned_off(edge: Edge) -> None:
    """For one model, by configuration."""
    two = {"deployments": ["sim;tokens=3", "sim;tokens=3"], "prefix_affinity": False}
    rig = await edge(models={"m": two})
    places = await served(rig, *(asked(f"Question {n}?") for n in range(6)))
    assert "affinity" not in {why for _, why in places}


async def test_a_first_token_may_take_as_long_as_its_prompt_needs(edge: Edge) -> None:
    """A stream that does not begin in time goes elsewhere; a whole answer has the provider's own time."""
    rig = await edge(
        models={"one": ["sim;hang=head"], "two": ["sim;tokens=3"], "late": ["sim;ttft_ms=700"]},
        routes={"auto": ["one", "two"]},
        provider={"first_token_timeout": {"base_s": 0.5, "per_1k_tokens_s": 0}},
    )
    streamed = await rig.ask(chat("auto", stream=True))
    assert streamed.header("x-penstock-model") == "two"
    whole = await rig.ask(chat("late"))
    assert json.loads(whole.body)["choices"]
    assert await rig.outcomes() == ["first_byte_timed_out", "ok", "ok"]
