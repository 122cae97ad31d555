"""
The promises of admission and settlement, one by one, on a real server with the test's own clock.

`test_timelines` holds the scripts to the oracle; here stands what must be true whatever the oracle says.
"""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
import redis

from governance.ledger import decode
from ratelimit.asks import boot_of
from ratelimit.limits import key_of
from store.cells import FIRST
from tests.conftest import RedisServer
from tests.ratelimit import oracle
from tests.ratelimit.cell import LIFE, PLACES, Cell
from tests.ratelimit.drive import (
    DAY,
    KEY,
    MONTH,
    NOW,
    ORG,
    TEAM,
    TOTAL,
    WEEK,
    Drive,
    candidate,
    plan_of,
    soft,
    strict,
)
from tests.ratelimit.oracle import (
    BUDGET,
    CONCURRENCY,
    HOUR,
    MINUTE,
    REQUESTS,
    SECOND,
    TOKENS,
    TOO_LARGE,
    Limits,
    moment,
)

# A denied ask changes no key...

DENIALS: dict[str, tuple[dict[str, Limits], dict[str, Any], list[Any]]] = {
    "requests": ({"team": Limits(rpm=1)}, {}, [0, REQUESTS, 2, 1]),
    "tokens": ({"org": Limits(tpm=150)}, {}, [0, TOKENS, 3, 150]),
    "concurrency": ({"key": Limits(concurrency=1)}, {}, [0, CONCURRENCY, 1, 1]),
    "a soft budget": ({"key": soft(100)}, {}, [0, BUDGET, 1, 100]),
    "a strict budget": ({"org": strict(4106)}, {}, [0, BUDGET, 3, 4106]),
    "too large": ({"key": Limits(tpm=200)}, {"input": 201}, [0, TOO_LARGE, 1, 200]),
    "the deployment's requests": ({"d1": Limits(rpm=1)}, {}, [3]),
    "the deployment's tokens": ({"d1": Limits(tpm=150)}, {}, [3]),
    "the deployment's concurrency": ({"d1": Limits(concurrency=1)}, {}, [3]),
    "the model's limits": ({"model": Limits(rpm=1)}, {}, [3]),
    "everything tried": ({}, {"excluded": (1,)}, [3]),
}


@pytest.mark.parametrize("why", DENIALS)
def test_a_denied_ask_changes_no_key(cell: Cell, why: str) -> None:
    """Whatever refuses it, not one byte on the server is another one."""
    limits, wish, row = DENIALS[why]
    drive = Drive(cell, **limits)
    assert drive.admit()[0] == 1
    before = cell.dump()
    answer = drive.admit(now=NOW + 1, **wish)
    assert answer[: len(row)] == row
    assert cell.dump() == before


def test_a_denied_ask_takes_nothing_beside_a_granted_one(cell: Cell) -> None:
    """A batch with a refusal in it leaves what the same batch without it leaves."""
    drive = Drive(cell, key=Limits(tpm=1000), d1=Limits(concurrency=9))
    asks = drive.ask(), drive.ask(cap=5000), drive.ask()
    assert [row[0] for row in drive.send(*asks)] == [1, 0, 1]
    mixed = cell.dump()
    cell.client.flushall()
    drive.seed()
    cell.beat(drive.boot, NOW, fresh=True)
    assert [row[0] for row in drive.send(asks[0], asks[2])] == [1, 1]
    assert cell.dump() == mixed


def test_a_refusal_says_when_it_frees_and_keeps_its_word(cell: Cell) -> None:
    """An ask that comes back at the moment it was told is granted; one that comes a microsecond before is not."""
    drive = Drive(cell, key=Limits(rpm=7), team=Limits(tpm=700))
    while (row := drive.admit())[0] == 1:
        pass
    wait = row[4]
    assert 0 < wait <= MINUTE
    assert drive.admit(now=NOW + wait - 1)[0] == 0
    assert drive.admit(now=NOW + wait)[0] == 1


# Tiers of an ask's own...


def test_an_ask_may_rank_the_candidates_itself(cell: Cell) -> None:
    """Its tiers stand in place of the plan's, the lowest that can serve wins, and 255 is never chosen, not even of failing ones."""
    plan = plan_of(candidate("d1"), candidate("d2", tier=1), candidate("d3", tier=2))
    drive = Drive(cell, plan, d2=Limits(concurrency=1))
    assert drive.admit()[1] == 1
    assert drive.admit(tiers=(2, 0, 1))[1:2] == [2]
    granted = drive.admit(tiers=(2, 0, 1))
    assert (granted[1], granted[5], granted[6]) == (3, 2, "030")
    assert drive.admit(tiers=(254, 255, 255))[6] == "0dd"
    nobody = drive.admit(tiers=(255, 0, 255))
    assert (nobody[0], nobody[2]) == (3, "d3d")


