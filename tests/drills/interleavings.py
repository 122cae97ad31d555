"""
`python -m tests.drills.interleavings`: every order in which a few attempts of two replicas can meet the scripts, with every state checked.

A bounded model check of the real scripts on a real server. A step is one script call as the server comes to it: `admit` first sent
and sent again, copies that come late, `settle` and `void` whose answer was lost and which are sent again, duplicates of them, `progress`, `beat`,
`fence`, `reap` one attempt at a time, the clock that passes the end of a life, and an hour, and the word that a process is dead. From every state each step that is possible is tried, the
database is put back for the next one, and a state that has been seen (what the replicas know, and what the database holds) is not
gone through again: so all orders are covered, within the scope that is said.

What the replicas do is what `ratelimit.admission` and `ratelimit.settling` do: one sending at a time, one settlement at a time, a void for what was given up,
and another boot id for a life that was fenced.

The laws, at every state: what budgets hold is what the leases hold, and what stays reserved for those that fell silent; in flight is the number of leases; the ledger's sums are the totals' and what
budgets spent; nothing is negative; strict budgets and limits of concurrency are kept; nothing stays of a life that is forgotten; an attempt is charged what it used, once, when it has settled, what it was
estimated at when it was reaped, and nothing when it was given up; what is sent again, late or refused changes nothing.
"""

import argparse
import hashlib
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import redis

from config.loader import load_text
from loadtests.drills import report
from ratelimit import limits
from store.cells import FIRST
from tests.drills.server import FIELDS, scripts_of, server
from tests.ratelimit import oracle
from tests.ratelimit.cell import LIFE, PLACES, Cell, entry_of

START = 700 * 24 * oracle.HOUR + 10 * oracle.HOUR
SCOPES = ("key:o/t/k", "team:o/t", "org:o")
# A lease holds 20 nano-USD: a second one fits into the strict budget of 35 when the first has settled for 15 or less.
CONFIG = """
providers: {p: {protocol: openai, base_url: "http://127.0.0.1:1", limits: {concurrency: 3}}}
models:
  m:
    limits: {concurrency: 3}
    deployments:
      - {provider: p, id: one, limits: {concurrency: 1}, budget: {usd: 0.0000001, per: day, mode: soft}}
      - {provider: p, id: two}
organizations:
  o:
    budget: {usd: 0.0000001, per: month, mode: soft}
    users: {u: {limits: {concurrency: 2}, budget: {usd: 0.0000001, per: total, mode: strict}}}
    teams:
      t:
        limits: {concurrency: 2}
        budget: [{usd: 0.000000035, per: day, mode: strict}, {usd: 0.00000007, per: week, mode: soft}]
        keys: {k: {key: a-key-of-the-drill-0123456789, limits: {rpm: 60, tpm: 60000}}}
"""
CANDIDATES = tuple(
    oracle.Candidate(
        deployment=name,
        model="m",
        tier=0,
        input=1000,
        output=2000,
        input_estimate=1000,
        most=4096,
        provider="p",
        request=0,
        limited_provider=True,
    )
    for name in ("one", "two")
)
PLAN = oracle.Plan(SCOPES, CANDIDATES, entry_of("", outcome="reaped"), users=("o",))
USER = "u"
INPUT, CAP, PART = 10, 5, 2
SERVED_BY = slice(11, 14)  # model, deployment and provider in a ledger entry
LIMITS, STATE = (name.encode() for name in FIELDS)
SAID_AGAIN = frozenset({"SEEN", "LATE", "FENCED", "ALIVE"})
FAULTS = frozenset({"admit again", "give up", "settle, answer lost", "void, answer lost"})


class Waiting(NamedTuple):
    """A sending of `admit` whose answer is awaited; `again` once it was sent again."""

    attempt: int
    number: int
    again: bool


class Copy(NamedTuple):
    """A sending that nobody waits for any more, and that the server may still come to."""

    attempt: int
    life: int
    number: int
    again: bool


class Open(NamedTuple):
    """A grant that has not been settled; `reported` once its stream said what it gave."""

    attempt: int
    life: int
    candidate: int
    reported: bool


class Settle(NamedTuple):
    """A settlement: of a grant, or void; `number` is 0 until it was first sent."""

    attempt: int
    life: int
    candidate: int
    void_to: int
    number: int


