"""Laws of reading an answer: the same body comes out however its bytes arrive, and what is no answer is said to be none."""

import pytest

from loadtests.answers import Answer, BadAnswer

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: t\r\n\r\n"
LENGTH = b"HTTP/1.1 201 Created\r\nContent-Length: 11\r\n\r\nhello world"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + LENGTH
CLOSED = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello world"


def read(wire: bytes, size: int) -> tuple[Answer, bytes]:
    answer, body = Answer(), b""
    for at in range(0, len(wire), size):
        body += answer.feed(wire[at : at + size])
    return answer, body


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("wire", [CHUNKED, LENGTH, EARLY], ids=["chunked", "length", "1xx"])
def test_a_body_is_the_same_however_it_arrives(wire, size):
    """Whole, byte by byte, and anything between."""
    answer, body = read(wire, size)
    assert body == b"hello world"
    assert answer.complete
    assert answer.keep_alive
    assert answer.status == (200 if wire is CHUNKED else 201)


def test_bytes_of_body_are_handed_over_at_once():
    """Nothing waits for a chunk to be whole: that is what makes first tokens true."""
    answer = Answer()
    answer.feed(CHUNKED[: CHUNKED.index(b"5;x")])
    assert answer.feed(b"5\r\nhe") == b"he"
    assert answer.feed(b"l") == b"l"


def test_an_answer_may_end_with_its_connection():
    """Without a length, the end is the end."""
    answer, body = read(CLOSED, 5)
    assert not answer.complete
    answer.end()
    assert (body, answer.complete, answer.keep_alive) == (b"hello world", True, False)


@pytest.mark.parametrize("until", [0, 10, -3], ids=["nothing", "head", "body"])
def test_an_early_end_is_told(until):
    """A connection that closes in the middle is no answer."""
    answer, _ = read(LENGTH[:until], 100)
    with pytest.raises(BadAnswer, match="closed"):
        answer.end()


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\n",
        b"H" * 300_000,
    ],
)
def test_what_is_no_answer_is_told(wire):
    """Another protocol, a wrong length, a wrong chunk, a head without end."""
    with pytest.raises(BadAnswer):
        Answer().feed(wire)


def test_bytes_beyond_the_answer_spoil_the_connection():
    """Nobody asked for them, so nothing may be read after them."""
    answer, _ = read(LENGTH + b"more", 1000)
    assert answer.complete
    assert not answer.keep_alive


def test_an_answer_without_content_has_no_body():
    """204 ends with its head."""
    answer, body = read(b"HTTP/1.1 204 No Content\r\n\r\n", 100)
    assert (body, answer.complete) == (b"", True)
