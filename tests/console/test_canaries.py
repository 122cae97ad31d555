"""Laws of the watch over canaries: it begins, raises and takes back by changes of the live configuration, with who and why."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from config import live
from config.loader import load_published, load_text
from config.models import Config
from console.canaries import Canaries, since_us

Ledger = Any  # the fixture of this folder's conftest

START = datetime(2026, 11, 22, 3, 36, tzinfo=UTC)
CANARY = {"model": "b", "steps": [10, 50], "step_s": 60, "min_samples": 20}


class Watch:
    """A watch over the canary `luna`, with a clock that stands still until it is moved on."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.now = START
        self.calls = 0
        self.running: tuple[Config, int] | None = None
        self.canaries = Canaries(
            ledger.redis,
            ledger.path,
            lambda: self.running,
            {},
            by="here/control",
            now=lambda: self.now,
        )

    async def publish(self, **said: Any) -> None:
        """Publish a configuration with the canary."""
        price = {"input": 1, "output": 1}
        document = {
            "providers": {"mock": {"protocol": "openai", "base_url": "http://127.0.0.1:9"}},
            "models": {
                name: {"price": price, "deployments": [{"provider": "mock"}]} for name in ("a", "b")
            },
            "experiments": said
            if "luna" in said
            else {"luna": {"asked": "a", "canary": CANARY} | said},
        }
        loaded = load_text(json.dumps(document), source="test", environ={})
        await live.publish(self.ledger.redis, loaded.document, by="t", why="t", expected=None)
        await self.follow()

    async def follow(self) -> live.Version:
        """Run what is live, as the control does."""
        version = await live.current(self.ledger.redis)
        assert version is not None
        self.running = load_published(version.document, {}), version.number
        return version

    async def look(self) -> live.Version:
        """Let it look, and run what came of it."""
        await self.canaries.look()
        return await self.follow()

    async def serve(self, arm: str, count: int, outcome: str = "ok") -> None:
        """Write tries of an arm into the ledger."""
        for _ in range(count):
            self.calls += 1
            said = {"outcome": outcome, "ttft_us": 1000, "cost_nusd": 5}
            at_us = int(self.now.timestamp() * 1_000_000) + 1_000_000
            await self.ledger.append(
                f"r{self.calls}.1", at_us=at_us, experiment=f"luna/{arm}", **said
            )
        await self.ledger.drain()

    @property
    def canary(self) -> Any:
        """What runs of it."""
        assert self.running is not None
        return self.running[0].experiments["luna"]


@pytest.fixture
def watch(ledger: Ledger) -> Watch:
    """Give a watch over a canary."""
    return Watch(ledger)


async def test_a_canary_that_does_harm_is_taken_back(watch: Watch) -> None:
    """By whom and why stands in the history, and the reason in the configuration; nothing begins it again."""
    await watch.publish()
    begun = await watch.look()
    assert (begun.kind, begun.by) == ("experiment.begin", "here/control")
    assert begun.why == "canary luna begins with 10 % of the calls"
    assert since_us(watch.canary.canary) == int(START.timestamp() * 1_000_000) + 1_000_000
    await watch.serve("canary", 15, "overloaded")
    await watch.serve("canary", 10)
    await watch.serve("control", 60)
    stopped = await watch.look()
    assert (stopped.kind, stopped.by) == ("experiment.rollback", "here/control")
    assert stopped.why == (
        "canary luna is taken back: failures 60.0% against 0.0%, where 2 points more is allowed;"
        " 25 and 60 tries"
    )
    assert watch.canary.stopped == stopped.why.partition(": ")[2]
    watch.now += timedelta(days=1)
    assert (await watch.look()).number == stopped.number
    assert watch.canaries.counts() == {
        ("luna", "begin"): 1,
        ("luna", "raise"): 0,
        ("luna", "rollback"): 1,
    }


async def test_a_canary_that_does_none_rises_to_its_last_step(watch: Watch) -> None:
    """Each step has its time and its samples; what was served in the one before counts no more."""
    await watch.publish()
    begun = await watch.look()
    await watch.serve("canary", 20)
    await watch.serve("control", 20)
    assert (await watch.look()).number == begun.number
    watch.now += timedelta(seconds=61)
    raised = await watch.look()
    assert (raised.kind, raised.why) == (
        "experiment.raise",
        "canary luna goes from 10 % to 50 %: it did no harm",
    )
    assert watch.canary.canary.step == 1
    watch.now += timedelta(seconds=61)
    assert (await watch.look()).number == raised.number
    await watch.serve("canary", 20)
    await watch.serve("control", 20)
    assert (await watch.look()).number == raised.number


async def test_what_does_harm_goes_first(watch: Watch) -> None:
    """A rollback waits for nobody's beginning, and for nobody's mistake."""
    sol = {"asked": "b", "canary": {"model": "a"}}
    await watch.publish(
        luna={"asked": "a", "canary": CANARY | {"since": "2026-11-22T03:00:00Z"}}, sol=sol
    )
    await watch.serve("canary", 25, "overloaded")
    await watch.serve("control", 25)
    assert (await watch.look()).kind == "experiment.rollback"
    assert (await watch.look()).why == "canary sol begins with 1 % of the calls"


async def test_the_clock_is_the_stores(ledger: Ledger) -> None:
    """By which the entries are dated as well."""
    watch = Watch(ledger)
    watch.canaries = Canaries(ledger.redis, ledger.path, lambda: watch.running, {}, by="c")
    await watch.publish()
    await watch.look()
    seconds, _ = await ledger.redis.time()
    begun_us = since_us(watch.canary.canary)
    assert begun_us is not None
    assert abs(begun_us / 1_000_000 - seconds) < 60


async def test_a_change_that_came_between_is_never_undone(watch: Watch) -> None:
    """What was judged by is not live any more: the next look is at what is."""
    await watch.publish()
    before = watch.running
    await watch.publish(stopped="the vendor asked us to")
    number = (await watch.follow()).number
    watch.running = before
    await watch.canaries.look()
    assert (await watch.follow()).number == number


async def test_what_is_no_running_canary_is_left_alone(watch: Watch) -> None:
    """A/B tests, what is stopped, and a control that runs nothing yet."""
    await watch.canaries.look()
    await watch.publish(stopped="not yet")
    number = (await watch.look()).number
    await watch.publish(canary=None, arms={"x": {}, "y": {"model": "b"}})
    assert (await watch.look()).number == number + 1
