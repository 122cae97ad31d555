"""
Connections of redis-py that let themselves be cancelled.

redis-py sends every command through `asyncio.wait_for`, which on Python 3.11 forgets a cancellation
that arrives in the same turn of the loop in which the sending has finished
(https://github.com/python/cpython/issues/86296, mended in 3.12).
A loop that talks to the store then goes on as if nobody had asked it to end, and whoever waits for
its end waits for ever; it happens about once in fifty times.
"""

import asyncio
from typing import Any

__all__ = ["cancellable"]


def cancellable(kind: type[Any]) -> type[Any]:
    """Return a subclass of one of redis-py's asyncio connections that raises what was forgotten."""

    class Cancellable(kind):  # type: ignore[misc]
        """Raises `CancelledError` where the sending was cancelled and did not say so."""

        async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            """Send a command; a cancellation meanwhile ends the task and, its answer unread, the connection."""
            task = asyncio.current_task()
            before = 0 if task is None else task.cancelling()
            await super().send_packed_command(command, check_health)
            if task is not None and task.cancelling() > before:
                await self.disconnect(nowait=True)
                raise asyncio.CancelledError

    Cancellable.__name__ = Cancellable.__qualname__ = f"Cancellable{kind.__name__}"
    return Cancellable
