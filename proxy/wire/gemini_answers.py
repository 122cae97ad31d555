"""
What Gemini's answers say of themselves: usage, content, and where a stream ends.

**Usage** is in every chunk, cumulative; the last one counts. The prompt includes what was cached; thinking
is not among the candidates' tokens and is billed as output. Details tell sound and pictures apart, which
have prices of their own.

**The end.** There is no event that ends a stream: it has ended when each candidate has given its
``finishReason``, or when the prompt was blocked.

Protocol: https://ai.google.dev/api/generate-content#UsageMetadata
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from proxy.wire.framing import events_in, events_of, payload_around, payload_of
from proxy.wire.meter import (
    MAX_TOKENS,
    Grammar,
    Usage,
    texts_in,
)
from proxy.wire.translate.gemini.answers import RawUsage, usage_of

__all__ = ["CHUNKS", "meter_answer", "meter_count", "tokens_in"]

MAX_ODD_BODY = 4 << 20
# A chunk may carry a whole picture.
MOST_EVENT = 32 << 20


class _HasUsage(Struct, gc=False):
    usageMetadata: RawUsage | None = None  # noqa: N815 - the protocol's name


class _Candidate(Struct, gc=False):
    index: int | None = None
    finishReason: str | None = None  # noqa: N815 - the protocol's name


class _Chunk(Struct, gc=False):
    candidates: list[_Candidate] | None = None


_HAS_USAGE = msgspec.json.Decoder(_HasUsage)
_CHUNK = msgspec.json.Decoder(_Chunk)


def meter_answer(body: bytes) -> Usage | None:
    """Read the usage of a whole answer; None when there is none."""
    at = body.rfind(b'"usageMetadata"')
    if at < 0:
        return None
    try:
        # What begins at its key and gets a brace is one object if the key is of the top level.
        found = _HAS_USAGE.decode(b"{" + body[at:]).usageMetadata
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if len(body) > MAX_ODD_BODY:
            return None
        try:
            found = _HAS_USAGE.decode(body).usageMetadata
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
    return None if found is None else _settled(found)


def meter_count(body: bytes) -> Usage | None:
    """Read the answer to a count of tokens, which uses none; None when it is no such answer."""
    return Usage() if b'"totalTokens"' in body else None


def tokens_in(document: Any) -> int:
    """Estimate the output of a whole answer: a quarter of the UTF-8 bytes of what its parts say, one at least."""
    if not isinstance(document, dict) or not isinstance(document.get("candidates"), list):
        return 0
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in _said(document))
    return max(-(-size // 4), 1)


def _read_usage(data: bytes, before: Usage | None, keep: bool) -> tuple[Usage | None, bool, bytes]:
    at = data.rfind(b'"usageMetadata"')
    while at >= 0:
        payload, begin = payload_around(data, at)
        try:
            found = _HAS_USAGE.decode(payload).usageMetadata
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found = None
        usage = None if found is None else _settled(found)
        if usage is not None:
            return usage, True, data
        at = data.rfind(b'"usageMetadata"', 0, begin)
    return before, before is not None, data


def _said(document: Any) -> Iterator[str]:
    """Yield what a chunk's candidates say: text, thoughts, arguments of functions."""
    candidates = document.get("candidates") if isinstance(document, dict) else None
    for candidate in candidates if isinstance(candidates, list) else ():
        content = candidate.get("content") if isinstance(candidate, dict) else None
        parts = content.get("parts") if isinstance(content, dict) else None
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict):
                yield from texts_in([part.get("text"), part.get("functionCall")])


def _is_finished(text: bytes) -> bool:
    # From the end, where it stands: that way a long answer is not looked through at all.
    return text.rfind(b'"finishReason"') >= 0 or text.rfind(b'"blockReason"') >= 0


def _ended(text: bytes) -> set[int]:
    """Say which candidates gave the reason of their end."""
    found: set[int] = set()
    for event in events_in(text):
        if b'"finishReason"' not in event:
            continue
        try:
            candidates = _CHUNK.decode(payload_of(event)).candidates or ()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        found.update(one.index or 0 for one in candidates if one.finishReason)
    return found


def _never_done(reads: list[bytes]) -> bool:
    """Say that no event ends a stream."""
    return False


CHUNKS = Grammar(
    usage_key=b'"usageMetadata"',
    read_usage=_read_usage,
    said=_said,
    is_finished=_is_finished,
    is_done=_never_done,
    framing=events_of(MOST_EVENT),
    usage_repeats=True,
    ended=_ended,
)


def _settled(found: RawUsage) -> Usage | None:
    """Make the gateway's counts of a vendor's; None when they make no sense."""
    if found.prompt_token_count is None and found.candidates_token_count is None:
        return None
    counts = (
        *(found.prompt_token_count or 0, found.candidates_token_count or 0),
        *(found.thoughts_token_count or 0, found.tool_use_prompt_token_count or 0),
    )
    if min(counts) < 0 or max(counts) > MAX_TOKENS:
        return None
    return usage_of(found)
