"""Versions in Redis: numbered without gaps, never lost between two operators, seen by every replica."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from config import live
from loadtests.drills.company import SentinelSet
from store import scripts, topology

WITHIN_S = 10.0


async def publish(client: Redis, document: str, **more: Any) -> live.Version:
    return await live.publish(
        client, document, **{"by": "ann", "why": "because", "expected": None, **more}
    )


# A client that gives up at once, and whose sending can be cancelled (see redis_client)
AT_ONCE: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "socket_timeout": None}


class Watcher:
    """Collects what `watch` gives, and waits for what is to come."""

    def __init__(self, client: Redis, **more: Any) -> None:
        self.seen: list[live.Version] = []
        self._came = asyncio.Condition()
        self._client = client
        self._more = more

    async def run(self) -> None:
        async with aclosing(live.watch(self._client, **self._more)) as versions:
            async for version in versions:
                async with self._came:
                    self.seen.append(version)
                    self._came.notify_all()

    async def until(
        self, document: str, count: int = 1, within_s: float = WITHIN_S
    ) -> live.Version:
        def came() -> bool:
            return len(self.seen) >= count and self.seen[-1].document == document

        async with asyncio.timeout(within_s), self._came:
            await self._came.wait_for(came)
        return self.seen[-1]


@contextlib.asynccontextmanager
async def watching(client: Redis, **more: Any) -> AsyncIterator[Watcher]:
    watcher = Watcher(client, **more)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watcher.run())
        yield watcher
        task.cancel()


async def test_there_is_no_version_before_the_first(redis_client: Redis) -> None:
    """An empty store has no version, and a watcher of it has nothing to say."""
    assert await live.current(redis_client) is None
    assert await live.version(redis_client, 1) is None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), watching(redis_client) as watcher:
            await watcher.until("anything")


async def test_a_version_is_read_back_as_it_was_published(redis_client: Redis) -> None:
    """Text, author and reason survive unchanged; time is the server's and the digest is right."""
    document = 'a: "ünï ☃ \\U0000000a"\n' * 1000
    before = await redis_client.time()
    published = await publish(redis_client, document, by="Ann Ó", why="new\nreason: 'x' \x00")
    assert published == await live.current(redis_client)
    assert published == await live.version(redis_client, 1)
    assert (published.number, published.document) == (1, document)
    assert (published.by, published.why) == ("Ann Ó", "new\nreason: 'x' \x00")
    assert published.digest == live.digest_of(document)
    assert published.at_us >= before[0] * 1_000_000 + before[1]


async def test_numbers_rise_by_one(redis_client: Redis) -> None:
    """Versions are 1, 2, 3, also when two have the same text."""
    assert [(await publish(redis_client, "a: 1")).number for _ in range(3)] == [1, 2, 3]


async def test_of_many_operators_who_start_from_one_version_one_is_taken(
    redis_client: Redis,
) -> None:
    """Compare-and-set: the others are told which version is there, and change nothing."""
    await publish(redis_client, "first")
    answers = await asyncio.gather(
        *(publish(redis_client, f"by {n}", expected=1) for n in range(20)), return_exceptions=True
    )
    taken = [each for each in answers if isinstance(each, live.Version)]
    refused = [each for each in answers if isinstance(each, live.VersionConflict)]
    assert (len(taken), len(refused)) == (1, 19)
    assert {(each.expected, each.current) for each in refused} == {(1, 2)}
    assert await live.current(redis_client) == taken[0]


async def test_the_history_tells_who_did_what(redis_client: Redis) -> None:
    """The current version first, with the kind of change; the oldest are forgotten with their kind."""
    assert await live.history(redis_client) == []
    await live.publish_file(redis_client, "file", by="host", why="start")
    last = await publish(redis_client, "b", by="ann", why="because", kind="key.create")
    assert last.kind == "key.create"
    said = await live.history(redis_client)
    assert [(note.number, note.by, note.why, note.kind) for note in said] == [
        (2, "ann", "because", "key.create"),
        (1, "host", "start", "config.file"),
    ]
    assert said[0].digest == live.digest_of("b")
    await redis_client.flushall()
    await publish(redis_client, "after a flush", after=100)
    assert [note.number for note in await live.history(redis_client)] == [101]


