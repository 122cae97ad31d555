"""
What OpenAI's answers say of themselves: usage, content, and where a stream ends.

**The end.** ``data: [DONE]`` ends a stream. Some vendors never send it: with them a stream has ended when
each of the choices that were asked for (``n``) has given its ``finish_reason``.

**Usage.** The last usage wins: vendors that report it in each chunk report it cumulatively. It is
taken from where they put it: ``usage``, ``choices[0].usage`` (Kimi) and ``x_groq.usage`` (Groq). A
chunk that carries nothing else (no choices) is what ``stream_options.include_usage`` adds, and is
left out when the caller did not ask for it. Input includes cached tokens and output includes
reasoning, as OpenAI counts. A vendor whose total exceeds input plus output (xAI and Gemini leave
thinking out of ``completion_tokens``) has the difference counted as reasoning.

Protocol: OpenAI's API reference for chat completions, completions and embeddings.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from proxy.wire.framing import event_around, events_in, payload_of
from proxy.wire.meter import (
    MAX_TOKENS,
    Grammar,
    Usage,
    texts_in,
    within,
)

__all__ = ["CHUNKS", "meter_json", "tokens_in"]


class _InputDetails(Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class _OutputDetails(Struct, gc=False):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None


class _Usage(Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None


class _HasUsage(Struct, gc=False):
    usage: _Usage | None = None


class _Document(Struct, gc=False):
    choices: list[_HasUsage] | None = None
    usage: _Usage | None = None
    x_groq: _HasUsage | None = None


_HAS_USAGE = msgspec.json.Decoder(_HasUsage)

_DOCUMENT = msgspec.json.Decoder(_Document)

# A body in which usage is not found the short way, and which is not decodable, is given up beyond.
MAX_ODD_BODY = 1 << 20

_DONE_EVENT = b"data: [DONE]\n\n"

_DONE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\][ \t]*(?:[\r\n]|$)")

_FINISHED = re.compile(rb'"finish_reason"[ \t]*:[ \t]*"')


def meter_json(body: bytes) -> Usage | None:
    """
    Read the usage of a whole answer: chat, completion or embeddings; None when there is none.

    A body is not decoded as a whole where usage comes last, as it does: what begins at its key and
    gets an opening brace is one object if, and only if, the key is a member of the top level.
    """
    at = body.rfind(b'"usage"')
    if at < 0:
        return None
    try:
        raw = _HAS_USAGE.decode(b"{" + body[at:]).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _usage_of(body)[0] if len(body) <= MAX_ODD_BODY else _strict_usage_of(body)
    return None if raw is None else _settled(raw)


def _is_finished(text: bytes) -> bool:
    return (
        text.rfind(b'"finish_reason":"') >= 0
        or text.rfind(b'"finish_reason": "') >= 0
        or (text.rfind(b'"finish_reason":') < 0 and _FINISHED.search(text) is not None)
    )


def _ended(text: bytes) -> set[int]:
    """Say which choices gave the reason of their end."""
    found: set[int] = set()
    for event in events_in(text):
        if not _is_finished(event):
            continue
        try:
            document = json.loads(payload_of(event))
        except (ValueError, RecursionError):
            continue
        choices = document.get("choices") if isinstance(document, dict) else None
        for place, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict) and isinstance(choice.get("finish_reason"), str):
                index = choice.get("index")
                found.add(index if type(index) is int else place)
    return found


def _is_done(reads: list[bytes]) -> bool:
    if reads and reads[-1].endswith(_DONE_EVENT):
        return True
    return _DONE.search(b"".join(reads)) is not None


def _said(document: Any) -> Iterator[str]:
    """Yield what a chunk's choices say: text, reasoning, arguments of tools."""
    choices = document.get("choices") if isinstance(document, dict) else None
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            yield from texts_in(choice.get("text"))
            delta = choice.get("delta")
            if isinstance(delta, dict):
                delta.pop("role", None)
                yield from texts_in(delta)


# How the key and the brace of a report are written.
_OBJECTS: tuple[bytes, ...] = (b'"usage":{', b'"usage": {')


def _read_usage(data: bytes, before: Usage | None, keep: bool) -> tuple[Usage | None, bool, bytes]:
    found: Usage | None = None
    kept: list[bytes] = []
    end = len(data)
    at = data.rfind(b'"usage"')
    objects = _OBJECTS
    # From the last event to the first, so that the first usage found is the last one reported.
    while at >= 0:
        begin, after = event_around(data, at)
        event = data[begin:after]
        if found is None or b'"choices":[{' not in event:
            usage, alone = _usage_of(payload_of(event))
            if found is None and usage is not None:
                found = usage
                # One server spells it in one way, and each look through all of a read costs a microsecond.
                objects = tuple([text for text in _OBJECTS if text in event]) or _OBJECTS
            if alone and not keep:
                kept.append(data[after:end])
                end = begin
        if found is not None and keep:
            break
        at = max([data.rfind(text, 0, begin) for text in objects])
    if end != len(data):
        kept.append(data[:end])
        kept.reverse()
        data = b"".join(kept)
    return found or before, True, data


