"""The laws that all writers of streams have from their common part."""

from proxy.wire.translate.events import Ended, Event, TextDelta
from proxy.wire.translate.writing import EventWriter
from tests.proxy.wire.translate.samples import REPLY


class Echo(EventWriter):
    """Writes texts as they are, and a stop at the end."""

    def tell(self, event: Event, out: list[bytes]) -> None:
        if isinstance(event, TextDelta):
            out.append(event.text.encode())
        else:
            self._over = True
            out.append(b".")


def test_events_of_one_read_are_one_write() -> None:
    """In their order."""
    writer = Echo(REPLY)
    assert writer.write([TextDelta("a"), TextDelta("b")]) == b"ab"
    assert writer.write([]) == b""
    assert writer.write([TextDelta("c")]) == b"c"


def test_nothing_follows_an_end() -> None:
    """Neither in the same write nor later."""
    writer = Echo(REPLY)
    assert writer.write([TextDelta("a"), Ended(), TextDelta("b")]) == b"a."
    assert writer.write([TextDelta("c"), Ended()]) == b""


def test_what_was_dropped_is_named_once() -> None:
    """In the order it was met."""
    writer = Echo(REPLY)
    for name in ("a", "b", "a"):
        writer.drop(name)
    assert writer.dropped == ["a", "b"]
