"""
The meter: what an answer used, seen while its bytes go by.

`StreamMeter` is fed whole events once per read and never re-encodes. On the common read it searches
for ``"usage"`` and keeps a reference; everything else (was it finished, was there an error, how
many events) is worked out later from the last reads, which are kept for that, a few KB at most.

**Usage.** The last usage wins: vendors that report it in each chunk report it cumulatively. It is
taken from where they put it: ``usage``, ``choices[0].usage`` (Kimi) and ``x_groq.usage`` (Groq). A
chunk that carries nothing else (no choices) is what ``stream_options.include_usage`` adds, and is
left out when the caller did not ask for it. Input includes cached tokens and output includes
reasoning, as OpenAI counts. A vendor whose total exceeds input plus output (xAI and Gemini leave
thinking out of ``completion_tokens``) has the difference counted as reasoning.

**When usage does not come** the output is estimated. What is not content in an event (id, model,
braces) is about as long in each event, so it is measured on one event that is at hand, and the rest
of the stream's bytes is content. Most servers send one token per event, and then the number of
content events is the answer; a server that packs more has events with more content. So: the content
events, or a quarter of the content's bytes where events carry more than eight bytes on average, and
never less than one per content event. It is exact for servers that send a token per event, and
within the error of bytes/4 (+-30 %) for others.
"""

import re
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw

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
# Bytes of reads that are kept for a later look, and how many of the last are kept beyond that.
KEPT_BYTES = 12 * 1024
KEPT_READS = 4
TAIL_BYTES = 8 * 1024
# Content bytes in an event that one token may have.
BYTES_OF_ONE_TOKEN = 8
# Where a body is searched from its end instead of being decoded as a whole.
LONG_BODY = 4 * 1024


@dataclass(slots=True)
class Usage:
    """
    The tokens of an answer, as the vendor reports them.

    `input` includes `cached`, `cache_write` and `audio_input`; `output` includes `reasoning` and
    `audio_output`.
    """

    input: int = 0
    cached: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0


@dataclass(slots=True)
class VendorError:
    """An error that a vendor put into an answer with status 200."""

    message: str
    type: str
    code: str
    param: str | None = None


# What a member that is not there decodes to; msgspec has no unions with Raw.
_NONE = Raw(b"")


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None


class _HasUsage(msgspec.Struct, gc=False):
    usage: Raw = _NONE


class _Choice(msgspec.Struct, gc=False):
    usage: Raw = _NONE


class _XGroq(msgspec.Struct, gc=False):
    usage: Raw = _NONE


class _Document(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: Raw = _NONE
    x_groq: _XGroq | None = None


class _HasError(msgspec.Struct, gc=False):
    error: Any = None
    base_resp: Any = None
    choices: Any = None


_USAGE = msgspec.json.Decoder(_Usage)
_HAS_USAGE = msgspec.json.Decoder(_HasUsage)
_DOCUMENT = msgspec.json.Decoder(_Document)
_HAS_ERROR = msgspec.json.Decoder(_HasError)

_DONE_EVENT = b"data: [DONE]\n\n"
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')
_DONE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\][ \t]*(?:[\r\n]|$)")
_USAGE_OBJECT = re.compile(rb'"usage"\s*:\s*\{')
_DATA_LINE = re.compile(rb"(?:^|[\r\n])data:")


