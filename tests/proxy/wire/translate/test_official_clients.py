"""The official clients' own parsers, on what was translated for them: streamed, whole and failed."""

from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx
import httpx2
import msgspec
import ollama
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai import types as genai_types

from proxy.wire.translate.core import (
    Answer,
    Choice,
    Failure,
    Reasoning,
    Text,
    ToolCall,
    Usage,
)
from proxy.wire.translate.events import Failed, Started, TextDelta, play
from proxy.wire.translate.protocols import PROTOCOLS
from tests.proxy.wire.translate.samples import REPLY

# Ollama says less: neither proofs nor what was cached.
VENDORS = [name for name in PROTOCOLS if name != "ollama.chat"]
ANSWER = Answer(
    (
        Choice(
            (
                Reasoning("hm", "c2ln", maker="anthropic"),
                Text("Let me see: "),
                ToolCall("call_a", "weather", '{"city":"Köln"}'),
                ToolCall("call_b", "time", "{}"),
            ),
            "tool_calls",
        ),
    ),
    "up-1",
    "served",
    Usage(1110, 100, 0, 50, 20),
)
FAILURE = Failure(kind="overloaded", message="busy", status=503)


def translated(vendor: str, caller: str) -> bytes:
    """Stream the answer as the vendor does, read by read into the caller's protocol."""
    theirs = PROTOCOLS[vendor].writer(REPLY).write(list(play(ANSWER)))
    reader, writer = PROTOCOLS[vendor].reader(None), PROTOCOLS[caller].writer(REPLY)
    out = [writer.write(reader.feed(theirs[at : at + 50])) for at in range(0, len(theirs), 50)]
    return b"".join(out) + writer.write(reader.eof())


def whole(vendor: str, caller: str) -> bytes:
    answer = PROTOCOLS[vendor].read_answer(PROTOCOLS[vendor].write_answer(ANSWER, REPLY), None)
    assert isinstance(answer, Answer)
    return PROTOCOLS[caller].write_answer(answer, REPLY)


def broken(caller: str) -> bytes:
    writer = PROTOCOLS[caller].writer(REPLY)
    return writer.write([Started("up", "m"), TextDelta("half"), Failed(FAILURE)])


