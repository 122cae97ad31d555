"""Laws of starting and ending a mock vendor."""

import asyncio
import contextlib
import json
import socket
import ssl

import openai
import pytest
import trustme

from loadtests.mock import serve


@pytest.fixture
def authority():
    return trustme.CA()


async def test_https_with_a_private_authority(authority):
    """A mock with a certificate serves clients that trust it, and no others."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with serve(tls=context) as mock:
        assert mock.url.startswith("https://")
        port = int(mock.url.rsplit(":", 1)[1])
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context())
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        writer.write(b"GET /v1/models HTTP/1.1\r\nhost: mock\r\nconnection: close\r\n\r\n")
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        await writer.wait_closed()


async def test_a_unix_socket(tmp_path):
    """A mock can be on a Unix socket in place of a port."""
    path = str(tmp_path / "mock.sock")
    async with serve(unix=path) as mock:
        assert mock.url == f"http+unix://{path}"
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /__mock/books HTTP/1.1\r\nhost: mock\r\nconnection: close\r\n\r\n")
        body = (await reader.read()).partition(b"\r\n\r\n")[2]
        assert json.loads(body)["totals"]["connections_open"] == 1
        writer.close()
        await writer.wait_closed()


async def test_the_end_drops_what_is_open():
    """Leaving the block ends streams that are still going, and writes them down."""
    async with serve() as mock:
        async with openai.AsyncOpenAI(base_url=mock.base_url, api_key="k", max_retries=0) as sdk:
            stream = await sdk.chat.completions.create(
                model="sim;interval_ms=50;tokens=1000",
                messages=[{"role": "user", "content": "x"}],
                stream=True,
            )
            await anext(aiter(stream))
            mock.vendor.close()
            with pytest.raises(openai.APIConnectionError):
                [chunk async for chunk in stream]
        await mock.quiet()
    assert mock.books()["totals"]["outcomes"] == {"client_left": 1}


@pytest.mark.parametrize("turns", range(4))
async def test_who_is_being_accepted_is_dropped_too(turns):
    """However far a connection has come when the block ends, none is left open."""
    async with serve() as mock:
        port = int(mock.url.rsplit(":", 1)[1])
        clients = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
    assert mock.books()["totals"]["connections_open"] == 0
    for client in clients:
        with client, contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


async def test_waiting_in_vain_says_so():
    """`until` raises when the books do not come to it in time."""
    async with serve() as mock:
        with pytest.raises(TimeoutError):
            await mock.until(lambda books: books.totals.calls == 1, timeout_s=0.01)
