"""
What callers keep at a vendor: whose each file and each batch is, and what a batch still owes.

The vendor knows one account, ours; whose a file is stands here.
An id that is not here is nobody's, and a caller who asks for somebody else's is told the same as for one that does not exist.

Keys, all of the first cell:

    {c0}:k:<id>                hash  owner, provider, kind, document (the object as last seen), facts, bill
    {c0}:ko:<owner>:<kind>     zset  id -> when it was made, unix seconds
    {c0}:kb                    zset  id of a batch that is not billed -> when it is to be looked at, unix seconds
    {c0}:kw                    hash  id of an attempt -> the batch that it wants from a vendor, until the vendor's word on it is written down

A record lasts for `KEEP_S` after it was last written; lists forget with it.

Failure stance: whoever cannot read this table answers 503; nothing is passed on whose owner is not known.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from redis.asyncio import Redis

from store.cells import FIRST

__all__ = [
    "KEEP_S",
    "Kept",
    "Wanted",
    "billed",
    "bury",
    "due",
    "find",
    "forget",
    "keep",
    "listed",
    "look_at",
    "outputs",
    "owe",
    "owed_for",
    "renew",
    "settled",
    "want",
    "wanted",
]

KEEP_S = 366 * 86_400
"""How long a record outlives its last change."""

# How many are read at once at least, where some may not fit or are not there any more.
_LOOK = 100
_OPEN = f"{FIRST.tag}:kb"
_WANTED = f"{FIRST.tag}:kw"


class _Batch(msgspec.Struct):
    output_file_id: str | None = None
    error_file_id: str | None = None


_BATCH = msgspec.json.Decoder(_Batch)


@dataclass(frozen=True, slots=True)
class Kept:
    """
    One file or batch: `kind` is file or batch, `owner` the team as `organization/team`.

    `document` is the vendor's object as last seen, `facts` what was learned of an input file (JSON, or empty),
    `bill` what a batch is to be billed by (see `governance.batches`), empty for what is billed.
    """

    id: str
    owner: str
    provider: str
    kind: str
    document: bytes
    facts: bytes = b""
    bill: bytes = b""


async def keep(client: Redis, kept: Kept, at_s: int) -> None:
    """Write down whose something is, from now on."""
    key, index = _key(kept.id), _index(kept.owner, kept.kind)
    fields: dict[Any, Any] = {
        name: getattr(kept, name)
        for name in ("owner", "provider", "kind", "document", "facts", "bill")
    }
    async with _together(client) as together:
        together.hset(key, mapping=fields)
        together.expire(key, KEEP_S)
        together.zadd(index, {kept.id: at_s})
        together.zremrangebyscore(index, "-inf", at_s - KEEP_S)
        together.expire(index, KEEP_S)
        await together.execute()


async def owe(client: Redis, kept: Kept, at_s: int) -> None:
    """Write down a batch that is still to be billed."""
    await keep(client, kept, at_s)
    await client.zadd(_OPEN, {kept.id: at_s})


async def find(client: Redis, id_: str) -> Kept | None:
    """Return what is known of an id, None when nobody's."""
    return _read(id_, await client.hgetall(_key(id_)))


def _read(id_: str, found: Any) -> Kept | None:
    """Read a record; what is left of one that was forgotten while it was written to is nobody's."""
    if b"owner" not in found:
        return None
    return Kept(
        id_,
        found[b"owner"].decode(),
        found[b"provider"].decode(),
        found[b"kind"].decode(),
        found[b"document"],
        found.get(b"facts", b""),
        found.get(b"bill", b""),
    )


async def renew(client: Redis, id_: str, document: bytes) -> None:
    """Keep an object as it was seen now."""
    if await client.exists(_key(id_)):
        async with _together(client) as together:
            together.hset(_key(id_), "document", document)
            together.expire(_key(id_), KEEP_S)
            await together.execute()


async def forget(client: Redis, kept: Kept) -> None:
    """Forget a file that was deleted."""
    async with _together(client) as together:
        together.delete(_key(kept.id))
        together.zrem(_index(kept.owner, kept.kind), kept.id)
        await together.execute()


