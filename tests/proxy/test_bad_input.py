"""
What the edge makes of input that no well-made client sends: a clear error or a clean close.

Never a 500, never a wedged worker, never an unsettled lease; and no secret in what is said about it.
After each case a good request is served, and the rig holds the edge to its laws.
"""

import asyncio
import gzip
import json
import zlib
from typing import Any

import pytest

from proxy.server import HEADERS_LIMIT, LINE_LIMIT, WRITE_HIGH
from tests.patience import within
from tests.proxy.edge_rig import Edge, Rig, eventually
from tests.proxy.partners import (
    CALLER_KEY,
    COMPLETIONS,
    EMBEDDINGS,
    Answer,
    Caller,
    at,
    chat,
    piece,
    request,
    whole,
)
from tests.proxy.stories import caller_gets, caller_sends, tell, vendor_gets_bytes, vendor_says

MODELS = {"m": ["sim;tokens=2"]}
AUTH = f"Authorization: Bearer {CALLER_KEY}"
BODY = chat()
LENGTH = f"Content-Length: {len(BODY)}"


def head(*lines: str, first: str = "POST /v1/chat/completions HTTP/1.1") -> bytes:
    """Write a head line by line, with nothing added."""
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1")


HOST = "Host: penstock.test"


async def serves(rig: Rig) -> None:
    """See that a good request is served, on a connection of its own."""
    answer = await rig.ask(chat())
    assert (answer.status, answer.complete) == (200, True)


async def refused(caller: Caller) -> Answer:
    """Read an error in our envelope."""
    answer = await caller.answer()
    assert answer.complete
    assert answer.header("content-type") == "application/json"
    assert answer.error["message"]
    return answer


# What is in the body...

