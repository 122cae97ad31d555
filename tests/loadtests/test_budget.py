"""Laws of the budget: every mistake is told before anything starts, medians are judged, and noise is neither guilt nor excuse."""

import copy

import pytest

from loadtests import budget
from loadtests.budget import BROKEN, KEPT, NOISY, UNKNOWN, BadBudget, Tail, judge, read

GOOD = {
    "scenarios": {
        "chat": {
            "model": "bench",
            "load": 10,
            "slo": "e2e:100",
            "added": {"total": {"p50": "500 us", "p99": "0.02 s"}},
            "errors": "1 %",
            "cpu": "5 x",
            "memory": "0.5 MB",
            "goodput": "95 %",
        }
    }
}


def test_the_budget_that_is_shipped_can_be_read():
    """And holds what was promised: latencies, errors, CPU, memory, goodput."""
    scenarios = budget.load()
    rows = {bound.row for scenario in scenarios for bound in scenario.bounds}
    assert {"errors", "cpu", "memory", "goodput"} < rows
    for what in ("ttft", "chunk"):
        assert {f"added.{what}.{share}" for share in budget.PERCENTILES} <= rows


def test_quantities_have_units_and_are_made_equal():
    """500 µs are half a millisecond, half a megabyte 512 KB."""
    (scenario,) = read(GOOD)
    bounds = {bound.row: (bound.value, bound.unit) for bound in scenario.bounds}
    assert bounds["added.total.p50"] == (0.5, "ms")
    assert bounds["added.total.p99"] == (20, "ms")
    assert bounds["memory"] == (512, "KB")
    assert bounds["cpu"] == (5, "x")
    assert scenario.wants("added")
    assert not scenario.wants("nothing")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("scenarios", "chatt"), {}, "scenarios.chatt: unknown; did you mean 'chat'"),
        (("scenarios", "chat", "modell"), "x", "did you mean 'model'"),
        (("scenarios", "chat", "model"), "gpt", "'gpt' is none of bench"),
        (("scenarios", "chat", "load"), "many", "no number of calls per second"),
        (("scenarios", "chat", "slo"), "speed:1", "scenarios.chat.slo"),
        (("scenarios", "chat", "cpu"), "5 ms", "unknown unit 'ms'; known here are x"),
        (("scenarios", "chat", "cpu"), 5, "no number with a unit"),
        (("scenarios", "chat", "added", "total", "p50"), "1 fortnight", "unknown unit 'fortnight'"),
        (("scenarios", "chat", "added", "total", "p98"), "1 ms", "p98: unknown; did you mean"),
        (("scenarios", "chat", "added", "tfft"), {}, "did you mean 'ttft'"),
        (("scenarios", "chat", "added"), [], "a mapping was expected"),
        (("scenarios",), {}, "at least one"),
        (("limits",), {}, "budget.limits: unknown"),
    ],
)
def test_a_mistake_is_told_with_its_path(path, value, words):
    """And with what would have been right."""
    document = copy.deepcopy(GOOD)
    at = document
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    with pytest.raises(BadBudget) as told:
        read(document)
    assert words in str(told.value)


def test_all_mistakes_are_told_at_once():
    """One a line."""
    document = copy.deepcopy(GOOD)
    document["scenarios"]["chat"] |= {"model": "x", "cpu": "1", "memory": "1 TB"}
    with pytest.raises(BadBudget) as told:
        read(document)
    assert len(str(told.value).splitlines()) == 3


@pytest.mark.parametrize("text", [None, b"a: [", b"- 1", b"a: \xff"])
def test_a_file_that_is_no_budget_is_told(tmp_path, text):
    """Missing, no YAML, something else, no text."""
    if text is not None:
        (tmp_path / "b.yaml").write_bytes(text)
    with pytest.raises(BadBudget):
        budget.load(tmp_path / "b.yaml")


def word(values, noise="", row="added.total.p50", beside=(), **how):
    (scenario,) = read(GOOD)
    beside = {row: beside}
    verdicts = judge(
        scenario, {row: values}, noise=noise, missing="nobody looked", beside=beside, **how
    )
    (found,) = [verdict for verdict in verdicts if verdict.bound.row == row]
    return found.word


