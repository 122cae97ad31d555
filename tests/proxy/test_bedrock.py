"""
Bedrock as a provider: what it is asked, how that is signed, and what becomes of its frames.

Every caller's protocol at a Bedrock that answers well is in `test_protocols`; here are the ways in which it does not.
"""

import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest

from proxy.wire.translate.eventstream import write_frame
from proxy.wire.translate.sigv4 import Credentials, signed_headers
from tests.proxy.edge_rig import Edge, Rig
from tests.proxy.partners import (
    CHAT,
    MESSAGES,
    VENDOR_KEY,
    VENDOR_KEY_VARIABLE,
    Asked,
    Line,
    always,
    answer_head,
    at,
    chat,
    message,
    piece,
    whole,
)

MODEL = "arn:aws:bedrock:eu-west-1::inference-profile/eu.anthropic.claude-sonnet-4-5-v1:0"
PATH = (
    "/v1/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A%3Ainference-profile%2F"
    "eu.anthropic.claude-sonnet-4-5-v1%3A0"
)
STREAM_HEAD = answer_head(
    b"content-type: application/vnd.amazon.eventstream", b"transfer-encoding: chunked"
)


def told(kind: str, **payload: Any) -> bytes:
    """Write a frame that tells of an event."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return write_frame(headers, json.dumps(payload, indent=1).encode())


def excepted(kind: str, words: str) -> bytes:
    """Write a frame that tells of an exception."""
    headers = {":exception-type": kind, ":message-type": "exception"}
    return write_frame(headers, json.dumps({"message": words}).encode())


BEGIN = told("messageStart", role="assistant")
END = told("messageStop", stopReason="end_turn")
USED = told(
    "metadata",
    usage={
        "inputTokens": 2,
        "cacheReadInputTokens": 3,
        "cacheWriteInputTokens": 2,
        "outputTokens": 3,
        "totalTokens": 10,
    },
    metrics={"latencyMs": 5},
)


def text(said: str) -> bytes:
    """Write a frame with some words."""
    return told("contentBlockDelta", contentBlockIndex=0, delta={"text": said})


async def bedrock(edge: Edge, habit: Callable[[Line], Awaitable[None]], **provider: Any) -> Rig:
    """Start an edge whose model `m` this Bedrock serves."""
    rig = await edge(
        models={"m": [at("v", MODEL)]},
        scripted=["v"],
        provider={"protocol": "bedrock"} | provider,
        providers={
            "mock": {"base_url": "http://127.0.0.1:9", "protocol": "openai", "aws": None},
            "messages": {
                "base_url": "http://127.0.0.1:9",
                "protocol": "anthropic",
                "aws": None,
            },
        },
    )
    rig.vendors["v"].habit = habit
    return rig


def streams(*pieces: bytes, cut: bool = False) -> Callable[[Line], Awaitable[None]]:
    """Make a Bedrock that streams these bytes to whoever asks; `cut`: and then hangs up."""

    async def habit(line: Line) -> None:
        while True:
            await line.gets()
            await line.says(STREAM_HEAD, *map(piece, pieces))
            if cut:
                return
            await line.says(piece(b""))

    return habit


def collects(found: list[Asked]) -> Callable[[Line], Awaitable[None]]:
    """Make a Bedrock that answers as a whole, and notes what it was asked."""
    answer = {
        "output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 4, "outputTokens": 3, "cacheReadInputTokens": 3},
    }

    async def habit(line: Line) -> None:
        while True:
            found.append(await line.gets())
            await line.says(whole(json.dumps(answer).encode()))

    return habit


async def test_a_bearer_key_is_presented_and_the_model_stands_in_the_url(edge: Edge) -> None:
    """An ARN is one segment of the path; the body says nothing of the model."""
    asked: list[Asked] = []
    rig = await bedrock(edge, collects(asked))
    answer = await rig.ask(chat("m"))
    assert answer.json["choices"][0]["message"]["content"] == "hi"
    assert answer.json["usage"]["prompt_tokens"] == 7
    assert asked[0].line == f"POST {PATH}/converse HTTP/1.1"
    assert asked[0].header("authorization") == f"Bearer {VENDOR_KEY}"
    assert asked[0].header("accept") == "application/json, application/vnd.amazon.eventstream"
    assert "model" not in asked[0].json
    assert "stream" not in asked[0].json


async def test_what_is_signed_is_what_is_sent(edge: Edge) -> None:
    """Body, path, host and session, at the time that the request says; the secret itself goes nowhere."""
    asked: list[Asked] = []
    rig = await bedrock(
        edge,
        collects(asked),
        api_key=None,
        aws={
            "access_key_id": "AKIDEXAMPLE",
            "secret_access_key": f"${{{VENDOR_KEY_VARIABLE}}}",
            "session_token": "a-token-of-the-session",
            "region": "eu-west-1",
        },
    )
    assert (await rig.ask(chat("m", stream=False))).status == 200
    sent = asked[0]
    said = (sent.header("x-amz-date") or "").replace("Z", "+0000")
    moment = datetime.strptime(said, "%Y%m%dT%H%M%S%z")
    expected = signed_headers(
        Credentials("AKIDEXAMPLE", VENDOR_KEY, "a-token-of-the-session"),
        method="POST",
        host=f"127.0.0.1:{rig.vendors['v'].port}",
        path=f"{PATH}/converse",
        body=sent.body,
        region="eu-west-1",
        service="bedrock",
        unix_s=int(moment.timestamp()),
    )
    assert {name: sent.header(name) for name in expected} == expected
    assert VENDOR_KEY.encode() not in b"".join(rig.vendors["v"].heard)


@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_frames_come_in_pieces_of_any_size(edge: Edge, size: int) -> None:
    """The words are the same, and what the cache gave is counted once."""
    stream = BEGIN + text("One") + text(" two") + END + USED
    rig = await bedrock(
        edge, streams(*(stream[at : at + size] for at in range(0, len(stream), size)))
    )
    answer = await rig.ask(chat("m", stream=True))
    assert answer.complete
    chunks = [json.loads(one) for one in answer.events[:-1]]
    said = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert said == "One two"
    (entry,) = await rig.entries()
    assert (entry.input_tokens, entry.cached_tokens, entry.output_tokens) == (7, 3, 3)
    assert (entry.cache_write_tokens, entry.token_source) == (2, "provider")


@pytest.mark.parametrize(
    ("kind", "status", "outcome"),
    [
        ("throttlingException", 429, "rate_limited"),
        ("modelStreamErrorException", 502, "bad_answer"),
    ],
)
async def test_an_exception_before_the_first_word_is_tried_elsewhere(
    edge: Edge, kind: str, status: int, outcome: str
) -> None:
    """And nothing of it is charged; with nobody else it is said in the caller's words."""
    rig = await bedrock(edge, streams(BEGIN, excepted(kind, "slow down")))
    answer = await rig.ask(chat("m", stream=True))
    assert answer.status == status
    assert answer.error["message"]
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.cost_nusd) == (outcome, 0)