def served(body: bytes, status: int = 200, headers: Any = ()) -> httpx2.Client:
    """Make an HTTP client to which a server answers `body`."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        kind = "text/event-stream" if body[:1] != b"{" else "application/json"
        return httpx2.Response(
            status, headers=[("content-type", kind), *headers], content=iter([body])
        )

    return httpx2.Client(transport=httpx2.MockTransport(answer))


@pytest.fixture
def openai_client() -> Iterator[Callable[..., openai.OpenAI]]:
    """Make official OpenAI clients, closed at the end."""
    made: list[openai.OpenAI] = []

    def make(body: bytes, status: int = 200, headers: Any = ()) -> openai.OpenAI:
        http = served(body, status, headers)
        made.append(
            openai.OpenAI(api_key="k", base_url="http://x/v1", http_client=http, max_retries=0)
        )
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def anthropic_client() -> Iterator[Callable[..., anthropic.Anthropic]]:
    """Make official Anthropic clients, closed at the end."""
    made: list[anthropic.Anthropic] = []

    def make(body: bytes, status: int = 200, headers: Any = ()) -> anthropic.Anthropic:
        http = served(body, status, headers)
        made.append(
            anthropic.Anthropic(api_key="k", base_url="http://x", http_client=http, max_retries=0)
        )
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def google_client() -> Iterator[Callable[..., genai.Client]]:
    """Make official Google clients, closed at the end."""
    made: list[genai.Client] = []

    def make(body: bytes, status: int = 200, headers: Any = ()) -> genai.Client:
        options = genai_types.HttpOptions(
            base_url="http://x", httpx_client=served(body, status, headers)
        )
        made.append(genai.Client(api_key="k", http_options=options))
        return made[-1]

    yield make
    for client in made:
        client.close()


HI: Any = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("vendor", VENDORS)
def test_openais_client_reads_every_vendors_stream(
    vendor: str, openai_client: Callable[..., openai.OpenAI]
) -> None:
    """Its own accumulator finds text, calls, the finish reason and usage."""
    client = openai_client(translated(vendor, "openai.chat"))
    with client.chat.completions.stream(
        model="m", messages=HI, stream_options={"include_usage": True}
    ) as stream:
        for _ in stream:
            pass
        completion = stream.get_final_completion()
    [choice] = completion.choices
    assert choice.message.content == "Let me see: "
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls
    assert calls is not None
    assert [(call.function.name, call.function.arguments) for call in calls] == [
        ("weather", '{"city":"Köln"}'),
        ("time", "{}"),
    ]
    usage = completion.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (1110, 50)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 100
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == 20


@pytest.mark.parametrize("vendor", VENDORS)
def test_openais_client_reads_every_vendors_answer(
    vendor: str, openai_client: Callable[..., openai.OpenAI]
) -> None:
    """Typed, with what the family adds beside."""
    client = openai_client(whole(vendor, "openai.chat"))
    completion = client.chat.completions.create(model="m", messages=HI)
    message = completion.choices[0].message
    assert message.content == "Let me see: "
    assert message.tool_calls is not None
    assert [call.id for call in message.tool_calls if call.id]
    extra = message.model_extra
    assert extra is not None
    assert extra["reasoning_content"] == "hm"


def test_openais_client_sees_an_error_in_a_stream(
    openai_client: Callable[..., openai.OpenAI],
) -> None:
    """A stream that breaks off raises."""
    client = openai_client(broken("openai.chat"))
    with (
        client.chat.completions.create(model="m", messages=HI, stream=True) as stream,
        pytest.raises(openai.APIError, match="busy"),
    ):
        for _ in stream:
            pass


def test_openais_client_sees_an_error_before_a_stream(
    openai_client: Callable[..., openai.OpenAI],
) -> None:
    """By its status, with the code."""
    failure = Failure(kind="rate_limited", message="slow", status=429, retry_after_us=1_000_000)
    error = PROTOCOLS["openai.chat"].write_error(failure, "r")
    client = openai_client(error.body, error.status, error.headers)
    with pytest.raises(openai.RateLimitError, match="slow") as raised:
        client.chat.completions.create(model="m", messages=HI)
    assert raised.value.code == "rate_limit_exceeded"


@pytest.mark.parametrize("vendor", VENDORS)
def test_anthropics_client_reads_every_vendors_stream(
    vendor: str, anthropic_client: Callable[..., anthropic.Anthropic]
) -> None:
    """Its own accumulator finds blocks, the stop reason and usage."""
    client = anthropic_client(translated(vendor, "anthropic.messages"))
    with client.messages.stream(model="m", messages=HI, max_tokens=9) as stream:
        message = stream.get_final_message()
    kinds = [block.type for block in message.content]
    assert kinds == ["thinking", "text", "tool_use", "tool_use"]
    thinking, text, one, two = message.content
    assert thinking.type == "thinking"
    assert (thinking.thinking, thinking.signature) == ("hm", "c2ln")
    assert text.type == "text"
    assert text.text == "Let me see: "
    assert one.type == two.type == "tool_use"
    assert (one.input, two.input) == ({"city": "Köln"}, {})
    assert message.stop_reason == "tool_use"
    assert message.model == "served"
    usage = message.usage
    assert (usage.input_tokens, usage.output_tokens) == (1010, 50)
    assert usage.cache_read_input_tokens == 100


@pytest.mark.parametrize("vendor", VENDORS)
def test_anthropics_client_reads_every_vendors_answer(
    vendor: str, anthropic_client: Callable[..., anthropic.Anthropic]
) -> None:
    """Typed."""
    client = anthropic_client(whole(vendor, "anthropic.messages"))
    message = client.messages.create(model="m", messages=HI, max_tokens=9)
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert message.usage.cache_read_input_tokens == 100


def test_anthropics_client_sees_an_error_in_a_stream(
    anthropic_client: Callable[..., anthropic.Anthropic],
) -> None:
    """A stream that breaks off raises."""
    client = anthropic_client(broken("anthropic.messages"))
    with (
        client.messages.create(model="m", messages=HI, max_tokens=9, stream=True) as stream,
        pytest.raises(anthropic.APIStatusError, match="busy"),
    ):
        for _ in stream:
            pass


def test_anthropics_client_sees_an_error_before_a_stream(
    anthropic_client: Callable[..., anthropic.Anthropic],
) -> None:
    """By its status, with the type."""
    error = PROTOCOLS["anthropic.messages"].write_error(FAILURE, "r")
    client = anthropic_client(error.body, error.status, error.headers)
    with pytest.raises(anthropic.APIStatusError, match="overloaded_error") as raised:
        client.messages.create(model="m", messages=HI, max_tokens=9)
    assert raised.value.status_code == 529


@pytest.mark.parametrize("vendor", VENDORS)
def test_googles_client_reads_every_vendors_stream(
    vendor: str, google_client: Callable[..., genai.Client]
) -> None:
    """Thoughts, text, whole calls, the finish reason and usage."""
    client = google_client(translated(vendor, "gemini.generate"))
    chunks = list(client.models.generate_content_stream(model="m", contents="hi"))
    parts = [
        part
        for chunk in chunks
        for candidate in chunk.candidates or ()
        if candidate.content
        for part in candidate.content.parts or ()
    ]
    assert "".join(part.text or "" for part in parts if part.thought) == "hm"
    assert "".join(part.text or "" for part in parts if not part.thought) == "Let me see: "
    calls = [part.function_call for part in parts if part.function_call]
    assert [(call.name, call.args) for call in calls] == [
        ("weather", {"city": "Köln"}),
        ("time", {}),
    ]
    last = chunks[-1]
    assert last.candidates is not None
    assert last.candidates[0].finish_reason == "STOP"
    usage = last.usage_metadata
    assert usage is not None
    assert (usage.prompt_token_count, usage.cached_content_token_count) == (1110, 100)
    assert (usage.candidates_token_count, usage.thoughts_token_count) == (30, 20)


@pytest.mark.parametrize("vendor", VENDORS)
def test_googles_client_reads_every_vendors_answer(
    vendor: str, google_client: Callable[..., genai.Client]
) -> None:
    """Typed; and what it would send back says the same as was said."""
    client = google_client(whole(vendor, "gemini.generate"))
    answer = client.models.generate_content(model="m", contents="hi")
    assert answer.function_calls is not None
    assert [call.name for call in answer.function_calls] == ["weather", "time"]
    assert answer.candidates is not None
    content = answer.candidates[0].content
    assert content is not None
    body = {"contents": [content.model_dump(by_alias=True, exclude_none=True, mode="json")]}
    again = PROTOCOLS["gemini.generate"].read_request(msgspec.json.encode(body))
    assert again.turns[0].parts[0] == Reasoning("hm", "c2ln", maker="anthropic")


def test_googles_client_sees_an_error_in_a_stream(
    google_client: Callable[..., genai.Client],
) -> None:
    """A stream that breaks off raises."""
    client = google_client(broken("gemini.generate"))
    with pytest.raises(genai_errors.ServerError, match="busy"):
        list(client.models.generate_content_stream(model="m", contents="hi"))


def test_googles_client_sees_an_error_before_a_stream(
    google_client: Callable[..., genai.Client],
) -> None:
    """By its code, with Google's word."""
    failure = Failure(kind="rate_limited", message="slow", status=429)
    error = PROTOCOLS["gemini.generate"].write_error(failure, "r")
    client = google_client(error.body, error.status, error.headers)
    with pytest.raises(genai_errors.ClientError, match="RESOURCE_EXHAUSTED"):
        client.models.generate_content(model="m", contents="hi")


