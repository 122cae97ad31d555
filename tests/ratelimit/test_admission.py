"""
Admission over a real server that works: batches, answers, limits that were lost, callers that leave.

What happens when the server does not work stands in `test_outages`.
"""

import asyncio
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from config.quotas import Budget, Limits
from ratelimit.admission import RESEEDS
from ratelimit.asks import Ask, Denied, Grant, Nobody
from ratelimit.commands import BATCH
from ratelimit.limits import scope_key
from ratelimit.troubles import StoreUnavailable
from tests.patience import within
from tests.ratelimit.gates import KEY, ORG, TEAM, World, until
from tests.store.peers import Pipe

# Asking...


async def test_an_attempt_is_admitted_and_settled(world: World) -> None:
    """A grant says where, with which cap, and what remains; afterwards nothing is held and the entry is booked."""
    world.limits[KEY] = Limits(rpm=60, tpm=60_000)
    world.budgets[TEAM] = (Budget(usd=1, per="month", mode="strict"),)
    gate = await world.gate()
    ask, grant = await world.granted(gate, tie=1)
    assert (grant.candidate, grant.cap, grant.why, grant.lost) == (1, 90, "load", "00")
    assert list(grant.limits[:2]) == [60, 59]
    assert list(grant.limits[3:5]) == [60_000, 59_900]
    assert grant.boot is gate.boot
    assert await world.leases() == 1
    assert (await world.scope(TEAM)).budgets["month"].held_nusd == 100
    world.settle(gate, ask, grant, cost=77)
    await world.settles_down(gate)
    assert (await world.scope(TEAM)).budgets["month"].spent_nusd == 77
    assert (await world.scope(TEAM)).budgets["month"].held_nusd == 0
    await world.assert_books()


async def test_refusals_come_back_as_words(world: World) -> None:
    """Which limit, how large, when it frees; or why each candidate lost."""
    world.limits[ORG] = Limits(rpm=1)
    gate = await world.gate()
    ask, grant = await world.granted(gate)
    refused = await gate.admit(world.ask())
    assert isinstance(refused, Denied)
    assert (refused.what, refused.scope, refused.limit, refused.period) == ("requests", ORG, 1, "")
    assert 0 < refused.retry_us <= 60_000_000
    nobody = await gate.admit(world.ask(first=False, excluded=(1, 2)))
    assert isinstance(nobody, Nobody)
    assert nobody.lost == ("tried", "tried")
    world.settle(gate, ask, grant)
    await world.client.delete(scope_key(TEAM))
    world.limits[ORG] = Limits()
    world.budgets[TEAM] = (Budget(usd=Decimal("0.000000001"), per="week"),)
    await world.client.delete(scope_key(ORG))
    assert isinstance(await world.exchange(gate, cap=1, input=0), Grant)
    await gate.drain(5)
    refused = await gate.admit(world.ask())
    assert isinstance(refused, Denied)
    assert (refused.what, refused.scope, refused.period) == ("budget", TEAM, "week")
    assert refused.limit == 1


async def test_asks_that_come_together_travel_together(world: World) -> None:
    """Nobody waits for company: the first batch is what has come by now, at most 64."""
    gate = await world.gate()
    sizes: list[tuple[str, int]] = []
    gate._admission._observe = gate._settling._observe = lambda kind, size, _: sizes.append(
        (kind, size)
    )
    await world.exchange(gate)
    await gate.drain(5)
    # The first was asked once more when its limits had been seeded.
    assert sizes == [("admit", 1), ("admit", 1), ("settle", 1)]
    del sizes[:]
    answers = await asyncio.gather(*(world.exchange(gate) for _ in range(2 * BATCH + 5)))
    assert {type(answer) for answer in answers} == {Grant}
    await world.settles_down(gate)
    assert [size for kind, size in sizes if kind == "admit"] == [BATCH, BATCH, 5]
    settled = [size for kind, size in sizes if kind == "settle"]
    assert sum(settled) == 2 * BATCH + 5
    assert max(settled) <= BATCH
    await world.assert_books()


async def test_while_one_call_is_in_flight_the_rest_form_the_next(world: World, pipe: Pipe) -> None:
    """One call at a time; what arrives meanwhile coalesces, and is answered in the order in which it came."""
    gate = await world.gate(admit_url=pipe.url)
    await world.exchange(gate)
    await gate.drain(5)
    before = gate.stats.admit_batches
    pipe.hold()
    order: list[int] = []

    async def one(n: int) -> None:
        await world.exchange(gate)
        order.append(n)

    tasks = [asyncio.ensure_future(one(0))]
    await asyncio.sleep(0.02)
    for n in range(1, 101):
        tasks.append(asyncio.ensure_future(one(n)))
        await asyncio.sleep(0)
    assert order == []
    pipe.release()
    await asyncio.gather(*tasks)
    assert gate.stats.admit_batches - before == 3
    assert order == list(range(101))


