"""The laws that all readers of streams have from their common part."""

from proxy.wire.translate.core import Failure
from proxy.wire.translate.events import Ended, Event, Failed, TextDelta
from proxy.wire.translate.reading import DocumentReader


class Echo(DocumentReader):
    """Gives back what it reads; "end" ends, and what begins with "?" means nothing."""

    def read(self, document: bytes, out: list[Event]) -> None:
        if document == b"end":
            self._over = True
            out.append(Ended())
        else:
            document.replace(b"?", b"\xff").decode()
            out.append(TextDelta(document.decode()))


def test_nothing_follows_an_end() -> None:
    """Neither events nor a second end."""
    reader = Echo()
    assert reader.feed(b"data: a\n\ndata: end\n\ndata: b\n\n") == [TextDelta("a"), Ended()]
    assert reader.feed(b"data: c\n\n") == []
    assert reader.eof() == []


def test_a_stream_without_an_end_is_lost() -> None:
    """With the cause, where somebody knows it; once."""
    cause = Failure(kind="timeout", message="too slow", status=504)
    reader = Echo()
    assert reader.feed(b"data: a\n\n") == [TextDelta("a")]
    assert reader.eof(cause) == [Failed(cause)]
    assert reader.eof() == []
    [end] = Echo().eof()
    assert isinstance(end, Failed)
    assert end.failure.kind == "lost"


def test_what_means_nothing_ends_the_stream() -> None:
    """After what meant something; at the end it was only cut."""
    first, last = Echo().feed(b"data: a\n\ndata: ?\n\ndata: b\n\n")
    assert first == TextDelta("a")
    assert isinstance(last, Failed)
    assert last.failure.code == "bad_answer"
    reader = Echo()
    reader.feed(b"data: a\n\ndata: ?")
    [end] = reader.eof()
    assert isinstance(end, Failed)
    assert end.failure.code == "upstream_lost"


def test_an_endless_event_ends_the_stream() -> None:
    """A vendor cannot fill the memory."""
    reader = Echo()
    events: list[Event] = []
    for _ in range(40):
        events += reader.feed(b"data: " + b"x" * 65536)
    [end] = events
    assert isinstance(end, Failed)


def test_what_was_dropped_is_named_once() -> None:
    """In the order it was met."""
    reader = Echo()
    for name in ("citations", "", "audio", "citations"):
        reader.drop(name)
    assert reader.dropped == ["citations", "audio"]
