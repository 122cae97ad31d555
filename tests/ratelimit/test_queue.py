"""Who goes first at a full deployment: rank, the turns of lower levels, and service received, held against a naive rule."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from store import scripts
from tests.conftest import RedisServer

PREMIUM, NORMAL, ECONOMY = 1, 2, 3
TICKET_US = 400_000
LONGEST_QUEUE = 64
RIG = Path(__file__).parent / "lua" / "queue_rig.lua"


@dataclass(frozen=True)
class Ticket:
    """Somebody who waits."""

    id: str
    level: int
    tenant: str
    asked_at: int

    def row(self) -> list[Any]:
        return [self.id, "r/0.1", self.level, self.tenant, self.asked_at, 0]


class Queue:
    """One deployment's queue on a real server."""

    def __init__(self, client: "redis.Redis[bytes]") -> None:
        self.client = client
        self.text = scripts.read("ratelimit", "queue") + RIG.read_text()
        self.now = 0
        client.delete("{c0}:d:x")

    def run(self, *steps: Sequence[Any]) -> list[Any]:
        packed = self.client.eval(
            self.text,
            1,
            "{c0}:d:x",
            self.now,
            *(msgpack.packb(step, use_bin_type=False) for step in steps),
        )
        return list(msgpack.unpackb(packed))

    def join(self, *tickets: Ticket) -> list[bool]:
        return [bool(one) for one in self.run(*(("join", ticket.row()) for ticket in tickets))]

    def serve(self, ticket: Ticket, tokens: float) -> None:
        self.run(("serve", ticket.row(), tokens))

    def next(self, n: int = 1) -> list[str]:
        (ids,) = self.run(("next", n))
        return list(ids)

    def ahead(self, *tickets: Ticket) -> list[int]:
        return self.run(*(("ahead", ticket.row()) for ticket in tickets))

    @property
    def kept(self) -> bool:
        return bool(self.client.hexists("{c0}:d:x", "w"))


@pytest.fixture
def queue(redis_server: RedisServer) -> Iterator[Queue]:
    """Give an empty queue."""
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        yield Queue(client)


class Rule:
    """The same, said naively."""

    def __init__(self) -> None:
        self.waiting: list[Ticket] = []
        self.served: dict[str, float] = {}
        self.since = {NORMAL: 0, ECONOMY: 0}

    def least(self) -> float:
        return min((self.served.get(t.tenant, 0) for t in self.waiting), default=0)

    def service(self, tenant: str) -> float:
        known = self.served.get(tenant, 0.0)
        if any(t.tenant == tenant for t in self.waiting):
            return known
        return max(known, self.least())

    def join(self, ticket: Ticket) -> None:
        self.served[ticket.tenant] = self.service(ticket.tenant)
        self.waiting.append(ticket)

    def serve(self, ticket: Ticket, tokens: float) -> None:
        if not self.waiting:
            return
        self.served[ticket.tenant] = self.service(ticket.tenant) + tokens
        self.waiting = [t for t in self.waiting if t.id != ticket.id]
        for level in self.since:
            self.since[level] = 0 if ticket.level == level else self.since[level] + 1
        if not self.waiting:
            self.__init__()  # type: ignore[misc]  # nobody waits: all is forgotten

    def next(self) -> Ticket:
        levels = {t.level for t in self.waiting}
        if ECONOMY in levels and self.since[ECONOMY] >= 19:
            level = ECONOMY
        elif NORMAL in levels and self.since[NORMAL] >= 9:
            level = NORMAL
        else:
            level = min(levels)
        return min(
            (t for t in self.waiting if t.level == level),
            key=lambda t: (self.served.get(t.tenant, 0), t.asked_at, t.id),
        )


levels = st.sampled_from([PREMIUM, NORMAL, ECONOMY])


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("join"), levels, st.sampled_from("abc"), st.integers(0, 50)),
            st.tuples(st.just("serve"), st.integers(1, 5000)),
            st.tuples(st.just("overtake"), levels, st.sampled_from("abc"), st.integers(1, 5000)),
        ),
        max_size=60,
    )
)
def test_the_order_is_that_of_the_naive_rule(redis_server: RedisServer, steps: list[Any]) -> None:
    """Whatever joins and is served, the next is the one that the rule says, and nobody is ahead of it alone."""
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        _follow(Queue(client), steps)


