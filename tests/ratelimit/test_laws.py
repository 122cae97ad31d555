"""
The promises of admission and settlement, one by one, on a real server with the test's own clock.

`test_timelines` holds the scripts to the oracle; here stands what must be true whatever the oracle says.
"""

from collections import defaultdict
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from governance.ledger import decode
from ratelimit.asks import boot_of
from ratelimit.limits import key_of
from store.cells import FIRST
from tests.conftest import RedisServer
from tests.ratelimit import oracle
from tests.ratelimit.cell import LIFE, PLACES, Cell, entry_of
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
)
from tests.ratelimit.test_timelines import moment

NOW = moment(2026, 6, 17, 12)
DAY, WEEK, MONTH = 1, 2, 3
KEY, TEAM, ORG = "key:o/t/k", "team:o/t", "org:o"
FREE = Limits()


def candidate(name: str = "d1", **changes: Any) -> oracle.Candidate:
    """Return a deployment at 1000 nano-USD per thousand tokens: a token costs one."""
    plain = oracle.Candidate(name, "m", 0, 1000, 1000, 1000, 4096, "p", 0)
    return replace(plain, **changes)


def plan_of(*candidates: oracle.Candidate) -> oracle.Plan:
    return oracle.Plan(
        (KEY, TEAM, ORG), candidates or (candidate(),), entry_of("", outcome="reaped")
    )


class Drive:
    """One replica at one cell: asks in, rows out."""

    def __init__(
        self, cell: Cell, plan: oracle.Plan | None = None, boot: str = "r/0.1", **limits: Limits
    ) -> None:
        self.cell = cell
        self.plan = plan or plan_of()
        self.boot = boot
        self.sendings = self.batches = self.made = 0
        named = {"key": KEY, "team": TEAM, "org": ORG, "model": "model:m", "model2": "model:m2"}
        self.limits = defaultdict(lambda: FREE)
        for name, row in limits.items():
            self.limits[named.get(name, f"deployment:{name}")] = row
        self.seed()
        cell.beat(self.boot, NOW, fresh=True)

    def seed(self) -> None:
        for scope in (*self.plan.scopes, *(s for c in self.plan.candidates for s in c.scopes)):
            self.cell.seed(scope, self.limits[scope])

    def ask(self, **wish: Any) -> oracle.Ask:
        self.made += 1
        plain = {"input": 10, "cap": 0, "assumed": 90, "n": 1, "first": True, "excluded": ()}
        plain |= {"plan": self.plan, "attempt_id": f"q{self.made}.1", "tie": 0, "user": "u"} | wish
        return oracle.Ask(bound=plain.pop("bound", plain["input"]), **plain)

    def send(self, *asks: oracle.Ask, now: int = NOW, again: bool = False) -> list[list[Any]]:
        self.sendings += 1
        answer = self.cell.admit(self.boot, list(asks), self.sendings, now, again=again)
        assert isinstance(answer, list), answer
        return answer

    def admit(self, now: int = NOW, **wish: Any) -> list[Any]:
        return self.send(self.ask(**wish), now=now)[0]

    def truth(self, ask: oracle.Ask, candidate: int = 1, **changes: Any) -> oracle.Settlement:
        plain = {"input": 10, "output": 5, "cost": 15, "health": 1, "ttft": 1000, "cool": 0}
        plain |= changes
        if "entry" not in plain:
            numbers = {name: plain[name] for name in ("input", "output", "cost")}
            plain["entry"] = entry_of(ask.attempt_id, **numbers)
        return oracle.Settlement(
            plan=ask.plan, attempt_id=ask.attempt_id, candidate=candidate, **plain
        )

    def void(self, ask: oracle.Ask) -> oracle.Settlement:
        return self.truth(ask, input=0, output=0, cost=0, health=0, entry=None)

    def settle(self, *truths: oracle.Settlement, now: int = NOW, void_to: int = 0) -> str | int:
        self.batches += 1
        return self.cell.settle(self.boot, self.batches, list(truths), void_to, now)

    def die(self, now: int = NOW) -> int:
        """End this boot's life and reap it. Returns how many leases that freed."""
        self.cell.client.zadd(FIRST.beats, {self.boot: 0})
        assert self.cell.fence(now) == {self.boot}
        attempts = [one.decode() for one in self.cell.client.hkeys(boot_of(self.boot).leases)]
        reaped = self.cell.reap(self.boot, attempts, now)
        assert isinstance(reaped, int)
        return reaped

    # What is there.

    def state(self, scope: str) -> oracle.State:
        found = self.cell.decoded()[scope][1]
        assert found is not None
        return found

    def in_flight(self, scope: str) -> int:
        return self.state(scope).in_flight

    def bucket(self, scope: str, rate: str) -> Fraction:
        """Return how far ahead of NOW a bucket is."""
        return self.state(scope).empty_at[rate] - NOW

    def money(self, scope: str, kind: int) -> tuple[int, int]:
        """Return what is spent and what is held."""
        money = self.state(scope).money[kind]
        return money.spent, money.held


