"""Laws of long and hard runs: slopes are robust, leaks are named, phases are told apart, and a look never disturbs the run."""

import http.server
import os
import sys
import threading
import time
from itertools import combinations
from random import Random

import pytest

from loadtests.endurance import (
    Trend,
    Watcher,
    is_shed,
    load_of,
    phase_rows,
    phases,
    read_gauges,
    recovery_s,
    slopes,
    trend_of,
)
from loadtests.metrics import Record
from loadtests.shapes import read_shape
from tests.loadtests.peer import peer, whole

METRICS = """# HELP penstock_in_flight Exchanges under way.
penstock_in_flight 3.0
penstock_unsettled 2.0
penstock_upstream_connections{state="idle"} 4.0
penstock_upstream_connections{state="busy"} 1.0
penstock_client_connections 1.0
penstock_tasks 9.0
penstock_requests_total{status="200"} 99.0
"""


def test_gauges_are_summed_over_labels_and_make_the_open_leases():
    """What is in flight and what is not confirmed; counters are passed over."""
    assert read_gauges(METRICS) == {
        "in flight": 3,
        "unsettled": 2,
        "upstream connections": 5,
        "busy upstream connections": 1,
        "client connections": 1,
        "tasks": 9,
        "leases": 5,
    }


def line(slope, seconds=600, peaks=()):
    return [
        (float(at), 100 + slope * at / 3600 + (500 if at in peaks else 0))
        for at in range(0, seconds, 5)
    ]


@pytest.mark.parametrize("slope", [0, 60, -30])
def test_a_slope_is_that_of_the_line_whatever_its_peaks(slope):
    """Theil and Sen: a garbage collection is no leak."""
    trend = trend_of(line(slope, peaks=(200, 300, 595)))
    assert trend.per_hour == pytest.approx(slope, abs=0.5)
    assert trend.low <= trend.per_hour <= trend.high


def test_the_beginning_is_not_a_slope():
    """Caches and pools fill."""
    points = [(at, min(value, 100.0)) for at, value in line(0)]
    filling = [(at, at if at < 100 else value) for at, value in points]
    assert trend_of(filling) == Trend(0, 0, 0)
    assert trend_of([(0.0, 1.0), (1.0, 2.0)]) is None


def test_what_grows_is_named_and_a_short_run_says_nothing():
    """Memory beyond a few megabytes an hour is a leak; calls are shown, and nothing is demanded of them."""
    found = {
        one.what: one.word
        for one in slopes(
            {
                "memory MB": line(500),
                "descriptors": line(1),
                "tasks": line(500, seconds=60),
                "client connections": line(500),
                "in flight": line(500),
            }
        )
    }
    assert found == {
        "memory MB": "grows",
        "descriptors": "steady",
        "tasks": "too short",
        "client connections": "grows",
        "in flight": "",
    }


def noise(height, slope=0.0):
    random = Random(1)
    return [(at, value + random.uniform(-height, height)) for at, value in line(slope)]


def test_an_interval_holds_the_slope_and_grows_with_the_noise():
    """Whoever reads a slope of ten minutes has to know what it is worth."""
    for height in (1.0, 30.0):
        trend = trend_of(noise(height, slope=60.0))
        assert trend.low < 60.0 < trend.high
    quiet, loud = trend_of(noise(1.0)), trend_of(noise(30.0))
    assert quiet.high - quiet.low < (loud.high - loud.low) / 10


@pytest.mark.parametrize("seconds", [40, 60, 300, 600])
def test_an_interval_is_as_wide_below_as_above(seconds):
    """What falls is what grows, seen in a mirror; its bounds are the ranks of Sen, counted from one."""
    random = Random(seconds)
    points = [(float(at), random.gauss(0, 10)) for at in range(0, seconds, 5)]
    up, down = trend_of(points), trend_of([(at, -value) for at, value in points])
    assert (down.low, down.per_hour, down.high) == (-up.high, -up.per_hour, -up.low)


