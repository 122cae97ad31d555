"""
The site of a drill: a mock vendor and an installation of the gateway, as people start it, each process with its pid.

Everything is started by its command; the gateway's own processes are found by their environment, and killed by their number.
"""

import contextlib
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any, Self

import msgspec

from loadtests.bench.ground import Child, Ground, fetch
from loadtests.drills.books import Tariff

KEY = "sk-drill-key-of-24-characters"
INPUT_NUSD, OUTPUT_NUSD = 1000, 2000
# model -> deployments' upstream names; what a model does is the mock's business.
MODELS: dict[str, tuple[str, ...]] = {
    "quick": ("a;tokens=20", "b;tokens=20"),
    "slow": ("a;tokens=30;ttft_ms=300", "b;tokens=30;ttft_ms=300"),
    "paced": ("a;tokens=60;interval_ms=20", "b;tokens=60;interval_ms=20"),
    "long": ("a;tokens=250;interval_ms=20", "b;tokens=250;interval_ms=20"),
    "flaky": ("bad;tokens=8;status=503", "good;tokens=8"),
}
_END_S = 40.0


def configuration(
    vendor_url: str,
    *,
    edges: int,
    store: str = "embedded",
    keys: dict[str, int] | None = None,
    lenient: bool = False,
) -> str:
    """
    Return the configuration of a drill, as YAML (which JSON is).

    `keys` are further callers by name, `sk-drill-<name>-key-of-24-characters`, with a limit of requests per minute.
    The main caller and they stand under a strict budget, unless they are `lenient`.
    """
    price = {"input": INPUT_NUSD / 1000, "output": OUTPUT_NUSD / 1000}
    limits = {"rpm": 600_000, "tpm": 100_000_000, "concurrency": 2000}
    callers: dict[str, Any] = {"main": {"key": KEY, "limits": limits}}
    others = {
        name: {"key": key_of(name), "limits": {"rpm": rpm}} for name, rpm in (keys or {}).items()
    }
    if not lenient:
        callers |= others
    document = {
        "store": {"redis": store},
        "edge": {
            "listen": "127.0.0.1:0",
            "workers": edges,
            "access_log": "off",
            "drain_timeout_s": 20,
            # An edge that a drill suspends is to come back, and not to be taken for stuck.
            "liveness_timeout_s": 60,
        },
        "admin": {"listen": "127.0.0.1:0"},
        "providers": {"mock": {"protocol": "openai", "base_url": f"{vendor_url}/v1"}},
        "models": {
            name: {
                "price": price,
                "limits": limits,
                "deployments": [{"provider": "mock", "name": upstream} for upstream in upstreams],
            }
            for name, upstreams in MODELS.items()
        },
        "organizations": {
            "drill": {
                "limits": limits,
                "budget": {"usd": 100_000, "per": "month", "mode": "soft"},
                "teams": {
                    "one": {
                        "limits": limits,
                        "budget": {"usd": 10_000, "per": "day", "mode": "strict"},
                        "keys": callers,
                    }
                }
                | ({"two": {"limits": limits, "keys": others}} if lenient else {}),
            }
        },
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1).decode()


def key_of(name: str) -> str:
    """Return the secret of a further caller."""
    return f"sk-drill-{name}-key-of-24-characters"


def tariffs() -> dict[str, Tariff]:
    """Return what each deployment is, by its id in the ledger."""
    found = {}
    for model, upstreams in MODELS.items():
        for at, upstream in enumerate(upstreams):
            # The second deployment of a model at one provider has a number behind it.
            name = f"{model}/mock" + (f"#{at + 1}" if at else "")
            pause = re.search(r"interval_ms=(\d+)", upstream)
            found[name] = Tariff(upstream, INPUT_NUSD, OUTPUT_NUSD, int(pause[1]) if pause else 0)
    return found


class Site(Ground):
    """A ground on which a mock vendor and a gateway run; nothing is pinned, since nothing is measured to the microsecond."""

    def __init__(self) -> None:
        super().__init__()
        self.pinned = False
        self.var = self.path / "var"
        self._starts = 0
        self.mock_url = ""
        self.data_url = ""
        self.admin_url = ""
        self.up: Child

    def __enter__(self) -> Self:
        super().__enter__()
        command = [sys.executable, "-m", "loadtests.mock", "--listen", "127.0.0.1:0"]
        self.mock_url = self.start("mock", command).wait_for_line(r"^listening on (\S+)$")[1]
        return self

    def start_gateway(self, text: str) -> None:
        """Start `up` with a configuration, and wait until it has said where it is."""
        file = self.path / "penstock.yaml"
        file.write_text(text)
        self._starts += 1
        self.up = self.start(
            f"up-{self._starts}",
            [sys.executable, "-m", "proxy", "up", "--config", str(file)],
            {"PENSTOCK_VAR": str(self.var), "NO_COLOR": "1"},
        )
        self.up.wait_for_line(r"  logs ")
        self.data_url = self.up.wait_for_line(r"  data +(http://\S+)")[1]
        self.admin_url = self.up.wait_for_line(r"  admin +(http://\S+)")[1]

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.var / "ledger.db"

    def embedded_store(self) -> str:
        """Return the URL of the store that the gateway has started for itself."""
        found = [
            re.search(r"store\.embedded --socket (\S+)", command)
            for command in processes(self.var).values()
        ]
        (path,) = {match[1] for match in found if match}
        return f"unix://{path}?db=0"

    def pid_of(self, words: str) -> int | None:
        """Return the process of the gateway whose command line holds these words, None while there is none."""
        for pid, command in processes(self.var).items():
            if words in command:
                return pid
        return None

    def served(self) -> list[dict[str, Any]]:
        """Return the mock's books, call by call."""
        _, document = fetch(f"{self.mock_url}/__mock/books")
        books: dict[str, Any] = msgspec.convert(document, dict[str, Any])
        if books["totals"]["served_dropped"]:
            raise OverflowError("the mock could not keep all of its calls: a smaller drill, please")
        return list(books["served"])

    def kill_gateway(self) -> int:
        """Kill every process of it at once, the supervisor first; returns how many there were."""
        pids = [self.up.pid, *(pid for pid in processes(self.var) if pid != self.up.pid)]
        count = sum(kill(pid) for pid in pids)
        self.end(self.up)
        return count

    def stop_gateway(self) -> list[str]:
        """End it in good order; returns what is wrong with its end."""
        self.up.process.send_signal(signal.SIGTERM)
        code = self.up.process.wait(_END_S)
        self.end(self.up)
        left = wait_until_gone(self.var)
        return [f"the gateway ended with {code} and left {left}"] if code or left else []


def processes(var: Path) -> dict[int, str]:
    """Return the processes of an installation, known by the directory in their environment: pid and command line."""
    found = {}
    mark = f"PENSTOCK_VAR={var}".encode()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                environ = (process / "environ").read_bytes().split(b"\0")
                # A server that shows its own title has overwritten its environment with it.
                if command and (mark in environ or str(var) in command):
                    found[int(process.name)] = command
    return found


def wait_until_gone(var: Path, within_s: float = 20.0) -> dict[int, str]:
    """Wait until nothing of an installation is left; returns what is."""
    give_up = time.monotonic() + within_s
    left = processes(var)
    while left and time.monotonic() < give_up:
        time.sleep(0.1)
        left = processes(var)
    return left


def kill(pid: int) -> bool:
    """Send SIGKILL; returns whether there was somebody to get it."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