def test_who_is_left_out_by_an_ask_does_not_say_when_it_can_come_back(cell: Cell) -> None:
    """A refusal by the caller's own limit waits for the vendors' limits that count for this ask, and for no others."""
    plan = plan_of(candidate("d1"), candidate("d2"))
    drive = Drive(cell, plan, key=Limits(rpm=60, burst=(("rpm", 1),)), d1=Limits(rpm=1))
    assert drive.admit(tiers=(0, 1))[1] == 1
    assert drive.admit(tiers=(0, 255))[4] == MINUTE
    assert drive.admit(tiers=(255, 0))[4] == SECOND


# Fees...


def test_what_is_not_sold_by_the_token_is_reserved(cell: Cell) -> None:
    """A strict budget holds the fee of the candidate that is chosen, refuses what it cannot hold, and the reaper charges it."""
    plan = plan_of(candidate("d1"), candidate("d2", tier=1))
    drive = Drive(cell, plan, key=strict(1000))
    tokens = {"input": 0, "bound": 0, "n": 0}
    assert drive.admit(fees=(600, 400), **tokens)[:2] == [1, 1]
    assert drive.admit(fees=(600, 400), **tokens)[:2] == [1, 2]
    assert drive.admit(fees=(1, 1), **tokens)[:2] == [0, BUDGET]
    assert drive.die() == 2
    entries = [decode(fields[b"e"]) for _, fields in cell.client.xrange(FIRST.ledger)]
    assert sorted(entry.cost_nusd for entry in entries) == [400, 600]


def test_what_has_told_how_far_it_was_owes_that(cell: Cell) -> None:
    """A session that had said nothing when its edge died owes nothing, however much was held for it."""
    drive = Drive(cell, plan_of(candidate("d1")), key=strict(1000))
    ask = drive.ask(fees=(600,), input=0, bound=0, n=0)
    assert drive.send(ask)[0][:2] == [1, 1]
    cell.progress(drive.boot, [(ask.attempt_id, 0)])
    assert drive.die() == 1
    entries = [decode(fields[b"e"]) for _, fields in cell.client.xrange(FIRST.ledger)]
    assert [entry.cost_nusd for entry in entries] == [0]


# Within a batch, and again...


def test_every_ask_of_a_batch_sees_what_the_ones_before_it_took(cell: Cell) -> None:
    """A batch answers and leaves exactly what its asks would one by one."""
    plan = plan_of(candidate("d1"), candidate("d2"), candidate("d3", tier=1))
    limits = {
        "key": Limits(rpm=20, tpm=5000),
        "team": strict(60_000),
        "d1": Limits(concurrency=3),
        "d2": Limits(tpm=500),
    }
    drive = Drive(cell, plan, **limits)
    asks = [drive.ask(cap=20 * n, tie=n) for n in range(1, 40)]
    together, left = drive.send(*asks), cell.dump()
    assert {row[0] for row in together} >= {0, 1}
    cell.client.flushall()
    drive = Drive(cell, plan, **limits)
    assert [drive.send(ask)[0] for ask in asks] == together
    assert cell.dump() == left


def test_an_attempt_that_is_asked_again_gets_the_answer_that_it_had(cell: Cell) -> None:
    """The lease is the answer: nothing is taken a second time, whatever has changed since."""
    drive = Drive(cell, plan_of(candidate("d1"), candidate("d2")), key=strict(5000))
    asks = [drive.ask(tie=1), drive.ask(cap=300)]
    first = drive.send(*asks)
    before = cell.dump()
    second = drive.send(*asks, now=NOW + SECOND, again=True)
    assert [row[:4] for row in second] == [row[:4] for row in first]
    after = cell.dump()
    assert after.pop(boot_of(drive.boot).bar) == ("string", b"2")
    assert after == before


def test_what_was_not_granted_before_is_decided_when_it_is_asked_again(cell: Cell) -> None:
    """Only leases are remembered: an ask that never ran, or was refused, is a new one."""
    drive = Drive(cell, key=Limits(concurrency=1))
    had, refused = drive.ask(), drive.ask()
    assert [row[0] for row in drive.send(had, refused)] == [1, 0]
    drive.settle(drive.truth(had))
    assert drive.send(refused, again=True)[0][0] == 1


