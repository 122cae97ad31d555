"""Laws of `python -m loadtests.bench`."""

import os
import signal
import time

import pytest

from loadtests.bench import __main__ as module
from loadtests.bench import tools
from loadtests.bench.figures import PARTS
from loadtests.bench.measure import Effort
from loadtests.bench.wrk import BenchFailed


@pytest.fixture
def ran(monkeypatch):
    """Give what `_bench` was called with."""
    calls = []

    def bench(programs, effort, parts, json, *, realtime):
        calls.append((effort, parts, json, realtime))

    monkeypatch.setattr(module, "_bench", bench)
    monkeypatch.setattr(tools, "find", lambda: tools.Tools("nginx", "wrk"))
    return calls


def test_arguments_choose_parts_and_effort(ran, tmp_path):
    """`--only` keeps the order of the table, `--quick` shortens, `--runs` overrides."""
    file = tmp_path / "x.json"
    assert (
        module.main(["--quick", "--runs", "2", "--only", "memory,burst", "--json", str(file)]) == 0
    )
    assert module.main(["--realtime"]) == 0
    (quick, parts, json, in_slices), (usual, all_parts, nothing, in_turn) = ran
    assert (quick.runs, parts, json, in_slices) == (2, ("burst", "memory"), file, False)
    assert quick.seconds < usual.seconds
    assert (usual, all_parts, nothing, in_turn) == (Effort(), PARTS, None, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "everything"], "one of nonstream, burst"),
        (["--runs", "0"], "no number from 1 to 100"),
        (["--runs", "x"], "no number from 1 to 100"),
    ],
)
def test_mistakes_are_told(ran, arguments, words, capsys):
    """An unknown part or number of runs is a usage error that names what there is."""
    with pytest.raises(SystemExit, match="2"):
        module.main(arguments)
    assert words in capsys.readouterr().err
    assert ran == []


def test_told_to_end_it_ends_what_it_started(monkeypatch, ran):
    """SIGTERM unwinds like Ctrl-C, so that every process of the bench is ended."""
    unwound = []

    def bench(*_, **__):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            unwound.append(True)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(module, "_bench", bench)
    assert module.main([]) == 130
    assert unwound == [True]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_bench_that_fails_says_why(monkeypatch, capsys):
    """Exit code 1 and the words."""

    def bench(*_, **__):
        raise BenchFailed("not one request came back")

    monkeypatch.setattr(module, "_bench", bench)
    monkeypatch.setattr(tools, "find", lambda: tools.Tools("nginx", "wrk"))
    assert module.main([]) == 1
    assert "the bench failed: not one request" in capsys.readouterr().err
