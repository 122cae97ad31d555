r"""
Amazon's event streams: binary frames, each with headers, a payload and two checksums.

    total length (4) · headers length (4) · CRC of these 8 bytes (4)
    headers: name length (1) · name · type (1) · value, by type
    payload · CRC of all that is before (4)

All numbers are big-endian. A frame says what it is in its headers: ``:message-type`` is ``event`` with an
``:event-type``, or ``exception`` with an ``:exception-type``, or ``error`` with ``:error-code`` and
``:error-message``. The payload of Bedrock's frames is JSON.

A frame that is longer than a frame may be, or whose checksum is wrong, ends the stream (`BadFrame`):
what follows cannot be found again. So nothing is held back beyond one frame.

Source: AWS, "Event stream encoding" (Amazon Transcribe's developer guide describes it for all services).
"""

import struct
from collections.abc import Iterator, Mapping
from zlib import crc32

import msgspec

from proxy.wire.translate.frames import BadFrame

__all__ = [
    "EventStreamFrames",
    "EventStreamSplitter",
    "FrameSplitter",
    "read_headers",
    "write_frame",
]

# Amazon's own limits: a payload of 16 MiB and headers of 128 KiB.
MAX_FRAME = (16 << 20) + (128 << 10) + 16
# What is remembered of a stream's headers: so many, each so long at most.
MAX_KNOWN = 32
MAX_KNOWN_BYTES = 256
_PRELUDE = struct.Struct(">III")
_NUMBER = struct.Struct(">I")
_LENGTH = struct.Struct(">H")
# Values of fixed length, by type: true and false have none, then byte, short, int, long.
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_BYTES, _STRING = 6, 7


class FrameSplitter:
    """Cuts a byte stream into frames, and checks them: headers (see `read_headers`) and payload, as they came."""

    __slots__ = ("_held", "_wanted")

    def __init__(self) -> None:
        self._held = bytearray()
        # How much has to be there before it is worth a look: a frame's beginning, then all of it.
        self._wanted = _PRELUDE.size

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Take what was read; give the frames it completes. Raises `BadFrame`."""
        return list(self.frames(data))

    def frames(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Take what was read; yield the frames it completes, up to one that is bad. Raises `BadFrame`."""
        held = self._held
        if held:
            held += data
            if len(held) < self._wanted:
                return
            data = bytes(held)
            held.clear()
        self._wanted = _PRELUDE.size
        size = len(data)
        at = 0
        while size - at >= _PRELUDE.size:
            total, headers, expected = _PRELUDE.unpack_from(data, at)
            check = crc32(data[at : at + 8])
            if check != expected:
                raise BadFrame("a frame's beginning does not match its checksum")
            if not 16 + headers <= total <= MAX_FRAME:
                raise BadFrame("a frame says that it is too long")
            end = at + total
            if end > size:
                self._wanted = total
                break
            # The checksum of all goes on from that of the beginning.
            rest = data[at + 8 : end - 4]
            if crc32(rest, check) != _NUMBER.unpack_from(data, end - 4)[0]:
                raise BadFrame("a frame does not match its checksum")
            at = end
            headers += 4
            yield rest[4:headers], rest[headers:]
        held += data[at:]

    def tail(self) -> bytes:
        """Give what is held: the begun frame that a stream ends with when it was cut."""
        return bytes(self._held)


def read_headers(data: bytes) -> dict[str, str]:
    """Read a frame's headers, those that are strings. Raises `BadFrame`."""
    headers: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            length = data[at]
            name = data[at + 1 : at + 1 + length].decode()
            kind = data[at + 1 + length]
            at += 2 + length
            if kind in {_BYTES, _STRING}:
                (length,) = _LENGTH.unpack_from(data, at)
                at += 2
                if at + length > len(data):
                    raise BadFrame("a frame's header is longer than its headers")
                if kind == _STRING:
                    headers[name] = data[at : at + length].decode()
                at += length
            else:
                at += _FIXED[kind]
    except (IndexError, KeyError, struct.error, UnicodeDecodeError):
        raise BadFrame("a frame's headers cannot be read") from None
    return headers