def test_a_sending_that_was_overtaken_takes_nothing(cell: Cell) -> None:
    """The server comes late to a command of a connection that was given up: its asks were granted again, or nobody waits."""
    drive = Drive(cell)
    ask, gone = drive.ask(), drive.ask()
    drive.send(ask, again=True)  # number 1: nothing of it had reached the server
    drive.send(ask, again=True)
    drive.settle(drive.truth(ask))
    before = cell.dump()
    assert cell.admit(drive.boot, [ask], 1, NOW, again=False) == "LATE"
    assert cell.dump() == before
    drive.settle(drive.void(gone), void_to=4)
    assert cell.admit(drive.boot, [gone], 3, NOW, again=False) == "LATE"
    assert drive.in_flight(KEY) == 0
    drive.sendings = 3
    assert drive.admit()[0] == 1


# Settlement...


def test_a_batch_that_is_settled_twice_changes_nothing(cell: Cell) -> None:
    """The second time it is SEEN, and so is every batch before it; not a byte is another one."""
    drive = Drive(cell, key=strict(50_000), org=Limits(rpm=9, tpm=9000))
    asks = [drive.ask() for _ in range(4)]
    drive.send(*asks)
    first = [drive.truth(ask) for ask in asks[:2]]
    assert drive.settle(*first) == 2
    assert drive.settle(*(drive.truth(ask) for ask in asks[2:])) == 2
    before = cell.dump()
    for number in (1, 2):
        assert cell.settle(drive.boot, number, first, 0, NOW + SECOND) == "SEEN"
    assert cell.dump() == before


def test_settling_gives_back_what_was_estimated_and_charges_what_was_used(cell: Cell) -> None:
    """Tokens, money, concurrency: afterwards it is as if the truth had been known from the start."""
    drive = Drive(cell, key=replace(strict(50_000), rpm=6, tpm=60_000, concurrency=4))
    ask = drive.ask(cap=1000)
    drive.send(ask)
    spent, held = drive.money(KEY, DAY)
    assert (spent, held) == (0, 1010)
    assert (drive.bucket(KEY, "rpm"), drive.bucket(KEY, "tpm")) == (10 * SECOND, 1010 * 1000)
    assert drive.in_flight(KEY) == 1
    drive.settle(drive.truth(ask, input=20, output=100, cost=777))
    assert drive.money(KEY, DAY) == (777, 0)
    assert (drive.bucket(KEY, "rpm"), drive.bucket(KEY, "tpm")) == (10 * SECOND, 120 * 1000)
    assert drive.in_flight(KEY) == 0


def test_use_beyond_the_estimate_is_a_debt_that_waiting_pays(cell: Cell) -> None:
    """Tokens that were used are used: the next ask waits until they have been regained."""
    drive = Drive(cell, key=Limits(tpm=1000))
    ask = drive.ask(cap=90)
    drive.send(ask)
    drive.settle(drive.truth(ask, output=2990))
    row = drive.admit(cap=90)
    assert row[:2] == [0, TOKENS]
    assert row[4] == 2 * MINUTE + 6 * SECOND
    assert drive.admit(now=NOW + row[4], cap=90)[0] == 1


def test_a_void_gives_back_all_but_the_request(cell: Cell) -> None:
    """An answer that came too late costs its caller nothing, and leaves no entry."""
    drive = Drive(cell, key=replace(strict(50_000), tpm=1000, concurrency=1))
    ask = drive.ask()
    drive.send(ask)
    drive.settle(drive.void(ask))
    assert (drive.bucket(KEY, "tpm"), drive.in_flight(KEY)) == (0, 0)
    assert drive.money(KEY, DAY) == (0, 0)
    assert cell.ledger() == []
    assert drive.settle(drive.void(ask)) == 1
    assert drive.in_flight(KEY) == 0


