"""The overshoot drill: that its meter sees what is too much, and the whole of it, small."""

import asyncio
from pathlib import Path

import pytest

from tests.drills import overshoot
from tests.drills.overshoot import Client, Findings, Rate, judge, most_above, refused_in_vain
from tests.servers import RedisServer

RATE = Rate(limit=60, window_us=60_000_000, burst=5)


@pytest.mark.parametrize(
    ("moments", "above"),
    [
        ([0] * 5, 0),
        ([0] * 6, 1),
        ([0, 0, 0, 0, 0, 1_000_000, 2_000_000], 0),
        ([0, 0, 0, 0, 0, 500_000, 1_000_000], 1),
        ([2_000_000, *[0] * 5, 1_000_000], 0),
        ([0, *[100_000_000] * 6], 1),
        ([0], -4),
    ],
)
def test_the_meter_sees_what_is_too_much(moments: list[int], above: float) -> None:
    """Five in hand and one per second, over any interval; the order does not matter."""
    assert most_above(moments, RATE) == pytest.approx(above)


@pytest.mark.parametrize(
    ("granted", "refused", "vain"),
    [
        ([0] * 5, [0, 999_999], 0),
        ([0] * 5, [1_000_000], 1),
        ([0] * 4, [0], 1),
        ([0] * 5, [0, 0, 2_500_000, 2_500_000], 2),
        ([0] * 5 + [1_000_000], [1_000_000, 1_500_000], 0),
    ],
)
def test_what_was_refused_in_vain_is_counted(
    granted: list[int], refused: list[int], vain: int
) -> None:
    """By the same bucket: five in hand and one per second."""
    assert refused_in_vain(granted, refused, RATE) == vain


async def test_the_whole_drill_in_small(redis_server: RedisServer, redis_client: object) -> None:
    """Two processes, a few hundred grants: laws kept, books equal, and the judge looks at all of it."""
    found = await overshoot.drill(
        str(redis_server.socket), admissions=400, seed=3, clients=2, mortal=False
    )
    assert found.broken == []
    assert found.granted >= 400
    assert found.answers["budget"] > 0
    assert found.ledger["ok"] == found.settled > 0
    assert all(0 <= one < 100 for one in found.under_grant_percent.values())
    assert any("strict" in scope for scope in found.under_grant_percent)
    assert "granted of" in overshoot.tell(found)


async def test_what_is_broken_is_said(redis_server: RedisServer, redis_client: object) -> None:
    """Overshoot, too much in flight, too many requests, and books that differ."""
    watch = overshoot.Watch(str(redis_server.socket), Findings())
    await watch.seed()
    await watch.look()
    found = Findings(overshoot_nusd=1, most_in_flight_over=2)
    part = Client(settled=1, cost_nusd=7)
    part.granted_us["key:o/hard/brief"] = overshoot.array("q", [0] * 50)
    judge(found, [part], watch, (3, 4))
    await watch.close()
    said = "; ".join(found.broken)
    for words in ("overshot by 1", "2 more in flight", "30.0 requests too many", "not the totals"):
        assert words in said
    assert "the clients (1, 7)" in said


def test_a_client_that_fails_is_told(tmp_path: Path) -> None:
    """Rather than waited for."""
    told: asyncio.Queue[Client] = asyncio.Queue()

    class Results:
        put = staticmethod(told.put_nowait)

    overshoot._client(str(tmp_path / "none.sock"), 1, 1, 1, Results, mortal=False)
    assert "client 1 failed" in told.get_nowait().wrong[0]
