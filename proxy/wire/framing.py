"""
How streams are made of events: where those are in some bytes, and what each of them carries.

A `Framing` is a table, made once; most streams are server-sent events (`EVENTS`), and some are lines of JSON (`lines_of`).
What is neither is made events as it comes (`events_by`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import orjson

from proxy.wire import sse

__all__ = [
    "EVENTS",
    "Framing",
    "LineSplitter",
    "event_around",
    "events_by",
    "events_in",
    "events_of",
    "lines_of",
    "payload_around",
    "payload_of",
]

_CR, _LF = b"\r\n"


@dataclass(frozen=True, slots=True, eq=False)
class Framing:
    """
    How a stream is made of events, whatever they say.

    `splitter` makes what cuts it into whole events, each of which usually ends with `end`. `events_in` gives the
    events of some bytes, of which the last may be unfinished, `payload_of` the data of one, and `count` says how
    many carry data. `mended` takes the begun event that a stream ended with, and gives it with its end where it lacks nothing
    else, or else nothing.
    """

    splitter: Callable[[], sse.Splitter]
    end: bytes
    events_in: Callable[[bytes], Iterator[bytes]]
    payload_of: Callable[[bytes], bytes]
    count: Callable[[bytes], int]
    mended: Callable[[bytes], bytes]


def events_by(splitter: Callable[[], sse.Splitter]) -> Framing:
    """Return the framing of server-sent events, cut or made by `splitter`."""
    return Framing(splitter, b"\n\n", events_in, payload_of, _count, _mended)


def events_of(most: int) -> Framing:
    """Return the framing of server-sent events, the longest of which has `most` bytes."""
    return events_by(partial(sse.EventSplitter, most))


def lines_of(most: int) -> Framing:
    """Return the framing of lines of JSON, the longest of which has `most` bytes."""
    return Framing(
        partial(LineSplitter, most), b"\n", _lines_in, bytes.strip, _count_lines, _mended_line
    )


class LineSplitter:
    """Cuts a byte stream at the ends of its lines. See `sse.EventSplitter`, of which the same is true."""

    __slots__ = ("_held", "_most")

    def __init__(self, most: int = sse.MAX_HELD) -> None:
        self._held = bytearray()
        self._most = most

    def feed(self, data: bytes) -> bytes:
        """Take what was read; give the longest prefix that ends at a line's end, maybe empty. Raises `EventTooLong`."""
        held = self._held
        if not held and data.endswith(b"\n"):
            return data
        end = data.rfind(b"\n") + 1
        whole = data[:end]
        if end and held:
            whole = bytes(held) + whole
            held.clear()
        held += data[end:]
        if len(held) > self._most:
            raise sse.EventTooLong(f"a line is longer than {self._most} bytes")
        return whole

    def tail(self) -> bytes:
        """Give what is held: the begun line that a stream ends with when it was cut."""
        return bytes(self._held)


def events_in(data: bytes) -> Iterator[bytes]:
    """Cut into events, lazily; the last may be unfinished."""
    if _CR in data:
        yield from sse.split(data)
        return
    at = 0
    while at < len(data):
        end = data.find(b"\n\n", at) + 2
        if end < 2:
            end = len(data)
        yield data[at:end]
        at = end


def payload_of(event: bytes) -> bytes:
    """Take the data of one event, in the common cases (one line of it, after its name or alone) without decoding it."""
    at = event.find(b"\n") + 1 if event.startswith(b"event:") else 0
    if event.startswith(b"data:", at) and event.find(b"\r", 0, max(at - 2, 0)) < 0:
        line = event[at + 5 :].rstrip(b"\r\n")
        if _LF not in line and _CR not in line:
            return line
    return "\n".join([text for _, text in sse.decode(event + b"\n\n")]).encode()


def event_around(data: bytes, at: int) -> tuple[int, int]:
    """Say where the event begins in one of whose lines the byte `at` is, and where the next one does."""
    blank = b"\r\n\r\n" if _CR in data else b"\n\n"
    size = len(blank)
    # Not found is -1, and then the sum is less than the size.
    begin = data.rfind(blank, 0, at) + size
    end = data.find(blank, at) + size
    begin = begin if begin >= size else 0
    end = end if end >= size else len(data)
    if size == 4 and not (
        data.count(b"\r", begin, end)
        == data.count(b"\n", begin, end)
        == data.count(b"\r\n", begin, end)
    ):
        # Its lines do not all end with CR LF.
        begin = 0
        for event in sse.split(data):
            end = begin + len(event)
            if end > at:
                break
            begin = end
    return begin, end


def payload_around(data: bytes, at: int) -> tuple[bytes, int]:
    """Give the data of the event that holds the byte `at`, and where that event begins."""
    begin, after = event_around(data, at)
    return payload_of(data[begin:after]), begin


def _count(text: bytes) -> int:
    return text.count(b"\ndata:") + text.count(b"\rdata:") + text.startswith(b"data:")


def _mended(tail: bytes) -> bytes:
    """Give an event to which nothing lacks but the blank line behind it, without which no client would see it."""
    found = sse.decode(tail + b"\n\n")
    if not found or not (found[-1][1] == "[DONE]" or _is_object(found[-1][1].encode())):
        return b""
    return tail.rstrip(b"\r\n") + b"\n\n"


def _is_object(text: bytes) -> bool:
    """Say whether a text is a JSON object."""
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def _lines_in(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        end = data.find(b"\n", at) + 1 or len(data)
        yield data[at:end]
        at = end


def _count_lines(text: bytes) -> int:
    return sum(not line.isspace() for line in _lines_in(text))


def _mended_line(tail: bytes) -> bytes:
    """Give a line to which nothing lacks but its end."""
    return tail.rstrip(b"\r\n") + b"\n" if _is_object(tail) else b""


EVENTS = events_by(sse.EventSplitter)
"""Server-sent events, none longer than a splitter holds unless it is told to."""