async def test_expecting_none_is_expecting_the_first(redis_client: Redis) -> None:
    """`expected=0` publishes into an empty store only."""
    assert (await publish(redis_client, "a", expected=0)).number == 1
    with pytest.raises(live.VersionConflict, match="at version 1, not 0"):
        await publish(redis_client, "b", expected=0)


async def test_a_publication_that_is_sent_again_counts_once(redis_client: Redis) -> None:
    """redis-py repeats a call whose answer got lost; the stamp makes that harmless."""
    script = redis_client.register_script(scripts.load("config", "publish").text)
    arguments = ["doc", "digest", "ann", "why", "0", "stamp-1", "", 50, "1700000000000000", 0]
    first = await script(keys=[live.LIVE_KEY], args=arguments)
    again = await script(keys=[live.LIVE_KEY], args=arguments)
    assert first == again == [b"published", 1]
    found = await live.current(redis_client)
    assert found is not None
    assert (found.at_us, found.stamp) == (1_700_000_000_000_000, "stamp-1")


async def test_a_file_is_published_when_it_differs_from_the_last_file(redis_client: Redis) -> None:
    """A restart undoes no live change; an edited file takes effect; so does the first after a flush."""

    async def start(document: str) -> live.Version:
        return await live.publish_file(redis_client, document, by="file", why="start")

    assert (await start("file 1")).number == 1
    assert (await start("file 1")).number == 1
    await publish(redis_client, "live change")
    assert (await start("file 1")).document == "live change"
    assert (await start("file 2")).number == 3
    assert (await start("file 1")).number == 4
    await redis_client.flushall()
    assert (await start("file 1")).number == 1


async def test_controls_that_start_together_publish_a_file_once(redis_client: Redis) -> None:
    """Ten controls with one file make one version."""
    found = await asyncio.gather(
        *(live.publish_file(redis_client, "file", by="file", why="start") for _ in range(10))
    )
    assert {each.number for each in found} == {1}


async def test_the_last_fifty_versions_are_kept(redis_client: Redis) -> None:
    """The hash is bounded: version n - 50 goes when n comes, with all of its fields."""
    for n in range(1, 54):
        await publish(redis_client, f"document {n}")
    assert await live.version(redis_client, 3) is None
    oldest = await live.version(redis_client, 4)
    assert oldest is not None
    assert oldest.document == "document 4"
    assert await redis_client.hlen(live.LIVE_KEY) == 50 * 8 + 2


async def test_hashes_are_keyed_in_every_version_that_is_kept(redis_client: Redis) -> None:
    """Numbers, words, stamps and what watchers have seen stay; a version that is keyed is left alone."""
    for n in range(1, 4):
        await publish(redis_client, f"plain {n}")
    await publish(redis_client, "plain 4", key_id="00000001")
    before = [await live.version(redis_client, n) for n in range(1, 5)]
    changed = await live.rekey(
        redis_client, lambda text: text.replace("plain", "keyed"), "00000001"
    )
    assert changed == 3
    after = [await live.version(redis_client, n) for n in range(1, 5)]
    for n, (old, new) in enumerate(zip(before, after, strict=True), 1):
        assert old is not None
        document = "plain 4" if n == 4 else f"keyed {n}"
        digest = live.digest_of(document)
        assert new == replace(old, document=document, digest=digest, key_id="00000001")
    assert await live.rekey(redis_client, str.upper, "00000001") == 0


