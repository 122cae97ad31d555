"""
Every caller at every provider: what is said is what is read, and what it cost is in the books once.

The callers speak six protocols, the providers three; where both speak the same, bytes pass.
"""

import json
from collections.abc import Callable
from typing import Any

import pytest

from loadtests.mock import words
from tests.proxy.edge_rig import Edge, Rig
from tests.proxy.partners import (
    CHAT,
    COUNT_TOKENS,
    INPUT_NUSD,
    MESSAGES,
    OUTPUT_NUSD,
    PROMPT,
    VENDOR_KEY,
    Line,
    answer_head,
    at,
    chat,
    event,
    message,
    named,
    once,
    piece,
    request,
    sse_head,
    whole,
)
from tests.proxy.stories import booked, caller_gets, caller_sends, tell, vendor_gets, vendor_says
from tests.proxy.test_bedrock import STREAM_HEAD, bedrock, told
from tests.proxy.test_bedrock import text as frame

LINES_HEAD = answer_head(b"content-type: application/x-ndjson", b"transfer-encoding: chunked")
SAID = words.say(3)
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]}
GEMINI = "/v1beta/models/m:generateContent"
GEMINI_STREAM = "/v1beta/models/m:streamGenerateContent"


def gemini_chunk(text: str, *, end: bool = False) -> dict[str, Any]:
    """Write a chunk of Gemini's; usage is cumulative."""
    candidate: dict[str, Any] = {
        "content": {"role": "model", "parts": [{"text": text}]},
        "index": 0,
    }
    if end:
        candidate["finishReason"] = "STOP"
    used = {"promptTokenCount": 7, "candidatesTokenCount": 3 if end else 1, "totalTokenCount": 10}
    return {"candidates": [candidate], "usageMetadata": used, "modelVersion": "gemini-x"}


GEMINI_ANSWER = json.dumps(gemini_chunk(SAID, end=True)).encode()


async def google(line: Line) -> None:
    """Answer as Google does, for as long as the connection stands."""
    while True:
        asked = await line.gets()
        if asked.line.split()[1].endswith(":streamGenerateContent?alt=sse"):
            parts = [words.token(0), words.token(1)]
            chunks = [event(gemini_chunk(part)) for part in parts]
            chunks.append(event(gemini_chunk(SAID.removeprefix("".join(parts)), end=True)))
            await line.says(sse_head(), *map(piece, chunks), piece(b""))
        else:
            await line.says(whole(GEMINI_ANSWER))


async def amazon(line: Line) -> None:
    """Answer as Bedrock does, for as long as the connection stands."""
    used = {"inputTokens": 4, "cacheReadInputTokens": 3, "outputTokens": 3, "totalTokens": 10}
    while True:
        asked = await line.gets()
        if asked.line.split()[1].endswith("/converse-stream"):
            parts = [words.token(0), words.token(1)]
            parts.append(SAID.removeprefix("".join(parts)))
            frames = [told("messageStart", role="assistant"), *map(frame, parts)]
            frames.append(told("contentBlockStop", contentBlockIndex=0))
            frames.append(told("messageStop", stopReason="end_turn"))
            frames.append(told("metadata", usage=used, metrics={}))
            await line.says(STREAM_HEAD, *map(piece, frames), piece(b""))
        else:
            message = {"role": "assistant", "content": [{"text": SAID}]}
            answer = {"output": {"message": message}, "stopReason": "end_turn", "usage": used}
            await line.says(whole(json.dumps(answer).encode()))


def llama_line(text: str, *, end: bool = False) -> bytes:
    """Write a line of Ollama's; the last says what was used."""
    said = {"model": "llama", "created_at": "2026-01-01T00:00:00Z", "done": end}
    used = {"done_reason": "stop", "prompt_eval_count": 7, "eval_count": 3} if end else {}
    return json.dumps(said | {"message": {"role": "assistant", "content": text}} | used).encode()


