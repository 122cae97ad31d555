"""
Two protocols in one exchange: the caller speaks one, the provider another, and everything else is as ever.

What becomes of each field is the matter of `wire/translate`; here it is who is asked, what is counted and booked, and how it ends.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from proxy.passage import TranslatedStream
from proxy.wire import translate
from proxy.wire.endpoints import ENDPOINTS
from proxy.wire.meter import StreamMeter
from proxy.wire.translate.core import Thinking
from tests.proxy.edge_rig import Edge, Rig
from tests.proxy.partners import (
    CHAT,
    DONE,
    INPUT_NUSD,
    MESSAGES,
    OUTPUT_NUSD,
    VENDOR_KEY,
    answer_head,
    at,
    chat,
    completion,
    delta,
    event,
    message,
    message_events,
    named,
    once,
    piece,
    request,
    sse_head,
    usage,
    whole,
)
from tests.proxy.stories import (
    booked,
    caller_gets,
    caller_leaves,
    caller_sends,
    tell,
    vendor_gets,
    vendor_is_left,
    vendor_says,
)

STRICT = {"budget": {"usd": 0.002, "per": "day", "mode": "strict"}}

# What a chunk says it costs: seven tokens in, three out, in either protocol.
COST = 7 * INPUT_NUSD + 3 * OUTPUT_NUSD
SAID = "One two three"
CHUNKS = [
    delta("One"),
    delta(" two"),
    delta(" three"),
    delta("", "stop"),
    event({"choices": [], "usage": usage()}),
]
COMPLETION = completion(SAID)
TURN = json.dumps(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": SAID}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 2, "cache_read_input_tokens": 5, "output_tokens": 3},
    }
).encode()


class Side:
    """One way of the two: what a caller sends and reads, and what a vendor of the other protocol says."""

    def __init__(
        self,
        *,
        path: str,
        protocol: str,
        ask: Callable[..., bytes],
        events: list[bytes],
        answer: bytes,
        end: bytes,
    ) -> None:
        self.path = path
        self.protocol = protocol
        self.ask = ask
        self.events = events
        self.answer = answer
        self.end = end

    @property
    def wire(self) -> bytes:
        """The vendor's whole stream."""
        return b"".join([sse_head(), *map(piece, self.events), piece(b"")])

    def text(self, body: bytes) -> str:
        """Give what a caller reads in a stream."""
        text = ""
        for line in body.decode().splitlines():
            if line.startswith("data: {"):
                document = json.loads(line[6:])
                if self.path == CHAT:
                    for choice in document.get("choices", ()):
                        text += choice["delta"].get("content") or ""
                elif document["type"] == "content_block_delta":
                    text += document["delta"]["text"]
        return text

    def error(self, body: bytes) -> dict[str, Any]:
        """Give the error that a stream ends with."""
        assert body.endswith(b"\n\n")
        last = body[:-2].split(b"\n\n")[-1]
        if self.path == MESSAGES:
            assert last.startswith(b"event: error\n")
        return json.loads(last[last.index(b"{") :])["error"]


CHAT_IN = Side(
    path=CHAT,
    protocol="anthropic",
    ask=chat,
    events=message_events("One", " two", " three"),
    answer=TURN,
    end=DONE,
)
MESSAGES_IN = Side(
    path=MESSAGES,
    protocol="openai",
    ask=lambda **said: message("m", **said),
    events=[*CHUNKS, DONE],
    answer=COMPLETION,
    end=named("message_stop").replace(b'": "', b'":"'),
)
SIDES = pytest.mark.parametrize("side", [CHAT_IN, MESSAGES_IN], ids=["chat", "messages"])


async def foreign_edge(edge: Edge, side: Side, **said: Any) -> Rig:
    """Start an edge whose one scripted vendor speaks the other protocol."""
    return await edge(
        models={"m": [at()]}, scripted=["v"], provider={"protocol": side.protocol}, **said
    )


