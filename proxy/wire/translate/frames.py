"""
Streams cut into the JSON documents they carry, however the bytes arrive.

`SseFrames` gives the data of each server-sent event. It takes the short way for what vendors write
(``data: {…}``, alone or after an ``event:`` line, lines ending with LF or CR LF) and reads everything else as
the standard says: CR, several data lines, comments, a byte order mark. Names of events are
not given: wherever they matter, the document says its type itself.
`LineFrames` gives the lines of newline-delimited JSON.
"""

import re

from proxy.wire.framing import LineSplitter
from proxy.wire.sse import MAX_HELD, DamagedStream, EventSplitter, EventTooLong

__all__ = ["BadFrame", "EventTooLong", "LineFrames", "SseFrames"]

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class BadFrame(DamagedStream):
    """A binary stream is damaged; the message says how."""


class SseFrames:
    """
    The documents in a stream of server-sent events.

    An event that is only a comment (a keep-alive) gives an empty document. At most `limit` bytes are
    held back; `EventTooLong` is raised for an event that is longer.
    """

    __slots__ = ("_begun", "_splitter")

    def __init__(self, limit: int = MAX_HELD) -> None:
        self._splitter = EventSplitter(limit)
        self._begun = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read; give the documents it completes."""
        whole = self._splitter.feed(data)
        if not whole:
            return []
        if not self._begun:
            self._begun = True
            whole = whole.removeprefix(_BOM)
        if b"\r" in whole:
            whole = whole.replace(b"\r\n", b"\n")
            if b"\r" in whole:
                return _lines(whole)
        found: list[bytes] = []
        for event in whole.split(b"\n\n"):
            if event.startswith(b"data: "):
                if b"\n" not in event:
                    found.append(event[6:])
                    continue
            elif event.startswith(b"event: "):
                at = event.find(b"\n") + 1
                if at and event.startswith(b"data: ", at) and event.find(b"\n", at) < 0:
                    found.append(event[at + 6 :])
                    continue
            elif not event:
                continue
            found += _lines(event + b"\n\n")
        return found

    def eof(self) -> list[bytes]:
        """Give the document of an event that nothing ended, if there is one."""
        tail = self._splitter.tail()
        return [document for document in _lines(tail + b"\n\n") if document] if tail else []


class LineFrames:
    """The documents of newline-delimited JSON; at most `limit` bytes are held back."""

    __slots__ = ("_splitter",)

    def __init__(self, limit: int = MAX_HELD) -> None:
        self._splitter = LineSplitter(limit)

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read; give the lines it completes, without blank ones."""
        lines = self._splitter.feed(data).split(b"\n")
        return [line for line in lines if line and not line.isspace()]

    def eof(self) -> list[bytes]:
        """Give the last line, which nothing ended, if there is one."""
        return self.feed(b"\n")


def _lines(events: bytes) -> list[bytes]:
    """Read whole events as the standard says."""
    found: list[bytes] = []
    data: list[bytes] = []
    comment = False
    for line in _LINE_END.split(events):
        if not line:
            if data:
                found.append(b"\n".join(data))
            elif comment:
                found.append(b"")
            data = []
            comment = False
        elif line[0] == 0x3A:
            comment = True
        else:
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
    return found
