"""
The calls of scripts by which attempts are admitted, asserted and settled, a batch in each.

A command is made here and read again here, by whoever inherits what another could no longer send; nothing here does I/O.
The layouts stand in the headers of `lua/admit.lua`, `lua/assert.lua` and `lua/settle.lua`.
"""

from collections.abc import Container, Iterable

import msgpack

from ratelimit.asks import Ask, Boot, Grant, Settlement
from ratelimit.journal import Command
from ratelimit.limits import Plan, scope_key

# Most asks, or settlements, that travel in one call.
BATCH = 64
# What packing raises of a number beyond 64 bits, or of a broken text.
UNPACKABLE = (OverflowError, TypeError, ValueError)

# The server's cmsgpack knows no binary type: bytes travel as strings.
_pack = msgpack.Packer(use_bin_type=False).pack


class Plans:
    """The distinct plans of a batch: their numbers, their bytes, their keys."""

    __slots__ = ("keys", "numbers", "packed")

    def __init__(self) -> None:
        self.numbers: dict[Plan, int] = {}
        self.packed: list[bytes] = []
        self.keys: dict[str, None] = {}

    def number(self, plan: Plan) -> int:
        """Return the plan's number in this batch, counting from 1."""
        found = self.numbers.get(plan)
        if found is None:
            self.numbers[plan] = found = len(self.numbers) + 1
            self.packed.append(plan.packed)
            for key in plan.keys:
                self.keys[key] = None
        return found

    def number_for(self, plan: Plan, user: str) -> int:
        """Return the plan's number, and remember the keys of a user's scopes."""
        for prefix in plan.users if user else ():
            self.keys[scope_key(prefix + user, plan.cell)] = None
        return self.number(plan)


def admit_command(
    sha: str,
    boot: Boot,
    asks: Iterable[Ask],
    *,
    number: int = 0,
    again: bool = False,
    now: str = "",
) -> Command:
    """Return the EVALSHA command that admits a batch, as the sending of that number."""
    plans = Plans()
    rows = [
        _pack(
            (
                plans.number_for(ask.plan, ask.user),
                ask.attempt_id,
                ask.input,
                ask.bound,
                ask.cap,
                ask.assumed,
                ask.n,
                1 if ask.first else 0,
                ask.excluded,
                ask.tie,
                ask.user,
                ask.level,
                1 if ask.may_wait else 0,
                ask.tiers,
                ask.fees,
                ask.kind,
                ask.favoured,
            )
        )
        for ask in asks
    ]
    keys = plans.keys
    return (
        "EVALSHA",
        sha,
        3 + len(keys),
        boot.cell.beats,
        boot.leases,
        boot.bar,
        *keys,
        now,
        boot.member,
        number,
        "1" if again else "0",
        len(plans.packed),
        *plans.packed,
        *rows,
    )


def assert_command(
    sha: str,
    boot: Boot,
    held: Iterable[tuple[Ask, Grant]],
    *,
    number: int,
    last: bool,
    partly: bool = False,
    now: str = "",
) -> Command:
    """Return the EVALSHA command that asserts leases which the store may have forgotten, as the sending of that number."""
    plans = Plans()
    rows = [
        _pack(
            (
                plans.number_for(ask.plan, ask.user),
                ask.attempt_id,
                ask.input,
                ask.bound,
                ask.cap,
                ask.assumed,
                ask.n,
                1 if ask.first else 0,
                ask.user,
                grant.candidate + 1,
                grant.at_us,
                grant.cap,
                ask.fees[grant.candidate] if ask.fees else 0,
            )
        )
        for ask, grant in held
    ]
    keys = plans.keys
    return (
        "EVALSHA",
        sha,
        4 + len(keys),
        boot.cell.beats,
        boot.leases,
        boot.bar,
        boot.cell.epoch,
        *keys,
        now,
        boot.member,
        number,
        "1" if last else "0",
        "1" if partly else "0",
        len(plans.packed),
        *plans.packed,
        *rows,
    )


def settle_command(
    sha: str, boot: Boot, number: int, settlements: Iterable[Settlement], *, now: str = ""
) -> Command:
    """Return the EVALSHA command that settles a batch under its sequence number."""
    plans = Plans()
    void_to = 0
    rows = []
    for settlement in settlements:
        number_ = plans.number_for(settlement.plan, settlement.user)
        rows.append(_pack((number_, *settlement.row)))
        void_to = max(void_to, settlement.void_to)
    keys = plans.keys
    return (
        "EVALSHA",
        sha,
        8 + len(keys),
        boot.leases,
        boot.seen,
        boot.bar,
        boot.graves,
        boot.parts,
        boot.cell.ledger,
        boot.cell.totals,
        *keys,
        boot.cell.events,
        now,
        number,
        void_to,
        len(plans.packed),
        *plans.packed,
        *rows,
    )


def settled_by(command: Command) -> list[str]:
    """Return the attempts that a settle command is about."""
    return [_attempt_of(row) for row in command[_rows_at(command, 3) :]]


def asserted_by(command: Command) -> list[str]:
    """Return the attempts that an assert command is about."""
    return [_attempt_of(row) for row in command[_rows_at(command, 5) :]]


def asserting_only(command: Command, attempt_ids: Container[str]) -> Command:
    """Return an assert command that is about some of its attempts."""
    at = _rows_at(command, 5)
    return (*command[:at], *(row for row in command[at:] if _attempt_of(row) in attempt_ids))


def _rows_at(command: Command, count_at: int) -> int:
    """Return the place of the first row, behind the plans; `count_at` is the place of their number in the arguments."""
    at = 3 + int(command[2]) + count_at
    return at + 1 + int(command[at])


def _attempt_of(row: bytes | str | int) -> str:
    name: bytes = msgpack.unpackb(row, raw=True)[1]
    return name.decode()


def numbered(command: Command) -> tuple[str, int]:
    """Return where a settle command's number is remembered, and the number."""
    return str(command[4]), int(command[4 + int(command[2])])
