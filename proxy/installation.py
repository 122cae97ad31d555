"""
One installation on one machine: from a checked configuration to the roles that the supervisor runs.

Everything that can be wrong is found here, before anything is started: a second installation on the same `var/`, ports
that are taken, a key secret that is unfit, a Redis that does not answer. Each refusal says which setting to change.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import redis.exceptions

from config.keys import VARIABLE, BadKeySecret, key_secret
from config.loader import Loaded
from config.processes import StoreSettings
from config.scalars import split_listen
from proxy.ports import Held, PortTaken, hold
from proxy.supervisor import Alive, Ready, Role
from store import topology
from store.embedded import Server, find_server
from store.filelock import FileLock
from store.places import CHECKOUT, Places, UnsafePlace
from store.sql import BadLedgerUrl, ledger_path

MOST_EDGES = 8
"""`workers: auto` starts one edge per core, and no more than this: an edge is seldom what a machine lacks."""

STORE_STAGE, CONTROL_STAGE, EDGE_STAGE = range(3)
# Beyond the drain: words to those who are cut off, last settlements, closing sockets.
_GRACE_S = 10.0
_PING_WITHIN_S = 3.0
# It may be held up by a disk, and nobody's stream waits for it.
_CONTROL_ANSWERS_WITHIN_S = 60.0


class CannotStart(Exception):
    """Something that the operator has to change first; the message says what."""


@dataclass(frozen=True, slots=True)
class Installation:
    """What is about to run: where, from which configuration, on which ports and with which store."""

    places: Places
    config_file: Path
    loaded: Loaded
    edges: int
    data: Held
    admin: tuple[str, int]
    server: Server | None
    key_secret: str = field(repr=False)
    redis: str = field(repr=False)
    ledger: str = field(repr=False)
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def store_url(self) -> str:
        """Return the URL of the store, as `--redis` takes it; it may hold a password."""
        return self.places.store_url if self.redis == "embedded" else self.redis

    @property
    def ledger_url(self) -> str:
        """Return the URL of the ledger, its path absolute."""
        return self.places.ledger_url(self.ledger)

    @property
    def data_url(self) -> str:
        """Return where callers go, as they can type it on this machine."""
        return _url(self.data.host, self.data.port)

    @property
    def admin_url(self) -> str:
        """Return where operators go, as they can type it on this machine."""
        return _url(*self.admin)

    def roles(self, *, quiet: bool = False) -> list[Role]:
        """Return the roles of this installation; `quiet` sends access lines to a log instead of standard output."""
        edge = self.loaded.config.edge
        drain_s = edge.drain_timeout_s + _GRACE_S
        found = []
        if self.server is not None:
            found.append(self._store(self.server, linger_s=drain_s + _GRACE_S))
        # In the environment, as the store's URL: and only where callers' keys are looked at.
        environment = {**self.environment(), VARIABLE: self.key_secret}
        found.append(
            Role(
                "control",
                _python(
                    *("console", "serve", "--config", str(self.config_file)),
                    *("--listen", _address(*self.admin), "--run-dir", str(self.places.run)),
                    *("--ledger", self.ledger_url),
                ),
                CONTROL_STAGE,
                ready=http_ready(self.admin),
                alive=http_alive(self.admin),
                answers_within_s=_CONTROL_ANSWERS_WITHIN_S,
                stop_within_s=15.0,
                environment=environment,
            )
        )
        found.extend(
            Role(
                f"edge-{number}",
                _python(
                    *("proxy", "edge", "--worker", str(number)),
                    *("--listen", self.data.address, "--run-dir", str(self.places.run)),
                ),
                EDGE_STAGE,
                ready=http_ready(self.places.run / f"edge-{number}.sock"),
                alive=http_alive(self.places.run / f"edge-{number}.sock"),
                answers_within_s=edge.liveness_timeout_s,
                stop_within_s=drain_s,
                environment=environment,
                inherits_stdout=not quiet,
            )
            for number in range(self.edges)
        )
        return found

    def environment(self) -> dict[str, str]:
        """
        Return what the roles' environment holds besides our own.

        The store's URL goes here and not on a command line, which everybody on the machine can read.
        """
        return {
            **self.variables,
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONSAFEPATH": "1",
            "PENSTOCK_VAR": str(self.places.var),
            "REDIS_URL": self.store_url,
        }

    def _store(self, server: Server, *, linger_s: float) -> Role:
        socket = self.places.store_socket
        return Role(
            "store",
            _python(
                *("store.embedded", "--socket", str(socket), "--data", str(self.places.store)),
                *("--server", server.path, "--log", str(self.places.log / "store-server.log")),
                *("--inherit", "--linger", f"{linger_s:g}"),
            ),
            STORE_STAGE,
            ready=store_ready(socket),
            stop_within_s=30.0,
            environment=self.environment(),
            survives_hurry=True,
        )

    async def check_store(self) -> None:
        """Raise `CannotStart` if a Redis that is not ours does not answer."""
        if self.server is not None:
            return
        try:
            where = topology.target(self.store_url)
        except topology.BadStoreUrl as error:
            raise CannotStart(str(error)) from None
        client = topology.client(self.store_url, connections=1, timeout_s=_PING_WITHIN_S)
        try:
            async with asyncio.timeout(2 * _PING_WITHIN_S):
                await client.ping()
        except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
            raise CannotStart(
                f"the store at {where} does not answer: {str(error) or 'timed out'}\n"
                "store.redis (often ${REDIS_URL}) names it; `embedded` runs one of our own"
            ) from error
        finally:
            await client.aclose()


@contextlib.asynccontextmanager
async def prepared(
    places: Places,
    config_file: Path,
    loaded: Loaded,
    *,
    workers: int | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
    remedies: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Installation]:
    """
    Claim what an installation needs, and let go of it at the end.

    `variables` are what the configuration refers to and our own environment lacks; `remedies` say what to do about a
    taken port where that is not to change the setting (`edge.listen`, `admin.listen`).

    Raises `CannotStart`, `store.embedded.StoreFailed` or OSError; nothing has been started then.
    """
    config = loaded.config
    try:
        places.make()
        lock = FileLock(places.var / "penstock.lock")
    except UnsafePlace:
        raise
    except OSError as error:
        raise CannotStart(
            f"cannot write in {places.var}: {error.strerror or error}\n"
            "everything that is written lies there; PENSTOCK_VAR names another place"
        ) from error
    try:
        if not lock.take():
            raise CannotStart(
                f"Penstock already runs on {places.var} (pid {lock.holder() or 'unknown'})\n"
                "end that one first, or give this one a place of its own: PENSTOCK_VAR=/path ./penstock up"
            )
        lock.sign(os.getpid())
        try:
            secret = key_secret(os.environ, places.key_secret, make=True)
        except BadKeySecret as error:
            raise CannotStart(str(error)) from None
        data = _held("edge.listen", config.edge.listen, remedies)
        try:
            admin = _held("admin.listen", config.admin.listen, remedies)
            # The control listens alone, so its port cannot be held for it.
            admin.release()
            redis_url = kept_at(config.store, "redis", os.environ)
            ledger_url = kept_at(config.store, "ledger", os.environ)
            try:
                ledger_path(ledger_url)
            except BadLedgerUrl as error:
                raise CannotStart(str(error)) from None
            server = find_server(os.environ) if redis_url == "embedded" else None
            ours = Installation(
                places=places,
                config_file=config_file,
                loaded=loaded,
                edges=workers or edge_count(config.edge.workers),
                data=data,
                admin=(admin.host, admin.port),
                server=server,
                key_secret=secret,
                redis=redis_url,
                ledger=ledger_url,
                variables=variables,
            )
            await ours.check_store()
            yield ours
        finally:
            data.release()
    finally:
        lock.close()


def kept_at(
    store: StoreSettings, setting: Literal["redis", "ledger"], environ: Mapping[str, str]
) -> str:
    """Return where the store or the ledger is: as the file says, else as REDIS_URL or LEDGER_URL does, as commands look for it."""
    said: str = getattr(store, setting)
    if setting in store.model_fields_set:
        return said
    return environ.get(f"{setting.upper()}_URL") or said


def edge_count(asked: int | str) -> int:
    """Return how many edges `edge.workers` means on this machine."""
    if isinstance(asked, int):
        return asked
    return min(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        MOST_EDGES,
    )


def _held(setting: str, listen: str, remedies: Mapping[str, str]) -> Held:
    try:
        return hold(*split_listen(listen))
    except PortTaken as error:
        remedy = remedies.get(setting, f"{setting} ({listen}) is the setting to change")
        raise CannotStart(f"{error}\n{remedy}") from error


# Is it ready...


def http_ready(where: Path | tuple[str, int], path: str = "/health/ready") -> Ready:
    """Return a question for a path, on a unix socket or a port, that is answered with 200 by who is ready."""

    async def ready() -> str | None:
        try:
            async with asyncio.timeout(2):
                status, body = await _get(where, path)
        except (OSError, EOFError, TimeoutError, ValueError):
            return "it does not answer yet"
        return None if status == 200 else f"it answers {status}: {body[:300].strip()}"

    return ready


def http_alive(where: Path | tuple[str, int]) -> Alive:
    """
    Return a question for `/health/live` that is answered by who runs its loop.

    An edge says how long it may drain, which may have been changed since it was started; our grace is added.
    """

    async def alive() -> float | None:
        # A socket that is not there is no silence: somebody may have tidied up.
        with contextlib.suppress(OSError, EOFError, ValueError):
            _, body = await _get(where, "/health/live")
            said = json.loads(body)
            drain_s = said.get("drain_timeout_s") if isinstance(said, dict) else None
            if isinstance(drain_s, int | float):
                return drain_s + _GRACE_S
        return None

    return alive


def store_ready(socket: Path) -> Ready:
    """Return a question for PING on the embedded store's socket."""

    async def ready() -> str | None:
        try:
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_unix_connection(str(socket))
                try:
                    writer.write(b"PING\r\n")
                    said = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return "it does not answer yet"
        return None if said.startswith(b"+PONG") else said.decode(errors="replace").strip()

    return ready


async def _get(where: Path | tuple[str, int], path: str) -> tuple[int, str]:
    """Ask once, without keep-alive, and return status and body."""
    if isinstance(where, Path):
        reader, writer = await asyncio.open_unix_connection(str(where))
    else:
        reader, writer = await asyncio.open_connection(_reachable(where[0]), where[1])
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nhost: penstock\r\nconnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read(65536)).partition(b"\r\n\r\n")
        if not body:
            body = await reader.read(65536)
        return int(head.split(b" ", 2)[1]), body.decode(errors="replace")
    except IndexError:
        raise EOFError from None
    finally:
        writer.close()


# Small words...


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


def _reachable(host: str) -> str:
    """Return an address at which a wildcard can be reached from here."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (asked, not bound)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _url(host: str, port: int) -> str:
    return f"http://{_address(_reachable(host), port)}"
