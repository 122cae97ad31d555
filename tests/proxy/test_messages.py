"""
Anthropic's protocol on both sides: what passes untouched, what is said in it by us, and what it costs.

The laws of an exchange are those of `test_exchange.py` and `test_survival.py`; here are the ones that the protocol has a word in.
"""

import json
from typing import Any

import pytest

from tests.proxy.edge_rig import Edge, Rig
from tests.proxy.partners import (
    COUNT_TOKENS,
    INPUT_NUSD,
    MESSAGES,
    OUTPUT_NUSD,
    VENDOR_KEY,
    answer_head,
    at,
    message,
    message_events,
    named,
    once,
    piece,
    request,
    sse_head,
    whole,
)
from tests.proxy.stories import (
    booked,
    caller_gets,
    caller_gets_events,
    caller_gets_head,
    caller_sends,
    tell,
    vendor_gets,
    vendor_says,
)

STRICT = {"team": {"budget": {"usd": 1, "per": "day", "mode": "strict"}}}
USED = {
    "input_tokens": 2,
    "cache_read_input_tokens": 3,
    "cache_creation_input_tokens": 2,
    "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 1},
    "output_tokens": 3,
}
ANSWER = json.dumps({"type": "message", "content": [], "usage": USED}).encode()


async def anthropic_edge(edge: Edge, **said: Any) -> Rig:
    """Start an edge whose one scripted vendor speaks Anthropic's protocol."""
    models = {"c": {"deployments": [at()]} | said.pop("model", {})}
    provider = {"protocol": "anthropic", "headers": said.pop("headers", {})}
    return await edge(models=models, scripted=["v"], provider=provider, **said)


def asking(body: bytes | None = None, *headers: str, path: str = MESSAGES) -> bytes:
    return request(message() if body is None else body, *headers, path=path)


async def test_an_answer_passes_whole_and_is_billed_by_its_kinds(edge: Edge) -> None:
    """The cache is a part of the input, and an hour in it has its own price."""
    price = {"input": 1, "output": 2, "cached_input": 0.1, "cache_write": 1.25, "cache_write_1h": 2}
    rig = await anthropic_edge(edge, model={"price": price})
    stage = await (
        tell(rig)
        >> caller_sends(asking())
        << vendor_gets(model="upstream-m", max_tokens=100)
        >> vendor_says(whole(ANSWER, b"request-id: theirs", b"anthropic-organization-id: x"))
        << caller_gets(200, body=ANSWER)
        << booked(
            {
                "outcome": "ok",
                "protocol": "anthropic.messages",
                "input_tokens": 7,
                "cached_tokens": 3,
                "cache_write_tokens": 2,
                "output_tokens": 3,
                "cost_nusd": 2 * 1000 + 3 * 100 + 1250 + 2000 + 3 * 2000,
                "token_source": "provider",
            }
        )
    )
    answer = stage.answer
    assert answer is not None
    (entry,) = await rig.entries()
    assert answer.header("request-id") == answer.header("x-request-id") == entry.request_id
    assert answer.header("x-upstream-request-id") == "theirs"
    assert answer.header("anthropic-organization-id") is None


async def test_the_vendor_gets_its_key_and_the_callers_version(edge: Edge) -> None:
    """Credentials are swapped, version and betas are the caller's own, and the beta query stays."""
    rig = await anthropic_edge(edge)
    told = ("Anthropic-Version: 2026-10-21", "Anthropic-Beta: a,b", "X-App: cli", "OpenAI-Beta: x")
    stage = await (
        tell(rig)
        >> caller_sends(asking(None, *told, path=f"{MESSAGES}?beta=true"))
        << vendor_gets()
        >> vendor_says(whole(ANSWER))
        << caller_gets(200)
    )
    asked = stage.asked
    assert asked is not None
    assert asked.line == "POST /v1/messages?beta=true HTTP/1.1"
    assert asked.header("x-api-key") == VENDOR_KEY
    assert asked.header("anthropic-version") == "2026-10-21"
    assert asked.header("anthropic-beta") == "a,b"
    assert {name.lower() for name, _ in asked.headers} == {
        *("host", "user-agent", "accept", "accept-encoding", "content-type"),
        *("x-api-key", "content-length", "anthropic-version", "anthropic-beta"),
    }


