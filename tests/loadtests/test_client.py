"""Laws of the client: it tells the truth about first tokens, says what went wrong in one word, and behaves as badly as it is told."""

import asyncio
import json
import random
import re
import socket
import ssl

import pytest
import trustme

from loadtests.answers import BadAnswer
from loadtests.client import BadUrl, Base, Call, Client, get, read_url, request_bytes
from loadtests.mock import serve
from loadtests.scenarios import DEFAULT_TENANTS, SCENARIOS, Draw
from tests.loadtests.peer import ANTHROPIC, peer, whole


def draw(model="sim"):
    return Draw(random.Random(1), DEFAULT_TENANTS[0], model, model)


def chat(model, *, stream=True, **how):
    body = {"model": model, "messages": [{"role": "user", "content": "x"}], "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    return Call("chat", "/v1/chat/completions", json.dumps(body).encode(), stream=stream, **how)


async def called(url, *calls, **options):
    client = Client(Base("b", url, "sk-1"), **options)
    try:
        return [await asyncio.to_thread(client.call, call) for call in calls]
    finally:
        client.close()


async def test_a_stream_is_told_as_the_books_have_it():
    """Tokens, chunks and prompt tokens are those that the vendor wrote."""
    async with serve() as mock:
        (record,) = await called(mock.url, chat("sim;tokens=7;ttft_ms=20;interval_ms=1"))
        (served,) = mock.books()["served"]
        assert mock.books()["complaints"] == []
    assert (record.outcome, record.status, record.chunks) == ("ok", 200, 7)
    assert record.tokens == served["completion_tokens"] == 7
    assert record.prompt_tokens == served["prompt_tokens"]
    assert record.bytes == served["bytes"]
    assert len(record.gaps_us) == 6
    assert record.ttft_ms <= record.e2e_ms <= record.took_ms
    assert None not in {record.ttfo_ms, record.itl_ms, record.tpot_ms}


async def test_each_chunk_is_seen_when_it_comes():
    """A stream in pieces of one byte ends no event early and none late: its gaps lie between its chunks."""
    async with serve() as mock:
        (record,) = await called(mock.url, chat("sim;tokens=5;split=1"))
    assert (record.outcome, record.chunks, len(record.gaps_us)) == ("ok", 5, 4)


async def test_whole_answers_and_embeddings():
    """No TTFT where there is no stream; an embedding has no tokens."""
    async with serve() as mock:
        embed = SCENARIOS["embeddings"](draw())
        whole_one, embedding = await called(mock.url, chat("sim", stream=False), embed)
    assert (whole_one.outcome, whole_one.tokens, whole_one.ttft_ms) == ("ok", 32, None)
    assert whole_one.e2e_ms is not None
    assert (embedding.outcome, embedding.tokens) == ("ok", 0)


@pytest.mark.parametrize(
    ("model", "outcome"),
    [
        ("sim;status=429", "http_429"),
        ("sim;status=503", "http_503"),
        ("sim;cut=60", "bad_answer"),
        ("sim;reset=1", "lost"),
        ("sim;garbage=head", "bad_answer"),
        ("sim;garbage=chunk", "bad_answer"),
        ("sim;error=mid", "stream_error"),
        ("sim;error=first", "stream_error"),
        ("sim;hang=mid", "timed_out"),
        ("sim;hang=head", "timed_out"),
    ],
)
async def test_each_failure_has_its_word(model, outcome):
    """And an example in words; what failed has no ITL."""
    async with serve() as mock:
        (record,) = await called(mock.url, chat(model), timeout_s=0.3)
    assert record.outcome == outcome
    assert record.detail
    assert record.itl_ms is None
    assert not record.fine


async def test_nobody_there_is_told():
    """As `connect_failed`."""
    with peer(b"") as gone:
        url = gone.url
    (record,) = await called(url, chat("sim"))
    assert (record.outcome, record.status) == ("connect_failed", 0)


async def test_a_leaver_leaves_and_the_vendor_notices():
    """After so many events, with a reset; that counts as meant."""
    async with serve() as mock:
        (record,) = await called(mock.url, chat("sim;tokens=500;interval_ms=5", leave_after=3))
        await mock.quiet()
        assert mock.books()["totals"]["outcomes"] == {"client_left": 1}
    assert (record.outcome, record.chunks, record.fine) == ("left", 3, True)


async def test_a_slow_reader_reads_slowly_to_the_end():
    """Its waits are as many as its bytes make at its rate."""
    slept = []
    async with serve() as mock:
        (record,) = await called(
            mock.url, chat("sim;tokens=20", slow_bytes_s=2000), sleep=slept.append
        )
    assert (record.outcome, record.chunks) == ("ok", 20)
    assert set(slept) == {0.1}
    assert len(slept) > record.bytes // 300


async def test_an_answer_is_acknowledged_as_it_comes(monkeypatch):
    """Of every call anew: the kernel goes back to late acknowledgements with each request, and a server may pace itself by them."""
    asked = []

    class Noting(socket.socket):
        def setsockopt(self, *option):
            asked.append(option)
            super().setsockopt(*option)

    def connect(address, timeout):
        sock = Noting(socket.AF_INET, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        sock.connect(address)
        return sock

    monkeypatch.setattr(socket, "create_connection", connect)
    async with serve() as mock:
        await called(mock.url, *[chat("sim", stream=False)] * 3)
        assert mock.books()["totals"]["connections"] == 1
    quick = getattr(socket, "TCP_QUICKACK", None)
    assert asked.count((socket.IPPROTO_TCP, quick, 1)) == (0 if quick is None else 3)


async def test_connections_are_used_again():
    """As callers with a pool do."""
    async with serve() as mock:
        records = await called(mock.url, *[chat("sim", stream=False)] * 3, chat("sim"))
        assert mock.books()["totals"]["connections"] == 1
    assert [record.outcome for record in records] == ["ok"] * 4


async def test_a_kept_connection_that_closed_is_replaced_unseen():
    """Nobody's call fails for it; the second request goes out once more, on a new connection."""
    answer = whole(b'{"choices":[{}]}', "application/json")
    with peer(answer, close_after=1) as ours:
        records = await called(ours.url, *[chat("x", stream=False)] * 3)
        assert [record.outcome for record in records] == ["ok"] * 3
        assert ours.connections == 3


async def test_anthropic_is_spoken_to_those_who_speak_it():
    """Its path, its headers, its events, its usage."""
    with peer(whole(ANTHROPIC)) as ours:
        (record,) = await called(ours.url, SCENARIOS["messages-stream"](draw("claude")))
        head = ours.requests[0].partition(b"\r\n\r\n")[0]
    assert head.startswith(b"POST /v1/messages HTTP/1.1")
    assert b"x-api-key: sk-1" in head
    assert b"anthropic-version: " in head
    assert b"Authorization" not in head
    assert (record.outcome, record.tokens, record.prompt_tokens, record.chunks) == ("ok", 6, 11, 3)


async def test_what_is_asked_as_a_stream_and_comes_whole_is_told():
    """A gateway that collects streams would otherwise look fast."""
    answer = whole(b'{"choices":[{}]}', "application/json")
    with peer(answer) as ours:
        (record,) = await called(ours.url, chat("x"))
    assert (record.outcome, "stream was asked for" in record.detail) == ("bad_answer", True)


async def test_a_wordless_stream_is_an_error():
    """It ended well, and nobody got a token."""
    with peer(whole(b"data: [DONE]\n\n")) as ours:
        (record,) = await called(ours.url, chat("x"))
    assert record.outcome == "stream_error"


async def test_latency_counts_from_the_intended_start():
    """A call that begins 50 ms late is 50 ms slower for whoever waited for it."""
    async with serve() as mock:
        client = Client(Base("b", mock.url), clock_ns=lambda: 1_000_000_000)
        record = await asyncio.to_thread(client.call, chat("sim"), 950_000_000)
        client.close()
    assert (record.late_ms, record.ttft_ms, record.e2e_ms) == (50, 50, 50)


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("http://h", ("h", 80, False, "")),
        ("https://h:444/v1/", ("h", 444, True, "")),
        ("http://[::1]:8080/openai/v1", ("::1", 8080, False, "/openai")),
    ],
)
def test_base_urls_with_and_without_v1(url, read):
    """What people paste works."""
    assert read_url(url) == read


