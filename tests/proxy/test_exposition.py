"""Laws of an edge's own page of metrics: the same words as the control's, for what one edge has counted."""

from pathlib import Path

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from console.metrics import CONTENT_TYPE, Fleet
from proxy import exposition
from proxy.observe import METRICS, Metrics


def counted() -> Metrics:
    """Count some of everything: with labels and without, odd names, and gauges that are kept elsewhere."""
    metrics = Metrics()
    metrics.counter("penstock_requests_total", "openai.chat", 'a "b" \\ c', "200").value = 3
    metrics.counter("penstock_requests_total", "openai.chat", "m", "429").value = 1
    metrics.histogram("penstock_ttft_seconds", "m").observe(0.3)
    metrics.histogram("penstock_ttft_seconds", "m").observe(999)
    metrics.histogram("penstock_admit_seconds").observe(0.0004)
    metrics.read(lambda: {("penstock_in_flight",): 2, ("penstock_upstream_connections", "idle"): 7})
    return metrics


def spoken(page: bytes) -> list[Metric]:
    """Read a page as Prometheus does, in an order of no meaning."""
    families = text_string_to_metric_families(page.decode())
    return sorted(families, key=lambda family: str(family.name))


def test_an_edge_alone_speaks_as_the_control_does(tmp_path: Path) -> None:
    """Name by name, label by label, bucket by bucket: dashboards are the same for both."""
    for metrics in (counted(), Metrics()):
        snapshot = metrics.snapshot("edge.1")
        fleet = Fleet(tmp_path)
        fleet.hear("edge-0.sock", snapshot)
        ours, theirs = spoken(exposition.page(snapshot)), spoken(fleet.page())
        assert ours == theirs
        assert len(ours) == len(METRICS)
        assert all(family.documentation for family in ours)
    assert exposition.CONTENT_TYPE == CONTENT_TYPE