def test_a_void_that_comes_after_the_reaper_takes_back_what_was_charged(cell: Cell) -> None:
    """The attempt was never sent: its correction says so, and what is charged for it in the end is nothing."""
    drive = Drive(cell, key=replace(strict(50_000), tpm=1000, concurrency=1))
    ask = drive.ask(user="ann")
    drive.send(ask)
    assert drive.die(NOW + 5 * SECOND) == 1
    assert drive.money(KEY, DAY)[0] > 0
    drive.settle(drive.void(ask), drive.void(ask), now=NOW + 6 * SECOND)
    drive.settle(drive.void(ask), drive.truth(ask), now=NOW + 6 * SECOND)
    assert drive.money(KEY, DAY) == (0, 0)
    reaped, taken_back = cell.ledger()
    assert taken_back[0] == reaped[0] + "+settle"
    assert [taken_back[at] + reaped[at] for at in (14, 17, 21)] == [0, 0, 0]
    assert taken_back[1:4] == reaped[1:4]
    assert taken_back[7] == "ann"
    assert taken_back[11:14] == reaped[11:14]
    assert (taken_back[24], taken_back[25], taken_back[27]) == (6 * SECOND, "void", "none")


def test_a_batch_with_a_fault_in_it_changes_nothing(cell: Cell) -> None:
    """Everything is reckoned before anything is written, so that an error cannot apply one half again and again."""
    drive = Drive(cell, key=strict(50_000))
    good, bad = drive.ask(), drive.ask()
    drive.send(good, bad)
    drive.die()
    before = cell.dump()
    with pytest.raises(redis.ResponseError):
        drive.settle(drive.truth(good), drive.truth(bad, entry=("no entry",)))
    assert cell.dump() == before


def test_a_server_without_memory_refuses_whole_batches(make_redis: Any) -> None:
    """OOM strikes before the first write: neither an ask nor a settlement is half done."""
    server: RedisServer = make_redis()
    with redis.Redis.from_url(server.url) as client:
        cell = Cell(client)
        drive = Drive(cell, key=strict(50_000))
        ask = drive.ask()
        drive.send(ask)
        before = cell.dump()
        client.config_set("maxmemory", 1)
        with pytest.raises(redis.ResponseError, match=r"maxmemory|OOM"):
            drive.admit()
        with pytest.raises(redis.ResponseError, match=r"maxmemory|OOM"):
            drive.settle(drive.truth(ask))
        assert cell.dump() == before
        client.config_set("maxmemory", 0)
        drive.batches -= 1
        assert drive.settle(drive.truth(ask)) == 1


# Books that add up...


def test_the_totals_are_the_sum_of_the_ledger(cell: Cell) -> None:
    """Settled, reaped, corrected, lost: every entry is counted, and each once."""
    drive = Drive(cell, key=strict(10**9, MONTH))
    asks = [drive.ask() for _ in range(6)]
    drive.send(*asks)
    drive.settle(*(drive.truth(ask, cost=100 + n) for n, ask in enumerate(asks[:2])))
    cell.progress(drive.boot, [(asks[2].attempt_id, 50), (asks[3].attempt_id, 7)])
    drive.settle(drive.truth(drive.ask(), cost=5))
    assert drive.die() == 4
    drive.settle(drive.truth(asks[2], output=60, cost=70), drive.truth(asks[4], cost=1))
    ledger = cell.ledger()
    assert len(ledger) == 9
    assert cell.totals() == {
        "entries": len(ledger),
        "input_tokens": sum(entry[PLACES["input"]] for entry in ledger),
        "output_tokens": sum(entry[PLACES["output"]] for entry in ledger),
        "cost_nusd": sum(entry[PLACES["cost"]] for entry in ledger),
    }
    assert drive.money(KEY, MONTH) == (cell.totals()["cost_nusd"], 0)


def test_the_entry_of_the_reaper_is_one_that_the_ledger_can_read(cell: Cell) -> None:
    """It names the attempt, who served it and what was streamed; the rest was known when the plan was made."""
    drive = Drive(cell, plan_of(candidate("d/ö:1", provider="prov")))
    ask = drive.ask(attempt_id="01J.x.3", user="ü" * 40, input=12)
    drive.send(ask)
    cell.progress(drive.boot, [(ask.attempt_id, 5), (ask.attempt_id, 40)])
    drive.die(NOW + 7 * SECOND)
    [(_, fields)] = cell.client.xrange(FIRST.ledger)
    entry = decode(fields[b"e"])
    assert (entry.attempt_id, entry.request_id, entry.attempt) == ("01J.x.3", "01J.x", 3)
    assert entry.at_us == NOW + oracle.EPOCH_US
    assert (entry.user, entry.model, entry.deployment) == ("ü" * 40, "m", "d/ö:1")
    assert (entry.provider, entry.outcome, entry.organization) == ("prov", "reaped", "o")
    assert (entry.input_tokens, entry.output_tokens, entry.cost_nusd) == (12, 40, 52)
    assert entry.duration_us == 7 * SECOND


