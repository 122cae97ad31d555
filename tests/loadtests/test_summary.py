"""Laws of the summary: figures are those of the records, nothing is counted twice, and what was cut off not at all."""

import json

import pytest

from loadtests.engine import Health
from loadtests.metrics import Record
from loadtests.summary import (
    Span,
    Times,
    by_scenario,
    fairness,
    figures_of,
    span_of,
    spread_of,
    summarize,
    times_of,
    values_of,
    width_for,
)

OBJECTIVES = {"ttft": 50.0}


def record(at=0.0, ttft=10.0, outcome="ok", **values):
    return Record(
        **{
            "base": "a",
            "scenario": "chat",
            "tenant": "normal",
            "at_s": 1000.0 + at,
            "late_ms": 0.5,
            "outcome": outcome,
            "stream": True,
            "ttft_ms": ttft,
            "e2e_ms": (ttft or 0) * 2,
            "took_ms": (ttft or 0) * 2,
            "itl_ms": 5.0,
            "tokens": 4,
            "gaps_us": [1000, 3000],
            **values,
        }
    )


def test_a_spread_is_of_something():
    """Count, mean and percentiles."""
    assert spread_of([]) is None
    assert spread_of([1, 3])["mean"] == 2


def test_figures_of_a_group():
    """Shares, rates, tokens, errors with an example, and latencies of what went well."""
    records = [
        *(record(at) for at in range(6)),
        record(6, ttft=60.0),
        record(
            7,
            outcome="http_429",
            status=429,
            ttft=None,
            e2e_ms=None,
            took_ms=3.0,
            detail="slow down",
        ),
        record(8, outcome="left"),
        record(9, outcome="unfinished"),
    ]
    got = figures_of(records, OBJECTIVES, Times(10.0, 20.0))
    assert (got["calls"], got["ok"], got["unfinished"]) == (9, 8, 1)
    assert got["errors"] == {"http_429": 1}
    assert got["details"] == {"http_429": "slow down"}
    assert got["error_share"] == pytest.approx(1 / 9)
    assert got["rate"] == 0.9, "calls over the time in which they began"
    assert got["throughput"] == 0.4, "completed calls over the whole time"
    assert got["goodput"] == 0.3, "the slow one and the leaver are not good"
    assert got["tokens_s"] == 1.8
    assert got["ttft"]["p99"] == 60
    assert got["ttft"]["count"] == 8
    assert got["icl"]["count"] == 16
    assert got["shed_ms"]["p50"] == 3
    assert got["tok_s"]["p50"] == 200


def test_a_document_is_json_with_every_part():
    """By base, scenario and tenant; over time; as distributions; the generator."""
    records = [record(at / 10, base=base) for at in range(50) for base in ("a", "b")]
    samples = [Health("worker-0", 1000.5, 0.2, 1.0, 3, 0)]
    run = summarize(records, samples, objectives=OBJECTIVES, about={"title": "t"})
    assert json.loads(json.dumps(run)) == json.loads(json.dumps(run))
    assert run["total"]["calls"] == 100
    assert set(run["by_base"]) == {"a", "b"}
    assert set(run["by_scenario"]) == {"a · chat", "b · chat"}
    assert set(run["by_tenant"]) == {"a · normal", "b · normal"}
    points = run["over_time"]["bases"]["a"]
    assert [point["rate"] for point in points] == [10] * 5
    assert points[0]["ttft"]["p50"] == 10
    curve = run["cdf"]["a"]["icl"]
    assert curve[-1] == (3.0, 1.0)
    assert [share for _, share in curve] == sorted(share for _, share in curve)
    assert run["health"]["worker-0"][0]["at_s"] == 0.5
    assert run["warnings"] == []


def test_a_run_without_a_call_is_a_document_too():
    """Ctrl-C may come before the first answer."""
    run = summarize([], [], objectives={}, about={})
    assert (run["total"]["calls"], run["fairness"], run["by_base"]) == (0, None, {})


def test_rates_are_of_the_time_in_which_calls_began():
    """The last answer may be long in coming; that is no load."""
    records = [record(at) for at in range(5)] + [record(4, took_ms=60_000.0)]
    assert summarize(records, [], objectives={}, about={})["total"]["rate"] == 1.5


def test_throughput_and_goodput_are_over_the_time_to_the_last_answer():
    """AIPerf's benchmark duration: from the first call's start to the last answer's end."""
    records = [record(at, took_ms=1000.0) for at in range(4)] + [record(4, took_ms=6000.0)]
    total = summarize(records, [], objectives=OBJECTIVES, about={})["total"]
    assert span_of(records) == Span(1000.0, 1004.0, 1010.0)
    assert (total["rate"], total["throughput"], total["goodput"]) == (1.25, 0.5, 0.5)
    assert total["tokens_s"] == 2.0


def test_several_runs_in_one_document_do_not_dilute_one_another():
    """Rates are over the time of the runs that a group is in, not over what lay between."""
    first = [record(at) for at in range(11)]
    second = [record(100 + at, scenario="agent", base="b") for at in range(6)]
    spans = [span for span in map(span_of, (first, second)) if span]
    run = summarize(first + second, [], objectives={}, about={}, spans=spans, parts=True)
    assert run["by_base"]["a"]["rate"] == 1.1
    assert run["by_scenario"]["b · agent"]["rate"] == 1.2
    assert [part["name"] for part in run["parts"]] == ["agent", "chat"]
    assert set(run["parts"][0]["cdf"]) == {"b"}
    (agent, chat) = run["parts"]
    assert agent["over_time"]["bases"]["b"][0]["at_s"] == 100, "it is drawn from its own beginning"
    assert chat["over_time"]["bases"]["a"][0]["at_s"] == 0
    assert "over_time" not in run, "nothing draws all of them on one axis"
    assert times_of([], spans) == Times()
    assert by_scenario(first, {})["a · chat"]["calls"] == 11
    assert by_scenario([], {}) == {}


def test_fairness_is_jains_index():
    """Equal shares are 1; one tenant of two served is a half."""
    equal = [record(tenant=tenant) for tenant in ("x", "y")]
    assert fairness(equal, {}) == 1
    one = [record(tenant="x"), record(tenant="y", outcome="http_429")]
    assert fairness(one, {}) == 0.5
    assert fairness([], {}) is None


def test_gaps_of_all_streams_are_the_chunk_latencies():
    """In milliseconds; of failures nothing is taken."""
    assert values_of([record(), record(outcome="lost")], "icl") == [1.0, 3.0]


@pytest.mark.parametrize(("seconds", "width"), [(5, 1), (300, 1), (301, 2), (86400, 300)])
def test_long_runs_have_wide_bins(seconds, width):
    """A page draws a few hundred points, not a hundred thousand."""
    assert width_for(seconds) == width