def said_in(side: Side, body: bytes) -> str:
    document = json.loads(body)
    if side.path == CHAT:
        return str(document["choices"][0]["message"]["content"])
    return str(document["content"][0]["text"])


# What passes...


@SIDES
async def test_a_whole_answer(edge: Edge, side: Side) -> None:
    """Asked and answered in both protocols, charged once by what the provider counts."""
    rig = await foreign_edge(edge, side)
    stage = await (
        tell(rig)
        >> caller_sends(
            request(side.ask(), "OpenAI-Beta: x", "traceparent: 00-1-2-01", path=side.path)
        )
        << vendor_gets(model="upstream-m")
        >> vendor_says(whole(side.answer, b"request-id: theirs", b"x-vendor: v"))
        << caller_gets(200)
        << booked(
            {
                "outcome": "ok",
                "input_tokens": 7,
                "output_tokens": 3,
                "cost_nusd": COST,
                "token_source": "provider",
                "protocol": "openai.chat" if side is CHAT_IN else "anthropic.messages",
            }
        )
    )
    answer, asked = stage.answer, stage.asked
    assert answer is not None
    assert asked is not None
    assert said_in(side, answer.body) == SAID
    assert answer.header("content-type") == "application/json"
    assert answer.header("x-upstream-request-id") == "theirs"
    assert answer.header("x-vendor") is None
    assert asked.header("traceparent") == "00-1-2-01"
    if side is CHAT_IN:
        assert asked.line == "POST /v1/messages HTTP/1.1"
        assert asked.header("x-api-key") == VENDOR_KEY
        assert asked.header("anthropic-version") == "2023-06-01"
        assert asked.header("openai-beta") is None
        assert answer.json["usage"]["prompt_tokens"] == 7
    else:
        assert asked.line == "POST /v1/chat/completions HTTP/1.1"
        assert asked.header("authorization") == f"Bearer {VENDOR_KEY}"
        assert answer.json["usage"]["input_tokens"] == 7


@SIDES
async def test_a_stream(edge: Edge, side: Side) -> None:
    """Event by event, in the caller's protocol to its last one."""
    rig = await foreign_edge(edge, side)
    rig.vendors["v"].habit = once(side.wire)
    answer = await rig.ask(side.ask(stream=True), path=side.path)
    assert answer.complete
    assert answer.header("content-type") == "text/event-stream"
    assert side.text(answer.body) == SAID
    assert answer.body.endswith(side.end)
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.input_tokens, entry.output_tokens) == ("ok", 7, 3)
    assert (entry.cost_nusd, entry.token_source, entry.stream) == (COST, "provider", 1)


@SIDES
async def test_a_chunk_is_on_its_way_as_soon_as_it_is_there(edge: Edge, side: Side) -> None:
    """The caller reads the first word while the vendor is silent."""
    rig = await foreign_edge(edge, side)
    caller = await rig.caller()
    await caller.send(request(side.ask(stream=True), path=side.path))
    line = await rig.vendors["v"].line()
    await line.gets()
    first = next(at for at, one in enumerate(side.events) if b"One" in one) + 1
    await line.says(sse_head(), *map(piece, side.events[:first]))
    await caller.head()
    assert side.text(await caller.chunk()) == "One"
    await line.says(*map(piece, side.events[first:]), piece(b""))
    rest = b""
    while data := await caller.chunk():
        rest += data
    assert side.text(rest) == " two three"


# Who is asked...


