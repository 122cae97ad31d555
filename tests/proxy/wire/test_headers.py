"""The laws of headers: what passes, and what never does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire import headers as wire
from proxy.wire.headers import AnswerHeaders, RequestHead, RequestHeaders


def block(*pairs: tuple[str, str]) -> list[str]:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
    answer = AnswerHeaders()
    first = answer.block(raw)
    # What was remembered decides the same.
    assert answer.block(raw) == first
    assert first == b"" or first.endswith(b"\r\n")
    return first.decode("latin-1").split("\r\n")[:-1]


# From the vendor to the caller...


@pytest.mark.parametrize(
    "name",
    [
        *("Connection", "Keep-Alive", "Proxy-Authenticate", "TE", "Trailer", "Transfer-Encoding"),
        *("Upgrade", "Content-Length", "Server", "Via", "Set-Cookie", "set-cookie2", "ALT-SVC"),
        *("Strict-Transport-Security", "x-ratelimit-limit-requests", "X-RateLimit-Reset-Tokens"),
        *("openai-organization", "OpenAI-Project", "anthropic-organization-id", "RateLimit"),
        *("anthropic-ratelimit-tokens-limit", "CF-Ray", "cf-cache-status", "x-envoy-upstream"),
        *("x-ms-region", "azureml-model-session", "apim-request-id", "x-amzn-requestid"),
        *("Access-Control-Allow-Origin", "authorization", "X-Api-Key", "WWW-Authenticate"),
        *("x-penstock-model", "X-Penstock-Route"),
    ],
)
def test_what_belongs_to_the_hop_or_the_account_stays_behind(name: str) -> None:
    """Hop-by-hop, framing, cookies and policies of the origin, quotas and names of the account."""
    assert block((name, "close")) == []


@pytest.mark.parametrize(
    "name",
    [
        *(
            "content-type",
            "content-encoding",
            "openai-processing-ms",
            "openai-version",
            "retry-after",
        ),
        *("retry-after-ms", "x-should-retry", "cache-control", "date", "x-content-type-options"),
        *("x-vendor-new-thing", "content-language", "vary"),
    ],
)
def test_what_tells_of_the_answer_passes(name: str) -> None:
    """Known or new, in any case, it passes under its lower-case name."""
    assert block((name, "1")) == block((name.title(), "1")) == [f"{name}: 1"]


def test_the_vendors_request_id_keeps_a_name_of_its_own() -> None:
    """x-request-id is the gateway's; the vendor's is what its support asks for."""
    assert block(("X-Request-ID", "req_1")) == ["x-upstream-request-id: req_1"]
    assert block(("request-id", "req_1")) == ["x-upstream-request-id: req_1"]


def test_order_and_repeats_are_kept() -> None:
    """Repeated headers are a list; nothing is merged."""
    pairs = [("vary", "a"), ("server", "x"), ("date", "d"), ("Vary", "b")]
    assert block(*pairs) == ["vary: a", "date: d", "vary: b"]
    assert AnswerHeaders().block([]) == b""


def test_what_connection_names_stays_behind() -> None:
    """RFC 9110, section 7.6.1: options of the connection are of this hop alone."""
    pairs = [
        ("x-a", "1"),
        ("Connection", "X-A , close"),
        ("x-b", "2"),
        ("connection", "x-c"),
        ("X-C", "3"),
    ]
    assert block(*pairs) == ["x-b: 2"]
    assert block(("connection", "Keep-Alive"), ("x-a", "1")) == ["x-a: 1"]
    assert block(("connection", "close"), ("x-a", "1")) == ["x-a: 1"]
    assert block(("connection", "content-type, connection"), ("content-type", "x")) == []


@pytest.mark.parametrize(
    "value", ["a\r\nset-cookie: x", "a\n", "\r", "a\0b", "a\r\n\r\nHTTP/1.1 200"]
)
def test_no_header_can_be_injected(value: str) -> None:
    """A value that holds a line end is left out, and the others still pass."""
    assert block(("x-a", "1"), ("x-bad", value), ("x-b", "2")) == ["x-a: 1", "x-b: 2"]
    assert block(("x-a", "1"), ("x-bad: y\r\nx-c", "2"), ("a b", "3"), ("", "4")) == ["x-a: 1"]


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=12)), max_size=6))
def test_any_headers_make_whole_lines(pairs: list[tuple[bytes, bytes]]) -> None:
    """Whatever a vendor sends, what is written are lines of a name and a value."""
    for text in (AnswerHeaders().block(pairs), RequestHeaders(["x-a"]).block(pairs)):
        lines = text.split(b"\r\n")
        assert lines.pop() == b""
        for line in lines:
            name, colon, value = line.partition(b": ")
            assert colon
            assert wire._TOKEN.fullmatch(name)
            assert not wire._UNSAFE.search(value)


@pytest.mark.parametrize(
    ("pairs", "content_type", "encoded", "few"),
    [
        ([], b"", False, False),
        ([(b"Content-Type", b"text/event-stream")], b"text/event-stream", False, False),
        ([(b"CONTENT-ENCODING", b"gzip")], b"", True, False),
        ([(b"content-encoding", b" Identity ")], b"", False, False),
        ([(b"X-RateLimit-Remaining-Requests", b"2")], b"", False, True),
        ([(b"x-ratelimit-remaining-tokens", b"9999")], b"", False, True),
        ([(b"x-ratelimit-remaining-tokens", b"10000")], b"", False, False),
        ([(b"a-remaining", b"1"), (b"b-remaining", b"10000")], b"", False, True),
        # What Connection names goes to nobody, and is read all the same.
        ([(b"connection", b"content-type"), (b"content-type", b"a/b")], b"a/b", False, False),
    ],
)
def test_one_pass_tells_what_the_gateway_needs(
    pairs: list[tuple[bytes, bytes]], content_type: bytes, encoded: bool, few: bool
) -> None:
    """The type, whether it is encoded, and whether little remains: the first time and when names are remembered."""
    answer = AnswerHeaders()
    for _ in range(2):
        block, *found = answer.read(pairs)
        assert found == [content_type, encoded, few]
        assert (b"content-type" in block) is (len(pairs) == 1 and content_type != b"")


def test_ever_new_names_do_not_grow_memory() -> None:
    """A peer can invent names without end; what is remembered is bounded, in number and size."""
    answer, request = AnswerHeaders(), RequestHeaders()
    for number in range(3 * wire.MAX_REMEMBERED):
        assert answer.block([(b"x-%d" % number, b"1")]) == b"x-%d: 1\r\n" % number
        assert request.block([(b"x-%d" % number, b"1")]) == b""
    assert answer.block([(b"x" * 5000, b"1")]) == b"x" * 5000 + b": 1\r\n"
    for remembered in (answer._remembered, request._remembered):
        assert len(remembered) <= wire.MAX_REMEMBERED
        assert all(len(name) <= wire.MAX_REMEMBERED_NAME for name in remembered)


# From the caller to the vendor...


def test_only_the_short_list_goes_upstream() -> None:
    """Credentials, addresses, cookies and fingerprints of the caller never leave the gateway."""
    pairs = [
        (b"Host", b"gateway"),
        (b"Authorization", b"Bearer caller"),
        (b"x-api-key", b"caller"),
        (b"api-key", b"caller"),
        (b"Cookie", b"a=b"),
        (b"User-Agent", b"OpenAI/Python"),
        (b"X-Stainless-Lang", b"python"),
        (b"X-Forwarded-For", b"10.0.0.1"),
        (b"Forwarded", b"for=10.0.0.1"),
        (b"OpenAI-Organization", b"org"),
        (b"x-biz-level", b"premium"),
        (b"Accept-Encoding", b"gzip"),
        (b"Content-Length", b"7"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Connection", b"upgrade"),
        (b"OpenAI-Beta", b"assistants=v2"),
        (b"Idempotency-Key", b"k"),
        (b"TraceParent", b"00-1-2-01"),
        (b"tracestate", b"a=b"),
    ]
    wanted = b"openai-beta: assistants=v2\r\nidempotency-key: k\r\ntraceparent: 00-1-2-01\r\ntracestate: a=b\r\n"
    headers = RequestHeaders(["OpenAI-Beta"])
    assert headers.block(pairs) == headers.block(pairs) == wanted
    assert RequestHeaders(["Anthropic-Beta"]).block(
        [(b"anthropic-beta", b"x"), (b"anthropic-version", b"y")]
    ) == (b"anthropic-beta: x\r\n")


@pytest.mark.parametrize("value", [b"a\r\nhost: evil", b"a\n", b"a\0", b"x" * 5000])
def test_a_callers_value_cannot_break_the_head(value: bytes) -> None:
    """Line ends and floods in a value that would pass: the header is left out."""
    headers = RequestHeaders()
    assert headers.block([(b"traceparent", value), (b"tracestate", b"ok")]) == b"tracestate: ok\r\n"


def test_a_head_is_whole() -> None:
    """One request line, what the deployment needs, the length, what the caller may say, and the end."""
    head = RequestHead(
        path="/v1/chat/completions",
        host="api.example.com:8443",
        user_agent="penstock/1",
        credentials=("Authorization", "Bearer sk"),
        extra={"X-Team": "a", "User-Agent": "own"},
    )
    assert head.write(b"x" * 300, b"openai-beta: x\r\n") == (
        b"POST /v1/chat/completions HTTP/1.1\r\n"
        b"host: api.example.com:8443\r\n"
        b"user-agent: own\r\n"
        b"accept: application/json, text/event-stream\r\n"
        b"accept-encoding: identity\r\n"
        b"content-type: application/json\r\n"
        b"authorization: Bearer sk\r\n"
        b"x-team: a\r\n"
        b"content-length: 300\r\n"
        b"openai-beta: x\r\n"
        b"\r\n"
    )
    bare = RequestHead(path="/x?y=1", host="h", user_agent="u", method="GET")
    assert bare.write(b"").startswith(b"GET /x?y=1 HTTP/1.1\r\nhost: h\r\n")
    assert b"authorization" not in bare.write(b"")


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/a b"},
        {"path": "/a\r\nx: y"},
        {"path": ""},
        {"path": "/é"},
        {"host": "h\r\nx: y"},
        {"method": "GET /"},
        {"credentials": ("authorization", "Bearer \n")},
        {"credentials": ("authorization", "Bearer 钥")},
        {"extra": {"x y": "1"}},
        {"extra": {"": "1"}},
        {"extra": {"x": "1\r\n"}},
        {"extra": {"Content-Length": "1"}},
        {"extra": {"transfer-encoding": "chunked"}},
        {"extra": {"Accept-Encoding": "gzip"}},
        {"extra": {"钥": "1"}},
    ],
)
def test_a_head_that_cannot_be_sent_is_refused_when_it_is_made(change: dict[str, object]) -> None:
    """A mistake in the configuration is found when it is loaded, not per request."""
    arguments: dict[str, object] = {"path": "/x", "host": "h", "user_agent": "u"}
    with pytest.raises(ValueError):
        RequestHead(**(arguments | change))


# What the vendor says of another try...
