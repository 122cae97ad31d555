"""Asks and answers: commands carry what the scripts declare, and answers become words."""

from typing import Any

import msgpack
import pytest

from ratelimit import asks
from ratelimit.asks import (
    Ask,
    Denied,
    Grant,
    Settlement,
    admit_command,
    boot_of,
    denied,
    replica_name,
    settle_command,
)
from ratelimit.limits import Candidate, Plan
from store import scripts
from store.cells import FIRST
from tests.ratelimit.gates import plan_of

BOOT = boot_of("host/0.abcd")


def ask(plan: Plan, number: int = 1, **wish: Any) -> Ask:
    plain = {"input": 1, "bound": 2, "cap": 3, "assumed": 4, "n": 5, "first": False}
    plain |= {"excluded": (2,), "tie": 6, "user": "ü"} | wish
    return Ask(plan, f"q{number}.1", **plain)


def settlement(plan: Plan, number: int = 1, **changes: Any) -> Settlement:
    plain = {"candidate": 0, "input_tokens": 1, "output_tokens": 2, "cost_nusd": 3, "health": 1}
    plain |= {"ttft_us": 4, "cool_us": 5, "streamed": True, "entry": b"\x93\x01\x02\xff"}
    return Settlement(plan, BOOT, f"q{number}.1", **plain | changes)


def laid_out(command: Any, name: str) -> dict[str, list[Any]]:
    """Read a command by the header of its script: what is declared last may be many."""
    script = scripts.load("ratelimit", name)
    verb, sha, count, *rest = command
    assert (verb, sha) == ("EVALSHA", script.sha)
    found = {}
    for names, values in ((script.keys, rest[:count]), (script.args, rest[count:])):
        found |= {label: [value] for label, value in zip(names[:-1], values, strict=False)}
        found[names[-1]] = values[len(names) - 1 :]
    return found


def test_an_admission_carries_what_its_script_declares() -> None:
    """Keys first, each once; then the plans that the asks name, each once; then the asks."""
    one, two = plan_of("d1", "d2"), plan_of("d2")
    sha = scripts.load("ratelimit", "admit").sha
    found = laid_out(
        admit_command(
            sha,
            BOOT,
            [
                ask(one),
                ask(
                    two,
                    2,
                    level=3,
                    may_wait=True,
                    tiers=b"\x00\xff",
                    fees=(5,),
                    kind=asks.STREAM,
                    favoured=2,
                ),
                ask(one, 3),
            ],
            number=7,
            again=True,
            now="8",
        ),
        "admit",
    )
    assert found["beats"] == [FIRST.beats]
    assert (found["leases"], found["bar"]) == ([BOOT.leases], [BOOT.bar])
    assert found["scopes"] == list(one.keys)
    assert (found["now"], found["member"]) == (["8"], ["host/0.abcd"])
    assert (found["number"], found["again"], found["count"]) == ([7], ["1"], [2])
    assert found["plans"][:2] == [one.packed, two.packed]
    rows = [msgpack.unpackb(row, unicode_errors="surrogateescape") for row in found["plans"][2:]]
    assert [row[:2] for row in rows] == [[1, "q1.1"], [2, "q2.1"], [1, "q3.1"]]
    assert rows[0][2:] == [1, 2, 3, 4, 5, 0, [2], 6, "ü", 2, 0, "", [], 1, 0]
    assert rows[1][11:] == [3, 1, "\0\udcff", [5], 2, 2]


def test_a_settlement_carries_what_its_script_declares() -> None:
    """The candidate counts from 1 there; of several things given up the latest bars all."""
    plan = plan_of()
    sha = scripts.load("ratelimit", "settle").sha
    batch = [settlement(plan), settlement(plan, 2, void=True, void_to=9, streamed=False)]
    batch.append(settlement(plan, 3, void=True, void_to=4))
    found = laid_out(settle_command(sha, BOOT, 12, batch), "settle")
    keys = {name: found[name] for name in ("leases", "seen", "bar", "graves", "parts")}
    assert keys == {name: [getattr(BOOT, name)] for name in keys}
    assert (found["ledger"], found["totals"]) == ([FIRST.ledger], [FIRST.totals])
    assert found["scopes"] == [*plan.keys, FIRST.events]
    assert (found["now"], found["number"], found["void_to"]) == ([""], [12], [9])
    assert found["plans"][0] == plan.packed
    first = msgpack.unpackb(found["plans"][1], raw=True)
    assert first == [1, b"q1.1", 1, 1, 2, 3, 1, 4, 5, 0, 1, b"\x93\x01\x02\xff", b"", 1, 0]
    assert [msgpack.unpackb(row, raw=True)[9:11] for row in found["plans"][2:]] == [[1, 0], [1, 1]]


