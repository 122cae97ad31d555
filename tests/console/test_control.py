"""Laws of the control role: every version is taken or refused aloud, and the chores go on in every cell."""

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import yaml
from redis.asyncio import Redis

from config import live
from config.loader import load_file
from console import control, stores
from console.control import Control
from console.metrics import Fleet
from governance.drain import LedgerWriter
from ratelimit.lives import DEAD
from ratelimit.upkeep import read_scope
from store.cells import FIRST, Cell, cell
from tests.console.patience import eventually
from tests.console.silent import MEMBER, fall_silent

Ledger = Any  # the fixture of this folder's conftest

pytestmark = pytest.mark.usefixtures("nowhere")


def _control(config_file: Path, writers: list[LedgerWriter], **more: Any) -> Control:
    """Make the role of a file over cells that have these writers."""
    fleet = Fleet(config_file.parent / "run")
    return Control(writers, load_file(config_file, {}), fleet, {}, **more)


@pytest.fixture
async def role(
    ledger: Ledger, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Control]:
    """Run the role's chores in this process, faster than in life."""
    for name in ("REAP_EVERY_S", "ASK_EVERY_S", "KEEP_EVERY_S", "TELL_EVERY_S", "LISTEN_EVERY_S"):
        monkeypatch.setattr(control, name, 0.02)
    async with LedgerWriter(ledger.redis, ledger.path, idle_s=0.01) as writer:
        ours = _control(config_file, [writer])
        async with ours.working():
            yield ours


async def runs(role: Control, number: int) -> bool:
    """Tell whether the role runs a version and says that it is ready."""
    return (
        await role.not_ready() is None
        and f'_version{{replica="{role.replica}"}} {number}.0' in (await role.page()).decode()
    )