def test_a_settlement_after_the_reaper_corrects_it_once(cell: Cell) -> None:
    """The two entries together say the truth, and the budget says so, too; asked again, nothing is added."""
    drive = Drive(cell, key=strict(50_000, MONTH), org=Limits(tpm=60_000))
    ask = drive.ask()
    drive.send(ask)
    cell.progress(drive.boot, [(ask.attempt_id, 100)])
    assert drive.die() == 1
    assert drive.money(KEY, MONTH) == (110, 0)
    late = drive.truth(ask, input=30, output=60, cost=90)
    drive.settle(late)
    [(_, _), (_, fields)] = cell.client.xrange(FIRST.ledger)
    entry = decode(fields[b"e"])
    assert entry.attempt_id == "q1.1+settle"
    assert (entry.input_tokens, entry.output_tokens, entry.cost_nusd) == (20, -40, -20)
    assert cell.totals() == {
        "entries": 2,
        "input_tokens": 30,
        "output_tokens": 60,
        "cost_nusd": 90,
    }
    assert drive.money(KEY, MONTH) == (90, 0)
    assert drive.bucket(ORG, "tpm") == 90 * 1000
    before = cell.dump()
    drive.settle(late)
    after = cell.dump()
    seen = boot_of(drive.boot).seen
    assert (before.pop(seen), after.pop(seen)) == (("string", b"1"), ("string", b"2"))
    assert after == before


def test_a_correction_goes_to_the_period_of_the_call(cell: Cell) -> None:
    """A replica that comes back after midnight neither burdens the new day nor gives it money."""
    night = moment(2026, 6, 17, 23, 59, 50)
    drive = Drive(cell, key=Limits(budgets=((DAY, 50_000, 1), (MONTH, 90_000, 1))))
    ask = drive.ask()
    drive.send(ask, now=night)
    cell.progress(drive.boot, [(ask.attempt_id, 100)])
    drive.die(night + 5 * SECOND)
    drive.settle(drive.truth(ask, cost=10), now=night + 20 * SECOND)
    assert drive.money(KEY, DAY) == (0, 0)
    assert drive.money(KEY, MONTH) == (10, 0)


def test_a_call_over_midnight_is_charged_to_the_day_on_which_it_began(cell: Cell) -> None:
    """The hold ends with the period, and the cost does not enter the new one."""
    night = moment(2026, 6, 17, 23, 59, 50)
    drive = Drive(cell, key=Limits(budgets=((DAY, 50_000, 1), (WEEK, 90_000, 0))))
    ask = drive.ask(cap=500)
    drive.send(ask, now=night)
    drive.settle(drive.truth(ask, cost=400), now=night + 20 * SECOND)
    assert drive.money(KEY, DAY) == (0, 0)
    assert drive.money(KEY, WEEK) == (400, 0)


# Lives...


def test_a_fenced_replica_cannot_admit(cell: Cell) -> None:
    """From the moment it is fenced until it comes back under a new boot; also when the store has forgotten it."""
    drive = Drive(cell)
    drive.admit(now=NOW + 2 * LIFE)  # late, but nobody has said that it is dead
    assert cell.fence(NOW + LIFE - 1) == set()
    assert cell.fence(NOW + LIFE) == {drive.boot}
    before = cell.dump()
    assert cell.admit(drive.boot, [drive.ask()], 9, NOW, again=False) == "FENCED"
    assert cell.beat(drive.boot, NOW, fresh=False) == "FENCED"
    assert cell.dump() == before
    drive.die()
    assert cell.admit(drive.boot, [drive.ask()], 9, NOW, again=False) == "FENCED"
    assert cell.beat("r/0.2", NOW, fresh=True) == "OK"
    drive.boot = "r/0.2"
    assert drive.admit()[0] == 1


def test_the_living_are_not_reaped(cell: Cell) -> None:
    """A reaper that was slow finds a replica alive again, and leaves it alone."""
    drive = Drive(cell)
    ask = drive.ask()
    drive.send(ask)
    assert cell.reap(drive.boot, [ask.attempt_id], NOW + 9 * LIFE) == "ALIVE"
    assert drive.in_flight(KEY) == 1


def test_a_clock_that_steps_back_keeps_no_dead_replica_alive(cell: Cell) -> None:
    """A beat from a future that was none is good for a minute at most."""
    drive = Drive(cell)
    assert cell.fence(NOW - 5 * HOUR) == set()
    assert cell.fence(NOW - 5 * HOUR + MINUTE) == {drive.boot}


