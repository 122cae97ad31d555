"""
Waiting instead of being refused: asks that find every place taken, held for a short and bounded time.

Who goes first is decided by the store, for all replicas alike (`lua/queue.lua`).
Here an ask is only repeated: when the store calls it, when the limit that stood in its way frees, and often enough that its ticket stays good.
A caller's own limits refuse at once: only for what the deployments can take is it worth to wait.

Failure stance: a call of the store's that is lost costs a tenth of a second, nothing else.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ratelimit.asks import Ask, Denied, Grant, Nobody

# A ticket is good for four times as long (`TICKET_US` in `lua/queue.lua`).
REPEAT_S = 0.1
# For how long one listens at a time, and rests when that was in vain.
LISTEN_S = 10.0
REST_S = 1.0

Answer = Grant | Denied | Nobody


class WaitingRoom:
    """The asks of one replica that wait for a place; `admit` repeats one."""

    def __init__(self, admit: Callable[[Ask], Awaitable[Answer]]) -> None:
        self._admit = admit
        self._called: dict[str, asyncio.Event] = {}

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._called)

    async def wait(self, ask: Ask, answer: Nobody, until: float) -> Answer:
        """
        Repeat an ask that has been given a ticket, until it is granted or refused, or `until` has come.

        `until` is a moment of `time.monotonic`. Returns the last answer; raises what `Gate.admit` raises.
        """
        called = self._called[ask.attempt_id] = asyncio.Event()
        latest: Answer = answer
        try:
            while isinstance(latest, Nobody) and latest.queued:
                pause = min(REPEAT_S, until - monotonic())
                if latest.retry_us:
                    pause = min(pause, latest.retry_us / 1e6)
                called.clear()
                try:
                    async with asyncio.timeout(max(pause, 0.001)):
                        await called.wait()
                except TimeoutError:
                    pass
                # The last time it gives its ticket back.
                ask.may_wait = monotonic() < until
                latest = await self._admit(ask)
        finally:
            del self._called[ask.attempt_id]
        return latest

    def call(self, attempt_id: str) -> None:
        """Have an ask repeated now, because its turn has come; one that no longer waits is no matter."""
        called = self._called.get(attempt_id)
        if called is not None:
            called.set()

    async def listen(self, client: Redis, channel: str) -> None:
        """Hear whom the store calls; ends when it is cancelled."""
        while True:
            pubsub: Any = client.pubsub(ignore_subscribe_messages=True)
            try:
                await pubsub.subscribe(channel)
                while True:
                    message = await pubsub.get_message(timeout=LISTEN_S)
                    if message is not None:
                        self.call(message["data"].decode())
            except (RedisError, OSError):
                # Tickets are renewed all the same; that is how those who wait go on.
                await asyncio.sleep(REST_S)
            finally:
                await pubsub.aclose()
