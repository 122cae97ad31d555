"""Commands carry what the scripts declare, in types that the server can unpack."""

from typing import Any

import msgpack

from ratelimit.asks import STREAM, Ask, Settlement, boot_of
from ratelimit.commands import admit_command, settle_command
from ratelimit.limits import Plan
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
                    kind=STREAM,
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