def test_the_reaper_takes_each_lease_once_and_forgets_the_boot(cell: Cell) -> None:
    """However many reapers, in whatever portions; in the end nothing of the boot is left but its tombstones."""
    drive = Drive(cell, key=replace(strict(90_000), concurrency=5))
    asks = [drive.ask() for _ in range(5)]
    drive.send(*asks)
    ids = [ask.attempt_id for ask in asks]
    cell.progress(drive.boot, [(one, 3) for one in ids])
    cell.client.zadd(FIRST.beats, {drive.boot: oracle.DEAD})
    for _ in range(2):
        assert cell.fence(NOW) == {drive.boot}
    assert cell.reap(drive.boot, ids[:2], NOW) == 2
    assert drive.in_flight(KEY) == 3
    assert cell.client.hlen(boot_of(drive.boot).parts) == 3
    cell.client.hset(boot_of(drive.boot).parts, "stray.1", 1)
    assert cell.reap(drive.boot, ids, NOW) == 3
    assert cell.reap(drive.boot, ids, NOW) == 0
    assert drive.in_flight(KEY) == 0
    assert drive.money(KEY, DAY) == (5 * 13, 0)
    boot = boot_of(drive.boot)
    assert cell.client.exists(boot.leases, boot.parts, FIRST.beats) == 0
    assert cell.client.hlen(boot.graves) == 5


SILENCE = 0


def test_what_a_silent_replica_reserved_of_strict_budgets_stays(cell: Cell) -> None:
    """It may come back and use all of it: what the reaper charges is taken from that, and the rest is nobody else's."""
    drive = Drive(cell, key=replace(strict(1000), concurrency=1), team=soft(1000))
    ask = drive.ask(cap=900)
    drive.send(ask)
    assert drive.money(KEY, DAY) == (0, 910)
    assert drive.die(how=SILENCE) == 1
    assert drive.money(KEY, DAY) == (10, 900)
    assert drive.money(TEAM, DAY) == (10, 0)
    assert drive.in_flight(KEY) == 0
    drive.boot = "r/0.2"
    cell.beat(drive.boot, NOW, fresh=True)
    assert drive.admit(cap=81)[0] != 1
    other = drive.ask(cap=80)
    assert drive.send(other)[0][0] == 1
    drive.settle(drive.truth(other, cost=90))
    drive.boot = "r/0.1"
    drive.settle(drive.truth(ask, cost=910))
    assert drive.money(KEY, DAY) == (1000, 0)
    assert drive.money(TEAM, DAY) == (1000, 0)


@pytest.mark.parametrize("cost", [0, 7, 910])
def test_a_late_settlement_lets_go_what_stayed(cell: Cell, cost: int) -> None:
    """Once, whatever it used, and also when it was never sent; and there is nothing more to let go."""
    drive = Drive(cell, key=strict(1000), team=strict(5000))
    ask = drive.ask(cap=900)
    drive.send(ask)
    drive.die(how=SILENCE)
    drive.settle(drive.truth(ask, cost=cost) if cost else drive.void(ask))
    assert drive.money(KEY, DAY) == (cost, 0)
    assert drive.money(TEAM, DAY) == (cost, 0)
    cell.client.zadd(FIRST.beats, {drive.boot: oracle.DEAD}, xx=True)
    assert cell.fence(NOW + HOUR) == {drive.boot}
    assert cell.reap(drive.boot, [ask.attempt_id], NOW + HOUR) == 0
    assert drive.money(KEY, DAY) == (cost, 0)
    assert not cell.client.exists(FIRST.beats)


def test_what_stayed_is_let_go_when_its_replica_is_known_to_be_dead(cell: Cell) -> None:
    """Nothing of it will be used any more: what was charged stays, and the rest is free."""
    drive = Drive(cell, key=strict(1000))
    ask = drive.ask(cap=900)
    drive.send(ask)
    drive.die(how=SILENCE)
    assert cell.fence(NOW + 5 * SECOND) == set()
    cell.client.zadd(FIRST.beats, {drive.boot: oracle.DEAD}, xx=True)
    assert cell.fence(NOW + 5 * SECOND) == {drive.boot}
    for _ in range(2):
        assert cell.reap(drive.boot, [ask.attempt_id], NOW + 5 * SECOND) == 0
        assert drive.money(KEY, DAY) == (10, 0)
    assert not cell.client.exists(FIRST.beats)


