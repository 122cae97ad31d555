"""How a bench ends, whatever it measures: all that was started is ended, and the exit code says what became of it."""

import sys
from collections.abc import Callable

from loadtests.bench import tools
from loadtests.bench.ground import ending_in_order
from loadtests.bench.wrk import BenchFailed


def exit_code_of(bench: Callable[[tools.Tools], None]) -> int:
    """Run a bench with the programs that it needs; gives 0, 1 when it failed, 2 when a program is missing, 130 when it was stopped."""
    try:
        with ending_in_order():
            bench(tools.find())
    except tools.ToolsMissing as mistake:
        print(mistake, file=sys.stderr)
        return 2
    except BenchFailed as mistake:
        print(f"the bench failed: {mistake}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
