"""Streams of OpenAI's chunks for tests: what a vendor sends, and all the ways in which it can arrive."""

import json
import random
from collections.abc import Iterator
from typing import Any

from proxy.wire.meter import StreamMeter, Usage
from proxy.wire.openai_answers import CHUNKS


def event(document: Any, *, spaced: bool = False, end: str = "\n") -> bytes:
    separators = (", ", ": ") if spaced else (",", ":")
    text = document if isinstance(document, str) else json.dumps(document, separators=separators)
    return f"data: {text}{end}{end}".encode()


def chunk(content: str | None, *, reason: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**head, "choices": [choice], **more}


USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
METERED = Usage(input_tokens=9, output_tokens=5)
ONLY_USAGE = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": USAGE}
AZURE_FIRST = {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
WORDS = ["Hel", "lo", " wor", "ld", "!"]


def stream(
    *last: Any,
    before: tuple[Any, ...] = (),
    spaced: bool = False,
    end: str = "\n",
    nulls: bool = False,
) -> list[bytes]:
    """Give the events of an answer: role, five words, reason, then `last`."""
    more: dict[str, Any] = {"usage": None} if nulls else {}
    opening = chunk("", **more)
    opening["choices"][0]["delta"]["role"] = "assistant"
    words = [chunk(word, **more) for word in WORDS]
    documents = [*before, opening, *words, chunk(None, reason="stop", **more), *last]
    return [event(document, spaced=spaced, end=end) for document in documents]


def ways(events: list[bytes]) -> Iterator[list[bytes]]:
    """Give all the ways whole events can arrive: in one read, one by one, in two, in any groups."""
    yield [b"".join(events)]
    yield events
    for at in range(1, len(events)):
        yield [b"".join(events[:at]), b"".join(events[at:])]
    dice = random.Random(7)
    for _ in range(10):
        cuts = sorted(dice.sample(range(1, len(events)), 2))
        bounds = zip([0, *cuts], [*cuts, len(events)], strict=True)
        yield [b"".join(events[a:b]) for a, b in bounds]


def metered(reads: list[bytes], *, keep_usage: bool = False) -> tuple[StreamMeter, bytes]:
    meter = StreamMeter(CHUNKS, keep_usage=keep_usage)
    return meter, b"".join([meter.look(read) for read in reads])