def strict(amount: int, kind: int = DAY) -> Limits:
    return Limits(budgets=((kind, amount, 1),))


def soft(amount: int, kind: int = DAY) -> Limits:
    return Limits(budgets=((kind, amount, 0),))


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


# Rates...


@given(
    rpm=st.sampled_from([1, 7, 13, 60, 601, 7777, 10**7]),
    tpm=st.sampled_from([0, 90, 1001, 99_991, 10**10]),
    gaps=st.lists(
        st.tuples(
            st.integers(0, 20_000_000) | st.integers(0, 50) | st.just(MINUTE), st.integers(1, 300)
        ),
        min_size=5,
        max_size=40,
    ),
)
def test_no_window_admits_more_than_the_burst_and_the_rate(
    cell: Cell, rpm: int, tpm: int, gaps: list[tuple[int, int]]
) -> None:
    """Between any two moments: at most the limit plus the limit times the minutes between them, in requests and in tokens."""
    cell.client.flushall()
    drive = Drive(cell, key=Limits(rpm=rpm, tpm=tpm))
    now, granted = NOW, []
    for gap, tokens in gaps:
        now += gap
        rows = drive.send(*(drive.ask(input=0, cap=tokens) for _ in range(3)), now=now)
        granted += [(now, min(tokens, tpm or tokens)) for row in rows if row[0] == 1]
    # A microsecond of rounding per window.
    for i, (begin, _) in enumerate(granted):
        taken = 0
        for count, (end, tokens) in enumerate(granted[i:], 1):
            taken += tokens
            minutes = Fraction(end - begin + 1, MINUTE)
            assert count <= rpm + rpm * minutes
            assert not tpm or taken <= tpm + tpm * minutes


def test_a_full_bucket_is_used_to_its_last_token(cell: Cell) -> None:
    """Rounding takes away one request at most: a limit that divides no minute still grants all of its burst."""
    drive = Drive(cell, key=Limits(rpm=7777))
    granted = 0
    for _ in range(0, 8000, 500):
        granted += sum(row[0] == 1 for row in drive.send(*(drive.ask() for _ in range(500))))
    assert granted in {7776, 7777}


def test_a_clock_that_steps_back_grants_nothing_extra_and_heals(cell: Cell) -> None:
    """A used bucket does not begin anew, and fills again: after the step has passed, at most an hour and two minutes."""
    for step in (1, SECOND, 5 * MINUTE, 3 * HOUR, 400 * 24 * HOUR):
        cell.client.flushall()
        drive = Drive(cell, key=Limits(rpm=5))
        assert [row[0] for row in drive.send(*(drive.ask() for _ in range(6)))] == [1] * 5 + [0]
        back = NOW - step
        for tick in range(0, 10 * SECOND, SECOND):
            assert drive.admit(now=back + tick)[:2] == [0, REQUESTS]
        healed = back + min(step, HOUR + 2 * MINUTE) + MINUTE
        rows = drive.send(*(drive.ask() for _ in range(6)), now=healed)
        assert [row[0] for row in rows] == [1] * 5 + [0]


