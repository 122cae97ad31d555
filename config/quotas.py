"""
The sections of limits and budgets.

Money is USD here, as people write it (`Decimal`, at most nine decimals); `_nusd` properties give
the integers that everything else computes with.
"""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from config.forms import OneOrMore
from config.scalars import Moment, Money, TimeZone, Whole, Word
from config.section import HIGHEST_CONCURRENCY, Section, WhenDown

HIGHEST_BUDGET_USD = 9_000_000  # nano-USD must stay exact in a Lua number: 9e15 < 2**53
NANO = 10**9
Period = Literal["day", "week", "month", "quarter", "total"]
Mode = Literal["strict", "soft"]
Usd = Annotated[Decimal, Money(HIGHEST_BUDGET_USD, above=True)]
# The most that a limit may be, by its window.
RequestsPerSecond = Annotated[int, Whole(1, 10**6)]
RequestsPerMinute = Annotated[int, Whole(1, 10**7)]
RequestsPerHour = Annotated[int, Whole(1, 10**9)]
RequestsPerDay = Annotated[int, Whole(1, 10**10)]
TokensPerMinute = Annotated[int, Whole(1, 10**10)]
TokensPerDay = Annotated[int, Whole(1, 10**13)]


class Burst(Section):
    """How much the bucket of a rate holds, where it is not the amount of one window."""

    rps: RequestsPerDay | None = Field(default=None, description="Most at once under `rps`.")
    rpm: RequestsPerDay | None = Field(default=None, description="Most at once under `rpm`.")
    rph: RequestsPerDay | None = Field(default=None, description="Most at once under `rph`.")
    rpd: RequestsPerDay | None = Field(default=None, description="Most at once under `rpd`.")
    tpm: TokensPerDay | None = Field(default=None, description="Most at once under `tpm`.")
    tpd: TokensPerDay | None = Field(default=None, description="Most at once under `tpd`.")
    itpm: TokensPerDay | None = Field(default=None, description="Most at once under `itpm`.")
    itpd: TokensPerDay | None = Field(default=None, description="Most at once under `itpd`.")
    otpm: TokensPerDay | None = Field(default=None, description="Most at once under `otpm`.")
    otpd: TokensPerDay | None = Field(default=None, description="Most at once under `otpd`.")


class Limits(Section):
    """Limits of one scope; what is absent is not limited there."""

    rps: RequestsPerSecond | None = Field(default=None, description="Requests per second.")
    rpm: RequestsPerMinute | None = Field(default=None, description="Requests per minute.")
    rph: RequestsPerHour | None = Field(default=None, description="Requests per hour.")
    rpd: RequestsPerDay | None = Field(
        default=None,
        description="Requests per day: a bucket that refills evenly over 24 hours, not at midnight.",
    )
    tpm: TokensPerMinute | None = Field(
        default=None, description="Tokens per minute, input and output together."
    )
    tpd: TokensPerDay | None = Field(
        default=None, description="Tokens per day, input and output together; refills as `rpd`."
    )
    itpm: TokensPerMinute | None = Field(default=None, description="Input tokens per minute.")
    itpd: TokensPerDay | None = Field(
        default=None, description="Input tokens per day; refills as `rpd`."
    )
    otpm: TokensPerMinute | None = Field(default=None, description="Output tokens per minute.")
    otpd: TokensPerDay | None = Field(
        default=None, description="Output tokens per day; refills as `rpd`."
    )
    concurrency: Annotated[int, Whole(1, HIGHEST_CONCURRENCY)] | None = Field(
        default=None, description="Exchanges that may be open at the same time."
    )
    when_store_is_down: Annotated[WhenDown, Word.of(WhenDown)] | None = Field(
        default=None,
        description="What these limits do while Redis does not answer: `share` goes on at limit /"
        " live replicas on each of them, `closed` refuses with 503; by default `store.when_down`.",
    )
    burst: Burst = Field(
        default_factory=Burst,
        description="How much of a rate may be used at once, e.g. `{rpm: 20}`; by default the whole"
        " amount of its window.",
    )


class Raise(Section):
    """Another amount for a budget, for a time."""

    usd: Usd = Field(description="The amount that holds until then, instead of the budget's.")
    until: Annotated[str, Moment()] = Field(
        description="When it ends: `2026-12-24`, `2026-12-24T18:00` (in the budget's time zone), or"
        " with an offset, `2026-12-24T18:00+01:00`."
    )


class Budget(Section):
    """Money that one scope may spend in a period."""

    usd: Usd = Field(description="The amount in USD, exact to nine decimals.")
    per: Annotated[Period, Word.of(Period)] = Field(
        description="The period after which it begins anew, by the calendar of `time_zone`; a week"
        " begins on Monday, a `total` never begins anew."
    )
    mode: Annotated[Mode, Word.of(Mode)] = Field(
        default="soft",
        description="`strict` reserves the highest possible cost beforehand and is never overshot;"
        " `soft` refuses once it is spent, so that what is under way may overshoot it.",
    )
    when_store_is_down: Annotated[WhenDown, Word.of(WhenDown)] | None = Field(
        default=None,
        description="What it does while Redis does not answer: `share` lets an outage cost a"
        " twentieth of it at most, `closed` refuses with 503; by default `store.when_down`."
        " A strict budget is always closed.",
    )
    time_zone: Annotated[str, TimeZone()] | None = Field(
        default=None,
        description="IANA name of the time zone whose calendar ends its periods, e.g."
        " `Europe/Berlin`; by default the organization's, or else UTC.",
    )
    alerts_at: tuple[Annotated[int, Whole(1, 200)], ...] = Field(
        default=(50, 80, 100),
        description="Percents of the amount; when what is spent reaches one there is an event, once"
        " per period.",
    )
    raised: Raise | None = Field(
        default=None,
        validation_alias="raise",
        description="Another amount for a time.",
    )

    @property
    def limit_nusd(self) -> int:
        """The amount in nano-USD, when it is not raised."""
        return int(self.usd * NANO)


Budgets = Annotated[tuple[Budget, ...], OneOrMore()]
BUDGET_TEXT = "One budget, or a list of them; each holds on its own."