async def llama(line: Line) -> None:
    """Answer as Ollama does, for as long as the connection stands."""
    while True:
        asked = await line.gets()
        path, body = asked.line.split()[1], asked.json
        if path == "/api/generate":
            said = {"model": "llama", "response": SAID, "done": True}
            used = {"prompt_eval_count": 7, "eval_count": 3}
            end = json.dumps(said | used).encode()
        else:
            assert path == "/api/chat"
            end = llama_line(SAID, end=True)
        if body.get("stream", True):
            await line.says(LINES_HEAD, piece(end + b"\n"), piece(b""))
        else:
            await line.says(whole(end))


def documents(body: bytes) -> list[Any]:
    """Read the JSON of a stream: of events, of lines, or of one array."""
    if body.startswith(b"["):
        return list(json.loads(body))
    lines = [line.removeprefix("data: ") for line in body.decode().splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


def chat_text(body: bytes, *, stream: bool) -> str:
    if not stream:
        return str(json.loads(body)["choices"][0]["message"]["content"])
    assert body.endswith(b"data: [DONE]\n\n")
    return "".join(
        choice["delta"].get("content") or ""
        for chunk in documents(body)
        for choice in chunk["choices"]
    )


def completions_text(body: bytes, *, stream: bool) -> str:
    assert not stream or body.endswith(b"data: [DONE]\n\n")
    chunks = documents(body) if stream else [json.loads(body)]
    return "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])


def responses_text(body: bytes, *, stream: bool) -> str:
    document = documents(body)[-1]["response"] if stream else json.loads(body)
    assert document["status"] == "completed"
    return str(document["output"][-1]["content"][0]["text"])


def messages_text(body: bytes, *, stream: bool) -> str:
    if not stream:
        return str(json.loads(body)["content"][0]["text"])
    events = documents(body)
    assert events[-1]["type"] == "message_stop"
    deltas = [one["delta"] for one in events if one["type"] == "content_block_delta"]
    return "".join(delta["text"] for delta in deltas)


def gemini_text(body: bytes, *, stream: bool) -> str:
    chunks = documents(body) if stream else [json.loads(body)]
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"
    parts = [part for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"]]
    return "".join(part["text"] for part in parts)


def ollama_text(body: bytes, *, stream: bool) -> str:
    lines = documents(body)
    assert lines[-1]["done"]
    assert stream or len(lines) == 1
    return "".join(
        line["message"]["content"] if "message" in line else line["response"] for line in lines
    )


Ask = Callable[[bool], tuple[str, dict[str, Any]]]
CALLERS: dict[str, tuple[str, Ask, Callable[..., str]]] = {
    "openai.chat": (
        "text/event-stream",
        lambda stream: (CHAT, json.loads(chat("m", stream=stream))),
        chat_text,
    ),
    "openai.completions": (
        "text/event-stream",
        lambda stream: ("/v1/completions", {"model": "m", "prompt": PROMPT, "stream": stream}),
        completions_text,
    ),
    "openai.responses": (
        "text/event-stream",
        lambda stream: ("/v1/responses", {"model": "m", "input": PROMPT, "stream": stream}),
        responses_text,
    ),
    "anthropic.messages": (
        "text/event-stream",
        lambda stream: (MESSAGES, json.loads(message("m", stream=stream))),
        messages_text,
    ),
    "gemini": (
        "text/event-stream",
        lambda stream: (f"{GEMINI_STREAM}?alt=sse" if stream else GEMINI, CONTENTS),
        gemini_text,
    ),
    "gemini.array": (
        "application/json",
        lambda stream: (GEMINI_STREAM if stream else GEMINI, CONTENTS),
        gemini_text,
    ),
    "ollama.chat": (
        "application/x-ndjson",
        lambda stream: ("/api/chat", json.loads(chat("m")) | {"stream": stream}),
        ollama_text,
    ),
    "ollama.generate": (
        "application/x-ndjson",
        lambda stream: ("/api/generate", {"model": "m", "prompt": PROMPT, "stream": stream}),
        ollama_text,
    ),
}


VENDORS = {"gemini": google, "ollama": llama}


async def provided_by(edge: Edge, provider: str, **said: Any) -> Rig:
    """Start an edge whose model `m` a provider of this protocol serves."""
    if provider == "bedrock":
        rig = await bedrock(edge, amazon)
    elif provider == "responses":
        place = at("mock", "sim;tokens=3;prompt=7") | {"responses_only": True}
        rig = await edge(models={"m": [place]}, **said)
    elif provider not in VENDORS:
        place = at("mock" if provider == "openai" else "messages", "sim;tokens=3;prompt=7")
        rig = await edge(models={"m": [place]}, **said)
    else:
        rig = await edge(
            models={"m": [at("v", "gemini-x")]},
            scripted=["v"],
            provider={"protocol": provider},
            providers={"mock": {"base_url": "http://127.0.0.1:9"}},
            **said,
        )
        rig.vendors["v"].habit = VENDORS[provider]
    return rig


@pytest.mark.parametrize(
    "provider", ["openai", "responses", "anthropic", "gemini", "ollama", "bedrock"]
)
async def test_what_is_said_is_what_is_read(edge: Edge, provider: str) -> None:
    """Whole and as a stream, in every protocol that callers speak; charged by what the provider counts."""
    rig = await provided_by(edge, provider)
    for word, (stream_type, ask, text_of) in CALLERS.items():
        for stream in (False, True):
            path, document = ask(stream)
            answer = await rig.ask(json.dumps(document).encode(), path=path)
            assert (answer.status, answer.complete) == (200, True), (word, answer.body)
            assert text_of(answer.body, stream=stream) == SAID, (word, stream)
            told = answer.header("content-type") or ""
            assert told.startswith(stream_type if stream else "application/json"), word
    entries = await rig.entries()
    assert len(entries) == 2 * len(CALLERS)
    for entry in entries:
        assert (entry.outcome, entry.input_tokens, entry.output_tokens) == ("ok", 7, 3)
        assert entry.cost_nusd == 7 * INPUT_NUSD + 3 * OUTPUT_NUSD
    assert rig.mock.books()["complaints"] == []


ERRORS: dict[str, Callable[[Any], str]] = {
    "openai.chat": lambda body: body["error"]["message"],
    "openai.completions": lambda body: body["error"]["message"],
    "openai.responses": lambda body: body["error"]["message"],
    "anthropic.messages": lambda body: body["error"]["message"],
    "gemini": lambda body: body["error"]["message"] if body["error"]["status"] else "",
    "gemini.array": lambda body: body["error"]["message"],
    "ollama.chat": lambda body: body["error"],
    "ollama.generate": lambda body: body["error"],
}


@pytest.mark.parametrize("word", CALLERS)
async def test_every_error_is_said_in_the_callers_words(edge: Edge, word: str) -> None:
    """No key, no model, no JSON, no provider: the envelope is the protocol's own."""
    rig = await edge(models={"m": ["sim;status=500"]})
    path, document = CALLERS[word][1](False)
    body = json.dumps(document).encode()
    unknown = json.dumps(document | {"model": "x"}).encode()
    for status, answer in (
        (401, await rig.ask(body, path=path, key=None)),
        (401, await rig.ask(body, path=path, key="sk-nobody")),
        (404, await rig.ask(unknown, path=path.replace("/m:", "/x:"))),
        (400, await rig.ask(b"{", path=path)),
        (500, await rig.ask(body, path=path)),
    ):
        assert answer.status == status
        assert ERRORS[word](answer.json)


# Gemini on both sides...


async def gemini_edge(edge: Edge, **said: Any) -> Rig:
    """Start an edge whose one scripted vendor speaks Gemini."""
    return await edge(
        models={"m": [at("v", "gemini-x")]}, scripted=["v"], provider={"protocol": "gemini"}, **said
    )


async def test_gemini_passes_byte_for_byte(edge: Edge) -> None:
    """The model's name is the URL's, and becomes the deployment's there; the body stays as it is."""
    rig = await gemini_edge(edge)
    body = b'{ "contents" : [{"parts":[{"text":"\\u00e9"}]}],"x":1.50 }'
    stage = await (
        tell(rig)
        >> caller_sends(request(body, path="/v1/models/m:generateContent"))
        << vendor_gets()
        >> vendor_says(whole(GEMINI_ANSWER))
        << caller_gets(200, body=GEMINI_ANSWER)
        << booked({"protocol": "gemini.generate", "input_tokens": 7, "output_tokens": 3})
    )
    asked = stage.asked
    assert asked is not None
    assert asked.line == "POST /v1beta/models/gemini-x:generateContent HTTP/1.1"
    assert asked.body == body
    assert asked.header("x-goog-api-key") == VENDOR_KEY


async def test_a_strict_budget_writes_its_cap_into_the_generation_config(edge: Edge) -> None:
    """What is left buys fewer tokens than were asked for."""
    rig = await gemini_edge(edge, team={"budget": {"usd": 0.002, "per": "day", "mode": "strict"}})
    stage = await (
        tell(rig)
        >> caller_sends(request(json.dumps(CONTENTS).encode(), path=GEMINI))
        << vendor_gets()
        >> vendor_says(whole(GEMINI_ANSWER))
        << caller_gets(200)
    )
    assert stage.asked is not None
    assert 0 < stage.asked.json["generationConfig"]["maxOutputTokens"] <= 1000


@pytest.mark.parametrize("size", [1, 50, 10_000])
async def test_an_array_has_the_very_elements_that_came_as_events(edge: Edge, size: int) -> None:
    """With all that no other protocol has a word for, wherever reads end."""
    rig = await gemini_edge(edge)
    chunks = [gemini_chunk("One"), gemini_chunk("two", end=True)]
    chunks[0]["candidates"][0]["citationMetadata"] = {"citationSources": [{"uri": "u"}]}
    stream = b"".join(event(chunk).replace(b"\n\n", b"\r\n\r\n") for chunk in chunks)

    async def answers(line: Line) -> None:
        while True:
            asked = await line.gets()
            assert asked.line.split()[1].endswith(":streamGenerateContent?alt=sse")
            pieces = [piece(stream[at : at + size]) for at in range(0, len(stream), size)]
            await line.says(sse_head(), *pieces, piece(b""))

    rig.vendors["v"].habit = answers
    body = json.dumps(CONTENTS | {"newMember": 1}).encode()
    answer = await rig.ask(body, path=GEMINI_STREAM)
    assert answer.complete
    assert answer.json == chunks
    assert answer.header("content-type") == "application/json"
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.input_tokens, entry.output_tokens) == ("ok", 7, 3)


async def test_an_array_of_an_answer_that_came_as_a_whole_has_one_element(edge: Edge) -> None:
    """Some servers do not stream what they were asked to stream; an error of theirs passes as it is."""
    rig = await gemini_edge(edge)
    answers = [whole(GEMINI_ANSWER), whole(b'{"error":{"code":400}}', status=b"400 Bad Request")]

    async def says(line: Line) -> None:
        while answers:
            await line.gets()
            await line.says(answers.pop(0))

    rig.vendors["v"].habit = says
    body = json.dumps(CONTENTS).encode()
    assert (await rig.ask(body, path=GEMINI_STREAM)).json == [json.loads(GEMINI_ANSWER)]
    refused = await rig.ask(body, path=GEMINI_STREAM)
    assert (refused.status, refused.json) == (400, {"error": {"code": 400}})


async def test_a_cut_stream_of_geminis_ends_in_an_error(edge: Edge) -> None:
    """As an event or as the last element of the array; never as if it were complete."""
    rig = await gemini_edge(edge)

    async def cut(line: Line) -> None:
        await line.gets()
        await line.says(sse_head(), piece(event(gemini_chunk("One"))))

    rig.vendors["v"].habit = cut
    for path in (f"{GEMINI_STREAM}?alt=sse", GEMINI_STREAM):
        answer = await rig.ask(json.dumps(CONTENTS).encode(), path=path)
        assert answer.complete
        chunks = documents(answer.body)
        assert chunks[0]["candidates"][0]["content"]["parts"][0]["text"] == "One"
        assert chunks[-1]["error"]["code"] == 502
    assert await rig.outcomes() == ["upstream_lost"] * 2


async def test_a_name_in_the_url_is_judged_as_one_in_a_body(edge: Edge) -> None:
    """It may hold slashes, and nothing that is no name."""
    rig = await edge(models={"org/m": ["sim;tokens=3;prompt=7"]})
    body = json.dumps(CONTENTS).encode()
    for name in ("org/m", "org%2Fm"):
        answer = await rig.ask(body, path=f"/v1beta/models/{name}:generateContent")
        assert answer.status == 200
    for name, status in (("x" * 300, 400), ("a%00b", 400), ("org", 404)):
        answer = await rig.ask(body, path=f"/v1beta/models/{name}:generateContent")
        assert answer.status == status
    assert (await rig.ask(body, path="/v1beta/models/m:frobnicate")).status == 404


async def test_a_key_may_stand_in_the_query(edge: Edge) -> None:
    """As Google's clients of old send it; it goes no further, and nobody writes it down."""
    rig = await gemini_edge(edge)
    rig.vendors["v"].habit = google
    body = json.dumps(CONTENTS).encode()
    key = rig.caller_key
    assert (await rig.ask(body, path=f"{GEMINI}?key={key}", key=None)).status == 200
    assert (await rig.ask(body, f"x-goog-api-key: {key}", path=GEMINI, key=None)).status == 200
    refused = await rig.ask(chat(), path=f"{CHAT}?key={key}", key=None)
    assert (refused.status, refused.error["code"]) == (401, "missing_api_key")


async def test_counting_is_admitted_and_costs_nothing(edge: Edge) -> None:
    """At a provider that can count."""
    rig = await gemini_edge(edge)
    counted = b'{"totalTokens":31}'
    await (
        tell(rig)
        >> caller_sends(request(json.dumps(CONTENTS).encode(), path="/v1beta/models/m:countTokens"))
        << vendor_gets()
        >> vendor_says(whole(counted))
        << caller_gets(200, body=counted)
        << booked({"protocol": "gemini.count_tokens", "cost_nusd": 0, "outcome": "ok"})
    )


async def test_what_the_beginning_of_a_stream_loses_is_declared(edge: Edge) -> None:
    """As of a whole answer, as long as the head is not sent; the words go on."""
    rig = await gemini_edge(edge)
    chunks = [gemini_chunk("One"), gemini_chunk(" two", end=True)]
    chunks[0]["candidates"][0]["citationMetadata"] = {"citationSources": [{"uri": "u"}]}

    async def cites(line: Line) -> None:
        while True:
            asked = await line.gets()
            if "stream" in asked.line:
                await line.says(sse_head(), *(piece(event(one)) for one in chunks), piece(b""))
            else:
                await line.says(whole(json.dumps(chunks[0] | {"x": 1}).encode()))

    rig.vendors["v"].habit = cites
    for stream in (False, True):
        answer = await rig.ask(message("m", stream=stream), path=MESSAGES)
        assert answer.status == 200
        assert "citationMetadata" in (answer.header("x-penstock-dropped") or "")
    assert messages_text(answer.body, stream=True) == "One two"


COUNTS = {
    COUNT_TOKENS: (message("m", max_tokens=None), "input_tokens"),
    "/v1beta/models/m:countTokens": (json.dumps(CONTENTS).encode(), "totalTokens"),
}


@pytest.mark.parametrize("path", COUNTS)
async def test_a_count_is_asked_of_the_vendor_that_can_count(edge: Edge, path: str) -> None:
    """In its own protocol, for callers of the other one."""
    rig = await gemini_edge(edge)

    async def counts(line: Line) -> None:
        while True:
            asked = await line.gets()
            assert asked.line.split()[1] == "/v1beta/models/gemini-x:countTokens"
            await line.says(whole(b'{"totalTokens":31}'))

    rig.vendors["v"].habit = counts
    body, member = COUNTS[path]
    answer = await rig.ask(body, path=path)
    assert answer.json == {member: 31}
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.cost_nusd, entry.input_tokens) == ("ok", 0, 0)


