"""Laws of progress: one line says how it goes, written over on a terminal and rarely elsewhere."""

import io

from loadtests.engine import Health
from loadtests.metrics import Record
from loadtests.progress import Line, words

RECORDS = [
    Record("b", "s", "t", 0.0, 0.0, "ok", ttft_ms=10.0, e2e_ms=20.0, stream=True),
    Record("b", "s", "t", 0.0, 0.0, "http_500"),
]
SAMPLES = [Health("w0", 0.0, 0.25, 0.0, 3, 0), Health("w1", 0.0, 0.5, 0.0, 4, 0)]


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self):
        return True


def test_a_line_says_how_it_goes():
    """Answers, errors, latencies, open calls of all processes, the busiest generator."""
    line = words(12, 1234, 1, RECORDS, SAMPLES)
    for part in (
        "12 s",
        "1,234 answered",
        "1 errors",
        "TTFT p50 10.0",
        "E2E p50 20.0",
        "7 open",
        "50%",
    ):
        assert part in line
    assert words(0, 0, 0, [], []) == "    0 s, 0 answered, 0 errors"


def test_a_terminal_is_written_over_and_a_file_rarely_written():
    """Every second there, every five seconds here."""
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        line = Line(stream)
        for second in range(1, 12):
            line.tell(second, RECORDS, SAMPLES)
    assert terminal.getvalue().count("\r") == 11
    assert len(file.getvalue().splitlines()) == 2


def test_each_record_is_looked_at_once():
    """Progress is told by the generator itself, whose time is the callers'."""
    looks = []

    class Seen(Record):
        """A record that notes who looks whether it counts."""

        @property
        def counts(self):
            looks.append(self)
            return True

    records = [Seen("b", "s", "t", 0.0, 0.0, "http_500") for _ in range(10)]
    file = io.StringIO()
    line = Line(file)
    for second in range(6):
        line.tell(second, records, [])
    records.append(records[0])
    line.tell(11, records, [])
    assert len(looks) == 11
    assert file.getvalue().splitlines()[-1].endswith("11 answered, 11 errors")