@pytest.mark.parametrize(("path", "body"), [(CHAT, chat), (MESSAGES, message)])
async def test_an_exception_within_a_stream_is_said_in_it(
    edge: Edge, path: str, body: Callable[..., bytes]
) -> None:
    """In the caller's words, and what had been said is charged."""
    broken = excepted("modelStreamErrorException", "the model broke")
    rig = await bedrock(edge, streams(BEGIN, text("One"), broken))
    answer = await rig.ask(body("m", stream=True), path=path)
    assert answer.complete
    assert b"One" in answer.body
    last = json.loads(answer.body.decode().strip().rpartition("data: ")[2])
    assert "the model broke" in last["error"]["message"]
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.token_source) == ("upstream_refused", "estimated")
    assert entry.output_tokens == 1


async def test_a_damaged_frame_ends_the_stream_with_an_error(edge: Edge) -> None:
    """What follows cannot be found again."""
    damaged = bytearray(text(" two"))
    damaged[-1] ^= 1
    rig = await bedrock(edge, streams(BEGIN + text("One"), bytes(damaged), END + USED))
    answer = await rig.ask(chat("m", stream=True))
    assert answer.complete
    assert answer.ends_in_error["message"]
    assert b"two" not in answer.body
    assert await rig.outcomes() == ["bad_answer"]


@pytest.mark.parametrize("more", [text(" two")[:-9], b"", END[:20]])
async def test_a_cut_stream_never_looks_whole(edge: Edge, more: bytes) -> None:
    """Cut within a frame, or before it was said why it ended."""
    rig = await bedrock(edge, streams(BEGIN, text("One") + more, cut=True))
    answer = await rig.ask(chat("m", stream=True))
    assert answer.complete
    assert answer.ends_in_error["code"] == "upstream_lost"
    assert await rig.outcomes() == ["upstream_lost"]


async def test_a_refusal_is_put_into_the_callers_words(edge: Edge) -> None:
    """Its name is in a header, its reason in the body; what is about the request is the caller's 400."""
    refusal = whole(
        b'{"message":"The provided model identifier is invalid."}',
        b"x-amzn-errortype: ValidationException:http://internal.amazon.com/",
        status=b"400 Bad Request",
    )
    rig = await bedrock(edge, always(refusal))
    answer = await rig.ask(chat("m"))
    assert answer.status == 400
    assert "model identifier" in answer.error["message"]
    refused = await rig.ask(message("m"), path=MESSAGES)
    assert refused.json["error"]["type"] == "invalid_request_error"
