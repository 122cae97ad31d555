"""
What the guard, the capacity search and the endurance runs stand on: mock vendor, nginx and the gateway, started by their commands.

The same ground as the bench's: the proxies share a core that is theirs alone, everything else has the other cores.
Without nginx there are no ratios, and whoever asked says so.
"""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench import gateway, held, nginx, tools, usage
from loadtests.bench.gateway import Gateway
from loadtests.bench.ground import Ground
from loadtests.bench.measure import MODELS, Contestant, body_of

DIRECT, NGINX, OURS = "direct", "nginx", "penstock"
_FILES = 4000


@dataclass(frozen=True, slots=True)
class Rig:
    """All that runs; `pids` are the proxies' worker processes by base name."""

    ground: Ground
    mock_url: str
    nginx_url: str
    gateway: Gateway
    pids: Mapping[str, tuple[int, ...]]

    def bases(self, model: str, *, proxies: bool = True) -> list[dict[str, str]]:
        """Give the bases as a run takes them, each with its own name for a model of `MODELS`."""
        theirs = MODELS.get(model, model)
        found = [{"name": DIRECT, "url": self.mock_url, "model": theirs}]
        if proxies and self.nginx_url:
            found.append({"name": NGINX, "url": self.nginx_url, "model": theirs})
        ours = {"name": OURS, "url": self.gateway.url, "key": self.gateway.key, "model": model}
        return [*found, ours]

    def cpu_s(self, base: str) -> float:
        """Give the CPU seconds that a proxy used so far, all its workers together."""
        return sum(usage.precise_cpu_s(pid) for pid in self.pids[base])

    def cpu_by_base(self) -> dict[str, float]:
        """Give those of every proxy."""
        return {base: self.cpu_s(base) for base in self.pids}


@contextlib.contextmanager
def rig(
    *,
    workers: int = 1,
    config: Path = gateway.CONFIG,
    with_nginx: bool = True,
    prove: bool = True,
    pinned: bool = True,
) -> Iterator[Rig]:
    """
    Start everything, prove that governance is on, and end everything after the block.

    Without `pinned` every process may use every core, generator and gateway alike.
    """
    held.allow_files(_FILES)
    program = find_nginx() if with_nginx else None
    with Ground() as ground:
        command = [sys.executable, "-m", "loadtests.mock", "--listen", "127.0.0.1:0", "--fast"]
        mock_url = ground.start("mock", command).wait_for_line(r"^listening on (\S+)$")[1]
        pids: dict[str, tuple[int, ...]] = {}
        nginx_url = ""
        if program is not None:
            nginx_url, pid = nginx.start(ground, program, mock_url.removeprefix("http://"))
            pids[NGINX] = (pid,)
        ours = gateway.start(ground, mock_url, config=config, workers=workers)
        pids[OURS] = tuple(edge.pid for edge in ours.edges)
        proxies = [one for group in pids.values() for one in group]
        for pid in proxies:
            ground.measure(pid)
        found = Rig(ground, mock_url, nginx_url, ours, pids)
        if prove:
            gateway.prove_governed(ours, body_of("bench", _contestant(found), stream=False))
        with contextlib.nullcontext() if pinned else ground.unpinned(proxies):
            yield found


def find_nginx() -> str | None:
    """Find nginx, `None` where there is none."""
    try:
        # The load is ours here, so wrk is not needed.
        return tools.find(lambda name: tools.which(name) if name == "nginx" else name).nginx
    except tools.ToolsMissing:
        return None


def _contestant(found: Rig) -> Contestant:
    return Contestant(OURS, found.gateway.url, found.gateway.key, own_names=True)
