"""
The process of the control role: its command line, the admin port, and its end.

At the start the configuration file is checked before anything is touched: if it has mistakes they
are printed, and nothing was changed.
Then the admin port opens (live, not yet ready), and the chores begin (`console.control`).

On SIGTERM or SIGINT the port closes, the chores end, and what the stream still holds is drained, so
that a gateway that ended in good order has whole books.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger
from redis.asyncio import Redis

from config.cells import cells_of
from config.keys import BadKeySecret, with_key_secret
from config.loader import ConfigError, Loaded, former_documents, load_file
from config.scalars import split_listen
from console.admin import Door, check_listen, make_app
from console.control import Control
from console.metrics import Fleet
from console.stores import CannotMove
from governance.drain import LedgerWriter
from store.cells import Cell
from store.parent import end_with_parent
from store.places import places
from store.sql import BadLedgerUrl, ledger_path
from store.topology import BadStoreUrl, client, target

__all__ = ["Options", "run", "serve"]

_log = logging.getLogger("penstock.control")


@dataclass(frozen=True, slots=True)
class Options:
    """The command line of the control role, read; `ledger` is the database's file."""

    redis: str = field(repr=False)
    config_file: Path
    listen: str | None
    run_dir: Path
    ledger: Path | None


def run(argv: Sequence[str]) -> int:
    """Run the control role until it is told to end: 0 ended as told, 1 failed, 2 misuse or mistakes."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        options = _options(argv)
        environ = with_key_secret(os.environ, places(os.environ).key_secret, make=True)
        loaded = load_file(options.config_file, environ)
        host, port = _address(options.listen or loaded.config.admin.listen)
    except ConfigError as error:
        for problem in error.problems:
            print(f"configuration: {problem}", file=sys.stderr)
        print("Nothing was changed.", file=sys.stderr)
        return 2
    except (BadStoreUrl, BadLedgerUrl, ValueError) as error:
        print(f"penstock serve: {error}", file=sys.stderr)
        return 2
    token = loaded.config.admin.token
    wrong = check_listen(host, None if token is None else token.reveal())
    if wrong is not None:
        print(f"penstock serve: {wrong}", file=sys.stderr)
        return 2
    for problem in loaded.problems:
        _log.warning("configuration: %s", problem)
    end_with_parent(os.environ)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(options, loaded, host, port, environ))
    except (BadKeySecret, CannotMove) as error:
        print(f"penstock serve: {error}", file=sys.stderr)
        print("Nothing was changed.", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"penstock serve: cannot listen on {host}:{port}: {error}", file=sys.stderr)
        return 1
    return 0


def _options(argv: Sequence[str]) -> Options:
    """Read the command line. Raises `BadStoreUrl` and `BadLedgerUrl`; ends the process on misuse."""
    parser = argparse.ArgumentParser(
        prog="penstock serve",
        allow_abbrev=False,
        description="Runs the control role: admin port, ledger, reaper. `penstock up` starts it.",
    )
    parser.add_argument(
        "--redis",
        metavar="URL",
        help="redis://, redis+sentinel://, redis+cluster://, rediss for TLS, or unix:// (default: $REDIS_URL, then the embedded store)",
    )
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="what to publish"
    )
    parser.add_argument(
        "--listen", metavar="HOST:PORT", help="the admin port (default: admin.listen)"
    )
    parser.add_argument(
        "--run-dir",
        type=Path,
        metavar="DIR",
        help="where the edges' sockets are (default: var/run)",
    )
    parser.add_argument(
        "--ledger", metavar="URL", help="sqlite:PATH (default: store.ledger of the configuration)"
    )
    said = parser.parse_args(list(argv))
    here = places(os.environ)
    url = said.redis or os.environ.get("REDIS_URL") or here.store_url
    target(url)
    return Options(
        redis=url,
        config_file=said.config,
        listen=said.listen,
        run_dir=said.run_dir or here.run,
        ledger=None if said.ledger is None else ledger_path(here.ledger_url(said.ledger)),
    )


def _address(listen: str) -> tuple[str, int]:
    try:
        return split_listen(listen)
    except ValueError as error:
        raise ValueError(f"--listen {listen!r}: {error}") from None


async def serve(
    options: Options, loaded: Loaded, host: str, port: int, environ: Mapping[str, str]
) -> None:
    """
    Compose the role from its parts, and run it until SIGTERM or SIGINT.

    Raises OSError for the port, and `BadKeySecret` when the keys in the store were hashed with a secret
    that is not here.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    ledger = options.ledger or ledger_path(places(environ).ledger_url(loaded.config.store.ledger))

    def connect(cell: Cell) -> Redis:
        return client(options.redis, cell=cell)

    stores = {cell: connect(cell) for cell in cells_of(loaded.config)}
    try:
        async with contextlib.AsyncExitStack() as ours:
            writers = [
                await ours.enter_async_context(LedgerWriter(one, ledger, cell=cell))
                for cell, one in stores.items()
            ]
            control = Control(
                writers,
                loaded,
                Fleet(options.run_dir),
                environ,
                end=stop.set,
                alone=options.redis == places(environ).store_url,
                journal=places(environ).journal,
                former=lambda: former_documents(options.config_file, environ),
                connect=connect,
            )
            token = loaded.config.admin.token
            door = Door(
                token=None if token is None else token.reveal(),
                not_ready=control.not_ready,
                page=control.page,
                cells=stores,
                ledger=ledger,
                environ=environ,
                replica=control.replica,
            )
            async with _listening(make_app(door), host, port) as bound, control.working():
                _log.info("the control listens on %s:%d, its ledger is %s", host, bound, ledger)
                await stop.wait()
                _log.info("the control ends")
            if control.refusal is not None:
                raise control.refusal
            await control.finish()
    finally:
        for one in stores.values():
            await one.aclose()


@contextlib.asynccontextmanager
async def _listening(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Hold the admin port open; gives its number, which the system chooses for 0."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    server_logger.addFilter(_may_be_logged)
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
        server_logger.removeFilter(_may_be_logged)


def _may_be_logged(record: logging.LogRecord) -> bool:
    """Say whether a record may be logged; one about a request that cannot be read holds what it cannot read, a token perhaps."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)
