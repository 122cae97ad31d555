"""Budgets, one promise after the other: what is held, what may be overshot, when a period ends and who is told."""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ratelimit import oracle
from tests.ratelimit.cell import Cell
from tests.ratelimit.drive import (
    DAY,
    FREE,
    KEY,
    MONTH,
    NOW,
    ORG,
    TEAM,
    WEEK,
    Drive,
    candidate,
    plan_of,
    soft,
    strict,
)
from tests.ratelimit.oracle import (
    BUDGET,
    HOUR,
    MINUTE,
    Limits,
    moment,
)

# Budgets...


@given(
    amount=st.integers(1, 40_000),
    story=st.lists(
        st.tuples(
            st.sampled_from(["admit", "admit", "settle", "settle", "die", "wait"]),
            st.integers(0, 5),
            st.integers(0, 5000),
            st.fractions(0, 1),
        ),
        min_size=5,
        max_size=40,
    ),
)
def test_a_strict_budget_is_never_overshot(
    cell: Cell, amount: int, story: list[tuple[str, int, int, Fraction]]
) -> None:
    """However calls interleave, spent and held stay within it, as long as none costs more than it reserved."""
    cell.client.flushall()
    plan = plan_of(candidate("d1", request=3), candidate("d2", output=3333, input=777))
    drive = Drive(cell, plan, key=strict(amount), team=strict(30_000, WEEK), org=soft(20_000))
    now = NOW
    live: list[tuple[oracle.Ask, int]] = []
    for what, which, number, share in story:
        if what == "wait":
            now += number * 1000
        elif what == "die":
            drive.die(now)
            drive.boot += "+"
            drive.batches = 0
            cell.beat(drive.boot, now, fresh=True)
            live = []
        elif what == "admit":
            ask = drive.ask(input=which * 9, bound=which * 20, cap=number, n=1 + which % 3)
            [row] = drive.send(ask, now=now)
            if row[0] == 1:
                live.append((ask, row[1]))
                least = min(number or 4096, 4096, 256)
                assert least <= row[2] <= min(number or 4096, 4096)
        elif live:
            ask, served = live.pop(which % len(live))
            lease = cell.decoded()[f"leases {drive.boot}"][ask.attempt_id]
            reserved = lease[3][3]
            drive.settle(drive.truth(ask, served, cost=int(reserved * share)), now=now)
        for scope, kind, most in ((KEY, DAY, amount), (TEAM, WEEK, 30_000)):
            if cell.decoded()[scope][1] is not None:
                spent, held = drive.money(scope, kind)
                assert spent >= 0
                assert held >= 0
                assert spent + held <= most


@given(
    amount=st.integers(1, 20_000),
    story=st.lists(
        st.tuples(
            st.sampled_from(["admit", "admit", "settle"]), st.integers(0, 5), st.integers(0, 3000)
        ),
        min_size=5,
        max_size=40,
    ),
)
def test_a_soft_budget_is_overshot_by_what_is_under_way_at_most(
    cell: Cell, amount: int, story: list[tuple[str, int, int]]
) -> None:
    """
    The bound that the docs state: once it is spent or reserved nothing more is admitted.

    So what is spent in the end is less than its amount and what the calls cost that were under way when the last one was admitted.
    """
    cell.client.flushall()
    drive = Drive(cell, team=soft(amount))
    live: list[oracle.Ask] = []
    spent = most = 0
    costs = dict(enumerate(number for _, _, number in story))
    for at, (what, which, _) in enumerate(story):
        if what == "admit":
            ask = drive.ask(cap=which * 50)
            held = sum(drive.money(TEAM, DAY)) if at and drive.made > 1 else 0
            if drive.send(ask)[0][0] == 1:
                assert held < amount
                live.append(ask)
                most = amount + sum(costs[int(one.attempt_id[1:-2]) % len(story)] for one in live)
        elif live:
            ask = live.pop(which % len(live))
            cost = costs[int(ask.attempt_id[1:-2]) % len(story)]
            spent += cost
            drive.settle(drive.truth(ask, cost=cost))
    for ask in live:
        cost = costs[int(ask.attempt_id[1:-2]) % len(story)]
        spent += cost
        drive.settle(drive.truth(ask, cost=cost))
    assert spent <= most


def test_near_its_end_a_strict_budget_shrinks_the_cap_before_it_refuses(cell: Cell) -> None:
    """Full caps first, then what is left of them, never less than 256 tokens, and only then a refusal."""
    drive = Drive(cell, key=strict(10_000))
    caps = []
    while (row := drive.admit())[0] == 1:
        caps.append(row[2])
    assert caps == [4096, 4096, 10_000 - 2 * 4106 - 10]
    assert row[:4] == [0, BUDGET, 1, 10_000]