class Replica(NamedTuple):
    """What a replica knows and has under way; settlements are numbered by life, and so are sendings."""

    life: int = 1
    next: int = 0
    sent: int = 0
    waiting: Waiting | None = None
    late: tuple[Copy, ...] = ()
    open: tuple[Open, ...] = ()
    queue: tuple[Settle, ...] = ()
    unanswered: Settle | None = None
    duplicates: tuple[Settle, ...] = ()
    settled: tuple[int, ...] = ()
    """The last batch number of each life, from the first."""
    ended: tuple[tuple[int, int, str], ...] = ()
    """Attempt, life, and how it ended: settled or void."""
    dead: bool = False
    known: bool = False
    """Whether its process has died, and whether the store was told."""


class State(NamedTuple):
    """
    What everybody but the server knows.

    `later`: 1 when the clock has passed the end of the first lives, 2 an hour after that; `beaten` the lives that have beaten since; `faults` how many more
    connections may be lost and sendings be given up; `deaths` how many processes may die, and that be known. The reaper knows nothing: it may reap whoever is fenced in the store.
    """

    replicas: tuple[Replica, ...]
    faults: int
    deaths: int = 0
    later: int = 0
    beaten: tuple[str, ...] = ()


class Step(NamedTuple):
    """One call as the server comes to it; `replica` is -1 for the reaper and the clock."""

    what: str
    replica: int = -1
    which: int = 0
    name: str = ""


@dataclass(frozen=True)
class Scope:
    """
    How much there is of everything: attempts of each replica, lives of each, and faults in all.

    A fault is a connection that is lost while `admit` or `settle` is under way, so that it is sent again, or a sending that is given up.
    A death is a process that ends with all that it has open, which is known at once or later; `hours` pass after the first lives.
    """

    attempts: tuple[int, ...] = (2, 2)
    lives: int = 2
    faults: int = 1
    deaths: int = 0
    hours: int = 0


@dataclass
class Findings:
    """What was gone through; `broken` are the laws that do not hold, in words with the way there."""

    states: int = 0
    steps: int = 0
    ends: int = 0
    said: Counter[str] = field(default_factory=Counter)
    deepest: int = 0
    took_s: float = 0.0
    complete: bool = True
    broken: list[str] = field(default_factory=list)


class Look(NamedTuple):
    """What the database holds, comparable: a stream as what its entries say, for their ids are times."""

    content: dict[str, Any]
    digest: bytes


class World(Cell):
    """The cell, with a way back."""

    def __init__(self, client: "redis.Redis[bytes]") -> None:
        super().__init__(client)
        here = Path(__file__).parent / "lua"
        self._look = client.script_load((here / "look.lua").read_text())
        self._dump = client.script_load((here / "dump.lua").read_text())
        self._put_back = client.script_load((here / "put_back.lua").read_text())

    def begin(self, replicas: int) -> None:
        """Empty the database, seed the limits, and let every replica be born."""
        self.client.flushall()
        config = load_text(CONFIG, source="drill", environ={}).config
        for key, packed in limits.records(config, 1):
            self.run("seed", [key], [1, packed])
        for number in range(replicas):
            self.beat(boot(number, 1), START, fresh=True)

    def look(self) -> Look:
        """Read everything."""
        found = self.client.evalsha(self._look, 0)
        content = {}
        for at in range(0, len(found), 3):
            key, kind, value = found[at : at + 3]
            if kind in {b"hash", b"zset"}:
                value = sorted(zip(value[::2], value[1::2], strict=True))
            elif kind == b"stream":
                value = sorted(fields[1] for _, fields in value)
            content[key.decode()] = value
        told = repr(sorted(content.items())).encode()
        return Look(content, hashlib.blake2b(told, digest_size=16).digest())

    def dumps(self) -> list[bytes]:
        """Read everything as `put_back` takes it."""
        return list(self.client.evalsha(self._dump, 0))

    def put_back(self, dumps: list[bytes]) -> None:
        """Make the database what it was."""
        self.client.evalsha(self._put_back, 0, *dumps)


def _fenced(look: Look) -> list[str]:
    """Return the boots of which something is to be freed."""
    beats = look.content.get(f"{FIRST.tag}:r", ())
    return [
        member.decode() for member, score in beats if float(score) in {oracle.DEAD, oracle.SILENT}
    ]


