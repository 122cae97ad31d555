"""
The story of one request: what passes, what is changed on the way, what it is charged.

How it survives failures is held in test_survival.py, test_leaving.py and test_drain.py, what it makes of bad requests in test_bad_input.py.
"""

import base64
import gzip
import json
from typing import Any

import pytest

from proxy.passage import HOLD_BYTES
from tests.proxy.edge_rig import Edge, Rig
from tests.proxy.partners import (
    COMPLETIONS,
    DONE,
    EMBEDDINGS,
    INPUT_NUSD,
    OUTPUT_NUSD,
    VENDOR_KEY,
    at,
    chat,
    completion,
    delta,
    event,
    piece,
    request,
    sse_head,
    usage,
    whole,
)
from tests.proxy.stories import (
    booked,
    caller_gets,
    caller_gets_chunk,
    caller_gets_head,
    caller_sends,
    tell,
    vendor_gets,
    vendor_says,
)

ANSWER = completion()
STRICT = {"usd": 1, "per": "day", "mode": "strict"}


# What passes...


async def test_a_plain_answer_passes_whole(edge: Edge) -> None:
    """The vendor's bytes are the caller's bytes, under our head, and the vendor's count is what is charged."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    cost = 7 * INPUT_NUSD + 3 * OUTPUT_NUSD
    stage = await (
        tell(rig)
        >> caller_sends(request(chat()))
        << vendor_gets(model="upstream-m")
        >> vendor_says(whole(ANSWER, b"x-vendor: v1", b"x-request-id: theirs"))
        << caller_gets(200, body=ANSWER)
        << booked(
            {
                "outcome": "ok",
                "attempt": 1,
                "input_tokens": 7,
                "output_tokens": 3,
                "cost_nusd": cost,
                "token_source": "provider",
                "status": 200,
                "stream": 0,
                "protocol": "openai.chat",
                "reason": "only",
                "organization": "acme",
                "team": "support",
                "key": "acme/support/helpdesk",
                "user": "someone",
                "application": "desk",
                "business_line": "service",
                "model_asked": "m",
                "model": "m",
                "deployment": "m/v",
                "provider": "v",
                "replica": rig.edge.replica,
            }
        )
    )
    answer = stage.answer
    assert answer is not None
    assert answer.header("x-vendor") == "v1"
    assert answer.header("x-upstream-request-id") == "theirs"
    (entry,) = await rig.entries()
    assert answer.header("x-request-id") == entry.request_id
    assert entry.attempt_id == f"{entry.request_id}.1"
    assert answer.header("x-penstock-deployment") == "m/v"
    assert answer.header("x-penstock-model") == "m"
    assert answer.header("x-penstock-route") == (
        "model=m; deployment=m/v; reason=only; attempt=1; candidates=1; policy=declared"
    )
    assert 0 < entry.ttft_us <= entry.duration_us
    assert 0 < entry.added_us < entry.duration_us


async def test_the_vendor_gets_its_key_and_nothing_of_the_caller(edge: Edge) -> None:
    """Credentials are swapped, and of the caller's headers only a few pass."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    theirs = ("X-Api-Extra: 1", "User-Agent: spy", "Cookie: a=b", "X-Forwarded-For: 1.2.3.4")
    ours = ("OpenAI-Beta: x=v2", "Idempotency-Key: abc")
    stage = await (
        tell(rig)
        >> caller_sends(request(chat(), *theirs, *ours))
        << vendor_gets()
        >> vendor_says(whole(ANSWER))
        << caller_gets(200)
    )
    asked = stage.asked
    assert asked is not None
    assert asked.line == "POST /v1/chat/completions HTTP/1.1"
    assert asked.header("authorization") == f"Bearer {VENDOR_KEY}"
    assert asked.header("host") == f"127.0.0.1:{rig.vendors['v'].port}"
    assert asked.header("openai-beta") == "x=v2"
    assert asked.header("idempotency-key") == "abc"
    assert asked.header("user-agent") == "penstock/0.1.0"
    assert {name.lower() for name, _ in asked.headers} == {
        *("host", "user-agent", "accept", "accept-encoding", "content-type"),
        *("authorization", "content-length", "openai-beta", "idempotency-key"),
    }