def test_a_clock_that_steps_forward_gives_one_bucket_and_the_next_period(cell: Cell) -> None:
    """However far: no more than a full bucket, and what runs is settled in the period in which it began."""
    for step in (MINUTE, 3 * HOUR, 400 * 24 * HOUR):
        cell.client.flushall()
        drive = Drive(cell, key=Limits(rpm=5), team=strict(1000))
        asks = [drive.ask(cap=90) for _ in range(5)]
        assert [row[0] for row in drive.send(*asks)] == [1] * 5
        drive.cell.beat(drive.boot, NOW + step, fresh=True)
        rows = drive.send(*(drive.ask(cap=90) for _ in range(6)), now=NOW + step)
        assert [row[0] for row in rows] == [1] * 5 + [0]
        drive.settle(*(drive.truth(ask) for ask in asks), now=NOW + step)
        spent, held = drive.money(TEAM, DAY)
        same_day = (NOW + step) // (24 * HOUR) == NOW // (24 * HOUR)
        assert (spent, held) == (75 if same_day else 0, 500)


def test_a_clock_that_steps_back_over_midnight_brings_no_second_budget(cell: Cell) -> None:
    """Back and forth over the end of a day: the new day's budget is spent once, and the old day's is not begun anew."""
    midnight = moment(2026, 6, 18)
    drive = Drive(cell, key=soft(100))
    assert drive.admit(now=midnight - SECOND)[0] == 1
    assert drive.admit(now=midnight + SECOND)[0] == 1
    for now in (midnight - SECOND, midnight + 2 * SECOND, midnight - 1, midnight):
        assert drive.admit(now=now)[:2] == [0, BUDGET]
    assert drive.admit(now=midnight + 24 * HOUR)[0] == 1


def test_what_was_held_while_the_clock_was_behind_is_given_back(cell: Cell) -> None:
    """A lease remembers the period that it was written into, whatever the clock said."""
    midnight = moment(2026, 6, 18)
    drive = Drive(cell, key=strict(20_000))
    drive.admit(now=midnight + SECOND, cap=100)
    ask = drive.ask(cap=500)
    drive.send(ask, now=midnight - SECOND)
    assert drive.money(KEY, DAY) == (0, 110 + 510)
    drive.settle(drive.truth(ask, cost=400), now=midnight + 3 * SECOND)
    assert drive.money(KEY, DAY) == (400, 110)


def test_a_clock_that_was_far_ahead_does_not_stop_the_calendar(cell: Cell) -> None:
    """What was spent in a future that was none counts in the present period, which then ends as usual."""
    drive = Drive(cell, key=soft(1000, MONTH))
    year = 365 * 24 * HOUR
    ask = drive.ask()
    drive.send(ask, now=NOW + year)
    drive.settle(drive.truth(ask, cost=999), now=NOW + year)
    assert drive.admit()[0] == 1
    assert drive.money(KEY, MONTH) == (999, 100)
    assert drive.admit()[:2] == [0, BUDGET]
    assert drive.admit(now=moment(2026, 7, 1))[0] == 1
    assert drive.money(KEY, MONTH) == (0, 100)


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
    cell.client.zadd(FIRST.beats, {drive.boot: 0})
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
    "{c0}:r": "one member per living replica; the reaper takes the dead",
    "{c0}:led": "entries until they are in the database",
    "{c0}:tot": "four fields",
}
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


# Every window, every scope...

PER_WINDOW = st.fixed_dictionaries(
    {},
    optional={
        name: st.sampled_from([1, 3, 7, 60, 7777] if name[0] == "r" else [90, 777, 1001, 60_000])
        for name in oracle.RATES
    },
)
BURSTS = st.sampled_from([(), (("rpm", 2),), (("tpm", 150), ("rps", 9))])
# A millisecond less than it was told is too early, unless that is less than a millisecond.
EARLY = 1000


