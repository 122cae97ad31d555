"""The laws of the meter: bytes pass, usage is found wherever vendors put it, and ends are known."""

import json
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import sse
from proxy.wire.meter import (
    StreamMeter,
    Usage,
    VendorError,
    error_body,
    error_event,
    error_in,
    meter_json,
)


def event(document: Any, *, spaced: bool = False, end: str = "\n") -> bytes:
    separators = (", ", ": ") if spaced else (",", ":")
    text = document if isinstance(document, str) else json.dumps(document, separators=separators)
    return f"data: {text}{end}{end}".encode()


def chunk(content: str | None, *, reason: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**head, "choices": [choice], **more}


USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
METERED = Usage(input_tokens=9, output_tokens=5)
ONLY_USAGE = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": USAGE}
AZURE_FIRST = {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
WORDS = ["Hel", "lo", " wor", "ld", "!"]


def stream(
    *last: Any,
    before: tuple[Any, ...] = (),
    spaced: bool = False,
    end: str = "\n",
    nulls: bool = False,
) -> list[bytes]:
    """Give the events of an answer: role, five words, reason, then `last`."""
    more: dict[str, Any] = {"usage": None} if nulls else {}
    opening = chunk("", **more)
    opening["choices"][0]["delta"]["role"] = "assistant"
    words = [chunk(word, **more) for word in WORDS]
    documents = [*before, opening, *words, chunk(None, reason="stop", **more), *last]
    return [event(document, spaced=spaced, end=end) for document in documents]


def ways(events: list[bytes]) -> Iterator[list[bytes]]:
    """Give all the ways whole events can arrive: in one read, one by one, in two, in any groups."""
    yield [b"".join(events)]
    yield events
    for at in range(1, len(events)):
        yield [b"".join(events[:at]), b"".join(events[at:])]
    dice = random.Random(7)
    for _ in range(10):
        cuts = sorted(dice.sample(range(1, len(events)), 2))
        bounds = zip([0, *cuts], [*cuts, len(events)], strict=True)
        yield [b"".join(events[a:b]) for a, b in bounds]


def metered(reads: list[bytes], *, keep_usage: bool = False) -> tuple[StreamMeter, bytes]:
    meter = StreamMeter(keep_usage=keep_usage)
    return meter, b"".join([meter.look(read) for read in reads])


# Usage in a stream...


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("nulls", [False, True])
def test_the_chunk_that_was_not_asked_for_is_left_out(end: str, spaced: bool, nulls: bool) -> None:
    """Injected include_usage adds one chunk; it is metered, removed, and nothing else moves."""
    events = stream(ONLY_USAGE, "[DONE]", spaced=spaced, end=end, nulls=nulls)
    for reads in ways(events):
        meter, out = metered(reads)
        assert out == b"".join([*events[:-2], events[-1]])
        assert meter.usage == METERED
        assert (meter.events, meter.bytes) == (9, len(b"".join(events)))
        assert (meter.done, meter.finished, meter.error) == (True, True, None)
        assert meter.output_tokens == 5


@pytest.mark.parametrize("spaced", [False, True])
def test_the_caller_who_asked_gets_it(spaced: bool) -> None:
    """With include_usage of the caller's own, every read passes as the object that came."""
    events = stream(ONLY_USAGE, "[DONE]", spaced=spaced, nulls=True)
    for reads in ways(events):
        meter = StreamMeter(keep_usage=True)
        assert all(meter.look(read) is read for read in reads)
        assert meter.usage == METERED


def test_every_way_bytes_arrive() -> None:
    """Byte by byte and cut anywhere, UTF-8 included, splitter and meter give the same bytes."""
    events = [event(chunk("你好 \U0001f600")), *stream(ONLY_USAGE, "[DONE]")]
    text = json.dumps(chunk("é ü"), ensure_ascii=False)
    events.insert(0, event(text))
    whole = b"".join(events)
    wanted = b"".join([*events[:-2], events[-1]])
    cuts = [[whole[at : at + 1] for at in range(len(whole))]]
    cuts += [[whole[:at], whole[at:]] for at in range(1, len(whole), 3)]
    for reads in cuts:
        splitter, meter = sse.EventSplitter(), StreamMeter(keep_usage=False)
        out = b"".join([meter.look(ready) for read in reads if (ready := splitter.feed(read))])
        assert out == wanted
        assert splitter.tail() == b""
        assert meter.usage == METERED


def test_an_empty_choices_chunk_without_usage_passes() -> None:
    """Azure's first chunk has no choices and says what the filter found; it is the caller's."""
    for extra in ({}, {"usage": None}):
        first = AZURE_FIRST | extra
        events = stream(ONLY_USAGE, "[DONE]", before=(first,), nulls=True)
        for reads in ways(events):
            meter, out = metered(reads)
            assert out == b"".join([*events[:-2], events[-1]])
            assert meter.usage == METERED


@pytest.mark.parametrize("keep_usage", [False, True])
@pytest.mark.parametrize(
    "last",
    [
        chunk(None, reason="stop", usage=USAGE),
        chunk("x", usage=USAGE),
        # Kimi, and Groq.
        {**ONLY_USAGE, "choices": [{"index": 0, "delta": {}, "usage": USAGE}], "usage": None},
        chunk(None, reason="stop", x_groq={"id": "req_1", "usage": USAGE}),
    ],
    ids=["last chunk", "content", "kimi", "groq"],
)
def test_usage_beside_choices_is_metered_and_passes(last: Any, keep_usage: bool) -> None:
    """A chunk that also carries content is the caller's, whoever asked."""
    events = stream(last, "[DONE]")
    for reads in ways(events):
        meter, out = metered(reads, keep_usage=keep_usage)
        assert out == b"".join(events)
        assert meter.usage == METERED


def test_the_last_usage_wins() -> None:
    """Continuous usage is cumulative: the last report counts, whichever read it came in."""
    events = [
        event(chunk(word, usage={"prompt_tokens": 9, "completion_tokens": index}))
        for index, word in enumerate(WORDS, start=1)
    ]
    events += [
        event(chunk(None, reason="stop")),
        event(ONLY_USAGE | {"usage": {"prompt_tokens": 8, "completion_tokens": 5}}),
    ]
    for reads in ways(events):
        meter, out = metered(reads)
        assert out == b"".join(events[:-1])
        assert meter.usage == Usage(input_tokens=8, output_tokens=5)
    meter, _ = metered(events[:3])
    assert meter.usage == Usage(input_tokens=9, output_tokens=3)
    assert meter.output_tokens == 3


def test_a_usage_chunk_in_the_middle() -> None:
    """Wherever in a read it stands, also before more content and more than once."""
    events = [*stream(), event(ONLY_USAGE), *stream(nulls=True), event(ONLY_USAGE), event("[DONE]")]
    for reads in ways(events):
        meter, out = metered(reads)
        assert out == b"".join([*stream(), *stream(nulls=True), event("[DONE]")])
        assert meter.usage == METERED


@pytest.mark.parametrize(
    "content",
    [
        '"usage":{"prompt_tokens":1,"completion_tokens":999}',
        'he said "usage',
        '{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":999}}',
        'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n',
        "usage",
        '"usage"',
    ],
)
def test_content_that_talks_of_usage_is_content(content: str) -> None:
    """Quotes inside a string are escaped, so text never passes for a member."""
    extra = [
        chunk(content),
        chunk(content, usage=None),
        chunk(None, usage_note=content, text=content),
    ]
    for document in extra:
        document["choices"][0]["text"] = content
    events = [event(document) for document in extra] + stream()
    for reads in ways(events):
        meter, out = metered(reads)
        assert out == b"".join(events)
        assert meter.usage is None


def test_a_read_without_usage_is_passed_as_it_is() -> None:
    """No copy is made of the common read."""
    meter = StreamMeter(keep_usage=False)
    for read in stream(nulls=True):
        assert meter.look(read) is read


def test_a_read_of_usage_alone_leaves_nothing() -> None:
    """The shell must be ready for an empty answer of `look`."""
    meter = StreamMeter(keep_usage=False)
    assert meter.look(event(ONLY_USAGE)) == b""


def test_a_comment_beside_the_usage_chunk_stays() -> None:
    """Keep-alive comments are events of their own."""
    meter, out = metered([b": ping\n\n" + event(ONLY_USAGE) + b": ping\n\n" + event("[DONE]")])
    assert out == b": ping\n\n: ping\n\n" + event("[DONE]")
    assert meter.usage == METERED
    assert meter.events == 2


def test_named_and_many_lined_events_are_read() -> None:
    """Usage is found in an event with a name, an id, a comment, or data on several lines."""
    lines = json.dumps(ONLY_USAGE, indent=1).replace("\n", "\ndata: ")
    for raw in (
        b"event: message\nid: 7\n" + event(ONLY_USAGE),
        f": hello\ndata: {lines}\n\n".encode(),
        b"data:" + event(ONLY_USAGE)[6:],
    ):
        meter, out = metered([*stream(), raw])
        assert meter.usage == METERED
        assert out == b"".join(stream())


def test_an_unfinished_last_event_is_metered() -> None:
    """A stream may end without its last blank line; the tail is looked at like an event."""
    for tail in (event(ONLY_USAGE)[:-1], event(ONLY_USAGE)[:-2]):
        meter, out = metered([*stream(), tail])
        assert meter.usage == METERED
        assert out == b"".join(stream())
    meter, _ = metered([*stream(), b"data: [DONE]"])
    assert meter.done


# How a stream ended...


def test_a_stream_without_done_is_finished_by_its_reason() -> None:
    """Some vendors never send [DONE]; a finish reason says as much."""
    for events in (stream(), stream(spaced=True), stream(end="\r\n"), stream(ONLY_USAGE)):
        for reads in ways(events):
            meter, _ = metered(reads)
            assert (meter.done, meter.finished, meter.error) == (False, True, None)


def test_a_cut_stream_is_not_finished() -> None:
    """Neither reason nor [DONE]: whatever was cut is known to be cut."""
    events = stream("[DONE]")[:-2]
    for reads in ways(events):
        meter, _ = metered(reads)
        assert (meter.done, meter.finished) == (False, False)
    text = '"finish_reason":"stop" data: [DONE]'
    meter, _ = metered([*events, event(chunk(text)), event(chunk("data: [DONE]\n\n"))])
    assert (meter.done, meter.finished) == (False, False)


@pytest.mark.parametrize(
    "done", [b"data: [DONE]\n\n", b"data:[DONE]\r\n\r\n", b"data: [DONE] \n\n"]
)
def test_done_is_known_in_all_spellings(done: bytes) -> None:
    """With and without the space, with CR LF, alone or behind other events, or before a comment."""
    events = stream()[:3]
    for reads in ([*events, done], [b"".join([*events, done])], [*events, done, b": bye\n\n"]):
        meter, _ = metered(reads)
        assert meter.done
        assert meter.finished


def test_the_end_is_known_after_a_long_stream() -> None:
    """What is kept is bounded; the reason is remembered, and events and bytes stay counted."""
    middle = [event(chunk(word, usage=None)) for word in WORDS * 400]
    events = [*stream()[:1], *middle, event(chunk(None, reason="stop"))]
    events += [b": ping\n\n"] * 3000
    meter, out = metered(events)
    assert out == b"".join(events)
    assert meter.finished
    assert not meter.done
    assert meter.events == 2002
    assert meter.bytes == len(out)
    kept = sum(map(len, meter._reads))
    assert kept < 40_000


def test_huge_reads_are_not_kept() -> None:
    """A vendor that sends a megabyte per read, or per event, costs a few KB once it is passed on."""
    big = b"".join([event(chunk("word " * 20)) for _ in range(5000)])
    meter = StreamMeter(keep_usage=False)
    for _ in range(4):
        assert meter.look(big) is big
    assert meter.events == 20_000
    assert sum(map(len, meter._reads)) < 40_000
    meter.look(event(chunk("x" * 1_000_000)))
    meter.look(event(chunk("", reason="stop")))
    meter.look(event("[DONE]"))
    assert meter.done
    assert meter.events == 20_003
    assert sum(map(len, meter._reads)) < 40_000


ERROR = {"error": {"message": "overloaded", "type": "server_error", "param": None, "code": None}}


def test_an_error_in_the_stream_is_known() -> None:
    """As the first event it is known before anything is forwarded; later, when the stream ends."""
    for end in ("\n", "\r\n"):
        first = event(ERROR, end=end)
        found = StreamMeter(keep_usage=False).first(b": ping" + f"{end}{end}".encode() + first)
        assert found == VendorError("overloaded", "server_error", "")
        for last in (first, first + event("[DONE]", end=end), b"event: error\n" + first):
            meter, out = metered([*stream(end=end)[:4], last])
            assert out.endswith(last)
            assert meter.error == VendorError("overloaded", "server_error", "")
    assert StreamMeter(keep_usage=False).first(b"".join(stream()) + event(ERROR)) is None
    assert StreamMeter(keep_usage=False).first(event(chunk("x", error=None))) is None
    assert StreamMeter(keep_usage=False).first(b": nothing yet\n\n") is None


@pytest.mark.parametrize("content", ['"error":{"message":"no"}', '"error"', 'x "error'])
def test_content_that_talks_of_errors_is_content(content: str) -> None:
    """A text about errors is no error."""
    events = [event(chunk(content, error=None)), *stream()]
    meter, _ = metered(events)
    assert meter.first(events[0]) is None
    assert meter.error is None


def test_a_stream_that_is_no_stream() -> None:
    """Whatever a vendor sends as a stream is passed and does not break the meter."""
    for data in (
        b"{",
        b"data: {\n\n",
        b'data: "usage"\n\n',
        b'data: {"usage":\n\n',
        b"\xff\xfe" * 9,
        b'data: ["usage":{}]\n\n',
        b'data: [{"usage":{"prompt_tokens":1}}]\n\n',
    ):
        meter, out = metered([data, data])
        assert out == data + data
        assert (meter.usage, meter.done, meter.error) == (None, False, None)
        assert meter.output_tokens >= 0


# Estimates...


def test_a_token_per_event_is_counted_exactly() -> None:
    """While all is kept, and long after: content events are tokens where each carries one."""
    for count in (1, 5, 40, 400, 3000):
        events = [*stream()[:1], *(event(chunk(WORDS[n % 5], usage=None)) for n in range(count))]
        ending = [event(chunk(None, reason="stop")), event("[DONE]")]
        for last in ([], ending[:1], ending):
            meter, _ = metered([*events, *last])
            assert meter.usage is None
            assert meter.output_tokens == count
        meter, _ = metered([b"".join([*events, *ending])])
        assert meter.output_tokens == count


@pytest.mark.parametrize("count", [1, 30, 300])
@pytest.mark.parametrize(
    "unit", ["The quick brown fox jumps. ", "敏捷的棕色狐狸跳过懒狗。", 'line\n\t"x"\n']
)
def test_packed_events_are_counted_by_their_bytes(count: int, unit: str) -> None:
    """Where an event carries many tokens, a quarter of the content's UTF-8 bytes is the estimate."""
    text = unit * 4
    for ascii_only in (True, False):
        one = json.dumps(chunk(text, usage=None), ensure_ascii=ascii_only, separators=(",", ":"))
        events = [*stream()[:1], *[event(one)] * count]
        meter, _ = metered([*events, event(chunk(None, reason="stop")), event("[DONE]")])
        tokens = len(text.encode()) * count / 4
        assert tokens * 0.98 <= meter.output_tokens <= tokens * 1.02 + 2


def test_reasoning_and_tools_and_completions_are_content() -> None:
    """All that a model writes counts: reasoning, arguments of tools, refusals, and plain text."""
    call = {"index": 0, "function": {"arguments": '{"a'}}
    deltas = [{"reasoning_content": "think"}, {"tool_calls": [call]}, {"refusal": "no"}]
    documents: list[Any] = [chunk("", choices=[{"index": 0, "delta": delta}]) for delta in deltas]
    documents.append({"choices": [{"index": 0, "text": " once", "finish_reason": None}]})
    meter, _ = metered([event(document) for document in documents])
    assert meter.output_tokens == 4


def test_nothing_said_is_nothing_used() -> None:
    """A stream of comments and roles has no output, however long."""
    meter, _ = metered([b": ping\n\n"] * 5000)
    assert meter.output_tokens == 0
    meter, _ = metered(stream()[:1])
    assert meter.output_tokens == 0
    assert StreamMeter(keep_usage=False).output_tokens == 0


# Whole answers...


def answer(usage: Any, content: str = "Hello", **more: Any) -> bytes:
    message = {"role": "assistant", "content": content, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return json.dumps({"id": "x", "choices": [choice], "usage": usage, **more}).encode()


@pytest.mark.parametrize(
    ("usage", "wanted"),
    [
        (USAGE, METERED),
        # OpenAI, with everything.
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 150,
                "prompt_tokens_details": {
                    "cached_tokens": 20,
                    "cache_write_tokens": 30,
                    "audio_tokens": 7,
                    "image_tokens": 3,
                },
                "completion_tokens_details": {
                    "reasoning_tokens": 11,
                    "audio_tokens": 9,
                    "accepted_prediction_tokens": 0,
                },
            },
            Usage(100, 20, 30, 50, 11, 7, 9),
        ),
        # Embeddings; DeepSeek; Kimi.
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(8)),
        ({**USAGE, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 5}, Usage(9, 4, 0, 5)),
        ({**USAGE, "cached_tokens": 3}, Usage(9, 3, 0, 5)),
        ({**USAGE, "prompt_tokens_details": None, "completion_tokens_details": None}, METERED),
        # xAI names its reasoning beside the completion; Gemini only counts it in the total.
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 5,
                "total_tokens": 34,
                "completion_tokens_details": {"reasoning_tokens": 20},
            },
            Usage(9, 0, 0, 25, 20),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 34}, Usage(9, 0, 0, 25, 20)),
        ({**USAGE, "completion_tokens_details": {"reasoning_tokens": 4}}, Usage(9, 0, 0, 5, 4)),
        # Parts are never greater than their whole, nor negative.
        ({**USAGE, "cached_tokens": 99}, Usage(9, 9, 0, 5)),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": -4}}, METERED),
        ({**USAGE, "completion_tokens_details": {"reasoning_tokens": 60}}, Usage(9, 0, 0, 5, 5)),
        ({**USAGE, "total_tokens": 3}, METERED),
        ({**USAGE, "total_tokens": -1}, METERED),
        ({**USAGE, "total_tokens": 1 << 70}, METERED),
        # Garbage in the parts, and whole floats.
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": "4"}}, METERED),
        ({**USAGE, "prompt_tokens_details": [1]}, METERED),
        ({**USAGE, "cost": 0.001, "total_tokens": None}, METERED),
        ({"prompt_tokens": 9.0, "completion_tokens": 5.0}, METERED),
        # No sense at all.
        ({"prompt_tokens": -1, "completion_tokens": 5}, None),
        ({"prompt_tokens": 9, "completion_tokens": -5}, None),
        ({"prompt_tokens": 1 << 60, "completion_tokens": 5}, None),
        ({"prompt_tokens": "9", "completion_tokens": "5"}, None),
        ({"prompt_tokens": True}, None),
        ({"prompt_tokens": 9.5}, None),
        ({"prompt_tokens": []}, None),
        ({}, None),
        (None, None),
        ("much", None),
        ([], None),
        (7, None),
    ],
)
def test_usage_is_read_and_tamed(usage: Any, wanted: Usage | None) -> None:
    """The same in a whole answer and in a stream; nonsense is no usage rather than a wrong bill."""
    assert meter_json(answer(usage)) == wanted
    assert meter_json(answer(usage, service_tier="default")) == wanted
    meter, _ = metered([event({"choices": [], "usage": usage})])
    assert meter.usage == wanted


