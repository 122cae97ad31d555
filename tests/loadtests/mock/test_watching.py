"""Laws of the mock vendor's connection for tests: what it keeps of a request, and what it complains of."""

import json

import pytest

from tests.loadtests.mock.lines import chat, line_to, request


async def test_a_length_that_is_too_big_is_a_complaint(mock):
    """A body that stops short of its length is told with both numbers."""
    async with line_to(mock) as line:
        line.send(request(b'{"model": "sim"', length=99))
        line.writer.write_eof()
        assert await line.reader.read() == b""
    await mock.until(lambda books: bool(books.totals.complaints))
    assert mock.books()["complaints"][0] == "a request body ended after 15 of 99 bytes"


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ("te: trailers\r\n", "hop-by-hop header te"),
        ("keep-alive: timeout=5\r\n", "hop-by-hop header keep-alive"),
        ("authorization: a\r\nAuthorization: b\r\n", "authorization came more than once"),
    ],
)
async def test_headers_that_no_gateway_sends(mock, extra, complaint):
    """Hop-by-hop headers and doubled ones are complaints, and do not stop the answer."""
    async with line_to(mock) as line:
        line.send(request(chat("sim"), extra=extra))
        assert (await line.answer())[0] == 200
    assert complaint in mock.books()["complaints"][0]


async def test_a_call_is_found_again_by_its_mark(mock):
    """What the body says of its user stands in the books; a call that says nothing, or no text, has none."""
    async with line_to(mock) as line:
        for mark in ({"user": "mark-1"}, {}, {"user": 7}, {"user": "mark-2"}):
            line.send(request(chat("sim", **mark)))
            assert (await line.answer())[0] == 200
    assert [call["user"] for call in mock.books()["served"]] == ["mark-1", "", "", "mark-2"]


async def test_expect_is_granted(mock):
    """A client that waits for `100 Continue` gets it before it sends its body."""
    wire = request(chat("sim"), extra="expect: 100-continue\r\n")
    head, _, body = wire.partition(b"\r\n\r\n")
    async with line_to(mock) as line:
        line.send(head + b"\r\n\r\n")
        assert await line.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        line.send(body)
        assert (await line.answer())[0] == 200


async def test_requests_can_be_read_back(mock):
    """The last requests are kept with headers, body, size and hash, under the id of their answer."""
    async with line_to(mock) as line:
        line.send(request(chat("sim"), extra="authorization: Bearer vendor-key\r\n"))
        answer = json.loads((await line.answer())[2])
        line.send(request(chat("other"), "/v1/nothing"))
        await line.answer()
        line.send(request(chat("sim;tokens=1")))
        await line.answer()
        line.send(b"GET /__mock/requests?last=2 HTTP/1.1\r\nhost: mock\r\n\r\n")
        told = json.loads((await line.answer())[2])["requests"]
    assert told == mock.requests()
    assert [json.loads(one["body"])["model"] for one in told] == ["sim", "sim;tokens=1"]
    assert ["authorization", "Bearer vendor-key"] in told[0]["headers"]
    assert answer["id"] == f"chatcmpl-{told[0]['id']}"
    assert told[0]["body_bytes"] == len(told[0]["body"])