async def test_a_caller_without_a_version_gets_one(edge: Edge) -> None:
    """The vendor would refuse a call that names none; another query than the beta's is nobody's business."""
    rig = await anthropic_edge(edge)
    stage = await (
        tell(rig)
        >> caller_sends(asking(path=f"{MESSAGES}?x=1"))
        << vendor_gets()
        >> vendor_says(whole(ANSWER))
        << caller_gets(200)
    )
    assert stage.asked is not None
    assert stage.asked.line == "POST /v1/messages HTTP/1.1"
    assert stage.asked.header("anthropic-version") == "2023-06-01"


async def test_an_operators_version_does_not_stand_beside_the_callers(edge: Edge) -> None:
    """Two values would be none."""
    rig = await anthropic_edge(
        edge, headers={"Anthropic-Version": "2023-01-01", "x-operator": "ours"}
    )
    stage = await (
        tell(rig)
        >> caller_sends(asking(None, "anthropic-version: 2026-10-21"))
        << vendor_gets()
        >> vendor_says(whole(ANSWER))
        << caller_gets(200)
    )
    assert stage.asked is not None
    assert stage.asked.header("anthropic-version") == "2026-10-21"
    assert stage.asked.header("x-operator") == "ours"


async def test_a_key_in_its_own_header_counts_before_a_bearer(edge: Edge) -> None:
    """The vendor's own order, where a client sends both."""
    rig = await edge(models={"c": [at("messages", "sim")]})
    both = (f"x-api-key: {rig.caller_key}", "Authorization: Bearer sk-nobody")
    assert (await rig.ask(message(), *both, path=MESSAGES, key=None)).status == 200
    wrong = await rig.ask(message(), "x-api-key: sk-nobody", path=MESSAGES)
    assert (wrong.status, wrong.json["error"]["type"]) == (401, "authentication_error")


async def test_a_stream_passes_byte_for_byte(edge: Edge) -> None:
    """Pings, names and spaces as they came."""
    rig = await anthropic_edge(edge)
    events = message_events("One", " two", " three")
    await (
        tell(rig)
        >> caller_sends(asking(message(stream=True)))
        << vendor_gets(stream=True)
        >> vendor_says(sse_head(), piece(events[0] + events[1]))
        << caller_gets_head(200)
        << caller_gets_events(events[0] + events[1])
        >> vendor_says(*map(piece, events[2:]), piece(b""))
        << caller_gets_events(b"".join(events[2:]))
        << booked(
            {
                "outcome": "ok",
                "stream": 1,
                "input_tokens": 7,
                "output_tokens": 3,
                "cost_nusd": 7 * INPUT_NUSD + 3 * OUTPUT_NUSD,
                "token_source": "provider",
            }
        )
    )


async def test_a_stream_cut_at_any_byte_ends_in_a_typed_error(edge: Edge) -> None:
    """Whole events, then an error event and no `message_stop`, charged once; before the first event a 502."""
    rig = await anthropic_edge(edge)
    events = message_events("One", " two")
    wire = b"".join([sse_head(), *map(piece, events), piece(b"")])
    vendor = rig.vendors["v"]
    asked = 0
    for length in range(len(wire)):
        vendor.habit = once(wire[:length])
        answer = await rig.ask(message(stream=True), path=MESSAGES)
        asked += 1
        assert answer.complete, length
        if answer.status != 200:
            assert (answer.status, answer.json["error"]["type"]) == (502, "api_error")
            continue
        if answer.body == b"".join(events):
            assert events[-1] in wire[:length]
            continue
        begun, _, last = answer.body.rpartition(b"event: error\n")
        assert b"".join(events).startswith(begun)
        error = json.loads(last.removeprefix(b"data: "))
        assert (error["type"], error["error"]["type"]) == ("error", "api_error")
        assert error["request_id"] == answer.header("request-id")
    entries = await rig.entries()
    assert len(entries) == asked
    assert {entry.outcome for entry in entries} == {"ok", "upstream_lost"}
    for entry in entries:
        assert (
            entry.cost_nusd == entry.input_tokens * INPUT_NUSD + entry.output_tokens * OUTPUT_NUSD
        )
        assert entry.input_tokens == 7 or entry.token_source == "estimated"