def test_usage_is_found_wherever_it_stands() -> None:
    """First, last, nested, twice, behind long content, behind a text about usage."""
    assert meter_json(json.dumps({"usage": USAGE, "choices": []}).encode()) == METERED
    assert meter_json(json.dumps({"choices": [{"usage": USAGE}]}).encode()) == METERED
    assert meter_json(json.dumps({"x_groq": {"usage": USAGE}}).encode()) == METERED
    assert (
        meter_json(json.dumps({"choices": [], "x": {"usage": {"prompt_tokens": 1}}}).encode())
        is None
    )
    both = {"usage": USAGE, "x": {"usage": {"prompt_tokens": 1}}}
    assert meter_json(json.dumps(both).encode()) == METERED
    assert meter_json(json.dumps(both, indent=2).encode()) == METERED
    content = '"usage":{"prompt_tokens":1} he said "usage'
    assert meter_json(answer(USAGE, content)) == METERED
    assert meter_json(json.dumps({"usage": USAGE, "text": content}).encode()) == METERED
    assert meter_json(answer(USAGE, "x" * 3_000_000)) == METERED
    floats = {"data": [{"embedding": [0.123456789] * 20_000}], "usage": {"prompt_tokens": 3}}
    assert meter_json(json.dumps(floats).encode()) == Usage(3)


