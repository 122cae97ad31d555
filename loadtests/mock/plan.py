"""
What goes onto the wire for a call: rendered once, written many times.

A plan is a pure function of what was asked (`Asked`) and of a render time, so the vendor keeps plans in a table and a repeated call costs a lookup and a write.
Three things happen in turn, each on its own: what is said (`_events`), what goes wrong with it (`_spoil`), how it is framed and paced (`_steps`).
Every id in a plan is `PLACEHOLDER`; the vendor puts one of its own, as long, in its place.
"""

import base64
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from loadtests.mock import converse, gemini, media, messages, responses, words
from loadtests.mock.behaviour import Behaviour, read_behaviour

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
MESSAGES = messages.MESSAGES
COUNT = messages.COUNT
RESPONSES = responses.RESPONSES
GENERATE = gemini.GENERATE
GENERATE_STREAM = gemini.STREAM
GENERATE_COUNT = gemini.COUNT
CONVERSE = converse.CONVERSE
CONVERSE_STREAM = converse.STREAM

PLACEHOLDER = b"000000000000000000000000"
_ID = PLACEHOLDER.decode()
# One write carries at most so much, so that a burst of megabytes still feels backpressure.
_WRITE_BYTES = 65536

_REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    529: "Site Overloaded",
}
_ERROR_WORDS: dict[int, tuple[str, str | None, str]] = {
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("permission_error", None, "You are not allowed to do this."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    500: ("server_error", None, "The server had an error while processing your request."),
    503: ("server_error", None, "The engine is currently overloaded, please try again later."),
    529: ("overloaded_error", None, "The service is overloaded."),
}
_ARGUMENTS = messages.ARGUMENTS
_CALL_ID = f"call_{_ID}"
_OPENAI_FIELDS = (
    ("x-request-id", f"req_{_ID}"),
    ("openai-processing-ms", "1"),
    ("x-ratelimit-limit-requests", "30000"),
    ("x-ratelimit-remaining-requests", "29999"),
)
_ANTHROPIC_FIELDS = (
    ("request-id", f"req_{_ID}"),
    ("anthropic-organization-id", "00000000-0000-4000-8000-000000000000"),
    ("anthropic-ratelimit-requests-limit", "30000"),
    ("anthropic-ratelimit-requests-remaining", "29999"),
)
_GEMINI_FIELDS = (("server-timing", "gfet4t7; dur=1"), ("x-content-type-options", "nosniff"))


class Asked(NamedTuple):
    """What a call asks for, as far as it changes the answer: the key of the plan table."""

    path: str
    model: str
    stream: bool = False
    include_usage: bool = False
    cap: int | None = None
    body_bytes: int = 0
    inputs: int = 1
    base64: bool = False
    dimensions: int | None = None
    format: str = ""
    characters: int = 0
    partial: int = 0


class Step(NamedTuple):
    """Bytes that fall due `at_ms` after the request was complete; `tokens` is completion tokens sent once they are."""

    at_ms: int
    wire: bytes
    tokens: int


@dataclass(frozen=True, slots=True)
class Plan:
    """
    How one call is answered.

    `end` is what follows the last step: `keep` the connection, `close` it, `reset` it, or `hang`.
    `whole` is all of the bytes where nothing needs time, pieces or an end of its own: the short way.
    `healed` is the plan after the first `times` failures, and `times` counts them.
    """

    steps: tuple[Step, ...]
    end: str
    outcome: str
    prompt_tokens: int
    whole: bytes | None = None
    tokens: int = 0
    breathe: bool = False
    drop_ms: int | None = None
    jitter_ms: int = 0
    times: int | None = None
    healed: "Plan | None" = None
    units: media.Units | None = None


class _Event(NamedTuple):
    """A piece of body; `beat` counts the pauses before it."""

    payload: bytes
    tokens: int
    beat: int = 0


class _Body(NamedTuple):
    """
    A body as it will be framed.

    `length` is what its head claims, `complete` says whether its end comes.
    """

    events: list[_Event]
    length: int
    complete: bool
    end: str
    outcome: str


def plan(asked: Asked, created: int) -> Plan:
    """
    Render the answer to a call; `created` is unix seconds.

    Raises `BadOption` when the model name makes no sense.
    """
    return _plan(asked, read_behaviour(asked.model), created)


def _plan(asked: Asked, behaviour: Behaviour, created: int) -> Plan:
    prompt = behaviour.prompt
    if prompt is None:
        prompt = math.ceil(asked.body_bytes / 4)
    medium: media.Said | None = None
    if asked.path in media.PATHS:
        medium = media.said(asked, behaviour, prompt, created)
    if behaviour.status is not None:
        payload = error_body(behaviour.status, path=asked.path)
        body = _Body([_Event(payload, 0)], len(payload), True, "keep", "refused")
        prompt = 0
        stream = False
    else:
        stream = asked.stream and asked.path not in {EMBEDDINGS, COUNT, GENERATE_COUNT}
        said = (
            _events(asked, behaviour, prompt, created)
            if medium is None
            else [_Event(*one) for one in medium.events]
        )
        body = _spoil(said, behaviour, asked.path, stream=stream)
    content_type = "" if medium is None or behaviour.status is not None else medium.content_type
    steps = tuple(_steps(body, behaviour, asked.path, stream=stream, content_type=content_type))
    end = "close" if body.end == "keep" and _closes(behaviour, stream) else body.end
    plain = (
        end == "keep"
        and len(steps) == 1
        and not steps[0].at_ms
        and behaviour.drop_ms is None
        and behaviour.times is None
    )
    return Plan(
        steps=steps,
        end=end,
        outcome=body.outcome,
        prompt_tokens=0 if medium is not None and not reports_tokens(medium) else prompt,
        units=None if medium is None else medium.units,
        whole=steps[0].wire if plain else None,
        tokens=steps[-1].tokens if steps else 0,
        breathe=behaviour.split > 0,
        drop_ms=behaviour.drop_ms,
        jitter_ms=behaviour.jitter_ms,
        times=behaviour.times if behaviour.fails else None,
        healed=_plan(asked, behaviour.healed(), created)
        if behaviour.fails and behaviour.times is not None
        else None,
    )


def _closes(behaviour: Behaviour, stream: bool) -> bool:
    return (
        behaviour.close
        or behaviour.early
        or _framing(behaviour, stream) == "close"
        or (behaviour.garbage == "chunk")
    )


# What is said


def _usage(behaviour: Behaviour, prompt: int, visible: int) -> dict[str, Any]:
    completion = visible + behaviour.reasoning
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": min(behaviour.cached, prompt),
            "cache_write_tokens": min(behaviour.cache_write, prompt),
            "audio_tokens": min(behaviour.audio_in, prompt),
        },
        "completion_tokens_details": {
            "reasoning_tokens": behaviour.reasoning,
            "audio_tokens": behaviour.audio_out,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _visible(asked: Asked, behaviour: Behaviour) -> tuple[int, str]:
    """Say how many visible tokens there will be under the caller's cap, and why they end."""
    if asked.cap is None:
        return behaviour.tokens, "stop"
    room = max(0, asked.cap - behaviour.reasoning)
    if behaviour.tokens <= room:
        return behaviour.tokens, "stop"
    return room, "length"


def _events(asked: Asked, behaviour: Behaviour, prompt: int, created: int) -> list[_Event]:
    if asked.path == EMBEDDINGS:
        return [_Event(_embeddings(asked, behaviour, prompt), 0)]
    if asked.path == COUNT:
        return [_Event(msgspec.json.encode({"input_tokens": prompt}), 0)]
    if asked.path == GENERATE_COUNT:
        return [_Event(msgspec.json.encode({"totalTokens": prompt}), 0)]
    visible, finish = _visible(asked, behaviour)
    if asked.path == MESSAGES:
        capped = finish == "length"
        if asked.stream:
            said = messages.events(behaviour, _ID, prompt, visible, capped=capped)
            return [_Event(*one) for one in said]
        whole = messages.message(behaviour, _ID, prompt, visible, capped=capped)
        return [_Event(msgspec.json.encode(whole), visible + behaviour.reasoning)]
    if gemini.is_spoken_at(asked.path):
        capped = finish == "length"
        if asked.stream:
            pieces = gemini.chunks(behaviour, _ID, prompt, visible, capped=capped)
            return [_Event(*one) for one in pieces]
        told = gemini.answer(behaviour, _ID, prompt, visible, capped=capped)
        return [_Event(msgspec.json.encode(told), visible + behaviour.reasoning)]
    if converse.is_spoken_at(asked.path):
        capped = finish == "length"
        if asked.stream:
            framed = converse.events(behaviour, prompt, visible, capped=capped)
            return [_Event(*one) for one in framed]
        told = converse.answer(behaviour, prompt, visible, capped=capped)
        return [_Event(msgspec.json.encode(told), visible + behaviour.reasoning)]
    if asked.path == RESPONSES:
        capped = finish == "length"
        ask = (behaviour, _ID, created, prompt, visible)
        if asked.stream:
            return [_Event(*one) for one in responses.events(*ask, capped=capped)]
        whole = responses.response(*ask, capped=capped)
        return [_Event(msgspec.json.encode(whole), visible + behaviour.reasoning)]
    if asked.stream:
        return _streamed(asked, behaviour, prompt, created, (visible, finish))
    document = _completion(asked, behaviour, created, visible, finish)
    if behaviour.usage != "off":
        document["usage"] = _usage(behaviour, prompt, visible)
    return [_Event(msgspec.json.encode(document), visible + behaviour.reasoning)]


def _completion(
    asked: Asked, behaviour: Behaviour, created: int, visible: int, finish: str
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": f"chatcmpl-{_ID}" if asked.path == CHAT else f"cmpl-{_ID}",
        "object": "chat.completion" if asked.path == CHAT else "text_completion",
        "created": created,
        "model": behaviour.name,
    }
    if asked.path == COMPLETIONS:
        choice: dict[str, Any] = {
            "text": words.say(visible),
            "index": 0,
            "logprobs": None,
            "finish_reason": finish,
        }
    else:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": words.say(visible),
            "refusal": None,
            "annotations": [],
        }
        if behaviour.tools:
            call = {"name": "get_weather", "arguments": _ARGUMENTS}
            message["content"] = None
            message["tool_calls"] = [{"id": _CALL_ID, "type": "function", "function": call}]
            finish = "tool_calls"
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    document["choices"] = [choice]
    document["service_tier"] = "default"
    document["system_fingerprint"] = "fp_5e1f00d5"
    return document