BODIES: dict[str, tuple[bytes, str, str | None]] = {
    "nothing": (b"", "invalid_json", None),
    "an open brace": (b"{", "invalid_json", None),
    "half of it": (BODY[: len(BODY) // 2], "invalid_json", None),
    "two documents": (BODY + BODY, "invalid_json", None),
    "a word": (b"hello", "invalid_json", None),
    "a list": (b"[]", "invalid_type", None),
    "a number": (b"7", "invalid_type", None),
    "null": (b"null", "invalid_type", None),
    "a model that is not UTF-8": (
        b'{"model":"m\xff","messages":[{"role":"user","content":"x"}]}',
        "invalid_json",
        None,
    ),
    "NaN": (b'{"model":"m","temperature":NaN,"messages":[{"role":"user"}]}', "invalid_json", None),
    "Infinity": (
        b'{"model":"m","top_p":-Infinity,"messages":[{"role":"user"}]}',
        "invalid_json",
        None,
    ),
    "a comment": (b'{"model":"m",/* x */"messages":[{"role":"user"}]}', "invalid_json", None),
    "a comma too many": (b'{"model":"m","messages":[{"role":"user"}],}', "invalid_json", None),
    "a raw newline in a string": (
        b'{"model":"m","messages":[{"role":"us\ner"}]}',
        "invalid_json",
        None,
    ),
    "nested in lists": (
        b'{"model":"m","messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        "invalid_json",
        None,
    ),
    "nested in objects": (
        b'{"model":"m","messages":[{"role":"user"}],"x":'
        + b'{"a":' * 10_000
        + b"1"
        + b"}" * 10_001,
        "invalid_json",
        None,
    ),
    "nested without end": (b"[" * 100_000, "invalid_type", None),
    "no model": (chat(None), "missing", "model"),
    "no messages": (b'{"model":"m"}', "missing", "messages"),
    "an empty model": (chat(""), "invalid_value", "model"),
    "a long model": (chat("m" * 300), "invalid_value", "model"),
    "a model with a newline": (chat("m\n"), "invalid_value", "model"),
    "a model that is a number": (b'{"model":7,"messages":[{}]}', "invalid_type", "model"),
    "a model that is null": (b'{"model":null,"messages":[{}]}', "invalid_type", "model"),
    "two models": (b'{"model":"m","messages":[{}],"model":"n"}', "duplicate", "model"),
    "a twin of model": (b'{"model":"m","messages":[{}],"Model":"n"}', "invalid_value", "Model"),
    "messages that are a text": (chat(messages="hi"), "invalid_type", "messages"),
    "messages that are empty": (chat(messages=[]), "invalid_value", "messages"),
    "a message that is a text": (chat(messages=["hi"]), "invalid_type", "messages"),
    "stream that is a text": (chat(stream="yes"), "invalid_type", "stream"),
    "stream that is a number": (chat(stream=1), "invalid_type", "stream"),
    "options without a stream": (chat(stream_options={}), "invalid_value", "stream_options"),
    "options that are a list": (
        chat(stream=True, stream_options=[]),
        "invalid_type",
        "stream_options",
    ),
    "a cap of 0": (chat(max_tokens=0), "invalid_value", "max_tokens"),
    "a negative cap": (chat(max_tokens=-1), "invalid_value", "max_tokens"),
    "an absurd cap": (chat(max_completion_tokens=10**18), "invalid_value", "max_completion_tokens"),
    "a cap beyond 64 bits": (chat(max_tokens=10**30), "invalid_value", "max_tokens"),
    "a cap that is half": (chat(max_tokens=1.5), "invalid_type", "max_tokens"),
    "a cap that is a text": (chat(max_tokens="10"), "invalid_type", "max_tokens"),
    "a cap that is true": (chat(max_tokens=True), "invalid_type", "max_tokens"),
    "no choices": (chat(n=0), "invalid_value", "n"),
    "too many choices": (chat(n=1_000_000), "invalid_value", "n"),
    "a user that is a novel": (chat(user="x" * 1025), "invalid_value", "user"),
    "a user that is a list": (chat(user=["a"]), "invalid_type", "user"),
}


@pytest.mark.parametrize(("body", "code", "param"), BODIES.values(), ids=BODIES)
async def test_a_body_that_cannot_be_read_is_named(
    edge: Edge, body: bytes, code: str, param: str | None
) -> None:
    """400 with the field and what was expected; the connection serves on, and nothing was admitted."""
    rig = await edge(models=MODELS)
    caller = await rig.caller()
    await caller.send(request(body))
    answer = await refused(caller)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert (answer.error["code"], answer.error["param"]) == (code, param)
    assert answer.header("x-should-retry") == "false"
    assert len(answer.error["message"]) < 600
    assert await rig.entries() == []
    await caller.send(request(chat()))
    assert (await caller.answer()).status == 200


async def test_content_that_is_no_utf8_is_for_the_vendor_to_judge(edge: Edge) -> None:
    """What the gateway does not read it does not judge: the bytes go upstream as they are."""
    rig = await edge(models={"m": [at(name=None)]}, scripted=["v"])
    body = b'{"model":"m","messages":[{"role":"user","content":"\xff\xfe"}]}'
    await (
        tell(rig)
        >> caller_sends(request(body))
        << vendor_gets_bytes(body)
        >> vendor_says(whole(b"{}", status=b"400 Bad Request"))
        << caller_gets(400, body=b"{}")
    )


async def test_lone_surrogates_are_for_the_vendor_to_judge(edge: Edge) -> None:
    """JavaScript sends them; they pass where they are content, and are refused in a name."""
    rig = await edge(models=MODELS)
    content = rb'{"model":"m","messages":[{"role":"user","content":"\ud83d \udc00"}]}'
    # The mock cannot read them, and says so itself.
    assert (await rig.ask(content)).status == 400
    assert [entry.status for entry in await rig.entries()] == [400]
    model = await rig.ask(rb'{"model":"m\ud83d","messages":[{"role":"user","content":"x"}]}')
    assert (model.status, model.error["code"]) == (404, "model_not_found")
    user = await rig.ask(
        rb'{"model":"m","user":"\ud83d","messages":[{"role":"user","content":"x"}]}'
    )
    assert user.status in {200, 400}
    await serves(rig)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (COMPLETIONS, {"model": "m", "prompt": {"a": 1}}, "prompt"),
        (COMPLETIONS, {"model": "m", "prompt": []}, "prompt"),
        (COMPLETIONS, {"model": "m", "prompt": "x", "best_of": 0}, "best_of"),
        (EMBEDDINGS, {"model": "m"}, "input"),
        (EMBEDDINGS, {"model": "m", "input": ""}, "input"),
        (EMBEDDINGS, {"model": "m", "input": [[]]}, "input"),
        (EMBEDDINGS, {"model": "m", "input": [1, "x"]}, "input"),
    ],
)
async def test_other_paths_name_their_fields(
    edge: Edge, path: str, body: dict[str, Any], param: str
) -> None:
    """As for chat."""
    rig = await edge(models=MODELS)
    answer = await rig.ask(json.dumps(body).encode(), path=path)
    assert (answer.status, answer.error["param"]) == (400, param)
    await serves(rig)