@pytest.mark.parametrize("way", ["Authorization: Bearer {}", "x-api-key: {}", "api-key: {}"])
async def test_a_key_may_come_in_three_ways(edge: Edge, way: str) -> None:
    """As OpenAI's, Anthropic's and Azure's clients send it."""
    rig = await edge(models={"m": ["sim;tokens=1"]})
    key = rig.caller_key
    answer = await rig.ask(chat(), way.format(key), key=None)
    assert answer.status == 200


BODIES = {
    "fields nobody knows": b'{"model":"m","messages":[{"role":"user","content":"x"}],"frob":{"a":[1,2.50,1e3]}}',
    "spaces and newlines": b'\n{ "messages" : [ {"role":"user","content":"x"} ],\t"model"\n:\n"m" , "seed": 7 }\r\n',
    "escapes": rb'{"model":"m","messages":[{"role":"user","content":"\u00e9\ud83d\ude00\/ \"model\":\"m\""}]}',
    "the model's name elsewhere": b'{"messages":[{"role":"user","content":"\\"model\\":\\"m\\""}],"model":"m","metadata":{"model":"m"}}',
    "numbers as written": b'{"model":"m","temperature":0.70,"top_p":1E0,"messages":[{"role":"user","content":"x"}]}',
    "a lone surrogate": rb'{"model":"m","messages":[{"role":"user","content":"\ud800"}]}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_the_rest_of_a_body_is_left_alone(edge: Edge, body: bytes) -> None:
    """The model's name is spliced; every other byte goes upstream as it came."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    stage = await (
        tell(rig)
        >> caller_sends(request(body))
        << vendor_gets()
        >> vendor_says(whole(ANSWER))
        << caller_gets(200)
    )
    assert stage.asked is not None
    at_name = body.index(b'"m"', body.replace(b'\\"', b"  ").index(b'"model"'))
    assert stage.asked.body == body[:at_name] + b'"upstream-m"' + body[at_name + 3 :]


async def test_a_model_that_is_called_the_same_upstream_is_not_touched(edge: Edge) -> None:
    """Nothing to change: the very bytes."""
    rig = await edge(models={"m": [at(name=None)]}, scripted=["v"])
    body = b'  {"model":"m" ,"messages":[{"role":"user","content":"x"}]}'
    stage = await (
        tell(rig)
        >> caller_sends(request(body))
        << vendor_gets()
        >> vendor_says(whole(ANSWER))
        << caller_gets(200)
    )
    assert stage.asked is not None
    assert stage.asked.body == body


# Streams...


@pytest.mark.parametrize("reads", ["whole", "by event", "byte by byte"])
async def test_a_stream_passes_event_by_event(edge: Edge, reads: str) -> None:
    """However the bytes arrive, the caller gets them, but for the usage chunk that only we asked for."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    events = [delta(""), delta("Wa"), b": keep-alive\n\n", delta("ter", "stop")]
    counted = event({"choices": [], "usage": usage(11, 2)})
    framed = [sse_head(), *map(piece, [*events, counted, DONE]), piece(b"")]
    if reads == "whole":
        framed = [b"".join(framed)]
    elif reads == "byte by byte":
        text = b"".join(framed)
        framed = [text[place : place + 1] for place in range(len(text))]
    stage = await (
        tell(rig)
        >> caller_sends(request(chat(stream=True)))
        << vendor_gets(stream=True, stream_options={"include_usage": True})
        >> vendor_says(*framed)
        << caller_gets(200, body=b"".join([*events, DONE]))
        << booked({"outcome": "ok", "input_tokens": 11, "output_tokens": 2, "stream": 1})
    )
    assert stage.answer is not None
    assert all(chunk.endswith(b"\n\n") for chunk in stage.answer.chunks)


async def test_events_are_not_held_back(edge: Edge) -> None:
    """The caller has an event before the vendor says the next one."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    await (
        tell(rig)
        >> caller_sends(request(chat(stream=True)))
        << vendor_gets()
        >> vendor_says(sse_head(), piece(delta("a")))
        << caller_gets_head(200, content_type="text/event-stream", transfer_encoding="chunked")
        << caller_gets_chunk(delta("a"))
        >> vendor_says(piece(delta("b")[:9]), piece(delta("b")[9:] + delta("c")[:5]))
        << caller_gets_chunk(delta("b"))
        >> vendor_says(piece(delta("c")[5:] + delta("", "stop") + DONE), piece(b""))
        << caller_gets_chunk(delta("c") + delta("", "stop") + DONE)
        << caller_gets_chunk(b"")
    )


async def test_usage_that_the_caller_asked_for_stays(edge: Edge) -> None:
    """Then the usage chunk is the caller's."""
    rig = await edge(models={"m": ["sim;tokens=2;prompt=5"]})
    answer = await rig.ask(chat(stream=True, stream_options={"include_usage": True}))
    last = json.loads(answer.events[-2])
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 2
    (entry,) = await rig.entries()
    assert (entry.input_tokens, entry.output_tokens, entry.token_source) == (5, 2, "provider")


async def test_usage_that_nobody_asked_for_stays_out(edge: Edge) -> None:
    """What the caller gets is what a vendor without include_usage would have sent."""
    rig = await edge(models={"m": ["sim;tokens=2"]})
    answer = await rig.ask(chat(stream=True))
    assert answer.events[-1] == "[DONE]"
    assert all(json.loads(one)["choices"] for one in answer.events[:-1])


async def test_a_provider_may_be_spared_the_usage_option(edge: Edge) -> None:
    """`stream_usage: false` leaves the body alone, and the stream is counted by us and marked so."""
    rig = await edge(models={"m": ["sim;tokens=20"]}, provider={"stream_usage": False})
    answer = await rig.ask(chat(stream=True))
    assert answer.status == 200
    (asked,) = rig.mock.requests()
    assert "stream_options" not in json.loads(asked["body"])
    (entry,) = await rig.entries()
    assert (entry.output_tokens, entry.token_source, entry.outcome) == (20, "estimated", "ok")
    assert entry.input_tokens > 0


async def test_tools_pass_in_both_directions(edge: Edge) -> None:
    """Tools go up, and the pieces of a call's arguments come down, untouched."""
    rig = await edge(models={"m": ["sim;tools=1;tokens=8"]})
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {}}}] * 4
    answer = await rig.ask(chat(stream=True, tools=tools))
    pieces = [json.loads(one)["choices"][0]["delta"] for one in answer.events[:-1]]
    written = "".join(
        call["function"]["arguments"] for each in pieces for call in each.get("tool_calls") or ()
    )
    assert json.loads(written)["city"] == "Reykjavik"
    (asked,) = rig.mock.requests()
    assert json.loads(asked["body"])["tools"] == tools


