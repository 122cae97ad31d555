"""
The ledger's entry: what is written down about every attempt, and in which order.

An entry is one msgpack array in field `e` of the stream `{c0}:led` (of its cell, see `store.cells`), in the order of `ENTRY_FIELDS`.
The order is the contract: the edge packs a plain tuple, Lua changes places by their number, the
database has its columns in the same order.
It only ever grows at the end, so that an older reader takes what it knows and leaves the rest.

Entries are summed, never overwritten.
An attempt that was charged by the reaper and settles late gets a second entry, `<attempt id>+settle`,
that holds differences, also negative ones.

Failure stance: `decode` refuses whatever it would have to guess about.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from types import MappingProxyType
from typing import Any

import msgpack

__all__ = [
    "CORRECTION",
    "ENTRY_FIELDS",
    "FIELD",
    "OUTCOMES",
    "SERVED",
    "Entry",
    "MalformedEntry",
    "decode",
    "decode_values",
    "encode",
    "entry_of",
    "stream_id",
]

FIELD = b"e"
"""The one field of a stream entry."""

CORRECTION = "+settle"
"""What the attempt id of a correcting entry ends in."""

OUTCOMES: Mapping[str, str] = MappingProxyType(
    {
        "ok": "the answer was relayed to its end",
        "client_left": "the caller left before the end; billed for what was metered until then",
        "connect_failed": "no connection to the deployment, or its TLS was refused",
        "first_byte_timed_out": "the deployment did not begin to answer in time",
        "upstream_refused": "the deployment answered with an error of its own (4xx, 5xx)",
        "rate_limited": "the vendor answered 429",
        "overloaded": "the vendor answered 529",
        "upstream_lost": "the connection broke before the answer was complete",
        "idle_timed_out": "the stream stood still for too long",
        "total_timed_out": "the attempt took longer than it may in total",
        "bad_answer": "the answer was not what the protocol says",
        "drained": "the gateway went down before the answer was complete",
        "hedged": "another attempt of the same call was quicker; billed for what was metered until then",
        "void": "admitted, but never sent upstream",
        "reaped": "its replica died; charged with what had been streamed",
        "internal": "our own fault",
    }
)
"""Every outcome of an attempt and what it means."""

SERVED = frozenset({"ok", "client_left", "hedged"})
"""The outcomes that are no error of ours or of the deployment's."""

_INT64 = 1 << 63


class MalformedEntry(ValueError):
    """Bytes that are no entry; the message says where."""


@dataclass(frozen=True, slots=True)
class Entry:
    """
    The record of one attempt.

    Counts are tokens: `input_tokens` includes cached, cache-write and audio ones, `output_tokens`
    includes reasoning and audio ones.
    `at_us` is unix microseconds at admission; `ttft_us`, `duration_us` and `added_us` are durations
    in microseconds, `added_us` what the gateway itself added before the first byte.
    `status` is the upstream's HTTP status, 0 if none came; `stream` is 0 or 1.
    `outcome` is one of `OUTCOMES`; `token_source` is provider, estimated or none.
    `team` is the name within its organization, `key` the id `organization/team/name`.
    `decision` is the compact form of `routing.decision`, empty where nothing was to be decided.
    What is not sold by the token: `images` that were made, `audio_input_us` and `audio_output_us` of sound in
    microseconds, `characters` that were spoken, `search_units` of a rerank; `image_input_tokens` and
    `image_output_tokens` are parts of the input and the output.
    `experiment` is the arm of the experiment that led it there, `experiment/arm`, empty where none did;
    `defect` is what was wrong with its answer then, in thousandths.
    """

    attempt_id: str
    request_id: str
    attempt: int
    at_us: int
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
    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    audio_input_tokens: int
    audio_output_tokens: int
    cost_nusd: int
    price_version: str
    ttft_us: int
    duration_us: int
    outcome: str
    status: int
    token_source: str
    reason: str
    stream: int
    protocol: str
    replica: str
    added_us: int
    # Added later: each has a default, which stands for it in entries of those who do not know it yet.
    decision: str = ""
    images: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    audio_input_us: int = 0
    audio_output_us: int = 0
    characters: int = 0
    search_units: int = 0
    experiment: str = ""
    defect: int = 0

    def as_dict(self) -> dict[str, str | int]:
        """Return the fields by name, in their order."""
        return {name: getattr(self, name) for name in ENTRY_FIELDS}


ENTRY_FIELDS: tuple[str, ...] = tuple(field.name for field in fields(Entry))
"""The names of the places of an entry."""

_TYPES: tuple[type, ...] = tuple(int if field.type is int else str for field in fields(Entry))
_DEFAULTS: tuple[Any, ...] = tuple(
    field.default for field in fields(Entry) if field.default is not MISSING
)
_LEAST = len(_TYPES) - len(_DEFAULTS)
_EMPTY: Mapping[str, Any] = MappingProxyType(
    {name: kind() for name, kind in zip(ENTRY_FIELDS, _TYPES, strict=True)}
)


def entry_of(**said: str | int) -> Entry:
    """Return an entry of which only some fields are said; the others are empty, or 0."""
    return Entry(**{**_EMPTY, **said})


def encode(entry: Entry) -> bytes:
    """Return the entry as it goes into the stream; a packer on a tuple in the same order does as well."""
    packed: bytes = msgpack.packb([getattr(entry, name) for name in ENTRY_FIELDS])
    return packed


def decode(payload: bytes) -> Entry:
    """Return the entry that the bytes hold. Raises `MalformedEntry`."""
    return Entry(*decode_values(payload))


def decode_values(payload: bytes) -> tuple[Any, ...]:
    """
    Return the values of an entry in the order of `ENTRY_FIELDS`, each of its type.

    Places beyond the known ones are left away; those that were added later have their defaults where they are missing.
    Raises `MalformedEntry`.
    """
    try:
        values = msgpack.unpackb(payload, use_list=False)
    except Exception as error:
        # The unpacker has no common ancestor for what it raises (value, type, unicode, key errors).
        raise MalformedEntry(f"not msgpack: {type(error).__name__}: {error}") from error
    if type(values) is not tuple or len(values) < _LEAST:
        found = f"an array of {len(values)}" if type(values) is tuple else type(values).__name__
        raise MalformedEntry(f"expected an array of at least {_LEAST} places, found {found}")
    if len(values) > len(_TYPES):
        values = values[: len(_TYPES)]
    elif len(values) < len(_TYPES):
        values += _DEFAULTS[len(values) - _LEAST :]
    if tuple(map(type, values)) != _TYPES:
        values = tuple(map(_coerced, values, _TYPES, ENTRY_FIELDS))
    for value in values:
        if type(value) is int and not -_INT64 <= value < _INT64:
            raise MalformedEntry(f"{value} does not fit into 64 bits")
    if not values[0] or not values[1]:
        raise MalformedEntry("attempt_id and request_id must not be empty")
    return values


def _coerced(value: object, expected: type, name: str) -> object:
    """Return a value of the expected type, or refuse it."""
    if type(value) is expected:
        return value
    # Lua has one type of number, and its packer may write a whole one as a float.
    if expected is int and type(value) is float and value.is_integer():
        return int(value)
    raise MalformedEntry(f"{name}: expected {expected.__name__}, found {type(value).__name__}")


def stream_id(raw: bytes) -> tuple[int, int]:
    """Return a stream id `milliseconds-sequence` as two integers."""
    ms, _, seq = raw.partition(b"-")
    return int(ms), int(seq)