async def test_fifty_ask_for_ten_places(world: World) -> None:
    """However the asks of two replicas interleave, exactly ten are granted."""
    world.limits[TEAM] = Limits(concurrency=10)
    gates = [await world.gate("r/0"), await world.gate("r/1")]
    await asyncio.gather(*(world.seed([scope_key(scope)]) for scope in world.limits))

    async def one(n: int) -> str:
        for _ in range(n % 7):
            await asyncio.sleep(0)
        answer = await gates[n % 2].admit(world.ask())
        return answer.what if isinstance(answer, Denied) else type(answer).__name__

    answers = await asyncio.gather(*(one(n) for n in range(50)))
    assert Counter(answers) == {"Grant": 10, "concurrency": 40}
    assert (await world.in_flight())[TEAM] == 10


async def test_fifty_ask_for_the_last_money(world: World) -> None:
    """A strict budget that pays for ten pays for exactly ten, whoever is first."""
    world.budgets[ORG] = (Budget(usd=Decimal("0.000001"), per="day", mode="strict"),)
    gates = [await world.gate("r/0"), await world.gate("r/1")]

    async def one(n: int) -> bool:
        for _ in range(n % 5):
            await asyncio.sleep(0)
        gate, ask = gates[n % 2], world.ask()
        answer = await gate.admit(ask)
        if isinstance(answer, Grant):
            world.settle(gate, ask, answer, cost=100)
        return isinstance(answer, Grant)

    assert sum(await asyncio.gather(*(one(n) for n in range(50)))) == 10
    for gate in gates:
        await world.settles_down(gate)
    budget = (await world.scope(ORG)).budgets["day"]
    assert (budget.spent_nusd, budget.held_nusd) == (1000, 0)


# A store that has forgotten something...


async def test_flushed_scripts_are_loaded_again(world: World) -> None:
    """SCRIPT FLUSH between two calls costs a round trip and nothing else."""
    gate = await world.gate()
    for _ in range(3):
        ask, grant = await world.granted(gate)
        await world.client.script_flush()
        world.settle(gate, ask, grant)
        await world.settles_down(gate)
        await world.client.script_flush()
    await world.assert_books()
    assert gate.stats.unavailable == 0


async def test_a_flush_never_opens_the_gate(world: World) -> None:
    """The limits are written again before anybody passes: of twenty asks right after it, five are granted."""
    world.limits[KEY] = Limits(rpm=5)
    gate = await world.gate()
    await world.exchange(gate)
    await gate.drain(5)
    boot = gate.boot
    await world.client.flushall()
    answers = await asyncio.gather(*(gate.admit(world.ask()) for _ in range(20)))
    assert Counter(type(answer) for answer in answers) == {Grant: 5, Denied: 15}
    assert gate.boot is not boot
    assert gate.stats.reseeded >= 2 * len(world.limits) - 1


async def test_flushes_while_calls_run_cost_nobody_an_answer(world: World) -> None:
    """Between admit and settle, again and again: each ask is answered, and in the end nothing is in flight."""
    gate = await world.gate()
    done = asyncio.Event()

    async def flushing() -> None:
        while not done.is_set():
            await world.client.flushall()
            await asyncio.sleep(0.01)

    flusher = asyncio.ensure_future(flushing())
    answers = []
    for _ in range(30):
        answers += await asyncio.gather(*(world.exchange(gate) for _ in range(10)))
    done.set()
    await flusher
    assert {type(answer) for answer in answers} <= {Grant, StoreUnavailable}
    assert Counter(type(answer) for answer in answers)[Grant] > 200
    await world.exchange(gate)
    await world.settles_down(gate)


async def test_a_scope_that_nobody_knows_is_refused_soon(world: World) -> None:
    """Seeding is tried a few times, not as often as fits into the timeout."""
    del world.limits[TEAM]
    gate = await world.gate(timeout_s=5.0)
    with pytest.raises(StoreUnavailable, match="limits"):
        await gate.admit(world.ask())
    assert len(world.seedings) <= RESEEDS + 1
    world.limits[TEAM] = Limits()
    assert isinstance(await world.exchange(gate), Grant)


