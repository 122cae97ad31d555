"""
The mock vendor's end of a connection: a raw protocol, so that it costs a benchmark as little as it can.

The short way is: llhttp finds the request's end, msgspec reads the few fields that change the answer, a table gives the rendered plan, one write sends it.
Everything that needs time, pieces or a bad end goes step by step (`_advance`), at the pace of the timers and of the socket.
One answer at a time: a request that comes before the last answer is out waits, and is a complaint in the books, because a gateway must not pipeline.
"""

import asyncio
import functools
import hashlib
import random
import re
import secrets
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import parse_qs

import httptools
import msgspec

from loadtests.mock import converse, gemini, media, realtime
from loadtests.mock import plan as plans
from loadtests.mock.behaviour import BadOption, Behaviour, read_behaviour
from loadtests.mock.books import Books, Served
from loadtests.mock.cabinet import Cabinet
from loadtests.mock.plan import Asked, Plan

# Bodies of recent requests are kept up to here; a longer one is told by its length and hash.
_BODY_KEPT = 65536
_PLANS_KEPT = 512
_BIGGEST_BODY = 256 * 1024 * 1024
_MODELS = ("sim", "sim-mini", "sim-embedding")
# What a gateway must not hand on from its caller (RFC 9110 section 7.6.1), and of what there may be one only.
_HOP_BY_HOP = frozenset(
    (b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te", b"trailer", b"upgrade")
)
_ONCE = frozenset((b"host", b"content-length", b"content-type", b"authorization", b"user-agent"))
_PREFIXES = {
    plans.CHAT: "chatcmpl-",
    plans.COMPLETIONS: "cmpl-",
    plans.MESSAGES: "msg_",
    plans.RESPONSES: "resp_",
    plans.GENERATE: "",
    plans.GENERATE_STREAM: "",
    plans.CONVERSE: "",
    plans.CONVERSE_STREAM: "",
}
_EARLY = re.compile(rb'"model"\s*:\s*"([^"\\]*;early=1[^"\\]*)"')
_RESET_AFTER_S = 0.01  # what was written before an RST should have left the machine


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _Call(msgspec.Struct):
    """What a chat call must have, and what changes its answer."""

    model: str
    messages: msgspec.Raw
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


class _CompletionCall(msgspec.Struct):
    model: str
    prompt: msgspec.Raw
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


class _EmbeddingCall(msgspec.Struct):
    model: str
    input: str | list[str | int | list[int]]
    encoding_format: str | None = None
    dimensions: int | None = None


class _MessagesCall(msgspec.Struct):
    """What a call for a message must have, and what changes its answer."""

    model: str
    messages: msgspec.Raw
    max_tokens: int
    stream: bool | None = None


class _CountCall(msgspec.Struct):
    model: str
    messages: msgspec.Raw


class _ResponsesCall(msgspec.Struct):
    """What a call for a response must have, and what changes its answer."""

    model: str
    input: msgspec.Raw
    stream: bool | None = None
    max_output_tokens: int | None = None


class _ImageCall(msgspec.Struct):
    model: str
    prompt: str
    n: int | None = None
    stream: bool | None = None
    partial_images: int | None = None


class _SpeechCall(msgspec.Struct):
    model: str
    input: str
    voice: str | dict[str, str]
    stream_format: str | None = None


class _ModerationCall(msgspec.Struct):
    model: str
    input: str | list[msgspec.Raw]


class _GenerationConfig(msgspec.Struct):
    max_output_tokens: int | None = msgspec.field(default=None, name="maxOutputTokens")


class _GeminiCall(msgspec.Struct):
    """What a call of Gemini's must have, and what changes its answer."""

    contents: msgspec.Raw = msgspec.Raw()
    # What tokens are counted of may be a whole request instead.
    request: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw, name="generateContentRequest")
    config: _GenerationConfig | None = msgspec.field(default=None, name="generationConfig")