@pytest.mark.parametrize("path", COUNTS)
async def test_a_count_that_nobody_can_give_is_estimated_and_says_so(edge: Edge, path: str) -> None:
    """By what admission would reckon; nobody is asked, and nothing is booked."""
    rig = await edge(models={"m": ["sim"]})
    body, member = COUNTS[path]
    answer = await rig.ask(body, path=path)
    assert answer.status == 200
    assert answer.header("x-penstock-estimated") == "true"
    assert 5 <= answer.json[member] <= 30
    assert await rig.entries() == []
    assert rig.mock.requests() == []
    for wrong in (b"{", b'{"model":"m","messages":[]}', b'{"generateContentRequest":3}'):
        refused = await rig.ask(wrong, path=path)
        assert refused.status == 400
        assert refused.json["error"]["message"]
    assert (await rig.ask(body, path=path, key="sk-nobody")).status == 401


# What vendors of one protocol have and have not...


@pytest.mark.parametrize("status", [b"404 Not Found", b"405 Method Not Allowed"])
async def test_a_vendor_without_responses_is_left_for_another(edge: Edge, status: bytes) -> None:
    """Its 404 there is no mark against its chat completions."""
    rig = await edge(
        models={"m": [at("v", "a")], "n": ["sim;tokens=3;prompt=7"]},
        routes={"auto": ["m", "n"]},
        scripted=["v"],
    )

    async def lacks(line: Line) -> None:
        while True:
            await line.gets()
            await line.says(whole(b'{"detail":"Not Found"}', status=status))

    rig.vendors["v"].habit = lacks
    asked = json.dumps({"model": "auto", "input": PROMPT}).encode()
    answer = await rig.ask(asked, path="/v1/responses")
    assert responses_text(answer.body, stream=False) == SAID
    assert await rig.outcomes() == ["upstream_refused", "ok"]
    assert (await rig.ask(chat("m"))).status == 502
    assert await rig.outcomes() == ["upstream_refused", "ok", "upstream_refused"]
    states = [state for key, state in (await rig.scopes()).items() if key.endswith("d:m/v")]
    # One of the two: what chat completions answer is what counts.
    assert [state.failures for state in states] == [1]


