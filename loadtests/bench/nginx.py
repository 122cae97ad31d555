"""The native proxy beside which everything is measured: nginx with one worker and `proxy_buffering off`."""

import os
from pathlib import Path

from loadtests.bench import usage
from loadtests.bench.ground import Ground, free_port, wait_for_port

_TEMPLATE = Path(__file__).with_name("nginx.conf")


def render(listen: int, upstream: str, *, root: bool) -> str:
    """Fill in the configuration; as root nginx would give its worker away to a user who cannot read our files."""
    lines = [line for line in _TEMPLATE.read_text().splitlines() if not line.startswith("#")]
    return (
        "\n".join(lines)
        .replace("$LISTEN", str(listen))
        .replace("$UPSTREAM", upstream)
        .replace("$USER", "user root;" if root else "")
        .lstrip()
        + "\n"
    )


def start(ground: Ground, program: str, upstream: str) -> tuple[str, int]:
    """Start nginx in front of `upstream` (host:port); gives its URL and its worker's process id."""
    port = free_port()
    prefix = ground.path / "nginx"
    prefix.mkdir()
    (prefix / "nginx.conf").write_text(render(port, upstream, root=os.geteuid() == 0))
    command = [program, "-p", str(prefix), "-c", str(prefix / "nginx.conf"), "-e", "stderr"]
    master = ground.start("nginx", command)
    wait_for_port(master, port)
    master.wait_until(lambda: bool(usage.children(master.pid)), "start its worker")
    (worker,) = usage.children(master.pid)
    return f"http://127.0.0.1:{port}", worker
