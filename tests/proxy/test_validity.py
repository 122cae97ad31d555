"""Whether an answer has the form that was asked of it, in each protocol in which it can be asked."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import learning
from proxy.learning import Learner
from proxy.passage import PASSING
from proxy.relay import Attempt
from proxy.validity import MOST_BYTES, looks_malformed
from proxy.wire import sse, translate
from proxy.wire.endpoints import ENDPOINTS
from routing.lessons import ALL, Lessons, read_lessons
from tests.proxy.edge_rig import Edge, eventually
from tests.proxy.partners import DONE, at, chat, delta, piece, request, sse_head

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SAID = [{"role": "user", "content": "hi"}]


@pytest.fixture(autouse=True)
def unsent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is learned stay where it is looked at, until a test sends it."""
    monkeypatch.setattr(learning, "SEND_EVERY_S", 3600.0)


def attempt_of(word: str, asked: dict[str, Any], *, streamed: bool = False) -> Attempt:
    """Return as much of an attempt as is looked at, of a call that passes."""
    endpoint = next(row for row in ENDPOINTS if row.word == word)
    body = json.dumps(asked).encode()
    exchange = SimpleNamespace(
        endpoint=endpoint, seen=endpoint.look(body), body=body, conversation=None
    )
    way = SimpleNamespace(endpoint=endpoint)
    meter = SimpleNamespace() if streamed else None
    return cast(
        "Attempt", SimpleNamespace(exchange=exchange, way=way, passage=PASSING, meter=meter)
    )


def streamed_as(word: str, answer: dict[str, Any]) -> bytes:
    """Write the stream that tells a whole answer of a protocol."""
    protocol = translate.PROTOCOLS[word]
    told = protocol.read_answer(json.dumps(answer).encode(), None)
    reply = translate.Reply(id="req_1", model="m", created_s=1)
    return protocol.writer(reply).write([*translate.play(told)])


def in_chat(text: str | None, arguments: str = "", name: str = "f", stop: str = "stop") -> Any:
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
    message = {"role": "assistant", "content": text} | ({"tool_calls": [call]} if arguments else {})
    return {"choices": [{"index": 0, "message": message, "finish_reason": stop}]}


def in_messages(text: str | None, arguments: str = "", name: str = "f", stop: str = "") -> Any:
    blocks: list[Any] = [] if text is None else [{"type": "text", "text": text}]
    if arguments:
        blocks.append({"type": "tool_use", "id": "t", "name": name, "input": json.loads(arguments)})
    why = "max_tokens" if stop == "length" else "tool_use" if arguments else "end_turn"
    return {"type": "message", "role": "assistant", "content": blocks, "stop_reason": why}


def in_responses(text: str | None, arguments: str = "", name: str = "f", stop: str = "") -> Any:
    items: list[Any] = []
    if text is not None:
        content = [{"type": "output_text", "text": text, "annotations": []}]
        items.append({"type": "message", "id": "m", "role": "assistant", "content": content})
    if arguments:
        items.append(
            {
                "type": "function_call",
                "id": "i",
                "call_id": "c",
                "name": name,
                "arguments": arguments,
            }
        )
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    return {"object": "response", "id": "r", "status": "completed", "output": items} | (
        cut if stop == "length" else {}
    )


def in_gemini(text: str | None, arguments: str = "", name: str = "f", stop: str = "") -> Any:
    parts: list[Any] = [] if text is None else [{"text": text}]
    if arguments:
        parts.append({"functionCall": {"name": name, "args": json.loads(arguments)}})
    why = "MAX_TOKENS" if stop == "length" else "STOP"
    return {"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": why}]}


PROTOCOLS = {
    "openai.chat": (
        in_chat,
        {"model": "m", "messages": SAID},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": SCHEMA},
            }
        },
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]},
    ),
    "anthropic.messages": (
        in_messages,
        {"model": "m", "messages": SAID, "max_tokens": 99},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {"tools": [{"name": "f", "input_schema": SCHEMA}]},
    ),
    "openai.responses": (
        in_responses,
        {"model": "m", "input": "hi"},
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}},
        {"tools": [{"type": "function", "name": "f", "parameters": SCHEMA}]},
    ),
    "gemini.generate": (
        in_gemini,
        {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]},
        {
            "generationConfig": {
                "responseMimeType": "application/json",
                "responseJsonSchema": SCHEMA,
            }
        },
        {
            "tools": [
                {
                    "functionDeclarations": [
                        {
                            "name": "f",
                            "parameters": {
                                "type": "OBJECT",
                                "properties": {"city": {"type": "STRING"}},
                                "required": ["city"],
                            },
                        }
                    ]
                }
            ]
        },
    ),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("word", PROTOCOLS)