def boot(replica: int, life: int) -> str:
    """Return the name of a replica's life."""
    return f"r/{replica}.{life}"


def attempt_id(replica: int, attempt: int) -> str:
    """Return the id of an attempt."""
    return f"q{replica}x{attempt}.1"


def ask(replica: int, attempt: int) -> oracle.Ask:
    """Return what an attempt asks for; ties alternate, so that both deployments are chosen."""
    return oracle.Ask(
        plan=PLAN,
        attempt_id=attempt_id(replica, attempt),
        input=INPUT,
        bound=INPUT,
        cap=CAP,
        assumed=CAP,
        n=1,
        first=True,
        excluded=(),
        tie=replica + attempt,
        user=USER,
    )


def used(replica: int, attempt: int) -> tuple[int, int]:
    """Return what an attempt really used: output tokens (no two alike), and its cost."""
    output = ((2, 4), (5, 1), (3, 0))[attempt][replica]
    return output, INPUT + 2 * output


def truth(replica: int, one: Settle) -> oracle.Settlement:
    """Return a settlement as the scripts get it; a void has no entry."""
    output, cost = used(replica, one.attempt)
    void = one.void_to >= 0
    name = attempt_id(replica, one.attempt)
    served_by = CANDIDATES[one.candidate - 1]
    entry = list(entry_of(name, input=INPUT, output=output, cost=cost))
    entry[SERVED_BY] = served_by.model, served_by.deployment, served_by.provider
    return oracle.Settlement(
        plan=PLAN,
        attempt_id=name,
        candidate=one.candidate,
        input=0 if void else INPUT,
        output=0 if void else output,
        cost=0 if void else cost,
        health=0 if void else 1,
        ttft=1000,
        cool=0,
        entry=None if void else tuple(entry),
        user=USER,
    )


