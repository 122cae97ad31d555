"""Laws of the engine: calls begin when they are due, bases get the same questions in turn, and nothing waits that should not."""

import itertools
import json
import threading

import pytest

from loadtests import engine as module
from loadtests.client import Base
from loadtests.engine import Engine, Plan
from loadtests.metrics import Record, Timeline, percentile
from loadtests.scenarios import Tenant
from loadtests.shapes import read_shape


class Over(Exception):
    """The clock has run far enough."""


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self, until_s):
        self.ns = 0
        self.until_ns = until_s * 1e9

    def read(self):
        return self.ns

    def sleep(self, seconds):
        self.ns += int(seconds * 1e9)
        if self.ns > self.until_ns:
            raise Over


class Asked:
    """In the client's place: notes who was asked what, and gives outcomes in turn."""

    def __init__(self, monkeypatch, *statuses):
        self.calls = []
        statuses = itertools.chain(statuses, itertools.repeat(200))
        asked = self

        class Fake:
            def __init__(self, base, **_):
                self.base = base

            def call(self, call, intended_ns, note):
                asked.calls.append((self.base.name, call, intended_ns))
                status = next(statuses)
                outcome = "ok" if status == 200 else f"http_{status}"
                record = Record(
                    self.base.name, call.scenario, call.tenant, 0.0, 0.0, outcome, status
                )
                note(record)
                return record

            def close(self):
                asked.calls.append((self.base.name, None, None))

        monkeypatch.setattr(module, "Client", Fake)


class Done:
    def join(self):
        """Nothing to wait for."""


def at_once(go):
    go()
    return Done()


def bases(*names):
    return tuple(Base(name, "http://h", "", f"model of {name}") for name in names)


def made(clock, start=at_once, worker=0, **plan):
    records = []
    ours = Engine(
        Plan(bases=plan.pop("bases", bases("a")), **plan),
        start=start,
        note=records.append,
        worker=worker,
        clock_ns=clock.read,
        sleep=clock.sleep,
    )
    return ours, records


def test_arrivals_come_when_they_are_due_whatever_the_answers_do(monkeypatch):
    """Constant, two a second, for five seconds: the intended starts are even."""
    asked, clock = Asked(monkeypatch), Clock(5)
    ours, records = made(clock, arrivals="constant", each=2.0)
    with pytest.raises(Over):
        ours.feed("chat")
    assert [intended for _, _, intended in asked.calls] == [int(at * 5e8) for at in range(11)]
    assert len(records) == 11


def test_a_late_generator_counts_from_the_intended_start(monkeypatch):
    """Arrivals that were missed are made up for at once, with their own times."""
    asked, clock = Asked(monkeypatch), Clock(4)
    slow = [3.0]

    def start(go):
        clock.ns += int(slow.pop() * 1e9) if slow else 0
        return at_once(go)

    ours, _ = made(clock, start, arrivals="constant")
    with pytest.raises(Over):
        ours.feed("chat")
    assert [intended for _, _, intended in asked.calls] == [int(at * 1e9) for at in range(5)]


def test_every_base_is_asked_the_same_in_each_round(monkeypatch):
    """Equal questions but for the model, each base once a round, in an order that changes."""
    asked = Asked(monkeypatch)
    ours, _ = made(Clock(1), bases=bases("a", "b", "c"))
    for _ in range(60):
        ours.begin("chat-stream", 0)
    orders = set()
    for at in range(0, 60, 3):
        round_ = asked.calls[at : at + 3]
        names = tuple(name for name, _, _ in round_)
        orders.add(names)
        assert sorted(names) == ["a", "b", "c"]
        bodies = [json.loads(call.body) for _, call, _ in round_]
        models = {body.pop("model") for body in bodies}
        assert models == {"model of a", "model of b", "model of c"}
        assert bodies[0] == bodies[1] == bodies[2]
    assert len(orders) > 2


def test_a_seed_asks_the_same_questions_again(monkeypatch):
    """And workers of one run ask different ones."""
    seen = []
    for worker in (0, 0, 1):
        asked = Asked(monkeypatch)
        ours = Engine(Plan(bases=bases("a")), start=at_once, note=lambda _: None, worker=worker)
        for _ in range(5):
            ours.begin("mixed", 0)
        seen.append([call.body for _, call, _ in asked.calls])
    assert seen[0] == seen[1] != seen[2]


def test_a_retry_storm_asks_again_at_once_until_it_is_served(monkeypatch):
    """Each attempt is a record of its own; another scenario gives up."""
    asked = Asked(monkeypatch, 429, 503, 200, 429)
    ours, records = made(Clock(1))
    ours.begin("retry-storm", 0)
    assert [record.status for record in records] == [429, 503, 200]
    ours.begin("chat", 0)
    assert len(asked.calls) == 4


