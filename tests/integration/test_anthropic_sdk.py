"""
The official anthropic client, sync and async, against an edge as it runs and a vendor that speaks Anthropic's protocol.

The processes and the books are those of `test_sdk.py`; here the client, the provider and the path between them speak Messages.
"""

import asyncio
import time
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import anthropic
import pytest

from loadtests.mock import words
from tests.integration.processes import CLAUDES, HELLO, KEY, MODELS, Books, Gateway

Call = Callable[..., Any]
CREATE = "messages.create"
TOOLS = [{"name": "get_weather", "input_schema": {"type": "object", "properties": {}}}]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, gateway: Gateway) -> Call:
    """Give a way to call a method of the client, by its dotted name; a stream is read to its end."""

    def options(said: dict[str, Any]) -> dict[str, Any]:
        return {"base_url": gateway.url, "api_key": KEY, "max_retries": 0} | said

    def in_sync(name: str, client: dict[str, Any] | None = None, **said: Any) -> Any:
        with anthropic.Anthropic(**options(client or {})) as theirs:
            answer = attrgetter(name)(theirs)(**said)
            return list(answer) if said.get("stream") else answer

    def in_async(name: str, client: dict[str, Any] | None = None, **said: Any) -> Any:
        async def ask() -> Any:
            async with anthropic.AsyncAnthropic(**options(client or {})) as theirs:
                answer = await attrgetter(name)(theirs)(**said)
                return [event async for event in answer] if said.get("stream") else answer

        return asyncio.run(ask())

    return in_sync if request.param == "sync" else in_async


def said(**more: Any) -> dict[str, Any]:
    return {"model": "claude", "max_tokens": 100, "messages": [HELLO]} | more


def test_a_message(call: Call, books: Books) -> None:
    """The usage that the client sees is what is booked, the cache as a part of the input."""
    answer = call(CREATE, **said(metadata={"user_id": "somebody"}))
    assert answer.content[0].text == words.say(24)
    assert answer.stop_reason == "end_turn"
    (entry,) = books.agree(1)
    usage = answer.usage
    assert entry.input_tokens == usage.input_tokens + 3 + 5
    assert (entry.cached_tokens, entry.cache_write_tokens) == (3, 5)
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (3, 5)
    assert (usage.output_tokens, entry.output_tokens, entry.reasoning_tokens) == (26, 26, 2)
    assert (entry.user, entry.protocol, entry.outcome) == ("somebody", "anthropic.messages", "ok")
    assert (answer._request_id or "").startswith("req_")


def test_a_stream(call: Call, books: Books) -> None:
    """Every event of the vendor's is the client's."""
    events = call(CREATE, **said(stream=True))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-1] == "message_stop"
    assert kinds.count("content_block_delta") == 24
    (entry,) = books.agree(1)
    assert (entry.stream, entry.output_tokens, entry.token_source) == (1, 26, "provider")


def test_the_helper_that_puts_a_stream_together(gateway: Gateway, books: Books) -> None:
    """Text as it comes, and the whole message at the end."""
    with (
        anthropic.Anthropic(base_url=gateway.url, api_key=KEY) as client,
        client.messages.stream(**said(model="claude-paced")) as stream,
    ):
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == final.content[0].text == words.say(30)
    assert final.usage.output_tokens == 30
    books.agree(1)


def test_tools(call: Call, books: Books) -> None:
    """The pieces of the arguments make a whole."""
    whole = call(CREATE, **said(model="claude-tools", tools=TOOLS))
    assert (whole.stop_reason, whole.content[0].input["days"]) == ("tool_use", 3)
    events = call(CREATE, **said(model="claude-tools", tools=TOOLS, stream=True))
    pieces = [event.delta.partial_json for event in events if event.type == "content_block_delta"]
    assert '"city":"Reykjavik"' in "".join(pieces)
    books.agree(2)


def test_the_beta_door(call: Call, books: Books) -> None:
    """With its query and its header, which the vendor gets as well."""
    answer = call("beta.messages.create", **said(betas=["context-1m-2025-08-07"]))
    assert answer.content[0].text == words.say(24)
    books.agree(1)


def test_a_model_of_the_other_protocol(call: Call, books: Books) -> None:
    """Whole, as a stream and with tools: the client cannot tell, and both books agree."""
    whole = call(CREATE, **said(model="plain"))
    assert whole.content[0].text == words.say(24)
    assert (whole.stop_reason, whole.usage.output_tokens) == ("end_turn", 26)
    assert whole.usage.cache_read_input_tokens == 3
    events = call(CREATE, **said(model="plain", stream=True))
    assert events[-1].type == "message_stop"
    text = [event.delta.text for event in events if event.type == "content_block_delta"]
    assert "".join(text) == words.say(24)
    called = call(CREATE, **said(model="tools", tools=TOOLS))
    assert (called.stop_reason, called.content[0].input["days"]) == ("tool_use", 3)
    call(CREATE, **said(model="tools", tools=TOOLS, stream=True))
    entries = books.agree(4)
    assert {entry.protocol for entry in entries} == {"anthropic.messages"}
    assert {entry.provider for entry in entries} == {"mock"}


