"""
The mock vendor's end of a connection: a raw protocol, so that it costs a benchmark as little as it can.

The short way is: llhttp finds the request's end, msgspec reads the few fields that change the answer, a table gives the rendered plan, one write sends it.
Everything that needs time, pieces or a bad end goes step by step (`_advance`), at the pace of the timers and of the socket.
One answer at a time: a request that comes before the last answer is out waits, and is a complaint in the books, because a gateway must not pipeline.
"""

import asyncio
import random
import re
import secrets
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import httptools
import msgspec

from loadtests.mock import converse, gemini
from loadtests.mock import plan as plans
from loadtests.mock.behaviour import BadOption
from loadtests.mock.books import Books, Served
from loadtests.mock.cabinet import Cabinet
from loadtests.mock.calls import reader_of, refusal_of
from loadtests.mock.exchange import PLACEHOLDER, Asked
from loadtests.mock.plan import Plan

_PLANS_KEPT = 512
_MODELS = ("sim", "sim-mini", "sim-embedding")
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
        read = reader_of(url)
        if read is None or method != b"POST":
            path = url.partition(b"?")[0]
            if path.startswith((b"/v1/files", b"/v1/batches")):
                self._answer_kept(method, path, body)
            else:
                self._answer_elsewhere(method, url)
            return
        try:
            asked = read(body)
            plan = self.vendor.plan_for(asked)
        except (ValueError, KeyError, msgspec.MsgspecError) as mistake:
            self._refuse(mistake)
            return
        self._begin(asked, plan)

    def _refuse(self, mistake: Exception) -> None:
        words, param = refusal_of(mistake)
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
                wire = wire.replace(PLACEHOLDER, self._id)
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
        allowed: bytes = (
            b"POST" if reader_of(path) is not None or path == b"/__mock/reset" else b"GET"
        )
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
