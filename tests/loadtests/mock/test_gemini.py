"""Laws of what the mock vendor says in Gemini's protocol: the official client reads it, and the counts agree."""

import json

import httpx2
import pytest
from google import genai
from google.genai import errors, types
from hypothesis import given
from hypothesis import strategies as st

from loadtests.mock import gemini, serve, words
from loadtests.mock.plan import GENERATE_STREAM, Asked, plan

ASK = {"contents": [{"role": "user", "parts": [{"text": "Say something."}]}]}


def chunks(model, **asked):
    """Give the plan of a stream, and its chunks."""
    made = plan(Asked(GENERATE_STREAM, model, stream=True, **asked), created=0)
    body = b"".join(step.wire for step in made.steps).split(b"\r\n\r\n", 1)[1]
    return made, [json.loads(line[6:]) for line in body.splitlines() if line[:6] == b"data: "]


@given(st.integers(0, 60), st.integers(0, 5), st.booleans(), st.none() | st.integers(1, 80))
def test_a_stream_says_its_tokens_once(tokens, reasoning, tools, cap):
    """The usage grows to what was said, thoughts apart; a call comes whole."""
    made, found = chunks(f"sim;tokens={tokens};reasoning={reasoning};tools={int(tools)}", cap=cap)
    visible = tokens if cap is None else min(tokens, max(0, cap - reasoning))
    told = [chunk["usageMetadata"] for chunk in found]
    assert [one["candidatesTokenCount"] for one in told] == sorted(
        one["candidatesTokenCount"] for one in told
    )
    assert told[-1]["candidatesTokenCount"] == visible
    assert told[-1].get("thoughtsTokenCount", 0) + visible == made.tokens
    ends = [chunk["candidates"][0].get("finishReason") for chunk in found]
    assert not any(ends[:-1])
    parts = [part for chunk in found for part in chunk["candidates"][0]["content"]["parts"]]
    if tools:
        assert parts[0]["functionCall"]["args"]["city"] == "Reykjavik"
    else:
        assert "".join(part["text"] for part in parts) == words.say(visible)
        assert ends[-1] == ("MAX_TOKENS" if visible < tokens else "STOP")


def test_the_model_is_the_urls():
    """Written as it is or escaped, and nothing else is Gemini's."""
    for name in (b"sim;tokens=2", b"sim%3Btokens%3D2"):
        asked = gemini.asked_at(b"/v1beta/models/%b:generateContent" % name)
        assert asked == ("generateContent", "sim;tokens=2")
    for url in (b"/v1/messages", b"/v1beta/models/sim", b"/v1beta/models/sim:forget"):
        assert gemini.asked_at(url) is None


async def test_the_official_client_reads_it():
    """Whole, streamed, counted, called and refused."""
    async with serve() as mock, httpx2.AsyncClient() as theirs:
        options = types.HttpOptions(
            base_url=mock.url, api_version="v1beta", httpx_async_client=theirs
        )
        async with genai.Client(api_key="sk-mock", http_options=options).aio as client:
            said = await client.models.generate_content(
                model="sim;tokens=5;cached=2;reasoning=3;prompt=9", contents="Hello."
            )
            assert said.text == words.say(5)
            usage = said.usage_metadata
            assert (usage.prompt_token_count, usage.cached_content_token_count) == (9, 2)
            assert (usage.candidates_token_count, usage.thoughts_token_count) == (5, 3)
            stream = await client.models.generate_content_stream(
                model="sim;tokens=4", contents="Hello."
            )
            assert "".join([chunk.text or "" async for chunk in stream]) == words.say(4)
            called = await client.models.generate_content(model="sim;tools=1", contents="Hello.")
            assert called.function_calls[0].args["days"] == 3
            counted = await client.models.count_tokens(model="sim;prompt=7", contents="Hello.")
            assert counted.total_tokens == 7
            with pytest.raises(errors.ServerError) as busy:
                await client.models.generate_content(model="sim;status=503", contents="Hello.")
            assert busy.value.status == "UNAVAILABLE"
        assert mock.books()["totals"]["complaints"] == 0
        assert mock.books()["served"][0]["completion_tokens"] == 8
        assert [one["model"] for one in mock.books()["served"]][1] == "sim;tokens=4"


async def test_a_bad_body_is_refused_as_gemini_does():
    """In Google's envelope."""
    async with serve() as mock, httpx2.AsyncClient() as client:
        url = f"{mock.url}/v1beta/models/sim:generateContent"
        for body in ({}, ASK | {"generationConfig": {"maxOutputTokens": 0}}):
            refused = await client.post(url, json=body)
            assert refused.status_code == 400
            assert refused.json()["error"]["status"] == "INVALID_ARGUMENT"
        counting = f"{mock.url}/v1beta/models/sim:countTokens"
        whole = {"generateContentRequest": ASK | {"model": "models/sim"}}
        assert (await client.post(counting, json=whole)).json()["totalTokens"] > 0
        assert (await client.post(url, json=whole)).status_code == 400