class _InferenceConfig(msgspec.Struct):
    max_tokens: int | None = msgspec.field(default=None, name="maxTokens")


class _ConverseCall(msgspec.Struct):
    """What a call of Bedrock's must have, and what changes its answer."""

    messages: msgspec.Raw
    config: _InferenceConfig | None = msgspec.field(default=None, name="inferenceConfig")


class _Metadata(msgspec.Struct, frozen=True):
    user_id: str = ""


class _Mark(msgspec.Struct):
    user: str = ""
    metadata: _Metadata = _Metadata()


_read_mark = msgspec.json.Decoder(_Mark).decode
_read_chat = msgspec.json.Decoder(_Call).decode
_read_completion = msgspec.json.Decoder(_CompletionCall).decode
_read_messages = msgspec.json.Decoder(_MessagesCall).decode
_read_responses = msgspec.json.Decoder(_ResponsesCall).decode
_read_count = msgspec.json.Decoder(_CountCall).decode
_read_image = msgspec.json.Decoder(_ImageCall).decode
_read_speech = msgspec.json.Decoder(_SpeechCall).decode
_read_moderation = msgspec.json.Decoder(_ModerationCall).decode
_read_gemini = msgspec.json.Decoder(_GeminiCall).decode
_read_converse = msgspec.json.Decoder(_ConverseCall).decode
_read_embedding = msgspec.json.Decoder(_EmbeddingCall).decode


class _BadCall(ValueError):
    """A body that OpenAI would refuse; `param` names the field where one can be named."""

    def __init__(self, words: str, param: str | None = None) -> None:
        super().__init__(words)
        self.param = param


def _ask_chat(body: bytes) -> Asked:
    call = _read_chat(body)
    return _asked(plans.CHAT, call, body)


def _ask_completion(body: bytes) -> Asked:
    call = _read_completion(body)
    return _asked(plans.COMPLETIONS, call, body)


def _asked(path: str, call: _Call | _CompletionCall, body: bytes) -> Asked:
    cap = call.max_tokens if call.max_completion_tokens is None else call.max_completion_tokens
    if cap is not None and cap < 1:
        raise _BadCall(f"Invalid 'max_tokens': {cap} is less than the minimum of 1.", "max_tokens")
    options = call.stream_options
    if options is None:
        return Asked(path, call.model, bool(call.stream), False, cap, len(body))
    if not call.stream:
        raise _BadCall(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            "stream_options",
        )
    return Asked(path, call.model, True, options.include_usage, cap, len(body))


def _ask_embedding(body: bytes) -> Asked:
    call = _read_embedding(body)
    if call.encoding_format not in {None, "float", "base64"}:
        raise _BadCall("Invalid 'encoding_format'.", "encoding_format")
    inputs = 1
    if isinstance(call.input, list) and not (call.input and isinstance(call.input[0], int)):
        inputs = len(call.input)
    return Asked(
        plans.EMBEDDINGS,
        call.model,
        body_bytes=len(body),
        inputs=inputs,
        base64=call.encoding_format == "base64",
        dimensions=call.dimensions,
    )


def _ask_messages(body: bytes) -> Asked:
    call = _read_messages(body)
    if call.max_tokens < 1:
        raise _BadCall("max_tokens: Input should be greater than or equal to 1")
    return Asked(
        plans.MESSAGES, call.model, bool(call.stream), cap=call.max_tokens, body_bytes=len(body)
    )


def _ask_count(body: bytes) -> Asked:
    return Asked(plans.COUNT, _read_count(body).model, body_bytes=len(body))


def _ask_responses(body: bytes) -> Asked:
    call = _read_responses(body)
    cap = call.max_output_tokens
    if cap is not None and cap < 1:
        raise _BadCall(f"Invalid 'max_output_tokens': {cap}.", "max_output_tokens")
    return Asked(plans.RESPONSES, call.model, bool(call.stream), cap=cap, body_bytes=len(body))


