"""The laws of reading and writing streams of Chat Completions, with what vendors do to them."""

from typing import Any

import msgspec
import pytest

from proxy.wire.translate.chat.streams import ChatReader, ChatWriter
from proxy.wire.translate.core import Reply, Usage
from proxy.wire.translate.events import (
    Alive,
    Ended,
    Event,
    Failed,
    ReasoningDelta,
    ReasoningRedacted,
    ReasoningSigned,
    RefusalDelta,
    Started,
    Stopped,
    TextDelta,
    ToolCallDelta,
    ToolCallEnded,
    ToolCallStarted,
    UsageSeen,
)
from tests.proxy.wire.translate.arrivals import read, read_every_way, sse
from tests.proxy.wire.translate.samples import REPLY

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
COUNTED = UsageSeen(Usage(9, 0, 0, 3))


def chunk(delta: Any = None, finish: str | None = None, index: Any = 0, **top: Any) -> bytes:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish}
    return sse({"id": "c1", "model": "m", "choices": [choice], **top})


def call(
    index: Any = None, given: str | None = None, name: str | None = None, text: Any = None
) -> dict[str, Any]:
    function = {"name": name, "arguments": text}
    return {"tool_calls": [{"index": index, "id": given, "function": function}]}


START = Started("c1", "m")
HI = TextDelta("hi")