def test_a_form_that_was_asked_for_is_missed(word: str, streamed: bool) -> None:
    """Text that is no JSON or not by the schema, a tool that was not offered, arguments that are not its own; what was cut has no form."""
    write, plain, formed, tooled = PROTOCOLS[word]

    def missed(asked: dict[str, Any], *said: Any, **more: Any) -> bool:
        answer = write(*said, **more)
        body = streamed_as(word, answer) if streamed else json.dumps(answer).encode()
        return looks_malformed(attempt_of(word, plain | asked, streamed=streamed), body)

    assert not missed(formed, '{"city": "Rome"}')
    assert missed(formed, '{"city": 7}')
    assert missed(formed, "Rome, of course")
    assert not missed({}, "Rome, of course")
    assert not missed(formed, '{"city": "Ro', stop="length")
    assert not missed(tooled, None, '{"city": "Rome"}')
    assert not missed(tooled, "I shall look.", '{"city": "Rome"}')
    assert missed(tooled, None, '{"town": "Rome"}')
    assert missed(tooled, None, '{"city": "Rome"}', name="g")
    assert not missed(tooled, "Rome, of course")


def test_arguments_that_are_no_json_are_seen_where_a_protocol_has_them_as_text() -> None:
    """Without any there is nothing wrong with them, but what the schema demands."""
    write, plain, _, tooled = PROTOCOLS["openai.chat"]
    attempt = attempt_of("openai.chat", plain | tooled)
    assert looks_malformed(attempt, json.dumps(write(None, '{"city": ')).encode())
    loose = attempt_of(
        "openai.chat", plain | {"tools": [{"type": "function", "function": {"name": "f"}}]}
    )
    assert not looks_malformed(loose, json.dumps(write(None, "{}")).encode())


@pytest.mark.parametrize(
    "body", [b"", b"sound", b'{"choices": 7}', b'{"error": {"message": "no"}}', b"{" * 10]
)
def test_what_cannot_be_read_says_nothing(body: bytes) -> None:
    """Another protocol's, a vendor's own way, or an error; nor does a request that nobody here can read."""
    _, plain, formed, _ = PROTOCOLS["openai.chat"]
    assert not looks_malformed(attempt_of("openai.chat", plain | formed), body)
    odd = attempt_of("openai.chat", plain | {"response_format": {"type": "poem"}})
    assert not looks_malformed(odd, json.dumps(in_chat("no")).encode())