def test_nothing_travels_as_a_type_that_the_server_cannot_unpack() -> None:
    """Its cmsgpack knows no binary type: bytes go as strings, whatever their length."""
    for size in (1, 100, 300, 70_000):
        row = settle_command("s", BOOT, 1, [settlement(plan_of(), entry=b"\xff" * size)])[-1]
        assert isinstance(row, bytes)
        # Read back, a binary would be bytes.
        entry = msgpack.unpackb(row, unicode_errors="surrogateescape")[11]
        assert entry == "\udcff" * size


def test_every_key_of_a_boot_lies_in_the_cell() -> None:
    """One script touches one slot, so all of them share its tag; and no two are the same."""
    keys = [BOOT.leases, BOOT.bar, BOOT.seen, BOOT.graves, BOOT.parts]
    assert len(set(keys)) == 5
    assert all(key.startswith(f"{FIRST.tag}:") and key.endswith(":host/0.abcd") for key in keys)
    assert {
        key.split(":")[0] for key in (FIRST.beats, FIRST.ledger, FIRST.totals, *plan_of().keys)
    } == {FIRST.tag}


def test_a_plan_without_candidates_is_a_mistake() -> None:
    """Whoever makes one learns it at once, not from the script."""
    with pytest.raises(ValueError, match="candidate"):
        Plan(("org:o",), (), b"")


def test_a_plan_names_each_key_once() -> None:
    """Candidates of one model share its scope."""
    two = Candidate("d2", "m", 0, 1, 1, 1, 1, "p")
    plan = Plan(("key:o/t/k", "org:o"), (Candidate("d1", "m", 0, 1, 1, 1, 1, "p"), two), b"")
    assert plan.keys == (
        "{c0}:s:key:o/t/k",
        "{c0}:s:org:o",
        "{c0}:d:d1",
        "{c0}:s:model:m",
        "{c0}:d:d2",
    )


def test_a_grant_counts_candidates_from_zero() -> None:
    """As a list in Python does."""
    grant = Grant([1, 2, 256, 99, [1, 2, 3, 4, 5, 6], 3, "10", 7.5], BOOT)
    assert (grant.candidate, grant.cap, grant.at_us) == (1, 256, 99)
    assert (grant.why, grant.lost, grant.boot) == ("load", "10", BOOT)


def test_a_refusal_names_the_scope_that_binds() -> None:
    """By the plan's own word; a budget says its period, too."""
    row = [0, 4, 3, 500, 0, 99, [0] * 6, 2]
    assert denied(ask(plan_of()), row) == Denied("budget", "org:o", 500, 0, 99, [0] * 6, "week")
    row = [0, 2, 1, 500, 70, 99, [0] * 6, 5]
    said = denied(ask(plan_of()), row)
    assert said == Denied("tokens", "key:o/t/k", 500, 70, 99, [0] * 6, rate="tpm")
    plain = plan_of()
    plan = Plan(plain.scopes, plain.candidates, b"", ("o/e", "o"))
    said = denied(ask(plan), [0, 3, 5, 2, 0, 99, [0] * 6, 0])
    assert (said.scope, said.rate) == ("user:o#ü", "")


def test_every_number_of_the_scripts_has_its_word() -> None:
    """What the header of admit lists is what callers and operators read."""
    text = scripts.read("ratelimit", "admit")
    assert set(asks.DENIED_WORDS) == {1, 2, 3, 4, 5}
    assert set(asks.WHY_WORDS) == {1, 2, 3, 4, 5, 6}
    assert set(asks.LOST_WORDS) == set("0123456789abcdef")
    for said in (
        "1 requests, 2 tokens, 3 concurrency, 4 budget",
        "1 drained, 2 cooling",
        "4 all were failing: the least bad",
        "5 to try it, 6 favoured",
        "e half-open and being tried, f offline",
    ):
        assert said in text


def test_a_replica_is_named_after_its_host_and_number() -> None:
    """So that operators find it; a slash parts the two."""
    host, _, number = replica_name(3).rpartition("/")
    assert host
    assert number == "3"
