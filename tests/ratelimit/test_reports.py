"""What active probes found is known to all replicas: who is offline is asked only where nobody else is left."""

from typing import Any

import pytest

from governance.ledger import decode, encode
from ratelimit.health import Health, KindHealth
from ratelimit.reports import (
    LATELY_US,
    OFFLINE_AFTER,
    Finding,
    Report,
    Standing,
    read_reports,
    read_standings,
    report,
)
from store.cells import FIRST
from store.clock import EPOCH_US
from tests.console.conftest import entry
from tests.ratelimit.cell import Cell
from tests.ratelimit.drive import NOW, Drive, candidate, plan_of
from tests.ratelimit.oracle import SECOND

GONE = Finding(fine=False, why="no_connection", took_us=900)
THERE = Finding(fine=True, why="answered", took_us=1500)


async def tell(redis_client: Any, finding: Finding, times: int = 1, now: int = NOW) -> int:
    found = 0
    for _ in range(times):
        found = await report(redis_client, "d2", finding, interval_s=10, now=str(now))
    return found


async def test_probes_that_fail_in_a_row_make_offline_and_one_that_is_fine_ends_it(
    cell: Cell, redis_client: Any
) -> None:
    """One may be bad luck; a control that is gone does not keep it out for ever."""
    drive = Drive(cell, plan_of(candidate("d1"), candidate("d2")))
    assert await tell(redis_client, GONE) == 1
    assert drive.admit(tie=1)[6] == "00"
    assert await tell(redis_client, GONE, OFFLINE_AFTER - 1) == OFFLINE_AFTER
    assert drive.admit(tie=1)[6] == "0f"
    assert drive.admit(tie=1, now=NOW + 30 * SECOND)[6] == "00"
    assert await tell(redis_client, THERE) == 0
    assert drive.admit(tie=1)[6] == "00"


async def test_who_is_offline_is_asked_where_nobody_else_is_left(
    cell: Cell, redis_client: Any
) -> None:
    """A probe may be wrong; a refusal of ours would be certain."""
    drive = Drive(cell, plan_of(candidate("d2")))
    await tell(redis_client, GONE, OFFLINE_AFTER)
    row = drive.admit()
    assert (row[0], row[1], row[5]) == (1, 1, 4)


async def test_a_call_that_was_answered_closes_the_breaker_of_whole_answers(
    cell: Cell, redis_client: Any
) -> None:
    """And what it cost stands in the ledger and in its sums."""
    drive = Drive(cell, plan_of(candidate("d1"), candidate("d2")))
    for kind in (1, 1, 1, 2, 2, 2):
        drive.settle(drive.truth(drive.ask(), 2, health=2, kind=kind))
    booked = encode(entry("probe-1.1", key="probe", input_tokens=3, output_tokens=1, cost_nusd=7))
    before = cell.totals()
    called = Finding(
        fine=True,
        why="answered",
        took_us=1500,
        called=True,
        entry=booked,
        input_tokens=3,
        output_tokens=1,
        cost_nusd=7,
    )
    await tell(redis_client, called)
    assert [drive.admit(level=1, kind=kind)[6] for kind in (1, 2)] == ["00", "02"]
    after = cell.totals()
    assert after["cost_nusd"] - before["cost_nusd"] == 7
    assert after["entries"] - before["entries"] == 1
    ((_, fields),) = await redis_client.xrevrange(FIRST.ledger, count=1)
    assert decode(fields[b"e"]).key == "probe"


async def test_a_report_of_a_deployment_without_limits_is_kept_all_the_same(
    cell: Cell, redis_client: Any
) -> None:
    """The store may know of it later; nothing is written that would look like limits."""
    assert await tell(redis_client, GONE, 3) == 3
    assert await read_reports(redis_client) == {"d2": Report(NOW, False, 3, "no_connection", 900)}
    assert not await redis_client.exists("{c0}:d:d2")


async def test_standings_are_read_in_one_go(cell: Cell, redis_client: Any) -> None:
    """For all deployments, by the store's own clock."""
    Drive(cell, plan_of(candidate("d1"), candidate("d2")))
    seconds, _ = await redis_client.time()
    await tell(redis_client, GONE, OFFLINE_AFTER, now=seconds * SECOND - EPOCH_US)
    found = await read_standings(redis_client, ["d1", "d2", "d3"])
    assert {name: one.state for name, one in found.items()} == {
        "d1": "unknown",
        "d2": "offline",
        "d3": "unknown",
    }
    assert found["d3"].scope is None


def kind(*, is_open: bool) -> KindHealth:
    return KindHealth(0, 0, 0, 0, 1 if is_open else 0, 0, NOW + 1, 0)


@pytest.mark.parametrize(
    ("opened", "offline_us", "fine", "answered_us", "state", "stream"),
    [
        ((), 0, None, None, "unknown", "unknown"),
        ((), 0, True, None, "healthy", "healthy"),
        ((), 0, False, None, "unknown", "unknown"),
        ((), 0, None, 0, "healthy", "healthy"),
        ((), 0, None, LATELY_US, "unknown", "unknown"),
        (("stream",), 0, True, 0, "healthy", "offline"),
        (("whole", "stream", "tools"), 0, True, 0, "offline", "offline"),
        ((), 1, True, 0, "offline", "offline"),
    ],
)
def test_a_state_is_what_probes_and_calls_have_shown(  # noqa: PLR0917 - a table's columns
    opened: tuple[str, ...],
    offline_us: int,
    fine: bool | None,
    answered_us: int | None,
    state: str,
    stream: str,
) -> None:
    """Healthy, unknown or offline; and for each kind of call, because streaming broken is not all broken."""

    class Scope:
        latency_at_us = 0 if answered_us is None else NOW - answered_us

    standing = Standing(
        NOW,
        None if answered_us is None else Scope(),  # type: ignore[arg-type]
        Health("", {}, NOW + offline_us, {name: kind(is_open=True) for name in opened}),
        None if fine is None else Report(NOW, fine, 0, "", 1),
    )
    assert (standing.state, standing.kinds["stream"]) == (state, stream)