def _ask_image(body: bytes) -> Asked:
    call = _read_image(body)
    return Asked(
        media.IMAGES,
        call.model,
        bool(call.stream),
        body_bytes=len(body),
        inputs=call.n or 1,
        partial=call.partial_images or 0,
    )


def _ask_picture(path: str) -> Callable[[bytes], Asked]:
    def ask(body: bytes) -> Asked:
        form = media.read_form(body)
        if "image" not in form.files:
            raise _BadCall("image is missing", "image")
        return Asked(
            path,
            form.fields["model"],
            form.fields.get("stream") == "true",
            body_bytes=len(body),
            inputs=int(form.fields.get("n", 1)),
            partial=int(form.fields.get("partial_images", 0)),
        )

    return ask


def _ask_recording(path: str) -> Callable[[bytes], Asked]:
    def ask(body: bytes) -> Asked:
        form = media.read_form(body)
        if "file" not in form.files:
            raise _BadCall("file is missing", "file")
        return Asked(
            path,
            form.fields["model"],
            form.fields.get("stream") == "true",
            body_bytes=len(body),
            format=form.fields.get("response_format", "json"),
        )

    return ask


def _ask_speech(body: bytes) -> Asked:
    call = _read_speech(body)
    return Asked(
        media.SPEECH,
        call.model,
        call.stream_format == "sse",
        body_bytes=len(body),
        characters=len(call.input),
    )


def _ask_moderation(body: bytes) -> Asked:
    return Asked(media.MODERATIONS, _read_moderation(body).model, body_bytes=len(body))


def _ask_gemini(verb: str, model: str, body: bytes) -> Asked:
    call = _read_gemini(body)
    if not call.contents and not (call.request and verb == gemini.COUNT):
        raise _BadCall("* GenerateContentRequest.contents: contents is not specified")
    cap = None if call.config is None else call.config.max_output_tokens
    if cap is not None and cap < 1:
        raise _BadCall(f"Unable to submit request because it has a maxOutputTokens of {cap}.")
    return Asked(verb, model, verb == gemini.STREAM, cap=cap, body_bytes=len(body))


def _ask_converse(verb: str, model: str, body: bytes) -> Asked:
    call = _read_converse(body)
    cap = None if call.config is None else call.config.max_tokens
    if cap is not None and cap < 1:
        raise _BadCall(f"The value at inferenceConfig.maxTokens must be 1 or more, not {cap}.")
    return Asked(verb, model, verb == converse.STREAM, cap=cap, body_bytes=len(body))


def _asks(url: bytes) -> Callable[[bytes], Asked] | None:
    """Give the reader of a URL's bodies; Gemini's and Bedrock's URLs hold the model."""
    ask = _ASK.get(url)
    if ask is not None:
        return ask
    if (named := gemini.asked_at(url)) is not None:
        return functools.partial(_ask_gemini, *named)
    if (named := converse.asked_at(url)) is not None:
        return functools.partial(_ask_converse, *named)
    return None


_ASK: dict[bytes, Callable[[bytes], Asked]] = {
    media.MODERATIONS.encode(): _ask_moderation,
    media.IMAGES.encode(): _ask_image,
    media.EDITS.encode(): _ask_picture(media.EDITS),
    media.VARIATIONS.encode(): _ask_picture(media.VARIATIONS),
    media.SPEECH.encode(): _ask_speech,
    media.TRANSCRIPTIONS.encode(): _ask_recording(media.TRANSCRIPTIONS),
    media.TRANSLATIONS.encode(): _ask_recording(media.TRANSLATIONS),
    b"/v1/chat/completions": _ask_chat,
    b"/v1/completions": _ask_completion,
    b"/v1/embeddings": _ask_embedding,
    b"/v1/responses": _ask_responses,
    b"/v1/messages": _ask_messages,
    b"/v1/messages?beta=true": _ask_messages,
    b"/v1/messages/count_tokens": _ask_count,
    b"/v1/messages/count_tokens?beta=true": _ask_count,
}


