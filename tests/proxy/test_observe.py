"""What is seen from outside: sums and labels of the metrics, and an access log that waits for nobody."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from governance.ledger import OUTCOMES
from proxy.observe import METRICS, SEPARATOR, AccessLine, AccessLog, Counter, Histogram, Metrics
from tests.patience import within

# Metrics...


def test_counters_of_one_label_set_are_one() -> None:
    """Whoever counts keeps the object; the snapshot sums nothing twice."""
    metrics = Metrics()
    one = metrics.counter("penstock_requests_total", "openai.chat", "m", "200")
    assert metrics.counter("penstock_requests_total", "openai.chat", "m", "200") is one
    one.value += 3
    metrics.counter("penstock_requests_total", "openai.chat", "m", "429").value += 1
    assert metrics.snapshot("b")["counters"] == {
        "penstock_requests_total": {
            SEPARATOR.join(("openai.chat", "m", "200")): 3,
            SEPARATOR.join(("openai.chat", "m", "429")): 1,
        }
    }


def test_a_histogram_counts_into_its_buckets() -> None:
    """A bound belongs to its bucket; what is beyond the last goes to infinity; the sum is the sum."""
    histogram = Histogram((0.1, 1, 10))
    for value in (0.05, 0.1, 0.5, 1, 10, 10.5, 1000):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1, 2]
    assert histogram.sum == pytest.approx(1022.15)


def test_a_snapshot_carries_the_table_that_explains_it() -> None:
    """It is plain JSON, so that a role that imports nothing of ours can sum it over workers."""
    metrics = Metrics()
    metrics.histogram("penstock_ttft_seconds", "m").observe(0.3)
    metrics.read(lambda: {("penstock_in_flight",): 7, ("penstock_upstream_opened_total",): 4})
    found = json.loads(json.dumps(metrics.snapshot("replica.boot")))
    assert found["boot"] == "replica.boot"
    assert [row["name"] for row in found["schema"]] == [row.name for row in METRICS]
    row = next(row for row in found["schema"] if row["name"] == "penstock_ttft_seconds")
    counts, total, count = found["histograms"]["penstock_ttft_seconds"]["m"]
    assert len(counts) == len(row["buckets"]) + 1
    assert (sum(counts), total, count) == (1, 0.3, 1)
    assert found["gauges"]["penstock_in_flight"] == {"": 7}
    assert found["counters"]["penstock_upstream_opened_total"] == {"": 4}


@pytest.mark.parametrize(
    ("kind", "name", "labels"),
    [
        ("counter", "penstock_ttft_seconds", ("m",)),
        ("histogram", "penstock_requests_total", ("a", "b", "c")),
        ("counter", "penstock_requests_total", ("a", "b")),
        ("counter", "penstock_requests_total", ("a", "b", "c", "d")),
        ("histogram", "penstock_loop_lag_seconds", ("m",)),
    ],
)
def test_a_metric_is_used_as_declared(kind: str, name: str, labels: tuple[str, ...]) -> None:
    """Kind and number of labels are those of the table."""
    with pytest.raises(ValueError, match=name):
        getattr(Metrics(), kind)(name, *labels)
    with pytest.raises(KeyError):
        getattr(Metrics(), kind)("penstock_invented", *labels)


def test_the_table_is_well_formed() -> None:
    """Names say their unit, buckets rise, only histograms have them, and every row explains itself."""
    assert len({row.name for row in METRICS}) == len(METRICS)
    for row in METRICS:
        assert row.name.startswith("penstock_")
        assert row.name.endswith("_total") == (row.kind == "counter"), row.name
        assert (row.kind == "histogram") == bool(row.buckets)
        assert list(row.buckets) == sorted(set(row.buckets))
        assert row.help.endswith(".")


def test_labels_are_bounded() -> None:
    """Names come from the configuration, words from fixed lists: nothing that a request could invent."""
    bounded = {
        *("model", "deployment"),  # the configuration's
        "protocol",  # three
        "status",  # what HTTP has
        "outcome",  # the ledger's words
        "reason",  # the errors' words
        *("answer", "chore", "kind", "state"),  # said in the row's help
    }
    assert {label for row in METRICS for label in row.labels} <= bounded
    assert len(OUTCOMES) < 20


# The access log...


class Pipe:
    """A pipe as standard output, whose reader does as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reader, self.writer = os.pipe()
        # Not sys.stdout itself: pytest puts its own there again between setup and call.
        monkeypatch.setattr("proxy.observe.sys", SimpleNamespace(stdout=self))

    def fileno(self) -> int:
        return self.writer

    def take(self) -> bytes:
        """Read what is there now."""
        os.set_blocking(self.reader, False)
        pieces = []
        try:
            while data := os.read(self.reader, 1 << 20):
                pieces.append(data)
        except BlockingIOError:
            pass
        return b"".join(pieces)

    def close(self) -> None:
        """Close both ends."""
        for end in (self.reader, self.writer):
            try:
                os.close(end)
            except OSError:
                pass


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """Give a pipe in place of standard output."""
    made = Pipe(monkeypatch)
    yield made
    made.close()


