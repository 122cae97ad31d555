"""
What a call costs by a price list, and what it may cost at most.

The rules of this file:

- A rate is whole nano-USD per thousand tokens: one USD per million tokens is 1,000,000 of them.
- An attempt is rounded once, upwards, to a whole nano-USD; everything before that is exact.
- The dearer tier of a price that depends on the length of the input bills *all* tokens, as the vendors do.

Where price lists come from is `routing.catalogue`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "Rates",
    "TokenCounts",
    "Tokens",
    "UnitCounts",
    "bound",
    "cost_nusd",
    "dearest_image_nusd",
    "fee_nusd",
    "image_nusd",
    "units_nusd",
]

_US = 1_000_000


class TokenCounts(Protocol):
    """
    What an attempt consumed, as the meter reports it: counts of tokens, none negative.

    ``input_tokens`` includes the cached, cache-write and audio ones; ``output_tokens`` includes
    the reasoning and audio ones.
    """

    @property
    def input_tokens(self) -> int:
        """All input tokens."""

    @property
    def cached_tokens(self) -> int:
        """Input tokens read from the vendor's prompt cache."""

    @property
    def cache_write_tokens(self) -> int:
        """Input tokens written to the vendor's prompt cache."""

    @property
    def output_tokens(self) -> int:
        """All output tokens."""

    @property
    def reasoning_tokens(self) -> int:
        """Output tokens spent on reasoning."""

    @property
    def audio_input_tokens(self) -> int:
        """Input tokens of audio."""

    @property
    def audio_output_tokens(self) -> int:
        """Output tokens of audio."""

    @property
    def cache_write_1h_tokens(self) -> int:
        """Cache-write tokens that are to live for an hour."""

    @property
    def web_searches(self) -> int:
        """Searches that the vendor made."""

    @property
    def image_input_tokens(self) -> int:
        """Input tokens of images."""

    @property
    def image_output_tokens(self) -> int:
        """Output tokens of images."""

    @property
    def units(self) -> "UnitCounts | None":
        """What was used that is not sold by the token, None for nothing."""


