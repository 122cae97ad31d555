"""
How an exchange survives vendors that fail at every stage, and a store that does not answer.

Before the first byte the exchange moves to another deployment, and each attempt is admitted and settled on its own.
After it, nothing is tried again: the caller gets whole events, then a typed error, and never what looks like an end.
That nothing leaks and every lease is settled once is held by the rig after each of these tests.
"""

import asyncio
import json
import socket
from typing import Any

import pytest

from proxy.relay import ERROR_BYTES
from ratelimit.upkeep import read_scope
from tests.proxy.edge_rig import Edge, eventually
from tests.proxy.partners import (
    DONE,
    EMBEDDINGS,
    INPUT_NUSD,
    OUTPUT_NUSD,
    PATIENCE_S,
    VENDOR_KEY,
    Line,
    always,
    answer_head,
    at,
    chat,
    completion,
    delta,
    event,
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
    caller_gets_error_event,
    caller_gets_events,
    caller_gets_head,
    caller_is_left,
    caller_sends,
    tell,
    vendor_closes,
    vendor_gets,
    vendor_is_left,
    vendor_resets,
    vendor_says,
)

ANSWER = completion()
ERROR = json.dumps({"error": {"message": "no", "type": "x", "param": None, "code": None}}).encode()


def two(first: dict[str, Any] | str, second: dict[str, Any] | str) -> dict[str, Any]:
    """Write a route whose first model is asked first, whatever the load."""
    return {
        "models": {"one": [first], "two": [second]},
        "routes": {"auto": ["one", "two"]},
    }


# Before the first byte...

FAILURES: dict[str, tuple[str, dict[str, Any]]] = {
    "a 429": (
        "sim;status=429",
        {"outcome": "rate_limited", "status": 429, "input_tokens": 0, "token_source": "none"},
    ),
    "a 529": ("sim;status=529", {"outcome": "overloaded", "status": 529, "cost_nusd": 0}),
    "a 500": ("sim;status=500", {"outcome": "upstream_refused", "status": 500, "cost_nusd": 0}),
    "a 502": ("sim;status=502", {"outcome": "upstream_refused", "status": 502}),
    "a 503": ("sim;status=503", {"outcome": "upstream_refused", "status": 503}),
    "a 401": ("sim;status=401", {"outcome": "upstream_refused", "status": 401, "cost_nusd": 0}),
    "a 403": ("sim;status=403", {"outcome": "upstream_refused", "status": 403}),
    "a 404": ("sim;status=404", {"outcome": "upstream_refused", "status": 404}),
    "a 408": ("sim;status=408", {"outcome": "upstream_refused", "status": 408}),
    "no answer": ("sim;reset=1", {"outcome": "upstream_lost", "status": 0}),
    "no HTTP": ("sim;garbage=head", {"outcome": "bad_answer", "status": 0}),
    "no JSON": ("sim;garbage=body", {"outcome": "bad_answer", "status": 200}),
    "half an answer": ("sim;cut=40", {"outcome": "upstream_lost", "status": 200}),
    "a broken frame": ("sim;garbage=chunk", {"outcome": "bad_answer", "status": 200}),
    "silence": ("sim;hang=head", {"outcome": "first_byte_timed_out", "status": 0}),
    "a head, then silence": ("sim;hang=body", {"outcome": "first_byte_timed_out", "status": 200}),
    "a 200 with an error": (
        "sim;error=first",
        {"outcome": "bad_answer", "status": 200, "cost_nusd": 0, "token_source": "none"},
    ),
}


@pytest.mark.parametrize(("name", "expected"), FAILURES.values(), ids=FAILURES)
async def test_what_fails_before_the_first_byte_is_tried_elsewhere(
    edge: Edge, name: str, expected: dict[str, Any]
) -> None:
    """The caller sees a good answer; the books see both attempts, the second with the reason for it."""
    rig = await edge(**two(name, "sim;tokens=3;prompt=7"), provider={"first_byte_timeout_s": 0.15})
    answer = await rig.ask(chat("auto"))
    assert answer.status == 200
    assert answer.header("x-penstock-model") == "two"
    failed, served = await rig.entries()
    found = {field: failed.as_dict()[field] for field in expected}
    assert found == expected
    assert (failed.attempt, served.attempt) == (1, 2)
    assert failed.request_id == served.request_id == answer.header("x-request-id")
    assert (failed.model, served.model) == ("one", "two")
    assert (served.outcome, served.reason) == ("ok", f"retry:{failed.outcome}")
    assert (served.input_tokens, served.output_tokens) == (7, 3)
    assert answer.header("x-penstock-route") == (
        f"model=two; deployment=two/mock; reason=retry:{failed.outcome}; attempt=2; candidates=2; policy=declared"
    )