def _streamed(
    asked: Asked, behaviour: Behaviour, prompt: int, created: int, ending: tuple[int, str]
) -> list[_Event]:
    visible, finish = ending
    line_end = "\r\n" if behaviour.crlf else "\n"
    chat = asked.path == CHAT
    with_usage = behaviour.usage == "always" or (behaviour.usage == "on" and asked.include_usage)
    frame: dict[str, Any] = {
        "id": f"chatcmpl-{_ID}" if chat else f"cmpl-{_ID}",
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": created,
        "model": behaviour.name,
        "service_tier": "default",
        "system_fingerprint": "fp_5e1f00d5",
    }

    def event(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
        document = frame | {"choices": choices}
        if usage is not None or asked.include_usage:
            document["usage"] = usage
        return _sse(msgspec.json.encode(document), line_end)

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        if chat:
            return event([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}])
        text = delta.get("content", "")
        return event([{"text": text, "index": 0, "logprobs": None, "finish_reason": finish}])

    hidden = behaviour.reasoning
    events: list[_Event] = []
    if behaviour.tools and chat:
        finish = "tool_calls"
        function = {"name": "get_weather", "arguments": ""}
        call = {"index": 0, "id": _CALL_ID, "type": "function", "function": function}
        opening = {"role": "assistant", "content": None, "tool_calls": [call]}
        events.append(_Event(chunk(opening), hidden))
        parts = max(1, min(visible, len(_ARGUMENTS)))
        edges = [len(_ARGUMENTS) * at // parts for at in range(parts + 1)]
        for at in range(parts):
            piece = {"arguments": _ARGUMENTS[edges[at] : edges[at + 1]]}
            delta = {"tool_calls": [{"index": 0, "function": piece}]}
            events.append(_Event(chunk(delta), hidden + visible * (at + 1) // parts, at))
    else:
        if chat:
            opening = {"role": "assistant", "content": "", "refusal": None}
            events.append(_Event(chunk(opening), hidden))
        filler = "." * behaviour.pad
        ready: dict[str, bytes] = {}  # as many as there are words, however long the stream
        for at in range(visible):
            word = words.token(at)
            payload = ready.get(word)
            if payload is None:
                payload = ready[word] = chunk({"content": word + filler})
            events.append(_Event(payload, hidden + at + 1, at))
    last = events[-1].beat if events else 0
    events.append(_Event(chunk({}, finish), hidden + visible, last))
    if with_usage:
        usage = event([], _usage(behaviour, prompt, visible))
        events.append(_Event(usage, hidden + visible, last))
    if behaviour.done == "on":
        events.append(_Event(_sse(b"[DONE]", line_end), hidden + visible, last))
    return events


def _sse(payload: bytes, line_end: str) -> bytes:
    return b"data: " + payload + line_end.encode() * 2


def _embeddings(asked: Asked, behaviour: Behaviour, prompt: int) -> bytes:
    size = asked.dimensions or behaviour.dim
    data = []
    for at in range(asked.inputs):
        # A point on the unit sphere, another one for each input; no meaning is in it.
        raw = [math.sin((at + 1) * (place + 1)) for place in range(size)]
        norm = math.sqrt(sum(number * number for number in raw)) or 1.0
        packed = struct.pack(f"<{size}f", *(number / norm for number in raw))
        vector: Any = (
            base64.b64encode(packed).decode()
            if asked.base64
            else list(struct.unpack(f"<{size}f", packed))
        )
        data.append({"object": "embedding", "index": at, "embedding": vector})
    document: dict[str, Any] = {"object": "list", "data": data, "model": behaviour.name}
    if behaviour.usage != "off":
        document["usage"] = {"prompt_tokens": prompt, "total_tokens": prompt}
    return msgspec.json.encode(document)


def error_body(
    status: int,
    message: str | None = None,
    *,
    kind: str | None = None,
    param: str | None = None,
    code: str | None = None,
    path: str = CHAT,
) -> bytes:
    """Render the error envelope of the protocol that a path is of; words and type default to what that status says there."""
    usual_kind, usual_code, usual_words = _ERROR_WORDS.get(
        status,
        ("server_error" if status >= 500 else "invalid_request_error", None, "It went wrong."),
    )
    if messages.is_spoken_at(path):
        return msgspec.json.encode(messages.error(status, message or usual_words, _ID))
    if gemini.is_spoken_at(path):
        return msgspec.json.encode(gemini.error(status, message or usual_words))
    if converse.is_spoken_at(path):
        return msgspec.json.encode(converse.error(message or usual_words))
    return msgspec.json.encode(
        {
            "error": {
                "message": message or usual_words,
                "type": kind or usual_kind,
                "param": param,
                "code": code or (usual_code if message is None else None),
            }
        }
    )


# What goes wrong with it


def _spoil(events: list[_Event], behaviour: Behaviour, path: str, *, stream: bool) -> _Body:
    line_end = "\r\n" if behaviour.crlf else "\n"
    length = sum(len(event.payload) for event in events)

    def broken(kept: list[_Event], end: str, outcome: str) -> _Body:
        return _Body(kept, length, False, end, outcome)

    def whole(said: list[_Event], outcome: str) -> _Body:
        return _Body(said, sum(len(event.payload) for event in said), True, "keep", outcome)

    if behaviour.hang is not None:
        return broken(_half(events, stream) if behaviour.hang == "mid" else [], "hang", "hung")
    if behaviour.cut is not None:
        kept = _first_bytes(events, behaviour.cut)
        return broken(kept, *(("reset", "reset") if behaviour.reset else ("close", "cut")))
    if behaviour.reset:
        return broken([], "reset", "reset")
    if behaviour.garbage == "body":
        payload = b"<html>oh no</html>"
        if stream:
            framed = path == CONVERSE_STREAM
            payload = converse.nonsense() if framed else _sse(b'{"id": oh no', line_end)
        return whole([_Event(payload, 0)], "garbage")
    if behaviour.garbage is not None:
        kept = _half(events, stream) if behaviour.garbage == "chunk" else []
        return broken(kept, "close", "garbage")
    if behaviour.error is None:
        return whole(events, "ok")
    if not stream:
        return whole([_Event(error_body(500, path=path), 0)], "stream_error")
    before = _half(events, stream) if behaviour.error == "mid" else []
    last = before[-1] if before else _Event(b"", 0)
    payload = error_body(500, path=path)
    if messages.is_spoken_at(path) or path == RESPONSES:
        payload = messages.sse("error", msgspec.Raw(payload), line_end)
    elif path == CONVERSE_STREAM:
        payload = converse.exception(500, _ERROR_WORDS[500][2])
    else:
        payload = _sse(payload, line_end)
    said = _Event(payload, last.tokens, last.beat)
    return whole([*before, said], "stream_error")


def _half(events: list[_Event], stream: bool) -> list[_Event]:
    if stream:
        return events[: max(1, len(events) // 2)]
    return _first_bytes(events, len(events[0].payload) // 2)


def _first_bytes(events: list[_Event], size: int) -> list[_Event]:
    """Keep the first `size` bytes of body; a token counts once all of its event is out."""
    kept: list[_Event] = []
    tokens = 0
    for event in events:
        if size <= 0:
            break
        if len(event.payload) <= size:
            tokens = event.tokens
        kept.append(_Event(event.payload[:size], tokens, event.beat))
        size -= len(event.payload)
    return kept


# How it is framed and paced


def _framing(behaviour: Behaviour, stream: bool) -> str:
    if behaviour.garbage == "chunk":
        return "chunked"
    if behaviour.framing is not None and behaviour.status is None:
        return behaviour.framing
    return "chunked" if stream else "length"


def head(
    status: int,
    content_type: str,
    extra: tuple[tuple[str, str], ...] = (),
    *,
    length: int | None,
    path: str = CHAT,
) -> bytes:
    """
    Render an answer's head; without a length the body is framed by what `extra` says.

    The rate limit headers are the vendor's own: a gateway that hands them through tells its caller a lie.
    """
    fields = [
        ("content-type", content_type),
        *([] if length is None else [("content-length", str(length))]),
        *extra,
        *_fields(path, status),
    ]
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    reason = _REASONS.get(status, "Unknown")
    return f"HTTP/1.1 {status} {'OK' if status == 200 else reason}\r\n{lines}\r\n".encode()


def _fields(path: str, status: int) -> tuple[tuple[str, str], ...]:
    if messages.is_spoken_at(path):
        return _ANTHROPIC_FIELDS
    if converse.is_spoken_at(path):
        return converse.fields(status, _ID)
    return _GEMINI_FIELDS if gemini.is_spoken_at(path) else _OPENAI_FIELDS


def _answer_head(
    body: _Body, behaviour: Behaviour, path: str, *, stream: bool, content_type: str
) -> bytes:
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </docs>; rel=help\r\n\r\n"
    before = early if behaviour.head_1xx else b""
    if behaviour.garbage == "head":
        return before + b"\x16\x03\x01 this is no HTTP\r\n\r\n"
    framing = _framing(behaviour, stream)
    extra: list[tuple[str, str]] = []
    length = None
    if framing == "length":
        length = body.length  # a body that will be cut still claims what it was to have
    elif framing == "chunked":
        extra.append(("transfer-encoding", "chunked"))
    if behaviour.close or behaviour.early or framing == "close":
        extra.append(("connection", "close"))
    if behaviour.retry_after is not None:
        extra.append(("retry-after", str(behaviour.retry_after)))
    if stream:
        extra.append(("cache-control", "no-cache"))
    usual = "application/json"
    if stream:
        framed = path == CONVERSE_STREAM
        usual = converse.STREAM_TYPE if framed else "text/event-stream; charset=utf-8"
    return before + head(
        behaviour.status or 200, content_type or usual, tuple(extra), length=length, path=path
    )


def reports_tokens(medium: media.Said) -> bool:
    """Say whether an answer speaks of tokens; what does not is not billed by them."""
    return any(b'"input_tokens"' in payload for payload, _, _ in medium.events)


def _steps(
    body: _Body, behaviour: Behaviour, path: str, *, stream: bool, content_type: str = ""
) -> Iterator[Step]:
    if behaviour.hang == "head" and behaviour.status is None:
        return
    if body.end == "reset" and not body.events and behaviour.cut is None:
        yield Step(behaviour.ttft_ms, b"", 0)
        return
    chunked = _framing(behaviour, stream) == "chunked" and behaviour.garbage != "head"
    pending = [_answer_head(body, behaviour, path, stream=stream, content_type=content_type)]
    size = len(pending[0])
    tokens = behaviour.reasoning if body.outcome != "refused" and stream else 0
    # A step that is due at once is not waited for, so a random delay begins at one millisecond.
    first_ms = max(behaviour.ttft_ms, 1 if behaviour.jitter_ms else 0)
    at_ms = first_ms
    for event in body.events:
        due = first_ms + event.beat * behaviour.interval_ms
        if due != at_ms or size > _WRITE_BYTES:
            yield from _split(Step(at_ms, b"".join(pending), tokens), behaviour.split)
            pending, size, at_ms = [], 0, due
        wire = b"%x\r\n%b\r\n" % (len(event.payload), event.payload) if chunked else event.payload
        pending.append(wire)
        size += len(wire)
        tokens = event.tokens
    if behaviour.garbage == "chunk" and body.outcome == "garbage":
        pending.append(b"xyz; no size\r\n")
    elif chunked and body.complete:
        pending.append(b"0\r\n\r\n")
    yield from _split(Step(at_ms, b"".join(pending), tokens), behaviour.split)


def _split(step: Step, size: int) -> Iterator[Step]:
    if not size:
        yield step
        return
    for start in range(0, len(step.wire), size):
        yield Step(step.at_ms, step.wire[start : start + size], step.tokens)
