"""
Connections of redis-py that go to the primary, whoever that is.

redis-py follows Sentinels and clusters by clients of its own; those of a cluster are another class, with other
transactions and no pub/sub on asyncio. Since all our keys live on one node, an ordinary client does, if its connections
ask where to go.

Failure stance: a server that says that it is not the primary has carried nothing out. Its connection ends with
`ConnectionError`, on which redis-py asks again, on a new connection.
"""

import asyncio
from typing import Any

from redis.exceptions import ClusterDownError, MovedError, ReadOnlyError
from redis.exceptions import ConnectionError as RedisConnectionError

from store.finder import Finder, NoPrimary

__all__ = ["following"]

LOOK_EVERY_S = 2.0
"""How old the knowledge of who is the primary may be where a former one may not know of the next."""


def following(kind: type[Any], finder: Finder) -> type[Any]:
    """Return a subclass of one of redis-py's asyncio connections that connects to the primary."""

    class Following(kind):  # type: ignore[misc]
        """Connects to whoever `finder` finds, and leaves who is no primary any more."""

        async def connect(self) -> None:
            """Connect; one that is connected to a former primary connects anew."""
            if self.is_connected:
                await _look(finder)
                if finder.latest not in {None, (self.host, self.port)}:
                    await self.disconnect(nowait=True)
            await super().connect()

        async def _connect(self) -> None:
            self.host, self.port = await finder.primary()
            await super()._connect()

        def _error_message(self, exception: BaseException) -> str:
            found: str = super()._error_message(exception)
            # Where a connection was to go is not known then.
            return str(exception) if isinstance(exception, NoPrimary) else found

        async def on_connect_check_health(self, check_health: bool = True) -> None:
            """Exchange the greeting, and make sure that it is a primary's."""
            await super().on_connect_check_health(check_health)
            if finder.must_ask_role():
                await self.send_command("ROLE", check_health=False)
                if (await self.read_response())[0] not in {b"master", "master"}:
                    raise RedisConnectionError(f"{self.host}:{self.port} is no primary")

        async def read_response(self, *args: Any, **kwargs: Any) -> Any:
            """Return the next answer; a server that sends us elsewhere ends the connection."""
            try:
                return await super().read_response(*args, **kwargs)
            except (MovedError, ReadOnlyError, ClusterDownError) as error:
                await self.disconnect(nowait=True)
                raise RedisConnectionError("another server is the primary now") from error

    Following.__name__ = Following.__qualname__ = f"Following{kind.__name__}"
    return Following


async def _look(finder: Finder) -> None:
    """Ask again who is the primary, when that was found out too long ago."""
    now = asyncio.get_running_loop().time()
    if finder.may_be_deceived() and now - finder.asked_at > LOOK_EVERY_S:
        try:
            await finder.primary()
        except NoPrimary:
            # Nobody knows better.
            pass
