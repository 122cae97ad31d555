"""
Connections of redis-py with two faults mended.

redis-py sends every command through `asyncio.wait_for`, which on Python 3.11 forgets a cancellation
that arrives in the same turn of the loop in which the sending has finished
(https://github.com/python/cpython/issues/86296, mended in 3.12).
A loop that talks to the store then goes on as if nobody had asked it to end, and whoever waits for
its end waits for ever; it happens about once in fifty times.

And redis-py expects an `OSError` of a connection that is gone, but for what is sent on one that was closed since the last
turn of the loop uvloop raises `RuntimeError`, and asyncio since Python 3.12 `AttributeError` or `TypeError`
(https://github.com/python/cpython/issues/136234); a task that survives every error of redis-py's ends by it.
"""

import asyncio
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

__all__ = ["mended"]


def mended(kind: type[Any]) -> type[Any]:
    """Return a subclass of one of redis-py's asyncio connections without those faults."""

    class Mended(kind):  # type: ignore[misc]
        """Raises `CancelledError` for a sending that was cancelled, redis-py's own error for one on what is closed."""

        async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            """Send a command; a cancellation meanwhile ends the task and, its answer unread, the connection."""
            task = asyncio.current_task()
            before = 0 if task is None else task.cancelling()
            try:
                await super().send_packed_command(command, check_health)
            except (RuntimeError, AttributeError, TypeError) as error:
                await self.disconnect(nowait=True)
                raise RedisConnectionError(f"the connection was closed: {error}") from error
            if task is not None and task.cancelling() > before:
                await self.disconnect(nowait=True)
                raise asyncio.CancelledError

    Mended.__name__ = Mended.__qualname__ = f"Mended{kind.__name__}"
    return Mended