async def test_thresholds_of_budgets_are_told(
    role: Control, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """As a line of the log that machines can read, and in a count by the kind of scope and the percentage."""
    for percent, key in ((50, "{c0}:s:team:acme/support"), (80, "{c0}:s:team:acme/other")):
        row = [key, 3, 24_318, percent, 5 * 10**9, 4 * 10**9, 1, 60_000_000]
        await ledger.redis.xadd("{c0}:ev", {"e": msgpack.packb(row)})

    async def counted() -> bool:
        page = (await role.page()).decode()
        return all(
            f'penstock_budget_events_total{{scope="team",threshold="{percent}"}} 1.0' in page
            for percent in (50, 80)
        )

    await eventually(counted)
    lines = [one.getMessage() for one in caplog.records if "budget threshold" in one.getMessage()]
    told = [json.loads(line.partition(": ")[2]) for line in lines]
    assert [(one["scope"], one["percent"]) for one in told] == [
        ("team:acme/support", 50),
        ("team:acme/other", 80),
    ]
    assert told[0]["spent_nusd"] == 4 * 10**9


async def test_each_version_is_seeded_and_acknowledged(role: Control, ledger: Ledger) -> None:
    """A change that is published live sets its limits and is told."""
    await eventually(lambda: runs(role, 1))
    version = await live.current(ledger.redis)
    assert version is not None
    before = await ledger.redis.hget("{c0}:s:org:acme", "l2")
    changed = version.document.replace("6000", "60")
    assert changed != version.document
    await live.publish(ledger.redis, changed, by="test", why="less", expected=1)
    await eventually(lambda: runs(role, 2))
    assert await ledger.redis.hget("{c0}:s:org:acme", "l2") != before


async def test_a_version_that_cannot_be_taken_is_refused_aloud(
    role: Control, ledger: Ledger
) -> None:
    """The one before goes on, the reason is acknowledged as edges do it, and the next good one is taken."""
    await eventually(lambda: runs(role, 1))
    version = await live.current(ledger.redis)
    assert version is not None
    await live.publish(ledger.redis, "models: {x: 1}", by="test", why="?", expected=1)

    async def refused() -> bool:
        ack = (await live.acknowledgements(ledger.redis))[role.replica]
        return ack.number == 2 and ack.error is not None and "models.x" in ack.error

    await eventually(refused)
    assert b"penstock_config_refused" in await role.page()
    assert await role.not_ready() is None
    await live.publish(ledger.redis, version.document, by="test", why="back", expected=2)
    await eventually(lambda: runs(role, 3))


async def test_a_ledger_that_cannot_be_written_keeps_nobody_from_ending(
    ledger: Ledger,
    config_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The last entries stay in the stream, and the log says why."""

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("governance.drain._enter", full)
    await ledger.append("r.1")
    async with LedgerWriter(ledger.redis, ledger.path) as writer:
        await _control(config_file, [writer]).finish()
    assert "the last entries stay in the stream: cannot write the ledger" in caplog.text
    assert await ledger.redis.xlen(FIRST.ledger) == 1


async def test_what_the_dead_said_last_is_not_told(role: Control, ledger: Ledger) -> None:
    """Nobody is to be woken for a replica that has gone with an error."""
    await eventually(lambda: runs(role, 1))
    await live.acknowledge(ledger.redis, "host/0", 1, "no such file")
    await live.acknowledge(ledger.redis, "host/1", 1, None)
    await ledger.redis.zadd(FIRST.beats, {"host/1.ab": 10**16})
    page = (await role.page()).decode()
    assert 'penstock_config_acknowledged_version{replica="host/1"} 1.0' in page
    assert 'penstock_config_refused{replica="host/1"} 0.0' in page
    assert "host/0" not in page


async def test_a_flush_does_not_leave_new_edges_without_a_configuration(
    role: Control, ledger: Ledger
) -> None:
    """What runs is published again, and says why."""
    await eventually(lambda: runs(role, 1))
    first = await live.current(ledger.redis)
    await ledger.redis.flushall()
    again = await eventually(lambda: live.current(ledger.redis))
    assert first is not None
    assert again.document == first.document
    assert "lost" in again.why


async def test_the_dead_are_reaped_and_counted(
    role: Control, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader of the chore reaps, and the page says how many leases."""
    reaped = iter([3, 0, 2])

    async def reap(client: Redis, _: Cell) -> int:
        assert client is ledger.redis
        return next(reaped, 0)

    monkeypatch.setattr(control, "reap", reap)

    async def counted() -> bool:
        return b"penstock_leases_reaped_total 5.0" in await role.page()

    await eventually(counted)


async def test_the_silent_are_counted_and_spoken_of(
    role: Control, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """What stays reserved for a replica that is silent for long is said with what an operator can do, and not again at once."""
    await fall_silent(ledger.redis)

    async def counted() -> bool:
        page = await role.page()
        return (
            b"penstock_silent_replicas 1.0" in page
            and b"penstock_silent_reserved_nusd 3000.0" in page
        )

    await eventually(counted)
    await ledger.redis.zadd(FIRST.beats, {MEMBER: DEAD}, xx=True)

    async def over() -> bool:
        return b"penstock_silent_replicas 0.0" in await role.page()

    await eventually(over)
    (line,) = [one.getMessage() for one in caplog.records if "silent for" in one.getMessage()]
    assert "reserve 0.000003000 USD for 2 calls" in line
    assert f"./penstock quota free {MEMBER}" in line


async def test_a_second_control_waits_for_its_turn(
    role: Control, ledger: Ledger, config_file: Path
) -> None:
    """One leads each chore at a time; when it ends, the other does."""

    async def leads(one: Control) -> bool:
        return b'penstock_chore_leading{chore="ledger"} 1.0' in await one.page()

    await eventually(lambda: leads(role))
    async with LedgerWriter(ledger.redis, ledger.path, idle_s=0.01) as writer:
        second = _control(config_file, [writer])
        async with second.working():
            await eventually(lambda: runs(second, 1))
            assert not await leads(second)
            await ledger.redis.set("{c0}:lead:ledger", b"")  # the first one's lease is lost
            await ledger.redis.delete("{c0}:lead:ledger")

            async def one_leads() -> bool:
                return await leads(role) != await leads(second)

            await eventually(one_leads)


# Several cells...


def spread(config_file: Path) -> None:
    """Have the file spread its tenants over two cells, and limit the deployment."""
    text = config_file.read_text() + "store: {cells: 2}\n"
    config_file.write_text(text.replace("{provider: mock}", "{provider: mock, limits: {rpm: 60}}"))


@pytest.fixture
async def wide_role(
    ledger: Ledger, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Control]:
    """Run the role's chores over two cells on one server."""
    for name in ("REAP_EVERY_S", "ASK_EVERY_S", "KEEP_EVERY_S", "TELL_EVERY_S", "DIVIDE_EVERY_S"):
        monkeypatch.setattr(control, name, 0.02)
    spread(config_file)
    writers = [
        LedgerWriter(ledger.redis, ledger.path, cell=cell(number), idle_s=0.01)
        for number in range(2)
    ]
    async with writers[0], writers[1]:
        ours = _control(config_file, writers, alone=True)
        async with ours.working():
            yield ours


async def test_every_cell_has_its_chores(wide_role: Control, ledger: Ledger) -> None:
    """Limits are there and divided, entries of each are entered, events told, the dead reaped, budgets opened."""
    await eventually(lambda: runs(wide_role, 1))
    shares = [await read_scope(ledger.redis, "deployment:demo/mock", cell(n)) for n in range(2)]
    assert [share and share.limit("rpm") for share in shares] == [30, 30]
    assert await live.noted_cells(ledger.redis) == (cell(0), cell(1))
    for number in range(2):
        await ledger.append(f"r{number}.1", cell(number), cost_nusd=7)
        row = [f"{{c{number}}}:s:org:acme", 3, 24311, 50, 10**9, 5 * 10**8, 1, 0]
        await ledger.redis.xadd(cell(number).events, {"e": msgpack.packb(row)})
        await ledger.redis.zadd(cell(number).beats, {"host/0.ab": DEAD})

    async def done() -> bool:
        counts = (await wide_role.page()).decode()
        return (
            "penstock_ledger_entries_total 2.0" in counts
            and "penstock_ledger_waiting_entries 0.0" in counts
            and 'penstock_budget_events_total{scope="org",threshold="50"} 2.0' in counts
            and not await ledger.redis.exists(cell(0).beats, cell(1).beats)
        )

    await eventually(done)
    chores = {"ledger", "reaper", "alerts", "ledger.c1", "reaper.c1", "alerts.c1", "shares"}
    counts = (await wide_role.page()).decode()
    assert set(re.findall(r'_leading\{chore="([^"]+)"\} 1', counts)) >= chores
    assert await ledger.redis.exists(f"{cell(1).tag}:lead:reaper.c1")

    async def opened() -> bool:
        notes = [await ledger.redis.hget(cell(number).epoch, "known") for number in range(2)]
        return None not in notes

    await eventually(opened)


async def test_a_file_that_spreads_tenants_elsewhere_waits_for_the_end_of_all_edges(
    ledger: Ledger, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control does not start while one lives; nothing is published then."""
    monkeypatch.setattr(stores, "MOVE_WITHIN_S", 0.05)
    loaded = load_file(config_file, {})
    await live.publish_file(ledger.redis, loaded.document, by="test", why="start")
    spread(config_file)
    await ledger.redis.zadd(FIRST.beats, {"host/0.ab": 10**16})
    ended = asyncio.Event()

    def connect(_: Cell) -> Redis:
        return Redis.from_url(f"unix://{ledger.redis.get_connection_kwargs()['path']}")

    writers = [LedgerWriter(ledger.redis, ledger.path, cell=cell(n)) for n in range(2)]
    async with writers[0], writers[1]:
        ours = _control(config_file, writers, connect=connect, end=ended.set)
        async with ours.working(), asyncio.timeout(20):
            await ended.wait()
    assert str(ours.refusal) == (
        "store.cells: 1 -> 2: this changes only while nothing runs, and host/0 lives;"
        " stop every edge, and start again"
    )
    found = await live.current(ledger.redis)
    assert found is not None
    assert found.number == 1


async def test_a_cell_that_is_away_does_not_keep_the_control_from_its_work(
    ledger: Ledger, config_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ready, the first cell has its limits; the other has them as soon as it answers."""
    monkeypatch.setattr(control, "DIVIDE_EVERY_S", 0.02)
    spread(config_file)
    away = Redis.from_url(f"unix://{tmp_path}/nobody.sock")
    writers = [
        LedgerWriter(ledger.redis, ledger.path, idle_s=0.01),
        LedgerWriter(away, ledger.path, cell=cell(1), idle_s=0.01),
    ]
    async with writers[0], writers[1]:
        ours = _control(config_file, writers)
        async with ours.working():
            await eventually(lambda: runs(ours, 1))
            assert await read_scope(ledger.redis, "model:demo") is not None
            assert await read_scope(ledger.redis, "model:demo", cell(1)) is None
            ours._stores[cell(1)] = ledger.redis  # it answers now

            async def divided() -> bool:
                found = [
                    await read_scope(ledger.redis, "deployment:demo/mock", cell(n)) for n in (0, 1)
                ]
                return [one and one.limit("rpm") for one in found] == [30, 30]

            await eventually(divided)
            assert await eventually(lambda: read_scope(ledger.redis, "model:demo", cell(1)))
    await away.aclose()


async def test_limits_that_wait_for_a_cell_are_not_forgotten_for_an_earlier_version(
    ledger: Ledger, config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was owed of one version may arrive while the next is taken, which no cell has yet."""
    monkeypatch.setattr(control, "DIVIDE_EVERY_S", 0.01)
    spread(config_file)
    put: list[int] = []
    second_is_taken, first_has_arrived = asyncio.Event(), asyncio.Event()
    acknowledge = live.acknowledge

    async def scripted(_: Any, __: Any, version: int) -> int:
        put.append(version)
        if len(put) in {1, 3}:  # as each version is taken
            raise ConnectionError("away")
        if len(put) == 2:
            await second_is_taken.wait()
            first_has_arrived.set()
        return 0

    async def slow(client: Redis, replica: str, number: int, error: str | None) -> None:
        if number == 2:
            second_is_taken.set()
            await first_has_arrived.wait()
            await asyncio.sleep(0)
        await acknowledge(client, replica, number, error)

    monkeypatch.setattr(control, "put_limits", scripted)
    monkeypatch.setattr(live, "acknowledge", slow)
    writers = [LedgerWriter(ledger.redis, ledger.path, cell=cell(n)) for n in range(2)]
    async with writers[0], writers[1]:
        loaded = load_file(config_file, {})
        ours = _control(config_file, writers)
        async with ours.working():
            await eventually(lambda: runs(ours, 1))
            await eventually(lambda: was_put(put, 1, 1))
            changed = loaded.document.replace("6000", "60")
            await live.publish(ledger.redis, changed, by="test", why="less", expected=1)
            await eventually(lambda: was_put(put, 1, 1, 2, 2))


async def was_put(put: list[int], *versions: int) -> bool:
    """Tell whether these versions were put so far."""
    return put[: len(versions)] == list(versions)


async def test_experiments_are_told_where_they_stand(
    role: Control, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The share of every arm, and what was done with canaries: from 0 on, so that each move is seen."""
    await eventually(lambda: runs(role, 1))
    version = await live.current(ledger.redis)
    assert version is not None
    document = yaml.safe_load(version.document)
    document["models"]["next"] = document["models"]["demo"]
    luna = {"asked": "demo", "canary": {"model": "next", "steps": [10]}}
    document["experiments"] = {"luna": luna}
    await live.publish(ledger.redis, json.dumps(document), by="t", why="t", expected=1)

    async def told() -> bool:
        page = (await role.page()).decode()
        return all(
            line in page
            for line in (
                'penstock_experiment_share{arm="canary",experiment="luna"} 0.1',
                'penstock_experiment_share{arm="control",experiment="luna"} 0.9',
                'penstock_canary_moves_total{experiment="luna",move="begin"} 1.0',
                'penstock_canary_moves_total{experiment="luna",move="rollback"} 0.0',
            )
        )

    await eventually(told)
    # Compiled when the version was taken, not for each page.
    monkeypatch.setattr("console.control.compiled", None)
    assert await told()
