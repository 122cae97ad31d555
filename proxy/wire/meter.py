"""
The meter: what an answer used, seen while its bytes go by.

`StreamMeter` is fed whole events once per read and never re-encodes. On the common read it searches
for the key of a usage report and keeps a reference; everything else (was it finished, was there an
error, how many events) is worked out later from the last reads, which are kept for that: 12 KB or so
of them, or the end of the last read if that is longer. Where the whole stream is wanted, what comes before
them is put aside, and nobody looks at it until then. How a protocol says these things is a
`Grammar`: a table, made once for each protocol (`openai_answers`, `anthropic_answers`).

**When usage does not come** the output is estimated. As long as all events are at hand (12 KB) they
are decoded, and the events with content and the bytes of that content are exact. In a longer stream
what is not content in an event (id, model, braces) is about as long in each, so it is measured on
the first event that has content, and the rest of the stream's bytes is content. Most servers send
one token per event, and then the number of content events is the answer; a server that packs more
has events with more content. So: the content events, or a quarter of the content's bytes where
events carry more than eight bytes on average, and never less than one per content event. It is
exact for servers that send a token per event, and within the error of bytes/4 (+-30 %) for others.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from proxy.wire.framing import EVENTS, Framing

__all__ = [
    "KEPT_BYTES",
    "Grammar",
    "StreamMeter",
    "Units",
    "Usage",
    "VendorError",
    "error_in",
    "never_finished",
    "texts_in",
    "within",
]

MAX_TOKENS = 1 << 40
# Bytes of reads that are kept for a later look, how many of the last are kept beyond that, and how
# much of those at most: the finish reason, the usage, [DONE] and a comment may each be a read.
KEPT_BYTES = 12 * 1024
KEPT_READS = 4
TAIL_BYTES = 8 * 1024
# Content bytes in an event that one token may have.
BYTES_OF_ONE_TOKEN = 8


class Units(Struct, gc=False):
    """
    What an answer used that is not sold by the token.

    `image_kind` is `quality/size`, either empty where nobody knows; durations are microseconds.
    `estimated`: we measured it, and the vendor did not say.
    """

    images: int = 0
    image_kind: str = ""
    audio_input_us: int = 0
    audio_output_us: int = 0
    characters: int = 0
    search_units: int = 0
    estimated: bool = False


class Usage(Struct, gc=False):
    """
    The tokens of an answer, as the vendor reports them.

    `input_tokens` includes the cached, cache-write and audio ones; `output_tokens` includes the
    reasoning and audio ones. `cache_write_1h_tokens` are those of the cache-write ones that were to
    live for an hour; `web_searches` is a count; `image_input_tokens` and `image_output_tokens` are parts
    of the input and the output. None is negative, and no part is greater than its whole. `units` is what
    is not sold by the token, None for nothing.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_searches: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    units: Units | None = None


class VendorError(Struct, gc=False):
    """
    An error that a vendor put into an answer with status 200.

    `status` is the HTTP status that the vendor meant, where its code says so, else 0.
    """

    message: str
    type: str
    code: str
    param: str | None = None
    status: int = 0


class _Failed(Struct, gc=False):
    error: Any = None


class _HasError(Struct, gc=False):
    error: Any = None
    base_resp: Any = None
    choices: Any = None
    type: Any = None
    message: Any = None
    code: Any = None
    response: _Failed | None = None


_HAS_ERROR = msgspec.json.Decoder(_HasError)


def _nobody(_: bytes) -> set[int]:
    """Say that no choice has ended: for a protocol that has no choices."""
    return set()


