"""What a worker learns of answers, and what it knows from the board."""

import json
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as StoreGone

from proxy import learning
from proxy.learning import Learner, defect_of
from routing import board
from routing.lessons import Sums
from routing.scoring import NO_FACTS


def whole(content: str | None = "hi", finish: str = "stop", **message: Any) -> bytes:
    """Write a whole answer of OpenAI's."""
    choice = {"index": 0, "message": {"content": content} | message, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": {"total_tokens": 3}}).encode()


@pytest.mark.parametrize(
    ("end", "said", "defect"),
    [
        (whole(), {}, None),
        (whole(finish="length"), {}, 0.5),
        (whole(finish="length"), {"capped": True}, 0.0),
        (whole(finish="content_filter"), {"capped": True}, 1.0),
        (whole(refusal="no"), {}, 1.0),
        (whole(refusal=None), {}, None),
        (b'data: {"choices":[{"finish_reason": "length"}]}\n\ndata: [DONE]\n\n', {}, 0.5),
        (b'{"type":"message_delta","delta":{"stop_reason":"refusal"}}', {}, 1.0),
        (b'{"candidates":[{"finishReason":"MAX_TOKENS"}]}', {}, 0.5),
        (b'{"candidates":[{"finishReason": "SAFETY"}]}', {}, 1.0),
        (b'{"candidates":[{"finishReason": "MALFORMED_FUNCTION_CALL"}]}', {}, 1.0),
        (b'{"stopReason":"malformed_tool_use"}', {}, 1.0),
        (b'{"response":{"status":"incomplete"}}', {}, 0.5),
        (b'{"tool_calls": 7, "choices": 5}', {}, None),
        (b"", {}, None),
        (whole('she wrote "finish_reason":"length" there'), {}, None),
    ],
)
def test_a_bad_end_is_seen_where_it_is_cheap_to_see(
    end: bytes, said: dict[str, bool], defect: float | None
) -> None:
    """A cut at a cap that nobody asked for, a refusal, a call that the vendor could not read; words of a model about it are no defect."""
    assert defect_of(end, **{"capped": False} | said) == defect


async def test_what_is_on_the_board_is_known_until_it_is_too_old(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An absent board changes nothing for ten seconds; then latencies and pressures go, and what was learned stays."""
    clock = [100.0]
    monkeypatch.setattr(learning, "monotonic", lambda: clock[0])
    learner = Learner()
    await learner.read(redis_client)
    assert learner.facts is NO_FACTS
    live = board.Live({"m": 5.0}, {"org:o": 1.0})
    version = await board.publish(redis_client, board.encode({("m", ""): Sums(calls=1)}, live))
    await learner.read(redis_client)
    assert learner.facts is NO_FACTS
    clock[0] += board.AHEAD_US / 1e6
    learner.follow()
    facts = learner.facts
    assert (facts.version, facts.ttft_us) == (version, {"m": 5.0})
    await learner.read(redis_client)
    assert learner.facts is facts
    await redis_client.delete(board.BOARD)
    clock[0] += 9.0
    await learner.read(redis_client)
    assert learner.facts is facts
    clock[0] += 2.0
    await learner.read(redis_client)
    assert (learner.facts.version, learner.facts.ttft_us, learner.facts.pressures) == (0, {}, {})
    assert learner.facts.lessons == facts.lessons


async def test_a_board_that_cannot_be_understood_changes_nothing(
    redis_client: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """And is said to be none."""
    await redis_client.set(board.BOARD, b"nonsense")
    learner = Learner()
    await learner.read(redis_client)
    assert learner.facts is NO_FACTS
    assert "cannot be understood" in caplog.text


class _Gone:
    async def get(self, _: str) -> None:
        raise StoreGone

    def register_script(self, _: str) -> Any:
        async def script(**_: Any) -> None:
            raise StoreGone

        return script


async def test_a_store_that_is_away_stops_nobody() -> None:
    """What was seen is dropped, what is known is kept."""
    learner = Learner()
    learner.lessons.note("m", "chat", defect=0.0, tokens=1, after_first_us=0)
    gone = cast("Redis", _Gone())
    await learner.send(gone)
    await learner.read(gone)
    assert learner.facts is NO_FACTS


async def test_what_is_due_in_less_than_a_timer_can_tell_is_not_asked_for_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Timers of a loop end up to half a millisecond early, and one for less than that ends at once."""
    clock = [100.0]
    sleeps: list[float] = []

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        clock[0] += 0.00001 + max(0.0, round(seconds * 1000) - 0.5) / 1000
        if len(sleeps) == 100:
            raise TimeoutError

    monkeypatch.setattr(learning, "monotonic", lambda: clock[0])
    monkeypatch.setattr(learning.asyncio, "sleep", sleep)
    with pytest.raises(TimeoutError):
        await Learner().run(cast("Redis", _Gone()))
    assert clock[0] - 100.0 > 10 * learning.READ_EVERY_S
