"""
An edge in this process, between callers and vendors that do as they are told.

The store is a real server, the sockets are real, and the clock is the machine's: what is scripted is who says what, and when.
`Rig` starts an edge and, when the test is over, holds it to the laws that have no exception:

- everything that was admitted is settled, once: no lease, nothing in flight, no budget held, and the sums are those of the entries;
- nothing is left behind: no exchange, no stream, no busy connection, no task;
- the caller's key goes to no vendor, the vendor's key to no caller, and neither they nor a prompt into logs, metrics or books.
"""

import asyncio
import contextlib
import json
import logging
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Self

import msgpack
from redis.asyncio import Redis

from config.live import publish
from config.loader import load_text
from governance.ledger import Entry, decode
from loadtests import mock
from proxy import app
from proxy.options import EdgeOptions
from ratelimit.limits import ScopeState, scope_of
from ratelimit.upkeep import read_scope
from tests.conftest import open_strict_budgets
from tests.proxy.partners import (
    CALLER_KEY,
    PATIENCE_S,
    PRICE,
    PROMPT,
    VENDOR_KEY,
    VENDOR_KEY_VARIABLE,
    Answer,
    Caller,
    Vendor,
    request,
)


async def eventually(true: Callable[[], object]) -> None:
    """Give the loop turns until `true()`, for what only the loop can bring about."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - what is waited for has no event to wait on
            await asyncio.sleep(0.001)


def document(
    models: dict[str, Any],
    providers: dict[str, str | dict[str, Any]],
    *,
    edge: dict[str, Any] | None = None,
    routes: dict[str, Any] | None = None,
    organization: dict[str, Any] | None = None,
    team: dict[str, Any] | None = None,
    key: dict[str, Any] | None = None,
    provider: dict[str, Any] | None = None,
    keys: dict[str, Any] | None = None,
    store: dict[str, Any] | None = None,
    experiments: dict[str, Any] | None = None,
    keeper: str = "",
) -> str:
    """
    Write a configuration.

    A model is a list of upstream names at the provider `mock`, or of deployments, or a whole section;
    a provider is a base URL, or a whole section, `keeper` the one that keeps files; a route is a list of models, or a whole section.
    """

    def model(said: Any) -> dict[str, Any]:
        section = said if isinstance(said, dict) else {"deployments": said}
        placed = [
            {"provider": "mock", "name": one} if isinstance(one, str) else one
            for one in section["deployments"]
        ]
        return {"price": PRICE} | section | {"deployments": placed}

    def vendor(said: str | dict[str, Any]) -> dict[str, Any]:
        common = {
            "protocol": "openai",
            "api_key": f"${{{VENDOR_KEY_VARIABLE}}}",
            "connect_timeout_s": 2,
            "first_byte_timeout_s": 10,
            "idle_timeout_s": 10,
        } | (provider or {})
        return common | ({"base_url": said} if isinstance(said, str) else said)

    helpdesk = {
        "key": CALLER_KEY,
        "application": "desk",
        "business_line": "service",
        "user": "someone",
    }
    return json.dumps(
        {
            "store": store or {},
            "edge": edge or {},
            "providers": {
                name: vendor(said) | ({"files": True} if name == keeper else {})
                for name, said in providers.items()
            },
            "models": {name: model(said) for name, said in models.items()},
            "routes": {
                name: each if isinstance(each, dict) else {"models": each}
                for name, each in (routes or {}).items()
            },
            "experiments": experiments or {},
            "organizations": {
                "acme": (organization or {})
                | {
                    "teams": (organization or {}).get("teams", {})
                    | {
                        "support": (team or {})
                        | {"keys": {"helpdesk": helpdesk | (key or {})} | (keys or {})}
                    }
                }
            },
        }
    )


class _Records(logging.Handler):
    """Everything that anybody logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def text(self) -> str:
        """Give all of it as it would be written, tracebacks included."""
        formatter = logging.Formatter("%(name)s %(levelname)s %(message)s")
        return "\n".join(formatter.format(record) for record in self.records)

    def alarms(self) -> list[str]:
        """Give what calls for an operator, and every word of asyncio's."""
        return [
            f"{record.name}: {record.getMessage()}"
            for record in self.records
            if record.levelno >= logging.ERROR
            or (record.name == "asyncio" and record.levelno >= logging.WARNING)
        ]