async def test_images_pass_whole(edge: Edge) -> None:
    """A large body goes upstream byte for byte; its payload is not counted as text."""
    rig = await edge(models={"m": ["sim;tokens=1"]})
    picture = base64.b64encode(bytes(range(256)) * 12_000).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}
    body = chat(messages=[{"role": "user", "content": [part]}])
    answer = await rig.ask(body)
    assert answer.status == 200
    (asked,) = rig.mock.requests()
    assert asked["body_bytes"] == len(body) + len("sim;tokens=1") - 1


@pytest.mark.parametrize(
    "name",
    ["sim;crlf=1", "sim;split=7", "sim;framing=close", "sim;framing=length", "sim;head_1xx=1"],
)
async def test_the_vendor_may_frame_as_it_likes(edge: Edge, name: str) -> None:
    """The caller gets the same events in chunks."""
    rig = await edge(models={"m": [f"{name};tokens=5;prompt=9"]})
    answer = await rig.ask(chat(stream=True))
    assert answer.complete
    assert answer.events[-1] == "[DONE]"
    assert "".join(
        json.loads(one)["choices"][0]["delta"].get("content", "") for one in answer.events[:-1]
    )
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.input_tokens, entry.output_tokens) == ("ok", 9, 5)


async def test_a_stream_without_done_is_complete_by_its_reason(edge: Edge) -> None:
    """Not every vendor says [DONE]; a finish reason will do."""
    rig = await edge(models={"m": ["sim;tokens=3;done=off"]})
    answer = await rig.ask(chat(stream=True))
    assert answer.complete
    assert await rig.outcomes() == ["ok"]


