"""The laws of trust: verified always, a private authority by its file, and origins that compare."""

import asyncio
import datetime as dt
import hashlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from config.authorities import authorities_in
from proxy.upstream.connection import TLS_AHEAD_BYTES
from proxy.upstream.errors import ConnectFailed, UpstreamLost
from proxy.upstream.pool import Pool
from proxy.upstream.tls import Origin, context_of, origin_of
from tests.proxy.upstream.peers import (
    BODY,
    PATIENT,
    REQUEST,
    Heard,
    Peer,
    Script,
    answer,
    read_request,
    says,
)

MakePeer = Callable[..., Awaitable[Peer]]
OK = b"HTTP/1.1 200 OK\r\n"


class Authority(NamedTuple):
    """A private CA and the file that names it."""

    ca: trustme.CA
    file: str

    def server(self, *names: str, **options: dt.datetime) -> ssl.SSLContext:
        """Make a server's context with a certificate of this CA for `names`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names, **options).configure_cert(context)
        return context


@pytest.fixture(scope="session")
def private(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make a private authority once."""
    ca = trustme.CA()
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    return Authority(ca, str(file))


async def talk(pool: Pool, origin: Origin, heard: Heard, body: bytes = BODY) -> Heard:
    """Send one request and wait for its end."""
    connection = pool.take(origin) or await pool.connect(origin, 5)
    connection.send(heard, REQUEST, body, PATIENT, asyncio.get_running_loop().time())
    await heard.until("over")
    return heard


# ---- over real sockets, on both loops


async def test_a_private_authority_is_trusted_by_its_file(
    peer: MakePeer, pool: Pool, private: Authority
) -> None:
    """TLS 1.2+, HTTP/1.1 by ALPN, the host's name sent, the connection reused."""
    seen: list[tuple[object, ...]] = []
    server = private.server("localhost")
    server.set_alpn_protocols(["h2", "http/1.1"])
    server.sni_callback = lambda _, name, __: seen.append((name,))

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        seen.append((tls.version(), tls.selected_alpn_protocol()))
        await says(answer(), answer())(reader, writer)

    one = await peer(script, ssl=server)
    origin = origin_of(f"https://localhost:{one.port}/v1", private.file)
    for _ in range(2):
        heard = await talk(pool, origin, Heard())
        assert (heard.data, heard.reusable) == (b"pong", True)
    assert one.accepted == 1
    assert seen == [("localhost",), ("TLSv1.3", "http/1.1")]


async def test_an_address_is_verified_as_an_address(
    peer: MakePeer, pool: Pool, private: Authority
) -> None:
    """A provider that is named by its IP address needs a certificate for that address."""
    good = await peer(says(answer()), ssl=private.server("127.0.0.1"))
    heard = await talk(pool, origin_of(f"https://127.0.0.1:{good.port}", private.file), Heard())
    assert heard.reusable is True
    bad = await peer(says(answer()), ssl=private.server("localhost"))
    with pytest.raises(ConnectFailed, match="not trusted"):
        await pool.connect(origin_of(f"https://127.0.0.1:{bad.port}", private.file), 5)


@pytest.mark.parametrize("fault", ["host", "expired", "authority", "no ca_file"])
async def test_what_cannot_be_trusted_is_refused(
    peer: MakePeer, pool: Pool, private: Authority, fault: str
) -> None:
    """A wrong host name, an expired certificate, a strange authority: no byte of a request goes out."""
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    server = {
        "host": lambda: private.server("other.example"),
        "expired": lambda: private.server("localhost", not_after=past),
        "authority": lambda: Authority(trustme.CA(), "").server("localhost"),
        "no ca_file": lambda: private.server("localhost"),
    }[fault]()
    got: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read())

    one = await peer(script, ssl=server)
    file = None if fault == "no ca_file" else private.file
    with pytest.raises(ConnectFailed, match="not trusted") as caught:
        await pool.connect(origin_of(f"https://localhost:{one.port}", file), 5)
    assert caught.value.phase == "connect"
    assert not any(got)
    assert pool.open == 0


