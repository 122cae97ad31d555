"""The law of how a bench ends."""

import pytest

from loadtests.bench import tools
from loadtests.bench.ending import exit_code_of
from loadtests.bench.wrk import BenchFailed

PROGRAMS = tools.Tools("nginx", "wrk")


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        (None, 0, ""),
        (BenchFailed("no call came back"), 1, "the bench failed: no call came back\n"),
        (tools.ToolsMissing("apt-get install wrk"), 2, "apt-get install wrk\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_the_exit_code_says_what_became_of_it(monkeypatch, capsys, end, code, words):
    """The reason stands on standard error; the bench is handed the programs that were found."""
    handed = []

    def bench(programs):
        handed.append(programs)
        if end is not None:
            raise end

    monkeypatch.setattr(tools, "find", lambda: PROGRAMS)
    assert exit_code_of(bench) == code
    assert (capsys.readouterr().err, handed) == (words, [PROGRAMS])