@pytest.mark.parametrize("second", ["messages", "mock"])
async def test_candidates_of_both_protocols_stand_in_for_each_other(
    edge: Edge, second: str
) -> None:
    """A retry may change the protocol of the upstream, and the caller notices nothing."""
    first = "mock" if second == "messages" else "messages"
    rig = await edge(
        models={"m": [at(first, "sim;status=503"), at(second, "sim;tokens=4;prompt=9")]}
    )
    for ask, path in ((chat(), CHAT), (message("m"), MESSAGES)):
        for stream in (False, True):
            document = json.loads(ask) | {"stream": stream}
            answer = await rig.ask(json.dumps(document).encode(), path=path)
            assert answer.status == 200, answer.body
            assert answer.header("x-penstock-deployment") == f"m/{second}"
    entries = await rig.entries()
    served = [entry for entry in entries if entry.outcome == "ok"]
    assert [(entry.input_tokens, entry.output_tokens) for entry in served] == [(9, 4)] * 4
    assert rig.mock.books()["complaints"] == []


async def test_what_cannot_be_said_is_a_400_before_anything_is_admitted(edge: Edge) -> None:
    """It names the field, in the caller's envelope, and nobody was asked."""
    rig = await edge(models={"m": [at("messages", "sim")]})
    refused = await rig.ask(chat(n=2))
    assert (refused.status, refused.error["code"], refused.error["param"]) == (
        400,
        "cannot_express",
        "n",
    )
    assert "n" in refused.error["message"]
    bad = await rig.ask(chat(messages=[{"role": "nobody", "content": "x"}]))
    assert (bad.status, bad.error["type"]) == (400, "invalid_request_error")
    assert await rig.entries() == []
    assert rig.mock.books()["totals"]["calls"] == 0


async def test_who_cannot_be_asked_is_left_out(edge: Edge) -> None:
    """Where another candidate can be asked it, that one is, and it alone."""
    rig = await edge(models={"m": [at("messages", "sim"), at("mock", "sim;tokens=2")]})
    for _ in range(4):
        answer = await rig.ask(chat(n=2))
        assert (answer.status, answer.header("x-penstock-deployment")) == (200, "m/mock")
    assert await rig.outcomes() == ["ok"] * 4


