"""What the readers of streams have in common: documents out of frames, and one end."""

from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from proxy.wire.translate import failures
from proxy.wire.translate.core import Failure
from proxy.wire.translate.events import Event, Failed, lost
from proxy.wire.translate.frames import BadFrame, EventTooLong, SseFrames

__all__ = ["MOST_CALLS", "MOST_CHOICES", "MOST_DROPPED", "UNREADABLE", "DocumentReader"]

# Of what a vendor may tell something is kept: of so many answers, calls in each, and names that are dropped.
MOST_CHOICES: Final = 128
MOST_CALLS: Final = 1024
MOST_DROPPED: Final = 64

# What decoding an event raises: not JSON, another type, not UTF-8, nested too deep.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Frames(Protocol):
    def feed(self, data: bytes) -> list[bytes]: ...

    def eof(self) -> list[bytes]: ...


class DocumentReader:
    """
    Reads a stream that is one JSON document after another. See `events.StreamReader`.

    A protocol says what a document means (`read`, which raises `UNREADABLE` when it means nothing),
    and what is left to say when the stream ends (`finish`, False when the answer is not complete).
    `dropped` names, so far, what the core has no word for.
    """

    def __init__(self, renamed: Mapping[str, str] | None = None) -> None:
        self._frames: _Frames = SseFrames()
        self._renamed = renamed or {}
        self._over = False
        self.dropped: list[str] = []

    def feed(self, data: bytes) -> list[Event]:
        """Take what was read; give what it completes."""
        out: list[Event] = []
        if self._over:
            return out
        try:
            documents = self._frames.feed(data)
        except EventTooLong:
            self.fail(failures.too_long(), out)
            return out
        except BadFrame as fault:
            self.fail(failures.bad_chunk(str(fault)), out)
            return out
        for document in documents:
            if self._is_over():
                break
            try:
                self.read(document, out)
            except UNREADABLE:
                self.fail(failures.bad_chunk("an event is not what it should be"), out)
        return out

    def eof(self, cause: Failure | None = None) -> list[Event]:
        """Take that no more comes."""
        out: list[Event] = []
        if self._over:
            return out
        for document in self._frames.eof():
            # An event that nothing ended is whole if it can be read; else it was cut.
            try:
                self.read(document, out)
            except UNREADABLE:
                break
        if not self._is_over() and not self.finish(out):
            out.append(lost() if cause is None else Failed(cause))
        self._over = True
        return out

    def read(self, document: bytes, out: list[Event]) -> None:
        """Say what one document means."""
        raise AssertionError("a protocol reads its own documents")

    def finish(self, out: list[Event]) -> bool:
        """Say what is left to say, if the answer is complete."""
        return False

    def fail(self, failure: Failure, out: list[Event]) -> None:
        """End with a failure."""
        self._over = True
        out.append(Failed(failure))

    def drop(self, name: str) -> None:
        """Name what the core has no word for."""
        if name and name not in self.dropped and len(self.dropped) < MOST_DROPPED:
            self.dropped.append(name)

    def _is_over(self) -> bool:
        return self._over