class Vendor:
    """What all connections of one mock vendor share: plans, books, ids, failure counts."""

    __slots__ = (
        "_boot",
        "_failed",
        "_number",
        "_plans",
        "books",
        "cabinet",
        "clock",
        "connections",
        "dice",
        "loop",
    )

    def __init__(self, books: Books, clock: Callable[[], int] = time.time_ns) -> None:
        self.books = books
        self.clock = clock
        self.loop = asyncio.get_running_loop()
        self.dice = random.Random(0)
        self.cabinet = Cabinet(self._count, lambda: clock() // 1_000_000_000)
        self.connections: set[Connection] = set()
        self._plans: dict[Asked, Plan] = {}
        self._failed: dict[str, int] = {}
        self._boot = secrets.token_hex(4)
        self._number = 0

    def plan_for(self, asked: Asked) -> Plan:
        """Look up or render the answer; raises `BadOption`."""
        plan = self._plans.get(asked)
        if plan is None:
            plan = plans.plan(asked, self.clock() // 1_000_000_000)
            if len(self._plans) >= _PLANS_KEPT:
                self._plans.clear()
            self._plans[asked] = plan
        if plan.times is not None and plan.healed is not None:
            failed = self._failed.get(asked.model, 0)
            if failed >= plan.times:
                return plan.healed
            self._failed[asked.model] = failed + 1
        return plan

    def _count(self, prompt_tokens: int, tokens: int) -> None:
        """Book a call of a batch."""
        self.books.begin()
        self.books.end(prompt_tokens, tokens, 0, "ok")

    def next_id(self) -> str:
        """Give an id of 24 hex digits, unlike all others."""
        self._number += 1
        return f"{self._boot}{self._number:016x}"

    def reset(self) -> None:
        """Forget what was served and how often anything failed."""
        self.books.reset()
        self._failed.clear()

    def close(self) -> None:
        """Drop every connection at once."""
        for connection in list(self.connections):
            connection.drop()


class Connection(asyncio.Protocol):
    """One client connection; knows nothing of headers, which costs nothing."""

    def __init__(self, vendor: Vendor) -> None:
        self.vendor = vendor
        self.books = vendor.books
        self._loop = vendor.loop
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        # Their request
        self._url = b""
        self._pieces: list[bytes] = []
        self._waiting: deque[tuple[bytes, bytes, bytes, bool]] = deque()
        self._receiving = False
        self._answered_early = False
        # Our answer
        self._plan: Plan | None = None
        self._asked: Asked
        self._next_step = 0
        self._began = 0.0
        self._began_us = 0
        self._keep_alive = True
        self._tokens = 0
        self._written = 0
        self._id: bytes | None = None
        self._user = ""
        self._timer: asyncio.Handle | None = None
        self._paused = False

    # The connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self.vendor.connections.add(self)
        self.books.totals.connections += 1
        self.books.totals.connections_open += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """End; a caller that left in the middle of an answer is written down as that."""
        del exc
        self.vendor.connections.discard(self)
        self.books.totals.connections_open -= 1
        self.books.totals.stalled -= self._paused
        if self._timer is not None:
            self._timer.cancel()
        plan = self._plan
        if plan is not None:
            self._finish(plan, "hung" if plan.end == "hang" else "client_left")
        elif self._receiving:
            self.books.complain("the connection ended in the middle of a request")
        self.books.stir()

    def drop(self) -> None:
        """Close at once, whatever is unsent."""
        self._transport.abort()

    def pause_writing(self) -> None:
        """Stop taking steps: the client does not read."""
        self._paused = True
        self.books.totals.stalled += 1
        self.books.stir()

    def resume_writing(self) -> None:
        """Go on where it stopped."""
        self._paused = False
        self.books.totals.stalled -= 1
        if self._plan is not None and self._timer is None:
            self._advance()

    # Their request

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what it cannot parse is answered by 400 and written down."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as mistake:
            self.books.complain(f"malformed request: {mistake}")
            self._keep_alive = False
            self._receiving = False
            if self._plan is None and not self._transport.is_closing():
                self._plain(400, plans.error_body(400, f"malformed request: {mistake}"))
            return
        if self._receiving and self._pieces and not self._answered_early:
            self._maybe_answer_early()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request target; the first of a request."""
        if not self._receiving:
            self._receiving = True
            self._answered_early = False
            self._pieces = []
            self._url = url
        else:
            self._url += url

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """Answer, or queue behind the answer that is still going out."""
        self._receiving = False
        if self._answered_early:
            if self._plan is None:
                self._transport.close()
            return
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        keep_alive = self._parser.should_keep_alive()
        if self._plan is not None:
            self.books.complain("a request was pipelined behind an answer that is not out yet")
            self._waiting.append((self._parser.get_method(), self._url, body, keep_alive))
            return
        self._keep_alive = keep_alive
        self._answer(self._parser.get_method(), self._url, body)

    def _maybe_answer_early(self) -> None:
        found = _EARLY.search(b"".join(self._pieces[:4])) if len(self._pieces) <= 4 else None
        if found is None or self._plan is not None:
            return
        asked = Asked(plans.CHAT, found[1].decode())
        try:
            plan = self.vendor.plan_for(asked)
        except BadOption:
            return  # said when the body is complete
        self._answered_early = True
        self._begin(asked, plan)

    # Our answer

    def _answer(self, method: bytes, url: bytes, body: bytes) -> None:
        ask = _asks(url)
        if ask is None or method != b"POST":
            path = url.partition(b"?")[0]
            if path.startswith((b"/v1/files", b"/v1/batches")):
                self._answer_kept(method, path, body)
            else:
                self._answer_elsewhere(method, url)
            return
        try:
            asked = ask(body)
            plan = self.vendor.plan_for(asked)
        except (ValueError, KeyError, msgspec.MsgspecError) as mistake:
            self._refuse(mistake)
            return
        self._begin(asked, plan)

    def _refuse(self, mistake: Exception) -> None:
        words = f"We could not parse the JSON body of your request: {mistake}"
        param = None
        if isinstance(mistake, msgspec.ValidationError):
            words = str(mistake)
            found = re.search(r"(?:`\$\.|missing required field `)([a-z_]+)", words)
            param = found[1] if found else None
        elif isinstance(mistake, (_BadCall, BadOption)):
            words = str(mistake)
            param = mistake.param if isinstance(mistake, _BadCall) else "model"
        self.books.begin()
        named = gemini.asked_at(self._url) or converse.asked_at(self._url)
        path = self._url.decode("latin-1") if named is None else named[0]
        payload = plans.error_body(400, words, param=param, path=path)
        self.books.end(0, 0, self._plain(400, payload, path=path), "bad_request")
        self.books.stir()

    def _begin(self, asked: Asked, plan: Plan) -> None:
        books = self.books
        books.begin()
        if plan.whole is not None and not books.detailed and self._keep_alive and not self._paused:
            wire = plan.whole
            self._transport.write(wire)
            books.end(plan.prompt_tokens, plan.tokens, len(wire), plan.outcome)
            if plan.units is not None and plan.outcome == "ok":
                books.count_units(*plan.units)
            books.stir()
            return
        self._plan = plan
        self._asked = asked
        self._next_step = 0
        self._tokens = 0
        self._written = 0
        self._began = self._loop.time()
        if plan.jitter_ms:
            self._began += self.vendor.dice.uniform(0, plan.jitter_ms) / 1000
        if books.detailed:
            self._id = self._new_id()
            self._began_us = self.vendor.clock() // 1000
        self._advance()

    def _new_id(self) -> bytes:
        return self.vendor.next_id().encode()

    def _advance(self) -> None:
        """Write the steps that are due, then wait for the next, for the socket, or come to the end."""
        self._timer = None
        plan = self._plan
        if plan is None:
            return
        steps = plan.steps
        while self._next_step < len(steps):
            if self._paused:
                return
            at_ms, wire, tokens = steps[self._next_step]
            if at_ms:
                due = self._began + at_ms / 1000
                # uvloop's timers count whole milliseconds and may be early by a part of one.
                if due > self._loop.time() + 0.001:
                    self._timer = self._loop.call_at(due, self._advance)
                    return
            self._next_step += 1
            self._tokens = tokens
            self._written += len(wire)
            if self._id is not None:
                wire = wire.replace(plans.PLACEHOLDER, self._id)
            self._transport.write(wire)
            if plan.breathe and self._next_step < len(steps):
                self._timer = self._loop.call_soon(self._advance)
                return
        self._end(plan)

    def _end(self, plan: Plan) -> None:
        if plan.end == "hang":
            self.books.stir()
            return
        self._finish(plan, plan.outcome)
        if plan.end == "reset":
            delay = _RESET_AFTER_S if self._written else 0
            self._timer = self._loop.call_later(delay, self._reset)
        elif self._answered_early and self._receiving:
            pass  # a close with unread bytes would be an RST that eats the answer
        elif plan.end == "close" or not self._keep_alive:
            self._transport.close()
        elif plan.drop_ms is not None:
            self._timer = self._loop.call_later(plan.drop_ms / 1000, self._transport.close)
        elif self._waiting:
            method, url, body, self._keep_alive = self._waiting.popleft()
            self._answer(method, url, body)
        self.books.stir()

    def _finish(self, plan: Plan, outcome: str) -> None:
        """Write the call down, whole or not; prompt tokens count once an answer has begun."""
        self._plan = None
        began = self._next_step > 0
        prompt_tokens = plan.prompt_tokens if began else 0
        self.books.end(prompt_tokens, self._tokens, self._written, outcome)
        if plan.units is not None and outcome == "ok":
            self.books.count_units(*plan.units)
        if self.books.detailed and self._id is not None:
            asked = self._asked
            prefix = _PREFIXES.get(asked.path, "req_")
            self.books.keep(
                Served(
                    id=prefix + self._id.decode(),
                    model=asked.model,
                    path=asked.path,
                    stream=asked.stream,
                    prompt_tokens=prompt_tokens,
                    completion_tokens=self._tokens,
                    bytes=self._written,
                    outcome=outcome,
                    started_us=self._began_us,
                    ended_us=self.vendor.clock() // 1000,
                    user=self._user,
                )
            )

    def _reset(self) -> None:
        """End by RST, which the kernel sends for a socket that does not linger."""
        theirs = self._transport.get_extra_info("socket")
        if theirs is not None and theirs.family != socket.AF_UNIX:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    # Everything that is no call

    def _plain(
        self, status: int, payload: bytes, *, bodiless: bool = False, path: str = plans.CHAT
    ) -> int:
        """Write a JSON answer at once; gives its size on the wire."""
        extra = () if self._keep_alive else (("connection", "close"),)
        head = plans.head(status, "application/json", extra, length=len(payload), path=path)
        wire = head if bodiless else head + payload
        self._transport.write(wire)
        if not self._keep_alive:
            self._transport.close()
        return len(wire)

    def _answer_kept(self, method: bytes, path: bytes, body: bytes) -> None:
        try:
            status, said = self.vendor.cabinet.answer(method.decode(), path.decode(), body)
        except (ValueError, KeyError) as mistake:
            self._refuse(mistake)
            return
        if isinstance(said, dict):
            self._plain(status, msgspec.json.encode(said))
        else:
            head = plans.head(status, "application/octet-stream", (), length=len(said))
            self._transport.write(head + said)

    def _answer_elsewhere(self, method: bytes, url: bytes) -> None:
        path, _, query = url.partition(b"?")
        allowed: bytes = b"POST" if path in _ASK or path == b"/__mock/reset" else b"GET"
        document: Any = None
        if method == allowed or (method == b"HEAD" and allowed == b"GET"):
            document = self._document(path, query)
            if document is None:
                words = f"Unknown request URL: {method.decode()} {path.decode()}."
                self._plain(404, plans.error_body(404, words, code="unknown_url"))
                return
            payload = msgspec.json.encode(document)
            self._plain(200, payload, bodiless=method == b"HEAD")
            return
        words = f"Not allowed to {method.decode()} on {path.decode()}."
        self._plain(405, plans.error_body(405, words, code="method_not_supported"))

    def _document(self, path: bytes, query: bytes) -> Any:
        match path:
            case b"/":
                return {"mock": "penstock"}
            case b"/v1/models":
                return {"object": "list", "data": [_model(name) for name in _MODELS]}
            case b"/__mock/books":
                return self.books.as_dict()
            case b"/__mock/requests":
                kept = list(self.books.requests)
                last = query.removeprefix(b"last=")
                return {"requests": kept[-int(last) :] if last.isdigit() else kept}
            case b"/__mock/reset":
                self.vendor.reset()
                return {"reset": True}
        if path.startswith(b"/v1/models/"):
            name = path.removeprefix(b"/v1/models/").decode()
            return _model(name) if name in _MODELS else None
        return None


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1735689600, "owned_by": "mock"}


class Session:
    """A realtime session on a connection: its responses are calls of the books, one after another."""

    def __init__(self, vendor: Vendor, transport: asyncio.Transport, behaviour: Behaviour) -> None:
        self._vendor = vendor
        self._transport = transport
        self._talk = realtime.Talk(behaviour, vendor.next_id())
        self._frames = realtime.Frames()
        self._coming: deque[dict[str, Any]] = deque()
        self._said = 0
        self._timer: asyncio.TimerHandle | None = None
        self._answering = False
        transport.write(realtime.written(self._talk.greeting()))

    def feed(self, data: bytes) -> None:
        """Take what the client sent."""
        try:
            for opcode, payload in self._frames.feed(data):
                if realtime.is_close(opcode):
                    self._transport.write(realtime.closing(1000))
                    self._transport.close()
                elif realtime.is_ping(opcode):
                    self._transport.write(realtime.pong(payload))
                else:
                    self._hear(msgspec.json.decode(payload))
        except (ValueError, msgspec.MsgspecError) as mistake:
            self._vendor.books.complain(f"malformed frame: {mistake}")
            self._transport.close()

    def left(self) -> None:
        """Write down that the client has gone, in the middle of a response or not."""
        if self._timer is not None:
            self._timer.cancel()
        self._end("client_left")

    def _hear(self, event: Any) -> None:
        for said in self._talk.answer(event):
            self._transport.write(realtime.written(said))
            if said["type"] == "response.created" and not self._answering:
                self._answering = True
                self._said = 0
                self._coming.extend(self._talk.deltas())
                self._vendor.books.begin()
                self._vendor.books.stir()
                self._go_on()

    def _go_on(self) -> None:
        behaviour = self._talk.behaviour
        while self._coming:
            if behaviour.cut is not None and self._said >= behaviour.cut:
                self._end("cut")
                self._transport.abort()
                return
            self._transport.write(realtime.written(self._coming.popleft()))
            self._said += 1
            if behaviour.interval_ms:
                delay = behaviour.interval_ms / 1000
                self._timer = self._vendor.loop.call_later(delay, self._go_on)
                return
        self._transport.write(realtime.written(self._talk.done()))
        self._end("ok")

    def _end(self, outcome: str) -> None:
        if self._answering:
            self._answering = False
            self._coming.clear()
            prompt = self._talk.behaviour.prompt or 0
            self._vendor.books.end(prompt, self._said, 0, outcome)
            self._vendor.books.stir()


class WatchingConnection(Connection):
    """A connection that keeps its requests and looks for what a gateway might get wrong in them."""

    def __init__(self, vendor: Vendor) -> None:
        super().__init__(vendor)
        self._session: Session | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._request_id = b""

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Let a client that waits for `100 Continue` go on (RFC 9110 section 10.1.1)."""
        for name, value in self._headers:
            if name.lower() == b"expect" and value.lower() == b"100-continue":
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def data_received(self, data: bytes) -> None:
        """Feed the parser, or the session that the connection has become."""
        if self._session is not None:
            self._session.feed(data)
        elif data.startswith(b"GET /v1/realtime"):
            self._upgrade(data)
        else:
            super().data_received(data)

    def _upgrade(self, data: bytes) -> None:
        """Answer the handshake of a session; its head comes in one piece."""
        head = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        headers = [(name, value) for name, _, value in (line.partition(": ") for line in head[1:])]
        said = {name.lower(): value for name, value in headers}
        url = head[0].split(" ")[1]
        self.books.requests.append({"path": url, "method": "GET", "headers": headers, "body": ""})
        model = parse_qs(url.partition("?")[2]).get("model", [""])[0]
        try:
            behaviour = read_behaviour(model)
        except BadOption as mistake:
            self._refuse(mistake)
            return
        if behaviour.status is not None:
            self._keep_alive = False
            self._plain(behaviour.status, plans.error_body(behaviour.status))
            return
        self._transport.write(realtime.accept(said.get("sec-websocket-key", "").encode()))
        self._session = Session(self.vendor, self._transport, behaviour)

    def on_message_complete(self) -> None:
        """Write the request down, then answer it."""
        if _asks(self._url) is not None:
            self._watch(b"".join(self._pieces))
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; a body that stayed short of its length is told with both numbers."""
        if self._session is not None:
            self._session.left()
        if self._receiving and not self._answered_early:
            told = {name.lower(): value for name, value in self._headers}
            got = sum(len(piece) for piece in self._pieces)
            claimed = told.get(b"content-length", b"?").decode("latin-1")
            self.books.complain(f"a request body ended after {got} of {claimed} bytes")
            self._receiving = False
        super().connection_lost(exc)

    def _new_id(self) -> bytes:
        # The request was written down with an id; its answer carries the same.
        given, self._request_id = self._request_id, b""
        return given or super()._new_id()

    def _watch(self, body: bytes) -> None:
        names = [name.lower() for name, _ in self._headers]
        for name in _HOP_BY_HOP.intersection(names):
            self.books.complain(f"the hop-by-hop header {name.decode()} was handed on")
        for name in _ONCE:
            if names.count(name) > 1:
                self.books.complain(f"the header {name.decode()} came more than once")
        if self._url.startswith(b"/v1/messages") and b"anthropic-version" not in names:
            self.books.complain("there is no anthropic-version")
        if converse.asked_at(self._url) is not None and not converse.shows_who_asks(self._headers):
            self.books.complain("there is neither a bearer's key nor a signature")
        if b"host" not in names:
            self.books.complain("there is no host header")
        self._request_id = super()._new_id()
        try:
            mark = _read_mark(body)
            self._user = mark.user or mark.metadata.user_id
        except msgspec.MsgspecError:
            self._user = ""
        self.books.requests.append(
            {
                "id": self._request_id.decode(),
                "method": self._parser.get_method().decode(),
                "path": self._url.decode("latin-1"),
                "headers": [
                    [name.decode("latin-1"), value.decode("latin-1")]
                    for name, value in self._headers
                ],
                "body": body[:_BODY_KEPT].decode("utf-8", "replace"),
                "body_bytes": len(body),
                "body_sha256": hashlib.sha256(body).hexdigest(),
            }
        )