class Explorer:
    """Goes through every order; `find` gives what it found."""

    def __init__(self, world: World, scope: Scope) -> None:
        self._world = world
        self._scope = scope
        self.found = Findings()

    def find(self, within_s: float = float("inf")) -> Findings:
        """Explore depth first until nothing is new; a time that is too short leaves `complete` false."""
        found, world = self.found, self._world
        begun = time.monotonic()
        replicas = tuple(
            self._next(Replica(settled=(0,) * self._scope.lives), number)
            for number in range(len(self._scope.attempts))
        )
        world.begin(len(replicas))
        first = State(replicas, self._scope.faults, self._scope.deaths)
        look = world.look()
        seen = {self._digest(first, look)}
        # The way to where we are: state, what the database holds, steps not yet tried, and the step that led here.
        path: list[tuple[State, Look, list[bytes], Iterator[Step], Step | None]] = [
            (first, look, world.dumps(), self._steps(first, look), None)
        ]
        is_here = True
        found.states = 1
        while path:
            state, look, dumps, steps, _ = path[-1]
            step = next(steps, None)
            if step is None:
                path.pop()
                is_here = False
                continue
            if time.monotonic() - begun > within_s:
                found.complete = False
                break
            if not is_here:
                world.put_back(dumps)
            found.steps += 1
            after, said = self._do(state, step)
            there = world.look()
            found.said[f"{step.what}: {said}"] += 1
            digest = self._digest(after, there)
            is_here = digest not in seen
            wrong = list(self._broken(after, there)) if is_here else []
            if said in SAID_AGAIN and there.digest != look.digest:
                wrong.append(f"{step.what} said {said} and changed something")
            if said == "denied" and self._but_bar(there) != self._but_bar(look):
                wrong.append("a denied ask changed something")
            if wrong:
                way = [one for *_, one in path if one is not None]
                found.broken += [f"{words}; after {[*way, step]}" for words in wrong]
                if len(found.broken) > 20:
                    found.complete = False
                    break
            if is_here:
                seen.add(digest)
                found.states += 1
                found.deepest = max(found.deepest, len(path))
                path.append((after, there, world.dumps(), self._steps(after, there), step))
                if self._is_end(after):
                    found.ends += 1
        found.took_s = round(time.monotonic() - begun, 1)
        return found

    @staticmethod
    def _but_bar(look: Look) -> dict[str, Any]:
        return {key: value for key, value in look.content.items() if ":b:" not in key}

    @staticmethod
    def _digest(state: State, look: Look) -> bytes:
        return hashlib.blake2b(repr(state).encode() + look.digest, digest_size=16).digest()

    def _is_end(self, state: State) -> bool:
        """Whether everybody has done everything."""
        return all(
            not (r.waiting or r.open or r.queue or r.unanswered or r.late or r.duplicates)
            for r in state.replicas
        )

    # What can happen...

    def _steps(self, state: State, look: Look) -> Iterator[Step]:
        """Yield every step that is possible and may do something."""
        may_fail = state.faults > 0
        for number, r in enumerate(state.replicas):
            if r.waiting is not None:
                yield Step("admit", number)
                if may_fail and not r.waiting.again:
                    yield Step("admit again", number)
                if may_fail:
                    yield Step("give up", number)
            for at in range(len(r.late)):
                yield Step("late copy", number, at)
            if r.unanswered is not None:
                yield Step("settle again", number)
            else:
                if r.queue:
                    yield Step("void", number)
                    if may_fail:
                        yield Step("void, answer lost", number)
                for at in range(len(r.open)):
                    yield Step("settle", number, at)
                    if may_fail:
                        yield Step("settle, answer lost", number, at)
            for at in range(len(r.duplicates)):
                yield Step("duplicate", number, at)
            for at, one in enumerate(r.open):
                if not one.reported:
                    yield Step("progress", number, at)
            if state.later and boot(number, r.life) not in state.beaten and not r.dead:
                yield Step("beat", number)
            if state.deaths and not r.dead:
                yield Step("die", number)
            if r.dead and not r.known:
                yield Step("known to be dead", number)
        if state.later:
            yield Step("fence")
        if state.later <= self._scope.hours:
            yield Step("time")
        for name in _fenced(look):
            yield Step("reap", -1, name=name)

    def _do(self, state: State, step: Step) -> tuple[State, str]:
        """Let a step happen; gives what everybody knows then, and what the server said."""
        if step.replica < 0:
            return self._everybody(state, step)
        number = step.replica
        r, said = getattr(self, "_" + step.what.replace(",", "").replace(" ", "_"))(
            state, state.replicas[number], number, step.which
        )
        replicas = (*state.replicas[:number], r, *state.replicas[number + 1 :])
        faults = state.faults - (step.what in FAULTS)
        deaths = state.deaths - (step.what == "die")
        beaten = state.beaten
        if step.what == "beat":
            beaten = tuple(sorted({*beaten, boot(number, state.replicas[number].life)}))
        after = state._replace(replicas=replicas, faults=faults, deaths=deaths, beaten=beaten)
        return after, said

    def _everybody(self, state: State, step: Step) -> tuple[State, str]:
        if step.what == "time":
            return state._replace(later=state.later + 1, beaten=()), "passed"
        now = self._now(state)
        if step.what == "fence":
            return state, f"{len(self._world.fence(now))} dead"
        client = self._world.client
        leases = sorted(key.decode() for key in client.hkeys(f"{FIRST.tag}:l:{step.name}"))
        if leases:
            return state, str(self._world.reap(step.name, leases[:1], now, last=0))
        # What stays of those that were reaped before goes last.
        graves = [key.decode() for key in client.hkeys(f"{FIRST.tag}:z:{step.name}")]
        return state, str(self._world.reap(step.name, graves, now))

    @staticmethod
    def _now(state: State) -> int:
        return START + (0, LIFE + oracle.SECOND, LIFE + oracle.SECOND + oracle.HOUR)[state.later]

    def _next(self, r: Replica, number: int) -> Replica:
        """Send the next attempt, if there is one and nothing is under way."""
        if r.waiting is not None or r.next == self._scope.attempts[number]:
            return r
        return r._replace(
            next=r.next + 1, sent=r.sent + 1, waiting=Waiting(r.next, r.sent + 1, again=False)
        )

    def _admit(self, state: State, r: Replica, number: int, _: int) -> tuple[Replica, str]:
        assert r.waiting is not None
        one = r.waiting
        answer = self._world.admit(
            boot(number, r.life),
            [ask(number, one.attempt)],
            one.number,
            self._now(state),
            again=one.again,
        )
        if isinstance(answer, str):
            assert answer == "FENCED", answer
            if one.again:
                # An earlier sending may have been granted before the end of that life.
                void = Settle(one.attempt, r.life, 1, one.number + 1, 0)
                r = r._replace(queue=(*r.queue, void))
            return self._reborn(state, r, number), "fenced: another life"
        row = answer[0]
        r = r._replace(waiting=None)
        if row[0] == 1:
            r = r._replace(open=(*r.open, Open(one.attempt, r.life, row[1], reported=False)))
        return self._next(r, number), "granted" if row[0] == 1 else "denied"

    def _reborn(self, state: State, r: Replica, number: int) -> Replica:
        """Come back under another boot id, and ask again what was under way; after the last life nothing is asked."""
        if r.life == self._scope.lives:
            return r._replace(waiting=None, next=self._scope.attempts[number])
        r = r._replace(life=r.life + 1, sent=1 if r.waiting is not None else 0)
        self._world.beat(boot(number, r.life), self._now(state), fresh=True)
        if r.waiting is not None:
            r = r._replace(waiting=Waiting(r.waiting.attempt, 1, again=False))
        return r

    @staticmethod
    def _copy(one: Waiting, life: int) -> Copy:
        return Copy(one.attempt, life, one.number, one.again)

    def _admit_again(self, state: State, r: Replica, number: int, _: int) -> tuple[Replica, str]:
        """Lose the connection: the sending becomes a copy on its way, and another one is awaited."""
        assert r.waiting is not None
        one = r.waiting
        r = r._replace(
            late=tuple(sorted((*r.late, self._copy(one, r.life)))),
            sent=r.sent + 1,
            waiting=Waiting(one.attempt, r.sent + 1, again=True),
        )
        return r, "sent"

    def _give_up(self, state: State, r: Replica, number: int, _: int) -> tuple[Replica, str]:
        """Wait no longer: what the sending may get is given back, and its copies are barred."""
        assert r.waiting is not None
        one = r.waiting
        late = tuple(sorted((*r.late, self._copy(one, r.life))))
        void = Settle(one.attempt, r.life, 1, one.number + 1, 0)
        return self._next(
            r._replace(waiting=None, late=late, queue=(*r.queue, void)), number
        ), "said"

    def _late_copy(self, state: State, r: Replica, number: int, at: int) -> tuple[Replica, str]:
        copy = r.late[at]
        answer = self._world.admit(
            boot(number, copy.life),
            [ask(number, copy.attempt)],
            copy.number,
            self._now(state),
            again=copy.again,
        )
        r = r._replace(late=(*r.late[:at], *r.late[at + 1 :]))
        if isinstance(answer, str):
            return r, answer
        return r, {1: "granted", 0: "denied"}.get(answer[0][0], "nobody")

    # Settling...

    def _send(
        self, state: State, r: Replica, number: int, one: Settle
    ) -> tuple[Replica, Settle, str]:
        """Send a settlement for the first time."""
        batch = r.settled[one.life - 1] + 1
        one = one._replace(number=batch)
        settled = tuple(
            batch if life == one.life - 1 else each for life, each in enumerate(r.settled)
        )
        return r._replace(settled=settled), one, self._settled(state, number, one)

    def _settled(self, state: State, number: int, one: Settle) -> str:
        return str(
            self._world.settle(
                boot(number, one.life),
                one.number,
                [truth(number, one)],
                max(one.void_to, 0),
                self._now(state),
            )
        )

    @staticmethod
    def _end(r: Replica, one: Settle) -> Replica:
        word = "void" if one.void_to >= 0 else "settled"
        return r._replace(ended=tuple(sorted({*r.ended, (one.attempt, one.life, word)})))

    def _take(self, r: Replica, at: int) -> tuple[Replica, Settle]:
        one = r.open[at]
        r = r._replace(open=(*r.open[:at], *r.open[at + 1 :]))
        return r, Settle(one.attempt, one.life, one.candidate, -1, 0)

    def _settle(self, state: State, r: Replica, number: int, at: int) -> tuple[Replica, str]:
        r, one = self._take(r, at)
        r, one, said = self._send(state, r, number, one)
        return self._end(r, one), said

    def _settle_answer_lost(
        self, state: State, r: Replica, number: int, at: int
    ) -> tuple[Replica, str]:
        r, one = self._take(r, at)
        r, one, said = self._send(state, r, number, one)
        return self._end(r, one)._replace(unanswered=one), said

    def _void(self, state: State, r: Replica, number: int, _: int) -> tuple[Replica, str]:
        one, *rest = r.queue
        r, one, said = self._send(state, r._replace(queue=tuple(rest)), number, one)
        return self._end(r, one), said

    def _void_answer_lost(
        self, state: State, r: Replica, number: int, _: int
    ) -> tuple[Replica, str]:
        one, *rest = r.queue
        r, one, said = self._send(state, r._replace(queue=tuple(rest)), number, one)
        return self._end(r, one)._replace(unanswered=one), said

    def _settle_again(self, state: State, r: Replica, number: int, _: int) -> tuple[Replica, str]:
        """Send it once more; yet another copy of it may be on its way."""
        assert r.unanswered is not None
        one = r.unanswered
        said = self._settled(state, number, one)
        return r._replace(unanswered=None, duplicates=(*r.duplicates, one)), said

    def _duplicate(self, state: State, r: Replica, number: int, at: int) -> tuple[Replica, str]:
        said = self._settled(state, number, r.duplicates[at])
        return r._replace(duplicates=(*r.duplicates[:at], *r.duplicates[at + 1 :])), said

    # The rest...

    def _progress(self, state: State, r: Replica, number: int, at: int) -> tuple[Replica, str]:
        one = r.open[at]
        said = self._world.progress(
            boot(number, one.life), [(attempt_id(number, one.attempt), PART)]
        )
        reported = (*r.open[:at], one._replace(reported=True), *r.open[at + 1 :])
        return r._replace(open=reported), str(said)

    def _beat(self, state: State, r: Replica, number: int, _: int) -> tuple[Replica, str]:
        said = self._world.beat(boot(number, r.life), self._now(state), fresh=False)
        if said == "FENCED" and r.life < self._scope.lives:
            waiting = r.waiting
            if waiting is not None and waiting.again:
                r = r._replace(
                    queue=(*r.queue, Settle(waiting.attempt, r.life, 1, waiting.number + 1, 0))
                )
            return self._reborn(state, r, number), "reborn"
        return r, said

    def _die(self, state: State, r: Replica, number: int, _: int) -> tuple[Replica, str]:
        """End with everything that is open; what is on its way may still arrive."""
        copies = () if r.waiting is None else (self._copy(r.waiting, r.life),)
        return r._replace(
            next=self._scope.attempts[number],
            waiting=None,
            late=tuple(sorted((*r.late, *copies))),
            open=(),
            queue=(),
            unanswered=None,
            duplicates=(*r.duplicates, *((r.unanswered,) if r.unanswered else ())),
            dead=True,
        ), "died"

    def _known_to_be_dead(
        self, state: State, r: Replica, number: int, _: int
    ) -> tuple[Replica, str]:
        lives = {boot(number, life): oracle.DEAD for life in range(1, r.life + 1)}
        self._world.client.zadd(FIRST.beats, lives, xx=True)
        return r._replace(known=True), "said"

    # What must hold...

    def _broken(self, state: State, look: Look) -> Iterator[str]:
        """Yield the laws that do not hold in a state."""
        books = Books(look.content)
        for scope, held in books.scopes.items():
            if scope.startswith("users:"):
                continue  # what users have in common, no scope of its own
            if held.in_flight != books.in_flight[scope]:
                yield f"{scope}: in flight {held.in_flight}, leases {books.in_flight[scope]}"
            if held.in_flight < 0 or (held.concurrency and held.in_flight > held.concurrency):
                yield f"{scope}: {held.in_flight} in flight"
            for period, budget in held.budgets.items():
                leased = books.held[scope, period]
                if budget.held_nusd != leased:
                    yield f"{scope} per {period}: holds {budget.held_nusd}, leases hold {leased}"
                if budget.spent_nusd != books.cost[scope]:
                    yield f"{scope} per {period}: spent {budget.spent_nusd}, ledger {books.cost[scope]}"
                if budget.spent_nusd < 0 or budget.held_nusd < 0:
                    yield f"{scope} per {period}: {budget}"
                over = budget.spent_nusd + budget.held_nusd - budget.amount_nusd
                if budget.strict and over > 0:
                    yield f"{scope} per {period}: {over} over"
        for life in books.staying - books.lives:
            yield f"something stays of {life}, of which nothing is known any more"
        if books.totals != books.sums:
            yield f"totals {books.totals}, ledger {books.sums}"
        yield from self._charged(state, books)

    def _charged(self, state: State, books: "Books") -> Iterator[str]:
        """Yield attempts that are charged what they should not be."""
        for number, r in enumerate(state.replicas):
            for attempt in range(self._scope.attempts[number]):
                name = attempt_id(number, attempt)
                charged = books.charged[name]
                settled = any(a == attempt and word == "settled" for a, _, word in r.ended)
                estimates = {0, INPUT, INPUT + 2 * PART} if books.graves[name] else {0}
                cost = used(number, attempt)[1]
                allowed = {cost + e for e in estimates} if settled else estimates
                void = {life for a, life, word in r.ended if a == attempt and word == "void"}
                done = {life for a, life, _ in r.ended if a == attempt}
                if books.unsettled[name] <= done:
                    # Whatever was reaped has been told the truth since.
                    allowed = {cost if settled else 0}
                if charged not in allowed:
                    yield f"{name} is charged {charged}, expected one of {sorted(allowed)}"
                leased = books.leased[name]
                if leased & done:
                    yield f"{name} has ended ({r.ended}) and holds a lease of life {leased & done}"
                if len(void) + settled > self._scope.lives:
                    yield f"{name} ended {r.ended}"