@pytest.mark.parametrize("vendor", VENDORS)
def test_openais_client_reads_every_vendors_stream_as_a_response(
    vendor: str, openai_client: Callable[..., openai.OpenAI]
) -> None:
    """Its own accumulator, which checks that every event fits to those before it."""
    client = openai_client(translated(vendor, "openai.responses"))
    with client.responses.stream(model="m", input="hi") as stream:
        seen = {event.type for event in stream}
        response = stream.get_final_response()
    assert "response.output_text.delta" in seen
    assert response.output_text == "Let me see: "
    calls = [item for item in response.output if item.type == "function_call"]
    assert [(call.name, call.arguments) for call in calls] == [
        ("weather", '{"city":"Köln"}'),
        ("time", "{}"),
    ]
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (1110, 50)


@pytest.mark.parametrize("vendor", VENDORS)
def test_openais_client_reads_every_vendors_answer_as_a_response(
    vendor: str, openai_client: Callable[..., openai.OpenAI]
) -> None:
    """Typed; and what it would send back says the same as was said."""
    client = openai_client(whole(vendor, "openai.responses"))
    response = client.responses.create(model="m", input="hi")
    assert response.status == "completed"
    sent = [item.model_dump(exclude_none=True, mode="json") for item in response.output]
    body = msgspec.json.encode({"model": "m", "input": sent})
    again = PROTOCOLS["openai.responses"].read_request(body)
    assert again.turns[0].parts[:2] == (
        Reasoning("hm", "c2ln", maker="anthropic"),
        Text("Let me see: "),
    )