def test_the_least_cap_is_256_or_what_was_wanted(cell: Cell) -> None:
    """266 nano-USD buy an input of 10 and a cap of 256; a caller that wants 5 gets 5 for less."""
    for room, granted in ((266, 256), (265, None)):
        cell.client.flushall()
        row = Drive(cell, key=strict(room)).admit()
        assert (row[2] if row[0] == 1 else None) == granted
    for room, granted in ((15, 5), (14, None)):
        cell.client.flushall()
        row = Drive(cell, key=strict(room)).admit(cap=5)
        assert (row[2] if row[0] == 1 else None) == granted


def test_choices_are_reserved_each(cell: Cell) -> None:
    """`n` answers cost n times the cap, and the cap that is enforced is that of each."""
    drive = Drive(cell, key=strict(3010))
    row = drive.admit(n=3)
    assert row[:3] == [1, 1, 1000]
    assert drive.money(KEY, DAY) == (0, 3010)


def test_what_gives_no_output_gets_no_cap(cell: Cell) -> None:
    """An embedding under a strict budget reserves its input, and nothing is written into its request."""
    drive = Drive(cell, key=strict(12))
    row = drive.admit(n=0, assumed=0)
    assert row[:3] == [1, 1, 0]
    assert drive.money(KEY, DAY) == (0, 10)


def test_without_a_strict_budget_the_request_is_left_alone(cell: Cell) -> None:
    """A soft budget holds what is expected and enforces nothing; it refuses once that is spent."""
    drive = Drive(cell, key=soft(150))
    assert drive.admit()[:3] == [1, 1, 0]
    assert drive.money(KEY, DAY) == (0, 100)
    assert drive.admit()[0] == 1
    assert drive.admit()[:2] == [0, BUDGET]


def test_the_binding_strict_budget_is_named(cell: Cell) -> None:
    """When no candidate is affordable, the answer names the budget with the least room, not a missing deployment."""
    plan = plan_of(candidate("d1"), candidate("d2"), candidate("d3"))
    drive = Drive(cell, plan, key=strict(9000), org=strict(200, WEEK), d2=replace(FREE, drained=1))
    row = drive.admit(excluded=(3,))
    assert row[:5] == [0, BUDGET, 3, 200, moment(2026, 6, 22) - NOW]
    assert row[7] == WEEK


def test_money_that_may_come_back_is_not_said_to_be_gone(cell: Cell) -> None:
    """While another candidate only has to be waited for, the answer is when, not that the budget is spent."""
    plan = plan_of(candidate("d1", output=10_000_000), candidate("d2", output=0))
    drive = Drive(cell, plan, key=strict(9000), d2=Limits(rpm=1))
    assert drive.admit()[:2] == [1, 2]
    row = drive.admit()
    assert row[:3] == [3, MINUTE, "74"]


def test_budgets_may_change_while_calls_run(cell: Cell) -> None:
    """What a call holds is in its lease: strict to soft, removed, added or other amounts, nothing is held forever or freed twice."""
    drive = Drive(cell, key=strict(50_000, MONTH), team=soft(50_000, DAY))
    first, second = drive.ask(), drive.ask()
    drive.send(first)

    def reconfigure(key: Limits, team: Limits) -> None:
        for version, (scope, row) in enumerate(((KEY, key), (TEAM, team)), drive.made):
            cell.seed(scope, replace(row, version=2 + version))

    reconfigure(key=soft(60_000, MONTH), team=strict(9000, DAY))
    drive.send(second)
    assert drive.money(KEY, MONTH) == (0, 4106 + 100)
    assert drive.money(TEAM, DAY) == (0, 100 + 4106)
    third = drive.ask()
    reconfigure(key=FREE, team=Limits(budgets=((DAY, 9000, 1), (WEEK, 9000, 1))))
    drive.send(third)
    drive.settle(drive.truth(first, cost=11))
    assert drive.money(KEY, MONTH) == (11, 100)
    assert drive.money(TEAM, DAY) == (11, 2 * 4106)
    drive.settle(drive.truth(second, cost=22), drive.truth(third, cost=33))
    assert drive.money(KEY, MONTH) == (33, 0)
    assert drive.money(TEAM, DAY) == (66, 0)
    assert drive.money(TEAM, WEEK) == (33, 0)


# Providers, and budgets of what serves...


