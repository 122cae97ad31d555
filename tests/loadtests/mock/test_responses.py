"""Laws of what the mock vendor says in OpenAI's Responses: the official client reads it, and the counts agree."""

import json

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.mock import serve, words
from loadtests.mock.plan import RESPONSES, Asked, plan


def events(model, **asked):
    """Give the plan of a stream, and its events as (name, document)."""
    made = plan(Asked(RESPONSES, model, stream=True, **asked), created=0)
    body = b"".join(step.wire for step in made.steps).split(b"\r\n\r\n", 1)[1]
    names = [line[7:].decode() for line in body.splitlines() if line.startswith(b"event: ")]
    documents = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: ")]
    return made, list(zip(names, documents, strict=True))


@given(st.integers(0, 60), st.integers(0, 5), st.booleans(), st.none() | st.integers(1, 80))
def test_a_stream_builds_its_response(tokens, reasoning, tools, cap):
    """Every event is named as its type and numbered, and the last one carries all of it."""
    made, found = events(f"sim;tokens={tokens};reasoning={reasoning};tools={int(tools)}", cap=cap)
    assert all(name == document["type"] for name, document in found)
    assert [document["sequence_number"] for _, document in found] == list(range(len(found)))
    visible = tokens if cap is None else min(tokens, max(0, cap - reasoning))
    whole = found[-1][1]["response"]
    assert found[-1][0] == f"response.{whole['status']}"
    assert whole["usage"]["output_tokens"] == visible + reasoning == made.tokens
    deltas = "".join(document["delta"] for name, document in found if name.endswith(".delta"))
    item = whole["output"][0]
    if tools:
        assert deltas == item["arguments"]
    else:
        assert deltas == item["content"][0]["text"] == words.say(visible)


@pytest.mark.parametrize("model", ["sim;tokens=5", "sim;tokens=5;tools=1"])
async def test_the_official_client_reads_it(model):
    """Whole and streamed, and what it refuses."""
    async with serve() as mock:
        client = openai.AsyncOpenAI(base_url=mock.base_url, api_key="x", max_retries=0)
        whole = await client.responses.create(model=model, input="Hello")
        assert whole.status == "completed"
        stream = await client.responses.create(model=model, input="Hello", stream=True)
        seen = [event async for event in stream]
        assert seen[-1].type == "response.completed"
        assert seen[-1].response.usage.output_tokens == whole.usage.output_tokens == 5
        with pytest.raises(openai.BadRequestError) as bad:
            await client.responses.create(model=model, input="Hello", max_output_tokens=0)
        assert bad.value.param == "max_output_tokens"
        broken = await client.responses.create(model="sim;error=mid", input="x", stream=True)
        with pytest.raises(openai.APIError):
            async for _ in broken:
                pass
        assert mock.books()["complaints"] == []
        await client.close()
