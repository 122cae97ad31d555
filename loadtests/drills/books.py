"""
The comparison: what the ledger charged for an attempt against what the mock vendor wrote down of it.

Both sides carry the mark of the call (`user`, which passes through the gateway untouched) and the upstream model name, so that each attempt finds its counterpart.
An attempt that the vendor reported to its end must agree to the token and the nano-USD.
One that was cut has been estimated; it is listed with its error, and the error is bounded.
Plain functions over plain rows; nothing here does I/O but `ledger_rows`.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

_COLUMNS = (
    *("attempt_id", "at_us", "user", "deployment", "input_tokens", "output_tokens", "cost_nusd"),
    *("outcome", "token_source", "stream", "duration_us"),
)
# A correction that a late settlement appends: `<attempt id>+settle`.
_LATE = "+settle"
# What may be charged without the vendor having heard of it: the attempt died on its way there.
_UNHEARD = frozenset({"reaped", "client_left", "connect_failed", "void"})


def ledger_rows(path: Path) -> list[dict[str, Any]]:
    """Read the entries of a ledger (SQLite), the columns that a comparison needs. Raises `sqlite3.Error`."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        cursor = connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM entries")  # noqa: S608 - our own names
        return [dict(zip(_COLUMNS, row, strict=True)) for row in cursor]
    finally:
        connection.close()


@dataclass(slots=True)
class Charged:
    """An attempt as the ledger sums it: its entry, and a correction when it settled after it was reaped."""

    attempt_id: str
    user: str = ""
    deployment: str = ""
    outcome: str = ""
    source: str = ""
    stream: bool = False
    at_us: int = 0
    entries: int = 0
    corrections: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_nusd: int = 0

    @property
    def reaped(self) -> bool:
        """Whether the reaper's word was the last one."""
        return self.outcome == "reaped"


def charged(rows: Iterable[Mapping[str, Any]]) -> dict[str, Charged]:
    """Sum the entries by attempt."""
    found: dict[str, Charged] = {}
    for row in rows:
        name = row["attempt_id"]
        late = name.endswith(_LATE)
        attempt_id = name.removesuffix(_LATE)
        one = found.setdefault(attempt_id, Charged(attempt_id))
        one.input_tokens += row["input_tokens"]
        one.output_tokens += row["output_tokens"]
        one.cost_nusd += row["cost_nusd"]
        one.entries += not late
        one.corrections += late
        if late or not one.corrections:
            # A late settlement knows better than the reaper what became of it.
            one.outcome, one.source = row["outcome"], row["token_source"]
            one.user, one.deployment = row["user"], row["deployment"]
            one.stream, one.at_us = bool(row["stream"]), row["at_us"]
    return found


@dataclass(frozen=True, slots=True)
class Tariff:
    """What a deployment is: its upstream model name, its price in nano-USD per token, the pause between its chunks."""

    upstream: str
    input_nusd: int
    output_nusd: int
    interval_ms: int = 0


@dataclass(frozen=True, slots=True)
class Error:
    """An attempt that was charged by estimate: tokens charged minus tokens served."""

    attempt_id: str
    outcome: str
    deployment: str
    stream: bool
    heard: bool
    served_output: int
    input_error: int
    output_error: int
    cost_error_nusd: int
    stream_s: float