def test_counting_costs_nothing(call: Call, books: Books) -> None:
    """It is admitted and written down, and has no tokens to bill."""
    counted = call("messages.count_tokens", model="claude", messages=[HELLO])
    assert counted.input_tokens > 0
    (entry,) = books.entries(1)
    assert (entry.protocol, entry.outcome) == ("anthropic.count_tokens", "ok")
    assert (entry.input_tokens, entry.output_tokens, entry.cost_nusd) == (0, 0, 0)


def test_models(call: Call, books: Books) -> None:
    """Listed and retrieved in the client's own shape."""
    listed = call("models.list")
    assert [model.id for model in listed.data] == [*MODELS, *CLAUDES, "auto"]
    assert call("models.retrieve", model_id="claude").type == "model"
    with pytest.raises(anthropic.NotFoundError):
        call("models.retrieve", model_id="claude-7")
    books.agree(0)


def test_errors_are_the_clients_own(call: Call, books: Books) -> None:
    """By class, type and request id, for whoever catches them."""
    with pytest.raises(anthropic.NotFoundError) as missing:
        call(CREATE, **said(model="claude-7"))
    assert missing.value.body["error"]["type"] == "not_found_error"
    assert (missing.value.request_id or "").startswith("req_")
    with pytest.raises(anthropic.AuthenticationError):
        call(CREATE, {"api_key": "sk-nobody-knows-this"}, **said())
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        call(CREATE, **said(max_tokens=0))
    with pytest.raises(anthropic.APIStatusError) as down:
        call(CREATE, **said(model="claude-down"))
    assert (down.value.status_code, down.value.type) == (503, "overloaded_error")
    (entry,) = books.agree(1)
    assert (entry.outcome, entry.cost_nusd) == ("upstream_refused", 0)


@pytest.mark.parametrize("way", ["api_key", "auth_token", "x-api-key"])
def test_a_key_comes_as_the_clients_send_it(gateway: Gateway, books: Books, way: str) -> None:
    """As a bearer, which the client of today does with either, and in the header of the older ones."""
    options: dict[str, Any] = {way: KEY}
    if way == "x-api-key":
        options = {"auth_token": "none", "default_headers": {way: KEY}}
    with anthropic.Anthropic(base_url=gateway.url, **options) as client:
        assert client.messages.create(**said()).stop_reason == "end_turn"
    books.agree(1)


def test_a_retry_of_the_clients(call: Call, books: Books) -> None:
    """A vendor's 429 becomes ours, with its time; the client waits and comes back, and is served."""
    began = time.monotonic()
    answer = call(CREATE, {"max_retries": 2}, **said(model="claude-moody"))
    assert answer.usage.output_tokens == 5
    assert 0.5 < time.monotonic() - began < 3
    refused, served = books.agree(2)
    assert (refused.outcome, served.outcome) == ("rate_limited", "ok")


@pytest.mark.parametrize(
    ("model", "outcome"), [("claude-cut", "upstream_refused"), ("claude-lost", "upstream_lost")]
)
def test_a_stream_that_breaks_is_raised(call: Call, books: Books, model: str, outcome: str) -> None:
    """Whether the vendor says so or goes away, the client gets a typed error and no end."""
    with pytest.raises(anthropic.APIStatusError) as broken:
        call(CREATE, **said(model=model, stream=True))
    assert broken.value.body["error"]["type"] == "api_error"
    (entry,) = books.entries(1)
    assert (entry.outcome, entry.token_source) == (outcome, "estimated")
    assert entry.input_tokens > 0
    assert 0 < entry.output_tokens < 40


def test_a_stream_that_is_left(gateway: Gateway, books: Books) -> None:
    """The input as the vendor counts it, and the output that came."""
    with anthropic.Anthropic(base_url=gateway.url, api_key=KEY) as client:
        stream = client.messages.create(
            **said(model="claude-endless", max_tokens=5000, stream=True)
        )
        for number, _ in enumerate(stream):
            if number == 20:
                break
        stream.close()
    (entry,) = books.entries(1)
    assert entry.outcome == "client_left"
    served = gateway.vendor_books()["served"][0]
    assert served["outcome"] == "client_left"
    assert entry.input_tokens == served["prompt_tokens"]
    assert 16 <= entry.output_tokens <= served["completion_tokens"] + 1


def test_many_at_once(gateway: Gateway, books: Books) -> None:
    """A hundred calls of every kind from one client, and every token of them in both books."""

    async def ask(client: anthropic.AsyncAnthropic, number: int) -> None:
        model = ("claude", "claude-paced", "claude-tools")[number % 3]
        streamed = number % 2 == 0
        answer: Any = await client.messages.create(**said(model=model), stream=streamed)
        if streamed:
            async for _ in answer:
                pass

    async def ask_all() -> None:
        async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=KEY) as client:
            await asyncio.gather(*(ask(client, number) for number in range(100)))

    asyncio.run(ask_all())
    books.agree(100)