async def test_old_tls_is_refused(peer: MakePeer, pool: Pool, private: Authority) -> None:
    """A peer that speaks no TLS 1.2 gets no connection."""
    server = private.server("localhost")
    server.set_ciphers("ALL:@SECLEVEL=0")
    server.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        server.maximum_version = ssl.TLSVersion.TLSv1_1
    one = await peer(says(answer()), ssl=server)
    with pytest.raises(ConnectFailed):
        await pool.connect(origin_of(f"https://localhost:{one.port}", private.file), 5)


def closes() -> Script:
    """Make a script that closes at once."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    return script


def greets() -> Script:
    """Make a script that speaks first, in plain text."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    return script


@pytest.mark.parametrize("script", [closes(), greets()], ids=["closes", "greets"])
async def test_a_peer_without_tls_behind_an_https_url_is_a_failed_connect(
    peer: MakePeer, pool: Pool, private: Authority, script: Script
) -> None:
    """Plain HTTP, or nothing, where TLS was expected: ConnectFailed, not a hang or another error."""
    one = await peer(script)
    with pytest.raises(ConnectFailed):
        await pool.connect(origin_of(f"https://localhost:{one.port}", private.file), 5)
    assert pool.open == 0


async def test_a_handshake_that_never_comes_times_out(
    peer: MakePeer, pool: Pool, private: Authority
) -> None:
    """The connect deadline covers the handshake, and the peer sees us leave."""
    left = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        left.set()

    one = await peer(script)
    with pytest.raises(ConnectFailed, match="within"):
        # By address: looking a name up takes longer than this on a busy machine.
        await pool.connect(origin_of(f"https://127.0.0.1:{one.port}", private.file), 0.1)
    async with asyncio.timeout(5):
        await left.wait()
    assert pool.open == 0