async def test_a_name_that_does_not_exist(edge: Edge) -> None:
    """404 for what nobody has, 403 for what this key may not use; whatever the name looks like."""
    rig = await edge(models={"m": ["sim"], "n": ["sim"]}, key={"models": ["m"]})
    for name in ("nobody", "../../etc", "m\u202e", "é" * 250, "x\u2028y", "{c0}:s:key"):
        answer = await rig.ask(chat(name))
        assert (answer.status, answer.error["code"]) == (404, "model_not_found"), name
        assert answer.error["param"] == "model"
    answer = await rig.ask(chat("n"))
    assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")
    assert answer.error["type"] == "permission_error"


KEYS = {
    "none": ([], "missing_api_key"),
    "an unknown one": (["Authorization: Bearer sk-unknown-key-000000"], "invalid_api_key"),
    "an empty one": (["Authorization: Bearer "], "invalid_api_key"),
    "an empty header": (["Authorization:"], "invalid_api_key"),
    "another scheme": (["Authorization: Basic dXNlcjpwYXNz"], "invalid_api_key"),
    "no scheme": ([f"Authorization: {CALLER_KEY}"], "invalid_api_key"),
    "its hash": (["Authorization: Bearer sha256:" + "0" * 64], "invalid_api_key"),
    "bytes": (["x-api-key: \xff\xfe\x80"], "invalid_api_key"),
    "half of it": ([f"Authorization: Bearer {CALLER_KEY[:-1]}"], "invalid_api_key"),
    "a long one": ([f"Authorization: Bearer {'k' * 8000}"], "invalid_api_key"),
}


@pytest.mark.parametrize(("lines", "code"), KEYS.values(), ids=KEYS)
async def test_a_key_that_is_none(edge: Edge, lines: list[str], code: str) -> None:
    """401, before the body is read, without a word about the key."""
    rig = await edge(models=MODELS)
    caller = await rig.caller()
    await caller.send(head(HOST, *lines, LENGTH) + BODY)
    answer = await refused(caller)
    assert (answer.status, answer.error["code"]) == (401, code)
    assert answer.error["type"] == "authentication_error"
    assert answer.header("x-should-retry") == "false"
    await serves(rig)


async def test_a_refusal_before_the_body_closes_the_connection(edge: Edge) -> None:
    """What is still to come of the body would be taken for the next request's head."""
    rig = await edge(models=MODELS)
    caller = await rig.caller()
    await caller.send(head(HOST, "Authorization: Bearer nope", LENGTH, "Expect: 100-continue"))
    answer = await refused(caller)
    assert answer.status == 401
    assert answer.interim == []
    assert answer.header("connection") == "close"
    await caller.send(BODY)
    await caller.closed()
    await serves(rig)


# What is in the head...