STREAMS: dict[str, tuple[bytes, list[Event]]] = {
    "plain": (
        chunk({"role": "assistant", "content": ""})
        + chunk({"content": "hi"})
        + chunk({}, "stop")
        + sse({"choices": [], "usage": USAGE})
        + DONE,
        [START, HI, COUNTED, Stopped("end"), Ended()],
    ),
    "usage null in every chunk": (
        chunk({"content": "hi"}, usage=None) + chunk({}, "stop", usage=None) + DONE,
        [START, HI, Stopped("end"), Ended()],
    ),
    "usage with the finish": (
        chunk({"content": "hi"}) + chunk({}, "stop", usage=USAGE) + DONE,
        [START, HI, COUNTED, Stopped("end"), Ended()],
    ),
    "usage in the middle, cumulative": (
        chunk({"content": "hi"}, usage=USAGE) + chunk({}, "stop", usage=USAGE) + DONE,
        [START, HI, COUNTED, COUNTED, Stopped("end"), Ended()],
    ),
    "usage inside the choice (Kimi)": (
        chunk({"content": "hi"})
        + sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]})
        + DONE,
        [START, HI, COUNTED, Stopped("end"), Ended()],
    ),
    "usage under a name of its own (Groq)": (
        chunk({"content": "hi"}) + chunk({}, "stop", x_groq={"id": "r", "usage": USAGE}) + DONE,
        [START, HI, COUNTED, Stopped("end"), Ended()],
    ),
    "no [DONE]": (chunk({"content": "hi"}, "stop"), [START, HI, Stopped("end"), Ended()]),
    "no finish reason": (chunk({"content": "hi"}) + DONE, [START, HI, Stopped("end"), Ended()]),
    "finish twice": (
        chunk({"content": "hi"}, "length") + chunk({}, "stop") + DONE,
        [START, HI, Stopped("length"), Ended()],
    ),
    "no last blank line": (
        chunk({"content": "hi"}, "stop") + b"data: [DONE]",
        [START, HI, Stopped("end"), Ended()],
    ),
    "empty choices first (Azure)": (
        sse({"id": "", "model": "", "choices": [], "prompt_filter_results": [{}]})
        + chunk({"content": "hi"}, "stop")
        + DONE,
        [Started("", ""), HI, Stopped("end"), Ended()],
    ),
    "a choice without a delta (Azure)": (
        chunk({"content": "hi"})
        + sse(
            {
                "id": "",
                "choices": [{"index": 0, "content_filter_offsets": {}, "finish_reason": None}],
            }
        )
        + chunk({}, "stop")
        + DONE,
        [START, HI, Stopped("end"), Ended()],
    ),
    "comments (OpenRouter)": (
        b": OPENROUTER PROCESSING\n\n" + chunk({"content": "hi"}, "stop") + DONE,
        [Alive(), START, HI, Stopped("end"), Ended()],
    ),
    "reasoning_content, null content (DeepSeek)": (
        chunk({"content": None, "reasoning_content": "hm"})
        + chunk({"content": "hi", "reasoning_content": None}, "stop")
        + DONE,
        [START, ReasoningDelta("hm"), HI, Stopped("end"), Ended()],
    ),
    "reasoning (vLLM, Groq)": (
        chunk({"reasoning": "hm"}) + chunk({"content": "hi"}, "stop") + DONE,
        [START, ReasoningDelta("hm"), HI, Stopped("end"), Ended()],
    ),
    "reasoning in parts (Mistral)": (
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]})
        + chunk({"content": [{"type": "text", "text": "hi"}]}, "stop")
        + DONE,
        [START, ReasoningDelta("hm"), HI, Stopped("end"), Ended()],
    ),
    "reasoning with proofs (OpenRouter)": (
        chunk({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]})
        + chunk(
            {
                "reasoning_details": [
                    {"type": "reasoning.text", "signature": "s", "format": "anthropic-claude-v1"}
                ]
            }
        )
        + chunk(
            {
                "reasoning_details": [
                    {"type": "reasoning.encrypted", "data": "x", "format": "openai-responses-v1"}
                ]
            }
        )
        + chunk({"content": "hi"}, "stop")
        + DONE,
        [
            START,
            ReasoningDelta("hm"),
            ReasoningSigned("s", "anthropic"),
            ReasoningRedacted("x", "openai"),
            HI,
            Stopped("end"),
            Ended(),
        ],
    ),
    "details alone (MiniMax)": (
        chunk({"reasoning_details": [{"text": "hm"}]}) + chunk({"content": "hi"}, "stop") + DONE,
        [START, ReasoningDelta("hm"), HI, Stopped("end"), Ended()],
    ),
    "refusal": (
        chunk({"refusal": "no"}) + chunk({}, "stop") + DONE,
        [START, RefusalDelta("no"), Stopped("refusal"), Ended()],
    ),
    "parallel calls": (
        chunk(call(0, "a", "f", ""))
        + chunk(call(0, None, None, '{"x":'))
        + chunk(call(0, None, None, "1}"))
        + chunk(call(1, "b", "g", "{}"))
        + chunk({}, "tool_calls")
        + DONE,
        [
            START,
            ToolCallStarted(0, "a", "f"),
            ToolCallDelta(0, '{"x":'),
            ToolCallDelta(0, "1}"),
            ToolCallStarted(1, "b", "g"),
            ToolCallDelta(1, "{}"),
            ToolCallEnded(0),
            ToolCallEnded(1),
            Stopped("tool_calls"),
            Ended(),
        ],
    ),
    "calls without an index": (
        chunk(call(None, "a", "f", "{"))
        + chunk(call(None, None, None, "}"))
        + chunk(call(None, "b", "g", "{}"))
        + chunk({}, "stop")
        + DONE,
        [
            START,
            ToolCallStarted(0, "a", "f"),
            ToolCallDelta(0, "{"),
            ToolCallDelta(0, "}"),
            ToolCallStarted(1, "b", "g"),
            ToolCallDelta(1, "{}"),
            ToolCallEnded(0),
            ToolCallEnded(1),
            Stopped("tool_calls"),
            Ended(),
        ],
    ),
    "calls that are all number 0": (
        chunk(call(0, "a", "f", "{}"))
        + chunk(call(0, "b", "g", "{"))
        + chunk(call(0, "", None, "}"))
        + chunk({}, "tool_calls")
        + DONE,
        [
            START,
            ToolCallStarted(0, "a", "f"),
            ToolCallDelta(0, "{}"),
            ToolCallStarted(1, "b", "g"),
            ToolCallDelta(1, "{"),
            ToolCallDelta(1, "}"),
            ToolCallEnded(0),
            ToolCallEnded(1),
            Stopped("tool_calls"),
            Ended(),
        ],
    ),
    "a call that repeats its id": (
        chunk(call(0, "a", "f", "{"))
        + chunk(call(0, "a", "f", "}"))
        + chunk({}, "tool_calls")
        + DONE,
        [
            START,
            ToolCallStarted(0, "a", "f"),
            ToolCallDelta(0, "{"),
            ToolCallDelta(0, "}"),
            ToolCallEnded(0),
            Stopped("tool_calls"),
            Ended(),
        ],
    ),
    "arguments that are an object": (
        chunk(call(0, "a", "f", {"x": 1}), "stop") + DONE,
        [
            START,
            ToolCallStarted(0, "a", "f"),
            ToolCallDelta(0, '{"x":1}'),
            ToolCallEnded(0),
            Stopped("tool_calls"),
            Ended(),
        ],
    ),
    "Google's proof of a call": (
        chunk(
            {
                "tool_calls": [
                    {
                        "index": 0,
                        "id": "a",
                        "function": {"name": "f", "arguments": "{}"},
                        "extra_content": {"google": {"thought_signature": "gs"}},
                    }
                ]
            },
            "stop",
        )
        + DONE,
        [
            START,
            ReasoningSigned("gs", "google"),
            ToolCallStarted(0, "a", "f"),
            ToolCallDelta(0, "{}"),
            ToolCallEnded(0),
            Stopped("tool_calls"),
            Ended(),
        ],
    ),
    "two choices": (
        chunk({"content": "a"})
        + chunk({"content": "b"}, index=1)
        + chunk({}, "stop", 1)
        + chunk({}, "length", 0)
        + DONE,
        [
            START,
            TextDelta("a"),
            TextDelta("b", 1),
            Stopped("length"),
            Stopped("end", None, 1),
            Ended(),
        ],
    ),
    "index null": (chunk({"content": "hi"}, "stop", None), [START, HI, Stopped("end"), Ended()]),
    "half of a surrogate pair": (
        b'data: {"id":"c1","model":"m","choices":[{"delta":{"content":"a\\ud83d"},"finish_reason":"stop"}]}\n\n',
        [START, TextDelta("a\ufffd"), Stopped("end"), Ended()],
    ),
}