def line(number: int, filler: str = "x" * 200) -> AccessLine:
    """Make a line of some size."""
    return AccessLine(number, filler, "openai.chat", 200, "ok", 5, 0)


async def test_lines_are_written_in_order(tmp_path: Path) -> None:
    """One JSON object per line; the directory is made."""
    path = tmp_path / "deep" / "access.log"
    log = AccessLog(str(path), Counter())
    assert log.wanted
    for number in range(1000):
        log.add(line(number))
        if number % 100 == 0:
            log.flush()
    await log.close()
    assert [json.loads(each)["at_us"] for each in path.read_text().splitlines()] == list(
        range(1000)
    )
    assert path.stat().st_mode & 0o777 == 0o640


async def test_a_file_is_continued(tmp_path: Path) -> None:
    """A restart appends."""
    path = tmp_path / "access.log"
    for number in range(2):
        log = AccessLog(str(path), Counter())
        log.add(line(number))
        await log.close()
    assert len(path.read_text().splitlines()) == 2


async def test_off_writes_nothing() -> None:
    """No thread, no file."""
    threads = threading.active_count()
    log = AccessLog("off", Counter())
    assert not log.wanted
    log.flush()
    await log.close()
    assert threading.active_count() == threads


async def test_standard_output_gets_whole_lines(pipe: Pipe) -> None:
    """Each write is a few whole lines, small enough that no other writer to the pipe can tear them."""
    log = AccessLog("stdout", Counter())
    for number in range(100):
        log.add(line(number))
    await log.close()
    numbers = [json.loads(each)["at_us"] for each in pipe.take().splitlines()]
    assert numbers == list(range(100))


async def test_a_reader_that_stalls_holds_nobody_up(pipe: Pipe) -> None:
    """Lines gather up to the bound, more are dropped and counted, and the loop goes on meanwhile."""
    dropped = Counter()
    log = AccessLog("stdout", dropped, most=500, patience_s=0.05)
    for number in range(1000):
        log.add(line(number))
    assert dropped.value == 500
    async with within(1):
        for _ in range(10):
            log.flush()
            for number in range(100):
                log.add(line(number))
            await asyncio.sleep(0.001)
    assert dropped.value == 500 + 500
    async with within(2):
        await log.close()
    taken = pipe.take().splitlines()
    assert len(taken) + dropped.value == 2000


async def test_a_reader_that_comes_back_misses_nothing_that_was_kept(pipe: Pipe) -> None:
    """What waited is written as soon as there is room."""
    dropped = Counter()
    log = AccessLog("stdout", dropped, patience_s=5)
    for number in range(1000):
        log.add(line(number))
    log.flush()
    await asyncio.sleep(0.01)
    taken = b""
    closing = asyncio.ensure_future(log.close())
    while not closing.done():
        taken += pipe.take()
        await asyncio.sleep(0.001)
    taken += pipe.take()
    assert [json.loads(each)["at_us"] for each in taken.splitlines()] == list(range(1000))
    assert dropped.value == 0


async def test_a_reader_that_is_gone_is_no_failure(pipe: Pipe) -> None:
    """Its lines are counted as lost; the gateway serves on."""
    dropped = Counter()
    log = AccessLog("stdout", dropped)
    os.close(pipe.reader)
    for number in range(10):
        log.add(line(number))
    await log.close()
    assert dropped.value == 10


async def test_a_long_line_is_written_all_the_same(pipe: Pipe) -> None:
    """One that is longer than a pipe takes at once."""
    log = AccessLog("stdout", Counter())
    log.add(line(1, "x" * 50_000))
    log.add(line(2, "y"))
    await log.close()
    assert [len(json.loads(each)["request_id"]) for each in pipe.take().splitlines()] == [50_000, 1]
