"""The mock vendor's connection for tests: it keeps what it is asked, looks for what a gateway might get wrong in it, and holds realtime sessions."""

import hashlib
from urllib.parse import parse_qs

import msgspec

from loadtests.mock import converse, realtime
from loadtests.mock import plan as plans
from loadtests.mock.behaviour import BadOption, read_behaviour
from loadtests.mock.calls import reader_of
from loadtests.mock.session import Session
from loadtests.mock.vendor import Connection, Vendor

# Bodies of recent requests are kept up to here; a longer one is told by its length and hash.
_BODY_KEPT = 65536
# What a gateway must not hand on from its caller (RFC 9110 section 7.6.1), and of what there may be one only.
_HOP_BY_HOP = frozenset(
    (b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te", b"trailer", b"upgrade")
)
_ONCE = frozenset((b"host", b"content-length", b"content-type", b"authorization", b"user-agent"))


class _Metadata(msgspec.Struct, frozen=True):
    user_id: str = ""


class _Mark(msgspec.Struct):
    user: str = ""
    metadata: _Metadata = _Metadata()


_read_mark = msgspec.json.Decoder(_Mark).decode


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
        if reader_of(self._url) is not None:
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
