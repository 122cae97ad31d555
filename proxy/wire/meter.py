"""
The meter: what an answer used, seen while its bytes go by.

`StreamMeter` is fed whole events once per read and never re-encodes. On the common read it searches
for ``"usage"`` and keeps a reference; everything else (was it finished, was there an error, how
many events) is worked out later from the last reads, which are kept for that: 12 KB or so of them,
or the end of the last read if that is longer.

**Usage.** The last usage wins: vendors that report it in each chunk report it cumulatively. It is
taken from where they put it: ``usage``, ``choices[0].usage`` (Kimi) and ``x_groq.usage`` (Groq). A
chunk that carries nothing else (no choices) is what ``stream_options.include_usage`` adds, and is
left out when the caller did not ask for it. Input includes cached tokens and output includes
reasoning, as OpenAI counts. A vendor whose total exceeds input plus output (xAI and Gemini leave
thinking out of ``completion_tokens``) has the difference counted as reasoning.

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
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from proxy.wire import sse

__all__ = [
    "StreamMeter",
    "Usage",
    "VendorError",
    "error_body",
    "error_event",
    "error_in",
    "meter_json",
]

MAX_TOKENS = 1 << 40
# Bytes of reads that are kept for a later look, how many of the last are kept beyond that, and how
# much of those at most: the finish reason, the usage, [DONE] and a comment may each be a read.
KEPT_BYTES = 12 * 1024
KEPT_READS = 4
TAIL_BYTES = 8 * 1024
# Content bytes in an event that one token may have.
BYTES_OF_ONE_TOKEN = 8
# A body in which usage is not found the short way, and which is not decodable, is given up beyond.
MAX_ODD_BODY = 1 << 20


class Usage(Struct, gc=False):
    """
    The tokens of an answer, as the vendor reports them.

    `input_tokens` includes the cached, cache-write and audio ones; `output_tokens` includes the
    reasoning and audio ones. None is negative, and no part is greater than its whole.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0


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


