"""Laws of running wrk and of reading what it counted."""

import sys
from pathlib import Path

import pytest

from loadtests.bench import wrk

LINE = (
    'penstock-bench {"requests":1000,"duration_us":2000000,"bytes":5000,"p50_us":900,"p90_us":1500,'
    '"p99_us":2500,"max_us":9000,"errors":{"connect":0,"read":0,"write":0,"status":%d,"timeout":0}}'
)
OUTPUT = f"Running 2s test\n  1 threads and 64 connections\n{LINE}\nRequests/sec: 500\n"


def test_the_line_of_our_script_is_read():
    """What wrk says around it does not matter."""
    counted = wrk.read_output(OUTPUT % 0)
    assert (counted.requests, counted.p99_us) == (1000, 2500)
    assert counted.rate == pytest.approx(500)


def test_a_refused_request_fails_the_bench():
    """Figures over refusals would mean nothing."""
    with pytest.raises(wrk.BenchFailed, match="of 1000 requests some failed: 3 status errors"):
        wrk.read_output(OUTPUT % 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("unable to connect", "did not tell"),
        ((OUTPUT % 0).replace('"requests":1000', '"requests":0'), "not one request"),
    ],
)
def test_no_figure_fails_the_bench(text, words):
    """A run without our line, or without requests, is no run."""
    with pytest.raises(wrk.BenchFailed, match=words):
        wrk.read_output(text)


def test_the_command_line_carries_what_the_script_takes():
    """Body, key, connections and spread stand after `--`, in the order of the script's header."""
    words = wrk.command(
        "wrk", "http://h:1/x", Path("b.json"), "key", connections=200, seconds=2.6, spread_ms=9
    )
    assert words[words.index("--") + 1 :] == ["b.json", "key", "200", "9"]
    assert {"-c200", "-d3s", "http://h:1/x"} <= set(words)
    header = wrk.SCRIPT.read_text()
    assert all(f"args[{number}]" in header for number in (1, 2, 3, 4))


def test_wrk_is_run_to_its_end():
    """Its output is read, and its failure is told with its words."""
    assert wrk.run([sys.executable, "-c", f"print('''{LINE % 0}''')"]).requests == 1000
    with pytest.raises(wrk.BenchFailed, match="no such host"):
        wrk.run([sys.executable, "-c", "import sys; sys.exit('no such host')"])