async def test_asks_whose_limits_cannot_be_written_are_refused(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong with the seeding, they get their answer; and the log gets a line, not many."""

    async def failing(_: list[str]) -> None:
        raise KeyError("secret-canary")

    gate = await world.gate(seed=failing)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="lost its limits"):
            await gate.admit(world.ask())
    lines = [one.getMessage() for one in caplog.records if one.name == "penstock.gate"]
    assert lines == ["the store fails at seeding: KeyError"]
    gate._admission._seed = world.seed
    assert isinstance(await world.exchange(gate), Grant)
    assert caplog.records[-1].getMessage().startswith("the store is back for seeding after")


async def test_a_seeding_that_hangs_is_given_up_in_time(world: World) -> None:
    """The asks' own time counts, whoever it is spent on."""

    async def hanging(_: list[str]) -> None:
        await asyncio.sleep(60)

    gate = await world.gate(seed=hanging, timeout_s=0.1)
    async with within(1):
        with pytest.raises(StoreUnavailable):
            await gate.admit(world.ask())


# What cannot be sent...


async def test_an_ask_that_cannot_be_packed_is_its_callers_error_alone(world: World) -> None:
    """A number beyond 64 bits or a broken text gets an error; the asks beside it are granted."""
    gate = await world.gate()
    asks = [
        world.ask(),
        world.ask(cap=10**30),
        world.ask(),
        world.ask(user="\ud800"),
        world.ask(),
    ]
    answers = await asyncio.gather(*(gate.admit(ask) for ask in asks), return_exceptions=True)
    assert [type(answer) for answer in answers] == [
        Grant,
        OverflowError,
        Grant,
        UnicodeEncodeError,
        Grant,
    ]
    with pytest.raises(OverflowError):
        await gate.admit(world.ask(input=-(10**30)))
    assert isinstance(await world.exchange(gate), Grant)


# Callers that leave...


async def test_an_ask_whose_caller_left_before_it_was_sent_is_not_sent(
    world: World, pipe: Pipe
) -> None:
    """A cancelled wait costs the store nothing."""
    gate = await world.gate(admit_url=pipe.url)
    await world.exchange(gate)
    pipe.hold()
    first = asyncio.ensure_future(world.exchange(gate))
    await asyncio.sleep(0.01)
    second = asyncio.ensure_future(world.exchange(gate))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    pipe.release()
    await first
    await world.settles_down(gate)
    assert gate.stats.admit_asks == 3


async def test_a_caller_who_leaves_while_the_store_grants_leaves_no_lease(
    world: World, pipe: Pipe
) -> None:
    """The grant that nobody waits for any more is given back, without an entry."""
    gate = await world.gate(admit_url=pipe.url)
    await world.exchange(gate)
    pipe.hold()
    callers = [asyncio.ensure_future(world.exchange(gate)) for _ in range(5)]
    await until(lambda: _is(world.leases, 5))
    for caller in callers[1:]:
        caller.cancel()
    pipe.release()
    await asyncio.gather(*callers, return_exceptions=True)
    await world.settles_down(gate)
    await world.assert_books()
    assert len(world.settled) == 2


async def test_a_caller_who_leaves_before_a_second_sending_leaves_no_lease(world: World) -> None:
    """The first was granted, and its answer was lost: nobody else knows of that lease."""
    gate = await world.gate()
    ask, _ = await world.granted(gate)
    ask.again = True
    ask.answer = asyncio.get_running_loop().create_future()
    ask.answer.cancel()
    gate._admission._asks.append(ask)
    gate._admission._send_asks()
    await world.settles_down(gate)


async def _is(question: Any, answer: Any) -> bool:
    return bool(await question() == answer)


async def test_a_caller_who_is_cancelled_with_the_grant_in_hand_abandons_it(world: World) -> None:
    """The answer has come, but its task is cancelled before it sees it: `abandon` gives it back."""
    gate = await world.gate()
    asks: list[Ask] = []

    async def caller() -> None:
        ask = world.ask()
        asks.append(ask)
        answer = gate.admit(ask)
        # Before the task itself hears of the answer.
        answer.add_done_callback(lambda _: task.cancel())
        try:
            await answer
        except asyncio.CancelledError:
            gate.abandon(ask)
            raise
        pytest.fail("it was to be cancelled before it saw the grant")

    task = asyncio.ensure_future(caller())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asks[0].answer.done()
    assert not asks[0].answer.cancelled()
    await world.settles_down(gate)
    assert await world.totals() == (0, 0)


async def test_to_abandon_is_right_in_every_state(world: World, pipe: Pipe) -> None:
    """Waiting, refused, denied or already cancelled: it never raises, and never holds anything."""
    world.limits[KEY] = Limits(concurrency=1)
    gate = await world.gate(admit_url=pipe.url)
    had = await world.granted(gate)
    denied = world.ask()
    assert isinstance(await gate.admit(denied), Denied)
    gate.abandon(denied)
    gate.abandon(denied)
    world.settle(gate, *had)
    await gate.drain(5)
    pipe.hold()
    waiting = world.ask()
    answer = gate.admit(waiting)
    await until(lambda: _is(world.leases, 1))
    gate.abandon(waiting)
    gate.abandon(waiting)
    assert answer.cancelled()
    pipe.release()
    await world.settles_down(gate)
    await gate.close()
    refused = world.ask()
    gate.admit(refused)
    gate.abandon(refused)