class _InputDetails(Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None


class _OutputDetails(Struct, gc=False):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class _Usage(Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None


class _HasUsage(Struct, gc=False):
    usage: _Usage | None = None


class _Document(Struct, gc=False):
    choices: list[_HasUsage] | None = None
    usage: _Usage | None = None
    x_groq: _HasUsage | None = None


class _HasError(Struct, gc=False):
    error: Any = None
    base_resp: Any = None
    choices: Any = None


_HAS_USAGE = msgspec.json.Decoder(_HasUsage)
_DOCUMENT = msgspec.json.Decoder(_Document)
_HAS_ERROR = msgspec.json.Decoder(_HasError)

_DONE_EVENT = b"data: [DONE]\n\n"
_DONE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\][ \t]*(?:[\r\n]|$)")
_FINISHED = re.compile(rb'"finish_reason"[ \t]*:[ \t]*"')
_DATA_LINE = re.compile(rb"(?:^|[\r\n])data:")
_CR, _BRACE = b"\r{"


class StreamMeter:
    """
    Meters one streamed answer.

    `look` takes each read, cut at an event's end (`sse.EventSplitter`); a last event that no blank
    line ended may come at the end. Everything else may be asked at any time, and is final when the
    stream has ended: `usage` (None while the vendor reported none), `bytes` (of the answer, before
    anything was left out), `events` (that carried data), `done` (the ``[DONE]`` event came),
    `finished` (a finish reason came, or [DONE]), `error` and `output_tokens`.
    """

    __slots__ = (
        "_compact_at",
        "_counted",
        "_finished",
        "_keep_usage",
        "_lead",
        "_lead_bytes",
        "_overhead",
        "_reads",
        "_scale",
        "bytes",
        "usage",
    )

    def __init__(self, *, keep_usage: bool) -> None:
        """`keep_usage`: the caller asked for usage, so that nothing is left out."""
        self._keep_usage = keep_usage
        self._reads: list[bytes] = []
        self._compact_at = KEPT_BYTES
        # Of what is no longer kept: its events, and whether one had a finish reason.
        self._counted = 0
        self._finished = False
        # Of the first event with content: bytes that are not content (-1: not seen yet), how much
        # shorter its content is than it is written, and the events before it.
        self._overhead = -1
        self._scale = 1.0
        self._lead = 0
        self._lead_bytes = 0
        self.bytes = 0
        self.usage: Usage | None = None

    def look(self, data: bytes) -> bytes:
        """
        Look at whole events; give the bytes to forward, which may be none at all.

        It is the same object unless a usage-only chunk had to be left out.
        """
        self._reads.append(data)
        self.bytes += len(data)
        if self.bytes > self._compact_at:
            self._compact()
        at = data.rfind(b'"usage"')
        if at < 0:
            return data
        # include_usage makes OpenAI write "usage":null into every other chunk.
        if data.startswith(b":null", at + 7) and (
            data.rfind(b'"usage"', 0, at) < 0
            or (data.rfind(b'"usage":{', 0, at) < 0 and data.rfind(b'"usage": {', 0, at) < 0)
        ):
            return data
        return self._look_for_usage(data)

    def first(self, data: bytes) -> VendorError | None:
        """
        Say which error the stream's first event is, if it is one; before anything is forwarded.

        `data` is what the splitter gave first, and is not counted: `look` takes it as well.
        """
        for event in _events(data):
            if b"data" in event:
                return error_in(_payload(event)) if b'"error"' in event else None
        return None

    @property
    def events(self) -> int:
        """The events that carried data, [DONE] included."""
        return self._counted + _count_events(b"".join(self._reads))

    @property
    def done(self) -> bool:
        """Whether the [DONE] event came."""
        reads = self._reads
        if reads and reads[-1].endswith(_DONE_EVENT):
            return True
        return _DONE.search(b"".join(reads)) is not None

    @property
    def finished(self) -> bool:
        """Whether the answer came to its end: a finish reason was given, or [DONE] came."""
        return self.done or self._has_reason()

    @property
    def error(self) -> VendorError | None:
        """The error that the stream ended with, if it did; look for it when it is not `finished`."""
        text = b"".join(self._reads)
        if text.rfind(b'"error"') < 0:
            return None
        for event in reversed(list(_events(text))):
            if b'"error"' in event:
                found = error_in(_payload(event))
                if found is not None:
                    return found
        return None

    @property
    def output_tokens(self) -> int:
        """
        The output so far: as the vendor reported, else estimated (see the module).

        Costs a few us in a long stream, and some 2 us for each event of the first 12 KB.
        """
        if self.usage is not None:
            return self.usage.output_tokens
        text = b"".join(self._reads)
        if not self._counted:
            sizes = [size for event in _events(text) if (size := _content(event)[0])]
            return _estimated(len(sizes), sum(sizes))
        if self._overhead < 0:
            self._learn(text)
            if self._overhead < 0:
                return 0
        done = self.done
        chunks = self.events - done
        # Before the content comes the role; the chunk that has the finish reason has no content.
        events = max(chunks - self._lead - self._has_reason(), 1)
        written = self.bytes - chunks * self._overhead - len(_DONE_EVENT) * done
        return _estimated(events, int(written * self._scale))

    def progress(self) -> int:
        """
        Return the output so far, for a report while the stream goes on: some us in any stream.

        It may count the chunk that ends the answer as one token more than `output_tokens` does.
        """
        if self.usage is not None:
            return self.usage.output_tokens
        text = b"".join(self._reads)
        if self._overhead < 0:
            self._learn(text)
            if self._overhead < 0:
                return 0
        events = self._counted + _count_events(text) - self._lead
        written = self.bytes - self._lead_bytes - events * self._overhead
        return _estimated(max(events, 1), int(written * self._scale))

    # When usage may be there...

    def _look_for_usage(self, data: bytes) -> bytes:
        found: Usage | None = None
        kept: list[bytes] = []
        end = len(data)
        at = data.rfind(b'"usage"')
        objects = [text for text in (b'"usage":{', b'"usage": {') if data.rfind(text) >= 0]
        # From the last event to the first, so that the first usage found is the last one reported.
        while at >= 0:
            begin, after = _event_around(data, at)
            event = data[begin:after]
            if found is None or b'"choices":[{' not in event:
                usage, alone = _usage_of(_payload(event))
                found = found or usage
                if alone and not self._keep_usage:
                    kept.append(data[after:end])
                    end = begin
            if found is not None and self._keep_usage:
                break
            at = max([data.rfind(text, 0, begin) for text in objects], default=-1)
        if found is not None:
            self.usage = found
        if end == len(data):
            return data
        kept.append(data[:end])
        kept.reverse()
        return b"".join(kept)

    # Later...

    def _has_reason(self) -> bool:
        return self._finished or _is_finished(b"".join(self._reads))

    def _compact(self) -> None:
        """Count what is kept, and keep only the end of it."""
        reads = self._reads
        if self._overhead < 0:
            self._learn(b"".join(reads))
        kept = reads[-KEPT_READS:]
        gone = reads[:-KEPT_READS]
        if sum(map(len, kept)) > 2 * TAIL_BYTES:
            text = b"".join(kept)
            cut = text.rfind(b"\n\n", 0, -TAIL_BYTES) + 2
            if cut < len(text) - 2 * TAIL_BYTES:
                # One event longer than all that is kept: its end has to do.
                cut = len(text) - TAIL_BYTES
            gone.append(text[:cut])
            kept = [text[cut:]]
        text = b"".join(gone)
        self._counted += _count_events(text)
        self._finished = self._finished or _is_finished(text)
        self._reads = kept
        self._compact_at = self.bytes + KEPT_BYTES

    def _learn(self, text: bytes) -> None:
        lead = before = 0
        for event in _events(text):
            content, written = _content(event)
            if content:
                self._overhead = len(event) - written
                self._scale = content / written
                self._lead = lead
                self._lead_bytes = before
                return
            lead += b"data:" in event
            before += len(event)


def meter_json(body: bytes) -> Usage | None:
    """
    Read the usage of a whole answer: chat, completion or embeddings; None when there is none.

    A body is not decoded as a whole where usage comes last, as it does: what begins at its key and
    gets an opening brace is one object if, and only if, the key is a member of the top level.
    """
    at = body.rfind(b'"usage"')
    if at < 0:
        return None
    try:
        raw = _HAS_USAGE.decode(b"{" + body[at:]).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _usage_of(body)[0] if len(body) <= MAX_ODD_BODY else _strict_usage_of(body)
    return None if raw is None else _settled(raw)


def error_in(body: bytes) -> VendorError | None:
    """
    Read the error out of an answer that has status 200, or out of an event's data.

    Knows OpenAI's envelope (also as a bare string, or in an array as Gemini's OpenAI door sends it)
    and MiniMax's ``base_resp``. An answer that has choices is no error.
    """
    try:
        document = _HAS_ERROR.decode(body.strip().removeprefix(b"[").removesuffix(b"]"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if document.choices:
        return None
    error = document.error
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


def error_body(message: str, type_: str, code: str | None, param: str | None = None) -> bytes:
    """Write an error in OpenAI's envelope."""
    return msgspec.json.encode(
        {"error": {"message": message, "type": type_, "param": param, "code": code}}
    )


def error_event(message: str, type_: str, code: str | None, request_id: str) -> bytes:
    """
    Write the event that ends a stream which was cut: an error, and no [DONE] after it.

    The official clients raise ``APIError`` on a chunk that has a truthy ``error``.
    """
    error = {
        "message": message,
        "type": type_,
        "param": None,
        "code": code,
        "request_id": request_id,
    }
    return b"data: %b\n\n" % msgspec.json.encode({"error": error})


# Reading...


def _events(data: bytes) -> Iterator[bytes]:
    """Cut into events, lazily in the common framing; the last may be unfinished."""
    if _CR in data:
        yield from sse.split(data)
        return
    at = 0
    while at < len(data):
        end = data.find(b"\n\n", at) + 2
        if end < 2:
            end = len(data)
        yield data[at:end]
        at = end


def _event_around(data: bytes, at: int) -> tuple[int, int]:
    """Say where the event that holds the byte `at` begins, and where the next one does."""
    if _CR in data:
        begin = 0
        for event in sse.split(data):
            if begin + len(event) > at:
                return begin, begin + len(event)
            begin += len(event)
    begin = data.rfind(b"\n\n", 0, at) + 2
    end = data.find(b"\n\n", at) + 2
    return (begin if begin >= 2 else 0), (end if end >= 2 else len(data))


def _payload(event: bytes) -> bytes:
    """Take the data of one event, in the common case without decoding it."""
    if event.startswith(b"data:") and event.count(b"\n") <= 2 and event.count(b"\r") <= 2:
        return event[5:]
    return "\n".join([text for _, text in sse.decode(event + b"\n\n")]).encode()


def _count_events(text: bytes) -> int:
    if _CR in text:
        return len(_DATA_LINE.findall(text))
    return text.count(b"\ndata:") + text.startswith(b"data:")


def _is_finished(text: bytes) -> bool:
    return (
        text.rfind(b'"finish_reason":"') >= 0
        or text.rfind(b'"finish_reason": "') >= 0
        or (text.rfind(b'"finish_reason":') < 0 and _FINISHED.search(text) is not None)
    )


def _content(event: bytes) -> tuple[int, int]:
    """
    Measure the content of one event (text, reasoning, arguments of tools): UTF-8 bytes, written bytes.

    Written it is longer: by a backslash here and there, or threefold where non-ASCII is escaped.
    """
    try:
        document = msgspec.json.decode(_payload(event))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0, 0
    choices = document.get("choices") if isinstance(document, dict) else None
    texts: list[str] = []
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            texts += _texts(choice.get("text"))
            delta = choice.get("delta")
            if isinstance(delta, dict):
                delta.pop("role", None)
                texts += _texts(delta)
    text = "".join(texts)
    escaped = b"\\u" in event
    return len(text.encode()), len(json.dumps(text, ensure_ascii=escaped).encode()) - 2


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _estimated(events: int, content: int) -> int:
    if content > events * BYTES_OF_ONE_TOKEN:
        return max(events, (content + 3) // 4)
    return events


def _said(value: Any, default: str) -> str:
    if isinstance(value, str) and value:
        return value
    return str(value) if type(value) is int else default


def _strict_usage_of(text: bytes) -> Usage | None:
    try:
        return _reported(_DOCUMENT.decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _usage_of(text: bytes) -> tuple[Usage | None, bool]:
    """Read the usage of a chunk or an answer, and whether there are no choices beside it."""
    try:
        document = _DOCUMENT.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _odd_usage_of(text)
    return _reported(document), document.usage is not None and not document.choices


def _odd_usage_of(text: bytes) -> tuple[Usage | None, bool]:
    """
    Read usage where a value has a type that it should not have.

    The json module also takes what msgspec does not: lone surrogates, which are content and none of
    the meter's business.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None, False
    if not isinstance(document, dict):
        return None, False
    usage = document.get("usage")
    choices = document.get("choices")
    alone = isinstance(usage, dict) and not choices
    groq = document.get("x_groq")
    candidates = [usage, groq.get("usage") if isinstance(groq, dict) else None]
    if isinstance(choices, list):
        candidates += [choice.get("usage") for choice in choices if isinstance(choice, dict)]
    for candidate in candidates:
        if isinstance(candidate, dict):
            found = _settled(_tamed(candidate))
            if found is not None:
                return found, alone
    return None, alone


def _tamed(usage: dict[str, Any]) -> _Usage:
    """Leave out of a usage object what is not a whole number."""
    return msgspec.convert(
        _numbers(usage)
        | {
            name: _numbers(details)
            for name in ("prompt_tokens_details", "completion_tokens_details")
            if isinstance(details := usage.get(name), dict)
        },
        _Usage,
    )


def _numbers(document: dict[str, Any]) -> dict[str, Any]:
    return {
        name: int(value)
        for name, value in document.items()
        if type(value) is int or (type(value) is float and value.is_integer())
    }


def _reported(document: _Document) -> Usage | None:
    if document.usage is not None:
        found = _settled(document.usage)
        if found is not None:
            return found
    if document.x_groq is not None and document.x_groq.usage is not None:
        return _settled(document.x_groq.usage)
    for choice in document.choices or ():
        if choice.usage is not None:
            return _settled(choice.usage)
    return None


def _settled(found: _Usage) -> Usage | None:
    """Make the gateway's counts of a vendor's; None when the main ones make no sense."""
    prompt = found.prompt_tokens
    output = found.completion_tokens
    if prompt is None:
        if output is None:
            return None
        prompt = 0
    if output is None:
        output = 0
    if not (0 <= prompt <= MAX_TOKENS and 0 <= output <= MAX_TOKENS):
        return None
    usage = Usage(prompt, 0, 0, output)
    cached = found.prompt_cache_hit_tokens or found.cached_tokens
    inputs = found.prompt_tokens_details
    if inputs is not None:
        cached = inputs.cached_tokens or cached
        if inputs.cache_write_tokens:
            usage.cache_write_tokens = _within(inputs.cache_write_tokens, prompt)
        if inputs.audio_tokens:
            usage.audio_input_tokens = _within(inputs.audio_tokens, prompt)
    if cached:
        usage.cached_tokens = _within(cached, prompt)
    reasoning = 0
    outputs = found.completion_tokens_details
    if outputs is not None:
        reasoning = outputs.reasoning_tokens or 0
        if outputs.audio_tokens:
            usage.audio_output_tokens = _within(outputs.audio_tokens, output)
    total = found.total_tokens
    if total is not None and prompt + output < total <= MAX_TOKENS:
        surplus = total - prompt - output
        if reasoning in (0, surplus):
            reasoning = surplus
            usage.output_tokens = output + surplus
    if reasoning:
        usage.reasoning_tokens = _within(reasoning, usage.output_tokens)
    return usage


def _within(value: int, most: int) -> int:
    return 0 if value < 0 else min(value, most)
