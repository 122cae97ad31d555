"""The laws of the meter: bytes pass, usage is found wherever vendors put it, and ends are known."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import sse
from proxy.wire.meter import (
    KEPT_BYTES,
    StreamMeter,
    Usage,
    VendorError,
    error_in,
)
from proxy.wire.openai_answers import CHUNKS, meter_json
from tests.proxy.wire.chunks import (
    AZURE_FIRST,
    METERED,
    ONLY_USAGE,
    USAGE,
    WORDS,
    chunk,
    event,
    metered,
    stream,
    ways,
)

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
        meter = StreamMeter(CHUNKS, keep_usage=True)
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
        splitter, meter = sse.EventSplitter(), StreamMeter(CHUNKS, keep_usage=False)
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
    meter = StreamMeter(CHUNKS, keep_usage=False)
    for read in stream(nulls=True):
        assert meter.look(read) is read


def test_a_read_of_usage_alone_leaves_nothing() -> None:
    """The shell must be ready for an empty answer of `look`."""
    meter = StreamMeter(CHUNKS, keep_usage=False)
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


def of_choice(index: int, document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "choices": [{**document["choices"][0], "index": index}]}


@pytest.mark.parametrize("words", [2, 2000], ids=["short", "beyond what is kept"])
def test_a_stream_of_many_choices_is_finished_when_each_gave_its_reason(words: int) -> None:
    """The first one's reason says nothing of the others; the same one's twice is one."""
    said = [of_choice(index, chunk("word")) for _ in range(words) for index in (0, 1, 2)]
    reasons = [of_choice(index, chunk(None, reason="stop")) for index in (1, 0, 1, 2)]
    for more in ([], [chunk("word")] * words):
        documents = [*said, *reasons[:3], *(of_choice(2, one) for one in more), reasons[3]]
        events = [event(document) for document in documents]
        for reads in (events, [b"".join(events[:-1]), events[-1]]):
            meter = StreamMeter(CHUNKS, keep_usage=False, choices=3)
            for read in reads[:-1]:
                meter.look(read)
            assert not meter.finished
            meter.look(reads[-1])
            assert meter.finished
            assert not meter.done
    together = {**chunk(None), "choices": [{"finish_reason": "stop"}, {"finish_reason": "length"}]}
    meter = StreamMeter(CHUNKS, keep_usage=False, choices=2)
    meter.look(event(together))
    assert meter.finished
    meter = StreamMeter(CHUNKS, keep_usage=False, choices=2)
    for odd in (
        '{"finish_reason":"stop"',
        '["finish_reason":"stop"]',
        '{"choices":{"finish_reason":"stop"}}',
    ):
        meter.look(event(odd))
    assert not meter.finished
    meter.look(event("[DONE]"))
    assert meter.finished


def test_choices_that_nobody_asked_for_fill_no_memory() -> None:
    """A vendor may go on numbering them for as long as its stream lasts; they have all ended when so many have as were asked for."""
    meter = StreamMeter(CHUNKS, keep_usage=False, choices=2)
    for number in range(4000):
        meter.look(event(chunk("", choices=[{"index": number, "finish_reason": "stop"}])))
    assert meter.finished
    assert len(meter._ended) * 30 < 2 * KEPT_BYTES


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
    meter = StreamMeter(CHUNKS, keep_usage=False)
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
        found = StreamMeter(CHUNKS, keep_usage=False).first(
            b": ping" + f"{end}{end}".encode() + first
        )
        assert found == VendorError("overloaded", "server_error", "")
        for last in (first, first + event("[DONE]", end=end), b"event: error\n" + first):
            meter, out = metered([*stream(end=end)[:4], last])
            assert out.endswith(last)
            assert meter.error == VendorError("overloaded", "server_error", "")
    assert StreamMeter(CHUNKS, keep_usage=False).first(b"".join(stream()) + event(ERROR)) is None
    assert StreamMeter(CHUNKS, keep_usage=False).first(event(chunk("x", error=None))) is None
    assert StreamMeter(CHUNKS, keep_usage=False).first(b": nothing yet\n\n") is None


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
    assert StreamMeter(CHUNKS, keep_usage=False).output_tokens == 0


# Whole answers...


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


def test_progress_tells_what_the_estimate_will_say() -> None:
    """A report while the stream goes on is as good as the last word: one token apart at most."""
    role = b'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
    word = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":" water"}}]}\n\n'
    meter = StreamMeter(CHUNKS, keep_usage=False)
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


@pytest.mark.parametrize("together", [1, 7, 1000])
def test_a_whole_stream_is_at_hand_up_to_what_is_wanted(together: int) -> None:
    """Byte by byte as it came; of a longer one nothing is, soon after it became too long."""
    events = [event(chunk("word" * 50)) for _ in range(400)]
    reads = [b"".join(events[at : at + together]) for at in range(0, len(events), together)]
    size = sum(map(len, events))
    assert size > 4 * KEPT_BYTES
    for wanted, whole in ((size, b"".join(events)), (size - 1, b""), (0, b"")):
        meter = StreamMeter(CHUNKS, keep_usage=False, whole=wanted)
        for one in reads:
            meter.look(one)
        assert meter.whole == whole
    short = StreamMeter(CHUNKS, keep_usage=False)
    short.look(events[0])
    assert short.whole == events[0]


def test_what_a_stream_says_does_not_hang_on_whether_it_is_at_hand() -> None:
    """What is asked while it goes on is counted as it comes, and not over all of it again and again."""
    plain = StreamMeter(CHUNKS, keep_usage=False)
    kept = StreamMeter(CHUNKS, keep_usage=False, whole=1 << 20)
    for read in [*stream()[:1], *[event(chunk("word" * 9)) for _ in range(900)], *stream()[-2:]]:
        plain.look(read)
        kept.look(read)
        assert sum(map(len, kept._reads)) < 2 * KEPT_BYTES
        assert (kept.tail, kept.events, kept.finished) == (plain.tail, plain.events, plain.finished)
        assert kept.progress() == plain.progress()
    assert kept.output_tokens == plain.output_tokens
