"""
What active probes found, as all replicas know it.

A report lies beside the deployment's health: `admit` sees that it is offline, and people see when it was probed and why it failed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import msgpack
from redis.asyncio import Redis

from ratelimit.health import Health, decode_health
from ratelimit.limits import ScopeState, decode_scope, deployment_key
from ratelimit.upkeep import run
from store.cells import FIRST, Cell
from store.clock import EPOCH_US

__all__ = ["STATES", "Finding", "Report", "Standing", "read_reports", "read_standings", "report"]

STATES = ("healthy", "unknown", "offline")

# So many probes that fail in a row, and nobody is sent there before one is fine.
OFFLINE_AFTER = 2
# A report is believed for so many intervals.
GOOD_FOR = 3
# What was answered within so long says that it is well, probed or not.
LATELY_US = 60_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """
    What one probe found: `why` is a word, `fine` when it is.

    `called` is a call that the deployment answered; `entry` is what the ledger keeps of its cost, with the tokens and nano-USD of it.
    """

    fine: bool
    why: str
    took_us: int
    called: bool = False
    entry: bytes = b""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nusd: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """The last probe of a deployment; `at_us` is us since 2024-01-01."""

    at_us: int
    fine: bool
    failures: int
    why: str
    took_us: int


@dataclass(frozen=True, slots=True)
class Standing:
    """All that is known of a deployment's health at a moment (us since 2024-01-01)."""

    now_us: float
    scope: ScopeState | None
    health: Health
    report: Report | None

    @property
    def state(self) -> str:
        """`healthy`, `unknown` or `offline`."""
        health, now = self.health, self.now_us
        words = [kind.state(now) for kind in health.kinds.values()]
        broken = [word for word in words if word in {"open", "half_open"}]
        if health.offline_until_us > now or len(broken) == len(_KINDS):
            return "offline"
        probed = self.report is not None and self.report.fine
        answered = self.scope is not None and self.scope.latency_at_us + LATELY_US > now
        return "healthy" if probed or answered else "unknown"

    @property
    def kinds(self) -> dict[str, str]:
        """The same for each kind of call: a whole answer, a stream, tools."""
        found = dict.fromkeys(_KINDS, self.state)
        for name, kind in self.health.kinds.items():
            if kind.state(self.now_us) in {"open", "half_open"}:
                found[name] = "offline"
        return found


_KINDS = ("whole", "stream", "tools")


def _reports(cell: Cell) -> str:
    return f"{cell.tag}:hp"


async def report(
    client: Redis,
    deployment: str,
    finding: Finding,
    *,
    interval_s: float,
    cell: Cell = FIRST,
    now: str = "",
) -> int:
    """Tell all replicas of a finding. Returns how many probes have failed in a row."""
    return int(
        await run(
            client,
            "report",
            [deployment_key(deployment, cell), _reports(cell), cell.ledger, cell.totals],
            [
                now,
                deployment,
                int(finding.fine),
                OFFLINE_AFTER,
                int(GOOD_FOR * interval_s * 1_000_000),
                finding.why,
                finding.took_us,
                int(finding.called),
                finding.entry,
                finding.input_tokens,
                finding.output_tokens,
                finding.cost_nusd,
            ],
        )
    )


async def read_reports(client: Redis, cell: Cell = FIRST) -> dict[str, Report]:
    """Return the last report of each deployment that was ever probed."""
    found = cast("dict[bytes, bytes]", await client.hgetall(_reports(cell)))
    reports = {}
    for name, packed in found.items():
        at_us, fine, failures, why, took_us = msgpack.unpackb(packed)
        reports[name.decode()] = Report(int(at_us), fine == 1, int(failures), why, int(took_us))
    return reports


async def read_standings(
    client: Redis, deployments: Iterable[str], cell: Cell = FIRST
) -> dict[str, Standing]:
    """Return all that is known of the health of these deployments."""
    names = list(deployments)
    pipe = client.pipeline(transaction=False)
    # What a pipeline takes it only notes; its types say otherwise.
    _ = pipe.time()
    for name in names:
        _ = pipe.hmget(deployment_key(name, cell), ["l2", "s2", "h"])
    (seconds, micros), *found = await pipe.execute()
    now_us = seconds * 1_000_000 + micros - EPOCH_US
    reports = await read_reports(client, cell)
    return {
        name: Standing(
            now_us,
            None if limits is None else decode_scope(limits, state),
            decode_health(told),
            reports.get(name),
        )
        for name, (limits, state, told) in zip(names, found, strict=True)
    }