class Rig:
    """A running edge with its store, its callers and its vendors."""

    def __init__(self, client: Redis, redis_url: str, folder: Path) -> None:
        self.redis = client
        self.folder = folder
        self.caller_key = CALLER_KEY
        self.heard: list[bytes] = []
        self.vendors: dict[str, Vendor] = {}
        self.said: dict[str, Any] = {}
        self.callers: list[Caller] = []
        self.mock: mock.Mock
        self.edge: app.Edge
        # Errors that a test brings about on purpose; all others fail it.
        self.expected_alarms = 0
        self._url = redis_url
        self._stack: contextlib.AsyncExitStack
        self._run_dir = Path(tempfile.mkdtemp(prefix="pst-"))
        self._records = _Records()
        self._tasks_before: set[asyncio.Task[Any]] = set()
        self._task: asyncio.Task[int]

    # Life.

    async def start(self, *, scripted: Iterable[str] = (), **said: Any) -> Self:
        """
        Start the vendors, publish a configuration, and start the edge over it.

        There is the mock vendor (`mock` speaks OpenAI's protocol, `messages` Anthropic's), and one `Vendor` for each name of `scripted`, with settings of its own in `vendors`; the rest goes to `document`.
        What cannot start has ended everything that it had begun.
        """
        async with contextlib.AsyncExitStack() as begun:
            await self._start(begun, scripted, said)
            self._stack = begun.pop_all()
        return self

    async def _start(
        self, begun: contextlib.AsyncExitStack, scripted: Iterable[str], said: dict[str, Any]
    ) -> None:
        self._tasks_before = asyncio.all_tasks()
        begun.callback(shutil.rmtree, self._run_dir, ignore_errors=True)
        logging.getLogger().addHandler(self._records)
        begun.callback(logging.getLogger().removeHandler, self._records)
        logging.getLogger("penstock").setLevel(logging.INFO)
        self.mock = await begun.enter_async_context(mock.serve())
        for name in scripted:
            self.vendors[name] = await Vendor().start()
            begun.push_async_callback(self.vendors[name].stop)
        self.said = said
        await self.publish()
        await open_strict_budgets(self.redis)
        loop = asyncio.get_running_loop()
        self.edge = app.Edge(EdgeOptions(self._url, "127.0.0.1:0", self._run_dir))
        self._task = loop.create_task(self.edge.run())
        begun.push_async_callback(self._cut)
        await eventually(lambda: self.edge.serving or self._task.done())
        if self._task.done():
            self._task.result()

    async def _cut(self) -> None:
        if not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def publish(self, **changed: Any) -> None:
        """Publish the configuration with some of its parts changed; a running edge takes it within 200 ms."""
        said = self.said | changed
        settings_of = said.pop("vendors", {})
        providers = (
            {
                "mock": self.mock.base_url,
                "messages": {"protocol": "anthropic", "base_url": self.mock.url},
            }
            | {
                name: {"base_url": vendor.base_url} | settings_of.get(name, {})
                for name, vendor in self.vendors.items()
            }
            | said.pop("providers", {})
        )
        settings = {"access_log": str(self.folder / "access.log")} | said.pop("edge", {})
        text = document(providers=providers, edge=settings, **said)
        loaded = load_text(text, source="test", environ={VENDOR_KEY_VARIABLE: VENDOR_KEY})
        await publish(self.redis, loaded.document, by="test", why="test", expected=None)

    async def stop(self) -> int:
        """Let the edge drain and end; gives its exit code."""
        self.edge.stop()
        async with asyncio.timeout(PATIENCE_S + 5):
            return await self._task

    async def close(self) -> None:
        """Hold the edge to the laws, and end everything."""
        for caller in self.callers:
            await caller.leave()
        try:
            if not self._task.done():
                # Who has connected and left again may still lie in the queue of the listening socket.
                for _ in range(3):
                    await eventually(lambda: not self.edge.server.connections)
                    await asyncio.sleep(0.005)
                await self.at_rest()
                self._hold_secrets(json.dumps(self.edge.metrics.snapshot("x")))
            assert await self.stop() == 0
            await self._hold_books()
            assert self.edge.pool.open == 0
            assert self.edge.learner.kept == 0
        finally:
            await self._stack.aclose()
        for name in ("access.log",):
            path = self.folder / name
            self._hold_secrets(path.read_text() if path.exists() else "")
        alarms = self._records.alarms()
        assert len(alarms) == self.expected_alarms, self._records.text()
        await eventually(lambda: not self._left_over())

    def _left_over(self) -> set[asyncio.Task[Any]]:
        ours = asyncio.current_task()
        return {task for task in asyncio.all_tasks() - self._tasks_before if task is not ours}

    # Who takes part.

    async def caller(self, *, small_window: bool = False) -> Caller:
        """Connect; with a `small_window` the kernel holds little of what the caller does not read."""
        theirs = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if small_window:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        theirs.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(theirs, self.edge.address)
        except OSError:
            theirs.close()
            raise
        streams = await asyncio.open_connection(sock=theirs, limit=1 << 26)
        made = Caller(*streams, self.heard)
        self.callers.append(made)
        return made

    async def ask(self, body: bytes | None = None, *headers: str, **said: Any) -> Answer:
        """Send one request on a connection of its own, read the answer, and leave."""
        caller = await self.caller()
        await caller.send(request(body, *headers, **said))
        found = await caller.answer(to=said.get("method", "POST"))
        await caller.leave()
        return found

    # The books.

    async def entries(self) -> list[Entry]:
        """Give the ledger once everything is settled, oldest first."""
        await eventually(lambda: not self.edge.exchanges and not self.edge.gate.unsettled)
        return await self._entries()

    async def _entries(self) -> list[Entry]:
        return [decode(fields[b"e"]) for _, fields in await self.redis.xrange("{c0}:led")]

    async def outcomes(self) -> list[str]:
        """Give the outcomes of all attempts so far."""
        return [entry.outcome for entry in await self.entries()]

    async def scopes(self) -> dict[str, ScopeState]:
        """Give every scope of the store by its key."""
        found: dict[str, ScopeState] = {}
        for pattern in ("{c0}:s:*", "{c0}:d:*"):
            async for key in self.redis.scan_iter(match=pattern):
                state = await read_scope(self.redis, scope_of(key.decode()))
                assert state is not None
                found[key.decode()] = state
        return found

    async def at_rest(self) -> None:
        """See that nothing is under way any more, here or in the store, and that the sums are right."""
        edge = self.edge
        await eventually(
            lambda: (
                not edge.exchanges
                and not edge.streams
                # An admission under way may grant what nobody waits for any more, and is then given back.
                and edge.gate.idle
                and edge.pool.open == edge.pool.idle
                and not edge.pool.wheel.in_flight
            )
        )
        await self._hold_books()

    async def _hold_books(self) -> None:
        for key, state in (await self.scopes()).items():
            assert state.in_flight == 0, f"{key} has {state.in_flight} in flight"
            held = {period: budget.held_nusd for period, budget in state.budgets.items()}
            assert not any(held.values()), f"{key} holds {held}"
        async for key in self.redis.scan_iter(match="{c0}:[lp]:*"):
            kept = await self.redis.hkeys(key)
            assert not kept, f"{key.decode()} still has {kept}"
        entries = await self._entries()
        totals = {
            name.decode(): int(value)
            for name, value in (await self.redis.hgetall("{c0}:tot")).items()
        }
        sums = {
            "entries": len(entries),
            "input_tokens": sum(entry.input_tokens for entry in entries),
            "output_tokens": sum(entry.output_tokens for entry in entries),
            "cost_nusd": sum(entry.cost_nusd for entry in entries),
        }
        assert totals == (sums if entries else {})
        ids = [entry.attempt_id for entry in entries]
        assert len(ids) == len(set(ids)), f"settled twice: {ids}"
        self._hold_secrets(msgpack.packb([vars_of(entry) for entry in entries]).decode("latin-1"))

    def _hold_secrets(self, text: str) -> None:
        """See that neither this text nor any of the partners got to know what is not theirs."""
        text += self._records.text()
        for secret in (CALLER_KEY, VENDOR_KEY, PROMPT):
            assert secret not in text, f"{secret} in {text}"
        to_callers = b"".join(self.heard)
        for secret in (CALLER_KEY, VENDOR_KEY, PROMPT):
            assert secret.encode() not in to_callers
        to_vendors = b"".join(b"".join(vendor.heard) for vendor in self.vendors.values())
        assert CALLER_KEY.encode() not in to_vendors
        assert CALLER_KEY not in json.dumps(self.mock.requests())


# What the fixture `edge` is: start one with what `Rig.start` takes.
Edge = Callable[..., Awaitable[Rig]]


def vars_of(entry: Entry) -> dict[str, str | int]:
    """Give an entry's fields."""
    return entry.as_dict()


@contextlib.asynccontextmanager
async def rigs(
    client: Redis, redis_url: str, folder: Path
) -> AsyncIterator[Callable[..., Awaitable[Rig]]]:
    """Give a maker of rigs, and close those that have started."""
    made: list[Rig] = []

    async def make(**said: Any) -> Rig:
        rig = await Rig(client, redis_url, folder).start(**said)
        made.append(rig)
        return rig

    try:
        yield make
    finally:
        for rig in made:
            await rig.close()
