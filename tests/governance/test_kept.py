"""What is kept at a vendor: whose it is, in order, and what is still to be billed."""

from collections.abc import Callable

from redis.asyncio import Redis

from governance import kept as shelf
from governance.kept import Kept

FILE = Kept("file-1", "acme/a", "v", "file", b'{"id":"file-1"}', b"facts")
BATCH = Kept("batch_1", "acme/a", "v", "batch", b'{"id":"batch_1"}', bill=b"bill")


async def test_what_is_written_down_is_found(redis_client: Redis) -> None:
    """Whole, until it is forgotten; and it does not last for ever."""
    assert await shelf.find(redis_client, "file-1") is None
    await shelf.keep(redis_client, FILE, 5)
    assert await shelf.find(redis_client, "file-1") == FILE
    await shelf.renew(redis_client, "file-1", b"new")
    found = await shelf.find(redis_client, "file-1")
    assert found is not None
    assert (found.document, found.facts) == (b"new", b"facts")
    async for key in redis_client.scan_iter(match="{c0}:k*"):
        assert 0 < await redis_client.ttl(key) <= shelf.KEEP_S
    await shelf.forget(redis_client, FILE)
    assert await shelf.find(redis_client, "file-1") is None
    await shelf.renew(redis_client, "file-1", b"late")
    assert await shelf.find(redis_client, "file-1") is None
    # One who asked the vendor meanwhile writes what it saw: there is still nobody to whom it belongs.
    await redis_client.hset("{c0}:k:file-1", "document", b"late")
    assert await shelf.find(redis_client, "file-1") is None


async def test_lists_are_an_owners(redis_client: Redis) -> None:
    """In either order, in pages, and of one kind."""
    for number in range(5):
        owner = "acme/a" if number != 2 else "acme/b"
        await shelf.keep(redis_client, Kept(f"f{number}", owner, "v", "file", b"{}"), number)

    async def page(after: str, *, newest: bool) -> tuple[list[str], bool]:
        found, more = await shelf.listed(
            redis_client, "acme/a", "file", after=after, limit=2, newest_first=newest
        )
        return [one.id for one in found], more

    assert await page("", newest=False) == (["f0", "f1"], True)
    assert await page("f1", newest=False) == (["f3", "f4"], False)
    assert await page("", newest=True) == (["f4", "f3"], True)
    assert await page("f3", newest=True) == (["f1", "f0"], False)
    assert await page("f2", newest=True) == ([], False)
    await redis_client.delete("{c0}:k:f3")
    assert await page("f1", newest=False) == (["f4"], False)


async def test_a_page_reads_what_it_shows(redis_client: Redis) -> None:
    """And one more, which tells whether there are more; more at once only where some may not fit or are gone."""
    for number in range(200):
        await shelf.keep(redis_client, Kept(f"f{number:03}", "o/t", "v", "file", b"{}"), number)

    async def read(after: str, fits: Callable[[Kept], bool] | None = None) -> tuple[list[str], int]:
        before = await reads(redis_client)
        found, more = await shelf.listed(
            *(redis_client, "o/t", "file"), after=after, limit=20, newest_first=False, fits=fits
        )
        assert more
        return [one.id for one in found], await reads(redis_client) - before

    names = [f"f{number:03}" for number in range(200)]
    assert await read("") == (names[:20], 21)
    assert await read("f019") == (names[20:40], 21)
    assert await read("", lambda one: one.id >= "f150") == (names[150:170], 200)
    await redis_client.delete(*(f"{{c0}}:k:{name}" for name in names[:150]))
    assert await read("") == (names[150:170], 200)


async def reads(client: Redis) -> int:
    """Return how many records this server was asked for."""
    return int((await client.info("commandstats")).get("cmdstat_hgetall", {"calls": 0})["calls"])


async def test_a_batch_is_due_until_it_is_billed(redis_client: Redis) -> None:
    """At the time that was said; one that nobody knows any more is forgotten."""
    await shelf.owe(redis_client, BATCH, 100)

    async def due(now_s: int) -> list[str]:
        return [one.id async for one in shelf.due(redis_client, now_s)]

    assert await due(99) == []
    assert await due(100) == ["batch_1"]
    await shelf.look_at(redis_client, "batch_1", 200)
    await shelf.look_at(redis_client, "batch_2", 0)
    assert await due(199) == []
    await shelf.billed(redis_client, "batch_1")
    assert await due(999) == []
    found = await shelf.find(redis_client, "batch_1")
    assert found is not None
    assert found.bill == b""
    await shelf.owe(redis_client, BATCH, 1)
    await redis_client.delete("{c0}:k:batch_1")
    assert await due(999) == []
    assert await redis_client.zcard("{c0}:kb") == 0


async def test_what_a_batch_writes_belongs_to_its_owner(redis_client: Redis) -> None:
    """Once; what is no document says nothing."""
    await shelf.outputs(redis_client, BATCH, b"nothing", 1)
    document = b'{"output_file_id":"file-o","error_file_id":null}'
    for at_s in (1, 2):
        await shelf.outputs(redis_client, BATCH, document, at_s)
    found = await shelf.find(redis_client, "file-o")
    assert found is not None
    assert (found.owner, found.kind) == ("acme/a", "file")
    assert b'"created_at":1' in found.document