async def test_an_error_as_the_first_event_is_tried_elsewhere(edge: Edge) -> None:
    """A vendor that is overloaded says so in a stream with status 200; nothing of it is seen or billed."""
    rig = await edge(
        models={"c": [at(), at("messages", "sim;tokens=2")]},
        scripted=["v"],
        provider={"protocol": "anthropic"},
        providers={"mock": {"base_url": "http://127.0.0.1:9"}},
    )
    broken = named("error", error={"type": "overloaded_error", "message": "Overloaded"})
    rig.vendors["v"].habit = once(sse_head() + piece(broken) + piece(b""))
    answer = await rig.ask(message(stream=True), path=MESSAGES)
    assert answer.status == 200
    assert b"message_stop" in answer.body
    assert b"Overloaded" not in answer.body
    refused, served = await rig.entries()
    assert (refused.outcome, refused.cost_nusd, served.outcome) == ("bad_answer", 0, "ok")


async def test_a_refusal_of_the_vendors_passes(edge: Edge) -> None:
    """Its words about the caller's request, in its own envelope."""
    rig = await anthropic_edge(edge)
    said = (
        b'{"type":"error","error":{"type":"invalid_request_error","message":"no"},"request_id":"r"}'
    )
    await (
        tell(rig)
        >> caller_sends(asking())
        << vendor_gets()
        >> vendor_says(whole(said, status=b"400 Bad Request"))
        << caller_gets(400, body=said)
        << booked({"outcome": "upstream_refused", "cost_nusd": 0})
    )


async def test_garbage_is_a_502_in_the_protocol(edge: Edge) -> None:
    """A 200 that is no answer."""
    rig = await anthropic_edge(edge)
    stage = await (
        tell(rig)
        >> caller_sends(asking())
        << vendor_gets()
        >> vendor_says(answer_head(b"content-length: 4") + b"<hi>")
        << caller_gets(502)
    )
    assert stage.answer is not None
    assert stage.answer.json["error"]["type"] == "api_error"


async def test_mistakes_and_limits_are_said_in_the_protocol(edge: Edge) -> None:
    """The field in the message, the kind in the type, the limits in its own headers, and when to come back."""
    rig = await edge(models={"c": [at("messages", "sim")]}, key={"limits": {"rpm": 1, "tpm": 9000}})
    bad = await rig.ask(message(max_tokens=None), path=MESSAGES)
    assert (bad.status, set(bad.json)) == (400, {"type", "error", "request_id"})
    assert bad.json["error"]["type"] == "invalid_request_error"
    assert "max_tokens" in bad.json["error"]["message"]
    assert bad.json["request_id"] == bad.header("request-id")
    served = await rig.ask(message(), path=MESSAGES)
    assert served.header("anthropic-ratelimit-requests-limit") == "1"
    assert served.header("anthropic-ratelimit-requests-remaining") == "0"
    assert served.header("anthropic-ratelimit-tokens-limit") == "9000"
    assert served.header("x-ratelimit-limit-requests") is None
    limited = await rig.ask(message(), path=MESSAGES)
    assert (limited.status, limited.json["error"]["type"]) == (429, "rate_limit_error")
    assert int(limited.header("retry-after") or 0) > 0
    assert limited.header("anthropic-ratelimit-requests-reset") is not None