@dataclass(frozen=True, slots=True, eq=False)
class Grammar:
    """
    How a protocol's streams say what the meter has to know.

    `usage_key` is in every event that reports usage. `read_usage` takes a read that holds it, the
    usage known before, and whether all of it is to be forwarded; it gives the usage now (None while
    there is none), whether that counts the output, and the bytes to forward. Where `usage_repeats`, each
    report stands for all before it and nothing is ever left out: then only the last is read. `said` yields
    the content of a decoded event. `is_finished` looks for the reason of an end, `ended` says which choices
    gave one, `is_done` looks (in the last reads) for the event that ends a stream, which is `done_size`
    bytes long; where `usage_ends`, that is the event which reports usage. `stream_type` is the media type of
    a stream, `framing` how it is made of events.
    """

    usage_key: bytes
    read_usage: Callable[[bytes, "Usage | None", bool], tuple["Usage | None", bool, bytes]]
    said: Callable[[Any], Iterator[str]]
    is_finished: Callable[[bytes], bool]
    is_done: Callable[[list[bytes]], bool]
    done_size: int = 0
    ended: Callable[[bytes], set[int]] = _nobody
    usage_ends: bool = False
    stream_type: bytes = b"text/event-stream"
    framing: Framing = EVENTS
    usage_repeats: bool = False


