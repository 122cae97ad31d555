"""
What is measured of one call, under the names and by the definitions of AIPerf (its metrics reference, version 0.13).

| name | definition |
|---|---|
| TTFT | first event with non-empty content, reasoning included, minus the start |
| TTFO | first event with content that is no reasoning, minus the start |
| E2E | last event with content (of an answer that is no stream: its last byte), minus the start |
| ITL | (E2E - TTFT) / (output tokens - 1); where the server counts tokens with each event, minus those of the first instead of 1 |
| ICL | the gaps between neighbouring events with content |
| TPOT | (E2E - TTFT) / (output tokens - 1), as vLLM's benchmark has it |
| tok/s | 1 / ITL: output tokens per second and user |
| throughput | completed calls over the time from the first call's start to the last answer's end |
| tokens/s | output tokens over that time |
| goodput | completed calls that meet every service level objective, over that time |

Two things differ on purpose.
The start is the moment at which the call was meant to begin, not the one at which the generator got round to it (AIPerf's start): otherwise
a slow answer delays the calls behind it and hides its own harm (coordinated omission).
In a closed loop the two are the same, and a record holds the difference (`late_ms`).
An objective that a call has no figure for, such as TTFT of an answer that is no stream, is not held against it; with AIPerf it is, which in
mixed traffic would call every such answer bad.
Output tokens are what the server reports; where it reports none, events with content count as one token each.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

import msgspec

# Gaps that one record keeps; a stream with more is one of those that soak runs hold open.
GAPS_KEPT = 512
NAMES = ("ttft", "ttfo", "e2e", "itl", "tpot")


@dataclass(slots=True)
class Timeline:
    """When things happened in one call, in nanoseconds of one clock."""

    intended_ns: int
    sent_ns: int
    first_ns: int = 0
    first_output_ns: int = 0
    last_ns: int = 0
    events: int = 0
    reported_tokens: int | None = None
    first_tokens: int = 1
    gaps_us: list[int] = field(default_factory=list)

    def content(self, at_ns: int, *, output: bool, tokens: int | None = None) -> None:
        """Note an event with content; `tokens` is the count that came with it, where a server reports per event."""
        if not self.events:
            self.first_ns = at_ns
            self.first_tokens = max(1, tokens or 1)
        elif len(self.gaps_us) < GAPS_KEPT:
            self.gaps_us.append((at_ns - self.last_ns) // 1000)
        if output and not self.first_output_ns:
            self.first_output_ns = at_ns
        self.last_ns = at_ns
        self.events += 1

    @property
    def tokens(self) -> int:
        """Output tokens."""
        return self.events if self.reported_tokens is None else self.reported_tokens

    def ttft_ms(self) -> float | None:
        """Time to first token, `None` when there was none."""
        return (self.first_ns - self.intended_ns) / 1e6 if self.first_ns else None

    def ttfo_ms(self) -> float | None:
        """Time to first output token, `None` when there was none."""
        return (self.first_output_ns - self.intended_ns) / 1e6 if self.first_output_ns else None

    def e2e_ms(self) -> float | None:
        """Request latency, `None` when nothing was said."""
        return (self.last_ns - self.intended_ns) / 1e6 if self.last_ns else None

    def itl_ms(self) -> float | None:
        """Inter-token latency, `None` when no token followed the first event."""
        if self.events < 2 or self.tokens < 2:
            return None
        # A count of the first event that contradicts the whole is worth nothing.
        first = self.first_tokens if self.first_tokens < self.tokens else 1
        return (self.last_ns - self.first_ns) / 1e6 / (self.tokens - first)

    def tpot_ms(self) -> float | None:
        """Time per output token, `None` below two tokens."""
        if self.events < 2 or self.tokens < 2:
            return None
        return (self.last_ns - self.first_ns) / 1e6 / (self.tokens - 1)


# There are as many as calls, and none refers to another: the collector of garbage need not look at them.
class Record(msgspec.Struct, omit_defaults=True, gc=False):
    """
    One call, after its end: a line of `records.jsonl.gz`.

    `at_s` is when it was meant to begin, in seconds of the run's clock; `late_ms` is how much later the generator began it.
    `outcome` is `ok`, `http_<status>`, `connect_failed`, `lost`, `timed_out`, `bad_answer`, `stream_error`, or, for a caller that
    is meant to, `left`; `unfinished` is a call that the end of the run cut off, which counts neither way.
    """

    base: str
    scenario: str
    tenant: str
    at_s: float
    late_ms: float
    outcome: str
    status: int = 0
    stream: bool = False
    ttft_ms: float | None = None
    ttfo_ms: float | None = None
    e2e_ms: float | None = None
    itl_ms: float | None = None
    tpot_ms: float | None = None
    took_ms: float = 0.0
    tokens: int = 0
    prompt_tokens: int = 0
    chunks: int = 0
    bytes: int = 0
    gaps_us: list[int] = []
    detail: str = ""

    @property
    def fine(self) -> bool:
        """Whether it went as it was meant to."""
        return self.outcome in {"ok", "left"}

    @property
    def counts(self) -> bool:
        """Whether it says anything: a call that the run's end cut off does not."""
        return self.outcome != "unfinished"


class BadObjective(ValueError):
    """A service level objective cannot be read; the message says what was expected."""


_OBJECTIVE = re.compile(r"([a-z][a-z0-9_]*):(\d+(?:\.\d+)?)")
# AIPerf's names beside the short ones.
_ALIASES = {
    "time_to_first_token": "ttft",
    "time_to_first_output_token": "ttfo",
    "request_latency": "e2e",
    "inter_token_latency": "itl",
}


def read_objectives(text: str) -> dict[str, float]:
    """
    Read `"ttft:500 itl:50"`: upper bounds in milliseconds by metric, AIPerf's long names allowed.

    Raises `BadObjective`.
    """
    objectives = {}
    for word in text.split():
        found = _OBJECTIVE.fullmatch(word)
        name = _ALIASES.get(found[1], found[1]) if found else ""
        if found is None or name not in NAMES:
            raise BadObjective(
                f"{word!r} is no objective: one of {', '.join(NAMES)}, a colon, milliseconds (ttft:500)"
            )
        objectives[name] = float(found[2])
    return objectives


def meets(record: Record, objectives: dict[str, float]) -> bool:
    """Whether a call completed within every objective; one that a metric does not apply to is not held against it."""
    if record.outcome != "ok":
        return False
    for name, bound in objectives.items():
        value = getattr(record, f"{name}_ms")
        if value is not None and value > bound:
            return False
    return True


def percentile(ordered: Sequence[float], share: float) -> float:
    """Give the smallest value that at least this share of sorted values does not exceed (nearest rank)."""
    if not ordered:
        raise ValueError("no values, no percentile")
    # 7 % of 100 are a little more than 7 in floats.
    rank = ceil(round(len(ordered) * share, 6))
    return ordered[max(0, min(len(ordered), rank) - 1)]