STREAM_FAILURES = {
    "an error as the first event": ("sim;error=first", "bad_answer"),
    "a close before any event": ("sim;cut=0", "upstream_lost"),
    "a close within the first event": ("sim;cut=30", "upstream_lost"),
    "silence": ("sim;hang=body", "first_byte_timed_out"),
}


@pytest.mark.parametrize(("name", "outcome"), STREAM_FAILURES.values(), ids=STREAM_FAILURES)
async def test_a_stream_that_fails_before_its_first_event_is_tried_elsewhere(
    edge: Edge, name: str, outcome: str
) -> None:
    """Nothing has gone out, so another deployment can still give the whole of it."""
    rig = await edge(
        **two(f"{name};tokens=9", "sim;tokens=3"), provider={"first_byte_timeout_s": 0.15}
    )
    answer = await rig.ask(chat("auto", stream=True))
    assert answer.status == 200
    assert answer.complete
    assert answer.events[-1] == "[DONE]"
    assert await rig.outcomes() == [outcome, "ok"]


async def test_a_stream_that_comes_whole_and_is_not_complete_is_tried_elsewhere(edge: Edge) -> None:
    """Its end came with its beginning, so that nothing of it has gone out."""
    rig = await edge(**two(at(), "sim;tokens=3"), scripted=["v"])
    rig.vendors["v"].habit = always(b"".join([sse_head(), piece(delta("One")), piece(b"")]))
    answer = await rig.ask(chat("auto", stream=True))
    assert answer.events[-1] == "[DONE]"
    assert "One" not in answer.body.decode()
    assert await rig.outcomes() == ["upstream_lost", "ok"]


async def test_a_port_that_nobody_listens_on(edge: Edge) -> None:
    """A connect that fails costs nothing and teaches that the deployment is down."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        rig = await edge(**two(at("nowhere"), "sim;tokens=3"), providers={"nowhere": nowhere})
        answer = await rig.ask(chat("auto"))
    assert answer.status == 200
    failed, _ = await rig.entries()
    assert (failed.outcome, failed.cost_nusd, failed.token_source) == ("connect_failed", 0, "none")
    assert failed.added_us == failed.ttft_us == 0


async def test_candidates_of_one_model_are_tried_once_each(edge: Edge) -> None:
    """At most `max_attempts`, and no deployment twice."""
    names = [f"sim;status=500;tokens={n}" for n in range(1, 6)]
    rig = await edge(models={"m": names}, edge={"max_attempts": 4})
    answer = await rig.ask(chat())
    assert answer.status == 500
    entries = await rig.entries()
    assert [entry.attempt for entry in entries] == [1, 2, 3, 4]
    assert len({entry.deployment for entry in entries}) == 4
    assert "(4 attempts)" in answer.error["message"]


REFUSALS = {
    "all say no": ((b"false", b"false"), "false"),
    "one says nothing": ((b"false", None), "true"),
    "one says yes": ((b"true", b"false"), "true"),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
async def test_a_vendor_that_wants_no_other_try_speaks_for_itself(
    edge: Edge, case: tuple[tuple[bytes | None, ...], str]
) -> None:
    """Another one is asked all the same; only when each of them has said so is the caller told to leave it."""
    said, told = case
    rig = await edge(models={"m": [at("v"), at("w")]}, scripted=["v", "w"])
    for name, word in zip("vw", said, strict=True):
        more = () if word is None else (b"x-should-retry: %b" % word,)
        rig.vendors[name].habit = always(
            whole(ERROR, b"retry-after: 3", *more, status=b"429 Too Many Requests")
        )
    answer = await rig.ask(chat())
    assert (answer.status, answer.error["code"]) == (429, "upstream_rate_limited")
    assert answer.header("x-should-retry") == told
    assert answer.header("retry-after") == (None if told == "false" else "3")
    assert await rig.outcomes() == ["rate_limited", "rate_limited"]


async def test_a_deployment_that_was_not_asked_may_still_answer(edge: Edge) -> None:
    """As long as one is left, no other one's word is the last."""
    rig = await edge(
        models={"m": [at("v"), at("w")]}, scripted=["v", "w"], edge={"max_attempts": 1}
    )
    for vendor in rig.vendors.values():
        vendor.habit = always(whole(ERROR, b"x-should-retry: false", status=b"500 Oh"))
    assert (await rig.ask(chat())).header("x-should-retry") == "true"