def _follow(queue: Queue, steps: list[Any]) -> None:
    rule = Rule()
    for number, step in enumerate(steps):
        if step[0] == "join":
            ticket = Ticket(f"t{number:03}", *step[1:])
            assert queue.join(ticket) == [True]
            rule.join(ticket)
        elif step[0] == "serve" and rule.waiting:
            ticket = rule.next()
            queue.serve(ticket, step[1])
            rule.serve(ticket, step[1])
        elif step[0] == "overtake":
            # One that never waited: a place was free for it as well.
            ticket = Ticket(f"t{number:03}", step[1], step[2], 100)
            queue.serve(ticket, step[3])
            rule.serve(ticket, step[3])
        if rule.waiting:
            wanted = rule.next()
            assert queue.next() == [wanted.id]
            places = dict(
                zip(
                    [t.id for t in rule.waiting],
                    queue.ahead(*rule.waiting),
                    strict=True,
                )
            )
            assert [name for name, place in places.items() if place == 0] == [wanted.id]
        else:
            assert queue.next() == []


def test_lower_levels_get_their_turns(queue: Queue) -> None:
    """While premium never ends, one grant in twenty is economy's and one in ten normal's, and no more."""
    waiting = [Ticket(f"{level}-{n:02}", level, "t", n) for level in (1, 2, 3) for n in range(18)]
    queue.join(*waiting)
    by_id = {ticket.id: ticket for ticket in waiting}
    granted = ""
    for n in range(100):
        (name,) = queue.next()
        granted += name[0]
        queue.serve(by_id[name], 1)
        fresh = Ticket(f"{name[0]}-{n + 20}", int(name[0]), "t", n + 20)
        by_id[fresh.id] = fresh
        queue.join(fresh)
    assert granted.count("3") == 5
    assert granted.count("2") in {9, 10}
    assert max(map(len, granted.replace("3", "1").split("2"))) <= 10


@pytest.mark.parametrize("weight", [1, 4])
def test_tenants_of_a_level_get_service_by_their_weights(queue: Queue, weight: int) -> None:
    """One that asks ten times as much gets no more; service per weight never differs by more than one call."""
    noisy = [Ticket(f"n{n:02}", NORMAL, "noisy", n) for n in range(40)]
    quiet = [Ticket(f"q{n:02}", NORMAL, "quiet", 100 + n) for n in range(20)]
    queue.join(*noisy, *quiet)
    by_id = {ticket.id: ticket for ticket in (*noisy, *quiet)}
    got = {"noisy": 0.0, "quiet": 0.0}
    for _ in range(20):
        (name,) = queue.next()
        ticket = by_id[name]
        tokens = 100 / (weight if ticket.tenant == "quiet" else 1)
        got[ticket.tenant] += tokens
        queue.serve(ticket, tokens)
        assert abs(got["noisy"] - got["quiet"]) <= 100


def test_idleness_earns_no_credit(queue: Queue) -> None:
    """Who comes late counts from the least of those who wait: it is next, but not for all that it missed."""
    early = [Ticket(f"e{n:02}", NORMAL, "early", n) for n in range(30)]
    queue.join(*early)
    for ticket in early[:10]:
        queue.serve(ticket, 1000)
    queue.join(*(Ticket(f"l{n:02}", NORMAL, "late", 100 + n) for n in range(10)))
    queue.serve(Ticket("l00", NORMAL, "late", 100), 1000)
    assert queue.next() == ["e10"]


def test_nobody_waits_for_the_dead(queue: Queue) -> None:
    """A ticket that is not renewed is soon over, and with the last one the queue is gone."""
    one, other = Ticket("one", PREMIUM, "t", 0), Ticket("other", ECONOMY, "t", 1)
    queue.join(one, other)
    queue.now = TICKET_US - 1
    queue.join(other)
    queue.now = TICKET_US
    assert queue.next(2) == ["other"]
    queue.serve(other, 1)
    assert not queue.kept


def test_a_queue_is_not_endless(queue: Queue) -> None:
    """When it is full, who comes last in turn does not wait: a newcomer, or whom it pushes out."""
    queue.join(*(Ticket(f"t{n:03}", NORMAL, "t", n) for n in range(LONGEST_QUEUE)))
    assert queue.join(Ticket("poor", ECONOMY, "t", 999)) == [False]
    assert queue.join(Ticket("rich", PREMIUM, "t", 999)) == [True]
    assert queue.ahead(Ticket("t063", NORMAL, "t", 63)) == [LONGEST_QUEUE - 1 + 1]
    assert len(queue.next(100)) == LONGEST_QUEUE
