"""
Counts of a request's tokens, between Anthropic's count_tokens and Gemini's countTokens.

What is counted is a conversation, so that it is read and written by the protocols' own; of what is written only that is
sent which has tokens. A count is of the model that is asked for, by the vendor that knows how it reads.

Protocol: https://platform.claude.com/docs/en/api/messages-count-tokens and https://ai.google.dev/api/tokens
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Raw, Struct

from proxy.wire.look import BadField
from proxy.wire.translate import gemini, messages
from proxy.wire.translate.core import BadAnswer, Conversation, Failure, Reply, Target, Written
from proxy.wire.translate.failures import WrittenError
from proxy.wire.translate.fields import encode, parse_object

__all__ = ["COUNTERS", "Count", "Counter", "counted_body", "whole_body"]

MAX_TOKENS = 1 << 40
_OF_MESSAGES = ("model", "messages", "system", "tools", "tool_choice", "thinking")
_OF_GEMINI = ("contents", "systemInstruction", "tools", "toolConfig")
_MEMBERS = msgspec.json.Decoder(dict[str, Raw])


class Count(Struct, frozen=True, gc=False):
    """How many tokens a request has."""

    tokens: int
    dropped: tuple[str, ...] = ()


def _members(body: bytes) -> dict[str, Raw]:
    # It is read once more than needed, for errors that name what is wrong.
    parse_object(body)
    try:
        return _MEMBERS.decode(body)
    except msgspec.DecodeError:
        raise BadField(None, "the body must be a JSON object", "invalid_type") from None


def whole_body(body: bytes) -> bytes:
    """Give the Messages request that a count_tokens body is the beginning of. Raises `BadField`."""
    members = _members(body)
    members.setdefault("max_tokens", Raw(b"1"))
    return msgspec.json.encode(members)


def counted_body(body: bytes) -> bytes:
    """Give the generateContent request that a countTokens body holds, or is. Raises `BadField`."""
    inner = _members(body).get("generateContentRequest")
    if inner is None:
        return body
    members = _members(bytes(inner))
    members.pop("model", None)
    return msgspec.json.encode(members)


def _read_messages(body: bytes) -> Conversation:
    return messages.read_request(whole_body(body))


def _write_messages(asked: Conversation, target: Target) -> Written:
    written = messages.write_request(asked, target)
    return _only(written, _OF_MESSAGES)


def _read_gemini(body: bytes) -> Conversation:
    return gemini.read_request(counted_body(body))


def _write_gemini(asked: Conversation, target: Target) -> Written:
    written = _only(gemini.write_request(asked, target), _OF_GEMINI)
    model = f"models/{target.model.removeprefix('models/')}"
    inner = {"model": model} | _MEMBERS.decode(written.body)
    body = msgspec.json.encode({"generateContentRequest": inner})
    return msgspec.structs.replace(written, body=body)


def _only(written: Written, names: tuple[str, ...]) -> Written:
    members = _MEMBERS.decode(written.body)
    kept = {name: members[name] for name in names if name in members}
    return msgspec.structs.replace(written, body=msgspec.json.encode(kept))


def _read_answer(name: str) -> Callable[[bytes, Any], Count]:
    def read(body: bytes, _: Any = None) -> Count:
        try:
            tokens = parse_object(body).any(name)
        except BadField as fault:
            raise BadAnswer(str(fault)) from fault
        if type(tokens) is not int or not 0 <= tokens <= MAX_TOKENS:
            raise BadAnswer("it has no count")
        return Count(tokens)

    return read


def _write_answer(name: str) -> Callable[[Count, Reply], bytes]:
    def write(answer: Count, _: Reply) -> bytes:
        return encode({name: answer.tokens})

    return write


class Counter(Struct, frozen=True, kw_only=True):
    """How one protocol asks for a count and answers with it."""

    name: str
    read_request: Callable[[bytes], Conversation]
    write_request: Callable[[Conversation, Target], Written]
    read_answer: Callable[[bytes, Any], Count]
    write_answer: Callable[[Count, Reply], bytes]
    read_error: Callable[[int, Mapping[str, str], bytes], Failure]
    write_error: Callable[[Failure, str], WrittenError]


COUNTERS: Mapping[str, Counter] = MappingProxyType(
    {
        "anthropic.count_tokens": Counter(
            name="anthropic.count_tokens",
            read_request=_read_messages,
            write_request=_write_messages,
            read_answer=_read_answer("input_tokens"),
            write_answer=_write_answer("input_tokens"),
            read_error=messages.read_error,
            write_error=messages.write_error,
        ),
        "gemini.count_tokens": Counter(
            name="gemini.count_tokens",
            read_request=_read_gemini,
            write_request=_write_gemini,
            read_answer=_read_answer("totalTokens"),
            write_answer=_write_answer("totalTokens"),
            read_error=gemini.read_error,
            write_error=gemini.write_error,
        ),
    }
)
