"""Laws of the page: sums over workers that never step back, in words that Prometheus reads."""

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp.web
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from console.metrics import CONTROL_METRICS, Fleet, control_snapshot
from proxy.observe import METRICS, Metrics

SCHEMA = [
    {"name": "p_calls_total", "kind": "counter", "help": "Calls.", "labels": ["model", "status"]},
    {"name": "p_opened_total", "kind": "counter", "help": "Opened.", "labels": []},
    {"name": "p_seconds", "kind": "histogram", "help": "Time.", "labels": ["model"]},
    {"name": "p_open", "kind": "gauge", "help": "Open.", "labels": []},
    {"name": "p_version", "kind": "gauge", "help": "Version.", "labels": []},
]
for _row in SCHEMA:
    _row["buckets"] = [0.005, 1] if _row["kind"] == "histogram" else []


def said(boot: str, **parts: Any) -> dict[str, Any]:
    """Make a worker's snapshot."""
    return {"boot": boot, "schema": SCHEMA, "counters": {}, "gauges": {}, "histograms": {}} | parts


def samples(page: bytes) -> dict[tuple, float]:
    """Read a page as Prometheus does: {(name, *sorted labels): value}."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def test_workers_are_summed() -> None:
    """Counters and gauges add up by label set; of a version the lowest is told."""
    fleet = Fleet(Path("nowhere"))
    for name, calls, opened, version in (("a", 3, 1, 7), ("b", 4, 2, 6)):
        fleet.hear(
            name,
            said(
                name,
                counters={"p_calls_total": {"m\x1f200": calls, f"only-{name}\x1f500": 1}},
                gauges={"p_open": {"": opened}, "p_version": {"": version}},
            ),
        )
    page = samples(fleet.page())
    assert page["p_calls_total", ("model", "m"), ("status", "200")] == 7
    assert page["p_calls_total", ("model", "only-a"), ("status", "500")] == 1
    assert page["p_open",] == 3
    assert page["p_version",] == 6
    assert page["p_opened_total",] == 0  # nothing yet, and known all the same


def test_a_histogram_is_summed_and_spoken_cumulatively() -> None:
    """Counts per bucket become counts up to each bound, with sum and count."""
    fleet = Fleet(Path("nowhere"))
    fleet.hear("a", said("a", histograms={"p_seconds": {"m": [[1, 2, 3], 4.5, 6]}}))
    fleet.hear("b", said("b", histograms={"p_seconds": {"m": [[1, 0, 0], 0.5, 1]}}))
    page = samples(fleet.page())
    bounds = {
        dict(labels)["le"]: value
        for (name, *labels), value in page.items()
        if name == "p_seconds_bucket"
    }
    assert bounds == {"0.005": 2, "1.0": 4, "+Inf": 7}
    assert page["p_seconds_sum", ("model", "m")] == 5.0
    assert page["p_seconds_count", ("model", "m")] == 7


def test_a_worker_that_was_replaced_stays_in_the_sums() -> None:
    """Its counters are kept, its gauges end; a silent one is counted by what it said last."""
    fleet = Fleet(Path("nowhere"))

    def hear(boot: str, calls: int) -> None:
        fleet.hear(
            "edge-0.sock",
            said(
                boot,
                counters={"p_opened_total": {"": calls}},
                histograms={"p_seconds": {"m": [[calls, 0, 0], 1.0, calls]}},
                gauges={"p_open": {"": 5}},
            ),
        )

    def now() -> tuple[float, float, float | None]:
        page = samples(fleet.page())
        count = page["p_seconds_count", ("model", "m")]
        return page["p_opened_total",], count, page.get(("p_open",))

    hear("first", 10)
    assert now() == (10, 10, 5)
    fleet.hear("edge-0.sock", None)
    assert now() == (10, 10, None)
    assert fleet.answering == 0
    hear("first", 12)  # it was only slow
    assert now() == (12, 12, 5)
    hear("second", 1)
    assert now() == (13, 13, 5)
    hear("second", 2)
    hear("third", 0)
    assert now() == (14, 14, 5)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.sampled_from(["count", "die", "silent"]), st.integers(0, 9)
        ),
        max_size=30,
    )
)
def test_counters_never_step_back(steps: list[tuple[int, str, int]]) -> None:
    """Whatever workers do, the sum is what all of them ever said, and grows only."""
    fleet = Fleet(Path("nowhere"))
    counts, boots, truth = [0, 0, 0], [0, 0, 0], 0
    for worker, step, by in steps:
        name = f"edge-{worker}.sock"
        if step == "silent":
            fleet.hear(name, None)
            continue
        if step == "die":
            counts[worker], boots[worker] = 0, boots[worker] + 1
        counts[worker] += by
        truth += by
        snapshot = said(
            f"{worker}-{boots[worker]}", counters={"p_opened_total": {"": counts[worker]}}
        )
        fleet.hear(name, snapshot)
        assert samples(fleet.page())["p_opened_total",] == truth


def test_what_does_not_fit_the_table_is_left_out() -> None:
    """A newer or older worker with other buckets or labels does not break the page."""
    fleet = Fleet(Path("nowhere"))
    fleet.hear("a", said("a", histograms={"p_seconds": {"m": [[1, 2, 3], 4.5, 6]}}))
    fleet.hear(
        "b",
        said(
            "b",
            counters={"p_calls_total": {"one": 1, "m\x1f200": 2}, "unknown_total": {"": 1}},
            histograms={"p_seconds": {"m": [[1, 2], 4.5, 3]}},
            gauges={"p_open": {"surplus\x1flabel": 1, "": 2}},
        ),
    )
    page = samples(fleet.page())
    assert page["p_calls_total", ("model", "m"), ("status", "200")] == 2
    assert sum(name[0].startswith("p_calls") for name in page) == 1
    assert not any(name[0].startswith("unknown") for name in page)


def test_a_real_workers_snapshot_is_read() -> None:
    """What the edge counts comes out under the names of its table, every one of them."""
    metrics = Metrics()
    for row in METRICS:
        labels = ["x"] * len(row.labels)
        if row.kind == "counter":
            metrics.counter(row.name, *labels).value += 2
        elif row.kind == "histogram":
            metrics.histogram(row.name, *labels).observe(0.003)
    gauges = {(row.name, *["x"] * len(row.labels)): 1.0 for row in METRICS if row.kind == "gauge"}
    metrics.read(lambda: gauges)
    fleet = Fleet(Path("nowhere"))
    fleet.hear("edge-0.sock", orjson.loads(orjson.dumps(metrics.snapshot("boot"))))
    page = samples(fleet.page(control_snapshot({("penstock_workers",): 1})))
    for row in METRICS:
        name = f"{row.name}_count" if row.kind == "histogram" else row.name
        assert page[name, *((label, "x") for label in sorted(row.labels))] >= 1
    assert page["penstock_workers",] == 1


def test_the_controls_own_table_names_nothing_of_the_edges() -> None:
    """Two tables, one page: no name is in both, and each is well formed."""
    ours = [row.name for row in CONTROL_METRICS]
    assert len({*ours, *(row.name for row in METRICS)}) == len(ours) + len(METRICS)
    for row in CONTROL_METRICS:
        assert row.name.startswith("penstock_")
        assert row.name.endswith("_total") == (row.kind == "counter")
        assert row.help.endswith(".")


@pytest.fixture
async def worker(tmp_path: Path, short: Path) -> Any:
    """Serve snapshots on a socket, as an edge does."""
    answers: list[Any] = []

    async def snapshot(_: aiohttp.web.Request) -> aiohttp.web.Response:
        answer = answers[-1]
        if answer is None:
            await asyncio.sleep(60)
        return aiohttp.web.Response(body=answer)

    app = aiohttp.web.Application()
    app.router.add_get("/snapshot", snapshot)
    runner = aiohttp.web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    await aiohttp.web.UnixSite(runner, str(short / "edge-0.sock")).start()
    yield answers
    await runner.cleanup()


@pytest.fixture
def short(make_redis: Callable[..., Any], redis_server: Any) -> Any:
    """Give a folder whose path leaves room for a socket's name."""
    folder = redis_server.folder / "run"
    folder.mkdir(exist_ok=True)
    yield folder
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


async def test_workers_are_asked_over_their_sockets(
    worker: list[Any], short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that answers is read; nonsense, silence and a dead socket are not."""
    monkeypatch.setattr("console.metrics._ASK_WITHIN_S", 0.2)
    fleet = Fleet(short)
    (short / "edge-1.sock").touch()  # what a killed worker leaves behind
    worker.append(orjson.dumps(said("a", counters={"p_opened_total": {"": 3}})))
    await asyncio.gather(fleet.refresh(), fleet.refresh())
    assert fleet.answering == 1
    for nonsense in (b"no json", b"[]", b"{}", None):
        worker.append(nonsense)
        await fleet.refresh()
        assert fleet.answering == 0
        assert samples(fleet.page())["p_opened_total",] == 3


async def test_without_workers_there_is_a_page(tmp_path: Path) -> None:
    """A control that is alone on its machine has its own metrics."""
    fleet = Fleet(tmp_path / "none")
    await fleet.refresh()
    page = samples(fleet.page(control_snapshot({("penstock_ledger_waiting_entries",): 4})))
    assert page["penstock_ledger_waiting_entries",] == 4
    assert not math.isnan(page["penstock_ledger_entries_total",])
