"""
The configuration that runs: numbered versions in Redis, watched by every replica.

A version is a published document (`config.loader.Loaded.document`) with who, why and when.
Publishing is compare-and-set in one script, so that of two operators who start from the same
version one is told of the other. Replicas are told by pub/sub and ask every two seconds besides,
so that neither a lost message, a restart nor a flush leaves one behind; by `acknowledge` they say
that they run it, or why they cannot.

Failure stance: a replica without Redis goes on with the version that it has. After a flush there is
no version, which changes nothing either; the next one published is taken whatever its number is.
`watch` never fails for the store's sake, all else raises what redis-py raises.
Where the store has replicas, what was published is confirmed when one of them has it, so that a failover does not take
it back; when none has it within half a second that is said in the log, and the version stands all the same.

Redis keys: `{c0}:cfg` (hash; also the name of the channel), `{c0}:ack` (hash), and `{c0}:cells`, over how many cells the store is spread.
"""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from store import scripts
from store.cells import FIRST, Cell, cell

LIVE_KEY = f"{FIRST.tag}:cfg"
ACKNOWLEDGED_KEY = f"{FIRST.tag}:ack"
CELLS_KEY = f"{FIRST.tag}:cells"
KEPT_VERSIONS = 50
MOST_REPLICAS = 4096
LONGEST_ERROR = 2000

POLL_S = 2.0
STORE_WITHIN_S = 5.0
RETRY_S = 0.2
REPLICA_WITHIN_MS = 500

_FIELDS = ("document", "by", "why", "at_us", "digest", "stamp")
_NOTED = ("by", "why", "at_us", "digest", "kind")

_log = logging.getLogger("penstock.config")


@dataclass(frozen=True, slots=True)
class Version:
    """
    One published configuration; `at_us` is the server's time in microseconds since 1970.

    `digest` is the SHA-256 of the document in hex. `stamp` tells two versions apart that bear the
    same number, which happens after a flush. `kind` is what was done (`config.apply`, `key.create`),
    `key_id` the id of the key secret of whoever published it (`config.keys`).
    """

    number: int
    document: str
    by: str
    why: str
    at_us: int
    digest: str
    stamp: str
    kind: str = ""
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """What the history says of a version, without its document."""

    number: int
    by: str
    why: str
    at_us: int
    digest: str
    kind: str


@dataclass(frozen=True, slots=True)
class Ack:
    """What a replica said last: the version it was told of, and why it could not take that one; None where it runs it."""

    number: int
    error: str | None
    at_us: int


class VersionConflict(Exception):
    """Someone else published in between; nothing was changed."""

    def __init__(self, expected: int, current: int) -> None:
        self.expected = expected
        self.current = current
        super().__init__(
            f"the live configuration is at version {current}, not {expected}: look at what changed"
        )


def digest_of(document: str) -> str:
    """Give the SHA-256 of a document in hex."""
    return hashlib.sha256(document.encode()).hexdigest()


# Publishing...


async def publish(
    client: Redis,
    document: str,
    *,
    by: str,
    why: str,
    expected: int | None,
    after: int = 0,
    kind: str = "",
    key_id: str = "",
) -> Version:
    """
    Make a document the next version, and tell every replica.

    `expected` is the number that the change was made from (0: there is none yet; None: whatever
    there is). The number will be higher than `after`: who publishes again what a flushed store has
    lost goes on counting. `kind` is a word for the history, `key_id` says which key secret the
    document was hashed with. Raises VersionConflict when the current version is another.
    The document must have come from the loader: nothing is checked here.
    """
    outcome, number = await _publish(
        client, document, by, why, expected, origin="", after=after, kind=kind, key_id=key_id
    )
    if outcome == "conflict":
        raise VersionConflict(expected or 0, number)
    return await _surely(client, number)


async def publish_file(
    client: Redis,
    document: str,
    *,
    by: str,
    why: str,
    key_id: str = "",
    former: Collection[str] = (),
) -> Version:
    """
    Publish what the file on disk says, unless that very text was published from a file before.

    So a restart undoes no change that was made live, while an edited file takes effect. `former`
    are documents that mean the same text, its keys hashed with former secrets.
    Gives the current version, be it the new one or not.
    """
    _, number = await _publish(
        client,
        document,
        by,
        why,
        None,
        origin="file",
        kind="config.file",
        key_id=key_id,
        former=tuple(map(digest_of, former)),
    )
    return await _surely(client, number)


async def rekey(client: Redis, keyed: Callable[[str], str], key_id: str) -> int:
    """
    Write the hashes of kept versions anew, and return how many versions that changed.

    `keyed` gives a document with its hashes keyed. What a version means stays, and so do its number
    and its stamp: no replica has to read it again.
    """
    newest = await _reply(client.hget(LIVE_KEY, "current"))
    changed = 0
    for number in range(int(newest or 0), max(0, int(newest or 0) - KEPT_VERSIONS), -1):
        found = await version(client, number)
        if found is None or found.key_id == key_id:
            continue
        document = await asyncio.to_thread(keyed, found.document)
        script = client.register_script(scripts.load("config", "rekey").text)
        arguments = [str(number), found.digest, document, digest_of(document), key_id]
        changed += int(await _reply(script(keys=[LIVE_KEY], args=arguments)))
    return changed


async def _publish(
    client: Redis,
    document: str,
    by: str,
    why: str,
    expected: int | None,
    *,
    origin: str,
    after: int = 0,
    kind: str,
    key_id: str,
    former: tuple[str, ...] = (),
) -> tuple[str, int]:
    wanted = "" if expected is None else str(expected)
    first = (document, digest_of(document), by, why, wanted, secrets.token_hex(16), origin)
    rest = (str(KEPT_VERSIONS), "", str(after), kind, key_id, *former)
    # One connection: a server waits for the writes of the connection that asks it to.
    async with client.client() as ours:
        script = ours.register_script(scripts.load("config", "publish").text)
        outcome, number = await _reply(script(keys=[LIVE_KEY], args=[*first, *rest]))
        if _text(outcome) == "published":
            await _reach_a_replica(ours, int(number))
    return _text(outcome), int(number)