@given(
    scopes=st.dictionaries(
        st.sampled_from(["key", "team", "org", "d1", "model"]),
        st.builds(lambda rates, burst: Limits(burst=burst, **rates), PER_WINDOW, BURSTS),
        max_size=3,
    ),
    story=st.lists(
        st.tuples(st.integers(0, 5_000_000), st.integers(0, 200), st.integers(0, 300)),
        min_size=3,
        max_size=15,
    ),
)
def test_waiting_as_long_as_it_says_is_enough_and_less_is_not(
    cell: Cell, scopes: dict[str, Limits], story: list[tuple[int, int, int]]
) -> None:
    """Whichever limit of whichever scope and window refuses: the same ask succeeds then, and a millisecond before it does not."""
    cell.client.flushall()
    drive = Drive(cell, **scopes)
    now = NOW
    for gap, tokens, cap in story:
        now += gap
        wish = {"input": tokens, "cap": cap, "assumed": 0}
        row = drive.admit(now=now, **wish)
        if row[0] == 1:
            continue
        wait = row[4] if row[0] == 0 else row[1]
        if row[0] == 0 and row[1] == TOO_LARGE:
            assert wait == 0
            continue
        assert wait > 0
        early = drive.admit(now=now + max(wait - EARLY, 0), **wish)
        assert early[0] != 1
        assert drive.admit(now=now + wait, **wish)[0] == 1
        now += wait


@pytest.mark.parametrize("rate", oracle.RATES)
def test_every_rate_counts_what_it_says(cell: Cell, rate: str) -> None:
    """Requests, tokens, input or output; the answer names the limit, and so does the refusal by a bucket that is smaller."""
    amount = 1 if rate[0] == "r" else 100
    limits = Limits(**{rate: 10 * amount}, burst=((rate, 2 * amount),))
    drive = Drive(cell, org=limits)
    wish = {"input": 0 if rate[0] == "o" else 100, "cap": 100 if rate[0] == "o" else 0}
    wish["assumed"] = 0
    rows = [drive.admit(**wish) for _ in range(3)]
    assert [row[0] for row in rows] == [1, 1, 0]
    code = oracle.RATES.index(rate) + 1
    window = oracle.WINDOWS[rate[-1]]
    what = REQUESTS if rate[0] == "r" else TOKENS
    assert rows[2][1:5] == [what, 3, 10 * amount, window // 10]
    assert rows[2][7] == code
    if rate[0] in "ti":
        too_large = drive.admit(**wish | {"input": 201})
        assert (too_large[1], too_large[3], too_large[7]) == (TOO_LARGE, 200, code)


def test_what_wants_nothing_of_a_limit_is_not_held_up_by_it(cell: Cell) -> None:
    """An embedding has no output, a retry is no second request; a bucket in debt refuses only what draws on it."""
    drive = Drive(cell, key=Limits(otpm=100, rpm=1))
    ask = drive.ask(cap=100)
    drive.send(ask)
    drive.settle(drive.truth(ask, output=5000))
    assert drive.admit()[:2] == [0, TOKENS]
    assert drive.admit(n=0, assumed=0, first=False)[0] == 1
    assert drive.admit(n=0, assumed=0)[:2] == [0, REQUESTS]


def test_input_and_output_are_corrected_each_by_its_own_truth(cell: Cell) -> None:
    """More input than estimated is a debt there, less output is given back; refunds never fill a bucket beyond its burst."""
    drive = Drive(cell, key=Limits(itpm=6000, otpm=6000, tpm=6000))
    ask = drive.ask(input=10, cap=90)
    drive.send(ask)
    drive.settle(drive.truth(ask, input=25, output=40))
    us = MINUTE // 6000
    assert drive.bucket(KEY, "itpm") == 25 * us
    assert drive.bucket(KEY, "otpm") == 40 * us
    assert drive.bucket(KEY, "tpm") == 65 * us
    late = drive.ask(input=10, cap=90)
    drive.send(late)
    drive.settle(drive.truth(late, input=0, output=0), now=NOW + HOUR)
    assert drive.state(KEY).empty_at["otpm"] == NOW + HOUR


# Users...


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
