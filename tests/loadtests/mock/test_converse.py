"""Laws of what the mock vendor says in Bedrock's protocol: the gateway's reader reads it, and the counts agree."""

import json

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.mock import converse, serve, words
from loadtests.mock.plan import CONVERSE_STREAM, Asked, plan
from proxy.wire.translate.converse import ConverseReader
from proxy.wire.translate.eventstream import FrameSplitter, read_headers

ASK = {"messages": [{"role": "user", "content": [{"text": "Say something."}]}]}
BEARER = {"authorization": "Bearer bedrock-api-key"}
SIGNED = {
    "authorization": "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-west-1/bedrock/aws4_request,"
    " SignedHeaders=host;x-amz-date, Signature=00",
    "x-amz-date": "20260101T000000Z",
}


def framed(body):
    """Give the frames of a stream: what each is, and its payload."""
    found = []
    for headers, payload in FrameSplitter().feed(body):
        told = read_headers(headers)
        kind = told[":message-type"]
        found.append((kind, told[f":{kind}-type"], json.loads(payload)))
    return found


def unchunked(wire):
    """Give the body of a chunked answer."""
    body, rest = b"", wire.split(b"\r\n\r\n", 1)[1]
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return body


def stream(model, **asked):
    """Give the plan of a stream, and its body."""
    made = plan(Asked(CONVERSE_STREAM, model, stream=True, **asked), created=0)
    return made, unchunked(b"".join(step.wire for step in made.steps))


@given(st.integers(0, 60), st.integers(0, 5), st.booleans(), st.none() | st.integers(1, 80))
def test_a_stream_says_its_tokens_once(tokens, reasoning, tools, cap):
    """It begins, ends by its reason and its usage, and a block of text begins with its first words."""
    made, body = stream(
        f"sim;tokens={tokens};reasoning={reasoning};tools={int(tools)};prompt=9", cap=cap
    )
    visible = tokens if cap is None else min(tokens, max(0, cap - reasoning))
    found = framed(body)
    assert {kind for kind, _, _ in found} == {"event"}
    names = [name for _, name, _ in found]
    assert names[0] == "messageStart"
    assert names[-3:] == ["contentBlockStop", "messageStop", "metadata"]
    assert names.count("contentBlockStart") == int(tools)
    deltas = [payload["delta"] for _, name, payload in found if name == "contentBlockDelta"]
    reason = found[-2][2]["stopReason"]
    if tools:
        arguments = "".join(delta["toolUse"]["input"] for delta in deltas)
        assert json.loads(arguments)["city"] == "Reykjavik"
        assert reason == "tool_use"
    else:
        assert len(deltas) == visible
        assert "".join(delta["text"] for delta in deltas) == words.say(visible)
        assert reason == ("max_tokens" if visible < tokens else "end_turn")
    usage = found[-1][2]["usage"]
    assert usage["outputTokens"] == visible + reasoning == made.tokens
    assert usage["totalTokens"] == usage["inputTokens"] + usage["outputTokens"]


def test_the_gateway_reads_a_stream():
    """With its usage: the input includes the cache, here as at the vendor."""
    _, body = stream("sim;tokens=3;prompt=20;cached=5;cache_write=4;cache_write_1h=1")
    reader = ConverseReader()
    events = reader.feed(body) + reader.eof()
    assert "".join(getattr(event, "text", "") for event in events) == words.say(3)
    [usage] = [event.usage for event in events if hasattr(event, "usage")]
    assert (usage.input_tokens, usage.output_tokens) == (20, 3)
    assert (usage.cached_tokens, usage.cache_write_tokens) == (5, 4)
    assert usage.cache_write_1h_tokens == 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("sim;garbage=body", "checksum"),
        ("sim;error=mid", "had an error"),
        ("sim;done=off", "broke off"),
    ],
)
def test_what_goes_wrong_is_wrong_in_the_protocols_way(model, message):
    """A damaged frame, an exception among the frames, a stream that says no reason."""
    _, body = stream(model)
    reader = ConverseReader()
    events = reader.feed(body) + reader.eof()
    assert message in events[-1].failure.message
    kinds = {frame[:2] for frame in framed(body)} if "garbage" not in model else set()
    assert (("exception", "internalServerException") in kinds) == ("error" in model)


def test_usage_off_leaves_it_out():
    """The end comes all the same."""
    _, body = stream("sim;usage=off")
    assert "usage" not in framed(body)[-1][2]


def test_the_model_is_the_urls():
    """Written as it is or escaped, and nothing else is Bedrock's."""
    for name in (b"sim;tokens=2", b"sim%3Btokens%3D2"):
        asked = converse.asked_at(b"/model/%b/converse" % name)
        assert asked == ("converse", "sim;tokens=2")
    assert converse.asked_at(b"/model/a%2Fb/converse-stream") == ("converse-stream", "a/b")
    for url in (b"/v1/messages", b"/model/sim", b"/model/sim/invoke", b"/model//converse"):
        assert converse.asked_at(url) is None


@pytest.mark.parametrize("shown", [BEARER, SIGNED])
async def test_calls_are_in_the_books(shown):
    """Whole, streamed, called and refused, with a bearer's key or signed."""
    async with serve() as mock, httpx2.AsyncClient(base_url=mock.url, headers=shown) as client:
        said = await client.post("/model/sim;tokens=5;reasoning=3;prompt=9/converse", json=ASK)
        assert said.json()["output"]["message"]["content"] == [{"text": words.say(5)}]
        assert said.json()["usage"]["outputTokens"] == 8
        assert said.headers["x-amzn-requestid"]
        called = await client.post("/model/sim;tools=1/converse", json=ASK)
        [block] = called.json()["output"]["message"]["content"]
        assert block["toolUse"]["input"]["days"] == 3
        capped = ASK | {"inferenceConfig": {"maxTokens": 2}}
        streamed = await client.post("/model/sim%3Btokens%3D4/converse-stream", json=capped)
        assert streamed.headers["content-type"] == "application/vnd.amazon.eventstream"
        assert framed(streamed.content)[-2][2]["stopReason"] == "max_tokens"
        busy = await client.post("/model/sim;status=429/converse-stream", json=ASK)
        assert busy.headers["x-amzn-errortype"] == "ThrottlingException"
        assert set(busy.json()) == {"message"}
        books = mock.books()
        assert books["totals"]["complaints"] == 0
        assert [one["completion_tokens"] for one in books["served"]] == [8, 32, 2, 0]
        assert [one["model"] for one in books["served"]][2] == "sim;tokens=4"
        assert books["served"][2]["id"] == streamed.headers["x-amzn-requestid"]


async def test_a_bad_body_is_refused_as_bedrock_does():
    """In Amazon's envelope; and that nobody shows who asks is a complaint."""
    async with serve() as mock, httpx2.AsyncClient(base_url=mock.url) as client:
        for body in ({}, ASK | {"inferenceConfig": {"maxTokens": 0}}):
            refused = await client.post("/model/sim/converse", json=body)
            assert refused.status_code == 400
            assert refused.headers["x-amzn-errortype"] == "ValidationException"
            assert refused.json()["message"]
        assert mock.books()["complaints"] == ["there is neither a bearer's key nor a signature"] * 2
