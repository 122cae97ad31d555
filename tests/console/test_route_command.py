"""Laws of `penstock route`: a decision can be read back from the ledger, attempt by attempt."""

from typing import Any

import msgspec

from routing.decision import DECLARED, Decision, Scored, head, record
from tests.console.command_rig import typed

Api = Any  # the fixtures of this folder's conftest
Ledger = Any


async def a_call(ledger: Ledger) -> None:
    """Enter a call that was scored, failed once, and was served elsewhere."""
    scored = Decision(
        policy="cost_quality",
        asked="auto",
        places=("demo/alpha", "demo/beta", "spare"),
        chosen=0,
        lost="0e0",
        tiers=(0, 0, 1),
        models=(
            Scored("demo", 800, 900_000, 1_200_000),
            Scored("Qwen/other", 600, 90_000, 0, "quality"),
        ),
        level="normal",
        task="chat",
        delta=75,
        board=9,
    )
    first = {
        "model_asked": "auto",
        "model": "demo",
        "deployment": "demo/alpha",
        "reason": "score",
        "outcome": "overloaded",
        "status": 529,
        "decision": msgspec.json.encode(scored).decode(),
    }
    again = record(head("auto", ["demo/alpha", "demo/beta"]), 1, "80", DECLARED)
    second = first | {"deployment": "demo/beta", "reason": "retry:overloaded", "outcome": "ok"}
    await ledger.append("req_1.1", **first)
    await ledger.append(
        "req_1.2", **(second | {"status": 200, "cost_nusd": 1_500, "decision": again})
    )
    await ledger.drain()


async def test_every_candidate_of_every_attempt_is_told(operator: Api, ledger: Ledger) -> None:
    """As a table for people, as JSON for programs."""
    await a_call(ledger)
    ended = await typed("route explain req_1")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("req_1 asked for auto: 2 attempts, 0.000001500 USD\n")
    assert "attempt 1: demo/alpha, score; overloaded (529), 0.000000000 USD" in ended.out
    assert "policy cost_quality: level normal, task chat, delta 0.075, board 9" in ended.out
    lines = [line.split() for line in ended.out.splitlines()]
    spare = next(line for line in lines if line[:1] == ["spare"])
    assert spare[1:3] == ["Qwen/other", "behind"]
    assert spare[-4:] == ["1", "0.600", "0.000090", "-"]
    breaker = next(line for line in lines if line[:3] == ["demo/beta", "demo", "at"])
    assert "breaker" in breaker
    said = (await typed("route explain req_1 --json")).json
    fates = [[each["fate"] for each in one["candidates"]] for one in said["attempts"]]
    assert fates == [["chosen", "at", "behind"], ["at", "chosen"]]


async def test_a_call_that_nobody_knows_is_not_found(operator: Api) -> None:
    """Nothing on standard output."""
    ended = await typed("route explain req_unknown")
    assert (ended.code, ended.out) == (2, "")
    assert "no entry" in ended.err
