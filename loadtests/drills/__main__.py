"""
`python -m loadtests.drills NAME …`: every drill by its name, with its own options (`NAME --help`).

Those that speak HTTP to a whole installation are modules of this package; those that drive the scripts themselves belong to the tests, which alone
may know the scripts, and are started by their command.
"""

import subprocess
import sys
from collections.abc import Mapping
from types import MappingProxyType

from loadtests.bench.ground import ROOT

DRILLS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "kill9": ("loadtests.drills.kill9", "kill edges and the control under load"),
        "chaos": ("loadtests.drills.chaos", "do to Redis what may be done to it"),
        "failover": ("loadtests.drills.failover", "replace the store's primary under load"),
        "staleness": ("loadtests.drills.staleness", "change a quota again and again at many edges"),
        "overshoot": (
            "tests.drills.overshoot",
            "a million admissions at strict budgets and limits",
        ),
        "timelines": ("tests.drills.timelines", "the scripts against the reference"),
        "interleavings": ("tests.drills.interleavings", "every order of a few operations"),
        "levels": ("tests.drills.levels", "what levels, preferences and pressure cost and get"),
        "mind": ("tests.drills.mind", "whether eight replicas decide as one"),
        "breaker": ("tests.drills.breaker", "who tries a broken deployment, and what it draws"),
        "brownout": ("loadtests.drills.brownout", "slow one of three vendors down, then lose all"),
        "cost": ("tests.drills.cost", "what a request costs the server"),
    }
)


def main(arguments: list[str] | None = None) -> int:
    """Run a drill and return its exit code; without a name, list them and return 2."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or given[0] not in DRILLS:
        print("usage: python -m loadtests.drills NAME …\n", file=sys.stderr)
        for name, (_, says) in DRILLS.items():
            print(f"  {name:<14} {says}", file=sys.stderr)
        return 2
    module, _ = DRILLS[given[0]]
    return subprocess.run(
        [sys.executable, "-m", module, *given[1:]], cwd=ROOT, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
