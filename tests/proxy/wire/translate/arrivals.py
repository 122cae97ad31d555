"""All the ways the bytes of a stream can arrive, and what its reader makes of them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from proxy.wire.translate.events import (
    Alive,
    Event,
    ReasoningDelta,
    RefusalDelta,
    StreamReader,
    TextDelta,
    ToolCallDelta,
)

Make = Callable[[], StreamReader]


def sse(document: Any, name: str = "") -> bytes:
    """Write one event."""
    text = document if isinstance(document, bytes) else msgspec.json.encode(document)
    return (b"event: %b\n" % name.encode() if name else b"") + b"data: %b\n\n" % text


def ways(data: bytes, step: int = 1) -> Iterator[list[bytes]]:
    """Give the bytes whole, one by one, and cut in two at every boundary (or every so many)."""
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data), step):
        yield [data[:at], data[at:]]


def read(make: Make, reads: Sequence[bytes]) -> list[Event]:
    """Feed a new reader, and end."""
    reader = make()
    events = [event for data in reads for event in reader.feed(data)]
    return events + reader.eof()


def read_every_way(make: Make, data: bytes) -> list[Event]:
    """Feed every way, which must all give the same events; give them."""
    expected = read(make, [data])
    for reads in ways(data):
        assert read(make, reads) == expected, reads
    return expected


def joined(events: Sequence[Event]) -> list[Event]:
    """Join deltas that follow one another, and leave out signs of life: what a stream says."""
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else None
        match event, last:
            case Alive(), _:
                continue
            case TextDelta(), TextDelta() if event.choice == last.choice:
                out[-1] = TextDelta(last.text + event.text, event.choice)
            case ReasoningDelta(), ReasoningDelta() if event.choice == last.choice:
                out[-1] = ReasoningDelta(last.text + event.text, event.choice)
            case RefusalDelta(), RefusalDelta() if event.choice == last.choice:
                out[-1] = RefusalDelta(last.text + event.text, event.choice)
            case ToolCallDelta(), ToolCallDelta() if (event.choice, event.call) == (
                last.choice,
                last.call,
            ):
                out[-1] = ToolCallDelta(event.call, last.arguments + event.arguments, event.choice)
            case _:
                out.append(event)
    return out
