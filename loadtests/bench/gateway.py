"""
The gateway as it is measured: store, control and one edge, each a process, with all governance on.

Everything is started by its command and spoken to over HTTP, as anybody could; nothing of the product is imported.
"""

import secrets
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from loadtests.bench.ground import Child, Ground, fetch, free_port, wait_for_ready
from loadtests.bench.wrk import BenchFailed

CONFIG = Path(__file__).with_name("penstock.yaml")
_ENTRY_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that is up; `store_pid` is the Redis or Valkey server itself."""

    url: str
    admin_url: str
    key: str
    edge: Child
    store_pid: int
    store_version: str
    edges: tuple[Child, ...] = ()


def start(ground: Ground, mock_url: str, *, config: Path = CONFIG, workers: int = 1) -> Gateway:
    """
    Start a gateway in front of the mock vendor and wait until its edges are ready.

    `config` takes the same variables as `penstock.yaml`; `edge` is the first of the `edges`, of which there are `workers`.
    """
    socket = ground.path / "store.sock"
    store = ground.start(
        "store",
        [
            *(sys.executable, "-m", "store.embedded"),
            *("--socket", str(socket), "--data", str(ground.path / "store")),
        ],
    )
    # "ready unix://PATH?db=0 pid 123 valkey-server 9.1.2"
    told = store.wait_for_line(r"^ready (\S+) pid (\d+) (.+)$")
    redis, store_pid, store_version = told[1], int(told[2]), told[3]

    edge_address = f"127.0.0.1:{free_port()}"
    admin_address = f"127.0.0.1:{free_port()}"
    ledger = f"sqlite:{ground.path / 'ledger.db'}"
    key = f"sk-bench-{secrets.token_hex(16)}"
    run_dir = ground.path / "run"
    run_dir.mkdir()
    environ = {
        "BENCH_MOCK": mock_url,
        "BENCH_EDGE": edge_address,
        "BENCH_ADMIN": admin_address,
        "BENCH_KEY": key,
        "BENCH_VENDOR_KEY": secrets.token_hex(16),
        "BENCH_LOG": str(ground.path / "access.log"),
        "BENCH_LEDGER": ledger,
        "BENCH_REDIS": redis,
        "PENSTOCK_VAR": str(ground.path / "var"),
    }
    control = ground.start(
        "control",
        [
            *(sys.executable, "-m", "console", "serve", "--redis", redis, "--config", str(config)),
            *("--listen", admin_address, "--run-dir", str(run_dir), "--ledger", ledger),
        ],
        environ,
    )
    wait_for_ready(control, f"http://{admin_address}/health/ready")
    edges = tuple(
        ground.start(
            f"edge{number or ''}",
            [
                *(sys.executable, "-m", "proxy", "edge"),
                *("--redis", redis, "--listen", edge_address),
                *("--run-dir", str(run_dir), "--worker", str(number)),
            ],
            environ,
        )
        for number in range(workers)
    )
    url = f"http://{edge_address}"
    for edge in edges:
        edge.wait_until(
            lambda: len(list(run_dir.glob("edge-*.sock"))) == workers, "open its socket"
        )
        wait_for_ready(edge, f"{url}/health/ready")
    return Gateway(url, f"http://{admin_address}", key, edges[0], store_pid, store_version, edges)


def prove_governed(gateway: Gateway, body: bytes, *, policy: str = "declared") -> dict[str, object]:
    """
    Make one call and find it in the ledger: a figure without governance would be worth nothing.

    Gives the ledger's entry; raises `BenchFailed` when there is none, it cost nothing, or its model was not chosen by the `policy`.
    """
    headers = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"}
    told, _ = fetch(f"{gateway.url}/v1/chat/completions", body, headers)
    for name in ("x-request-id", "x-penstock-deployment", "x-ratelimit-remaining-requests"):
        if name not in told:
            raise BenchFailed(f"the gateway's answer has no {name}: is governance on?")
    if f"policy={policy}" not in told["x-penstock-route"]:
        raise BenchFailed(f"the policy was to be {policy}: {told['x-penstock-route']}")
    url = f"{gateway.admin_url}/v1/exchanges/{told['x-request-id']}"
    give_up = time.monotonic() + _ENTRY_WITHIN_S
    document: object = None
    while document is None:
        try:
            _, document = fetch(url)
        except BenchFailed:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.1)
    (entry,) = msgspec.convert(document, dict[str, list[dict[str, object]]])["entries"]
    if not entry.get("cost_nusd"):
        raise BenchFailed(f"the ledger has the call at no cost: {entry}")
    return entry