async def test_a_caller_is_told_what_the_vendor_said_of_another_try(edge: Edge) -> None:
    """What is passed on is the vendor's own word, this one too."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    rig.vendors["v"].habit = always(whole(ERROR, b"x-should-retry: true", status=b"409 Locked"))
    answer = await rig.ask(chat())
    assert (answer.status, answer.header("x-should-retry")) == (409, "true")


async def test_a_stream_of_two_answers_that_lost_one_is_cut(edge: Edge) -> None:
    """A vendor without [DONE]: the end of the first answer is not the end of the second."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    reason = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    await (
        tell(rig)
        >> caller_sends(request(chat(stream=True, n=2)))
        << vendor_gets()
        >> vendor_says(sse_head(), piece(delta("One")))
        << caller_gets_head(200)
        << caller_gets_events(delta("One"))
        >> vendor_says(piece(reason), piece(b""))
        << caller_gets_events(reason)
        << caller_gets_error_event("upstream_lost")
        << caller_is_left()
        << booked({"outcome": "upstream_lost", "output_tokens": 1})
    )


async def test_a_stream_of_two_answers_ends_with_the_second_reason(edge: Edge) -> None:
    """Nothing is missed that the vendor never says."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    reasons = b"".join(
        event({"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]})
        for index in (1, 0)
    )
    await (
        tell(rig)
        >> caller_sends(request(chat(stream=True, n=2)))
        << vendor_gets()
        >> vendor_says(sse_head(), piece(delta("One")))
        << caller_gets_head(200)
        << caller_gets_events(delta("One"))
        >> vendor_says(piece(reasons), piece(b""))
        << caller_gets_events(reasons)
        << booked({"outcome": "ok"})
    )


@pytest.mark.parametrize("status", [400, 409, 413, 422])
async def test_the_callers_own_mistake_is_passed_on(edge: Edge, status: int) -> None:
    """Another deployment would say the same; the vendor's words go out untouched, and cost nothing."""
    rig = await edge(models={"m": [at(), "sim"]}, scripted=["v"], key={"limits": {"rpm": 9}})
    rig.vendors["v"].habit = always(whole(ERROR, b"x-why: because", status=b"%d Oh No" % status))
    answers = [await rig.ask(chat()) for _ in range(2)]  # equal candidates take turns
    answer = next(each for each in answers if each.status != 200)
    assert (answer.status, answer.body) == (status, ERROR)
    assert answer.header("x-why") == "because"
    assert answer.header("x-penstock-deployment") == "m/v"
    assert answer.header("x-ratelimit-limit-requests") == "9"
    (refused,) = [entry for entry in await rig.entries() if entry.outcome != "ok"]
    assert (refused.outcome, refused.status, refused.cost_nusd) == ("upstream_refused", status, 0)
    state = await read_scope(rig.redis, "deployment:m/v")
    assert state is not None
    assert state.failures == 0


