"""The examples of `deploy/`: what they start, set, ask and watch is there."""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from config.loader import check_text, load_text
from console.metrics import CONTROL_METRICS
from console.serve import _options as serving
from proxy.__main__ import _read as parsed
from proxy.observe import METRICS
from store.places import CHECKOUT

DEPLOY = CHECKOUT / "deploy"
ENVIRON = {
    "REDIS_URL": "redis://here",
    "PENSTOCK_ADMIN_TOKEN": "t" * 32,
    "OPENAI_API_KEY": "sk-0123456789abcdef",
    "HELPDESK_KEY": "hk-0123456789abcdef",
}


def read(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


KUBERNETES: list[dict[str, Any]] = list(yaml.safe_load_all(read("kubernetes.yaml")))


def containers() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every container of the cluster with its pod."""
    for each in KUBERNETES:
        if each["kind"] in {"Deployment", "StatefulSet"}:
            pod = each["spec"]["template"]["spec"]
            for container in pod["containers"]:
                yield pod, container


def test_the_configuration_of_the_cluster_can_be_applied() -> None:
    """Without a warning either, and with the variables of the secret alone."""
    (text,) = KUBERNETES[0]["data"].values()
    assert check_text(text, source="penstock.yaml", environ=ENVIRON) == ()
    named = set(re.findall(r"\$\{(\w+)\}", text))
    head = read("kubernetes.yaml").partition("apiVersion")[0]
    assert all(f"--from-literal={name}=" in head for name in {*named, "PENSTOCK_KEY_SECRET"})


def test_what_the_cluster_starts_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command is one that the image's entry point, or a role's own module, takes."""
    monkeypatch.setenv("REDIS_URL", ENVIRON["REDIS_URL"])
    edge, control = (container for _, container in containers())
    assert parsed(edge["args"]).verb == "edge"
    assert control["command"][:4] == ["python", "-m", "console", "serve"]
    assert serving(control["command"][4:]).listen == "0.0.0.0:8081"


def test_a_pod_has_the_time_that_its_drain_takes() -> None:
    """The wait before SIGTERM, what streams may take, and half a minute to settle."""
    (text,) = KUBERNETES[0]["data"].values()
    drain_s = load_text(text, source="f", environ=ENVIRON).config.edge.drain_timeout_s
    pod, edge = next(containers())
    wait_s = int(edge["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= wait_s + drain_s + 30


def test_what_is_asked_for_health_and_metrics_is_served() -> None:
    """At ports that the container names, and paths that its server answers."""
    for _, container in containers():
        ports = {port["name"] for port in container["ports"]}
        for probe in ("readinessProbe", "livenessProbe"):
            asked = container[probe]["httpGet"]
            assert asked["port"] in ports
            assert asked["path"] in {"/health/ready", "/health/live"}
    services = {
        each["metadata"]["name"]: each["spec"] for each in KUBERNETES if each["kind"] == "Service"
    }
    labels = [
        each["spec"]["template"]["metadata"]["labels"]
        for each in KUBERNETES
        if each["kind"] in {"Deployment", "StatefulSet"}
    ]
    assert all(service["selector"] in labels for service in services.values())


def test_compose_mounts_what_is_there() -> None:
    """Beside `penstock.yaml`, which is the operator's own."""
    services = yaml.safe_load(read("compose.yaml"))["services"]
    mounted = [
        source
        for service in services.values()
        for source, *_ in (volume.split(":") for volume in service["volumes"])
        if source.startswith("./") and source != "./penstock.yaml"
    ]
    assert mounted
    assert all((DEPLOY / source).is_file() for source in mounted)
    assert services["penstock"]["volumes"][0].endswith(":/var/lib/penstock")
    scraped = yaml.safe_load(read("prometheus.yaml"))
    assert scraped["rule_files"] == ["alerts.yaml"]


def test_the_unit_types_commands_that_are_there() -> None:
    """Absolute paths below the checkout, verbs of the launcher, and enough time to drain."""
    unit = dict(
        line.split("=", 1)
        for line in read("penstock.service").splitlines()
        if re.match(r"\w+=", line)
    )
    launcher = (CHECKOUT / "penstock").read_text(encoding="utf-8")
    for name in ("ExecStartPre", "ExecStart", "ExecReload"):
        program, verb, *_ = shlex.split(unit[name])
        assert program == "/opt/penstock/penstock"
        assert re.search(rf'^verbs=".*\b{verb}\b', launcher, re.MULTILINE)
    assert parsed(shlex.split(unit["ExecStart"])[1:]).verb == "up"
    assert (
        int(unit["TimeoutStopSec"])
        >= load_text("{}", source="f", environ={}).config.edge.drain_timeout_s + 30
    )


ALERTS: list[dict[str, Any]] = yaml.safe_load(read("alerts.yaml"))["groups"][0]["rules"]


def anchors(page: str) -> set[str]:
    """Give what GitHub calls the headings of a page."""
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


KNOWN = {row.name: {*row.labels, "le"} for row in (*METRICS, *CONTROL_METRICS)}


def watches(expression: str, words: str) -> None:
    """Require that metrics and labels exist: those asked for, grouped by, and told in `words`."""
    asked = re.findall(r"(penstock_\w+)(?:\{(\w+))?", expression)
    assert asked
    grouped = re.findall(r"by \(([^)]*)\)", expression)
    told = re.findall(r"(?:\$labels\.|\{\{)(\w+)", words)
    for name, filtered in asked:
        labels = KNOWN[name.removesuffix("_bucket")]
        assert {filtered, *told, *", ".join(grouped).split(", ")} - {""} <= labels


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_an_alert_watches_what_is_counted(alert: dict[str, Any]) -> None:
    """Metrics and labels that exist, and a page to read on."""
    watches(alert["expr"], alert["annotations"]["summary"].replace("{{ ", ""))
    page, _, part = alert["annotations"]["read"].partition("#")
    assert not part or part in anchors(page)


def test_the_dashboard_shows_what_is_counted() -> None:
    """Every panel says what it is, from the one source that is chosen, and none lies on another."""
    panels = json.loads(read("dashboard.json"))["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${source}"
        for target in panel["targets"]:
            watches(target["expr"], target["legendFormat"])
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
