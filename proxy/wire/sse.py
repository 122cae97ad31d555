"""
Server-sent events: where events end, and what they say.

`EventSplitter` is for the hot path: it hands on whole events as the bytes that came and holds back
what is not yet whole, so that a stream can be cut, or one event left out of it, only between
events. `decode` is for everything else: it reads events as the WHATWG standard says (HTML, section
9.2.6 "Interpreting an event stream").

An event ends with a blank line. A line ends with LF, CR LF or CR, and a stream may mix them, so an
event ends wherever a line end follows another line end or begins an event. A CR at the end of a
read is taken as a line end at once (waiting for an LF would hold back the event); the LF that may
follow then begins the next read as a blank line of its own, which means nothing to any reader.
"""

import re
from collections.abc import Iterator
from typing import Protocol

__all__ = ["DamagedStream", "EventSplitter", "EventTooLong", "Splitter", "decode", "split"]

MAX_HELD = 1 << 20

_LINE_END = re.compile(r"\r\n|\n|\r")
_EVENT_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)++")


class DamagedStream(Exception):
    """A stream cannot be cut into events any more; the message says why."""


class EventTooLong(DamagedStream):
    """An event is longer than the splitter may hold back."""


class Splitter(Protocol):
    """What cuts a stream at the ends of its events, whatever they are framed by."""

    def feed(self, data: bytes) -> bytes:
        """Take what was read; give whole server-sent events, maybe none. Raises `DamagedStream`."""

    def tail(self) -> bytes:
        """Give what is held: the begun event that a stream ends with when it was cut."""


class EventSplitter:
    """
    Cuts a byte stream at the ends of events.

    What `feed` returns, joined, and then `tail` are the bytes that were fed, in order. What `feed`
    returns ends at the end of an event (or is empty), and what is held holds no whole event. The
    bytes held back are at most `limit`; one more raises `EventTooLong`, and the stream is over.
    """

    __slots__ = ("_held", "_limit")

    def __init__(self, limit: int = MAX_HELD) -> None:
        self._held = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> bytes:
        """
        Take what was read; give the longest prefix that ends at an event's end, maybe empty.

        A read of whole events is returned as the same object.
        """
        if not self._held:
            if data.endswith((b"\n\n", b"\r\n\r\n")):
                return data
            end = _last_end(data, 0)
            if end == len(data):
                return data
            self._hold(data[end:])
            return data[:end]
        held = self._held
        # A blank line may begin in what is held: look again at its last two bytes.
        since = max(len(held) - 2, 0)
        held += data
        end = _last_end(held, since)
        if not end:
            self._hold(b"")
            return b""
        whole = bytes(held[:end])
        del held[:end]
        self._hold(b"")
        return whole

    def tail(self) -> bytes:
        """Give what is held: the begun event that a stream ends with when it was cut."""
        return bytes(self._held)

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > self._limit:
            raise EventTooLong(f"an event is longer than {self._limit} bytes")


def split(data: bytes) -> Iterator[bytes]:
    """Cut `data` into its events, each with the blank line that ends it; joined, they are `data`."""
    at = 0
    for end in _EVENT_END.finditer(data):
        yield data[at : end.end()]
        at = end.end()
    if at < len(data):
        yield data[at:]


def decode(data: bytes) -> list[tuple[str, str]]:
    """
    Read the whole events of `data`, the beginning of a stream: (event name, data) of each.

    An event without a name is "message". Events without data are not dispatched, nor is one that
    no blank line ends. Invalid UTF-8 becomes U+FFFD.
    """
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    events: list[tuple[str, str]] = []
    name = ""
    lines: list[str] = []
    *whole, _unfinished = _LINE_END.split(text)
    for line in whole:
        if not line:
            if lines:
                events.append((name or "message", "\n".join(lines)))
            name = ""
            lines = []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            lines.append(value)
        elif field == "event":
            name = value
        # A comment (no field), id, retry and unknown fields say nothing here.
    return events


def _last_end(data: bytes | bytearray, since: int) -> int:
    """Find where the last whole event ends, looking at line ends from `since` on; 0 if nowhere."""
    end = data.rfind(b"\n\n", since)
    if data.find(b"\r", since) >= 0:
        end = max(end, data.rfind(b"\n\r", since), data.rfind(b"\r\r", since))
    if end >= 0:
        end += 2
        if data[end - 1] == 0x0D and data[end : end + 1] == b"\n":
            end += 1
        return end
    # A line end that begins an event is a blank line already.
    if not since and bytes(data[:1]) in {b"\r", b"\n"}:
        return 2 if data[:2] == b"\r\n" else 1
    return 0