@pytest.mark.parametrize("orderly", [True, False], ids=["close_notify", "bare close"])
async def test_only_an_orderly_end_of_tls_completes_an_answer_that_runs_until_the_close(
    peer: MakePeer, pool: Pool, private: Authority, orderly: bool
) -> None:
    """A bare TCP close may be an attacker's cut (RFC 9112, 9.8): the answer is lost, not complete."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK + b"\r\npong")
        await writer.drain()
        if orderly:
            writer.close()
            await writer.wait_closed()
        else:
            writer.transport.abort()

    one = await peer(script, ssl=private.server("localhost"))
    origin = origin_of(f"https://localhost:{one.port}", private.file)
    heard = await talk(pool, origin, Heard())
    assert (heard.status, heard.data) == (200, b"pong")
    assert heard.calls[-1] == ("end" if orderly else "lost")
    if not orderly:
        assert isinstance(heard.error, UpstreamLost)


async def test_a_large_request_and_answer_pass_through_tls(
    peer: MakePeer, pool: Pool, private: Authority
) -> None:
    """Eight megabytes each way, with pauses between, arrive unchanged over one connection."""
    size = 8 << 20
    got = hashlib.sha256()
    payload = bytes(range(256)) * (size // 256)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            got.update(await reader.readexactly(size))
            writer.write(answer(payload))
        await reader.read()

    one = await peer(script, ssl=private.server("localhost"))
    origin = origin_of(f"https://localhost:{one.port}", private.file)
    loop = asyncio.get_running_loop()
    for _ in range(2):
        connection = pool.take(origin) or await pool.connect(origin, 5)

        def pause(connection: object = connection) -> None:
            connection.pause_reading()
            loop.call_soon(connection.resume_reading)

        heard = Heard(body=pause)
        connection.send(heard, REQUEST, payload, PATIENT, loop.time())
        await heard.until("over")
        assert heard.reusable is True
        assert heard.data == payload
    assert got.hexdigest() == hashlib.sha256(payload * 2).hexdigest()
    assert one.accepted == 1


async def test_a_pause_bounds_what_tls_reads_ahead(
    peer: MakePeer, pool: Pool, private: Authority
) -> None:
    """A paused TLS connection holds its limit and one read of undecrypted bytes, not the answer."""
    size = 32 << 20

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer(b"x" * size))
        await reader.read()

    one = await peer(script, ssl=private.server("localhost"))
    connection = await pool.connect(origin_of(f"https://localhost:{one.port}", private.file), 5)
    heard = Heard(head=connection.pause_reading)
    connection.send(heard, REQUEST, BODY, PATIENT, asyncio.get_running_loop().time())
    await heard.until("head")
    for _ in range(50):
        await asyncio.sleep(0.001)
        assert len(heard.data) <= 256 * 1024
        ahead = connection._transport.get_read_buffer_size()
        assert ahead <= TLS_AHEAD_BYTES + 256 * 1024
    connection.resume_reading()
    await heard.until("end")
    assert len(heard.data) == size
    assert heard.reusable is True


async def test_abort_in_the_middle_of_tls_is_heard_by_the_peer_alone(
    peer: MakePeer, pool: Pool, private: Authority
) -> None:
    """`abort()` closes a TLS connection at once as well, with nothing heard after it."""
    left = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK + b"\r\npong")
        try:
            await reader.read()
        finally:
            left.set()

    one = await peer(script, ssl=private.server("localhost"))
    connection = await pool.connect(origin_of(f"https://localhost:{one.port}", private.file), 5)
    heard = Heard(body=connection.abort)
    connection.send(heard, REQUEST, BODY, PATIENT, asyncio.get_running_loop().time())
    async with asyncio.timeout(5):
        await left.wait()
    assert heard.calls == ["head", "body"]


# ---- origins


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:9001/v1", "http://127.0.0.1:9001"),
        ("https://API.OpenAI.com/v1", "https://api.openai.com:443"),
        ("http://models", "http://models:80"),
        ("https://[::1]:8443/x?y", "https://[::1]:8443"),
        ("https://bücher.example", "https://xn--bcher-kva.example:443"),
    ],
)
def test_an_origin_is_read_from_a_base_url(url: str, shown: str) -> None:
    """Scheme, host in lower case and ASCII, and the port that the scheme implies."""
    origin = origin_of(url)
    assert str(origin) == shown
    assert (origin.ssl_context is not None) is url.startswith("https")
    assert origin.server_hostname == (origin.host if url.startswith("https") else None)


@pytest.mark.parametrize(
    "url", ["ftp://x", "x", "", "http://", "https://:443", "https://u:p@x", "http://x:port"]
)
def test_a_base_url_that_names_no_host_is_refused(url: str) -> None:
    """Every mistake is a ValueError, whose words do not repeat what may be a secret."""
    with pytest.raises(ValueError) as caught:
        origin_of(url)
    assert "u:p" not in str(caught.value)


def test_origins_are_equal_by_what_they_trust_not_by_the_object(
    private: Authority, tmp_path: Path
) -> None:
    """A reload with the same settings finds its pooled connections; another CA file does not."""
    url = "https://localhost:1"
    contexts: dict[str, ssl.SSLContext] = {}
    one, same = (origin_of(url, private.file, contexts) for _ in range(2))
    assert one == same
    assert hash(one) == hash(same)
    assert one.ssl_context is same.ssl_context
    assert origin_of(url, private.file) == one
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    assert origin_of(url, str(other)) != one
    assert origin_of(url) != one
    assert origin_of("https://localhost:2", private.file) != one
    assert origin_of("http://localhost:1") != one


def test_a_context_always_verifies(private: Authority) -> None:
    """There is no way to a context without verification, with or without a CA file."""
    for file in (None, private.file):
        context = context_of(authorities_in(file))
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_an_unusable_ca_file_is_an_oserror(tmp_path: Path) -> None:
    """Missing or not a certificate: told when the configuration is read, not at the first request."""
    broken = tmp_path / "ca.pem"
    broken.write_text("not a certificate")
    for file in (str(broken), str(tmp_path / "none.pem")):
        with pytest.raises(OSError):
            origin_of("https://localhost", file)
