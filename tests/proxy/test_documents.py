"""What a server answers as a whole is read as a whole, however it arrives."""

import asyncio

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from proxy.documents import read_document

BODY = b'{"access_token":"' + b"t" * 3000 + b'"}'


async def in_pieces(request: web.Request) -> web.StreamResponse:
    """Send the body in three pieces, of which each has arrived before the next is sent."""
    answer = web.StreamResponse()
    answer.content_length = len(BODY)
    await answer.prepare(request)
    for start in range(0, len(BODY), 1100):
        await answer.write(BODY[start : start + 1100])
        await asyncio.sleep(0.01)
    return answer


@pytest.mark.parametrize(
    ("most", "read"), [(len(BODY) * 2, BODY), (len(BODY), BODY), (len(BODY) - 1, b""), (10, b"")]
)
async def test_a_document_is_read_to_its_end_or_not_at_all(most: int, read: bytes) -> None:
    """What has arrived so far is no document, and neither is the beginning of one that is too long."""
    app = web.Application()
    app.router.add_get("/", in_pieces)
    async with (
        TestServer(app) as server,
        ClientSession() as client,
        client.get(server.make_url("/")) as answer,
    ):
        assert await read_document(answer, most) == read