def test_lone_surrogates_in_content_do_not_hide_usage() -> None:
    """A model may write half a surrogate pair; that is content."""
    assert meter_json(answer(USAGE, "\ud800")) == METERED
    body = json.dumps({"usage": USAGE, "text": "\udc00\ud800", "x": {"usage": 1}}).encode()
    assert meter_json(body) == METERED
    last = event(chunk("\ud83d", reason="stop", usage=USAGE))
    meter, out = metered([last])
    assert meter.usage == METERED
    assert out == last


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"<html>",
        b'"usage"',
        b'{"usage":',
        b'{"usage"',
        b"\xff",
        b'{"usage":{"prompt_tokens":1}}}',
    ],
)
def test_an_answer_that_is_no_answer_has_no_usage(body: bytes) -> None:
    """Broken and foreign bodies are None, not an exception."""
    assert meter_json(body) is None


def test_nesting_does_not_break_the_meter() -> None:
    """A vendor that nests without end is passed and not metered."""
    deep = b"[" * 100_000
    assert meter_json(b'{"usage":' + deep) is None
    assert error_in(b'{"error":' + deep) is None
    meter, out = metered([b'data: {"usage":' + deep + b"\n\n"])
    assert meter.usage is None
    assert meter.error is None
    assert out.endswith(deep + b"\n\n")