async def test_an_error_without_end_is_cut(edge: Edge) -> None:
    """What is passed on of it has a bound; the caller does not wait for the rest, and the vendor is hung up on."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    caller = await rig.caller()
    await caller.send(request(chat()))
    line = await rig.vendors["v"].line()
    await line.gets()
    chunked = answer_head(b"transfer-encoding: chunked", status=b"400 Bad")
    await line.says(chunked, *[piece(b"x" * 60_000)] * 2)
    answer = await caller.answer()
    assert (answer.status, len(answer.body)) == (400, ERROR_BYTES)
    await line.left()
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.cost_nusd) == ("upstream_refused", 0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [b"400 Bad", b"200 OK", b"401 No", b"500 Oh"])
async def test_a_vendor_that_repeats_its_key_does_not_give_it_away(
    edge: Edge, status: bytes, stream: bool
) -> None:
    """Some servers say what they were sent; the rig sees to it that no caller gets to know it."""
    rig = await edge(
        models={"m": [at()]},
        scripted=["v"],
        provider={"headers": {"x-team-token": VENDOR_KEY[::-1]}},
    )

    async def habit(line: Line) -> None:
        asked = await line.gets()
        sent = "; ".join(f"{name}: {value}" for name, value in asked.headers)
        body = json.dumps({"error": {"message": f"I got {sent}"}}).encode()
        if stream and status.startswith(b"200"):
            await line.says(sse_head() + piece(event(json.loads(body))) + piece(b""))
        else:
            await line.says(whole(body, status=status))

    rig.vendors["v"].habit = habit
    answer = await rig.ask(chat(stream=stream))
    assert answer.status >= 400
    assert VENDOR_KEY[::-1].encode() not in answer.body
    assert b"***" in answer.body or b"I got" not in answer.body


GIVEN_UP = {
    "429": ("sim;status=429;retry_after=7", 429, "upstream_rate_limited", "7"),
    "529": ("sim;status=529", 503, "upstream_rate_limited", "1"),
    "500": ("sim;status=500", 500, "upstream_refused", None),
    "503": ("sim;status=503;retry_after=3", 503, "upstream_refused", "3"),
    "501": ("sim;status=501", 502, "upstream_refused", None),
    "401": ("sim;status=401", 502, "upstream_refused", None),
    "silence": ("sim;hang=head", 504, "first_byte_timed_out", None),
    "no HTTP": ("sim;garbage=head", 502, "bad_answer", None),
    "reset": ("sim;reset=1", 502, "upstream_lost", None),
    "error in a 200": ("sim;error=first", 502, "bad_answer", None),
}


@pytest.mark.parametrize("case", GIVEN_UP.values(), ids=GIVEN_UP)
@pytest.mark.parametrize("stream", [False, True])
async def test_when_all_fail_the_last_failure_decides(
    edge: Edge, case: tuple[str, int, str, str | None], stream: bool
) -> None:
    """Status, envelope and headers say whether to come back, and when; the vendor's own words stay away."""
    name, status, code, after = case
    rig = await edge(
        models={"m": [name]}, provider={"first_byte_timeout_s": 0.15}, key={"limits": {"rpm": 9}}
    )
    answer = await rig.ask(chat(stream=stream))
    assert answer.status == status
    assert answer.header("x-ratelimit-limit-requests") == "9"
    assert answer.header("x-ratelimit-remaining-requests") == "8"
    assert answer.error["code"] == code
    assert answer.error["type"] == "api_error"
    assert answer.error["param"] is None
    assert answer.header("retry-after") == after
    assert answer.header("retry-after-ms") == (None if after is None else f"{after}000")
    assert answer.header("x-should-retry") == "true"
    assert answer.header("x-request-id") is not None
    assert "Incorrect API key" not in answer.error["message"]
    assert len(await rig.entries()) == 1


async def test_a_vendors_retry_after_cools_it_down(edge: Edge) -> None:
    """It is left alone for as long as it asked, by every caller; the next call goes elsewhere at once."""
    rig = await edge(**two("sim;status=429;retry_after=30", "sim;tokens=1"))
    await rig.ask(chat("auto"))
    assert (await rig.ask(chat("auto"))).header("x-penstock-model") == "two"
    assert (await rig.outcomes()) == ["rate_limited", "ok", "ok"]
    alone = await rig.ask(chat("one"))
    assert alone.status == 429
    assert alone.error["code"] == "no_deployment"
    assert 25 <= int(alone.header("retry-after") or 0) <= 30
    assert len(await rig.entries()) == 3


async def test_a_retry_is_no_second_request_of_the_caller(edge: Edge) -> None:
    """Of its requests per minute the exchange takes one, however many attempts it needs."""
    rig = await edge(**two("sim;status=500", "sim;tokens=1"), key={"limits": {"rpm": 10}})
    answer = await rig.ask(chat("auto"))
    assert answer.header("x-ratelimit-remaining-requests") == "9"