class StreamMeter:
    """
    Meters one streamed answer.

    `look` takes each read, cut at an event's end (`sse.EventSplitter`); a last event that no blank
    line ended may come at the end. Everything else may be asked at any time, and is final when the
    stream has ended: `usage` (None while the vendor reported none), `bytes` (of the answer, before
    anything was left out), `events` (that carried data), `done` (the event that ends it came),
    `finished` (each choice gave a finish reason, or the end came), `error` and `output_tokens`.
    """

    __slots__ = (
        "_choices",
        "_compact_at",
        "_counted",
        "_counts_output",
        "_ended",
        "_finished",
        "_framing",
        "_gone",
        "_grammar",
        "_keep_usage",
        "_key",
        "_lead",
        "_lead_bytes",
        "_overhead",
        "_reads",
        "_repeats",
        "_scale",
        "_unread",
        "_usage",
        "_whole",
        "bytes",
    )

    def __init__(
        self, grammar: Grammar, *, keep_usage: bool, choices: int = 1, whole: int = 0
    ) -> None:
        """
        Meter from the first event on.

        `keep_usage`: the caller asked for usage, so that nothing is left out. `choices`: how many answers
        it asked for, each of which comes to an end of its own. `whole`: the bytes up to which the whole
        stream is wanted when it has ended.
        """
        self._grammar = grammar
        self._framing = grammar.framing
        self._key = grammar.usage_key
        self._repeats = grammar.usage_repeats
        self._keep_usage = keep_usage
        # What was reported, whether that counts the output and not the input alone, and a report that nobody has read.
        self._usage: Usage | None = None
        self._counts_output = False
        self._unread = b""
        self._reads: list[bytes] = []
        self._compact_at = KEPT_BYTES
        # What came before the reads that are kept, as long as the whole stream is wanted.
        self._whole = whole
        self._gone: list[bytes] = []
        self._choices = choices
        # Of what is no longer kept: its events, whether one had a finish reason, and, where that is not
        # the same, the choices that had.
        self._counted = 0
        self._finished = False
        self._ended: set[int] = set()
        # Of the first event with content: bytes that are not content (-1: not seen yet), how much
        # shorter its content is than it is written, and the events before it.
        self._overhead = -1
        self._scale = 1.0
        self._lead = 0
        self._lead_bytes = 0
        self.bytes = 0

    def look(self, data: bytes) -> bytes:
        """
        Look at whole events; give the bytes to forward, which may be none at all.

        It is the same object unless a usage-only chunk had to be left out.
        """
        self._reads.append(data)
        self.bytes += len(data)
        if self.bytes > self._compact_at:
            self._compact()
        at = data.rfind(self._key)
        if at < 0:
            return data
        # include_usage makes OpenAI write "usage":null into every other chunk.
        if data.startswith(b":null", at + 7) and (
            data.rfind(b'"usage"', 0, at) < 0
            or (data.rfind(b'"usage":{', 0, at) < 0 and data.rfind(b'"usage": {', 0, at) < 0)
        ):
            return data
        if self._repeats and len(data) <= TAIL_BYTES:
            # A longer one, which may hold a picture, is not kept for it.
            self._unread = data
            return data
        self._usage, self._counts_output, out = self._grammar.read_usage(
            data, self.usage, self._keep_usage
        )
        return out

    @property
    def usage(self) -> Usage | None:
        """What the vendor has reported so far; None while there is nothing."""
        if self._unread:
            read, self._unread = self._unread, b""
            # Behind a report that nobody can read stands the one before.
            for data in (read, *reversed(self._reads)):
                if data.rfind(self._key) >= 0:
                    found, counts_output, _ = self._grammar.read_usage(data, None, True)
                    if found is not None:
                        self._usage, self._counts_output = found, counts_output
                        break
        return self._usage

    def first(self, data: bytes) -> VendorError | None:
        """
        Say which error the stream's first event is, if it is one; before anything is forwarded.

        `data` is what the splitter gave first, and is not counted: `look` takes it as well.
        """
        if data.rfind(b'"error"') < 0:
            return None
        framing = self._framing
        for event in framing.events_in(data):
            payload = framing.payload_of(event)
            if payload:
                # Responses writes that there is none.
                none = payload.count(b'"error"') == payload.count(b'"error":null')
                return None if none else error_in(payload)
        return None

    def close(self) -> bytes:
        """Take that nothing more comes; what passes as it is has nothing left to say."""
        return b""

    @property
    def events(self) -> int:
        """The events that carried data, the one that ends the stream included."""
        return self._counted + self._framing.count(b"".join(self._reads))

    @property
    def done(self) -> bool:
        """Whether the event came that ends a stream."""
        grammar = self._grammar
        if grammar.usage_ends and self._counts_output:
            return True
        return grammar.is_done(self._reads)

    @property
    def tail(self) -> bytes:
        """The end of the stream as it came, or all of a short one."""
        return b"".join(self._reads)

    @property
    def whole(self) -> bytes:
        """The stream as it came, empty where it was longer than what is wanted of it, and than what is kept of any."""
        if self._gone and self.bytes > self._whole:
            return b""
        text = b"".join((*self._gone, *self._reads))
        return text if len(text) == self.bytes else b""

    @property
    def finished(self) -> bool:
        """Whether the answer came to its end: each choice gave a finish reason, or the end itself came."""
        return self.done or self._reasons() >= self._choices

    @property
    def error(self) -> VendorError | None:
        """The error that the stream ended with, if it did; look for it when it is not `finished`."""
        text = b"".join(self._reads)
        if text.rfind(b'"error"') < 0:
            return None
        framing = self._framing
        for event in reversed(list(framing.events_in(text))):
            if b'"error"' in event:
                found = error_in(framing.payload_of(event))
                if found is not None:
                    return found
        return None

    @property
    def output_tokens(self) -> int:
        """
        The output so far: as the vendor reported, else estimated (see the module).

        Costs a few us in a long stream, and some 2 us for each event of the first 12 KB.
        """
        usage = self.usage
        if usage is not None and self._counts_output:
            return usage.output_tokens
        text = b"".join(self._reads)
        if not self._counted:
            events = self._framing.events_in(text)
            sizes = [size for event in events if (size := self._content(event)[0])]
            return _estimated(len(sizes), sum(sizes))
        if self._overhead < 0:
            self._learn(text)
            if self._overhead < 0:
                return 0
        done = self.done
        chunks = self.events - done
        # Before the content comes the role; a chunk that has a finish reason has no content.
        saying = max(chunks - self._lead - self._reasons(), 1)
        written = self.bytes - chunks * self._overhead - self._grammar.done_size * done
        return _estimated(saying, int(written * self._scale))

    def progress(self) -> int:
        """
        Return the output so far, for a report while the stream goes on: some us in any stream.

        It may count the chunk that ends the answer as one token more than `output_tokens` does.
        """
        usage = self.usage
        if usage is not None and self._counts_output:
            return usage.output_tokens
        text = b"".join(self._reads)
        if self._overhead < 0:
            self._learn(text)
            if self._overhead < 0:
                return 0
        events = self._counted + self._framing.count(text) - self._lead
        written = self.bytes - self._lead_bytes - events * self._overhead
        return _estimated(max(events, 1), int(written * self._scale))

    # Later...

    def _reasons(self) -> int:
        """Count the choices that gave a finish reason."""
        text = b"".join(self._reads)
        if self._choices == 1:
            return int(self._finished or self._grammar.is_finished(text))
        return len(self._ended | self._grammar.ended(text))

    def _compact(self) -> None:
        """Count what is kept, and keep only the end of it."""
        reads = self._reads
        if self._overhead < 0:
            self._learn(b"".join(reads))
        kept = reads[-KEPT_READS:]
        gone = reads[:-KEPT_READS]
        if sum(map(len, kept)) > 2 * TAIL_BYTES:
            text = b"".join(kept)
            end = self._framing.end
            cut = text.rfind(end, 0, -TAIL_BYTES) + len(end)
            if cut < len(text) - 2 * TAIL_BYTES:
                # One event longer than all that is kept: its end has to do.
                cut = len(text) - TAIL_BYTES
            gone.append(text[:cut])
            kept = [text[cut:]]
        text = b"".join(gone)
        self._counted += self._framing.count(text)
        self._finished = self._finished or self._grammar.is_finished(text)
        if self._choices > 1 and self._finished and len(self._ended) < self._choices:
            # No more than were asked for: a vendor may number its choices as it likes.
            self._ended |= self._grammar.ended(text)
        if self.bytes <= self._whole:
            self._gone.append(text)
        else:
            self._gone.clear()
        self._reads = kept
        self._compact_at = self.bytes + KEPT_BYTES

    def _learn(self, text: bytes) -> None:
        lead = before = 0
        framing = self._framing
        for event in framing.events_in(text):
            content, written = self._content(event)
            if content:
                self._overhead = len(event) - written
                self._scale = content / written
                self._lead = lead
                self._lead_bytes = before
                return
            lead += framing.count(event)
            before += len(event)

    def _content(self, event: bytes) -> tuple[int, int]:
        """
        Measure the content of one event (text, reasoning, arguments of tools): UTF-8 bytes, written bytes.

        Written it is longer: by a backslash here and there, or threefold where non-ASCII is escaped.
        """
        try:
            document = msgspec.json.decode(self._framing.payload_of(event))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return 0, 0
        text = "".join(self._grammar.said(document))
        escaped = b"\\u" in event
        return len(text.encode()), len(json.dumps(text, ensure_ascii=escaped).encode()) - 2


