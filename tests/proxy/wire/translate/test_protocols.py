"""The laws that hold for every protocol, and for every pair of them."""

import random
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.look import BadField
from proxy.wire.translate.core import (
    Answer,
    CannotExpress,
    Choice,
    Conversation,
    Failure,
    FailureKind,
    Reasoning,
    Target,
    Text,
    ToolCall,
    Usage,
)
from proxy.wire.translate.events import Collector, Ended, Event, Failed, play
from proxy.wire.translate.protocols import PROTOCOLS, Protocol
from tests.proxy.wire.translate.arrivals import joined, read, ways
from tests.proxy.wire.translate.samples import (
    FULL,
    REPLY,
    answers,
    conversations,
    meaning,
)

NAMES = list(PROTOCOLS)
PAIRS = [(vendor, caller) for vendor in NAMES for caller in NAMES]
TARGET = Target(model="served", max_output=32000)


# What a protocol has no field for: it is not in what it says.
UNSAID: dict[str, dict[str, int]] = {
    "gemini.generate": {"cache_write_tokens": 0},
    "ollama.chat": {"cache_write_tokens": 0, "cached_tokens": 0, "reasoning_tokens": 0},
}


def said(answer: Answer, *names: str) -> tuple[Any, ...]:
    """Give what an answer says through the protocols `names`, whatever its ids are."""
    usage = answer.usage or Usage()
    for name in names:
        usage = msgspec.structs.replace(usage, **UNSAID.get(name, {}))
    return (
        [
            (
                choice.stop,
                [
                    (part.name, msgspec.json.decode(part.arguments or "{}"))
                    if isinstance(part, ToolCall)
                    else Reasoning(part.text)
                    if isinstance(part, Reasoning) and "ollama.chat" in names
                    else part
                    for part in choice.parts
                ],
            )
            for choice in answer.choices
        ],
        usage,
        answer.model,
    )


def sayable(conversation: Conversation, *names: str) -> Conversation:
    """Give what can be asked through all of the protocols `names`."""
    if "openai.responses" in names:
        conversation = msgspec.structs.replace(conversation, stop=())
    if "ollama.chat" in names:
        conversation = msgspec.structs.replace(conversation, tool_choice=None)
    return conversation


def streamed(protocol: Protocol, answer: Answer) -> bytes:
    return protocol.writer(REPLY).write(list(play(answer)))


def collected(events: list[Event]) -> Answer:
    collector = Collector()
    assert collector.add(events)
    assert collector.failure is None
    return collector.answer()


@pytest.mark.parametrize("name", NAMES)
@given(answers())
def test_an_answer_keeps_its_meaning(name: str, answer: Answer) -> None:
    """Written and read again it says the same: text, proofs, calls, why it ended, what it used."""
    protocol = PROTOCOLS[name]
    again = protocol.read_answer(protocol.write_answer(answer, REPLY), None)
    assert isinstance(again, Answer)
    assert said(again) == said(answer, name)


@pytest.mark.parametrize("name", NAMES)
@given(answers())
def test_a_stream_keeps_its_meaning(name: str, answer: Answer) -> None:
    """Streamed and collected it is the answer that was not streamed."""
    protocol = PROTOCOLS[name]
    again = collected(read(lambda: protocol.reader(None), [streamed(protocol, answer)]))
    assert said(again) == said(answer, name)


@pytest.mark.parametrize(("vendor", "caller"), PAIRS)
@given(answers())
def test_every_pair_keeps_the_meaning_of_a_stream(vendor: str, caller: str, answer: Answer) -> None:
    """From the vendor's protocol into the caller's, event by event."""
    theirs = streamed(PROTOCOLS[vendor], answer)
    reader, writer = PROTOCOLS[vendor].reader(None), PROTOCOLS[caller].writer(REPLY)
    middle = len(theirs) // 2
    ours = writer.write(reader.feed(theirs[:middle]))
    ours += writer.write(reader.feed(theirs[middle:])) + writer.write(reader.eof())
    again = collected(read(lambda: PROTOCOLS[caller].reader(None), [ours]))
    assert said(again) == said(answer, vendor, caller)