def test_a_stream_that_broke_off_or_was_not_kept_says_nothing() -> None:
    """Who judges it is told nothing of a stream that was longer than what is kept."""
    _, plain, formed, _ = PROTOCOLS["openai.chat"]
    attempt = attempt_of("openai.chat", plain | formed, streamed=True)
    told = streamed_as("openai.chat", in_chat("no JSON"))
    assert looks_malformed(attempt, told)
    for events in (b"", told[: len(told) // 3], b"data: {\n\n", b'data: {"error": {}}\n\n'):
        assert not looks_malformed(attempt, events)


def test_long_ones_are_not_looked_at() -> None:
    """It is done on the loop that serves."""
    _, plain, formed, _ = PROTOCOLS["openai.chat"]
    body = json.dumps(in_chat("no" * MOST_BYTES)).encode()
    assert not looks_malformed(attempt_of("openai.chat", plain | formed), body)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_form_that_is_missed_counts_against_the_model(edge: Edge, stream: bool) -> None:
    """Where answers pass and where they are translated, as a whole and in streams; the mock vendors speak of the weather, whatever is asked."""
    rig = await edge(
        models={
            "passed": {"tags": ["chat"], "deployments": [at("mock")]},
            "translated": {"tags": ["chat"], "deployments": [at("messages")]},
        },
        routes={"smart": {"models": ["passed", "translated"], "policy": "cost_quality"}},
    )
    caller = await rig.caller()
    _, _, formed, tooled = PROTOCOLS["openai.chat"]
    for model in ("passed", "translated"):
        for more in ({}, formed, tooled):
            # Of users of their own: nobody asks for the same once more, which would count as well.
            body = chat("smart", user=model, stream=stream, **more)
            await caller.send(request(body, f"x-pin: {model}"))
            assert (await caller.answer()).status == 200
    await rig.at_rest()
    await rig.edge.learner.send(rig.redis)
    lessons = (await read_lessons(rig.redis, {"passed", "translated"})).lessons
    for model in ("passed", "translated"):
        found = lessons[model, ALL]
        assert (found.calls, found.defects) == pytest.approx((3, 1), rel=1e-3)


async def test_a_stream_in_an_experiment_is_judged_whoever_learns(
    edge: Edge,
) -> None:
    """A canary's guard of quality is told of it; where nothing of form is asked, nothing is kept."""
    rig = await edge(
        models={"a": [at("mock")], "b": [at("mock")]},
        experiments={"luna": {"asked": "a", "canary": {"model": "b", "steps": [100]}}},
    )
    _, _, formed, tooled = PROTOCOLS["openai.chat"]
    for more in (formed, tooled, {}):
        await rig.ask(chat("a", stream=True, **more))
    await rig.ask(chat("b", stream=True, **formed))
    assert [entry.defect for entry in await rig.entries()] == [1000, 0, 0, 0]


async def test_only_a_stream_that_will_be_judged_is_kept(
    edge: Edge,
) -> None:
    """A call that asks for no form, and one that nobody scores, lets go of its request when its answer begins."""
    _, _, formed, tooled = PROTOCOLS["openai.chat"]
    rig = await edge(
        models={"m": {"tags": ["chat"], "deployments": [at()]}},
        routes={"smart": {"models": ["m"], "policy": "cost_quality"}, "plain": ["m"]},
        scripted=["v"],
    )
    for name, more, kept in (
        ("smart", formed, True),
        ("smart", tooled, True),
        ("smart", {}, None),
        ("plain", formed, None),
    ):
        body = chat(name, user=str(more), stream=True, **more)
        caller = await rig.caller()
        await caller.send(request(body))
        line = await rig.vendors["v"].line()
        await line.gets()
        await line.says(sse_head(), piece(delta("{")))
        await caller.head()
        assert b'"{"' in await caller.chunk()
        (exchange,) = rig.edge.exchanges
        assert exchange.current is not None
        assert (exchange.current.kept, bool(exchange.body)) == (kept, bool(kept))
        await line.says(piece(delta("", "stop") + DONE) + piece(b""))
        while await caller.chunk():
            pass
        await caller.leave()
        line.closes()


@pytest.mark.parametrize("end", ["cut", "left", "hedged"])
async def test_a_stream_that_was_kept_is_let_go_however_it_ends(edge: Edge, end: str) -> None:
    """By its vendor, by its caller, or because another attempt was quicker."""
    _, _, formed, _ = PROTOCOLS["openai.chat"]
    hedge = {"after_ms": 30, "times": 0, "max_share": 0.5} if end == "hedged" else None
    rig = await edge(
        models={"m": {"tags": ["chat"], "deployments": [at("v", weight=1000), at("w")]}},
        routes={
            "smart": {"models": ["m"], "policy": "cost_quality"}
            | ({"hedge": hedge} if hedge else {})
        },
        scripted=["v", "w"],
    )
    caller = await rig.caller()
    await caller.send(request(chat("smart", stream=True, **formed)))
    line = await rig.vendors["v"].line()
    await line.gets()
    if end == "hedged":
        other = await rig.vendors["w"].line()
        await other.gets()
        # A head alone says nothing: both are kept until one speaks.
        await line.says(sse_head())
        await other.says(sse_head())
        await eventually(lambda: rig.edge.learner.kept == 2)
        await other.says(piece(delta("{}", "stop") + DONE) + piece(b""))
        await caller.head()
        await line.left()
    else:
        await line.says(sse_head(), piece(delta("{")))
        await caller.head()
        assert rig.edge.learner.kept == 1
        if end == "cut":
            line.resets()
        else:
            await caller.leave()
            await line.left()
    await eventually(lambda: rig.edge.learner.kept == 0)


def test_lines_that_pass_are_read_as_lines() -> None:
    """The meter reads them as events; whoever judges them reads the answer that they told."""
    endpoint = next(row for row in ENDPOINTS if row.word == "ollama.chat")
    assert endpoint.grammar is not None
    attempt = cast("Attempt", SimpleNamespace(way=SimpleNamespace(endpoint=endpoint)))
    call = {"function": {"name": "f", "arguments": {"city": "Rome"}}}
    lines = b"".join(
        json.dumps({"model": "m", "message": message} | more).encode() + b"\n"
        for message, more in (
            ({"role": "assistant", "content": "so"}, {"done": False}),
            ({"role": "assistant", "content": "", "tool_calls": [call]}, {"done": False}),
            ({"role": "assistant", "content": ""}, {"done": True, "done_reason": "stop"}),
        )
    )
    told = PASSING.read_stream(attempt, endpoint.grammar.framing.splitter().feed(lines))
    text, called = told.choices[0].parts
    assert (text.text, called.name, json.loads(called.arguments)) == ("so", "f", {"city": "Rome"})


async def test_of_a_stream_for_which_there_is_no_room_nothing_is_learned_of_its_quality(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many are kept at once, and so many bytes read between two sendings; how long their answers are is learned all the same."""
    rig = await edge(
        models={"m": {"tags": ["chat"], "deployments": [at("mock")]}},
        routes={"smart": {"models": ["m"], "policy": "cost_quality"}},
    )
    learner = rig.edge.learner
    _, _, formed, _ = PROTOCOLS["openai.chat"]

    async def learned(user: str) -> tuple[float, float, float]:
        learner.lessons = Lessons()
        assert (await rig.ask(chat("smart", user=user, stream=True, **formed))).status == 200
        await rig.at_rest()
        sums = next(iter(learner.lessons._batch.sums.values()))
        return sums.calls, sums.defects, sums.answers

    with monkeypatch.context() as full:
        full.setattr(learning, "MOST_KEPT", 0)
        assert await learned("a") == (0, 0, 1)
    with monkeypatch.context() as sampled:
        # Not in the sample when it begins, and in it when it ends: lessons were sent meanwhile.
        turns = iter([False, True])
        sampled.setattr(Lessons, "wants", lambda *_: next(turns))
        assert await learned("s") == (0, 0, 1)
    assert await learned("b") == (1, 1, 1)
    monkeypatch.setattr(learning, "ENOUGH_READ", 1)
    await learner.send(rig.redis)
    assert await learned("c") == (1, 1, 1)
    assert await learned("d") == (0, 0, 1)
    await learner.send(rig.redis)
    assert await learned("e") == (1, 1, 1)
    with monkeypatch.context() as many:
        # Enough others that were kept have ended meanwhile.
        keeps = Learner.keeps

        def kept(learner: Learner, attempt: Attempt) -> bool | None:
            learner._read = 0
            found = keeps(learner, attempt)
            learner._read = 1
            return found

        many.setattr(Learner, "keeps", kept)
        assert await learned("f") == (0, 0, 1)
        assert learner._read == 1
    assert learner.kept == 0


@pytest.mark.parametrize("read", [0, learning.ENOUGH_READ])
async def test_in_an_experiment_no_more_is_read_either(edge: Edge, read: int) -> None:
    """What is not read stands as without fault in the ledger, and nothing is learned of its quality."""
    model = {"tags": ["chat"], "deployments": [at("mock")]}
    rig = await edge(
        models={"a": model, "b": model},
        routes={"smart": {"models": ["b"], "policy": "cost_quality"}},
        experiments={"luna": {"asked": "a", "canary": {"model": "smart", "steps": [100]}}},
    )
    _, _, formed, _ = PROTOCOLS["openai.chat"]
    keeps = Learner.keeps

    def kept(learner: Learner, attempt: Attempt) -> bool | None:
        found = keeps(learner, attempt)
        learner._read = read
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Learner, "keeps", kept)
        assert (await rig.ask(chat("a", stream=True, **formed))).status == 200
    [entry] = await rig.entries()
    assert (entry.model, entry.defect) == ("b", 0 if read else 1000)
    (sums,) = rig.edge.learner.lessons._batch.sums.values()
    assert (sums.calls, sums.defects, sums.answers) == ((0, 0, 1) if read else (1, 1, 1))


@pytest.mark.parametrize("end", ["whole", "too long", "cut"])
async def test_only_what_is_read_counts_towards_what_may_be_read(edge: Edge, end: str) -> None:
    """Of a stream that broke off, or that was too long to be kept, nothing is."""
    _, _, formed, _ = PROTOCOLS["openai.chat"]
    rig = await edge(
        models={"m": {"tags": ["chat"], "deployments": [at()]}},
        routes={"smart": {"models": ["m"], "policy": "cost_quality"}},
        scripted=["v"],
    )
    body = chat("smart", stream=True, **formed)
    caller = await rig.caller()
    await caller.send(request(body))
    line = await rig.vendors["v"].line()
    await line.gets()
    await line.says(sse_head(), piece(delta("{}")))
    await caller.head()
    read = 0
    if end == "cut":
        line.resets()
    else:
        told = [delta("{}"), delta("", "stop") + DONE]
        if end == "too long":
            told[0] = delta("x" * MOST_BYTES)
            await line.says(piece(told[0]))
        else:
            read = len(body) + sum(map(len, told))
        await line.says(piece(told[1]) + piece(b""))
        while await caller.chunk():
            pass
    await eventually(lambda: rig.edge.learner.kept == 0)
    assert rig.edge.learner._read == read


@given(st.data())
def test_whatever_a_vendor_streams_judging_it_does_not_fail(data: st.DataObject) -> None:
    """Events that are missing, cut, twice there or out of order."""
    word = data.draw(st.sampled_from([*PROTOCOLS]))
    write, plain, _, tooled = PROTOCOLS[word]
    told = streamed_as(word, write("I look.", '{"city": "Rome"}'))
    events = [*sse.split(told)]
    drawn = data.draw(st.lists(st.sampled_from(events), max_size=2 * len(events)))
    cut = data.draw(st.integers(0, 40))
    attempt = attempt_of(word, plain | tooled, streamed=True)
    looks_malformed(attempt, b"".join(drawn)[cut:] if cut < 20 else b"".join(drawn))
