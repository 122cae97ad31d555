"""Laws of streams: events are cut alike however they arrive, and each dialect's events say what they mean."""

import pytest

from loadtests.streams import (
    Event,
    EventReader,
    Said,
    read_anthropic,
    read_openai,
    read_whole,
)

WIRE = b": comment\n\nevent: a\ndata: 1\ndata: 2\n\ndata:3\n\nid: 4\n\n"
EVENTS = [Event("a", b"1\n2"), Event("", b"3")]


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_events_are_the_same_however_they_arrive(ending, size):
    """All three line endings of the standard, in pieces of any size."""
    wire = WIRE.replace(b"\n", ending)
    reader, events = EventReader(), []
    for at in range(0, len(wire), size):
        events += reader.feed(wire[at : at + size])
    assert events == EVENTS


def test_an_event_is_given_with_its_last_byte():
    """Not with the next event's first."""
    reader = EventReader()
    assert reader.feed(b"data: x\n") == []
    assert reader.feed(b"\n") == [Event("", b"x")]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[DONE]", Said(last=True)),
        (b'{"choices":[{"delta":{"role":"assistant","content":""}}]}', Said()),
        (b'{"choices":[{"delta":{"content":"a"}}]}', Said(content=True, output=True)),
        (b'{"choices":[{"delta":{"reasoning_content":"a"}}]}', Said(content=True)),
        (b'{"choices":[{"delta":{"tool_calls":[{}]}}]}', Said(content=True, output=True)),
        (b'{"choices":[{"text":"a"}]}', Said(content=True, output=True)),
        (
            b'{"choices":[],"usage":{"completion_tokens":7,"prompt_tokens":3}}',
            Said(tokens=7, prompt_tokens=3),
        ),
        (b'{"error":{"message":"no"}}', Said(error="no")),
        (b'{"error":"no"}', Said(error="no")),
        (b"nonsense", Said(error="an event is no JSON object")),
    ],
)
def test_openai_events(data, said):
    """Content, reasoning, tools, usage, errors and the end."""
    assert read_openai(Event("", data)) == said


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            b'{"type":"message_start","message":{"usage":{"input_tokens":9}}}',
            Said(prompt_tokens=9),
        ),
        (b'{"type":"content_block_start"}', Said()),
        (
            b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}',
            Said(content=True, output=True),
        ),
        (b'{"type":"content_block_delta","delta":{"thinking":"a"}}', Said(content=True)),
        (b'{"type":"content_block_delta","delta":{"text":""}}', Said()),
        (b'{"type":"message_delta","usage":{"output_tokens":5}}', Said(tokens=5)),
        (b'{"type":"message_stop"}', Said(last=True)),
        (b'{"type":"error","error":{"message":"busy"}}', Said(error="busy")),
    ],
)
def test_anthropic_events(data, said):
    """The same, as Anthropic says it."""
    assert read_anthropic(Event("", data)) == said


@pytest.mark.parametrize(
    ("read", "data"),
    [
        (read_openai, b'{"choices":["a"]}'),
        (read_openai, b'{"choices":1}'),
        (read_openai, b'{"choices":[{"delta":"a"}]}'),
        (read_anthropic, b'{"type":"content_block_delta","delta":"a"}'),
        (read_anthropic, b'{"type":"message_start","message":["a"]}'),
    ],
)
def test_an_event_of_another_shape_is_an_error(read, data):
    """As whatever a server may send; a call that nobody could read would else be in no figure."""
    assert "another shape" in read(Event("", data)).error


@pytest.mark.parametrize(
    "data",
    [b'{"a":"\xc3"}', b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"],
    ids=["half a character", "without end"],
)
def test_what_cannot_be_read_is_an_error(data):
    """Also where it only looks like JSON, as what was cut within a character does."""
    for said in (read_openai(Event("", data)), read_anthropic(Event("", data)), read_whole(data)):
        assert "no JSON" in said.error


def test_whole_answers_of_both_dialects():
    """Usage under either name; an error, or nothing said, is an error."""
    chat = read_whole(b'{"choices":[{}],"usage":{"completion_tokens":2,"prompt_tokens":1}}')
    message = read_whole(b'{"content":[{}],"usage":{"output_tokens":2,"input_tokens":1}}')
    assert chat == message == Said(True, True, 2, 1, last=True)
    assert read_whole(b'{"error":{"message":"no"}}').error == "no"
    assert "neither" in read_whole(b"{}").error
    assert "no JSON" in read_whole(b"<html>").error