async def _reach_a_replica(client: Redis, number: int) -> None:
    """Wait until a replica has what this connection wrote, if there is any: a failover takes back what none has."""
    try:
        said = await _reply(client.info("replication"))
        if not said.get("connected_slaves"):
            return
        reached = await _reply(client.wait(1, REPLICA_WITHIN_MS))
    except ResponseError:
        # Nobody may ask here, as with some managed stores; they answer for their failovers themselves.
        return
    if not reached:
        _log.warning("version %d of the configuration has not reached a replica yet", number)


async def _surely(client: Redis, number: int) -> Version:
    found = await version(client, number)
    if found is None:  # flushed, or 50 versions published, between two commands
        raise RedisError(f"version {number} of the configuration was lost as it was published")
    return found


# Reading...


async def current(client: Redis) -> Version | None:
    """Give the version that is current, or None before the first and after a flush."""
    number = await _reply(client.hget(LIVE_KEY, "current"))
    return None if number is None else await version(client, int(number))


async def version(client: Redis, number: int) -> Version | None:
    """Give one of the last 50 versions, or None if it is not kept."""
    names = [f"{number}:{name}" for name in (*_FIELDS, "kind", "key_id")]
    *found, kind, key_id = await _reply(client.hmget(LIVE_KEY, names))
    if any(value is None for value in found):
        return None
    document, by, why, at_us, digest, stamp = map(_text, found)
    more = _text(kind or b""), _text(key_id or b"")
    return Version(number, document, by, why, int(at_us), digest, stamp, *more)


async def history(client: Redis) -> list[Note]:
    """Give what is known of the versions that are kept, the current one first."""
    newest = await _reply(client.hget(LIVE_KEY, "current"))
    if newest is None:
        return []
    numbers = range(int(newest), max(0, int(newest) - KEPT_VERSIONS), -1)
    names = [f"{number}:{name}" for number in numbers for name in _NOTED]
    found = await _reply(client.hmget(LIVE_KEY, names))
    notes = []
    for at, number in enumerate(numbers):
        *said, kind = found[at * len(_NOTED) : (at + 1) * len(_NOTED)]
        # Numbers may be missing: after a flush one goes on counting where one was
        if all(value is not None for value in said):
            by, why, at_us, digest = map(_text, said)
            notes.append(Note(number, by, why, int(at_us), digest, _text(kind or b"")))
    return notes


async def watch(client: Redis, *, poll_s: float = POLL_S) -> AsyncGenerator[Version, None]:
    """
    Give the current version, then each change as it happens; never ends by itself.

    Versions that are published while the reader is busy may be passed over: the one that comes
    next is always the current one. Close it with `contextlib.aclosing`.
    """
    seen: str | None = None
    while True:
        pubsub: Any = client.pubsub(ignore_subscribe_messages=True)
        try:
            await _reply(pubsub.subscribe(LIVE_KEY))
            while True:
                # Asked after subscribing, so that nothing falls between the two
                found = await _other_than(client, seen)
                if found is not None:
                    seen = found.stamp
                    yield found
                    continue
                await _reply(pubsub.get_message(timeout=poll_s))
        except (RedisError, OSError):
            pass  # the store is away; the replica goes on with what it has
        finally:
            await pubsub.aclose()
        await asyncio.sleep(RETRY_S)


async def _other_than(client: Redis, seen: str | None) -> Version | None:
    async with asyncio.timeout(STORE_WITHIN_S):
        stamp = await _reply(client.hget(LIVE_KEY, "stamp"))
        if stamp is None or _text(stamp) == seen:
            return None
        return await current(client)


# Who runs what...


async def acknowledge(client: Redis, replica: str, number: int, error: str | None) -> None:
    """Say that a replica runs version `number`, or why it cannot take that one and runs an earlier one."""
    script = client.register_script(scripts.load("config", "acknowledge").text)
    arguments = (replica, number, (error or "")[:LONGEST_ERROR], MOST_REPLICAS, "")
    await _reply(script(keys=[ACKNOWLEDGED_KEY], args=list(arguments)))


async def acknowledgements(client: Redis) -> dict[str, Ack]:
    """Give what every replica said last, by replica; those that are gone are among them."""
    found: dict[str, Ack] = {}
    for replica, said in (await _reply(client.hgetall(ACKNOWLEDGED_KEY))).items():
        at_us, number, error = _text(said).split(" ", 2)
        found[_text(replica)] = Ack(int(number), error or None, int(at_us))
    return found


async def withdraw(client: Redis, replica: str) -> None:
    """Forget a replica that ended in good order."""
    await _reply(client.hdel(ACKNOWLEDGED_KEY, replica))


# What commands have to know that read the store without reading the configuration...


async def note_cells(client: Redis, count: int) -> None:
    """Say over how many cells the store is spread."""
    await _reply(client.set(CELLS_KEY, count))


async def noted_cells(client: Redis) -> tuple[Cell, ...]:
    """Give the cells that the store is spread over."""
    count = await _reply(client.get(CELLS_KEY))
    return tuple(map(cell, range(int(count or 1))))


async def _reply(waiting: Any) -> Any:
    """Await a redis-py command, whose type says that it may be no awaitable."""
    return await cast("Awaitable[Any]", waiting)


def _text(value: Any) -> str:
    """Read an answer, whether or not the client decodes."""
    return value.decode() if isinstance(value, bytes) else str(value)