@pytest.mark.parametrize("silence", [HOUR, 400 * 24 * HOUR, -2 * HOUR])
def test_no_silence_is_long_enough_to_be_death(cell: Cell, silence: int) -> None:
    """What may still be used is nobody else's, and is charged once, whenever it settles; also where clocks step back."""
    drive = Drive(cell, key=strict(1000, TOTAL))
    ask = drive.ask(cap=900)
    drive.send(ask)
    drive.die(how=SILENCE)
    then = NOW + silence
    assert cell.fence(then) == set()
    # A reaper that comes to it now, because it was told so before, leaves it as it is.
    assert cell.reap(drive.boot, [ask.attempt_id], then) == 0
    assert drive.money(KEY, TOTAL) == (10, 900)
    drive.settle(drive.truth(ask, cost=910), now=then)
    assert drive.money(KEY, TOTAL) == (910, 0)


def test_what_is_charged_for_the_silent_is_remembered_until_they_are_dead(cell: Cell) -> None:
    """Neither tombstone nor the number of the last batch fades before; then both do."""
    drive = Drive(cell, key=strict(90_000))
    boot = boot_of(drive.boot)
    # As a replica that is born writes it.
    cell.client.set(boot.seen, 0)
    early, late = drive.ask(), drive.ask()
    drive.send(early, late)
    drive.settle(drive.truth(early))
    drive.die(how=SILENCE)
    drive.settle(drive.truth(late))
    assert [cell.client.ttl(key) for key in (boot.graves, boot.seen)] == [-1, -1]
    assert drive.die(how=oracle.DEAD) == 0
    assert all(0 < cell.client.ttl(key) <= 7 * 86400 for key in (boot.graves, boot.seen))


def test_what_a_settlement_finds_in_a_period_that_has_ended(cell: Cell) -> None:
    """Neither what stayed nor what it used is the new period's."""
    drive = Drive(cell, key=strict(1000))
    ask = drive.ask(cap=900)
    drive.send(ask)
    drive.die(how=SILENCE)
    tomorrow = NOW + 24 * HOUR
    drive.boot = "r/0.2"
    cell.beat(drive.boot, tomorrow, fresh=True)
    other = drive.ask(cap=990)
    assert drive.send(other, now=tomorrow)[0][0] == 1
    drive.settle(drive.truth(other, cost=1000), now=tomorrow)
    drive.boot = "r/0.1"
    drive.settle(drive.truth(ask, cost=910), now=tomorrow)
    assert drive.money(KEY, DAY) == (1000, 0)
    assert sum(entry[PLACES["cost"]] for entry in cell.ledger()) == 1910


def test_a_death_that_is_told_while_the_silent_are_reaped_frees_all(cell: Cell) -> None:
    """A reaper that began when it was silent does not forget a boot of which something stays."""
    drive = Drive(cell, key=strict(2000))
    asks = [drive.ask(cap=400), drive.ask(cap=400)]
    drive.send(*asks)
    cell.client.zadd(FIRST.beats, {drive.boot: oracle.SILENT})
    ids = [ask.attempt_id for ask in asks]
    assert cell.reap(drive.boot, ids[:1], NOW, last=0) == 1
    cell.client.zadd(FIRST.beats, {drive.boot: oracle.DEAD})
    assert cell.reap(drive.boot, ids[1:], NOW, last=0) == 1
    assert cell.reap(drive.boot, [], NOW, last=oracle.SILENT) == 0
    assert drive.money(KEY, DAY) == (20, 400)
    assert cell.fence(NOW) == {drive.boot}
    assert cell.reap(drive.boot, ids, NOW) == 0
    assert drive.money(KEY, DAY) == (20, 0)
    assert not cell.client.exists(FIRST.beats)


def test_progress_counts_for_leases_only(cell: Cell) -> None:
    """A report that crosses with its settlement leaves nothing behind."""
    drive = Drive(cell)
    ask = drive.ask()
    drive.send(ask)
    assert cell.progress(drive.boot, [(ask.attempt_id, 5), ("nobody.1", 6)]) == 1
    drive.settle(drive.truth(ask))
    assert cell.progress(drive.boot, [(ask.attempt_id, 9)]) == 0
    assert cell.client.exists(boot_of(drive.boot).parts) == 0


# A store that has lost its memory...


