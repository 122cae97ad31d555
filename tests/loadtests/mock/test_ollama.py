"""Laws of what the mock vendor says in Ollama's protocol: lines of JSON, of which the last says what was used."""

import json

import httpx2
from hypothesis import given
from hypothesis import strategies as st

from loadtests.mock import serve, words
from loadtests.mock.plan import OLLAMA, Asked, plan

ASK = {"messages": [{"role": "user", "content": "Say something."}]}


@given(st.integers(0, 60), st.integers(0, 5), st.booleans(), st.none() | st.integers(1, 80))
def test_a_stream_says_its_tokens_once(tokens, reasoning, tools, cap):
    """Only its last line is the end; a call comes whole."""
    model = f"sim;tokens={tokens};reasoning={reasoning};tools={int(tools)}"
    made = plan(Asked(OLLAMA, model, stream=True, cap=cap), created=0)
    body = b"".join(step.wire for step in made.steps).split(b"\r\n\r\n", 1)[1]
    found = [json.loads(line) for line in body.splitlines() if line[:1] == b"{"]
    visible = tokens if cap is None else min(tokens, max(0, cap - reasoning))
    assert [one["done"] for one in found] == [False] * (len(found) - 1) + [True]
    assert found[-1]["eval_count"] == visible + reasoning == made.tokens
    assert found[-1]["done_reason"] == ("length" if visible < tokens else "stop")
    if tools:
        [call] = found[0]["message"]["tool_calls"]
        assert call["function"]["arguments"]["city"] == "Reykjavik"
    else:
        assert "".join(one["message"]["content"] for one in found) == words.say(visible)


async def test_it_is_served():
    """Streamed unless it is told not to, refused in its words, and broken when that is asked for."""
    async with serve() as mock, httpx2.AsyncClient(base_url=mock.url) as client:

        async def ask(model, **said):
            return await client.post(OLLAMA, json={"model": model} | ASK | said)

        streamed = await ask("sim;tokens=2")
        assert streamed.headers["content-type"] == "application/x-ndjson"
        assert len(streamed.text.splitlines()) == 3
        whole = (await ask("sim;tokens=2;prompt=7", stream=False)).json()
        assert whole["message"]["content"] == words.say(2)
        assert (whole["prompt_eval_count"], whole["eval_count"]) == (7, 2)
        capped = await ask("sim;tokens=9", stream=False, options={"num_predict": 4})
        assert (capped.json()["eval_count"], capped.json()["done_reason"]) == (4, "length")
        assert (await ask("sim;tokens=9", options={"num_predict": -1})).status_code == 200
        silent = (await ask("sim;tokens=2;usage=off", stream=False)).json()
        assert "eval_count" not in silent
        refused = await ask("sim;status=503", stream=False)
        assert (refused.status_code, set(refused.json())) == (503, {"error"})
        assert set((await client.post(OLLAMA, json={"model": "sim"})).json()) == {"error"}
        broken = await ask("sim;tokens=4;error=mid")
        assert set(json.loads(broken.text.splitlines()[-1])) == {"error"}
        assert not (await ask("sim;garbage=body")).text.splitlines()[0].endswith("}")
