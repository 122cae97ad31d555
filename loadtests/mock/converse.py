"""
What the mock vendor says in Bedrock's protocol: answers of Converse, whole and as binary frames.

Pure functions from what was asked to payloads; `plan` frames and paces them as it does OpenAI's.
Hidden reasoning is counted and not shown.
No id is in a stream: frames are checksummed when they are rendered, and ids are put in when they are sent.
Protocol: Amazon's API reference for Converse and ConverseStream
(https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html)
"""

import string
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

import msgspec

from loadtests.mock import words
from loadtests.mock.behaviour import Behaviour
from loadtests.mock.exchange import Said
from loadtests.mock.frames import damaged, frame
from loadtests.mock.messages import ARGUMENTS

# The model is a part of the vendor's paths; what comes after it says what is asked.
CONVERSE = "converse"
STREAM = "converse-stream"
VERBS = (CONVERSE, STREAM)
STREAM_TYPE = "application/vnd.amazon.eventstream"
_BEFORE = b"/model/"

_EXCEPTIONS = {
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}
_CALL_ID = "tooluse_9f2c1e7a4b6d4d0f8a35"
# Amazon fills each event up to a length that does not tell how long its text is.
_FILLER = string.ascii_lowercase + string.ascii_uppercase + string.digits
_TEXT_AND_FILLER = 40


def asked_at(url: bytes) -> tuple[str, str] | None:
    """Give verb and model of one of Bedrock's URLs, None for any other."""
    if not url.startswith(_BEFORE):
        return None
    name, _, verb = url[len(_BEFORE) :].decode("latin-1").rpartition("/")
    return (verb, unquote(name)) if name and verb in VERBS else None


def is_spoken_at(path: str) -> bool:
    """Whether a path of the mock is one of Bedrock's."""
    return path in VERBS


def shows_who_asks(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a request has a bearer's key, or Amazon's signature and the date that it is of."""
    told = {name.lower(): value for name, value in headers}
    shown = told.get(b"authorization", b"")
    if shown.startswith(b"AWS4-HMAC-SHA256 "):
        return b"x-amz-date" in told and b"Signature=" in shown
    return shown.startswith(b"Bearer ")


def usage(behaviour: Behaviour, prompt: int, output: int) -> dict[str, Any]:
    """Write the usage: what was read from the cache or written to it is no part of `inputTokens`."""
    read = min(behaviour.cached, prompt)
    written = min(behaviour.cache_write, prompt - read)
    hour = min(behaviour.cache_write_1h, written)
    lives = (("5m", written - hour), ("1h", hour))
    return {
        "inputTokens": prompt - read - written,
        "outputTokens": output,
        "totalTokens": prompt + output,
        "cacheReadInputTokens": read,
        "cacheWriteInputTokens": written,
        "cacheDetails": [{"ttl": ttl, "inputTokens": tokens} for ttl, tokens in lives if tokens],
    }


def answer(behaviour: Behaviour, prompt: int, visible: int, *, capped: bool) -> dict[str, Any]:
    """Write a whole answer of `visible` tokens."""
    content: dict[str, Any] = {"text": words.say(visible)}
    if behaviour.tools:
        arguments = msgspec.json.decode(ARGUMENTS)
        content = {"toolUse": _use() | {"input": arguments}}
    document = {
        "output": {"message": {"role": "assistant", "content": [content]}},
        "stopReason": _stop(behaviour, capped=capped),
        "metrics": {"latencyMs": 1},
    }
    if behaviour.usage != "off":
        document["usage"] = usage(behaviour, prompt, visible + behaviour.reasoning)
    return document


def events(behaviour: Behaviour, prompt: int, visible: int, *, capped: bool) -> list[Said]:
    """Write the same answer as a stream; `done=off` leaves `messageStop` out, `usage=off` the usage."""
    hidden = behaviour.reasoning
    said = [Said(event("messageStart", role="assistant", p=_FILLER), hidden)]
    if behaviour.tools:
        # A text begins with its first words; a call is told of before.
        start = event("contentBlockStart", contentBlockIndex=0, start={"toolUse": _use()})
        said.append(Said(start, hidden))
        parts = max(1, min(visible, len(ARGUMENTS)))
        edges = [len(ARGUMENTS) * at // parts for at in range(parts + 1)]
        for at, (begin, end) in enumerate(pairwise(edges)):
            piece = {"toolUse": {"input": ARGUMENTS[begin:end]}}
            said.append(Said(_delta(piece, end - begin), hidden + visible * (at + 1) // parts, at))
    else:
        more = "." * behaviour.pad
        ready: dict[str, bytes] = {}  # as many as there are words, however long the stream
        for at in range(visible):
            word = words.token(at)
            payload = ready.get(word)
            if payload is None:
                payload = ready[word] = _delta({"text": word + more}, len(word))
            said.append(Said(payload, hidden + at + 1, at))
    last = said[-1].beat
    out = hidden + visible
    said.append(Said(event("contentBlockStop", contentBlockIndex=0), out, last))
    if behaviour.done == "on":
        stop = event("messageStop", stopReason=_stop(behaviour, capped=capped))
        said.append(Said(stop, out, last))
    told: dict[str, Any] = {"metrics": {"latencyMs": 1}}
    if behaviour.usage != "off":
        told["usage"] = usage(behaviour, prompt, out)
    said.append(Said(event("metadata", **told), out, last))
    return said


def event(kind: str, **members: Any) -> bytes:
    """Write the frame of an event."""
    return _framed("event", kind, members)


def exception(status: int, words_said: str) -> bytes:
    """Write the frame of an exception, which ends a stream."""
    name = _name(status)
    return _framed("exception", name[0].lower() + name[1:], {"message": words_said})


def nonsense() -> bytes:
    """Write a frame that does not match its checksum."""
    return damaged(event("messageStart", role="assistant"))


def error(words_said: str) -> dict[str, Any]:
    """Write Amazon's error envelope; the header says which error it is."""
    return {"message": words_said}


def fields(status: int, ids: str) -> tuple[tuple[str, str], ...]:
    """Give the headers of an answer; `ids` is the request's id."""
    named = (("x-amzn-requestid", ids),)
    return named if status == 200 else (*named, ("x-amzn-errortype", _name(status)))


def _name(status: int) -> str:
    usual = "InternalServerException" if status >= 500 else "ValidationException"
    return _EXCEPTIONS.get(status, usual)


def _framed(kind: str, name: str, document: dict[str, Any]) -> bytes:
    headers = {
        f":{kind}-type": name,
        ":content-type": "application/json",
        ":message-type": kind,
    }
    return frame(headers, msgspec.json.encode(document))


def _delta(delta: dict[str, Any], length: int) -> bytes:
    filler = _FILLER[: max(_TEXT_AND_FILLER - length, 4)]
    return event("contentBlockDelta", contentBlockIndex=0, delta=delta, p=filler)


def _use() -> dict[str, Any]:
    return {"toolUseId": _CALL_ID, "name": "get_weather"}


def _stop(behaviour: Behaviour, *, capped: bool) -> str:
    if behaviour.tools:
        return "tool_use"
    return "max_tokens" if capped else "end_turn"