def write_frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Write a frame."""
    written = _write_headers(headers)
    total = 16 + len(written) + len(payload)
    prelude = struct.pack(">II", total, len(written))
    frame = prelude + _NUMBER.pack(crc32(prelude)) + written + payload
    return frame + _NUMBER.pack(crc32(frame))


def _write_headers(headers: Mapping[str, str]) -> bytes:
    written = b""
    for name, value in headers.items():
        said, text = name.encode(), value.encode()
        written += bytes((len(said),)) + said + b"\x07" + _LENGTH.pack(len(text)) + text
    return written


def _opening(kind: str) -> bytes:
    """Write a document's beginning, to which a payload and a brace are added."""
    return b'{"type":%b,"payload":' % msgspec.json.encode(kind)


# What begins the documents of ConverseStream's events, by their headers as Amazon writes them.
_USUAL: Mapping[bytes, bytes] = {
    _write_headers(
        {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    ): _opening(kind)
    for kind in (
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
    )
}


class _Documents:
    """
    The documents of an event stream, ``{"type": …, "payload": …}`` of each frame.

    Each is given in two pieces, what is before the payload and the payload; a brace ends it.
    An exception's type is its name, as Bedrock has it (``throttlingException``), and so is an error's.
    """

    __slots__ = ("_known", "splitter")

    def __init__(self) -> None:
        self.splitter = FrameSplitter()
        # Openings of headers that are not the usual ones: nearly all frames of a stream have the same.
        self._known: dict[bytes, bytes] = {}

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Take what was read; yield the documents it completes, up to a bad frame. Raises `BadFrame`."""
        for headers, payload in self.splitter.frames(data):
            opening = _USUAL.get(headers) or self._known.get(headers)
            if opening is None:
                yield self._read(headers, payload)
            else:
                yield opening, payload or b"{}"

    def _read(self, data: bytes, payload: bytes) -> tuple[bytes, bytes]:
        headers = read_headers(data)
        if headers.get(":message-type") == "error":
            # All that it says is in its headers.
            message = {"message": headers.get(":error-message", "")}
            return _opening(headers.get(":error-code", "error")), msgspec.json.encode(message)
        opening = _opening(headers.get(":event-type") or headers.get(":exception-type") or "")
        if len(self._known) < MAX_KNOWN and len(data) <= MAX_KNOWN_BYTES:
            self._known[data] = opening
        return opening, payload or b"{}"


class EventStreamFrames:
    """The documents of an event stream. See `_Documents`."""

    __slots__ = ("_documents",)

    def __init__(self) -> None:
        self._documents = _Documents()

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read; give the documents it completes. Raises `BadFrame`."""
        return [opening + payload + b"}" for opening, payload in self._documents.feed(data)]

    def eof(self) -> list[bytes]:
        """Give nothing: a frame that was cut cannot be whole."""
        return []


class EventStreamSplitter:
    """
    Cuts an event stream, and gives its frames as server-sent events of the documents above.

    So what meters and reads a stream need not know how it was framed. See `sse.Splitter`.
    A frame that is damaged becomes an event that nobody can read, and ends the stream wherever reads end.
    """

    __slots__ = ("_documents", "_over")

    def __init__(self) -> None:
        self._documents = _Documents()
        self._over = False

    def feed(self, data: bytes) -> bytes:
        """Take what was read; give the events it completes."""
        written: list[bytes] = []
        if self._over:
            return b""
        try:
            for opening, payload in self._documents.feed(data):
                line = payload
                if b"\n" in payload or b"\r" in payload:
                    # A line end in JSON is blank space: no text can hold one.
                    line = payload.replace(b"\n", b" ").replace(b"\r", b" ")
                written += (b"data: ", opening, line, b"}\n\n")
        except BadFrame as fault:
            self._over = True
            written.append(b"data: %b\n\n" % str(fault).encode())
        return b"".join(written)

    def tail(self) -> bytes:
        """Give what is held: the begun frame that a stream ends with when it was cut."""
        return self._documents.splitter.tail()