async def test_the_last_blank_line_may_be_missing(edge: Edge) -> None:
    """No client sees an event that no blank line ends, so the caller gets it with one."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    await (
        tell(rig)
        >> caller_sends(request(chat(stream=True)))
        << vendor_gets()
        >> vendor_says(sse_head(), piece(delta("a", "stop") + b"data: [DONE]"), piece(b""))
        << caller_gets(200, body=delta("a", "stop") + DONE)
        << booked({"outcome": "ok"})
    )


async def test_an_answer_that_is_no_stream_passes_although_one_was_asked_for(edge: Edge) -> None:
    """Some servers answer a stream request with a document; it is the caller's to judge."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    await (
        tell(rig)
        >> caller_sends(request(chat(stream=True)))
        << vendor_gets()
        >> vendor_says(whole(ANSWER))
        << caller_gets(200, body=ANSWER)
        << booked({"outcome": "ok", "input_tokens": 7, "output_tokens": 3})
    )


async def test_a_compressed_answer_is_not_touched(edge: Edge) -> None:
    """It was told to send none; what it sends all the same passes, and is counted by its size."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    packed = gzip.compress(ANSWER)
    stage = await (
        tell(rig)
        >> caller_sends(request(chat()))
        << vendor_gets()
        >> vendor_says(whole(packed, b"content-encoding: gzip"))
        << caller_gets(200, body=packed)
    )
    assert stage.answer is not None
    assert stage.answer.header("content-encoding") == "gzip"
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.token_source) == ("ok", "estimated")
    assert entry.output_tokens > 0


# Other paths...


@pytest.mark.parametrize("stream", [False, True])
async def test_legacy_completions(edge: Edge, stream: bool) -> None:
    """The same road, another protocol word."""
    rig = await edge(models={"m": ["sim;tokens=6;prompt=4"]})
    body = json.dumps({"model": "m", "prompt": ["say", "it"], "stream": stream}).encode()
    answer = await rig.ask(body, path=COMPLETIONS)
    assert answer.status == 200
    (entry,) = await rig.entries()
    assert entry.protocol == "openai.completions"
    assert (entry.input_tokens, entry.output_tokens, entry.stream) == (4, 6, int(stream))


@pytest.mark.parametrize("coding", ["float", "base64"])
async def test_embeddings(edge: Edge, coding: str) -> None:
    """Both encodings, small; input is charged, and no output."""
    rig = await edge(models={"m": ["sim-embedding;dim=8;prompt=12"]})
    body = json.dumps({"model": "m", "input": ["a", "b"], "encoding_format": coding}).encode()
    answer = await rig.ask(body, path=EMBEDDINGS)
    assert len(answer.json["data"]) == 2
    assert isinstance(answer.json["data"][0]["embedding"], str if coding == "base64" else list)
    (entry,) = await rig.entries()
    assert entry.protocol == "openai.embeddings"
    assert (entry.input_tokens, entry.output_tokens) == (12, 0)
    assert entry.cost_nusd == 12 * INPUT_NUSD


async def test_a_large_answer_passes_in_chunks_and_is_metered(edge: Edge) -> None:
    """Beyond 1 MiB an answer is no longer held back; its usage stands at its end."""
    rig = await edge(models={"m": ["sim-embedding;dim=1536;prompt=1234"]})
    body = json.dumps({"model": "m", "input": ["x"] * 60}).encode()
    answer = await rig.ask(body, path=EMBEDDINGS)
    assert answer.complete
    assert len(answer.body) > HOLD_BYTES
    assert answer.header("transfer-encoding") == "chunked"
    assert len(answer.json["data"]) == 60
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.input_tokens) == ("ok", 1234)
    assert entry.token_source == "provider"


async def test_a_route_is_a_name_like_any_other(edge: Edge) -> None:
    """The caller asks for the route, the books name both, and the model is the one that served."""
    rig = await edge(
        models={"one": ["sim;tokens=1"], "two": ["sim;tokens=2"]}, routes={"auto": ["two", "one"]}
    )
    answer = await rig.ask(chat("auto"))
    assert answer.header("x-penstock-model") == "two"
    (entry,) = await rig.entries()
    assert (entry.model_asked, entry.model, entry.reason) == ("auto", "two", "order")


async def test_the_caller_names_the_user(edge: Edge) -> None:
    """A user in the body goes before the key's."""
    rig = await edge(models={"m": ["sim;tokens=1"]})
    await rig.ask(chat(user="äöü-7"))
    (entry,) = await rig.entries()
    assert entry.user == "äöü-7"