ANSWER = Answer(
    (
        Choice(
            (
                Reasoning("hm, \n", "c2ln", maker="anthropic"),
                Text('wörd "one" '),
                ToolCall("call_a", "f", '{"x":1}'),
                ToolCall("call_b", "g", "{}"),
            ),
            "tool_calls",
        ),
    ),
    "up-1",
    "served",
    Usage(20, 5, 3, 30, 10),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_is_the_same_however_it_arrives(name: str) -> None:
    """Whole, byte by byte, and cut in two at every boundary; with LF or with CR LF."""
    protocol = PROTOCOLS[name]
    stream = streamed(protocol, ANSWER)
    expected = read(lambda: protocol.reader(None), [stream])
    for reads in ways(stream, step=max(len(stream) // 700, 1)):
        assert read(lambda: protocol.reader(None), reads) == expected
    for reads in ways(stream.replace(b"\n", b"\r\n"), step=max(len(stream) // 200, 1)):
        assert read(lambda: protocol.reader(None), reads) == expected


@pytest.mark.parametrize(("vendor", "caller"), PAIRS)
def test_a_cut_anywhere_ends_with_an_error_in_the_callers_protocol(
    vendor: str, caller: str
) -> None:
    """
    Whatever byte was the last: what the caller got is well-formed, and its own client sees an error.

    Only where nothing is missing but what says nothing (a [DONE], a blank line) is it a whole answer.
    """
    theirs = streamed(PROTOCOLS[vendor], ANSWER)
    whole = 0
    # Every byte for one caller of each vendor, and the same few hundred for the others: how a stream
    # is read does not depend on who gets it.
    every = NAMES[NAMES.index(vendor) - 1] == caller
    step = 1 if every else max(len(theirs) // 200, 1)
    for cut in range(0, len(theirs), step):
        reader, writer = PROTOCOLS[vendor].reader(None), PROTOCOLS[caller].writer(REPLY)
        ours = writer.write(reader.feed(theirs[:cut])) + writer.write(reader.eof())
        events = read(lambda: PROTOCOLS[caller].reader(None), [ours])
        *before, last = events
        assert not any(isinstance(event, Ended | Failed) for event in before)
        if isinstance(last, Ended):
            whole += 1
            assert said(collected(events))[0] == said(ANSWER, vendor, caller)[0]
        else:
            assert isinstance(last, Failed)
            assert last.failure.kind in {"lost", "internal"}
            assert last.failure.code != "bad_answer"
        assert writer.write([Failed(last.failure)] if isinstance(last, Failed) else []) == b""
    # The end is short: no answer is taken as complete much before it is.
    assert whole * step < len(theirs) // 3


@pytest.mark.parametrize("name", NAMES)
@given(conversation=conversations())
def test_a_request_keeps_its_meaning(name: str, conversation: Conversation) -> None:
    """Written and read again it asks the same, and written once more it is the same bytes."""
    protocol = PROTOCOLS[name]
    conversation = sayable(conversation, name)
    written = protocol.write_request(conversation, TARGET)
    again = protocol.read_request(written.body)
    expected = meaning(conversation)
    if conversation.max_tokens is None:
        # Anthropic demands a cap, which is then the model's own.
        assert again.max_tokens in {None, 32000}
        expected["max_tokens"] = again.max_tokens
    if name in {"gemini.generate", "bedrock.converse"}:
        # Whether it is streamed stands in the URL.
        expected["stream"] = again.stream
    assert meaning(again) == expected
    assert protocol.write_request(again, TARGET).body == written.body


@pytest.mark.parametrize(("caller", "vendor"), PAIRS)
def test_every_pair_keeps_a_conversation(caller: str, vendor: str) -> None:
    """System, images, parallel calls with their results, tools, caps and stops arrive."""
    full = sayable(FULL, caller, vendor)
    asked = PROTOCOLS[caller].read_request(PROTOCOLS[caller].write_request(full, TARGET).body)
    written = PROTOCOLS[vendor].write_request(asked, TARGET)
    assert written.dropped == ()
    again = PROTOCOLS[vendor].read_request(written.body)
    expected = meaning(full) | {"stream": again.stream}
    assert meaning(again) == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", get_args(FailureKind))
def test_an_error_keeps_its_kind(name: str, kind: FailureKind) -> None:
    """Before a stream: status, envelope and retry headers; a caller does the right thing next."""
    protocol = PROTOCOLS[name]
    failure = Failure(kind=kind, message="it went wrong", status=400, retry_after_us=1_500_000)
    written = protocol.write_error(failure, "req-1")
    headers = dict(written.headers)
    assert 400 <= written.status < 600
    assert headers.get("retry-after") == (None if kind == "billing" else "2")
    again = protocol.read_error(written.status, headers, written.body)
    assert "it went wrong" in again.message
    same = {
        "context_length": {"bad_request", "context_length"},
        "filtered": {"bad_request", "filtered"},
        "unavailable": {"overloaded", "unavailable"},
        "conflict": {"conflict", "bad_request"},
    }
    assert again.kind in same.get(kind, {kind})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", get_args(FailureKind))
def test_an_error_inside_a_stream_is_an_error_to_its_client(name: str, kind: FailureKind) -> None:
    """A 200 never ends in silence."""
    protocol = PROTOCOLS[name]
    writer = protocol.writer(REPLY)
    stream = writer.write(list(play(ANSWER))[:4])
    stream += writer.write([Failed(Failure(kind=kind, message="it went wrong", status=400))])
    last = read(lambda: protocol.reader(None), [stream])[-1]
    assert isinstance(last, Failed)
    assert "it went wrong" in last.failure.message


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"\xff\xfe", b'{"error":7}', b"[" * 5000])
def test_a_refusal_can_be_anything(name: str, body: bytes) -> None:
    """A proxy in between answers with a page of its own: still it is a failure with a message."""
    failure = PROTOCOLS[name].read_error(503, {}, body)
    assert failure.kind == "overloaded"
    assert failure.message
    assert "<" not in failure.message


GARBAGE = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=60).map(lambda data: b"data: " + data + b"\n\n"),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["choices", "delta", "type", "content", "error", "message", "usage"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ).map(lambda value: b"data: " + msgspec.json.encode(value) + b"\n\n"),
)


@pytest.mark.parametrize("name", NAMES)
@given(stream=st.lists(GARBAGE, max_size=4))
def test_garbage_ends_cleanly(name: str, stream: list[bytes]) -> None:
    """A vendor can send anything: there is one end, and no exception."""
    events = read(lambda: PROTOCOLS[name].reader(None), stream)
    assert isinstance(events[-1], Ended | Failed)
    assert sum(isinstance(event, Ended | Failed) for event in events) == 1
    for caller in NAMES:
        PROTOCOLS[caller].writer(REPLY).write(events)


@pytest.mark.parametrize("name", NAMES)
@given(
    members=st.dictionaries(
        st.sampled_from(
            [
                *("model", "messages", "system", "tools", "tool_choice", "max_tokens", "stop"),
                *("response_format", "thinking", "metadata", "stream_options", "contents", "input"),
            ]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["user", "auto", "x"]),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(
                        ["role", "content", "type", "name", "text", "function", "parts"]
                    ),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=10,
        ),
        max_size=6,
    )
)
def test_a_bad_request_is_the_callers_mistake(name: str, members: dict[str, Any]) -> None:
    """Whatever a caller sends: it is read, or it is a 400; never a fault of ours."""
    try:
        PROTOCOLS[name].read_request(msgspec.json.encode(members))
    except (BadField, CannotExpress):
        pass


@pytest.mark.parametrize("name", NAMES)
def test_a_writer_takes_events_in_any_order(name: str) -> None:
    """No reader gives them so; were one to, the caller's stream would still end, once."""
    dice = random.Random(7)
    for _ in range(50):
        events = [*play(ANSWER)][1:-1]
        dice.shuffle(events)
        writer = PROTOCOLS[name].writer(REPLY)
        stream = writer.write([next(iter(play(ANSWER))), *events, Ended()])
        last = read(lambda: PROTOCOLS[name].reader(None), [stream])[-1]
        assert isinstance(last, Ended | Failed)


@pytest.mark.parametrize("name", NAMES)
def test_events_of_a_stream_are_joined_to_the_same(name: str) -> None:
    """How a protocol cuts text into deltas says nothing."""
    protocol = PROTOCOLS[name]
    whole = joined(read(lambda: protocol.reader(None), [streamed(protocol, ANSWER)]))
    assert collected(whole).choices[0].stop == "tool_calls"
