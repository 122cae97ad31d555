"""All orders of a few operations of two replicas, and that the search would see a fault."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.drills import interleavings
from tests.drills.interleavings import Explorer, Scope, World, explore


@pytest.fixture
def client(redis_url: str) -> Iterator["redis.Redis[bytes]"]:
    """Hand out the shared server, emptied."""
    with redis.Redis.from_url(redis_url) as found:
        found.flushall()
        yield found


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        (
            Scope(attempts=(1, 1), lives=1, faults=0),
            ("admit: denied", "reap: 1", "progress: 1", "settle: 1"),
        ),
        (
            Scope(attempts=(1,), lives=2, faults=1),
            ("late copy: LATE", "settle again: SEEN", "beat: reborn", "late copy: granted"),
        ),
        (
            Scope(attempts=(2,), lives=1, faults=0, deaths=1),
            ("die: died", "known to be dead: said", "reap: 0", "reap: 1"),
        ),
        (
            Scope(attempts=(2,), lives=1, faults=0, hours=1),
            ("time: passed", "fence: 0 dead", "reap: 1", "settle: 1"),
        ),
    ],
    ids=[
        "two replicas",
        "one replica, two lives, a fault",
        "a process that dies",
        "an hour of silence",
    ],
)
def test_every_order_keeps_every_law(
    client: "redis.Redis[bytes]", scope: Scope, words: tuple[str, ...]
) -> None:
    """To the end of the scope; `python -m tests.drills.interleavings` goes further."""
    found = explore(client, scope)
    assert found.broken == []
    assert found.complete
    assert found.ends > 0
    for word in words:
        assert found.said[word] > 0, found.said


class Forgetful(World):
    """A world whose reaper leaves the totals as they are, and whose progress holds a token more."""

    def reap(self, name: str, attempts: list[str], now: int, last: int | None = None) -> str | int:
        """Reap, and forget what it cost."""
        before = self.totals()
        said = super().reap(name, attempts, now, last)
        if before:
            self.client.hset("{c0}:tot", "cost_nusd", before["cost_nusd"])
        return said


class Twice(World):
    """A world that applies what it has seen."""

    def settle(self, name: str, number: int, *args: Any) -> str | int:
        """Forget which batch was the last."""
        self.client.delete(f"{{c0}}:q:{name}")
        return super().settle(name, number, *args)


class Hasty(World):
    """A world that takes the silent for dead."""

    def fence(self, now: int) -> set[str]:
        """Let nothing stay reserved."""
        found = super().fence(now)
        for name in found:
            self.client.zadd("{c0}:r", {name: -1}, xx=True)
        return found


@pytest.mark.parametrize(
    ("faulty", "scope", "words"),
    [
        (Hasty, Scope(attempts=(1, 1), lives=1, faults=0), "team:o/t per day: 3 over"),
        (Forgetful, Scope(attempts=(2,), lives=1, faults=0), "totals"),
        (Twice, Scope(attempts=(1,), lives=1, faults=1), "is charged"),
    ],
)
def test_a_planted_fault_is_found(
    client: "redis.Redis[bytes]", faulty: type[World], scope: Scope, words: str
) -> None:
    """With the way that leads there."""
    found = Explorer(faulty(client), scope).find(30)
    assert any(words in broken for broken in found.broken), found
    assert "after [Step(" in found.broken[0]


def test_the_command_tells_and_records(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    """A scope of one attempt each, and a time that is too short."""
    record = tmp_path / "found.json"
    given = ["--attempts", "1", "--json", str(record)]
    assert interleavings.main(given) == 0
    assert "states" in capsys.readouterr().out
    assert '"broken": []' in record.read_text()
    assert interleavings.main([*given, "--within", "0"]) == 1
    assert "NOT COMPLETE" in capsys.readouterr().out