def test_a_provider_that_only_says_that_it_is_there_fills_no_memory() -> None:
    """However often it does, and however often it counts meanwhile; when it speaks its caller is told that it begins, once."""
    chat_, messages = translate.PROTOCOLS["openai.chat"], translate.PROTOCOLS["anthropic.messages"]
    asked = messages.read_request(
        json.dumps(
            {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        ).encode()
    )
    endpoint = next(row for row in ENDPOINTS if row.word == "openai.chat")
    assert endpoint.grammar is not None
    stream = TranslatedStream(
        StreamMeter(endpoint.grammar, keep_usage=True),
        chat_.reader(None),
        messages.writer(translate.reply_to(asked, id_="req_1", created_s=1)),
    )
    for count in range(1000):
        usage = {"prompt_tokens": 3, "completion_tokens": count}
        said = {"id": "c", "choices": [], "usage": usage}
        assert stream.look(b": ping\n\ndata: " + json.dumps(said).encode() + b"\n\n") == b""
    assert len(stream._prelude) == 2
    out = stream.look(b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n')
    assert (out.count(b"event: message_start"), out.count(b"event: ping")) == (1, 0)
    assert stream.look(b": ping\n\n").count(b"event: ping") == 1


async def test_what_is_left_out_is_declared(edge: Edge) -> None:
    """A field that can be dropped without another answer is named in a header; where nothing is, there is none."""
    rig = await edge(models={"m": [at("messages", "sim;tokens=2")]})
    for stream in (False, True):
        answer = await rig.ask(chat(seed=7, stream=stream))
        assert (answer.status, answer.header("x-penstock-dropped")) == (200, "seed")
        assert (await rig.ask(chat(stream=stream))).header("x-penstock-dropped") is None


@SIDES
@pytest.mark.parametrize(
    "lost", [None, [], [{"type": "url_citation"}]], ids=["null", "none", "one"]
)
async def test_what_an_answer_loses_is_declared(edge: Edge, side: Side, lost: Any) -> None:
    """Of a whole answer: what the vendor said and the caller's protocol has no word for; an empty list is nothing."""
    rig = await foreign_edge(edge, side)
    document = json.loads(side.answer)
    if side is CHAT_IN:
        name, holder = "citations", document["content"][0]
    else:
        name, holder = "annotations", document["choices"][0]["message"]
    holder[name] = lost
    rig.vendors["v"].habit = once(whole(json.dumps(document).encode()))
    answer = await rig.ask(side.ask(), path=side.path)
    assert (answer.status, answer.header("x-penstock-dropped")) == (200, name if lost else None)


@SIDES
async def test_a_strict_budget_writes_its_cap_in_the_vendors_words(edge: Edge, side: Side) -> None:
    """What is left buys fewer tokens than were asked for."""
    rig = await foreign_edge(edge, side, team=STRICT)
    stage = await (
        tell(rig)
        >> caller_sends(request(side.ask(max_tokens=50_000), path=side.path))
        << vendor_gets()
        >> vendor_says(whole(side.answer))
        << caller_gets(200)
    )
    assert stage.asked is not None
    assert 0 < stage.asked.json["max_tokens"] <= 1000


# How it ends...


@SIDES
async def test_a_stream_cut_at_any_byte_ends_in_a_typed_error(edge: Edge, side: Side) -> None:
    """In the caller's protocol, never as if it were complete, charged once; before the first word a clean 502."""
    rig = await foreign_edge(edge, side)
    vendor = rig.vendors["v"]
    wire = side.wire
    for length in range(len(wire)):
        vendor.habit = once(wire[:length])
        answer = await rig.ask(side.ask(stream=True), path=side.path)
        assert answer.complete, length
        if answer.status != 200:
            assert answer.status == 502
            assert b"One" not in b"".join(wire[:length].split(b"\r\n")[:-1])
            continue
        if answer.body.endswith(side.end):
            assert side.text(answer.body) == SAID
            continue
        error = side.error(answer.body)
        assert "cut off" in error["message"]
        assert SAID.startswith(side.text(answer.body))
    entries = await rig.entries()
    assert len(entries) == len(wire)
    assert {entry.outcome for entry in entries} == {"ok", "upstream_lost"}
    for entry in entries:
        assert (
            entry.cost_nusd == entry.input_tokens * INPUT_NUSD + entry.output_tokens * OUTPUT_NUSD
        )


@SIDES
async def test_a_refusal_is_said_in_the_callers_words(edge: Edge, side: Side) -> None:
    """A 400 about the request itself is told once, in the caller's envelope, and not tried elsewhere."""
    rig = await foreign_edge(edge, side)
    theirs = {
        "anthropic": {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "why"},
        },
        "openai": {"error": {"message": "why", "type": "invalid_request_error", "param": "x"}},
    }[side.protocol]
    stage = await (
        tell(rig)
        >> caller_sends(request(side.ask(), path=side.path))
        << vendor_gets()
        >> vendor_says(whole(json.dumps(theirs).encode(), status=b"400 Bad Request"))
        << caller_gets(400)
        << booked({"outcome": "upstream_refused", "cost_nusd": 0})
    )
    answer = stage.answer
    assert answer is not None
    assert "why" in answer.json["error"]["message"]
    assert set(answer.json) == ({"error"} if side is CHAT_IN else {"type", "error", "request_id"})
    assert answer.header("x-penstock-deployment") == "m/v"
    assert answer.header("x-should-retry") == "false"


@SIDES
async def test_an_error_within_the_stream_is_said_in_the_callers_words(
    edge: Edge, side: Side
) -> None:
    """After some of the answer it ends it; before that, nothing of it is seen or charged."""
    rig = await foreign_edge(edge, side)
    broken = {
        "anthropic": named("error", error={"type": "overloaded_error", "message": "Overloaded"}),
        "openai": event({"error": {"message": "Overloaded", "type": "server_error"}}),
    }[side.protocol]
    first = next(at for at, one in enumerate(side.events) if b"One" in one)
    begun = [sse_head(), *map(piece, side.events[: first + 1])]
    rig.vendors["v"].habit = once(*begun, piece(broken), hangs=True)
    answer = await rig.ask(side.ask(stream=True), path=side.path)
    assert answer.complete
    assert side.text(answer.body) == "One"
    assert "Overloaded" in side.error(answer.body)["message"]
    early = [sse_head(), *map(piece, side.events[:first])]
    rig.vendors["v"].habit = once(*early, piece(broken), hangs=True)
    answer = await rig.ask(side.ask(stream=True), path=side.path)
    # A vendor that says that it is overloaded is, whatever the status says that it began with.
    status, outcome = (503, "overloaded") if side.protocol == "anthropic" else (502, "bad_answer")
    assert answer.status == status
    late, soon = await rig.entries()
    assert (late.outcome, late.output_tokens) == ("upstream_refused", 1)
    assert (soon.outcome, soon.cost_nusd) == (outcome, 0)


@SIDES
@pytest.mark.parametrize("stream", [False, True])
async def test_garbage_is_a_clean_502(edge: Edge, side: Side, stream: bool) -> None:
    """In the caller's envelope, whatever the vendor meant."""
    rig = await foreign_edge(edge, side)
    broken = b'data: {"id": oh no\n\n'
    wire = [sse_head(), piece(broken), piece(b"")] if stream else [whole(b"<html>oh no</html>")]
    rig.vendors["v"].habit = once(*wire, hangs=True)
    answer = await rig.ask(side.ask(stream=stream), path=side.path)
    assert answer.status == 502, answer.body
    assert set(answer.json) == ({"error"} if side is CHAT_IN else {"type", "error", "request_id"})
    (entry,) = await rig.entries()
    assert entry.outcome == "bad_answer"


@SIDES
async def test_a_whole_answer_to_a_stream_is_told_as_one(edge: Edge, side: Side) -> None:
    """Some servers do not stream; who asked for a stream gets one."""
    rig = await foreign_edge(edge, side)
    rig.vendors["v"].habit = once(whole(side.answer))
    answer = await rig.ask(side.ask(stream=True), path=side.path)
    assert answer.header("content-type") == "text/event-stream"
    assert side.text(answer.body) == SAID
    assert answer.body.endswith(side.end)


async def test_an_answer_that_is_compressed_cannot_be_translated(edge: Edge) -> None:
    """It was told not to; where nothing is translated it would pass."""
    rig = await foreign_edge(edge, CHAT_IN)
    rig.vendors["v"].habit = once(
        answer_head(b"content-length: 4", b"content-encoding: gzip") + b"\x1f\x8b\x00\x00"
    )
    assert (await rig.ask(chat())).status == 502


@SIDES
async def test_a_caller_that_leaves_takes_the_vendor_along(edge: Edge, side: Side) -> None:
    """Within 100 ms, and what was streamed is charged."""
    rig = await foreign_edge(edge, side)
    first = next(at for at, one in enumerate(side.events) if b" two" in one)
    stage = await (
        tell(rig)
        >> caller_sends(request(side.ask(stream=True), path=side.path))
        << vendor_gets()
        >> vendor_says(sse_head(), *map(piece, side.events[: first + 1]))
    )
    await stage.caller.head()
    await stage.caller.chunk()
    await caller_leaves()(stage)
    await vendor_is_left()(stage)
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.output_tokens) == ("client_left", 2)


def test_a_translated_call_thinks_as_much_as_it_says_or_else_as_it_is_told() -> None:
    """What the caller said of it goes before, and nobody asked to read it."""
    plain = translate.Conversation(model="m", turns=())
    told = translate.thinking(plain, "low")
    assert told.thinking == Thinking(effort="low", shown=False)
    assert translate.thinking(told, "high") is told