# Output caps and strict budgets...


async def strict(edge: Edge, usd: float, **said: Any) -> Rig:
    """Start an edge under a strict budget."""
    return await edge(
        models={"m": {"deployments": [at(**said)], "max_output": 4000}},
        scripted=["v"],
        team={"budget": STRICT | {"usd": usd}},
    )


async def test_without_a_strict_budget_nothing_is_capped(edge: Edge) -> None:
    """A cap is the price of certainty; where nobody asked for that, the body stays as it is."""
    rig = await edge(
        models={"m": [at()]}, scripted=["v"], team={"budget": STRICT | {"mode": "soft"}}
    )
    await (
        tell(rig)
        >> caller_sends(request(chat()))
        << vendor_gets(max_tokens=None, max_completion_tokens=None)
        >> vendor_says(whole(ANSWER))
        << caller_gets(200)
    )


async def test_a_strict_budget_puts_a_cap_into_the_request(edge: Edge) -> None:
    """What is reserved is also enforced: the model's ceiling, where the caller names none."""
    rig = await strict(edge, 1)
    await (
        tell(rig)
        >> caller_sends(request(chat()))
        << vendor_gets(max_tokens=4000, max_completion_tokens=None)
        >> vendor_says(whole(ANSWER))
        << caller_gets(200)
    )


async def test_the_provider_says_in_which_field_the_cap_goes(edge: Edge) -> None:
    """`output_cap` names it."""
    rig = await edge(
        models={"m": {"deployments": [at()], "max_output": 4000}},
        scripted=["v"],
        team={"budget": STRICT},
        provider={"output_cap": "max_completion_tokens"},
    )
    await (
        tell(rig)
        >> caller_sends(request(chat()))
        << vendor_gets(max_tokens=None, max_completion_tokens=4000)
        >> vendor_says(whole(ANSWER))
        << caller_gets(200)
    )


async def test_a_cap_of_the_callers_own_is_kept(edge: Edge) -> None:
    """It is lower than what the budget allows, so nothing changes."""
    rig = await strict(edge, 1)
    await (
        tell(rig)
        >> caller_sends(request(chat(max_completion_tokens=77)))
        << vendor_gets(max_tokens=None, max_completion_tokens=77)
        >> vendor_says(whole(ANSWER))
        << caller_gets(200)
    )


async def test_near_exhaustion_the_cap_shrinks(edge: Edge) -> None:
    """Before a caller is refused, the answer gets shorter: what is left pays for the cap."""
    rig = await strict(edge, 0.003)
    stage = await (
        tell(rig)
        >> caller_sends(request(chat(max_tokens=3000)))
        << vendor_gets()
        >> vendor_says(whole(ANSWER))
        << caller_gets(200)
    )
    assert stage.asked is not None
    cap = stage.asked.json["max_tokens"]
    assert 256 <= cap < 3000
    assert cap * OUTPUT_NUSD < 3_000_000


