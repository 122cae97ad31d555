"""
Who does a chore, when several processes could: the holder of a lease in Redis.

A lease is a key with the holder's random token and a time to live (SET NX PX); it is renewed, and
given back, only by comparing the token (https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/).
The holder counts its time from *before* it asked, and stops its work before that time is over, so
that two rarely work at once.
Rarely is not never (a suspended process does not know): what is led must bear a second leader.

Failure stance: without Redis nobody leads. A leader that cannot renew stops its work in time, waits,
and stands again.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError

from store import scripts
from store.cells import FIRST, Cell

__all__ = ["Lease", "lead"]

TTL_MS = 6_000

_MARGIN = 0.8
"""The part of a lease's time after which its holder stops: clocks drift, and stopping takes a while."""


class Lease:
    """
    One chore's lease in a cell: `acquire`, `renew` in time, `release`.

    `client` answers in bytes. Times are milliseconds.
    """

    def __init__(
        self, client: Redis, chore: str, *, ttl_ms: int = TTL_MS, cell: Cell = FIRST
    ) -> None:
        self.chore = chore
        self.ttl_ms = ttl_ms
        self._client = client
        self._key = f"{cell.tag}:lead:{chore}"
        self._token = secrets.token_bytes(16)
        self._good_until = 0.0

    def is_held(self, now: float) -> bool:
        """Tell whether the lease is surely ours at `now`, in seconds of the running loop's clock."""
        return now < self._good_until

    def stop_at(self) -> float:
        """Return when the work must have stopped unless the lease is renewed; the loop's clock."""
        return self._good_until

    async def acquire(self) -> bool:
        """Take the lease if nobody holds it."""
        asked_at = asyncio.get_running_loop().time()
        taken = await self._client.set(self._key, self._token, nx=True, px=self.ttl_ms)
        return self._hold(asked_at) if taken else False

    async def renew(self) -> bool:
        """Hold the lease for longer; false when it has become another's or nobody's."""
        asked_at = asyncio.get_running_loop().time()
        if await self._run("renew", self._token, self.ttl_ms):
            return self._hold(asked_at)
        self._good_until = 0.0
        return False

    async def release(self) -> None:
        """Give the lease back, if it is ours."""
        self._good_until = 0.0
        await self._run("yield_lease", self._token)

    def _hold(self, asked_at: float) -> bool:
        self._good_until = asked_at + self.ttl_ms / 1000 * _MARGIN
        return True

    async def _run(self, name: str, *args: bytes | int) -> bool:
        script = self._client.register_script(scripts.load("store", name).text)
        return bool(await script(keys=[self._key], args=list(args)))


async def lead(
    lease: Lease,
    work: Callable[[], Awaitable[None]],
    *,
    on_change: Callable[[bool], None] = lambda _: None,
) -> None:
    """
    Do `work` whenever and as long as the lease is ours; return when it returns, raise what it raises.

    When the lease is lost, `work` is cancelled and begun anew after the next election.
    At the end, however it comes, the work has ended and the lease is given back.
    `on_change` hears whether we lead.
    """
    pause_s = lease.ttl_ms / 3000
    while True:
        try:
            elected = await lease.acquire()
        except (RedisError, OSError):
            elected = False
        if not elected:
            await asyncio.sleep(pause_s)
            continue
        on_change(True)
        working = asyncio.ensure_future(work())
        try:
            await _hold_while(lease, working, pause_s)
            if working.done():
                await working
                return
        finally:
            on_change(False)
            await _end(working)
            await _release(lease)


async def _hold_while(lease: Lease, working: "asyncio.Future[None]", pause_s: float) -> None:
    """Renew until the work is done or the lease is lost; renewing never outlasts the lease."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.wait([working], timeout=min(pause_s, max(0, lease.stop_at() - loop.time())))
        if working.done():
            return
        try:
            async with asyncio.timeout_at(lease.stop_at()):
                if not await lease.renew():
                    return
        except (RedisError, OSError, TimeoutError):
            if not lease.is_held(loop.time()):
                return


async def _end(working: "asyncio.Future[None]") -> None:
    """Cancel the work and wait until it has ended, whatever it ends with."""
    working.cancel()
    await asyncio.wait([working])
    if not working.cancelled():
        working.exception()


async def _release(lease: Lease) -> None:
    """Give the lease back if that is quickly done; its time to live does it otherwise."""
    try:
        async with asyncio.timeout(1):
            await lease.release()
    except (RedisError, OSError, TimeoutError):
        pass
