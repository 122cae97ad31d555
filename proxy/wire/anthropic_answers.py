"""
What Anthropic's answers say of themselves: usage, content, and where a stream ends.

**Usage.** ``message_start`` reports the input, ``message_delta`` the output and perhaps the input again;
what it reports is cumulative, so that it replaces what was known and is never added. ``input_tokens``
leaves out what was read from the cache or written to it: the gateway's count is the sum of the three, as
the ledger counts for every vendor. Cache writes are told apart by how long they live, since an hour
costs more than five minutes.

**The end.** A stream has ended when ``message_stop`` has come; a ``ping`` may come at any time and says
nothing. An ``error`` event may take the place of the rest.

Protocol: https://platform.claude.com/docs/en/build-with-claude/streaming
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from proxy.wire.framing import payload_around
from proxy.wire.meter import (
    MAX_TOKENS,
    Grammar,
    Usage,
    never_finished,
    texts_in,
    within,
)

__all__ = ["EVENTS", "meter_count", "meter_message", "tokens_in"]

# A body whose usage is not found the short way is decoded as a whole up to here.
MAX_ODD_BODY = 1 << 20


class _Lifetimes(Struct, gc=False):
    ephemeral_1h_input_tokens: int | None = None


class _OutputDetails(Struct, gc=False):
    thinking_tokens: int | None = None


class _ServerTools(Struct, gc=False):
    web_search_requests: int | None = None


class _Usage(Struct, gc=False):
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: _Lifetimes | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None
    server_tool_use: _ServerTools | None = None


class _HasUsage(Struct, gc=False):
    usage: _Usage | None = None


class _Event(Struct, gc=False):
    type: str = ""
    message: _HasUsage | None = None
    usage: _Usage | None = None


_HAS_USAGE = msgspec.json.Decoder(_HasUsage)
_EVENT = msgspec.json.Decoder(_Event)

_STOP_EVENT = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_STOP = re.compile(rb'"type"[ \t]*:[ \t]*"message_stop"')


def meter_message(body: bytes) -> Usage | None:
    """
    Read the usage of a whole message; None when there is none.

    A body is not decoded as a whole where usage comes last, as it does: what begins at its key and
    gets an opening brace is one object if, and only if, the key is a member of the top level.
    """
    at = body.rfind(b'"usage"')
    if at < 0:
        return None
    try:
        found = _HAS_USAGE.decode(b"{" + body[at:]).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _odd_usage(body) if len(body) <= MAX_ODD_BODY else None
    return None if found is None else _settled(found, None)


def meter_count(body: bytes) -> Usage | None:
    """Read the answer to a count of tokens, which uses none; None when it is no such answer."""
    try:
        found = msgspec.json.decode(body, type=_Usage)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if found.input_tokens is None else Usage()


def tokens_in(document: Any) -> int:
    """Estimate the output of a whole message: a quarter of the UTF-8 bytes of what its blocks say, one at least."""
    content = document.get("content") if isinstance(document, dict) else None
    if not isinstance(content, list):
        return 0
    size = 0
    for block in content:
        if isinstance(block, dict):
            said = {name: value for name, value in block.items() if name not in {"type", "id"}}
            size += sum(len(text.encode("utf-8", "surrogatepass")) for text in texts_in(said))
    return max(-(-size // 4), 1)


def _read_usage(data: bytes, before: Usage | None, keep: bool) -> tuple[Usage | None, bool, bytes]:
    counts_output = False
    payloads: list[bytes] = []
    # From the end, since that way a long read is looked through four times as fast.
    at = data.rfind(b'"usage"')
    while at >= 0:
        payload, begin = payload_around(data, at)
        payloads.append(payload)
        at = data.rfind(b'"usage"', 0, begin)
    for payload in reversed(payloads):
        try:
            event = _EVENT.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # A lone surrogate, or a value of a type that it should not have.
            continue
        found = event.usage if event.message is None else event.message.usage
        if found is not None:
            before = _settled(found, before) or before
            if event.message is None:
                counts_output = found.output_tokens is not None
    return before, counts_output, data


def _said(document: Any) -> Iterator[str]:
    """Yield what a delta says: text, thinking, arguments of tools."""
    delta = document.get("delta") if isinstance(document, dict) else None
    if isinstance(delta, dict):
        for name in ("text", "thinking", "partial_json"):
            if isinstance(delta.get(name), str):
                yield delta[name]


def _is_done(reads: list[bytes]) -> bool:
    if reads and reads[-1].endswith(_STOP_EVENT):
        return True
    return _STOP.search(b"".join(reads)) is not None


EVENTS = Grammar(
    usage_key=b'"usage"',
    read_usage=_read_usage,
    said=_said,
    is_finished=never_finished,
    is_done=_is_done,
    done_size=len(_STOP_EVENT),
)


def _odd_usage(body: bytes) -> _Usage | None:
    """Read usage that does not stand at the end, or beside a lone surrogate, which only the json module takes."""
    try:
        document = json.loads(body)
        return msgspec.convert(document, _HasUsage).usage
    except (ValueError, RecursionError):
        return None


def _settled(found: _Usage, before: Usage | None) -> Usage | None:
    """Make the gateway's counts of a vendor's, over those that were known; None when they make no sense."""
    known = Usage() if before is None else before
    plain = known.input_tokens - known.cached_tokens - known.cache_write_tokens
    read, written, hour = known.cached_tokens, known.cache_write_tokens, known.cache_write_1h_tokens
    output, thinking, searches = known.output_tokens, known.reasoning_tokens, known.web_searches
    if found.input_tokens is not None:
        plain = found.input_tokens
    if found.cache_read_input_tokens is not None:
        read = found.cache_read_input_tokens
    if found.cache_creation_input_tokens is not None:
        written = found.cache_creation_input_tokens
    if found.cache_creation is not None:
        hour = found.cache_creation.ephemeral_1h_input_tokens or 0
    if found.output_tokens is not None:
        output = found.output_tokens
    if found.output_tokens_details is not None:
        thinking = found.output_tokens_details.thinking_tokens or 0
    if found.server_tool_use is not None:
        searches = found.server_tool_use.web_search_requests or 0
    counts = plain, read, written, output, searches
    if min(counts) < 0 or max(counts) > MAX_TOKENS:
        return None
    return Usage(
        input_tokens=plain + read + written,
        cached_tokens=read,
        cache_write_tokens=written,
        output_tokens=output,
        reasoning_tokens=within(thinking, output) if thinking else 0,
        cache_write_1h_tokens=within(hour, written) if hour else 0,
        web_searches=searches,
    )