async def test_the_total_deadline_ends_the_trying(edge: Edge) -> None:
    """An exchange that has used up its time asks nobody else."""
    rig = await edge(
        models={"m": ["sim;hang=head", "sim;hang=head;tokens=2"]}, edge={"total_timeout_s": 0.15}
    )
    answer = await rig.ask(chat())
    assert answer.status == 504
    assert await rig.outcomes() == ["total_timed_out"]


# After the first byte...


async def test_a_stream_cut_at_any_byte_never_looks_complete(edge: Edge) -> None:
    """
    Cut everywhere, in both framings: whole events, then a typed error, closed properly, charged once.

    Only where the vendor has said everything, and its [DONE], is the answer an answer.
    """
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    events = [
        delta("One"),
        delta(" two"),
        delta("", "stop"),
        event({"choices": [], "usage": usage()}),
    ]
    told = [*events[:3], DONE]
    chunked = b"".join([sse_head(), *map(piece, [*events, DONE]), piece(b"")])
    bare = answer_head(b"content-type: text/event-stream") + b"".join([*events, DONE])
    vendor = rig.vendors["v"]
    asked = 0
    for wire, framing in ((chunked, "chunked"), (bare, "close")):
        for length in range(len(wire)):
            vendor.habit = once(wire[:length])
            answer = await rig.ask(chat(stream=True))
            asked += 1
            assert answer.complete, length
            if answer.status != 200:
                assert answer.error["code"] == "upstream_lost"
                assert events[0] not in wire[:length]
                continue
            if answer.events[-1] == "[DONE]":
                assert answer.body == b"".join(told)
                assert b"[DONE]" in wire[:length]
                continue
            if framing == "close" and b'"stop"' in answer.body:
                # Without a frame, a finish reason is all the end that some vendors give.
                assert answer.body == b"".join(told[:3])
                continue
            error = answer.ends_in_error
            assert (error["type"], error["code"]) == ("upstream_error", "upstream_lost")
            whole_events = answer.body[: answer.body.rindex(b"data: ")]
            assert b"".join(told).startswith(whole_events)
            assert answer.header("connection") is None or answer.header("connection") == "close"
    entries = await rig.entries()
    assert len(entries) == asked
    assert len({entry.request_id for entry in entries}) == asked
    assert {entry.outcome for entry in entries} == {"ok", "upstream_lost"}
    for entry in entries:
        assert (
            entry.cost_nusd == entry.input_tokens * INPUT_NUSD + entry.output_tokens * OUTPUT_NUSD
        )
        assert entry.output_tokens <= 3


async def test_a_cut_stream_is_charged_what_was_metered(edge: Edge) -> None:
    """Two events have come: two tokens, estimated, and the input that was sent."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    await (
        tell(rig)
        >> caller_sends(request(chat(stream=True)))
        << vendor_gets()
        >> vendor_says(
            sse_head(), piece(delta("One")), piece(delta(" two")), piece(delta(" th"))[:20]
        )
        << caller_gets_head(200)
        << caller_gets_events(delta("One"))
        << caller_gets_events(delta(" two"))
        >> vendor_closes()
        << caller_gets_error_event("upstream_lost")
        << caller_is_left()
        << booked({"outcome": "upstream_lost", "output_tokens": 2, "token_source": "estimated"})
    )


async def test_a_reset_in_the_middle_of_a_stream(edge: Edge) -> None:
    """As a cut, and it counts against the deployment."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    await (
        tell(rig)
        >> caller_sends(request(chat(stream=True)))
        << vendor_gets()
        >> vendor_says(sse_head(), piece(delta("One")))
        << caller_gets_head(200)
        << caller_gets_events(delta("One"))
        >> vendor_resets()
        << caller_gets_error_event("upstream_lost")
        << booked({"outcome": "upstream_lost", "output_tokens": 1})
    )
    state = await read_scope(rig.redis, "deployment:m/v")
    assert state is not None
    assert state.failures == 1