def test_the_median_is_judged():
    """One bad repeat of three breaks nothing, two do."""
    assert word([0.4, 0.4, 9.0]) == KEPT
    assert word([0.4, 0.6, 9.0]) == BROKEN
    assert word([0.5]) == KEPT, "the bound itself is within"


def test_noise_is_no_guilt_and_no_excuse():
    """A little too much on a busy machine is undecided; more than twice in every repeat is broken all the same."""
    assert word([0.6, 0.7, 0.9], "busy") == NOISY
    assert word([0.6, 1.1, 1.2], "busy") == NOISY
    assert word([1.1, 1.2, 9.0], "busy") == BROKEN
    assert word([0.4, 0.4, 0.4], "busy") == KEPT


def test_what_a_bare_proxy_does_not_keep_either_is_not_the_gateways():
    """In the same runs, in their median; whatever the machine said of itself."""
    assert word([9.0, 9.0, 9.0], beside=[0.6, 0.7, 0.1]) == NOISY
    assert word([9.0, 9.0, 9.0], "busy", beside=[0.6, 0.7, 0.1]) == NOISY
    assert word([9.0, 9.0, 9.0], "busy", beside=[0.6, 0.1, 0.1]) == BROKEN
    assert word([0.1, 0.1, 0.1], beside=[9.0]) == KEPT
    assert word([2.0], row="errors", beside=[2.0]) == BROKEN


def test_a_machine_that_others_have_more_of_says_nothing():
    """But of errors, and of what is kept in spite of it."""
    assert word([9.0, 9.0, 9.0], "busy", hopeless=True) == NOISY
    assert word([0.1, 0.1, 0.1], "busy", hopeless=True) == KEPT
    assert word([2.0], "busy", row="errors", hopeless=True) == BROKEN


def test_a_percentile_breaks_by_more_than_chance():
    """A handful of the worst calls says little of p99; what most calls do, everything."""
    p99, p50 = "added.total.p99", "added.total.p50"

    def judged(row, beyond, of, **how):
        return word([90.0, 90.0, 90.0], row=row, tails={row: Tail(beyond, of)}, **how)

    assert judged(p99, 4, 495) == NOISY
    assert judged(p99, 8, 495) == NOISY
    assert judged(p99, 9, 495) == BROKEN, "by more than 1.64 standard deviations"
    assert judged(p99, 495, 495) == BROKEN
    assert judged(p99, 4, 495, noise="busy") == NOISY
    assert judged(p50, 260, 495) == NOISY
    assert judged(p50, 270, 495) == BROKEN
    assert judged("cpu", 0, 495) == BROKEN, "CPU is no percentile of calls"
    assert Tail(1, 10) + Tail(2, 20) == Tail(3, 30)


def test_errors_break_whatever_the_noise():
    """A refused call is not a matter of timing."""
    assert word([2.0], "busy", "errors") == BROKEN
    assert word([1.0], "busy", "errors") == KEPT


def test_a_floor_is_broken_from_below():
    """Goodput."""
    assert word([94.0], row="goodput") == BROKEN
    assert word([96.0], row="goodput") == KEPT
    assert word([90.0], "busy", row="goodput") == NOISY
    assert word([40.0], "busy", row="goodput") == BROKEN


def test_what_was_not_measured_is_said_to_be_so():
    """It is neither kept nor broken."""
    (scenario,) = read(GOOD)
    verdicts = judge(scenario, {}, missing="nobody looked")
    assert {(verdict.word, verdict.why) for verdict in verdicts} == {(UNKNOWN, "it was not run")}
    told = {
        one.bound.row: one.why
        for one in judge(scenario, {"errors": [100.0]}, missing="nobody looked")
        if one.word == UNKNOWN
    }
    assert told.pop("cpu") == told.pop("memory") == "nobody looked"
    assert set(told.values()) == {"no call was answered, through it or directly"}
    assert verdicts[0].row()["measured"] == "-"
    assert verdicts[0].row()["why"] == "it was not run", "the page says it as well"
