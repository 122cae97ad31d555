"""
The client of the load tests: one call over a plain socket, timed as its bytes arrive.

It blocks, and so works with threads as with gevent, whose patched sockets make it cooperative; `recv` hands over whatever is there, never
waiting for a block to fill, and everything that `recv` brought carries the time at which it returned.
What the bytes mean is decided by `answers` and `streams`, what is made of the times by `metrics`.

A connection is used again when its answer allowed it (AIPerf's `pooled`).
A kept connection that turns out to be closed before a byte of the answer came is replaced once, which no caller would notice.
"""

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from loadtests.answers import Answer, BadAnswer
from loadtests.metrics import Record, Timeline
from loadtests.streams import DIALECTS, EventReader, Said, read_whole

_PIECE = 64 * 1024
_SMALL_WINDOW = 4096
_BODY_KEPT = 64 * 1024
_MOST_BODY = 64 * 1024 * 1024
# Linux has it.
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class BadUrl(ValueError):
    """A base URL cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Base:
    """
    Something that answers: a gateway, a proxy, a vendor.

    `prefix` is what the URL has before `/v1`; models are the names by which this base knows them; `ca` is a PEM file with the only
    authorities that are trusted (empty: the system's).
    """

    name: str
    url: str
    key: str = ""
    model: str = ""
    embedding_model: str = ""
    ca: str = ""
    host: str = field(init=False)
    port: int = field(init=False)
    tls: bool = field(init=False)
    prefix: str = field(init=False)

    def __post_init__(self) -> None:
        where = read_url(self.url)
        for name, value in zip(("host", "port", "tls", "prefix"), where, strict=True):
            object.__setattr__(self, name, value)
        if self.ca:
            self.trust()

    @property
    def authority(self) -> str:
        """Host and port as the `Host` header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def trust(self) -> ssl.SSLContext:
        """Give whom to trust: certificate and host name are verified, always. Raises `BadUrl` for a file that cannot be used."""
        try:
            return ssl.create_default_context(cafile=self.ca or None)
        except OSError as mistake:
            none = isinstance(mistake, ssl.SSLError)
            why = "holds no certificate in PEM" if none else mistake.strerror or str(mistake)
            raise BadUrl(f"{self.ca}: {why}") from mistake


def read_url(url: str) -> tuple[str, int, bool, str]:
    """Read a base URL into host, port, whether TLS is spoken, and what comes before `/v1`. Raises `BadUrl`."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise BadUrl(f"{url!r} is no URL of a gateway; one looks like http://127.0.0.1:8080")
    if parts.query or parts.fragment or parts.username:
        raise BadUrl(f"{url!r} carries more than scheme, host, port and path")
    try:
        port = parts.port
    except ValueError as mistake:
        raise BadUrl(f"{url!r}: {mistake}") from None
    tls = parts.scheme == "https"
    prefix = parts.path.rstrip("/").removesuffix("/v1")
    return parts.hostname, port or (443 if tls else 80), tls, prefix


@dataclass(frozen=True, slots=True)
class Call:
    """
    One request, and how its caller behaves.

    `level` goes along as `x-biz-level`, which Penstock schedules by and others pass over.
    `slow_bytes_s` is a reader that takes so many bytes a second through a small window; `leave_after` one that hangs up after so many
    events with content; `retries` one that asks again at once so many times when it is refused.
    """

    scenario: str
    path: str
    body: bytes
    tenant: str = ""
    level: str = ""
    key: str | None = None
    dialect: str = "openai"
    stream: bool = False
    slow_bytes_s: int = 0
    leave_after: int = 0
    retries: int = 0


class Client:
    """
    Calls to one base; its idle connections are shared by all that call through it.

    `timeout_s` is for a whole call; `wall_ns` and `clock_ns` are clocks that tests replace.
    """

    def __init__(
        self,
        base: Base,
        *,
        timeout_s: float = 60.0,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        wall_ns: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base = base
        self.open_calls = 0
        self._timeout_s = timeout_s
        self._clock_ns = clock_ns
        self._sleep = sleep
        self._wall_offset_ns = wall_ns() - clock_ns()
        self._idle: list[socket.socket] = []
        self._tls = base.trust() if base.tls else None

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def call(
        self,
        call: Call,
        intended_ns: int | None = None,
        note: Callable[[Record], None] = lambda _: None,
    ) -> Record:
        """
        Make one call and tell what became of it; `intended_ns` is when it was meant to begin, by `clock_ns`.

        Whatever goes wrong is in the record; only what ends the process, or this greenlet, is raised, and even then `note` gets the record.
        """
        now = self._clock_ns()
        line = Timeline(now if intended_ns is None else intended_ns, now)
        record = Record(
            base=self.base.name,
            scenario=call.scenario,
            tenant=call.tenant,
            at_s=round((line.intended_ns + self._wall_offset_ns) / 1e9, 6),
            late_ms=round((now - line.intended_ns) / 1e6, 3),
            outcome="unfinished",
            stream=call.stream,
        )
        self.open_calls += 1
        try:
            self._exchange(_Exchange(call, line, record, now + int(self._timeout_s * 1e9)))
        except TimeoutError:
            record.outcome, record.detail = "timed_out", f"no end within {self._timeout_s:g} s"
        except BadAnswer as mistake:
            record.outcome, record.detail = "bad_answer", str(mistake)
        except _ConnectFailed as mistake:
            record.outcome, record.detail = "connect_failed", str(mistake)
        except OSError as mistake:
            record.outcome, record.detail = "lost", str(mistake)
        finally:
            self.open_calls -= 1
            self._close_record(record, line)
            note(record)
        return record

    # One exchange...

    def _exchange(self, ours: "_Exchange") -> None:
        call, give_up_ns = ours.call, ours.give_up_ns
        wire = request_bytes(self.base, call)
        kept = bool(self._idle) and not call.slow_bytes_s
        sock = self._idle.pop() if kept else self._connect(call, give_up_ns)
        try:
            try:
                first = self._send(sock, wire, ours)
            except TimeoutError:
                raise
            except OSError:
                if not kept:
                    raise
                first = b""
            if not first and kept:
                sock.close()
                sock = self._connect(call, give_up_ns)
                first = self._send(sock, wire, ours)
            again = self._receive(sock, first, ours)
        except BaseException:
            sock.close()
            raise
        if again and not call.slow_bytes_s:
            self._idle.append(sock)
        else:
            sock.close()

    def _connect(self, call: Call, give_up_ns: int) -> socket.socket:
        try:
            sock = socket.create_connection(
                (self.base.host, self.base.port), timeout=self._left_s(give_up_ns)
            )
        except TimeoutError:
            raise
        except OSError as mistake:
            raise _ConnectFailed(mistake.strerror or str(mistake)) from mistake
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if call.slow_bytes_s:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_WINDOW)
            if self._tls is not None:
                return self._tls.wrap_socket(sock, server_hostname=self.base.host)
        except BaseException as mistake:
            sock.close()
            if isinstance(mistake, ssl.SSLError):
                words = getattr(mistake, "verify_message", "") or mistake.reason or str(mistake)
                raise _ConnectFailed(f"TLS: {words}") from mistake
            raise
        return sock

    def _send(self, sock: socket.socket, wire: bytes, ours: "_Exchange") -> bytes:
        """Send the request; give the first piece of the answer."""
        sock.settimeout(self._left_s(ours.give_up_ns))
        sock.sendall(wire)
        if _QUICKACK is not None:
            # Else the kernel may acknowledge 40 ms late, which a server that paces by acknowledgements (BBR) takes for a slow network:
            # on the loopback, whose packets hold 64 KB, large answers then came up to 80 ms late.
            sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        return sock.recv(_piece_of(ours.call))

    def _receive(self, sock: socket.socket, piece: bytes, ours: "_Exchange") -> bool:
        """Read to the end of the answer; gives whether the connection can be used again."""
        call, line, record = ours.call, ours.line, ours.record
        answer, events, whole = Answer(), EventReader(), bytearray()
        read = DIALECTS[call.dialect]
        streams = False
        while True:
            now = self._clock_ns()
            record.bytes += len(piece)
            if piece:
                body = answer.feed(piece)
            else:
                answer.end()
                body = b""
            if answer.started and not record.status:
                record.status = answer.status
                kind = answer.headers.get("content-type", "")
                streams = answer.status == 200 and kind.startswith("text/event-stream")
            if streams:
                for event in events.feed(body):
                    if ours.hear(read(event), now):
                        return False
                    if call.leave_after and line.events >= call.leave_after:
                        record.outcome = "left"
                        # As a killed process leaves: with a reset, so that the server learns of it at once.
                        sock.setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                        )
                        return False
            else:
                whole += body
                if len(whole) > _MOST_BODY:
                    raise BadAnswer(f"its body exceeds {_MOST_BODY >> 20} MB")
            if answer.complete:
                ours.conclude(bytes(whole), now, streams=streams)
                return answer.keep_alive
            size = _piece_of(call)
            if call.slow_bytes_s:
                self._sleep(size / call.slow_bytes_s)
            sock.settimeout(self._left_s(ours.give_up_ns))
            piece = sock.recv(size)

    def _left_s(self, give_up_ns: int) -> float:
        left = (give_up_ns - self._clock_ns()) / 1e9
        if left <= 0:
            raise TimeoutError
        return left

    def _close_record(self, record: Record, line: Timeline) -> None:
        record.took_ms = round((self._clock_ns() - line.intended_ns) / 1e6, 3)
        record.chunks = line.events
        if record.outcome in {"ok", "left"}:
            record.tokens = line.tokens
            record.e2e_ms = _rounded(line.e2e_ms())
        if record.stream:
            record.ttft_ms = _rounded(line.ttft_ms())
            record.ttfo_ms = _rounded(line.ttfo_ms())
            record.gaps_us = line.gaps_us
            if record.outcome == "ok":
                record.itl_ms = _rounded(line.itl_ms())
                record.tpot_ms = _rounded(line.tpot_ms())


class _ConnectFailed(Exception):
    """No connection came about."""


def _piece_of(call: Call) -> int:
    """Give how much is read at a time: all there is, or of a slow reader's a tenth of a second's worth."""
    if not call.slow_bytes_s:
        return _PIECE
    return max(1, min(_SMALL_WINDOW, call.slow_bytes_s // 10))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


@dataclass(slots=True)
class _Exchange:
    """A call under way, and what is known of it."""

    call: Call
    line: Timeline
    record: Record
    give_up_ns: int
    ended: bool = False

    def hear(self, said: Said, now: int) -> bool:
        """Note what was said; gives whether it was an error, which ends the call."""
        if said.error:
            self.record.outcome, self.record.detail = "stream_error", said.error
            return True
        if said.content:
            self.line.content(now, output=said.output, tokens=said.tokens)
        self.ended = self.ended or said.last
        if said.tokens is not None:
            self.line.reported_tokens = said.tokens
        if said.prompt_tokens is not None:
            self.record.prompt_tokens = said.prompt_tokens
        return False

    def conclude(self, whole: bytes, now: int, *, streams: bool) -> None:
        """Say what became of it, once the answer is complete."""
        record = self.record
        if record.status >= 300:
            said = read_whole(whole)
            record.outcome = f"http_{record.status}"
            record.detail = said.error or whole[:100].decode(errors="replace")
        elif streams and not self.line.events:
            record.outcome, record.detail = "stream_error", "the stream ended without a word"
        elif streams and not self.ended:
            # A 200 that ends in silence is how a stream that was cut looks when a proxy completes its framing.
            record.outcome = "bad_answer"
            record.detail = (
                "the stream ended without saying so (finish_reason, [DONE] or message_stop)"
            )
        elif streams:
            record.outcome = "ok"
        elif self.call.stream:
            record.outcome = "bad_answer"
            record.detail = "a stream was asked for, and none came"
        else:
            said = read_whole(whole)
            if self.hear(said, now):
                record.outcome = "bad_answer"
                return
            record.outcome = "ok"
            # An embedding says no tokens, and is no single token either.
            self.line.reported_tokens = said.tokens or 0


def request_bytes(base: Base, call: Call) -> bytes:
    """Write a call as HTTP/1.1."""
    key = base.key if call.key is None else call.key
    headers: Mapping[str, str] = {
        "Host": base.authority,
        "Content-Type": "application/json",
        "Accept": "text/event-stream" if call.stream else "application/json",
        "User-Agent": "penstock-load",
        **({"anthropic-version": "2023-06-01"} if call.dialect == "anthropic" else {}),
        **({"x-biz-level": call.level} if call.level else {}),
        **credentials(call.dialect, key),
        "Content-Length": str(len(call.body)),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {base.prefix}{call.path} HTTP/1.1\r\n{head}\r\n".encode() + call.body


def credentials(dialect: str, key: str) -> dict[str, str]:
    """Give the header that carries a key: `x-api-key` where Anthropic is spoken, a bearer token elsewhere."""
    if not key:
        return {}
    return {"x-api-key": key} if dialect == "anthropic" else {"Authorization": f"Bearer {key}"}


def get(base: Base, path: str, timeout_s: float = 10.0) -> tuple[int, bytes]:
    """
    GET a path of a base; gives status and the beginning of the body.

    Raises `OSError` when nobody answers, `BadAnswer` when what answers speaks no HTTP.
    """
    head = (
        f"GET {base.prefix}{path} HTTP/1.1\r\nHost: {base.authority}\r\n"
        f"Accept: application/json\r\nConnection: close\r\n"
    )
    head += "".join(
        f"{name}: {value}\r\n" for name, value in credentials("openai", base.key).items()
    )
    answer, body = Answer(), bytearray()
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(
            socket.create_connection((base.host, base.port), timeout=timeout_s)
        )
        if base.tls:
            sock = stack.enter_context(base.trust().wrap_socket(sock, server_hostname=base.host))
        sock.sendall(f"{head}\r\n".encode())
        while not answer.complete and len(body) < _BODY_KEPT:
            piece = sock.recv(_PIECE)
            if piece:
                body += answer.feed(piece)
            else:
                answer.end()
    return answer.status, bytes(body)
