"""The laws of telling an answer as a stream, and of collecting a stream."""

from hypothesis import given

from proxy.wire.translate.core import Answer, Choice, Failure, Reasoning, Refusal, Text, ToolCall
from proxy.wire.translate.events import (
    Collector,
    Ended,
    Event,
    Failed,
    Started,
    Stopped,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
    lost,
    play,
)
from tests.proxy.wire.translate.samples import answers


@given(answers())
def test_an_answer_that_is_told_is_collected_again(answer: Answer) -> None:
    """`play` and `Collector` are each other's inverse."""
    collector = Collector()
    assert collector.add(list(play(answer)))
    assert collector.answer() == answer
    assert collector.failure is None


def test_everything_an_answer_can_hold_is_told() -> None:
    """Reasoning with its proof, what is hidden, refusals, and several choices."""
    answer = Answer(
        (
            Choice((Reasoning("hm", "sig", maker="anthropic"), Text("a"), Text("b"))[:2]),
            Choice((Reasoning(redacted="xx", maker="anthropic"), Refusal("no")), "refusal", "why"),
            Choice(
                (Reasoning(signature="s", maker="google"), ToolCall("i", "f", "{}", custom=True))
            ),
        )
    )
    collector = Collector()
    collector.add(list(play(answer)))
    assert collector.answer() == answer


def test_calls_that_are_told_at_once_are_told_apart() -> None:
    """Vendors may interleave them."""
    events: list[Event] = [
        Started(),
        ToolCallStarted(0, "a", "f"),
        ToolCallStarted(1, "b", "g"),
        ToolCallDelta(0, "1"),
        ToolCallDelta(1, "2"),
        ToolCallDelta(0, "3"),
        Stopped("tool_calls"),
        Ended(),
    ]
    collector = Collector()
    collector.add(events)
    calls = collector.answer().choices[0].parts
    assert calls == (ToolCall("a", "f", "13"), ToolCall("b", "g", "2"))


def test_a_stream_that_broke_off_says_why() -> None:
    """What was told until then is there."""
    collector = Collector()
    assert not collector.add([Started("i", "m"), TextDelta("half")])
    assert collector.add([lost("gone")])
    assert isinstance(collector.failure, Failure)
    assert collector.failure.message == "gone"
    assert collector.answer().choices[0].parts == (Text("half"),)
    assert collector.size == 4
    assert Failed(collector.failure) == lost("gone")