@given(st.binary(max_size=60), st.booleans())
def test_garbage_passes(data: bytes, keep_usage: bool) -> None:
    """No bytes break the meter, and without a usage chunk none are changed."""
    for text in (data, b'data: {"usage":' + data, b'data: {"choices":[],"usage"' + data + b"}\n\n"):
        meter, out = metered([text], keep_usage=keep_usage)
        assert out == text or meter.usage is not None
        meter_json(text)
        error_in(text)
        assert meter.output_tokens >= 0
        assert meter.error is None or isinstance(meter.error, VendorError)


# Errors...


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (ERROR, VendorError("overloaded", "server_error", "")),
        (
            {"error": {"message": "no", "type": "t", "param": "n", "code": "c"}},
            VendorError("no", "t", "c", "n"),
        ),
        ({"error": "plain words"}, VendorError("plain words", "api_error", "")),
        (
            {"error": {"message": "slow down", "code": 429}},
            VendorError("slow down", "api_error", "429", None, 429),
        ),
        (
            [{"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}],
            VendorError("busy", "UNAVAILABLE", "503", None, 503),
        ),
        (
            {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}, "choices": None},
            VendorError("rate limit", "api_error", "1002"),
        ),
        (
            {"error": {"message": ["odd"], "code": 1.5}},
            VendorError("the vendor gave no message", "api_error", ""),
        ),
        ({"choices": [{"index": 0}], "error": {"message": "no"}}, None),
        ({"choices": [], "error": None}, None),
        ({"error": {}}, None),
        ({"error": False}, None),
        ({"base_resp": {"status_code": 0}}, None),
        ([], None),
        ("error", None),
    ],
)
def test_errors_inside_a_200_are_read(body: Any, wanted: VendorError | None) -> None:
    """In the envelopes that vendors use; an answer with choices is an answer."""
    assert error_in(json.dumps(body).encode()) == wanted
    assert error_in(json.dumps(body, indent=1).encode() + b"\n") == wanted


