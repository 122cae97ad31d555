"""Laws of arms: a look that goes on where the one before ended sees what a look at everything sees."""

import math
from typing import Any

import pytest

from governance.arms import ArmSums, look
from store.sql import LedgerUnreachable

Books = Any  # the fixture of this folder's conftest

AT_US = 1_795_318_572_345_678


async def test_each_arm_is_summed_and_what_is_none_of_its_tries_is_left_out(books: Books) -> None:
    """
    Corrections, what went down with a gateway, other experiments, and what was before.

    A call that went to the last resort at once is a try in vain; one that went there later is that of its first try.
    """
    ours = {"at_us": AT_US, "experiment": "luna/canary"}
    await books.append("a.1", **ours, ttft_us=1000, cost_nusd=3, defect=500)
    await books.append("b.1", **ours, outcome="overloaded", ttft_us=9, cost_nusd=9)
    await books.append("c.1", **ours, outcome="client_left")
    await books.append("c.1+settle", **ours, cost_nusd=100)
    await books.append("d.1", **ours, outcome="reaped")
    await books.append("e.1", **(ours | {"at_us": AT_US - 1}))
    await books.append("f.1", at_us=AT_US, experiment="luna/control", ttft_us=10, cost_nusd=4)
    await books.append(
        "g.1", at_us=AT_US, experiment="luna/canary/fallback", ttft_us=1, cost_nusd=1
    )
    await books.append(
        "b.2", at_us=AT_US, experiment="luna/canary/fallback", ttft_us=1, cost_nusd=1
    )
    await books.append("h.1", at_us=AT_US, experiment="luna2/canary")
    await books.append("i.1", at_us=AT_US)
    await books.drain()
    seen = look(books.path, "luna", AT_US)
    log = math.log(1000)
    assert seen.arms["luna/canary"] == ArmSums(4, 2, 1, log, log * log, 1, 3.0, 9.0, 0.5)
    assert seen.arms["luna/control"].tries == 1
    assert set(seen.arms) == {"luna/canary", "luna/control"}


async def test_a_look_goes_on_where_the_one_before_ended(books: Books) -> None:
    """Behind all that was entered, be it of others; and begins anew with another moment."""
    before = None
    for number in range(4):
        await books.append(
            f"r{number}.1", at_us=AT_US + number, experiment="luna/canary", cost_nusd=number
        )
        await books.drain()
        before = look(books.path, "luna", AT_US, before)
        assert before.arms == look(books.path, "luna", AT_US).arms
    await books.append("x.1", at_us=AT_US)
    await books.drain()
    again = look(books.path, "luna", AT_US, before)
    assert (again.arms, again.after) == (before.arms, before.after + 1)
    assert look(books.path, "luna", AT_US + 2, before).arms["luna/canary"].tries == 2


def test_no_ledger_is_said(books: Books) -> None:
    """Whoever judges has to know that there is nothing to judge by."""
    with pytest.raises(LedgerUnreachable):
        look(books.path, "luna", AT_US)