def test_openais_client_sees_an_error_in_a_response(
    openai_client: Callable[..., openai.OpenAI],
) -> None:
    """A stream that breaks off raises."""
    client = openai_client(broken("openai.responses"))
    with (
        client.responses.create(model="m", input="hi", stream=True) as stream,
        pytest.raises(openai.APIError, match="busy"),
    ):
        for _ in stream:
            pass


@pytest.fixture
def ollama_client() -> Iterator[Callable[..., ollama.Client]]:
    """Make official Ollama clients, closed at the end."""
    made: list[ollama.Client] = []

    def make(body: bytes, status: int = 200) -> ollama.Client:
        def answer(request: httpx.Request) -> httpx.Response:
            return httpx.Response(status, content=body)

        made.append(ollama.Client(host="http://x", transport=httpx.MockTransport(answer)))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.mark.parametrize("vendor", VENDORS)
def test_ollamas_client_reads_every_vendors_stream(
    vendor: str, ollama_client: Callable[..., ollama.Client]
) -> None:
    """Thinking, text, whole calls, and what was used."""
    client = ollama_client(translated(vendor, "ollama.chat"))
    lines = list(client.chat("m", HI, stream=True))
    assert "".join(line.message.thinking or "" for line in lines) == "hm"
    assert "".join(line.message.content or "" for line in lines) == "Let me see: "
    calls = [call for line in lines for call in line.message.tool_calls or ()]
    assert [(call.function.name, call.function.arguments) for call in calls] == [
        ("weather", {"city": "Köln"}),
        ("time", {}),
    ]
    assert lines[-1].done
    assert (lines[-1].prompt_eval_count, lines[-1].eval_count) == (1110, 50)


@pytest.mark.parametrize("vendor", VENDORS)
def test_ollamas_client_reads_every_vendors_answer(
    vendor: str, ollama_client: Callable[..., ollama.Client]
) -> None:
    """Typed."""
    client = ollama_client(whole(vendor, "ollama.chat"))
    answer = client.chat("m", HI)
    assert answer.message.content == "Let me see: "
    assert answer.done_reason == "stop"


def test_ollamas_client_sees_errors(ollama_client: Callable[..., ollama.Client]) -> None:
    """In a stream and before it."""
    client = ollama_client(broken("ollama.chat"))
    with pytest.raises(ollama.ResponseError, match="busy"):
        list(client.chat("m", HI, stream=True))
    error = PROTOCOLS["ollama.chat"].write_error(FAILURE, "r")
    with pytest.raises(ollama.ResponseError, match="busy") as raised:
        ollama_client(error.body, error.status).chat("m", HI)
    assert raised.value.status_code == 503
