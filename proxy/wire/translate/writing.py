"""What the writers of streams have in common: events in their order, and one end."""

from collections.abc import Sequence

from proxy.wire.translate.core import Reply, Usage
from proxy.wire.translate.events import Event

__all__ = ["EventWriter"]


class EventWriter:
    """
    Writes a stream for one reply. See `events.StreamWriter`.

    A protocol says what an event is in its words (`tell`), and sets `_over` with the last of them.
    """

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._over = False
        self._usage: Usage | None = None
        self.dropped: list[str] = []

    def write(self, events: Sequence[Event]) -> bytes:
        """Take what happened; give the bytes to send."""
        out: list[bytes] = []
        for event in events:
            if self._over:
                break
            self.tell(event, out)
        return out[0] if len(out) == 1 else b"".join(out)

    def tell(self, event: Event, out: list[bytes]) -> None:
        """Say one event."""
        raise AssertionError("a protocol writes its own events")

    def drop(self, name: str) -> None:
        """Name what the caller's protocol has no word for."""
        if name not in self.dropped:
            self.dropped.append(name)