def error_in(body: bytes) -> VendorError | None:
    """
    Read the error out of an answer that has status 200, or out of an event's data.

    Knows OpenAI's envelope (also as a bare string, or in an array as Gemini's OpenAI door sends it)
    and MiniMax's ``base_resp``, the flat ``error`` event of Responses, and their ``response.failed``. An
    answer that has choices is no error.
    """
    try:
        document = _HAS_ERROR.decode(body.strip().removeprefix(b"[").removesuffix(b"]"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if document.choices:
        return None
    error = document.error
    if error is None and document.response is not None:
        error = document.response.error
    if error is None and document.type == "error" and isinstance(document.message, str):
        return VendorError(document.message, "api_error", _said(document.code, ""))
    if isinstance(error, str) and error:
        return VendorError(error, "api_error", "")
    if isinstance(error, dict) and error:
        param = error.get("param")
        code = error.get("code")
        return VendorError(
            _said(error.get("message"), "the vendor gave no message"),
            _said(error.get("type") or error.get("status"), "api_error"),
            _said(code, ""),
            param if isinstance(param, str) else None,
            # OpenRouter and Gemini give the HTTP status as the code.
            code if type(code) is int and 400 <= code < 600 else 0,
        )
    status = document.base_resp
    if isinstance(status, dict) and status.get("status_code"):
        return VendorError(
            _said(status.get("status_msg"), "the vendor gave no message"),
            "api_error",
            _said(status["status_code"], ""),
        )
    return None


# Reading...


def never_finished(text: bytes) -> bool:
    """Say that a reason to stop is not yet the end, of protocols whose streams end with an event of their own."""
    return False


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text in a value of JSON, names of members left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts_in(part)


def _estimated(events: int, content: int) -> int:
    if content > events * BYTES_OF_ONE_TOKEN:
        return max(events, (content + 3) // 4)
    return events


def _said(value: Any, default: str) -> str:
    if isinstance(value, str) and value:
        return value
    return str(value) if type(value) is int else default


def within(value: int, most: int) -> int:
    """Give a count of a part that is not negative, nor greater than its whole."""
    return 0 if value < 0 else min(value, most)
