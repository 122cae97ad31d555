"""A peer that answers as it is told: for what the mock vendor does not speak, or does only wrong on purpose."""

import contextlib
import socket
import threading
from collections.abc import Iterator

ANTHROPIC = b"".join(
    b"event: %s\ndata: %s\n\n" % (name, data)
    for name, data in (
        (
            b"message_start",
            b'{"type":"message_start","message":{"id":"m","usage":{"input_tokens":11}}}',
        ),
        (b"ping", b'{"type":"ping"}'),
        *(
            (
                b"content_block_delta",
                b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"word"}}',
            ),
        )
        * 3,
        (b"message_delta", b'{"type":"message_delta","usage":{"output_tokens":6}}'),
        (b"message_stop", b'{"type":"message_stop"}'),
    )
)


def whole(body: bytes, kind: str = "text/event-stream", status: str = "200 OK") -> bytes:
    """Give an answer on the wire."""
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


class Peer:
    """What came, and where it listens."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[bytes] = []
        self.connections = 0


def _request(client: socket.socket) -> bytes:
    told = b""
    while b"\r\n\r\n" not in told:
        piece = client.recv(65536)
        if not piece:
            return b""
        told += piece
    head, _, body = told.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].split(b":")[1]) if lengths else 0
    while len(body) < length:
        body += client.recv(65536)
    return head + b"\r\n\r\n" + body


@contextlib.contextmanager
def peer(*answers: bytes, close_after: int = 0) -> Iterator[Peer]:
    """
    Answer the requests with these bytes in turn, the last one for ever.

    After `close_after` answers on a connection it closes, unannounced; 0 keeps it open.
    """
    server = socket.create_server(("127.0.0.1", 0))
    ours = Peer(f"http://127.0.0.1:{server.getsockname()[1]}")
    left = list(answers)
    open_sockets: list[socket.socket] = []

    def converse(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            count = 0
            while request := _request(client):
                ours.requests.append(request)
                client.sendall(left.pop(0) if len(left) > 1 else left[0])
                count += 1
                if count == close_after:
                    return

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                ours.connections += 1
                open_sockets.append(client)
                threads.append(threading.Thread(target=converse, args=(client,)))
                threads[-1].start()

    threads = [threading.Thread(target=accept)]
    threads[0].start()
    try:
        yield ours
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for client in open_sockets:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)