async def test_a_server_that_nobody_knows_is_asked_for_what_it_has(edge: Edge) -> None:
    """Once it has said that it has no Responses, chat completions stand in for them; a client's own retry is enough."""
    rig = await edge(models={"m": [at("v", "x")]}, scripted=["v"])
    asked: list[str] = []
    said = {"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": SAID}}]}
    said["choices"][0]["finish_reason"] = "stop"  # type: ignore[index]
    answer_of_chat = json.dumps(said | {"usage": {"prompt_tokens": 7, "completion_tokens": 3}})

    async def has_chat(line: Line) -> None:
        while True:
            asked.append((await line.gets()).line.split()[1])
            if asked[-1] == "/v1/chat/completions":
                await line.says(whole(answer_of_chat.encode()))
            else:
                await line.says(whole(b'{"detail":"Not Found"}', status=b"404 Not Found"))

    rig.vendors["v"].habit = has_chat
    body = json.dumps({"model": "m", "input": PROMPT}).encode()
    first = await rig.ask(body, path="/v1/responses")
    assert first.status == 502
    for _ in range(2):
        answer = await rig.ask(body, path="/v1/responses")
        assert responses_text(answer.body, stream=False) == SAID
    assert asked == ["/v1/responses", *["/v1/chat/completions"] * 2]


