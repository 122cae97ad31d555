"""
What a batch is billed by: what was charged in advance, and what its output says.

A batch is charged the most that it may cost (or what is expected, where no strict budget stands over its caller) when it is created,
as an entry of the ledger.
When its output is known, the difference is settled once, as a correcting entry; see docs/decisions/0055.

Output lines are those of OpenAI's batch API: ``{"custom_id", "response": {"status_code", "body": {..., "usage": {...}}}, "error"}``.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

__all__ = ["ENDED", "Bill", "LineUsage", "read_bill", "usage_of", "write_bill"]

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
"""The states in which a batch has come to its end."""

_MOST = 1 << 40


class Bill(msgspec.Struct, frozen=True, array_like=True):
    """
    What a batch was admitted as; the fields of the ledger by their names, money in nano-USD.

    `plan`, `keys`, `users` and `cell` are those of the plan it was admitted under, `candidate` counts from 0.
    `lines` is how many calls it holds; `percent` what they cost of the usual price.
    """

    attempt_id: str
    request_id: str
    attempt: int
    organization: str
    team: str
    key: str
    user: str
    application: str
    business_line: str
    model_asked: str
    model: str
    deployment: str
    provider: str
    charged_nusd: int
    lines: int
    percent: int
    plan: bytes
    keys: tuple[str, ...]
    users: tuple[str, ...]
    cell: int
    candidate: int
    at_us: int


@dataclass(slots=True)
class LineUsage:
    """The tokens of one call, as a price takes them; `reported` says whether the vendor told them, `served` whether it was answered."""

    served: bool = False
    reported: bool = False
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_searches: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    units: None = None


def write_bill(bill: Bill) -> bytes:
    """Return a bill as it is kept."""
    return msgspec.msgpack.encode(bill)


def read_bill(packed: bytes) -> Bill:
    """Return what is kept. Raises `msgspec.MsgspecError`."""
    return msgspec.msgpack.decode(packed, type=Bill)


def usage_of(line: bytes) -> LineUsage | None:
    """Read what a line of an output file used; None where it is no line."""
    try:
        document = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    response = document.get("response")
    if not isinstance(response, dict) or not _is_fine(response.get("status_code")):
        return LineUsage()
    body = response.get("body")
    usage = body.get("usage") if isinstance(body, dict) else None
    found = LineUsage(served=True)
    if not isinstance(usage, dict):
        return found
    found.reported = True
    found.input_tokens = _count(usage, "prompt_tokens", "input_tokens")
    found.output_tokens = _count(usage, "completion_tokens", "output_tokens")
    inputs = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    outputs = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    if isinstance(inputs, dict):
        found.cached_tokens = min(_count(inputs, "cached_tokens"), found.input_tokens)
        found.audio_input_tokens = min(_count(inputs, "audio_tokens"), found.input_tokens)
    if isinstance(outputs, dict):
        found.reasoning_tokens = min(_count(outputs, "reasoning_tokens"), found.output_tokens)
        found.audio_output_tokens = min(_count(outputs, "audio_tokens"), found.output_tokens)
    return found


def _is_fine(status: Any) -> bool:
    return status is None or (type(status) is int and 200 <= status < 300)


def _count(document: dict[str, Any], *names: str) -> int:
    for name in names:
        value = document.get(name)
        if type(value) is int and 0 <= value <= _MOST:
            return value
    return 0
