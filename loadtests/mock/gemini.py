"""
What the mock vendor says in Gemini's protocol: whole answers, streams of chunks, and counts of tokens.

Pure functions from what was asked to payloads; `plan` frames and paces them as it does OpenAI's.
A call comes whole, in one chunk, as it does from the vendor; hidden reasoning is counted and not shown.
Protocol: https://ai.google.dev/api/generate-content
"""

from typing import Any
from urllib.parse import unquote

import msgspec

from loadtests.mock import words
from loadtests.mock.behaviour import Behaviour
from loadtests.mock.exchange import Said
from loadtests.mock.messages import ARGUMENTS

# The model is a part of the vendor's paths; the verbs alone say what is asked.
GENERATE = "generateContent"
STREAM = "streamGenerateContent?alt=sse"
COUNT = "countTokens"
VERBS = (GENERATE, STREAM, COUNT)
_BEFORE = b"/v1beta/models/"

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def asked_at(url: bytes) -> tuple[str, str] | None:
    """Give verb and model of one of Gemini's URLs, None for any other."""
    if not url.startswith(_BEFORE):
        return None
    name, _, verb = url[len(_BEFORE) :].decode("latin-1").rpartition(":")
    return (verb, unquote(name)) if name and verb in VERBS else None


def is_spoken_at(path: str) -> bool:
    """Whether a path of the mock is one of Gemini's."""
    return path in VERBS


def usage(behaviour: Behaviour, prompt: int, visible: int) -> dict[str, Any]:
    """Write the usage: the cache is a part of the prompt, thoughts are no part of the candidates."""
    told: dict[str, Any] = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": visible,
        "totalTokenCount": prompt + visible + behaviour.reasoning,
    }
    if behaviour.cached:
        told["cachedContentTokenCount"] = min(behaviour.cached, prompt)
    if behaviour.reasoning:
        told["thoughtsTokenCount"] = behaviour.reasoning
    return told


def answer(
    behaviour: Behaviour, ids: str, prompt: int, visible: int, *, capped: bool
) -> dict[str, Any]:
    """Write a whole answer of `visible` tokens; `ids` is what its id ends in."""
    parts = [_call()] if behaviour.tools else [{"text": words.say(visible)}]
    told = None if behaviour.usage == "off" else usage(behaviour, prompt, visible)
    return _document(behaviour, ids, parts, told, "MAX_TOKENS" if capped else "STOP")


def chunks(
    behaviour: Behaviour, ids: str, prompt: int, visible: int, *, capped: bool
) -> list[Said]:
    """Write the same answer as a stream: every chunk tells the usage so far, the last one why it ended."""
    line_end = "\r\n" if behaviour.crlf else "\n"
    hidden = behaviour.reasoning

    def chunk(part: dict[str, Any], out: int, end: str | None = None) -> bytes:
        told = None if behaviour.usage == "off" else usage(behaviour, prompt, out)
        return sse(_document(behaviour, ids, [part], told, end), line_end)

    if behaviour.tools:
        return [Said(chunk(_call(), visible, "STOP"), hidden + visible)]
    filler = "." * behaviour.pad
    said = [
        Said(chunk({"text": words.token(at) + filler}, at + 1), hidden + at + 1, at)
        for at in range(visible)
    ]
    last = said[-1].beat if said else 0
    ending = chunk({"text": ""}, visible, "MAX_TOKENS" if capped else "STOP")
    said.append(Said(ending, hidden + visible, last))
    return said


def error(status: int, words_said: str) -> dict[str, Any]:
    """Write Google's error envelope."""
    usual = "INTERNAL" if status >= 500 else "INVALID_ARGUMENT"
    name = _STATUSES.get(status, usual)
    return {"error": {"code": status, "message": words_said, "status": name, "details": []}}


def sse(document: Any, line_end: str) -> bytes:
    """Write one event."""
    return b"data: " + msgspec.json.encode(document) + line_end.encode() * 2


def _call() -> dict[str, Any]:
    return {"functionCall": {"name": "get_weather", "args": msgspec.json.decode(ARGUMENTS)}}


def _document(
    behaviour: Behaviour,
    ids: str,
    parts: list[dict[str, Any]],
    told: dict[str, Any] | None,
    end: str | None,
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if end is not None:
        candidate["finishReason"] = end
    document: dict[str, Any] = {"candidates": [candidate]}
    if told is not None:
        document["usageMetadata"] = told
    return document | {"modelVersion": behaviour.name, "responseId": ids}