class Books:
    """What the database says, decoded: scopes, leases, ledger and tombstones."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.scopes: dict[str, limits.ScopeState] = {}
        self.in_flight: Counter[str] = Counter()
        self.held: Counter[tuple[str, str]] = Counter()
        self.charged: Counter[str] = Counter()
        self.leased: dict[str, set[int]] = _sets()
        self.graves: dict[str, set[int]] = _sets()
        self.unsettled: dict[str, set[int]] = _sets()
        self.sums: tuple[int, ...] = (0, 0, 0, 0)
        self.totals = self.sums
        self.lives: set[str] = set()
        self.staying: set[str] = set()
        self.cost: Counter[str] = Counter()
        for key, value in content.items():
            kind, _, name = key.removeprefix(FIRST.tag + ":").partition(":")
            if kind in {"s", "d"}:
                scope = f"deployment:{name}" if kind == "d" else name
                fields = dict(value)
                self.scopes[scope] = limits.decode_scope(fields[LIMITS], fields.get(STATE))
            elif kind == "r":
                self.lives = {member.decode() for member, _ in value}
            elif kind == "l":
                self._leases(name, value)
            elif kind == "z":
                self._graves(name, value)
            elif kind == "led":
                self._ledger(value)
            elif kind == "tot":
                found = {field.decode(): int(number) for field, number in value}
                self.totals = tuple(
                    found[each]
                    for each in ("entries", "input_tokens", "output_tokens", "cost_nusd")
                )

    def _leases(self, name: str, value: Iterable[tuple[bytes, bytes]]) -> None:
        for attempt, packed in value:
            unpacker = msgpack.Unpacker(unicode_errors="surrogateescape")
            unpacker.feed(packed)
            head = next(unpacker)
            candidate = CANDIDATES[head[0] - 1]
            callers = (*SCOPES, *PLAN.user_scopes(USER))
            for scope in (*callers, *candidate.scopes):
                self.in_flight[scope] += 1
            for at in range(0, len(head[3]), 4):
                which, kind, _, amount = head[3][at : at + 4]
                scope = callers[which - 1] if which > 0 else candidate.scopes[-which - 1]
                self.held[scope, limits.PERIODS[kind]] += amount
            self.leased[attempt.decode()].add(int(name.rpartition(".")[2]))

    def _graves(self, name: str, value: Iterable[tuple[bytes, bytes]]) -> None:
        life = int(name.rpartition(".")[2])
        for attempt, packed in value:
            self.graves[attempt.decode()].add(life)
            settled, *_, stays = msgpack.unpackb(packed)
            if isinstance(stays, list):
                self.staying.add(name)
            if not settled:
                self.unsettled[attempt.decode()].add(life)
            for at in range(0, len(stays) if isinstance(stays, list) else 0, 5):
                key, _, kind, _, amount = stays[at : at + 5]
                self.held[limits.scope_of(key), limits.PERIODS[kind]] += amount

    def _ledger(self, value: Iterable[bytes]) -> None:
        entries = [msgpack.unpackb(packed) for packed in value]
        self.sums = (
            len(entries),
            sum(entry[PLACES["input"]] for entry in entries),
            sum(entry[PLACES["output"]] for entry in entries),
            sum(entry[PLACES["cost"]] for entry in entries),
        )
        for entry in entries:
            model, deployment, provider = entry[SERVED_BY]
            served_by = (f"deployment:{deployment}", f"model:{model}", f"provider:{provider}")
            for scope in (*SCOPES, *PLAN.user_scopes(USER), *served_by):
                self.cost[scope] += entry[PLACES["cost"]]
            self.charged[entry[0].partition("+")[0]] += entry[PLACES["cost"]]


def _sets() -> Any:
    from collections import defaultdict  # noqa: PLC0415

    return defaultdict(set)


def explore(client: "redis.Redis[bytes]", scope: Scope, within_s: float = float("inf")) -> Findings:
    """Go through a scope on a server."""
    return Explorer(World(client), scope).find(within_s)


def tell(scope: Scope, found: Findings) -> str:
    """Render findings."""
    lines = [
        f"{len(scope.attempts)} replicas, attempts {scope.attempts}, {scope.lives} lives each, {scope.faults} faults,"
        f" {scope.deaths} deaths, {scope.hours} hours: "
        f"{found.states:,} states, {found.steps:,} steps, up to {found.deepest} deep, in {found.took_s} s"
        + ("" if found.complete else " (NOT COMPLETE)"),
    ]
    lines += [f"  broken: {words}" for words in found.broken]
    return "\n".join(lines)


# What the command goes through by default: more attempts, or more lives and faults.
USUAL = (
    Scope(attempts=(2,), lives=2, faults=1),
    Scope(attempts=(3,), lives=1, faults=0),
    Scope(attempts=(1, 1), lives=2, faults=0),
    Scope(attempts=(1, 1), lives=1, faults=1),
    Scope(attempts=(2, 1), lives=1, faults=0),
    Scope(attempts=(2, 2), lives=1, faults=0),
    Scope(attempts=(3, 2), lives=1, faults=0),
    Scope(attempts=(2, 1), lives=1, faults=0, deaths=1),
    Scope(attempts=(1, 1), lives=2, faults=0, deaths=1),
    Scope(attempts=(1, 1), lives=2, faults=0, hours=1),
    Scope(attempts=(2, 1), lives=1, faults=0, hours=1),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the drill; gives 0, or 1 when a law is broken or the time was too short."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.drills.interleavings", description=__doc__
    )
    parser.add_argument(
        "--attempts",
        type=int,
        nargs="+",
        metavar="N",
        help="of each replica (default: several scopes of up to four attempts)",
    )
    parser.add_argument("--lives", type=int, default=1, help="boot ids of each replica (1)")
    parser.add_argument(
        "--faults", type=int, default=0, help="lost connections and given up sendings, in all (0)"
    )
    parser.add_argument("--deaths", type=int, default=0, help="processes that die (0)")
    parser.add_argument("--hours", type=int, choices=(0, 1), default=0, help="that pass (0)")
    parser.add_argument(
        "--within", type=float, default=3600.0, metavar="S", help="give a scope up after so long"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write raw results and machine")
    given = parser.parse_args(arguments)
    scopes: tuple[Scope, ...] = USUAL
    if given.attempts:
        scopes = (
            Scope(tuple(given.attempts), given.lives, given.faults, given.deaths, given.hours),
        )
    every = []
    with server() as (client, version):
        for scope in scopes:
            found = explore(client, scope, given.within)
            every.append((scope, found))
            print(tell(scope, found), flush=True)  # noqa: T201
    if given.json is not None:
        report.write(
            given.json,
            {
                "drill": "interleavings",
                "machine": report.machine(version),
                "scripts": scripts_of(),
                "scopes": [{"scope": scope, "found": found} for scope, found in every],
            },
        )
    return 0 if all(found.complete and not found.broken for _, found in every) else 1


if __name__ == "__main__":
    sys.exit(main())
