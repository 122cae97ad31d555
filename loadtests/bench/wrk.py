"""The load generator: runs wrk with our script and reads back what it counted."""

import subprocess
from pathlib import Path

import msgspec

SCRIPT = Path(__file__).with_name("post.lua")
_MARK = "penstock-bench "


class BenchFailed(RuntimeError):
    """The bench cannot give a figure that means anything; the message says why."""


class Errors(msgspec.Struct, frozen=True):
    """What went wrong, by kind; `status` counts answers of 400 and above."""

    connect: int
    read: int
    write: int
    status: int
    timeout: int

    def words(self) -> str:
        """Say what went wrong, nothing if nothing did."""
        kinds = msgspec.structs.asdict(self)
        return ", ".join(f"{count} {kind} errors" for kind, count in kinds.items() if count)


class Counted(msgspec.Struct, frozen=True):
    """What wrk counted in one run; durations in microseconds."""

    requests: int
    duration_us: int
    bytes: int
    p50_us: int
    p90_us: int
    p99_us: int
    max_us: int
    errors: Errors

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / (self.duration_us / 1e6)


def read_output(text: str) -> Counted:
    """
    Read wrk's output.

    Raises `BenchFailed` when a request failed, none came back, or the line of our script is missing.
    """
    for line in text.splitlines():
        if line.startswith(_MARK):
            counted = msgspec.json.decode(line.removeprefix(_MARK), type=Counted)
            break
    else:
        raise BenchFailed(f"wrk did not tell what it counted:\n{text.strip()}")
    if wrong := counted.errors.words():
        raise BenchFailed(f"of {counted.requests} requests some failed: {wrong}")
    if not counted.requests:
        raise BenchFailed("not one request came back")
    return counted


def command(
    wrk: str,
    url: str,
    body: Path,
    key: str,
    *,
    connections: int,
    seconds: float,
    spread_ms: int = 0,
) -> list[str]:
    """Give the command line of one run; wrk counts whole seconds."""
    return [
        *(wrk, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"),
        *("-s", str(SCRIPT), url, "--", str(body), key, str(connections), str(spread_ms)),
    ]


def run(arguments: list[str]) -> Counted:
    """Run wrk to its end; raises `BenchFailed`."""
    ended = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise BenchFailed(f"wrk failed: {(ended.stderr or ended.stdout).strip()}")
    return read_output(ended.stdout)
