"""
What callers say of answers: `POST /v1/feedback` with a request id and a score.

It corrects what is expected of the model that answered (`routing.lessons`), for calls of routes that choose by quality.
Only the key that made a call may judge it, once, within an hour; whether an id is another key's is not said.
"""

from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Final

import msgspec
from redis.exceptions import RedisError

from proxy.errors import BadRequest, Conflict, NotFound, QuotaExceeded, StoreGone
from proxy.reading import body_of, caller_of
from proxy.server import Request
from proxy.wire.endpoints import OPENAI
from proxy.wire.look import BadField, decode

if TYPE_CHECKING:
    from proxy.app import Edge

__all__ = ["Pace", "take"]

MOST_BYTES: Final = 16 * 1024
LONGEST_ID: Final = 128
MOST_A_SECOND: Final = 20


class Pace:
    """How fast a key may judge at one worker: each word costs the store a look, whether it counts or not."""

    def __init__(self) -> None:
        self._second = 0
        self._words: Counter[str] = Counter()

    def allows(self, key: str, now_s: float) -> bool:
        """Whether a key may say another word in this second."""
        if int(now_s) != self._second:
            self._second = int(now_s)
            self._words.clear()
        self._words[key] += 1
        return self._words[key] <= MOST_A_SECOND


class _Feedback(msgspec.Struct):
    request_id: str
    score: float


_FEEDBACK = msgspec.json.Decoder(_Feedback)


async def take(edge: "Edge", request: Request) -> dict[str, object]:
    """Take a caller's word on an answer, and return what to answer. Raises `GatewayError`."""
    caller = caller_of(request, OPENAI, edge.live.callers)
    if not edge.pace.allows(caller.key, monotonic()):
        raise QuotaExceeded(
            f"A key can judge {MOST_A_SECOND} answers a second here.",
            code="requests_limit",
            retry_after_us=1_000_000,
        )
    said = await _read(edge, request)
    try:
        outcome = await edge.vote(said.request_id, caller.key, said.score)
    except (RedisError, OSError):
        raise StoreGone(
            "The word cannot be kept right now: the store does not answer.",
            retry_after_us=1_000_000,
        ) from None
    word = ("unknown", "counted", "repeated")[outcome]
    edge.feedback[word].value += 1
    if word == "unknown":
        raise NotFound(
            "No call of this key with this request_id can be judged: calls of routes that choose by"
            " quality can, from some seconds after their end and for an hour.",
            code="unknown_request",
            param="request_id",
        )
    if word == "repeated":
        raise Conflict(
            "This answer was judged before; the first word counts.",
            code="judged_before",
            param="request_id",
        )
    return {"object": "feedback", "request_id": said.request_id, "score": said.score}


async def _read(edge: "Edge", request: Request) -> _Feedback:
    body = await body_of(request, MOST_BYTES, edge.server.body_timeout_s)
    try:
        said: _Feedback = decode(_FEEDBACK, body)
    except BadField as error:
        raise BadRequest(error.message, code=error.code, param=error.param) from None
    if not 0 < len(said.request_id) <= LONGEST_ID:
        raise BadRequest(
            "request_id is the x-request-id of the answer.",
            code="invalid_value",
            param="request_id",
        )
    if not 0.0 <= said.score <= 1.0:
        raise BadRequest(
            "score is from 0 (useless) to 1 (perfect).", code="invalid_value", param="score"
        )
    return said