@pytest.mark.parametrize(("stream", "expected"), STREAMS.values(), ids=STREAMS)
def test_what_vendors_send_is_understood_however_it_arrives(
    stream: bytes, expected: list[Event]
) -> None:
    """Whole, byte by byte, and cut at every boundary; the same with CR LF and a byte order mark."""
    assert read_every_way(ChatReader, stream) == expected
    assert read(ChatReader, [b"\xef\xbb\xbf" + stream.replace(b"\n", b"\r\n")]) == expected


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (b"", "lost"),
        (DONE, "lost"),
        (chunk({"content": "hi"}), "lost"),
        (chunk({"content": "a"}) + chunk({"content": "b"}, "stop", 1), "lost"),
        (sse({"error": {"message": "slow down", "code": 429}}), "rate_limited"),
        (
            chunk({"content": "hi"}) + sse({"error": {"message": "x", "type": "server_error"}}),
            "lost",
        ),
        (sse({"base_resp": {"status_code": 1002, "status_msg": "slow"}}), "rate_limited"),
        (sse({"error": {"message": "x"}}, "error"), "lost"),
        (chunk({}, "insufficient_system_resource") + DONE, "lost"),
        (b"data: <html>\n\n", "lost"),
        (b'data: {"choices":"none"}\n\n', "lost"),
        (b"data: " + b"[" * 5000 + b"\n\n", "lost"),
        (chunk({"content": "x"}, "stop", 999), "lost"),
        (b'{"error": {"message": "no stream at all"}}', "lost"),
    ],
)
def test_what_is_no_answer_is_a_failure(stream: bytes, kind: str) -> None:
    """A cut, an error inside the stream, an answer of 200 that is garbage."""
    *_, last = (
        read_every_way(ChatReader, stream) if len(stream) < 500 else read(ChatReader, [stream])
    )
    assert isinstance(last, Failed)
    assert last.failure.kind == kind


def test_calls_without_end_are_bounded() -> None:
    """A thousand calls are no answer."""
    reader = ChatReader()
    last: list[Event] = []
    for number in range(1100):
        last = reader.feed(chunk(call(number, f"c{number}", "f", ""))) or last
    assert isinstance(last[-1], Failed)


