"""
Streams of typed events, of which the last says what was used: OpenAI's images and audio.

Each event's data has a ``type``; the one that ends a stream carries ``usage``, and there is no ``[DONE]``.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from proxy.wire.framing import events_of, payload_around
from proxy.wire.meter import Grammar, Usage, never_finished

__all__ = ["deltas", "events_ending_in", "nothing"]


def events_ending_in(
    types: str,
    usage_of: Callable[[bytes], Usage | None],
    *,
    said: Callable[[Any], Iterator[str]],
    most_event: int,
) -> Grammar:
    """
    Make the grammar of streams that end with an event of one of these types (a regular expression).

    `usage_of` reads the usage of an event's data, None where it has none; `said` yields what a decoded event says.
    """
    end = re.compile(rb'"type"[ \t]*:[ \t]*"(?:%b)"' % types.encode())

    def read_usage(
        data: bytes, before: Usage | None, keep: bool
    ) -> tuple[Usage | None, bool, bytes]:
        at = data.rfind(b'"usage"')
        while at >= 0:
            payload, begin = payload_around(data, at)
            found = usage_of(payload)
            if found is not None:
                return found, True, data
            at = data.rfind(b'"usage"', 0, begin)
        return before, before is not None, data

    def is_done(reads: list[bytes]) -> bool:
        return end.search(b"".join(reads)) is not None

    return Grammar(
        usage_key=b'"usage"',
        read_usage=read_usage,
        said=said,
        is_finished=never_finished,
        is_done=is_done,
        usage_ends=True,
        framing=events_of(most_event),
    )


def deltas(document: Any) -> Iterator[str]:
    """Yield what an event adds in words."""
    delta = document.get("delta") if isinstance(document, dict) else None
    if isinstance(delta, str):
        yield delta


def nothing(document: Any) -> Iterator[str]:
    """Yield nothing: what a picture is worth does not show in its bytes."""
    yield from ()