@pytest.mark.parametrize(
    "url", ["", "h:80", "ftp://h", "http://", "http://h?x=1", "http://u:p@h", "http://h:99999"]
)
def test_a_url_that_cannot_be_used_is_told(url):
    """With the URL in it."""
    with pytest.raises(BadUrl):
        Base("b", url)


async def test_get_reads_a_list_of_models():
    """With the key; what speaks no HTTP is told."""
    async with serve() as mock:
        status, body = await asyncio.to_thread(get, Base("b", mock.url, "k"), "/v1/models")
    assert (status, "data" in json.loads(body)) == (200, True)
    with peer(b"SSH-2.0\r\n\r\n") as ours, pytest.raises(BadAnswer):
        await asyncio.to_thread(get, Base("b", ours.url), "/v1/models")


class Script:
    """A server whose every time is known: pieces arrive at milliseconds of a clock that only they move."""

    def __init__(self, monkeypatch, *pieces, begins_ms=0):
        self.ns = begins_ms * MS
        self.left = list(pieces)
        monkeypatch.setattr("socket.create_connection", lambda *_, **__: self)

    def read(self):
        return self.ns

    def recv(self, _size):
        at_ms, piece = self.left.pop(0)
        self.ns = at_ms * MS
        return piece

    def sendall(self, wire):
        self.sent = wire

    def settimeout(self, _seconds):
        """Nothing to wait for."""

    setsockopt = close = settimeout

    def call(self, call, intended_ms=None):
        client = Client(Base("b", "http://h"), clock_ns=self.read, wall_ns=lambda: 0)
        self.setsockopt = lambda *_: None
        self.close = lambda: None
        return client.call(call, None if intended_ms is None else intended_ms * MS)