async def test_counting_is_admitted_and_costs_nothing(edge: Edge) -> None:
    """It takes one of the caller's requests, and none of its tokens."""
    rig = await edge(
        models={"c": [at("messages", "sim")]}, key={"limits": {"rpm": 10, "tpm": 9000}}
    )
    answer = await rig.ask(message(max_tokens=None), path=COUNT_TOKENS)
    assert answer.json["input_tokens"] > 0
    assert answer.header("anthropic-ratelimit-requests-remaining") == "9"
    assert answer.header("anthropic-ratelimit-tokens-remaining") == "9000"
    (entry,) = await rig.entries()
    assert (entry.protocol, entry.outcome, entry.cost_nusd) == ("anthropic.count_tokens", "ok", 0)
    assert rig.mock.books()["totals"]["completion_tokens"] == 0


async def test_a_strict_budget_writes_its_cap_into_max_tokens(edge: Edge) -> None:
    """What is left buys fewer tokens than were asked for, and the vendor gets to know of it."""
    rig = await anthropic_edge(
        edge, team={"budget": {"usd": 0.002, "per": "day", "mode": "strict"}}
    )
    stage = await (
        tell(rig)
        >> caller_sends(asking(message(max_tokens=100_000)))
        << vendor_gets()
        >> vendor_says(whole(ANSWER))
        << caller_gets(200)
    )
    assert stage.asked is not None
    assert 0 < stage.asked.json["max_tokens"] <= 1000


async def test_what_a_strict_budget_cannot_hold_is_refused(edge: Edge) -> None:
    """Before anybody is asked, and in words."""
    rig = await edge(models={"c": [at("messages", "sim")]}, **STRICT)
    search = {"type": "web_search_20250305", "name": "web_search"}
    for more in ({"tools": [search]}, {"speed": "fast"}):
        refused = await rig.ask(message(**more), path=MESSAGES)
        assert (refused.status, refused.json["error"]["type"]) == (400, "invalid_request_error")
        assert next(iter(more)) in refused.json["error"]["message"]
    assert rig.mock.books()["totals"]["calls"] == 0


CONTINUED = {"thread": {"type": "continue", "previous_message_id": "msg_1"}}
CREATED = {"thread": {"type": "create"}}
UNTHREADED = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}


@pytest.mark.parametrize("thread", [CREATED, CONTINUED], ids=["create", "continue"])
async def test_a_thread_passes_where_one_provider_keeps_it(edge: Edge, thread: Any) -> None:
    """As it came; under a strict budget too, since the model's context bounds what nobody sees."""
    rig = await anthropic_edge(edge, model={"context": 1000}, **STRICT)
    await (
        tell(rig)
        >> caller_sends(asking(message(**thread)))
        << vendor_gets(**thread)
        >> vendor_says(whole(ANSWER))
        << caller_gets(200)
    )


@pytest.mark.parametrize(
    ("models", "budget", "thread"),
    [
        ([at("mock", "sim")], {}, CREATED),
        ([at("mock", "sim")], {}, CONTINUED),
        ([at("messages", "sim"), at("mock", "sim")], {}, CONTINUED),
        ([at("messages", "sim")], STRICT, CONTINUED),
    ],
    ids=["made by another", "kept by another", "by one of two", "unbounded"],
)
async def test_a_thread_that_nobody_can_keep_is_refused(
    edge: Edge, models: Any, budget: Any, thread: Any
) -> None:
    """In the words by which Anthropic's clients know to send the whole conversation; nobody is asked."""
    rig = await edge(models={"c": models}, **budget)
    refused = await rig.ask(message(**thread), path=MESSAGES)
    assert (refused.status, refused.json["error"]["type"]) == (400, "invalid_request_error")
    assert refused.json["error"]["details"] == UNTHREADED
    assert rig.mock.books()["totals"]["calls"] == 0
