"""The laws of reading and writing answers and errors of Ollama."""

import msgspec
import pytest

from proxy.wire.translate.core import (
    Answer,
    BadAnswer,
    Choice,
    Failure,
    Reasoning,
    Text,
    ToolCall,
    Usage,
)
from proxy.wire.translate.ollama.answers import (
    done_of,
    read_answer,
    read_error,
    stop_of,
    usage_of,
    write_answer,
    write_error,
    write_generated,
)
from tests.proxy.wire.translate.samples import REPLY

ANSWER = Answer(
    (Choice((Reasoning("hm"), Text("a"), ToolCall("c", "f", '{"x":1}')), "tool_calls"),),
    "",
    "served",
    Usage(9, 0, 0, 3),
)


def test_an_answer_is_written_as_ollama_writes_it() -> None:
    """With the time it was made, and what it used."""
    assert msgspec.json.decode(write_answer(ANSWER, REPLY)) == {
        "model": "served",
        "created_at": "2023-11-14T22:13:20Z",
        "message": {
            "role": "assistant",
            "content": "a",
            "thinking": "hm",
            "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"x": 1}}}],
        },
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 9,
        "eval_count": 3,
    }
    made = msgspec.json.decode(write_generated(ANSWER, REPLY))
    assert (made["response"], made["thinking"], made["done"]) == ("a", "hm", True)
    assert "message" not in made
    with pytest.raises(BadAnswer):
        write_answer(Answer((Choice((ToolCall("c", "f", "{oops"),)),)), REPLY)


def test_an_answer_is_read() -> None:
    """With the caller's names of tools, and what the core has no word for."""
    answer = read_answer(
        b'{"message":{"content":"","tool_calls":[{"function":{"name":"short"}}]},"logprobs":[{}]}',
        {"short": "a.b"},
    )
    assert isinstance(answer, Answer)
    assert answer.choices == (Choice((ToolCall("", "a.b", "{}"),), "tool_calls"),)
    assert answer.usage is None
    assert answer.dropped == ("logprobs",)


def test_why_an_answer_ended() -> None:
    """Ollama knows two reasons."""
    assert stop_of("stop", called=True) == "tool_calls"
    assert stop_of("length", called=True) == "length"
    assert stop_of("load", called=False) == "end"
    assert done_of("context") == "length"
    assert stop_of(done_of("filtered"), called=False) == "filtered"
    assert usage_of(None, 3) == Usage(0, 0, 0, 3)
    assert usage_of(-1, 3) == Usage(0, 0, 0, 3)


def test_an_error_is_a_sentence() -> None:
    """Which names the field; also with status 200."""
    failure = Failure(kind="bad_request", message="no", status=400, param="think")
    written = write_error(failure, "r")
    assert (written.status, written.body) == (400, b'{"error":"think: no"}')
    again = read_answer(b'{"error":"model is overloaded"}')
    assert isinstance(again, Failure)
    assert again.kind == "internal"
    assert read_error(404, {}, b'{"error":"model not found"}').message == "model not found"
    assert read_error(404, {}, b'{"error":{"message":"gone"}}').message == "gone"
    assert read_error(502, {}, b"Bad Gateway").message == "Bad Gateway"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"message":7}', b'{"message":{"tool_calls":[{}]}}'])
def test_garbage_is_a_bad_answer(body: bytes) -> None:
    """To be tried elsewhere."""
    with pytest.raises(BadAnswer):
        read_answer(body)