@dataclass(slots=True)
class Comparison:
    """What came of comparing; `broken` says which laws do not hold, in words."""

    attempts: int = 0
    exact: int = 0
    free: int = 0
    corrected: int = 0
    served_calls: int = 0
    served_output: int = 0
    charged_output: int = 0
    estimated: list[Error] = field(default_factory=list)
    reaped: list[Error] = field(default_factory=list)
    excused: int = 0
    broken: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data; the errors as lines of comma-separated values, of which there may be thousands."""
        told = asdict(self)
        for name in ("estimated", "reaped"):
            told[name] = {
                "fields": ",".join(one.name for one in fields(Error)),
                "rows": [",".join(str(value) for value in row.values()) for row in told[name]],
            }
        return told


def compare(
    rows: Iterable[Mapping[str, Any]],
    served: Iterable[Mapping[str, Any]],
    tariffs: Mapping[str, Tariff],
    *,
    prefix: str = "",
    excused: frozenset[str] = frozenset(),
    reaped_stream_s: float = 2.0,
    slack_tokens: int = 3,
) -> Comparison:
    """
    Compare a ledger with the vendor's books, attempt by attempt.

    `rows` are entries, `served` the mock's calls; only those whose mark begins with `prefix` are looked at.
    `excused` are marks of calls whose entry a fault has legitimately lost.
    `reaped_stream_s` is how much of a paced stream a reaped attempt may be charged too little for; `slack_tokens` what counting by bytes may err beside.
    """
    result = Comparison()
    ours = {
        name: one for name, one in charged(rows).items() if one.user.startswith(prefix) and one.user
    }
    theirs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for call in served:
        if call["user"].startswith(prefix) and call["user"]:
            theirs.setdefault((call["user"], call["model"]), []).append(call)
            result.served_calls += 1
            result.served_output += call["completion_tokens"]
    for place, calls in theirs.items():
        if len(calls) > 1:
            result.broken.append(f"the vendor was asked {len(calls)} times for {place}")
    for one in sorted(ours.values(), key=lambda one: one.attempt_id):
        tariff = tariffs[one.deployment]
        calls = theirs.pop((one.user, tariff.upstream), [])
        bounds = (reaped_stream_s, slack_tokens)
        _judge(result, one, calls[0] if calls else None, tariff, bounds)
    for (user, model), calls in theirs.items():
        if user in excused:
            result.excused += 1
        else:
            tokens = sum(call["prompt_tokens"] + call["completion_tokens"] for call in calls)
            result.broken.append(
                f"{user}: {model} was served ({calls[0]['outcome']}, {tokens} tokens) and is in no book"
            )
    return result


def _judge(
    result: Comparison,
    one: Charged,
    call: Mapping[str, Any] | None,
    tariff: Tariff,
    bounds: tuple[float, int],
) -> None:
    reaped_stream_s, slack_tokens = bounds
    result.attempts += 1
    result.corrected += one.corrections
    result.charged_output += one.output_tokens
    if one.entries != 1 or one.corrections > 1:
        result.broken.append(
            f"{one.attempt_id} has {one.entries} entries and {one.corrections} corrections"
        )
    input_tokens = 0 if call is None else call["prompt_tokens"]
    output_tokens = 0 if call is None else call["completion_tokens"]
    cost = input_tokens * tariff.input_nusd + output_tokens * tariff.output_nusd
    expected = (
        one.input_tokens * tariff.input_nusd + one.output_tokens * tariff.output_nusd,
        (input_tokens, output_tokens, cost),
    )
    if one.cost_nusd != expected[0]:
        result.broken.append(
            f"{one.attempt_id} costs {one.cost_nusd} nano-USD, its tokens {expected[0]}"
        )
    told = (one.input_tokens, one.output_tokens, one.cost_nusd)
    if call is None and one.outcome not in _UNHEARD:
        result.broken.append(
            f"{one.attempt_id} ({one.outcome}) is charged; the vendor never saw it"
        )
    elif one.reaped or one.source == "estimated":
        error = _error(one, call, told, expected[1], tariff)
        (result.reaped if one.reaped else result.estimated).append(error)
        short = -error.output_error
        if one.stream and error.stream_s > reaped_stream_s and short > slack_tokens:
            result.broken.append(
                f"{one.attempt_id} ({one.outcome}) is charged {error.stream_s:.2f} s of stream too little"
            )
        if -short > max(slack_tokens, output_tokens // 10):
            result.broken.append(
                f"{one.attempt_id} ({one.outcome}) is charged {-short} output tokens that were never served"
            )
    elif told == expected[1]:
        if one.cost_nusd:
            result.exact += 1
        else:
            result.free += 1
    else:
        result.broken.append(
            f"{one.attempt_id} ({one.outcome}, {one.source}) is charged {told}, served {expected[1]}"
        )


def _error(
    one: Charged,
    call: Mapping[str, Any] | None,
    told: tuple[int, int, int],
    served: tuple[int, int, int],
    tariff: Tariff,
) -> Error:
    short = max(0, served[1] - told[1])
    return Error(
        attempt_id=one.attempt_id,
        outcome=one.outcome,
        deployment=one.deployment,
        stream=one.stream,
        heard=call is not None,
        served_output=served[1],
        input_error=told[0] - served[0],
        output_error=told[1] - served[1],
        cost_error_nusd=told[2] - served[2],
        stream_s=short * tariff.interval_ms / 1000 if one.stream else 0.0,
    )