MS = 1_000_000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def said(text="", *, usage=None, **delta):
    choice = {"delta": {**({"content": text} if text else {}), **delta}, "finish_reason": None}
    event = {
        "choices": [] if usage and not text else [choice],
        **({"usage": usage} if usage else {}),
    }
    return b"data: " + json.dumps(event).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def test_every_figure_of_a_stream_is_aiperfs(monkeypatch):
    """Of a stream whose times are known: meant for 0 ms, begun at 5."""
    script = Script(
        monkeypatch,
        (12, HEAD),
        (30, said(role="assistant")),
        (40, said(reasoning_content="hm")),
        (60, said("a") + said("b")),
        (85, said("c")),
        (90, said(usage={"completion_tokens": 10, "prompt_tokens": 7})),
        (91, DONE),
        (92, b""),
        begins_ms=5,
    )
    record = script.call(chat("m"), 0)
    assert (record.outcome, record.tokens, record.chunks) == ("ok", 10, 4)
    assert record.late_ms == 5
    assert record.ttft_ms == 40, "the first content, reasoning included, from the intended start"
    assert record.ttfo_ms == 60, "the first that is no reasoning"
    assert record.e2e_ms == 85, "the last content, not usage or [DONE]"
    assert record.gaps_us == [20_000, 0, 25_000], "between events with content"
    assert record.itl_ms == record.tpot_ms == (85 - 40) / (10 - 1)
    assert record.took_ms == 92


def test_a_server_that_counts_with_each_event_has_its_first_event_taken_off(monkeypatch):
    """AIPerf's correction for servers that bundle tokens; vLLM's TPOT has none."""
    script = Script(
        monkeypatch,
        (10, HEAD + said("abcd", usage={"completion_tokens": 4})),
        (40, said("efgh", usage={"completion_tokens": 10}) + DONE),
        (41, b""),
    )
    record = script.call(chat("m"))
    assert (record.itl_ms, record.tpot_ms) == (30 / 6, round(30 / 9, 4))


def test_a_whole_answer_ends_with_its_last_byte(monkeypatch):
    """No TTFT, no ITL; E2E from the intended start."""
    body = b'{"choices":[{}],"usage":{"completion_tokens":3}}'
    answer = whole(body, "application/json")
    script = Script(monkeypatch, (20, answer[:-5]), (33, answer[-5:]), begins_ms=3)
    record = script.call(chat("m", stream=False), 1)
    assert (record.e2e_ms, record.late_ms, record.tokens) == (32, 2, 3)
    assert (record.ttft_ms, record.itl_ms, record.gaps_us) == (None, None, [])


