"""
What goes onto the wire for a call: rendered once, written many times.

A plan is a pure function of what was asked (`Asked`) and of a render time, so the vendor keeps plans in a table and a repeated call costs a lookup and a write.
Three things happen in turn, each on its own: what is said (`_said`), what goes wrong with it (`_spoil`), how it is framed and paced (`_steps`).
Every id in a plan is `PLACEHOLDER`; the vendor puts one of its own, as long, in its place.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from loadtests.mock import chat, converse, gemini, media, messages, ollama, responses
from loadtests.mock.behaviour import Behaviour, read_behaviour
from loadtests.mock.exchange import ID, Asked, Said

CHAT = chat.CHAT
COMPLETIONS = chat.COMPLETIONS
EMBEDDINGS = chat.EMBEDDINGS
MESSAGES = messages.MESSAGES
COUNT = messages.COUNT
RESPONSES = responses.RESPONSES
GENERATE = gemini.GENERATE
GENERATE_STREAM = gemini.STREAM
GENERATE_COUNT = gemini.COUNT
OLLAMA = ollama.OLLAMA
CONVERSE = converse.CONVERSE
CONVERSE_STREAM = converse.STREAM

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
_OPENAI_FIELDS = (
    ("x-request-id", f"req_{ID}"),
    ("openai-processing-ms", "1"),
    ("x-ratelimit-limit-requests", "30000"),
    ("x-ratelimit-remaining-requests", "29999"),
)
_ANTHROPIC_FIELDS = (
    ("request-id", f"req_{ID}"),
    ("anthropic-organization-id", "00000000-0000-4000-8000-000000000000"),
    ("anthropic-ratelimit-requests-limit", "30000"),
    ("anthropic-ratelimit-requests-remaining", "29999"),
)
_GEMINI_FIELDS = (("server-timing", "gfet4t7; dur=1"), ("x-content-type-options", "nosniff"))


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


class _Body(NamedTuple):
    """
    A body as it will be framed.

    `length` is what its head claims, `complete` says whether its end comes.
    """

    events: list[Said]
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
    medium: media.Answer | None = None
    if asked.path in media.PATHS:
        medium = media.said(asked, behaviour, prompt, created)
    if behaviour.status is not None:
        payload = error_body(behaviour.status, path=asked.path)
        body = _Body([Said(payload, 0)], len(payload), True, "keep", "refused")
        prompt = 0
        stream = False
    else:
        stream = asked.stream and asked.path not in {EMBEDDINGS, COUNT, GENERATE_COUNT}
        said = _said(asked, behaviour, prompt, created) if medium is None else medium.events
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


def _visible(asked: Asked, behaviour: Behaviour) -> tuple[int, bool]:
    """Say how many visible tokens there will be, and whether the caller's cap ends them."""
    if asked.cap is None:
        return behaviour.tokens, False
    room = max(0, asked.cap - behaviour.reasoning)
    return min(behaviour.tokens, room), behaviour.tokens > room