async def test_of_two_caps_one_goes_upstream(edge: Edge) -> None:
    """A vendor that reads the other one would not be held to the reservation."""
    rig = await strict(edge, 1)
    await (
        tell(rig)
        >> caller_sends(request(chat(max_tokens=50, max_completion_tokens=60)))
        << vendor_gets(max_tokens=None, max_completion_tokens=60)
        >> vendor_says(whole(ANSWER))
        << caller_gets(200)
    )


async def test_a_spent_budget_refuses(edge: Edge) -> None:
    """402, and nobody should try again."""
    rig = await edge(
        models={"m": ["sim;tokens=400;prompt=10"]}, team={"budget": STRICT | {"usd": 0.0012}}
    )
    first = await rig.ask(chat())
    assert first.status == 200
    second = await rig.ask(chat())
    assert second.status == 402
    assert second.error["type"] == "insufficient_quota"
    assert second.error["code"] == "budget_exhausted"
    assert second.header("x-should-retry") == "false"
    assert second.header("retry-after") is None
    assert len(await rig.entries()) == 1


async def test_an_unpriced_model_is_refused_under_a_strict_budget(edge: Edge) -> None:
    """What nobody can price, nobody can reserve; the answer says what to set."""
    rig = await edge(
        models={"m": {"deployments": [at(name="house-model")], "price": None}},
        scripted=["v"],
        team={"budget": STRICT},
    )
    answer = await rig.ask(chat())
    assert answer.status == 400
    assert answer.error["code"] == "none_eligible"
    assert "models.m.price" in answer.error["message"]


# Connections...


async def test_one_connection_serves_many_requests(edge: Edge) -> None:
    """Answers of every kind leave a connection that can serve again, on both sides."""
    rig = await edge(models={"m": ["sim;tokens=2"], "bad": ["sim;status=400"]})
    caller = await rig.caller()
    for body, status in (
        (chat(), 200),
        (chat(stream=True), 200),
        (chat("bad"), 400),
        (chat("unknown"), 404),
        (b"{", 400),
        (chat(stream=True), 200),
    ):
        await caller.send(request(body))
        answer = await caller.answer()
        assert (answer.status, answer.complete) == (status, True)
        assert answer.header("connection") is None
    assert rig.mock.books()["totals"]["connections"] == 1


async def test_pipelined_requests_are_answered_in_order(edge: Edge) -> None:
    """Each answer is complete before the next begins; models and errors come in the order of the asking."""
    rig = await edge(models={"a": ["sim;tokens=1;ttft_ms=20"], "b": ["sim;tokens=2"]})
    caller = await rig.caller()
    await caller.send(
        request(chat("a", stream=True))
        + request(chat("b"))
        + request(chat("nobody"))
        + request(None, method="GET", path="/v1/models")
        + request(chat("a"))
    )
    answers = [await caller.answer() for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 404, 200, 200]
    models = [answer.header("x-penstock-model") for answer in answers]
    assert models == ["a", "b", None, None, "a"]
    assert all(answer.complete for answer in answers)


@pytest.mark.parametrize("stream", [False, True])
async def test_old_clients_read_to_the_close(edge: Edge, stream: bool) -> None:
    """HTTP/1.0 knows no chunks: the body is bare, and the close ends it."""
    rig = await edge(models={"m": ["sim;tokens=2"]})
    caller = await rig.caller()
    await caller.send(request(chat(stream=stream or None), version="1.0"))
    answer = await caller.answer()
    assert answer.complete
    assert answer.header("connection") == "close"
    assert answer.header("transfer-encoding") is None
    assert answer.events[-1] == "[DONE]" if stream else answer.json["choices"]
    await caller.closed()


async def test_a_caller_may_ask_for_the_close(edge: Edge) -> None:
    """`connection: close` is granted and said."""
    rig = await edge(models={"m": ["sim;tokens=2"]})
    caller = await rig.caller()
    await caller.send(request(chat(stream=True), "Connection: close"))
    answer = await caller.answer()
    assert answer.complete
    assert answer.header("connection") == "close"
    await caller.closed()


