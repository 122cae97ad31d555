"""Laws of usage: sums over any dimensions are those of a naive reading of the same entries."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.ledger import OUTCOMES, SERVED
from governance.usage import DIMENSIONS, BadQuestion, dimensions, moment_us, usage, usd
from store.sql import LedgerUnreachable

Books = Any  # the fixture of this folder's conftest

NOW = datetime(2026, 11, 22, 3, 36, 12, 345678, tzinfo=UTC)
AT_US = 1_795_318_572_345_678
HOUR_US = 3_600_000_000


def groups(answer: Any) -> list[tuple]:
    """Return each group with its sums as one tuple, but for what is not sold by the token."""
    return [
        (*row.group, *(getattr(row.sums, name) for name in row.sums.__slots__[:7]))
        for row in answer.rows
    ]


async def test_groups_are_summed_dearest_first(books: Books) -> None:
    """Requests, attempts, tokens, cost and errors of each group, and of everything."""
    await books.append(
        "a.1", at_us=AT_US, organization="acme", team="x", model="m", outcome="connect_failed"
    )
    await books.append(
        *("a.2",),
        at_us=AT_US,
        organization="acme",
        team="x",
        model="m",
        cost_nusd=7,
        input_tokens=10,
        cached_tokens=4,
        output_tokens=3,
    )
    await books.append(
        "b.1", at_us=AT_US, organization="beta", team="x", model="m", cost_nusd=9, output_tokens=1
    )
    await books.append("c.1", at_us=AT_US, model="n", outcome="client_left")
    await books.drain()
    answer = usage(books.path, "team,model", since_us=0)
    assert groups(answer) == [
        ("beta/x", "m", 1, 1, 0, 0, 1, 9, 0),
        ("acme/x", "m", 1, 2, 10, 4, 3, 7, 1),
        ("/", "n", 1, 1, 0, 0, 0, 0, 0),
    ]
    total = answer.total
    assert (total.requests, total.attempts, total.cost_nusd, total.errors) == (3, 4, 16, 1)


async def test_a_correction_changes_the_sums_and_is_no_attempt(books: Books) -> None:
    """A reaped attempt that settled late is one request and one attempt, at its true cost."""
    await books.append("a.1", at_us=AT_US, cost_nusd=100, output_tokens=50, outcome="reaped")
    await books.append("a.1+settle", at_us=AT_US, cost_nusd=-30, output_tokens=-20)
    await books.drain()
    total = usage(books.path, "key", since_us=0).total
    assert (total.requests, total.attempts, total.output_tokens, total.cost_nusd) == (1, 1, 30, 70)
    assert total.errors == 1


async def test_a_span_holds_its_beginning_and_not_its_end(books: Books) -> None:
    """Spans that touch add up: no entry is in both, none in neither."""
    for number in range(4):
        await books.append(f"r{number}.1", at_us=AT_US + number * HOUR_US, cost_nusd=1 << number)
    await books.drain()
    edges = [0, AT_US, AT_US + 1, AT_US + HOUR_US, AT_US + 2 * HOUR_US + 1]
    parts = [
        usage(books.path, "model", since_us=a, until_us=b).total.cost_nusd
        for a, b in zip(edges, [*edges[1:], None], strict=True)
    ]
    assert parts == [0, 1, 0, 2 | 4, 8]


async def test_days_and_hours_come_in_their_order(books: Books) -> None:
    """Where time is a dimension it orders the rows, in UTC, whatever they cost."""
    for number, cost in enumerate((5, 1, 9)):
        await books.append(
            f"r{number}.1", at_us=AT_US + number * 11 * HOUR_US, cost_nusd=cost, model="m"
        )
    await books.drain()
    by_day = usage(books.path, ["model", "day"], since_us=0)
    assert [(row.group, row.sums.cost_nusd) for row in by_day.rows] == [
        (("m", "2026-11-22"), 6),
        (("m", "2026-11-23"), 9),
    ]
    by_hour = usage(books.path, "hour", since_us=0)
    assert [row.group[0] for row in by_hour.rows] == [
        "2026-11-22T03:00Z",
        "2026-11-22T14:00Z",
        "2026-11-23T01:00Z",
    ]


NAMES = st.sampled_from(["", "a", "b'--", 'c"', "ü"])
ENTRIES = st.lists(
    st.fixed_dictionaries(
        {
            "organization": NAMES,
            "team": NAMES,
            "model": NAMES,
            "user": NAMES,
            "outcome": st.sampled_from(["ok", "client_left", "upstream_lost"]),
            "at_us": st.integers(AT_US - 30 * HOUR_US, AT_US + 30 * HOUR_US),
            "cost_nusd": st.integers(-(10**12), 10**15),
            "input_tokens": st.integers(0, 10**6),
        }
    ),
    max_size=12,
)


@given(
    ENTRIES,
    st.lists(st.sampled_from(["model", "user", "outcome", "organization", "day"]), min_size=1),
    st.integers(AT_US - 40 * HOUR_US, AT_US + 40 * HOUR_US),
)
async def test_any_question_has_the_naive_answer(
    books: Books,
    tmp_path_factory: pytest.TempPathFactory,
    entries: list[dict],
    by: list[str],
    since_us: int,
) -> None:
    """For any entries, dimensions and span: what a loop over the entries would add up."""
    await books.redis.flushall()
    books.path = tmp_path_factory.mktemp("usage") / "ledger.db"
    async with books.writer() as writer:
        await writer.prepare()
    for number, entry in enumerate(entries):
        # Two attempts per request.
        await books.append(f"r{number // 2}.{number % 2 + 1}", **entry)
    await books.drain()
    sums: dict = defaultdict(lambda: [set(), 0, 0, 0, 0])
    wanted = dimensions(by)
    for number, entry in enumerate(entries):
        if entry["at_us"] < since_us:
            continue
        day = datetime.fromtimestamp(entry["at_us"] // 10**6, UTC).strftime("%Y-%m-%d")
        group = tuple((entry | {"day": day})[name] for name in wanted)
        one = sums[group]
        one[0].add(number // 2)
        one[1] += 1
        one[2] += entry["input_tokens"]
        one[3] += entry["cost_nusd"]
        one[4] += entry["outcome"] == "upstream_lost"
    answer = usage(books.path, by, since_us=since_us)
    assert {
        row.group: (
            *(row.sums.requests, row.sums.attempts, row.sums.input_tokens),
            *(row.sums.cost_nusd, row.sums.errors),
        )
        for row in answer.rows
    } == {group: (len(one[0]), *one[1:]) for group, one in sums.items()}
    assert answer.total.cost_nusd == sum(one[3] for one in sums.values())


async def test_an_error_is_every_outcome_that_served_nobody(books: Books) -> None:
    """The words that the database counts as errors are those that the ledger calls so."""
    for number, outcome in enumerate(OUTCOMES):
        await books.append(f"r{number}.1", outcome=outcome, at_us=AT_US)
    await books.drain()
    found = {row.group[0]: row.sums.errors for row in usage(books.path, "outcome", since_us=0).rows}
    assert found == {outcome: int(outcome not in SERVED) for outcome in OUTCOMES}


def test_a_ledger_that_is_not_there_is_said(books: Books) -> None:
    """Nothing is summed up to nothing."""
    with pytest.raises(LedgerUnreachable, match="no ledger"):
        usage(books.path, "model", since_us=0)


async def test_every_dimension_has_an_answer(books: Books) -> None:
    """Each dimension works alone, and the JSON names it."""
    await books.append("a.1", at_us=AT_US, cost_nusd=1_234_567_890)
    await books.drain()
    for name in DIMENSIONS:
        said = usage(books.path, name, since_us=0, until_us=AT_US + 1).as_json()
        assert name in said["rows"][0]
        assert said["total"]["cost_usd"] == "1.234567890"
        assert said["since"] == "1970-01-01T00:00:00Z"
        assert said["until"] == "2026-11-22T03:36:12Z"


@pytest.mark.parametrize(
    ("by", "wanted"),
    [
        ("team,model", ("team", "model")),
        (" Team , business-line ", ("team", "business_line")),
        ("model,model", ("model",)),
        (["day"], ("day",)),
    ],
)
def test_dimensions_are_read_kindly(by: str | list[str], wanted: tuple[str, ...]) -> None:
    """Spaces, capitals, dashes and repetitions do not matter."""
    assert dimensions(by) == wanted


@pytest.mark.parametrize("by", ["", "team,", "cost; DROP TABLE entries", ",".join(DIMENSIONS)])
def test_other_dimensions_are_refused(by: str) -> None:
    """What is no dimension never reaches the database, and the message says what there is."""
    with pytest.raises(BadQuestion, match="dimension"):
        dimensions(by)


@pytest.mark.parametrize(
    ("said", "moment"),
    [
        ("24h", NOW - timedelta(hours=24)),
        ("7d", NOW - timedelta(days=7)),
        (" 30 m ", NOW - timedelta(minutes=30)),
        ("2W", NOW - timedelta(weeks=2)),
        ("0s", NOW),
        ("999999999w", datetime(1970, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00+23:00", datetime(1970, 1, 1, tzinfo=UTC)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T08:30", datetime(2026, 11, 1, 8, 30, tzinfo=UTC)),
        ("2026-11-01T08:30Z", datetime(2026, 11, 1, 8, 30, tzinfo=UTC)),
        (
            "2026-11-01T08:30+01:00",
            datetime(2026, 11, 1, 8, 30, tzinfo=timezone(timedelta(hours=1))),
        ),
    ],
)
def test_a_time_is_a_span_or_a_moment(said: str, moment: datetime) -> None:
    """Spans count back from now; moments without an offset are UTC."""
    assert moment_us(said, NOW) == int(moment.timestamp() * 1_000_000)


@pytest.mark.parametrize(
    "said",
    ["", "yesterday", "24", "h", "-3d", "2026-13-01", "9999999999d", "9999-12-31T23:59-01:00"],
)
def test_another_time_is_refused(said: str) -> None:
    """The message shows the forms that are understood."""
    with pytest.raises(BadQuestion, match="2026-11-01T08:30"):
        moment_us(said, NOW)


@given(st.integers(-(10**18), 10**18))
def test_usd_is_exact(nusd: int) -> None:
    """Nano-USD become a decimal without any loss."""
    sign, _, digits = usd(nusd).rpartition("-")
    whole, _, part = digits.partition(".")
    assert (-1 if sign or usd(nusd).startswith("-") else 1) * (
        int(whole) * 10**9 + int(part)
    ) == nusd
