"""The laws of legacy completions, for callers of models that answer."""

from typing import Any

import msgspec
import openai
import pytest

from proxy.wire.look import BadField
from proxy.wire.translate.completions import CompletionsWriter, read_request, write_answer
from proxy.wire.translate.core import (
    Answer,
    CannotExpress,
    Choice,
    Conversation,
    Failure,
    Reasoning,
    Refusal,
    Text,
    Turn,
    Usage,
)
from proxy.wire.translate.events import (
    Alive,
    Event,
    Failed,
    ReasoningDelta,
    ToolCallStarted,
    play,
)
from tests.proxy.wire.translate.samples import REPLY
from tests.proxy.wire.translate.test_official_clients import served

ANSWER = Answer((Choice((Text("a"), Text("b")), "length"),), "up", "served", Usage(9, 0, 0, 3))


def asked(**members: Any) -> Conversation:
    return read_request(msgspec.json.encode({"model": "m", "prompt": "hi"} | members))


def test_a_prompt_is_what_a_user_says() -> None:
    """Also as a list of one."""
    assert asked().turns == (Turn("user", (Text("hi"),)),)
    assert asked(prompt=["hi"]).turns == asked().turns
    read = asked(max_tokens=9, stop="x", n=2, best_of=2, stream=True, seed=1, new=1)
    assert (read.max_tokens, read.stop, read.n, read.stream) == (9, ("x",), 2, True)
    assert read.extra == {"new": 1}
    assert asked(echo=False, suffix=None, logprobs=None).extra == {}


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"suffix": "x"}, "suffix"),
        ({"echo": True}, "echo"),
        ({"logprobs": 0}, "logprobs"),
        ({"best_of": 3}, "best_of"),
    ],
)
def test_what_only_a_model_that_goes_on_writing_can_do_is_refused(
    members: dict[str, Any], param: str
) -> None:
    """By its name."""
    with pytest.raises(CannotExpress) as cannot:
        asked(**members)
    assert cannot.value.param == param


@pytest.mark.parametrize("prompt", [None, "", 7, [7]])
def test_a_mistake_is_named(prompt: Any) -> None:
    """A prompt is a text."""
    with pytest.raises(BadField) as bad:
        asked(prompt=prompt)
    assert bad.value.param == "prompt"


def test_openais_client_reads_it() -> None:
    """Whole and streamed."""
    refused = Answer((Choice((Reasoning("hm"), Refusal("no")), "refusal"),))
    for answer, text, finish in ((ANSWER, "ab", "length"), (refused, "no", "content_filter")):
        http = served(write_answer(answer, REPLY))
        with openai.OpenAI(api_key="k", base_url="http://x/v1", http_client=http) as client:
            made = client.completions.create(model="m", prompt="hi")
        assert (made.choices[0].text, made.choices[0].finish_reason) == (text, finish)
    http = served(CompletionsWriter(REPLY).write(list(play(ANSWER))))
    with openai.OpenAI(api_key="k", base_url="http://x/v1", http_client=http) as client:
        chunks = list(client.completions.create(model="m", prompt="hi", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "ab"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 12


def test_what_has_no_place_is_named() -> None:
    """Thoughts and calls; signs of life are comments, and an error is one."""
    writer = CompletionsWriter(REPLY)
    events: list[Event] = [ReasoningDelta("hm"), ToolCallStarted(0, "a", "f"), ReasoningDelta("x")]
    assert writer.write(events) == b""
    assert writer.dropped == ["reasoning", "tool_calls"]
    assert writer.write([Alive()]) == b": alive\n\n"
    last = writer.write([Failed(Failure(kind="lost", message="gone", status=502))])
    assert msgspec.json.decode(last[6:])["error"]["message"] == "gone"
    assert writer.write([Alive()]) == b""