HEADS: dict[str, tuple[bytes, int]] = {
    "two keys": (head(HOST, AUTH, AUTH, LENGTH) + BODY, 400),
    "two other keys": (head(HOST, "x-api-key: a", "x-api-key: b", LENGTH) + BODY, 400),
    "two lengths": (head(HOST, AUTH, LENGTH, LENGTH) + BODY, 400),
    "two different lengths": (head(HOST, AUTH, LENGTH, "Content-Length: 3") + BODY, 400),
    "two hosts": (head(HOST, "Host: other", AUTH, LENGTH) + BODY, 400),
    "no host": (head(AUTH, LENGTH) + BODY, 400),
    "two codings": (
        head(HOST, AUTH, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        400,
    ),
    "a length and chunks": (head(HOST, AUTH, LENGTH, "Transfer-Encoding: chunked") + BODY, 400),
    "chunks and a length": (head(HOST, AUTH, "Transfer-Encoding: chunked", LENGTH) + BODY, 400),
    "an unknown coding": (head(HOST, AUTH, "Transfer-Encoding: xchunked"), 400),
    "chunked, then another": (head(HOST, AUTH, "Transfer-Encoding: chunked, gzip"), 400),
    "a coding with a tab": (head(HOST, AUTH, "Transfer-Encoding:\tchunked x"), 400),
    "a negative length": (head(HOST, AUTH, "Content-Length: -1"), 400),
    "a signed length": (head(HOST, AUTH, "Content-Length: +5") + b"hello", 400),
    "a list of lengths": (head(HOST, AUTH, "Content-Length: 5,5") + b"hello", 400),
    "a length in hex": (head(HOST, AUTH, "Content-Length: 0x5") + b"hello", 400),
    "a length with a space": (head(HOST, AUTH, "Content-Length: 5 5") + b"hello", 400),
    "an empty length": (head(HOST, AUTH, "Content-Length:") + b"hello", 400),
    "a length beyond 64 bits": (head(HOST, AUTH, "Content-Length: " + "9" * 30), 400),
    "a folded line": (head(HOST, AUTH + "\r\n folded", LENGTH) + BODY, 400),
    "a NUL in a value": (head(HOST, AUTH + "\x00", LENGTH) + BODY, 400),
    "a CR in a value": (head(HOST, AUTH + "\rx", LENGTH) + BODY, 400),
    "a NUL in a name": (head(HOST, "X\x00Y: 1", AUTH, LENGTH) + BODY, 400),
    "a space before the colon": (head(HOST, "X : 1", AUTH, LENGTH) + BODY, 400),
    "a line without a colon": (head(HOST, AUTH.replace(":", ""), LENGTH) + BODY, 400),
    "an empty name": (head(HOST, ": 1", AUTH, LENGTH) + BODY, 400),
    "bare newlines": (f"POST / HTTP/1.1\n{HOST}\n{AUTH}\n\n".encode(), 400),
    "too many headers": (head(HOST, AUTH, *(f"X-{n}: 1" for n in range(HEADERS_LIMIT))), 431),
    "a long header": (head(HOST, AUTH + "k" * LINE_LIMIT, LENGTH) + BODY, 431),
    "a long name": (head(HOST, "x" * (LINE_LIMIT + 1) + ": 1", LENGTH) + BODY, 431),
    "a long target": (head(HOST, AUTH, first=f"GET /{'a' * LINE_LIMIT} HTTP/1.1"), 431),
    "a long target with a key": (
        head(HOST, first=f"GET /?k={CALLER_KEY}{'a' * 9000} HTTP/1.1"),
        431,
    ),
    "letters beyond ASCII": (head(HOST, AUTH, first="GET /v1/m\xf6dels HTTP/1.1"), 400),
    "another protocol": (head(HOST, AUTH, first="GET /v1/models SIP/2.0"), 400),
    "a version from the future": (head(HOST, AUTH, first="GET /v1/models HTTP/9.9"), 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "no method": (head(HOST, AUTH, first="/v1/models HTTP/1.1"), 400),
    "a method of ours": (head(HOST, AUTH, first="FROB /v1/models HTTP/1.1"), 400),
    "spaces in the target": (head(HOST, AUTH, first="GET /v1/mod els HTTP/1.1"), 400),
    "TLS": (bytes.fromhex("160301020001fc0303") + bytes(range(200)), 400),
    "garbage": (bytes(range(255, 0, -1)) * 4, 400),
    "an empty line, then garbage": (b"\r\n\r\n\xff\xff\xff\xff", 400),
    "an old web socket": (head(HOST, AUTH, "Sec-WebSocket-Key1: x", LENGTH) + BODY, 400),
}


@pytest.mark.parametrize(("raw", "status"), HEADS.values(), ids=HEADS)
async def test_a_head_that_is_no_http_is_refused(edge: Edge, raw: bytes, status: int) -> None:
    """A 4xx in our envelope and a close; the words repeat nothing that was sent."""
    rig = await edge(models=MODELS)
    caller = await rig.caller()
    await caller.send(raw)
    answer = await refused(caller)
    assert answer.status == status
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["message"].isprintable()
    assert (answer.header("x-request-id") or "").startswith("req_")
    assert answer.header("x-should-retry") == "false"
    if answer.error["code"] != "duplicate_header":
        assert answer.header("connection") == "close"
        await caller.raw()
    await serves(rig)
    assert len(await rig.entries()) == 1


@pytest.mark.parametrize(("raw", "status"), HEADS.values(), ids=HEADS)
async def test_it_is_refused_byte_by_byte_as_well(edge: Edge, raw: bytes, status: int) -> None:
    """However the bytes arrive."""
    rig = await edge(models=MODELS)
    caller = await rig.caller()
    size = 1 if len(raw) < 400 else 97
    for start in range(0, len(raw), size):
        if caller.has_answer:
            break
        await caller.send(raw[start : start + size])
        for _ in range(4):
            await asyncio.sleep(0)
    assert (await refused(caller)).status == status
    await serves(rig)


TARGETS: dict[str, tuple[str, int]] = {
    "OPTIONS *": ("OPTIONS * HTTP/1.1", 404),
    "CONNECT": ("CONNECT example.com:443 HTTP/1.1", 405),
    "an absolute target": ("GET http://elsewhere.test/v1/nothing HTTP/1.1", 404),
    "TRACE": ("TRACE /v1/models HTTP/1.1", 405),
    "PUT": ("PUT /v1/chat/completions HTTP/1.1", 405),
    "GET on a POST route": ("GET /v1/chat/completions HTTP/1.1", 405),
    "POST on a GET route": ("POST /v1/models HTTP/1.1", 405),
    "dots": ("GET /v1/../v1/models HTTP/1.1", 404),
    "a doubled slash": ("GET //v1/models HTTP/1.1", 404),
    "percent signs": ("GET /v1/models%00 HTTP/1.1", 404),
    "a scheme of its own": ("GET javascript://x/%0aalert(1) HTTP/1.1", 404),
    "an admin route": ("GET /metrics HTTP/1.1", 404),
}


@pytest.mark.parametrize(("first", "status"), TARGETS.values(), ids=TARGETS)
async def test_a_target_that_is_not_served(edge: Edge, first: str, status: int) -> None:
    """404 or 405, and for the latter what would do."""
    rig = await edge(models=MODELS)
    caller = await rig.caller()
    await caller.send(head(HOST, AUTH, first=first))
    answer = await refused(caller)
    assert answer.status == status
    assert (answer.header("allow") is not None) == (status == 405)
    assert answer.error["code"] == {404: "unknown_route", 405: "method_not_allowed"}[status]
    await serves(rig)


async def test_an_absolute_target_is_served(edge: Edge) -> None:
    """Servers have to take the form that proxies are asked in (RFC 9112, 3.2.2)."""
    rig = await edge(models=MODELS)
    caller = await rig.caller()
    await caller.send(
        head(HOST, AUTH, LENGTH, first="POST http://penstock.test/v1/chat/completions?x=1 HTTP/1.1")
        + BODY
    )
    assert (await caller.answer()).status == 200


@pytest.mark.parametrize("to", ["websocket", "h2c", "tcp"])
async def test_an_upgrade_is_not_granted(edge: Edge, to: str) -> None:
    """The request is served as it is; what follows it is the next request."""
    rig = await edge(models=MODELS)
    caller = await rig.caller()
    lines = (HOST, AUTH, "Connection: Upgrade", f"Upgrade: {to}", "HTTP2-Settings: AAMA", LENGTH)
    await caller.send(head(*lines) + BODY)
    assert (await caller.answer()).status == 200
    await caller.send(request(chat()))
    assert (await caller.answer()).status == 200
    await caller.send(head(*lines) + BODY + b"\xff\xff garbage \xff")
    assert (await caller.answer()).status == 200
    await serves(rig)


# How the body comes...


async def chunked(
    edge: Edge, *pieces: bytes, settings: dict[str, Any] | None = None
) -> tuple[Rig, Caller]:
    """Send a head for chunks, wait until it has been taken, and send the pieces."""
    rig = await edge(models=MODELS, edge=settings or {})
    caller = await rig.caller()
    await caller.send(head(HOST, AUTH, "Transfer-Encoding: chunked"))
    await eventually(lambda: rig.edge.exchanges)
    await caller.send(*pieces)
    return rig, caller


CHUNKS = {
    "no size": b"\r\nhello\r\n",
    "a size that is none": b"xyz\r\nhello\r\n",
    "a negative size": b"-5\r\nhello\r\n",
    "a size in 0x": b"0x5\r\nhello\r\n",
    "a size beyond 64 bits": b"f" * 20 + b"\r\nhello\r\n",
    "a size that is too small": b"3\r\nhello\r\n0\r\n\r\n",
    "no CR behind a chunk": b"5\r\nhello\n0\r\n\r\n",
    "a bare LF behind the size": b"5\nhello\r\n0\r\n\r\n",
    "a size with a space": b"5 \r\nhello\r\n0\r\n\r\n",
    "garbage in the trailer": b"5\r\nhello\r\n0\r\n\x00\x00: x\r\n\r\n",
}


@pytest.mark.parametrize("raw", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("early", [False, True])
async def test_chunks_that_are_none(edge: Edge, raw: bytes, early: bool) -> None:
    """400 at once, not at the body's deadline, whether they come with the head or behind it."""
    if early:
        rig = await edge(models=MODELS)
        caller = await rig.caller()
        await caller.send(head(HOST, AUTH, "Transfer-Encoding: chunked") + raw)
    else:
        rig, caller = await chunked(edge, raw)
    async with within(1):
        answer = await refused(caller)
    assert answer.status == 400
    assert answer.header("connection") == "close"
    await caller.raw()
    await serves(rig)


async def test_endless_chunk_extensions(edge: Edge) -> None:
    """They are no body and have no bound of their own; the size of what is read has, and the deadline."""
    rig, caller = await chunked(edge, settings={"body_timeout_s": 0.2})
    await caller.send(b"5;" + b"x" * 200_000)
    answer = await refused(caller)
    assert answer.status in {400, 408}
    await serves(rig)


async def test_a_body_beyond_the_limit_by_its_length(edge: Edge) -> None:
    """413 before it is read."""
    rig = await edge(models=MODELS, edge={"max_body_mb": 1})
    caller = await rig.caller()
    await caller.send(head(HOST, AUTH, f"Content-Length: {(1 << 20) + 1}"))
    answer = await refused(caller)
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")
    assert answer.header("connection") == "close"
    await serves(rig)


async def test_a_body_beyond_the_limit_by_chunks(edge: Edge) -> None:
    """413 as soon as it is too large, without reading all of it."""
    rig, caller = await chunked(edge, settings={"max_body_mb": 1})
    sending = asyncio.ensure_future(caller.send(*[piece(b" " * 65536)] * 400))
    answer = await refused(caller)
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await caller.leave()
    await serves(rig)


async def test_a_body_at_the_limit_is_served(edge: Edge) -> None:
    """The limit itself is allowed."""
    rig = await edge(models=MODELS, edge={"max_body_mb": 1})
    body = chat()
    body = body[:-1] + b" " * ((1 << 20) - len(body)) + b"}"
    assert (await rig.ask(body)).status == 200


# A megabyte of gzip members that unpack to some 200 times as much is as good as one of a kind.
BOMB = (
    gzip.compress(b'{"model":"m","x":"' + b"0" * (1 << 20)) + gzip.compress(b"0" * (1 << 20)) * 99
)

PACKED = {
    "a bomb": (BOMB, "gzip", {413}),
    "no gzip": (b"this is no gzip", "gzip", {400}),
    "half of it": (gzip.compress(BODY)[:-12], "gzip", {200, 400}),
    "a wrong checksum": (gzip.compress(BODY)[:-8] + b"\0" * 8, "gzip", {400}),
    "no deflate": (b"\x08this is no deflate", "deflate", {400}),
    "half a deflate": (zlib.compress(BODY)[:-9], "deflate", {400}),
    "a coding nobody knows": (BODY + b"\xff", "frob", {415}),
    "two codings": (gzip.compress(gzip.compress(BODY)), "gzip, gzip", {415}),
    "a coding that is not installed": (BODY, "zstd", {400, 415}),
}


@pytest.mark.parametrize(("body", "coding", "statuses"), PACKED.values(), ids=PACKED)
async def test_a_compressed_body_that_cannot_be_read(
    edge: Edge, body: bytes, coding: str, statuses: set[int]
) -> None:
    """400, 413 for what unpacks to too much, 415 for what nobody here can unpack."""
    rig = await edge(models=MODELS)
    caller = await rig.caller()
    await caller.send(request(body, f"Content-Encoding: {coding}"))
    answer = await caller.answer()
    assert answer.status in statuses, answer.body
    await serves(rig)


# When it comes...


@pytest.mark.parametrize("sent", [b"P", b"POST /v1/chat", head(HOST, AUTH)[:-2], b"\r\n"])
async def test_a_slow_head_is_not_waited_for(edge: Edge, sent: bytes) -> None:
    """408 and a close at the deadline of the head."""
    rig = await edge(models=MODELS, edge={"head_timeout_s": 0.1})
    caller = await rig.caller()
    await caller.send(sent)
    answer = await refused(caller)
    assert (answer.status, answer.error["code"]) == (408, "head_timeout")
    await caller.closed()
    await serves(rig)


async def test_dripping_does_not_extend_the_deadline(edge: Edge) -> None:
    """The deadline is for the whole of a head, also for a later one on the same connection."""
    rig = await edge(models=MODELS, edge={"head_timeout_s": 0.3})
    caller = await rig.caller()
    await caller.send(request(chat()))
    assert (await caller.answer()).status == 200

    async def drip() -> None:
        for place in range(100):
            await caller.send(b"POST /" + b"x" * 90 if not place else b"y")
            await asyncio.sleep(0.05)

    dripping = asyncio.ensure_future(drip())
    async with within(2):
        answer = await refused(caller)
    assert answer.status == 408
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    await serves(rig)


async def test_a_connection_that_says_nothing_is_closed(edge: Edge) -> None:
    """Without a word: there is nobody to tell."""
    rig = await edge(models=MODELS, edge={"head_timeout_s": 0.1})
    caller = await rig.caller()
    await caller.closed()


async def test_an_idle_connection_outlives_the_deadline_of_heads(edge: Edge) -> None:
    """Between requests the keep-alive bound holds; also where a body came apart from its head."""
    rig = await edge(models=MODELS, edge={"head_timeout_s": 0.1, "idle_timeout_s": 30})
    callers = [await rig.caller() for _ in range(20)]
    whole_request = request(chat())
    place = whole_request.index(b"\r\n\r\n") + 4
    for caller in callers:
        await caller.send(whole_request[:place])
        await asyncio.sleep(0)
        await caller.send(whole_request[place:])
    for caller in callers:
        assert (await caller.answer()).status == 200
    assert {client.deadline for client in rig.edge.server.connections} == {0}
    for caller in callers:
        await caller.send(request(chat()))
        assert (await caller.answer()).status == 200


async def test_an_idle_connection_is_closed_in_the_end(edge: Edge) -> None:
    """At the keep-alive bound, without a word."""
    rig = await edge(models=MODELS, edge={"idle_timeout_s": 0.2})
    caller = await rig.caller()
    await caller.send(request(chat()))
    assert (await caller.answer()).status == 200
    await caller.closed()


async def test_a_slow_body_is_not_waited_for(edge: Edge) -> None:
    """408 and a close at the deadline of the body; nothing was admitted."""
    rig = await edge(models=MODELS, edge={"body_timeout_s": 0.1})
    caller = await rig.caller()
    await caller.send(request(chat())[:-3])
    answer = await refused(caller)
    assert (answer.status, answer.error["code"]) == (408, "body_timeout")
    assert answer.header("connection") == "close"
    assert await rig.entries() == []
    await serves(rig)


@pytest.mark.parametrize("sent", [b"", b"PO", head(HOST, AUTH)[:-1], request(chat())[:-1]])
async def test_an_early_end_is_a_clean_close(edge: Edge, sent: bytes) -> None:
    """Nobody is there to be told."""
    rig = await edge(models=MODELS)
    caller = await rig.caller()
    await caller.send(sent)
    caller.half_close()
    await caller.raw()
    await serves(rig)
    assert len(await rig.entries()) == 1


async def test_a_half_closed_caller_counts_as_gone(edge: Edge) -> None:
    """As with other proxies: the end of what it sends is the end of its interest; settled so, and closed."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    caller = await rig.caller()
    await caller.send(request(chat()))
    line = await rig.vendors["v"].line()
    await line.gets()
    caller.half_close()
    async with within(0.5):
        await line.left()
    await caller.closed()
    assert await rig.outcomes() == ["client_left"]


async def test_requests_piled_up_behind_a_stream_are_bounded(edge: Edge) -> None:
    """A flood behind a busy handler is read no further than its bound, and then answered in order."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    caller = await rig.caller()
    await caller.send(request(chat()))
    line = await rig.vendors["v"].line()
    await line.gets()
    flood = request(None, method="GET", path="/v1/models") * 300
    await caller.send(flood)
    (client,) = rig.edge.server.connections
    await asyncio.sleep(0.05)
    assert len(client._messages) <= 33
    await line.says(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    )
    statuses = [(await caller.answer()).status for _ in range(301)]
    assert statuses == [200] * 301


async def test_answers_that_nobody_reads_are_not_piled_up(edge: Edge) -> None:
    """Whoever asks without reading is answered up to the bound of its buffer, and on when it reads."""
    rig = await edge(models=MODELS)
    caller = await rig.caller(small_window=True)
    caller.stop_reading()
    asked = 6000
    flood = asyncio.ensure_future(caller.send(head(HOST, first="GET /nowhere HTTP/1.1") * asked))
    await eventually(lambda: rig.edge.server.connections)
    (client,) = rig.edge.server.connections
    await eventually(lambda: client.writing_paused)
    for _ in range(500):
        await asyncio.sleep(0)
    assert client.transport is not None
    assert client.transport.get_write_buffer_size() < WRITE_HIGH + 4096
    caller.go_on_reading()
    assert {(await caller.answer()).status for _ in range(asked)} == {404}
    await flood


async def test_a_caller_that_reads_no_answer_is_not_kept(edge: Edge) -> None:
    """Nobody waits for it for longer than a closing connection would; who reads slowly is waited for."""
    rig = await edge(models=MODELS)
    rig.edge.server.flush_timeout_s = 0.3
    caller = await rig.caller(small_window=True)
    caller.stop_reading()
    flood = asyncio.ensure_future(caller.send(head(HOST, first="GET /nowhere HTTP/1.1") * 6000))
    await eventually(lambda: any(each.behind for each in rig.edge.server.connections))
    await eventually(lambda: not rig.edge.server.connections)
    await asyncio.gather(flood, return_exceptions=True)
    await serves(rig)


async def test_a_storm_of_all_of_it_wedges_nothing(edge: Edge) -> None:
    """Everything bad at once, from many connections, between good requests that are all served."""
    rig = await edge(
        models=MODELS, edge={"head_timeout_s": 0.3, "body_timeout_s": 0.3, "max_body_mb": 1}
    )
    bad = [
        *(raw for raw, _ in HEADS.values()),
        *(request(body) for body, _, _ in BODIES.values()),
        *(head(HOST, AUTH, "Transfer-Encoding: chunked") + raw for raw in CHUNKS.values()),
        *(request(body, f"Content-Encoding: {coding}") for body, coding, _ in PACKED.values()),
        request(chat())[:-4],
    ]

    async def throw(raw: bytes) -> bytes:
        caller = await rig.caller()
        try:
            await caller.send(raw)
            return await caller.raw() if raw[-4:] != b"garb" else b""
        except ConnectionError:
            return b""

    async def ask() -> int:
        return (await rig.ask(chat(stream=True))).status

    said = asyncio.gather(
        *(
            throw(raw.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nConnection: close\r\n", 1))
            for raw in bad
        )
    )
    statuses = await asyncio.gather(*(ask() for _ in range(60)))
    assert set(statuses) == {200}
    answers = await said
    assert not any(b" 500 " in each[:20] or b"Internal" in each for each in answers)
    await serves(rig)
    assert len(await rig.entries()) >= 61