def test_our_error_event_is_one_event_and_no_done() -> None:
    """One event that the official clients raise on, whatever the message holds."""
    raw = error_event('cut\n\ndata: [DONE] "x" \u2028', "upstream_error", "upstream_lost", "req_1")
    [(name, data)] = sse.decode(raw)
    assert name == "message"
    assert json.loads(data)["error"] == {
        "message": 'cut\n\ndata: [DONE] "x" \u2028',
        "type": "upstream_error",
        "param": None,
        "code": "upstream_lost",
        "request_id": "req_1",
    }
    meter, _ = metered([raw])
    assert not meter.done
    assert meter.error is not None


def test_our_error_body_is_openais_envelope() -> None:
    """All four members are there, null where there is nothing to say."""
    body = error_body("bad", "invalid_request_error", None, "model")
    assert msgspec.json.decode(body) == {
        "error": {"message": "bad", "type": "invalid_request_error", "param": "model", "code": None}
    }


def test_progress_tells_what_the_estimate_will_say() -> None:
    """A report while the stream goes on is as good as the last word: one token apart at most."""
    role = b'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
    word = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":" water"}}]}\n\n'
    meter = StreamMeter(keep_usage=False)
    assert meter.progress() == 0
    meter.look(role)
    for count in range(1, 400):
        meter.look(word)
        assert abs(meter.progress() - count) <= 1
        assert abs(meter.progress() - meter.output_tokens) <= 1
    meter.look(
        b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":7}}\n\n'
    )
    assert meter.progress() == 7
