"""One edge as a process of its own: its log, its limits, its signals, its memory, and who sees it die."""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial

import uvloop

from config.keys import BadKeySecret
from proxy.app import Edge
from proxy.options import EdgeOptions
from store.chores import Chore, Chores
from store.places import CHECKOUT, places

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
    except OSError as error:
        # A port that is taken, or a directory that cannot be made; what the store does ends nobody.
        log.error("cannot serve: %s", error)
        return 1


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
    async with _witnessed(edge) if options.alone else contextlib.nullcontext():
        return await edge.run(on_serving=_settle_memory)


@contextlib.asynccontextmanager
async def _witnessed(edge: Edge) -> AsyncIterator[None]:
    """Keep a witness for as long as the context lasts, whatever happens to it (`ratelimit.witness`)."""
    chores = asyncio.ensure_future(Chores((Chore("witness", partial(_keep_witness, edge)),)).run())
    try:
        yield
    finally:
        chores.cancel()
        await asyncio.wait([chores])


async def _keep_witness(edge: Edge) -> None:
    """Call a witness. Raises `OSError` when it has ended; ends it when cancelled."""
    await edge.configured.wait()
    witness = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ratelimit.witness", edge.replica),
        *(str(places(os.environ).journal), str(edge.live.config.store.cells)),
        # Its other end is ours alone, and never written to.
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        # What a terminal, or whoever ends a group of processes, says is meant for us.
        start_new_session=True,
        env={
            **os.environ,
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONSAFEPATH": "1",
            "REDIS_URL": edge.options.redis,
        },
    )
    try:
        raise OSError(f"the witness has ended ({await witness.wait()})")
    finally:
        if witness.returncode is None:
            witness.kill()
            await witness.wait()


def _settle_memory() -> None:
    """Tell the collector that what is here now lives as long as the worker, and need not be looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
