"""
The upkeep of scopes and leases, off the hot path: seeding limits, reading scopes, reaping the dead.

Everything goes through redis-py; whoever calls decides what to do when the store is out of reach.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, cast

import msgpack
from redis.asyncio import Redis

from ratelimit.asks import Boot, boot_of
from ratelimit.limits import ScopeState, decode_scope, key_of, scope_key
from store import scripts
from store.cells import FIRST, Cell
from store.clock import EPOCH_US

BATCH = 64
READ_AT_ONCE = 500


async def run(client: Redis, name: str, keys: list[str], args: Iterable[bytes | str | int]) -> Any:
    """Run one of the cold scripts through redis-py, which loads it when the server has not got it."""
    return await client.register_script(scripts.load("ratelimit", name).text)(
        keys=list(keys), args=list(args)
    )


async def seed(client: Redis, rows: Iterable[tuple[str, bytes]], version: int) -> int:
    """Write the limits of scopes where the store has none or older ones. Returns how many."""
    written = 0
    batch: list[tuple[str, bytes]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == 128:
            written += await _seed_batch(client, batch, version)
            batch = []
    if batch:
        written += await _seed_batch(client, batch, version)
    return written


async def _seed_batch(client: Redis, batch: list[tuple[str, bytes]], version: int) -> int:
    return int(
        await run(
            client, "seed", [key for key, _ in batch], [version, *(packed for _, packed in batch)]
        )
    )


async def read_scope(client: Redis, scope: str, cell: Cell = FIRST) -> ScopeState | None:
    """Return what a scope (`team:acme/support`, `deployment:<id>`) holds now, None when the store does not know it."""
    (found,) = await read_scopes(client, [scope], cell)
    return found


async def read_scopes(
    client: Redis, scopes: Sequence[str], cell: Cell = FIRST
) -> list[ScopeState | None]:
    """Return what each of some scopes holds now, in their order; read in portions."""
    found: list[ScopeState | None] = []
    for begin in range(0, len(scopes), READ_AT_ONCE):
        some = scopes[begin : begin + READ_AT_ONCE]
        of_users = [_organization_of_user(scope) for scope in some]
        organizations = list(dict.fromkeys(filter(None, of_users)))
        pipe: Any = client.pipeline(transaction=False)
        async with pipe:
            for scope in some:
                pipe.hmget(key_of(scope, cell), ["l2", "s2"])
            for organization in organizations:
                pipe.hget(scope_key(f"users:{organization}", cell), "l2")
            replies = await pipe.execute()
        of_all = dict(zip(organizations, replies[len(some) :], strict=True))
        for organization, (limits, state) in zip(of_users, replies, strict=False):
            common = of_all.get(organization)
            # Who has no limits of his own, or none any more, has those of all.
            known = common if _is_older(limits, common) else limits
            found.append(None if known is None else decode_scope(known, state))
    return found


def _organization_of_user(scope: str) -> str:
    """Return whose users' limits hold for a scope, empty for what is no user."""
    kind, _, name = scope.partition(":")
    return name.partition("#")[0] if kind == "user" else ""


def _is_older(limits: bytes | None, than: bytes | None) -> bool:
    return than is not None and (limits is None or version_of(limits) < version_of(than))


def version_of(limits: bytes) -> int:
    """Return the version of the configuration that packed limits come from."""
    return int(msgpack.unpackb(limits, raw=True)[0])


async def living(client: Redis, cell: Cell = FIRST) -> list[str]:
    """Return the replicas (`replica.boot`) whose beat has not expired."""
    pipe: Any = client.pipeline(transaction=False)
    async with pipe:
        pipe.time()
        # Below zero are those whose life has ended, who may be many.
        pipe.zrangebyscore(cell.beats, "(0", "+inf", withscores=True)
        (seconds, us), found = await pipe.execute()
    now_us = seconds * 1_000_000 + us - EPOCH_US
    return [member.decode() for member, expires_us in found if expires_us > now_us]


async def reap(client: Redis, cell: Cell = FIRST) -> int:
    """
    Free what replicas held that stopped beating, charge what they had streamed. Returns how many leases.

    What strict budgets reserve for a replica that only fell silent stays (`lua/lives.lua`), until it is known to be dead.
    Safe to run from several processes at once: each lease is taken by one script call.
    """
    reaped = 0
    fenced = await run(client, "fence", [cell.beats], [""])
    for member, ended in zip(fenced[::2], fenced[1::2], strict=True):
        boot = boot_of(member.decode(), cell)
        async for batch in _scan(client, boot.leases):
            reaped += await _reap_batch(
                client, boot, [(name, _lease_keys(one)) for name, one in batch]
            )
        async for some in staying(client, boot):
            await _reap_batch(client, boot, some)
        # The last word: without leases the boot itself is forgotten.
        await _reap_batch(client, boot, [], last=int(ended))
    return reaped


async def staying(client: Redis, boot: Boot) -> AsyncIterator[list[tuple[bytes, list[str]]]]:
    """Yield, in batches, the reaped attempts of a boot for which something stays reserved, each with the keys where it does."""
    async for batch in _scan(client, boot.graves):
        some = [(name, keys) for name, one in batch if (keys := _staying_keys(one))]
        if some:
            yield some


async def _scan(client: Redis, name: str) -> AsyncIterator[list[tuple[bytes, bytes]]]:
    """Yield what a hash holds that nobody adds to, in batches: a scan gives each that is there from beginning to end."""
    cursor: int | None = None
    while cursor != 0:
        cursor, found = await client.hscan(name, cursor or 0, count=BATCH)
        rows = list(cast("dict[bytes, bytes]", found).items())
        for start in range(0, len(rows), BATCH):
            yield rows[start : start + BATCH]


async def _reap_batch(
    client: Redis, boot: Boot, batch: list[tuple[bytes, list[str]]], *, last: int = 0
) -> int:
    """Reap attempts, each given with the keys that it needs; `last` says that nothing follows, as `lua/reap.lua` has it."""
    cell = boot.cell
    keys: dict[str, None] = dict.fromkeys(key for _, needed in batch for key in needed)
    answer = await run(
        client,
        "reap",
        [
            cell.beats,
            boot.leases,
            boot.graves,
            boot.parts,
            boot.seen,
            cell.ledger,
            cell.totals,
            *keys,
            cell.events,
        ],
        ["", boot.member, last, *(attempt_id for attempt_id, _ in batch)],
    )
    return 0 if answer == b"ALIVE" else int(answer)


def _lease_keys(lease: bytes) -> list[str]:
    """Return the keys of every scope that a lease's plan and its user name."""
    unpacker = msgpack.Unpacker(raw=True)
    unpacker.feed(lease)
    head, plan = unpacker
    keys = [*plan[0], *(key for row in plan[1] for key in (row[0], row[1], *row[9:]) if key)]
    if len(plan) > 3 and head[6]:
        prefixes, defaults = plan[3][::2], plan[3][1::2]
        keys += [*(prefix + head[6] for prefix in prefixes), *defaults]
    return [key.decode() for key in keys]


def _staying_keys(grave: bytes) -> list[str]:
    """Return the keys of every scope where something stays reserved for an attempt that was reaped."""
    stays = msgpack.unpackb(grave, raw=True)[8:]
    return [key.decode() for row in stays for at in (0, 1) for key in row[at::5] if key]