async def listed(
    client: Redis,
    owner: str,
    kind: str,
    *,
    after: str,
    limit: int,
    newest_first: bool,
    fits: Callable[[Kept], bool] | None = None,
) -> tuple[list[Kept], bool]:
    """Return up to `limit` of an owner's that fit, behind the one that is named by `after`; and whether there are more."""
    index = _index(owner, kind)
    start = 0
    if after:
        rank: Any = await (client.zrevrank if newest_first else client.zrank)(index, after)
        if rank is None:
            return [], False
        start = rank + 1
    found: list[Kept] = []
    # One more than is shown tells whether there are more.
    look = limit + 1 if fits is None else max(limit + 1, _LOOK)
    while len(found) <= limit:
        names: Any = await client.zrange(index, start, start + look - 1, desc=newest_first)
        if not names:
            break
        start += look
        look = max(look, _LOOK)
        ids = [name.decode() for name in names]
        reading: Any = client.pipeline(transaction=False)
        async with reading:
            for id_ in ids:
                reading.hgetall(_key(id_))
            read = map(_read, ids, await reading.execute())
        found += [one for one in read if one is not None and (fits is None or fits(one))]
    return found[:limit], len(found) > limit


async def outputs(client: Redis, batch: Kept, document: bytes, at_s: int) -> None:
    """Give the files that a batch has written to whom the batch belongs."""
    try:
        seen: _Batch = _BATCH.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    for id_ in (seen.output_file_id, seen.error_file_id):
        if id_ and not await client.exists(_key(id_)):
            written = {
                "id": id_,
                "object": "file",
                "bytes": 0,
                "created_at": at_s,
                "filename": f"{batch.id}.jsonl",
                "purpose": "batch_output",
                "status": "processed",
            }
            one = Kept(id_, batch.owner, batch.provider, "file", msgspec.json.encode(written))
            await keep(client, one, at_s)


# What a vendor was asked for, and may have begun...


class Wanted(msgspec.Struct, frozen=True, array_like=True):
    """
    A batch that a vendor is asked for, written down before it is: who asks, for what, since when (unix seconds).

    `bill` is what it would be billed by, `grave` what its settlement is to find (see `ratelimit/lua/settle.lua`).
    """

    attempt_id: str
    owner: str
    provider: str
    input_file_id: str
    endpoint: str
    at_s: int
    bill: bytes
    grave: bytes


async def want(client: Redis, one: Wanted) -> None:
    """Write down what a vendor is asked for, before it is."""
    await client.hset(_WANTED, one.attempt_id, msgspec.msgpack.encode(one))
    await client.expire(_WANTED, KEEP_S)


async def wanted(client: Redis) -> list[Wanted]:
    """Return all that no vendor's word is known on."""
    found: Any = await client.hvals(_WANTED)
    return [msgspec.msgpack.decode(one, type=Wanted) for one in found]


async def settled(client: Redis, attempt_id: str) -> None:
    """Note that the vendor's word is known, and written down where it has begun something."""
    await client.hdel(_WANTED, attempt_id)


async def bury(cell_client: Redis, graves: str, one: Wanted) -> None:
    """
    Write down what the settlement of a batch is to find; doing so twice changes nothing.

    `graves` is the key, in the store of the caller's cell, where it looks.
    """
    await cell_client.hsetnx(graves, f"{one.attempt_id}+batch", one.grave)
    await cell_client.expire(graves, KEEP_S)


async def owed_for(client: Redis, one: Wanted, kept: Kept, at_s: int) -> None:
    """Write down the batch that a vendor has begun for what was wanted, and was buried; doing so twice changes nothing."""
    if await find(client, kept.id) is None:
        await owe(client, kept, at_s)
    await settled(client, one.attempt_id)


# What is still to be billed...


async def due(client: Redis, now_s: int) -> AsyncIterator[Kept]:
    """Yield the batches that are to be looked at by now."""
    ids: Any = await client.zrangebyscore(_OPEN, "-inf", now_s)
    for one in ids:
        kept = await find(client, one.decode())
        if kept is None or not kept.bill:
            await client.zrem(_OPEN, one)
        else:
            yield kept


async def look_at(client: Redis, id_: str, at_s: int) -> None:
    """Say when a batch that is not billed is to be looked at again."""
    await client.zadd(_OPEN, {id_: at_s}, xx=True)


async def billed(client: Redis, id_: str) -> None:
    """Note that a batch is billed."""
    async with _together(client) as together:
        together.hset(_key(id_), "bill", b"")
        together.expire(_key(id_), KEEP_S)
        together.zrem(_OPEN, id_)
        await together.execute()


def _key(id_: str) -> str:
    return f"{FIRST.tag}:k:{id_}"


def _index(owner: str, kind: str) -> str:
    return f"{FIRST.tag}:ko:{owner}:{kind}"


def _together(client: Redis) -> Any:
    return client.pipeline(transaction=True)
