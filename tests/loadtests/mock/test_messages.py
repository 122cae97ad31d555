"""Laws of what the mock vendor says in Anthropic's protocol: the official client reads it, and the counts agree."""

import json

import anthropic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.mock import serve, words
from loadtests.mock.plan import COUNT, MESSAGES, Asked, plan

HELLO = [{"role": "user", "content": "Say something."}]


def events(model, **asked):
    """Give the plan of a stream, and its events as (name, document)."""
    made = plan(Asked(MESSAGES, model, stream=True, **asked), created=0)
    body = b"".join(step.wire for step in made.steps).split(b"\r\n\r\n", 1)[1]
    found = []
    for line in body.splitlines():
        if line.startswith(b"event: "):
            found.append((line[7:].decode(), None))
        elif line.startswith(b"data: "):
            found[-1] = (found[-1][0], json.loads(line[6:]))
    return made, found


@given(st.integers(0, 60), st.integers(0, 5), st.booleans(), st.none() | st.integers(1, 80))
def test_a_stream_says_its_tokens_once(tokens, reasoning, tools, cap):
    """Every event is named as its type, blocks are closed, and the usage at the end is what was said."""
    made, found = events(f"sim;tokens={tokens};reasoning={reasoning};tools={int(tools)}", cap=cap)
    assert all(name == document["type"] for name, document in found)
    names = [name for name, _ in found]
    assert names[:3] == ["message_start", "content_block_start", "ping"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    visible = tokens if cap is None else min(tokens, max(0, cap - reasoning))
    ended = found[-2][1]
    assert ended["usage"]["output_tokens"] == visible + reasoning == made.tokens
    deltas = [document["delta"] for name, document in found if name == "content_block_delta"]
    if tools:
        assert json.loads("".join(one["partial_json"] for one in deltas))["city"] == "Reykjavik"
        assert ended["delta"]["stop_reason"] == "tool_use"
    else:
        assert "".join(one["text"] for one in deltas) == words.say(visible)
        capped = visible < tokens
        assert ended["delta"]["stop_reason"] == ("max_tokens" if capped else "end_turn")


def test_the_cache_is_no_part_of_the_input():
    """As Anthropic counts: the prompt is the sum of the three."""
    _, found = events("sim;prompt=100;cached=60;cache_write=30;cache_write_1h=10")
    usage = found[0][1]["message"]["usage"]
    assert usage["input_tokens"] == 10
    assert usage["cache_read_input_tokens"] == 60
    assert usage["cache_creation_input_tokens"] == 30
    assert usage["cache_creation"] == {
        "ephemeral_5m_input_tokens": 20,
        "ephemeral_1h_input_tokens": 10,
    }


def test_what_a_stream_may_leave_out():
    """Usage and the last event, as an imperfect vendor does; an error takes the place of the rest."""
    _, found = events("sim;usage=off;done=off")
    assert "usage" not in found[0][1]["message"]
    assert found[-1][0] == "message_delta"
    assert "usage" not in found[-1][1]
    _, found = events("sim;error=mid")
    assert found[-1][0] == "error"
    assert found[-1][1]["error"]["type"] == "api_error"


def test_a_count_is_that_of_the_prompt():
    """Nothing is generated, so nothing is counted."""
    made = plan(Asked(COUNT, "sim", body_bytes=41), created=0)
    assert made.steps[-1].wire.endswith(b'{"input_tokens":11}')
    assert made.tokens == 0


@pytest.mark.parametrize(
    ("status", "kind"), [(429, "rate_limit_error"), (529, "overloaded_error"), (503, "api_error")]
)
async def test_the_official_client_reads_it(status, kind):
    """Whole, streamed, counted and refused; a call without a version is a complaint."""
    async with serve() as mock:
        client = anthropic.AsyncAnthropic(base_url=mock.url, api_key="x", max_retries=0)
        asked = {"max_tokens": 40, "messages": HELLO, "metadata": {"user_id": "u-1"}}
        whole = await client.messages.create(model="sim;tokens=5", **asked)
        assert whole.content[0].text == words.say(5)
        async with client.messages.stream(model="sim;tokens=7", **asked) as stream:
            final = await stream.get_final_message()
        assert (final.content[0].text, final.usage.output_tokens) == (words.say(7), 7)
        counted = await client.messages.count_tokens(model="sim", messages=HELLO)
        assert counted.input_tokens > 0
        with pytest.raises(anthropic.APIStatusError) as refused:
            await client.messages.create(model=f"sim;status={status}", **asked)
        assert (refused.value.status_code, refused.value.body["error"]["type"]) == (status, kind)
        with pytest.raises(anthropic.BadRequestError):
            await client.messages.create(model="sim", max_tokens=0, messages=HELLO)
        await mock.quiet()
        served = mock.books()["served"]
        assert [one["completion_tokens"] for one in served] == [5, 7, 0, 0]
        assert [one["user"] for one in served[:2]] == ["u-1", "u-1"]
        assert served[0]["id"] == whole.id
        assert mock.books()["complaints"] == []
        await client.close()