class UnitCounts(Protocol):
    """What an attempt used that is not sold by the token; none negative, durations in microseconds."""

    @property
    def images(self) -> int:
        """Images that were made."""

    @property
    def image_kind(self) -> str:
        """Their quality and size, `high/1024x1024`; either may be empty where nobody knows."""

    @property
    def audio_input_us(self) -> int:
        """Audio that was sent."""

    @property
    def audio_output_us(self) -> int:
        """Audio that was made."""

    @property
    def characters(self) -> int:
        """Characters that were spoken."""

    @property
    def search_units(self) -> int:
        """Search units of a rerank."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a call took or will take, where no meter says it; see `TokenCounts`."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_searches: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    units: UnitCounts | None = None


@dataclass(frozen=True, slots=True)
class Rates:
    """
    The price list of one model: whole nano-USD per thousand tokens of each kind.

    A kind that the vendor does not price on its own carries the rate of the kind that contains it.
    ``tiers`` are ``(start_tokens, rates)`` ascending: the last one whose start is *below* the input
    tokens of the call bills the whole call.
    ``request_nusd`` is owed once by every attempt that consumed any token, ``search_nusd`` by each search.
    ``context`` and ``max_output`` are tokens, None when the catalogue does not say.
    ``until_us`` is the unix time in microseconds from which another price list may apply, 0 for never.
    ``image_input_nusd_per_ktok`` and ``image_output_nusd_per_ktok`` are None where images bill as the rest.
    ``images`` is what an image costs by quality, size, ``quality/size`` or ``default``, in nano-USD; the other
    ``_nusd`` units are of one second, one character, one search unit.
    ``sells_tokens`` is false for a price list that names none.
    """

    input_nusd_per_ktok: int
    cached_nusd_per_ktok: int
    cache_write_nusd_per_ktok: int
    output_nusd_per_ktok: int
    reasoning_nusd_per_ktok: int
    audio_input_nusd_per_ktok: int
    audio_output_nusd_per_ktok: int
    cache_write_1h_nusd_per_ktok: int = 0
    request_nusd: int = 0
    search_nusd: int = 0
    tiers: "tuple[tuple[int, Rates], ...]" = ()
    version: str = ""
    context: int | None = None
    max_output: int | None = None
    until_us: int = 0
    image_input_nusd_per_ktok: int | None = None
    image_output_nusd_per_ktok: int | None = None
    images: tuple[tuple[str, int], ...] = ()
    second_nusd: int = 0
    second_output_nusd: int = 0
    character_nusd: int = 0
    search_unit_nusd: int = 0
    sells_tokens: bool = True


# What an attempt costs...


def cost_nusd(rates: Rates, usage: TokenCounts) -> int:
    """
    Return what ``usage`` costs in nano-USD, exact, rounded up once.

    Cached, cache-write and audio tokens bill at their own rate, the rest of the input at the input
    rate; reasoning and audio output likewise.
    Counts that contradict their sum (more cached than input) never bill a token twice.
    """
    input_tokens = usage.input_tokens
    output_tokens = usage.output_tokens
    if rates.tiers:
        for start, tier in rates.tiers:
            if input_tokens <= start:
                break
            rates = tier
    if (
        usage.cached_tokens
        or usage.cache_write_tokens
        or usage.audio_input_tokens
        or usage.image_input_tokens
    ):
        total = _input_by_kind(rates, usage)
    else:
        total = input_tokens * rates.input_nusd_per_ktok
    if usage.reasoning_tokens or usage.audio_output_tokens or usage.image_output_tokens:
        total += _output_by_kind(rates, usage)
    else:
        total += output_tokens * rates.output_nusd_per_ktok
    units = usage.units
    if rates.request_nusd and (input_tokens or output_tokens or units is not None):
        total += rates.request_nusd * 1000
    if units is not None:
        total += units_nusd(rates, units) * 1000
    if usage.web_searches:
        total += usage.web_searches * rates.search_nusd * 1000
    return -(-total // 1000)


def _input_by_kind(rates: Rates, usage: TokenCounts) -> int:
    """Return the thousandfold price of the input, each kind at its own rate."""
    rest = usage.input_tokens
    cached = min(usage.cached_tokens, rest)
    rest -= cached
    written = min(usage.cache_write_tokens, rest)
    rest -= written
    for_an_hour = min(usage.cache_write_1h_tokens, written)
    # Audio that was read from the cache is reported under both names; it bills as cached.
    audio = min(usage.audio_input_tokens, rest)
    rest -= audio
    image = min(usage.image_input_tokens, rest)
    rest -= image
    image_rate = rates.image_input_nusd_per_ktok
    return (
        rest * rates.input_nusd_per_ktok
        + image * (rates.input_nusd_per_ktok if image_rate is None else image_rate)
        + cached * rates.cached_nusd_per_ktok
        + (written - for_an_hour) * rates.cache_write_nusd_per_ktok
        + for_an_hour * rates.cache_write_1h_nusd_per_ktok
        + audio * rates.audio_input_nusd_per_ktok
    )


def _output_by_kind(rates: Rates, usage: TokenCounts) -> int:
    """Return the thousandfold price of the output, each kind at its own rate."""
    rest = usage.output_tokens
    audio = min(usage.audio_output_tokens, rest)
    rest -= audio
    reasoning = min(usage.reasoning_tokens, rest)
    rest -= reasoning
    image = min(usage.image_output_tokens, rest)
    rest -= image
    image_rate = rates.image_output_nusd_per_ktok
    return (
        rest * rates.output_nusd_per_ktok
        + image * (rates.output_nusd_per_ktok if image_rate is None else image_rate)
        + audio * rates.audio_output_nusd_per_ktok
        + reasoning * rates.reasoning_nusd_per_ktok
    )


def units_nusd(rates: Rates, units: UnitCounts) -> int:
    """
    Return what is not sold by the token costs, in nano-USD.

    Seconds are added up to the microsecond and rounded up once.
    """
    seconds = (
        units.audio_input_us * rates.second_nusd + units.audio_output_us * rates.second_output_nusd
    )
    return (
        -(-seconds // _US)
        + (units.images * image_nusd(rates, units.image_kind) if units.images else 0)
        + units.characters * rates.character_nusd
        + units.search_units * rates.search_unit_nusd
    )


def image_nusd(rates: Rates, kind: str) -> int:
    """
    Return what an image of a kind (`quality/size`, see `UnitCounts`) costs in nano-USD.

    The most exact price holds: of quality and size, of the size, of the quality, the default. Where none
    fits, nobody has said which kind it is, and it costs as much as the dearest.
    """
    if not rates.images:
        return 0
    listed = dict(rates.images)
    quality, _, size = kind.partition("/")
    for name in (kind, size, quality, "default"):
        if name in listed:
            return listed[name]
    return max(listed.values())


def dearest_image_nusd(rates: Rates, kind: str) -> int:
    """Return the most that an image may cost that was asked for as a kind; `auto` and nothing leave it to the vendor."""
    quality, _, size = kind.partition("/")
    open_ended = {"", "auto"}
    if quality not in open_ended and size not in open_ended:
        return image_nusd(rates, kind)
    fits = [
        nusd
        for name, nusd in rates.images
        if quality in open_ended or quality in name.split("/") or "/" not in name
        if size in open_ended or size in name.split("/") or "/" not in name
    ]
    return max(fits, default=image_nusd(rates, kind))


def fee_nusd(rates: Rates, most: UnitCounts, output_tokens: int) -> int:
    """
    Return the most that a call may cost beside its input tokens, in nano-USD.

    ``most`` bounds what is not sold by the token, ``output_tokens`` the output that no cap can be written for.
    """
    seconds = (
        most.audio_input_us * rates.second_nusd + most.audio_output_us * rates.second_output_nusd
    )
    _, dearest = bound(rates, 0)
    return (
        -(-seconds // _US)
        + most.images * dearest_image_nusd(rates, most.image_kind)
        + most.characters * rates.character_nusd
        + most.search_units * rates.search_unit_nusd
        + -(
            -output_tokens
            * max(dearest, *(bound(tier, 0)[1] for _, tier in rates.tiers), 0)
            // 1000
        )
    )


# What it may cost at most...


def bound(rates: Rates, input_tokens: int) -> tuple[int, int]:
    """
    Return the dearest (input, output) nano-USD per thousand tokens that a call may be billed at.

    ``input_tokens`` is the most the call can hold; every tier it could reach counts.
    A strict reservation adds `Rates.request_nusd`.
    """
    dearest_input = dearest_output = 0
    for rate in _reachable(rates, input_tokens):
        dearest_input = max(
            dearest_input,
            rate.input_nusd_per_ktok,
            rate.cached_nusd_per_ktok,
            rate.cache_write_nusd_per_ktok,
            rate.cache_write_1h_nusd_per_ktok,
            rate.audio_input_nusd_per_ktok,
            rate.image_input_nusd_per_ktok or 0,
        )
        dearest_output = max(
            dearest_output,
            rate.output_nusd_per_ktok,
            rate.reasoning_nusd_per_ktok,
            rate.audio_output_nusd_per_ktok,
            rate.image_output_nusd_per_ktok or 0,
        )
    return dearest_input, dearest_output


def _reachable(rates: Rates, input_tokens: int) -> Iterable[Rates]:
    """Yield the base rates and those of every tier that ``input_tokens`` can reach."""
    yield rates
    for start, tier in rates.tiers:
        if input_tokens > start:
            yield tier