def test_too_many_open_calls_are_left_out_and_counted(monkeypatch):
    """The generator must not fall over with what it measures."""
    Asked(monkeypatch)
    waiting = []
    clock = Clock(9)
    ours, records = made(clock, waiting.append, arrivals="constant", most_open=1)
    ours.open_calls = 1
    with pytest.raises(Over):
        ours.feed("chat")
    assert ours.dropped == 10
    assert (waiting, records) == ([], [])


def test_a_closed_loop_waits_for_its_answer_and_after_a_failure_a_little(monkeypatch):
    """So that a target that refuses is not asked ten thousand times a second."""
    Asked(monkeypatch, 500)
    clock = Clock(9)

    def start(go):
        thread = threading.Thread(target=go)
        thread.start()
        return thread

    ours, records = made(clock, start, arrivals="closed")
    ours.once("chat")
    assert (len(records), clock.ns) == (1, 100_000_000)
    ours.once("chat")
    assert (len(records), clock.ns) == (2, 100_000_000)


def test_tenants_bring_their_keys(monkeypatch):
    """And are told apart in the records."""
    asked = Asked(monkeypatch)
    ours, records = made(Clock(1), tenants=(Tenant("t", "economy", 1, "sk-t"),))
    ours.begin("chat", 0)
    assert asked.calls[0][1].key == "sk-t"
    assert records[0].tenant == "economy"
    ours.close()
    assert asked.calls[-1] == ("a", None, None)


def test_sources_share_a_shape_over_all_processes(monkeypatch):
    """Two workers with two sources each make one even stream of ten a second, from one origin on."""
    seen = []
    for worker in (0, 1):
        asked, clock = Asked(monkeypatch), Clock(1000)
        plan = {"shape": read_shape("10", 3), "sources": 4, "workers": 2}
        ours, _ = made(clock, worker=worker, arrivals="constant", **plan)
        for _ in range(2):
            # Both begin at once, as Locust starts them.
            clock.ns = 0
            ours.feed("chat")
        seen += [intended for _, _, intended in asked.calls]
    assert [at // 1_000_000 for at in sorted(seen)] == [100 * (at + 1) for at in range(30)]


def test_a_source_that_begins_in_the_middle_makes_up_for_nothing(monkeypatch):
    """It takes over from one that was lost; what was due before has no caller any more."""
    asked, clock = Asked(monkeypatch), Clock(1000)
    ours, _ = made(clock, arrivals="constant", shape=read_shape("10", 2), sources=1)
    ours.feed("chat")
    first = [intended for _, _, intended in asked.calls]
    asked.calls.clear()
    clock.ns = 1_000_000_000
    ours.feed("chat")
    assert [intended for _, _, intended in asked.calls] == [at for at in first if at >= 1e9]


class Stalling:
    """In the client's place: a server that takes calls one after the other, 10 ms each, and stands still from 2 s to 4 s."""

    def __init__(self, monkeypatch, clock):
        server = self
        self.free_ns = 0

        class Fake:
            def __init__(self, base, **_):
                self.base = base

            def call(self, call, intended_ns, note):
                line = Timeline(clock.ns if intended_ns is None else intended_ns, clock.ns)
                begin = max(clock.ns, server.free_ns)
                if 2e9 <= begin < 4e9:
                    begin = 4_000_000_000
                server.free_ns = begin + 10_000_000
                line.content(server.free_ns, output=True)
                record = Record("a", "chat", "t", 0.0, 0.0, "ok", 200, e2e_ms=line.e2e_ms())
                note(record)
                return record

        monkeypatch.setattr(module, "Client", Fake)


def test_a_stall_shows_in_an_open_loop_and_hides_in_a_closed_one(monkeypatch):
    """
    Coordinated omission: both loops ask 40 a second of the same server, which stands still for two seconds of eight.

    A quarter of all callers of the open loop wait, the first of them two seconds; of the closed loop's one.
    """
    clock = Clock(1000)
    Stalling(monkeypatch, clock)
    ours, opened = made(clock, arrivals="constant", shape=read_shape("40", 8), sources=1)
    ours.feed("chat")

    clock = Clock(1000)
    server = Stalling(monkeypatch, clock)

    class Answered:
        """The caller waits for its answer, and then to the next of its 25 ms."""

        def join(self):
            clock.ns = max(server.free_ns, clock.ns + 25_000_000)

    def start(go):
        go()
        return Answered()

    ours, closed = made(clock, start, arrivals="closed")
    while clock.ns < 8e9:
        ours.once("chat")

    waited = {
        name: sorted(record.e2e_ms for record in records)
        for name, records in (("open", opened), ("closed", closed))
    }
    assert len(opened) == 320
    assert percentile(waited["open"], 0.5) == percentile(waited["closed"], 0.5) == 10
    assert percentile(waited["open"], 0.8) > 500
    assert percentile(waited["open"], 0.99) > 1900
    assert percentile(waited["closed"], 0.99) == 10, "what a closed loop makes of it"
    assert sum(value > 100 for value in waited["closed"]) == 1
