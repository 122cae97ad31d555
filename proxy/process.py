"""One edge as a process of its own: its log, its limits, its signals, its memory."""

import gc
import logging
import os
import resource
import signal
import sys

import uvloop

from config.keys import BadKeySecret
from proxy.app import Edge
from proxy.options import EdgeOptions

__all__ = ["raise_file_limit", "run_edge"]

MOST_FILES = 1 << 20

log = logging.getLogger("penstock.edge")


def run_edge(options: EdgeOptions) -> int:
    """Run one edge worker to its end. Returns the exit code."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format=f"%(asctime)s edge-{options.worker} %(levelname)s %(message)s",
    )
    # Connections that end as connections do are no news.
    logging.getLogger("aiohttp.server").setLevel(logging.ERROR)
    raise_file_limit()
    try:
        return uvloop.run(_main(options))
    except BadKeySecret as error:
        log.error("%s", error)
        return 2


def raise_file_limit() -> None:
    """Take as many open files as we may: a stream needs two, and the usual 1024 would end at 500 of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def _main(options: EdgeOptions) -> int:
    edge = Edge(options)

    def stop() -> None:
        if edge.hurrying.is_set():
            log.warning("told three times to stop: ending at once")
            os._exit(1)
        if edge.stopping.is_set():
            edge.hurry()
        edge.stop()

    for signum in (signal.SIGTERM, signal.SIGINT):
        edge.loop.add_signal_handler(signum, stop)
    return await edge.run(on_serving=_settle_memory)


def _settle_memory() -> None:
    """Tell the collector that what is here now lives as long as the worker, and need not be looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