@pytest.mark.parametrize(
    "ending",
    [DONE, said(finish_reason="x").replace(b'"finish_reason": null', b'"finish_reason": "stop"')],
    ids=["done", "finish_reason"],
)
def test_a_stream_that_ends_in_silence_is_no_success(monkeypatch, ending):
    """What a proxy makes of a vendor that was cut: a 200 whose framing is complete."""
    cut = Script(monkeypatch, (10, HEAD + said("a")), (20, said("b")), (30, b""))
    record = cut.call(chat("m"))
    assert (record.outcome, "without saying so" in record.detail) == ("bad_answer", True)
    good = Script(monkeypatch, (10, HEAD + said("a")), (20, said("b") + ending), (30, b""))
    assert good.call(chat("m")).outcome == "ok"


@pytest.fixture
def authority(tmp_path):
    """Give a private authority's file, and a context with its certificate for one name."""

    def serving(name):
        ca = trustme.CA()
        ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert(name).configure_cert(context)
        return str(tmp_path / "ca.pem"), context

    return serving


async def test_https_with_a_private_authority(authority):
    """Streams, whole answers and the list of models, over verified TLS."""
    ca, context = authority("127.0.0.1")
    async with serve(tls=context) as mock:
        base = Base("b", mock.url, "k", ca=ca)
        client = Client(base)
        records = [
            await asyncio.to_thread(client.call, chat("sim;tokens=5;interval_ms=1", stream=stream))
            for stream in (True, False)
        ]
        client.close()
        status, _ = await asyncio.to_thread(get, base, "/v1/models")
        assert mock.books()["totals"]["connections"] <= 2
    assert [(record.outcome, record.tokens) for record in records] == [("ok", 5)] * 2
    assert status == 200


@pytest.mark.parametrize(
    ("name", "trusted", "words"),
    [("127.0.0.1", False, "TLS: "), ("other.example", True, "TLS: .*mismatch")],
    ids=["stranger", "wrong name"],
)
async def test_https_that_cannot_be_trusted_is_told(authority, name, trusted, words):
    """Nothing is sent to an authority that nobody vouched for, nor to another host."""
    ca, context = authority(name)
    async with serve(tls=context) as mock:
        client = Client(Base("b", mock.url, "sk-secret", ca=ca if trusted else ""))
        record = await asyncio.to_thread(client.call, chat("sim"))
        assert mock.requests() == []
    assert record.outcome == "connect_failed"
    assert re.search(words, record.detail)


def test_a_file_of_authorities_that_is_none_is_told(tmp_path):
    """Missing, or no PEM."""
    with pytest.raises(BadUrl, match="No such file"):
        Base("b", "https://h", ca=str(tmp_path / "none"))
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(BadUrl, match="PEM"):
        Base("b", "https://h", ca=str(tmp_path / "empty.pem"))


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://h", "h"),
        ("http://h:8080", "h:8080"),
        ("https://h:443", "h"),
        ("https://h:80", "h:80"),
        ("http://[::1]:8080/v1", "[::1]:8080"),
    ],
)
def test_the_host_header(url, host):
    """Without the scheme's own port; an IPv6 address in brackets."""
    assert b"\r\nHost: " + host.encode() + b"\r\n" in request_bytes(Base("b", url), chat("m"))


def test_a_tenants_level_goes_along():
    """For gateways that schedule by it."""
    call = SCENARIOS["chat"](draw())
    assert b"\r\nx-biz-level: premium\r\n" in request_bytes(Base("b", "http://h"), call)


async def test_a_call_that_is_ended_from_outside_is_still_told():
    """As unfinished, while what ended it goes on its way."""
    told = []

    class Ended(BaseException):
        """What a killed greenlet raises."""

    async with serve() as mock:

        def end(_):
            raise Ended

        client = Client(Base("b", mock.url), sleep=end)
        call = chat("sim;tokens=100", slow_bytes_s=2000)
        with pytest.raises(Ended):
            await asyncio.to_thread(client.call, call, None, told.append)
        client.close()
    assert [record.outcome for record in told] == ["unfinished"]