def test_a_provider_is_limited_over_all_its_deployments(cell: Cell) -> None:
    """Where it is limited; a candidate of another provider goes on."""
    plan = plan_of(
        candidate("d1", limited_provider=True),
        candidate("d2", limited_provider=True),
        candidate("d3", tier=1, provider="q"),
    )
    drive = Drive(cell, plan)
    cell.seed("provider:p", Limits(rpm=2))
    rows = [drive.admit(tie=n) for n in range(3)]
    assert [row[:2] for row in rows] == [[1, 1], [1, 2], [1, 3]]
    assert rows[2][6] == "bb0"


@pytest.mark.parametrize("scope", ["deployment:d1", "model:m", "provider:p"])
def test_a_budget_of_what_serves_holds(cell: Cell, scope: str) -> None:
    """Near its end the cap shrinks; spent, it is passed over, and that is not the caller's budget."""
    plan = plan_of(
        candidate("d1", limited_provider=True), candidate("d2", model="m2", tier=1, provider="q")
    )
    drive = Drive(cell, plan)
    cell.seed(scope, strict(5000))
    rows = [drive.admit() for _ in range(3)]
    assert [row[1:3] for row in rows] == [[1, 4096], [1, 5000 - 4106 - 10], [2, 0]]
    assert rows[2][6] == "a0"
    assert drive.money(scope, DAY) == (0, 5000)
    row = drive.admit(excluded=(2,))
    assert row[:3] == [3, 0, "a8"]
    assert drive.die() == 3
    assert drive.money(scope, DAY) == (20, 0)


def test_a_strict_budget_beside_a_soft_one_for_the_same_period(cell: Cell) -> None:
    """What is held and spent counts once; each refuses at its own amount."""
    drive = Drive(cell, key=Limits(budgets=((DAY, 5000, 0), (DAY, 9000, 1))))
    ask = drive.ask(cap=500)
    drive.send(ask)
    assert drive.money(KEY, DAY) == (0, 510)
    drive.settle(drive.truth(ask, cost=400))
    assert drive.money(KEY, DAY) == (400, 0)
    rows = [drive.admit() for _ in range(3)]
    assert [row[0] for row in rows] == [1, 1, 0]
    assert rows[2][:4] == [0, BUDGET, 1, 5000]


# Raises, periods and thresholds...


def test_a_raise_holds_until_its_moment(cell: Cell) -> None:
    """To the microsecond, by the store's clock; what was spent meanwhile counts afterwards."""
    until = NOW + HOUR
    drive = Drive(cell, key=Limits(budgets=((MONTH, 1000, 0, 3000, until),)))
    first, second = drive.ask(), drive.ask()
    drive.send(first)
    drive.settle(drive.truth(first, cost=1500))
    drive.send(second, now=until - 1)
    drive.settle(drive.truth(second, cost=100), now=until - 1)
    row = drive.admit(now=until)
    assert row[:4] == [0, BUDGET, 1, 1000]
    assert drive.money(KEY, MONTH) == (1600, 0)
    assert drive.admit(now=moment(2026, 7, 1))[0] == 1


@pytest.mark.parametrize(
    ("kind", "zone", "at", "ends"),
    [
        (DAY, "UTC", moment(2026, 6, 17, 12), moment(2026, 6, 18)),
        (DAY, "Europe/Berlin", moment(2026, 6, 17, 22, 30), moment(2026, 6, 18, 22)),
        (DAY, "Europe/Berlin", moment(2026, 3, 28, 23), moment(2026, 3, 29, 22)),
        (DAY, "Europe/Berlin", moment(2026, 10, 24, 22), moment(2026, 10, 25, 23)),
        (WEEK, "America/New_York", moment(2026, 6, 17, 12), moment(2026, 6, 22, 4)),
        (MONTH, "Asia/Kolkata", moment(2026, 6, 30, 18, 29), moment(2026, 6, 30, 18, 30)),
        (4, "UTC", moment(2026, 6, 17, 12), moment(2026, 7, 1)),
        (4, "Europe/Berlin", moment(2026, 12, 31, 22), moment(2026, 12, 31, 23)),
        (5, "UTC", moment(2026, 6, 17, 12), None),
    ],
)
def test_a_period_ends_as_the_clocks_of_its_zone_say(
    cell: Cell, kind: int, zone: str, at: int, ends: int | None
) -> None:
    """Days of 23, 24 and 25 hours; the refusal says how long it still is, and a total never ends."""
    drive = Drive(cell, key=Limits(budgets=((kind, 100, 0, 0, 0, zone),)))
    assert drive.admit(now=at)[0] == 1
    row = drive.admit(now=at)
    assert row[:2] == [0, BUDGET]
    assert row[4] == (0 if ends is None else ends - at)
    if ends is None:
        assert drive.admit(now=at + 400 * 24 * HOUR)[:2] == [0, BUDGET]
    else:
        assert drive.admit(now=ends - 1)[:2] == [0, BUDGET]
        assert drive.admit(now=ends)[0] == 1