def test_an_interval_is_that_of_sens_ranks():
    """Of ten values 45 slopes, whose variance is 125: from rank (45 - 21.9) / 2, the 11th, to the one behind (45 + 21.9) / 2, the 35th."""
    random = Random(7)
    values = [random.gauss(0, 1) for _ in range(10)]
    rates = sorted((b - a) / (j - i) for (i, a), (j, b) in combinations(enumerate(values), 2))
    # The first quarter is warm-up: what is put before lies in it.
    points = [(at, 0.0) for at in range(-3, 0)] + list(enumerate(values))
    trend = trend_of([(at + 3.0, value) for at, value in points])
    assert trend.low == pytest.approx(rates[11 - 1] * 3600)
    assert trend.high == pytest.approx(rates[35 - 1] * 3600)


def test_only_what_is_certain_is_called_steady_or_growing():
    """What moves by more than a leak of the run's length is too noisy to judge."""
    found = slopes(
        {"leases": noise(30.0), "tasks": noise(1.0), "descriptors": noise(1.0, slope=80)}
    )
    assert [one.word for one in found] == ["too noisy", "steady", "grows"]
    assert found[1].row() == {
        "what": "tasks",
        "first": 99.9,
        "last": 100.2,
        "slope": "+1.2",
        "between": "-2.4 to +7.0",
        "verdict": "steady",
    }


def test_what_is_seen_after_the_load_is_no_slope():
    """Connections close then, and calls end."""
    after = [(at, 0.0) for at in range(600, 660)]
    (found,) = slopes({"leases": line(0) + after}, load_s=600.0)
    assert (found.last, found.trend) == (100, Trend(0, 0, 0))


def test_what_belongs_to_connections_is_no_leak_of_descriptors_or_tasks():
    """Where the gauges tell it apart, what is left is judged; else all of it."""
    seen = {"descriptors": line(500), "tasks": line(500)}
    assert [one.word for one in slopes(seen)] == ["grows", "grows"]
    apart = {**seen, "other descriptors": line(0), "other tasks": line(500)}
    words = {one.what: one.word for one in slopes(apart)}
    assert words == {
        "descriptors": "",
        "tasks": "",
        "other descriptors": "steady",
        "other tasks": "grows",
    }


def soaked(leaks_per_hour):
    """Give ten minutes of a gateway that keeps so many connections whose callers have left, with all that belongs to them, and the calls."""
    random = Random(11)
    begun, records = 1000, []
    watcher = Watcher((), wall_ns=lambda: begun * 10**9)
    for number in range(600 * 5):
        took = 15_000.0 if random.random() < 0.1 else random.lognormvariate(7.0, 0.8)
        records.append(Record("p", "unruly", "t", begun + number / 5, 1.0, "ok", 200, took_ms=took))
    for second in range(600):
        at = begun + second
        calls = sum(one.at_s <= at < one.at_s + one.took_ms / 1000 for one in records)
        connections = calls + random.randint(0, 4) + int(leaks_per_hour * second / 3600)
        seen = {"client connections": connections, "upstream connections": calls}
        seen |= {"descriptors": 24 + connections + calls, "tasks": 17 + connections}
        for name, value in (seen | {"other descriptors": 24, "other tasks": 17}).items():
            watcher.series.setdefault(name, []).append((float(second), float(value)))
    return watcher, records


@pytest.mark.parametrize(("leaks_per_hour", "word"), [(0, "steady"), (60, "grows")])
def test_connections_that_no_call_explains_are_a_leak(leaks_per_hour, word):
    """Descriptors and tasks of theirs are no "other" ones; ten in ten minutes are certain beside what calls come and go with."""
    watcher, records = soaked(leaks_per_hour)
    watcher.tell_calls(records)
    words = {one.what: one.word for one in slopes(watcher.series)}
    assert words["other client connections"] == word
    assert words["client connections"] == words["open calls"] == ""
    assert words["other descriptors"] == words["other tasks"] == "steady"


def test_a_noisy_machine_does_not_cry_leak():
    """Calls that take longer hold more; what did not grow even so is steady."""
    judged = slopes({"memory MB": line(500), "descriptors": line(1)}, noisy=True)
    assert [one.word for one in judged] == ["too noisy", "steady"]


class Answers(http.server.BaseHTTPRequestHandler):
    """An admin port that has metrics."""

    def do_GET(self):
        self.send_response(200 if self.path == "/metrics" else 404)
        self.end_headers()
        self.wfile.write(METRICS.encode())

    def log_message(self, *_):
        """Say nothing."""


