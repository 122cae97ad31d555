"""
What answers of OpenAI's Responses say of themselves: usage, content, and where a stream ends.

**Usage** stands in the whole response, and in a stream in the event that ends it, which carries that
response. Input includes cached tokens and output includes reasoning, as everywhere at OpenAI. Searches
of the web are items of the output, and billed by the call.

**The end.** A stream has ended when ``response.completed``, ``response.incomplete`` or
``response.cancelled`` has come; ``response.failed`` and ``error`` take the place of the rest. There is no
``[DONE]``. Events that nobody here knows pass.

Protocol: OpenAI's API reference for streaming responses.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from proxy.wire.framing import events_of, payload_around
from proxy.wire.meter import (
    MAX_TOKENS,
    Grammar,
    Usage,
    never_finished,
    texts_in,
    within,
)

__all__ = ["EVENTS", "meter_response", "tokens_in"]

# An event may carry the whole answer, pictures included.
MOST_EVENT = 32 << 20
MAX_ODD_BODY = 1 << 20


class _InputDetails(Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(Struct, gc=False):
    reasoning_tokens: int | None = None


class _Usage(Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _HasUsage(Struct, gc=False):
    usage: _Usage | None = None


class _Event(Struct, gc=False):
    response: _HasUsage | None = None


_HAS_USAGE = msgspec.json.Decoder(_HasUsage)
_EVENT = msgspec.json.Decoder(_Event)

# Each is billed besides the tokens.
_SEARCH = re.compile(rb'"type"[ \t\r\n]*:[ \t\r\n]*"web_search_call"')
_END = re.compile(rb'"type"[ \t]*:[ \t]*"response\.(?:completed|incomplete|cancelled)"')


def meter_response(body: bytes) -> Usage | None:
    """
    Read the usage of a whole response; None when there is none.

    A body is not decoded as a whole where usage comes late, as it does: what begins at its key and
    gets an opening brace is one object if, and only if, the key is a member of the top level.
    """
    at = body.rfind(b'"usage"')
    if at < 0:
        return None
    try:
        found = _HAS_USAGE.decode(b"{" + body[at:]).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if len(body) > MAX_ODD_BODY:
            return None
        try:
            found = _HAS_USAGE.decode(body).usage
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
    return None if found is None else _settled(found, body)


def tokens_in(document: Any) -> int:
    """Estimate the output of a whole response: a quarter of the UTF-8 bytes of what its items say, one at least."""
    items = document.get("output") if isinstance(document, dict) else None
    if not isinstance(items, list):
        return 0
    size = 0
    for item in items:
        if isinstance(item, dict):
            said = [item.get(name) for name in ("content", "arguments", "input", "summary")]
            size += sum(len(text.encode("utf-8", "surrogatepass")) for text in texts_in(said))
    return max(-(-size // 4), 1)


def _read_usage(data: bytes, before: Usage | None, keep: bool) -> tuple[Usage | None, bool, bytes]:
    at = data.rfind(b'"usage"')
    while at >= 0:
        payload, begin = payload_around(data, at)
        try:
            response = _EVENT.decode(payload).response
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            response = None
        if response is not None and response.usage is not None:
            found = _settled(response.usage, payload)
            if found is not None:
                return found, True, data
        at = data.rfind(b'"usage"', 0, begin)
    return before, before is not None, data


def _said(document: Any) -> Iterator[str]:
    """Yield what a delta says: text, reasoning, arguments of tools."""
    delta = document.get("delta") if isinstance(document, dict) else None
    if isinstance(delta, str):
        yield delta


def _is_done(reads: list[bytes]) -> bool:
    return _END.search(b"".join(reads)) is not None


EVENTS = Grammar(
    usage_key=b'"usage"',
    read_usage=_read_usage,
    said=_said,
    is_finished=never_finished,
    is_done=_is_done,
    usage_ends=True,
    framing=events_of(MOST_EVENT),
)


def _settled(found: _Usage, response: bytes) -> Usage | None:
    """Make the gateway's counts of a vendor's, with the searches of its response; None when they make no sense."""
    prompt, output = found.input_tokens, found.output_tokens
    if prompt is None and output is None:
        return None
    prompt, output = prompt or 0, output or 0
    if not (0 <= prompt <= MAX_TOKENS and 0 <= output <= MAX_TOKENS):
        return None
    usage = Usage(prompt, 0, 0, output)
    inputs, outputs = found.input_tokens_details, found.output_tokens_details
    if inputs is not None:
        if inputs.cached_tokens:
            usage.cached_tokens = within(inputs.cached_tokens, prompt)
        if inputs.cache_write_tokens:
            usage.cache_write_tokens = within(inputs.cache_write_tokens, prompt)
    if outputs is not None and outputs.reasoning_tokens:
        usage.reasoning_tokens = within(outputs.reasoning_tokens, output)
    if response.find(b"web_search_call") >= 0:
        usage.web_searches = len(_SEARCH.findall(response))
    return usage