async def test_a_file_that_was_published_under_a_former_secret_is_not_published_again(
    redis_client: Redis,
) -> None:
    """Live changes survive a restart with another secret; an edited file still takes effect."""
    said = {"by": "control", "why": "start"}
    await live.publish_file(redis_client, "file, hashed before", **said)
    await publish(redis_client, "a live change")
    for _ in range(2):
        found = await live.publish_file(
            redis_client, "file, hashed now", former=["x", "file, hashed before"], **said
        )
        assert (found.number, found.document) == (2, "a live change")
    assert (await live.publish_file(redis_client, "edited", former=["y"], **said)).number == 3


async def test_a_watcher_gets_the_current_version_then_each_change_at_once(
    redis_client: Redis,
) -> None:
    """Pub/sub carries a change in far less time than the poll would."""
    await publish(redis_client, "first")
    async with watching(redis_client, poll_s=60) as watcher:
        await watcher.until("first")
        for n in range(5):
            await publish(redis_client, f"change {n}")
            await watcher.until(f"change {n}")
    assert [each.number for each in watcher.seen] == [1, 2, 3, 4, 5, 6]


async def test_a_busy_watcher_skips_to_the_current_version(redis_client: Redis) -> None:
    """What comes next is always what is current, never an older change that was missed."""
    await publish(redis_client, "first")
    async with aclosing(live.watch(redis_client, poll_s=0.05)) as versions:
        assert (await anext(versions)).number == 1
        for n in range(2, 8):
            await publish(redis_client, f"document {n}")
        assert (await anext(versions)).number == 7


async def test_a_lost_message_is_made_good_by_the_poll(redis_client: Redis) -> None:
    """A change that nobody was told of is found within one poll."""
    await publish(redis_client, "first")
    async with watching(redis_client, poll_s=0.05) as watcher:
        await watcher.until("first")
        script = scripts.load("config", "publish").text
        mute = script.replace("redis.call('PUBLISH', live, number)", "")
        assert mute != script
        arguments = ["silent", "digest", "ann", "why", "", "stamp", "", 50, "", 0]
        await redis_client.eval(mute, 1, live.LIVE_KEY, *arguments)
        await watcher.until("silent")


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not await condition():  # noqa: ASYNC110  (a server announces nothing)
            await asyncio.sleep(0.005)


async def polls(client: Redis, times: int) -> None:
    """Wait until the store has been asked so often more for what a watcher polls."""

    async def asked() -> int:
        return int((await client.info("commandstats"))["cmdstat_hget"]["calls"])

    before = await asked()

    async def enough() -> bool:
        return await asked() >= before + times

    await until(enough)


def count_tries(client: Redis, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Awaitable[None]]:
    """Count how often a watcher begins anew; what is returned waits for so many more."""
    begun = 0
    subscribe = client.pubsub

    def counted(**options: Any) -> Any:
        nonlocal begun
        begun += 1
        return subscribe(**options)

    monkeypatch.setattr(client, "pubsub", counted)

    async def tries(more: int) -> None:
        wanted = begun + more

        async def enough() -> bool:
            return begun >= wanted

        await until(enough)

    return tries


async def test_a_flush_changes_nothing_and_the_next_version_is_taken(redis_client: Redis) -> None:
    """After FLUSHALL a watcher is silent, then takes the next version though its number fell."""
    for n in range(3):
        await publish(redis_client, f"document {n}")
    async with watching(redis_client, poll_s=0.02) as watcher:
        await watcher.until("document 2")
        await redis_client.flushall()
        await polls(redis_client, 3)
        assert len(watcher.seen) == 1
        await publish(redis_client, "after the flush")
        assert (await watcher.until("after the flush")).number == 1