async def test_a_body_may_come_in_chunks_and_late(edge: Edge) -> None:
    """Chunked, in pieces, with a pause for `100 Continue`."""
    rig = await edge(models={"m": ["sim;tokens=2"]})
    caller = await rig.caller()
    head = request(None, "Transfer-Encoding: chunked", "Expect: 100-continue")
    await caller.send(head)
    assert await caller._reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    body = chat()
    await caller.send(*(piece(body[place : place + 9]) for place in range(0, len(body), 9)))
    await caller.send(b"0\r\n\r\n")
    answer = await caller.answer()
    assert answer.status == 200
    (asked,) = rig.mock.requests()
    assert json.loads(asked["body"])["messages"] == json.loads(body)["messages"]


async def test_a_compressed_request_is_read(edge: Edge) -> None:
    """The vendor gets it plain."""
    rig = await edge(models={"m": ["sim;tokens=2"]})
    answer = await rig.ask(gzip.compress(chat()), "Content-Encoding: gzip")
    assert answer.status == 200


async def test_a_vendor_that_answers_early_is_heard(edge: Edge) -> None:
    """An answer may come before the request is sent to its end; the connection does not serve again."""
    rig = await edge(models={"m": ["sim;early=1;tokens=2"]})
    answer = await rig.ask(chat(metadata={"filler": "x" * 3_000_000}))
    assert answer.status == 200
    assert await rig.outcomes() == ["ok"]


# Seen from outside...


async def test_metrics_and_the_access_line_tell_of_it(edge: Edge) -> None:
    """One line and one count per exchange; tokens and money as in the books."""
    rig = await edge(models={"m": ["sim;tokens=3;prompt=10"]})
    await rig.ask(chat(stream=True))
    await rig.ask(chat("nobody"))
    entries = await rig.entries()
    snapshot = rig.edge.metrics.snapshot("boot")
    counters = snapshot["counters"]
    assert counters["penstock_requests_total"] == {
        "openai.chat\x1fm\x1f200": 1,
        "openai.chat\x1funknown\x1f404": 1,
    }
    assert counters["penstock_attempts_total"]["m\x1fm/mock\x1fok"] == 1
    assert counters["penstock_tokens_total"]["m\x1finput"] == 10
    assert counters["penstock_tokens_total"]["m\x1foutput"] == 3
    assert counters["penstock_cost_nusd_total"]["m\x1fm/mock"] == entries[0].cost_nusd
    assert counters["penstock_refusals_total"] == {"not_found": 1}
    assert snapshot["histograms"]["penstock_ttft_seconds"]["m"][2] == 1
    assert snapshot["gauges"]["penstock_in_flight"] == {"": 0}
    assert await rig.stop() == 0
    lines = [json.loads(line) for line in (rig.folder / "access.log").read_text().splitlines()]
    served, refused = lines
    assert served["request_id"] == entries[0].request_id
    assert (served["outcome"], served["status"], served["model"]) == ("ok", 200, "m")
    assert (served["input_tokens"], served["output_tokens"]) == (10, 3)
    assert served["cost_nusd"] == entries[0].cost_nusd
    assert (refused["outcome"], refused["status"]) == ("not_found", 404)
    assert refused["bytes"] > 100
    assert "model" not in refused


async def test_a_refusal_by_a_limit_names_the_caller(edge: Edge) -> None:
    """Who was refused, and for which model, is what an operator looks for."""
    rig = await edge(models={"m": ["sim;tokens=3"]}, key={"limits": {"rpm": 1}})
    assert (await rig.ask(chat())).status == 200
    assert (await rig.ask(chat())).status == 429
    counters = rig.edge.metrics.snapshot("boot")["counters"]
    assert counters["penstock_requests_total"]["openai.chat\x1fm\x1f429"] == 1
    await rig.stop()
    line = json.loads((rig.folder / "access.log").read_text().splitlines()[1])
    assert (line["key"], line["model_asked"]) == ("acme/support/helpdesk", "m")
    assert (line["outcome"], line["attempts"]) == ("quota_exceeded", 0)