class StreamMeter:
    """
    Meters one streamed answer.

    `look` takes each read, cut at an event's end (`sse.EventSplitter`). Everything else may be asked
    at any time, and is final when the stream has ended: `usage` (None while the vendor reported
    none), `bytes` (of the answer, before anything was left out), `events`, `done` (the ``[DONE]``
    event came), `finished` (a finish reason came, or [DONE]), `error` and `output_tokens`.
    """

    __slots__ = (
        "_compact_at",
        "_counted",
        "_keep_usage",
        "_overhead",
        "_reads",
        "_seen_finish",
        "bytes",
        "usage",
    )

    def __init__(self, *, keep_usage: bool) -> None:
        """`keep_usage`: the caller asked for usage, so that nothing is left out."""
        self._keep_usage = keep_usage
        self._reads: list[bytes] = []
        self._compact_at = KEPT_BYTES
        self._counted = 0
        self._seen_finish = False
        self._overhead = -1
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
        # include_usage makes OpenAI write "usage":null into every other chunk.
        if at < 0 or (
            data.startswith(b":null", at + 7)
            and data.rfind(b'"usage":{', 0, at) < 0
            and data.rfind(b'"usage": {', 0, at) < 0
        ):
            return data
        return self._look_for_usage(data)

    def first(self, data: bytes) -> VendorError | None:
        """
        Say which error the stream's first event is, if it is one; before anything is forwarded.

        `data` is what the splitter gave first. It is not counted: `look` takes it as well.
        """
        if b'"error"' not in data:
            return None
        for _, text in sse.decode(data)[:1]:
            return error_in(text.encode())
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
        if self._seen_finish or self.done:
            return True
        text = b"".join(self._reads)
        return text.rfind(b'"finish_reason":"') >= 0 or _FINISHED.search(text) is not None

    @property
    def error(self) -> VendorError | None:
        """The error that the stream ended with, if it did."""
        text = b"".join(self._reads)
        if b'"error"' not in text:
            return None
        for _, data in reversed(sse.decode(text)):
            if '"error"' in data:
                found = error_in(data.encode())
                if found is not None:
                    return found
        return None

    @property
    def output_tokens(self) -> int:
        """The output so far: as the vendor reported, else estimated (see the module)."""
        if self.usage is not None:
            return self.usage.output
        self._learn()
        return self._estimate()

    def progress(self) -> int:
        """Give the output tokens so far, cheap enough for a report every two seconds."""
        return self.output_tokens

    # When usage may be there...

    def _look_for_usage(self, data: bytes) -> bytes:
        events = _split(data)
        kept: list[bytes] = []
        for event in events:
            if b'"usage"' in event and self._is_usage_only(event) and not self._keep_usage:
                continue
            kept.append(event)
        return data if len(kept) == len(events) else b"".join(kept)

    def _is_usage_only(self, event: bytes) -> bool:
        text = _payload(event)
        try:
            document = _DOCUMENT.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        raw = document.usage
        found = _sanitized(raw)
        if found is None:
            found = _nested(document)
        if found is not None:
            self.usage = found
        return not document.choices and bytes(raw).startswith(b"{")

    # Later...

    def _compact(self) -> None:
        self._learn()
        reads = self._reads
        gone = reads[:-KEPT_READS]
        kept = reads[-KEPT_READS:]
        if sum(map(len, kept)) > TAIL_BYTES:
            text = b"".join(kept)
            cut = max(text.rfind(b"\n\n", 0, -TAIL_BYTES) + 2, len(text) - 2 * TAIL_BYTES)
            gone.append(text[:cut])
            kept = [text[cut:]]
        text = b"".join(gone)
        self._counted += _count_events(text)
        self._seen_finish = self._seen_finish or _FINISHED.search(text) is not None
        self._reads = kept
        self._compact_at = self.bytes + KEPT_BYTES

    def _learn(self) -> None:
        """Measure what is not content on one event, unless that is known."""
        if self._overhead >= 0:
            return
        for event in _split(b"".join(self._reads)):
            content = _content_bytes(_payload(event))
            if content:
                self._overhead = len(event) - content
                return

    def _estimate(self) -> int:
        if self._overhead < 0:
            return 0
        chunks = self.events - self.done
        # The chunk with the finish reason is none of content, and the one with the role may be none.
        events = max(chunks - self.finished - 1, 1)
        content = self.bytes - chunks * self._overhead - len(_DONE_EVENT) * self.done
        if content > events * BYTES_OF_ONE_TOKEN:
            return max(events, (content + 3) // 4)
        return events


def meter_json(body: bytes) -> Usage | None:
    """
    Read the usage of a whole answer: chat, completion or embeddings; None when there is none.

    A long body is not decoded as a whole: usage comes after the content, and what begins at its key
    closes exactly one object if, and only if, it is a member of the top level.
    """
    at = body.rfind(b'"usage"')
    if at < 0:
        return None
    try:
        found = _sanitized(_HAS_USAGE.decode(b"{" + body[at:]).usage)
        if found is not None:
            return found
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        document = _DOCUMENT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    found = _sanitized(document.usage)
    return found if found is not None else _nested(document)


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
        return VendorError(
            str(error.get("message") or "the vendor gave no message"),
            str(error.get("type") or error.get("status") or "api_error"),
            str(error.get("code") or ""),
            param if isinstance(param, str) else None,
        )
    status = document.base_resp
    if isinstance(status, dict) and status.get("status_code"):
        return VendorError(
            str(status.get("status_msg") or "the vendor gave no message"),
            "api_error",
            str(status["status_code"]),
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


def _split(data: bytes) -> list[bytes]:
    if b"\r" in data:
        return sse.split(data)
    events = data.split(b"\n\n")
    last = events.pop()
    events = [event + b"\n\n" for event in events]
    if last:
        events.append(last)
    return events


def _payload(event: bytes) -> bytes:
    """Take the data of one event, in the common case without decoding it."""
    if event.startswith(b"data:") and event.count(b"\n") == 2:
        return event[5:]
    return "\n".join([text for _, text in sse.decode(event)]).encode()


def _count_events(text: bytes) -> int:
    if b"\r" in text:
        return len(_DATA_LINE.findall(text))
    return text.count(b"\ndata:") + text.startswith(b"data:")


def _content_bytes(payload: bytes) -> int:
    try:
        document = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0
    if not isinstance(document, dict) or not isinstance(document.get("choices"), list):
        return 0
    total = 0
    for choice in document["choices"]:
        if isinstance(choice, dict):
            delta = choice.get("delta")
            if isinstance(delta, dict):
                delta.pop("role", None)
            total += _text_bytes(choice.get("text")) + _text_bytes(delta)
    return total


def _text_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    if isinstance(value, dict):
        return sum([_text_bytes(part) for part in value.values()])
    if isinstance(value, list):
        return sum([_text_bytes(part) for part in value])
    return 0


def _nested(document: _Document) -> Usage | None:
    if document.x_groq is not None:
        found = _sanitized(document.x_groq.usage)
        if found is not None:
            return found
    for choice in document.choices or ():
        found = _sanitized(choice.usage)
        if found is not None:
            return found
    return None


def _sanitized(raw: Raw) -> Usage | None:
    """Read one usage object; None when it is not there or its counts make no sense."""
    if not len(raw):
        return None
    try:
        found = _USAGE.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        lenient = _lenient(raw)
        if lenient is None:
            return None
        found = lenient
    reported = found.prompt_tokens
    output = found.completion_tokens
    if reported is None and output is None:
        return None
    prompt = reported or 0
    output = output or 0
    if not (0 <= prompt <= MAX_TOKENS and 0 <= output <= MAX_TOKENS):
        return None
    usage = Usage(prompt, 0, 0, output)
    inputs = found.prompt_tokens_details
    cached = 0
    if inputs is not None:
        cached = inputs.cached_tokens or 0
        usage.cache_write = _within(inputs.cache_write_tokens, prompt)
        usage.audio_input = _within(inputs.audio_tokens, prompt)
    cached = cached or found.prompt_cache_hit_tokens or found.cached_tokens or 0
    usage.cached = _within(cached, prompt)
    outputs = found.completion_tokens_details
    reasoning = 0
    if outputs is not None:
        reasoning = outputs.reasoning_tokens or 0
        usage.audio_output = _within(outputs.audio_tokens, output)
    total = found.total_tokens
    if total is not None and prompt + output < total <= MAX_TOKENS:
        surplus = total - prompt - output
        if reasoning in (0, surplus):
            reasoning = surplus
            usage.output = output + surplus
    usage.reasoning = _within(reasoning, usage.output)
    return usage


def _within(value: int | None, most: int) -> int:
    return 0 if value is None or value < 0 else min(value, most)


def _lenient(raw: Raw) -> _Usage | None:
    """Read a usage object some of whose values are of a wrong type, without those."""
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    numbers = _numbers(document)
    inputs = document.get("prompt_tokens_details")
    outputs = document.get("completion_tokens_details")
    if isinstance(inputs, dict):
        numbers["prompt_tokens_details"] = _numbers(inputs)
    if isinstance(outputs, dict):
        numbers["completion_tokens_details"] = _numbers(outputs)
    return msgspec.convert(numbers, _Usage)


def _numbers(document: dict[str, Any]) -> dict[str, Any]:
    return {
        name: int(value)
        for name, value in document.items()
        if type(value) is int or (type(value) is float and value.is_integer())
    }
