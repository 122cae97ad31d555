"""Laws of `penstock health`: who serves, who does not, and why; its exit code is for scripts."""

from typing import Any

from ratelimit.reports import OFFLINE_AFTER, Finding, report
from tests.console.command_rig import typed

Api = Any  # the fixtures of this folder's conftest


async def test_health_is_told_in_a_table_or_as_json(operator: Api) -> None:
    """Nothing is wrong as long as nobody is known to be gone."""
    ended = await typed("health")
    assert ended.code == 0, ended.err
    rows = [line.split() for line in ended.out.splitlines()[1:]]
    assert [row[:2] for row in rows] == [
        ["demo/alpha", "unknown"],
        ["demo/beta", "unknown"],
        ["spare", "unknown"],
    ]
    assert [one["id"] for one in (await typed("health --json")).json["deployments"]] == [
        "demo/alpha",
        "demo/beta",
        "spare",
    ]


async def test_a_deployment_that_is_gone_is_an_exit_code(operator: Api) -> None:
    """So that a script needs not read."""
    await typed("deployment weight demo/beta 7")
    for _ in range(OFFLINE_AFTER):
        gone = Finding(fine=False, why="no_connection", took_us=900)
        await report(operator.redis, "demo/beta", gone, interval_s=30)
    ended = await typed("health")
    assert ended.code == 1
    assert "offline" in ended.out
    assert "no_connection" in ended.out
