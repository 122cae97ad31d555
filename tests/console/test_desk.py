"""Laws of the desk: one way for every change, whoever is faster, and an answer only for what is so."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from config import live
from config.cells import Division
from config.loader import load_text
from console import desk
from console.answers import Refused
from console.desk import moment

Api = Any  # the fixture of this folder's conftest
QUOTA = "/v1/quotas/org:acme"
BEATS = "{c0}:r"
FAR = 2**52


def body(rpm: int = 5, **more: Any) -> dict[str, Any]:
    return {"limits": {"rpm": rpm}, "why": "w", **more}


def test_a_moment_is_read_by_everybody() -> None:
    """RFC 3339, UTC, milliseconds."""
    assert moment(1_795_318_572_345_678) == "2026-11-22T03:36:12.345Z"


def test_the_message_says_what_is_wrong_and_not_what_could_be_better() -> None:
    """A warning that stands before the mistake in the file is neither said nor counted."""
    text = """
admin: {token: a-token-of-32-letters-and-digits}
providers: {mock: {protocol: openai, base_url: http://127.0.0.1:9}}
models: {demo: {deployments: [{provider: mock, weight: 0}]}}
"""
    with pytest.raises(Refused) as told:
        desk.refusals(lambda: load_text(text, source="request", environ={}))
    assert told.value.message.startswith("1 mistake: request:4: models.demo.deployments[0].weight:")


async def test_a_change_waits_until_every_live_replica_runs_it(api: Api) -> None:
    """And not for one that is dead."""
    await api.redis.zadd(BEATS, {"h/0.a": FAR, "h/1.a": FAR, "h/2.a": -1})
    await live.acknowledge(api.redis, "h/2", 1, None)

    async def acknowledge() -> None:
        async with contextlib.aclosing(live.watch(api.redis)) as versions:
            async for version in versions:
                if version.number == 2:
                    break
        await live.acknowledge(api.redis, "h/0", 2, None)
        await asyncio.sleep(0.05)
        await live.acknowledge(api.redis, "h/1", 2, None)

    said, _ = await asyncio.gather(api.done("PUT", QUOTA, body(wait_ms=10_000)), acknowledge())
    assert (said["everywhere"], said["waiting_for"]) == (True, [])


async def test_waiting_is_bounded(api: Api) -> None:
    """Who did not acknowledge in time is named; the change is made nevertheless."""
    await api.redis.zadd(BEATS, {"h/0.a": FAR})
    said = await api.done("PUT", QUOTA, body(wait_ms=50))
    assert (said["everywhere"], said["waiting_for"]) == (False, ["h/0"])
    assert said["published"] is True
    said = await api.done("PUT", QUOTA, body(6))
    assert (said["everywhere"], said["waiting_for"]) == (None, [])


async def test_a_replica_that_cannot_take_it_is_not_waited_for(api: Api) -> None:
    """It said so; asking longer helps nobody."""
    await api.redis.zadd(BEATS, {"h/0.a": FAR})
    await live.acknowledge(api.redis, "h/0", 2, "no such file")
    async with asyncio.timeout(20):
        said = await api.done("PUT", QUOTA, body(wait_ms=30_000))
    assert (said["everywhere"], said["waiting_for"]) == (False, ["h/0"])


async def test_who_is_slower_makes_the_change_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On what is live then; without end it is not tried."""
    publish = live.publish
    faster = 0

    async def overtaken(client: Redis, document: str, **said: Any) -> live.Version:
        nonlocal faster
        if faster > 0:
            faster -= 1
            before = await live.current(client)
            assert before is not None
            other = re.sub("tpm: [0-9]+", f"tpm: {before.number}", before.document)
            await publish(client, other, by="x", why="y", expected=None)
        return await publish(client, document, **said)

    monkeypatch.setattr(desk.live, "publish", overtaken)
    faster = 2
    said = await api.done("PUT", QUOTA, body())
    assert said["version"] == 4
    assert "rpm: 5" in await api.document()
    faster = 10**6
    status, found = await api.ask("PUT", QUOTA, body(7))
    assert (status, found["error"]["code"]) == (409, "contended")
    assert "rpm: 7" not in await api.document()
    faster = 1
    current = await live.current(api.redis)
    assert current is not None
    status, found = await api.ask("PUT", QUOTA, body(7, expected=current.number))
    assert (status, found["error"]["code"]) == (409, "stale_version")
    assert found["error"]["changes"]


async def test_a_store_that_goes_away_is_said(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before publishing nothing was changed; after it, the answer says what was."""

    def away(what: str) -> Callable[..., Any]:
        async def fail(*_: Any, **__: Any) -> Any:
            raise RedisError(what)

        return fail

    with monkeypatch.context() as patch:
        patch.setattr(desk.live, "publish", away("gone before"))
        await api.refused(503, "store_unavailable", "PUT", QUOTA, body())
    with monkeypatch.context() as patch:
        patch.setattr(desk, "put_limits", away("gone after"))
        status, found = await api.ask("PUT", QUOTA, body())
    assert (status, found["error"]["code"]) == (503, "published_not_seeded")
    assert found["error"]["version"] == 2
    assert "rpm: 5" in await api.document()


async def test_a_fault_of_ours_shows_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """500 in the shape of every error; the log has the place and not the body."""

    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(desk, "diff", fail)
    error = await api.refused(500, "internal", "PUT", QUOTA, body(why="canary-of-the-body"))
    assert "fault" not in error["message"]
    assert "ZeroDivisionError" in caplog.text
    assert "canary-of-the-body" not in caplog.text


@pytest.mark.parametrize(
    ("said", "count", "after", "refused"),
    [
        ({"acme": 0}, 2, "{acme: {cell: 1}}", "organizations.acme.cell: 0 -> 1"),
        ({"acme.com": 0}, 2, "{acme.com: {cell: 1}}", 'organizations."acme.com".cell: 0 -> 1'),
        ({"acme": 0}, 2, "{acme: {cell: 0}, other: {cell: 1}}", ""),
        # By its name it lies in the first one of two.
        ({"acme": None}, 2, "{acme: {cell: 0}}", ""),
        ({"acme": None}, 2, "{acme: {cell: 1}}", "organizations.acme.cell: 0 -> 1"),
        ({"acme": 0}, 3, "{acme: {cell: 0}}", "store.cells: 3 -> 2"),
    ],
)
def test_organizations_stay_in_their_cells_under_edges_that_run(
    said: dict[str, int | None], count: int, after: str, refused: str
) -> None:
    """A new one may go anywhere, and whoever only says where he lies does not move."""
    text = f"store: {{cells: 2}}\norganizations: {after}\n"
    loaded = load_text(text, source="test", environ={})
    if not refused:
        desk.require_cells(Division(count, said), loaded)
        return
    with pytest.raises(Refused) as told:
        desk.require_cells(Division(count, said), loaded)
    assert told.value.message == f"{refused}: this changes only while no edge runs"
    assert told.value.more["problems"][0]["path"] == refused.partition(": ")[0]