ALERTS = (50, 80, 100)


def told(cell: Cell) -> list[tuple[int, int, int]]:
    """Return (percent, amount, spent) of the events so far."""
    return [event[3:6] for event in cell.events()]


def spend(drive: Drive, cost: int, now: int = NOW) -> None:
    """Let one call cost so much."""
    ask = drive.ask()
    assert drive.send(ask, now=now)[0][0] == 1
    drive.settle(drive.truth(ask, cost=cost), now=now)


def test_each_threshold_is_told_once_per_period(cell: Cell) -> None:
    """By the settlement that reaches it, to the nano-USD, however often it is crossed; and again in the next period."""
    drive = Drive(cell, key=Limits(budgets=((MONTH, 10_000, 0, 0, 0, "UTC", ALERTS),)))
    spend(drive, 4999)
    assert told(cell) == []
    ask = drive.ask()
    drive.send(ask)
    drive.die()
    reaped = drive.money(KEY, MONTH)[0] - 4999
    assert told(cell) == [(50, 10_000, 4999 + reaped)]
    # The truth was less: below the threshold again, and once more above it.
    drive.settle(drive.truth(ask, cost=0))
    cell.beat("r/0.2", NOW, fresh=True)
    drive.boot, drive.batches = "r/0.2", 0
    spend(drive, 1)
    spend(drive, 3000)
    assert told(cell)[1:] == [(80, 10_000, 8000)]
    spend(drive, 9000)
    assert told(cell)[2:] == [(100, 10_000, 17_000)]
    july = moment(2026, 7, 1)
    cell.beat("r/0.2", july, fresh=True)
    spend(drive, 12_000, now=july)
    assert [percent for percent, *_ in told(cell)[3:]] == [50, 80, 100]
    [first, *_] = cell.events()
    assert first[:3] == (KEY, MONTH, 2026 * 12 + 6)


def test_a_raise_has_thresholds_of_its_own(cell: Cell) -> None:
    """Of the amount that holds: its half is told when that is spent, and nothing a second time when it ends."""
    until = NOW + HOUR
    plain = (MONTH, 10_000, 0, 0, 0, "UTC", ALERTS)
    drive = Drive(cell, key=Limits(budgets=(plain,)))
    spend(drive, 8500)
    raised = (MONTH, 10_000, 0, 20_000, until, "UTC", ALERTS)
    cell.seed(KEY, Limits(version=2, budgets=(raised,)))
    spend(drive, 1000)
    spend(drive, 7000)
    assert told(cell) == [
        (50, 10_000, 8500),
        (80, 10_000, 8500),
        (50, 20_000, 16_500),
        (80, 20_000, 16_500),
    ]
    ask = drive.ask()
    drive.send(ask)
    drive.settle(drive.truth(ask, cost=1000), now=until)
    assert told(cell)[4:] == [(100, 10_000, 17_500)]
    cell.seed(KEY, Limits(version=3, budgets=((MONTH, 30_000, 0, 0, 0, "UTC", ALERTS),)))
    spend(drive, 6500, now=until)
    assert told(cell)[5:] == [(80, 30_000, 24_000)]


def test_two_scopes_and_a_batch_tell_each_their_own(cell: Cell) -> None:
    """A settlement may reach thresholds of several budgets, and a batch those of several settlements: all in one step."""
    budget = (MONTH, 1000, 0, 0, 0, "UTC", (10, 100))
    drive = Drive(
        cell, key=Limits(budgets=(budget,)), org=Limits(budgets=((5, 2000, 0, 0, 0, "UTC", (60,)),))
    )
    asks = [drive.ask() for _ in range(3)]
    drive.send(*asks)
    drive.settle(*(drive.truth(ask, cost=500) for ask in asks))
    assert [(event[0], event[3]) for event in cell.events()] == [
        (KEY, 10),
        (KEY, 100),
        (ORG, 60),
    ]


def test_events_are_bounded(cell: Cell) -> None:
    """The stream forgets the oldest of many."""
    budget = (MONTH, 10**9, 0, 0, 0, "UTC", tuple(range(1, 201)))
    drive = Drive(cell, key=Limits(budgets=(budget,)))
    for month in range(60):
        at = NOW + month * 31 * 24 * HOUR
        spend(drive, 2 * 10**9, now=at)
    assert 10_000 <= len(cell.events()) < 10_200