def test_a_watcher_sees_processes_and_gauges_and_survives_their_end():
    """Memory and descriptors of this very process here; a dead one and a dead port are looks that miss."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    with Watcher([os.getpid()], url, every_s=0.01) as watcher:
        give_up = time.monotonic() + 30
        while len(watcher.series.get("leases", ())) < 3 and time.monotonic() < give_up:
            time.sleep(0.01)
    server.shutdown()
    server.server_close()
    thread.join(10)
    assert [value for _, value in watcher.series["leases"]][:3] == [5, 5, 5]
    assert watcher.series["memory MB"][0][1] > 10
    assert watcher.series["other tasks"][0][1] == 9 - 1
    assert watcher.series["other leases"][0][1] == 5 - 1
    assert ("descriptors" in watcher.series) == (sys.platform == "linux")
    assert ("other descriptors" in watcher.series) == (sys.platform == "linux")
    assert Watcher([2**22 + 1], "http://127.0.0.1:1").look() == {}


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", whole(b"\xff"), b"SSH-2.0-OpenSSH\r\n"],
    ids=["cut", "no text", "no HTTP"],
)
def test_an_admin_port_that_fails_misses_a_look_and_not_the_run(answer):
    """It may be killed in the middle of its answer, which a soak is to survive."""
    with peer(answer, close_after=1) as ours:
        assert Watcher((), ours.url).look() == {}


OBJECTIVES = {"e2e": 1000.0}


def overloaded():
    """Give ten seconds: 2 calls a second, then 10 of which 8 are shed, then 2 again, of which the first is shed."""
    found = []
    for tenth in range(100):
        at = tenth / 10
        busy = 2 <= at < 6
        if not busy and tenth % 5:
            continue
        shed = (busy and tenth % 5 != 0) or tenth == 60
        outcome, status = ("http_429", 429) if shed else ("ok", 200)
        took = 1.0 if shed else 100.0
        found.append(
            Record(
                "p",
                "chat",
                "t",
                at,
                0.0,
                outcome,
                status,
                e2e_ms=None if shed else took,
                took_ms=took,
            )
        )
    return found


def test_an_overload_is_half_then_five_times_then_half():
    """As a shape that the load takes."""
    shape = read_shape(load_of(100), 10)
    assert [shape.at(at) for at in (1, 3, 5, 7, 9)] == [50, 500, 500, 50, 50]
    assert [(one.begin_s, one.end_s) for one in phases(10)] == [(0, 2), (2, 6), (6, 10)]


def test_phases_say_what_was_served_and_what_was_shed_and_how_fast():
    """Goodput holds, the rest is turned away quickly."""
    before, during, after = phase_rows(overloaded(), 10, OBJECTIVES)
    assert (before["offered"], before["goodput"], before["shed"]) == (2, 2, 0)
    assert (during["offered"], during["goodput"], during["shed"]) == (10, 2, 80)
    assert (during["ok50"], during["shed99"]) == (100, 1)
    assert after["shed"] == pytest.approx(12.5)
    assert after["failed"] == 0
    hung = [*overloaded(), *(Record("p", "c", "t", 9.5, 0.0, "unfinished") for _ in range(8))]
    assert phase_rows(hung, 10, OBJECTIVES)[2]["failed"] == 50, "what hangs is an error"
    assert recovery_s(hung, 10, OBJECTIVES) == 3.5


def test_recovery_is_the_last_bad_call_after_the_overload():
    """At its very beginning here; without calls nobody knows."""
    assert recovery_s(overloaded(), 10, OBJECTIVES) == 0
    late = [*overloaded(), Record("p", "c", "t", 7.5, 0.0, "lost")]
    assert recovery_s(late, 10, OBJECTIVES) == 1.5
    assert recovery_s([], 10, OBJECTIVES) is None


def test_shedding_is_an_answer_that_a_caller_can_act_on():
    """A lost connection is none."""
    assert is_shed(Record("p", "c", "t", 0.0, 0.0, "http_503", 503))
    assert not is_shed(Record("p", "c", "t", 0.0, 0.0, "lost"))
