"""Laws of the metrics: AIPerf's definitions, counted from when a call was meant to begin."""

import pytest

from loadtests.metrics import (
    GAPS_KEPT,
    BadObjective,
    Record,
    Timeline,
    meets,
    percentile,
    read_objectives,
)

MS = 1_000_000


def record(**values):
    return Record(
        **{
            "base": "b",
            "scenario": "s",
            "tenant": "t",
            "at_s": 0.0,
            "late_ms": 0.0,
            "outcome": "ok",
            **values,
        }
    )


def test_the_definitions():
    """A stream of one reasoning event and four of content, ten milliseconds apart, with 9 tokens reported."""
    line = Timeline(intended_ns=0, sent_ns=5 * MS)
    line.content(20 * MS, output=False)
    for at in (30, 40, 50, 60):
        line.content(at * MS, output=True)
    line.reported_tokens = 9
    assert line.ttft_ms() == 20, "from the intended start, not from the sending"
    assert line.ttfo_ms() == 30
    assert line.e2e_ms() == 60
    assert line.itl_ms() == (60 - 20) / (9 - 1)
    assert line.tpot_ms() == (60 - 20) / (9 - 1)
    assert line.gaps_us == [10_000] * 4


def test_a_first_event_with_several_tokens_is_taken_off():
    """The time after the first event belongs to the tokens after it: AIPerf's divisor."""
    line = Timeline(0, 0)
    line.content(10 * MS, output=True, tokens=4)
    line.content(22 * MS, output=True, tokens=8)
    line.reported_tokens = 8
    assert line.itl_ms() == 12 / 4
    assert line.tpot_ms() == 12 / 7


def test_a_first_count_that_contradicts_the_whole_is_not_used():
    """As AIPerf does: the divisor falls back to one token in the first event."""
    line = Timeline(0, 0)
    line.content(10 * MS, output=True, tokens=8)
    line.content(24 * MS, output=True, tokens=8)
    line.reported_tokens = 8
    assert line.itl_ms() == 14 / 7


def test_without_a_report_events_count_as_tokens():
    """And without events there is nothing to tell."""
    line = Timeline(0, 0)
    assert (line.ttft_ms(), line.ttfo_ms(), line.e2e_ms(), line.itl_ms(), line.tpot_ms()) == (
        None,
    ) * 5
    line.content(10 * MS, output=True)
    assert (line.tokens, line.itl_ms(), line.tpot_ms()) == (1, None, None)
    line.content(20 * MS, output=True)
    assert (line.tokens, line.itl_ms()) == (2, 10)


def test_gaps_are_bounded():
    """A stream that never ends does not fill the memory."""
    line = Timeline(0, 0)
    for at in range(GAPS_KEPT + 10):
        line.content(at * MS + 1, output=True)
    assert len(line.gaps_us) == GAPS_KEPT


@pytest.mark.parametrize(
    "text", ["ttft:500 itl:50", "time_to_first_token:500 inter_token_latency:50"]
)
def test_objectives_are_read_under_both_names(text):
    """AIPerf's `--goodput` can be pasted."""
    assert read_objectives(text) == {"ttft": 500, "itl": 50}
    assert read_objectives("e2e:7 tpot:1.5") == {"e2e": 7, "tpot": 1.5}


@pytest.mark.parametrize("text", ["ttft", "ttft:fast", "speed:5", "ttft:-1"])
def test_an_objective_that_is_none_is_told(text):
    """With what there is."""
    with pytest.raises(BadObjective, match="ttft, ttfo, e2e, itl, tpot"):
        read_objectives(text)


def test_goodput_counts_what_meets_every_objective():
    """A metric that a call does not have is not held against it; a failure meets nothing."""
    objectives = {"ttft": 100.0, "itl": 10.0}
    assert meets(record(ttft_ms=100, itl_ms=10), objectives)
    assert not meets(record(ttft_ms=101, itl_ms=1), objectives)
    assert meets(record(e2e_ms=5000), objectives)
    assert not meets(record(outcome="http_429"), objectives)
    assert not meets(record(outcome="left", ttft_ms=1), objectives)


def test_what_the_end_cut_off_counts_neither_way():
    """Neither as good nor as an error."""
    assert not record(outcome="unfinished").counts
    assert record(outcome="left").fine
    assert not record(outcome="lost").fine


def test_percentiles_are_values_that_were_seen():
    """Nearest rank: no value is made up, and what floats make of a share moves no rank."""
    values = list(range(1, 101))
    assert [percentile(values, share / 100) for share in range(1, 101)] == values
    assert percentile(values, 0) == 1
    assert percentile(list(range(1, 1001)), 0.999) == 999
    assert percentile([7], 0.99) == 7
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