async def test_azures_annotations_pass_and_are_understood(edge: Edge) -> None:
    """A chunk without choices before the first word, one without a delta within: passed as they came, or read past."""
    chunks = [
        {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
        {"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "One"}}]},
        {"id": "", "choices": [{"index": 0, "content_filter_offsets": {"check_offset": 1}}]},
        {"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"id": "x", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}},
    ]
    stream = b"".join(map(event, [*chunks, "[DONE]"]))

    async def azure(line: Line) -> None:
        while True:
            await line.gets()
            await line.says(sse_head(), piece(stream), piece(b""))

    rig = await edge(
        models={"m": [at("v", "d")]},
        scripted=["v"],
        provider={"dialect": "azure", "api_version": "2024-10-21"},
        providers={"messages": "http://127.0.0.1:9"},
    )
    rig.vendors["v"].habit = azure
    passed = await rig.ask(chat("m", stream=True, stream_options={"include_usage": True}))
    assert passed.body == stream
    read = await rig.ask(message("m", stream=True), path=MESSAGES)
    assert messages_text(read.body, stream=True) == "One"
    entries = await rig.entries()
    assert [(one.outcome, one.input_tokens, one.output_tokens) for one in entries] == [
        ("ok", 7, 3)
    ] * 2


# Ollama on both sides...


async def ollama_edge(edge: Edge, **said: Any) -> Rig:
    """Start an edge whose one scripted vendor speaks Ollama."""
    return await edge(
        models={"m": [at("v", "llama3:8b")]},
        scripted=["v"],
        provider={"protocol": "ollama"},
        **said,
    )


STREAMED = [llama_line("Hello "), llama_line("world", end=True)]


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_ollama_passes_line_by_line(edge: Edge, size: int) -> None:
    """Bytes as they come, with all that no other protocol has a word for; but for the model's name."""
    rig = await ollama_edge(edge)
    stream = b"".join(one + b"\n" for one in STREAMED)
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"options":{"num_ctx":9},"keep_alive":1}'
    pieces = [piece(stream[at : at + size]) for at in range(0, len(stream), size)]
    stage = await (
        tell(rig)
        >> caller_sends(request(body, path="/api/chat"))
        << vendor_gets()
        >> vendor_says(LINES_HEAD, *pieces, piece(b""))
        << caller_gets(200, body=stream)
        << booked({"protocol": "ollama.chat", "input_tokens": 7, "output_tokens": 3})
    )
    asked = stage.asked
    assert asked is not None
    assert asked.line == "POST /api/chat HTTP/1.1"
    assert asked.body == body.replace(b'"model":"m"', b'"model":"llama3:8b"')
    assert asked.header("authorization") == f"Bearer {VENDOR_KEY}"


async def test_a_last_line_without_an_end_is_whole(edge: Edge) -> None:
    """Some servers forget the last line's end."""
    rig = await ollama_edge(edge)
    await (
        tell(rig)
        >> caller_sends(request(json.dumps(json.loads(chat("m"))).encode(), path="/api/chat"))
        << vendor_gets()
        >> vendor_says(LINES_HEAD, piece(b"\n".join(STREAMED)), piece(b""))
        << caller_gets(200, body=b"".join(one + b"\n" for one in STREAMED))
        << booked({"outcome": "ok", "output_tokens": 3})
    )


async def test_lines_that_are_cut_end_with_an_error(edge: Edge) -> None:
    """Which the official client raises; what was said is charged."""
    rig = await ollama_edge(edge)

    async def cut(line: Line) -> None:
        await line.gets()
        await line.says(LINES_HEAD, piece(STREAMED[0] + b"\n" + STREAMED[1][:30]))
        line.closes()

    rig.vendors["v"].habit = cut
    answer = await rig.ask(chat("m"), path="/api/chat")
    first, last = answer.body.splitlines()
    assert first == STREAMED[0]
    assert set(json.loads(last)) == {"error"}
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.token_source) == ("upstream_lost", "estimated")
    assert entry.output_tokens > 0


async def test_a_strict_budget_writes_its_cap_into_the_options(edge: Edge) -> None:
    """Where the caller says none, or says that there is none."""
    rig = await ollama_edge(edge, team={"budget": {"usd": 0.002, "per": "day", "mode": "strict"}})
    asked = json.loads(chat("m")) | {"options": {"num_predict": -1, "seed": 1}, "stream": False}
    stage = await (
        tell(rig)
        >> caller_sends(request(json.dumps(asked).encode(), path="/api/chat"))
        << vendor_gets()
        >> vendor_says(whole(STREAMED[1]))
        << caller_gets(200)
    )
    assert stage.asked is not None
    options = stage.asked.json["options"]
    assert 0 < options.pop("num_predict") <= 1000
    assert options == {"seed": 1}


async def test_vectors_of_ollama(edge: Edge) -> None:
    """Asked as it is, and by OpenAI's clients, who want them in base64."""
    rig = await ollama_edge(edge)
    answer = {"model": "llama3:8b", "embeddings": [[0.5, 0.25]], "prompt_eval_count": 4}

    async def vectors(line: Line) -> None:
        while True:
            asked = await line.gets()
            assert asked.line.split()[1] == "/api/embed"
            assert asked.json["model"] == "llama3:8b"
            await line.says(whole(json.dumps(answer).encode()))

    rig.vendors["v"].habit = vectors
    body = {"model": "m", "input": ["x"]}
    same = await rig.ask(json.dumps(body).encode(), path="/api/embed")
    assert same.json == answer
    other = await rig.ask(json.dumps(body).encode(), path="/v1/embeddings")
    assert other.json["data"][0]["embedding"] == [0.5, 0.25]
    assert [entry.input_tokens for entry in await rig.entries()] == [4, 4]


# Cut anywhere...

RESPONDED = [
    named("response.created", response={"id": "r", "status": "in_progress", "error": None}),
    named("response.output_text.delta", delta="One"),
    named(
        "response.completed",
        response={"id": "r", "usage": {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}},
    ),
]
GENERATED = [event(gemini_chunk("One")), event(gemini_chunk(" two", end=True))]
WRITTEN = [one + b"\n" for one in STREAMED]
CONTENT = json.dumps(CONTENTS).encode()


@pytest.mark.parametrize(
    ("protocol", "path", "body", "events"),
    [
        ("openai", "/v1/responses", b'{"model":"m","input":"x","stream":true}', RESPONDED),
        ("gemini", f"{GEMINI_STREAM}?alt=sse", CONTENT, GENERATED),
        ("gemini", GEMINI_STREAM, CONTENT, GENERATED),
        ("ollama", "/api/chat", chat("m"), WRITTEN),
    ],
    ids=["responses", "gemini", "gemini's array", "ollama"],
)
async def test_a_passed_stream_cut_at_any_byte_ends_in_a_typed_error(
    edge: Edge, protocol: str, path: str, body: bytes, events: list[bytes]
) -> None:
    """Whole events, then an error as that protocol says one, never as if it were complete, charged once; before them a 502."""
    rig = await edge(models={"m": [at()]}, scripted=["v"], provider={"protocol": protocol})
    head = LINES_HEAD if protocol == "ollama" else sse_head()
    wire = b"".join([head, *map(piece, events), piece(b"")])
    said = documents(b"".join(events))
    asked = 0
    for length in range(len(wire)):
        rig.vendors["v"].habit = once(wire[:length])
        answer = await rig.ask(body, path=path)
        asked += 1
        assert answer.complete, length
        if answer.status != 200:
            assert answer.status == 502
            assert set(answer.json) == {"error"}
            assert events[0] not in wire[:length]
            continue
        told = documents(answer.body)
        if told == said:
            assert events[-1].rstrip() in wire[:length]
            continue
        *before, last = told
        assert before == said[: len(before)]
        assert last["error"]
        assert "cut off" in json.dumps(last)
    entries = await rig.entries()
    assert len(entries) == len({entry.request_id for entry in entries}) == asked
    # Nothing but the frame's end tells that Gemini has said all.
    whole_ones = set() if protocol == "gemini" else {"ok"}
    assert {entry.outcome for entry in entries} == whole_ones | {"upstream_lost"}
    for entry in entries:
        assert (
            entry.cost_nusd == entry.input_tokens * INPUT_NUSD + entry.output_tokens * OUTPUT_NUSD
        )
        assert entry.output_tokens <= 3