def _said(asked: Asked, behaviour: Behaviour, prompt: int, created: int) -> list[Said]:
    if asked.path == EMBEDDINGS:
        return [Said(msgspec.json.encode(chat.embeddings(asked, behaviour, prompt)), 0)]
    if asked.path == COUNT:
        return [Said(msgspec.json.encode({"input_tokens": prompt}), 0)]
    if asked.path == GENERATE_COUNT:
        return [Said(msgspec.json.encode({"totalTokens": prompt}), 0)]
    visible, capped = _visible(asked, behaviour)
    if asked.path == MESSAGES:
        if asked.stream:
            return messages.events(behaviour, ID, prompt, visible, capped=capped)
        document = messages.message(behaviour, ID, prompt, visible, capped=capped)
    elif gemini.is_spoken_at(asked.path):
        if asked.stream:
            return gemini.chunks(behaviour, ID, prompt, visible, capped=capped)
        document = gemini.answer(behaviour, ID, prompt, visible, capped=capped)
    elif converse.is_spoken_at(asked.path):
        if asked.stream:
            return converse.events(behaviour, prompt, visible, capped=capped)
        document = converse.answer(behaviour, prompt, visible, capped=capped)
    elif asked.path == OLLAMA:
        if asked.stream:
            return ollama.lines(behaviour, prompt, visible, capped=capped)
        document = ollama.answer(behaviour, prompt, visible, capped=capped)
    elif asked.path == RESPONSES:
        if asked.stream:
            return responses.events(behaviour, ID, created, prompt, visible, capped=capped)
        document = responses.response(behaviour, ID, created, prompt, visible, capped=capped)
    else:
        if asked.stream:
            return chat.events(asked, behaviour, prompt, created, visible, capped=capped)
        document = chat.answer(asked, behaviour, prompt, created, visible, capped=capped)
    return [Said(msgspec.json.encode(document), visible + behaviour.reasoning)]


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
    usual_kind, usual_code, usual_words = chat.ERROR_WORDS.get(
        status,
        ("server_error" if status >= 500 else "invalid_request_error", None, "It went wrong."),
    )
    if messages.is_spoken_at(path):
        return msgspec.json.encode(messages.error(status, message or usual_words, ID))
    if gemini.is_spoken_at(path):
        return msgspec.json.encode(gemini.error(status, message or usual_words))
    if converse.is_spoken_at(path):
        return msgspec.json.encode(converse.error(message or usual_words))
    if path == OLLAMA:
        return msgspec.json.encode(ollama.error(message or usual_words))
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


def _spoil(events: list[Said], behaviour: Behaviour, path: str, *, stream: bool) -> _Body:
    line_end = "\r\n" if behaviour.crlf else "\n"
    length = sum(len(event.payload) for event in events)

    def broken(kept: list[Said], end: str, outcome: str) -> _Body:
        return _Body(kept, length, False, end, outcome)

    def whole(said: list[Said], outcome: str) -> _Body:
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
            payload = converse.nonsense() if framed else chat.sse(b'{"id": oh no', line_end)
            payload = b'{"id": oh no\n' if path == OLLAMA else payload
        return whole([Said(payload, 0)], "garbage")
    if behaviour.garbage is not None:
        kept = _half(events, stream) if behaviour.garbage == "chunk" else []
        return broken(kept, "close", "garbage")
    if behaviour.error is None:
        return whole(events, "ok")
    if not stream:
        return whole([Said(error_body(500, path=path), 0)], "stream_error")
    before = _half(events, stream) if behaviour.error == "mid" else []
    last = before[-1] if before else Said(b"", 0)
    payload = error_body(500, path=path)
    if messages.is_spoken_at(path) or path == RESPONSES:
        payload = messages.sse("error", msgspec.Raw(payload), line_end)
    elif path == CONVERSE_STREAM:
        payload = converse.exception(500, chat.ERROR_WORDS[500][2])
    elif path == OLLAMA:
        payload += b"\n"
    else:
        payload = chat.sse(payload, line_end)
    said = Said(payload, last.tokens, last.beat)
    return whole([*before, said], "stream_error")


def _half(events: list[Said], stream: bool) -> list[Said]:
    if stream:
        return events[: max(1, len(events) // 2)]
    return _first_bytes(events, len(events[0].payload) // 2)


def _first_bytes(events: list[Said], size: int) -> list[Said]:
    """Keep the first `size` bytes of body; a token counts once all of its event is out."""
    kept: list[Said] = []
    tokens = 0
    for event in events:
        if size <= 0:
            break
        if len(event.payload) <= size:
            tokens = event.tokens
        kept.append(Said(event.payload[:size], tokens, event.beat))
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
        return converse.fields(status, ID)
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
        framed = {CONVERSE_STREAM: converse.STREAM_TYPE, OLLAMA: ollama.STREAM_TYPE}
        usual = framed.get(path, "text/event-stream; charset=utf-8")
    return before + head(
        behaviour.status or 200, content_type or usual, tuple(extra), length=length, path=path
    )


def reports_tokens(medium: media.Answer) -> bool:
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