async def test_a_flush_to_the_same_number_and_text_is_a_new_version(redis_client: Redis) -> None:
    """Versions are told apart by their stamp, so a replica acknowledges the new one too."""
    await publish(redis_client, "same")
    async with watching(redis_client, poll_s=0.02) as watcher:
        await watcher.until("same")
        await redis_client.flushall()
        await publish(redis_client, "same")
        await watcher.until("same", count=2)
    assert [each.number for each in watcher.seen] == [1, 1]


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_watcher_survives_restarts_of_the_store(
    make_redis: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """While the store is away nothing happens; when it is back, what was published since is given."""
    server = make_redis("--appendonly", "yes", "--appendfsync", "always")
    async with Redis.from_url(server.url, **AT_ONCE) as client:
        await publish(client, "before")
        tries = count_tries(client, monkeypatch)
        async with watching(client, poll_s=0.1) as watcher:
            await watcher.until("before")
            getattr(server, end)()
            await tries(2)
            server.start()
            assert (await publish(client, "after", expected=1)).number == 2
            await watcher.until("after")
        assert [each.document for each in watcher.seen] == ["before", "after"]


async def test_a_watcher_may_start_before_the_store(
    make_redis: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that starts first waits, and begins with the version that is there then."""
    server = make_redis("--appendonly", "yes")
    server.stop()
    client = Redis.from_url(server.url, **AT_ONCE)
    tries = count_tries(client, monkeypatch)
    async with client, watching(client) as watcher:
        await tries(2)
        server.start()
        await publish(client, "first")
        await watcher.until("first")


async def test_a_store_that_hangs_does_not_wedge_the_watcher(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poll without an answer is given up, and the next one is made on a fresh subscription."""
    monkeypatch.setattr(live, "STORE_WITHIN_S", 0.1)
    await publish(redis_client, "first")
    async with watching(redis_client, poll_s=0.05) as watcher:
        await watcher.until("first")
        await redis_client.execute_command("CLIENT", "PAUSE", 500, "ALL")
        await publish(redis_client, "second")
        await watcher.until("second")


async def test_closing_a_watcher_gives_its_connection_back(redis_client: Redis) -> None:
    """After `aclose` no subscription is left at the server."""
    await publish(redis_client, "first")
    async with aclosing(live.watch(redis_client)) as versions:
        await anext(versions)
        assert await redis_client.pubsub_numsub(live.LIVE_KEY) == [(b"{c0}:cfg", 1)]

    async def gone() -> bool:
        return await redis_client.pubsub_numsub(live.LIVE_KEY) == [(b"{c0}:cfg", 0)]

    await until(gone)  # the server hears of it a little later


async def test_a_cancelled_watcher_ends_at_whatever_point(redis_url: str) -> None:
    """Cancellation is never lost, where redis-py may drop it (`store.mended`)."""
    async with topology.client(redis_url) as client:
        await client.flushall()
        await publish(client, "first")
        for ticks in range(40):
            watcher = Watcher(client, poll_s=0.001)
            async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as group:
                task = group.create_task(watcher.run())
                for _ in range(ticks):
                    await asyncio.sleep(0)
                task.cancel()


async def test_replicas_acknowledge_what_they_run(redis_client: Redis) -> None:
    """The last word of each replica is kept, with the server's time; an ended one is forgotten."""
    assert await live.acknowledgements(redis_client) == {}
    await live.acknowledge(redis_client, "edge-1.a b", 3, None)
    await live.acknowledge(redis_client, "edge-2", 3, None)
    await live.acknowledge(redis_client, "edge-2", 2, "penstock: a b: no ü")
    found = await live.acknowledgements(redis_client)
    assert {name: (each.number, each.error) for name, each in found.items()} == {
        "edge-1.a b": (3, None),
        "edge-2": (2, "penstock: a b: no ü"),
    }
    assert 0 < found["edge-1.a b"].at_us <= found["edge-2"].at_us
    await live.withdraw(redis_client, "edge-2")
    assert list(await live.acknowledgements(redis_client)) == ["edge-1.a b"]


async def test_the_longest_silent_replicas_are_forgotten_first(redis_client: Redis) -> None:
    """The hash of acknowledgements has a bound, whatever comes and goes."""
    script = redis_client.register_script(scripts.load("config", "acknowledge").text)
    for at in range(20):
        left = await script(keys=[live.ACKNOWLEDGED_KEY], args=[f"edge-{at}", 1, "", 5, at + 1])
        assert left == min(at + 1, 5)
    assert sorted(await live.acknowledgements(redis_client)) == [f"edge-{n}" for n in range(15, 20)]


async def test_a_client_that_decodes_works_as_well(redis_url: str, redis_client: Redis) -> None:
    """Whether redis-py answers in bytes or in text is its owner's choice."""
    async with Redis.from_url(redis_url, decode_responses=True, **AT_ONCE) as client:
        published = await publish(client, "a: ü")
        assert published == await live.current(redis_client)
        await live.acknowledge(client, "edge", 1, None)
        assert await live.acknowledgements(client) == await live.acknowledgements(redis_client)
        async with watching(client) as watcher:
            await watcher.until("a: ü")


async def test_what_a_flushed_store_has_lost_goes_on_counting(redis_client: Redis) -> None:
    """Limits carry the number of their configuration: a number that fell back would look old."""
    await publish(redis_client, "a: 1\n", by="me", why="first", expected=None)
    await redis_client.flushall()
    again = await publish(redis_client, "a: 1\n", by="me", why="lost", expected=0, after=7)
    assert again.number == 8
    later = await publish(redis_client, "a: 2\n", by="me", why="next", expected=8)
    assert later.number == 9


# Failovers...


async def test_what_was_confirmed_outlives_the_primary(sentinels: SentinelSet) -> None:
    """The primary dies with the confirmation, and the next one has the version; watchers go on there."""
    client = topology.client(sentinels.url)
    primary = sentinels.primary()
    try:
        async with watching(client, poll_s=0.2) as watcher:
            for number in range(20):
                await publish(client, f"document {number}")
            primary.kill()
            async with asyncio.timeout(60):
                while (found := await current_at_last(client)) is None:  # noqa: ASYNC110 - their own pace
                    await asyncio.sleep(0.05)
            assert (found.number, found.document) == (20, "document 19")
            await publish(client, "the next", expected=20)
            await watcher.until("the next", within_s=60)
    finally:
        await client.aclose()


async def current_at_last(client: Redis) -> live.Version | None:
    """Return the current version, None while nobody is the primary."""
    with contextlib.suppress(RedisError):
        return await live.current(client)
    return None


async def test_a_version_that_no_replica_has_is_published_and_said(
    sentinels: SentinelSet, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replicas that have fallen silent keep nobody from changing a quota."""
    monkeypatch.setattr(live, "REPLICA_WITHIN_MS", 50)
    client = topology.client(sentinels.url)
    primary = sentinels.primary()
    replicas = [one for one in sentinels.servers if one is not primary]
    try:
        for one in replicas:
            one.suspend()
        assert (await publish(client, "one")).number == 1
        assert "version 1 of the configuration has not reached a replica yet" in caplog.text
        caplog.clear()
        for one in replicas:
            one.resume()
        assert (await publish(client, "two")).number == 2
        assert "has not reached" not in caplog.text
    finally:
        await client.aclose()


async def test_a_store_that_may_not_be_asked_for_its_replicas_is_not_waited_for(
    redis_client: Redis, redis_url: str
) -> None:
    """A user without INFO and WAIT publishes as before."""
    await redis_client.acl_setuser(
        "meek",
        enabled=True,
        passwords=["+p"],
        categories=["+@all"],
        commands=["-info", "-wait"],
        keys=["*"],
        channels=["*"],
    )
    meek = Redis.from_url(redis_url, username="meek", password="p")
    try:
        assert (await publish(meek, "one")).number == 1
    finally:
        await meek.aclose()
        await redis_client.acl_deluser("meek")