async def test_broken_framing_in_the_middle_of_a_stream(edge: Edge) -> None:
    """An impossible chunk size ends the answer with a typed error."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    await (
        tell(rig)
        >> caller_sends(request(chat(stream=True)))
        << vendor_gets()
        >> vendor_says(sse_head(), piece(delta("One")))
        << caller_gets_head(200)
        << caller_gets_events(delta("One"))
        >> vendor_says(b"xyz\r\n")
        << caller_gets_error_event("bad_answer")
        << booked({"outcome": "bad_answer", "output_tokens": 1})
    )


async def test_an_event_without_end_is_given_up(edge: Edge) -> None:
    """More than a megabyte without a blank line is no stream of events; memory has a bound."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    await (
        tell(rig)
        >> caller_sends(request(chat(stream=True)))
        << vendor_gets()
        >> vendor_says(sse_head(), piece(delta("One")))
        << caller_gets_head(200)
        << caller_gets_events(delta("One"))
        >> vendor_says(piece(b"data: " + b"x" * (1 << 20)))
        << caller_gets_error_event("bad_answer")
        << booked({"outcome": "bad_answer"})
    )


async def test_an_error_of_the_vendors_in_the_stream_passes(edge: Edge) -> None:
    """The vendor has said it itself; nothing is added, and no [DONE] follows."""
    rig = await edge(models={"m": ["sim;tokens=8;error=mid;interval_ms=2"]})
    answer = await rig.ask(chat(stream=True))
    assert answer.complete
    assert answer.ends_in_error["type"] == "server_error"
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.token_source) == ("upstream_refused", "estimated")
    assert entry.output_tokens > 0


async def test_an_error_before_done_is_no_success(edge: Edge) -> None:
    """Some vendors say [DONE] behind their error; it is an error all the same."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    error = event(json.loads(ERROR))
    await (
        tell(rig)
        >> caller_sends(request(chat(stream=True)))
        << vendor_gets()
        >> vendor_says(sse_head(), piece(delta("One")))
        << caller_gets_head(200)
        << caller_gets_events(delta("One"))
        >> vendor_says(piece(error + DONE), piece(b""))
        << caller_gets_events(error + DONE)
        << booked({"outcome": "upstream_refused", "output_tokens": 1})
    )


async def test_an_error_that_comes_with_the_beginning_is_tried_elsewhere(edge: Edge) -> None:
    """The stream came in one read, error and end included: nothing has gone out."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    said = b"".join([sse_head(), piece(delta("One") + event(json.loads(ERROR)) + DONE), piece(b"")])
    await (
        tell(rig)
        >> caller_sends(request(chat(stream=True)))
        << vendor_gets()
        >> vendor_says(said)
        << caller_gets(502, "upstream_refused")
        << booked({"outcome": "upstream_refused", "output_tokens": 1})
    )


async def test_silence_in_the_middle_of_a_stream(edge: Edge) -> None:
    """The idle deadline ends it, with its own word."""
    rig = await edge(models={"m": [at()]}, scripted=["v"], provider={"idle_timeout_s": 0.15})
    await (
        tell(rig)
        >> caller_sends(request(chat(stream=True)))
        << vendor_gets()
        >> vendor_says(sse_head(), piece(delta("One")))
        << caller_gets_head(200)
        << caller_gets_events(delta("One"))
        << caller_gets_error_event("idle_timed_out")
        << vendor_is_left()
        << booked({"outcome": "idle_timed_out", "output_tokens": 1})
    )


