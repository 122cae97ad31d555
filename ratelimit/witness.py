"""
The witness of an edge that runs alone: it sees the edge die, and does at once what the next one to start there would do.

In an installation the control of the machine tells the store who is dead, but an edge that runs alone has nobody.
What it reserved of strict budgets would stay reserved until another edge starts there, or an operator says that it is dead.

Standard input is a pipe to which only the edge can write, and never does: the kernel closes it when the edge ends,
however it ends, and not while it is suspended.
Until then next to nothing is imported here, and 10 MB are held, 4 of them its own.

An edge that ends in good order kills its witness; one that was killed is replaced by the edge (`proxy.process`).
If both are killed at once, the next start has to do it.
"""

import os
import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Wait for the end of standard input, and take over: `python -m ratelimit.witness EDGE JOURNAL CELLS`."""
    edge, journal, cells = sys.argv[1:]
    hurried = False

    def hurry(*_: object) -> None:
        nonlocal hurried
        hurried = True

    # Whoever ends a group of processes means the edge, which ends us. Once it is dead, one try is left then.
    signal.signal(signal.SIGTERM, hurry)
    os.read(sys.stdin.fileno(), 1)
    # What follows takes three times the memory.
    import asyncio  # noqa: PLC0415
    import logging  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    from ratelimit.inheritance import inherit_all  # noqa: PLC0415

    logging.basicConfig(level=logging.INFO, format="%(asctime)s witness %(levelname)s %(message)s")
    logging.getLogger("penstock.witness").warning("%s is dead; what it held is freed", edge)
    url = os.environ["REDIS_URL"]
    asyncio.run(inherit_all(url, Path(journal), int(cells), hurried=lambda: hurried))


if __name__ == "__main__":
    main()