def test_unknown_scopes_are_reported_and_nothing_is_admitted(cell: Cell) -> None:
    """A flush never opens the gate: who is unknown is named, and known again it is asked once more."""
    drive = Drive(cell, plan_of(candidate("d1"), candidate("d2", model="m2")))
    cell.client.delete(key_of(TEAM), key_of("deployment:d2"), key_of("model:m2"))
    before = cell.dump()
    assert drive.admit() == [2, TEAM, "deployment:d2", "model:m2"]
    assert cell.dump() == before
    drive.seed()
    assert drive.admit()[0] == 1


def test_limits_of_an_older_configuration_do_not_overwrite_newer_ones(cell: Cell) -> None:
    """A replica that is behind may seed what is lost, but not what others know better."""
    drive = Drive(cell, key=Limits(version=5, rpm=1))
    cell.seed(KEY, Limits(version=4))
    drive.admit()
    assert drive.admit()[0] == 0
    cell.seed(KEY, Limits(version=5))
    assert drive.admit()[0] == 1


def test_what_was_used_is_booked_though_the_store_lost_the_lease(cell: Cell) -> None:
    """After a flush the holds are gone, the use is not: it is charged to the budgets and rates as they stand."""
    drive = Drive(cell, key=replace(strict(90_000), tpm=60_000), org=soft(50_000, MONTH))
    ask = drive.ask()
    drive.send(ask)
    cell.client.flushall()
    drive.cell = cell = Cell(cell.client)
    drive.seed()
    drive.settle(drive.truth(ask, cost=77))
    assert drive.money(KEY, DAY) == (77, 0)
    assert drive.money(ORG, MONTH) == (77, 0)
    assert (drive.bucket(KEY, "tpm"), drive.in_flight(KEY)) == (15 * 1000, 0)
    assert cell.totals()["entries"] == 1


def test_a_settlement_reaches_the_books_before_the_limits_are_back(cell: Cell) -> None:
    """Between a flush and the first ask no scope is known; the entry is written all the same."""
    drive = Drive(cell)
    ask = drive.ask()
    drive.send(ask)
    cell.client.flushall()
    drive.cell = cell = Cell(cell.client)
    drive.settle(drive.truth(ask))
    assert len(cell.ledger()) == 1
    assert cell.totals()["cost_nusd"] == 15


# What stays on the server...

BOUNDED = {
    "{c0}:s:": "configuration, and one state of fixed size beside it",
    "{c0}:d:": "configuration, and one state of fixed size beside it",
    "{c0}:l:": "one field per attempt under way; settled or reaped with its replica",
    "{c0}:p:": "one field per lease that reports; goes with the lease",
    "{c0}:r": "one member per replica that lives or fell silent; the reaper takes the dead",
    "{c0}:led": "entries until they are in the database",
    "{c0}:tot": "four fields",
}
# Once the death of their replica is known.
EXPIRING = {"{c0}:b:", "{c0}:q:", "{c0}:z:"}


def test_every_key_expires_or_has_a_bound(cell: Cell) -> None:
    """What is neither configuration nor bounded by what is under way goes away by itself."""
    drive = Drive(cell, key=strict(90_000))
    asks = [drive.ask() for _ in range(4)]
    drive.send(*asks, again=True)
    drive.settle(drive.truth(asks[0]), drive.void(asks[3]), void_to=2)
    cell.progress(drive.boot, [(asks[1].attempt_id, 5)])
    drive.die()
    drive.settle(drive.truth(asks[1]))
    drive.boot = "r/0.2"
    cell.beat(drive.boot, NOW, fresh=True)
    last = drive.ask()
    drive.send(last)
    cell.progress(drive.boot, [(last.attempt_id, 5)])
    found = defaultdict(list)
    for key in cell.dump():
        [kind] = {kind for kind in (*BOUNDED, *EXPIRING) if key.startswith(kind)}
        found[kind].append(cell.client.ttl(key))
    assert set(found) == {*BOUNDED, *EXPIRING}
    for kind, ttls in found.items():
        assert all((ttl > 0) == (kind in EXPIRING) for ttl in ttls), kind


def test_a_state_has_one_size(cell: Cell) -> None:
    """However much happens at a scope, its hash stays two fields."""
    drive = Drive(cell, key=Limits(rpm=60, tpm=60_000, budgets=((DAY, 10**9, 1),)))
    for n in range(20):
        ask = drive.ask()
        drive.send(ask, now=NOW + n * HOUR)
        drive.settle(drive.truth(ask), now=NOW + n * HOUR)
    assert sorted(cell.client.hkeys(key_of(KEY))) == [b"l2", b"s2"]
    assert cell.client.hstrlen(key_of(KEY), "s2") < 60
    assert cell.client.exists(FIRST.totals)