@pytest.mark.parametrize(
    "said", [{"provider": {"total_timeout_s": 0.8}}, {"edge": {"total_timeout_s": 0.8}}]
)
async def test_a_stream_that_takes_too_long_as_a_whole(edge: Edge, said: dict[str, Any]) -> None:
    """The provider's total deadline and the edge's end it alike, and teach nothing about the deployment."""
    rig = await edge(models={"m": ["sim;tokens=2000;interval_ms=20"]}, **said)
    answer = await rig.ask(chat(stream=True))
    assert answer.complete
    assert answer.ends_in_error["code"] == "total_timed_out"
    (entry,) = await rig.entries()
    assert entry.outcome == "total_timed_out"
    assert 0 < entry.output_tokens < 100
    state = await read_scope(rig.redis, "deployment:m/mock")
    assert state is not None
    assert state.failures == 0


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("framing", ["length", "close"])
async def test_a_long_document_that_is_cut_is_not_framed_as_whole(
    edge: Edge, version: str, framing: str
) -> None:
    """A document has no place for an error, so its framing is broken: by the missing end, or a reset."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    head = [b"content-type: application/json"]
    if framing == "length":
        head.append(b"content-length: 9000000")
    rig.vendors["v"].habit = once(answer_head(*head) + b'{"data":[' + b"1," * 1_500_000)
    caller = await rig.caller()
    await caller.send(request(b'{"model":"m","input":"x"}', path=EMBEDDINGS, version=version))
    answer = await caller.answer()
    assert answer.status == 200
    assert not answer.complete
    (entry,) = await rig.entries()
    assert (entry.outcome, entry.token_source) == ("upstream_lost", "estimated")


# Pooled connections...


async def test_a_connection_that_died_idle_is_replaced(edge: Edge) -> None:
    """The request never arrived anywhere, so it is sent again on a fresh one: the same lease, one entry."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    await (
        tell(rig)
        >> caller_sends(request(chat()))
        << vendor_gets()
        >> vendor_says(whole(ANSWER))
        << caller_gets(200)
        >> caller_sends(request(chat()))
        << vendor_gets()
        >> vendor_closes()  # as if it had closed while the request was on its way
        << vendor_gets()
        >> vendor_says(whole(ANSWER))
        << caller_gets(200)
        << booked({"outcome": "ok"}, {"outcome": "ok", "attempt": 1, "reason": "only"})
    )
    assert rig.vendors["v"].accepted == 2


async def test_it_is_replaced_once(edge: Edge) -> None:
    """A fresh connection that is lost as well is a failure of the vendor's."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    await (
        tell(rig)
        >> caller_sends(request(chat()))
        << vendor_gets()
        >> vendor_says(whole(ANSWER))
        << caller_gets(200)
        >> caller_sends(request(chat()))
        << vendor_gets()
        >> vendor_closes()
        << vendor_gets()
        >> vendor_closes()
        << caller_gets(502, "upstream_lost")
        << booked({"outcome": "ok"}, {"outcome": "upstream_lost", "attempt": 1})
    )


async def test_it_may_be_that_there_is_nothing_to_replace_it_with(edge: Edge) -> None:
    """Then the attempt ends as a failed connect."""
    rig = await edge(models={"m": [at()]}, scripted=["v"])
    vendor = rig.vendors["v"]

    async def habit(line: Line) -> None:
        await line.gets()
        await line.says(whole(ANSWER))
        await line.gets()
        vendor._server.close()

    vendor.habit = habit
    assert (await rig.ask(chat())).status == 200
    answer = await rig.ask(chat())
    assert answer.error["code"] == "connect_failed"
    assert await rig.outcomes() == ["ok", "connect_failed"]
    assert (await rig.entries())[1].cost_nusd == 0


# A store that fails...


async def test_a_store_that_does_not_answer_refuses(edge: Edge) -> None:
    """Under a strict budget: 503 and a time to come back, nobody is asked, nothing is lost."""
    strict = {"budget": {"usd": 1, "per": "day", "mode": "strict"}}
    rig = await edge(models={"m": ["sim"]}, store={"admit_timeout_ms": 50}, team=strict)
    await rig.redis.client_pause(400)
    answer = await rig.ask(chat())
    assert answer.status == 503
    assert answer.error["code"] == "store_unavailable"
    assert answer.header("retry-after") == "1"
    assert rig.mock.books()["totals"]["calls"] == 0
    await rig.redis.ping()
    await rig.at_rest()
    await eventually(lambda: not rig.edge.gate.degraded)
    async with asyncio.timeout(PATIENCE_S):
        # Within 50 ms a store on a busy machine may not answer either.
        while (await rig.ask(chat())).status != 200:
            pass


async def test_a_flushed_store_is_seeded_again(edge: Edge) -> None:
    """A flush never opens the gate: the limits are written again, and hold."""
    rig = await edge(models={"m": ["sim;tokens=1"]}, key={"limits": {"rpm": 2}})
    assert (await rig.ask(chat())).status == 200
    await rig.entries()
    await rig.redis.flushall()
    assert [(await rig.ask(chat())).status for _ in range(3)] == [200, 200, 429]
