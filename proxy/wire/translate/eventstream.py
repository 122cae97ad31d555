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
from typing import NamedTuple
from zlib import crc32

import msgspec

from proxy.wire.translate.frames import BadFrame

__all__ = ["EventStreamFrames", "EventStreamSplitter", "Frame", "FrameSplitter", "write_frame"]

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


class Frame(NamedTuple):
    """One frame: its headers that are strings, and its payload."""

    headers: Mapping[str, str]
    payload: bytes


class FrameSplitter:
    """Cuts a byte stream into frames, and checks them."""

    __slots__ = ("_held", "_known")

    def __init__(self) -> None:
        self._held = b""
        # Headers as they were read: nearly all frames of a stream have the same.
        self._known: dict[bytes, Mapping[str, str]] = {}

    def feed(self, data: bytes) -> list[Frame]:
        """Take what was read; give the frames it completes. Raises `BadFrame`."""
        return list(self.frames(data))

    def frames(self, data: bytes) -> Iterator[Frame]:
        """Take what was read; yield the frames it completes, up to one that is bad. Raises `BadFrame`."""
        held = self._held + data if self._held else data
        at = 0
        while len(held) - at >= 12:
            total, headers, check = _PRELUDE.unpack_from(held, at)
            if crc32(held[at : at + 8]) != check:
                raise BadFrame("a frame's beginning does not match its checksum")
            if not 16 + headers <= total <= MAX_FRAME:
                raise BadFrame("a frame says that it is too long")
            if len(held) - at < total:
                break
            frame = held[at : at + total]
            (check,) = _NUMBER.unpack_from(frame, total - 4)
            if crc32(frame[:-4]) != check:
                raise BadFrame("a frame does not match its checksum")
            at += total
            yield Frame(self._headers(frame[12 : 12 + headers]), frame[12 + headers : -4])
        self._held = held[at:]

    def _headers(self, data: bytes) -> Mapping[str, str]:
        found = self._known.get(data)
        if found is None:
            found = _read_headers(data)
            if len(self._known) < MAX_KNOWN and len(data) <= MAX_KNOWN_BYTES:
                self._known[data] = found
        return found

    def tail(self) -> bytes:
        """Give what is held: the begun frame that a stream ends with when it was cut."""
        return self._held


def _read_headers(data: bytes) -> dict[str, str]:
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
    written = b""
    for name, value in headers.items():
        said, text = name.encode(), value.encode()
        written += bytes((len(said),)) + said + b"\x07" + _LENGTH.pack(len(text)) + text
    total = 16 + len(written) + len(payload)
    prelude = struct.pack(">II", total, len(written))
    frame = prelude + _NUMBER.pack(crc32(prelude)) + written + payload
    return frame + _NUMBER.pack(crc32(frame))


class EventStreamFrames:
    """
    The documents of an event stream: ``{"type": …, "payload": …}`` of each frame.

    An exception's type is its name, as Bedrock has it (``throttlingException``), and so is an error's.
    """

    __slots__ = ("_splitter",)

    def __init__(self) -> None:
        self._splitter = FrameSplitter()

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read; give the documents it completes. Raises `BadFrame`."""
        return [_document(frame) for frame in self._splitter.feed(data)]

    def eof(self) -> list[bytes]:
        """Give nothing: a frame that was cut cannot be whole."""
        return []


class EventStreamSplitter:
    """
    Cuts an event stream, and gives its frames as server-sent events of the documents above.

    So what meters and reads a stream need not know how it was framed. See `sse.Splitter`.
    A frame that is damaged becomes an event that nobody can read, and ends the stream wherever reads end.
    """

    __slots__ = ("_over", "_splitter")

    def __init__(self) -> None:
        self._splitter = FrameSplitter()
        self._over = False

    def feed(self, data: bytes) -> bytes:
        """Take what was read; give the events it completes."""
        events: list[bytes] = []
        if self._over:
            return b""
        try:
            for frame in self._splitter.frames(data):
                text = _document(frame)
                if b"\n" in text or b"\r" in text:
                    # A line end in JSON is blank space: no text can hold one.
                    text = text.replace(b"\n", b" ").replace(b"\r", b" ")
                events.append(b"data: %b\n\n" % text)
        except BadFrame as fault:
            self._over = True
            events.append(b"data: %b\n\n" % str(fault).encode())
        return b"".join(events)

    def tail(self) -> bytes:
        """Give what is held: the begun frame that a stream ends with when it was cut."""
        return self._splitter.tail()


def _document(frame: Frame) -> bytes:
    headers = frame.headers
    kind = headers.get(":event-type") or headers.get(":exception-type") or ""
    payload = frame.payload or b"{}"
    if headers.get(":message-type") == "error":
        kind = headers.get(":error-code", "error")
        payload = msgspec.json.encode({"message": headers.get(":error-message", "")})
    return b'{"type":%b,"payload":%b}' % (msgspec.json.encode(kind), payload)