def documents(stream: bytes) -> list[Any]:
    return [
        msgspec.json.decode(event[6:])
        for event in stream.split(b"\n\n")
        if event.startswith(b"data: {")
    ]


def test_a_stream_is_written_as_openai_writes_it() -> None:
    """One id in all chunks, the role first, usage in a chunk of its own, and [DONE]."""
    writer = ChatWriter(REPLY)
    stream = writer.write([Started("up", "served"), HI, TextDelta(' "x"\n')])
    stream += writer.write([COUNTED, Stopped("end"), Ended()])
    assert stream.endswith(DONE)
    chunks = documents(stream)
    assert {one["id"] for one in chunks} == {"chatcmpl-0123abcd"}
    assert {one["model"] for one in chunks} == {"served"}
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert [one["choices"][0]["delta"]["content"] for one in chunks[1:3]] == ["hi", ' "x"\n']
    assert chunks[3]["choices"][0]["finish_reason"] == "stop"
    assert chunks[4]["choices"] == []
    assert chunks[4]["usage"]["total_tokens"] == 12
    assert all(one["usage"] is None for one in chunks[:4])


def test_usage_comes_only_to_who_asked() -> None:
    """As `stream_options.include_usage` says."""
    writer = ChatWriter(Reply(id="x", model="m", created_s=1, include_usage=False))
    stream = writer.write([Started(), HI, COUNTED, Stopped("end"), Ended()])
    assert b"usage" not in stream


def test_proofs_are_written_whole_for_who_sends_them_back() -> None:
    """The entry that has the signature has the text that it signs; Google's stands at its call."""
    writer = ChatWriter(REPLY)
    stream = writer.write(
        [
            Started(),
            ReasoningDelta("h"),
            ReasoningDelta("m"),
            ReasoningSigned("s", "anthropic"),
            ReasoningSigned("gs", "google"),
            ToolCallStarted(0, "a", "f"),
            ToolCallDelta(0, "{}"),
            ReasoningSigned("last", "google"),
            Stopped("tool_calls"),
            Ended(),
        ]
    )
    deltas = [one["choices"][0]["delta"] for one in documents(stream) if one["choices"]]
    details = [delta["reasoning_details"][0] for delta in deltas if "reasoning_details" in delta]
    assert [detail["text"] for detail in details] == ["hm", ""]
    assert [detail["signature"] for detail in details] == ["s", "last"]
    assert [detail["index"] for detail in details] == [0, 1]
    [begun] = [
        delta["tool_calls"][0] for delta in deltas if "id" in delta.get("tool_calls", [{}])[0]
    ]
    assert begun["extra_content"] == {"google": {"thought_signature": "gs"}}


def test_a_call_without_an_id_gets_one() -> None:
    """Clients answer by it; it is the same each time it is asked for."""
    stream = ChatWriter(REPLY).write([Started(), ToolCallStarted(0, "", "f")])
    assert b'"id":"call_0123abcd_0_0"' in stream


def test_each_choice_begins_with_its_role() -> None:
    """Also one that says nothing before it stops."""
    stream = ChatWriter(REPLY).write(
        [Started(), TextDelta("b", 1), Stopped("end", None, 2), Ended()]
    )
    roles = [
        one["choices"][0]["index"]
        for one in documents(stream)
        if one["choices"] and "role" in one["choices"][0]["delta"]
    ]
    assert roles == [0, 1, 2]


def test_what_is_alive_is_said_in_a_comment() -> None:
    """It keeps the connection, and no client sees it."""
    assert ChatWriter(REPLY).write([Started(), Alive()]).endswith(b": alive\n\n")


def test_an_explained_refusal_is_told() -> None:
    """Anthropic's explanation is what OpenAI's clients show as the refusal."""
    stream = ChatWriter(REPLY).write([Started(), Stopped("refusal", "Not this."), Ended()])
    last = documents(stream)[-1]["choices"][0]
    assert b'"refusal":"Not this."' in stream
    assert last["finish_reason"] == "stop"
