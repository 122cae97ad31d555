"""
What the mock vendor says in Ollama's protocol: whole answers, and streams of lines.

Pure functions from what was asked to payloads; `plan` frames and paces them as it does OpenAI's.
A call comes whole, in one line, as it does from the server; nothing is told of a cache, and hidden reasoning is a part of what was written.
Protocol: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from typing import Any

import msgspec

from loadtests.mock import words
from loadtests.mock.behaviour import Behaviour
from loadtests.mock.exchange import Said
from loadtests.mock.messages import ARGUMENTS

OLLAMA = "/api/chat"
STREAM_TYPE = "application/x-ndjson"
_CREATED = "2026-01-01T00:00:00.000000Z"


def answer(behaviour: Behaviour, prompt: int, visible: int, *, capped: bool) -> dict[str, Any]:
    """Write a whole answer of `visible` tokens."""
    message = _call() if behaviour.tools else _says(words.say(visible))
    return _line(behaviour, message) | _end(behaviour, prompt, visible, capped=capped)


def lines(behaviour: Behaviour, prompt: int, visible: int, *, capped: bool) -> list[Said]:
    """Write the same answer as a stream: the last line tells the usage, and why it ended."""
    hidden = behaviour.reasoning
    said: list[Said] = []
    if behaviour.tools:
        said.append(Said(line(_line(behaviour, _call())), hidden + visible))
    else:
        filler = "." * behaviour.pad
        said += [
            Said(line(_line(behaviour, _says(words.token(at) + filler))), hidden + at + 1, at)
            for at in range(visible)
        ]
    last = said[-1].beat if said else 0
    ending = _line(behaviour, _says("")) | _end(behaviour, prompt, visible, capped=capped)
    said.append(Said(line(ending), hidden + visible, last))
    return said


def error(words_said: str) -> dict[str, Any]:
    """Write an error as Ollama does."""
    return {"error": words_said}


def line(document: Any) -> bytes:
    """Write one line."""
    return msgspec.json.encode(document) + b"\n"


def _says(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def _call() -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": msgspec.json.decode(ARGUMENTS)}
    return _says("") | {"tool_calls": [{"function": function}]}


def _line(behaviour: Behaviour, message: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": behaviour.name,
        "created_at": _CREATED,
        "message": message,
        "done": False,
    }


def _end(behaviour: Behaviour, prompt: int, visible: int, *, capped: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "done": True,
        "done_reason": "length" if capped else "stop",
        "total_duration": 1_000_000,
        "load_duration": 1000,
    }
    if behaviour.usage != "off":
        told["prompt_eval_count"] = prompt
        told["prompt_eval_duration"] = 1000
        told["eval_count"] = visible + behaviour.reasoning
        told["eval_duration"] = 1000
    return told
