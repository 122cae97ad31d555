"""Limits of users that the configuration need not name."""

from dataclasses import replace

import pytest

from ratelimit.limits import key_of
from tests.ratelimit.cell import Cell
from tests.ratelimit.drive import DAY, FREE, MONTH, WEEK, Drive, soft
from tests.ratelimit.oracle import (
    REQUESTS,
    Limits,
)


def users_of(drive: Drive, default: Limits, **named: Limits) -> None:
    """Limit the users of `o`: what holds for all, and single ones."""
    drive.plan = replace(drive.plan, users=("o",))
    for name, row in named.items():
        drive.limits[f"user:o#{name}"] = row
        drive.cell.seed(f"user:o#{name}", row)
    drive.limits["users:o"] = default
    drive.cell.seed("users:o", default)


def test_a_user_nobody_has_heard_of_has_limits_of_his_own(cell: Cell) -> None:
    """In the first call already, and apart from all others; who is named has his own, who is nobody none."""
    drive = Drive(cell)
    users_of(drive, Limits(rpm=2), ann=Limits(rpm=3))
    granted = {
        user: sum(drive.admit(user=user)[0] == 1 for _ in range(5))
        for user in ("bob", "cy", "ann", "")
    }
    assert granted == {"bob": 2, "cy": 2, "ann": 3, "": 5}
    refused = drive.admit(user="bob")
    assert refused[:4] == [0, REQUESTS, 4, 2]


def test_a_user_without_limits_of_his_own_obeys_a_change_at_once(cell: Cell) -> None:
    """Of what holds for all; an entry of his own that was taken away (a later version does not write it) holds no more."""
    drive = Drive(cell)
    users_of(drive, Limits(rpm=2), ann=Limits(rpm=50))
    assert drive.admit(user="bob")[0] == 1
    # Half of what there was is left of what there is.
    cell.seed("users:o", Limits(version=2, rpm=4))
    assert [drive.admit(user="bob")[0] for _ in range(3)] == [1, 1, 0]
    assert [drive.admit(user="ann")[0] for _ in range(5)] == [1, 1, 1, 1, 0]


def test_before_his_limits_are_there_nobody_is_admitted(cell: Cell) -> None:
    """After a flush the record of all users is asked for, under its own name, and no state is made meanwhile."""
    drive = Drive(cell)
    users_of(drive, Limits(rpm=1))
    cell.client.delete(key_of("users:o"))
    before = cell.dump()
    assert drive.admit(user="bob") == [2, "users:o"]
    assert cell.dump() == before
    assert drive.admit(user="")[0] == 1


@pytest.mark.parametrize(("kind", "days"), [(0, 2), (DAY, 2), (WEEK, 9), (MONTH, 33), (4, 95)])
def test_what_is_kept_of_an_idle_user_passes_away(cell: Cell, kind: int, days: int) -> None:
    """When every period that it counts is over; never while something is under way, which takes a day at most."""
    drive = Drive(cell)
    users_of(drive, soft(10**9, kind) if kind else Limits(rpm=5), ann=FREE)
    for n in range(20):
        assert drive.admit(user=f"u{n}")[0] == 1
    drive.admit(user="ann")
    keys = cell.client.keys("{c0}:s:user:o#u*")
    assert len(keys) == 20
    assert all(days * 86_400 - 60 < cell.client.ttl(key) <= days * 86_400 for key in keys)
    assert cell.client.ttl(key_of("user:o#ann")) == -1
    cell.seed("user:o#u1", Limits(rpm=9))
    assert cell.client.ttl(key_of("user:o#u1")) == -1


def test_the_scopes_of_a_user_lie_in_every_organization_that_limits_users(cell: Cell) -> None:
    """All of them hold; the refusal names the one that binds."""
    drive = Drive(cell)
    users_of(drive, Limits(rpm=2))
    cell.seed("users:o/e", Limits(rpm=1))
    drive.plan = replace(drive.plan, users=("o/e", "o"))
    assert drive.admit(user="bob")[0] == 1
    assert drive.admit(user="bob")[:4] == [0, REQUESTS, 4, 1]
    assert drive.in_flight("user:o#bob") == drive.in_flight("user:o/e#bob") == 1
    assert drive.die() == 1
    assert drive.in_flight("user:o#bob") == drive.in_flight("user:o/e#bob") == 0