CHUNKS = Grammar(
    usage_key=b'"usage"',
    read_usage=_read_usage,
    said=_said,
    is_finished=_is_finished,
    is_done=_is_done,
    done_size=len(_DONE_EVENT),
    ended=_ended,
)


def tokens_in(document: Any) -> int:
    """Estimate the output of a whole answer: a quarter of the UTF-8 bytes of what its choices say, one each at least."""
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(choices, list):
        return 0
    tokens = 0
    for choice in choices:
        if isinstance(choice, dict):
            message = choice.get("message")
            said = message | {"role": ""} if isinstance(message, dict) else choice.get("text")
            size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts_in(said))
            tokens += max(-(-size // 4), 1)
    return tokens


def _strict_usage_of(text: bytes) -> Usage | None:
    try:
        return _reported(_DOCUMENT.decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _usage_of(text: bytes) -> tuple[Usage | None, bool]:
    """Read the usage of a chunk or an answer, and whether there are no choices beside it."""
    try:
        document = _DOCUMENT.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _odd_usage_of(text)
    return _reported(document), document.usage is not None and not document.choices


def _odd_usage_of(text: bytes) -> tuple[Usage | None, bool]:
    """
    Read usage where a value has a type that it should not have.

    The json module also takes what msgspec does not: lone surrogates, which are content and none of
    the meter's business.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None, False
    if not isinstance(document, dict):
        return None, False
    usage = document.get("usage")
    choices = document.get("choices")
    alone = isinstance(usage, dict) and not choices
    groq = document.get("x_groq")
    candidates = [usage, groq.get("usage") if isinstance(groq, dict) else None]
    if isinstance(choices, list):
        candidates += [choice.get("usage") for choice in choices if isinstance(choice, dict)]
    for candidate in candidates:
        if isinstance(candidate, dict):
            found = _settled(_tamed(candidate))
            if found is not None:
                return found, alone
    return None, alone


def _tamed(usage: dict[str, Any]) -> _Usage:
    """Leave out of a usage object what is not a whole number."""
    return msgspec.convert(
        _numbers(usage)
        | {
            name: _numbers(details)
            for name in ("prompt_tokens_details", "completion_tokens_details")
            if isinstance(details := usage.get(name), dict)
        },
        _Usage,
    )


def _numbers(document: dict[str, Any]) -> dict[str, Any]:
    return {
        name: int(value)
        for name, value in document.items()
        if type(value) is int or (type(value) is float and value.is_integer())
    }


def _reported(document: _Document) -> Usage | None:
    if document.usage is not None:
        found = _settled(document.usage)
        if found is not None:
            return found
    if document.x_groq is not None and document.x_groq.usage is not None:
        return _settled(document.x_groq.usage)
    for choice in document.choices or ():
        if choice.usage is not None:
            return _settled(choice.usage)
    return None


def _settled(found: _Usage) -> Usage | None:
    """Make the gateway's counts of a vendor's; None when the main ones make no sense."""
    prompt = found.prompt_tokens
    output = found.completion_tokens
    if prompt is None:
        if output is None:
            return None
        prompt = 0
    if output is None:
        output = 0
    if not (0 <= prompt <= MAX_TOKENS and 0 <= output <= MAX_TOKENS):
        return None
    usage = Usage(prompt, 0, 0, output)
    cached = found.prompt_cache_hit_tokens or found.cached_tokens
    inputs = found.prompt_tokens_details
    if inputs is not None:
        cached = inputs.cached_tokens or cached
        if inputs.cache_write_tokens:
            usage.cache_write_tokens = within(inputs.cache_write_tokens, prompt)
        if inputs.audio_tokens:
            usage.audio_input_tokens = within(inputs.audio_tokens, prompt)
        if inputs.image_tokens:
            usage.image_input_tokens = within(inputs.image_tokens, prompt)
    if cached:
        usage.cached_tokens = within(cached, prompt)
    reasoning = 0
    outputs = found.completion_tokens_details
    if outputs is not None:
        reasoning = outputs.reasoning_tokens or 0
        if outputs.audio_tokens:
            usage.audio_output_tokens = within(outputs.audio_tokens, output)
        if outputs.image_tokens:
            usage.image_output_tokens = within(outputs.image_tokens, output)
    total = found.total_tokens
    if total is not None and prompt + output < total <= MAX_TOKENS:
        surplus = total - prompt - output
        if reasoning in (0, surplus):
            reasoning = surplus
            usage.output_tokens = output + surplus
    if reasoning:
        usage.reasoning_tokens = within(reasoning, usage.output_tokens)
    return usage
